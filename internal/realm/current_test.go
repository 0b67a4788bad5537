package realm_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"proxmox-realm/internal/realm"
)

func parse(tb testing.TB, data string) realm.Current {
	tb.Helper()
	c, err := realm.ParseCurrent(realm.VE, []byte(data))
	if err != nil {
		tb.Fatalf("%s: %v", data, err)
	}
	return c
}

// recorded returns a realm as Proxmox VE 9.2 answered it.
func recorded(tb testing.TB, name string) realm.Current {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "stored", name+".json"))
	if err != nil {
		tb.Fatal(err)
	}
	return parse(tb, string(data))
}

func TestParseCurrentReadsEveryRecordedAnswer(t *testing.T) {
	files, err := filepath.Glob("testdata/stored/*.json")
	if err != nil || len(files) < 8 {
		t.Fatalf("%d recorded answers, %v", len(files), err)
	}
	for _, file := range files {
		c := recorded(t, strings.TrimSuffix(filepath.Base(file), ".json"))
		if !c.Exists || c.Type != realm.Type || !strings.HasPrefix(c.Digest, "<digest ") || c.Values.Login("x").IssuerURL != "https://auth.example.com" {
			t.Errorf("%s: %+v", file, c)
		}
		if plan := realm.Diff(exported(c), c, realm.Facts{}); !plan.Empty() {
			t.Errorf("%s: differs from itself: %v", file, plan.Changes)
		}
	}

	groups := recorded(t, "read-groups").Values
	for p, want := range map[realm.Property]string{
		realm.ACRValues: "urn:a,urn:b", realm.Audiences: "x;y", realm.Autocreate: "0", realm.ClientID: "proxmox", realm.ClientKey: "(sensitive)",
		realm.Comment: "a b", realm.GroupsAutocreate: "1", realm.GroupsClaim: "groups", realm.GroupsOverwrite: "0",
		realm.IssuerURL: "https://auth.example.com", realm.Prompt: "login", realm.QueryUserinfo: "1",
		realm.Scopes: "openid profile email groups", realm.UsernameClaim: "preferred_username",
	} {
		if got := groups[p].String(); got != want {
			t.Errorf("%s: %q, want %q", p, got, want)
		}
	}
	if len(groups) != 14 {
		t.Errorf("%d properties: %v", len(groups), groups.Properties())
	}
	if key := groups.Login("x").ClientKey.Reveal(); key != "insecure_secret" {
		t.Errorf("client key %q", key)
	}
	if claim := recorded(t, "read-without-username-claim").Values.Login("x").UsernameClaim; claim != "sub" {
		t.Errorf("a realm without username-claim uses %q", claim)
	}
	if recorded(t, "read-without-client-key").Values.Login("x").ClientKey.IsSet() {
		t.Error("a client key out of nowhere")
	}
}

func TestParseCurrentIsLenient(t *testing.T) {
	for _, tt := range []struct {
		field string
		prop  realm.Property
		want  string // "" where the property must be absent
	}{
		{`"autocreate": 1`, realm.Autocreate, "1"},
		{`"autocreate": "1"`, realm.Autocreate, "1"},
		{`"autocreate": true`, realm.Autocreate, "1"},
		{`"autocreate": "true"`, realm.Autocreate, "1"},
		{`"autocreate": "Yes"`, realm.Autocreate, "1"},
		{`"autocreate": "on"`, realm.Autocreate, "1"},
		{`"autocreate": 0`, realm.Autocreate, "0"},
		{`"autocreate": "0"`, realm.Autocreate, "0"},
		{`"autocreate": false`, realm.Autocreate, "0"},
		{`"autocreate": "off"`, realm.Autocreate, "0"},
		{`"autocreate": ""`, realm.Autocreate, "0"},
		{`"autocreate": null`, realm.Autocreate, ""},
		{`"autocreate": [1]`, realm.Autocreate, ""},
		{`"comment": 12345678901234567890`, realm.Comment, "12345678901234567890"},
		{`"comment": {"a": 1}`, realm.Comment, ""},
		{`"client-id": 7`, realm.ClientID, "7"},
		{`"scopes": ["a", "b"]`, realm.Scopes, ""},
		{`"client-key": null`, realm.ClientKey, ""},
		{`"digest": 5`, "digest", ""},
		{`"future": "x"`, "future", ""},
	} {
		c := parse(t, `{"type": "openid", `+tt.field+`}`)
		v, ok := c.Values[tt.prop]
		if ok != (tt.want != "") || v.String() != tt.want {
			t.Errorf("%s: %q, there: %t; want %q", tt.field, v, ok, tt.want)
		}
	}
	for _, data := range []string{``, `null`, `[]`, `"x"`, `1`, `{`, `{}`, `{"type": null}`, `{"type": ["openid"]}`, `{"client-id": "x"}`} {
		if c, err := realm.ParseCurrent(realm.VE, []byte(data)); err == nil || c.Exists {
			t.Errorf("%s is taken for a realm", data)
		}
	}
}

func TestParseCurrentNeverQuotes(t *testing.T) {
	for _, data := range []string{`{"client-key": "hunter2-hunter2"`, `"hunter2-hunter2"`, `{"client-key": "hunter2-hunter2"}`} {
		if _, err := realm.ParseCurrent(realm.VE, []byte(data)); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", data, err)
		}
	}
}

// What could not be carried over to a new realm is named, so that a replace can refuse before it deletes anything.
func TestStructures(t *testing.T) {
	c := parse(t, `{"type":"openid","issuer-url":"https://a","odd":["x"],"more":{"a":1},"none":null,"flag":true,"n":3}`)
	if !slices.Equal(c.Structures, []string{"more", "odd"}) {
		t.Errorf("%v", c.Structures)
	}
}

func TestSameAs(t *testing.T) {
	const base = `{"type": "openid", "digest": "1", "issuer-url": "https://a", "client-id": "c", "client-key": "k", "autocreate": 1, "future": "x"}`
	c := parse(t, base)
	for data, want := range map[string]bool{
		base: true,
		strings.Replace(base, `"digest": "1"`, `"digest": "2"`, 1):            true,
		strings.Replace(base, `"autocreate": 1`, `"autocreate": "1"`, 1):      true,
		strings.Replace(base, `"autocreate": 1`, `"autocreate": true`, 1):     true,
		strings.Replace(base, `"future": "x"`, `"future": "x", "n": null`, 1): true,
		strings.Replace(base, `"client-key": "k"`, `"client-key": "l"`, 1):    false,
		strings.Replace(base, `"future": "x"`, `"future": "y"`, 1):            false,
		strings.Replace(base, `"future": "x"`, `"other": "x"`, 1):             false,
		strings.Replace(base, `, "future": "x"`, ``, 1):                       false,
		strings.Replace(base, `"openid"`, `"ldap"`, 1):                        false,
	} {
		if got := c.SameAs(parse(t, data)); got != want {
			t.Errorf("%s: same is %t", data, got)
		}
		if got := parse(t, data).SameAs(c); got != want {
			t.Errorf("%s: same the other way round is %t", data, got)
		}
	}
	if c.SameAs(realm.Current{}) || !(realm.Current{}).SameAs(realm.Current{}) {
		t.Error("an absent realm equals an absent one alone")
	}
}

func TestRestoreParamsKeepEverything(t *testing.T) {
	c := parse(t, `{"type": "openid", "digest": "1", "issuer-url": "https://a", "client-id": "c", "client-key": "k",
		"autocreate": 0, "default": 1, "future": 7, "flag": true, "blank": "", "none": null, "list": [1]}`)
	fields := realm.RestoreParams("authelia", c).Reveal()
	want := []string{"autocreate", "client-id", "client-key", "default", "flag", "future", "issuer-url", "realm", "type"}
	if got := slices.Sorted(maps.Keys(fields)); !slices.Equal(got, want) {
		t.Errorf("restored are %v, want %v", got, want)
	}
	if fields["realm"] != "authelia" || fields["type"] != "openid" || fields["client-key"] != "k" || fields["autocreate"] != 0 || fields["default"] != 1 || fields["flag"] != true {
		t.Errorf("%v", fields)
	}
	if name, ok := realm.RestoreParams("authelia", realm.Current{}).Reveal()["realm"]; !ok || name != "authelia" {
		t.Error("parameters of nothing must still be parameters")
	}
}

func FuzzParseCurrent(f *testing.F) {
	files, err := filepath.Glob("testdata/stored/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"type":"openid","autocreate":[null],"default":"on","future":{"a":1e400},"client-key":7}`))
	f.Add([]byte(`{"type":"pam"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := realm.ParseCurrent(realm.VE, data)
		if err != nil {
			if c.Exists {
				t.Fatal("an error and a realm")
			}
			return
		}
		if !c.Exists || c.Type == "" || !c.SameAs(c) {
			t.Fatalf("%+v", c)
		}
		if c.Type != realm.Type {
			return
		}
		if plan := realm.Diff(exported(c), c, realm.Facts{}); !plan.Empty() {
			t.Fatalf("differs from itself: %v", plan.Changes)
		}
		for name, v := range realm.RestoreParams("authelia", c).Reveal() {
			if name == "digest" || v == nil || v == "" {
				t.Fatalf("restores %s as %v", name, v)
			}
		}
	})
}
