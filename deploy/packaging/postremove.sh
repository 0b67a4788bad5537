#!/bin/sh
# After removal, upgrade and purge.
#   deb: remove, purge, upgrade…   rpm: 0 (removal), 1 (upgrade)
set -e

root=${DPKG_ROOT:-}

if [ -z "$root" ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi

# What the program wrote. What somebody put into /etc/proxmox-realm stays: it is theirs.
if [ "${1:-}" = purge ]; then
	rm -rf "$root/var/lib/proxmox-realm" "$root/var/lib/private/proxmox-realm-service" "$root/run/proxmox-realm"
	rm -f "$root/var/lib/proxmox-realm-service" # systemd's link to the former
fi
