package authelia

import (
	"errors"
	"strings"

	"github.com/go-crypt/crypt"
	"github.com/go-crypt/crypt/algorithm"
	"github.com/go-crypt/crypt/algorithm/argon2"
	"github.com/go-crypt/crypt/algorithm/pbkdf2"

	"proxmox-realm/internal/check"
)

// Algorithm is a way to make a digest of a client key. Authelia reads more of them.
type Algorithm string

// The algorithms. Authelia recommends PBKDF2 for client secrets: it verifies them at every request of the client, and a
// long random key gains nothing from a memory-hard digest.
const (
	PBKDF2   Algorithm = "pbkdf2"
	Argon2id Algorithm = "argon2id"
)

// Digest returns the digest of a key with a fresh salt, with the costs that `authelia crypto hash generate` uses by
// default. An unknown algorithm and an empty key are errors of type *check.Error.
func Digest(key check.Secret, with Algorithm) (string, error) {
	if !key.IsSet() || key.Reveal() == "" {
		return "", noKey()
	}
	var hash algorithm.Hash
	var err error
	switch with {
	case PBKDF2:
		hash, err = pbkdf2.New(pbkdf2.WithVariant(pbkdf2.VariantSHA512), pbkdf2.WithIterations(310_000),
			pbkdf2.WithSaltLength(16))
	case Argon2id: // RFC 9106 section 4, second recommended option
		hash, err = argon2.New(argon2.WithVariantID(), argon2.WithM(64*1024), argon2.WithT(3), argon2.WithP(4),
			argon2.WithK(32), argon2.WithS(16))
	default:
		return "", check.Errorf(check.Usage, "unknown digest algorithm").
			Try(check.Advise("choose %s or %s", PBKDF2, Argon2id))
	}
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
		Try(check.Set("realm.client_key_file", ""), check.Run("authelia --new-key FILE").With("makes a key"))
}

// errNotDigest is the answer to a client secret that Authelia cannot read.
var errNotDigest = errors.New("not a digest that authelia knows")

const plaintextPrefix = "$plaintext$"

// Verify tells whether a client_secret of Authelia's configuration belongs to the key. It is a digest, `$plaintext$` and
// the key, or the key alone. Verifying a digest may take a second. The error's text holds nothing of the secret.
func Verify(clientSecret string, key check.Secret) (bool, error) {
	if clear, ok := strings.CutPrefix(clientSecret, plaintextPrefix); ok || !strings.HasPrefix(clientSecret, "$") {
		return key.Equal(check.NewSecret(clear)), nil
	}
	decoder, err := crypt.NewDefaultDecoder() // which is Authelia's
	if err != nil {
		return false, check.Errorf(check.Internal, "prepare the verification of digests").Because(err)
	}
	digest, err := decoder.Decode(clientSecret)
	if err != nil {
		return false, errNotDigest // the library's error quotes the digest
	}
	ok, err := digest.MatchAdvanced(key.Reveal())
	if err != nil {
		return false, errNotDigest
	}
	return ok, nil
}
