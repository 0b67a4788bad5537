package pve

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// TestMalformedJSON holds the texts of JSON::XS.
func TestMalformedJSON(t *testing.T) {
	const neither = "malformed JSON string, neither tag, array, object, number, string or atom"
	for _, x := range []struct{ in, want string }{
		{``, neither + `, at character offset 0 (before "(end of string)")`},
		{`{"realm":`, neither + `, at character offset 9 (before "(end of string)")`},
		{`realm=authelia&type=openid`, neither + `, at character offset 0 (before "realm=authelia&type=...")`},
		{`{"a":1`, `, or } expected while parsing object/hash, at character offset 6 (before "(end of string)")`},
		{`{a:1}`, `'"' expected, at character offset 1 (before "a:1}")`},
		{`{"a" 1}`, `':' expected, at character offset 5 (before "1}")`},
		{`{"a":1,}`, `'"' expected, at character offset 7 (before "}")`},
		{`[1 2]`, `, or ] expected while parsing array, at character offset 3 (before "2]")`},
		{`{}x`, `garbage after JSON object, at character offset 2 (before "x")`},
		{`{"a":tru}`, `'true' expected, at character offset 5 (before "tru}")`},
		{`{"a":"b`, `unexpected end of string while parsing JSON string, at character offset 7 (before "(end of string)")`},
		{"{\"a\":\"b\nc\"}", `invalid character encountered while parsing JSON string, at character offset 7 (before "\nc"}")`},
		{`{"a":01}`, `malformed number (leading zero must not be followed by another digit), at character offset 6 (before "1}")`},
		{`{"a":-}`, `malformed number (no digits after initial minus), at character offset 6 (before "}")`},
		{`{"a":1.}`, `malformed number (no digits after decimal point), at character offset 7 (before "}")`},
		{`{"a":1e}`, `malformed number (no digits after exp sign), at character offset 7 (before "}")`},
		{`{"a":"\x"}`, `illegal backslash escape sequence in string, at character offset 6 (before "\\x"}")`},
		{"{\"a\":\"\xff\"}", `malformed UTF-8 character in JSON string, at character offset 6 (before "\x{ff}"}")`},
	} {
		_, err := decodeJSON(x.in)
		if err == nil || err.Error() != x.want {
			t.Errorf("%s: %v, want %s", x.in, err, x.want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for in, want := range map[string]string{
		"1": "1", "-0": "0", "1.0": "1", "1.50": "1.5", "1e3": "1000", "1e20": "1e+20", "1e-7": "1e-07", "0.1": "0.1",
		"123456789.25": "123456789.25", "1e15": "1e+15", "12345678901234567890": "12345678901234567890", "100": "100", "1e400": "Inf",
	} {
		v, err := decodeJSON(in)
		if err != nil || v != want {
			t.Errorf("%s: %v %v, want %s", in, v, err, want)
		}
	}
}

// FuzzJSON: what the standard library takes is taken, and what it refuses is refused.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,true,null,"\u00fc\ud83d\ude00"]}`, `{"a":1e5}`, `[`, `"\ud800"`, " {} ", "{\"a\":\"\x00\"}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, err := decodeJSON(s)
		// Lone surrogates and invalid UTF-8 are errors here, and a NUL ends the text.
		if !utf8.ValidString(s) || strings.Contains(strings.ToLower(s), `\ud`) || strings.Count(s, "[")+strings.Count(s, "{") > 500 {
			return
		}
		if valid := json.Valid([]byte(s)); valid != (err == nil) {
			t.Errorf("%q: %v, valid %v", s, err, valid)
		}
	})
}

func TestSplitList(t *testing.T) {
	for in, want := range map[string][]string{
		"a,b c;d":      {"a", "b", "c", "d"},
		"  a  ":        {"a"},
		"":             nil,
		"a\x00b c\x00": {"a", "b c"},
		",;":           nil,
	} {
		if got := splitList(in); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// A text without percent signs survives the file, whatever is in it.
func TestTextSurvives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := strings.ReplaceAll(rapid.String().Draw(t, "text"), "%", "")
		if got := decodeText(encodeText(s)); got != s {
			t.Fatalf("%q became %q", s, got)
		}
		if e := encodeText(s); strings.ContainsFunc(e, func(r rune) bool { return r < 0x20 || r > 0x7e || r == ':' }) {
			t.Fatalf("%q was written as %q", s, e)
		}
	})
}

// Writing what was read changes nothing, and the digest with it.
func TestFileLaw(t *testing.T) {
	v := parseVersion(DefaultVersion)
	s := newRealmSchema(v)
	rapid.Check(t, func(t *rapid.T) {
		f := newRealmSet()
		props := map[string]string{"issuer-url": "https://a", "client-id": "b"}
		for _, k := range []string{"comment", "client-key", "scopes", "username-claim", "autocreate", "groups-claim"} {
			if rapid.Bool().Draw(t, k+"?") {
				props[k] = strings.NewReplacer("\n", "", "\r", "", "%", "").Replace(rapid.String().Draw(t, k))
			}
		}
		f.put("authelia", &section{kind: "openid", props: props})
		raw, err := s.render(f)
		if err != nil {
			t.Fatal(err)
		}
		first := s.parse(raw, v)
		raw, err = s.render(first)
		if err != nil {
			t.Fatal(err)
		}
		second := s.parse(raw, v)
		third, err := s.render(second)
		if err != nil || third != raw {
			t.Fatalf("%q became %q (%v)", raw, third, err)
		}
	})
}

func FuzzRealmFile(f *testing.F) {
	f.Add("openid: a1\n\tissuer-url https://a\n\tclient-id b\n\tcomment x\n\nbroken: x\n\n# comment\npam: pam\n\tdefault\n")
	v := parseVersion(DefaultVersion)
	s := newRealmSchema(v)
	f.Fuzz(func(t *testing.T, raw string) {
		file := s.parse(raw, v)
		if file.get("pam") == nil || file.get("pve") == nil {
			t.Error("a builtin realm is gone")
		}
	})
}
