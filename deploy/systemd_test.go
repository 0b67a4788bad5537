//go:build systemd

package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnitsVerify lets systemd verify the units in a root folder that holds the program and systemd's own targets.
func TestUnitsVerify(t *testing.T) {
	root := t.TempDir()
	units := filepath.Join(root, "usr/lib/systemd/system")
	host := "/usr/lib/systemd/system"
	if _, err := os.Stat(host); err != nil {
		host = "/lib/systemd/system"
	}
	if err := os.CopyFS(units, os.DirFS("systemd")); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{
		"basic", "multi-user", "network-online", "network", "paths", "shutdown", "slices", "sockets", "sysinit",
		"time-sync", "time-set", "timers", "umount", "local-fs", "local-fs-pre", "swap", "network-pre", "remote-fs",
	} {
		content, err := os.ReadFile(filepath.Join(host, target+".target"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(units, target+".target"), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, program := range []string{"usr/bin/proxmox-realm", "bin/kill", "bin/sh"} {
		path := filepath.Join(root, program)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// The example for OnFailure= is installed, and both services use it.
	for name, source := range map[string]string{
		"proxmox-realm-failed@.service":                 "proxmox-realm-failed@.service",
		"proxmox-realm.service.d/on-failure.conf":       "on-failure.conf",
		"proxmox-realm-agent.service.d/on-failure.conf": "on-failure.conf",
	} {
		path := filepath.Join(units, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(read(t, "systemd/on-failure/"+source)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	arguments := []string{
		"verify", "--root=" + root, "--man=no", "--recursive-errors=yes",
		"proxmox-realm.service", "proxmox-realm.timer", "proxmox-realm-agent.service", "proxmox-realm-failed@proxmox-realm.service.service",
	}
	output, err := exec.CommandContext(t.Context(), "systemd-analyze", arguments...).CombinedOutput()
	if err != nil || len(output) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, output)
	}
}

// TestUnitsAreHardened checks that systemd rates the exposure at 1.5 or better. Network access alone costs 1.0.
func TestUnitsAreHardened(t *testing.T) {
	for _, name := range []string{"proxmox-realm.service", "proxmox-realm-agent.service"} {
		path, err := filepath.Abs(filepath.Join("systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		output, err := exec.CommandContext(t.Context(), "systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=15", path).CombinedOutput()
		if err != nil {
			t.Errorf("%s: systemd-analyze security: %v\n%s", name, err, output)
		}
	}
}

// TestTimerElapses lets systemd parse the timer's calendar expression.
func TestTimerElapses(t *testing.T) {
	for line := range strings.Lines(read(t, "systemd/proxmox-realm.timer")) {
		calendar, found := strings.CutPrefix(strings.TrimSpace(line), "OnCalendar=")
		if !found {
			continue
		}
		output, err := exec.CommandContext(t.Context(), "systemd-analyze", "calendar", "--iterations=3", calendar).CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s", err, output)
		}
		return
	}
	t.Error("the timer has no calendar expression")
}
