package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxFile bounds a configuration file, in bytes: far more than a thousand targets need.
const maxFile = 4 << 20

// stdin is the name of the standard input in place of a configuration file.
const stdin = "-"

// readStdin returns a configuration from the standard input. Only the caller can write there, so it needs no owner.
func readStdin(r io.Reader) ([]byte, *Problem) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	switch {
	case err != nil:
		return nil, &Problem{File: stdin, Message: reason(err)}
	case len(data) > maxFile:
		return nil, &Problem{File: stdin, Message: fmt.Sprintf("is larger than %d MiB", maxFile>>20)}
	}
	return data, nil
}

// find returns the path of the configuration file, "" where there is none, and whether it was named, not searched for.
func find(o Options, env map[string]string) (path string, named bool) {
	if o.File != "" {
		return o.File, true
	}
	if path := env[envConfig]; path != "" {
		return path, true
	}
	var candidates []string
	if dir := env["XDG_CONFIG_HOME"]; filepath.IsAbs(dir) { // a relative one counts as unset (XDG Base Directory Specification)
		candidates = append(candidates, filepath.Join(dir, "proxmox-realm", "config.yaml"))
	} else if home := homeOf(env); home != "" {
		candidates = append(candidates, filepath.Join(home, ".config", "proxmox-realm", "config.yaml"))
	}
	for _, path := range append(candidates, "/etc/proxmox-realm/config.yaml") {
		if _, err := os.Stat(path); err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return path, false
		}
	}
	return "", false
}

func homeOf(env map[string]string) string {
	for _, name := range []string{"HOME", "USERPROFILE"} {
		if filepath.IsAbs(env[name]) {
			return env[name]
		}
	}
	return ""
}

// read returns the content of a configuration file. The file may name commands, so one that others could have written
// is refused; that is asked of the open file, so that it cannot be exchanged in between. Its folder is not looked at:
// who may write there can only put another file in its place, which has to pass the same questions.
func read(path string) (data []byte, everyone bool, problem *Problem) {
	refuse := func(message, hint string) ([]byte, bool, *Problem) {
		return nil, false, &Problem{File: path, Message: message, Hint: hint}
	}
	f, err := os.Open(path)
	if err != nil {
		return refuse(reason(err), "")
	}
	defer func() { _ = f.Close() }() // opened for reading: nothing can be lost
	info, err := f.Stat()
	switch {
	case err != nil:
		return refuse(reason(err), "")
	case info.IsDir():
		return refuse("is a folder, not a file", "")
	case !trusted(info):
		return refuse("belongs to somebody else: it must belong to root or to you, since it can name commands",
			fmt.Sprintf("read it, and then `chown root %s`", path))
	case writable(info):
		return refuse("can be written by others, and it can name commands", fmt.Sprintf("read it, and then `chmod go-w %s`", path))
	}
	data, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return refuse(reason(err), "")
	}
	if len(data) > maxFile {
		return refuse(fmt.Sprintf("is larger than %d MiB", maxFile>>20), "")
	}
	return data, readable(info), nil
}

// reason words why a file cannot be used, without its name: what stands in place of a name may be a secret.
func reason(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return "no such file"
	case errors.Is(err, fs.ErrPermission):
		return "cannot be read: permission denied"
	}
	var cause syscall.Errno
	if errors.As(err, &cause) {
		return "cannot be read: " + cause.Error()
	}
	return "cannot be read"
}
