package issuer

import (
	"cmp"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// documentOf returns a document with these endpoints below an issuer.
func documentOf(issuer, authorization, token, keys string) metadata {
	at := func(path string) address {
		if strings.Contains(path, "://") {
			return address(path)
		}
		return address(strings.TrimSuffix(issuer, "/") + path)
	}
	return metadata{
		Issuer: address(issuer), AuthorizationEndpoint: at(authorization), TokenEndpoint: at(token), JWKSURI: at(keys),
		UserinfoEndpoint: at("/userinfo"), SigningAlgs: texts{"RS256"},
	}
}

func TestProvidersAreRecognisedByProof(t *testing.T) {
	const kanidm, pocket = "https://idm.example.com", "https://id.example.com"
	userinfo := func(d metadata, path string) metadata {
		d.UserinfoEndpoint = d.Issuer + address(path)
		return d
	}
	device := func(d metadata) metadata {
		d.Device = string(d.Issuer) + "/device/code"
		return d
	}
	for want, documents := range map[string][]metadata{
		"Authelia": {
			documentOf("https://auth.example.com", "/api/oidc/authorization", "/api/oidc/token", "/jwks.json"),
			documentOf("https://example.com/auth", "/api/oidc/authorization", "/api/oidc/token", "/jwks.json"),
		},
		"authentik": {
			documentOf("https://id.example.com/application/o/proxmox/", "https://id.example.com/application/o/authorize/", "https://id.example.com/application/o/token/", "/jwks/"),
			documentOf("https://id.example.com/", "https://id.example.com/application/o/authorize/", "https://id.example.com/application/o/token/", "https://id.example.com/application/o/proxmox/jwks/"),
		},
		"Keycloak": {
			documentOf("https://id.example.com/realms/home", "/protocol/openid-connect/auth", "/protocol/openid-connect/token", "/protocol/openid-connect/certs"),
			documentOf("https://id.example.com/auth/realms/home", "/protocol/openid-connect/auth", "/protocol/openid-connect/token", "/protocol/openid-connect/certs"),
		},
		"Zitadel": {documentOf("https://id.example.com", "/oauth/v2/authorize", "/oauth/v2/token", "/oauth/v2/keys")},
		"Kanidm":  {documentOf(kanidm+"/oauth2/openid/proxmox", kanidm+"/ui/oauth2", kanidm+"/oauth2/token", "/public_key.jwk")},
		"Entra ID": {documentOf("https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0", "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/oauth2/v2.0/authorize",
			"https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/oauth2/v2.0/token", "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/discovery/v2.0/keys")},
		"Google":    {documentOf("https://accounts.google.com", "/o/oauth2/v2/auth", "https://oauth2.googleapis.com/token", "https://www.googleapis.com/oauth2/v3/certs")},
		"AD FS":     {documentOf("https://sts.example.com/adfs", "/oauth2/authorize/", "/oauth2/token/", "/discovery/keys")},
		"Pocket ID": {userinfo(documentOf(pocket, "/authorize", "/api/oidc/token", "/.well-known/jwks.json"), "/api/oidc/userinfo")},
		"Dex":       {device(documentOf("https://dex.example.com/dex", "/auth", "/token", "/keys"))},
		"tsidp": {
			documentOf("https://idp.tail1234.ts.net", "/authorize/1234567890", "/token", "/.well-known/jwks.json"),
			documentOf("https://idp.tail1234.ts.net", "/authorize", "/token", "/.well-known/jwks.json"),
			documentOf("https://idp.example.com", "/authorize/funnel", "/token", "/.well-known/jwks.json"),
		},
		"": {
			documentOf("https://example.com", "/auth", "/oauth/token", "/keys"), // the example of zitadel/oidc
			documentOf("https://example.com", "/auth", "/token", "/keys"),
			documentOf("https://example.com", "/authorize", "/token", "/.well-known/jwks.json"),
			documentOf("https://example.com", "/oauth2/authorize", "/oauth2/token", "/jwks"),
			documentOf("https://example.com/x", "https://example.com/api/oidc/authorization", "https://example.com/api/oidc/token", "https://example.com/jwks.json"),
			documentOf("https://evil.example.com/https://accounts.google.com", "/auth", "/token", "/certs"),
			documentOf("https://example.com/realms/home", "/authorize", "/token", "/certs"),
		},
	} {
		for _, d := range documents {
			if got := (&Inspection{metadata: d}).provider().name; got != want {
				t.Errorf("%s: taken for %q, want %q", d.Issuer, got, want)
			}
		}
	}
}

// Browsers are sent to the authorization endpoint that the issuer names, and to no address that only looks like it.
func TestAuthorizationEndpoint(t *testing.T) {
	const named = "https://auth.example.com/api/oidc/authorization"
	tsidp := documentOf("https://idp.tail1234.ts.net", "/authorize/1234567890", "/token", "/.well-known/jwks.json")
	for _, tt := range []struct {
		d        metadata
		location string
		want     bool
	}{
		{metadata{AuthorizationEndpoint: named}, named, true},
		{metadata{AuthorizationEndpoint: named}, named + "?client_id=x", true},
		{metadata{AuthorizationEndpoint: named}, "https://AUTH.example.com:443/api/oidc/authorization", true},
		{metadata{AuthorizationEndpoint: named + "?display=page"}, named, true},
		{metadata{AuthorizationEndpoint: "https://auth.example.com"}, "https://auth.example.com/", true},
		{metadata{AuthorizationEndpoint: named}, "http://auth.example.com/api/oidc/authorization", false},
		{metadata{AuthorizationEndpoint: named}, "https://auth.example.com@evil.example.com/", false},
		{metadata{AuthorizationEndpoint: named}, "https://auth.example.com@auth.example.com/api/oidc/authorization", false},
		{metadata{AuthorizationEndpoint: named}, "https://evil.example.com/api/oidc/authorization", false},
		{metadata{AuthorizationEndpoint: named}, "https://auth.example.com:8443/api/oidc/authorization", false},
		{metadata{AuthorizationEndpoint: named}, named + "/../x", false},
		{metadata{AuthorizationEndpoint: named}, "https://auth.example.com/api%2Foidc/authorization", false},
		{tsidp, "https://idp.tail1234.ts.net/authorize/999", true},
		{tsidp, "https://evil.example.com/authorize/999", false},
		{tsidp, "https://idp.tail1234.ts.net/other", false},
	} {
		if got := inspected(tt.d).IsAuthorizationEndpoint(tt.location); got != tt.want {
			t.Errorf("%s at %s: %t", tt.location, tt.d.AuthorizationEndpoint, got)
		}
	}
}

// An unknown provider gets no advice, and each advice is the sentence of one setting.
func TestAdvice(t *testing.T) {
	if got := (provider{}).tell(OnKey); got != "" {
		t.Errorf("%q", got)
	}
	for _, p := range providers {
		if p.form == "" || p.name == "" || p.is == nil {
			t.Errorf("%s lacks a sign or a form", p.name)
		}
		for topic := range p.advice {
			text := string(p.tell(topic))
			if !strings.HasPrefix(text, p.name+": ") || strings.ContainsAny(text, "\n{}") || strings.HasSuffix(text, ".") {
				t.Errorf("%s, %s: %q", p.name, topic, text)
			}
		}
	}
}

// inspected is an inspection that has ended, of an issuer with this document and these keys.
func inspected(d metadata, keys ...key) *Inspection {
	i := &Inspection{inspector: &Inspector{cleaner: check.NewCleaner()}, issuer: string(d.Issuer), done: make(chan struct{}), metadata: d, keys: keys}
	i.discovery = answer{status: http.StatusOK, stage: check.AtAnswer, clean: i.inspector.cleaner}
	i.discovery.certificates = []*x509.Certificate{{NotAfter: time.Now().Add(365 * 24 * time.Hour)}}
	i.keysAnswer = i.discovery
	close(i.done)
	return i
}

func TestWhatAProviderDoesToTokens(t *testing.T) {
	rsa, ec := key{Kty: "RSA", bits: 2048, Use: "sig"}, key{Kty: "EC", Crv: "P-256", Use: "sig"}
	enc := key{Kty: "RSA", bits: 2048, Use: "enc"}
	authentik := documentOf("https://id.example.com/application/o/proxmox/", "https://id.example.com/application/o/authorize/", "https://id.example.com/application/o/token/", "/jwks/")
	keycloak := documentOf("https://id.example.com/realms/home", "/protocol/openid-connect/auth", "/protocol/openid-connect/token", "/protocol/openid-connect/certs")
	unknown := documentOf("https://id.example.com", "/a", "/t", "/k")
	zitadel := documentOf("https://id.example.com", "/oauth/v2/authorize", "/oauth/v2/token", "/oauth/v2/keys")
	dex := documentOf("https://dex.example.com", "/auth", "/token", "/keys")
	dex.Device, dex.SigningAlgs = "https://dex.example.com/device/code", texts{"RS256", "ES256"}
	nine, older := realm.Version{Major: 9, Minor: 2}, realm.Version{Major: 9, Minor: 1}
	query := realm.Login{QueryUserinfo: true}
	for _, tt := range []struct {
		name   string
		i      *Inspection
		v      View
		id     check.ID
		status check.Status
		says   string
	}{
		{"authentik encrypts", inspected(authentik, rsa, enc), View{}, check.IssuerKeys, check.Warn, "Encryption Key"},
		{"authentik does not", inspected(authentik, rsa), View{}, check.IssuerKeys, check.Pass, ""},
		{"Keycloak always publishes such a key", inspected(keycloak, rsa, enc), View{}, check.IssuerKeys, check.Pass, ""},
		{"an unknown issuer with such a key", inspected(unknown, rsa, enc), View{}, check.IssuerKeys, check.Pass, ""},
		{"Dex with ES256", inspected(dex, ec), View{Login: query, Version: nine}, check.IssuerKeys, check.Warn, "sign with RS256"},
		{"Dex with ES256 that is not asked for userinfo", inspected(dex, ec), View{Version: nine}, check.IssuerKeys, check.Pass, ""},
		{"Dex with RS256", inspected(dex, rsa), View{Login: query}, check.IssuerKeys, check.Pass, ""},
		{"Zitadel", inspected(zitadel, rsa), View{Version: nine}, check.IssuerAudience, check.Warn, "set {realm.audiences}"},
		{"Zitadel before 9.2", inspected(zitadel, rsa), View{Version: older}, check.IssuerAudience, check.Warn, "upgrade to Proxmox VE 9.2"},
		{"Zitadel with audiences", inspected(zitadel, rsa), View{Login: realm.Login{Audiences: []string{"2345"}}}, check.IssuerAudience, check.Pass, ""},
		{"Keycloak names the client alone", inspected(keycloak, rsa), View{}, check.IssuerAudience, check.Pass, ""},
		{"an unknown issuer", inspected(unknown, rsa), View{}, check.IssuerAudience, check.Skip, ""},
	} {
		found, _ := check.Find(tt.i.Checks(tt.v), tt.id)
		if found.Status != tt.status || !strings.Contains(string(found.Hint), tt.says) {
			t.Errorf("%s: %s %s\n%s", tt.name, found.Status, found.Summary, found.Hint)
		}
	}
}

// A scope that Keycloak does not have is dropped: a mapper gives the claim.
func TestScopeThatTheProviderLacks(t *testing.T) {
	keycloak := documentOf("https://id.example.com/realms/home", "/protocol/openid-connect/auth", "/protocol/openid-connect/token", "/protocol/openid-connect/certs")
	keycloak.Scopes = []string{"openid", "profile", "email"}
	i := inspected(keycloak)
	l := realm.Login{Scopes: []string{"openid", "profile", "email", "groups"}}
	found, _ := check.Find(i.Checks(View{Login: l}), check.IssuerScopes)
	if first, _, _ := strings.Cut(string(found.Hint), "\n"); found.Status != check.Warn || first != "set {realm.scopes} to [openid, profile, email]" || !strings.Contains(string(found.Hint), "Group Membership") {
		t.Errorf("%s: %s", found.Status, found.Hint)
	}
	a := &asking{Inspection: i, Question: Question{Login: l}, hide: check.NewCleaner()}
	hint := string(a.codeHint(fault{code: "invalid_scope"}))
	if drop, allow := strings.Index(hint, "without the scope"), strings.Index(hint, "allow the client"); drop < 0 || drop > allow || !strings.Contains(hint, "Group Membership") {
		t.Errorf("%s", hint)
	}
	i.metadata.Scopes = l.Scopes
	hint = string(a.codeHint(fault{code: "invalid_scope"}))
	if drop, allow := strings.Index(hint, "without the scope"), strings.Index(hint, "allow the client"); allow < 0 || drop < allow {
		t.Errorf("%s", hint)
	}
}

// misplacedIssuer serves documents at paths, by the path of the issuer, and a page elsewhere.
func misplacedIssuer(t *testing.T, status int, page string, names map[string]string) (c *Inspector, base string, asked func() int) {
	t.Helper()
	n := 0
	var s *httptest.Server
	s = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		path, isDocument := strings.CutSuffix(r.URL.Path, "/.well-known/openid-configuration")
		name, ok := names[path]
		if !isDocument || !ok {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(strings.ReplaceAll(page, "BASE", s.URL)))
			return
		}
		writeDocument(w, s.URL+name, s.URL+name)
	}))
	t.Cleanup(s.Close)
	return trusting(t, s), s.URL, func() int { return n }
}

// Only an issuer URL is advised at which a document is.
func TestNeighbours(t *testing.T) {
	const portal = `<html><head><title>Login - Authelia</title></head><body data-basepath="" data-duoselfenrollment="false">`
	for _, tt := range []struct {
		name   string
		path   string // of the configured issuer
		status int
		page   string
		names  map[string]string // where documents are, and the path of the issuer that they name
		id     check.ID
		says   string // the first line of the hint; BASE is the issuer's address
	}{
		{"with /auth, where it is without", "/auth/realms/home", 404, "no", map[string]string{"/realms/home": "/realms/home"}, check.IssuerDiscovery, "set {realm.issuer_url} to BASE/realms/home (a discovery document is there)"},
		{"without /auth, where it is with", "/realms/home", 404, "no", map[string]string{"/auth/realms/home": "/auth/realms/home"}, check.IssuerDiscovery, "set {realm.issuer_url} to BASE/auth/realms/home (a discovery document is there)"},
		{"an endpoint of it", "/realms/home/protocol/openid-connect/auth", 404, "no", map[string]string{"/realms/home": "/realms/home"}, check.IssuerDiscovery, "set {realm.issuer_url} to BASE/realms/home (a discovery document is there)"},
		{"the slash of authentik", "/application/o/proxmox/authorize", 404, "no", map[string]string{"/application/o/proxmox": "/application/o/proxmox/"}, check.IssuerDiscovery, "set {realm.issuer_url} to BASE/application/o/proxmox/ (a discovery document is there)"},
		{"what the page names", "/x", 404, `<a href="BASE/tenant/one/.well-known/openid-configuration">`, map[string]string{"/tenant/one": "/tenant/one"}, check.IssuerDiscovery, "set {realm.issuer_url} to BASE/tenant/one (a discovery document is there)"},
		{"the root", "/sso", 200, "<html>", map[string]string{"": ""}, check.IssuerDiscovery, "set {realm.issuer_url} to BASE (a discovery document is there)"},
		{"Keycloak's form", "/realms/nope", 404, "no", nil, check.IssuerDiscovery, "correct host or path of {realm.issuer_url}, or let the proxy pass on its path: no discovery document is there\nKeycloak: its issuer URLs look like https://HOST/realms/NAME, or https://HOST/auth/realms/NAME before version 17"},
		{"authentik's page", "/", 404, "<title>authentik</title>", nil, check.IssuerDiscovery, "correct host or path of {realm.issuer_url}, or let the proxy pass on its path: no discovery document is there\nauthentik: its issuer URLs look like https://HOST/application/o/SLUG/, with the slash at the end"},
		{"nothing known", "/x", 404, "no", nil, check.IssuerDiscovery, "correct host or path of {realm.issuer_url}, or let the proxy pass on its path: no discovery document is there"},
		{"a document that names another issuer there", "/auth/realms/home", 404, "no", map[string]string{"/realms/home": "/elsewhere"}, check.IssuerDiscovery, "correct host or path of {realm.issuer_url}, or let the proxy pass on its path: no discovery document is there\nKeycloak: its issuer URLs look like https://HOST/realms/NAME, or https://HOST/auth/realms/NAME before version 17"},
		{"Authelia, switched off", "", 404, portal, nil, check.IssuerDiscovery, "add identity_providers.oidc with a client to Authelia's configuration, and restart Authelia; to print the client:\n    {authelia}"},

		{"another name, served", "/auth/realms/home", 404, "no", map[string]string{"/auth/realms/home": "/realms/home", "/realms/home": "/realms/home"}, check.IssuerIdentity, "set {realm.issuer_url} to BASE/realms/home"},
		{"another name, served by nobody", "/auth/realms/home", 404, "no", map[string]string{"/auth/realms/home": "/realms/home"}, check.IssuerIdentity, "let the proxy in front of the issuer pass on Host, X-Forwarded-Proto and X-Forwarded-Host\nset the external address of the issuer in the issuer's own configuration"},
		{"authentik with one issuer for all", "/application/o/proxmox/", 404, "no", map[string]string{"/application/o/proxmox": "/"}, check.IssuerIdentity, "let the proxy in front of the issuer pass on Host, X-Forwarded-Proto and X-Forwarded-Host\nset the external address of the issuer in the issuer's own configuration"},
		{"a slash", "/realms/home/", 404, "no", map[string]string{"/realms/home": "/realms/home"}, check.IssuerIdentity, "set {realm.issuer_url} to BASE/realms/home"},
		{"Entra ID's name of version 1", "/tenant", 404, "no", map[string]string{"/tenant": "/sts", "/tenant/v2.0": "/tenant/v2.0"}, check.IssuerIdentity, "set {realm.issuer_url} to BASE/tenant/v2.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, base, asked := misplacedIssuer(t, tt.status, tt.page, tt.names)
			i := c.Inspect(t.Context(), base+tt.path)
			found, _ := check.Find(i.Checks(View{}), tt.id)
			if want := strings.ReplaceAll(tt.says, "BASE", base); found.Status != check.Fail || string(found.Hint) != want {
				t.Errorf("%s: %s\n%s\nwant\n%s", found.Status, found.Summary, found.Hint, want)
			}
			if n := asked(); n > 7 {
				t.Errorf("%d requests", n)
			}
			if strings.HasPrefix(tt.says, "set ") { // obeying leads somewhere
				advised := strings.Fields(string(found.Hint))[3]
				for _, c := range check.Failures(c.Inspect(t.Context(), advised).Checks(View{})) {
					if c.ID == check.IssuerDiscovery || c.ID == check.IssuerIdentity || c.ID == check.IssuerURL {
						t.Errorf("at %s: %s: %s", advised, c.ID, c.Summary)
					}
				}
			}
			if i.WhyNotQuick() != "" && strings.Contains(i.WhyNotQuick(), "5 s") {
				t.Errorf("%s", i.WhyNotQuick())
			}
		})
	}
}

// An http issuer is used, and no key is sent to it.
func TestIssuerOverHTTP(t *testing.T) {
	var s *httptest.Server
	keys := 0
	secured := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, _, sent := r.BasicAuth(); sent {
			keys++
		}
	}))
	defer secured.Close()
	elsewhere := ""
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		writeDocument(w, s.URL, cmp.Or(elsewhere, s.URL))
	})
	mux.HandleFunc("/k", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(testKeys))
	})
	mux.HandleFunc("/t", func(http.ResponseWriter, *http.Request) { keys++ })
	mux.HandleFunc("/a", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.FormValue("redirect_uri")+"?error=login_required", http.StatusFound)
	})
	s = httptest.NewServer(mux)
	defer s.Close()
	c := trusting(t, secured)
	i := c.Inspect(t.Context(), s.URL)
	l := realm.Login{IssuerURL: s.URL, ClientID: "proxmox", ClientKey: check.NewSecret("a-key-of-a-client"), Scopes: []string{"openid"}, QueryUserinfo: true}
	answer := i.Client(t.Context(), Question{Login: l, RedirectURLs: []string{testRedirect}, Depth: Person})
	if answer.Redirect.Decision != Accepted || answer.Credentials.Decision != NoVerdict || keys != 0 || !strings.Contains(answer.Credentials.Reason, "not sent over http") {
		t.Errorf("%+v, %d keys sent", answer, keys)
	}
	for _, found := range append(i.Checks(View{Login: l}), answer.Checks...) {
		want := check.Pass
		switch found.ID {
		case check.IssuerURL, check.IssuerEndpoints:
			want = check.Warn
		case check.IssuerCertificate, check.IssuerScopes, check.IssuerClaims, check.IssuerClock, check.IssuerAudience, check.ClientCredentials:
			want = check.Skip
		}
		if found.Status != want {
			t.Errorf("%s: %s, want %s: %s", found.ID, found.Status, want, found.Summary)
		}
	}
	if !i.Trusted() || !i.Quick() {
		t.Error("it was reached")
	}
	// Whoever answers over http may name endpoints of their own, over https.
	elsewhere = secured.URL
	answer = c.Inspect(t.Context(), s.URL).Client(t.Context(), Question{Login: l, RedirectURLs: []string{testRedirect}, Depth: Person})
	if answer.Credentials.Decision != NoVerdict || keys != 0 {
		t.Errorf("%+v, %d keys sent", answer, keys)
	}
}

// Dex and its like judge the client only after a hop on their own origin. Cookies go along, and other origins are not visited.
func TestHopsOnTheOwnOriginAreFollowed(t *testing.T) {
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("another origin is visited") }))
	defer elsewhere.Close()
	c, issuerURL, _ := serve(t, "dex", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/auth"):
			http.SetCookie(w, &http.Cookie{Name: "way", Value: "known", Path: "/"})
			http.Redirect(w, r, r.URL.Path+"/local?"+r.URL.RawQuery, http.StatusFound)
		case strings.HasSuffix(r.URL.Path, "/local"):
			if cookie, err := r.Cookie("way"); err != nil || cookie.Value != "known" {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			switch {
			case r.FormValue("client_id") != "proxmox":
				w.WriteHeader(http.StatusNotFound)
				_, _ = w.Write([]byte("<p>Invalid client_id (&#34;" + r.FormValue("client_id") + "&#34;).</p>"))
			case r.FormValue("redirect_uri") != testRedirect:
				w.WriteHeader(http.StatusBadRequest)
				_, _ = w.Write([]byte("<p>Unregistered redirect_uri (&#34;" + r.FormValue("redirect_uri") + "&#34;).</p>"))
			default:
				http.Redirect(w, r, elsewhere.URL+"/login", http.StatusFound)
			}
		}
	})
	ask := func(redirectURL string) Answer {
		q := Question{Login: realm.Login{ClientID: "proxmox"}, KeyUnknown: true, RedirectURLs: []string{redirectURL}, RedirectsDeclared: true, Depth: Full}
		return c.Inspect(t.Context(), issuerURL).Client(t.Context(), q)
	}
	if a := ask(testRedirect); a.Redirect.Decision != Accepted {
		t.Errorf("%+v", a)
	}
	a := ask("https://other.example.test")
	if a.Redirect.Decision != Rejected || !strings.Contains(a.Checks[1].Summary, "does not know the redirect URL https://other.example.test") || strings.Contains(a.Checks[1].Evidence, "&#34;") {
		t.Errorf("%+v", a)
	}
}
