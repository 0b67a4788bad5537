package issuer

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
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
	private bool // the set publishes a private key
}

// key is one key of the set.
type key struct {
	kty, crv, alg, use string
	bits               int    // of an RSA modulus
	malformed          string // why the key cannot be used; "" if it can
}

// parseKeys reads the answer to the request for keys. The check is zero if the set can be read, and else the outcome of
// issuer.keys.
func parseKeys(a answer) (keySet, check.Check) {
	if c := a.unusable("key set", "application/json", "application/jwk-set+json"); c.Status != "" {
		return keySet{}, c.Took(a.took)
	}
	var set keySet
	if err := decode(a.body, &set); err != nil {
		mend := check.Advise("let the issuer serve a JSON Web Key Set at %s", a.clean.Clean(a.url))
		return keySet{}, fail(check.Remedy{mend}, "Proxmox cannot read the key set").
			Because("%s", a.clean.Clean(err.Error())).Took(a.took)
	}
	return set, check.Check{}
}

// UnmarshalJSON reads a key set.
func (s *keySet) UnmarshalJSON(body []byte) error {
	fields, err := object(body)
	if err != nil {
		return err
	}
	var raws []json.RawMessage
	if err := json.Unmarshal(fields["keys"], &raws); err != nil || raws == nil {
		return errors.New("there is no array of keys")
	}
	for _, raw := range raws {
		k, private := parseKey(raw)
		s.keys = append(s.keys, k)
		s.private = s.private || private
	}
	return nil
}

// parseKey reads the members of a key that verifying needs. Other members, such as x5c, may be malformed.
func parseKey(raw json.RawMessage) (k key, private bool) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil || fields == nil {
		return key{malformed: "not an object"}, false
	}
	text := func(name string) (s string) {
		_ = json.Unmarshal(fields[name], &s) // a member of another type counts as absent
		return s
	}
	k = key{kty: text("kty"), crv: text("crv"), alg: text("alg"), use: text("use")}
	if k.kty == "oct" {
		k.malformed = "a symmetric key"
		return k, false
	}
	private = text("d") != ""

	material := map[string]string{"kty": k.kty, "crv": k.crv, "n": text("n"), "e": text("e"), "x": text("x"), "y": text("y")}
	public, _ := json.Marshal(material) // never fails for strings
	var parsed jose.JSONWebKey
	if err := parsed.UnmarshalJSON(public); err != nil {
		k.malformed = "malformed"
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

// String returns "RS256", "RSA 2048", "EC P-521", "OKP Ed25519 (use enc)".
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

// generation is what a Proxmox generation can verify. Proxmox VE 7 and 8 use openidconnect-rs 2 over ring, Proxmox VE 9
// openidconnect-rs 4 over the RustCrypto crates.
type generation struct {
	algs             []string
	minBits, maxBits int // of an RSA key
}

var (
	rsaAlgs = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}

	upTo8 = generation{algs: rsaAlgs, minBits: 2048, maxBits: 8192}
	from9 = generation{algs: append([]string{"ES256", "ES384", "EdDSA"}, rsaAlgs...), maxBits: 4096}
)

func generationOf(v realm.Version) generation {
	if v.Major >= 9 {
		return from9
	}
	return upTo8
}

// algorithms returns those with which the key can sign (openidconnect-rs, check_key_compatibility): a `use` must be sig,
// and an `alg` excludes all others.
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

// verifies returns the keys whose signatures the generation can verify. Proxmox refuses an ID token if the issuer does not
// advertise its algorithm (openidconnect-rs, set_allowed_algs).
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

// verifiable returns the keys that Proxmox up to version 8, and from version 9 on, can use.
func (i *Inspection) verifiable() (older, newer []key) {
	advertised := i.document.SigningAlgs
	return upTo8.verifies(i.keySet.keys, advertised), from9.verifies(i.keySet.keys, advertised)
}

// signsWithClientKey tells whether the issuer signs ID tokens with the client key only, so that no key set is needed.
func (i *Inspection) signsWithClientKey() bool {
	algs := i.document.SigningAlgs
	return len(algs) > 0 && !slices.ContainsFunc(algs, func(a string) bool { return !strings.HasPrefix(a, "HS") })
}

// checkKeys is issuer.keys.
func checkKeys(i *Inspection, v View) check.Check {
	if !secureEndpoint(i.document.JWKSURI) {
		return skip("needs %s", check.IssuerEndpoints)
	}
	if i.keysErr.Status != "" {
		return i.keysErr
	}
	return i.judgeKeys(v.Version).Took(i.keys.took)
}

func (i *Inspection) judgeKeys(version realm.Version) check.Check {
	var names []string
	for _, k := range i.keySet.keys {
		names = append(names, k.String())
	}
	seen := i.client.cleaner.Clean(fmt.Sprintf("keys: %s; advertised for ID tokens: %s", listed(names), listed(i.document.SigningAlgs)))
	rsaKey := check.Advise("let the issuer sign ID tokens with RS256 and an RSA key of 2048 to 4096 bits").
		With("Authelia: identity_providers.oidc.jwks, and the client's id_token_signed_response_alg")

	older, newer := i.verifiable()
	usable := newer
	if !version.IsZero() {
		usable = generationOf(version).verifies(i.keySet.keys, i.document.SigningAlgs)
	}
	switch {
	case i.signsWithClientKey():
		return pass("the issuer signs ID tokens with the client key").Because("%s", seen)
	case len(names) == 0:
		return fail(check.Remedy{rsaKey}, "the key set is empty: Proxmox cannot verify ID tokens").Because("%s", seen)
	case len(older) == 0 && len(newer) == 0:
		return fail(check.Remedy{rsaKey}, "Proxmox cannot verify ID tokens with any key of the key set").Because("%s", seen)
	case version.IsZero() && len(older) == 0:
		return skip("the keys suit only Proxmox VE 9 and later, and the version is unknown").Because("%s", seen)
	case version.IsZero() && len(newer) == 0:
		return skip("the keys suit only Proxmox VE 8 and earlier, and the version is unknown").Because("%s", seen)
	case len(usable) == 0 && version.Major < 9:
		return fail(check.Remedy{rsaKey, check.Advise("upgrade to Proxmox VE 9")},
			"Proxmox VE %s cannot verify ID tokens with any key of the key set", version).Because("%s", seen)
	case len(usable) == 0:
		return fail(check.Remedy{rsaKey}, "Proxmox VE %s cannot verify ID tokens with any key of the key set", version).
			Because("%s", seen)
	case i.keySet.private:
		return warn(check.Remedy{check.Advise("replace the key, and publish only its public half")},
			"the key set publishes a private key: anyone can sign as the issuer").Because("%s", seen)
	}
	return pass("Proxmox can verify ID tokens with %s", counted(len(usable), "key")).Because("%s", seen)
}
