package issuer

import (
	"crypto/rsa"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// key is one key of a JSON Web Key Set (RFC 7517). Only the members that verifying needs are read: others, such as
// x5c, may be malformed.
type key struct {
	Kty string `json:"kty"`
	Crv string `json:"crv,omitempty"`
	N   string `json:"n,omitempty"`
	E   string `json:"e,omitempty"`
	X   string `json:"x,omitempty"`
	Y   string `json:"y,omitempty"`
	Alg string `json:"alg,omitempty"`
	Use string `json:"use,omitempty"`

	bits      int // of an RSA modulus
	malformed bool
}

// parseKeys reads the answer to the request for keys. The check is zero if the set can be read, and issuer.keys
// otherwise.
func parseKeys(a answer) (keys []key, unusable check.Check) {
	unusable = a.unusable("key set", "application/json", "application/jwk-set+json")
	if unusable.Status != "" {
		return nil, unusable
	}
	var set struct{ Keys []key }
	err := json.Unmarshal(a.body, &set)
	if err == nil && set.Keys == nil {
		err = errors.New("there is no array of keys")
	}
	if err != nil {
		return nil, fail(check.Hintf("let the issuer serve a JSON Web Key Set at %s", a.clean.Clean(a.url)), "Proxmox cannot read the key set").
			Because("%s", a.clean.Clean(check.JSONFault(err)))
	}
	return set.Keys, check.Check{}
}

// UnmarshalJSON reads a key. It never fails: Proxmox's library passes over keys that it does not understand.
func (k *key) UnmarshalJSON(raw []byte) error {
	type plain key
	err := json.Unmarshal(raw, (*plain)(k))
	material, _ := json.Marshal(key{Kty: k.Kty, Crv: k.Crv, N: k.N, E: k.E, X: k.X, Y: k.Y}) // strings always marshal
	var parsed jose.JSONWebKey
	k.malformed = err != nil || parsed.UnmarshalJSON(material) != nil || !parsed.IsPublic()
	if public, ok := parsed.Key.(*rsa.PublicKey); ok {
		k.bits = public.N.BitLen()
	}
	return nil
}

// String returns "RSA 2048 RS256 sig", "EC P-521 enc", "malformed".
func (k key) String() string {
	words := []string{k.Kty, k.Crv, "", k.Alg, k.Use, ""}
	if k.bits > 0 {
		words[2] = strconv.Itoa(k.bits)
	}
	if k.malformed {
		words[5] = "malformed"
	}
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " ")
}

// algsOf are the algorithms with which each type of key can sign.
var algsOf = map[string][]string{
	"RSA":      {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"},
	"EC P-256": {"ES256"}, "EC P-384": {"ES384"}, "OKP Ed25519": {"EdDSA"},
}

// algorithms returns those with which the key can sign (openidconnect-rs, check_key_compatibility): a `use` must be
// sig, and an `alg` excludes all others.
func (k key) algorithms() []string {
	if k.malformed || k.Use != "" && k.Use != "sig" {
		return nil
	}
	algs := algsOf[strings.TrimSpace(k.Kty+" "+k.Crv)]
	if k.Alg != "" {
		algs = slices.DeleteFunc(slices.Clone(algs), func(a string) bool { return a != k.Alg })
	}
	return algs
}

// verifiable returns the keys with which a generation of Proxmox's library verifies ID tokens. It refuses a token whose
// algorithm the issuer does not advertise (openidconnect-rs, set_allowed_algs).
func (i *Inspection) verifiable(by realm.OpenIDLibrary) (keys []key) {
	for _, k := range i.keys {
		usable := slices.ContainsFunc(k.algorithms(), func(alg string) bool {
			return slices.Contains(i.metadata.SigningAlgs, alg) && slices.Contains(by.Algorithms, alg)
		})
		if usable && (k.Kty != "RSA" || k.bits >= by.MinRSA && k.bits <= by.MaxRSA) {
			keys = append(keys, k)
		}
	}
	return keys
}

// signsWithClientKey tells whether the issuer signs ID tokens with the client key only, so that no key set is needed.
func (i *Inspection) signsWithClientKey() bool {
	algs := i.metadata.SigningAlgs
	return len(algs) > 0 && !slices.ContainsFunc(algs, func(a string) bool { return !strings.HasPrefix(a, "HS") })
}

// EncryptsTokens tells whether a key of the issuer says that it encrypts the ID tokens of this client.
func (i *Inspection) EncryptsTokens() bool {
	<-i.done
	return i.encrypts()
}

func (i *Inspection) encrypts() bool {
	return i.provider().encrypts && slices.ContainsFunc(i.keys, func(k key) bool { return k.Use == "enc" })
}

// checkKeys is issuer.keys.
func checkKeys(i *Inspection, v View) check.Check {
	switch {
	case !i.metadata.JWKSURI.usable():
		return skip("needs %s", check.IssuerEndpoints)
	case i.keysErr.Status != "":
		return i.keysErr.Took(i.keysAnswer.took)
	}
	var keys []string
	for _, k := range i.keys {
		keys = append(keys, k.String())
	}
	return i.judgeKeys(v).Because("keys: %s; advertised for ID tokens: %s", i.clean(listed(keys)), i.clean(listed(i.metadata.SigningAlgs))).
		Took(i.keysAnswer.took)
}

func (i *Inspection) judgeKeys(v View) check.Check {
	p, product := i.provider(), v.Version.Product
	libraries, newest := v.Version.OpenIDLibraries(), product.NewOpenIDLibrary()
	hint := check.Hints("let the issuer sign ID tokens with RS256 and an RSA key of 2048 to 4096 bits", p.tell(OnSigning))
	all := realm.Version{Product: product}.OpenIDLibraries()
	older, newer := i.verifiable(libraries[0]), i.verifiable(libraries[len(libraries)-1])
	switch {
	case i.signsWithClientKey():
		return pass("the issuer signs ID tokens with the client key")
	case len(i.keys) == 0:
		return fail(hint, "the key set is empty: Proxmox cannot verify ID tokens")
	case len(older) == 0 && len(newer) == 0 && len(i.verifiable(all[len(all)-1])) > 0:
		return fail(check.Hints(hint, "upgrade to "+check.Hint(newest.Named())), "%s cannot verify ID tokens with any key of the key set", v.Version.Named())
	case len(older) == 0 && len(newer) == 0:
		return fail(hint, "Proxmox cannot verify ID tokens with any key of the key set")
	case len(older) == 0:
		return skip("the keys suit only %s and later, and the version is unknown", newest.Named())
	case len(newer) == 0:
		return skip("the keys suit only versions before %s, and the version is unknown", newest.Named())
	case i.encrypts():
		return warn(check.Hints("let the issuer not encrypt ID tokens: Proxmox cannot read them", p.tell(OnEncryption)),
			"%s publishes a key for encryption, and then encrypts the ID tokens of this client", p.name)
	case p.refusesES256 && v.Login.QueryUserinfo && !slices.ContainsFunc(newer, func(k key) bool { return k.Kty == "RSA" }):
		return warn(check.Hints(hint, product.WithoutUserinfo()), "%s signs with ES256, and its userinfo endpoint refuses its own tokens then", p.name)
	}
	return pass("Proxmox can verify ID tokens with %s", check.Count(len(newer), "key", "keys"))
}
