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

// Names of realms and ids of tokens: which products refuse them.
func TestNames(t *testing.T) {
	const all = "pve pbs pdm"
	for name, refused := range map[string]struct{ realm, token string }{
		"authelia": {}, "Authelia-2.x_y": {}, "A.b-c_d": {}, "a1": {}, "1a": {"pve", "pve"}, "_x": {"pve", "pve"}, "a": {all, "pve"}, "1": {all, "pve"},
		"-x": {all, all}, ".x": {all, all}, "a/b": {all, all}, "a b": {all, all}, "a%2f": {all, all}, "a@b": {all, all}, "ab\n": {all, all}, "": {all, all},
		"zoë": {all, all}, "äb": {all, all}, strings.Repeat("a", 32): {}, strings.Repeat("a", 33): {all, ""},
	} {
		for _, p := range realm.Products() {
			if err := p.ValidateName(name); (err != nil) != slices.Contains(strings.Fields(refused.realm), p.String()) {
				t.Errorf("%v: a realm %q: %v", p, name, err)
			}
			if err := p.ValidateTokenID(name); (err != nil) != slices.Contains(strings.Fields(refused.token), p.String()) {
				t.Errorf("%v: a token %q: %v", p, name, err)
			}
		}
	}
}

// What a product or a version lacks is refused whatever its value is, and whether or not the realm exists.
func TestPlansRefuseWhatAProductLacks(t *testing.T) {
	stored := realm.Current{Exists: true, Type: realm.Type, Digest: "d", Values: spec().Set}
	for _, tt := range []struct {
		version  realm.Version
		property realm.Property
		value    realm.Value
		refused  bool
	}{
		{realm.Version{Product: realm.BackupServer}, realm.GroupsClaim, realm.Text("groups"), true},
		{realm.Version{Product: realm.DatacenterManager}, realm.QueryUserinfo, realm.Bool(true), true}, // its default
		{realm.Version{Product: realm.BackupServer, Major: 4, Minor: 2}, realm.Audiences, realm.Text("a"), true},
		{realm.Version{Product: realm.BackupServer, Major: 4, Minor: 2, Patch: 1}, realm.Audiences, realm.Text("a"), false},
		{realm.Version{Product: realm.BackupServer, Major: 3, Minor: 3, Patch: 6}, realm.Default, realm.Bool(true), true},
		{realm.Version{Product: realm.DatacenterManager, Major: 1, Patch: 3}, realm.Audiences, realm.Text("a"), true},
	} {
		for _, have := range []realm.Current{{}, stored} {
			want := spec(set(tt.property, tt.value))
			want.Product = tt.version.Product
			plan := realm.Diff(want, have, realm.Facts{Version: tt.version})
			if refused := plan.Action == realm.Refuse; refused != tt.refused || refused && plan.Refusal.Code != check.UnknownProperty {
				t.Errorf("%s: %s, realm exists: %t: %s, %v", tt.version.Named(), tt.property, have.Exists, plan.Action, plan.Refusal)
			}
		}
	}
	want := spec(set(realm.Audiences, realm.Text("a")))
	want.Product = realm.DatacenterManager
	if plan := realm.Diff(want, realm.Current{}, realm.Facts{Version: realm.Version{Major: 8, Minor: 4}}); plan.Action == realm.Refuse {
		t.Errorf("refused for the version of another product: %v", plan.Refusal)
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
				want := spec(unset(tt.unset...))
				want.Product = product
				maps.Copy(want.Set, tt.set)
				plan := realm.Diff(want, have, realm.Facts{})
				sent := plan.Params().Reveal()["default"]
				due := tt.sent
				if !stored && due != 1 || !stored && want.Set[realm.Default].String() == "" {
					due = nil // nothing to carry, and nothing changes
				}
				if product.HasGroups() && !plan.Changed(realm.Default) {
					due = nil
				}
				if sent != due || plan.Action != realm.Update {
					t.Errorf("%v, stored default %t: %s: %s sends default=%v, want %v", product, stored, name, plan.Action, sent, due)
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
