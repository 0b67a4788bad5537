package authelia_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"proxmox-realm/internal/authelia"
	"proxmox-realm/internal/check"
)

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask is
		t.Fatal(err)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// names returns the names of the files in a folder, sorted.
func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// edit writes another content to a file.
func edit(path, before, after string) (backup string, err error) {
	return authelia.Edit{Path: path, Before: []byte(before), After: []byte(after)}.Write()
}

func TestWriteFile(t *testing.T) {
	target, dir := t.TempDir(), t.TempDir()
	file, link := filepath.Join(target, "authelia.yml"), filepath.Join(dir, "configuration.yml")
	write(t, file, "one\n", 0o640)
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct{ after, backup, before string }{
		{"two\n", "authelia.yml.bak", "one\n"},
		{"three\n", "authelia.yml.2.bak", "two\n"},
		{"three\n", "", ""},
		{"four\n", "authelia.yml.3.bak", "three\n"},
	} {
		backup, err := edit(link, content(t, link), step.after)
		if err != nil {
			t.Fatal(err)
		}
		if got := content(t, link); got != step.after {
			t.Errorf("step %d: %q", i, got)
		}
		if step.backup == "" {
			if backup != "" {
				t.Errorf("step %d: a backup of nothing: %s", i, backup)
			}
			continue
		}
		if want := filepath.Join(target, step.backup); backup != want || content(t, backup) != step.before {
			t.Errorf("step %d: backup %s, not %s, holds %q", i, backup, want, content(t, backup))
		}
		for _, path := range []string{file, backup} {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
				t.Errorf("step %d: %s: %v, %v", i, path, info.Mode(), err)
			}
		}
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v", err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"configuration.yml"}) {
		t.Errorf("beside the link: %v", got)
	}
	if got := names(t, target); len(got) != 4 {
		t.Errorf("beside the file: %v", got)
	}
}

func TestWriteFileThatFailsLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	file, pipe := filepath.Join(dir, "configuration.yml"), filepath.Join(dir, "folder.yml")
	write(t, file, "one\n", 0o600)
	if err := os.Mkdir(pipe, 0o700); err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(dir, "large.yml")
	write(t, large, strings.Repeat("#\n", authelia.MaxFile), 0o600)
	if _, err := edit(file, "what was there before\n", "two\n"); check.CodeOf(err) != check.Conflict {
		t.Errorf("%v", err)
	}
	if backup, err := (authelia.Edit{Path: file, Before: []byte("one\n"), Refused: &authelia.RefusedError{}}).Write(); backup != "" || err != nil {
		t.Errorf("%s, %v", backup, err)
	}
	for path, says := range map[string]string{
		filepath.Join(dir, "absent.yml"): "absent.yml is not changed: no such file or directory",
		pipe:                             "folder.yml is not changed: it is not a regular file",
		large:                            "large.yml is not changed: it is larger than 1024 KiB",
	} {
		if _, err := edit(path, "one\n", "two\n"); err == nil || !strings.HasSuffix(err.Error(), says) {
			t.Errorf("%v, want %s", err, says)
		}
	}
	if got := names(t, dir); content(t, file) != "one\n" || len(got) != 3 {
		t.Errorf("%v", got)
	}
}

// Where the new content cannot be put beside the file, the former one stays, and nothing is left behind.
func TestWriteFileThatIsStopped(t *testing.T) {
	for _, length := range []int{240, 252} { // its temporary name is too long, and that of its backup too
		dir := t.TempDir()
		file := filepath.Join(dir, strings.Repeat("x", length))
		write(t, file, "one\n", 0o600)
		backup, err := edit(file, "one\n", "two\n")
		if got := names(t, dir); err == nil || backup != "" || content(t, file) != "one\n" || len(got) != 1 {
			t.Errorf("%d: %v, %q, %v", length, err, backup, got)
		}
	}
}
