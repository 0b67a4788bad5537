package realm_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

var someRoles = realm.Roles{"PVEAdmin": {"Sys.Audit"}, "PVEAuditor": {"Sys.Audit"}, "Administrator": {"Permissions.Modify"}}

func TestNormalPath(t *testing.T) {
	for path, want := range map[string]string{ // as recorded
		"/pool/dev/": "/pool/dev", "//nodes//pve": "/nodes/pve", "vms": "/vms", "/": "/", "": "/", "///": "/",
	} {
		if got := realm.NormalPath(path); got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
}

func TestGrantsAreValidated(t *testing.T) {
	for _, path := range []string{"/", "/access", "/access/groups", "/access/realm/authelia", "/nodes/pve1", "/pool/dev", "/pool/a/b/c", "/storage/local", "/vms", "/vms/100", "/sdn/zones/z/v", "/mapping/pci/x"} {
		if err := (realm.Grant{Path: path, Role: "PVEAuditor"}).Validate(); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, g := range []realm.Grant{{Path: "/nonsense", Role: "PVEAuditor"}, {Path: "vms", Role: "PVEAuditor"}, {Path: "/vms/99", Role: "x"}, {Path: "/vms/", Role: "x"}, {Path: "/", Role: ""}, {Path: "/", Role: "a b"}, {Path: "/pool/a b", Role: "x"}} {
		if g.Validate() == nil {
			t.Errorf("%+v is taken", g)
		}
	}
	for name, ok := range map[string]bool{"admins": true, "team.a_b-c": true, "bad name": false, "bad:name": false, "grüppe": false, "": false} {
		if (realm.ValidateGroup(name) == nil) != ok {
			t.Errorf("group %q", name)
		}
	}
}

func TestDiffAccess(t *testing.T) {
	admin := realm.Grant{Path: "/", Role: "PVEAdmin", Propagate: true}
	login := realm.Login{GroupsClaim: "groups"}
	held := realm.CurrentAccess{
		Groups: []string{"admins-authelia"}, Roles: someRoles,
		Entries: []realm.Entry{{Path: "/", Kind: "group", ID: "admins-authelia", Role: "PVEAdmin", Propagate: true}},
	}
	for name, tt := range map[string]struct {
		want realm.Access
		have realm.CurrentAccess
		says []string
	}{
		"as declared":          {realm.Access{"admins": {admin}}, held, nil},
		"nothing there":        {realm.Access{"admins": {admin}}, realm.CurrentAccess{Roles: someRoles}, []string{"+ group admins-authelia", "+ grant admins-authelia PVEAdmin on /"}},
		"no grants":            {realm.Access{"admins": {}}, held, []string{"- grant admins-authelia PVEAdmin on /"}},
		"not below":            {realm.Access{"admins": {{Path: "/", Role: "PVEAdmin"}}}, held, []string{"+ grant admins-authelia PVEAdmin on / (not below it)"}},
		"another role instead": {realm.Access{"admins": {{Path: "/", Role: "PVEAuditor", Propagate: true}}}, held, []string{"+ grant admins-authelia PVEAuditor on /", "- grant admins-authelia PVEAdmin on /"}},
		"not named":            {realm.Access{}, held, nil},
	} {
		var got []string
		plan := realm.DiffAccess(tt.want, "authelia", login, tt.have)
		for _, c := range plan.Changes {
			got = append(got, c.String())
		}
		if !slices.Equal(got, tt.says) || plan.Empty() != (len(tt.says) == 0) {
			t.Errorf("%s: %q", name, got)
		}
	}
	unknown := realm.DiffAccess(realm.Access{"admins": {{Path: "/", Role: "Nobody"}}}, "authelia", login, held)
	if unknown.Refusal == nil || unknown.Refusal.Code != check.UnknownRole || unknown.Empty() {
		t.Errorf("%v", unknown.Refusal)
	}
	if p := realm.DiffAccess(held.Stored("authelia"), "authelia", login, held); !p.Empty() || len(held.Stored("authelia")) != 1 {
		t.Errorf("what is stored is drift: %v", p.Changes)
	}
}

// Whatever is declared and whatever is there: carrying the plan out leaves nothing to do, and touches nobody else's entries.
func TestAccessPlansTouchDeclaredGroupsAlone(t *testing.T) {
	word := rapid.SampledFrom([]string{"admins", "dev", "ops"})
	grant := rapid.Custom(func(t *rapid.T) realm.Grant {
		return realm.Grant{
			Path: rapid.SampledFrom([]string{"/", "/vms", "/pool/dev"}).Draw(t, "path"),
			Role: rapid.SampledFrom([]string{"PVEAdmin", "PVEAuditor"}).Draw(t, "role"), Propagate: rapid.Bool().Draw(t, "propagate"),
		}
	})
	one := func(g realm.Grant) string { return g.Path + " " + g.Role }
	entry := rapid.Custom(func(t *rapid.T) realm.Entry {
		g := grant.Draw(t, "grant")
		kind := rapid.SampledFrom([]string{"user", "group", "token"}).Draw(t, "kind")
		id := word.Draw(t, "group") + rapid.SampledFrom([]string{"-authelia", "-other", "@authelia", "@pve!t"}).Draw(t, "of")
		return realm.Entry{Path: g.Path, Kind: kind, ID: id, Role: g.Role, Propagate: g.Propagate}
	})
	same := func(e realm.Entry) string { return e.Kind + e.ID + e.Path + e.Role }
	rapid.Check(t, func(t *rapid.T) {
		want := realm.Access(rapid.MapOf(word, rapid.SliceOfNDistinct(grant, 0, 4, one)).Draw(t, "want"))
		have := realm.CurrentAccess{Roles: someRoles, Entries: rapid.SliceOfDistinct(entry, same).Draw(t, "entries")}
		for _, e := range have.Entries {
			if e.Kind == "group" && !slices.Contains(have.Groups, e.ID) {
				have.Groups = append(have.Groups, e.ID)
			}
		}
		plan := realm.DiffAccess(want, "authelia", realm.Login{GroupsClaim: "groups"}, have)
		after := realm.CurrentAccess{Roles: someRoles, Groups: slices.Clone(have.Groups), Entries: slices.Clone(have.Entries)}
		for _, c := range plan.Changes {
			name, declared := strings.CutSuffix(c.Group, "-authelia")
			if _, ok := want[name]; !ok || !declared {
				t.Fatalf("%s: a group that nobody declared", c)
			}
			if c.Kind == realm.AccessGroup {
				after.Groups = append(after.Groups, c.Group)
				continue
			}
			after.Entries = slices.DeleteFunc(after.Entries, func(e realm.Entry) bool {
				return e.Kind == "group" && e.ID == c.Group && e.Path == c.Grant.Path && e.Role == c.Grant.Role
			})
			if c.Op == realm.Set {
				after.Entries = append(after.Entries, realm.Entry{Path: c.Grant.Path, Kind: "group", ID: c.Group, Role: c.Grant.Role, Propagate: c.Grant.Propagate})
			}
		}
		if left := realm.DiffAccess(want, "authelia", realm.Login{GroupsClaim: "groups"}, after); !left.Empty() {
			t.Fatalf("left: %v", left.Changes)
		}
		for _, e := range have.Entries {
			name, ours := strings.CutSuffix(e.ID, "-authelia")
			if _, declared := want[name]; (e.Kind != "group" || !ours || !declared) && !slices.Contains(after.Entries, e) {
				t.Fatalf("%+v was touched", e)
			}
		}
	})
}
