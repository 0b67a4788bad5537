package issuer

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"net/http"
	"sync"

	"github.com/go-jose/go-jose/v4"
)

// Key is a signing key of the issuer, with its private half.
type Key = jose.JSONWebKey

// NewKey makes a key for an algorithm: RS*, PS* (2048 bits), ES256, ES384, ES512, EdDSA.
func NewKey(id, algorithm string) (key Key, err error) {
	key = Key{KeyID: id, Algorithm: algorithm, Use: "sig"}
	switch jose.SignatureAlgorithm(algorithm) {
	case jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512:
		key.Key, err = rsa.GenerateKey(rand.Reader, 2048)
	case jose.ES256:
		key.Key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.ES384:
		key.Key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case jose.ES512:
		key.Key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case jose.EdDSA:
		_, key.Key, err = ed25519.GenerateKey(rand.Reader)
	default:
		err = fmt.Errorf("no key for the algorithm %q", algorithm)
	}
	return key, err
}

// DefaultKeys returns the keys that an issuer has where Options.Keys says nothing: one RSA and one EC key, as at most
// installations of Authelia. They are made once in a process: an RSA key takes a tenth of a second.
var DefaultKeys = sync.OnceValues(func() ([]Key, error) {
	rs, err := NewKey("rs", "RS256")
	if err != nil {
		return nil, err
	}
	es, err := NewKey("es", "ES256")
	return []Key{rs, es}, err
})

// jwks answers with the public keys (RFC 7517, section 5).
func (s *Server) jwks(w http.ResponseWriter, _ *http.Request) {
	set := jose.JSONWebKeySet{Keys: []Key{}}
	s.mu.Lock()
	for _, key := range s.keys {
		set.Keys = append(set.Keys, key.Public())
	}
	s.mu.Unlock()
	writeJSON(w, http.StatusOK, set)
}

// signingKey is a key as the provider library signs with it.
type signingKey struct{ key Key }

func (k signingKey) ID() string { return k.key.KeyID }
func (k signingKey) Key() any   { return k.key.Key }
func (k signingKey) SignatureAlgorithm() jose.SignatureAlgorithm {
	return jose.SignatureAlgorithm(k.key.Algorithm)
}
