package config

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"proxmox-realm/internal/check"
)

// ReadFile returns the content of a file that a user names, or of stdin if the path is "-". It reads the file once; pipes are
// fine. It refuses directories and more than limit bytes, and returns when ctx ends, even if a pipe has no writer. Its errors
// are *[check.Error] with [check.Config] and name the path, or what ctx ended with.
func ReadFile(ctx context.Context, path string, stdin io.Reader, limit int64) ([]byte, error) {
	c := readFile(ctx, path, stdin, limit)
	if c.err != nil && ctx.Err() == nil {
		return nil, check.Errorf(check.Config, "%s: %v", called(path), c.err)
	}
	return c.data, c.err
}

// called returns how messages call a file.
func called(path string) string {
	if path == "-" {
		return "standard input"
	}
	return path
}

// content is what a file holds.
type content struct {
	data []byte
	info fs.FileInfo // of the file that was read; nil for standard input
	err  error
}

// everyone reports whether everyone can read the file.
func (c content) everyone() bool { return c.info != nil && readable(c.info) }

// readConfiguration reads a file that can name commands. It refuses one that another user could have written. Its folder does
// not matter: a file that is put in its place has to pass the same check.
func readConfiguration(ctx context.Context, path string, stdin io.Reader, limit int64) content {
	c := readFile(ctx, path, stdin, limit)
	switch {
	case c.err != nil || c.info == nil:
	case !trusted(c.info):
		c.err = check.Errorf(check.Config, "is owned by another user, and a configuration can run commands").
			Try(check.Hintf("read it, then run chown root %s", path))
	case writable(c.info):
		c.err = check.Errorf(check.Config, "can be written by other users, and a configuration can run commands").
			Try(check.Hintf("read it, then run chmod go-w %s", path))
	}
	return c
}

// readFile reads a file, or stdin if the path is "-". If ctx ends first, it leaves its goroutine behind: nothing ends the reading
// of standard input, or of a file server that hangs.
func readFile(ctx context.Context, path string, stdin io.Reader, limit int64) content {
	done := make(chan content, 1)
	go func() {
		if path != "-" {
			done <- openAndRead(ctx, path, limit)
			return
		}
		data, err := bounded(stdin, limit)
		done <- content{data: data, err: err}
	}()
	select {
	case c := <-done:
		if ctx.Err() != nil && c.err != nil {
			c.err = context.Cause(ctx)
		}
		return c
	case <-ctx.Done():
		return content{err: context.Cause(ctx)}
	}
}

func openAndRead(ctx context.Context, path string, limit int64) (c content) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // opens a pipe that has no writer yet
	if err != nil {
		return content{err: unreadable(err)}
	}
	defer func() { _ = f.Close() }() // opened for reading: nothing can be lost
	if c.info, err = f.Stat(); err != nil {
		return content{err: unreadable(err)}
	}
	defer context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Now()) })() // of a pipe; other files have no deadline
	for silent := time.After(sourceTimeout); ; {
		c.data, c.err = bounded(f, limit)
		if c.err != nil || len(c.data) > 0 || c.info.Mode()&fs.ModeNamedPipe == 0 {
			return c
		}
		select { // a pipe without a writer reads as empty
		case <-ctx.Done():
			return content{err: context.Cause(ctx)}
		case <-silent:
			return content{err: errSilent}
		case <-time.After(pipeEvery):
		}
	}
}

const (
	sourceTimeout = 30 * time.Second      // of a secret file and of a command
	pipeEvery     = 50 * time.Millisecond // how often a pipe without a writer is read
)

var errSilent = fmt.Errorf("gave no content within %s", sourceTimeout)

func bounded(r io.Reader, limit int64) ([]byte, error) {
	if r == nil {
		return nil, errors.New("is not open")
	}
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	switch {
	case err != nil:
		return nil, unreadable(err)
	case int64(len(data)) > limit:
		return nil, fmt.Errorf("is larger than %d KiB", limit>>10)
	}
	return data, nil
}

var errAbsent = errors.New("no such file")

// unreadable says why a file cannot be read, without its name: the name may be a secret in the wrong place.
func unreadable(err error) error {
	var cause syscall.Errno
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return errAbsent
	case errors.Is(err, syscall.EISDIR):
		return errors.New("is a directory, not a file")
	case errors.As(err, &cause):
		return fmt.Errorf("cannot be read: %w", cause)
	}
	return errors.New("cannot be read")
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
	dir := os.Getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) { // a relative one counts as unset (XDG Base Directory Specification)
		home, _ := os.UserHomeDir()
		dir = filepath.Join(home, ".config")
	}
	for _, path := range []string{filepath.Join(dir, "proxmox-realm", "config.yaml"), "/etc/proxmox-realm/config.yaml"} {
		_, err := os.Stat(path)
		if filepath.IsAbs(path) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return path, ""
		}
	}
	return "", ""
}
