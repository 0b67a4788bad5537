#!/bin/sh
# After installation and upgrade. Nothing is enabled: the sample configuration names nobody's cluster.
#   deb: configure [version]   rpm: 1 (installation), 2 (upgrade)
set -e

# DPKG_ROOT: dpkg installs into another root than the one that runs, see dpkg(1) --root.
if [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	# An agent that runs goes on with the new program.
	systemctl try-restart proxmox-realm-agent.service || true
fi
