package issuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"

	"github.com/go-jose/go-jose/v4"
)

// Key is a signing key of the issuer, published with use "sig".
type Key struct {
	ID        string
	Algorithm string // RS256, ES256, EdDSA… (RFC 7518, section 3.1)
	Private   crypto.Signer
	// Chain is published as x5c, where there is one; an expired certificate is
	// no reason for a client to refuse the key.
	Chain []*x509.Certificate
}

// NewKey makes a key for an algorithm: RS*, PS* (2048 bits), ES256, ES384, ES512, EdDSA.
func NewKey(id, algorithm string) (Key, error) {
	var private crypto.Signer
	var err error
	switch jose.SignatureAlgorithm(algorithm) {
	case jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512:
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	case jose.ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.ES384:
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case jose.ES512:
		private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case jose.EdDSA:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		err = fmt.Errorf("no key for the algorithm %q", algorithm)
	}
	return Key{ID: id, Algorithm: algorithm, Private: private}, err
}

// defaultKeys are one RSA and one EC key, as at most installations of Authelia.
// They are made once in a process: an RSA key takes a tenth of a second.
var defaultKeys = sync.OnceValues(func() ([]Key, error) {
	rs, err := NewKey("rs", "RS256")
	if err != nil {
		return nil, err
	}
	es, err := NewKey("es", "ES256")
	return []Key{rs, es}, err
})

// DefaultKeys returns the keys that an issuer has where Options.Keys says nothing.
func DefaultKeys() ([]Key, error) { return defaultKeys() }

// MarshalKeys writes keys as a JSON Web Key Set with the private halves.
func MarshalKeys(keys []Key) ([]byte, error) {
	var set jose.JSONWebKeySet
	for _, key := range keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{
			Key: key.Private, KeyID: key.ID, Algorithm: key.Algorithm, Use: "sig", Certificates: key.Chain,
		})
	}
	return json.Marshal(set)
}

// UnmarshalKeys reads what MarshalKeys wrote.
func UnmarshalKeys(data []byte) ([]Key, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, err
	}
	var keys []Key
	for _, stored := range set.Keys {
		private, ok := stored.Key.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("key %q has no private half", stored.KeyID)
		}
		keys = append(keys, Key{ID: stored.KeyID, Algorithm: stored.Algorithm, Private: private, Chain: stored.Certificates})
	}
	return keys, nil
}

// jwks answers with the public keys (RFC 7517, section 5).
func (s *Server) jwks(w http.ResponseWriter, _ *http.Request) {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	s.mu.Lock()
	for _, key := range s.keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{
			Key: key.Private.Public(), KeyID: key.ID, Algorithm: key.Algorithm, Use: "sig", Certificates: key.Chain,
		})
	}
	s.mu.Unlock()
	writeJSON(w, http.StatusOK, set)
}

// signingKey is a key as the provider library signs with it.
type signingKey struct{ key Key }

func (k signingKey) ID() string { return k.key.ID }
func (k signingKey) Key() any   { return k.key.Private }
func (k signingKey) SignatureAlgorithm() jose.SignatureAlgorithm {
	return jose.SignatureAlgorithm(k.key.Algorithm)
}
