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
)

// ReadFile returns the content of a file that a user names. It reads the file once; pipes are fine. It refuses
// directories and more than limit bytes, and returns when ctx ends, even if a pipe has no writer. Its errors are
// *[check.Error] with [check.Config] and name the path, or what ctx ended with.
func ReadFile(ctx context.Context, path string, limit int64) ([]byte, error) {
	c := readFile(ctx, path, limit, nil)
	if e, ok := errors.AsType[*check.Error](c.err); ok && e.Code == check.Config {
		e.Message = path + ": " + e.Message
	}
	return c.data, c.err
}

// ReadAll is ReadFile for an open stream, such as standard input.
func ReadAll(ctx context.Context, r io.Reader, limit int64) ([]byte, error) {
	c := await(ctx, func() content { return bounded(r, limit) })
	return c.data, c.err
}

// content is what a file holds.
type content struct {
	data     []byte
	everyone bool // can read the file
	err      error
}

// readFile asks allow about the open file, so that nobody can exchange the file in between.
func readFile(ctx context.Context, path string, limit int64, allow func(fs.FileInfo) error) content {
	return await(ctx, func() content {
		f, err := os.Open(path)
		if err != nil {
			return content{err: unreadable(err)}
		}
		defer func() { _ = f.Close() }() // opened for reading: nothing can be lost
		info, err := f.Stat()
		if err != nil {
			return content{err: unreadable(err)}
		}
		if allow != nil {
			if err := allow(info); err != nil {
				return content{err: err}
			}
		}
		c := bounded(f, limit)
		c.everyone = readable(info)
		return c
	})
}

// await leaves the goroutine behind if ctx ends first: nothing ends the opening of a pipe without a writer.
func await(ctx context.Context, read func() content) content {
	done := make(chan content, 1)
	go func() { done <- read() }()
	select {
	case c := <-done:
		return c
	case <-ctx.Done():
		return content{err: context.Cause(ctx)}
	}
}

func bounded(r io.Reader, limit int64) content {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	switch {
	case err != nil:
		return content{err: unreadable(err)}
	case int64(len(data)) > limit:
		return content{err: check.Errorf(check.Config, "is larger than %d KiB", limit>>10)}
	}
	return content{data: data}
}

// unreadable says why a file cannot be read, without its name: the name may be a secret in the wrong place.
func unreadable(err error) *check.Error {
	var cause syscall.Errno
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return check.Errorf(check.Config, "no such file")
	case errors.Is(err, syscall.EISDIR):
		return check.Errorf(check.Config, "is a directory, not a file")
	case errors.As(err, &cause):
		return check.Errorf(check.Config, "cannot be read: %v", cause)
	}
	return check.Errorf(check.Config, "cannot be read")
}

// maxFile bounds a configuration file, in bytes: far more than a thousand targets need.
const maxFile = 4 << 20

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
	for _, path := range []string{filepath.Join(dir, "proxmox-realm/config.yaml"), "/etc/proxmox-realm/config.yaml"} {
		_, err := os.Stat(path)
		if filepath.IsAbs(path) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return path, ""
		}
	}
	return "", ""
}

// safe refuses a configuration file that somebody else could have written, because it can name commands. Its folder does
// not matter: a file that is put in its place has to pass the same check.
func safe(path string) func(fs.FileInfo) error {
	return func(info fs.FileInfo) error {
		switch {
		case info.IsDir():
			return unreadable(syscall.EISDIR)
		case !trusted(info):
			return check.Errorf(check.Config, "belongs to somebody else, and it can name commands").
				Try(check.Advise("read it, then run chown root %s", path))
		case writable(info):
			return check.Errorf(check.Config, "can be written by others, and it can name commands").
				Try(check.Advise("read it, then run chmod go-w %s", path))
		}
		return nil
	}
}

// readConfig returns the content of the configuration.
func (l *loader) readConfig(ctx context.Context, path string) content {
	switch {
	case path != "-":
		return readFile(ctx, path, maxFile, safe(path))
	case l.Stdin == nil:
		return content{err: errors.New("is not open")}
	}
	return await(ctx, func() content { return bounded(l.Stdin, maxFile) })
}
