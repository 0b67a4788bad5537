package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"proxmox-realm/internal/check"
)

// runtimeDir returns the folder of locks: systemd's, or one of this program's own that [MakePrivate] makes. Unlike
// /run/lock or the temporary folder itself, nobody else can put a symbolic link there.
func runtimeDir(env map[string]string) string {
	switch {
	case first(env["RUNTIME_DIRECTORY"]) != "":
		return first(env["RUNTIME_DIRECTORY"])
	case os.Geteuid() == 0 && isDir("/run"):
		return "/run/proxmox-realm"
	case filepath.IsAbs(env["XDG_RUNTIME_DIR"]):
		return filepath.Join(env["XDG_RUNTIME_DIR"], "proxmox-realm")
	}
	return temporary()
}

// StateDir returns the default of state_dir in an environment: where runs remember each other that have no usable
// configuration.
func StateDir(env []string) string { return stateDir(environment(env)) }

// stateDir returns the default of state_dir.
func stateDir(env map[string]string) string {
	switch {
	case first(env["STATE_DIRECTORY"]) != "":
		return first(env["STATE_DIRECTORY"])
	case os.Geteuid() == 0:
		return "/var/lib/proxmox-realm"
	case filepath.IsAbs(env["XDG_STATE_HOME"]):
		return filepath.Join(env["XDG_STATE_HOME"], "proxmox-realm")
	case homeOf(env) != "":
		return filepath.Join(homeOf(env), ".local", "state", "proxmox-realm")
	}
	return temporary()
}

// temporary is the last resort, where a user has no home: MakePrivate refuses it if somebody else made it.
func temporary() string {
	return filepath.Join(os.TempDir(), "proxmox-realm-"+strconv.Itoa(os.Geteuid()))
}

// first returns the first folder of a list as systemd gives it (systemd.exec(5), RuntimeDirectory=).
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

// lockName returns the name of the lock of a configuration, identified by its file or, without one, by its
// first target.
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

// MakePrivate makes the folder, with its parents, for this user alone (0700) where it does not exist. One that exists
// must be a folder and no symbolic link, belong to this user or root, and be closed to writes of others.
func MakePrivate(dir string) error {
	refuse := func(what string) error {
		return check.Errorf(check.Config, "%s %s", dir, what).
			Try(check.Advise("remove it, or set lock_file and state_dir to places that only this user can write"))
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil { //nolint:gosec // the folders above, such as ~/.local/state, are not ours alone
		return fmt.Errorf("making %s: %w", filepath.Dir(dir), err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making %s: %w", dir, err)
	}
	info, err := os.Lstat(dir)
	switch {
	case err != nil:
		return fmt.Errorf("making %s: %w", dir, err)
	case !info.IsDir():
		return refuse("is not a folder")
	case !trusted(info):
		return refuse("belongs to somebody else")
	case writable(info):
		return refuse("can be written by others")
	}
	return nil
}
