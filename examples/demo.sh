#!/bin/sh
# The main commands against the lab: run this with `make demo`.
# proxmox-realm-lab sets LAB_*. `proxmox-realm-lab set` changes the realm as somebody else would.
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

work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
export STATE_DIRECTORY="$work/state"
(umask 077 && printf '%s' "$LAB_ADMIN_PASSWORD" >"$work/password")

step 'From nothing to a login: a token, a configuration, the client in Authelia, the realm. Without --yes it asks'
# Somebody restarts Authelia as soon as the client is in its configuration.
(until grep -q "client_id: 'proxmox'" "$LAB_AUTHELIA_CONFIG"; do sleep 0.1; done; proxmox-realm-lab restart-issuer) &
expect 0 proxmox-realm init --yes --dir "$work/etc" --endpoint "$LAB_ENDPOINT" --ca-file "$LAB_CA_FILE" \
	--username "$LAB_ADMIN_USERNAME" --password-file "$work/password" --issuer-url "$LAB_ISSUER" --issuer-ca-file "$LAB_ISSUER_CA_FILE" \
	--authelia-config "$LAB_AUTHELIA_CONFIG" --diagnose
PROXMOX_REALM_CONFIG="$work/etc/config.yaml"
LAB_TOKEN_ROOT=$(cat "$work/etc/token") # proxmox-realm-lab changes realms with it
export PROXMOX_REALM_CONFIG LAB_TOKEN_ROOT

step 'A realm that does not exist is created, read back and verified'
expect 0 proxmox-realm-lab remove authelia
expect 0 proxmox-realm apply

step 'Again: nothing to do'
expect 0 proxmox-realm apply

step 'Somebody else changes the realm: plan shows it, apply repairs it'
expect 0 proxmox-realm-lab set authelia scopes=openid client-key=something-else
expect 10 proxmox-realm plan --exit-code
expect 0 proxmox-realm apply

step 'A change that would break logins is not applied'
expect 13 proxmox-realm apply --issuer-url "$LAB_ISSUER/"

step 'All checks, before anyone logs in'
expect 0 proxmox-realm verify

step 'Somebody cannot log in, and Proxmox says "authentication failure": diagnose reads why in the logs of the nodes'
expect 0 proxmox-realm-lab set authelia autocreate=0
expect 1 proxmox-realm-lab login
expect 11 proxmox-realm diagnose
expect 0 proxmox-realm apply
expect 0 proxmox-realm-lab login
