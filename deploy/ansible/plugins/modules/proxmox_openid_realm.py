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
short_description: Keeps an OpenID Connect realm of Proxmox as declared and verifies it
version_added: '1.0.0'
author:
  - The proxmox-realm authors (@proxmox-realm)
description:
  - Creates, updates or removes one OpenID Connect realm of Proxmox VE, Proxmox Backup Server or Proxmox Datacenter Manager.
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
  product:
    description:
      - What runs at I(api_host), as C(pve) (Proxmox VE), C(pbs) (Backup Server) or C(pdm) (Datacenter Manager).
      - The task fails if a product lacks what another argument asks for.
    type: str
    choices: [pve, pbs, pdm]
    default: pve
  api_host:
    description:
      - Host name or address of a node, without scheme and port.
      - Falls back to the environment variable C(PROXMOX_HOST).
    type: str
    required: true
  api_port:
    description:
      - Port of the API. By default 8006, with I(product=pbs) 8007, with I(product=pdm) 8443.
      - Falls back to the environment variable C(PROXMOX_PORT).
    type: int
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
  wait:
    description:
      - How long to wait until the issuer accepts a change that is held, or a client whose realm does not exist yet, such as C(10m).
        A number alone means seconds.
      - While it waits, change the client at the issuer and restart the issuer.
      - Check mode does not wait. It predicts that the wait succeeds, and warns.
    type: str
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
  sample: 'updated realm authelia: comment, scopes; added grant admins-authelia: PVEAdmin on /'
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
    - One of C(kind) C(group) or C(grant) has C(group), and a grant also C(path), C(role) and C(propagate). For a grant, C(before) and
      C(after) are the values of C(propagate), C(1) or C(0), and null where there is no grant.
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
  description: What to do about the failure, a line for each possibility, the most likely one first.
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
from ansible_collections.proxmox_realm.sso.plugins.module_utils.wording import (
    INSTALL, KEYS, MANUAL, OTHER_RELEASE, difference, failure, hint, named, summary,
)

# The version of the JSON report that this module reads, and the release of the program and of this collection.
VERSION = 1
RELEASE = '1.0.0'

# The port of each product's API.
PORTS = dict(pve=8006, pbs=8007, pdm=8443)


def argument_spec():
    def fallback(name):
        return (env_fallback, [name])

    return dict(
        product=dict(type='str', choices=['pve', 'pbs', 'pdm'], default='pve'),
        api_host=dict(type='str', required=True, fallback=fallback('PROXMOX_HOST')),
        api_port=dict(type='int', fallback=fallback('PROXMOX_PORT')),
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
        wait=dict(type='str'),
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
    if params['wait'] and not re.match(r'([0-9]+|([0-9]+(\.[0-9]+)?(ms|s|m|h))+)\Z', params['wait']):
        found.append('wait: must be a duration such as 10m, or a number of seconds')
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
    host, port = params['api_host'].strip('[]'), params['api_port']
    if port is None:
        port = PORTS[params['product']]
    proxmox = dict(
        endpoints=['https://%s:%d' % ('[%s]' % host if ':' in host else host, port)],
        timeout='%ds' % params['api_timeout'],
    )
    if params['product'] != 'pve':
        proxmox['product'] = params['product']
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
    wait = module.params['wait']
    if wait:
        replace += ['--wait', wait + 's' if wait.isdigit() else wait]
    return ['apply', '--wait-lock', '1m'] + replace


def nothing(module):
    """Returns the values that every result has, for a task that has asked nothing."""
    return dict(
        changed=False, realm=module.params['realm'], action='none', outcome='failed', changes=[], checks=[], diff=difference('', []),
    )


def fail(module, code, msg, hint):
    """Ends the task before anything was asked."""
    module.fail_json(msg=msg, code=code, hint=hint, **nothing(module))


def find_binary(module, path):
    """Returns the path of the program, or ends the task with what to do."""
    if not path:
        path = module.get_bin_path('proxmox-realm')
        if path is None:
            fail(module, 'no-binary', 'proxmox-realm is not on this host', INSTALL)
    if not (os.path.isfile(path) and os.access(path, os.X_OK)):
        fail(module, 'no-binary', '%s is not an executable file' % path, INSTALL)
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
            fail(module, 'no-answer', '%s did not read its configuration' % binary, OTHER_RELEASE)
        fail(module, 'no-answer', '%s cannot be run: %s' % (binary, to_native(e)), INSTALL)
    except (ValueError, KeyError, TypeError):
        fail(module, 'no-answer', '%s printed no report (exit code %d): %s' % (
            binary, code, '; '.join(err.split('\n')).strip('; ') or 'it printed nothing',
        ), OTHER_RELEASE)
    if report['version'] != VERSION:
        fail(module, 'no-answer', '%s writes version %s of the report; this collection reads version %d' % (
            binary, report['version'], VERSION,
        ), OTHER_RELEASE)
    release = re.match(r'v?([0-9]+\.[0-9]+\.[0-9]+)', report.get('program') or '')
    if release and release.group(1) != RELEASE and not release.group(1).startswith('0.0.'):  # which is no release
        module.warn('%s is of release %s, this collection of %s: %s' % (binary, report['program'], RELEASE, OTHER_RELEASE))
    return report


def judge(module, target, result):
    """Turns failed checks into a failure or warnings, as verify says."""
    verify = 'false' if module.params['state'] == 'absent' else module.params['verify']
    if module.check_mode and module.params['wait'] and verify == 'true':
        verify = 'warn'  # the task would wait until the checks pass
    failed = [check for check in target['checks'] if check['status'] == 'fail']
    denied = [check for check in failed if check['id'] == 'proxmox.permissions']
    if module.check_mode and result['changed'] and denied:  # the write would be refused
        return dict(result, changed=False, code='permission-denied', msg=denied[0]['summary'], hint=denied[0]['hint'])
    if verify != 'false':
        for check in target['checks']:
            if check['status'] == 'warn' or check['status'] == 'fail' and verify == 'warn':
                module.warn('; '.join(['%s: %s' % (check['id'], check['summary'])] + re.sub('\n +', ' ', check['hint']).splitlines()))
    if verify != 'true' or not failed:
        return result
    said = '; '.join('%s: %s' % (check['id'], check['summary']) for check in failed)
    hints = []
    for check in failed:
        hints += [check['hint']] if check['hint'] not in hints + [''] else []
    return dict(result, code='unverified', msg='%s, but a check failed: %s' % (result['msg'], said), hint='\n'.join(hints))


def result_of(module, report):
    """Words a report for Ansible. A result with a code is a failure."""
    if report['error']:  # before Proxmox was asked
        return dict(nothing(module), **failure(report['error']))
    target = report['targets'][0]
    for warning in report.get('warnings', []):
        module.warn(named(warning))
    for check in target['checks']:
        check.update(summary=named(check['summary']), hint=hint(check['hint']))
    for warning in target['warnings']:
        module.warn(named(warning))
    result = dict((key, target[key]) for key in ('realm', 'endpoint', 'action', 'outcome', 'changes', 'checks'))
    result['diff'] = difference('realm %s at %s' % (target['realm'], target['endpoint']), target['changes'])
    if target.get('saved'):
        result['saved'] = target['saved']
    if module.check_mode and module.params['wait'] and target['error'] and target['error']['code'] == 'held':
        target['error'], result['outcome'] = None, 'drift'  # the task would wait until it is not
    if target['error']:
        return dict(result, changed=target['wrote'], **failure(target['error']))
    result.update(changed=target['action'] != 'none', msg=summary(target, module.params['state'], module.check_mode))
    return judge(module, target, result)


def recover(module, binary):
    """Restores the realm that an interrupted replace has saved, and then does the task."""
    restore = ['restore', '--dry-run' if module.check_mode else '--yes', '--wait-lock', '1m', '--', module.params['realm']]
    restored = result_of(module, run(module, binary, restore))
    if 'code' in restored:
        return restored
    if module.check_mode:
        return dict(restored, changed=True, msg='would restore realm %s' % restored['realm'])
    result = result_of(module, run(module, binary, command(module)))
    return dict(result, changed=result['changed'] or restored['changed'])


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
        fail(module, 'config', '; '.join(found), MANUAL)
    if not module.params['validate_certs'] and not module.params['fingerprints']:
        module.warn('validate_certs is false: an attacker on the network can steal the token')
    result = result_of(module, run(module, binary, command(module)))
    if result.get('code') == 'saved-realm' and module.params['recover'] and module.params['state'] == 'present':
        result = recover(module, binary)
    if 'code' in result:
        result['checks'] = [check for check in result['checks'] if check['status'] == 'fail']
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == '__main__':
    main()
