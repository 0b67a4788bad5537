package check_test

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"proxmox-realm/internal/check"
)

func TestClean(t *testing.T) {
	c := check.NewCleaner(check.NewSecret("hunter2-hunter2"), check.NewSecret("p+q/r&s=t"), check.NewSecret("abc"))
	for _, tt := range []struct{ name, in, want string }{
		{"plain", "domain 'x' does not exist", "domain 'x' does not exist"},
		{"line feeds become spaces", "a\nb\r\nc\td", "a b  c d"},
		{"terminal escapes go", "\x1b[31mred\x1b[0m \x07bell", "[31mred[0m bell"},
		{"direction override goes", "a\u202eb", "ab"},
		{"what is invisible goes", "a\u034fb\ufe0fc\u3164d\u115fe\U000e0101f", "abcdef"},
		{"secret split by a filler", "key hunter2\u3164-hunter2 refused", "key (sensitive) refused"},
		{"a token of another cluster", "was root@pam!ci=01234567-89ab-cdef-0123-456789abcdef here", "was root@pam!ci=(sensitive) here"},
		{"invalid UTF-8 is marked", "a\xffb", "a\uFFFDb"},
		{"surrounding space goes", "  x \n", "x"},
		{"secret", "key hunter2-hunter2 refused", "key (sensitive) refused"},
		{"secret split by a control character", "key hunter2\x00-hunter2 refused", "key (sensitive) refused"},
		{"form-encoded secret", "client_secret=" + url.QueryEscape("p+q/r&s=t"), "client_secret=(sensitive)"},
		{"base64 of a secret", base64.StdEncoding.EncodeToString([]byte("hunter2-hunter2")), "(sensitive)"},
		{"base64 of something longer", "Basic " + base64.StdEncoding.EncodeToString([]byte("proxmox:hunter2-hunter2")), "Basic cHJveG1veDp(sensitive)I="},
		{"hexadecimal", "68756e746572322d68756e74657232", "(sensitive)"},
		{"HTML", "p+q/r&amp;s=t", "(sensitive)"},
		{"a value too short to be searched for", "abcd", "abcd"},
	} {
		if got := c.Clean(tt.in); got != tt.want {
			t.Errorf("%s: Clean(%q) = %q, want %q", tt.name, tt.in, got, tt.want)
		}
	}
	var none *check.Cleaner
	if got := none.Clean("a\x00b"); got != "ab" {
		t.Errorf("a nil Cleaner must clean too, got %q", got)
	}
}

// A server may write single characters of a secret in its own way, and others beside it.
func TestSecretsAreHiddenInEveryEncoding(t *testing.T) {
	c := check.NewCleaner(check.NewSecret(`p"q'r/s é+<%>`))
	for _, in := range []string{
		`p%22q%27r%2Fs+%C3%A9%2B%3C%25%3E`, `p%22q%27r%2fs+%c3%a9%2b%3c%25%3e`, `p%22q'r/s%20%C3%A9+%3C%25%3E`,
		`p&quot;q&#39;r/s é+&lt;%&gt;`, `p&#34;q&#x27;r&#x2F;s &eacute;+&#60;&percnt;&#62;`,
		`p\"q'r/s é+<%>`, `p\"q'r\/s \u00e9+\u003c%\u003E`,
	} {
		if got, want := c.Clean(in), check.Mask; got != want {
			t.Errorf("Clean(%q) = %q", in, got)
		}
		if got, want := c.Clean("x%0a"+in+"&amp;\\n"), check.Mask; !strings.Contains(got, want) || strings.ContainsFunc(got, unicode.IsControl) {
			t.Errorf("in a text, Clean(%q) = %q", in, got)
		}
	}
	if in := `no secret: %41 &amp; \u0041`; c.Clean(in) != in {
		t.Errorf("a text without a secret is decoded: %q", c.Clean(in))
	}
}

func TestSecretsThatBeginAlikeAreMaskedAsAWhole(t *testing.T) {
	c := check.NewCleaner(check.NewSecret("abcd1234"), check.NewSecret("abcd1234-abcd1234"), check.NewSecret("abcd.efgh"), check.NewSecret("wxyzwxyz"))
	if got, want := c.Clean("a abcd1234-abcd1234 abcd1234abcd.efgh abcd wxywxyzwxyz"), "a "+check.Mask+" "+check.Mask+check.Mask+" abcd wxy"+check.Mask; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCleanIsBoundedPrintableAndHidesSecrets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.StringMatching(`[A-Za-z0-9+/=&-]{8,20}`).Draw(t, "key")
		text := rapid.String().Draw(t, "before") + key + rapid.StringN(0, 1200, -1).Draw(t, "after")
		got := check.NewCleaner(check.NewSecret(key)).Clean(text)
		if n := utf8.RuneCountInString(got); n > check.MaxText {
			t.Fatalf("%d characters", n)
		}
		if strings.ContainsFunc(got, unicode.IsControl) || !utf8.ValidString(got) {
			t.Fatalf("not printable: %q", got)
		}
		if strings.Contains(got, key) && !strings.Contains(check.Mask, key) {
			t.Fatalf("shows the secret: %q", got)
		}
	})
}

// A Cleaner made from another hides the secrets of both, also those that the other learns later.
func TestWith(t *testing.T) {
	all := check.NewCleaner(check.NewSecret("of-everyone"))
	one := all.With(check.NewSecret("of-one-alone"))
	all.Hold(check.NewSecret("learnt-later"))
	if got, want := one.Clean("of-everyone of-one-alone learnt-later"), strings.Join([]string{check.Mask, check.Mask, check.Mask}, " "); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := all.Clean("of-everyone of-one-alone"), check.Mask+" of-one-alone"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	var none *check.Cleaner
	if got := none.With(check.NewSecret("of-one-alone")).Clean("of-one-alone"); got != check.Mask {
		t.Errorf("got %q", got)
	}
}

// A short secret stands in other texts by chance: it is hidden only where it is a whole value.
func TestShortSecretsAreHiddenAsWholeValues(t *testing.T) {
	c := check.NewCleaner(check.NewSecret("secret"), check.NewSecret("openid"), check.NewSecret("a.b"))
	for in, want := range map[string]string{
		"secret":                            check.Mask,
		"Invalid client secret":             "Invalid client secret",
		"client_secret_basic":               "client_secret_basic",
		"openid profile email":              "openid profile email",
		"invalid_client: secret mismatch":   "invalid_client: secret mismatch",
		"the key 'secret' is wrong":         "the key '" + check.Mask + "' is wrong",
		`{"client_secret":"secret"}`:        `{"client_secret":"` + check.Mask + `"}`,
		"client_secret=secret&grant_type=x": "client_secret=" + check.Mask + "&grant_type=x",
		"client_id: openid":                 "client_id: " + check.Mask,
		"axb":                               "axb",
		"error=secrets&x=a.b":               "error=secrets&x=" + check.Mask,
	} {
		if got := c.Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestIgnoreTurnsFindingsIntoSkips(t *testing.T) {
	in := []check.Check{
		check.Failed(check.IssuerClock, "set the clock", "the clocks differ by 9m"),
		check.Warned(check.IssuerScopes, "add groups", "no groups scope"),
		check.Passed(check.IssuerKeys, "2 keys"),
	}
	got := check.Ignore(in, []check.ID{check.IssuerClock, check.IssuerKeys})
	if got[0].Status != check.Skip || !strings.Contains(got[0].Summary, "the clocks differ by 9m") {
		t.Errorf("an ignored failure must be a skip that still says what was found: %+v", got[0])
	}
	if got[1].Status != check.Warn || got[2].Status != check.Pass {
		t.Errorf("others must stay as they are: %+v", got[1:])
	}
	if in[0].Status != check.Fail {
		t.Error("the given slice must not change")
	}
}

func TestSortFollowsTheCatalog(t *testing.T) {
	var reversed []check.Check
	for _, e := range check.Catalog() {
		reversed = append([]check.Check{{ID: e.ID}}, reversed...)
	}
	reversed = append([]check.Check{{ID: "unknown.id"}}, reversed...)
	check.Sort(reversed)
	for i, e := range check.Catalog() {
		if reversed[i].ID != e.ID {
			t.Fatalf("place %d: %s, want %s", i, reversed[i].ID, e.ID)
		}
		if e.Holds == "" {
			t.Errorf("%s: no description", e.ID)
		}
	}
	if reversed[len(reversed)-1].ID != "unknown.id" {
		t.Error("unknown ids come last")
	}
}
