package pve_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"proxmox-realm/internal/lab/openid"
	"proxmox-realm/internal/lab/pve"
)

// issuer is a small OpenID provider that gives out one code after the other and can be made to lie.
type issuer struct {
	*httptest.Server
	t   *testing.T
	key any
	alg jose.SignatureAlgorithm

	mu       sync.Mutex
	doc      map[string]any              // overrides of the discovery document
	claims   map[string]any              // overrides of the ID token
	userinfo map[string]any              // what userinfo says, besides sub
	pages    map[string]http.HandlerFunc // instead of the true ones
	asked    url.Values                  // the last authorization request
	auth     string                      // the last Authorization of the token endpoint
}

var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := rsaKey()
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{
		t: t, key: key, alg: jose.RS256, doc: map[string]any{}, claims: map[string]any{},
		userinfo: map[string]any{"preferred_username": "john", "email": "john@example.com"}, pages: map[string]http.HandlerFunc{},
	}
	i.Server = httptest.NewTLSServer(http.HandlerFunc(i.serve))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) serve(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if page := i.pages[r.URL.Path]; page != nil {
		i.mu.Unlock()
		defer i.mu.Lock()
		page(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	send := func(v any) { _ = json.NewEncoder(w).Encode(v) }
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		doc := map[string]any{
			"issuer": i.URL, "authorization_endpoint": i.URL + "/authorize", "token_endpoint": i.URL + "/token",
			"userinfo_endpoint": i.URL + "/userinfo", "jwks_uri": i.URL + "/keys", "response_types_supported": []string{"code"},
			"subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256", "ES256", "HS256"},
		}
		maps.Copy(doc, i.doc)
		maps.DeleteFunc(doc, func(_ string, v any) bool { return v == nil })
		send(doc)
	case "/keys":
		send(map[string]any{"keys": []any{map[string]any{"kty": "strange"}, jose.JSONWebKey{Key: publicOf(i.key), KeyID: "k1", Use: "sig", Algorithm: string(i.alg)}}})
	case "/token":
		i.auth = r.Header.Get("Authorization")
		sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
		if r.FormValue("grant_type") != "authorization_code" || r.FormValue("code") != "the code" || r.FormValue("redirect_uri") != i.asked.Get("redirect_uri") ||
			base64.RawURLEncoding.EncodeToString(sum[:]) != i.asked.Get("code_challenge") {
			w.WriteHeader(http.StatusBadRequest)
			send(map[string]any{"error": "invalid_grant"})
			return
		}
		send(map[string]any{"access_token": "access", "token_type": "bearer", "id_token": i.idToken()})
	case "/userinfo":
		if r.Header.Get("Authorization") != "Bearer access" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		info := map[string]any{"sub": "uuid-1"}
		maps.Copy(info, i.userinfo)
		send(info)
	default:
		http.NotFound(w, r)
	}
}

func publicOf(key any) any {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return &k.PublicKey
	case *ecdsa.PrivateKey:
		return &k.PublicKey
	}
	return key
}

func (i *issuer) idToken() string {
	claims := map[string]any{
		"iss": i.URL, "sub": "uuid-1", "aud": "proxmox", "exp": time.Now().Add(time.Hour).Unix(),
		"iat": time.Now().Unix(), "nonce": i.asked.Get("nonce"),
	}
	maps.Copy(claims, i.claims)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: i.alg, Key: i.key}, (&jose.SignerOptions{}).WithHeader("kid", "k1"))
	if err != nil {
		i.t.Error(err)
		return ""
	}
	b, _ := json.Marshal(claims)
	sig, err := signer.Sign(b)
	if err != nil {
		i.t.Error(err)
		return ""
	}
	s, _ := sig.CompactSerialize()
	return s
}

const origin = "https://pve.example.com:8006"

// loginNode is a node with a realm at an issuer.
func loginNode(t *testing.T, o pve.Options, properties map[string]any) (*node, *issuer) {
	t.Helper()
	i := newIssuer(t)
	o.IssuerClient = i.Client()
	n := newNode(t, o)
	body := map[string]any{
		"realm": "authelia", "type": "openid", "issuer-url": i.URL, "client-id": "proxmox", "client-key": "in sécure/+",
		"username-claim": "preferred_username", "autocreate": 1,
	}
	maps.Copy(body, properties)
	maps.DeleteFunc(body, func(_ string, v any) bool { return v == nil })
	b, _ := json.Marshal(body)
	n.must("POST", "/access/domains", string(b))
	return n.as(""), i
}

func (n *node) authURL() answer {
	n.t.Helper()
	return n.send("POST", "/access/openid/auth-url", `{"realm":"authelia","redirect-url":"`+origin+`"}`)
}

// begin asks for the authorization URL and lets the issuer know what was asked.
func (n *node) begin(i *issuer) (state string) {
	n.t.Helper()
	a := n.authURL()
	var v struct{ Data string }
	if err := json.Unmarshal([]byte(a.body), &v); err != nil || a.status != "200 OK" {
		n.t.Fatal(a, err)
	}
	u, err := url.Parse(v.Data)
	if err != nil {
		n.t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked = u.Query()
	return i.asked.Get("state")
}

func (n *node) finish(state, code string) answer {
	n.t.Helper()
	return n.send("POST", "/access/openid/login", `{"state":`+quote(state)+`,"code":`+quote(code)+`,"redirect-url":"`+origin+`"}`)
}

func TestAuthorizationURL(t *testing.T) {
	n, i := loginNode(t, pve.Options{}, map[string]any{"scopes": "openid, profile;groups", "acr-values": "urn:a;urn:b", "prompt": "login"})
	a := n.authURL()
	var v struct{ Data string }
	if err := json.Unmarshal([]byte(a.body), &v); err != nil || !a.close {
		t.Fatal(a)
	}
	endpoint, query, _ := strings.Cut(v.Data, "?")
	if endpoint != i.URL+"/authorize" {
		t.Error(endpoint)
	}
	var names []string
	for _, pair := range strings.Split(query, "&") {
		k, _, _ := strings.Cut(pair, "=")
		names = append(names, k)
	}
	if got := strings.Join(names, " "); got != "response_type client_id state code_challenge code_challenge_method redirect_uri scope nonce display acr_values prompt" {
		t.Error(got)
	}
	q, _ := url.ParseQuery(query)
	for k, want := range map[string]string{
		"response_type": "code", "client_id": "proxmox", "code_challenge_method": "S256", "redirect_uri": origin,
		"scope": "openid openid profile groups", "display": "page", "acr_values": "urn:a urn:b", "prompt": "login",
	} {
		if q.Get(k) != want {
			t.Errorf("%s: %q, want %q", k, q.Get(k), want)
		}
	}
	var state map[string]string
	if err := json.Unmarshal([]byte(q.Get("state")), &state); err != nil || state["realm"] != "authelia" || len(state["csrf_token"]) != 22 || len(q.Get("nonce")) != 22 || len(q.Get("code_challenge")) != 43 {
		t.Error(q)
	}
	if n.Pending("authelia") != 1 {
		t.Error(n.Pending("authelia"))
	}
}

func TestDiscoveryErrors(t *testing.T) {
	text := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	const doc, keys = "/.well-known/openid-configuration", "/keys"
	for _, x := range []struct {
		name string
		do   func(n *node, i *issuer)
		want string
	}{
		{"refused", func(_ *node, i *issuer) { i.CloseClientConnections(); i.Listener.Close() }, "Request failed"},
		{"unknown CA", func(n *node, _ *issuer) { _ = n.SetProperty("authelia", "issuer-url", n.URL()) }, "Request failed"},
		{"404", func(_ *node, i *issuer) { i.pages[doc] = text(404, "application/json", "{}") }, "Request failed"},
		{"500", func(_ *node, i *issuer) { i.pages[doc] = text(500, "application/json", "{}") }, "Request failed"},
		{"redirect loop", func(_ *node, i *issuer) {
			i.pages[doc] = func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, doc, http.StatusFound) }
		}, "Request failed"},
		{"201", func(_ *node, i *issuer) { i.pages[doc] = text(201, "application/json", "{}") }, "Server returned invalid response: HTTP status code 201 Created at ISSUER/.well-known/openid-configuration"},
		{
			"HTML", func(_ *node, i *issuer) { i.pages[doc] = text(200, "text/html; charset=utf-8", "<html>") },
			"Server returned invalid response: Unexpected response Content-Type: \"text/html; charset=utf-8\", should be `application/json`",
		},
		{"no JSON", func(_ *node, i *issuer) { i.pages[doc] = text(200, "application/json", "<html>") }, "Failed to parse server response"},
		{"member missing", func(_ *node, i *issuer) { i.doc["subject_types_supported"] = nil }, "Failed to parse server response"},
		{"wrong type", func(_ *node, i *issuer) { i.doc["response_types_supported"] = "code" }, "Failed to parse server response"},
		{"a number among the algorithms", func(_ *node, i *issuer) { i.doc["id_token_signing_alg_values_supported"] = []any{"RS256", 7} }, ""},
		{"endpoint without scheme", func(_ *node, i *issuer) { i.doc["authorization_endpoint"] = "/authorize" }, "Failed to parse server response"},
		{"other issuer", func(_ *node, i *issuer) { i.doc["issuer"] = "https://other.example/" }, "Validation error: unexpected issuer URI `https://other.example/` (expected `ISSUER`)"},
		{"slash", func(n *node, i *issuer) { _ = n.SetProperty("authelia", "issuer-url", i.URL+"/") }, "Validation error: unexpected issuer URI `ISSUER` (expected `ISSUER/`)"},
		{"keys missing", func(_ *node, i *issuer) { i.pages[keys] = text(404, "text/plain", "") }, "Request failed"},
		{"keys without keys", func(_ *node, i *issuer) { i.pages[keys] = text(200, "application/json", "{}") }, "Failed to parse server response"},
		{"key set type", func(_ *node, i *issuer) { i.pages[keys] = text(200, "application/jwk-set+json", `{"keys":[]}`) }, ""},
		{"no content type", func(_ *node, i *issuer) {
			i.pages[keys] = func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = nil
				fmt.Fprint(w, `{"keys":[]}`)
			}
		}, ""},
		{"no URL", func(n *node, _ *issuer) { _ = n.SetProperty("authelia", "issuer-url", "foo") }, "relative URL without a base"},
		{"no host", func(n *node, _ *issuer) { _ = n.SetProperty("authelia", "issuer-url", "https://") }, "empty host"},
		{"bad port", func(n *node, _ *issuer) { _ = n.SetProperty("authelia", "issuer-url", "https://a:port") }, "invalid port number"},
	} {
		t.Run(x.name, func(t *testing.T) {
			n, i := loginNode(t, pve.Options{}, nil)
			i.mu.Lock()
			x.do(n, i)
			i.mu.Unlock()
			want := "200 OK"
			if x.want != "" {
				want = "500 " + strings.ReplaceAll(x.want, "ISSUER", i.URL)
			}
			if a := n.authURL(); a.status != want {
				t.Errorf("%s, want %s", a.status, want)
			}
		})
	}
	n, _ := loginNode(t, pve.Options{}, nil)
	if a := n.send("POST", "/access/openid/auth-url", `{"realm":"authelia","redirect-url":""}`); a.status != "500 relative URL without a base" {
		t.Error(a)
	}
	if a := n.send("POST", "/access/openid/auth-url", `{"realm":"authelia"}`); a.errors()["redirect-url"] == "" {
		t.Error(a)
	}
}

func TestTooManyLogins(t *testing.T) {
	n, _ := loginNode(t, pve.Options{}, nil)
	if err := n.Update(func(st *pve.State) {
		now := time.Now().Unix()
		list := []openid.Login{{Time: now - 601}}
		for range 101 {
			list = append(list, openid.Login{Time: now})
		}
		st.Pending = map[string]openid.Pending{"pve": {"authelia": list, "other": {{Time: now}}}}
	}); err != nil {
		t.Fatal(err)
	}
	if a := n.authURL(); a.status != "500 too many pending openid auth request for realm authelia" {
		t.Error(a)
	}
	if n.Pending("authelia") != 101 {
		t.Error(n.Pending("authelia"))
	}
}

func TestLogin(t *testing.T) {
	n, i := loginNode(t, pve.Options{}, map[string]any{"groups-claim": "groups", "groups-autocreate": 1})
	i.userinfo["groups"] = []string{"admins", "two words", "ops"}
	i.userinfo["given_name"] = "John"
	state := n.begin(i)
	a := n.finish(state, "the code")
	if a.status != "200 OK" {
		t.Fatal(a)
	}
	d := a.data(t)
	if d["username"] != "john@authelia" || !a.close || strings.Join(slices.Sorted(maps.Keys(d)), " ") != "CSRFPreventionToken cap ticket username" {
		t.Error(d)
	}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("proxmox:in+s%C3%A9cure%2F%2B"))
	if i.auth != want {
		t.Errorf("%s, want %s", i.auth, want)
	}
	u := n.State().Users["john@authelia"]
	if u == nil || u.Email != "john@example.com" || u.FirstName != "John" || !u.Enable {
		t.Errorf("%+v", u)
	}
	if g := n.State().Groups; len(g) != 2 || !g["admins-authelia"].Users["john@authelia"] || !g["ops-authelia"].Users["john@authelia"] {
		t.Error(g)
	}
	in := n.ticket(d.text("ticket"), d.text("CSRFPreventionToken"))
	if a := in.must("GET", "/access/permissions", ""); a.body != `{"data":{}}` {
		t.Error(a.body)
	}
	if a := in.send("DELETE", "/access/domains/authelia", ""); !strings.HasPrefix(a.status, "403 ") {
		t.Error(a)
	}
	if a := n.finish(state, "the code"); a.status != "401 authentication failure" {
		t.Error("a state is good for one login", a)
	}
	// The next login leaves the groups that are no longer claimed only where the realm says so.
	i.userinfo["groups"] = []string{"ops", "new"}
	n.as(pve.TokenRoot).must("PUT", "/access/domains/authelia", "groups-autocreate=0")
	if a := n.finish(n.begin(i), "the code"); a.status != "200 OK" {
		t.Fatal(a)
	}
	if g := n.State().Groups; len(g) != 2 || !g["admins-authelia"].Users["john@authelia"] {
		t.Error(g)
	}
	n.as(pve.TokenRoot).must("PUT", "/access/domains/authelia", "groups-overwrite=1")
	if a := n.finish(n.begin(i), "the code"); a.status != "200 OK" {
		t.Fatal(a)
	}
	if g := n.State().Groups; g["admins-authelia"].Users["john@authelia"] || !g["ops-authelia"].Users["john@authelia"] {
		t.Error(g)
	}
}

func TestLoginNames(t *testing.T) {
	for _, x := range []struct {
		name  string
		realm map[string]any
		do    func(i *issuer)
		want  string // user, empty where the login is refused
	}{
		{"the default is sub", map[string]any{"username-claim": nil}, nil, "uuid-1@authelia"},
		{"subject", map[string]any{"username-claim": "subject"}, nil, "uuid-1@authelia"},
		{"username", map[string]any{"username-claim": "username"}, nil, "john@authelia"},
		{"email", map[string]any{"username-claim": "email"}, nil, "john@example.com@authelia"},
		{"upn", map[string]any{"username-claim": "upn"}, nil, ""},
		{"a number", map[string]any{"username-claim": "uid"}, func(i *issuer) { i.userinfo["uid"] = 1234567890123 }, "1234567890123@authelia"},
		{"the ID token wins", nil, func(i *issuer) { i.claims["preferred_username"] = "jane" }, "jane@authelia"},
		{"no userinfo", map[string]any{"query-userinfo": 0}, nil, ""},
		{"no userinfo needed", map[string]any{"query-userinfo": 0, "username-claim": "sub"}, func(i *issuer) { i.doc["userinfo_endpoint"] = nil }, "uuid-1@authelia"},
		{"no userinfo endpoint", nil, func(i *issuer) { i.doc["userinfo_endpoint"] = nil }, ""},
		{"64 characters", nil, func(i *issuer) { i.userinfo["preferred_username"] = strings.Repeat("ü", 55) }, strings.Repeat("ü", 55) + "@authelia"},
		{"65 characters", nil, func(i *issuer) { i.userinfo["preferred_username"] = strings.Repeat("x", 56) }, ""},
		{"white space", nil, func(i *issuer) { i.userinfo["preferred_username"] = "john doe" }, ""},
		{"slash", nil, func(i *issuer) { i.userinfo["preferred_username"] = "a/b" }, ""},
		{"colon", nil, func(i *issuer) { i.userinfo["preferred_username"] = "a:b" }, ""},
		{"autocreate off", map[string]any{"autocreate": 0}, nil, ""},
		{"no key", map[string]any{"client-key": nil}, nil, "john@authelia"},
		{"userinfo signed", nil, func(i *issuer) {
			i.pages["/userinfo"] = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/jwt")
				fmt.Fprint(w, "a.b.c")
			}
		}, ""},
		{"another issuer", nil, func(i *issuer) { i.claims["iss"] = "https://other" }, ""},
		{"another audience", nil, func(i *issuer) { i.claims["aud"] = "other" }, ""},
		{"one audience more", nil, func(i *issuer) { i.claims["aud"] = []string{"proxmox", "other"} }, ""},
		{"one audience more, declared", map[string]any{"audiences": "other"}, func(i *issuer) { i.claims["aud"] = []string{"proxmox", "other"} }, "john@authelia"},
		{"expired", nil, func(i *issuer) { i.claims["exp"] = time.Now().Add(-time.Second).Unix() }, ""},
		{"not yet valid", nil, func(i *issuer) {
			i.claims["nbf"] = time.Now().Add(time.Hour).Unix()
			i.claims["iat"] = time.Now().Add(time.Hour).Unix()
		}, "john@authelia"},
		{"another nonce", nil, func(i *issuer) { i.claims["nonce"] = "x" }, ""},
		{"algorithm not advertised", nil, func(i *issuer) { i.doc["id_token_signing_alg_values_supported"] = []string{"ES256"} }, ""},
		{"another key", nil, func(i *issuer) {
			i.pages["/keys"] = func(w http.ResponseWriter, _ *http.Request) {
				other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
				w.Header().Set("Content-Type", "application/json")
				_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: other.Public(), KeyID: "k1"}}})
			}
		}, ""},
		{"elliptic curve", nil, func(i *issuer) { i.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); i.alg = jose.ES256 }, "john@authelia"},
		{"token endpoint refuses", nil, func(i *issuer) {
			i.pages["/token"] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }
		}, ""},
		{"no ID token", nil, func(i *issuer) {
			i.pages["/token"] = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprint(w, `{"access_token":"a","token_type":"bearer"}`)
			}
		}, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			n, i := loginNode(t, pve.Options{}, x.realm)
			if x.do != nil {
				i.mu.Lock()
				x.do(i)
				i.mu.Unlock()
			}
			a := n.finish(n.begin(i), "the code")
			if x.want == "" {
				if a.status != "401 authentication failure" || a.body != `{"data":null,"message":"authentication failure\n"}` {
					t.Error(a)
				}
				return
			}
			if a.status != "200 OK" || a.data(t)["username"] != x.want {
				t.Error(a)
			}
		})
	}
}

func TestOldNodesKnowNoCurves(t *testing.T) {
	n, i := loginNode(t, pve.Options{Version: "8.4.1"}, nil)
	i.mu.Lock()
	i.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	i.alg = jose.ES256
	i.mu.Unlock()
	if a := n.finish(n.begin(i), "the code"); a.status != "401 authentication failure" {
		t.Error(a)
	}
}

// TestSilentIssuer: the proxy gives up, the worker stays blocked, and once all are, so is every write.
func TestSilentIssuer(t *testing.T) {
	n, i := loginNode(t, pve.Options{IssuerTimeout: 50 * time.Millisecond, Workers: 1}, nil)
	release := make(chan struct{})
	i.mu.Lock()
	i.pages["/.well-known/openid-configuration"] = func(http.ResponseWriter, *http.Request) { <-release }
	i.mu.Unlock()
	if a := n.authURL(); a.status != "596 Connection timed out" || a.body != "" || a.header.Get("Content-Type") != "" {
		t.Error(a)
	}
	root := n.as(pve.TokenRoot)
	if a := root.send("PUT", "/access/domains/authelia", "comment=late"); a.status != "596 Connection timed out" {
		t.Error(a)
	}
	root.must("GET", "/access/domains/authelia", "")
	close(release)
	for r, _ := n.Realm("authelia"); r.Properties["comment"] != "late"; r, _ = n.Realm("authelia") {
		n.HoldLock()()
	}
}
