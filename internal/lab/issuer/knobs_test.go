package issuer_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/lab/issuer"
)

// credentials asks whether the issuer takes a client's key.
func credentials(t *testing.T, s server, id, key string) answer {
	t.Helper()
	return post(t, s.client(), s.URL()+"/api/oidc/token", id, key, url.Values{
		"grant_type": {"authorization_code"}, "code": {"proxmox-realm-verify"}, "redirect_uri": {redirectURI},
	})
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
	all := fmt.Sprintf("%+v", s.Requests())
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
