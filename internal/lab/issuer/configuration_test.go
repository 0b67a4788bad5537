package issuer_test

import (
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	"proxmox-realm/internal/lab/issuer"
)

// configuration is a file that Authelia starts with.
func configuration(t *testing.T) string {
	t.Helper()
	keys, err := issuer.DefaultKeys()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(keys[0].Key)
	if err != nil {
		t.Fatal(err)
	}
	key := strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	return `log: {level: info}
identity_providers:
  oidc:
    hmac_secret: 'of the file'
    jwks:
      - key: |
          ` + strings.ReplaceAll(key, "\n", "\n          ") + `
    authorization_policies:
      staff: {default_policy: deny, rules: [{policy: two_factor, subject: 'group:staff'}]}
    lifespans: {custom: {short: {access_token: 5 minutes}}}
    claims_policies: {full: {id_token: [groups]}}
    clients:
      - client_id: 'proxmox'
        client_secret: '$pbkdf2-sha512$310000$c8p78n7pUMln0jzvd4aK4Q$JNRBzwAo0ek5qKn50cFzzvE9RXV88h1wJn5KGiHrD0YKtZaR/nCb2CJPOsKaPK0hjf.9yHxzQGZziziccp6Yng'
        public: false
        authorization_policy: 'staff'
        lifespan: 'short'
        claims_policy: 'full'
        require_pkce: true
        pkce_challenge_method: 'S256'
        consent_mode: ''
        redirect_uris: ['https://pve.example.com:8006']
        scopes:
          - 'openid'
        grant_types: ['authorization_code']
        token_endpoint_auth_method: 'client_secret_basic'
      - id: former
        secret: $plaintext$of the client
        redirect_uris: https://former.example.com
`
}

func TestParseConfiguration(t *testing.T) {
	clients, err := issuer.ParseConfiguration([]byte(configuration(t) + "---\nnonsense: true\n"))
	if err != nil || len(clients) != 2 {
		t.Fatal(clients, err)
	}
	c := clients[0]
	if c.ID != "proxmox" || !c.RequirePKCE || !c.ClaimsInToken || c.AuthMethod != "client_secret_basic" || len(c.Scopes) != 1 || c.RedirectURIs[0] != "https://pve.example.com:8006" {
		t.Errorf("%+v", c)
	}
	if c := clients[1]; c.ID != "former" || c.Secret != "$plaintext$of the client" || c.RedirectURIs[0] != "https://former.example.com" {
		t.Errorf("%+v", c)
	}
}

// Authelia starts without OpenID Connect too, and a provider may want pushed authorization requests of all clients.
func TestOtherConfigurations(t *testing.T) {
	if clients, err := issuer.ParseConfiguration([]byte("log: {level: info}")); err != nil || len(clients) != 0 {
		t.Error(clients, err)
	}
	pushed := strings.Replace(configuration(t), "    clients:", "    require_pushed_authorization_requests: true\n    clients:", 1)
	if clients, err := issuer.ParseConfiguration([]byte(pushed)); err != nil || !clients[0].RequirePushed || !clients[1].RequirePushed {
		t.Error(clients, err)
	}
}

// What Authelia refuses is refused, with the line.
func TestRefusedConfigurations(t *testing.T) {
	good := configuration(t)
	for name, x := range map[string]struct{ old, new, want string }{
		"no YAML":               {"log: {", "log: [", "yaml: "},
		"empty":                 {good, "", "the file is empty"},
		"unknown key":           {"log:", "logs:", "line 1: configuration key not expected: logs"},
		"unknown client key":    {"redirect_uris: [", "redirect_urls: [", "configuration key not expected: identity_providers.oidc.clients[].redirect_urls"},
		"clients elsewhere":     {"log: {level: info}", "clients: []", "configuration key not expected: clients"},
		"key twice":             {"public: false", "public: false\n        public: false", "mapping key \"public\" already defined at line"},
		"undefined policy":      {"'staff'", "'stuff'", "client 'proxmox': option 'authorization_policy' must be one of 'one_factor', 'two_factor' or 'staff' but it's configured as 'stuff'"},
		"bypass":                {"'staff'", "bypass", "but it's configured as 'bypass'"},
		"undefined lifespan":    {"'short'", "'long'", "option 'lifespan' must be one of 'short'"},
		"undefined claims":      {"'full'", "'none'", "option 'claims_policy' must be one of 'full'"},
		"letter case":           {"'S256'", "'s256'", "option 'pkce_challenge_method' must be one of 'plain' or 'S256' but it's configured as 's256'"},
		"method":                {"'client_secret_basic'", "'basic'", "option 'token_endpoint_auth_method' must be one of"},
		"grant type":            {"['authorization_code']", "['code']", "option 'grant_types' must be one of"},
		"boolean":               {"require_pkce: true", "require_pkce: 'yes'", "cannot parse \"yes\" as bool"},
		"digest":                {"$c8p78n7pUMln0jzvd4aK4Q$", "$", "client 'proxmox': could not decode option 'client_secret': provided encoded hash has an invalid format"},
		"doubled dollars":       {"'$pbkdf2-sha512$310000$", "'$$pbkdf2-sha512$$310000$$", "could not decode option 'client_secret'"},
		"no secret":             {"secret: $plaintext$of the client", "description: x", "client 'former': option 'client_secret' is required"},
		"public with a secret":  {"public: false", "public: true", "option 'client_secret' is required to be empty when option 'public' is true"},
		"two clients of one id": {"id: former", "id: proxmox", "option 'client_id' must be unique"},
		"no client id":          {"id: former", "id: ''", "option 'client_id' is required"},
		"characters of an id":   {"id: former", "id: a b", "unreserved characters"},
		"redirect URI":          {"'https://pve.example.com:8006'", "'pve.example.com'", "option 'redirect_uris' has an invalid value"},
		"no HMAC secret":        {"hmac_secret: 'of the file'", "hmac_secret: ''", "option 'hmac_secret' is required"},
		"no key":                {"    jwks:\n      - key: |\n", "    lifespans_: |\n", "option 'jwks' is required"},
		"list for a map":        {"    clients:\n", "    clients:\n      - [a]\n", "line 40: cannot unmarshal"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(good, x.old, x.new, 1)
			if text == good {
				t.Fatal("nothing is replaced")
			}
			_, err := issuer.ParseConfiguration([]byte(text))
			if err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("error %v, want %s", err, x.want)
			}
			if err != nil && (strings.Contains(err.Error(), "JNRBzwAo0") || strings.Contains(err.Error(), "of the client")) {
				t.Error("a secret is quoted")
			}
		})
	}
	if _, err := issuer.ParseConfiguration([]byte(strings.Split(good, "      - client_id")[0])); err == nil || !strings.Contains(err.Error(), "option 'clients' must have one or more clients configured") {
		t.Error(err)
	}
}

// A file of any content is an error or clients, and no crash.
func FuzzParseConfiguration(f *testing.F) {
	f.Add("identity_providers: {oidc: {clients: [{client_id: a}]}}")
	f.Add("identity_providers: &a {oidc: *a}")
	f.Add("a: *b")
	f.Fuzz(func(_ *testing.T, text string) { _, _ = issuer.ParseConfiguration([]byte(text)) })
}
