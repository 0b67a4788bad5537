package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// program is what the directories of this program are called.
const program = "proxmox-realm"

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

// StateDir returns the default of state_dir: the first directory that systemd names (systemd.exec(5), StateDirectory=), or one
// that [disk.MakeDir] makes.
func StateDir() string {
	if first, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); filepath.IsAbs(first) {
		return first
	}
	return ownDir("/var/lib", "XDG_STATE_HOME", filepath.Join(".local", "state"))
}

// RootState returns root's state_dir if it exists and somebody else works with another one; otherwise "".
func RootState(stateDir string) string {
	return rootState(os.Geteuid(), "/var/lib/"+program, stateDir)
}

func rootState(uid int, ofRoot, stateDir string) string {
	info, err := os.Stat(ofRoot)
	if uid <= 0 || ofRoot == filepath.Clean(stateDir) || err != nil || !info.IsDir() {
		return ""
	}
	return ofRoot
}

// Dir returns the directory of a configuration and its files: /etc/proxmox-realm for root, else one of the user's own.
func Dir() string { return ownDir("/etc", "XDG_CONFIG_HOME", ".config") }

// ownDir returns this program's directory below root's parent or, for other users, below that of a variable of the XDG Base
// Directory Specification. A user without a home gets one below the temporary directory.
func ownDir(ofRoot, variable, belowHome string) string {
	parent := xdg(variable, belowHome)
	switch uid := os.Geteuid(); {
	case uid == 0:
		parent = ofRoot
	case !filepath.IsAbs(parent):
		return filepath.Join(os.TempDir(), fmt.Sprintf("proxmox-realm-%d", uid))
	}
	return filepath.Join(parent, program)
}

// xdg returns the directory that a variable names, or else one below the home. A relative one counts as unset.
func xdg(variable, belowHome string) string {
	if dir := os.Getenv(variable); filepath.IsAbs(dir) {
		return dir
	}
	home, _ := os.UserHomeDir()
	return filepath.Join(home, belowHome) // relative without a home
}
