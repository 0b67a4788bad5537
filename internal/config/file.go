package config

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/disk"
)

// readFile reads a file that can name commands. It refuses one that another user could have written.
func readFile(ctx context.Context, path string, stdin io.Reader, limit int64) disk.Content {
	c := disk.Open(ctx, path, stdin, limit)
	switch {
	case c.Err != nil:
	case c.Foreign():
		c.Err = check.Errorf(check.Config, "is owned by another user, and a configuration can run commands").
			Try(check.Hintf("read it, then run chown root %s", path))
	case c.Writable():
		c.Err = check.Errorf(check.Config, "can be written by other users, and a configuration can run commands").
			Try(check.Hintf("read it, then run chmod go-w %s", path))
	}
	return c
}

// maxFile bounds a configuration file, in bytes: far more than a thousand targets need.
const maxFile = 4 << 20

// Found reports whether there is a configuration file for the value of -c.
func Found(file string) bool {
	path, _ := find(file)
	return path != ""
}

// find returns the path of the configuration file, "" if there is none, and the flag or variable that names it.
func find(file string) (path, namedBy string) {
	if file != "" {
		return file, "-c"
	}
	if path := os.Getenv(envConfig); path != "" {
		return path, envConfig
	}
	for _, dir := range []string{xdg("XDG_CONFIG_HOME", ".config"), "/etc"} {
		path := filepath.Join(dir, program, "config.yaml")
		_, err := os.Stat(path)
		if filepath.IsAbs(path) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return path, ""
		}
	}
	return "", ""
}
