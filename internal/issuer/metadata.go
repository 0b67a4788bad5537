package issuer

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// metadata is the part of a discovery document on which a login through Proxmox depends (OpenID Connect Discovery 1.0
// section 3, RFC 8414). A list that is not advertised is nil.
type metadata struct {
	Issuer                address `json:"issuer"`
	AuthorizationEndpoint address `json:"authorization_endpoint"`
	TokenEndpoint         address `json:"token_endpoint"`
	UserinfoEndpoint      address `json:"userinfo_endpoint"`
	JWKSURI               address `json:"jwks_uri"`

	Scopes        []string `json:"scopes_supported"`
	Claims        []string `json:"claims_supported"`
	ResponseTypes []string `json:"response_types_supported"`
	ResponseModes []string `json:"response_modes_supported"`
	GrantTypes    []string `json:"grant_types_supported"`
	SubjectTypes  []string `json:"subject_types_supported"`
	AuthMethods   []string `json:"token_endpoint_auth_methods_supported"`
	SigningAlgs   texts    `json:"id_token_signing_alg_values_supported"`

	// Proxmox's library does not read these, so their types decide nothing.
	ChallengeMethods      texts `json:"code_challenge_methods_supported"`
	Prompts               texts `json:"prompt_values_supported"`
	Device                any   `json:"device_authorization_endpoint"`
	IntrospectionEndpoint any   `json:"introspection_endpoint"`
	RequirePushedRequests any   `json:"require_pushed_authorization_requests"`
	RequireSignedRequests any   `json:"require_signed_request_object"`

	// Proxmox's library refuses the whole document if one of these is not an absolute URL.
	Registration  address `json:"registration_endpoint"`
	Documentation address `json:"service_documentation"`
	Policy        address `json:"op_policy_uri"`
	Terms         address `json:"op_tos_uri"`

	digest string // of the document, whatever the order of its members and of the texts in its lists
}

// texts are the strings in an array. Proxmox's library skips other elements too.
type texts []string

// UnmarshalJSON never fails: a value of another type counts as not advertised.
func (t *texts) UnmarshalJSON(raw []byte) error {
	var list []any
	if json.Unmarshal(raw, &list) != nil || list == nil {
		return nil //nolint:nilerr // see above
	}
	*t = texts{}
	for _, element := range list {
		if text, ok := element.(string); ok {
			*t = append(*t, text)
		}
	}
	return nil
}

// address is an absolute URL in a discovery document, or "".
type address string

// UnmarshalText refuses what is not an absolute URL.
func (a *address) UnmarshalText(text []byte) error {
	u, err := url.Parse(string(text))
	if err != nil || !u.IsAbs() {
		return fmt.Errorf("%q is not an absolute URL", text)
	}
	*a = address(text)
	return nil
}

// secure tells whether it is an https URL without credentials and fragment (RFC 6749 section 3.1).
func (a address) secure() bool {
	return a.usable() && strings.HasPrefix(strings.ToLower(string(a)), "https:")
}

// usable tells whether it is an http or https URL without credentials and fragment.
func (a address) usable() bool {
	return requestable(string(a)) && !strings.Contains(string(a), "#")
}

// device returns the device authorization endpoint, or "".
func (d metadata) device() address {
	text, _ := d.Device.(string)
	return address(text)
}

// introspection returns the introspection endpoint, or "".
func (d metadata) introspection() address {
	text, _ := d.IntrospectionEndpoint.(string)
	return address(text)
}

// userClaims are claims about the user (OpenID Connect Core 1.0 section 5.1). A list without any of them holds those of the
// protocol only, and says nothing about the others.
var userClaims = []string{"name", "given_name", "family_name", "nickname", "preferred_username", "profile", "picture", "email", "upn"}

// tellsClaims tells whether the issuer advertises claims about users.
func (d metadata) tellsClaims() bool {
	return slices.ContainsFunc(d.Claims, func(claim string) bool { return slices.Contains(userClaims, claim) })
}

// lacksClaim tells whether claims about users are advertised, and not this one. Every issuer has sub.
func (d metadata) lacksClaim(claim string) bool {
	return d.tellsClaims() && claim != "sub" && !slices.Contains(d.Claims, claim)
}

// complete fails if a member is missing that Proxmox's library requires (openidconnect-rs, src/discovery,
// ProviderMetadata).
func (d metadata) complete() error {
	var missing []string
	for _, m := range []struct {
		name   string
		absent bool
	}{
		{"issuer", d.Issuer == ""},
		{"authorization_endpoint", d.AuthorizationEndpoint == ""},
		{"jwks_uri", d.JWKSURI == ""},
		{"response_types_supported", d.ResponseTypes == nil},
		{"subject_types_supported", d.SubjectTypes == nil},
		{"id_token_signing_alg_values_supported", d.SigningAlgs == nil},
	} {
		if m.absent {
			missing = append(missing, m.name+" is missing")
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s", strings.Join(missing, "; "))
	}
	return nil
}

// parseDiscovery reads the answer to the discovery request. The check is zero if the document is usable, and
// issuer.discovery otherwise. A refusal of go-oidc alone proves nothing: it decodes members that Proxmox ignores.
func parseDiscovery(issuerURL string, a answer) (metadata, check.Check) {
	if c := a.unusable("discovery document", "application/json"); c.Status != "" {
		return metadata{}, c
	}
	var doc metadata
	err := json.Unmarshal(a.body, &doc)
	if err == nil {
		err = doc.complete()
	}
	if err != nil {
		hint := check.Hintf("correct %s in the issuer, or in the proxy in front of it", a.clean.Clean(realm.DiscoveryURL(issuerURL)))
		return metadata{}, fail(hint, "Proxmox cannot read the discovery document").Because("%s", a.clean.Clean(check.JSONFault(err)))
	}
	doc.digest = digestOf(a.body)
	return doc, check.Check{}
}

// digestOf returns a digest of a JSON document that does not depend on the order of members and of texts in lists. Some issuers
// write them in another order each time.
func digestOf(body []byte) string {
	var value any
	_ = json.Unmarshal(body, &value) // it was read before
	canonical, _ := json.Marshal(sorted(value))
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:16])
}

func sorted(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for name := range v {
			v[name] = sorted(v[name])
		}
	case []any:
		slices.SortStableFunc(v, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	}
	return value
}
