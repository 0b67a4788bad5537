package authelia

import (
	"crypto/rand"
	"errors"
	"math/big"
	"strings"

	"github.com/go-crypt/crypt"
	"github.com/go-crypt/crypt/algorithm"
	"github.com/go-crypt/crypt/algorithm/pbkdf2"

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

// Digest returns the PBKDF2 digest of a key with a fresh salt. Authelia recommends PBKDF2 for client secrets. The cost
// is the default of `authelia crypto hash generate`. An empty key is a *check.Error.
func Digest(key check.Secret) (string, error) {
	if key.Reveal() == "" {
		return "", noKey()
	}
	hash, err := pbkdf2.New(pbkdf2.WithVariant(pbkdf2.VariantSHA512), pbkdf2.WithIterations(310_000), pbkdf2.WithSaltLength(16))
	if err != nil {
		return "", check.Errorf(check.Internal, "prepare the digest of the client key").Because(err)
	}
	made, err := hash.Hash(key.Reveal())
	if err != nil {
		return "", check.Errorf(check.Internal, "make the digest of the client key").Because(err)
	}
	return made.Encode(), nil
}

func noKey() error {
	return check.Errorf(check.Config, "no client key is configured").
		Try("make a key:\n    {authelia --new-key FILE}", "set {realm.client_key_file} to the file that holds the key")
}

// errNotDigest is the error for a client secret that Authelia cannot read.
var errNotDigest = errors.New("not a digest that Authelia knows")

const plaintextPrefix = "$plaintext$"

// Verify tells whether a client_secret of Authelia's configuration belongs to the key. It is a digest, `$plaintext$` and
// the key, or the key alone. Verifying a digest may take a second. The error's text holds nothing of the secret.
func Verify(clientSecret string, key check.Secret) (bool, error) {
	if plain, ok := strings.CutPrefix(clientSecret, plaintextPrefix); ok || !strings.HasPrefix(clientSecret, "$") {
		return key.Equal(check.NewSecret(plain)), nil
	}
	digest, err := decode(clientSecret)
	if err != nil {
		return false, err
	}
	if !key.IsSet() {
		return false, nil
	}
	ok, err := digest.MatchAdvanced(key.Reveal())
	if err != nil {
		return false, errNotDigest
	}
	return ok, nil
}

// decode reads a digest as Authelia does.
func decode(digest string) (algorithm.Digest, error) {
	decoder, err := crypt.NewDefaultDecoder()
	if err != nil {
		return nil, check.Errorf(check.Internal, "prepare the verification of digests").Because(err)
	}
	decoded, err := decoder.Decode(digest)
	if err != nil {
		return nil, errNotDigest // the library's error quotes the digest
	}
	return decoded, nil
}
