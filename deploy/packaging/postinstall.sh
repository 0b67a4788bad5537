#!/bin/sh
# Runs after installation and upgrade. Enables nothing, because there is no configuration yet.
#   deb: configure [version]   rpm: 1 (installation), 2 (upgrade)
set -e

# DPKG_ROOT is set if dpkg installs into another root directory, see dpkg(1) --root.
if [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	# Restart a running agent with the new program.
	systemctl try-restart proxmox-realm-agent.service || true
fi
