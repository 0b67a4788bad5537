package issuer

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"strings"
	"sync"

	"github.com/go-crypt/crypt"
)

// verified remembers which secrets belong to which digests, by the hash of both: verifying a digest takes long.
var verified sync.Map

// has says whether a secret is one of the client's.
func (c Client) has(secret string) bool {
	return sameSecret(c.Secret, secret) || sameSecret(c.FormerSecret, secret)
}

// sameSecret says whether a secret is the registered one, which may be a digest as in Authelia's configuration
// ($pbkdf2-sha512$…) or $plaintext$ and the secret. A client without a secret has none that matches.
func sameSecret(registered, given string) bool {
	if registered == "" {
		return false
	}
	if plain, ok := strings.CutPrefix(registered, "$plaintext$"); ok || !strings.HasPrefix(registered, "$") {
		return subtle.ConstantTimeCompare([]byte(plain), []byte(given)) == 1
	}
	key := sha256.Sum256([]byte(registered + "\x00" + given))
	if same, known := verified.Load(key); known {
		return same == true
	}
	same, err := crypt.CheckPassword(given, registered)
	verified.Store(key, err == nil && same)
	return err == nil && same
}

// checkDigest returns an error if Authelia cannot read a client secret. The error quotes nothing of it.
func checkDigest(secret string) error {
	if !strings.HasPrefix(secret, "$") || strings.HasPrefix(secret, "$plaintext$") {
		return nil
	}
	decoder, err := crypt.NewDefaultDecoder() // Authelia uses the same one
	if err != nil {
		return err
	}
	if _, err := decoder.Decode(secret); err != nil {
		return errors.New("provided encoded hash has an invalid format")
	}
	return nil
}
