//go:build unix

package disk

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"proxmox-realm/internal/check"
)

// write writes a file that only its owner can read and write.
func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "file"), "12345")
	if got, err := Read(t.Context(), file, nil, 5); err != nil || string(got) != "12345" {
		t.Errorf("%q, %v", got, err)
	}
	for path, want := range map[string]string{
		file:                         file + ": is larger than 0 KiB",
		"/dev/zero":                  "/dev/zero: is larger than 0 KiB",
		dir:                          dir + ": is a directory, not a file",
		filepath.Join(dir, "absent"): filepath.Join(dir, "absent") + ": no such file",
	} {
		if _, err := Read(t.Context(), path, nil, 4); err == nil || err.Error() != want || check.CodeOf(err) != check.Config {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	go func() { _ = os.WriteFile(pipe, []byte("x"), 0o600) }()
	if got, err := Read(t.Context(), pipe, nil, 4); err != nil || string(got) != "x" {
		t.Errorf("a pipe: %q, %v", got, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(check.Errorf(check.Terminated, "terminated"))
	r, w := io.Pipe()
	defer func() { _ = w.Close() }()
	if _, err := Read(ctx, "-", r, 4); check.CodeOf(err) != check.Terminated {
		t.Errorf("an open stream after a signal: %v", err)
	}
}

// A pipe in the place of a file of this program does not hold a run.
func TestReadOwn(t *testing.T) {
	dir := t.TempDir()
	file, pipe, link := write(t, filepath.Join(dir, "file"), "12345"), filepath.Join(dir, "pipe"), filepath.Join(dir, "link")
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), os.Symlink(file, link)); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadOwn(file, 5); err != nil || string(got) != "12345" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := ReadOwn(file, 4); err == nil {
		t.Error("a file that is too large was read")
	}
	for _, path := range []string{pipe, link, dir, filepath.Join(dir, "absent")} {
		if _, err := ReadOwn(path, 5); err == nil {
			t.Errorf("%s was read", filepath.Base(path))
		}
	}
}

func TestMakeDir(t *testing.T) {
	dir := t.TempDir()
	made := filepath.Join(dir, "a", "b")
	for range 2 { // made, then found
		if err := MakeDir(made); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(made); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(made, link); err != nil {
		t.Fatal(err)
	}
	if MakeDir(link) == nil {
		t.Error("a symbolic link is taken for a folder")
	}
	if err := MakeDir(filepath.Join(write(t, filepath.Join(dir, "file"), ""), "below")); check.CodeOf(err) != check.Config {
		t.Errorf("below a file: %v", err)
	}
	if err := os.Chmod(made, 0o777); err != nil {
		t.Fatal(err)
	}
	if MakeDir(made) == nil {
		t.Error("a folder that others can write is taken for private")
	}
}

// A file that takes the place of another one has its mode, and nothing is left beside it. If it is not there, the other one stays.
func TestMoveOver(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	if err := os.WriteFile(to, []byte("old"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := MoveOver(from, to); err == nil {
		t.Error("moved a file that is not there")
	}
	if err := os.WriteFile(from, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := MoveOver(from, to); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(to)
	info, statErr := os.Stat(to)
	if _, gone := os.Stat(from); err != nil || statErr != nil || string(content) != "new" || info.Mode().Perm() != 0o640 || gone == nil {
		t.Errorf("%q, %v, %v, %v", content, err, statErr, gone)
	}
}

// A file is made for its owner alone, never over another one; a replaced one leaves nothing beside it.
func TestCreateReplaceRemove(t *testing.T) {
	dir := t.TempDir()
	path, like := filepath.Join(dir, "file"), write(t, filepath.Join(dir, "like"), "")
	holds := func(path, content string, mode os.FileMode) {
		t.Helper()
		got, err := os.ReadFile(path)
		if info, statErr := os.Stat(path); err != nil || statErr != nil || string(got) != content || info.Mode().Perm() != mode {
			t.Errorf("%s holds %q, %v, %v", path, got, err, statErr)
		}
	}
	if err := Create(path, []byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := Create(path, []byte("two")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over another file: %v", err)
	}
	holds(path, "one", 0o600)
	if err := Replace(path, []byte("three"), 0o640); err != nil {
		t.Fatal(err)
	}
	holds(path, "three", 0o640)
	info, err := os.Stat(path)
	if err = errors.Join(err, Remove(like), CreateLike(like, []byte("four"), info)); err != nil {
		t.Fatal(err)
	}
	holds(like, "four", 0o640)
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("%v, %v", left, err)
	}
	if err := Replace(filepath.Join(dir, "absent", "file"), nil, 0o600); err == nil {
		t.Error("replaced in a folder that is not there")
	}
}
