package pbs

import (
	"net/url"
	"testing"
	"unicode/utf8"
)

// FuzzForm: what net/url reads of a form, decodeForm reads too, and nothing is too strange for the schema.
func FuzzForm(f *testing.F) {
	for _, seed := range []string{"", "realm=authelia&comment=a+b%C3%BC", "a=%zz&=b&c&&delete=x&delete=y", "%ff=%", "default=1&default=2"} {
		f.Add(seed)
	}
	schema := BackupServer.endpoints("4.2.3")[6].schema // PUT of a realm
	f.Fuzz(func(t *testing.T, form string) {
		pairs := decodeForm(form)
		for _, pair := range pairs {
			if !utf8.ValidString(pair[0] + pair[1]) {
				t.Errorf("%q is no UTF-8", pair)
			}
		}
		if _, err := parseForm(schema, pairs); err != nil && err.Error() == "" {
			t.Error("an error without a text")
		}
		want, err := url.ParseQuery(form)
		if err != nil {
			return
		}
		got := url.Values{}
		for _, pair := range pairs {
			got.Add(pair[0], pair[1])
		}
		for name, values := range want {
			if utf8.ValidString(name) && len(got[name]) < len(values) {
				t.Errorf("%q: %q, want %q", name, got[name], values)
			}
		}
	})
}

// FuzzJSON: a body is read or refused, whatever it is.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{"", "{", "[1]", `{"realm":"x","default":true,"delete":["comment"]}`, `{"comment":null}`, "{\n\"a\" 1}", "\xff"} {
		f.Add([]byte(seed))
	}
	schema := BackupServer.endpoints("4.2.3")[6].schema
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := parseJSON(schema, body, [][2]string{{"realm", "authelia"}})
		if err == nil && p.text("realm") != "authelia" || err != nil && err.Error() == "" {
			t.Errorf("%v, %v", p, err)
		}
	})
}
