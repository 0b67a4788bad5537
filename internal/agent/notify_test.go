//go:build unix

package agent

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/report"
)

func TestNotify(t *testing.T) {
	dir := t.TempDir()
	command := func(script string, args ...string) *config.Config {
		path := filepath.Join(dir, "tell")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
			t.Fatal(err)
		}
		return &config.Config{Notify: config.Notify{Command: append([]string{path}, args...)}}
	}
	for name, value := range map[string]string{
		"PROXMOX_REALM_PROXMOX_TOKEN": "hunter2", "CREDENTIALS_DIRECTORY": "/x", "MAILTO": "root", "DIR": dir,
	} {
		t.Setenv(name, value)
	}

	c := command(`cat >"$DIR/report"; env >"$DIR/env"; printf %s "$1" >"$DIR/argument"`, "a b; $x")
	if err := Notify(t.Context(), c, failed(check.Unreachable), report.By{}); err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	var told struct {
		Version int
		Outcome string
	}
	if err := json.Unmarshal([]byte(read("report")), &told); err != nil || told.Version != 1 || told.Outcome != "failed" {
		t.Errorf("the report: %+v, %v", told, err)
	}
	if got := read("argument"); got != "a b; $x" {
		t.Errorf("the argument went through a shell: %q", got)
	}
	if got := read("env"); strings.Contains(got, "hunter2") || strings.Contains(got, "CREDENTIALS") || !strings.Contains(got, "MAILTO=root") {
		t.Errorf("the environment: %s", got)
	}

	err := Notify(t.Context(), command(`echo; printf 'no \033[31mroute\n'; exit 3`), fine(), report.By{})
	if err == nil || err.Error() != "tell: exit status 3:  no [31mroute" {
		t.Errorf("a command that fails: %v", err)
	}
	err = Notify(t.Context(), command(`head -c 100000 /dev/zero | tr '\0' x; exit 1`), fine(), report.By{})
	if err == nil || len(err.Error()) > 520 {
		t.Errorf("a command that says much: %d bytes", len(err.Error()))
	}
	if err := Notify(t.Context(), command(`exit 0`), fine(), report.By{}); err != nil { // leaves its input unread
		t.Errorf("a command that does not read: %v", err)
	}
	missing := &config.Config{Notify: config.Notify{Command: []string{"/nonexistent/tell"}}}
	if err := Notify(t.Context(), missing, fine(), report.By{}); err == nil {
		t.Error("a command that is not there")
	}
	if err := Notify(t.Context(), &config.Config{}, fine(), report.By{}); err != nil {
		t.Errorf("no command: %v", err)
	}
}

// systemd's side of sd_notify, and what a reload tells it.
func TestSystemdIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	read := func() []string {
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		buffer := make([]byte, 4096)
		n, err := conn.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(string(buffer[:n]), "\n")
	}
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "20000")
	a := &agent{Options: Options{Log: slog.New(slog.DiscardHandler)}, status: newStatus("x")}
	a.systemd("READY=1", "STATUS=first run")
	if got := read(); !slices.Equal(got, []string{"READY=1", "STATUS=first run"}) {
		t.Errorf("told %q", got)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { a.watchdog(ctx); close(ended) }()
	if got := read(); !slices.Equal(got, []string{"WATCHDOG=1"}) {
		t.Errorf("told %q", got)
	}
	stop()
	<-ended
	t.Setenv("NOTIFY_SOCKET", path+"-gone")
	a.systemd("READY=1") // nobody listens
}
