package authelia_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"proxmox-realm/internal/authelia"
	"proxmox-realm/internal/check"
	"proxmox-realm/internal/report"
)

func right(t testing.TB) string {
	data, err := os.ReadFile("testdata/right.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// summary writes what a comparison found, a line for each property.
func summary(c authelia.Comparison) string {
	var b strings.Builder
	for _, d := range c.Differences {
		fmt.Fprintf(&b, "%d %s: %q not %q lacks %q\n", d.Line, d.Name, d.Found, d.Wanted, d.Missing)
	}
	for _, p := range c.Unseen {
		fmt.Fprintf(&b, "%d %s: unseen\n", p.Line, p.Name)
	}
	for _, p := range c.Kept {
		fmt.Fprintf(&b, "%d %s: kept\n", p.Line, p.Name)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Each row edits a configuration that does not differ.
func TestCompare(t *testing.T) {
	const digest = "$argon2id$v=19$m=64,t=3,p=4$4/rgYN6gxKwPZ3Awd68PWA$EAK0ODcuTAdvQGEx+hXvJZmr3psuy0krVtt2zCza+gQ"
	const secret = `40 client_secret: %q not "a digest of the realm's client key" lacks []`
	anotherKey := func(o *authelia.Options) { o.Login.ClientKey = check.NewSecret("of somebody else") }
	noKey := func(o *authelia.Options) { o.Login.ClientKey = check.Secret{} }
	rehearse := func(o *authelia.Options) { o.WithLogin, o.LoginRequired = true, true }
	idToken := func(o *authelia.Options) { o.IDTokenClaims = []string{"preferred_username", "groups"} }
	for _, tt := range []struct {
		name     string
		old, new string // the edit
		change   func(o *authelia.Options)
		want     string
	}{
		{"nothing", "", "", nil, ""},
		{"another key", "", "", anotherKey, fmt.Sprintf(secret, "the secret of another key")},
		{"no key to compare with", "", "", noKey, "40 client_secret: unseen"},
		{"broken digest", digest, digest[:50], nil, fmt.Sprintf(secret, "not a digest that Authelia knows")},
		{"no secret", "client_secret: '" + digest + "'", "client_secret:", nil, fmt.Sprintf(secret, "")},
		{"the key itself", digest, "$plaintext$insecure_secret", nil, ""},
		{"secret from a template", digest, `{{ secret "/secrets/proxmox" }}`, nil, "40 client_secret: unseen"},
		{"secret from a template, not quoted", "'" + digest + "'", `{{ secret "/secrets/proxmox" }}`, nil, "40 client_secret: unseen"},
		{
			"secret in another property", "userinfo_signed_response_alg: 'none'", "userinfo_signed_response_alg: '" + digest + "'", nil,
			`58 userinfo_signed_response_alg: "(sensitive)" not "none" lacks []`,
		},
		{"public", "public: false", "public: true", nil, `41 public: "true" not "false" lacks []`},
		{"public by YAML 1.1", "public: false", "public: no", nil, `41 public: "no" not "false" lacks []`},
		{"default", "        public: false\n", "", nil, ""},
		{
			"redirect URI missing", "          - 'https://pve2.example.com:8006'\n", "", nil,
			`46 redirect_uris: "https://pve1.example.com:8006" not "" lacks ["https://pve2.example.com:8006"]`,
		},
		{
			"slash", "https://pve2.example.com:8006'", "https://pve2.example.com:8006/'", nil,
			`46 redirect_uris: "https://pve1.example.com:8006, https://pve2.example.com:8006/" not "" lacks ["https://pve2.example.com:8006"]`,
		},
		{"more redirect URIs", "          - 'https://pve2", "          - 'https://pve3.example.com'\n          - 'https://pve2", nil, ""},
		{
			"login not registered", "", "", rehearse,
			`46 redirect_uris: "https://pve1.example.com:8006, https://pve2.example.com:8006" not "" lacks ["http://127.0.0.1:8000/callback"]`,
		},
		{"login with another port", "          - 'https://pve2", "          - 'http://127.0.0.1:1/callback'\n          - 'https://pve2", rehearse, ""},
		{"login without a port", "          - 'https://pve2", "          - 'http://127.0.0.1/callback'\n          - 'https://pve2", rehearse, ""},
		{
			"login with another path", "          - 'https://pve2.example.com:8006'", "          - 'http://127.0.0.1:8000/'", rehearse,
			`46 redirect_uris: "https://pve1.example.com:8006, http://127.0.0.1:8000/" not "" ` +
				`lacks ["https://pve2.example.com:8006" "http://127.0.0.1:8000/callback"]`,
		},
		{"scope missing", "          - 'groups'\n", "", nil, `49 scopes: "openid, profile, email" not "" lacks ["groups"]`},
		{"scopes in one string", "scopes:\n          - 'openid'\n          - 'profile'\n          - 'email'\n          - 'groups'", "scopes: 'openid,profile,email,groups'", nil, ""},
		{"response type", "- 'code'", "- 'id_token'", nil, `54 response_types: "id_token" not "" lacks ["code"]`},
		{"signed userinfo", "userinfo_signed_response_alg: 'none'", "userinfo_signed_response_alg: 'RS256'", nil, `58 userinfo_signed_response_alg: "RS256" not "none" lacks []`},
		{"signed userinfo, former name", "userinfo_signed_response_alg: 'none'", "userinfo_signing_algorithm: 'RS256'", nil, `58 userinfo_signing_algorithm: "RS256" not "none" lacks []`},
		{"signed userinfo by key", "require_pkce: true", "userinfo_signed_response_key_id: 'main'", nil, `43 userinfo_signed_response_key_id: "main" not "" lacks []`},
		{"encrypted userinfo", "require_pkce: true", "userinfo_encrypted_response_alg: 'RSA-OAEP'", nil, `43 userinfo_encrypted_response_alg: "RSA-OAEP" not "none" lacks []`},
		{"encrypted ID token", "require_pkce: true", "id_token_encrypted_response_alg: 'RSA-OAEP'", nil, `43 id_token_encrypted_response_alg: "RSA-OAEP" not "none" lacks []`},
		{"ID token that Proxmox cannot verify", "require_pkce: true", "id_token_signed_response_alg: 'ES512'", nil, `43 id_token_signed_response_alg: "ES512" not "RS256" lacks []`},
		{"ID token that Proxmox can verify", "require_pkce: true", "id_token_signed_response_alg: 'PS256'", nil, `43 id_token_signed_response_alg: kept`},
		{"pushed authorization", "require_pkce: true", "require_pushed_authorization_requests: true", nil, `43 require_pushed_authorization_requests: "true" not "false" lacks []`},
		{"pushed authorization of all clients", "hmac_secret: 'an-hmac-secret-that-nobody-may-see'", "require_pushed_authorization_requests: true", nil, `15 oidc.require_pushed_authorization_requests: "true" not "false" lacks []`},
		{"authentication", "client_secret_basic", "client_secret_post", nil, `59 token_endpoint_auth_method: "client_secret_post" not "client_secret_basic" lacks []`},
		{"PKCE", "'S256'", "'plain'", nil, `44 pkce_challenge_method: "plain" not "S256" lacks []`},
		{"own policy", "'two_factor'\n        require", "'one_factor'\n        require", nil, "42 authorization_policy: kept"},
		{"own settings", "require_pkce: true", "consent_mode: 'implicit'", nil, "43 consent_mode: kept"},
		{
			"claims in the ID token", "", "", idToken,
			`38 claims_policy: "" not "proxmox" lacks []` + "\n" + `38 claims_policies.proxmox.id_token: "" not "" lacks ["preferred_username" "groups"]`,
		},
		{"claims in the ID token, own policy", "require_pkce: true", "claims_policy: 'legacy'", idToken, ""},
		{
			"claims in the ID token, policy that is not defined", "require_pkce: true", "claims_policy: 'other'", idToken,
			`43 claims_policies.other.id_token: "" not "" lacks ["preferred_username" "groups"]`,
		},
		{"no claims needed", "require_pkce: true", "claims_policy: 'legacy'", nil, "43 claims_policy: kept"},
		{"property twice", "require_pkce: true", "public: false", nil, `43 public: "a second time, first in line 41" not "once" lacks []`},
		{"merged", "      - client_id: 'proxmox'", "      - <<: {consent_mode: 'explicit'}\n        client_id: 'proxmox'", nil, "38 consent_mode: kept"},
	} {
		o := authelia.Options{Client: proxmox()}
		if tt.change != nil {
			tt.change(&o)
		}
		before, client, _ := strings.Cut(right(t), "      - client_id: 'proxmox'")
		client = "      - client_id: 'proxmox'" + client
		text := strings.Replace(before, tt.old, tt.new, 1) + strings.Replace(client, tt.old, tt.new, 1)
		got, err := authelia.Compare(o, authelia.File{Name: "configuration.yml", Data: []byte(text)})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if summary(got) != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, summary(got), tt.want)
		}
		var out bytes.Buffer
		_, _ = authelia.Text(&out, got, report.Style{}), authelia.JSON(&out, got)
		for _, never := range []string{"nobody-may-see", knownKey, digest[:50]} {
			if strings.Contains(out.String(), never) {
				t.Errorf("%s: a secret in %s", tt.name, out.String())
			}
		}
	}
}

func TestReport(t *testing.T) {
	o := authelia.Options{Client: proxmox()}
	o.Login.ClientKey = check.Secret{}
	text := strings.NewReplacer(
		"userinfo_signed_response_alg: 'none'", "userinfo_signed_response_alg: 'RS256'",
		"        require_pkce: true\n", "        consent_mode: 'implicit'\n        userinfo_signed_response_key_id: 'main'\n",
		"          - 'groups'\n", "",
	).Replace(right(t))
	got, err := authelia.Compare(o, authelia.File{Name: "c.yml", Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := authelia.Text(&out, got, report.Style{}); err != nil {
		t.Fatal(err)
	}
	const want = `c.yml:40: client_secret: not compared: the client key is not configured
c.yml:44: userinfo_signed_response_key_id
  found:   main
  wanted:  (absent)
c.yml:50: scopes
  found:   openid, profile, email
  missing: groups
c.yml:58: userinfo_signed_response_alg
  found:   RS256
  wanted:  none
c.yml:43: consent_mode: your own setting, keep it
client proxmox (c.yml:38): 3 differences
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	out.Reset()
	if err := authelia.JSON(&out, got); err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal(out.Bytes(), &object); err != nil || object["outcome"] != "unverified" || len(object["differences"].([]any)) != 3 {
		t.Errorf("%v %s", err, out.String())
	}
	if want := `{"property":"scopes","file":"c.yml","line":50,"found":"openid, profile, email","missing":["groups"]}`; !strings.Contains(out.String(), want) {
		t.Errorf("%s is not in %s", want, out.String())
	}
}

// No file breaks the comparison, and no line of it comes without a number.
func FuzzCompare(f *testing.F) {
	f.Add([]byte(right(f)))
	f.Add([]byte("a: &a {client_id: proxmox, scopes: *a}"))
	f.Add([]byte("- &a {<<: *a, client_id: proxmox, redirect_uris: [{}, *a]}"))
	f.Add([]byte("client_id: proxmox\nredirect_uris: {{ x }}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		o := authelia.Options{Client: proxmox()}
		o.Login.ClientKey = check.Secret{}
		got, err := authelia.Compare(o, authelia.File{Name: "configuration.yml", Data: data})
		if err != nil && check.CodeOf(err) != check.Config {
			t.Errorf("%v", err)
		}
		for _, d := range got.Differences {
			if d.Line == 0 || d.Name == "" {
				t.Errorf("%+v", d)
			}
		}
	})
}
