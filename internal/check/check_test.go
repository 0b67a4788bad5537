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
	c := check.NewCleaner(check.NewSecret("hunter2-hunter2"), check.NewSecret("p+q/r&s"), check.NewSecret("abc"))
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
		{"form-encoded secret", "client_secret=" + url.QueryEscape("p+q/r&s"), "client_secret=(sensitive)"},
		{"base64 of a secret", base64.StdEncoding.EncodeToString([]byte("hunter2-hunter2")), "(sensitive)"},
		{"base64 of something longer", "Basic " + base64.StdEncoding.EncodeToString([]byte("proxmox:hunter2-hunter2")), "Basic cHJveG1veDp(sensitive)I="},
		{"hexadecimal", "68756e746572322d68756e74657232", "(sensitive)"},
		{"HTML", "p+q/r&amp;s", "(sensitive)"},
		{"a value too short to be searched for", "abc", "abc"},
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

func TestSecretsThatBeginAlikeAreMaskedAsAWhole(t *testing.T) {
	c := check.NewCleaner(check.NewSecret("abcd1234"), check.NewSecret("abcd1234-abcd1234"), check.NewSecret("abcd.efgh"), check.NewSecret("wxyz"))
	if got, want := c.Clean("a abcd1234-abcd1234 abcd1234abcd.efgh abcd wxywxyz"), "a "+check.Mask+" "+check.Mask+check.Mask+" abcd wxy"+check.Mask; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCleanIsBoundedPrintableAndHidesSecrets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.StringMatching(`[A-Za-z0-9+/=&-]{4,20}`).Draw(t, "key")
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

// Releasing a secret does not show another one that shares a form with it.
func TestHoldAndRelease(t *testing.T) {
	secrets := []string{"abcd", "abcdabcd", "61626364", "a+cd", "a%2Bcd", "YWJjZA==", "ab"}
	rapid.Check(t, func(t *rapid.T) {
		c, held := check.NewCleaner(), map[string]int{}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			value := rapid.SampledFrom(secrets).Draw(t, "secret")
			if rapid.Bool().Draw(t, "hold") {
				c.Hold(check.NewSecret(value))
				held[value]++
			} else {
				c.Release(check.NewSecret(value))
				held[value] = max(held[value]-1, 0)
			}
			if rapid.Bool().Draw(t, "clean") {
				c.Clean("any text")
			}
		}
		fresh := check.NewCleaner()
		for value, n := range held {
			if n > 0 {
				fresh.Hold(check.NewSecret(value))
			}
		}
		for _, value := range secrets {
			if got, want := c.Clean(value), fresh.Clean(value); got != want {
				t.Fatalf("%s becomes %q, want %q; held are %v", value, got, want, held)
			}
		}
	})
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
