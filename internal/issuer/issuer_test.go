package issuer_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/issuer"
	lab "proxmox-realm/internal/lab/issuer"
	"proxmox-realm/internal/realm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	clientKey   = "p+q/r s&t%u:ключ-0123456789" // every character that form encoding changes
	redirectURL = "https://pve.example.test:8006"
)

// start runs the lab's issuer, with the client proxmox registered.
func start(t *testing.T, o lab.Options) *lab.Server {
	t.Helper()
	if o.Clients == nil {
		o.Clients = []lab.Client{{ID: "proxmox", Secret: clientKey, RedirectURIs: []string{redirectURL, redirectURL + "/other"}}}
	}
	s, err := lab.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func client(t *testing.T, s *lab.Server, o issuer.Options) *issuer.Inspector {
	t.Helper()
	if o.Roots == nil {
		o.Roots = roots(s.Authority().PEM())
	}
	c := issuer.New(o)
	t.Cleanup(c.Close)
	return c
}

func roots(pem []byte) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return pool
}

// login is what Proxmox uses with the agent's defaults.
func login(issuerURL string) realm.Login {
	v := realm.CreationDefaults()
	v[realm.IssuerURL], v[realm.ClientID], v[realm.ClientKey] = realm.Text(issuerURL), realm.Text("proxmox"), realm.Key(check.NewSecret(clientKey))
	return v.Login("authelia")
}

func view(l realm.Login) issuer.View {
	return issuer.View{Login: l, Version: realm.Version{Major: 9, Minor: 2}, ClockKnown: true}
}

func find(t *testing.T, checks []check.Check, id check.ID) check.Check {
	t.Helper()
	c, ok := check.Find(checks, id)
	if !ok {
		t.Fatalf("%s is missing", id)
	}
	return c
}

// want asserts a check's status, that it says each word somewhere, and that a warning or failure has a hint.
func want(t *testing.T, c check.Check, status check.Status, words ...string) {
	t.Helper()
	said := c.Summary + "\n" + c.Evidence + "\n" + c.Hint.For(check.Names{})
	if c.Status != status {
		t.Errorf("%s: %s, want %s\n%s", c.ID, c.Status, status, said)
	}
	for _, w := range words {
		if unwanted, not := strings.CutPrefix(w, "!"); not {
			if strings.Contains(said, unwanted) {
				t.Errorf("%s says %q:\n%s", c.ID, unwanted, said)
			}
			continue
		}
		if !strings.Contains(said, w) {
			t.Errorf("%s does not say %q:\n%s", c.ID, w, said)
		}
	}
	if (c.Hint.For(check.Names{}) != "") != (c.Status == check.Warn || c.Status == check.Fail) {
		t.Errorf("%s: %s with the hint %q", c.ID, c.Status, c.Hint.For(check.Names{}))
	}
	if strings.Contains(said, clientKey) || strings.Contains(said, url.QueryEscape(clientKey)) {
		t.Errorf("%s shows the key:\n%s", c.ID, said)
	}
}

func TestRightSetUpPassesEverywhere(t *testing.T) {
	for _, tt := range []struct {
		name   string
		o      lab.Options
		adjust func(*realm.Login)
	}{
		{"plain", lab.Options{}, nil},
		{"a path in the issuer", lab.Options{Path: "/auth"}, nil},
		{"IPv6", lab.Options{Listen: "[::1]:0"}, nil},
		{"groups", lab.Options{}, func(l *realm.Login) { l.Scopes, l.GroupsClaim = append(l.Scopes, "groups"), "groups" }},
		{"sub alone, without userinfo", lab.Options{}, func(l *realm.Login) { l.UsernameClaim, l.QueryUserinfo = "sub", false }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, tt.o)
			i := client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL())
			l := login(s.URL())
			if tt.adjust != nil {
				tt.adjust(&l)
			}
			checks := i.Checks(view(l))
			for n, e := range check.Catalog()[:12] {
				if checks[n].ID != e.ID {
					t.Errorf("place %d: %s, want %s", n, checks[n].ID, e.ID)
				}
				want(t, checks[n], check.Pass)
			}
			answer := i.Client(t.Context(), issuer.Question{Depth: issuer.Full, Login: l, RedirectURLs: []string{redirectURL}, RedirectsDeclared: true})
			want(t, find(t, answer.Checks, check.ClientCredentials), check.Pass, "invalid_grant")
			want(t, find(t, answer.Checks, check.ClientRedirect), check.Pass, "login_required")
			if !i.Quick() {
				t.Error("it was quick")
			}
			if _, ok := i.Certificate(); !ok {
				t.Error("no certificate")
			}
			if endpoint, ok := i.AuthorizationEndpoint(); !ok || endpoint != s.URL()+"/api/oidc/authorization" {
				t.Errorf("authorization endpoint %q", endpoint)
			}
		})
	}
}

func TestOneHandshakeAndTwoRequestsForAnyNumberOfTargets(t *testing.T) {
	s := start(t, lab.Options{})
	i := client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL())
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for _, c := range i.Checks(view(login(s.URL()))) {
				if c.Status != check.Pass {
					t.Errorf("%s: %s", c.ID, c.Summary)
				}
			}
		})
	}
	wg.Wait()
	if len(s.Requests()) != 2 || s.Handshakes() != 1 {
		t.Errorf("the issuer saw %d requests and %d handshakes", len(s.Requests()), s.Handshakes())
	}
}

func TestURL(t *testing.T) {
	for _, tt := range []struct {
		url    string
		status check.Status
		says   []string
	}{
		{"https://auth.example.com", check.Pass, nil},
		{"https://auth.example.com/", check.Pass, nil},
		{"https://[2001:db8::1]:9091/auth", check.Pass, nil},
		{"https://id.example.com/application/o/proxmox/", check.Pass, nil},
		{"https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0", check.Pass, nil},
		{"http://auth.example.com/x", check.Warn, []string{"travel in clear", "no key is sent"}},
		{"auth.example.com", check.Fail, []string{"https://"}},
		{"https://auth.example.com?x=1", check.Fail, []string{"query"}},
		{"https://auth.example.com?", check.Fail, []string{"query"}},
		{"https://auth.example.com#x", check.Fail, []string{"fragment"}},
		{"https://admin:hunter2@auth.example.com", check.Fail, []string{"credentials"}},
		{" https://auth.example.com", check.Fail, []string{"not a URL"}},
		{"https://auth.example.com/.well-known/openid-configuration", check.Fail, []string{"set realm.issuer_url to https://auth.example.com "}},
		{"", check.Fail, nil},
		{"https://", check.Fail, nil},
		{"ldap://auth.example.com", check.Fail, nil},
		{"https://auth.example.com:port", check.Fail, nil},
	} {
		c := issuer.New(issuer.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // the URL alone is looked at
		i := c.Inspect(ctx, tt.url)
		_ = i.Wait(t.Context())
		got := i.Checks(issuer.View{})
		want(t, find(t, got, check.IssuerURL), tt.status, tt.says...)
		for _, c := range got[1:] {
			want(t, c, check.Skip)
		}
		for _, c := range got {
			if strings.Contains(c.Summary+c.Evidence+c.Hint.For(check.Names{}), "hunter2") {
				t.Errorf("%s shows the password", c.ID)
			}
		}
	}
}

func TestFindings(t *testing.T) {
	set := func(member string, value any) func(*testing.T, *lab.Server, *issuer.View) {
		return func(_ *testing.T, s *lab.Server, _ *issuer.View) { s.SetMetadata(member, value) }
	}
	keys := func(algs ...string) func(*testing.T, *lab.Server, *issuer.View) {
		return func(t *testing.T, s *lab.Server, _ *issuer.View) {
			var list []lab.Key
			for _, alg := range algs {
				k, err := lab.NewKey(alg, alg)
				if err != nil {
					t.Fatal(err)
				}
				list = append(list, k)
			}
			s.SetKeys(list...)
		}
	}
	on := func(v realm.Version, do func(*testing.T, *lab.Server, *issuer.View)) func(*testing.T, *lab.Server, *issuer.View) {
		return func(t *testing.T, s *lab.Server, w *issuer.View) {
			do(t, s, w)
			w.Version = v
		}
	}
	body := func(path, kind, text string) func(*testing.T, *lab.Server, *issuer.View) {
		return func(_ *testing.T, s *lab.Server, _ *issuer.View) {
			s.Inject(path, lab.Fault{Header: map[string][]string{"Content-Type": {kind}}, Body: []byte(text)})
		}
	}
	clocks := func(theirs, ours time.Duration) func(*testing.T, *lab.Server, *issuer.View) {
		return func(_ *testing.T, s *lab.Server, w *issuer.View) {
			s.SetClockOffset(theirs)
			w.ClockOffset = ours
		}
	}
	ask := func(do func(*realm.Login)) func(*testing.T, *lab.Server, *issuer.View) {
		return func(_ *testing.T, _ *lab.Server, w *issuer.View) { do(&w.Login) }
	}
	pve7, pve8, pve9 := realm.Version{Major: 7, Minor: 4}, realm.Version{Major: 8, Minor: 4}, realm.Version{Major: 9}

	for _, tt := range []struct {
		name   string
		with   func(*testing.T, *lab.Server, *issuer.View)
		id     check.ID
		status check.Status
		says   []string
	}{
		{"another slash", func(_ *testing.T, s *lab.Server, _ *issuer.View) { s.SetIssuer(s.URL() + "/") }, check.IssuerIdentity, check.Fail, []string{"set realm.issuer_url to https://127.0.0.1:", "/"}},
		{"another host, where no document is", func(_ *testing.T, s *lab.Server, _ *issuer.View) { s.SetIssuer("https://auth.example.test") }, check.IssuerIdentity, check.Fail, []string{"the issuer's own name: https://auth.example.test", "X-Forwarded-Proto", "!set realm.issuer_url"}},
		{"another path, where no document is", func(_ *testing.T, s *lab.Server, _ *issuer.View) { s.SetIssuer(s.URL() + "/global") }, check.IssuerIdentity, check.Fail, []string{"external address", "!set realm.issuer_url"}},
		{"another scheme", func(_ *testing.T, s *lab.Server, _ *issuer.View) {
			s.SetIssuer(strings.Replace(s.URL(), "https:", "http:", 1))
		}, check.IssuerIdentity, check.Fail, []string{"let the proxy in front of the issuer pass on Host, X-Forwarded-Proto", "!set realm.issuer_url"}},
		{"nonsense as name", func(_ *testing.T, s *lab.Server, _ *issuer.View) { s.SetIssuer("x:y") }, check.IssuerIdentity, check.Fail, []string{"x:y", "external address"}},
		{"a tenant to be named", func(_ *testing.T, s *lab.Server, _ *issuer.View) {
			s.SetIssuer("https://login.microsoftonline.com/{tenantid}/v2.0")
		}, check.IssuerIdentity, check.Fail, []string{"TENANT-ID"}},

		{"HTML", body("/.well-known/openid-configuration", "text/html; charset=utf-8", "<html><title>Login - Authelia</title></html>"), check.IssuerDiscovery, check.Fail, []string{"text/html", "Login - Authelia", "no discovery document is there"}},
		{"JSON as HTML", body("/.well-known/openid-configuration", "text/html", "{}"), check.IssuerDiscovery, check.Fail, nil},
		{"HTML as JSON", body("/.well-known/openid-configuration", "application/json", "<html>"), check.IssuerDiscovery, check.Fail, []string{"invalid character"}},
		{"an empty object", body("/.well-known/openid-configuration", "application/json", "{}"), check.IssuerDiscovery, check.Fail, []string{"authorization_endpoint is missing", "jwks_uri is missing", "subject_types_supported is missing"}},
		{"a missing member", set("subject_types_supported", nil), check.IssuerDiscovery, check.Fail, []string{"subject_types_supported is missing"}},
		{"a text for a list", set("scopes_supported", "openid"), check.IssuerDiscovery, check.Fail, []string{"the member scopes_supported has the wrong type: string"}},
		{"a relative URL", set("op_policy_uri", "/policy"), check.IssuerDiscovery, check.Fail, []string{`"/policy" is not an absolute URL`}},
		{"a number for a URL", set("jwks_uri", 7), check.IssuerDiscovery, check.Fail, []string{"the member jwks_uri has the wrong type: number"}},
		{"what go-oidc reads and Proxmox does not", set("device_authorization_endpoint", false), check.IssuerDiscovery, check.Pass, nil},
		{"a number among the algorithms", set("id_token_signing_alg_values_supported", []any{"RS256", 7}), check.IssuerDiscovery, check.Pass, nil},
		{"an unread endpoint of another type", set("introspection_endpoint", false), check.IssuerEndpoints, check.Pass, nil},
		{"unread members of other types", func(_ *testing.T, s *lab.Server, _ *issuer.View) {
			s.SetMetadata("require_pushed_authorization_requests", "no")
			s.SetMetadata("code_challenge_methods_supported", "S256")
		}, check.IssuerCapabilities, check.Pass, nil},
		{"null for an optional member", set("claims_supported", json.RawMessage("null")), check.IssuerDiscovery, check.Pass, nil},
		{"a member that nobody reads", set("x_anything", map[string]int{"a": 1}), check.IssuerDiscovery, check.Pass, nil},
		{"status", func(_ *testing.T, s *lab.Server, _ *issuer.View) {
			s.Inject("/.well-known/openid-configuration", lab.Fault{Status: 502, Body: []byte("bad\x1b[31m gateway")})
		}, check.IssuerDiscovery, check.Fail, []string{"502", "bad[31m gateway", "proxy"}},
		{"429 is no verdict", func(_ *testing.T, s *lab.Server, _ *issuer.View) {
			s.Inject("/.well-known/openid-configuration", lab.Fault{Status: 429, Header: map[string][]string{"Retry-After": {"30"}}})
		}, check.IssuerDiscovery, check.Skip, []string{"429, again in 30s"}},

		{"no token endpoint", set("token_endpoint", nil), check.IssuerEndpoints, check.Fail, []string{"token_endpoint"}},
		{"http", set("token_endpoint", "http://auth.example.test/token"), check.IssuerEndpoints, check.Warn, []string{"token_endpoint http://auth.example.test/token", "no key is sent", "X-Forwarded-Proto"}},
		{"an endpoint that is no URL of the web", set("token_endpoint", "ldap://auth.example.test"), check.IssuerEndpoints, check.Fail, []string{"ldap://auth.example.test"}},
		{"an endpoint with a fragment", set("token_endpoint", "https://auth.example.test/token#x"), check.IssuerEndpoints, check.Fail, []string{"token#x"}},
		{"no userinfo", set("userinfo_endpoint", nil), check.IssuerEndpoints, check.Fail, []string{"query_userinfo"}},
		{"no userinfo, which Backup Server always asks", func(_ *testing.T, s *lab.Server, w *issuer.View) {
			s.SetMetadata("userinfo_endpoint", nil)
			w.Version = realm.Version{Product: realm.BackupServer, Major: 4}
		}, check.IssuerEndpoints, check.Fail, []string{"serve a userinfo endpoint", "!query_userinfo"}},
		{"no userinfo, and none wanted", func(_ *testing.T, s *lab.Server, w *issuer.View) {
			s.SetMetadata("userinfo_endpoint", nil)
			w.Login.QueryUserinfo, w.Login.UsernameClaim = false, "sub"
		}, check.IssuerEndpoints, check.Pass, nil},

		{"an empty key set", keys(), check.IssuerKeys, check.Fail, []string{"empty"}},
		{"no array of keys", body("/jwks.json", "application/json", "{}"), check.IssuerKeys, check.Fail, []string{"no array"}},
		{"keys as HTML", body("/jwks.json", "text/html", "<p>no"), check.IssuerKeys, check.Fail, []string{"text/html"}},
		{"the media type of key sets", body("/jwks.json", "application/jwk-set+json", rsaKeys), check.IssuerKeys, check.Pass, nil},
		{"for encryption alone", body("/jwks.json", "application/json", strings.Replace(rsaKeys, `"sig"`, `"enc"`, 1)), check.IssuerKeys, check.Fail, []string{"RSA 2048 enc"}},
		{"one malformed key beside a good one", body("/jwks.json", "application/json", strings.Replace(rsaKeys, `[`, `[7,{"kty":"RSA","n":"!","e":3},{"kty":"XX"},`, 1)), check.IssuerKeys, check.Pass, nil},
		{"ES256 on 9", on(pve9, keys("ES256")), check.IssuerKeys, check.Pass, nil},
		{"EdDSA on 9", on(pve9, func(t *testing.T, s *lab.Server, v *issuer.View) {
			keys("EdDSA")(t, s, v)
			s.SetMetadata("id_token_signing_alg_values_supported", []string{"EdDSA"})
		}), check.IssuerKeys, check.Pass, nil},
		{"EdDSA that is not advertised", on(pve9, keys("EdDSA")), check.IssuerKeys, check.Fail, nil},
		{"ES256 on 8", on(pve8, keys("ES256")), check.IssuerKeys, check.Fail, []string{"Proxmox VE 8.4", "upgrade to Proxmox VE 9.0"}},
		{"ES256 on Backup Server 4", on(realm.Version{Product: realm.BackupServer, Major: 4, Minor: 2}, keys("ES256")), check.IssuerKeys, check.Pass, nil},
		{"ES256 on Backup Server 3", on(realm.Version{Product: realm.BackupServer, Major: 3, Minor: 4}, keys("ES256")), check.IssuerKeys, check.Fail, []string{"Proxmox Backup Server 3.4", "upgrade to Proxmox Backup Server 4.0"}},
		{"ES512 on 8", on(pve8, keys("ES512")), check.IssuerKeys, check.Fail, []string{"!upgrade"}},
		{"ES256 on 7", on(pve7, keys("ES256")), check.IssuerKeys, check.Fail, []string{"Proxmox VE 7.4"}},
		{"ES256 on an unknown version", on(realm.Version{}, keys("ES256")), check.IssuerKeys, check.Skip, []string{"Proxmox VE 9.0 and later"}},
		{"ES512 on 9", on(pve9, keys("ES512")), check.IssuerKeys, check.Fail, nil},
		{"PS256 on 8", on(pve8, keys("PS256")), check.IssuerKeys, check.Pass, nil},
		{"RS256 that is not advertised", on(pve9, func(t *testing.T, s *lab.Server, v *issuer.View) {
			keys("RS256")(t, s, v)
			s.SetMetadata("id_token_signing_alg_values_supported", []string{"ES256"})
		}), check.IssuerKeys, check.Fail, []string{"advertised for ID tokens: ES256"}},
		{"signed with the client key", func(_ *testing.T, s *lab.Server, _ *issuer.View) {
			s.SetKeys()
			s.SetMetadata("id_token_signing_alg_values_supported", []string{"HS256"})
		}, check.IssuerKeys, check.Pass, nil},

		{"no code flow", set("response_types_supported", []string{"id_token"}), check.IssuerCapabilities, check.Fail, []string{"response_types_supported: id_token"}},
		{"no authorization_code", set("grant_types_supported", []string{"implicit"}), check.IssuerCapabilities, check.Fail, []string{"grant_types_supported"}},
		{"no Basic", set("token_endpoint_auth_methods_supported", []string{"client_secret_post"}), check.IssuerCapabilities, check.Fail, []string{"client_secret_post"}},
		{"plain PKCE alone", set("code_challenge_methods_supported", []string{"plain"}), check.IssuerCapabilities, check.Fail, []string{"plain"}},
		{"pushed requests required", set("require_pushed_authorization_requests", true), check.IssuerCapabilities, check.Fail, []string{"require_pushed"}},
		{"the prompt none", ask(func(l *realm.Login) { l.Prompt = "none" }), check.IssuerCapabilities, check.Warn, []string{"session at the issuer", "set realm.prompt to login"}},
		{"PKCE not advertised", set("code_challenge_methods_supported", nil), check.IssuerCapabilities, check.Pass, nil},
		{"methods not advertised", set("token_endpoint_auth_methods_supported", nil), check.IssuerCapabilities, check.Pass, nil},

		{"an unknown scope", ask(func(l *realm.Login) { l.Scopes = append(l.Scopes, "roles") }), check.IssuerScopes, check.Warn, []string{"roles"}},
		{"groups without their scope", ask(func(l *realm.Login) { l.GroupsClaim = "groups" }), check.IssuerScopes, check.Warn, []string{"set realm.scopes to [openid, profile, email, groups]"}},
		{"a name without its scope", ask(func(l *realm.Login) { l.Scopes = []string{"openid", "email"} }), check.IssuerScopes, check.Warn, []string{"set realm.scopes to [openid, email, profile]"}},
		{"an address without its scope", ask(func(l *realm.Login) { l.Scopes, l.UsernameClaim = []string{"openid"}, "email" }), check.IssuerScopes, check.Warn, []string{"set realm.scopes to [openid, email]"}},
		{"sub needs no scope", ask(func(l *realm.Login) { l.Scopes, l.UsernameClaim, l.QueryUserinfo = []string{"openid"}, "sub", false }), check.IssuerScopes, check.Pass, nil},
		{"scopes not advertised", set("scopes_supported", nil), check.IssuerScopes, check.Skip, nil},

		{"users named by a UUID", ask(func(l *realm.Login) { l.UsernameClaim = "sub" }), check.IssuerClaims, check.Warn, []string{"which Authelia fills with a UUID", "set realm.username_claim to preferred_username (before anyone logs in", "set verify.ignore to [issuer.claims]"}},
		{"users named by two words", ask(func(l *realm.Login) { l.UsernameClaim = "name" }), check.IssuerClaims, check.Warn, []string{"name holds white space", "preferred_username"}},
		{"no such standard claim", set("claims_supported", []string{"sub", "email"}), check.IssuerClaims, check.Warn, []string{"preferred_username", "cannot change it later", "set realm.username_claim to email"}},
		{"a custom claim", ask(func(l *realm.Login) { l.UsernameClaim = "uid" }), check.IssuerClaims, check.Warn, []string{"uid", "set verify.ignore to [issuer.claims]"}},
		{"groups that may be mapped", ask(func(l *realm.Login) { l.GroupsClaim = "teams" }), check.IssuerClaims, check.Skip, []string{"teams"}},
		{"claims not advertised", set("claims_supported", nil), check.IssuerClaims, check.Skip, nil},
		{"ID token alone", ask(func(l *realm.Login) { l.QueryUserinfo = false }), check.IssuerClaims, check.Warn, []string{"puts only sub into it", "Authelia: since 4.39 a claims_policy"}},
		{"ID token alone of an unknown issuer", func(_ *testing.T, s *lab.Server, w *issuer.View) {
			s.SetMetadata("jwks_uri", s.URL()+"/jwks.json?1")
			w.Login.QueryUserinfo = false
		}, check.IssuerClaims, check.Warn, []string{"many issuers put only sub into it", "set realm.query_userinfo to true", "!Authelia"}},
		{"a groups claim that is a path", ask(func(l *realm.Login) { l.GroupsClaim = "realm_access.roles" }), check.IssuerClaims, check.Warn, []string{"looks like a path", "realm.groups_claim"}},
		{"claims of the protocol alone", set("claims_supported", []string{"sub", "iss", "aud", "exp", "nonce"}), check.IssuerClaims, check.Skip, nil},
		{"an unknown prompt", func(_ *testing.T, s *lab.Server, w *issuer.View) {
			s.SetMetadata("prompt_values_supported", []string{"none", "login", "consent"})
			w.Login.Prompt = "create"
		}, check.IssuerCapabilities, check.Warn, []string{"does not advertise the prompt create", "add prompt to realm.unset", "none, login, consent"}},
		{"an unknown prompt that the issuer takes", func(_ *testing.T, s *lab.Server, w *issuer.View) {
			s.SetMetadata("prompt_values_supported", []string{"none", "login"})
			w.Login.Prompt, w.Found = "create", []check.Check{check.Passed(check.ClientRedirect, "accepted")}
		}, check.IssuerCapabilities, check.Pass, nil},
		{"only client_secret_post advertised, and Basic accepted", func(_ *testing.T, s *lab.Server, w *issuer.View) {
			s.SetMetadata("token_endpoint_auth_methods_supported", []string{"client_secret_post"})
			s.SetMetadata("grant_types_supported", []string{"implicit"})
			w.Found = []check.Check{check.Passed(check.ClientCredentials, "accepted")}
		}, check.IssuerCapabilities, check.Pass, nil},
		{"few scopes advertised, and more accepted", func(_ *testing.T, s *lab.Server, w *issuer.View) {
			s.SetMetadata("scopes_supported", []string{"openid"})
			w.Found = []check.Check{check.Passed(check.ClientRedirect, "accepted")}
		}, check.IssuerScopes, check.Pass, []string{"accepts the requested scopes"}},

		{"a clock within bounds", clocks(-4*time.Minute, 0), check.IssuerClock, check.Pass, nil},
		{"both clocks wrong alike", clocks(3*time.Hour, 3*time.Hour), check.IssuerClock, check.Pass, nil},
		{"Proxmox ahead", clocks(0, 10*time.Minute), check.IssuerClock, check.Warn, []string{"ahead", "chronyc"}},
		{"Proxmox behind", clocks(0, -3*time.Hour), check.IssuerClock, check.Warn, []string{"behind"}},
		{"Proxmox ahead of every token", clocks(-2*time.Hour, 0), check.IssuerClock, check.Fail, []string{"expired when they arrive"}},
		{"Proxmox's clock unknown", func(_ *testing.T, _ *lab.Server, w *issuer.View) { w.ClockKnown = false }, check.IssuerClock, check.Skip, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, lab.Options{})
			v := view(login(s.URL()))
			tt.with(t, s, &v)
			checks := client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL()).Checks(v)
			want(t, find(t, checks, tt.id), tt.status, tt.says...)
			for _, c := range checks {
				if c.ID != tt.id && (c.Status == check.Fail || c.Status == check.Warn) {
					t.Errorf("%s: %s: %s", c.ID, c.Status, c.Summary)
				}
			}
		})
	}
}

// rsaKeys is a key set with one key of 2048 bits (of RFC 7515, appendix A.2).
const rsaKeys = `{"keys":[{"kty":"RSA","use":"sig","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}]}`

func TestVersionIsAskedForOnlyWhereItMatters(t *testing.T) {
	s := start(t, lab.Options{})
	if client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL()).NeedsVersion() {
		t.Error("RS256 suits every generation")
	}
	key, err := lab.NewKey("ES256", "ES256")
	if err != nil {
		t.Fatal(err)
	}
	s.SetKeys(key)
	if !client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL()).NeedsVersion() {
		t.Error("ES256 suits Proxmox VE 9 alone")
	}
}

func TestWhatDependsOnAFailureIsSkipped(t *testing.T) {
	s := start(t, lab.Options{})
	s.Inject("/.well-known/openid-configuration", lab.Fault{Status: 404})
	i := client(t, s, issuer.Options{}).Inspect(t.Context(), s.URL())
	for _, c := range i.Checks(view(login(s.URL()))) {
		switch c.ID {
		case check.IssuerURL, check.IssuerReach, check.IssuerCertificate, check.IssuerClock:
			want(t, c, check.Pass)
		case check.IssuerDiscovery:
			want(t, c, check.Fail, "404")
		default:
			want(t, c, check.Skip, "needs issuer.discovery")
		}
	}
	answer := i.Client(t.Context(), issuer.Question{Depth: issuer.Full, Login: login(s.URL()), RedirectURLs: []string{redirectURL}})
	for _, c := range answer.Checks {
		want(t, c, check.Skip)
	}
	if i.Quick() {
		t.Error("nothing came, so Proxmox must not be asked")
	}
	for _, r := range s.Requests() {
		if r.Method != http.MethodGet {
			t.Errorf("%s %s", r.Method, r.Path)
		}
	}
	if n := len(s.Requests()); n != 3 { // the document, at /auth too, and the page at the address itself
		t.Errorf("%d requests", n)
	}
}

func TestInterruptionIsNoFinding(t *testing.T) {
	s := start(t, lab.Options{})
	s.Inject("", lab.Fault{Hang: true})
	ctx, cancel := context.WithCancel(t.Context())
	i := client(t, s, issuer.Options{}).Inspect(ctx, s.URL())
	cancel()
	if err := i.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range i.Checks(view(login(s.URL()))) {
		if c.Status == check.Fail || c.Status == check.Warn {
			t.Errorf("%s: %s: %s", c.ID, c.Status, c.Summary)
		}
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	s := start(t, lab.Options{})
	s.Inject("", lab.Fault{Hang: true})
	running, stop := context.WithCancel(t.Context())
	i := client(t, s, issuer.Options{}).Inspect(running, s.URL())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := i.Wait(ctx); err == nil {
		t.Error("the wait must end with its context")
	}
	stop()
	_ = i.Wait(t.Context())
}
