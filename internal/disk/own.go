package disk

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"proxmox-realm/internal/check"
)

// Create creates a file that must not exist yet, readable by its owner alone. It follows no symbolic link. On return the
// content is on disk; a file that could not be written whole is removed.
func Create(path string, content []byte) error { return CreateLike(path, content, nil) }

// CreateLike creates a file as [Create] does, with the owner and mode of another one.
func CreateLike(path string, content []byte, other os.FileInfo) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if other != nil {
		err = errors.Join(err, own(file, other), file.Chmod(other.Mode().Perm()))
	}
	if err = errors.Join(err, file.Sync(), file.Close(), syncDir(filepath.Dir(path))); err != nil {
		_ = os.Remove(path)
	}
	return err
}

// Replace replaces a file as a whole: a reader sees the former content or the new one, never a part. It does not wait for
// the disk, so the file is one that may be lost in a crash.
func Replace(path string, content []byte, mode os.FileMode) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err = errors.Join(err, file.Chmod(mode), file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
	return err
}

// ReadOwn reads a file that this program wrote. It refuses one that somebody else could have written or that is larger than
// limit bytes, and symbolic links, pipes and devices.
func ReadOwn(path string, limit int64) ([]byte, error) {
	info, err := os.Lstat(path) // a pipe would wait for its writer
	if err != nil {
		return nil, err
	}
	foreign := errors.New(path + " was not written by this program")
	if !info.Mode().IsRegular() {
		return nil, foreign
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // opened for reading: nothing can be lost
	opened, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !os.SameFile(info, opened) || !trusted(opened) || writable(opened) || opened.Size() > limit {
		return nil, foreign
	}
	return io.ReadAll(io.LimitReader(file, limit))
}

// MoveOver puts a file in the place of another one, whose owner and mode it gets. A reader sees the former content or the new
// one. On return the change is on disk.
func MoveOver(from, to string) error {
	like, err := os.Stat(to)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(from, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = errors.Join(own(file, like), file.Chmod(like.Mode().Perm()), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(from, to)
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

// Remove removes a file; on return its name is gone from the disk.
func Remove(path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// MakeDir makes the directory, with its parents, for this user alone (0700) if it does not exist. One that exists must
// be a directory and no symbolic link, belong to this user or root, and be closed to writes of others. Its errors have
// [check.Config].
func MakeDir(dir string) error {
	refuse := func(format string, args ...any) error {
		return check.Errorf(check.Config, format, args...).
			Try("set {state_dir} (to a directory that only this user can write)")
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

// syncDir makes a new or removed name in a directory durable. Windows has no such operation.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
