package issuer_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/lab/authority"
)

// exchange is one of the recorded ones.
type exchange struct {
	ID      string
	Request struct {
		Method, Path string
		Headers      map[string]string
	}
	Response struct {
		Status      int
		ContentType string `json:"content_type"`
		Location    string
		Body        any
	}
}

// recorded answers as Authelia 4.39.20 answered these requests, byte for byte as far as it was recorded. post tells that the
// client is registered for client_secret_post.
func recorded(t *testing.T, post bool) (issuerURL string, c *issuer.Inspector) {
	t.Helper()
	data, err := os.ReadFile("../lab/testdata/authelia-4.39.20.json")
	if err != nil {
		t.Fatal(err)
	}
	var record struct{ Exchanges []exchange }
	if err := json.Unmarshal(data, &record); err != nil {
		t.Fatal(err)
	}
	ca, err := authority.New()
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := ca.Issue(authority.Valid, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	var s *httptest.Server
	s = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := recordedAs(r, post)
		at := slices.IndexFunc(record.Exchanges, func(e exchange) bool { return e.ID == id })
		if at < 0 {
			t.Errorf("not recorded: %s %s", r.URL, id)
			http.NotFound(w, r)
			return
		}
		e := record.Exchanges[at].Response
		fill := strings.NewReplacer("{{issuer}}", s.URL)
		if e.ContentType != "" {
			w.Header().Set("Content-Type", e.ContentType)
		}
		if e.Location != "" {
			w.Header().Set("Location", fill.Replace(e.Location))
		}
		w.WriteHeader(e.Status)
		if e.Body != "" {
			body, _ := json.Marshal(e.Body) // decoded from JSON
			_, _ = w.Write([]byte(fill.Replace(string(body))))
		}
	}))
	s.TLS = tlsConfig(certificate)
	s.StartTLS()
	t.Cleanup(s.Close)
	c = issuer.New(issuer.Options{Roots: roots(ca.PEM())})
	t.Cleanup(c.Close)
	return s.URL, c
}

// recordedAs names the exchange that was recorded for such a request.
func recordedAs(r *http.Request, post bool) string {
	id, key, basic := r.BasicAuth()
	right := key == "insecure_secret"
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		return "discovery"
	case "/jwks.json":
		return "jwks"
	case "/api/oidc/introspection":
		return map[bool]string{true: "introspection-right-secret", false: "introspection-wrong-secret"}[right]
	case "/api/oidc/token":
		switch {
		case !basic && r.FormValue("client_secret") == "":
			return "token-without-client-authentication"
		case !basic && !post:
			return "token-secret-in-body"
		case !basic && r.FormValue("client_secret") == "insecure_secret":
			return "token-right-secret"
		case id != "proxmox" && basic:
			return "token-unknown-client"
		case post && basic:
			return "token-basic-for-a-post-client"
		case right:
			return "token-right-secret"
		}
		return "token-wrong-secret"
	}
	q := r.URL.Query()
	switch {
	case q.Get("client_id") != "proxmox":
		return "authorize-unknown-client"
	case q.Get("redirect_uri") == redirectURL+"/":
		return "authorize-redirect-with-slash"
	case q.Get("redirect_uri") != redirectURL:
		return "authorize-wrong-redirect"
	case strings.Contains(q.Get("scope"), "offline_access"):
		return "authorize-scope-not-allowed"
	case q.Get("prompt") != "none":
		return "" // Authelia's login page is not needed
	}
	return "authorize-prompt-none"
}

// TestRecordedAuthelia asks what Authelia 4.39.20 answered.
func TestRecordedAuthelia(t *testing.T) {
	for _, tt := range []struct {
		name                  string
		post                  bool
		set                   func(*issuer.Question)
		credentials, redirect issuer.Decision
		says                  []string
	}{
		{"right", false, func(*issuer.Question) {}, issuer.Accepted, issuer.Accepted, []string{"login_required"}},
		{"a wrong key", false, func(q *issuer.Question) { q.Login.ClientKey = check.NewSecret("another_secret") }, issuer.Rejected, issuer.Accepted, []string{"the key or the authentication method of the client proxmox", "client_secret of the client holds the digest"}},
		{"another client", false, func(q *issuer.Question) { q.Login.ClientID = "nobody" }, issuer.Rejected, issuer.Rejected, []string{"The requested OAuth 2.0 Client does not exist.", "{realm.client_id}"}},
		{"client_secret_post", true, func(*issuer.Question) {}, issuer.Rejected, issuer.Accepted, []string{"registered for another authentication method", "token_endpoint_auth_method: 'client_secret_basic'"}},
		{"a slash", false, func(q *issuer.Question) { q.RedirectURLs = []string{redirectURL + "/"} }, issuer.Accepted, issuer.Rejected, []string{"does not know the redirect URL " + redirectURL + "/", "does not match any of the OAuth 2.0 Client's pre-registered"}},
		{"another redirect URL", false, func(q *issuer.Question) { q.RedirectURLs = []string{redirectURL, "https://other.example.test"} }, issuer.Accepted, issuer.Rejected, []string{"exactly so: https://other.example.test\n", "redirect_uris of the client"}},
		{"a scope", false, func(q *issuer.Question) { q.Login.Scopes = []string{"openid", "offline_access"} }, issuer.Accepted, issuer.Rejected, []string{"not allowed to request scope 'offline_access'", "scopes of the client"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			issuerURL, c := recorded(t, tt.post)
			l := login(issuerURL)
			l.ClientKey = check.NewSecret("insecure_secret")
			i := c.Inspect(t.Context(), issuerURL)
			for _, found := range i.Checks(view(l)) {
				want(t, found, check.Pass)
			}
			if p := i.Provider(); p != "Authelia" {
				t.Errorf("taken for %q", p)
			}
			q := issuer.Question{Depth: issuer.Person, Login: l, RedirectURLs: []string{redirectURL}, RedirectsDeclared: true}
			tt.set(&q)
			got := i.Client(t.Context(), q)
			if got.Credentials.Decision != tt.credentials || got.Redirect.Decision != tt.redirect {
				t.Errorf("%s and %s, want %s and %s", got.Credentials.Decision, got.Redirect.Decision, tt.credentials, tt.redirect)
			}
			all := fmt.Sprintf("%+v", got)
			for _, w := range tt.says {
				if !strings.Contains(all, w) {
					t.Errorf("%q is not said:\n%s", w, all)
				}
			}
			if strings.Contains(all, "insecure_secret") {
				t.Errorf("the key is shown:\n%s", all)
			}
		})
	}
}
