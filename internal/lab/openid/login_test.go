package openid_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"proxmox-realm/internal/lab/openid"
)

var signingKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// issuer is a provider whose answers a test changes.
type issuer struct {
	*httptest.Server
	t        *testing.T
	metadata map[string]any // overrides; nil removes
	claims   map[string]any // overrides of the ID token; nil removes
	userInfo map[string]any
	head     map[jose.HeaderKey]any
	token    map[string]any          // overrides of the token endpoint's answer
	pages    map[string]http.Handler // instead of the usual ones
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{t: t, metadata: map[string]any{}, claims: map[string]any{}, token: map[string]any{}, pages: map[string]http.Handler{}}
	i.userInfo = map[string]any{"sub": "1", "preferred_username": "john"}
	i.head = map[jose.HeaderKey]any{"kid": "k"}
	i.Server = httptest.NewServer(i)
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if page := i.pages[r.URL.Path]; page != nil {
		page.ServeHTTP(w, r)
		return
	}
	key, err := signingKey()
	if err != nil {
		i.t.Error(err)
	}
	var document any
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		document = override(map[string]any{
			"issuer": i.URL, "authorization_endpoint": i.URL + "/authorize", "token_endpoint": i.URL + "/token", "userinfo_endpoint": i.URL + "/userinfo",
			"jwks_uri": i.URL + "/keys", "response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
			"id_token_signing_alg_values_supported": []string{"RS256"},
		}, i.metadata)
	case "/keys":
		document = jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k", Use: "sig"}}}
	case "/token":
		document = override(map[string]any{"access_token": "access", "token_type": "bearer", "id_token": i.idToken(key)}, i.token)
	case "/userinfo":
		document = i.userInfo
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(document); err != nil {
		i.t.Error(err)
	}
}

func override(values, with map[string]any) map[string]any {
	maps.Copy(values, with)
	maps.DeleteFunc(values, func(_ string, v any) bool { return v == nil })
	return values
}

func (i *issuer) idToken(key *rsa.PrivateKey) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, &jose.SignerOptions{ExtraHeaders: i.head})
	if err != nil {
		i.t.Error(err)
		return ""
	}
	now := time.Now().Unix()
	payload, err := json.Marshal(override(map[string]any{"iss": i.URL, "sub": "1", "aud": "proxmox", "exp": now + 60, "iat": now, "nonce": "the nonce"}, i.claims))
	if err != nil {
		i.t.Error(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		i.t.Error(err)
		return ""
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		i.t.Error(err)
	}
	return text
}

// login goes through both steps and returns the claims.
func (i *issuer) login(client openid.Client) (map[string]any, error) {
	client.IssuerURL, client.ID, client.Algorithms = i.URL, "proxmox", openid.Algorithms()
	p, err := openid.New(nil, slog.New(slog.DiscardHandler)).Discover(i.t.Context(), client, "https://pbs.example.com:8007")
	if err != nil {
		return nil, err
	}
	return p.Claims(i.t.Context(), "code", openid.Login{Nonce: "the nonce", Verifier: "verifier"})
}

func page(status int, contentType, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	})
}

// TestErrors holds the texts that proxmox-openid gives to causes; URL stands for the issuer, TIME for a time.
func TestErrors(t *testing.T) {
	const kid = jose.HeaderKey("kid")
	for name, x := range map[string]struct {
		do   func(i *issuer)
		want string
	}{
		"keys gone":         {func(i *issuer) { i.pages["/keys"] = http.NotFoundHandler() }, "Request failed"},
		"keys are a page":   {func(i *issuer) { i.pages["/keys"] = page(200, "text/html", "") }, "Server returned invalid response: Unexpected response Content-Type: \"text/html\", should be `application/json`"},
		"keys 204":          {func(i *issuer) { i.pages["/keys"] = page(204, "", "") }, "Server returned invalid response: HTTP status code 204 No Content"},
		"no token endpoint": {func(i *issuer) { i.metadata["token_endpoint"] = nil }, "Configuration error for token endpoint: No token endpoint URL specified"},
		"refused":           {func(i *issuer) { i.pages["/token"] = page(401, "application/json", `{"error":"invalid_client"}`) }, "Failed to contact token endpoint: Request failed"},
		"error as 200":      {func(i *issuer) { i.pages["/token"] = page(200, "application/json", `{"error":"invalid_client"}`) }, "Failed to contact token endpoint: Failed to parse server response"},
		"error as 202": {func(i *issuer) {
			i.pages["/token"] = page(202, "application/json", `{"error":"slow","error_description":"wait"}`)
		}, "Failed to contact token endpoint: Server returned error response: slow: wait"},
		"token page":         {func(i *issuer) { i.pages["/token"] = page(200, "text/html", "hello") }, "Failed to contact token endpoint: Other error: unexpected response Content-Type: \"text/html\", should be `application/json`"},
		"no ID token":        {func(i *issuer) { i.token["id_token"] = nil }, "Server did not return an ID token"},
		"encrypted":          {func(i *issuer) { i.token["id_token"] = "a.b.c.d.e" }, "Failed to contact token endpoint: Failed to parse server response"},
		"no sub":             {func(i *issuer) { i.claims["sub"] = nil }, "Failed to contact token endpoint: Failed to parse server response"},
		"email is a number":  {func(i *issuer) { i.claims["email"] = 1 }, "Failed to contact token endpoint: Failed to parse server response"},
		"verified is a text": {func(i *issuer) { i.claims["email_verified"] = "true" }, "Failed to contact token endpoint: Failed to parse server response"},
		"typ":                {func(i *issuer) { i.head["typ"] = "at+jwt" }, "Failed to verify ID token: Unsupported: unexpected or unsupported JWT type `at+jwt`"},
		"issuer":             {func(i *issuer) { i.claims["iss"] = "https://other" }, "Failed to verify ID token: Invalid issuer: expected `URL` (found `https://other`)"},
		"audience":           {func(i *issuer) { i.claims["aud"] = []string{"a", "b"} }, "Failed to verify ID token: Invalid audiences: must contain `proxmox` (found audiences: `a`, `b`)"},
		"more audience":      {func(i *issuer) { i.claims["aud"] = []string{"proxmox", "project"} }, "Failed to verify ID token: Invalid audiences: `project` is not a trusted audience"},
		"unknown key":        {func(i *issuer) { i.head[kid] = "other" }, "Failed to verify ID token: Signature verification failed"},
		"algorithm":          {func(i *issuer) { i.metadata["id_token_signing_alg_values_supported"] = []string{"ES256"} }, "Failed to verify ID token: Signature verification failed"},
		"expired":            {func(i *issuer) { i.claims["exp"] = time.Now().Unix() }, "Failed to verify ID token: Expired: ID token expired at TIME (current time is TIME)"},
		"nonce":              {func(i *issuer) { i.claims["nonce"] = "another" }, "Failed to verify ID token: Invalid nonce: nonce mismatch"},
		"no nonce":           {func(i *issuer) { i.claims["nonce"] = nil }, "Failed to verify ID token: Invalid nonce: missing nonce claim"},
		"no userinfo":        {func(i *issuer) { i.metadata["userinfo_endpoint"] = nil }, "No user info endpoint URL specified"},
		"userinfo refused":   {func(i *issuer) { i.pages["/userinfo"] = page(403, "", "") }, "Failed to contact userinfo endpoint: Request failed"},
		"userinfo broken":    {func(i *issuer) { i.pages["/userinfo"] = page(200, "application/json", "{") }, "Failed to contact userinfo endpoint: Failed to parse server response"},
		"userinfo page":      {func(i *issuer) { i.pages["/userinfo"] = page(200, "text/html", "") }, "Failed to contact userinfo endpoint: Server returned invalid response: unexpected response Content-Type: `\"text/html\"`"},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			x.do(i)
			_, err := i.login(openid.Client{Key: "key"})
			if err == nil {
				t.Fatal("the login works")
			}
			got := strings.ReplaceAll(err.Error(), i.URL, "URL")
			if got = times.ReplaceAllString(got, "TIME"); got != x.want {
				t.Errorf("%s, want %s", got, x.want)
			}
		})
	}
}

var times = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? UTC`)

func TestClaims(t *testing.T) {
	i := newIssuer(t)
	i.claims["aud"], i.claims["groups"] = []string{"proxmox", "project"}, []string{"admins"}
	i.userInfo["sub"], i.userInfo["groups"] = "somebody else", nil
	claims, err := i.login(openid.Client{Key: "key", Audiences: []string{"project"}})
	if err != nil {
		t.Fatal(err)
	}
	if claims["sub"] != "1" || claims["preferred_username"] != "john" || claims["groups"] == nil {
		t.Errorf("%v: the ID token's claims win, userinfo adds to them", claims)
	}
	i.metadata["userinfo_endpoint"] = nil
	if claims, err := i.login(openid.Client{Key: "key", Audiences: []string{"project"}, NoUserInfo: true}); err != nil || claims["preferred_username"] != nil {
		t.Error(claims, err)
	}
}

func TestPending(t *testing.T) {
	pending := openid.Pending{}
	take := func(state string) string {
		_, _, err := pending.Take("/run", state)
		if err == nil {
			return ""
		}
		return err.Error()
	}
	state := func(csrf string) string { return `{"csrf_token":"` + csrf + `","realm":"sso"}` }
	if got := take(state("x")); got != `unable to read json "/run/proxmox-openid-auth-state-sso" - No such file or directory (os error 2)` {
		t.Error(got)
	}
	login, err := pending.Begin("sso")
	if err != nil {
		t.Fatal(err)
	}
	if got := take(state(login.CSRF)); got != "" {
		t.Error(got)
	}
	const gone = "no openid auth state found (possible timeout)"
	if got := take(state(login.CSRF)); got != gone {
		t.Errorf("%q: a state is good once", got)
	}
	pending["sso"] = []openid.Login{{CSRF: "old", Time: time.Now().Add(-11 * time.Minute).Unix()}}
	if got := take(state("old")); got != gone {
		t.Errorf("%q: a state is good for ten minutes", got)
	}
	for range 101 {
		if _, err := pending.Begin("sso"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := pending.Begin("sso"); err == nil || err.Error() != "too many pending openid auth request for realm sso" {
		t.Error(err)
	}
	if got := take("nonsense"); got != "expected value at line 1 column 1" {
		t.Error(got)
	}
}

func TestAuthorizationURL(t *testing.T) {
	i := newIssuer(t)
	i.metadata["authorization_endpoint"] = i.URL + "/authorize?tenant=1"
	client := openid.Client{IssuerURL: i.URL, ID: "proxmox", Scopes: []string{"openid", "email"}, ACRValues: []string{"urn:gold", "silver"}, Prompt: "login"}
	p, err := openid.New(nil, slog.New(slog.DiscardHandler)).Discover(t.Context(), client, "https://pbs.example.com:8007")
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(p.AuthorizationURL("sso", openid.Login{CSRF: "c", Nonce: "n", Verifier: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"}))
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{
		"tenant": {"1"}, "response_type": {"code"}, "client_id": {"proxmox"}, "state": {`{"csrf_token":"c","realm":"sso"}`},
		"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"}, "redirect_uri": {"https://pbs.example.com:8007"},
		"scope": {"openid openid email"}, "nonce": {"n"}, "display": {"page"}, "acr_values": {"urn:gold silver"}, "prompt": {"login"},
	}
	if u.Query().Encode() != want.Encode() {
		t.Errorf("%s\nwant %s", u.Query().Encode(), want.Encode())
	}
}
