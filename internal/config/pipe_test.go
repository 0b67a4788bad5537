//go:build unix

package config

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// A file of targets_from that is removed while a run reads the folder is no target any more. A link that leads nowhere is a
// mistake, and so is a target of -t without its file.
func TestAFileThatIsRemovedMeanwhile(t *testing.T) {
	setenv(t)
	text := folder(t, "berlin.yaml=proxmox: {endpoints: [berlin], token_file: token}\n")
	dir := strings.TrimSpace(text[strings.LastIndex(text, " "):])
	paris, token := filepath.Join(dir, "paris.yaml"), filepath.Join(dir, "token")
	if err := syscall.Mkfifo(token, 0o600); err != nil {
		t.Fatal(err)
	}
	// meanwhile loads the configuration, and does something between the first file and the second.
	meanwhile := func(o Options, do func()) (*Config, error) {
		write(t, paris, cluster)
		done := make(chan error)
		go func() {
			pipe, err := os.OpenFile(token, os.O_WRONLY, 0) // waits for the reader
			if err == nil {
				do()
				_, err = pipe.WriteString("a@pve!bc=d\n")
				err = errors.Join(err, pipe.Close())
			}
			done <- err
		}()
		o.Secrets = true
		c, err := load(t, text, o)
		if err := <-done; err != nil {
			t.Error(err)
		}
		return c, err
	}
	c, err := meanwhile(Options{}, func() { _ = os.Remove(paris) })
	if err != nil || !slices.Equal(names(c), []string{"berlin"}) {
		t.Errorf("%v, %v", c, err)
	}
	_, err = meanwhile(Options{Targets: []string{"berlin", "paris"}}, func() { _ = os.Remove(paris) })
	if got := problemsOf(t, err); got != "paris.yaml: no such file" {
		t.Errorf("with -t: %s", got)
	}
	_, err = meanwhile(Options{}, func() { _ = errors.Join(os.Remove(paris), os.Symlink(filepath.Join(dir, "nothing"), paris)) })
	if got := problemsOf(t, err); got != "paris.yaml: no such file" {
		t.Errorf("a link: %s", got)
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

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "file"), "12345")
	if got, err := ReadFile(t.Context(), file, nil, 5); err != nil || string(got) != "12345" {
		t.Errorf("%q, %v", got, err)
	}
	for path, want := range map[string]string{
		file:                         file + ": is larger than 0 KiB",
		"/dev/zero":                  "/dev/zero: is larger than 0 KiB",
		dir:                          dir + ": is a directory, not a file",
		filepath.Join(dir, "absent"): filepath.Join(dir, "absent") + ": no such file",
	} {
		if _, err := ReadFile(t.Context(), path, nil, 4); err == nil || err.Error() != want || check.CodeOf(err) != check.Config {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	go func() { _ = os.WriteFile(pipe, []byte("x"), 0o600) }()
	if got, err := ReadFile(t.Context(), pipe, nil, 4); err != nil || string(got) != "x" {
		t.Errorf("a pipe: %q, %v", got, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(check.Errorf(check.Terminated, "terminated"))
	r, w := io.Pipe()
	defer func() { _ = w.Close() }()
	if _, err := ReadFile(ctx, "-", r, 4); check.CodeOf(err) != check.Terminated {
		t.Errorf("an open stream after a signal: %v", err)
	}
}

// A pipe in the place of a file of this program does not hold a run.
func TestReadPrivate(t *testing.T) {
	dir := t.TempDir()
	file, pipe, link := write(t, filepath.Join(dir, "file"), "12345"), filepath.Join(dir, "pipe"), filepath.Join(dir, "link")
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), os.Symlink(file, link)); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadPrivate(file, 5); err != nil || string(got) != "12345" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := ReadPrivate(file, 4); err == nil {
		t.Error("a file that is too large was read")
	}
	for _, path := range []string{pipe, link, dir, filepath.Join(dir, "absent")} {
		if _, err := ReadPrivate(path, 5); err == nil {
			t.Errorf("%s was read", filepath.Base(path))
		}
	}
}
