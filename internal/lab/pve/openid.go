package pve

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// The rules of proxmox-openid for logins that are under way.
const (
	pendingLifetime = 10 * time.Minute
	maxPending      = 100
	maxRedirects    = 10
	maxAnswer       = 10 << 20 // bytes of one answer of an issuer
)

// provider is what discovery told of an issuer.
type provider struct {
	Issuer        string `json:"issuer"`
	Authorization string `json:"authorization_endpoint"`
	Token         string `json:"token_endpoint"`
	UserInfo      string `json:"userinfo_endpoint"`
	KeysURL       string `json:"jwks_uri"`
	Algorithms    []any  `json:"id_token_signing_alg_values_supported"` // the library skips what is no algorithm

	keys     []jose.JSONWebKey
	client   map[string]string // properties of the realm
	redirect string
}

// openIDRealm is the realm of that name, which must be of type openid.
func (a *api) openIDRealm(name string) (map[string]string, error) {
	sec := a.srv.file.get(name)
	if sec == nil {
		return nil, dief("authentication domain '%s' does not exist", name)
	}
	if sec.kind != "openid" {
		return nil, dief("wrong realm type (%s != openid)", sec.kind)
	}
	return sec.props, nil
}

// discover fetches the discovery document and the keys of a realm's issuer, as
// openidconnect's CoreProviderMetadata::discover does.
func (a *api) discover(ctx context.Context, realm, redirect string) (*provider, error) {
	props, err := a.openIDRealm(realm)
	if err != nil {
		return nil, err
	}
	issuer := props["issuer-url"]
	if err := parseURL(issuer); err != nil {
		return nil, err
	}
	p := &provider{client: props, redirect: redirect}
	body, err := a.srv.fetch(ctx, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration", "application/json")
	if err != nil {
		return nil, err
	}
	if err := p.parse(body); err != nil {
		a.srv.log.Info("discovery document", "issuer", issuer, "msg", err.Error())
		return nil, dief("Failed to parse server response")
	}
	if p.Issuer != issuer {
		return nil, dief("Validation error: unexpected issuer URI `%s` (expected `%s`)", p.Issuer, issuer)
	}
	body, err = a.srv.fetch(ctx, p.KeysURL, "application/json", "application/jwk-set+json")
	if err != nil {
		return nil, err
	}
	var set struct {
		Keys *[]json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil || set.Keys == nil {
		return nil, dief("Failed to parse server response")
	}
	for _, raw := range *set.Keys { // those of unknown kinds are skipped
		var k jose.JSONWebKey
		if k.UnmarshalJSON(raw) == nil {
			p.keys = append(p.keys, k)
		}
	}
	return p, parseURL(redirect)
}

// parse reads a discovery document and insists on the members that the library insists on.
func (p *provider) parse(body []byte) error {
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
		if err := parseURL(u); err != nil {
			return err
		}
	}
	for _, u := range []string{p.Token, p.UserInfo} {
		if u == "" {
			continue
		}
		if err := parseURL(u); err != nil {
			return err
		}
	}
	return nil
}

// parseURL is what Rust's url crate says of an absolute URL.
func parseURL(s string) error {
	u, err := url.Parse(strings.TrimSpace(s))
	switch {
	case err != nil && strings.Contains(err.Error(), "invalid port"):
		return dief("invalid port number")
	case err != nil && strings.Contains(err.Error(), "missing protocol scheme"), err == nil && u.Scheme == "":
		return dief("relative URL without a base")
	case err != nil:
		return dief("invalid international domain name")
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host == "" && strings.Trim(u.Path+u.Opaque, "/") == "":
		return dief("empty host")
	}
	return nil
}

// fetch gets a document of an issuer.
func (s *Server) fetch(ctx context.Context, addr string, types ...string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, addr, nil)
	if err != nil {
		return nil, dief("Request failed")
	}
	req.Header.Set("Accept", types[0])
	return s.ask(req, "Request failed", types...)
}

// ask sends a request to an issuer. Whatever goes wrong on the way, and every
// status from 400 up, is the same to the library.
func (s *Server) ask(req *http.Request, failed string, types ...string) ([]byte, error) {
	res, err := s.issuers.Do(req)
	if err != nil {
		s.log.Info("issuer", "url", req.URL.Redacted(), "msg", err.Error())
		return nil, dief("%s", failed)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil || res.StatusCode >= 400 {
		return nil, dief("%s", failed)
	}
	if res.StatusCode != http.StatusOK {
		return nil, dief("Server returned invalid response: HTTP status code %d %s", res.StatusCode, http.StatusText(res.StatusCode))
	}
	got := res.Header.Get("Content-Type")
	if got != "" && !slices.ContainsFunc(types, func(t string) bool { return strings.HasPrefix(strings.ToLower(got), t) }) {
		return nil, dief("Server returned invalid response: Unexpected response Content-Type: %q, should be `%s`", got, types[len(types)-1])
	}
	return body, nil
}

func randomText(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

func (a *api) authURL(c *call) (any, error) {
	realm := c.text("realm")
	p, err := a.discover(a.srv.ctx, realm, c.text("redirect-url"))
	if err != nil {
		return nil, err
	}
	pending := Pending{Realm: realm, CSRF: randomText(16), Nonce: randomText(16), Verifier: randomText(32), Time: time.Now().Unix()}
	err = a.srv.changePending(func(list []Pending) ([]Pending, error) {
		list = unexpired(list)
		if pendingOf(list, realm) > maxPending {
			return nil, dief("too many pending openid auth request for realm %s", realm)
		}
		return append(list, pending), nil
	})
	if err != nil {
		return nil, err
	}
	return p.authorizationURL(pending), nil
}

// unexpired is the list without the logins that took too long.
func unexpired(list []Pending) []Pending {
	old := time.Now().Add(-pendingLifetime).Unix()
	return slices.DeleteFunc(list, func(p Pending) bool { return p.Time < old })
}

func pendingOf(list []Pending, realm string) (n int) {
	for _, p := range list {
		if p.Realm == realm {
			n++
		}
	}
	return n
}

// publicState is what goes through the browser.
type publicState struct {
	CSRF  string `json:"csrf_token"`
	Realm string `json:"realm"`
}

func (p *provider) authorizationURL(pending Pending) string {
	state, _ := json.Marshal(publicState{pending.CSRF, pending.Realm}) // two strings
	challenge := sha256.Sum256([]byte(pending.Verifier))
	scopes, ok := p.client["scopes"]
	if !ok {
		scopes = "email profile"
	}
	query := [][2]string{
		{"response_type", "code"},
		{"client_id", p.client["client-id"]},
		{"state", string(state)},
		{"code_challenge", base64.RawURLEncoding.EncodeToString(challenge[:])},
		{"code_challenge_method", "S256"},
		{"redirect_uri", p.redirect},
		{"scope", strings.Join(append([]string{"openid"}, splitList(scopes)...), " ")},
		{"nonce", pending.Nonce},
		{"display", "page"},
	}
	if acr := splitList(p.client["acr-values"]); len(acr) > 0 {
		query = append(query, [2]string{"acr_values", strings.Join(acr, " ")})
	}
	if prompt := p.client["prompt"]; prompt != "" {
		query = append(query, [2]string{"prompt", prompt})
	}
	sep := "?"
	if strings.Contains(p.Authorization, "?") {
		sep = "&"
	}
	return p.Authorization + sep + formEncode(query)
}

func (a *api) login(c *call) (any, error) {
	res, err := a.openIDLogin(c)
	if err != nil {
		a.srv.log.Error("openid authentication failure", "rhost", c.client, "msg", err.Error())
		return nil, errLogin
	}
	return res, nil
}

var errNoState = errors.New("no openid auth state found (possible timeout)")

func (a *api) openIDLogin(c *call) (any, error) {
	var state publicState
	if err := json.Unmarshal([]byte(c.text("state")), &state); err != nil {
		return nil, err
	}
	var pending Pending
	err := a.srv.changePending(func(list []Pending) ([]Pending, error) {
		list = unexpired(list)
		i := slices.IndexFunc(list, func(p Pending) bool { return p.Realm == state.Realm && p.CSRF == state.CSRF })
		if i < 0 {
			return nil, errNoState
		}
		pending = list[i]
		return slices.Delete(list, i, i+1), nil
	})
	if err != nil {
		return nil, err
	}
	p, err := a.discover(a.srv.ctx, state.Realm, c.text("redirect-url"))
	if err != nil {
		return nil, err
	}
	claims, err := a.exchange(a.srv.ctx, p, c.text("code"), pending)
	if err != nil {
		return nil, err
	}
	user, err := a.acceptUser(state.Realm, p.client, claims)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"username":            user,
		"ticket":              a.srv.newTicket(user, ""),
		"CSRFPreventionToken": a.srv.newCSRF(user),
		"cap":                 a.capabilities(a.srv.view(), user),
	}, nil
}

// exchange redeems a code and returns the claims of ID token and, unless the
// realm says otherwise, of userinfo; the ID token's win.
func (a *api) exchange(ctx context.Context, p *provider, code string, pending Pending) (map[string]any, error) {
	form := [][2]string{{"grant_type", "authorization_code"}, {"code", code}, {"code_verifier", pending.Verifier}, {"redirect_uri", p.redirect}}
	key, confidential := p.client["client-key"]
	if !confidential {
		form = append(form, [2]string{"client_id", p.client["client-id"]})
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.Token, strings.NewReader(formEncode(form)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if confidential {
		req.SetBasicAuth(formEscape(p.client["client-id"]), formEscape(key))
	}
	body, err := a.srv.ask(req, "Failed to contact token endpoint: Request failed", "application/json")
	if err != nil {
		return nil, err
	}
	var tokens struct {
		Access string `json:"access_token"`
		Type   string `json:"token_type"`
		ID     string `json:"id_token"`
	}
	if err := json.Unmarshal(body, &tokens); err != nil || tokens.Access == "" || tokens.Type == "" {
		return nil, dief("Failed to contact token endpoint: Failed to parse server response")
	}
	if tokens.ID == "" {
		return nil, dief("Server did not return an ID token")
	}
	claims, err := a.verify(p, tokens.ID, pending.Nonce)
	if err != nil {
		return nil, dief("Failed to verify ID token: %s", err)
	}
	if p.client["query-userinfo"] == "0" {
		return claims, nil
	}
	if p.UserInfo == "" {
		return nil, dief("No user info endpoint specified")
	}
	if req, err = http.NewRequestWithContext(ctx, http.MethodGet, p.UserInfo, nil); err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Authorization", "Bearer "+tokens.Access)
	if body, err = a.srv.ask(req, "Failed to contact userinfo endpoint: Request failed", "application/json"); err != nil {
		return nil, err
	}
	more, err := decodeClaims(body)
	if err != nil {
		return nil, dief("Failed to contact userinfo endpoint: Failed to parse server response")
	}
	for k, v := range more {
		if claims[k] == nil {
			claims[k] = v
		}
	}
	return claims, nil
}

func decodeClaims(body []byte) (map[string]any, error) {
	dec := json.NewDecoder(strings.NewReader(string(body)))
	dec.UseNumber()
	var claims map[string]any
	if err := dec.Decode(&claims); err != nil {
		return nil, err
	}
	if _, ok := claims["sub"].(string); !ok {
		return nil, errors.New("missing field `sub`")
	}
	return claims, nil
}

// algorithms are those that a node of this version verifies.
func (a *api) algorithms() []jose.SignatureAlgorithm {
	algs := []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.HS256, jose.HS384, jose.HS512}
	if a.version.has(sinceEllipticCurves) {
		algs = append(algs, jose.ES256, jose.ES384, jose.EdDSA)
	}
	return algs
}

// verify checks an ID token as openidconnect's IdTokenVerifier does: of its
// times only exp, and that without leeway.
func (a *api) verify(p *provider, token, nonce string) (map[string]any, error) {
	algs := slices.DeleteFunc(a.algorithms(), func(alg jose.SignatureAlgorithm) bool { return !slices.Contains(p.Algorithms, any(string(alg))) })
	sig, err := jose.ParseSignedCompact(token, algs)
	if err != nil {
		return nil, err
	}
	claims, err := decodeClaims(sig.UnsafePayloadWithoutVerification())
	if err != nil {
		return nil, err
	}
	if claims["iss"] != p.Issuer {
		return nil, died("Invalid issuer")
	}
	audience, ok := claims["aud"].([]any)
	if s, isString := claims["aud"].(string); isString {
		audience, ok = []any{s}, true
	}
	if !ok || !slices.Contains(audience, any(p.client["client-id"])) {
		return nil, died("Invalid audiences")
	}
	others := append(splitList(p.client["audiences"]), p.client["client-id"])
	for _, aud := range audience {
		if s, ok := aud.(string); !ok || !slices.Contains(others, s) {
			return nil, died("Invalid audiences")
		}
	}
	payload, err := p.signed(sig)
	if err != nil {
		return nil, err
	}
	if claims, err = decodeClaims(payload); err != nil {
		return nil, err
	}
	exp, ok := claims["exp"].(json.Number)
	if !ok {
		return nil, errors.New("missing field `exp`")
	}
	if sec, err := exp.Float64(); err != nil || float64(time.Now().Unix()) >= sec {
		return nil, died("Expired")
	}
	if claims["nonce"] != nonce {
		return nil, died("Invalid nonce")
	}
	return claims, nil
}

// signed verifies a signature with the client key or with the issuer's key that it names.
func (p *provider) signed(sig *jose.JSONWebSignature) ([]byte, error) {
	head := sig.Signatures[0].Header
	if strings.HasPrefix(head.Algorithm, "HS") {
		key, ok := p.client["client-key"]
		if !ok {
			return nil, died("Disallowed signature algorithm")
		}
		return sig.Verify([]byte(key))
	}
	var usable []jose.JSONWebKey
	for _, k := range p.keys {
		if (k.Use == "" || k.Use == "sig") && (head.KeyID == "" || head.KeyID == k.KeyID) && k.IsPublic() {
			if _, err := sig.Verify(k.Key); err == nil || head.KeyID != "" {
				usable = append(usable, k)
			}
		}
	}
	if len(usable) == 0 {
		return nil, died("No matching key found")
	}
	return sig.Verify(usable[0].Key)
}

// acceptUser finds or makes the user and puts it into groups.
func (a *api) acceptUser(realm string, props map[string]string, claims map[string]any) (string, error) {
	claimName := props["username-claim"]
	if claimName == "" {
		claimName = "sub"
	}
	name := claims[claimName]
	switch {
	case name != nil:
	case claimName == "subject":
		name = claims["sub"]
	case claimName == "username":
		if name = claims["preferred_username"]; name == nil {
			return "", dief("missing claim 'preferred_username'")
		}
	default:
		return "", dief("missing configured claim '%s' in returned info object", claimName)
	}
	user := claimText(name) + "@" + realm
	if err := verifyUser(user); err != nil {
		return "", err
	}
	st := a.srv.view()
	if truthy(props["autocreate"]) && st.Users[user] == nil {
		err := a.srv.withUsers("autocreate openid user failed", func(st *State) error {
			if st.Users[user] != nil {
				return dief("user '%s' already exists", user)
			}
			st.Users[user] = &User{
				Enable: true, Email: claimText(claims["email"]),
				FirstName: claimText(claims["given_name"]), LastName: claimText(claims["family_name"]),
			}
			return nil
		})
		if err != nil {
			return "", err
		}
	} else if err := userEnabled(st, user); err != nil {
		return "", err
	}
	groupsClaim := props["groups-claim"]
	list, ok := claims[groupsClaim].([]any)
	if groupsClaim == "" || !ok {
		return user, nil
	}
	return user, a.srv.withUsers("openid group mapping failed", func(st *State) error {
		var groups []string
		for _, g := range list {
			if s := claimText(g); groupPattern.MatchString(s) {
				groups = append(groups, s+"-"+realm)
			}
		}
		if truthy(props["groups-overwrite"]) {
			leaveGroups(st, user)
		}
		for _, g := range groups {
			if _, ok := st.Groups[g]; !ok {
				if !truthy(props["groups-autocreate"]) {
					continue
				}
				st.Groups[g] = Group{Users: map[string]bool{}}
			}
			joinGroup(st, user, g)
		}
		return nil
	})
}

func claimText(v any) string {
	if n, ok := v.(json.Number); ok {
		return n.String()
	}
	return text(v)
}
