package realm_test

import (
	"cmp"
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
	var required []realm.Property
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
		if d.CreateOnly != (d.Property == realm.UsernameClaim) {
			t.Errorf("%s: CreateOnly is %t", d.Property, d.CreateOnly)
		}
		if d.Required {
			required = append(required, d.Property)
		}
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

// Which products refuse a value, and what the first of them says. Those limits that Backup Server 4.2.3 answers 400 to are in the
// recording internal/lab/testdata/proxmox-backup-4.2.json.
func TestValidate(t *testing.T) {
	long := func(n int) string { return strings.Repeat("ä", n) }
	const all, backup = "pve pbs pdm", "pbs pdm"
	for _, tt := range []struct {
		property realm.Property
		value    string
		refused  string
		says     string
	}{
		{realm.IssuerURL, "https://auth.example.com", "", ""},
		{realm.IssuerURL, "", all, "empty"},
		{realm.IssuerURL, " https://auth.example.com", all, "white space"},
		{realm.IssuerURL, "https://auth.example.com\n", all, "control characters"},
		{realm.IssuerURL, "https://auth.example.com\u00a0", all, "white space"},
		{realm.IssuerURL, "https://" + strings.Repeat("a", 248), "", ""},
		{realm.IssuerURL, "https://" + strings.Repeat("a", 249), "pve", "at most 256"},
		{realm.IssuerURL, "https://user:hidden@auth.example.com", all, "credentials"},
		{realm.IssuerURL, "https://user:%zz@auth.example.com/", all, "credentials"},
		{realm.IssuerURL, "https://auth.example.com/realms/@home", "", ""},
		{realm.IssuerURL, "auth.example.com", "", ""}, // for issuer.url to explain
		{realm.IssuerURL, "user:hidden@auth.example.com", all, "credentials"},
		{realm.IssuerURL, "https://user:secret@auth.example.com", all, "must not hold credentials: remove what stands before the @"},
		{realm.IssuerURL, "https://auth.example.com/" + strings.Repeat("a", 300), "pve", "at most"},
		{realm.ClientID, "proxmox", "", ""},
		{realm.ClientID, long(256), "", ""},
		{realm.ClientID, long(257), "pve", "at most 256"},
		{realm.ClientID, "a\x00b", all, "control characters"},
		{realm.ClientID, "a\xffb", all, "UTF-8"},
		{realm.ClientID, strings.Repeat("c", 257), "pve", "at most"},
		{realm.ClientKey, "pässwörd with space", "", ""},
		{realm.ClientKey, "ÿ", "", ""},
		{realm.ClientKey, "Ā", "pve", "Latin-1"},
		{realm.ClientKey, "€", "pve", "Latin-1"},
		{realm.ClientKey, strings.Repeat("k", 256), "", ""},
		{realm.ClientKey, strings.Repeat("k", 257), "pve", "at most 256"},
		{realm.ClientKey, "", all, "must not be empty"},
		{realm.ClientKey, "key\u0085", all, "control characters"},
		{realm.ClientKey, strings.Repeat("k", 1000), "pve", "at most"},
		{realm.ClientKey, "kľúč", "pve", "must hold only Latin-1 characters"},
		{realm.ClientKey, "a\nb", all, "must not contain"},
		{realm.Comment, "Einmal anmelden 🔑", "", ""},
		{realm.Comment, long(4096), backup, "at most"},
		{realm.Comment, long(4097), all, "at most 4096"},
		{realm.Comment, "two\nlines", all, "control characters"},
		{realm.Comment, long(128), "", ""},
		{realm.Comment, long(129), backup, "at most"},
		{realm.UsernameClaim, "preferred_username", "", ""},
		{realm.UsernameClaim, "https://example.com/claims/name", backup, "consist of"},
		{realm.UsernameClaim, "a b", all, "white space"},
		{realm.UsernameClaim, "https://example.com/name", backup, "consist of"},
		{realm.UsernameClaim, strings.Repeat("u", 65), backup, "at most"},
		{realm.Prompt, "select_account", "", ""},
		{realm.Prompt, "x-extension", "", ""},
		{realm.Prompt, "login consent", all, "white space"},
		{realm.Prompt, "login\u2003consent", all, "white space"},
		{realm.Prompt, "x:y", backup, "consist of"},
		{realm.Scopes, "openid profile email", "", ""},
		{realm.Scopes, "openid,profile;email", "", ""},
		{realm.Scopes, "groups\\", all, "ASCII"},
		{realm.Scopes, `"groups"`, all, "ASCII"},
		{realm.Scopes, "grüppen", all, "ASCII"},
		{realm.Scopes, ",;", all, "a word"},
		{realm.Scopes, "openid groups:read", backup, "words of letters"},
		{realm.Scopes, "openid https://example.com/s", backup, "words of letters"},
		{realm.Scopes, "openid -x", backup, "words of letters"},
		{realm.Scopes, "openid _x.y-z", "", ""},
		{realm.ACRValues, "urn:a,urn:b", "pdm", "words of letters"},
		{realm.ACRValues, "urn:a;urn:b", "pdm", "words of letters"},
		{realm.ACRValues, "urn:a urn:b", all, "spaces"},
		{realm.ACRValues, "urn:a#b", all, "spaces"},
		{realm.ACRValues, "<a>", all, "spaces"},
		{realm.ACRValues, ",", all, "a word"},
		{realm.ACRValues, "mfa,pwd", "", ""},
		{realm.ACRValues, "urn:example:mfa", "pdm", "words of letters"},
		{realm.ACRValues, "https://example.com/mfa", "pdm", "words of letters"},
		{realm.ACRValues, "a<b", all, "must not contain"},
		{realm.Audiences, "x;y", "", ""},
		{realm.Audiences, "x y", all, "spaces"},
		{realm.Audiences, `x"y`, all, "spaces"},
		{realm.Audiences, ";", all, "a word"},
		{realm.Audiences, "https://api.example.com,other", "", ""},
		{realm.Audiences, "short," + strings.Repeat("a", 257), backup, "at most 256"},
		{realm.Audiences, strings.Repeat("a", 256) + "," + strings.Repeat("b", 256), "", ""},
		{realm.GroupsClaim, "groups", "", ""},
		{realm.GroupsClaim, "cognito.groups-1_x", "", ""},
		{realm.GroupsClaim, "a b", "pve", "letters"},
		{realm.GroupsClaim, "urn:groups", "pve", "letters"},
		{realm.GroupsClaim, "grüppen", "pve", "letters"},
		{realm.GroupsClaim, strings.Repeat("g", 256), "", ""},
		{realm.GroupsClaim, strings.Repeat("g", 257), "pve", "at most 256"},
		{realm.Autocreate, "1", "", ""},
		{realm.Autocreate, "0", "", ""},
		{realm.Autocreate, "yes", all, "true or false"},
		{realm.Default, "2", all, "true or false"},
		{realm.GroupsAutocreate, "true", all, "true or false"},
		{realm.GroupsOverwrite, "", all, "must not be empty"},
		{realm.QueryUserinfo, "on", all, "true or false"},
	} {
		d, _ := tt.property.Definition()
		value := realm.Text(tt.value)
		if d.Form == realm.FormKey {
			value = realm.Key(check.NewSecret(tt.value))
		}
		said := ""
		for _, p := range realm.Products() {
			err := p.Validate(d.Property, value)
			if (err != nil) != slices.Contains(strings.Fields(tt.refused), p.String()) {
				t.Errorf("%v: %s %.40q: %v", p, tt.property, tt.value, err)
			}
			if err == nil {
				continue
			}
			said = cmp.Or(said, err.Error())
			if !strings.HasPrefix(err.Error(), "must ") || d.Form != realm.FormBool && len(tt.value) > 3 && strings.Contains(err.Error(), tt.value) {
				t.Errorf("%v: %s: %v does not complete the name of its key, or quotes the value", p, tt.property, err)
			}
		}
		if !strings.Contains(said, tt.says) {
			t.Errorf("%s %.40q: error %q, want one about %q", tt.property, tt.value, said, tt.says)
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
