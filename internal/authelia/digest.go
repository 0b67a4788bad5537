package authelia

import (
	"errors"
	"strconv"
	"strings"
	"sync"

	"proxmox-realm/internal/check"

	"github.com/go-crypt/crypt/algorithm"
	"github.com/go-crypt/crypt/algorithm/argon2"
	"github.com/go-crypt/crypt/algorithm/bcrypt"
	"github.com/go-crypt/crypt/algorithm/pbkdf2"
	"github.com/go-crypt/crypt/algorithm/plaintext"
	"github.com/go-crypt/crypt/algorithm/scrypt"
	"github.com/go-crypt/crypt/algorithm/shacrypt"
)

// Algorithm is a way to make a digest of a client key. Authelia reads all of them.
type Algorithm string

// The algorithms. The first is the one that Authelia recommends for client secrets: those are verified at every
// request of the client, and a long random key gains nothing from a memory-hard digest.
const (
	PBKDF2   Algorithm = "pbkdf2"
	Argon2id Algorithm = "argon2id"
	Bcrypt   Algorithm = "bcrypt"
	Scrypt   Algorithm = "scrypt"
)

// Algorithms returns every algorithm, the default first.
func Algorithms() []Algorithm { return []Algorithm{PBKDF2, Argon2id, Bcrypt, Scrypt} }

// Digest returns the digest of a key with a fresh salt, in the form in which Authelia takes it and with the cost
// that `authelia crypto hash generate` has by default. An unknown algorithm, an empty key, and a key that
// bcrypt would cut (over 72 bytes) are errors of type *check.Error.
func Digest(key check.Secret, with Algorithm) (string, error) {
	switch with {
	case PBKDF2:
		return digest(key, with, 310_000)
	case Argon2id:
		return digest(key, with, 64*1024)
	case Bcrypt:
		return digest(key, with, 12)
	case Scrypt:
		return digest(key, with, 16)
	}
	return "", check.Errorf(check.Usage, "unknown digest algorithm").Try(check.Advise("choose one of %s", joined(Algorithms())))
}

// digest takes the cost that matters most to each algorithm: iterations of PBKDF2, KiB of memory of Argon2id, and
// the logarithm of the iterations of bcrypt and scrypt.
func digest(key check.Secret, with Algorithm, cost int) (string, error) {
	switch {
	case key.Reveal() == "":
		return "", noKey()
	case with == Bcrypt && len(key.Reveal()) > 72:
		return "", check.Errorf(check.Config, "the client key is longer than the 72 bytes that bcrypt reads").
			Try(check.Advise("choose another digest algorithm"))
	}
	var hash algorithm.Hash
	var err error
	switch with {
	case PBKDF2:
		hash, err = pbkdf2.New(pbkdf2.WithVariant(pbkdf2.VariantSHA512), pbkdf2.WithIterations(cost), pbkdf2.WithSaltLength(16))
	case Argon2id: // RFC 9106 section 4, second recommended option
		hash, err = argon2.New(argon2.WithVariantID(), argon2.WithM(uint32(cost)), argon2.WithT(3), argon2.WithP(4), argon2.WithK(32), argon2.WithS(16))
	case Bcrypt:
		hash, err = bcrypt.New(bcrypt.WithCost(cost))
	case Scrypt:
		hash, err = scrypt.New(scrypt.WithLN(cost), scrypt.WithR(8), scrypt.WithP(1), scrypt.WithK(32), scrypt.WithS(16))
	}
	if err != nil {
		return "", check.Errorf(check.Internal, "preparing the digest of the client key").Because(err)
	}
	made, err := hash.Hash(key.Reveal())
	if err != nil {
		return "", check.Errorf(check.Internal, "making the digest of the client key").Because(err)
	}
	return made.Encode(), nil
}

func noKey() error {
	return check.Errorf(check.Config, "there is no client key to make a digest of").
		Try(check.Advise("set realm.client_key_file, or make a key with `proxmox-realm authelia --new-key FILE`"))
}

var (
	// ErrNotDigest is the answer to a client secret that Authelia cannot read.
	ErrNotDigest = errors.New("not a digest that authelia knows")
	// ErrCostly is the answer to a digest whose verification would take minutes or gigabytes.
	ErrCostly = errors.New("a digest too costly to verify")
)

const plaintextPrefix = "$plaintext$"

// Verify tells whether a client secret of Authelia's configuration is of the key: a digest, `$plaintext$` and the
// key, or, as Authelia still takes it, the key alone. It may take a second. Errors are [ErrNotDigest] and [ErrCostly].
func Verify(clientSecret string, key check.Secret) (bool, error) {
	decoded, err := decode(clientSecret)
	if err != nil {
		return false, err
	}
	ok, err := decoded.MatchAdvanced(key.Reveal())
	if err != nil {
		return false, ErrNotDigest
	}
	return ok, nil
}

// decode reads a client secret with the decoders that Authelia has. The library's errors quote the digest, so they
// end here.
func decode(clientSecret string) (algorithm.Digest, error) {
	if isPlaintext(clientSecret) {
		return plaintext.Decode(plaintextPrefix + strings.TrimPrefix(clientSecret, plaintextPrefix))
	}
	if costly(clientSecret) {
		return nil, ErrCostly
	}
	decoded, err := decoders().Decode(clientSecret)
	if err != nil {
		return nil, ErrNotDigest
	}
	return decoded, nil
}

// register holds a decoder for each name that a digest may begin with. The library's own (package crypt) comes with patterns
// that it compiles whenever a program starts.
type register map[string]algorithm.DecodeFunc

// decoders are those of crypt.NewDefaultDecoder, as Authelia has them.
var decoders = sync.OnceValue(func() register {
	r := register{}
	for _, add := range []func(algorithm.DecoderRegister) error{
		argon2.RegisterDecoder, bcrypt.RegisterDecoder, pbkdf2.RegisterDecoder, scrypt.RegisterDecoder, shacrypt.RegisterDecoder,
	} {
		_ = add(r) // returns what the methods below do: nil
	}
	return r
})

// Decode implements [algorithm.DecoderRegister].
func (r register) Decode(digest string) (algorithm.Digest, error) {
	_, rest, _ := strings.Cut(digest, "$")
	name, _, _ := strings.Cut(rest, "$")
	if decode, known := r[name]; known {
		return decode(digest)
	}
	return nil, ErrNotDigest
}

// RegisterDecodeFunc implements [algorithm.DecoderRegister].
func (r register) RegisterDecodeFunc(name string, decode algorithm.DecodeFunc) error {
	r[name] = decode
	return nil
}

// RegisterDecodePrefix implements [algorithm.DecoderRegister]; none of these decoders goes by another prefix.
func (r register) RegisterDecodePrefix(string, string) error { return nil }

func isPlaintext(clientSecret string) bool {
	return strings.HasPrefix(clientSecret, plaintextPrefix) || !strings.HasPrefix(clientSecret, "$")
}

// Limits beyond which a digest is not verified: the file may be anyone's, and a digest names its own cost. Each is
// above what Authelia's own tools make by default, and takes seconds at most.
const (
	maxIterations = 2_000_000 // PBKDF2 and SHA-crypt
	maxMemory     = 256 << 10 // KiB, Argon2
	maxPasses     = 8         // Argon2
	maxCost       = 15        // bcrypt, a logarithm
	maxLog        = 17        // scrypt, N as a logarithm
	maxLanes      = 16        // r of scrypt, p of Argon2
	maxParallel   = 4         // p of scrypt
	maxDigest     = 1024      // characters
)

// costly reads the cost from a digest in modular crypt format. A cost that is no number counts as too high.
func costly(digest string) bool {
	fields := strings.Split(digest, "$")
	if len(digest) > maxDigest || len(fields) < 3 {
		return len(digest) > maxDigest
	}
	name, cost := fields[1], fields[2]
	switch {
	case strings.HasPrefix(name, "pbkdf2"):
		return over(cost, maxIterations)
	case strings.HasPrefix(name, "argon2"):
		if strings.HasPrefix(cost, "v=") && len(fields) > 3 {
			cost = fields[3]
		}
		return parameter(cost, "m", maxMemory) || parameter(cost, "t", maxPasses) || parameter(cost, "p", maxLanes) || parameter(cost, "k", maxDigest)
	case name == "scrypt":
		return parameter(cost, "ln", maxLog) || parameter(cost, "r", maxLanes) || parameter(cost, "p", maxParallel)
	case name == "y": // yescrypt packs its cost, and Authelia's own tools never make it
		return true
	case strings.HasPrefix(name, "2"):
		return over(cost, maxCost)
	case strings.HasPrefix(name, "bcrypt"): // $bcrypt-sha256$v=2,t=2b,r=12$
		return parameter(cost, "r", maxCost)
	case name == "5" || name == "6":
		return strings.HasPrefix(cost, "rounds=") && parameter(cost, "rounds", maxIterations)
	}
	return false
}

// parameter tells whether a value of a list such as "m=65536,t=3,p=4" is over the limit or no number.
func parameter(list, name string, limit int) bool {
	for field := range strings.SplitSeq(list, ",") {
		if value, ok := strings.CutPrefix(field, name+"="); ok && over(value, limit) {
			return true
		}
	}
	return false
}

func over(number string, limit int) bool {
	n, err := strconv.Atoi(number)
	return err != nil || n > limit
}

func joined[T ~string](words []T) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(w))
	}
	return b.String()
}
