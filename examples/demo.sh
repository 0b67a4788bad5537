#!/bin/sh
# The main commands against the lab: run this with `make demo`.
# proxmox-realm-lab sets PROXMOX_REALM_CONFIG and LAB_*. `proxmox-realm-lab set` changes the realm as somebody else would.
set -u

step() { printf '\n# %s\n' "$*"; }

# expect CODE COMMAND …: prints and runs a command. The demo ends if the exit code is another.
expect() {
	want=$1
	shift
	printf '$ %s\n' "$*"
	"$@" 2>&1
	got=$?
	[ "$got" -eq 0 ] || printf '(exit code %s)\n' "$got"
	[ "$got" -eq "$want" ] || { printf 'demo: exit code %s was expected\n' "$want" >&2; exit 1; }
}

step 'A realm that does not exist yet is created, read back and verified'
expect 0 proxmox-realm apply

step 'Again: nothing to do'
expect 0 proxmox-realm apply

step 'Somebody else changes the realm: plan shows it, apply repairs it'
expect 0 proxmox-realm-lab set authelia scopes=openid client-key=something-else --delete comment
expect 10 proxmox-realm plan --exit-code
expect 0 proxmox-realm apply

step 'A change that would break logins is not applied'
expect 13 proxmox-realm apply --issuer-url "$LAB_ISSUER/"

step 'All checks, before anyone logs in'
expect 0 proxmox-realm verify

step 'Somebody cannot log in, and Proxmox says "authentication failure": diagnose reads why in the logs of the nodes'
expect 0 proxmox-realm-lab set authelia autocreate=0
expect 1 proxmox-realm-lab login
reader=$(dirname "$PROXMOX_REALM_CONFIG")/log-reader # a token that may read the logs: proxmox-realm bootstrap --diagnose
(umask 077 && printf '%s\n' "$LAB_TOKEN_ROOT" >"$reader")
expect 11 proxmox-realm diagnose --token-file "$reader"
expect 0 proxmox-realm apply
expect 0 proxmox-realm-lab login
