package issuer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/coreos/go-oidc/v3/oidc"

	"proxmox-realm/internal/check"
)

// document is what a discovery document says (OpenID Connect Discovery 1.0 section 3, RFC 8414), as far
// as a login through Proxmox depends on it. A list that is not advertised is nil.
type document struct {
	Issuer                string `json:"issuer"`
	AuthorizationEndpoint string `json:"authorization_endpoint"`
	TokenEndpoint         string `json:"token_endpoint"`
	UserinfoEndpoint      string `json:"userinfo_endpoint"`
	IntrospectionEndpoint string `json:"introspection_endpoint"`
	JWKSURI               string `json:"jwks_uri"`

	Scopes           []string `json:"scopes_supported"`
	Claims           []string `json:"claims_supported"`
	ResponseTypes    []string `json:"response_types_supported"`
	ResponseModes    []string `json:"response_modes_supported"`
	GrantTypes       []string `json:"grant_types_supported"`
	AuthMethods      []string `json:"token_endpoint_auth_methods_supported"`
	ChallengeMethods []string `json:"code_challenge_methods_supported"`
	SigningAlgs      []string `json:"id_token_signing_alg_values_supported"`

	RequirePushedRequests bool `json:"require_pushed_authorization_requests"`
	RequireSignedRequests bool `json:"require_signed_request_object"`
}

// kind is the type that a member must have for Proxmox's library to read the document.
type kind int

const (
	kindURL   kind = iota // a string that is an absolute URL
	kindTexts             // an array of strings
	kindArray             // an array; elements that are not understood are passed over
	kindBool
)

// members are those that Proxmox's library reads (openidconnect-rs, src/discovery, ProviderMetadata): one that is missing
// though required, of another type, or there twice makes it refuse the whole document.
var members = map[string]struct {
	kind     kind
	required bool
}{
	"issuer":                                {kindURL, true},
	"authorization_endpoint":                {kindURL, true},
	"jwks_uri":                              {kindURL, true},
	"response_types_supported":              {kindTexts, true},
	"subject_types_supported":               {kindTexts, true},
	"id_token_signing_alg_values_supported": {kindArray, true},

	"token_endpoint":        {kindURL, false},
	"userinfo_endpoint":     {kindURL, false},
	"registration_endpoint": {kindURL, false},
	"service_documentation": {kindURL, false},
	"op_policy_uri":         {kindURL, false},
	"op_tos_uri":            {kindURL, false},

	"scopes_supported":                      {kindTexts, false},
	"response_modes_supported":              {kindTexts, false},
	"grant_types_supported":                 {kindTexts, false},
	"acr_values_supported":                  {kindTexts, false},
	"token_endpoint_auth_methods_supported": {kindTexts, false},
	"display_values_supported":              {kindTexts, false},
	"claim_types_supported":                 {kindTexts, false},
	"claims_supported":                      {kindTexts, false},
	"claims_locales_supported":              {kindTexts, false},
	"ui_locales_supported":                  {kindTexts, false},

	"id_token_encryption_alg_values_supported":         {kindArray, false},
	"id_token_encryption_enc_values_supported":         {kindArray, false},
	"userinfo_signing_alg_values_supported":            {kindArray, false},
	"userinfo_encryption_alg_values_supported":         {kindArray, false},
	"userinfo_encryption_enc_values_supported":         {kindArray, false},
	"request_object_signing_alg_values_supported":      {kindArray, false},
	"request_object_encryption_alg_values_supported":   {kindArray, false},
	"request_object_encryption_enc_values_supported":   {kindArray, false},
	"token_endpoint_auth_signing_alg_values_supported": {kindArray, false},

	"claims_parameter_supported":       {kindBool, false},
	"request_parameter_supported":      {kindBool, false},
	"request_uri_parameter_supported":  {kindBool, false},
	"require_request_uri_registration": {kindBool, false},
}

// maxDepth is the nesting at which serde_json, Proxmox's parser, gives up.
const maxDepth = 127

// parseDiscovery reads the answer to the discovery request. The check is zero where the document holds, and
// otherwise the outcome of issuer.discovery.
func parseDiscovery(issuerURL string, a answer) (document, check.Check) {
	if c := a.asJSON("discovery document", "application/json"); c.Status != "" {
		return document{}, c
	}
	doc, err := parseDocument(a.body)
	if err != nil {
		return document{}, fail("look at "+wellKnown(issuerURL)+" and correct it in the issuer, or in the proxy before it",
			"Proxmox cannot read the discovery document").Because("%s", a.clean.Clean(err.Error()))
	}
	// go-oidc reads it too, from the answer in hand. The issuer's name is a check of its own.
	ctx := oidc.InsecureIssuerURLContext(context.Background(), issuerURL)
	ctx = oidc.ClientContext(ctx, &http.Client{Transport: replay(a)})
	if _, err := oidc.NewProvider(ctx, issuerURL); err != nil {
		return document{}, fail("look at "+wellKnown(issuerURL)+" and correct it in the issuer, or in the proxy before it",
			"the discovery document is not accepted").Because("%s", a.clean.Clean(err.Error()))
	}
	return doc, check.Check{}
}

// parseDocument reads a discovery document as strictly as Proxmox's library does.
func parseDocument(body []byte) (document, error) {
	fields, err := parseObject(body, func(name string) bool { _, read := members[name]; return read })
	if err != nil {
		return document{}, err
	}
	var errs []string
	for name, m := range members {
		raw, there := fields[name]
		if !there || !m.required && string(raw) == "null" {
			if m.required {
				errs = append(errs, name+" is missing")
			}
			continue
		}
		if err := m.kind.accepts(raw); err != nil {
			errs = append(errs, name+" "+err.Error())
		}
	}
	if len(errs) > 0 {
		slices.Sort(errs)
		return document{}, errors.New(strings.Join(errs, "; "))
	}

	// Members that Proxmox's library does not read may be of any type: what does not fit is as if it were not there.
	var doc document
	for name, to := range doc.fields() {
		if raw, there := fields[name]; there && string(raw) != "null" {
			_ = json.Unmarshal(raw, to)
		}
	}
	doc.SigningAlgs = texts(fields["id_token_signing_alg_values_supported"])
	return doc, nil
}

// fields returns where each member goes.
func (d *document) fields() map[string]any {
	return map[string]any{
		"issuer": &d.Issuer, "authorization_endpoint": &d.AuthorizationEndpoint, "token_endpoint": &d.TokenEndpoint,
		"userinfo_endpoint": &d.UserinfoEndpoint, "introspection_endpoint": &d.IntrospectionEndpoint, "jwks_uri": &d.JWKSURI,
		"scopes_supported": &d.Scopes, "claims_supported": &d.Claims, "response_types_supported": &d.ResponseTypes,
		"response_modes_supported": &d.ResponseModes, "grant_types_supported": &d.GrantTypes,
		"token_endpoint_auth_methods_supported": &d.AuthMethods, "code_challenge_methods_supported": &d.ChallengeMethods,
		"require_pushed_authorization_requests": &d.RequirePushedRequests, "require_signed_request_object": &d.RequireSignedRequests,
	}
}

func (k kind) accepts(raw json.RawMessage) error {
	switch k {
	case kindURL:
		var text string
		if json.Unmarshal(raw, &text) != nil {
			return errors.New("is not a string")
		}
		u, err := url.Parse(text)
		if err != nil || u.Scheme == "" || (u.Scheme == "http" || u.Scheme == "https") && u.Host == "" {
			return fmt.Errorf("is not an absolute URL: %q", text)
		}
	case kindTexts:
		var list []*string
		if json.Unmarshal(raw, &list) != nil || string(raw) == "null" {
			return errors.New("is not an array of strings")
		}
		for _, element := range list {
			if element == nil {
				return errors.New("holds null")
			}
		}
	case kindArray:
		var list []json.RawMessage
		if json.Unmarshal(raw, &list) != nil || string(raw) == "null" {
			return errors.New("is not an array")
		}
	case kindBool:
		var b bool
		if json.Unmarshal(raw, &b) != nil {
			return errors.New("is not true or false")
		}
	}
	return nil
}

// texts returns the strings of an array, passing over everything else.
func texts(raw json.RawMessage) []string {
	var list []any
	if json.Unmarshal(raw, &list) != nil || list == nil {
		return nil
	}
	out := []string{}
	for _, element := range list {
		if text, ok := element.(string); ok {
			out = append(out, text)
		}
	}
	return out
}

// parseObject reads a JSON object as serde_json does: valid UTF-8, bounded nesting, and none of the members that are
// read twice.
func parseObject(body []byte, read func(name string) bool) (map[string]json.RawMessage, error) {
	switch {
	case !utf8.Valid(body):
		return nil, errors.New("not valid UTF-8")
	case bytes.HasPrefix(body, []byte("\ufeff")):
		return nil, errors.New("begins with a byte order mark")
	}
	if err := shallow(body); err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if token, err := decoder.Token(); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	} else if token != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	fields := map[string]json.RawMessage{}
	for decoder.More() {
		token, err := decoder.Token()
		name, isName := token.(string)
		if err != nil || !isName {
			return nil, fmt.Errorf("not JSON: %w", err)
		}
		var raw json.RawMessage
		if err := decoder.Decode(&raw); err != nil {
			return nil, fmt.Errorf("not JSON: %w", err)
		}
		if _, twice := fields[name]; twice && read(name) {
			return nil, fmt.Errorf("%s is there twice", name)
		}
		fields[name] = raw
	}
	if _, err := decoder.Token(); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("not JSON: something follows the object")
	}
	return fields, nil
}

// shallow refuses nesting that the parser would not follow, in one pass and without memory.
func shallow(body []byte) error {
	depth, quoted := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return fmt.Errorf("nested more than %d deep", maxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// replay is a transport that gives the answer in hand.
type replay answer

func (r replay) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{
		Status: http.StatusText(r.status), StatusCode: r.status, Header: r.header, Request: req,
		Body: io.NopCloser(bytes.NewReader(r.body)),
	}, nil
}

// secureEndpoint tells whether an endpoint is an absolute https URL, without credentials and fragment (RFC 6749 section 3.1).
func secureEndpoint(endpoint string) bool {
	u, err := url.Parse(endpoint)
	return err == nil && u.Scheme == "https" && u.Hostname() != "" && u.User == nil && u.Fragment == ""
}

// asJSON tells what keeps an answer from being a JSON document of one of the types: the check is zero where nothing does.
func (a answer) asJSON(what string, types ...string) check.Check {
	switch {
	case errors.Is(a.err, errRedirectAway) && a.location.Scheme != "https":
		return fail("let the issuer serve it over https, without a redirect", "the %s redirects away from https", what).
			Because("%s answers %d and points to %s", a.url, a.status, a.clean.Clean(a.location.String()))
	case errors.Is(a.err, errRedirectAway):
		hint := "let the issuer serve it itself"
		if base, ok := strings.CutSuffix(a.location.String(), "/.well-known/openid-configuration"); ok && requestable(base) {
			hint = fmt.Sprintf("set realm.issuer_url to %s if that is the issuer; otherwise let this host serve it itself", a.clean.Clean(base))
		}
		return fail(hint, "the %s redirects to another host", what).
			Because("%s answers %d and points to %s", a.url, a.status, a.clean.Clean(a.location.String()))
	case errors.Is(a.err, errRedirects):
		return fail("mend the redirect loop in the issuer, or in the proxy before it", "the %s is redirected without end", what).
			Because("%s after %d redirects", a.clean.Clean(a.url), a.redirected)
	case errors.Is(a.err, context.DeadlineExceeded):
		return fail("look at the issuer and at the proxy before it: logins would hang as long", "the %s did not come in time", what).
			Because("%s: gave up after %s, %d bytes came", a.url, a.took.Round(100*time.Millisecond), len(a.body))
	case errors.Is(a.err, context.Canceled):
		return skip("interrupted before the %s came", what)
	case errors.Is(a.err, errTooLarge):
		return fail("look at what is served there", "the %s is %s", what, a.err).Because("%s", a.url)
	case a.err != nil && a.stage < stageSent:
		return fail("check the address that the issuer gives, and that this machine reaches and trusts it", "the %s cannot be reached", what).
			Because("%s: %s", a.url, a.clean.Clean(reason(a.err)))
	case a.err != nil:
		return fail("look at the issuer and at the proxy before it", "the %s did not come whole", what).
			Because("%s: %s", a.url, a.clean.Clean(reason(a.err)))
	case a.status == http.StatusTooManyRequests:
		return skip("the issuer limits requests").Because("%s answers 429%s", a.url, a.againIn())
	case a.status != http.StatusOK:
		return fail(statusHint(a.status), "the %s cannot be had: status %d", what, a.status).Because("%s answers %d: %s", a.url, a.status, a.excerpt())
	}
	kind := a.mediaType()
	for _, accepted := range types {
		if strings.HasPrefix(kind, accepted) {
			return check.Check{}
		}
	}
	if kind == "" {
		kind = "without a content type"
	}
	hint := "serve it as application/json"
	if strings.Contains(kind, "html") {
		hint = "a web page answers there: correct the path in realm.issuer_url, or let the proxy pass the path on to the issuer"
	}
	return fail(hint, "the %s is not JSON", what).Because("%s is %s: %s", a.url, a.clean.Clean(kind), a.excerpt())
}

// reason strips what net/http puts before the cause of an error.
func reason(err error) string {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err
	}
	return err.Error()
}

func statusHint(status int) string {
	switch {
	case status == http.StatusNotFound:
		return "correct the path in realm.issuer_url: the document is sought at realm.issuer_url + /.well-known/openid-configuration"
	case status == http.StatusBadRequest:
		return "check the host in realm.issuer_url: an issuer may answer under its configured addresses alone (Authelia does)"
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return "let the proxy before the issuer pass the paths of OpenID Connect without a login"
	case status >= 300 && status < 400:
		return "let the issuer serve it itself, without a redirect"
	case status >= 500:
		return "look at the log of the issuer and of the proxy before it"
	}
	return "check realm.issuer_url, and the log of the issuer"
}

// againIn returns ", again in 30s", or nothing where the issuer did not say.
func (a answer) againIn() string {
	if after := a.retryAfter(); after > 0 {
		return fmt.Sprintf(", again in %s", after)
	}
	return ""
}

var (
	tags  = regexp.MustCompile(`(?s)<(?:script|style)\b.*?</(?:script|style)>|<[^>]*>`)
	space = regexp.MustCompile(`\s+`)
)

// maxExcerpt is the length of an excerpt of a page, in characters.
const maxExcerpt = 200

// excerpt returns the beginning of a body's text, cleaned, without markup.
func (a answer) excerpt() string {
	text := a.clean.Clean(plainText(a.body))
	if runes := []rune(text); len(runes) > maxExcerpt {
		text = string(runes[:maxExcerpt-1]) + "…"
	}
	if text == "" {
		return "(empty)"
	}
	return text
}

// plainText takes markup out of the first 64 KiB of a page.
func plainText(body []byte) string {
	text := tags.ReplaceAllString(string(body[:min(len(body), 64<<10)]), " ")
	return strings.TrimSpace(space.ReplaceAllString(text, " "))
}
