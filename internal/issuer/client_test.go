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
			[]string{"401 invalid_client", "restart Authelia"},
		},
		{"a client registered for client_secret_post", func(s *lab.Server, _ *issuer.Question) {
			s.SetClient(lab.Client{ID: "proxmox", Secret: clientKey, AuthMethod: "client_secret_post", RedirectURIs: []string{redirectURL}})
		}, outcomes{issuer.Rejected, issuer.Accepted}, [2]check.Status{check.Fail, check.Pass}, []string{"token_endpoint_auth_method: 'client_secret_basic'"}},
		{
			"an unknown client", func(s *lab.Server, _ *issuer.Question) { s.RemoveClient("proxmox") },
			outcomes{issuer.Rejected, issuer.Rejected},
			[2]check.Status{check.Fail, check.Fail},
			[]string{"The requested OAuth 2.0 Client does not exist", "realm.client_id"},
		},
		{
			"no key, where one is wanted", func(_ *lab.Server, q *issuer.Question) { q.Login.ClientKey = check.Secret{} },
			outcomes{issuer.Rejected, issuer.Accepted},
			[2]check.Status{check.Fail, check.Pass},
			[]string{"realm.client_key_file"},
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
			[]string{"exactly so: " + redirectURL + "/", "does not match any", redirectURL + ": accepted"},
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
		{
			"asked quietly", func(_ *lab.Server, q *issuer.Question) { q.Depth = issuer.Free },
			outcomes{issuer.Accepted, issuer.Accepted},
			[2]check.Status{check.Pass, check.Pass},
			[]string{"introspection"},
		},
		{
			"a wrong key, asked quietly", func(_ *lab.Server, q *issuer.Question) {
				q.Depth, q.Login.ClientKey = issuer.Free, check.NewSecret("wrong-key-0123")
			},
			outcomes{issuer.Rejected, issuer.Accepted},
			[2]check.Status{check.Fail, check.Pass},
			[]string{"request_unauthorized"},
		},
		{"a token endpoint that fails", func(s *lab.Server, _ *issuer.Question) {
			s.Inject("/api/oidc/token", lab.Fault{Status: 503, Body: []byte("down for maintenance")})
		}, outcomes{issuer.NoVerdict, issuer.Accepted}, [2]check.Status{check.Skip, check.Pass}, []string{"503", "down for maintenance"}},
		{"endpoints that fail", func(s *lab.Server, _ *issuer.Question) {
			s.Inject("/api/oidc/token", lab.Fault{Reset: true})
			s.Inject("/api/oidc/authorization", lab.Fault{Status: 500})
		}, outcomes{issuer.NoVerdict, issuer.NoVerdict}, [2]check.Status{check.Skip, check.Skip}, nil},
		{"a client that must push its requests", func(s *lab.Server, _ *issuer.Question) {
			s.Inject("/api/oidc/authorization", lab.Fault{Status: 302, Header: http.Header{"Location": {s.URL() + "/consent/completion?error=invalid_request" +
				"&error_hint=Pushed+Authorization+Requests+are+required+but+this+request+was+not+pushed"}}})
		}, outcomes{issuer.Accepted, issuer.Rejected}, [2]check.Status{check.Pass, check.Fail}, []string{"require_pushed_authorization_requests: false", "Pushed Authorization Requests are required"}},
		{"an error on the issuer's own page", func(s *lab.Server, _ *issuer.Question) {
			s.Inject("/api/oidc/authorization", lab.Fault{Status: 302, Header: http.Header{"Location": {s.URL() + "/error?error=invalid_request&error_hint=try+later"}}})
		}, outcomes{issuer.Accepted, issuer.NoVerdict}, [2]check.Status{check.Pass, check.Warn}, []string{"invalid_request: try later"}},
		{"an issuer that shows its login page", func(s *lab.Server, _ *issuer.Question) {
			s.Inject("/api/oidc/authorization", lab.Fault{Body: []byte("<form>user, password</form>")})
		}, outcomes{issuer.Accepted, issuer.NoVerdict}, [2]check.Status{check.Pass, check.Skip}, []string{"despite prompt=none"}},
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
		}, outcomes{issuer.NoVerdict, issuer.Accepted}, [2]check.Status{check.Skip, check.Pass}, []string{"not checked: needs issuer.endpoints"}},
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
	if n := len(s.Requests()); n != 4 || s.Handshakes() != 1 {
		t.Errorf("%d requests, %d handshakes", n, s.Handshakes())
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
	if got.Credentials.Decision != issuer.NoVerdict || got.Redirect.Decision != issuer.Accepted {
		t.Errorf("%+v", got)
	}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(l.ClientID)+":"+url.QueryEscape(clientKey)))
	if !slices.Equal(headers, []string{want}) || elsewhere != 0 {
		t.Errorf("headers %v, %d requests along the redirect", len(headers), elsewhere)
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
	if n := len(s.Requests()); n != 4 {
		t.Errorf("%d requests, want discovery, keys, token and authorization", n)
	}
	q.Login.ClientKey = check.NewSecret("another-key")
	i.Client(t.Context(), q)
	if n := len(s.Requests()); n != 5 {
		t.Errorf("%d requests: another key is another question, the redirect URL is not", n)
	}
}

func TestNothingMoreIsAskedAfterALimit(t *testing.T) {
	s := start(t, lab.Options{Limits: []lab.Limit{{Failures: 1, Refill: time.Hour}}})
	i := client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL())
	if v := accepts(t.Context(), i, s, "wrong-one"); v.Decision != issuer.Rejected {
		t.Fatalf("%+v", v)
	}
	if v := accepts(t.Context(), i, s, "wrong-two"); v.Decision != issuer.RateLimited || v.RetryAfter <= 0 {
		t.Fatalf("%+v", v)
	}
	before := len(s.Requests())
	a := i.Client(t.Context(), issuer.Question{Depth: issuer.Full, Login: login(s.URL()), RedirectURLs: []string{redirectURL}, RedirectsDeclared: true})
	for _, c := range a.Checks {
		want(t, c, check.Skip, "limits requests")
	}
	if after, limited := a.RateLimited(); !limited || after <= 0 {
		t.Errorf("rate limited %v, %s", limited, after)
	}
	if _, limited := i.RateLimited(); !limited {
		t.Error("the inspection does not say that it is limited")
	}
	if n := len(s.Requests()); n != before {
		t.Errorf("%d requests after the limit", n-before)
	}
}

// accepts asks about a key alone, in the way that costs the issuer least.
func accepts(ctx context.Context, i *issuer.Inspection, s *lab.Server, key string) issuer.Verdict {
	l := login(s.URL())
	l.ClientKey = check.NewSecret(key)
	return i.Client(ctx, issuer.Question{Login: l, Depth: issuer.Free}).Credentials
}

func TestCheapQuestionTellsWhichKeyTheIssuerAccepts(t *testing.T) {
	s := start(t, lab.Options{})
	i := client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL())
	if v := accepts(t.Context(), i, s, clientKey); v.Decision != issuer.Accepted {
		t.Errorf("%+v", v)
	}
	if v := accepts(t.Context(), i, s, "stale-key"); v.Decision != issuer.Rejected {
		t.Errorf("%+v", v)
	}
}

func TestInterruptedQuestionIsAskedAgainByTheNext(t *testing.T) {
	s := start(t, lab.Options{})
	i := client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL())
	_ = i.Wait(t.Context())
	asked := make(chan struct{})
	s.Inject("/api/oidc/introspection", lab.Fault{Times: 1, Handler: func(_ http.ResponseWriter, r *http.Request) {
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

// TestRecordedAuthelia replays what Authelia 4.39.20 answered, byte for byte as far as it was recorded.
func TestRecordedAuthelia(t *testing.T) {
	data, err := os.ReadFile("../lab/testdata/authelia-4.39.20.json")
	if err != nil {
		t.Fatal(err)
	}
	var record struct{ Exchanges []exchange }
	if err := json.Unmarshal(data, &record); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		token, authorize, introspect string // exchanges to answer with
		depth                        issuer.Depth
		credentials, redirect        issuer.Decision
		says                         string
	}{
		{"token-right-secret", "authorize-prompt-none", "", issuer.Full, issuer.Accepted, issuer.Accepted, "login_required"},
		{"token-wrong-secret", "authorize-unknown-client", "", issuer.Full, issuer.Rejected, issuer.Rejected, "The requested OAuth 2.0 Client does not exist."},
		{"token-unknown-client", "authorize-wrong-redirect", "", issuer.Full, issuer.Rejected, issuer.Rejected, "does not match any of the OAuth 2.0 Client's pre-registered"},
		{"token-basic-for-a-post-client", "authorize-redirect-with-slash", "", issuer.Full, issuer.Rejected, issuer.Rejected, "'client_secret_basic'"},
		{"token-secret-in-body", "authorize-scope-not-allowed", "", issuer.Full, issuer.Rejected, issuer.Rejected, "not allowed to request scope 'offline_access'"},
		{"token-without-client-authentication", "authorize-response-type", "", issuer.Full, issuer.NoVerdict, issuer.Rejected, "response_types"},
		{"token-right-secret", "authorize-short-state", "", issuer.Full, issuer.Accepted, issuer.NoVerdict, "invalid_state"},
		{"token-wrong-secret", "authorize-prompt-none", "introspection-right-secret", issuer.Free, issuer.Accepted, issuer.Accepted, ""},
		{"token-right-secret", "authorize-prompt-none", "introspection-wrong-secret", issuer.Free, issuer.Rejected, issuer.Accepted, "request_unauthorized"},
	} {
		t.Run(tt.token+" "+tt.authorize+" "+tt.introspect, func(t *testing.T) {
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
				id := map[string]string{
					"/.well-known/openid-configuration": "discovery", "/jwks.json": "jwks",
					"/api/oidc/token": tt.token, "/api/oidc/authorization": tt.authorize, "/api/oidc/introspection": tt.introspect,
				}[r.URL.Path]
				at := slices.IndexFunc(record.Exchanges, func(e exchange) bool { return e.ID == id })
				if at < 0 {
					t.Errorf("not recorded: %s", r.URL)
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
					body, _ := json.Marshal(e.Body)
					_, _ = w.Write([]byte(fill.Replace(string(body))))
				}
			}))
			s.TLS = tlsConfig(certificate)
			s.StartTLS()
			t.Cleanup(s.Close)
			c := issuer.New(issuer.Options{Roots: roots(ca.PEM())})
			t.Cleanup(c.Close)
			l := login(s.URL)
			l.ClientKey = check.NewSecret("insecure_secret")
			// The recorded redirects go to the first; the wrong ones were asked about others.
			i := c.Inspect(t.Context(), s.URL)
			for _, found := range i.Checks(view(l)) {
				want(t, found, check.Pass)
			}
			got := i.Client(t.Context(), issuer.Question{Depth: tt.depth, Login: l, RedirectURLs: []string{redirectURL}, RedirectsDeclared: true})
			if got.Credentials.Decision != tt.credentials || got.Redirect.Decision != tt.redirect {
				t.Errorf("%s and %s, want %s and %s", got.Credentials.Decision, got.Redirect.Decision, tt.credentials, tt.redirect)
			}
			if all := fmt.Sprintf("%+v", got); !strings.Contains(all, tt.says) {
				t.Errorf("%q is not said:\n%s", tt.says, all)
			}
		})
	}
}
