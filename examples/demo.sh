#!/bin/sh
# The main job against the lab: run it with `make demo`.
# PROXMOX_REALM_CONFIG and LAB_* come from proxmox-realm-lab; `proxmox-realm-lab set` plays somebody else.
set -u

step() { printf '\n# %s\n' "$*"; }

# expect CODE COMMAND …: runs a command, shows it, and ends the demo where it exits otherwise.
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

step 'Somebody else changes it'
expect 0 proxmox-realm-lab set authelia scopes=openid client-key=something-else --delete comment
expect 10 proxmox-realm plan --exit-code
expect 0 proxmox-realm apply

step 'A wrong issuer is held back: logins that work keep working'
expect 13 proxmox-realm apply --issuer-url "$LAB_ISSUER/"

step 'All checks, before anyone logs in'
expect 0 proxmox-realm verify
