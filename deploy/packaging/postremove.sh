#!/bin/sh
# Runs after removal, upgrade and purge.
#   deb: remove, purge, upgrade…   rpm: 0 (removal), 1 (upgrade)
set -e

root=${DPKG_ROOT:-}

if [ -z "$root" ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi

# Delete the state. What stands in /etc/proxmox-realm stays: a token or a key may be the only copy.
if [ "${1:-}" = purge ]; then
	rm -rf "$root/var/lib/proxmox-realm"
fi
