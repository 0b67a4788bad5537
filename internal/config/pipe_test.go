//go:build unix

package config

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"proxmox-realm/internal/check"
)

// A pipe that nobody writes to, be it the configuration or a secret, does not hold a run that was interrupted.
func TestAPipeWithoutAWriterCanBeLeft(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "config.yaml")
	content := "proxmox: {endpoints: [pve1.example.com], token_file: pipe}\nrealm: {issuer_url: https://auth.example.com, client_id: proxmox}\n"
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, file} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(check.Errorf(check.Interrupted, "interrupted"))
		_, err := Load(ctx, Options{File: path, Secrets: true})
		if check.CodeOf(err) != check.Interrupted {
			t.Errorf("%s: %v", filepath.Base(path), err)
		}
		writer, err := os.OpenFile(pipe, os.O_RDWR, 0) // lets go of who was left behind
		if err != nil {
			t.Fatal(err)
		}
		_ = writer.Close()
	}
}
