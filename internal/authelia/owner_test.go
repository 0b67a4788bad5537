//go:build unix

package authelia_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestWriteFileKeepsTheOwner(t *testing.T) {
	file := filepath.Join(t.TempDir(), "configuration.yml")
	write(t, file, "one\n", 0o600)
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 { // root can give files away
		uid, gid = 4711, 4712
		if err := os.Chown(file, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	backup, err := edit(file, "one\n", "two\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, backup} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if stat := info.Sys().(*syscall.Stat_t); int(stat.Uid) != uid || int(stat.Gid) != gid {
			t.Errorf("%s belongs to %d:%d, not %d:%d", path, stat.Uid, stat.Gid, uid, gid)
		}
	}
}
