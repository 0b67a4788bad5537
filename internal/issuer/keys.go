package issuer

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// keySet is a JSON Web Key Set (RFC 7517), as Proxmox's library reads it: keys that it does not understand are passed over.
type keySet struct {
	keys    []key
	private bool // it publishes a private key
}

// key is one key of the set.
type key struct {
	kty, crv, alg, use string
	bits               int    // of an RSA modulus
	malformed          string // why its material cannot be used; "" where it can
}

// parseKeys reads the answer to the request for keys. The check is zero where the set can be read, and otherwise the
// outcome of issuer.keys.
func parseKeys(a answer) (keySet, check.Check) {
	if c := a.asJSON("key set", "application/json", "application/jwk-set+json"); c.Status != "" {
		return keySet{}, c
	}
	set, err := parseKeySet(a.body)
	if err != nil {
		return keySet{}, fail("look at "+a.url+": it must serve a JSON Web Key Set", "Proxmox cannot read the key set").
			Because("%s", a.clean.Clean(err.Error()))
	}
	return set, check.Check{}
}

func parseKeySet(body []byte) (keySet, error) {
	fields, err := parseObject(body, func(name string) bool { return name == "keys" })
	if err != nil {
		return keySet{}, err
	}
	var raws []json.RawMessage
	if err := json.Unmarshal(fields["keys"], &raws); err != nil || raws == nil {
		return keySet{}, fmt.Errorf("it has no array of keys")
	}
	var set keySet
	for _, raw := range raws {
		k, private := parseKey(raw)
		set.keys = append(set.keys, k)
		set.private = set.private || private
	}
	return set, nil
}

// parseKey reads one key. Only what verifying needs is read: a certificate beside it (x5c), say, may be malformed.
func parseKey(raw json.RawMessage) (k key, private bool) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil || fields == nil {
		return key{malformed: "not an object"}, false
	}
	text := func(name string) (s string) {
		_ = json.Unmarshal(fields[name], &s) // another type is as good as absent
		return s
	}
	k = key{kty: text("kty"), crv: text("crv"), alg: text("alg"), use: text("use")}
	if k.kty == "oct" {
		k.malformed = "a symmetric key"
		return k, false
	}
	private = text("d") != ""

	material, _ := json.Marshal(map[string]string{ // of strings: never fails
		"kty": k.kty, "crv": k.crv, "n": text("n"), "e": text("e"), "x": text("x"), "y": text("y"),
	})
	var parsed jose.JSONWebKey
	if err := parsed.UnmarshalJSON(material); err != nil {
		k.malformed = "its material cannot be read"
		return k, private
	}
	switch public := parsed.Key.(type) {
	case *rsa.PublicKey:
		k.bits = public.N.BitLen()
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		k.malformed = "of an unknown type"
	}
	return k, private
}

// String returns "RS256", "RSA 2048", "EC P-521", "OKP Ed25519 (enc)".
func (k key) String() string {
	name := strings.TrimSpace(k.kty + " " + k.crv)
	if k.alg != "" {
		name = k.alg
	} else if k.bits > 0 {
		name = fmt.Sprintf("RSA %d", k.bits)
	}
	if k.use != "" && k.use != "sig" {
		name += " (use " + k.use + ")"
	}
	if k.malformed != "" {
		name += " (" + k.malformed + ")"
	}
	return strings.TrimSpace(name)
}

// generation is what a Proxmox generation can verify: Proxmox VE 7 and 8 by openidconnect-rs 2 over ring, Proxmox VE 9
// by openidconnect-rs 4 over the RustCrypto crates.
type generation struct {
	since            int // major version
	algs             []string
	minBits, maxBits int // of an RSA key
}

var rsaAlgs = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}

var generations = []generation{
	{since: 7, algs: rsaAlgs, minBits: 2048, maxBits: 8192},
	{since: 9, algs: append([]string{"ES256", "ES384", "EdDSA"}, rsaAlgs...), maxBits: 4096},
}

func generationOf(v realm.Version) generation {
	g := generations[0]
	for _, next := range generations {
		if v.Major >= next.since {
			g = next
		}
	}
	return g
}

// algorithms returns those that the key can sign with, as check_key_compatibility of openidconnect-rs sees it: `use`, where
// it is there, must be sig; `alg`, where it is there, is the only one.
func (k key) algorithms() []string {
	if k.malformed != "" || k.use != "" && k.use != "sig" {
		return nil
	}
	var algs []string
	switch {
	case k.kty == "RSA":
		algs = rsaAlgs
	case k.kty == "EC" && k.crv == "P-256":
		algs = []string{"ES256"}
	case k.kty == "EC" && k.crv == "P-384":
		algs = []string{"ES384"}
	case k.kty == "OKP" && k.crv == "Ed25519":
		algs = []string{"EdDSA"}
	}
	if k.alg != "" {
		algs = slices.DeleteFunc(slices.Clone(algs), func(a string) bool { return a != k.alg })
	}
	return algs
}

// verifies returns the keys that the generation can verify signatures of. An ID token whose algorithm is not advertised
// is refused (openidconnect-rs, set_allowed_algs).
func (g generation) verifies(keys []key, advertised []string) []key {
	var out []key
	for _, k := range keys {
		if k.kty == "RSA" && (k.bits < g.minBits || k.bits > g.maxBits) {
			continue
		}
		if slices.ContainsFunc(k.algorithms(), func(a string) bool {
			return slices.Contains(g.algs, a) && slices.Contains(advertised, a)
		}) {
			out = append(out, k)
		}
	}
	return out
}

// verifiable returns the keys that the generations up to Proxmox VE 8, and those from 9 on, can verify signatures of.
func (i *Inspection) verifiable() (older, newer []key) {
	advertised := i.document.SigningAlgs
	return generations[0].verifies(i.keySet.keys, advertised), generations[1].verifies(i.keySet.keys, advertised)
}

// checkKeys is issuer.keys.
func checkKeys(i *Inspection, v View) check.Check {
	if i.keysErr.Status != "" {
		return i.keysErr.Took(i.keys.took)
	}
	advertised, keys := i.document.SigningAlgs, i.keySet.keys
	seen := fmt.Sprintf("%s; advertised for ID tokens: %s", listed(names(keys)), listed(advertised))
	seen = i.client.cleaner.Clean(seen)
	const mend = "let the issuer sign ID tokens with an RSA key of 2048 to 4096 bits and RS256 (Authelia: identity_providers.oidc.jwks, id_token_signed_response_alg of the client)"

	if slices.ContainsFunc(advertised, symmetric) && !slices.ContainsFunc(advertised, func(a string) bool { return !symmetric(a) }) {
		return pass("ID tokens are signed with the client key").Because("%s", seen).Took(i.keys.took)
	}
	if len(keys) == 0 {
		return fail(mend, "the key set is empty: no ID token can be verified").Because("%s", i.keys.url).Took(i.keys.took)
	}

	older, newer := i.verifiable()
	usable, version := newer, v.Version
	if !version.IsZero() {
		usable = generationOf(version).verifies(keys, advertised)
	}
	switch {
	case len(older) == 0 && len(newer) == 0:
		return fail(mend, "no key of the set can verify an ID token in Proxmox").Because("%s", seen).Took(i.keys.took)
	case (len(older) == 0) != (len(newer) == 0) && version.IsZero():
		good, bad := "9 and later", "8 and earlier"
		if len(newer) == 0 {
			good, bad = bad, good
		}
		return skip("the keys suit Proxmox VE %s, not %s, and its version is not known here", good, bad).Because("%s", seen).Took(i.keys.took)
	case len(usable) == 0 && version.Major < 9:
		return fail(mend+", or upgrade to Proxmox VE 9", "no key of the set can verify an ID token in Proxmox VE %s", version).Because("%s", seen).Took(i.keys.took)
	case len(usable) == 0:
		return fail(mend, "no key of the set can verify an ID token in Proxmox VE %s", version).Because("%s", seen).Took(i.keys.took)
	case i.keySet.private:
		return warn("replace the key, and publish its public half alone", "the key set publishes a private key: anyone can sign as the issuer").
			Because("%s", i.keys.url).Took(i.keys.took)
	}
	return pass("%s for signing that Proxmox can verify", counted(len(usable), "key")).Because("%s", seen).Took(i.keys.took)
}

func symmetric(alg string) bool { return strings.HasPrefix(alg, "HS") }

func names(keys []key) []string {
	out := []string{}
	for _, k := range keys {
		out = append(out, k.String())
	}
	return out
}
