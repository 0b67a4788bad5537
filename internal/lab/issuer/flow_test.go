package issuer_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"proxmox-realm/internal/lab/issuer"
)

const (
	redirectURI = "https://pve.example.test:8006"
	clientKey   = "k%y+with:characters that/need=encoding&"
	verifier    = "a-verifier-of-at-least-forty-three-characters-0"
)

func proxmox() issuer.Client {
	return issuer.Client{ID: "proxmox", Secret: clientKey, RedirectURIs: []string{redirectURI, "http://127.0.0.1/"}}
}

// answer is a response with its body read.
type answer struct {
	*http.Response
	body string
}

func (a answer) location(t *testing.T) *url.URL {
	t.Helper()
	location, err := a.Location()
	if err != nil {
		t.Fatalf("status %d without a location: %s", a.StatusCode, a.body)
	}
	return location
}

// error is the error code of the answer, wherever it is.
func (a answer) error() string {
	if location, err := a.Location(); err == nil {
		return location.Query().Get("error")
	}
	var body struct{ Error string }
	_ = json.Unmarshal([]byte(a.body), &body)
	return body.Error
}

func do(t *testing.T, client *http.Client, request *http.Request) answer {
	t.Helper()
	response, err := client.Do(request.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response, string(body)}
}

func get(t *testing.T, client *http.Client, target string) answer {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, client, request)
}

// post sends a form, with client authentication where id is not empty.
func post(t *testing.T, client *http.Client, target, id, secret string, form url.Values) answer {
	t.Helper()
	request, err := http.NewRequest(http.MethodPost, target, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if id != "" {
		request.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
	}
	return do(t, client, request)
}

// parameters are those of a request as Proxmox makes it; changes override them, and empty ones remove them.
func parameters(changes ...string) url.Values {
	challenge := sha256.Sum256([]byte(verifier))
	values := url.Values{
		"response_type": {"code"}, "client_id": {"proxmox"}, "redirect_uri": {redirectURI},
		"scope": {"openid openid profile email groups"}, "display": {"page"},
		"state": {`{"csrf_token":"0123456789","realm":"authelia"}`}, "nonce": {"0123456789abcdef"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}
	for pair := range slices.Chunk(changes, 2) {
		if pair[1] == "" {
			values.Del(pair[0])
		} else {
			values.Set(pair[0], pair[1])
		}
	}
	return values
}

// login walks a browser through login and consent, and returns the redirect to the client.
func login(t *testing.T, s server, browser *http.Client, user, password string, request url.Values) answer {
	t.Helper()
	first := get(t, browser, s.URL()+"/api/oidc/authorization?"+request.Encode())
	if first.StatusCode != http.StatusFound {
		return first
	}
	page := first.location(t)
	if page.Path == "/" {
		form := get(t, browser, page.String())
		if !strings.Contains(form.body, `name="password"`) {
			t.Fatalf("no login form: %s", form.body)
		}
		done := post(t, browser, page.String(), "", "", url.Values{
			"flow_id": {page.Query().Get("flow_id")}, "username": {user}, "password": {password},
		})
		if done.StatusCode != http.StatusSeeOther {
			return done
		}
		page = done.location(t)
	}
	form := get(t, browser, page.String())
	if !strings.Contains(form.body, `value="accept"`) || !strings.Contains(form.body, "<code>openid</code>") {
		t.Fatalf("no consent form: %s", form.body)
	}
	return post(t, browser, page.String(), "", "", url.Values{"flow_id": {page.Query().Get("flow_id")}, "decision": {"accept"}})
}

// exchange trades a code for tokens, as Proxmox does.
func exchange(t *testing.T, s server, code string, changes ...string) answer {
	t.Helper()
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {redirectURI}, "code_verifier": {verifier}}
	for pair := range slices.Chunk(changes, 2) {
		if pair[1] == "" {
			form.Del(pair[0])
		} else {
			form.Set(pair[0], pair[1])
		}
	}
	return post(t, s.client(), s.URL()+"/api/oidc/token", "proxmox", clientKey, form)
}

// claims returns what the ID token of an answer says. Whoever logs in to a stand-in for Proxmox verifies its signature.
func claims(t *testing.T, granted answer) (found map[string]any) {
	t.Helper()
	var tokens struct {
		ID string `json:"id_token"`
	}
	if err := json.Unmarshal([]byte(granted.body), &tokens); err != nil || strings.Count(tokens.ID, ".") != 2 {
		t.Fatal(granted.body, err)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(tokens.ID, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(payload, &found); err != nil {
		t.Fatal(err)
	}
	return found
}

func TestCodeFlow(t *testing.T) {
	s := start(t, issuer.Options{Clients: []issuer.Client{proxmox()}})
	browser := s.client()
	query := login(t, s, browser, "john", "password", parameters()).location(t).Query()
	if query.Get("state") != parameters().Get("state") || query.Get("iss") != s.URL() {
		t.Errorf("state or iss is missing: %s", query)
	}
	identity := claims(t, exchange(t, s, query.Get("code")))
	if identity["iss"] != s.URL() || identity["nonce"] != "0123456789abcdef" || identity["exp"] == nil || identity["preferred_username"] != nil || identity["groups"] != nil {
		t.Errorf("claims %v", identity)
	}
	if again := exchange(t, s, query.Get("code")); again.StatusCode != http.StatusBadRequest || again.error() != "invalid_grant" {
		t.Errorf("a used code gave %d %s", again.StatusCode, again.body)
	}
	t.Run("the next request needs consent alone", func(t *testing.T) {
		none := get(t, browser, s.URL()+"/api/oidc/authorization?"+parameters("prompt", "none").Encode())
		if none.error() != "consent_required" {
			t.Errorf("prompt=none: %s", none.Header.Get("Location"))
		}
		next := get(t, browser, s.URL()+"/api/oidc/authorization?"+parameters().Encode())
		if path := next.location(t).Path; path != "/consent/openid/decision" {
			t.Errorf("sent to %s", path)
		}
		fresh := get(t, browser, s.URL()+"/api/oidc/authorization?"+parameters("prompt", "login").Encode())
		if path := fresh.location(t).Path; path != "/" {
			t.Errorf("prompt=login was sent to %s", path)
		}
	})
}

func TestExchangeRefused(t *testing.T) {
	s := start(t, issuer.Options{Clients: []issuer.Client{proxmox(), {ID: "other", Secret: clientKey, RedirectURIs: []string{redirectURI}}}})
	for name, changes := range map[string][]string{
		"no verifier":    {"code_verifier", ""},
		"wrong verifier": {"code_verifier", strings.Repeat("x", 43)},
		"other redirect": {"redirect_uri", "https://pve.example.test"},
		"made-up code":   {"code", "proxmox-realm-verify"},
	} {
		t.Run(name, func(t *testing.T) {
			code := login(t, s, s.client(), "john", "password", parameters()).location(t).Query().Get("code")
			if refused := exchange(t, s, code, changes...); refused.StatusCode != http.StatusBadRequest || refused.error() != "invalid_grant" {
				t.Errorf("%d %s", refused.StatusCode, refused.body)
			}
		})
	}
	t.Run("code of another client", func(t *testing.T) {
		code := login(t, s, s.client(), "john", "password", parameters("client_id", "other")).location(t).Query().Get("code")
		if refused := exchange(t, s, code); refused.error() != "invalid_grant" {
			t.Errorf("%d %s", refused.StatusCode, refused.body)
		}
	})
}

func TestLoginRefused(t *testing.T) {
	s := start(t, issuer.Options{Clients: []issuer.Client{proxmox()}})
	for _, user := range []string{"john", "nobody", ""} {
		refused := login(t, s, s.client(), user, "wrong", parameters())
		if refused.StatusCode != http.StatusUnauthorized || !strings.Contains(refused.body, "Incorrect username or password") {
			t.Errorf("%s: %d %s", user, refused.StatusCode, refused.body)
		}
	}
}

// What Authelia only finds out after the login stays unseen by prompt=none.
func TestPKCERequired(t *testing.T) {
	client := proxmox()
	client.RequirePKCE = true
	s := start(t, issuer.Options{Clients: []issuer.Client{client}})
	without := parameters("code_challenge", "", "code_challenge_method", "")
	without.Set("prompt", "none")
	if before := get(t, s.client(), s.URL()+"/api/oidc/authorization?"+without.Encode()); before.error() != "login_required" {
		t.Errorf("prompt=none: %s", before.Header.Get("Location"))
	}
	without.Del("prompt")
	if after := login(t, s, s.client(), "john", "password", without); after.error() != "invalid_request" {
		t.Errorf("login: %s", after.Header.Get("Location"))
	}
	plain := parameters("code_challenge_method", "plain")
	if after := login(t, s, s.client(), "john", "password", plain); after.error() != "invalid_request" {
		t.Errorf("plain challenge: %s", after.Header.Get("Location"))
	}
	if with := login(t, s, s.client(), "john", "password", parameters()); with.location(t).Query().Get("code") == "" {
		t.Errorf("with a challenge: %s", with.Header.Get("Location"))
	}
}

func TestClaimsPolicy(t *testing.T) {
	client := proxmox()
	client.ClaimsInToken = true
	s := start(t, issuer.Options{Clients: []issuer.Client{client}})
	code := login(t, s, s.client(), "john", "password", parameters()).location(t).Query().Get("code")
	identity := claims(t, exchange(t, s, code))
	if identity["preferred_username"] != "john" || identity["email"] != "john.doe@example.test" || identity["groups"] == nil {
		t.Errorf("claims %v", identity)
	}
}

func TestAuthorizationRefused(t *testing.T) {
	s := start(t, issuer.Options{Clients: []issuer.Client{proxmox()}})
	for _, test := range []struct {
		name, parameter, value string
		code                   string
		own                    bool // on the issuer's own page
	}{
		{"short nonce", "nonce", "short", "insufficient_entropy", false},
		{"no nonce", "nonce", "", "login_required", false},
		{"no state", "state", "", "invalid_state", false},
		{"no response type", "response_type", "", "unsupported_response_type", false},
		{"fragment", "response_mode", "fragment", "unsupported_response_mode", false},
		{"no redirect URI", "redirect_uri", "", "invalid_request", true},
		{"no client", "client_id", "", "invalid_client", true},
		{"http instead of https", "redirect_uri", "http://pve.example.test:8006", "invalid_request", true},
		{"no port", "redirect_uri", "https://pve.example.test", "invalid_request", true},
		{"capitals", "redirect_uri", "https://PVE.example.test:8006", "invalid_request", true},
		{"loopback", "redirect_uri", "http://127.0.0.1:41233/", "login_required", false},
		{"loopback without the path", "redirect_uri", "http://127.0.0.1:41233", "invalid_request", true},
		{"loopback by name", "redirect_uri", "http://localhost:41233/", "invalid_request", true},
		{"loopback over https", "redirect_uri", "https://127.0.0.1:41233/", "invalid_request", true},
		{"loopback, other address", "redirect_uri", "http://127.0.0.2:41233/", "invalid_request", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := get(t, s.client(), s.URL()+"/api/oidc/authorization?"+parameters("prompt", "none", test.parameter, test.value).Encode())
			if got.error() != test.code {
				t.Errorf("%s, want %s", got.Header.Get("Location"), test.code)
			}
			if own := strings.HasPrefix(got.Header.Get("Location"), s.URL()+"/consent/completion?"); own != test.own {
				t.Errorf("sent to %s", got.Header.Get("Location"))
			}
		})
	}
	t.Run("the page tells the error", func(t *testing.T) {
		page := get(t, s.client(), s.URL()+"/consent/completion?error=invalid_request&error_description=<b>&error_hint=hint")
		if !strings.Contains(page.body, "invalid_request") || !strings.Contains(page.body, "&lt;b&gt;") || !strings.Contains(page.body, "hint") {
			t.Errorf("page %s", page.body)
		}
	})
}
