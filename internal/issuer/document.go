package issuer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/coreos/go-oidc/v3/oidc"

	"proxmox-realm/internal/check"
)

// document is the part of a discovery document on which a login through Proxmox depends (OpenID Connect Discovery 1.0
// section 3, RFC 8414). A list that is not advertised is nil.
type document struct {
	Issuer                string `json:"issuer"`
	AuthorizationEndpoint string `json:"authorization_endpoint"`
	TokenEndpoint         string `json:"token_endpoint"`
	UserinfoEndpoint      string `json:"userinfo_endpoint"`
	IntrospectionEndpoint string `json:"introspection_endpoint"`
	JWKSURI               string `json:"jwks_uri"`

	Scopes           texts `json:"scopes_supported"`
	Claims           texts `json:"claims_supported"`
	ResponseTypes    texts `json:"response_types_supported"`
	ResponseModes    texts `json:"response_modes_supported"`
	GrantTypes       texts `json:"grant_types_supported"`
	AuthMethods      texts `json:"token_endpoint_auth_methods_supported"`
	ChallengeMethods texts `json:"code_challenge_methods_supported"`
	SigningAlgs      texts `json:"id_token_signing_alg_values_supported"`

	RequirePushedRequests bool `json:"require_pushed_authorization_requests"`
	RequireSignedRequests bool `json:"require_signed_request_object"`
}

// texts are the strings in an array. Other elements are passed over.
type texts []string

// UnmarshalJSON reads the strings in an array.
func (t *texts) UnmarshalJSON(raw []byte) error {
	var list []any
	if json.Unmarshal(raw, &list) != nil || list == nil {
		return nil // as if it were not advertised
	}
	*t = texts{}
	for _, element := range list {
		if text, ok := element.(string); ok {
			*t = append(*t, text)
		}
	}
	return nil
}

// lacksClaim tells whether claims are advertised, and not this one. Every issuer has sub.
func (d document) lacksClaim(claim string) bool {
	return d.Claims != nil && claim != "sub" && !slices.Contains(d.Claims, claim)
}

// members are those that Proxmox's library reads (openidconnect-rs, src/discovery, ProviderMetadata), by the type
// that it requires. It refuses the whole document if a member has another type or is there twice.
var members = membersByKind()

func membersByKind() map[string]kind {
	out := map[string]kind{}
	for k, names := range map[kind]string{
		aURL: `issuer authorization_endpoint jwks_uri token_endpoint userinfo_endpoint registration_endpoint
			service_documentation op_policy_uri op_tos_uri`,
		someTexts: `response_types_supported subject_types_supported scopes_supported response_modes_supported
			grant_types_supported acr_values_supported token_endpoint_auth_methods_supported display_values_supported
			claim_types_supported claims_supported claims_locales_supported ui_locales_supported`,
		anArray: `id_token_signing_alg_values_supported id_token_encryption_alg_values_supported
			id_token_encryption_enc_values_supported userinfo_signing_alg_values_supported
			userinfo_encryption_alg_values_supported userinfo_encryption_enc_values_supported
			request_object_signing_alg_values_supported request_object_encryption_alg_values_supported
			request_object_encryption_enc_values_supported token_endpoint_auth_signing_alg_values_supported`,
		aBool: `claims_parameter_supported request_parameter_supported request_uri_parameter_supported
			require_request_uri_registration`,
	} {
		for name := range strings.FieldsSeq(names) {
			out[name] = k
		}
	}
	return out
}

// required are the members without which the library refuses the document.
var required = []string{
	"issuer", "authorization_endpoint", "jwks_uri", "response_types_supported", "subject_types_supported",
	"id_token_signing_alg_values_supported",
}

// kind is the type of a member.
type kind string

const (
	aURL      kind = "an absolute URL"
	someTexts kind = "an array of strings"
	anArray   kind = "an array" // the library passes over elements that it does not understand
	aBool     kind = "true or false"
)

// accepts tells whether a value has the type.
func (k kind) accepts(raw json.RawMessage) bool {
	switch k {
	case aURL:
		var text string
		if json.Unmarshal(raw, &text) != nil {
			return false
		}
		u, err := url.Parse(text)
		return err == nil && u.Scheme != "" && (u.Host != "" || u.Scheme != "http" && u.Scheme != "https")
	case someTexts:
		var list []*string
		return json.Unmarshal(raw, &list) == nil && list != nil && !slices.Contains(list, nil)
	case anArray:
		var list []any
		return json.Unmarshal(raw, &list) == nil && list != nil
	}
	return string(raw) == "true" || string(raw) == "false"
}

// parseDiscovery reads the answer to the discovery request. The check is zero if the document is usable, and else the
// outcome of issuer.discovery. The provider is nil if go-oidc refused the document. That alone proves nothing,
// because go-oidc is stricter than Proxmox in some members: the document itself decides.
func parseDiscovery(issuerURL string, a answer, provider *oidc.Provider) (document, check.Check) {
	if c := a.unusable("discovery document", "application/json"); c.Status != "" {
		return document{}, c
	}
	var doc document
	var err error
	if provider != nil {
		err = provider.Claims(&doc)
	} else {
		err = decode(a.body, &doc)
	}
	if err != nil {
		step := check.Advise("correct %s in the issuer, or in the proxy in front of it", a.clean.Clean(wellKnown(issuerURL)))
		return document{}, fail(check.Remedy{step}, "Proxmox cannot read the discovery document").
			Because("%s", a.clean.Clean(err.Error()))
	}
	return doc, check.Check{}
}

// wellKnown returns the address of the discovery document (OpenID Connect Discovery 1.0 section 4.1).
func wellKnown(issuerURL string) string {
	return strings.TrimSuffix(issuerURL, "/") + "/.well-known/openid-configuration"
}

// UnmarshalJSON reads a discovery document as strictly as Proxmox's library, and no stricter.
func (d *document) UnmarshalJSON(body []byte) error {
	fields, err := object(body)
	if err != nil {
		return err
	}
	var errs []string
	for _, name := range required {
		if _, there := fields[name]; !there {
			errs = append(errs, name+" is missing")
		}
	}
	for name, raw := range fields {
		k, read := members[name]
		absent := string(raw) == "null" && !slices.Contains(required, name)
		if read && !absent && !k.accepts(raw) {
			errs = append(errs, fmt.Sprintf("%s is not %s: %s", name, k, raw))
		}
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") != "" {
			delete(fields, name) // encoding/json would take Issuer for issuer
		}
	}
	if len(errs) > 0 {
		slices.Sort(errs)
		return errors.New(strings.Join(errs, "; "))
	}
	type plain document
	exact, _ := json.Marshal(fields)       // was JSON before
	_ = json.Unmarshal(exact, (*plain)(d)) // fails only for members that Proxmox does not read
	return nil
}

// decode is json.Unmarshal, with a plainer error.
func decode(body []byte, to any) error {
	err := json.Unmarshal(body, to)
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		return fmt.Errorf("not JSON: %w", err)
	}
	return err
}

// object splits valid JSON into members, as Proxmox's parser does: the text is UTF-8, and no member is there twice.
func object(body []byte) (map[string]json.RawMessage, error) {
	if !utf8.Valid(body) {
		return nil, errors.New("not valid UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	fields := map[string]json.RawMessage{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		name, _ := token.(string) // the name of a member is always a string
		_, read := members[name]
		if _, twice := fields[name]; twice && (read || name == "keys") {
			return nil, fmt.Errorf("%s is there twice", name)
		}
		var raw json.RawMessage
		if err := decoder.Decode(&raw); err != nil {
			return nil, err
		}
		fields[name] = raw
	}
	return fields, nil
}

// secureEndpoint tells whether an endpoint is an absolute https URL without credentials and fragment (RFC 6749
// section 3.1).
func secureEndpoint(endpoint string) bool {
	u, err := url.Parse(endpoint)
	return err == nil && u.Scheme == "https" && u.Hostname() != "" && u.User == nil && u.Fragment == ""
}
