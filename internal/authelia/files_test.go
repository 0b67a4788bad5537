package authelia_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"proxmox-realm/internal/authelia"
	"proxmox-realm/internal/check"
	"proxmox-realm/internal/report"
)

// shapes returns files of Authelia's configuration in many shapes, by name.
func shapes(t testing.TB) []txtar.File {
	archive, err := txtar.ParseFile("testdata/files.txtar")
	if err != nil {
		t.Fatal(err)
	}
	if len(archive.Files) < 60 {
		t.Fatalf("%d files", len(archive.Files))
	}
	return archive.Files
}

const otherDigest = "$pbkdf2-sha512$310000$bmV3c2FsdG5ld3NhbHQ$bmV3ZGlnZXN0bmV3ZGlnZXN0bmV3ZGlnZXN0bmV3ZGlnZXN0bmV3ZGlnZXN0bmV3ZGlnZXN0bmV3ZGlnZXN0MQ"

func withLogin() authelia.Options {
	return authelia.Options{Client: proxmox(), Digest: knownDigest, WithLogin: true}
}

// compared writes what a file shows, as people read it.
func compared(t testing.TB, o authelia.Options, files ...authelia.File) string {
	c, err := authelia.Compare(o, files...)
	if err != nil {
		return fmt.Sprintf("error: %v\n%s\n", err, check.HintOf(err).For(check.Names{}))
	}
	var out bytes.Buffer
	if err := authelia.Text(&out, c, report.Style{}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// edited writes what an edit does: the difference, or why it is refused.
func edited(t testing.TB, before, after []byte, err error) string {
	var refused *authelia.RefusedError
	switch {
	case errors.As(err, &refused):
		return "refused: " + refused.Error() + "\n"
	case err != nil:
		t.Errorf("%v is no refusal", err)
	case bytes.Equal(before, after):
		return "no change\n"
	}
	return authelia.Diff("file", before, after)
}

// What a file shows, and what becomes of it, stands in a golden file. It was compared with what Authelia 4.39.20 says.
func TestShapes(t *testing.T) {
	var out strings.Builder
	other := withLogin()
	other.Digest, other.Login.ClientKey = otherDigest, check.Secret{}
	for _, f := range shapes(t) {
		fmt.Fprintf(&out, "== %s\n%s", f.Name, compared(t, withLogin(), authelia.File{Name: f.Name, Data: f.Data}))
		after, err := authelia.Put(f.Data, other)
		fmt.Fprintf(&out, "-- put: %s", edited(t, f.Data, after, err))
	}
	got := out.String()
	if strings.Contains(got, "nobody") || strings.Contains(got, knownKey) || strings.ContainsAny(got, "\x1b\u202e\ue000") {
		t.Error("a secret or a control character is shown")
	}
	const file = "testdata/files.golden"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s", firstDifference(got, string(want)))
	}
}

func firstDifference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d: got\n%s\nwant\n%s", i+1, a[i], b[i])
		}
	}
	return fmt.Sprintf("%d lines, not %d", len(a), len(b))
}

// Line ends and a missing last line feed change neither what a file shows nor where it is edited.
func TestShapesWithOtherLineEnds(t *testing.T) {
	windows := func(data []byte) []byte { return bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n")) }
	for _, f := range shapes(t) {
		lines := windows(f.Data)
		if got, want := compared(t, withLogin(), authelia.File{Name: "f", Data: lines}), compared(t, withLogin(), authelia.File{Name: "f", Data: f.Data}); got != want {
			t.Errorf("%s with CRLF: %s", f.Name, firstDifference(got, want))
		}
		after, err := authelia.Put(f.Data, withLogin())
		crlf, errCRLF := authelia.Put(lines, withLogin())
		if fmt.Sprint(err) != fmt.Sprint(errCRLF) || err == nil && !bytes.Equal(windows(after), crlf) {
			t.Errorf("%s with CRLF: %v\n%q", f.Name, errCRLF, crlf)
		}
		open, errOpen := authelia.Put(bytes.TrimSuffix(f.Data, []byte("\n")), withLogin())
		if fmt.Sprint(err) != fmt.Sprint(errOpen) || err == nil && string(bytes.TrimSuffix(after, []byte("\n"))) != string(bytes.TrimSuffix(open, []byte("\n"))) {
			t.Errorf("%s without the last line feed: %v\n%s", f.Name, errOpen, open)
		}
	}
}

// A client that was added is there: it does not differ, and nothing is added again.
func TestAppendedClientIsThere(t *testing.T) {
	added := 0
	o := withLogin()
	o.Login.ClientKey = check.Secret{} // verifying takes time
	for _, f := range shapes(t) {
		_, absent := authelia.Rekey(f.Data, o)
		after, err := authelia.Put(f.Data, o)
		if err != nil || absent == nil {
			continue
		}
		added++
		c, err := authelia.Compare(o, authelia.File{Name: f.Name, Data: after})
		if err != nil || len(c.Differences) > 0 || len(c.Unseen) != 1 {
			t.Errorf("%s: %v %+v", f.Name, err, c)
		}
		again, err := authelia.Put(after, o)
		if err != nil || !bytes.Equal(after, again) {
			t.Errorf("%s: %v", f.Name, err)
		}
		o := o
		o.Digest = otherDigest
		replaced, err := authelia.Put(after, o)
		if err != nil || !bytes.Contains(replaced, []byte("'"+otherDigest+"'")) {
			t.Errorf("%s: %v", f.Name, err)
		}
	}
	if added < 5 {
		t.Errorf("the client was added to %d files", added)
	}
}

// Of several lists Authelia reads the last one alone; policies may be defined in any file.
func TestSeveralFiles(t *testing.T) {
	o := withLogin()
	o.Digest = "$argon2id$v=19$m=64,t=3,p=4$4/rgYN6gxKwPZ3Awd68PWA$EAK0ODcuTAdvQGEx+hXvJZmr3psuy0krVtt2zCza+gQ"
	item, err := authelia.Block(o)
	if err != nil {
		t.Fatal(err)
	}
	part := "identity_providers:\n  oidc:\n"
	ours := part + "    clients:\n" + strings.ReplaceAll(string(item), "'two_factor'", "'admins'")
	others := part + "    clients:\n      - client_id: 'grafana'\n        client_secret: '" + knownDigest + "'\n"
	policies := part + "    hmac_secret: 'x'\n    issuer_private_key: 'x'\n    authorization_policies:\n      admins: {rules: [{policy: 'deny', subject: 'user:x'}]}\n"
	for _, tt := range []struct {
		name  string
		files []string
		want  []string
	}{
		{"policies before", []string{policies, ours}, []string{"2.yml:8: authorization_policy: your own setting, keep it", "no differences\n"}},
		{"policies behind", []string{ours, policies}, []string{"no differences\n"}},
		{"no policies", []string{ours}, []string{"1.yml:8: authorization_policy\n  found:   admins\n  wanted:  one_factor, two_factor or a name under authorization_policies\n", "1 difference\n"}},
		{
			"a list behind",
			[]string{policies, ours, others},
			[]string{"2.yml:3: clients\n  found:   replaced by the list in 3.yml:3\n  wanted:  one list with all clients: Authelia reads the last list alone\n"},
		},
		{
			"a list before",
			[]string{policies, others, ours},
			[]string{"2.yml:3: identity_providers.oidc.clients: warning: is replaced by the list in 3.yml:3\n", "no differences\n"},
		},
		{"an empty list behind", []string{policies, ours, part + "    clients:\n"}, []string{"replaced by the list in 3.yml:3"}},
	} {
		var files []authelia.File
		for i, text := range tt.files {
			files = append(files, authelia.File{Name: fmt.Sprintf("%d.yml", i+1), Data: []byte(text)})
		}
		got := compared(t, withLogin(), files...)
		for _, want := range tt.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s:\n%s\nlacks %s", tt.name, got, want)
			}
		}
	}
}

// A secret that is a word of Authelia, of a host name or of this program is recognised nowhere by its mask.
func TestShortSecretsMaskNoWords(t *testing.T) {
	const file = `clients_of_authelia:
  - client_id: 'proxmox'
    client_secret: '%s'
    token_endpoint_auth_method: 'client_secret_post'
    redirect_uris: ['https://secret.example.com', 'https://openid.example.com']
    scopes: ['openid', 'secret']
    userinfo_signed_response_alg: '%s'
`
	for _, secret := range []string{"secret", "openid", "client_secret_post", "e", "RS256", "example"} {
		o := withLogin()
		o.Login.ClientKey = check.NewSecret(secret)
		got := compared(t, o, authelia.File{Name: "f.yml", Data: fmt.Appendf(nil, file, secret, "RS256")})
		if strings.Contains(strings.ReplaceAll(got, "https://openid.example.com, "+check.Mask, ""), check.Mask+".") || strings.Contains(got, "_"+check.Mask) ||
			!strings.Contains(got, "found:   client_secret_post\n") || !strings.Contains(got, "https://secret.example.com, https://openid.example.com") {
			t.Errorf("%s:\n%s", secret, got)
		}
	}
	// A secret in the wrong place is hidden, however short it is.
	got := compared(t, withLogin(), authelia.File{Name: "f.yml", Data: fmt.Appendf(nil, file, "hunter2", "hunter2")})
	if strings.Contains(got, "hunter2") || !strings.Contains(got, "found:   "+check.Mask) {
		t.Errorf("%s", got)
	}
}

// Other clients and the claims policy of the ID token decide about an edit as well.
func TestAppendNeedsTheClaimsPolicy(t *testing.T) {
	file := []byte("identity_providers:\n  oidc:\n    claims_policies:\n      proxmox:\n        id_token: ['groups']\n    clients:\n      - client_id: 'grafana'\n")
	for claims, refused := range map[string]bool{"groups": false, "email": true} {
		o := withLogin()
		o.IDTokenClaims = []string{claims}
		after, err := authelia.Put(file, o)
		if refused != (err != nil) || err == nil && !bytes.Contains(after, []byte("claims_policy: 'proxmox'")) {
			t.Errorf("%s: %v\n%s", claims, err, after)
		}
	}
}

// Put appends the client, or replaces a secret that is not the client key's.
func TestPut(t *testing.T) {
	const list = "identity_providers:\n  oidc:\n    clients:\n      - client_id: 'grafana'\n"
	const client = list + "      - client_id: 'proxmox'\n        client_secret: '%s'\n        public: true\n"
	const argon = "$argon2id$v=19$m=64,t=3,p=4$4/rgYN6gxKwPZ3Awd68PWA$EAK0ODcuTAdvQGEx+hXvJZmr3psuy0krVtt2zCza+gQ"
	for _, tt := range []struct{ name, before, want string }{
		{"no client", list, "@@ -4,0 +5,23 @@"},
		{"a digest of the key", fmt.Sprintf(client, argon), ""},
		{"the key in plain text", fmt.Sprintf(client, knownKey), "+        client_secret: '" + knownDigest + "'\n"},
		{"another key", fmt.Sprintf(client, otherDigest), "+        client_secret: '" + knownDigest + "'\n"},
	} {
		after, err := authelia.Put([]byte(tt.before), withLogin())
		diff := authelia.Diff("f", []byte(tt.before), after)
		if err != nil || !strings.Contains(diff, tt.want) || (tt.want == "") != (diff == "") {
			t.Errorf("%s: %v\n%s", tt.name, err, diff)
		}
		// Rekey does the same to a client that is there, and adds none.
		rekeyed, err := authelia.Rekey([]byte(tt.before), withLogin())
		var refused *authelia.RefusedError
		if absent := tt.before == list; absent != errors.As(err, &refused) || !absent && !bytes.Equal(rekeyed, after) {
			t.Errorf("%s: %v\n%s", tt.name, err, rekeyed)
		}
	}
}

func TestFormerKeys(t *testing.T) {
	for text, want := range map[string]bool{
		"identity_providers: {oidc: {clients: [{id: a, secret: b}, {id: c, public: true}]}}": true,
		"identity_providers: {oidc: {clients: [{id: a, secret: b}, {client_id: c}]}}":        false,
		"identity_providers: {oidc: {clients: [{public: true}]}}":                            false,
		"identity_providers: {oidc: {}}":                                                     false,
		"":                                                                                   false,
	} {
		if got := authelia.FormerKeys([]byte(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
