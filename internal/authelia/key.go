package authelia

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"

	"proxmox-realm/internal/check"
)

const (
	// keyLength and keyAlphabet are what Authelia recommends for client secrets: unreserved characters
	// (RFC 3986 section 2.3), which need no encoding wherever a client puts them. 72 are also the most that bcrypt reads.
	keyLength   = 72
	keyAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
)

// NewKey returns a random client key: 72 unreserved characters, each as likely as any other, 435 bits in all.
func NewKey() check.Secret {
	key := make([]byte, keyLength)
	for i := range key {
		// Neither call fails: the reader of crypto/rand ends the program where the system has no randomness.
		n, _ := rand.Int(rand.Reader, big.NewInt(int64(len(keyAlphabet))))
		key[i] = keyAlphabet[n.Int64()]
	}
	return check.NewSecret(string(key))
}

// WriteKey writes a key to a file that its owner alone can read. The file appears whole or not at all, nothing is
// written through a symbolic link, and a file that is there is replaced only where force says so: it may be
// the one copy of a key in use. Errors are of type *check.Error.
func WriteKey(path string, key check.Secret, force bool) error {
	if err := refuseTarget(path, force); err != nil {
		return err
	}
	temporary, err := writeTemporary(filepath.Dir(path), key)
	if err != nil {
		return cannotWrite(path, err)
	}
	defer func() { _ = os.Remove(temporary) }() // gone already after a rename

	if force {
		err = os.Rename(temporary, path)
	} else {
		err = os.Link(temporary, path) // unlike a rename it fails where the name was taken meanwhile
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return alreadyThere(path)
	case err != nil:
		return cannotWrite(path, err)
	}
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return cannotWrite(path, err)
	}
	return nil
}

func refuseTarget(path string, force bool) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return cannotWrite(path, err)
	case !info.Mode().IsRegular():
		return check.Errorf(check.Usage, "%s is not a regular file", path).Try(check.Advise("name a file that does not exist yet"))
	case !force:
		return alreadyThere(path)
	}
	return nil
}

func alreadyThere(path string) error {
	return check.Errorf(check.Usage, "%s exists, and may be the one copy of a key in use", path).
		Try(check.Advise("name another file, such as %s.new, or give --force", path))
}

func cannotWrite(path string, err error) error {
	return check.Errorf(check.Internal, "writing the key to %s: %v", path, reason(err)).
		Try(check.Advise("name a file in a folder that is there and that this user can write")).Because(err)
}

// reason leaves out the paths of an error, which would name the temporary file.
func reason(err error) error {
	var pathError *fs.PathError
	var linkError *os.LinkError
	switch {
	case errors.As(err, &pathError):
		return pathError.Err
	case errors.As(err, &linkError):
		return linkError.Err
	}
	return err
}

func writeTemporary(folder string, key check.Secret) (path string, err error) {
	file, err := os.CreateTemp(folder, ".client-key-*") // 0600 and exclusive
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	_, err = file.WriteString(key.Reveal())
	if err == nil {
		err = file.Sync()
	}
	return file.Name(), errors.Join(err, file.Close())
}

func syncFolder(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
