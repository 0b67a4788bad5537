package issuer_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/lab/authority"
	"proxmox-realm/internal/lab/issuer"
)

func discovery(t *testing.T, s server) map[string]any {
	t.Helper()
	document := map[string]any{}
	got := get(t, s.client(), s.URL()+"/.well-known/openid-configuration")
	if err := json.Unmarshal([]byte(got.body), &document); err != nil {
		t.Fatalf("%d %s", got.StatusCode, got.body)
	}
	return document
}

// credentials asks whether the issuer takes a client's key.
func credentials(t *testing.T, s server, id, key string) answer {
	t.Helper()
	return post(t, s.client(), s.URL()+"/api/oidc/token", id, key, url.Values{
		"grant_type": {"authorization_code"}, "code": {"proxmox-realm-verify"}, "redirect_uri": {redirectURI},
	})
}

func TestClientsChange(t *testing.T) {
	s := start(t, issuer.Options{})
	if got := credentials(t, s, "proxmox", clientKey); got.StatusCode != http.StatusUnauthorized {
		t.Errorf("no client: %d", got.StatusCode)
	}
	s.SetClient(proxmox())
	if got := credentials(t, s, "proxmox", clientKey); got.error() != "invalid_grant" {
		t.Errorf("added: %s", got.body)
	}
	client, _ := s.Client("proxmox")
	client.Secret = "rotated"
	s.SetClient(client)
	if got := credentials(t, s, "proxmox", clientKey); got.error() != "invalid_client" {
		t.Errorf("rotated: %s", got.body)
	}
	client.AuthMethod = "client_secret_post"
	s.SetClient(client)
	if got := credentials(t, s, "proxmox", "rotated"); !strings.Contains(got.body, "'client_secret_basic'") {
		t.Errorf("other method: %s", got.body)
	}
	if got := post(t, s.client(), s.URL()+"/api/oidc/introspection", "proxmox", "rotated", url.Values{"token": {"made-up"}}); got.body != `{"active":false}` {
		t.Errorf("introspection takes Basic from any client: %s", got.body)
	}
	s.RemoveClient("proxmox")
	if got := credentials(t, s, "proxmox", "rotated"); got.error() != "invalid_client" {
		t.Errorf("removed: %s", got.body)
	}
	var reasons []string
	for _, failure := range s.Failures() {
		reasons = append(reasons, failure.Reason)
	}
	if want := []string{"unknown client", "wrong secret", "method client_secret_basic", "unknown client"}; !slices.Equal(reasons, want) {
		t.Errorf("failures %q, want %q", reasons, want)
	}
}

func TestMalformedBasic(t *testing.T) {
	s := start(t, issuer.Options{Clients: []issuer.Client{proxmox()}})
	for _, header := range []string{"Basic", "Basic !", "Basic bm9jb2xvbg==", "Bearer x", "Basic cHJveG1veDolenp6"} {
		request, err := http.NewRequest(http.MethodPost, s.URL()+"/api/oidc/token", strings.NewReader("grant_type=authorization_code&code=x"))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Authorization", header)
		if got := do(t, s.client(), request); got.StatusCode != http.StatusBadRequest || got.error() != "invalid_request" {
			t.Errorf("%s: %d %s", header, got.StatusCode, got.body)
		}
	}
	t.Run("two methods at once", func(t *testing.T) {
		got := post(t, s.client(), s.URL()+"/api/oidc/token", "proxmox", clientKey, url.Values{
			"grant_type": {"authorization_code"}, "client_id": {"proxmox"}, "client_secret": {clientKey},
		})
		if got.StatusCode != http.StatusBadRequest || !strings.Contains(got.body, "more than one known authentication method") {
			t.Errorf("%d %s", got.StatusCode, got.body)
		}
	})
	t.Run("a key that is not form-encoded looks wrong", func(t *testing.T) {
		request, err := http.NewRequest(http.MethodPost, s.URL()+"/api/oidc/introspection", strings.NewReader("token=x"))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.SetBasicAuth("proxmox", "a+b")
		client, _ := s.Client("proxmox")
		client.Secret = "a+b"
		s.SetClient(client)
		if got := do(t, s.client(), request); got.StatusCode != http.StatusUnauthorized {
			t.Errorf("%d %s", got.StatusCode, got.body)
		}
	})
}

func TestDiscoveryKnobs(t *testing.T) {
	s := start(t, issuer.Options{Clients: []issuer.Client{proxmox()}})
	s.SetMetadata("code_challenge_methods_supported", nil)
	s.SetMetadata("scopes_supported", []string{"openid"})
	s.SetMetadata("jwks_uri", json.RawMessage(`17`))
	s.SetIssuer(s.URL() + "/")
	document := discovery(t, s)
	if document["issuer"] != s.URL()+"/" || document["token_endpoint"] != s.URL()+"/api/oidc/token" {
		t.Errorf("issuer %v, token endpoint %v", document["issuer"], document["token_endpoint"])
	}
	if _, has := document["code_challenge_methods_supported"]; has || document["jwks_uri"] != 17.0 || fmt.Sprint(document["scopes_supported"]) != "[openid]" {
		t.Errorf("document %v", document)
	}
	none := get(t, s.client(), s.URL()+"/api/oidc/authorization?"+parameters("prompt", "none").Encode())
	if iss := none.location(t).Query().Get("iss"); iss != s.URL()+"/" {
		t.Errorf("iss %q", iss)
	}
	s.ResetMetadata()
	s.SetIssuer("")
	if document := discovery(t, s); document["issuer"] != s.URL() || document["code_challenge_methods_supported"] == nil {
		t.Errorf("not taken back: %v", document["issuer"])
	}
}

func TestPath(t *testing.T) {
	s := start(t, issuer.Options{Path: "/auth/", Clients: []issuer.Client{proxmox()}})
	if !strings.HasSuffix(s.URL(), "/auth") {
		t.Fatalf("URL %s", s.URL())
	}
	if document := discovery(t, s); document["issuer"] != s.URL() || document["jwks_uri"] != s.URL()+"/jwks.json" {
		t.Errorf("issuer %v, keys %v", document["issuer"], document["jwks_uri"])
	}
	if got := credentials(t, s, "proxmox", "wrong"); got.StatusCode != http.StatusUnauthorized {
		t.Errorf("%d %s", got.StatusCode, got.body)
	}
	above := get(t, s.client(), strings.TrimSuffix(s.URL(), "/auth")+"/.well-known/openid-configuration")
	if above.StatusCode != http.StatusOK || !strings.HasPrefix(above.Header.Get("Content-Type"), "text/html") {
		t.Errorf("above the path: %d %s", above.StatusCode, above.Header.Get("Content-Type"))
	}
}

func TestKeys(t *testing.T) {
	s := start(t, issuer.Options{Clients: []issuer.Client{proxmox()}})
	keys := func() string { return get(t, s.client(), s.URL()+"/jwks.json").body }
	s.SetKeys()
	if got := keys(); got != `{"keys":[]}` {
		t.Errorf("no keys: %s", got)
	}
	code := login(t, s, s.client(), "john", "password", parameters()).location(t).Query().Get("code")
	if got := exchange(t, s, code); got.StatusCode != http.StatusInternalServerError {
		t.Errorf("a token without a key: %d %s", got.StatusCode, got.body)
	}
	for algorithm, curve := range map[string]string{"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519"} {
		key, err := issuer.NewKey("only", algorithm)
		if err != nil {
			t.Fatal(err)
		}
		s.SetKeys(key)
		if got := keys(); !strings.Contains(got, curve) || !strings.Contains(got, algorithm) || strings.Contains(got, `"d"`) {
			t.Errorf("%s: %s", algorithm, got)
		}
	}
	if _, err := issuer.NewKey("x", "HS256"); err == nil {
		t.Error("a key for HS256")
	}

	t.Run("signed by a key that is not published", func(t *testing.T) {
		stranger, err := issuer.NewKey("stranger", "ES256")
		if err != nil {
			t.Fatal(err)
		}
		s.SetSigningKey(stranger)
		code := login(t, s, s.client(), "john", "password", parameters()).location(t).Query().Get("code")
		var got tokens
		if err := json.Unmarshal([]byte(exchange(t, s, code).body), &got); err != nil {
			t.Fatal(err)
		}
		if header := strings.Split(got.IDToken, ".")[0]; header == "" || strings.Contains(keys(), "stranger") {
			t.Errorf("token %q, keys %s", got.IDToken, keys())
		}
	})

	t.Run("kept in a file", func(t *testing.T) {
		before, err := issuer.DefaultKeys()
		if err != nil {
			t.Fatal(err)
		}
		data, err := issuer.MarshalKeys(before)
		if err != nil {
			t.Fatal(err)
		}
		after, err := issuer.UnmarshalKeys(data)
		if err != nil {
			t.Fatal(err)
		}
		s.SetKeys(before...)
		published := keys()
		s.SetKeys(after...)
		if keys() != published {
			t.Error("the keys came back changed")
		}
	})
}

func TestClockOffset(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	s := start(t, issuer.Options{Now: func() time.Time { return now }})
	s.SetClockOffset(-10 * time.Minute)
	if got := get(t, s.client(), s.URL()+"/jwks.json").Header.Get("Date"); got != "Mon, 23 Nov 2026 11:50:00 GMT" {
		t.Errorf("date %s", got)
	}
}

func TestRateLimits(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	s := start(t, issuer.Options{Clients: []issuer.Client{proxmox()}, Now: func() time.Time { return now }, Limits: issuer.AutheliaLimits()})
	for range 30 {
		if got := credentials(t, s, "proxmox", "wrong"); got.StatusCode != http.StatusUnauthorized {
			t.Fatalf("limited too early: %d", got.StatusCode)
		}
	}
	limited := credentials(t, s, "proxmox", clientKey)
	wait, err := strconv.Atoi(limited.Header.Get("Retry-After"))
	if err != nil || limited.StatusCode != http.StatusTooManyRequests || wait != 60 {
		t.Fatalf("the right key after 30 failures: %d, retry after %q", limited.StatusCode, limited.Header.Get("Retry-After"))
	}
	ask := func() answer {
		return post(t, s.client(), s.URL()+"/api/oidc/introspection", "proxmox", clientKey, url.Values{"token": {"made-up"}})
	}
	for range 150 {
		if got := ask(); got.StatusCode != http.StatusOK {
			t.Fatalf("introspection is counted apart, and a 200 costs nothing: %d", got.StatusCode)
		}
	}
	now = now.Add(time.Minute)
	if got := credentials(t, s, "proxmox", clientKey); got.StatusCode != http.StatusBadRequest {
		t.Errorf("after a minute: %d", got.StatusCode)
	}
	if got := credentials(t, s, "proxmox", clientKey); got.StatusCode != http.StatusTooManyRequests {
		t.Errorf("invalid_grant counts too: %d", got.StatusCode)
	}
	s.SetLimits()
	if got := credentials(t, s, "proxmox", clientKey); got.StatusCode != http.StatusBadRequest {
		t.Errorf("limits off: %d", got.StatusCode)
	}
}

func TestFaults(t *testing.T) {
	s := start(t, issuer.Options{})
	const path = "/.well-known/openid-configuration"
	target := s.URL() + path
	t.Run("status, header, body", func(t *testing.T) {
		defer s.Clear()
		s.Inject(path, issuer.Fault{Status: http.StatusBadGateway, Header: http.Header{"Content-Type": {"text/html"}}, Body: []byte("<html>")})
		if got := get(t, s.client(), target); got.StatusCode != http.StatusBadGateway || got.body != "<html>" || got.Header.Get("Content-Type") != "text/html" {
			t.Errorf("%d %s", got.StatusCode, got.body)
		}
	})
	t.Run("redirect", func(t *testing.T) {
		defer s.Clear()
		s.Inject(path, issuer.Fault{Status: http.StatusFound, Header: http.Header{"Location": {"http://127.0.0.1:1/"}}})
		if got := get(t, s.client(), target); got.location(t).Scheme != "http" {
			t.Errorf("%s", got.Header.Get("Location"))
		}
	})
	t.Run("once", func(t *testing.T) {
		defer s.Clear()
		s.Inject("", issuer.Fault{Status: http.StatusServiceUnavailable, Times: 1})
		if first, second := get(t, s.client(), target), get(t, s.client(), target); first.StatusCode != http.StatusServiceUnavailable || second.StatusCode != http.StatusOK {
			t.Errorf("%d, then %d", first.StatusCode, second.StatusCode)
		}
	})
	t.Run("reset", func(t *testing.T) {
		defer s.Clear()
		s.Inject(path, issuer.Fault{Reset: true})
		if _, err := s.client().Get(target); !errors.Is(err, io.EOF) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("handler", func(t *testing.T) {
		defer s.Clear()
		s.Inject(path, issuer.Fault{Handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "half")
		}})
		response, err := s.client().Get(target)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		if _, err := io.ReadAll(response.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("hang ends with the server", func(t *testing.T) {
		hanging := start(t, issuer.Options{})
		hanging.Inject("/jwks.json", issuer.Fault{Hang: true})
		sent, failed := make(chan struct{}), make(chan error, 1)
		trace := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			WroteRequest: func(httptrace.WroteRequestInfo) { close(sent) },
		})
		request, err := http.NewRequestWithContext(trace, http.MethodGet, hanging.URL()+"/jwks.json", nil)
		if err != nil {
			t.Fatal(err)
		}
		client := hanging.client()
		go func() {
			response, err := client.Do(request)
			if err == nil {
				_ = response.Body.Close()
			}
			failed <- err
		}()
		<-sent
		if err := hanging.Close(); err != nil {
			t.Error(err)
		}
		if err := <-failed; err == nil {
			t.Error("a hanging request was answered")
		}
	})
}

func TestCertificates(t *testing.T) {
	ca, err := authority.New()
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, issuer.Options{Authority: ca})
	for _, kind := range authority.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			certificate, err := ca.Issue(kind, "127.0.0.1", "localhost")
			if err != nil {
				t.Fatal(err)
			}
			s.SetCertificate(certificate)
			response, err := s.client().Get(s.URL() + "/jwks.json")
			if err == nil {
				_ = response.Body.Close()
			}
			var invalid x509.CertificateInvalidError
			var name x509.HostnameError
			var unknown x509.UnknownAuthorityError
			switch kind {
			case authority.Expired, authority.NotYetValid:
				if !errors.As(err, &invalid) || invalid.Reason != x509.Expired {
					t.Errorf("error %v", err)
				}
			case authority.OtherName:
				if !errors.As(err, &name) {
					t.Errorf("error %v", err)
				}
			case authority.UnknownAuthority, authority.SelfSigned:
				if !errors.As(err, &unknown) {
					t.Errorf("error %v", err)
				}
			default:
				if err != nil {
					t.Errorf("error %v", err)
				}
			}
		})
	}
}

func TestJournal(t *testing.T) {
	s := start(t, issuer.Options{Clients: []issuer.Client{proxmox()}})
	client := s.client()
	request, err := http.NewRequest(http.MethodPost, s.URL()+"/api/oidc/token", strings.NewReader(url.Values{
		"grant_type": {"authorization_code"}, "code": {"proxmox-realm-verify"}, "redirect_uri": {redirectURI}, "code_verifier": {"secret-verifier"},
	}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("User-Agent", "proxmox-realm/test")
	request.SetBasicAuth("proxmox", url.QueryEscape(clientKey))
	do(t, client, request)
	get(t, client, s.URL()+"/api/oidc/authorization?"+parameters("prompt", "none").Encode())
	if s.Handshakes() != 1 {
		t.Errorf("%d handshakes for two requests on one connection", s.Handshakes())
	}

	requests := s.Requests()
	if len(requests) != 2 {
		t.Fatalf("%d requests", len(requests))
	}
	first, second := requests[0], requests[1]
	if first.Method != "POST" || first.Path != "/api/oidc/token" || first.ClientID != "proxmox" || first.GrantType != "authorization_code" ||
		first.UserAgent != "proxmox-realm/test" || first.Status != http.StatusBadRequest || first.Parameters.Get("code") != "proxmox-realm-verify" {
		t.Errorf("%+v", first)
	}
	if second.Parameters.Get("prompt") != "none" || second.Parameters.Get("redirect_uri") != redirectURI || second.Status != http.StatusSeeOther {
		t.Errorf("%+v", second)
	}

	code := login(t, s, s.client(), "john", "password", parameters()).location(t).Query().Get("code")
	exchange(t, s, code)
	exchange(t, s, code)
	all := fmt.Sprintf("%+v %+v", s.Requests(), s.Failures())
	for _, hidden := range []string{clientKey, url.QueryEscape(clientKey), "secret-verifier", verifier, code, "password"} {
		if strings.Contains(all, hidden) {
			t.Errorf("the journal holds %q", hidden)
		}
	}
	s.Reset()
	if len(s.Requests()) != 0 || s.Handshakes() != 0 {
		t.Error("not forgotten")
	}
}

// The issuer follows the Host header, where it answers to it at all.
func TestHosts(t *testing.T) {
	s := start(t, issuer.Options{Hosts: []string{"auth.example.test"}})
	for host, want := range map[string]int{"auth.example.test": http.StatusOK, "AUTH.example.test:443": http.StatusBadRequest} {
		request, err := http.NewRequest(http.MethodGet, s.URL()+"/.well-known/openid-configuration", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = host
		got := do(t, s.client(), request)
		if got.StatusCode != want || want == http.StatusOK && !strings.Contains(got.body, `"issuer":"https://auth.example.test"`) {
			t.Errorf("%s: %d %s", host, got.StatusCode, got.body)
		}
	}
}

func TestPathsAndMethods(t *testing.T) {
	s := start(t, issuer.Options{Clients: []issuer.Client{proxmox()}})
	for _, test := range []struct {
		method, path string
		status       int
		contentType  string
	}{
		{http.MethodGet, "/", http.StatusOK, "text/html; charset=utf-8"},
		{http.MethodGet, "/realms/master/.well-known/openid-configuration", http.StatusOK, "text/html; charset=utf-8"},
		{http.MethodGet, "/.well-known/nothing", http.StatusNotFound, "text/plain; charset=utf-8"},
		{http.MethodGet, "/api/oidc/nothing", http.StatusNotFound, "text/plain; charset=utf-8"},
		{http.MethodGet, "/api/oidc/token", http.StatusMethodNotAllowed, "text/plain; charset=utf-8"},
		{http.MethodPost, "/jwks.json", http.StatusMethodNotAllowed, "text/plain; charset=utf-8"},
		{http.MethodPost, "/api/oidc/token", http.StatusBadRequest, "application/json; charset=utf-8"},
		{http.MethodPost, "/api/oidc/introspection", http.StatusBadRequest, "application/json; charset=utf-8"},
		{http.MethodGet, "/api/oidc/userinfo", http.StatusUnauthorized, "application/json; charset=utf-8"},
	} {
		request, err := http.NewRequest(test.method, s.URL()+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := do(t, s.client(), request)
		if got.StatusCode != test.status || got.Header.Get("Content-Type") != test.contentType {
			t.Errorf("%s %s: %d %s", test.method, test.path, got.StatusCode, got.Header.Get("Content-Type"))
		}
	}
}

func TestGrantTypes(t *testing.T) {
	s := start(t, issuer.Options{Clients: []issuer.Client{proxmox()}})
	for grant, want := range map[string]string{
		"": "invalid_request", "password": "invalid_request", "refresh_token": "unauthorized_client", "client_credentials": "unauthorized_client",
	} {
		got := post(t, s.client(), s.URL()+"/api/oidc/token", "proxmox", clientKey, url.Values{"grant_type": {grant}, "code": {"x"}})
		if got.StatusCode != http.StatusBadRequest || got.error() != want {
			t.Errorf("%q: %d %s", grant, got.StatusCode, got.body)
		}
	}
}

// The issuer speaks HTTP/1.1 over TLS 1.2 or later, and answers at once.
func TestTransport(t *testing.T) {
	s := start(t, issuer.Options{})
	conn, err := tls.Dial("tcp", strings.TrimPrefix(s.URL(), "https://"), &tls.Config{
		RootCAs: s.Authority().Pool(), MaxVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if protocol := conn.ConnectionState().NegotiatedProtocol; protocol == "h2" {
		t.Errorf("negotiated %s", protocol)
	}
}
