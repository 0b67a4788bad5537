package issuer

import (
	"cmp"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// key is one key of a JSON Web Key Set (RFC 7517).
type key struct {
	kty, crv, alg, use string
	bits               int    // of an RSA modulus
	malformed          string // why the key cannot be used; "" if it can
}

// keySet is a JSON Web Key Set, as Proxmox's library reads it: keys that it does not understand are passed over.
type keySet struct{ keys []key }

// parseKeys reads the answer to the request for keys. The check is zero if the set can be read, and else the outcome
// of issuer.keys.
func parseKeys(a answer) (set keySet, unusable check.Check) {
	unusable = a.unusable("key set", "application/json", "application/jwk-set+json")
	if unusable.Status == "" {
		if err := decode(a.body, &set); err != nil {
			step := check.Advise("let the issuer serve a JSON Web Key Set at %s", a.clean.Clean(a.url))
			unusable = fail(check.Remedy{step}, "Proxmox cannot read the key set").Because("%s", a.clean.Clean(err.Error()))
		}
	}
	return set, unusable
}

// UnmarshalJSON reads a key set.
func (s *keySet) UnmarshalJSON(body []byte) error {
	fields, err := object(body)
	if err != nil {
		return err
	}
	var raws []map[string]any
	_ = json.Unmarshal(fields["keys"], &raws) // elements that are no objects become empty keys
	if raws == nil {
		return errors.New("there is no array of keys")
	}
	for _, raw := range raws {
		s.keys = append(s.keys, parseKey(raw))
	}
	return nil
}

// parseKey reads only the members of a key that verifying needs. Other members, such as x5c, may be malformed.
func parseKey(raw map[string]any) key {
	text := func(name string) string {
		s, _ := raw[name].(string) // a member of another type counts as absent
		return s
	}
	k := key{kty: text("kty"), crv: text("crv"), alg: text("alg"), use: text("use")}
	material := map[string]string{"kty": k.kty, "crv": k.crv, "n": text("n"), "e": text("e"), "x": text("x"), "y": text("y")}
	public, _ := json.Marshal(material) // never fails for strings
	var parsed jose.JSONWebKey
	if err := parsed.UnmarshalJSON(public); err != nil || !parsed.IsPublic() {
		k.malformed = "malformed"
	} else if rsaKey, ok := parsed.Key.(*rsa.PublicKey); ok {
		k.bits = rsaKey.N.BitLen()
	}
	return k
}

// String returns "RS256", "RSA 2048", "EC P-521", "OKP Ed25519 enc".
func (k key) String() string {
	size := ""
	if k.bits > 0 {
		size = strconv.Itoa(k.bits)
	}
	name := cmp.Or(k.alg, strings.TrimSpace(k.kty+" "+cmp.Or(k.crv, size)))
	return strings.TrimSpace(name + " " + strings.TrimPrefix(k.use, "sig") + " " + k.malformed)
}

// generation is what a Proxmox generation can verify. Proxmox VE 7 and 8 use openidconnect-rs 2 over ring, Proxmox VE
// 9 openidconnect-rs 4 over the RustCrypto crates.
type generation struct {
	algs             []string
	minBits, maxBits int // of an RSA key
}

var (
	rsaAlgs = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}

	upTo8 = generation{algs: rsaAlgs, minBits: 2048, maxBits: 8192}
	from9 = generation{algs: append([]string{"ES256", "ES384", "EdDSA"}, rsaAlgs...), maxBits: 4096}
)

// algsOf are the algorithms of each type of key that some generation verifies.
var algsOf = map[string][]string{"RSA": rsaAlgs, "EC P-256": {"ES256"}, "EC P-384": {"ES384"}, "OKP Ed25519": {"EdDSA"}}

// algorithms returns those with which the key can sign (openidconnect-rs, check_key_compatibility): a `use` must be
// sig, and an `alg` excludes all others.
func (k key) algorithms() []string {
	if k.malformed != "" || k.use != "" && k.use != "sig" {
		return nil
	}
	algs := algsOf[strings.TrimSpace(k.kty+" "+k.crv)]
	if k.alg != "" {
		algs = slices.DeleteFunc(slices.Clone(algs), func(a string) bool { return a != k.alg })
	}
	return algs
}

// verifies returns the keys whose signatures the generation can verify. Proxmox refuses an ID token if the issuer
// does not advertise its algorithm (openidconnect-rs, set_allowed_algs).
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
	keys, advertised := i.keySet.keys, i.document.SigningAlgs
	return upTo8.verifies(keys, advertised), from9.verifies(keys, advertised)
}

// signsWithClientKey tells whether the issuer signs ID tokens with the client key only, so that no key set is needed.
func (i *Inspection) signsWithClientKey() bool {
	algs := i.document.SigningAlgs
	return len(algs) > 0 && !slices.ContainsFunc(algs, func(a string) bool { return !strings.HasPrefix(a, "HS") })
}

// checkKeys is issuer.keys.
func checkKeys(i *Inspection, v View) check.Check {
	switch {
	case !secureEndpoint(i.document.JWKSURI):
		return skip("needs %s", check.IssuerEndpoints)
	case i.keysErr.Status != "":
		return i.keysErr.Took(i.keys.took)
	}
	var keys []string
	for _, k := range i.keySet.keys {
		keys = append(keys, k.String())
	}
	seen := fmt.Sprintf("keys: %s; advertised for ID tokens: %s", listed(keys), listed(i.document.SigningAlgs))
	return i.judgeKeys(v.Version).Because("%s", i.client.cleaner.Clean(seen)).Took(i.keys.took)
}

func (i *Inspection) judgeKeys(version realm.Version) check.Check {
	remedy := check.Remedy{check.Advise("let the issuer sign ID tokens with RS256 and an RSA key of 2048 to 4096 bits").
		With("Authelia: identity_providers.oidc.jwks, and the client's id_token_signed_response_alg")}
	older, newer := i.verifiable()
	usable := newer
	if !version.IsZero() && version.Major < 9 {
		usable = older
	}
	switch {
	case i.signsWithClientKey():
		return pass("the issuer signs ID tokens with the client key")
	case len(i.keySet.keys) == 0:
		return fail(remedy, "the key set is empty: Proxmox cannot verify ID tokens")
	case len(older) == 0 && len(newer) == 0:
		return fail(remedy, "Proxmox cannot verify ID tokens with any key of the key set")
	case version.IsZero() && len(older) == 0:
		return skip("the keys suit only Proxmox VE 9 and later, and the version is unknown")
	case version.IsZero() && len(newer) == 0:
		return skip("the keys suit only Proxmox VE 8 and earlier, and the version is unknown")
	case len(usable) == 0:
		if version.Major < 9 {
			remedy = append(remedy, check.Advise("upgrade to Proxmox VE 9"))
		}
		return fail(remedy, "Proxmox VE %s cannot verify ID tokens with any key of the key set", version)
	}
	return pass("Proxmox can verify ID tokens with %s", counted(len(usable), "key"))
}
