package config

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

func TestMarshal(t *testing.T) {
	target := defaults()
	target.Proxmox.Endpoints, target.Proxmox.Insecure = []Origin{"https://pve1.example.com:8006"}, true
	target.Realm = realm.Spec{Name: "authelia", Set: realm.Values{
		realm.IssuerURL: realm.Text("https://auth.example.com"),
		realm.ClientID:  realm.Text("proxmox"),
		realm.ClientKey: realm.Key(check.NewSecret("hunter2-hunter2")),
		realm.Comment:   realm.Text("a: b\nhunter2-hunter2"), // as nobody can write it in a configuration
		realm.Scopes:    realm.Text("email;groups profile"),  // in any spelling that Proxmox takes
		realm.Default:   realm.Bool(false),
	}}
	target.Access = realm.Access{
		"Admins": {{Path: "/", Role: "PVEAdmin", Propagate: true}, {Path: "/vms/100", Role: "PVEVMUser"}},
		"123":    {{Path: "/pool/dev", Role: "PVEAuditor", Propagate: true}}, "none": {},
	}
	got := Marshal(target)
	if strings.Contains(string(got), "hunter2") {
		t.Errorf("quotes what it leaves out:\n%s", got)
	}
	const golden = "testdata/marshal.golden"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("writes\n%swant\n%s", got, want)
	}
	c := mustLoad(t, string(got), Options{Partial: true})
	if got := c.Targets[0].Realm.Set[realm.Scopes].String(); got != "email groups profile" {
		t.Errorf("scopes %q", got)
	}
	if got := c.Targets[0].Access; !reflect.DeepEqual(got, target.Access) {
		t.Errorf("access %v", got)
	}
}

// defaults returns a target of which a configuration says nothing.
func defaults() Target {
	t := Target{Name: defaultTarget, Realm: realm.Spec{Set: realm.Values{}}}
	for _, k := range table() {
		if k.Target && k.Default != "" && k.Kind != List {
			_ = k.in(result{Target: &t}).set(k.setting(k.Default, Position{})) // a test loads every default
		}
	}
	return t
}
