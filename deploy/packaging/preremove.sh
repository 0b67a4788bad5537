#!/bin/sh
# Runs before removal and upgrade.
#   deb: remove, upgrade, deconfigure…   rpm: 0 (removal), 1 (upgrade)
set -e

case ${1:-} in
remove | 0)
	if [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
		systemctl disable --now proxmox-realm.timer proxmox-realm-agent.service || true
		systemctl stop proxmox-realm.service || true
	fi
	;;
esac
