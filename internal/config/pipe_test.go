//go:build unix

package config

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

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

// A secret file that gives nothing does not hold a run for good, and leaves nothing behind that waits for it.
func TestAPipeWithoutAWriterIsGivenUp(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := write(t, filepath.Join(dir, "config.yaml"), "proxmox: {endpoints: [pve1.example.com], token_file: ./pipe}\n"+issuer)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := Load(t.Context(), Options{File: file, Secrets: true})
		want := "config.yaml:1: proxmox.token_file: " + dir + "/pipe: gave no content within 30s"
		if got := problemsOf(t, err); got != want || time.Since(began) != sourceTimeout {
			t.Errorf("after %s: %s", time.Since(began), got)
		}
	})
}

// A file of targets_from that is removed after the folder was read is no target any more. A link that leads nowhere is a
// mistake, and so is a target of -t without its file.
func TestAFileThatIsRemovedMeanwhile(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link.yaml")
	if err := os.Symlink(filepath.Join(dir, "nothing"), link); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, file string
		targets    []string
		there      bool
		problem    string
	}{
		{"removed", "paris.yaml", nil, false, ""},
		{"removed, with -t", "paris.yaml", []string{"berlin", "paris"}, true, "paris.yaml: no such file"},
		{"removed, with -t of another", "paris.yaml", []string{"berlin"}, true, ""},
		{"a link that leads nowhere", "link.yaml", nil, true, "link.yaml: no such file"},
	} {
		l := newLoader(Options{Targets: tt.targets})
		target := newLayer(Position{File: filepath.Join(dir, tt.file)})
		target.target = strings.TrimSuffix(tt.file, ".yaml")
		there := l.readTarget(t.Context(), &target)
		if problem := problemsOf(t, l.problems.err()); there != tt.there || problem != tt.problem {
			t.Errorf("%s: %v, %s", tt.name, there, problem)
		}
	}
}

// A pipe is no file of a target and no folder: nobody may ever write to it.
func TestAPipeAmongTheTargets(t *testing.T) {
	setenv(t)
	text := folder(t, "berlin.yaml="+cluster)
	pipe := filepath.Join(strings.TrimSpace(text[strings.LastIndex(text, " "):]), "paris.yaml")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := load(t, text, Options{})
	if got := problemsOf(t, err); got != "paris.yaml: is not a regular file" {
		t.Error(got)
	}
	_, err = load(t, issuer+"targets_from: "+pipe+"\n", Options{})
	if got := problemsOf(t, err); got != "config.yaml:2: targets_from: the folder cannot be read: not a directory" {
		t.Error(got)
	}
}
