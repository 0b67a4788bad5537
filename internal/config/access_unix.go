//go:build unix

package config

import (
	"io/fs"
	"os"
	"os/exec"
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

// ownGroup lets a command run in a process group of its own.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// killGroup kills a command and the processes that it started, but for those that left its group.
func killGroup(cmd *exec.Cmd) error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

// readable reports whether everyone can read a file.
func readable(info fs.FileInfo) bool { return info.Mode().IsRegular() && info.Mode().Perm()&0o004 != 0 }
