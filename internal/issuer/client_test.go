package issuer_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/lab/authority"
	lab "proxmox-realm/internal/lab/issuer"
)

func TestClientQuestions(t *testing.T) {
	declared := issuer.Question{Depth: issuer.Full, RedirectURLs: []string{redirectURL}, RedirectsDeclared: true}
	type outcomes struct{ credentials, redirect issuer.Decision }
	for _, tt := range []struct {
		name   string
		set    func(*lab.Server, *issuer.Question)
		want   outcomes
		checks [2]check.Status
		says   []string
	}{
		{"right", nil, outcomes{issuer.Accepted, issuer.Accepted}, [2]check.Status{check.Pass, check.Pass}, nil},
		{
			"a wrong key", func(_ *lab.Server, q *issuer.Question) { q.Login.ClientKey = check.NewSecret("wrong-key-0123") },
			outcomes{issuer.Rejected, issuer.Accepted},
			[2]check.Status{check.Fail, check.Pass},
			[]string{"401 invalid_client", "refuses the key or the authentication method", "restart Authelia"},
		},
		{"a client registered for client_secret_post", func(s *lab.Server, _ *issuer.Question) {
			s.SetClient(lab.Client{ID: "proxmox", Secret: clientKey, AuthMethod: "client_secret_post", RedirectURIs: []string{redirectURL}})
		}, outcomes{issuer.Rejected, issuer.Accepted}, [2]check.Status{check.Fail, check.Pass}, []string{"token_endpoint_auth_method: 'client_secret_basic'"}},
		{
			"an unknown client", func(s *lab.Server, _ *issuer.Question) { s.RemoveClient("proxmox") },
			outcomes{issuer.Rejected, issuer.Rejected},
			[2]check.Status{check.Fail, check.Fail},
			[]string{"The requested OAuth 2.0 Client does not exist", "{realm.client_id}"},
		},
		{
			"no key, where one is wanted", func(_ *lab.Server, q *issuer.Question) { q.Login.ClientKey = check.Secret{} },
			outcomes{issuer.Rejected, issuer.Accepted},
			[2]check.Status{check.Fail, check.Pass},
			[]string{"refuses the client proxmox without a key", "{realm.client_key_file}"},
		},
		{
			"a key that is not known here", func(_ *lab.Server, q *issuer.Question) { q.Login.ClientKey, q.KeyUnknown = check.Secret{}, true },
			outcomes{issuer.NoVerdict, issuer.Accepted},
			[2]check.Status{check.Skip, check.Pass},
			nil,
		},
		{
			"a redirect URL with a slash", func(s *lab.Server, q *issuer.Question) { q.RedirectURLs = []string{redirectURL, redirectURL + "/"} },
			outcomes{issuer.Accepted, issuer.Rejected},
			[2]check.Status{check.Pass, check.Fail},
			[]string{"exactly so: " + redirectURL + "/\n", "does not match any", redirectURL + ": accepted"},
		},
		{
			"a guessed redirect URL", func(s *lab.Server, q *issuer.Question) {
				q.RedirectURLs, q.RedirectsDeclared = []string{"https://10.0.0.1:8006"}, false
			},
			outcomes{issuer.Accepted, issuer.Rejected},
			[2]check.Status{check.Pass, check.Warn},
			[]string{"verify.redirect_urls"},
		},
		{
			"no redirect URL", func(s *lab.Server, q *issuer.Question) { q.RedirectURLs = nil },
			outcomes{issuer.Accepted, issuer.NoVerdict},
			[2]check.Status{check.Pass, check.Skip},
			nil,
		},
		{
			"a scope that the client may not ask for", func(s *lab.Server, q *issuer.Question) { q.Login.Scopes = []string{"openid", "offline_access"} },
			outcomes{issuer.Accepted, issuer.Rejected},
			[2]check.Status{check.Pass, check.Fail},
			[]string{"offline_access", "realm.scopes"},
		},
		{"a response type that the client may not ask for", func(s *lab.Server, _ *issuer.Question) {
			s.SetClient(lab.Client{ID: "proxmox", Secret: clientKey, ResponseTypes: []string{"id_token"}, RedirectURIs: []string{redirectURL}})
		}, outcomes{issuer.Accepted, issuer.Rejected}, [2]check.Status{check.Pass, check.Fail}, []string{"response_types"}},
		{"a token endpoint that fails", func(s *lab.Server, _ *issuer.Question) {
			s.Inject("/api/oidc/token", lab.Fault{Status: 503, Body: []byte("down for maintenance")})
		}, outcomes{issuer.NoVerdict, issuer.Accepted}, [2]check.Status{check.Skip, check.Pass}, []string{"503", "down for maintenance"}},
		{"endpoints that fail", func(s *lab.Server, _ *issuer.Question) {
			s.Inject("/api/oidc/token", lab.Fault{Reset: true})
			s.Inject("/api/oidc/authorization", lab.Fault{Status: 500})
		}, outcomes{issuer.NoVerdict, issuer.NoVerdict}, [2]check.Status{check.Skip, check.Skip}, nil},
		{"a client that must push its requests", func(s *lab.Server, _ *issuer.Question) {
			s.SetClient(lab.Client{ID: "proxmox", Secret: clientKey, RedirectURIs: []string{redirectURL}, RequirePushed: true})
		}, outcomes{issuer.Accepted, issuer.Rejected}, [2]check.Status{check.Pass, check.Fail}, []string{"require_pushed_authorization_requests: false", "Pushed Authorization Requests are required"}},
		{"an error page for everyone", func(s *lab.Server, _ *issuer.Question) {
			s.Inject("/api/oidc/authorization", lab.Fault{Status: 302, Header: http.Header{"Location": {s.URL() + "/error?error=invalid_request&error_hint=try+later"}}})
		}, outcomes{issuer.Accepted, issuer.Rejected}, [2]check.Status{check.Pass, check.Fail}, []string{"invalid_request: try later", "or every login"}},
		{"an issuer that shows its login page to everyone", func(s *lab.Server, _ *issuer.Question) {
			s.Inject("/api/oidc/authorization", lab.Fault{Body: []byte("<form>user, password</form>")})
		}, outcomes{issuer.Accepted, issuer.NoVerdict}, [2]check.Status{check.Pass, check.Skip}, []string{"judges client and redirect URL after the login"}},
		{"an issuer that shows its login page despite prompt=none", func(s *lab.Server, _ *issuer.Question) {
			s.SetHabits(lab.Habits{IgnoresNone: true})
		}, outcomes{issuer.Accepted, issuer.Accepted}, [2]check.Status{check.Pass, check.Pass}, []string{"shows a login page, and refuses other clients"}},
		{"an issuer that judges the redirect URL after the login", func(s *lab.Server, q *issuer.Question) {
			s.SetHabits(lab.Habits{IgnoresNone: true, JudgesLate: true})
			q.RedirectURLs = []string{"https://elsewhere.example.test"}
		}, outcomes{issuer.Accepted, issuer.NoVerdict}, [2]check.Status{check.Pass, check.Skip}, []string{"knows the client, and judges the redirect URL after the login"}},
		{"a token endpoint that looks at the code first", func(s *lab.Server, q *issuer.Question) {
			s.SetHabits(lab.Habits{CodeFirst: true, BlindIntrospection: true})
		}, outcomes{issuer.NoVerdict, issuer.Accepted}, [2]check.Status{check.Skip, check.Pass}, []string{"looks at the code first"}},
		{"the same, and introspection tells", func(s *lab.Server, q *issuer.Question) {
			s.SetHabits(lab.Habits{CodeFirst: true})
		}, outcomes{issuer.Accepted, issuer.Accepted}, [2]check.Status{check.Pass, check.Pass}, []string{"introspection endpoint tells the key"}},
		{"a public client with a key", func(s *lab.Server, q *issuer.Question) {
			s.SetClient(lab.Client{ID: "proxmox", AuthMethod: "none", RedirectURIs: []string{redirectURL}})
			q.Depth = issuer.Person
		}, outcomes{issuer.Rejected, issuer.Accepted}, [2]check.Status{check.Fail, check.Pass}, []string{"is public in the issuer"}},
		{"another method, for a person", func(s *lab.Server, q *issuer.Question) {
			s.SetClient(lab.Client{ID: "proxmox", Secret: "a-plain-key-0123", AuthMethod: "client_secret_post", RedirectURIs: []string{redirectURL}})
			q.Depth, q.Login.ClientKey = issuer.Person, check.NewSecret("a-plain-key-0123")
		}, outcomes{issuer.Rejected, issuer.Accepted}, [2]check.Status{check.Fail, check.Pass}, []string{"registered for another authentication method than client_secret_basic"}},
		{"a key that is too short", func(s *lab.Server, q *issuer.Question) {
			s.SetClient(lab.Client{ID: "proxmox", Secret: "openid", RedirectURIs: []string{redirectURL}})
			q.Login.ClientKey = check.NewSecret("openid")
		}, outcomes{issuer.Accepted, issuer.Accepted}, [2]check.Status{check.Warn, check.Pass}, []string{"fewer than 8 characters"}},
		{"a digest in place of the key", func(s *lab.Server, q *issuer.Question) {
			q.Login.ClientKey = check.NewSecret("$pbkdf2-sha512$310000$c8p78n7pUMln0jzvd4aK4Q$JNRBzwAo0ek5qKn50cFzzvE9RXV88h1wJn5KGiHrD0YKtZaR")
		}, outcomes{issuer.Rejected, issuer.Accepted}, [2]check.Status{check.Fail, check.Pass}, []string{"this one holds a digest"}},
		{"a limit", func(s *lab.Server, _ *issuer.Question) {
			s.Inject("/api/oidc/token", lab.Fault{Status: 429, Header: http.Header{"Retry-After": {"61"}}})
		}, outcomes{issuer.RateLimited, issuer.Accepted}, [2]check.Status{check.Skip, check.Pass}, []string{"429, again in 1m1s"}},
		{
			"another name of the issuer", func(s *lab.Server, _ *issuer.Question) { s.SetIssuer(s.URL() + "/") },
			outcomes{issuer.NoVerdict, issuer.Accepted},
			[2]check.Status{check.Skip, check.Pass},
			[]string{"not checked: needs issuer.identity"},
		},
		{"a token endpoint without TLS", func(s *lab.Server, _ *issuer.Question) {
			s.SetMetadata("token_endpoint", "http://127.0.0.1:1/token")
		}, outcomes{issuer.NoVerdict, issuer.Accepted}, [2]check.Status{check.Skip, check.Pass}, []string{"not checked: the key is not sent over http"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, lab.Options{})
			q := declared
			q.Login = login(s.URL())
			if tt.set != nil {
				tt.set(s, &q)
			}
			got := client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL()).Client(t.Context(), q)
			if (outcomes{got.Credentials.Decision, got.Redirect.Decision}) != tt.want {
				t.Errorf("%s and %s, want %s and %s", got.Credentials.Decision, got.Redirect.Decision, tt.want.credentials, tt.want.redirect)
			}
			credentials, redirect := find(t, got.Checks, check.ClientCredentials), find(t, got.Checks, check.ClientRedirect)
			want(t, credentials, tt.checks[0])
			want(t, redirect, tt.checks[1])
			all := fmt.Sprintf("%+v", got)
			for _, w := range tt.says {
				if !strings.Contains(all, w) {
					t.Errorf("%q is not said:\n%s", w, all)
				}
			}
			if strings.Contains(all, "wrong-key-0123") || strings.Contains(all, clientKey) {
				t.Errorf("the key is shown:\n%s", all)
			}
		})
	}
}

func TestRequestsAreAsProxmoxMakesThem(t *testing.T) {
	s := start(t, lab.Options{})
	l := login(s.URL())
	l.ACRValues = []string{"a", "b"}
	q := issuer.Question{Depth: issuer.Full, Login: l, RedirectURLs: []string{redirectURL}}
	c := client(t, s, issuer.Options{UserAgent: "proxmox-realm/1.2"})
	c.Inspect(t.Context(), s.URL()).Client(t.Context(), q)
	for _, r := range s.Requests() {
		if r.UserAgent != "proxmox-realm/1.2" {
			t.Errorf("%s: user agent %q", r.Path, r.UserAgent)
		}
		switch r.Path {
		case "/api/oidc/authorization":
			for name, value := range map[string]string{
				"response_type": "code", "redirect_uri": redirectURL, "scope": "openid profile email", "prompt": "none",
				"display": "page", "acr_values": "a b", "code_challenge_method": "S256",
			} {
				if got := r.Parameters.Get(name); got != value {
					t.Errorf("%s=%q, want %q", name, got, value)
				}
			}
		case "/api/oidc/token":
			if r.Parameters.Get("code") != issuer.MadeUp || r.GrantType != "authorization_code" || r.Parameters.Get("redirect_uri") != redirectURL {
				t.Errorf("token request: %v %s", r.Parameters, r.GrantType)
			}
		}
	}
	// Discovery, keys, N, D, K, introspection with the key and with a made-up one.
	if n := len(s.Requests()); n != 7 || s.Handshakes() != 1 {
		t.Errorf("%d requests, %d handshakes", n, s.Handshakes())
	}
}

// A browser's headers go to the authorization endpoint, and no key.
func TestAuthorizationEndpointIsAskedAsABrowserDoes(t *testing.T) {
	seen := 0
	issuerURL, ca := scripted(t, nil, func(w http.ResponseWriter, r *http.Request) {
		seen++
		if !strings.HasPrefix(r.Header.Get("Accept"), "text/html") || r.Header.Get("Accept-Language") != "en" || r.Header.Get("Authorization") != "" {
			t.Errorf("headers %v", r.Header)
		}
		_, _ = w.Write([]byte("<form>"))
	})
	c := issuer.New(issuer.Options{Roots: roots(ca)})
	t.Cleanup(c.Close)
	c.Inspect(t.Context(), issuerURL).Client(t.Context(), issuer.Question{Depth: issuer.Full, Login: login(issuerURL), KeyUnknown: true, RedirectURLs: []string{redirectURL}})
	if seen != 4 {
		t.Errorf("%d requests", seen)
	}
}

// scripted is an issuer whose token and authorization endpoints are the test's.
func scripted(t *testing.T, token, authorize http.HandlerFunc) (issuerURL string, ca []byte) {
	t.Helper()
	authority, err := authority.New()
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	s := httptest.NewUnstartedServer(mux)
	certificate, err := authority.Issue("valid", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	s.TLS = tlsConfig(certificate)
	s.StartTLS()
	t.Cleanup(s.Close)
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"issuer": s.URL, "authorization_endpoint": s.URL + "/authorize?tenant=1", "token_endpoint": s.URL + "/token", "jwks_uri": s.URL + "/keys",
			"userinfo_endpoint": s.URL + "/userinfo", "response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
			"id_token_signing_alg_values_supported": []string{"RS256"},
		})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(rsaKeys))
	})
	if token != nil {
		mux.HandleFunc("/token", token)
	}
	if authorize != nil {
		mux.HandleFunc("/authorize", authorize)
	}
	return s.URL, authority.PEM()
}

func TestKeyIsFormEncodedAndNeverFollowsARedirect(t *testing.T) {
	var mu sync.Mutex
	var headers []string
	elsewhere := 0
	token := func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		headers = append(headers, r.Header.Get("Authorization"))
		if err := r.ParseForm(); err != nil || r.PostForm.Has("client_secret") || r.PostForm.Has("client_id") {
			t.Errorf("form %v, %v", r.PostForm, err)
		}
		if len(r.PostForm.Get("code_verifier")) < 43 {
			t.Errorf("code_verifier %q", r.PostForm.Get("code_verifier"))
		}
		if r.URL.Query().Has("again") {
			elsewhere++
		}
		http.Redirect(w, r, "/token?again", http.StatusTemporaryRedirect)
	}
	seen := map[string]bool{}
	authorize := func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		mu.Lock()
		defer mu.Unlock()
		for _, name := range []string{"state", "nonce", "code_challenge"} {
			if len(q.Get(name)) < 43 || seen[q.Get(name)] {
				t.Errorf("%s=%q is short or was seen before", name, q.Get(name))
			}
			seen[q.Get(name)] = true
		}
		if q.Get("tenant") != "1" {
			t.Error("the endpoint's own parameter is lost")
		}
		if r.Header.Get("Authorization") != "" {
			t.Error("the key goes to the authorization endpoint")
		}
		http.Redirect(w, r, q.Get("redirect_uri")+"?error=login_required&state="+url.QueryEscape(q.Get("state")), http.StatusFound)
	}
	issuerURL, ca := scripted(t, token, authorize)
	c := issuer.New(issuer.Options{Roots: roots(ca)})
	t.Cleanup(c.Close)
	l := login(issuerURL)
	l.ClientID = "a client:é"
	got := c.Inspect(t.Context(), issuerURL).Client(t.Context(), issuer.Question{Depth: issuer.Full, Login: l, RedirectURLs: []string{redirectURL, redirectURL + "/b"}})
	if got.Credentials.Decision != issuer.Rejected || got.Redirect.Decision != issuer.Accepted {
		t.Errorf("%+v", got)
	}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(l.ClientID)+":"+url.QueryEscape(clientKey)))
	if len(headers) != 3 || headers[0] != want || slices.Contains(headers[1:], want) || elsewhere != 0 {
		t.Errorf("%d headers, %d requests along the redirect", len(headers), elsewhere)
	}
}

func TestEachQuestionIsAskedOnce(t *testing.T) {
	s := start(t, lab.Options{})
	i := client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL())
	q := issuer.Question{Depth: issuer.Full, Login: login(s.URL()), RedirectURLs: []string{redirectURL}, RedirectsDeclared: true}
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			if a := i.Client(t.Context(), q); a.Credentials.Decision != issuer.Accepted || a.Redirect.Decision != issuer.Accepted {
				t.Errorf("%+v", a)
			}
		})
	}
	wg.Wait()
	if n := len(s.Requests()); n != 7 {
		t.Errorf("%d requests, want discovery, keys, authorization, two of the token endpoint and two of introspection", n)
	}
	q.Login.ClientKey = check.NewSecret("another-key")
	i.Client(t.Context(), q)
	for _, r := range s.Requests()[7:] {
		if r.Path == "/api/oidc/authorization" {
			t.Error("another key is another question, the redirect URL is not")
		}
	}
}

func TestNothingMoreIsAskedAfterALimit(t *testing.T) {
	s := start(t, lab.Options{Limits: []lab.Limit{{Failures: 1, Refill: time.Hour}}})
	i := client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL())
	q := issuer.Question{Depth: issuer.Full, Login: login(s.URL()), RedirectURLs: []string{redirectURL}, RedirectsDeclared: true}
	q.Login.ClientKey = check.NewSecret("a-wrong-key-0123")
	a := i.Client(t.Context(), q) // the made-up key is limited
	if a.Credentials.Decision != issuer.RateLimited || a.Credentials.RetryAfter <= 0 || a.Redirect.Decision != issuer.Accepted {
		t.Fatalf("%+v", a)
	}
	if _, limited := i.RateLimited(); !limited {
		t.Error("the inspection does not say that it is limited")
	}
	before := len(s.Requests())
	q.Login.ClientKey, q.RedirectURLs = check.NewSecret("another-key-0123"), []string{redirectURL + "/other"}
	a = i.Client(t.Context(), q)
	for _, c := range a.Checks {
		want(t, c, check.Skip, "limits requests")
	}
	if after, limited := a.RateLimited(); !limited || after <= 0 {
		t.Errorf("rate limited %v, %s", limited, after)
	}
	if n := len(s.Requests()); n != before {
		t.Errorf("%d requests after the limit", n-before)
	}
}

// A 429 of an earlier run holds until its end.
func TestAnEarlierLimitIsKept(t *testing.T) {
	s := start(t, lab.Options{})
	q := issuer.Question{Depth: issuer.Full, Login: login(s.URL()), RedirectURLs: []string{redirectURL}, Limited: time.Now().Add(time.Hour), Known: issuer.Known{WentBack: true}}
	i := client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL())
	a := i.Client(t.Context(), q)
	if after, limited := a.RateLimited(); !limited || after < 59*time.Minute || len(s.Requests()) != 2 || !a.Known.WentBack {
		t.Errorf("limited %t for %s, %d requests, %+v", limited, after, len(s.Requests()), a.Known)
	}
	q.Limited = time.Now().Add(-time.Second)
	if a := client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL()).Client(t.Context(), q); a.Credentials.Decision != issuer.Accepted {
		t.Errorf("%+v", a)
	}
}

// count returns how many requests went to token, introspection and authorization endpoint since the last call.
func count(s *lab.Server) [3]int {
	var n [3]int
	for _, r := range s.Requests() {
		if at := slices.Index([]string{"/api/oidc/token", "/api/oidc/introspection", "/api/oidc/authorization"}, r.Path); at >= 0 {
			n[at]++
		}
	}
	s.Reset()
	return n
}

// What made-up values got is remembered: a right client then costs one token request, one introspection and one login request.
func TestControlsAreRemembered(t *testing.T) {
	s := start(t, lab.Options{})
	ask := func(q issuer.Question) issuer.Answer {
		q.RedirectURLs, q.RedirectsDeclared = []string{redirectURL}, true
		if q.Login.IssuerURL == "" {
			q.Login = login(s.URL())
		}
		return client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL()).Client(t.Context(), q)
	}
	wants := func(what string, a issuer.Answer, decision issuer.Decision, requests [3]int) {
		t.Helper()
		if got := count(s); a.Credentials.Decision != decision || got != requests {
			t.Errorf("%s: %s after %v, want %s after %v", what, a.Credentials.Decision, got, decision, requests)
		}
	}
	first := ask(issuer.Question{Depth: issuer.Full})
	wants("first", first, issuer.Accepted, [3]int{2, 2, 1})
	stored, err := json.Marshal(first.Known)
	if err != nil || strings.Contains(string(stored), "invalid") || strings.Contains(string(stored), clientKey) {
		t.Errorf("%s, %v", stored, err)
	}
	var known issuer.Known
	if err := json.Unmarshal(stored, &known); err != nil || known != first.Known && !known.Asked.Equal(first.Known.Asked) {
		t.Errorf("%+v, %v", known, err)
	}
	wants("remembered", ask(issuer.Question{Depth: issuer.Full, Known: known}), issuer.Accepted, [3]int{1, 1, 1})
	wants("free", ask(issuer.Question{Depth: issuer.Free, Known: known}), issuer.Accepted, [3]int{0, 1, 1})
	wants("free, for another key", ask(issuer.Question{Depth: issuer.Free, Known: known.WithoutKey()}), issuer.Accepted, [3]int{0, 1, 1})
	wants("free, and nothing known", ask(issuer.Question{Depth: issuer.Free}), issuer.NoVerdict, [3]int{0, 1, 1})
	old := known
	old.Asked = time.Now().Add(-31 * 24 * time.Hour)
	wants("a month later", ask(issuer.Question{Depth: issuer.Full, Known: old}), issuer.Accepted, [3]int{2, 2, 1})

	wrong := login(s.URL())
	wrong.ClientKey = check.NewSecret("a-wrong-key-0123")
	wants("a wrong key", ask(issuer.Question{Depth: issuer.Full, Login: wrong, Known: known.WithoutKey()}), issuer.Rejected, [3]int{3, 1, 1})
	person := ask(issuer.Question{Depth: issuer.Person, Login: wrong})
	wants("a wrong key, for a person", person, issuer.Rejected, [3]int{5, 1, 1})
	wants("and again", ask(issuer.Question{Depth: issuer.Person, Login: wrong, Known: person.Known}), issuer.Rejected, [3]int{3, 1, 1})

	s.SetClient(lab.Client{ID: "proxmox", Secret: "rotated-at-the-issuer", RedirectURIs: []string{redirectURL}})
	stale := ask(issuer.Question{Depth: issuer.Free, Known: known})
	wants("a rotated key", stale, issuer.Rejected, [3]int{0, 1, 1})
	want(t, find(t, stale.Checks, check.ClientCredentials), check.Fail, "before, and no longer does")

	s.SetMetadata("x_new", 1)
	wants("another document", ask(issuer.Question{Depth: issuer.Free, Known: known}), issuer.NoVerdict, [3]int{0, 1, 1})
}

// R and C are asked once for all redirect URLs, and remembered where prompt=none does not go back.
func TestControlsOfTheLoginRequest(t *testing.T) {
	s := start(t, lab.Options{})
	s.SetHabits(lab.Habits{IgnoresNone: true})
	q := issuer.Question{Depth: issuer.Full, Login: login(s.URL()), KeyUnknown: true, RedirectURLs: []string{redirectURL, redirectURL + "/other"}}
	a := client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL()).Client(t.Context(), q)
	if got := count(s); a.Redirect.Decision != issuer.Accepted || got[2] != 6 { // N and X for each, R and C once
		t.Errorf("%s after %v", a.Redirect.Decision, got)
	}
	for _, depth := range []issuer.Depth{issuer.Full, issuer.Free} {
		q.Known, q.Depth = a.Known, depth
		again := client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL()).Client(t.Context(), q)
		if got := count(s); again.Redirect.Decision != issuer.Accepted || got[2] != 4 {
			t.Errorf("%s after %v", again.Redirect.Decision, got)
		}
	}
	q.Known, q.Depth = issuer.Known{}, issuer.Free
	free := client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL()).Client(t.Context(), q)
	if got := count(s); free.Redirect.Decision != issuer.NoVerdict || got[2] != 2 {
		t.Errorf("%s after %v", free.Redirect.Decision, got)
	}

	// An issuer that sent the browser back before shows an error page now.
	s.SetHabits(lab.Habits{})
	q.Depth = issuer.Full
	a = client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL()).Client(t.Context(), q)
	s.SetHabits(lab.Habits{ErrorPages: 200})
	s.SetClient(lab.Client{ID: "proxmox", Secret: clientKey, RedirectURIs: []string{"https://elsewhere.example.test"}})
	q.Known = a.Known
	a = client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL()).Client(t.Context(), q)
	if a.Redirect.Decision != issuer.Rejected {
		t.Errorf("%+v", a.Redirect)
	}
}

func TestInterruptedQuestionIsAskedAgainByTheNext(t *testing.T) {
	s := start(t, lab.Options{})
	i := client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL())
	_ = i.Wait(t.Context())
	asked := make(chan struct{})
	s.Inject("/api/oidc/token", lab.Fault{Times: 1, Handler: func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}})
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan issuer.Verdict)
	go func() { first <- accepts(ctx, i, s, clientKey) }()
	<-asked
	cancel()
	if v := <-first; v.Decision != issuer.NoVerdict {
		t.Errorf("%+v", v)
	}
	if v := accepts(t.Context(), i, s, clientKey); v.Decision != issuer.Accepted {
		t.Errorf("%+v", v)
	}
}

// accepts asks about a key alone.
func accepts(ctx context.Context, i *issuer.Inspection, s *lab.Server, key string) issuer.Verdict {
	l := login(s.URL())
	l.ClientKey = check.NewSecret(key)
	return i.Client(ctx, issuer.Question{Login: l, Depth: issuer.Full}).Credentials
}

// An issuer that echoes what it was sent must not bring the key into a report or a log.
func TestEchoedKeyIsNotShown(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		_, pass, _ := r.BasicAuth()
		plain, _ := url.QueryUnescape(pass)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": "invalid_client", "error_description": strings.Repeat("x", 190) + plain + " " + pass + " " + r.Header.Get("Authorization")})
	}
	for name, token := range map[string]http.HandlerFunc{
		"as an error": echo,
		"on a page": func(w http.ResponseWriter, r *http.Request) {
			_, pass, _ := r.BasicAuth()
			plain, _ := url.QueryUnescape(pass)
			w.WriteHeader(http.StatusTeapot)
			_, _ = w.Write([]byte(strings.Repeat("x", 190) + plain + pass + r.Header.Get("Authorization")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			issuerURL, ca := scripted(t, token, nil)
			var log strings.Builder
			c := issuer.New(issuer.Options{Roots: roots(ca), Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
			t.Cleanup(c.Close)
			i := c.Inspect(t.Context(), issuerURL)
			got := i.Client(t.Context(), issuer.Question{Depth: issuer.Full, Login: login(issuerURL)})
			all := fmt.Sprintf("%+v %#v", got, got) + log.String()
			basic := base64.StdEncoding.EncodeToString([]byte("proxmox:" + url.QueryEscape(clientKey)))
			for _, form := range []string{clientKey, url.QueryEscape(clientKey), basic, clientKey[:8]} {
				if strings.Contains(all, form) {
					t.Errorf("shown: %q in\n%s", form, all)
				}
			}
		})
	}
}

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
func recorded(t *testing.T, post bool) (issuerURL string, c *issuer.Client) {
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
