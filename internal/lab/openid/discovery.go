// Package openid is the OpenID library of all Proxmox products, as far as a stand-in needs it: proxmox-openid 1.0 on top
// of the Rust crates openidconnect 4 and oauth2 5. Its errors have the library's texts, which the products show or log.
package openid

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"

	"github.com/go-jose/go-jose/v4"
)

const maxAnswer = 10 << 20 // bytes of one answer of an issuer

// Error is an error of the library, worded by the library.
type Error string

func (e Error) Error() string { return string(e) }

func errorf(format string, args ...any) error { return Error(fmt.Sprintf(format, args...)) }

const errParse = Error("Failed to parse server response")

// requestError is a request that failed. The library hides why; a product can show it nevertheless.
type requestError struct{ cause error }

func (e *requestError) Error() string { return "Request failed" }

// Explain returns an error with the cause that the library hides, as Rust words it where the system has the cause.
func Explain(err error) string {
	failed, ok := errors.AsType[*requestError](err)
	if !ok {
		return err.Error()
	}
	cause := failed.cause.Error()
	if number, ok := errors.AsType[syscall.Errno](failed.cause); ok {
		text := number.Error()
		cause = fmt.Sprintf("io: %s%s (os error %d)", strings.ToUpper(text[:1]), text[1:], int(number))
	}
	return failed.Error() + ": " + cause
}

// ClientOf reads the properties of a realm, which all products name alike.
func ClientOf(properties map[string]string, algorithms []jose.SignatureAlgorithm) Client {
	scopes, ok := properties["scopes"]
	if !ok {
		scopes = "email profile"
	}
	key, confidential := properties["client-key"]
	return Client{
		IssuerURL: properties["issuer-url"], ID: properties["client-id"], Key: key, Public: !confidential,
		Scopes: splitList(scopes), ACRValues: splitList(properties["acr-values"]), Audiences: splitList(properties["audiences"]),
		Prompt: properties["prompt"], NoUserInfo: properties["query-userinfo"] == "0", Algorithms: algorithms,
	}
}

func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(",; \t\n\f\r", r) })
}

// Client is what a realm says of its issuer and its client there.
type Client struct {
	IssuerURL string
	ID        string
	Key       string
	Public    bool // without a key
	Scopes    []string
	ACRValues []string
	Audiences []string // accepted in ID tokens beside ID
	Prompt    string
	// NoUserInfo leaves the userinfo endpoint alone.
	NoUserInfo bool
	// Algorithms lists the signatures that the library of this version can verify.
	Algorithms []jose.SignatureAlgorithm
}

// Algorithms lists what openidconnect 4 verifies. It announces ES512 too, and cannot verify it.
func Algorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.HS256, jose.HS384, jose.HS512,
		jose.ES256, jose.ES384, jose.EdDSA,
	}
}

// Library asks issuers. It has no timeout: only ctx ends a request to a silent issuer.
type Library struct {
	http *http.Client
	log  *slog.Logger
}

// New returns a library that connects through the transport of client, whose timeout and redirect policy it ignores. Nil
// means the system's authorities and proxy. log gets the causes that the library's errors hide.
func New(client *http.Client, log *slog.Logger) *Library {
	var transport http.RoundTripper
	if client != nil {
		transport = client.Transport
	}
	return &Library{log: log, http: &http.Client{Transport: transport}}
}

// Provider is an issuer with its metadata and keys, as they are fetched for each login step.
type Provider struct {
	Issuer        string `json:"issuer"`
	Authorization string `json:"authorization_endpoint"`
	Token         string `json:"token_endpoint"`
	UserInfo      string `json:"userinfo_endpoint"`
	KeysURL       string `json:"jwks_uri"`
	Algorithms    []any  `json:"id_token_signing_alg_values_supported"` // the library skips unknown ones

	library  *Library
	keys     []jose.JSONWebKey
	client   Client
	redirect string
}

// Discover fetches the discovery document and the keys of a client's issuer (CoreProviderMetadata::discover).
func (l *Library) Discover(ctx context.Context, client Client, redirect string) (*Provider, error) {
	if err := ParseURL(client.IssuerURL); err != nil {
		return nil, err
	}
	p := &Provider{library: l, client: client, redirect: redirect}
	body, err := l.document(ctx, strings.TrimSuffix(client.IssuerURL, "/")+"/.well-known/openid-configuration", true, "application/json")
	if err != nil {
		return nil, err
	}
	if err := p.parse(body); err != nil {
		l.log.Info("discovery document", "issuer", client.IssuerURL, "msg", err.Error())
		return nil, errParse
	}
	if p.Issuer != client.IssuerURL {
		return nil, errorf("Validation error: unexpected issuer URI `%s` (expected `%s`)", p.Issuer, client.IssuerURL)
	}
	body, err = l.document(ctx, p.KeysURL, false, "application/json", "application/jwk-set+json")
	if err != nil {
		return nil, err
	}
	var set struct {
		Keys *[]json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil || set.Keys == nil {
		return nil, errParse
	}
	for _, raw := range *set.Keys { // keys of unknown kinds are skipped
		var k jose.JSONWebKey
		if k.UnmarshalJSON(raw) == nil {
			p.keys = append(p.keys, k)
		}
	}
	return p, ParseURL(redirect)
}

// parse reads a discovery document. The library requires some members and the type of all that it knows.
func (p *Provider) parse(body []byte) error {
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(body, &doc); err != nil {
		return err
	}
	for _, k := range []string{"issuer", "authorization_endpoint", "jwks_uri", "response_types_supported", "subject_types_supported", "id_token_signing_alg_values_supported"} {
		if v, ok := doc[k]; !ok || string(v) == "null" {
			return fmt.Errorf("missing field `%s`", k)
		}
	}
	for _, k := range []string{
		"response_types_supported", "subject_types_supported", "scopes_supported", "claims_supported", "token_endpoint_auth_methods_supported", "grant_types_supported",
	} {
		var list []string
		if v, ok := doc[k]; ok && json.Unmarshal(v, &list) != nil {
			return fmt.Errorf("`%s` is no list of strings", k)
		}
	}
	if err := json.Unmarshal(body, p); err != nil {
		return err
	}
	for _, u := range []string{p.Issuer, p.Authorization, p.KeysURL} {
		if err := ParseURL(u); err != nil {
			return err
		}
	}
	for _, u := range []string{p.Token, p.UserInfo} {
		if u == "" {
			continue
		}
		if err := ParseURL(u); err != nil {
			return err
		}
	}
	return nil
}

// ParseURL returns the error of Rust's url crate about an absolute URL.
func ParseURL(s string) error {
	u, err := url.Parse(strings.TrimSpace(s))
	switch {
	case err != nil && strings.Contains(err.Error(), "invalid port"):
		return Error("invalid port number")
	case err != nil && strings.Contains(err.Error(), "missing protocol scheme"), err == nil && u.Scheme == "":
		return Error("relative URL without a base")
	case err != nil:
		return Error("invalid international domain name")
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host == "" && strings.Trim(u.Path+u.Opaque, "/") == "":
		return Error("empty host")
	}
	return nil
}

// answer is what an issuer sent with a status below 400.
type answer struct {
	status      string // 204 No Content
	ok          bool   // 200
	contentType string
	body        []byte
}

// is says whether the answer has one of the content types, or none.
func (a *answer) is(types ...string) bool {
	return a.contentType == "" || slices.ContainsFunc(types, func(t string) bool { return strings.HasPrefix(strings.ToLower(a.contentType), t) })
}

// ask sends a request to an issuer. Proxmox's HTTP client turns every status from 400 up into the same error as a failed
// connection.
func (l *Library) ask(req *http.Request) (*answer, error) {
	req.Header.Set("Accept", "application/json")
	res, err := l.http.Do(req)
	if err != nil {
		l.log.Info("issuer", "url", req.URL.Redacted(), "msg", err.Error())
		return nil, &requestError{err}
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, &requestError{err}
	}
	if res.StatusCode >= 400 {
		return nil, &requestError{fmt.Errorf("http status: %d", res.StatusCode)}
	}
	return &answer{
		status: fmt.Sprintf("%d %s", res.StatusCode, http.StatusText(res.StatusCode)), ok: res.StatusCode == http.StatusOK,
		contentType: res.Header.Get("Content-Type"), body: body,
	}, nil
}

// document fetches a JSON document. An error about its status names its address, if named says so.
func (l *Library) document(ctx context.Context, address string, named bool, types ...string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, &requestError{err}
	}
	a, err := l.ask(req)
	switch {
	case err != nil:
		return nil, err
	case !a.ok && named:
		return nil, errorf("Server returned invalid response: HTTP status code %s at %s", a.status, address)
	case !a.ok:
		return nil, errorf("Server returned invalid response: HTTP status code %s", a.status)
	case !a.is(types...):
		return nil, errorf("Server returned invalid response: Unexpected response Content-Type: %q, should be `%s`", a.contentType, types[0])
	}
	return a.body, nil
}
