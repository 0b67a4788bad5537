package realm_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

func TestProducts(t *testing.T) {
	for _, tt := range []struct {
		product                   realm.Product
		id, name, port, separator string
		builtin                   []string
		groups, tickets           bool
	}{
		{realm.VE, "pve", "Proxmox VE", "8006", "=", []string{"pam", "pve"}, true, true},
		{realm.BackupServer, "pbs", "Proxmox Backup Server", "8007", ":", []string{"pam", "pbs"}, false, false},
		{realm.DatacenterManager, "pdm", "Proxmox Datacenter Manager", "8443", ":", []string{"pam", "pdm"}, false, false},
	} {
		p := tt.product
		if p.String() != tt.id || p.Name() != tt.name || p.Port() != tt.port || p.TokenSeparators()[:1] != tt.separator {
			t.Errorf("%v: %s, port %s, separators %q", p, p.Name(), p.Port(), p.TokenSeparators())
		}
		if p.HasGroups() != tt.groups || p.TicketLogin() != tt.tickets || p.HangsForGood() == tt.groups {
			t.Errorf("%v: groups %t, tickets %t, hangs for good %t", p, p.HasGroups(), p.TicketLogin(), p.HangsForGood())
		}
		for _, name := range []string{"pam", "pve", "pbs", "pdm"} {
			if p.Builtin(name) != slices.Contains(tt.builtin, name) {
				t.Errorf("%v: %s is built in: %t", p, name, p.Builtin(name))
			}
		}
		if got, err := realm.ParseProduct(tt.id); err != nil || got != p {
			t.Errorf("%s is read as %v, %v", tt.id, got, err)
		}
		if got, ok := realm.ProductAt(tt.port); !ok || got != p {
			t.Errorf("port %s is of %v, %t", tt.port, got, ok)
		}
		var read realm.Product
		if text, err := p.MarshalText(); err != nil || read.UnmarshalText(text) != nil || read != p {
			t.Errorf("%v is marshalled as %s and read as %v", p, text, read)
		}
		if !p.Has(realm.IssuerURL) || p.Has(realm.GroupsClaim) != tt.groups || p.Has(realm.QueryUserinfo) != tt.groups {
			t.Errorf("%v has other properties than it should", p)
		}
		if p.Host().Certificate == "" {
			t.Errorf("%v: no command shows its certificate", p)
		}
		for _, d := range realm.Definitions() {
			if since := p.Since(d.Property); since.IsZero() == p.Has(d.Property) || since.Product != p {
				t.Errorf("%v: %s exists since %v", p, d.Property, since)
			}
		}
	}
	if len(realm.Products()) != 3 {
		t.Error("not all products are listed")
	}
	for _, text := range []string{"", "PVE", "pmg", "8007"} {
		if p, err := realm.ParseProduct(text); err == nil {
			t.Errorf("%q is read as %v", text, p)
		}
	}
	if p, ok := realm.ProductAt("443"); ok {
		t.Errorf("port 443 is of %v", p)
	}
	if got := realm.Product(99).String(); got != "pve" {
		t.Errorf("a product that does not exist is %s", got)
	}
}

// The limits of Backup Server are those that its 4.2.3 answers 400 to; transcripts/proxmox-backup-4.2.json holds most of them.
func TestLimitsOfProducts(t *testing.T) {
	long := func(n int) string { return strings.Repeat("ü", n) }
	const all, backup, datacenter = "pve pbs pdm", "pbs pdm", "pdm"
	for _, tt := range []struct {
		property realm.Property
		value    string
		refused  string // the products that refuse it
	}{
		{realm.Comment, long(128), ""},
		{realm.Comment, long(129), backup},
		{realm.Comment, long(4097), all},
		{realm.ClientKey, strings.Repeat("k", 1000), "pve"},
		{realm.ClientKey, "kľúč", "pve"},
		{realm.ClientKey, "a\nb", all},
		{realm.ClientID, strings.Repeat("c", 257), "pve"},
		{realm.Scopes, "openid profile email", ""},
		{realm.Scopes, "openid groups:read", backup},
		{realm.Scopes, "openid https://example.com/s", backup},
		{realm.Scopes, "openid -x", backup},
		{realm.Scopes, "openid _x.y-z", ""},
		{realm.Prompt, "select_account", ""},
		{realm.Prompt, "x:y", backup},
		{realm.Prompt, "login consent", all},
		{realm.ACRValues, "mfa,pwd", ""},
		{realm.ACRValues, "urn:example:mfa", datacenter},
		{realm.ACRValues, "https://example.com/mfa", datacenter},
		{realm.ACRValues, "a<b", all},
		{realm.Audiences, "https://api.example.com,other", ""},
		{realm.Audiences, "short," + strings.Repeat("a", 257), backup},
		{realm.Audiences, strings.Repeat("a", 256) + "," + strings.Repeat("b", 256), ""},
		{realm.UsernameClaim, "preferred_username", ""},
		{realm.UsernameClaim, "https://example.com/name", backup},
		{realm.UsernameClaim, strings.Repeat("u", 65), backup},
		{realm.IssuerURL, "https://user:secret@auth.example.com", all},
		{realm.IssuerURL, "https://auth.example.com/" + strings.Repeat("a", 300), "pve"},
	} {
		for _, p := range realm.Products() {
			value := realm.Text(tt.value)
			if tt.property == realm.ClientKey {
				value = realm.Key(check.NewSecret(tt.value))
			}
			err := p.Validate(tt.property, value)
			if (err != nil) != slices.Contains(strings.Fields(tt.refused), p.String()) {
				t.Errorf("%v: %s %.40q: %v", p, tt.property, tt.value, err)
			}
			if err != nil && strings.Contains(err.Error(), tt.value) {
				t.Errorf("%v: the error quotes the value: %v", p, err)
			}
		}
	}
}

func TestRealmNamesOfProducts(t *testing.T) {
	for name, refused := range map[string]string{
		"authelia": "", "a1": "", "A.b-c_d": "", "1a": "pve", "_x": "pve", "a": "pve pbs pdm", "-x": "pve pbs pdm", ".x": "pve pbs pdm",
		"a/b": "pve pbs pdm", "ab\n": "pve pbs pdm", "": "pve pbs pdm", strings.Repeat("a", 32): "", strings.Repeat("a", 33): "pve pbs pdm", "zoë": "pve pbs pdm",
	} {
		for _, p := range realm.Products() {
			if err := p.ValidateName(name); (err != nil) != slices.Contains(strings.Fields(refused), p.String()) {
				t.Errorf("%v: %q: %v", p, name, err)
			}
		}
	}
}

// What a product lacks is refused whatever its value is and whether or not the realm exists, and the reason says why.
func TestPlansRefuseWhatAProductLacks(t *testing.T) {
	stored := realm.Current{Exists: true, Type: realm.Type, Digest: "d", Values: realm.Values{
		realm.IssuerURL: realm.Text("https://auth.example.com"), realm.ClientID: realm.Text("proxmox"),
	}}
	version := func(p realm.Product, text string) realm.Version {
		v, err := realm.ParseVersion(p, text)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, tt := range []struct {
		name    string
		product realm.Product
		set     realm.Values
		version realm.Version
		message string // "" if the plan is not refused
		hints   []string
	}{
		{
			"groups", realm.BackupServer,
			realm.Values{realm.GroupsClaim: realm.Text("groups")},
			realm.Version{},
			"Proxmox Backup Server does not know groups-claim (it has no groups)",
			[]string{"remove {realm.groups_claim}"},
		},
		{
			"a default value", realm.DatacenterManager,
			realm.Values{realm.QueryUserinfo: realm.Bool(true)},
			realm.Version{},
			"Proxmox Datacenter Manager does not know query-userinfo (it always reads the userinfo endpoint)",
			[]string{"remove {realm.query_userinfo}"},
		},
		{
			"an old version", realm.BackupServer,
			realm.Values{realm.Audiences: realm.Text("a")},
			version(realm.BackupServer, "4.2.0"),
			"Proxmox Backup Server 4.2 does not know audiences",
			[]string{"remove {realm.audiences}", "upgrade to Proxmox Backup Server 4.2.1 or later"},
		},
		{"the first version", realm.BackupServer, realm.Values{realm.Audiences: realm.Text("a")}, version(realm.BackupServer, "4.2.1"), "", nil},
		{
			"default on Backup Server 3.3", realm.BackupServer,
			realm.Values{realm.Default: realm.Bool(true)},
			version(realm.BackupServer, "3.3.6"),
			"Proxmox Backup Server 3.3.6 does not know default",
			[]string{"3.3.7"},
		},
		{
			"an old manager", realm.DatacenterManager,
			realm.Values{realm.Audiences: realm.Text("a")},
			version(realm.DatacenterManager, "1.0.3"),
			"Proxmox Datacenter Manager 1.0.3 does not know audiences",
			[]string{"1.0.4"},
		},
		{"a version of another product", realm.DatacenterManager, realm.Values{realm.Audiences: realm.Text("a")}, version(realm.VE, "8.4"), "", nil},
	} {
		for _, have := range []realm.Current{{}, stored} {
			set := realm.Values{realm.IssuerURL: realm.Text("https://auth.example.com"), realm.ClientID: realm.Text("proxmox")}
			for p, v := range tt.set {
				set[p] = v
			}
			plan := realm.Diff(realm.Spec{Product: tt.product, Name: "authelia", Set: set}, have, realm.Facts{Version: tt.version})
			if tt.message == "" {
				if plan.Action == realm.Refuse {
					t.Errorf("%s: refused: %v", tt.name, plan.Refusal)
				}
				continue
			}
			if plan.Action != realm.Refuse || plan.Refusal.Message != tt.message || plan.Refusal.Code != check.UnknownProperty {
				t.Errorf("%s, realm exists: %t: %s, %v", tt.name, have.Exists, plan.Action, plan.Refusal)
				continue
			}
			for _, hint := range tt.hints {
				if !strings.Contains(string(plan.Refusal.Hint), hint) {
					t.Errorf("%s: the hint lacks %q: %s", tt.name, hint, plan.Refusal.Hint)
				}
			}
		}
	}
}

func TestBuiltinRealmsAreTheProductsOwn(t *testing.T) {
	for _, tt := range []struct {
		product realm.Product
		name    string
		refused bool
	}{
		{realm.VE, "pve", true}, {realm.VE, "pbs", false}, {realm.BackupServer, "pbs", true}, {realm.BackupServer, "pve", false}, {realm.DatacenterManager, "pdm", true},
	} {
		set := realm.Values{realm.IssuerURL: realm.Text("https://auth.example.com"), realm.ClientID: realm.Text("proxmox")}
		plan := realm.Diff(realm.Spec{Product: tt.product, Name: tt.name, Set: set}, realm.Current{}, realm.Facts{})
		if (plan.Action == realm.Refuse) != tt.refused {
			t.Errorf("%s on %v: %s", tt.name, tt.product, plan.Action)
		}
	}
}

// A PUT to Backup Server or Datacenter Manager that does not send default=1 takes the flag from the realm, whatever else it
// changes. Proxmox VE keeps it.
func TestUpdatesKeepTheDefaultRealm(t *testing.T) {
	for _, product := range realm.Products() {
		for _, stored := range []bool{true, false} {
			have, err := realm.ParseCurrent(product, fmt.Appendf(nil, `{"type": "openid", "digest": "d", "issuer-url": "https://auth.example.com",
				"client-id": "proxmox", "comment": "c", "scopes": "openid email", "autocreate": true, "default": %t}`, stored))
			if err != nil {
				t.Fatal(err)
			}
			for name, tt := range map[string]struct {
				set   realm.Values
				unset []realm.Property
				sent  any // for default, if the flag was stored and the product clears it
			}{
				"a text changes":       {set: realm.Values{realm.Comment: realm.Text("d")}, sent: 1},
				"a flag changes":       {set: realm.Values{realm.Autocreate: realm.Bool(false)}, sent: 1},
				"a property goes":      {unset: []realm.Property{realm.Comment}, sent: 1},
				"the default is set":   {set: realm.Values{realm.Comment: realm.Text("d"), realm.Default: realm.Bool(true)}, sent: 1},
				"the default is taken": {set: realm.Values{realm.Comment: realm.Text("d"), realm.Default: realm.Bool(false)}, sent: 0},
				"the default goes":     {set: realm.Values{realm.Comment: realm.Text("d")}, unset: []realm.Property{realm.Default}},
			} {
				spec := realm.Spec{Product: product, Name: "authelia", Set: realm.Values{
					realm.IssuerURL: realm.Text("https://auth.example.com"), realm.ClientID: realm.Text("proxmox"),
				}, Unset: tt.unset}
				maps.Copy(spec.Set, tt.set)
				plan := realm.Diff(spec, have, realm.Facts{})
				sent := plan.Params().Reveal()["default"]
				want := tt.sent
				if !stored && want != 1 || !stored && spec.Set[realm.Default].String() == "" {
					want = nil // nothing to carry, and nothing changes
				}
				if product.HasGroups() && !plan.Changed(realm.Default) {
					want = nil
				}
				if sent != want || plan.Action != realm.Update {
					t.Errorf("%v, stored default %t: %s: %s sends default=%v, want %v", product, stored, name, plan.Action, sent, want)
				}
			}
		}
	}
}

// The answer of Backup Server names no type, holds the realm's name, and keeps empty texts.
func TestStoredRealmOfBackupServer(t *testing.T) {
	const data = `{"acr-values":"","autocreate":false,"client-id":"proxmox","client-key":"k","default":true,"issuer-url":"https://auth.example.com",
		"realm":"authelia","scopes":"","username-claim":"preferred_username","future":true}`
	c, err := realm.ParseCurrent(realm.BackupServer, []byte(data))
	if err != nil || c.Type != realm.Type || c.Product != realm.BackupServer || len(c.Structures) > 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	if login := c.Values.Login("authelia"); !slices.Equal(login.Scopes, []string{"openid"}) || login.Autocreate || !login.QueryUserinfo {
		t.Errorf("%+v", login)
	}
	restored := realm.RestoreParams("authelia", c).Reveal()
	if restored["scopes"] != "" || restored["future"] != true || restored["realm"] != "authelia" || restored["default"] != 1 {
		t.Errorf("restored as %v", restored)
	}
	without, err := realm.ParseCurrent(realm.BackupServer, []byte(strings.Replace(data, `"scopes":"",`, "", 1)))
	if err != nil || c.SameAs(without) {
		t.Errorf("empty scopes are the same as none: %v", err)
	}
	if _, err := realm.ParseCurrent(realm.VE, []byte(data)); err == nil {
		t.Error("Proxmox VE always names the type")
	}
}

func TestTokenIDs(t *testing.T) {
	for id, valid := range map[string][]bool{ // of Proxmox VE, and of the others
		"agent": {true, true}, "a.b-c_d": {true, true}, "a": {false, true}, "1": {false, true}, "_x": {false, true},
		"": {false, false}, ".x": {false, false}, "-x": {false, false}, "a b": {false, false}, "agent\n": {false, false},
	} {
		for i, p := range []realm.Product{realm.VE, realm.BackupServer, realm.DatacenterManager} {
			if err := p.ValidateTokenID(id); (err == nil) != valid[min(i, 1)] {
				t.Errorf("%v: %q: %v", p, id, err)
			}
		}
	}
}

func TestWhichProductsHaveAProperty(t *testing.T) {
	for prop, want := range map[realm.Property]string{
		realm.IssuerURL:   "",
		realm.Default:     "Proxmox VE, Proxmox Backup Server 3.3.7 or later, Proxmox Datacenter Manager",
		realm.GroupsClaim: "Proxmox VE 8.4 or later",
		realm.Audiences:   "Proxmox VE 9.2 or later, Proxmox Backup Server 4.2.1 or later, Proxmox Datacenter Manager 1.0.4 or later",
	} {
		if got := prop.Needs(); got != want {
			t.Errorf("%s: %q, want %q", prop, got, want)
		}
	}
}
