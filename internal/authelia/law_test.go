package authelia_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"proxmox-realm/internal/authelia"
	"proxmox-realm/internal/check"
)

// configuration draws a file that Authelia could have: lists in two columns, dashes of several widths, comments, block
// scalars, other sections before and behind.
func configuration(t *rapid.T) string {
	var b strings.Builder
	comment := rapid.SampledFrom([]string{"", "", "\n", "# a comment\n", "\n  ## another: one\n\n", "      # deeper\n"})
	section := rapid.SampledFrom([]string{
		"", "theme: 'dark'\n", "session:\n  cookies:\n    - domain: 'example.com'\n    - domain: 'example.org'\n",
		"notes: |\n  clients:\n    - client_id: 'x'\n\n  end\n", "access_control: {rules: [{domain: '*'}]}\n",
	})
	b.WriteString(section.Draw(t, "before") + comment.Draw(t, "comment") + "identity_providers:\n  oidc:\n")
	if rapid.Bool().Draw(t, "key") {
		b.WriteString("    jwks:\n      - key: |\n          -----BEGIN PRIVATE KEY-----\n          # no comment\n")
	}
	b.WriteString("    clients:\n")
	dash := strings.Repeat(" ", rapid.SampledFrom([]int{4, 6, 8}).Draw(t, "dash"))
	gap := strings.Repeat(" ", rapid.IntRange(1, 3).Draw(t, "gap"))
	for i := range rapid.IntRange(1, 3).Draw(t, "clients") {
		indent := dash + " " + gap
		fmt.Fprintf(&b, "%s-%sclient_id: 'client%d'\n", dash, gap, i)
		for range rapid.IntRange(0, 3).Draw(t, "comments") {
			b.WriteString(comment.Draw(t, "comment"))
		}
		for _, property := range rapid.Permutation([]string{
			"client_secret: '$plaintext$x'\n", "redirect_uris:\n" + indent + "- 'https://a.example.com'\n" + indent + "- \"https://b.example.com\"\n",
			"scopes: ['openid',\n" + indent + "  'profile']\n", "client_name: >-\n" + indent + "  a name\n" + indent + "  in lines\n", "public: false # really\n",
			"audience: []\n",
		}).Draw(t, "properties")[:rapid.IntRange(0, 6).Draw(t, "n")] {
			b.WriteString(indent + property)
		}
	}
	b.WriteString(comment.Draw(t, "end") + rapid.SampledFrom([]string{"", "    cors:\n      endpoints: ['token']\n"}).Draw(t, "more"))
	b.WriteString(rapid.SampledFrom([]string{"", "log:\n  level: 'info'\n", "...\n"}).Draw(t, "behind"))
	text := b.String()
	if rapid.Bool().Draw(t, "open") {
		text = strings.TrimSuffix(text, "\n")
	}
	if rapid.Bool().Draw(t, "windows") {
		text = strings.ReplaceAll(text, "\n", "\r\n")
	}
	return text
}

func decoded(t interface{ Fatalf(string, ...any) }, text []byte) map[string]any {
	var out map[string]any
	if err := yaml.Unmarshal(text, &out); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return out
}

// registered takes the clients out of a decoded configuration.
func registered(configuration map[string]any) []any {
	oidc := configuration["identity_providers"].(map[string]any)["oidc"].(map[string]any)
	all := oidc["clients"].([]any)
	delete(oidc, "clients")
	return all
}

// inserted tells whether a text is another one with something inserted.
func inserted(before, after []byte) bool {
	for i := range len(before) + 1 {
		if bytes.HasPrefix(after, before[:i]) && bytes.HasSuffix(after, before[i:]) && len(after) >= len(before) {
			return true
		}
	}
	return false
}

// Put adds the client and nothing else, and adds it once.
func TestPutLaws(t *testing.T) {
	block, err := authelia.Block(withLogin())
	if err != nil {
		t.Fatal(err)
	}
	var client []any
	if err := yaml.Unmarshal(block, &client); err != nil {
		t.Fatal(err)
	}
	o := withLogin()
	o.Login.ClientKey = check.Secret{} // verifying takes time
	rapid.Check(t, func(t *rapid.T) {
		text := []byte(configuration(t))
		after, err := authelia.Put(text, o)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		was, is := decoded(t, text), decoded(t, after)
		if got := registered(is); !reflect.DeepEqual(got, append(slices.Clone(registered(was)), client...)) || !reflect.DeepEqual(was, is) {
			t.Fatalf("%v\n%s", got, after)
		}
		if !inserted(text, after) {
			t.Fatalf("other bytes changed:\n%q\n%q", text, after)
		}
		if bytes.Contains(text, []byte("\r\n")) && bytes.Count(after, []byte("\n")) != bytes.Count(after, []byte("\r\n")) {
			t.Fatalf("line ends: %q", after)
		}
		if again, err := authelia.Put(after, o); err != nil || !bytes.Equal(after, again) {
			t.Fatalf("a second time: %v", err)
		}
	})
}

// Rekey changes the one value and nothing else.
func TestRekeyLaws(t *testing.T) {
	o := withLogin()
	o.Digest, o.Login.ClientKey = otherDigest, check.Secret{}
	form := rapid.SampledFrom([]string{"'$plaintext$it''s'", `"$plaintext$a\"b"`, "$plaintext$x", "x # a comment", "''", "'x'   # it's"})
	rapid.Check(t, func(t *rapid.T) {
		secret := form.Draw(t, "secret")
		text := configuration(t)
		ending := "\n"
		if strings.Contains(text, "\r\n") {
			ending = "\r\n"
		}
		key := rapid.SampledFrom([]string{"client_secret", "secret"}).Draw(t, "key")
		at := strings.Index(text, "\n    clients:"+ending) + len("\n    clients:"+ending)
		head, rest := text[:at], text[at:]
		column := rest[:strings.Index(rest, "-")]
		text = head + column + "- client_id: 'proxmox'" + ending + column + "  " + key + ": " + secret + ending + rest
		after, err := authelia.Rekey([]byte(text), o)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		was, is := decoded(t, []byte(text)), decoded(t, after)
		clients := registered(was)
		clients[0].(map[string]any)[key] = otherDigest
		if !reflect.DeepEqual(clients, registered(is)) || !reflect.DeepEqual(was, is) {
			t.Fatalf("%s", after)
		}
		value, _, commented := strings.Cut(secret, " ")
		if want := strings.Replace(text, key+": "+value, key+": '"+otherDigest+"'", 1); string(after) != want {
			t.Fatalf("got\n%s\nwant\n%s", after, want)
		}
		if line := authelia.CommentBehind([]byte(text), after); commented != (line > 0) {
			t.Fatalf("a comment in line %d: %s", line, secret)
		}
		if again, err := authelia.Rekey(after, o); err != nil || !bytes.Equal(after, again) {
			t.Fatalf("a second time: %v", err)
		}
		if diff := authelia.Diff("f", []byte(text), after); strings.Contains(diff, "plaintext") || strings.Contains(diff, "comment") || strings.Count(diff, "\n") != 5 {
			t.Fatalf("%s", diff)
		}
	})
}

// Whatever a file holds, an edit is refused or changes nothing else.
func FuzzEdit(f *testing.F) {
	for _, shape := range shapes(f) {
		f.Add(shape.Data)
	}
	o := withLogin()
	o.Login.ClientKey = check.Secret{}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, edit := range []func() ([]byte, error){
			func() ([]byte, error) { return authelia.Put(data, o) },
			func() ([]byte, error) { return authelia.Rekey(data, o) },
		} {
			after, err := edit()
			var refused *authelia.RefusedError
			if err != nil {
				if !errors.As(err, &refused) || refused.Reason == "" {
					t.Errorf("%v", err)
				}
				continue
			}
			var was, is map[string]any
			if yaml.Unmarshal(data, &was) != nil { // an action without quotes cannot be decoded
				continue
			}
			if err := yaml.Unmarshal(after, &is); err != nil {
				t.Fatalf("%v\n%q", err, after)
			}
			before, now := registered(was), registered(is)
			if !reflect.DeepEqual(was, is) || len(now)-len(before) > 1 || len(now) < len(before) {
				t.Errorf("%q", after)
			}
		}
	})
}
