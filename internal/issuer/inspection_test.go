package issuer

import (
	"context"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// serve serves a discovery document of testdata, RSA keys, and answers like that provider's.
func serve(t *testing.T, name string, more http.HandlerFunc) (*Inspector, string, metadata) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "discovery", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Path     string
		Document json.RawMessage
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	var d metadata
	var body string
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch full := "https://" + r.Host + r.URL.Path; {
		case strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration"):
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			_, _ = w.Write([]byte(body))
		case full == string(d.JWKSURI):
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(testKeys))
		case more != nil:
			more(w, r)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	body = strings.NewReplacer("{{issuer}}", s.URL+file.Path, "{{origin}}", s.URL).Replace(string(file.Document))
	if err = json.Unmarshal([]byte(body), &d); err != nil {
		t.Fatal(err)
	}
	return trusting(t, s), s.URL + file.Path, d
}

// trusting is an inspector that trusts the certificate of a server.
func trusting(t *testing.T, s *httptest.Server) *Inspector {
	t.Helper()
	c := New(Options{})
	c.verified.TLSClientConfig.RootCAs = s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	t.Cleanup(c.Close)
	return c
}

// writeDocument answers with the document of an issuer whose endpoints are below base.
func writeDocument(w http.ResponseWriter, issuer, base string) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"issuer": issuer, "authorization_endpoint": base + "/a", "token_endpoint": base + "/t", "jwks_uri": base + "/k", "userinfo_endpoint": base + "/u",
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256"},
	})
}

const testKeys = `{"keys":[{"kty":"RSA","use":"sig","alg":"RS256","kid":"1","x5c":["not a certificate"],"e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}]}`

// A correct setup produces no warnings, whoever the issuer is.
func TestRightSetUpOfOtherProvidersDoesNotWarn(t *testing.T) {
	for name, tt := range map[string]struct {
		product string
		groups  string
		scopes  []string
		claim   string
	}{
		"keycloak":  {"Keycloak", "groups", []string{"openid", "profile", "email"}, "preferred_username"},
		"authentik": {"authentik", "groups", []string{"openid", "profile", "email"}, "preferred_username"},
		"entra":     {"Entra ID", "groups", []string{"openid", "profile", "email"}, "preferred_username"},
		"dex":       {"Dex", "groups", []string{"openid", "profile", "email", "groups"}, "preferred_username"},
		"google":    {"", "", []string{"openid", "profile", "email"}, "email"}, // known by its host alone
		"zitadel":   {"Zitadel", "", []string{"openid", "profile", "email"}, "preferred_username"},
	} {
		t.Run(name, func(t *testing.T) {
			c, issuerURL, _ := serve(t, name, nil)
			i := c.Inspect(t.Context(), issuerURL)
			l := realm.Login{IssuerURL: issuerURL, ClientID: "proxmox", ClientKey: check.NewSecret("a-key-of-a-client"), Scopes: tt.scopes, UsernameClaim: tt.claim, GroupsClaim: tt.groups, QueryUserinfo: true}
			if name == "zitadel" {
				l.Audiences = []string{"234567890123456789"}
			}
			for _, major := range []int{7, 8, 9} {
				checks := i.Checks(View{Login: l, Version: realm.Version{Major: major}, ClockKnown: true})
				for _, found := range checks {
					if found.Status == check.Warn || found.Status == check.Fail || found.Status == check.Skip && found.ID != check.IssuerClaims && found.ID != check.IssuerAudience {
						t.Errorf("%s: %s: %s (%s)", found.ID, found.Status, found.Summary, found.Evidence)
					}
				}
			}
			if p := i.provider().name; p != tt.product {
				t.Errorf("taken for %s", p)
			}
		})
	}
}

// authentik judges the redirect URL before the key, so one that it accepts is presented with the key.
func TestKeyIsPresentedWithARedirectURLThatIsKnown(t *testing.T) {
	c, issuerURL, _ := serve(t, "authentik", func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/authorize/") {
			if r.FormValue("redirect_uri") == testRedirect {
				http.Redirect(w, r, testRedirect+"?error=login_required", http.StatusFound)
				return
			}
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte("<title>Redirect URI Error</title>"))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if strings.Contains(r.URL.Path, "introspect") { // without regard to the key
			_, _ = w.Write([]byte(`{"active":false}`))
			return
		}
		w.WriteHeader(http.StatusBadRequest)
		if _, key, _ := r.BasicAuth(); r.FormValue("redirect_uri") == testRedirect && key == "the-right-key" {
			_, _ = w.Write([]byte(`{"error":"invalid_grant"}`))
			return
		}
		_, _ = w.Write([]byte(`{"error":"invalid_client"}`))
	})
	ask := func(key string, urls ...string) Answer {
		l := realm.Login{ClientID: "proxmox", ClientKey: check.NewSecret(key)}
		return c.Inspect(t.Context(), issuerURL).Client(t.Context(), Question{Login: l, RedirectURLs: urls, Depth: Full})
	}
	if a := ask("the-right-key"); !strings.Contains(a.Checks[0].Summary, "or the redirect URL") {
		t.Errorf("without a redirect URL: %+v", a)
	}
	if a := ask("the-wrong-key", testRedirect); a.Credentials.Decision != Rejected || !strings.Contains(a.Checks[0].Summary, "the key or the authentication method") {
		t.Errorf("%+v", a)
	}
	if a := ask("the-right-key", testRedirect+"/unknown", testRedirect); a.Credentials.Decision != Accepted {
		t.Errorf("%+v", a)
	}
}

func TestRSAKeySizesByGeneration(t *testing.T) {
	libraries := realm.Version{}.OpenIDLibraries()
	for _, tt := range []struct {
		bits         int
		older, newer int
	}{{1024, 0, 1}, {2048, 1, 1}, {4096, 1, 1}, {8192, 1, 0}, {16384, 0, 0}} {
		i := &Inspection{keys: []key{{Kty: "RSA", bits: tt.bits}}, metadata: metadata{SigningAlgs: []string{"RS256"}}}
		if older, newer := i.verifiable(libraries[0]), i.verifiable(libraries[1]); len(older) != tt.older || len(newer) != tt.newer {
			t.Errorf("RSA %d: %v by the older library, %v by the newer", tt.bits, older, newer)
		}
	}
}

// Proxmox is not asked about an issuer that took longer than 5 s: a silent one blocks a worker of the node for good.
func TestQuick(t *testing.T) {
	came, silent := answer{status: 200, stage: check.AtAnswer}, answer{stage: check.AtAnswer, err: context.DeadlineExceeded}
	for _, tt := range []struct {
		name            string
		discovery, keys answer
		took            time.Duration
		want            bool
	}{
		{"at once", came, came, time.Millisecond, true},
		{"in 5 s", came, came, 5 * time.Second, true},
		{"in more than 5 s", came, came, 5*time.Second + time.Millisecond, false},
		{"keys that do not come", came, silent, time.Second, false},
		{"silence", silent, answer{}, time.Second, false},
		{"no connection", answer{stage: check.AtTCP, err: net.ErrClosed}, answer{}, time.Millisecond, true},
		{"no connection for 10 s", answer{stage: check.AtTCP, err: context.DeadlineExceeded}, answer{}, 10 * time.Second, false},
	} {
		i := &Inspection{done: make(chan struct{}), discovery: tt.discovery, keysAnswer: tt.keys, took: tt.took}
		close(i.done)
		if got := i.Quick(); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestClockOfCachedAnswers(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name, date, age string
		want            time.Duration
		ok              bool
	}{
		{"fresh", now.Format(http.TimeFormat), "", 0, true},
		{"an hour in a cache", now.Add(-time.Hour).Format(http.TimeFormat), "3600", 0, true},
		{"off", now.Add(time.Minute).Format(http.TimeFormat), "", time.Minute, true},
		{"no date", "", "", 0, false},
	} {
		a := answer{header: http.Header{"Date": {tt.date}}, received: now.Add(500 * time.Millisecond)}
		if tt.age != "" {
			a.header.Set("Age", tt.age)
		}
		if got, ok := a.clock(); got != tt.want || ok != tt.ok {
			t.Errorf("%s: %s %v, want %s %v", tt.name, got, ok, tt.want, tt.ok)
		}
	}
}

func FuzzParseDocument(f *testing.F) {
	files, _ := filepath.Glob("testdata/discovery/*.json")
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		var file struct{ Document json.RawMessage }
		if err := json.Unmarshal(data, &file); err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(file.Document))
	}
	for _, seed := range []string{"", "null", "{}", `{"issuer":1}`, strings.Repeat("[", 1000), "\xff", `{"a":`, `{"a":"\ud800"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var d metadata
		if json.Unmarshal(body, &d) != nil || d.complete() != nil {
			return
		}
		a := answer{status: http.StatusOK, header: http.Header{"Content-Type": {"application/json"}}, body: body}
		i := &Inspection{inspector: &Inspector{cleaner: check.NewCleaner()}, issuer: string(d.Issuer), metadata: d, discovery: a}
		for _, r := range checkers[3:10] {
			if c := r.check(i, View{}); c.Status == "" || c.Summary == "" {
				t.Errorf("%s: %+v", r.id, c)
			}
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	for _, seed := range []string{testKeys, "", "null", "{}", `{"keys":null}`, `{"keys":[{}]}`, `{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`, `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA"}]}`, `{"keys":[{"kty":"oct","k":"AA"}]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		keys, _ := parseKeys(answer{status: http.StatusOK, header: http.Header{"Content-Type": {"application/json"}}, body: body})
		i := &Inspection{keys: keys, metadata: metadata{SigningAlgs: slices.Concat(slices.Collect(maps.Values(algsOf))...)}}
		libraries := realm.Version{}.OpenIDLibraries()
		for _, k := range append(i.verifiable(libraries[0]), i.verifiable(libraries[1])...) {
			if k.malformed || k.Use != "" && k.Use != "sig" {
				t.Errorf("%s is no key for signing", k)
			}
		}
	})
}
