package realm_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

var someRoles = realm.Roles{"PVEAdmin": {"Sys.Audit"}, "PVEAuditor": {"Sys.Audit"}, "Administrator": {"Permissions.Modify"}}

// everything is what the credentials of an administrator hold.
var everything = realm.Privileges{"/": {"Sys.Audit": true, "Group.Allocate": true, "Permissions.Modify": true}}

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
	for _, path := range []string{"/", "/access", "/access/groups", "/access/realm/authelia", "/nodes/pve1", "/pool/dev", "/pool/a/b/c", "/storage/local", "/vms", "/vms/100", "/sdn/zones/z/v", "/sdn/zones/z/v/4094", "/sdn", "/sdn/controllers/evpn-1", "/sdn/ipams/pve", "/sdn/route-maps", "/mapping/pci/x", "/mapping"} {
		if err := (realm.Grant{Path: path, Role: "PVEAuditor"}).Validate(); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, g := range []realm.Grant{
		{Path: "/nonsense", Role: "PVEAuditor"},
		{Path: "vms", Role: "PVEAuditor"},
		{Path: "/vms/99", Role: "x"},
		{Path: "/vms/", Role: "x"},
		{Path: "/", Role: ""},
		{Path: "/", Role: "a b"},
		{Path: "/pool/a b", Role: "x"},
		{Path: "/sdn/nonsense", Role: "x"},
		{Path: "/sdn/zones/z/v/0", Role: "x"},
		{Path: "/sdn/zones/z/v/1/x", Role: "x"},
		{Path: "/sdn/ipams/a.b", Role: "x"},
		{Path: "/sdn/dns/x/y", Role: "x"},
		{Path: "/mapping/pci/x/y", Role: "x"},
		{Path: "/mappings", Role: "x"},
	} {
		if g.Validate() == nil {
			t.Errorf("%+v is taken", g)
		}
	}
	for name, wayOut := range map[string]string{ // a refused name comes with the way to another one
		"admins": "", "team.a_b-c": "", "bad name": "another name", "bad:name": "another name", "grüppe": "another name", "": "another name",
		"/admins": "without its path", "admins@idm": "the short name",
	} {
		if err := realm.ValidateGroup(name); (err == nil) != (wayOut == "") || err != nil && !strings.Contains(err.Error(), wayOut) {
			t.Errorf("group %q: %v", name, err)
		}
	}
}

func TestDiffAccess(t *testing.T) {
	admin := realm.Grant{Path: "/", Role: "PVEAdmin", Propagate: true}
	login := realm.Login{GroupsClaim: "groups"}
	held := realm.CurrentAccess{
		Groups: []string{"admins-authelia"}, Roles: someRoles, Own: everything,
		Entries: []realm.Entry{{Path: "/", Type: "group", ID: "admins-authelia", Role: "PVEAdmin", Propagate: true}},
	}
	for name, tt := range map[string]struct {
		want realm.Access
		have realm.CurrentAccess
		says string
	}{
		"as declared":          {realm.Access{"admins": {admin}}, held, ""},
		"nothing there":        {realm.Access{"admins": {admin}}, realm.CurrentAccess{Roles: someRoles, Own: everything}, "+ group admins-authelia; + grant admins-authelia PVEAdmin on /"},
		"no grants":            {realm.Access{"admins": {}}, held, "- grant admins-authelia PVEAdmin on /"},
		"not below":            {realm.Access{"admins": {{Path: "/", Role: "PVEAdmin"}}}, held, "+ grant admins-authelia PVEAdmin on / (not below it)"},
		"another role instead": {realm.Access{"admins": {{Path: "/", Role: "PVEAuditor", Propagate: true}}}, held, "+ grant admins-authelia PVEAuditor on /; - grant admins-authelia PVEAdmin on /"},
		"not named":            {realm.Access{}, held, ""},
	} {
		plan := realm.DiffAccess(tt.want, "authelia", login, tt.have)
		for _, c := range plan.Changes {
			if c.Flips != (name == "not below") {
				t.Errorf("%s: %s: flips is %v", name, c, c.Flips)
			}
		}
		if got := texts(plan.Changes); got != tt.says || plan.Empty() != (got == "") {
			t.Errorf("%s: %q", name, got)
		}
	}
	for _, tt := range []struct {
		want  realm.Access
		login realm.Login
		have  realm.CurrentAccess
		code  check.Code
		says  string
	}{
		{realm.Access{"admins": {{Path: "/", Role: "Nobody"}}}, login, held, check.UnknownRole, "Proxmox has no role Nobody"},
		{realm.Access{"admins": {admin}}, realm.Login{}, held, check.NoGroupsClaim, "grants need a groups claim"},
		{realm.Access{"admins": nil}, login, realm.CurrentAccess{Product: realm.BackupServer}, check.UnknownProperty, "Proxmox Backup Server has no groups"},
	} {
		p := realm.DiffAccess(tt.want, "authelia", tt.login, tt.have)
		if p.Refusal == nil || p.Refusal.Code != tt.code || p.Refusal.Key != "access" || !strings.Contains(p.Refusal.Message, tt.says) || p.Refusal.Hint == "" || p.Empty() {
			t.Errorf("%s: %+v", tt.says, p.Refusal)
		}
	}
	held.Groups = append(held.Groups, "dev-x-authelia", "-authelia", "ops-authelia")
	if stored := held.Stored("authelia", "x-authelia", "a"); !slices.Equal(stored.Groups(), []string{"admins", "ops"}) {
		t.Errorf("a group of another realm, or one without a name, is stored as %v", stored)
	}
	if p := realm.DiffAccess(held.Stored("authelia"), "authelia", login, held); !p.Empty() {
		t.Errorf("what is stored is drift: %v", p.Changes)
	}
}

// A deeper grant replaces what a group inherits, for whoever is in both groups, unless it holds as much.
func TestReplacedGrantsAreNamed(t *testing.T) {
	roles := realm.Roles{"PVEAdmin": {"VM.Audit", "VM.PowerMgmt"}, "PVEAuditor": {"VM.Audit"}, "PVEVMUser": {"VM.Audit", "VM.PowerMgmt", "VM.Console"}}
	grant := func(path, role string) realm.Grant { return realm.Grant{Path: path, Role: role, Propagate: true} }
	admin := grant("/", "PVEAdmin")
	for name, tt := range map[string]struct {
		want   realm.Access
		stored []realm.Entry
		says   []string
	}{
		"less on a deeper path": {realm.Access{"admins": {admin}, "dev": {grant("/pool/dev", "PVEAuditor")}}, nil, []string{
			"whoever is in admins-authelia and in dev-authelia has only PVEAuditor on /pool/dev: a grant there replaces PVEAdmin, which admins-authelia has on /",
		}},
		"as much on a deeper path": {realm.Access{"admins": {admin}, "dev": {grant("/pool/dev", "PVEVMUser")}}, nil, nil},
		"both on the deeper path":  {realm.Access{"admins": {admin, grant("/pool/dev", "PVEAdmin")}, "dev": {grant("/pool/dev", "PVEAuditor")}}, nil, nil},
		"beside each other":        {realm.Access{"admins": {grant("/vms", "PVEAdmin")}, "dev": {grant("/pool/dev", "PVEAuditor")}}, nil, nil},
		"a path that begins alike": {realm.Access{"admins": {grant("/pool/dev", "PVEAdmin")}, "dev": {grant("/pool/dev2", "PVEAuditor")}}, nil, nil},
		"nothing is inherited":     {realm.Access{"admins": {{Path: "/", Role: "PVEAdmin"}}, "dev": {grant("/pool/dev", "PVEAuditor")}}, nil, nil},
		"one group":                {realm.Access{"admins": {admin, grant("/vms", "PVEAuditor")}}, nil, []string{"whoever is in admins-authelia has only PVEAuditor on /vms: a grant there replaces PVEAdmin, which admins-authelia has on /"}},
		"there since long, so no new": {realm.Access{"dev": {grant("/pool/dev", "PVEAuditor")}, "admins": {admin}}, []realm.Entry{
			{Path: "/", Type: "group", ID: "admins-authelia", Role: "PVEAdmin", Propagate: true}, {Path: "/pool/dev", Type: "group", ID: "dev-authelia", Role: "PVEAuditor", Propagate: true},
		}, nil},
	} {
		plan := realm.DiffAccess(tt.want, "authelia", realm.Login{GroupsClaim: "groups"}, realm.CurrentAccess{Roles: roles, Own: everything, Entries: tt.stored})
		if !slices.Equal(plan.Replacing, tt.says) {
			t.Errorf("%s: %q", name, plan.Replacing)
		}
	}
}

// What the credentials may not see is neither there nor absent, and what they may not change is missing.
func TestAccessThatIsPartlyVisible(t *testing.T) {
	admin, dev := realm.Grant{Path: "/", Role: "PVEAdmin", Propagate: true}, realm.Grant{Path: "/pool/dev", Role: "PVEAuditor", Propagate: true}
	want := realm.Access{"admins": {admin}, "dev": {dev}}
	const (
		admins    = "+ grant admins-authelia PVEAdmin on /"
		devs      = "+ grant dev-authelia PVEAuditor on /pool/dev"
		modify    = "Permissions.Modify on /"
		modifyDev = "Permissions.Modify on /pool/dev"
	)
	type held map[string]bool
	for name, tt := range map[string]struct {
		own                      realm.Privileges
		changes, hidden, missing string
	}{
		"nothing": {
			nil, "", "+ group admins-authelia; " + admins + "; + group dev-authelia; " + devs, "Group.Allocate on /access/groups; " + modify + "; " + modifyDev,
		},
		"everything, changing nothing":   {realm.Privileges{"/": held{"Sys.Audit": true}}, admins + "; " + devs, "", modify + "; " + modifyDev},
		"one path":                       {realm.Privileges{"/access/groups": held{"Group.Allocate": true}, "/pool": held{"Permissions.Modify": true}}, devs, admins, modify},
		"a path that does not propagate": {realm.Privileges{"/": held{"Permissions.Modify": false}, "/access/groups": held{"Group.Allocate": true}}, admins, devs, modifyDev},
		"a role of one's own privileges": {
			realm.Privileges{"/": held{"Permissions.Modify": false}, "/pool/dev": held{"Pool.Allocate": true, "Sys.Audit": true}}, admins + "; " + devs, "", "",
		},
		"a role of one's own privileges, here alone": {
			realm.Privileges{"/": held{"Permissions.Modify": false}, "/pool/dev": held{"Pool.Allocate": true, "Sys.Audit": false}}, admins + "; " + devs, "", modifyDev,
		},
		"more than one's own privileges": {
			realm.Privileges{"/": held{"Permissions.Modify": false}, "/pool/dev": held{"Pool.Allocate": true}}, admins + "; " + devs, "", modifyDev,
		},
	} {
		have := realm.CurrentAccess{Own: tt.own, Roles: someRoles}
		if tt.own != nil {
			have.Groups = []string{"admins-authelia", "dev-authelia"}
		}
		plan := realm.DiffAccess(want, "authelia", realm.Login{GroupsClaim: "groups"}, have)
		if texts(plan.Changes) != tt.changes || texts(plan.Hidden) != tt.hidden || texts(plan.Missing) != tt.missing {
			t.Errorf("%s: changes %v, hidden %v, missing %v", name, plan.Changes, plan.Hidden, plan.Missing)
		}
	}
}

// Roles are read only for a plan with grants.
func TestAccessPlansNeedRoles(t *testing.T) {
	admin := realm.Grant{Path: "/", Role: "Administrator", Propagate: true}
	have := realm.CurrentAccess{Groups: []string{"admins-authelia"}, Own: everything}
	login := realm.Login{GroupsClaim: "groups"}
	for _, tt := range []struct {
		want  realm.Access
		needs bool
	}{{realm.Access{"admins": {}}, false}, {realm.Access{"other": {}}, false}, {realm.Access{"admins": {admin}}, true}} {
		if p := realm.DiffAccess(tt.want, "authelia", login, have); p.NeedsRoles() != tt.needs {
			t.Errorf("%v: needs roles: %v", tt.want, p.NeedsRoles())
		}
	}
	have.Roles = someRoles
	for grant, powerful := range map[realm.Grant]bool{
		admin: true, {Path: "/access", Role: "Administrator"}: true, {Path: "/access/realm", Role: "Administrator"}: true,
		{Path: "/vms", Role: "Administrator"}: false, {Path: "/", Role: "PVEAuditor"}: false,
	} {
		if p := realm.DiffAccess(realm.Access{"admins": {grant}}, "authelia", login, have); p.NeedsRoles() || (len(p.Powerful) == 1) != powerful {
			t.Errorf("%+v: powerful: %q", grant, p.Powerful)
		}
	}
}

func texts[T fmt.Stringer](list []T) string {
	var all []string
	for _, x := range list {
		all = append(all, x.String())
	}
	return strings.Join(all, "; ")
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
		return realm.Entry{Path: g.Path, Type: kind, ID: id, Role: g.Role, Propagate: g.Propagate}
	})
	same := func(e realm.Entry) string { return e.Type + e.ID + e.Path + e.Role }
	rapid.Check(t, func(t *rapid.T) {
		want := realm.Access(rapid.MapOf(word, rapid.SliceOfNDistinct(grant, 0, 4, one)).Draw(t, "want"))
		have := realm.CurrentAccess{Roles: someRoles, Own: everything, Entries: rapid.SliceOfDistinct(entry, same).Draw(t, "entries")}
		for _, e := range have.Entries {
			if e.Type == "group" && !slices.Contains(have.Groups, e.ID) {
				have.Groups = append(have.Groups, e.ID)
			}
		}
		plan := realm.DiffAccess(want, "authelia", realm.Login{GroupsClaim: "groups"}, have)
		if len(plan.Hidden)+len(plan.Missing) > 0 {
			t.Fatalf("hidden %v, missing %v", plan.Hidden, plan.Missing)
		}
		after := realm.CurrentAccess{Roles: someRoles, Own: everything, Groups: slices.Clone(have.Groups), Entries: slices.Clone(have.Entries)}
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
				return e.Type == "group" && e.ID == c.Group && e.Path == c.Grant.Path && e.Role == c.Grant.Role
			})
			if c.Op == realm.Set {
				after.Entries = append(after.Entries, realm.Entry{Path: c.Grant.Path, Type: "group", ID: c.Group, Role: c.Grant.Role, Propagate: c.Grant.Propagate})
			}
		}
		if left := realm.DiffAccess(want, "authelia", realm.Login{GroupsClaim: "groups"}, after); !left.Empty() {
			t.Fatalf("left: %v", left.Changes)
		}
		for _, e := range have.Entries {
			name, ours := strings.CutSuffix(e.ID, "-authelia")
			if _, declared := want[name]; (e.Type != "group" || !ours || !declared) && !slices.Contains(after.Entries, e) {
				t.Fatalf("%+v was touched", e)
			}
		}
	})
}
