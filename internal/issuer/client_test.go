package issuer_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/issuer"
	lab "proxmox-realm/internal/lab/issuer"
)

func TestClientQuestions(t *testing.T) {
	const accepted, rejected, unknown, limited = issuer.Accepted, issuer.Rejected, issuer.NoVerdict, issuer.RateLimited
	type setup func(*lab.Server, *issuer.Question)
	ask := func(change func(*issuer.Question)) setup {
		return func(_ *lab.Server, q *issuer.Question) { change(q) }
	}
	key := func(key string) setup {
		return ask(func(q *issuer.Question) { q.Login.ClientKey = check.NewSecret(key) })
	}
	registered := func(c lab.Client, more ...setup) setup {
		c.ID, c.RedirectURIs = "proxmox", []string{redirectURL}
		return func(s *lab.Server, q *issuer.Question) {
			s.SetClient(c)
			for _, set := range more {
				set(s, q)
			}
		}
	}
	habits := func(h lab.Habits) setup { return func(s *lab.Server, _ *issuer.Question) { s.SetHabits(h) } }
	metadata := func(member string, value any) setup {
		return func(s *lab.Server, _ *issuer.Question) { s.SetMetadata(member, value) }
	}
	answers := func(path string, fault lab.Fault) setup {
		return func(s *lab.Server, _ *issuer.Question) { s.Inject(path, fault) }
	}
	person := ask(func(q *issuer.Question) { q.Depth = issuer.Person })
	retry := http.Header{"Retry-After": {"61"}}
	const token, authorization, introspection = "/api/oidc/token", "/api/oidc/authorization", "/api/oidc/introspection"

	for _, tt := range []struct {
		name                  string
		set                   setup
		credentials, redirect issuer.Decision
		warns                 check.ID // in place of its status
		says                  []string
	}{
		{"right", nil, accepted, accepted, "", nil},

		// The key and the client.
		{"a wrong key", key("wrong-key-0123"), rejected, accepted, "", []string{"401 invalid_client", "refuses the key or the authentication method", "client_secret of the client holds the digest of the key; restart Authelia"}},
		{"a digest in place of the key", key("$pbkdf2-sha512$310000$c8p78n7pUMln0jzvd4aK4Q$JNRBzwAo0ek5qKn50cFzzvE9RXV88h1wJn5KGiHrD0YKtZaR"), rejected, accepted, "", []string{"this one holds a digest"}},
		{"a key that is too short", registered(lab.Client{Secret: "openid"}, key("openid")), accepted, accepted, check.ClientCredentials, []string{"fewer than 8 characters"}},
		{"no key, where one is wanted", ask(func(q *issuer.Question) { q.Login.ClientKey = check.Secret{} }), rejected, accepted, "", []string{"refuses the client proxmox without a key", "{realm.client_key_file}"}},
		{"a key that is not known here", ask(func(q *issuer.Question) { q.Login.ClientKey, q.KeyUnknown = check.Secret{}, true }), unknown, accepted, "", nil},
		{"a client registered for client_secret_post", registered(lab.Client{Secret: clientKey, AuthMethod: "client_secret_post"}), rejected, accepted, "", []string{"token_endpoint_auth_method: 'client_secret_basic'"}},
		{"another method, for a person", registered(lab.Client{Secret: "a-plain-key-0123", AuthMethod: "client_secret_post"}, key("a-plain-key-0123"), person), rejected, accepted, "", []string{"registered for another authentication method than client_secret_basic"}},
		{"a public client with a key", registered(lab.Client{AuthMethod: "none"}, person), rejected, accepted, "", []string{"is public in the issuer"}},
		{"an unknown client", func(s *lab.Server, _ *issuer.Question) { s.RemoveClient("proxmox") }, rejected, rejected, "", []string{"The requested OAuth 2.0 Client does not exist", "{realm.client_id}"}},
		{"a token endpoint that looks at the code first", habits(lab.Habits{CodeFirst: true, BlindIntrospection: true}), unknown, accepted, "", []string{"looks at the code first"}},
		{"the same, and introspection tells", habits(lab.Habits{CodeFirst: true}), accepted, accepted, "", []string{"introspection endpoint tells the key"}},

		// The login request.
		{"a redirect URL with a slash", ask(func(q *issuer.Question) { q.RedirectURLs = []string{redirectURL, redirectURL + "/"} }), accepted, rejected, "", []string{"exactly so: " + redirectURL + "/\n", "redirect_uris of the client", "does not match any of the OAuth 2.0 Client's pre-registered", redirectURL + ": accepted"}},
		{"a guessed redirect URL", ask(func(q *issuer.Question) {
			q.RedirectURLs, q.RedirectsDeclared = []string{"https://10.0.0.1:8006"}, false
		}), accepted, rejected, check.ClientRedirect, []string{"verify.redirect_urls"}},
		{"no redirect URL", ask(func(q *issuer.Question) { q.RedirectURLs = nil }), accepted, unknown, "", nil},
		{"a scope that the client may not ask for", ask(func(q *issuer.Question) { q.Login.Scopes = []string{"openid", "offline_access"} }), accepted, rejected, "", []string{"not allowed to request scope 'offline_access'", "scopes of the client", "realm.scopes"}},
		{"a response type that the client may not ask for", registered(lab.Client{Secret: clientKey, ResponseTypes: []string{"id_token"}}), accepted, rejected, "", []string{"response_types"}},
		{"a client that must push its requests", registered(lab.Client{Secret: clientKey, RequirePushed: true}), accepted, rejected, "", []string{"require_pushed_authorization_requests: false", "Pushed Authorization Requests are required"}},
		{"an error page for everyone", func(s *lab.Server, _ *issuer.Question) {
			s.Inject(authorization, lab.Fault{Status: 302, Header: http.Header{"Location": {s.URL() + "/error?error=invalid_request&error_hint=try+later"}}})
		}, accepted, rejected, "", []string{"invalid_request: try later", "or every login"}},
		{"a login page for everyone", answers(authorization, lab.Fault{Body: []byte("<form>user, password</form>")}), accepted, unknown, "", []string{"judges client and redirect URL after the login"}},
		{"a login page despite prompt=none", habits(lab.Habits{IgnoresNone: true}), accepted, accepted, "", []string{"shows a login page, and refuses other clients"}},
		{"a redirect URL that is judged after the login", func(s *lab.Server, q *issuer.Question) {
			s.SetHabits(lab.Habits{IgnoresNone: true, JudgesLate: true})
			q.RedirectURLs = []string{"https://elsewhere.example.test"}
		}, accepted, unknown, "", []string{"knows the client, and judges the redirect URL after the login"}},

		// Trouble and limits.
		{"a token endpoint that fails", answers(token, lab.Fault{Status: 503, Body: []byte("down for maintenance")}), unknown, accepted, "", []string{"503", "down for maintenance"}},
		{"endpoints that fail", func(s *lab.Server, _ *issuer.Question) {
			s.Inject(token, lab.Fault{Reset: true})
			s.Inject(authorization, lab.Fault{Status: 500})
		}, unknown, unknown, "", nil},
		{"a limit", answers(token, lab.Fault{Status: 429, Header: retry}), limited, accepted, "", []string{"429, again in 1m1s"}},
		{"a limit at a control question alone", answers(introspection, lab.Fault{Status: 429, Header: retry}), accepted, accepted, "", []string{"limited true for 1m1s"}},

		// What must be right before the key is sent.
		{"an authorization endpoint that is none", metadata("authorization_endpoint", "ldap://127.0.0.1/x"), unknown, unknown, "", []string{"not checked: needs issuer.endpoints"}},
		{"another name of the issuer", func(s *lab.Server, _ *issuer.Question) { s.SetIssuer(s.URL() + "/") }, unknown, accepted, "", []string{"not checked: needs issuer.identity"}},
		{"a token endpoint without TLS", metadata("token_endpoint", "http://127.0.0.1:1/token"), unknown, accepted, "", []string{"not checked: the key is not sent over http"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, lab.Options{})
			q := issuer.Question{Depth: issuer.Full, Login: login(s.URL()), RedirectURLs: []string{redirectURL}, RedirectsDeclared: true}
			if tt.set != nil {
				tt.set(s, &q)
			}
			got := client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL()).Client(t.Context(), q)
			if got.Credentials.Decision != tt.credentials || got.Redirect.Decision != tt.redirect {
				t.Errorf("%s and %s, want %s and %s", got.Credentials.Decision, got.Redirect.Decision, tt.credentials, tt.redirect)
			}
			for id, decision := range map[check.ID]issuer.Decision{check.ClientCredentials: tt.credentials, check.ClientRedirect: tt.redirect} {
				status := map[issuer.Decision]check.Status{accepted: check.Pass, rejected: check.Fail, unknown: check.Skip, limited: check.Skip}[decision]
				if id == tt.warns {
					status = check.Warn
				}
				want(t, find(t, got.Checks, id), status)
			}
			after, limited := got.RateLimited()
			all := fmt.Sprintf("%+v limited %t for %s", got, limited, after)
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
		http.Redirect(w, r, "/api/oidc/token?again", http.StatusTemporaryRedirect)
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
		if r.Header.Get("Authorization") != "" || !strings.HasPrefix(r.Header.Get("Accept"), "text/html") || r.Header.Get("Accept-Language") != "en" {
			t.Errorf("not as a browser asks: %v", r.Header)
		}
		http.Redirect(w, r, q.Get("redirect_uri")+"?error=login_required&state="+url.QueryEscape(q.Get("state")), http.StatusFound)
	}
	s := start(t, lab.Options{})
	s.SetMetadata("introspection_endpoint", nil)
	s.SetMetadata("authorization_endpoint", s.URL()+"/api/oidc/authorization?tenant=1")
	s.Inject("/api/oidc/token", lab.Fault{Handler: token})
	s.Inject("/api/oidc/authorization", lab.Fault{Handler: authorize})
	l := login(s.URL())
	l.ClientID = "a client:é"
	got := client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL()).Client(t.Context(), issuer.Question{Depth: issuer.Full, Login: l, RedirectURLs: []string{redirectURL, redirectURL + "/b"}})
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
			s := start(t, lab.Options{})
			s.SetMetadata("introspection_endpoint", nil)
			s.Inject("/api/oidc/token", lab.Fault{Handler: token})
			var log strings.Builder
			i := client(t, s, issuer.Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}).Inspect(t.Context(), s.URL())
			got := i.Client(t.Context(), issuer.Question{Depth: issuer.Full, Login: login(s.URL())})
			if name == "on a page" && got.Known.Key != (issuer.Mark{}) { // of an error, the code alone counts
				t.Errorf("a digest of what holds a key is remembered: %+v", got.Known)
			}
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
