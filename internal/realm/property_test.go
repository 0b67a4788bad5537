package realm_test

import (
	"slices"
	"strings"
	"testing"

	"proxmox-realm/internal/check"

	"proxmox-realm/internal/realm"
)

func TestDefinitionsAreCompleteAndSorted(t *testing.T) {
	table := realm.Definitions()
	if len(table) != 15 {
		t.Errorf("%d properties, Proxmox VE 9.2 has 15", len(table))
	}
	if !slices.IsSortedFunc(table, func(a, b realm.Definition) int { return strings.Compare(string(a.Property), string(b.Property)) }) {
		t.Error("the table is not sorted: Definition searches it by halves")
	}
	var gated, required []realm.Property
	for _, d := range table {
		if d.Key != strings.ReplaceAll(string(d.Property), "-", "_") {
			t.Errorf("%s: the configuration key is %s", d.Property, d.Key)
		}
		if found, ok := d.Property.Definition(); !ok || found.Key != d.Key {
			t.Errorf("%s: not found by property", d.Property)
		}
		if found, ok := realm.ByKey(d.Key); !ok || found.Property != d.Property {
			t.Errorf("%s: not found by key", d.Key)
		}
		if realm.VE.Since(d.Property).IsZero() {
			t.Errorf("%s: no first version", d.Property)
		}
		if d.CreateOnly != (d.Property == realm.UsernameClaim) {
			t.Errorf("%s: CreateOnly is %t", d.Property, d.CreateOnly)
		}
		if d.Gated {
			gated = append(gated, d.Property)
		}
		if d.Required {
			required = append(required, d.Property)
		}
	}
	if want := []realm.Property{realm.ACRValues, realm.ClientID, realm.ClientKey, realm.IssuerURL, realm.Prompt, realm.Scopes}; !slices.Equal(gated, want) {
		t.Errorf("gated are %v, want %v", gated, want)
	}
	if want := []realm.Property{realm.ClientID, realm.IssuerURL}; !slices.Equal(required, want) {
		t.Errorf("required are %v, want %v", required, want)
	}
	if _, ok := realm.Property("tfa").Definition(); ok {
		t.Error("a property that is not in the table was found")
	}
	if _, ok := realm.ByKey("tfa"); ok {
		t.Error("a key that is not in the table was found")
	}
}

func TestValidate(t *testing.T) {
	long := func(n int) string { return strings.Repeat("ä", n) }
	for _, tt := range []struct {
		property realm.Property
		value    string
		wrong    string // in the error; "" where the value is right
	}{
		{realm.IssuerURL, "https://auth.example.com", ""},
		{realm.IssuerURL, "", "empty"},
		{realm.IssuerURL, " https://auth.example.com", "white space"},
		{realm.IssuerURL, "https://auth.example.com\n", "control characters"},
		{realm.IssuerURL, "https://auth.example.com\u00a0", "white space"},
		{realm.IssuerURL, "https://" + strings.Repeat("a", 248), ""},
		{realm.IssuerURL, "https://" + strings.Repeat("a", 249), "at most 256"},
		{realm.IssuerURL, "https://user:hidden@auth.example.com", "credentials"},
		{realm.IssuerURL, "https://user:%zz@auth.example.com/", "credentials"},
		{realm.IssuerURL, "https://auth.example.com/realms/@home", ""},
		{realm.IssuerURL, "auth.example.com", ""}, // for issuer.url to explain
		{realm.IssuerURL, "user:hidden@auth.example.com", "credentials"},
		{realm.ClientID, "proxmox", ""},
		{realm.ClientID, long(256), ""},
		{realm.ClientID, long(257), "at most 256"},
		{realm.ClientID, "a\x00b", "control characters"},
		{realm.ClientID, "a\xffb", "UTF-8"},
		{realm.ClientKey, "pässwörd with space", ""},
		{realm.ClientKey, "ÿ", ""},
		{realm.ClientKey, "Ā", "Latin-1"},
		{realm.ClientKey, "€", "Latin-1"},
		{realm.ClientKey, strings.Repeat("k", 256), ""},
		{realm.ClientKey, strings.Repeat("k", 257), "at most 256"},
		{realm.ClientKey, "", "must not be empty"},
		{realm.ClientKey, "key\u0085", "control characters"},
		{realm.Comment, "Einmal anmelden 🔑", ""},
		{realm.Comment, long(4096), ""},
		{realm.Comment, long(4097), "at most 4096"},
		{realm.Comment, "two\nlines", "control characters"},
		{realm.UsernameClaim, "preferred_username", ""},
		{realm.UsernameClaim, "https://example.com/claims/name", ""},
		{realm.UsernameClaim, "a b", "white space"},
		{realm.Prompt, "select_account", ""},
		{realm.Prompt, "x-extension", ""},
		{realm.Prompt, "login consent", "white space"},
		{realm.Prompt, "login\u2003consent", "white space"},
		{realm.Scopes, "openid profile email", ""},
		{realm.Scopes, "openid,profile;email", ""},
		{realm.Scopes, "groups\\", "ASCII"},
		{realm.Scopes, `"groups"`, "ASCII"},
		{realm.Scopes, "grüppen", "ASCII"},
		{realm.Scopes, ",;", "a word"},
		{realm.ACRValues, "urn:a,urn:b", ""},
		{realm.ACRValues, "urn:a;urn:b", ""},
		{realm.ACRValues, "urn:a urn:b", "spaces"},
		{realm.ACRValues, "urn:a#b", "spaces"},
		{realm.ACRValues, "<a>", "spaces"},
		{realm.ACRValues, ",", "a word"},
		{realm.Audiences, "x;y", ""},
		{realm.Audiences, "x y", "spaces"},
		{realm.Audiences, `x"y`, "spaces"},
		{realm.Audiences, ";", "a word"},
		{realm.GroupsClaim, "groups", ""},
		{realm.GroupsClaim, "cognito.groups-1_x", ""},
		{realm.GroupsClaim, "a b", "letters"},
		{realm.GroupsClaim, "urn:groups", "letters"},
		{realm.GroupsClaim, "grüppen", "letters"},
		{realm.GroupsClaim, strings.Repeat("g", 256), ""},
		{realm.GroupsClaim, strings.Repeat("g", 257), "at most 256"},
		{realm.Autocreate, "1", ""},
		{realm.Autocreate, "0", ""},
		{realm.Autocreate, "yes", "true or false"},
		{realm.Default, "2", "true or false"},
		{realm.GroupsAutocreate, "true", "true or false"},
		{realm.GroupsOverwrite, "", "must not be empty"},
		{realm.QueryUserinfo, "on", "true or false"},
	} {
		d, _ := tt.property.Definition()
		value := realm.Text(tt.value)
		if d.Form == realm.FormKey {
			value = realm.Key(check.NewSecret(tt.value))
		}
		err := realm.VE.Validate(d.Property, value)
		switch {
		case tt.wrong == "" && err != nil:
			t.Errorf("%s %.40q: %v", tt.property, tt.value, err)
		case tt.wrong != "" && (err == nil || !strings.Contains(err.Error(), tt.wrong)):
			t.Errorf("%s %.40q: error %v, want one about %q", tt.property, tt.value, err, tt.wrong)
		case err != nil && !strings.HasPrefix(err.Error(), "must "):
			t.Errorf("%s: %v does not complete the name of its key", tt.property, err)
		case err != nil && d.Form != realm.FormBool && len(tt.value) > 3 && strings.Contains(err.Error(), tt.value):
			t.Errorf("%s: %v quotes the value", tt.property, err)
		}
	}
	for _, d := range realm.Definitions() {
		if d.Form == realm.FormBool && (realm.VE.Validate(d.Property, realm.Bool(true)) != nil || realm.VE.Validate(d.Property, realm.Bool(false)) != nil) {
			t.Errorf("%s refuses a boolean", d.Property)
		}
	}
}

func TestValidateName(t *testing.T) {
	for _, name := range []string{"authelia", "Authelia-2.x_y", "ab", "a1", strings.Repeat("a", 32)} {
		if err := realm.VE.ValidateName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", "a", "1abc", "-ab", ".ab", "a b", "ab\n", "a/b", "a%2f", "a@b", "äb", "aä", strings.Repeat("a", 33)} {
		if err := realm.VE.ValidateName(name); err == nil {
			t.Errorf("%q is taken for a realm's name", name)
		}
	}
}

func TestWordsAreJoinedAsProxmoxAccepts(t *testing.T) {
	for p, want := range map[realm.Property]string{
		realm.Scopes: "a b", realm.ACRValues: "a,b", realm.Audiences: "a,b",
	} {
		v := realm.Words(p, "a", "b")
		d, _ := p.Definition()
		if v.String() != want || realm.VE.Validate(d.Property, v) != nil {
			t.Errorf("%s: %q, want %q", p, v, want)
		}
	}
}

func TestLoginResolvesDefaultsAndAliases(t *testing.T) {
	bare := realm.Values{realm.IssuerURL: realm.Text("https://a"), realm.ClientID: realm.Text("c")}.Login("authelia")
	if bare.Realm != "authelia" || bare.IssuerURL != "https://a" || bare.ClientID != "c" || bare.ClientKey.IsSet() {
		t.Errorf("%+v", bare)
	}
	if got := bare.ScopeParameter(); got != "openid email profile" {
		t.Errorf("scopes of a realm without any are %q", got)
	}
	if bare.UsernameClaim != "sub" || !bare.QueryUserinfo || bare.Autocreate || bare.GroupsClaim != "" || bare.GroupsAutocreate || bare.GroupsOverwrite {
		t.Errorf("defaults: %+v", bare)
	}
	full := realm.Values{
		realm.ClientKey: realm.Key(check.NewSecret("k")), realm.Scopes: realm.Text("profile,openid;groups profile"), realm.UsernameClaim: realm.Text("username"),
		realm.QueryUserinfo: realm.Bool(false), realm.Autocreate: realm.Bool(true), realm.GroupsClaim: realm.Text("groups"),
		realm.GroupsAutocreate: realm.Bool(true), realm.GroupsOverwrite: realm.Bool(true),
		realm.ACRValues: realm.Text("urn:b,urn:a"), realm.Audiences: realm.Text("x;y"), realm.Prompt: realm.Text("login"),
	}.Login("authelia")
	if got := full.ScopeParameter(); got != "openid profile groups" {
		t.Errorf("scopes are %q", got)
	}
	if full.UsernameClaim != "preferred_username" || full.QueryUserinfo || !full.Autocreate || full.GroupsClaim != "groups" ||
		!full.GroupsAutocreate || !full.GroupsOverwrite || full.Prompt != "login" || full.ClientKey.Reveal() != "k" {
		t.Errorf("%+v", full)
	}
	if !slices.Equal(full.ACRValues, []string{"urn:b", "urn:a"}) || !slices.Equal(full.Audiences, []string{"x", "y"}) {
		t.Errorf("lists: %v %v", full.ACRValues, full.Audiences)
	}
}
