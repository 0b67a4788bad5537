// Package disk reads files that a user names, and keeps those of this program, which nobody else may write.
package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"proxmox-realm/internal/check"
)

// Read returns the content of a file that a user names, or of stdin if the path is "-", as [Open] does. Its errors are
// *[check.Error] with [check.Config] and name the path, or what ctx ended with.
func Read(ctx context.Context, path string, stdin io.Reader, limit int64) ([]byte, error) {
	c := Open(ctx, path, stdin, limit)
	if c.Err != nil && ctx.Err() == nil {
		return nil, check.Errorf(check.Config, "%s: %v", Called(path), c.Err)
	}
	return c.Data, c.Err
}

// Called returns how messages call a file.
func Called(path string) string {
	if path == "-" {
		return "standard input"
	}
	return path
}

// Content is what a file holds.
type Content struct {
	Data []byte
	Err  error
	info fs.FileInfo // of the file that was read; nil for standard input
}

// Public reports whether everyone can read the file.
func (c Content) Public() bool { return c.info != nil && readable(c.info) }

// Foreign reports whether somebody else than root or the caller owns the file. Its folder does not matter: a file that is put in
// its place has to pass the same check.
func (c Content) Foreign() bool { return c.info != nil && !trusted(c.info) }

// Writable reports whether others than its owner can write to the file.
func (c Content) Writable() bool { return c.info != nil && writable(c.info) }

// Open reads a file once, or stdin if the path is "-"; pipes are fine. It refuses directories and more than limit bytes. Its errors
// do not name the path, which may be a secret in the wrong place. It returns when ctx ends, even if a pipe has no writer. Then it
// may leave its goroutine behind: nothing ends the reading of standard input, or of a file server that hangs.
func Open(ctx context.Context, path string, stdin io.Reader, limit int64) Content {
	done := make(chan Content, 1)
	go func() {
		if path != "-" {
			done <- open(ctx, path, limit)
			return
		}
		data, err := bounded(stdin, limit)
		done <- Content{Data: data, Err: err}
	}()
	select {
	case c := <-done:
		if ctx.Err() != nil && c.Err != nil {
			c.Err = context.Cause(ctx)
		}
		return c
	case <-ctx.Done():
		return Content{Err: context.Cause(ctx)}
	}
}

func open(ctx context.Context, path string, limit int64) (c Content) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // opens a pipe that has no writer yet
	if err != nil {
		return Content{Err: unreadable(err)}
	}
	defer func() { _ = f.Close() }() // opened for reading: nothing can be lost
	if c.info, err = f.Stat(); err != nil {
		return Content{Err: unreadable(err)}
	}
	defer context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Now()) })() // of a pipe; other files have no deadline
	for silent := time.After(Patience); ; {
		c.Data, c.Err = bounded(f, limit)
		if c.Err != nil || len(c.Data) > 0 || c.info.Mode()&fs.ModeNamedPipe == 0 {
			return c
		}
		select { // a pipe without a writer reads as empty
		case <-ctx.Done():
			return Content{Err: context.Cause(ctx)}
		case <-silent:
			return Content{Err: ErrSilent}
		case <-time.After(pipeEvery):
		}
	}
}

const (
	// Patience is how long a pipe may have no writer.
	Patience  = 30 * time.Second
	pipeEvery = 50 * time.Millisecond // how often such a pipe is read
)

// ErrSilent says that a file gives no content, and ErrAbsent that there is none.
var (
	ErrSilent = fmt.Errorf("gave no content within %s", Patience)
	ErrAbsent = errors.New("no such file")
)

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

// unreadable says why a file cannot be read, without its name: the name may be a secret in the wrong place.
func unreadable(err error) error {
	var cause syscall.Errno
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return ErrAbsent
	case errors.Is(err, syscall.EISDIR):
		return errors.New("is a directory, not a file")
	case errors.As(err, &cause):
		return fmt.Errorf("cannot be read: %w", cause)
	}
	return errors.New("cannot be read")
}
