package authelia

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"math/big"
	"os"

	"proxmox-realm/internal/check"
)

const (
	// keyLength and keyAlphabet are what Authelia recommends for client secrets. Unreserved characters (RFC 3986
	// section 2.3) need no encoding anywhere.
	keyLength   = 72
	keyAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
)

// NewKey returns a random client key of 72 unreserved characters, 435 bits in all.
func NewKey() check.Secret {
	key := make([]byte, keyLength)
	for i := range key {
		// Neither call fails: crypto/rand ends the program if the system has no randomness.
		n, _ := rand.Int(rand.Reader, big.NewInt(int64(len(keyAlphabet))))
		key[i] = keyAlphabet[n.Int64()]
	}
	return check.NewSecret(string(key))
}

// WriteKey writes a key to a new file that only its owner can read. It never overwrites a file, because that may be
// the only copy of a key in use, and it follows no symbolic link. An error is a *check.Error.
func WriteKey(path string, key check.Secret) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return check.Errorf(check.Usage, "%s exists and is not overwritten", path).
			Try(check.Run("authelia --new-key %s.new", path))
	}
	if err == nil {
		_, err = file.WriteString(key.Reveal())
		if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
			_ = os.Remove(path)
		}
	}
	if err != nil {
		return check.Errorf(check.Internal, "write the key: %v", err).
			Try(check.Advise("name a file in a folder that exists and that you can write to")).Because(err)
	}
	return nil
}
