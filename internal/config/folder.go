package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"proxmox-realm/internal/check"
)

// runtimeDir returns the directory of locks: systemd's, or one of this program's own that [MakePrivate] makes. Nobody else
// can put a symbolic link there, as they could in /run/lock or the temporary directory itself.
func runtimeDir() string {
	switch {
	case first(os.Getenv("RUNTIME_DIRECTORY")) != "":
		return first(os.Getenv("RUNTIME_DIRECTORY"))
	case os.Geteuid() == 0 && isDir("/run"):
		return "/run/proxmox-realm"
	case filepath.IsAbs(os.Getenv("XDG_RUNTIME_DIR")):
		return filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "proxmox-realm")
	}
	return temporary()
}

// StateDir returns the default of state_dir.
func StateDir() string {
	home, _ := os.UserHomeDir()
	switch {
	case first(os.Getenv("STATE_DIRECTORY")) != "":
		return first(os.Getenv("STATE_DIRECTORY"))
	case os.Geteuid() == 0:
		return "/var/lib/proxmox-realm"
	case filepath.IsAbs(os.Getenv("XDG_STATE_HOME")):
		return filepath.Join(os.Getenv("XDG_STATE_HOME"), "proxmox-realm")
	case home != "":
		return filepath.Join(home, ".local", "state", "proxmox-realm")
	}
	return temporary()
}

// temporary is the directory of a user without a home. MakePrivate refuses it if somebody else made it.
func temporary() string {
	return filepath.Join(os.TempDir(), "proxmox-realm-"+strconv.Itoa(os.Geteuid()))
}

// first returns the first directory of a list as systemd gives it (systemd.exec(5), RuntimeDirectory=).
func first(list string) string {
	dir, _, _ := strings.Cut(list, ":")
	if !filepath.IsAbs(dir) {
		return ""
	}
	return dir
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
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
			Try(check.Set("state_dir", "").With("to a directory that only this user can write"), check.Set("lock_file", "").With("to a file in such a directory"))
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
		return refuse("%s belongs to somebody else", dir)
	case writable(info):
		return refuse("others can write to %s", dir)
	}
	return nil
}
