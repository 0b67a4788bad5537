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
			[]string{"401 invalid_client", "refuses the key or the authentication method", "client_secret of the client holds the digest of the key; restart Authelia"},
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
			[]string{"exactly so: " + redirectURL + "/\n", "redirect_uris of the client", "does not match any of the OAuth 2.0 Client's pre-registered", redirectURL + ": accepted"},
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
			[]string{"not allowed to request scope 'offline_access'", "scopes of the client", "realm.scopes"},
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
		{"an authorization endpoint that is none", func(s *lab.Server, _ *issuer.Question) {
			s.SetMetadata("authorization_endpoint", "ldap://127.0.0.1/x")
		}, outcomes{issuer.NoVerdict, issuer.NoVerdict}, [2]check.Status{check.Skip, check.Skip}, []string{"not checked: needs issuer.endpoints"}},
		{"a limit at a control question alone", func(s *lab.Server, q *issuer.Question) {
			s.Inject("/api/oidc/introspection", lab.Fault{Status: 429, Header: http.Header{"Retry-After": {"61"}}})
		}, outcomes{issuer.Accepted, issuer.Accepted}, [2]check.Status{check.Pass, check.Pass}, []string{"limited true for 1m1s"}},
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
