# -*- coding: utf-8 -*-
# Copyright (c) The proxmox-realm authors
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Words what proxmox-realm reports for users of the module proxmox_openid_realm."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

import re

# The configuration key of each argument that sets one key. An argument of a list may hold several words in one element.
KEYS = dict(
    api_password='proxmox.password',
    api_otp='proxmox.otp',
    fingerprints='proxmox.fingerprints',
    realm='realm.name',
    comment='realm.comment',
    default='realm.default',
    openid_issuer_url='realm.issuer_url',
    openid_client_id='realm.client_id',
    openid_client_key='realm.client_key',
    openid_username_claim='realm.username_claim',
    openid_scopes='realm.scopes',
    openid_autocreate='realm.autocreate',
    openid_groups_claim='realm.groups_claim',
    openid_groups_autocreate='realm.groups_autocreate',
    openid_groups_overwrite='realm.groups_overwrite',
    openid_prompt='realm.prompt',
    openid_acr_values='realm.acr_values',
    openid_audiences='realm.audiences',
    openid_query_userinfo='realm.query_userinfo',
    unset='realm.unset',
    gate='policy.gate',
    redirect_urls='verify.redirect_urls',
    verify_issuer='verify.issuer',
    verify_ignore='verify.ignore',
    issuer_ca_path='verify.issuer_ca_file',
)

# How a user of the module sets the other keys.
NAMES = dict((key, argument) for argument, key in KEYS.items())
NAMES.update({
    'proxmox.product': 'product',
    'proxmox.endpoint': 'api_host',
    'proxmox.endpoints': 'api_host',
    'proxmox.timeout': 'api_timeout',
    'proxmox.token': 'api_token_id and api_token_secret',
    'proxmox.token_file': 'api_token_id and api_token_secret',
    'proxmox.username': 'api_user',
    'proxmox.password_file': 'api_password',
    'proxmox.ca_file': 'ca_path',
    'proxmox.insecure': 'validate_certs',
    'realm.client_key_file': 'openid_client_key',
    'access': 'access',
    'state_dir': 'the environment variable STATE_DIRECTORY',
})

# What a user of the module does in place of a flag of the command apply.
FLAGS = {
    '--replace': 'set replace to true',
    '--no-gate': 'set gate to false',
    '--wait': 'set wait to 10m',
    '--wait-lock': 'run the task again later',
}

INSTALL = (
    'install it on the host that runs the task, or delegate the task to a host that has it; '
    'the role proxmox_realm.sso.authelia_realm installs it'
)

MANUAL = 'read ansible-doc proxmox_realm.sso.proxmox_openid_realm'

OTHER_RELEASE = 'install a proxmox-realm and a collection of the same release'


def way(line):
    """Says how a user of the module does what a command line of the program does; '' if the module cannot do it."""
    words = line.split()
    if line == 'help config':
        return MANUAL
    if words[0] in ('help', 'bootstrap', 'version') or (words[0] == 'probe' and len(words) > 1):
        return 'proxmox-realm ' + line  # they need no configuration file
    if words[0] == 'apply':
        return ([FLAGS[word] for word in words if word in FLAGS] or ['run the task'])[0]
    return dict(plan='run the task in check mode', delete='set state to absent', restore='set recover to true').get(words[0], '')


def with_names(line):
    """Replaces the names in a line of a hint: {realm.scopes} is a configuration key, {apply --no-gate} a command line of the
    program. Returns '' if a user of the module has no such thing."""
    missing = []

    def name(found):
        if found.group().startswith('\\'):  # an ordinary brace
            return found.group()[1:]
        run, inside = found.group(1) or '', re.sub(r'\\([{}])', r'\1', found.group(2))
        key = re.match(r'[a-z]+\.[a-z_]+$|(access|targets|targets_from|state_dir|concurrency)$', inside)
        text = NAMES.get(inside, '') if key else way(inside)
        if not text:
            missing.append(inside)
        return run + text if key or text.startswith('proxmox-realm ') else text

    line = re.sub(r'\\[{}]|(\brun )?\{([a-z](?:[^{}\\\n]|\\.)*)\}', name, line)
    return '' if missing else line


# Advice whose form the module changes too.
FORMS = (
    (r'^add ([a-z_-]+) to \{realm\.unset\}', lambda found: 'add %s to unset' % NAMES.get('realm.' + found.group(1).replace('-', '_'), found.group(1))),
    (r'^remove (\{[^{}]+\}) from the configuration', r'leave out \1'),
    (r'^set \{proxmox\.insecure\} to true', 'set validate_certs to false'),
    (r'^set \{proxmox\.insecure\} to false', 'set validate_certs to true'),
)


def hint(text):
    """Words a hint of the report: what a user of the module can do, a line each. Commands to copy stand below their line."""
    found = []
    for step in re.split(r'\n(?!    )', text):
        for pattern, form in FORMS:
            step = re.sub(pattern, form, step)
        lines = step.split('\n    ')
        worded = [with_names(line) for line in lines]
        if not all(worded):
            continue
        advice = worded[0]
        for line, command in zip(lines[1:], worded[1:]):
            if not line.startswith('{') or command.startswith('proxmox-realm '):
                advice += '\n    ' + command
            else:
                advice = command if advice == 'run:' else advice + ' ' + command
        if advice not in found:
            found.append(advice)
    return '\n'.join(found)


def named(text):
    """Names arguments in place of configuration keys."""
    keys = r'(?<![\w.-])(?:proxmox|realm|verify|policy)\.[a-z_]+(?![\w-]|\.\w)'
    return re.sub(keys, lambda found: NAMES.get(found.group(), found.group()), text)


def failure(error):
    """Returns code, message and hint of an error."""
    lines = [re.sub('^standard input:[0-9]+: ', '', line) for line in error['message'].split('\n')]
    if len(lines) > 1 and error['code'] == 'config':
        lines = lines[1:]  # the first counts the others
    text = hint(error['hint'])
    if error['code'] == 'usage':
        text = OTHER_RELEASE
    if error['code'] == 'config' and not text:
        text = MANUAL
    return dict(code=error['code'], msg=named('; '.join(lines)), hint=text)


def changed_thing(change):
    """Names what a change is about."""
    if change['kind'] == 'property':
        return change['property']
    text = '%s %s' % (change['kind'], change['group'])
    return text if change['kind'] == 'group' else '%s: %s on %s' % (text, change['role'], change['path'])


def difference(header, changes):
    """Returns changes as Ansible's diff. Ansible compares the two sides as text, so masked values must not look alike."""
    diff = dict(before_header=header, after_header=header, before={}, after={})
    words = {'0': 'not below', '1': 'also below', None: None}
    for change in changes:
        before, after = change['before'], change['after']
        if change['kind'] == 'group':
            before, after = None, 'exists'
        elif change['kind'] == 'grant':
            before, after = words[before], words[after]
        if before is not None:
            diff['before'][changed_thing(change)] = before
        if after is not None:
            diff['after'][changed_thing(change)] = after + (' changed' if before == after else '')
    return diff


def summary(target, state, check_mode):
    """Says in one line what became of a run without an error."""
    verbs = dict(create='create', update='update', replace='replace', delete='delete')
    verb, name, saved = verbs.get(target['action']), 'realm ' + target['realm'], target.get('saved')
    if verb is None:
        return 'there is no ' + name if state == 'absent' else name + ' is as declared'
    text = ('would %s ' % verb if check_mode else verb + 'd ') + name
    if target['action'] == 'update':
        text += ': ' + listed(target['changes'], check_mode)
    elif saved:
        text += '; the former realm is saved in ' + saved
    return text


def listed(changes, check_mode):
    """Lists changes: the properties, and what was added to, changed in and taken from the groups and grants."""
    parts = [', '.join(changed_thing(change) for change in changes if change['kind'] == 'property')]
    for word, chosen in (
        ('add', lambda change: change['op'] != 'unset' and change['before'] is None),
        ('change', lambda change: change['op'] != 'unset' and change['before'] is not None),
        ('revoke', lambda change: change['op'] == 'unset'),
    ):
        things = ', '.join(changed_thing(change) for change in changes if change['kind'] != 'property' and chosen(change))
        if things:
            parts.append((word if check_mode else word.rstrip('e') + 'ed') + ' ' + things)
    return '; '.join(part for part in parts if part)
