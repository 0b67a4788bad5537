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
  - Verifies issuer, client and realm, so that a login through the realm is known to work before anyone tries.
  - Reads the realm back after each write, sees a client key that differs, and never shows it.
  - A property that the task does not name is not managed and stays as it is. Removal is said with I(unset).
  - The work is done by the program C(proxmox-realm), which must be on the host that runs the task.
notes:
  - Usually delegated to C(localhost), since only the API is talked to; C(proxmox-realm) is then needed there alone.
  - Secrets go to C(proxmox-realm) by its standard input. They are in no command line and in no environment of it.
  - Set the C(PROXMOX_*) variables for C(ansible-playbook) itself. Those that the keyword C(environment) of a play or task
    sets are put on a command line by Ansible.
  - Removing or replacing a realm keeps a copy, which holds the client key, in the state folder of the user who runs the task
    (C(STATE_DIRECTORY), else C(/var/lib/proxmox-realm) for root, else C(~/.local/state/proxmox-realm)).
requirements:
  - proxmox-realm, of the same release as the collection
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
      - User with its realm, such as C(root@pam). Not needed beside an I(api_token_id) that names the user.
      - Falls back to the environment variable C(PROXMOX_USER).
    type: str
  api_password:
    description:
      - Password of I(api_user). Not beside I(api_token_secret), wherever the two come from.
      - Falls back to the environment variable C(PROXMOX_PASSWORD).
    type: str
  api_otp:
    description:
      - Time-based one-time password of I(api_user).
      - Falls back to the environment variable C(PROXMOX_OTP).
    type: str
  api_token_id:
    description:
      - Id of an API token, as C(automation) beside I(api_user), or in full as C(user@pve!automation).
      - Falls back to the environment variable C(PROXMOX_TOKEN_ID).
    type: str
  api_token_secret:
    description:
      - Secret of the API token.
      - Falls back to the environment variable C(PROXMOX_TOKEN_SECRET).
    type: str
  api_timeout:
    description:
      - Seconds for one request to the API. Proxmox itself gives up after 30.
      - Falls back to the environment variable C(PROXMOX_API_TIMEOUT).
    type: int
    default: 45
  ca_path:
    description:
      - File with the certificate authorities (PEM) of Proxmox, in place of those of the system.
      - Counts for nothing where I(validate_certs=false).
      - Falls back to the environment variable C(PROXMOX_CA_PATH).
    type: path
  validate_certs:
    description:
      - Whether the certificate of Proxmox is verified. Without that, whoever is in between can read the token; I(fingerprints)
        do better for certificates that no authority has signed.
      - Falls back to the environment variable C(PROXMOX_VALIDATE_CERTS).
    type: bool
    default: true
  fingerprints:
    description:
      - SHA-256 fingerprints of certificates that are trusted, as C(pvenode cert info) prints them, in place of any authority.
      - They are checked also where I(validate_certs=false). Not beside I(ca_path), wherever that comes from.
    type: list
    elements: str
  realm:
    description:
      - Name of the realm.
    type: str
    required: true
  state:
    description:
      - Whether the realm is there.
      - C(absent) removes OpenID Connect realms alone, and keeps a copy, see the notes. Users, groups and access rules stay in Proxmox.
    type: str
    choices: [present, absent]
    default: present
  comment:
    description:
      - What the login page shows for the realm.
    type: str
  default:
    description:
      - Whether the login page preselects the realm. Takes the flag from the realm that had it.
    type: bool
  openid_issuer_url:
    description:
      - The issuer, byte for byte as its discovery document says. Required where I(state=present).
    type: str
  openid_client_id:
    description:
      - The client id that the issuer knows. Required where I(state=present).
    type: str
  openid_client_key:
    description:
      - The client key (client secret).
    type: str
  openid_username_claim:
    description:
      - The claim that names users. Proxmox cannot change it once the realm exists, see I(replace).
      - C(preferred_username) where the realm is created and the task names none.
    type: str
  openid_scopes:
    description:
      - Scopes to ask for, as a list or separated by commas or spaces; C(openid) is implied.
      - C(openid profile email) where the realm is created and the task names none.
    type: list
    elements: str
  openid_autocreate:
    description:
      - Whether Proxmox creates a user at the first login.
    type: bool
  openid_groups_claim:
    description:
      - The claim that holds the groups. Proxmox VE 8.4 or later.
    type: str
  openid_groups_autocreate:
    description:
      - Whether Proxmox creates the groups that the claim names. Proxmox VE 8.4 or later.
    type: bool
  openid_groups_overwrite:
    description:
      - Whether each login replaces the user's groups. Proxmox VE 8.4 or later.
    type: bool
  openid_prompt:
    description:
      - C(none), C(login), C(consent) or C(select_account), or an extension of the issuer.
    type: str
  openid_acr_values:
    description:
      - Authentication context classes to ask for, the preferred one first.
    type: list
    elements: str
  openid_audiences:
    description:
      - Audiences that Proxmox accepts in an ID token besides the client id. Proxmox VE 9.2 or later.
    type: list
    elements: str
  openid_query_userinfo:
    description:
      - Whether Proxmox reads claims from the userinfo endpoint too. Authelia 4.39 and later need it. Proxmox VE 8.4 or later.
    type: bool
  unset:
    description:
      - Properties to remove from the realm, as Proxmox spells them (C(groups-claim)) or as this module does (C(openid_groups_claim)).
    type: list
    elements: str
  replace:
    description:
      - Agrees to delete the realm and create it anew where I(openid_username_claim) differs, which binds every user of the realm to
        another claim. Without it such a task fails.
    type: bool
    default: false
  gate:
    description:
      - Whether a change to a realm that exists is kept back while issuer or client would not accept logins with it.
    type: bool
    default: true
  verify:
    description:
      - What failed checks do. With C(true) they fail the task, with C(warn) they become warnings, with C(false) they are in the
        result alone.
      - With I(gate=false) too, C(false) leaves the issuer alone.
    type: str
    choices: ['true', 'warn', 'false']
    default: 'true'
  redirect_urls:
    description:
      - What browsers open, as scheme, host and port without a slash, such as C(https://pve1.example.com:8006). The issuer is asked
        whether the client may be sent back there.
      - The origin of I(api_host) where none are given, and then a refusal only warns.
    type: list
    elements: str
  issuer_ca_path:
    description:
      - File with the certificate authorities (PEM) of the issuer, in place of those of the system.
    type: path
  binary_path:
    description:
      - Path of C(proxmox-realm) on the host that runs the task. Without it, C(PATH) is searched.
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

- name: The same certificate without an authority, and failed checks that only warn
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
  description: What was done, or what went wrong.
  returned: always
  type: str
  sample: 'updated realm authelia: comment, scopes'
realm:
  description: Name of the realm.
  returned: always
  type: str
  sample: authelia
endpoint:
  description: The endpoint that was talked to.
  returned: when Proxmox was talked to
  type: str
  sample: https://pve1.example.com:8006
action:
  description: What was done, or in check mode would be, as C(none), C(create), C(update), C(replace), C(refuse) or C(delete).
  returned: always
  type: str
  sample: update
outcome:
  description:
    - How it ended, as C(unchanged), C(changed), C(unverified), C(held), C(refused) or C(failed); in check mode C(drift) in place of
      C(changed).
  returned: always
  type: str
  sample: changed
changes:
  description: The properties that differ, with their values before and after. Client keys are masked.
  returned: always
  type: list
  elements: dict
  sample:
    - property: scopes
      op: set
      before: email profile
      after: openid profile email
checks:
  description: Every check that was made, with C(id), C(status), C(summary), C(evidence), C(hint) and C(duration_ms).
  returned: always
  type: list
  elements: dict
  sample:
    - id: issuer.identity
      status: pass
      summary: the issuer is the one that is declared
      evidence: ''
      hint: ''
      duration_ms: 0
diff:
  description: Before and after of the properties that change, as C(--diff) shows them.
  returned: always
  type: dict
code:
  description: Why the task failed, in one word.
  returned: failure
  type: str
  sample: held
hint:
  description: What mends it.
  returned: failure, where something is known
  type: str
saved:
  description: The file in which a removed realm is kept.
  returned: when a realm was removed
  type: str
'''

import errno
import json
import os

from ansible.module_utils.basic import AnsibleModule, env_fallback
from ansible.module_utils.common.text.converters import to_native

# Both sides refuse a version that is not their own.
PROTOCOL = 1

INSTALL = (
    'install it on the host that runs the task, or delegate the task to one that has it: '
    'the role proxmox_realm.sso.authelia_realm does, or copy the binary of a release to /usr/local/bin'
)

OTHER_RELEASE = 'it may be older than the collection: install a proxmox-realm of the same release'


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
        unset=dict(type='list', elements='str'),
        replace=dict(type='bool', default=False),
        gate=dict(type='bool', default=True),
        verify=dict(type='str', choices=['true', 'warn', 'false'], default='true'),
        redirect_urls=dict(type='list', elements='str'),
        issuer_ca_path=dict(type='path'),
        binary_path=dict(type='path', fallback=fallback('PROXMOX_REALM_BINARY')),
    )


def find_binary(module, path):
    """Returns the path of the program, or ends the task with what to do."""
    if not path:
        path = module.get_bin_path('proxmox-realm')
        if path is None:
            module.fail_json(msg='proxmox-realm is not on this host', code='no-binary', hint=INSTALL)
    if not (os.path.isfile(path) and os.access(path, os.X_OK)):
        module.fail_json(msg='%s is no program that can be run' % path, code='no-binary', hint=INSTALL)
    return path


def ask(module, binary, arguments):
    """Hands the arguments over on standard input, and returns the answer."""
    request = dict(protocol=PROTOCOL, check_mode=module.check_mode, arguments=arguments)
    for name in list(os.environ):
        if name.startswith('PROXMOX_'):  # the fallbacks have been read, and secrets are nothing for an environment
            del os.environ[name]
    code, out, err = -1, '', ''
    try:
        code, out, err = module.run_command([binary, 'ansible'], data=json.dumps(request), handle_exceptions=False)
        answer = json.loads(out)
        protocol = answer.pop('protocol')
        if protocol == PROTOCOL and not ('failed' in answer and 'msg' in answer):
            raise ValueError('it is not whole')
    except (OSError, IOError) as e:
        if e.errno == errno.EPIPE:
            module.fail_json(msg='%s did not read the request' % binary, code='no-answer', hint=OTHER_RELEASE)
        module.fail_json(msg='%s cannot be run: %s' % (binary, to_native(e)), code='no-answer', hint=INSTALL)
    except (ValueError, AttributeError, KeyError, TypeError):
        module.fail_json(
            msg='%s gave no answer (exit code %d): %s' % (binary, code, err.strip() or 'it said nothing'),
            code='no-answer', hint=OTHER_RELEASE,
        )
    if protocol != PROTOCOL:
        module.fail_json(
            msg='%s speaks version %s of the protocol, and the collection version %s' % (binary, protocol, PROTOCOL),
            code='protocol', hint='install a collection and a proxmox-realm of the same release',
        )
    return answer


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
    arguments = dict((name, value) for name, value in module.params.items() if value is not None)
    binary = find_binary(module, arguments.pop('binary_path', None))
    answer = ask(module, binary, arguments)
    if answer.pop('failed'):
        module.fail_json(**answer)
    module.exit_json(**answer)


if __name__ == '__main__':
    main()
