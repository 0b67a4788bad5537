#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) The proxmox-realm authors
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r'''
---
module: proxmox_openid_realm
short_description: Keeps an OpenID Connect realm of Proxmox VE as declared and verifies it
version_added: '1.0.0'
author:
  - The proxmox-realm authors (@proxmox-realm)
description:
  - Creates, updates or removes one OpenID Connect realm of Proxmox VE.
  - Verifies issuer, client and realm, so that you know that logins work before a user tries.
  - Reads the realm back after each write. Compares client keys and never shows them.
  - A property that the task does not name stays as it is. Use I(unset) to remove a property.
  - The module runs the program C(proxmox-realm) on the host of the task.
notes:
  - The module needs the API of Proxmox only. Delegate the task to C(localhost) to install C(proxmox-realm) there alone.
  - The module passes secrets to C(proxmox-realm) on its standard input, never in arguments or environment variables.
  - Set the C(PROXMOX_*) variables for C(ansible-playbook) itself. Ansible puts variables of the keyword C(environment) on
    command lines, which all users can read.
  - Before a realm is removed or replaced, C(proxmox-realm) saves it to a file, client key included. The file is in
    C(STATE_DIRECTORY) if that is set, in C(/var/lib/proxmox-realm) for root, else in C(~/.local/state/proxmox-realm).
requirements:
  - proxmox-realm of the same release as the collection
options:
  api_host:
    description:
      - Host name or address of a node, without scheme and port.
      - Falls back to the environment variable C(PROXMOX_HOST).
    type: str
    required: true
  api_port:
    description:
      - Port of the API.
      - Falls back to the environment variable C(PROXMOX_PORT).
    type: int
    default: 8006
  api_user:
    description:
      - User with its realm, such as C(root@pam). Not needed if I(api_token_id) names the user.
      - Falls back to the environment variable C(PROXMOX_USER).
    type: str
  api_password:
    description:
      - Password of I(api_user). Mutually exclusive with I(api_token_secret).
      - Falls back to the environment variable C(PROXMOX_PASSWORD).
    type: str
  api_otp:
    description:
      - Time-based one-time password of I(api_user).
      - Falls back to the environment variable C(PROXMOX_OTP).
    type: str
  api_token_id:
    description:
      - ID of an API token, such as C(automation) with I(api_user), or the full C(user@pve!automation).
      - Falls back to the environment variable C(PROXMOX_TOKEN_ID).
    type: str
  api_token_secret:
    description:
      - Secret of the API token.
      - Falls back to the environment variable C(PROXMOX_TOKEN_SECRET).
    type: str
  api_timeout:
    description:
      - Timeout of one API request in seconds. Proxmox itself gives up after 30.
      - Falls back to the environment variable C(PROXMOX_API_TIMEOUT).
    type: int
    default: 45
  ca_path:
    description:
      - File with the CA certificates (PEM) that Proxmox's certificate is verified with, instead of the system's.
      - Ignored with I(validate_certs=false). Mutually exclusive with I(fingerprints).
      - Falls back to the environment variable C(PROXMOX_CA_PATH).
    type: path
  validate_certs:
    description:
      - Whether the certificate of Proxmox is verified. If not, an attacker on the network can steal the token.
      - Use I(fingerprints) for certificates that no known CA has signed.
      - Falls back to the environment variable C(PROXMOX_VALIDATE_CERTS).
    type: bool
    default: true
  fingerprints:
    description:
      - SHA-256 fingerprints of trusted certificates, as C(pvenode cert info) prints them.
      - They are checked with I(validate_certs=false) too.
    type: list
    elements: str
  realm:
    description:
      - Name of the realm.
    type: str
    required: true
  state:
    description:
      - Whether the realm should exist.
      - C(absent) saves and removes OpenID Connect realms only. Users, groups and ACL entries stay in Proxmox.
    type: str
    choices: [present, absent]
    default: present
  comment:
    description:
      - Text that the login page shows for the realm.
    type: str
  default:
    description:
      - Whether the login page preselects the realm. Proxmox then clears this flag of the other realms.
    type: bool
  openid_issuer_url:
    description:
      - Issuer URL, exactly as the issuer's discovery document spells it. Required with I(state=present).
    type: str
  openid_client_id:
    description:
      - Client ID, as registered at the issuer. Required with I(state=present).
    type: str
  openid_client_key:
    description:
      - Client key (client secret).
    type: str
  openid_username_claim:
    description:
      - Claim that becomes the user name. Proxmox cannot change it in an existing realm, see I(replace).
      - A new realm gets C(preferred_username) by default.
    type: str
  openid_scopes:
    description:
      - Scopes to request, as a list or separated by commas or spaces. C(openid) is implied.
      - A new realm gets C(openid profile email) by default.
    type: list
    elements: str
  openid_autocreate:
    description:
      - Whether Proxmox creates users at their first login.
    type: bool
  openid_groups_claim:
    description:
      - Claim that holds the user's groups. Needs Proxmox VE 8.4.
    type: str
  openid_groups_autocreate:
    description:
      - Whether Proxmox creates groups that the claim names. Needs Proxmox VE 8.4.
    type: bool
  openid_groups_overwrite:
    description:
      - Whether each login replaces the user's groups. Needs Proxmox VE 8.4.
    type: bool
  openid_prompt:
    description:
      - C(none), C(login), C(consent), C(select_account), or another value that the issuer knows.
    type: str
  openid_acr_values:
    description:
      - Authentication context classes to request, the preferred one first.
    type: list
    elements: str
  openid_audiences:
    description:
      - Audiences that Proxmox accepts in ID tokens besides the client ID. Needs Proxmox VE 9.2.
    type: list
    elements: str
  openid_query_userinfo:
    description:
      - Whether Proxmox also reads claims from the userinfo endpoint. Authelia 4.39 and later need this. Needs Proxmox VE 8.4.
    type: bool
  access:
    description:
      - What groups of the issuer may do in Proxmox. The key is a group as the issuer calls it; the value is the list of its grants.
      - Each grant has C(path), C(role), and C(propagate), which is C(true) by default. An empty list takes all grants away.
      - For each group that is named, the group exists and has exactly these grants. Other groups, users and tokens are not touched.
      - Needs I(openid_groups_claim), here or in the realm, and Proxmox VE 8.4.
      - The credentials need C(Group.Allocate) and C(Permissions.Modify), as C(proxmox-realm bootstrap --access) prints them.
        Whoever holds such credentials is as powerful as an administrator.
      - Without this argument, groups and grants are not managed. C(state=absent) leaves them in place.
    type: dict
  unset:
    description:
      - Properties to remove from the realm, as Proxmox spells them (C(groups-claim)) or as this module does (C(openid_groups_claim)).
    type: list
    elements: str
  replace:
    description:
      - Allows the module to delete and recreate the realm if I(openid_username_claim) differs.
      - All users of the realm then get the names of the other claim. Without this the task fails.
    type: bool
    default: false
  recover:
    description:
      - Restores the realm that an interrupted replace has left in a file, before anything else.
      - Without such a file this does nothing.
    type: bool
    default: false
  gate:
    description:
      - Whether a change to an existing realm is refused if the issuer would then reject logins.
    type: bool
    default: true
  verify:
    description:
      - What failed checks do. With C(true) they fail the task; with C(warn) they are warnings; with C(false) they only appear in
        the result.
      - Check mode fails in every case if the credentials lack a privilege that the write needs.
    type: str
    choices: ['true', 'warn', 'false']
    default: 'true'
  verify_issuer:
    description:
      - Set this to C(false) if the host of the task cannot reach the issuer. Then only Proxmox's own view of the issuer is checked,
        and I(gate) has no effect.
    type: bool
    default: true
  verify_ignore:
    description:
      - IDs of checks that neither fail nor warn, such as C(issuer.claims). C(proxmox-realm help checks) lists them.
    type: list
    elements: str
  redirect_urls:
    description:
      - Addresses of Proxmox in browsers, as scheme, host and port without a slash, such as C(https://pve1.example.com:8006).
        A check asks the issuer whether the client may use them.
      - Defaults to the origin of I(api_host). In this case a refusal of the issuer is only a warning.
    type: list
    elements: str
  issuer_ca_path:
    description:
      - File with the CA certificates (PEM) that the issuer's certificate is verified with, instead of the system's.
    type: path
  binary_path:
    description:
      - Path of C(proxmox-realm) on the host of the task. The default is to search C(PATH).
      - Falls back to the environment variable C(PROXMOX_REALM_BINARY).
    type: path
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying the target.
    support: full
  diff_mode:
    description: Returns details on what has changed (or possibly needs changing in check mode). Client keys are masked.
    support: full
'''

EXAMPLES = r'''
- name: Log in to Proxmox VE with Authelia
  proxmox_realm.sso.proxmox_openid_realm:
    api_host: pve1.example.com
    api_user: proxmox-realm@pve
    api_token_id: agent
    api_token_secret: '{{ vault_proxmox_token_secret }}'
    ca_path: files/pve-root-ca.pem
    realm: authelia
    openid_issuer_url: https://auth.example.com
    openid_client_id: proxmox
    openid_client_key: '{{ vault_proxmox_client_key }}'
    openid_username_claim: preferred_username
    openid_scopes: [openid, profile, email]
    openid_autocreate: true
    redirect_urls:
      - https://pve1.example.com:8006
      - https://pve2.example.com:8006
  delegate_to: localhost

- name: Trust a certificate by its fingerprint, and let failed checks warn
  proxmox_realm.sso.proxmox_openid_realm:
    api_host: pve1.example.com
    api_token_id: proxmox-realm@pve!agent
    api_token_secret: '{{ vault_proxmox_token_secret }}'
    fingerprints:
      - AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89
    realm: authelia
    openid_issuer_url: https://auth.example.com
    openid_client_id: proxmox
    unset: [prompt, acr-values]
    verify: warn
  delegate_to: localhost

- name: Let the issuer's groups work in Proxmox VE
  proxmox_realm.sso.proxmox_openid_realm:
    api_host: pve1.example.com
    api_token_id: proxmox-realm@pve!agent
    api_token_secret: '{{ vault_proxmox_token_secret }}'
    ca_path: files/pve-root-ca.pem
    realm: authelia
    openid_issuer_url: https://auth.example.com
    openid_client_id: proxmox
    openid_scopes: [openid, profile, email, groups]
    openid_groups_claim: groups
    access:
      admins:
        - {path: /, role: PVEAdmin}
      dev:
        - {path: /pool/dev, role: PVEVMUser}
        - {path: /storage/iso, role: PVEDatastoreUser, propagate: false}
  delegate_to: localhost

- name: Remove the realm
  proxmox_realm.sso.proxmox_openid_realm:
    api_host: pve1.example.com
    api_token_id: proxmox-realm@pve!agent
    api_token_secret: '{{ vault_proxmox_token_secret }}'
    realm: authelia
    state: absent
  delegate_to: localhost
'''

RETURN = r'''
msg:
  description: What the task did, or why it failed.
  returned: always
  type: str
  sample: 'updated realm authelia: comment, scopes'
realm:
  description: Name of the realm.
  returned: always
  type: str
  sample: authelia
endpoint:
  description: The endpoint that answered.
  returned: when the configuration was valid
  type: str
  sample: https://pve1.example.com:8006
action:
  description: What the task did, or would do in check mode, as C(none), C(create), C(update), C(replace), C(refuse) or C(delete).
  returned: always
  type: str
  sample: update
outcome:
  description:
    - How the run ended, as C(unchanged), C(changed), C(unverified), C(held), C(refused) or C(failed). In check mode C(drift) stands for
      C(changed).
  returned: always
  type: str
  sample: changed
changes:
  description:
    - What differs. A change of C(kind) C(property) has the values before and after; client keys are masked.
    - One of C(kind) C(group) or C(grant) has C(group), and a grant also C(path), C(role) and C(propagate).
  returned: always
  type: list
  elements: dict
  sample:
    - kind: property
      property: scopes
      op: set
      before: email profile
      after: openid profile email
checks:
  description:
    - The checks, with C(id), C(status), C(summary), C(evidence), C(hint) and C(duration_ms).
    - A failed task returns the failed checks only.
  returned: always
  type: list
  elements: dict
  sample:
    - id: issuer.identity
      status: pass
      summary: the issuer is the declared one
      evidence: ''
      hint: ''
      duration_ms: 0
diff:
  description: The changed properties, groups and grants before and after, as C(--diff) shows them.
  returned: always
  type: dict
code:
  description:
    - Why the task failed. A code of the JSON report of C(proxmox-realm), or C(unverified), C(no-binary) or C(no-answer).
  returned: failure
  type: str
  sample: held
hint:
  description: What to do about the failure.
  returned: failure, if known
  type: str
saved:
  description: The file in which a removed realm is saved.
  returned: when a realm was removed
  type: str
'''

import errno
import json
import os
import re

from ansible.module_utils.basic import AnsibleModule, env_fallback
from ansible.module_utils.common.text.converters import to_native

# The version of the JSON report that this module reads.
VERSION = 1

INSTALL = (
    'install it on the host that runs the task, or delegate the task to a host that has it; '
    'the role proxmox_realm.sso.authelia_realm installs it'
)

MANUAL = 'read ansible-doc proxmox_realm.sso.proxmox_openid_realm'

OTHER_RELEASE = 'install a proxmox-realm and a collection of the same release'

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
    '--recover': 'set recover to true',
    '--no-gate': 'set gate to false',
    '--wait': 'run the task again later',
    '--wait-lock': 'run the task again later',
}


def argument_spec():
    def fallback(name):
        return (env_fallback, [name])

    return dict(
        api_host=dict(type='str', required=True, fallback=fallback('PROXMOX_HOST')),
        api_port=dict(type='int', default=8006, fallback=fallback('PROXMOX_PORT')),
        api_user=dict(type='str', fallback=fallback('PROXMOX_USER')),
        api_password=dict(type='str', no_log=True, fallback=fallback('PROXMOX_PASSWORD')),
        api_otp=dict(type='str', no_log=True, fallback=fallback('PROXMOX_OTP')),
        api_token_id=dict(type='str', no_log=False, fallback=fallback('PROXMOX_TOKEN_ID')),
        api_token_secret=dict(type='str', no_log=True, fallback=fallback('PROXMOX_TOKEN_SECRET')),
        api_timeout=dict(type='int', default=45, fallback=fallback('PROXMOX_API_TIMEOUT')),
        ca_path=dict(type='path', fallback=fallback('PROXMOX_CA_PATH')),
        validate_certs=dict(type='bool', default=True, fallback=fallback('PROXMOX_VALIDATE_CERTS')),
        fingerprints=dict(type='list', elements='str'),
        realm=dict(type='str', required=True),
        state=dict(type='str', choices=['present', 'absent'], default='present'),
        comment=dict(type='str'),
        default=dict(type='bool'),
        openid_issuer_url=dict(type='str'),
        openid_client_id=dict(type='str'),
        openid_client_key=dict(type='str', no_log=True),
        openid_username_claim=dict(type='str'),
        openid_scopes=dict(type='list', elements='str'),
        openid_autocreate=dict(type='bool'),
        openid_groups_claim=dict(type='str'),
        openid_groups_autocreate=dict(type='bool'),
        openid_groups_overwrite=dict(type='bool'),
        openid_prompt=dict(type='str'),
        openid_acr_values=dict(type='list', elements='str'),
        openid_audiences=dict(type='list', elements='str'),
        openid_query_userinfo=dict(type='bool'),
        access=dict(type='dict'),
        unset=dict(type='list', elements='str'),
        replace=dict(type='bool', default=False),
        recover=dict(type='bool', default=False),
        gate=dict(type='bool', default=True),
        verify=dict(type='str', choices=['true', 'warn', 'false'], default='true'),
        verify_issuer=dict(type='bool', default=True),
        verify_ignore=dict(type='list', elements='str'),
        redirect_urls=dict(type='list', elements='str'),
        issuer_ca_path=dict(type='path'),
        binary_path=dict(type='path', fallback=fallback('PROXMOX_REALM_BINARY')),
    )


def mistakes(params):
    """Lists the mistakes that only the module can see."""
    found = []
    host = params['api_host'].strip('[]')
    if '/' in host or host.count(':') == 1:
        found.append('api_host: must be a host name or an address alone; the port is api_port')
    if not params['realm']:
        found.append('realm: must not be empty')
    secret, token = params['api_token_secret'], params['api_token_id'] or ''
    owner, full = token.split('!')[0], '!' in token
    if secret and ('!' in secret or '=' in secret):
        found.append('api_token_secret: must be the secret alone, without user@realm!id=')
    elif secret and full and params['api_user'] not in (None, '', owner):
        found.append('api_token_id: belongs to another user than api_user')
    elif secret and not full and not params['api_user']:
        found.append('api_user: is required, unless api_token_id has the form user@realm!id')
    return found


def configuration(params):
    """Returns the configuration of the program, by section."""
    config = dict(proxmox=connection(params), realm={}, verify={}, policy={})
    for argument, key in KEYS.items():
        value = params[argument]
        section, name = key.split('.')
        if value is None or (section in ('proxmox', 'verify') and value in ('', [])):
            continue
        if params['state'] == 'absent' and section != 'proxmox':
            continue
        if isinstance(value, list):
            value = [word for element in value for word in re.split('[,; ]+', element) if word]
        config[section][name] = value
    if 'unset' in config['realm']:
        config['realm']['unset'] = [re.sub('^openid_', '', name) for name in config['realm']['unset']]
    if params['state'] == 'absent':
        config['realm']['name'] = params['realm']
    elif params['verify'] == 'false':
        config['verify']['proxmox'] = False
        if not params['gate']:
            config['verify']['issuer'] = False  # nothing uses the issuer's answers
    config = dict((section, keys) for section, keys in config.items() if keys)
    if params['access'] is not None and params['state'] == 'present':
        config['access'] = dict((group, plain(grants)) for group, grants in params['access'].items())
    return config


def plain(grants):
    """Returns grants with boolean values of propagate: a template makes a text of true. The program finds other mistakes."""
    if not isinstance(grants, list):
        return grants
    booleans = dict(true=True, yes=True, false=False, no=False)
    return [
        dict((key, booleans.get(to_native(value).lower(), value) if key == 'propagate' else value) for key, value in grant.items())
        if isinstance(grant, dict) else grant for grant in grants
    ]


def connection(params):
    """Returns how Proxmox is reached, apart from the keys in KEYS."""
    host = params['api_host'].strip('[]')
    proxmox = dict(
        endpoints=['https://%s:%d' % ('[%s]' % host if ':' in host else host, params['api_port'])],
        timeout='%ds' % params['api_timeout'],
    )
    if params['api_password']:
        proxmox['username'] = params['api_user']
    else:
        token = params['api_token_id']
        full = token if '!' in token else '%s!%s' % (params['api_user'], token)
        proxmox['token'] = '%s=%s' % (full, params['api_token_secret'])
    if not params['fingerprints']:  # which are checked in every case
        if not params['validate_certs']:
            proxmox['insecure'] = True
        elif params['ca_path']:
            proxmox['ca_file'] = params['ca_path']
    return proxmox


def command(module):
    """Returns the command of the program that the task needs."""
    replace = ['--replace'] if module.params['replace'] else []
    if module.params['state'] == 'absent':
        return ['delete', '--dry-run' if module.check_mode else '--yes', '--wait-lock', '1m', '--', module.params['realm']]
    if module.check_mode:
        return ['plan'] + replace
    return ['apply', '--wait-lock', '1m'] + replace


def find_binary(module, path):
    """Returns the path of the program, or ends the task with what to do."""
    if not path:
        path = module.get_bin_path('proxmox-realm')
        if path is None:
            module.fail_json(msg='proxmox-realm is not on this host', code='no-binary', hint=INSTALL)
    if not (os.path.isfile(path) and os.access(path, os.X_OK)):
        module.fail_json(msg='%s is not an executable file' % path, code='no-binary', hint=INSTALL)
    return path


def yaml(config):
    """Writes a configuration as JSON that is YAML too: YAML forbids some characters, or takes them for line feeds."""
    return re.sub(
        u'[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]', lambda found: '\\u%04x' % ord(found.group()),
        json.dumps(config, ensure_ascii=False),
    )


def run(module, binary, args):
    """Runs a command of the program and returns its report."""
    for name in list(os.environ):
        if name.startswith('PROXMOX_'):  # the arguments say everything
            del os.environ[name]
    code, out, err = -1, '', ''
    try:
        code, out, err = module.run_command(
            [binary, '--config', '-', '--output', 'json'] + args,
            data=yaml(configuration(module.params)), handle_exceptions=False,
        )
        report = json.loads(out)
        if report['version'] == VERSION and len(report['targets']) != 1 and not report['error']:
            raise ValueError('the report is not about one target')
    except (OSError, IOError) as e:
        if e.errno == errno.EPIPE:
            module.fail_json(msg='%s did not read its configuration' % binary, code='no-answer', hint=OTHER_RELEASE)
        module.fail_json(msg='%s cannot be run: %s' % (binary, to_native(e)), code='no-answer', hint=INSTALL)
    except (ValueError, KeyError, TypeError):
        module.fail_json(
            msg='%s printed no report (exit code %d): %s' % (binary, code, err.strip() or 'it printed nothing'),
            code='no-answer', hint=OTHER_RELEASE,
        )
    if report['version'] != VERSION:
        module.fail_json(
            msg='%s writes version %s of the report; this collection reads version %d' % (
                binary, report['version'], VERSION,
            ),
            code='no-answer', hint=OTHER_RELEASE,
        )
    return report


def step(data):
    """Words one step of a remedy; '' if it is nothing that a user of the module can do."""
    action, subject, value = data['action'], data['subject'], data.get('value')
    text = subject
    if action == 'set':
        if subject not in NAMES:
            return ''
        if subject == 'proxmox.insecure':
            value = {'true': 'false', 'false': 'true'}.get(value)
        text = 'set %s' % NAMES[subject] + (' to %s' % value if value else '')
    elif action == 'unset':
        text = 'add %s to unset' % NAMES.get(subject, subject)
    elif action == 'omit':
        text = 'leave out %s' % NAMES.get(subject, subject)
    elif action == 'run':
        words = subject.split()
        done = [FLAGS[word] for word in words if word in FLAGS]
        if subject == 'help config':
            text = MANUAL
        elif words[0] == 'apply':
            text = done[0] if done else 'run the task'
        elif words[0] == 'plan':
            text = 'run the task in check mode'
        elif words[0] in ('help', 'bootstrap') or (words[0] == 'probe' and len(words) > 1):
            text = 'run proxmox-realm %s' % subject
        else:
            return ''  # the other commands need a configuration file
    elif action == 'node':
        text = 'run on a node: %s' % subject
    elif action == 'log':
        text = 'read %s' % subject
    return text + (' (%s)' % data['note'] if data.get('note') else '')


def hint(found):
    """Words the remedy of a check, an error or a problem; '' if there is none for a user of the module."""
    return ', or '.join(text for text in [step(data) for data in found['remedy']] if text)


def failure(error):
    """Returns code, message and hint of an error."""
    code, messages, hints = error['code'], [], []
    for problem in error['problems']:
        name = NAMES.get(problem['key'], problem['key'])
        messages.append((name + ': ' if name else '') + problem['message'].replace('\n', '; '))
        if hint(problem) not in hints + ['']:
            hints.append(hint(problem))
    if code == 'usage':
        hints = [OTHER_RELEASE]
    if code == 'config' and not hints:
        hints = [MANUAL]
    return dict(code=code, msg='; '.join(messages), hint='; '.join(hints))


def changed_thing(change):
    """Names what a change is about."""
    if change['kind'] == 'property':
        return change['property']
    text = '%s %s' % (change['kind'], change['group'])
    return text if change['kind'] == 'group' else '%s: %s on %s' % (text, change['role'], change['path'])


def difference(header, changes):
    """Returns changes as Ansible's diff. Ansible compares the two sides as text, so masked values must not look alike."""
    diff = dict(before_header=header, after_header=header, before={}, after={})
    for change in changes:
        before, after = change['before'], change['after']
        if change['kind'] != 'property':
            value = 'exists' if change['kind'] == 'group' else 'also below' if change['propagate'] else 'not below'
            before, after = (value, None) if change['op'] == 'unset' else (None, value)
        if before is not None:
            diff['before'][changed_thing(change)] = before
        if after is not None:
            diff['after'][changed_thing(change)] = after + (' changed' if before == after else '')
    return diff


def summary(module, target):
    """Says in one line what became of a run without an error."""
    verbs = dict(create='create', update='update', replace='replace', delete='delete')
    verb, name, saved = verbs.get(target['action']), 'realm ' + target['realm'], target.get('saved')
    if verb is None:
        return 'there is no ' + name if module.params['state'] == 'absent' else name + ' is as declared'
    text = ('would %s ' % verb if module.check_mode else verb + 'd ') + name
    if target['action'] == 'update':
        text += ': ' + ', '.join(changed_thing(change) for change in target['changes'])
    elif saved:
        text += '; the former realm is saved in ' + saved
    return text


def judge(module, target, result):
    """Turns failed checks into a failure or warnings, as verify says."""
    verify = 'false' if module.params['state'] == 'absent' else module.params['verify']
    failed = [check for check in target['checks'] if check['status'] == 'fail']
    denied = [check for check in failed if check['id'] == 'proxmox.permissions']
    if module.check_mode and result['changed'] and denied:  # the write would be refused
        return dict(result, changed=False, code='permission-denied', msg=denied[0]['summary'], hint=denied[0]['hint'])
    if verify != 'false':
        for check in target['checks']:
            if check['status'] == 'warn' or check['status'] == 'fail' and verify == 'warn':
                module.warn('%s: %s; %s' % (check['id'], check['summary'], check['hint']))
    if verify != 'true' or not failed:
        return result
    said = '; '.join('%s: %s' % (check['id'], check['summary']) for check in failed)
    return dict(result, code='unverified', msg='%s, but a login would fail: %s' % (result['msg'], said), hint=failed[0]['hint'])


def result_of(module, report):
    """Words a report for Ansible. A result with a code is a failure."""
    realm, action = module.params['realm'], 'none'
    if report['error']:  # before Proxmox was asked
        return dict(
            failure(report['error']), changed=False, realm=realm, action=action, outcome='failed',
            changes=[], checks=[], diff=difference('', []),
        )
    target = report['targets'][0]
    for check in target['checks']:
        check['hint'] = hint(check)
        del check['remedy']
    for warning in target['warnings']:
        module.warn(warning)
    result = dict((key, target[key]) for key in ('realm', 'endpoint', 'action', 'outcome', 'changes', 'checks'))
    result['diff'] = difference('realm %s at %s' % (target['realm'], target['endpoint']), target['changes'])
    if target.get('saved'):
        result['saved'] = target['saved']
    if target['error']:
        # Proxmox took a write that does not hold the declared values.
        result['changed'] = not module.check_mode and target['error']['code'] == 'not-taken'
        return dict(result, **failure(target['error']))
    result.update(changed=target['action'] != 'none', msg=summary(module, target))
    return judge(module, target, result)


def recover(module, binary):
    """Ends a replace that was interrupted, and then does the task. Returns None if the task does not ask for that."""
    if not module.params['recover'] or module.params['state'] == 'absent':
        return None
    if module.check_mode:
        result = result_of(module, run(module, binary, command(module)))
        if result.get('code') != 'recovery-file':
            return result
        del result['code'], result['hint']
        return dict(result, changed=True, action='create', msg='would restore realm %s' % result['realm'])
    report = run(module, binary, ['apply', '--recover', '--wait-lock', '1m'])
    if report['error'] or report['targets'][0]['error']:
        return result_of(module, report)
    result = result_of(module, run(module, binary, command(module)))
    result['changed'] = result['changed'] or report['targets'][0]['action'] != 'none'
    return result


def main():
    module = AnsibleModule(
        argument_spec=argument_spec(),
        required_together=[('api_token_id', 'api_token_secret')],
        required_one_of=[('api_password', 'api_token_secret'), ('api_user', 'api_token_id')],
        required_by=dict(api_password='api_user', api_otp='api_password'),
        required_if=[('state', 'present', ('openid_issuer_url', 'openid_client_id'))],
        mutually_exclusive=[('api_password', 'api_token_secret'), ('ca_path', 'fingerprints')],
        supports_check_mode=True,
    )
    binary = find_binary(module, module.params['binary_path'])
    found = mistakes(module.params)
    if found:
        module.fail_json(msg='; '.join(found), code='config', hint=MANUAL)
    if not module.params['validate_certs'] and not module.params['fingerprints']:
        module.warn('validate_certs is false: an attacker on the network can steal the token')
    result = recover(module, binary) or result_of(module, run(module, binary, command(module)))
    if 'code' in result:
        result['checks'] = [check for check in result['checks'] if check['status'] == 'fail']
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == '__main__':
    main()
