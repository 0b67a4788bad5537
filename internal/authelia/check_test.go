package authelia_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"proxmox-realm/internal/authelia"
	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

func right(t testing.TB) string {
	data, err := os.ReadFile("testdata/right.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func run(want authelia.Client, text string) []check.Check {
	return authelia.Check(want, authelia.File{Name: "configuration.yml", Data: []byte(text)})
}

// complaints renders what failed or warned.
func complaints(checks []check.Check) []string {
	var out []string
	for _, c := range checks {
		if c.Status == check.Fail || c.Status == check.Warn {
			out = append(out, fmt.Sprintf("%s %s: %s [%s] %s", c.Status, c.ID, c.Summary, c.Evidence, c.Remedy.String()))
		}
	}
	return out
}

func TestOnARightSetUpEveryCheckPasses(t *testing.T) {
	for _, version := range []authelia.Version{{}, {Major: 4, Minor: 38}, {Major: 4, Minor: 39}, {Major: 4, Minor: 41}} {
		want := proxmox()
		want.Version = version
		got := run(want, right(t))
		for i, e := range authelia.Catalog() {
			if i >= len(got) || got[i].ID != e.ID || got[i].Status != check.Pass {
				t.Fatalf("authelia %s, %s: %+v", version, e.ID, got)
			}
		}
	}
}

// Of a loopback address the port is free, so that one registration serves rehearsals on any.
func TestAnyPortOfLoopbackIsRegistered(t *testing.T) {
	want := proxmox()
	want.RedirectURIs = append(want.RedirectURIs, authelia.LoginRedirectURI)
	for _, registered := range []string{"http://127.0.0.1:8000/callback", "http://127.0.0.1:1/callback", "http://127.0.0.1/callback"} {
		text := strings.Replace(right(t), "          - 'https://pve1", "          - '"+registered+"'\n          - 'https://pve1", 1)
		if said := complaints(run(want, text)); len(said) > 0 {
			t.Errorf("%s: %s", registered, said)
		}
	}
}

// Each row plants one mistake into the right configuration: exactly that check must speak, with the exact line.
func TestPlantedMistakes(t *testing.T) {
	const none = 0
	v437, v438, v439 := authelia.Version{Major: 4, Minor: 37}, authelia.Version{Major: 4, Minor: 38}, authelia.Version{Major: 4, Minor: 39}
	digest := "$argon2id$v=19$m=64,t=3,p=4$4/rgYN6gxKwPZ3Awd68PWA$EAK0ODcuTAdvQGEx+hXvJZmr3psuy0krVtt2zCza+gQ"
	noUserinfo := func(w *authelia.Client) { w.Login.QueryUserinfo = false }
	rehearse := func(w *authelia.Client) { w.RedirectURIs = append(w.RedirectURIs, authelia.LoginRedirectURI) }
	for _, tt := range []struct {
		name     string
		old, new string // the edit
		want     func(w *authelia.Client)
		id       check.ID
		status   check.Status
		line     int
		says     string // in summary, evidence or hint
	}{
		{"no such client", "client_id: 'proxmox'", "client_id: 'pve'", nil, authelia.CheckClient, check.Fail, none, "no client proxmox"},
		{"client in other case", "client_id: 'proxmox'", "client_id: 'Proxmox'", nil, authelia.CheckClient, check.Fail, 38, "spelled otherwise"},
		{"two of them", "client_id: 'grafana'", "client_id: 'proxmox'", nil, authelia.CheckClient, check.Fail, 38, "2 clients"},
		{"no clients", "    clients:", "    customers:", nil, authelia.CheckClient, check.Fail, none, "no client proxmox"},
		{"id that authelia refuses", "client_id: 'proxmox'", "client_id: 'prox mox'", func(w *authelia.Client) { w.Login.ClientID = "prox mox" }, authelia.CheckClient, check.Fail, 38, "refuses the id"},

		{"misspelled key", "redirect_uris:\n          - 'https://pve1", "redirect_uri:\n          - 'https://pve1", nil, authelia.CheckNames, check.Fail, 45, "redirect_uris?"},
		{"key of another version", "require_pkce: true", "claims_policy: 'legacy'", func(w *authelia.Client) { w.Version = v438 }, authelia.CheckNames, check.Fail, 43, "known since 4.39"},
		{"foreign key", "require_pkce: true", "logo_uri: 'x'", nil, authelia.CheckNames, check.Warn, 43, "logo_uri"},
		{"foreign key, version given", "require_pkce: true", "logo_uri: 'x'", func(w *authelia.Client) { w.Version = v439 }, authelia.CheckNames, check.Fail, 43, "logo_uri"},
		{"doubled key", "require_pkce: true", "public: false", nil, authelia.CheckNames, check.Fail, 43, "line 41 already"},
		{"old key name", "userinfo_signed_response_alg: 'none'", "userinfo_signing_algorithm: 'none'", nil, authelia.CheckNames, check.Warn, 58, "userinfo_signed_response_alg now"},
		{"new key names for 4.37", "", "", func(w *authelia.Client) { w.Version = v437 }, authelia.CheckNames, check.Fail, 38, "client_id is known since 4.38"},

		{"public", "public: false", "public: true", nil, authelia.CheckPublic, check.Fail, 41, "public"},
		{"public, by YAML 1.1", "public: false", "public: no", nil, authelia.CheckPublic, check.Fail, 41, "neither true nor false"},

		{"another key", "", "", func(w *authelia.Client) { w.Login.ClientKey = check.NewSecret("of somebody else") }, authelia.CheckSecret, check.Fail, 40, "another key"},
		{"the digest as key", "", "", func(w *authelia.Client) { w.Login.ClientKey = check.NewSecret(digest) }, authelia.CheckSecret, check.Fail, 40, "is the digest, not the key"},
		{"broken digest", digest, digest[:50], nil, authelia.CheckSecret, check.Fail, 40, "no digest"},
		{"no secret", "client_secret: '" + digest + "'", "client_secret:", nil, authelia.CheckSecret, check.Fail, 40, "no secret"},
		{"key in clear", digest, "$plaintext$insecure_secret", nil, authelia.CheckDigest, check.Warn, 40, "in clear"},
		{"key in clear, no prefix", digest, "insecure_secret", nil, authelia.CheckDigest, check.Warn, 40, "in clear"},

		{"redirect URI missing", "          - 'https://pve2.example.com:8006'\n", "", nil, authelia.CheckRedirect, check.Fail, 45, "https://pve2.example.com:8006 is not there"},
		{"slash", "https://pve2.example.com:8006'", "https://pve2.example.com:8006/'", nil, authelia.CheckRedirect, check.Fail, 47, "a slash at the end"},
		{"no port", "https://pve2.example.com:8006'", "https://pve2.example.com'", nil, authelia.CheckRedirect, check.Fail, 47, "no port"},
		{"another port", "https://pve2.example.com:8006'", "https://pve2.example.com:8007'", nil, authelia.CheckRedirect, check.Fail, 47, "another port"},
		{"scheme", "https://pve2.example.com:8006'", "http://pve2.example.com:8006'", nil, authelia.CheckRedirect, check.Fail, 47, "another scheme"},
		{"path", "https://pve2.example.com:8006'", "https://pve2.example.com:8006/oauth2'", nil, authelia.CheckRedirect, check.Fail, 47, "another path"},
		{"capitals", "https://pve2.example.com:8006'", "https://PVE2.example.com:8006'", nil, authelia.CheckRedirect, check.Fail, 47, "another spelling"},
		{"white space", "https://pve2.example.com:8006'", "https://pve2.example.com:8006 '", nil, authelia.CheckRedirect, check.Fail, 47, "white space"},
		{"an assumed redirect URI", "          - 'https://pve2.example.com:8006'\n", "", func(w *authelia.Client) { w.Assumed = true }, authelia.CheckRedirect, check.Warn, 45, "API endpoint"},
		{"rehearsal not registered", "", "", rehearse, authelia.CheckRedirect, check.Fail, 45, "http://127.0.0.1:8000/callback is not there"},
		{"rehearsal with another path", "          - 'https://pve2", "          - 'http://127.0.0.1:8000/'\n          - 'https://pve2", rehearse, authelia.CheckRedirect, check.Fail, 47, "another path"},
		{"rehearsal by name", "          - 'https://pve2", "          - 'http://localhost:8000/callback'\n          - 'https://pve2", rehearse, authelia.CheckRedirect, check.Fail, 45, "is not there"},

		{"scope missing", "          - 'groups'\n", "", nil, authelia.CheckScopes, check.Fail, 48, "may not ask for groups"},
		{"openid missing", "          - 'openid'\n", "", nil, authelia.CheckScopes, check.Fail, 48, "may not ask for openid"},

		{"response type", "- 'code'", "- 'id_token'", nil, authelia.CheckFlow, check.Fail, 53, "response type code"},
		{"grant type", "- 'authorization_code'", "- 'refresh_token'", nil, authelia.CheckFlow, check.Fail, 55, "redeem"},
		{"pushed requests", "require_pkce: true", "require_pushed_authorization_requests: true", nil, authelia.CheckFlow, check.Fail, 43, "pushed"},
		{"pushed requests of all clients", "hmac_secret:", "require_pushed_authorization_requests: true\n    hmac_secret:", nil, authelia.CheckFlow, check.Fail, 15, "pushed"},
		{"response mode", "require_pkce: true", "response_modes: ['form_post']", nil, authelia.CheckFlow, check.Warn, 43, "query"},

		{"plain PKCE", "'S256'", "'plain'", nil, authelia.CheckPKCE, check.Fail, 44, "another PKCE method"},
		{"authentication method", "auth_method: 'client_secret_basic'", "auth_method: 'client_secret_post'", nil, authelia.CheckAuthentication, check.Fail, 59, "client_secret_post"},
		{"signed userinfo", "userinfo_signed_response_alg: 'none'", "userinfo_signed_response_alg: 'RS256'", nil, authelia.CheckUserinfo, check.Fail, 58, "RS256"},
		{"userinfo signed by key", "require_pkce: true", "userinfo_signed_response_key_id: 'main'", nil, authelia.CheckUserinfo, check.Fail, 43, "main"},
		{"ID token of ES512", "require_pkce: true", "id_token_signed_response_alg: 'ES512'", nil, authelia.CheckIDToken, check.Fail, 43, "ES512"},
		{"encrypted ID token", "require_pkce: true", "id_token_encrypted_response_alg: 'RSA-OAEP'", nil, authelia.CheckIDToken, check.Fail, 43, "encrypted"},

		{"userinfo off, no claims policy", "", "", noUserinfo, authelia.CheckClaims, check.Warn, 38, "preferred_username, groups"},
		{"the same, version given", "", "", func(w *authelia.Client) { noUserinfo(w); w.Version = v439 }, authelia.CheckClaims, check.Fail, 38, "preferred_username, groups"},
		{"claims policy without the claim", "require_pkce: true", "claims_policy: 'legacy'", func(w *authelia.Client) { noUserinfo(w); w.Version = v439; w.Login.UsernameClaim = "email" }, authelia.CheckClaims, check.Fail, 30, "does not carry email"},
		{"claims policy without groups", "require_pkce: true", "claims_policy: 'legacy'", func(w *authelia.Client) { noUserinfo(w); w.Version = v439; w.Login.GroupsClaim = "roles" }, authelia.CheckClaims, check.Warn, 30, "does not carry roles"},
		{"claims policy that is not defined", "require_pkce: true", "claims_policy: 'default'", nil, authelia.CheckClaims, check.Fail, 43, "claims policy default is not defined"},

		{"policy that is not defined", "policy: 'two_factor'\n        require", "policy: 'admin'\n        require", nil, authelia.CheckPolicy, check.Fail, 42, "admin is not defined"},
		{"deny", "policy: 'two_factor'\n        require", "policy: 'deny'\n        require", nil, authelia.CheckPolicy, check.Fail, 42, "deny"},

		{"consent mode", "require_pkce: true", "consent_mode: 'always'", nil, authelia.CheckConsent, check.Fail, 43, "always"},
		{"consent that nobody can give", "", "", func(w *authelia.Client) { w.Login.Prompt = "none" }, authelia.CheckConsent, check.Warn, 38, "explicit"},
		{"consent that is not asked for", "require_pkce: true", "consent_mode: 'implicit'", func(w *authelia.Client) { w.Login.Prompt = "consent" }, authelia.CheckConsent, check.Warn, 43, "implicit"},

		{"not YAML", "    authorization_policies:", "   authorization_policies:", nil, authelia.CheckFile, check.Fail, none, "not YAML"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want, text := proxmox(), right(t)
			if tt.want != nil {
				tt.want(&want)
			}
			if tt.old != "" {
				edited := replaceLast(text, tt.old, tt.new)
				if edited == text {
					t.Fatal("the edit changes nothing")
				}
				text = edited
			}
			checks := run(want, text)
			found, _ := check.Find(slices.DeleteFunc(slices.Clone(checks), func(c check.Check) bool { return c.ID != tt.id }), tt.id)
			all := found.Summary + " [" + found.Evidence + "] " + found.Remedy.String()
			if found.Status != tt.status || !strings.Contains(all, tt.says) || found.Remedy.String() == "" {
				t.Errorf("%s, want %s with %q:\n%s", found.Status, tt.status, tt.says, all)
			}
			if tt.line != none && !strings.Contains(found.Evidence+" ", fmt.Sprintf("configuration.yml:%d", tt.line)) || tt.line == none && found.Evidence != "" && tt.id != authelia.CheckFile {
				t.Errorf("evidence %q, want line %d", found.Evidence, tt.line)
			}
			for _, c := range checks {
				if c.ID != tt.id && (c.Status == check.Fail || c.Status == check.Warn) && !follows(tt.id, c.ID) {
					t.Errorf("speaks too: %s %s: %s [%s]", c.Status, c.ID, c.Summary, c.Evidence)
				}
			}
		})
	}
}

// follows tells which mistakes bring another one along.
func follows(first, second check.ID) bool {
	return first == authelia.CheckNames && second == authelia.CheckRedirect // the misspelled key is missing
}

func replaceLast(text, old, now string) string {
	at := strings.LastIndex(text, old)
	if at < 0 {
		return text
	}
	return text[:at] + now + text[at+len(old):]
}

func TestWhatFileFiltersFillInIsSkipped(t *testing.T) {
	digest := "'$argon2id$v=19$m=64,t=3,p=4$4/rgYN6gxKwPZ3Awd68PWA$EAK0ODcuTAdvQGEx+hXvJZmr3psuy0krVtt2zCza+gQ'"
	for _, tt := range []struct {
		name, old, new string
		skipped        []check.ID
		line           int // of the first skipped check's evidence
	}{
		{"secret from a template", digest, "{{ secret \"/secrets/proxmox\" | quote }}", []check.ID{authelia.CheckSecret, authelia.CheckDigest}, 40},
		{"secret from a quoted template", digest, "'{{ env \"X\" }}'", []check.ID{authelia.CheckSecret, authelia.CheckDigest}, 40},
		{"secret from the environment", digest, "'${PROXMOX_DIGEST}'", []check.ID{authelia.CheckSecret, authelia.CheckDigest}, 40},
		{"secret with doubled dollars", digest, "'$$pbkdf2-sha512$$310000$$a$$b'", []check.ID{authelia.CheckSecret, authelia.CheckDigest}, 40},
		{"redirect URI", "'https://pve2.example.com:8006'", "'https://pve2.{{ env \"DOMAIN\" }}:8006'", []check.ID{authelia.CheckRedirect}, 45},
		{"redirect URI with a variable", "'https://pve2.example.com:8006'", "'https://pve2.$DOMAIN:8006'", []check.ID{authelia.CheckRedirect}, 45},
		{
			"block scalar elsewhere", "          -----BEGIN PRIVATE KEY-----\n          a-private-key-that-nobody-may-see\n          -----END PRIVATE KEY-----\n",
			"\n\n{{ secret \"/secrets/oidc.key\" | indent 10 }}\n", nil, 0,
		},
		{"value that is no YAML as it stands", "'an-hmac-secret-that-nobody-may-see'", "{{ secret \"/secrets/hmac\" | mindent 0 \"|\" | msquote }}", nil, 0},
		{"condition around keys", "        require_pkce: true\n", "{{- if true }}\n        require_pkce: true\n{{- else }}\n        require_pkce: false\n{{- end }}\n", nil, 0},
		{"clients from elsewhere", "      - client_id: 'proxmox'", "{{ fileContent \"/clients.yml\" | nindent 6 }}\n      - client_id: 'other'", allButFile(), 38},
		{"scopes of several lines", "          - 'openid'\n", "{{- range $s := list\n \"openid\" }}\n          - '{{ $s }}'\n{{- end }}\n", []check.ID{authelia.CheckScopes}, 48},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := replaceLast(right(t), tt.old, tt.new)
			if text == right(t) {
				t.Fatal("the edit changes nothing")
			}
			var skipped []check.ID
			for _, c := range run(proxmox(), text) {
				switch c.Status {
				case check.Skip:
					if len(skipped) == 0 && !strings.Contains(c.Evidence+" ", fmt.Sprintf(":%d ", tt.line)) {
						t.Errorf("%s: evidence %q, want line %d", c.ID, c.Evidence, tt.line)
					}
					skipped = append(skipped, c.ID)
				case check.Fail, check.Warn:
					t.Errorf("%s %s: %s [%s]", c.Status, c.ID, c.Summary, c.Evidence)
				case check.Pass:
				}
			}
			if !slices.Equal(skipped, tt.skipped) {
				t.Errorf("skipped %v, want %v", skipped, tt.skipped)
			}
		})
	}
}

func allButFile() []check.ID {
	var ids []check.ID
	for _, e := range authelia.Catalog()[1:] {
		ids = append(ids, e.ID)
	}
	return ids
}

// A file that templates keep from being YAML is searched for the client alone, lines as they are.
func TestTheClientIsFoundInWhatIsNoYAML(t *testing.T) {
	broken := "{{/* of two\nlines */}}\n{{ if eq (env \"A\") \"b\" }}\n  x: [1\n{{ end }}\n" + strings.Replace(right(t), "'client_secret_basic'", "'client_secret_post'", 1)
	got := run(proxmox(), broken)
	if c, _ := check.Find(got, authelia.CheckFile); c.Status != check.Skip {
		t.Errorf("%+v", c)
	}
	if c, _ := check.Find(got, authelia.CheckAuthentication); c.Status != check.Fail || c.Evidence != "configuration.yml:64: client_secret_post" {
		t.Errorf("%+v", c)
	}
	if all := complaints(got); len(all) != 1 {
		t.Errorf("%q", all)
	}
	// The id need not come first.
	moved := strings.Replace(broken, "      - client_id: 'proxmox'\n        client_name: 'Proxmox'\n", "      - client_name: 'Proxmox'\n        client_id: proxmox # ours\n", 1)
	if c, _ := check.Find(run(proxmox(), moved), authelia.CheckClient); c.Status != check.Pass || c.Evidence != "configuration.yml:43" {
		t.Errorf("%+v", c)
	}
}

func TestAnchorsAndMergeKeys(t *testing.T) {
	const text = `definitions:
  base: &base
    scopes: &scopes ['openid', 'profile', 'email']
    token_endpoint_auth_method: 'client_secret_post'
    userinfo_signed_response_alg: 'RS256'
  other: &other
    response_types: ['id_token']
identity_providers: {oidc: {clients: [
  {client_id: 'proxmox', <<: [*base, *other], client_secret: '$plaintext$insecure_secret', userinfo_signed_response_alg: none,
   redirect_uris: ['https://pve1.example.com:8006', 'https://pve2.example.com:8006']}]}}
`
	got := run(proxmox(), text)
	for id, want := range map[check.ID]string{
		authelia.CheckAuthentication: "fail configuration.yml:4: client_secret_post",
		authelia.CheckUserinfo:       "pass ", // its own value, not the merged one
		authelia.CheckScopes:         "fail configuration.yml:3: ['openid', 'profile', 'email']",
		authelia.CheckFlow:           "fail configuration.yml:7: ['id_token']",
		authelia.CheckRedirect:       "pass configuration.yml:10",
	} {
		if c, _ := check.Find(got, id); string(c.Status)+" "+c.Evidence != want {
			t.Errorf("%s: %s %s, want %s", id, c.Status, c.Evidence, want)
		}
	}
}

func TestFormerKeyNames(t *testing.T) {
	const text = `identity_providers:
  oidc:
    clients:
      - id: proxmox
        description: Proxmox
        secret: $plaintext$insecure_secret
        redirect_uris: [https://pve1.example.com:8006, https://pve2.example.com:8006]
        userinfo_signing_algorithm: RS256
`
	want := proxmox()
	for version, names := range map[authelia.Version]check.Status{{}: check.Warn, {Major: 4, Minor: 37}: check.Pass, {Major: 4, Minor: 39}: check.Warn} {
		want.Version = version
		got := run(want, text)
		for id, status := range map[check.ID]check.Status{
			authelia.CheckClient: check.Pass, authelia.CheckNames: names, authelia.CheckSecret: check.Pass, authelia.CheckDigest: check.Warn,
			authelia.CheckRedirect: check.Pass, authelia.CheckScopes: check.Pass, authelia.CheckUserinfo: check.Fail,
		} {
			if c, _ := check.Find(got, id); c.Status != status {
				t.Errorf("authelia %s: %s: %+v, want %s", version, id, c, status)
			}
		}
	}
	want.Version = authelia.Version{Major: 4, Minor: 36} // compares the secret itself
	if c, _ := check.Find(run(want, text), authelia.CheckSecret); c.Status != check.Fail {
		t.Errorf("%+v", c)
	}
	if c, _ := check.Find(run(want, strings.Replace(text, "$plaintext$", "", 1)), authelia.CheckSecret); c.Status != check.Pass {
		t.Errorf("%+v", c)
	}
}

// Authelia merges maps of several files, and takes a list from the last file that has it.
func TestSeveralFiles(t *testing.T) {
	policies := authelia.File{Name: "policies.yml", Data: []byte("identity_providers: {oidc: {authorization_policies: {vips: {default_policy: deny}}}}")}
	others := authelia.File{Name: "others.yml", Data: []byte("identity_providers: {oidc: {clients: [{client_id: 'x'}]}}")}
	main := authelia.File{Name: "configuration.yml", Data: []byte(strings.Replace(right(t), "policy: 'two_factor'\n        require", "policy: 'vips'\n        require", 1))}

	if c, _ := check.Find(authelia.Check(proxmox(), main, policies), authelia.CheckPolicy); c.Status != check.Pass {
		t.Errorf("policy in another file: %+v", c)
	}
	if c, _ := check.Find(authelia.Check(proxmox(), others, main), authelia.CheckClient); c.Status != check.Pass {
		t.Errorf("the later list has the client: %+v", c)
	}
	c, _ := check.Find(authelia.Check(proxmox(), main, others), authelia.CheckClient)
	if c.Status != check.Fail || c.Evidence != "configuration.yml:38" {
		t.Errorf("the later list replaces it: %+v", c)
	}
	if len(authelia.Check(proxmox())) == 0 {
		t.Error("no file, no check")
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	for name, data := range map[string][]byte{
		"too large": append([]byte("# "), make([]byte, 1<<20)...),
		"UTF-16":    {0xff, 0xfe, 'a', 0},
	} {
		got := authelia.Check(proxmox(), authelia.File{Name: "x.yml", Data: data})
		if c, _ := check.Find(got, authelia.CheckFile); c.Status != check.Skip {
			t.Errorf("%s: %+v", name, c)
		}
		if all := complaints(got); len(all) != 0 {
			t.Errorf("%s: %q", name, all)
		}
	}
}

func TestNoSecretOfAFileIsShown(t *testing.T) {
	texts := []string{right(t)}
	rapid.Check(t, func(t *rapid.T) {
		text := texts[0]
		// Secrets land where they do not belong.
		for range rapid.IntRange(0, 4).Draw(t, "edits") {
			lines := strings.Split(text, "\n")
			at := rapid.IntRange(0, len(lines)-1).Draw(t, "line")
			key, _, ok := strings.Cut(lines[at], ":")
			if ok && !strings.Contains(key, "- ") {
				lines[at] = key + ": 'a-session-secret-that-nobody-may-see'"
			}
			text = strings.Join(lines, "\n")
		}
		want := proxmox()
		want.Login.ClientKey = check.NewSecret("the-realm-key-that-nobody-may-see")
		for _, c := range run(want, text) {
			if shown := fmt.Sprintf("%+v", c); strings.Contains(shown, "nobody-may-see") || strings.Contains(shown, "EAK0ODcu") {
				t.Fatalf("%s", shown)
			}
		}
	})
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte(right(f)))
	for _, seed := range []string{
		"a: &a [*a]", "<<: *x", "identity_providers: {oidc: {clients: {}}}", "identity_providers: &a\n  <<: *a\n", "{{", "{{ if }}\n{{ end }}", "- client_id: proxmox",
		"identity_providers: {oidc: {clients: [{<<: [{client_id: proxmox}], client_secret: '$2b$04$'}, null, 1, [], !!binary x]}}",
		"x: [\nidentity_providers:\n  oidc:\n    clients:\n      - client_id: proxmox\n        scopes: {a: b}\n",
	} {
		f.Add([]byte(seed))
	}
	want := proxmox()
	want.Login = realm.Login{ClientID: "proxmox", Scopes: []string{"openid"}, UsernameClaim: "email"}
	f.Fuzz(func(t *testing.T, data []byte) {
		seen := map[check.ID]bool{}
		for _, c := range authelia.Check(want, authelia.File{Name: "x", Data: data}) {
			seen[c.ID] = true
			if c.Summary == "" || (c.Status == check.Fail || c.Status == check.Warn) && c.Remedy.String() == "" {
				t.Errorf("%+v", c)
			}
		}
		if len(seen) != len(authelia.Catalog()) {
			t.Errorf("%d checks of %d", len(seen), len(authelia.Catalog()))
		}
	})
}
