package openid

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// ErrNoIDToken is the text of the panic that ends a login if the token endpoint answers without an ID token.
const ErrNoIDToken = Error("Server did not return an ID token")

// AuthorizationURL returns the address that a browser opens to log in.
func (p *Provider) AuthorizationURL(realm string, login Login) string {
	state, _ := json.Marshal(publicState{&login.CSRF, &realm}) // two strings
	challenge := sha256.Sum256([]byte(login.Verifier))
	query := [][2]string{
		{"response_type", "code"},
		{"client_id", p.client.ID},
		{"state", string(state)},
		{"code_challenge", base64.RawURLEncoding.EncodeToString(challenge[:])},
		{"code_challenge_method", "S256"},
		{"redirect_uri", p.redirect},
		{"scope", strings.Join(append([]string{"openid"}, p.client.Scopes...), " ")},
		{"nonce", login.Nonce},
		{"display", "page"},
	}
	if len(p.client.ACRValues) > 0 {
		query = append(query, [2]string{"acr_values", strings.Join(p.client.ACRValues, " ")})
	}
	if p.client.Prompt != "" {
		query = append(query, [2]string{"prompt", p.client.Prompt})
	}
	sep := "?"
	if strings.Contains(p.Authorization, "?") {
		sep = "&"
	}
	return p.Authorization + sep + formEncode(query)
}

// Claims redeems a code. It returns the claims of the ID token and those that only userinfo has.
func (p *Provider) Claims(ctx context.Context, code string, login Login) (map[string]any, error) {
	if p.Token == "" {
		return nil, Error("Configuration error for token endpoint: No token endpoint URL specified")
	}
	access, token, err := p.exchange(ctx, code, login)
	if err != nil {
		return nil, errorf("Failed to contact token endpoint: %s", err)
	}
	if token == nil {
		return nil, ErrNoIDToken
	}
	if err := p.verify(token, login.Nonce); err != nil {
		return nil, errorf("Failed to verify ID token: %s", err)
	}
	if p.client.NoUserInfo {
		return token.claims, nil
	}
	if p.UserInfo == "" {
		return nil, Error("No user info endpoint URL specified")
	}
	more, err := p.userInfo(ctx, access)
	if err != nil {
		return nil, errorf("Failed to contact userinfo endpoint: %s", err)
	}
	for k, v := range more {
		if token.claims[k] == nil {
			token.claims[k] = v
		}
	}
	return token.claims, nil
}

// exchange asks the token endpoint. The library parses the ID token together with the answer.
func (p *Provider) exchange(ctx context.Context, code string, login Login) (access string, _ *idToken, err error) {
	form := [][2]string{{"grant_type", "authorization_code"}, {"code", code}, {"code_verifier", login.Verifier}, {"redirect_uri", p.redirect}}
	if p.client.Public {
		form = append(form, [2]string{"client_id", p.client.ID})
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.Token, strings.NewReader(formEncode(form)))
	if err != nil {
		return "", nil, &requestError{err}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if !p.client.Public {
		req.SetBasicAuth(formEscape(p.client.ID), formEscape(p.client.Key))
	}
	a, err := p.library.ask(req)
	switch {
	case err != nil:
		return "", nil, err
	case !a.ok && len(a.body) == 0:
		return "", nil, Error("Other error: server returned empty error response")
	case !a.ok:
		return "", nil, tokenError(a.body)
	case !a.is("application/json"):
		return "", nil, errorf("Other error: unexpected response Content-Type: %q, should be `application/json`", a.contentType)
	case len(a.body) == 0:
		return "", nil, Error("Other error: server returned empty response body")
	}
	var tokens struct {
		Access *string `json:"access_token"`
		Type   *string `json:"token_type"`
		ID     *string `json:"id_token"`
	}
	if err := json.Unmarshal(a.body, &tokens); err != nil || tokens.Access == nil || tokens.Type == nil {
		return "", nil, errParse
	}
	if tokens.ID == nil {
		return *tokens.Access, nil, nil
	}
	token, err := parseIDToken(*tokens.ID)
	return *tokens.Access, token, err
}

// tokenError words an OAuth error (RFC 6749, section 5.2) that came with a status from 201 to 399.
func tokenError(body []byte) error {
	var e struct {
		Code        string `json:"error"`
		Description string `json:"error_description"`
	}
	if json.Unmarshal(body, &e) != nil || e.Code == "" {
		return errParse
	}
	text := "Server returned error response: " + e.Code
	if e.Description != "" {
		text += ": " + e.Description
	}
	return Error(text)
}

func (p *Provider) userInfo(ctx context.Context, access string) (map[string]any, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.UserInfo, nil)
	if err != nil {
		return nil, &requestError{err}
	}
	req.Header.Set("Authorization", "Bearer "+access)
	a, err := p.library.ask(req)
	switch {
	case err != nil:
		return nil, err
	case !a.ok:
		return nil, Error("Server returned invalid response: unexpected HTTP status code")
	case !a.is("application/json"):
		return nil, errorf("Server returned invalid response: unexpected response Content-Type: `%q`", a.contentType)
	}
	return decodeClaims(a.body)
}

// idToken is an ID token that can be read. Nothing of it is verified.
type idToken struct {
	compact  string
	alg, typ string
	kid      string
	claims   map[string]any
	expires  time.Time
}

// signatures are the algorithms that the library knows the names of. It refuses to parse a token with another one.
var signatures = append(Algorithms(), jose.ES512, "none")

func parseIDToken(compact string) (*idToken, error) {
	parts := strings.Split(compact, ".")
	if len(parts) != 3 {
		return nil, errParse // an encrypted token has five
	}
	head, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil {
		return nil, errParse
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, errParse
	}
	var h struct{ Alg, Typ, Kid string }
	if err := json.Unmarshal(head, &h); err != nil || !slices.Contains(signatures, jose.SignatureAlgorithm(h.Alg)) {
		return nil, errParse
	}
	claims, err := decodeClaims(payload)
	if err != nil {
		return nil, errParse
	}
	expires, ok := claims["exp"].(json.Number)
	seconds, err := expires.Float64()
	if !ok || err != nil {
		return nil, errParse
	}
	if _, ok := claims["iat"].(json.Number); !ok {
		return nil, errParse
	}
	if _, ok := claims["iss"].(string); !ok || audiences(claims["aud"]) == nil {
		return nil, errParse
	}
	return &idToken{
		compact: compact, alg: h.Alg, typ: h.Typ, kid: h.Kid, claims: claims,
		expires: time.UnixMicro(int64(seconds * 1e6)).UTC(),
	}, nil
}

// The types of claims that OpenID Connect Core, section 5.1, defines. null counts as absent.
var (
	stringClaims = []string{
		"nonce", "name", "given_name", "family_name", "middle_name", "nickname", "preferred_username", "profile", "picture",
		"website", "email", "gender", "birthdate", "zoneinfo", "locale", "phone_number",
	}
	boolClaims = []string{"email_verified", "phone_number_verified"}
)

func decodeClaims(body []byte) (map[string]any, error) {
	dec := json.NewDecoder(strings.NewReader(string(body)))
	dec.UseNumber()
	var claims map[string]any
	if err := dec.Decode(&claims); err != nil {
		return nil, errParse
	}
	if _, ok := claims["sub"].(string); !ok {
		return nil, errParse
	}
	for _, name := range stringClaims {
		if _, ok := claims[name].(string); !ok && claims[name] != nil {
			return nil, errParse
		}
	}
	for _, name := range boolClaims {
		if _, ok := claims[name].(bool); !ok && claims[name] != nil {
			return nil, errParse
		}
	}
	return claims, nil
}

// audiences returns the aud claim as a list, or nil if it is neither text nor a list of texts.
func audiences(aud any) []string {
	if one, ok := aud.(string); ok {
		return []string{one}
	}
	list, ok := aud.([]any)
	if !ok {
		return nil
	}
	texts := []string{}
	for _, a := range list {
		text, ok := a.(string)
		if !ok {
			return nil
		}
		texts = append(texts, text)
	}
	return texts
}

// verify checks an ID token as IdTokenVerifier does, in its order: of the times only exp, and that without leeway.
func (p *Provider) verify(token *idToken, nonce string) error {
	switch {
	case token.typ != "" && !strings.EqualFold(token.typ, "JWT"):
		return errorf("Unsupported: unexpected or unsupported JWT type `%s`", token.typ)
	case token.claims["iss"] != p.Issuer:
		return errorf("Invalid issuer: expected `%s` (found `%s`)", p.Issuer, token.claims["iss"])
	}
	found := audiences(token.claims["aud"])
	if !slices.Contains(found, p.client.ID) {
		return errorf("Invalid audiences: must contain `%s` (found audiences: `%s`)", p.client.ID, strings.Join(found, "`, `"))
	}
	for _, audience := range found {
		if audience != p.client.ID && !slices.Contains(p.client.Audiences, audience) {
			return errorf("Invalid audiences: `%s` is not a trusted audience", audience)
		}
	}
	if !p.signed(token) {
		return Error("Signature verification failed")
	}
	if now := time.Now().UTC(); !now.Before(token.expires) {
		return errorf("Expired: ID token expired at %s (current time is %s)", token.expires.Format(utc), now.Format(utc))
	}
	switch token.claims["nonce"] {
	case nonce:
		return nil
	case nil:
		return Error("Invalid nonce: missing nonce claim")
	}
	return Error("Invalid nonce: nonce mismatch")
}

const utc = "2006-01-02 15:04:05.999999999 UTC"

// signed verifies the signature with the one key of the issuer that fits. Nobody signs with the client's key here.
func (p *Provider) signed(token *idToken) bool {
	alg := jose.SignatureAlgorithm(token.alg)
	if !slices.Contains(p.client.Algorithms, alg) || !slices.Contains(p.Algorithms, any(token.alg)) {
		return false
	}
	signature, err := jose.ParseSignedCompact(token.compact, []jose.SignatureAlgorithm{alg})
	if err != nil {
		return false
	}
	var fitting []jose.JSONWebKey
	for _, k := range p.keys {
		if (k.Use == "" || k.Use == "sig") && (token.kid == "" || token.kid == k.KeyID) && (k.Algorithm == "" || k.Algorithm == token.alg) && fits(k.Key, alg) {
			fitting = append(fitting, k)
		}
	}
	if len(fitting) != 1 {
		return false
	}
	_, err = signature.Verify(fitting[0].Key)
	return err == nil
}

// fits says whether a public key has the type that an algorithm needs.
func fits(key any, alg jose.SignatureAlgorithm) bool {
	switch key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(string(alg), "RS") || strings.HasPrefix(string(alg), "PS")
	case *ecdsa.PublicKey:
		return strings.HasPrefix(string(alg), "ES")
	case ed25519.PublicKey:
		return alg == jose.EdDSA
	}
	return false
}

// formEscape encodes as application/x-www-form-urlencoded does: it keeps letters, digits and * - . _
func formEscape(s string) string {
	return strings.NewReplacer("~", "%7E", "%2A", "*").Replace(url.QueryEscape(s))
}

// formEncode joins pairs of names and values.
func formEncode(pairs [][2]string) string {
	var parts []string
	for _, p := range pairs {
		parts = append(parts, formEscape(p[0])+"="+formEscape(p[1]))
	}
	return strings.Join(parts, "&")
}
