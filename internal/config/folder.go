package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"proxmox-realm/internal/check"
)

// runtimeDir returns the directory of locks: systemd's, or one of this program's own that [MakePrivate] makes. Nobody else
// can put a symbolic link there, as they could in /run/lock or the temporary directory itself.
func runtimeDir() string { return directory("RUNTIME_DIRECTORY", "/run", os.Getenv("XDG_RUNTIME_DIR")) }

// StateDir returns the default of state_dir.
func StateDir() string {
	parent := os.Getenv("XDG_STATE_HOME")
	if home, err := os.UserHomeDir(); err == nil && !filepath.IsAbs(parent) {
		parent = filepath.Join(home, ".local", "state")
	}
	return directory("STATE_DIRECTORY", "/var/lib", parent)
}

// directory returns the first directory that systemd names in a variable (systemd.exec(5), RuntimeDirectory=), or one below
// the parent of root or of another user. A user without a parent gets one below the temporary directory.
func directory(systemd, root, user string) string {
	name, parent := "proxmox-realm", user
	if first, _, _ := strings.Cut(os.Getenv(systemd), ":"); filepath.IsAbs(first) {
		return first
	}
	switch uid := os.Geteuid(); {
	case uid == 0:
		parent = root
	case !filepath.IsAbs(user):
		name, parent = fmt.Sprintf("proxmox-realm-%d", uid), os.TempDir()
	}
	return filepath.Join(parent, name)
}

// lockName returns the name of a configuration's lock. It follows from the file or, without a file, from the first target.
func lockName(c *Config) string {
	id := c.File
	if resolved, err := filepath.EvalSymlinks(id); err == nil {
		id = resolved
	}
	if id == "" && len(c.Targets) > 0 {
		id = strings.Join(texts(c.Targets[0].Proxmox.Endpoints), " ") + " " + c.Targets[0].Realm.Name
	}
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:8]) + ".lock"
}

// MakePrivate makes the directory, with its parents, for this user alone (0700) if it does not exist. One that exists must
// be a directory and no symbolic link, belong to this user or root, and be closed to writes of others. Its errors have
// [check.Config].
func MakePrivate(dir string) error {
	refuse := func(format string, args ...any) error {
		return check.Errorf(check.Config, format, args...).
			Try(check.Set("state_dir", "").With("to a directory that only this user can write"),
				check.Set("lock_file", "").With("to a file in such a directory"))
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil { //nolint:gosec // the directories above, such as ~/.local/state, are not ours alone
		return refuse("cannot make %s: %v", filepath.Dir(dir), errors.Unwrap(err))
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return refuse("cannot make %s: %v", dir, errors.Unwrap(err))
	}
	info, err := os.Lstat(dir)
	switch {
	case err != nil:
		return refuse("cannot use %s: %v", dir, errors.Unwrap(err))
	case !info.IsDir():
		return refuse("%s is not a directory", dir)
	case !trusted(info):
		return refuse("%s is owned by another user", dir)
	case writable(info):
		return refuse("other users can write to %s", dir)
	}
	return nil
}
