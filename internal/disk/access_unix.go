//go:build unix

package disk

import (
	"io/fs"
	"os"
	"syscall"
)

// trusted reports whether root or the caller owns a file.
func trusted(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && (stat.Uid == 0 || int(stat.Uid) == os.Geteuid())
}

// writable reports whether others than the owner can write to a file. Devices such as /dev/null do not count.
func writable(info fs.FileInfo) bool {
	return info.Mode()&fs.ModeCharDevice == 0 && info.Mode().Perm()&0o022 != 0
}

// readable reports whether everyone can read a file.
func readable(info fs.FileInfo) bool { return info.Mode().IsRegular() && info.Mode().Perm()&0o004 != 0 }

// own gives a new file the owner of another one.
func own(file *os.File, like fs.FileInfo) error {
	want, ok := like.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if have, ok := info.Sys().(*syscall.Stat_t); ok && have.Uid == want.Uid && have.Gid == want.Gid {
		return nil
	}
	return file.Chown(int(want.Uid), int(want.Gid))
}
