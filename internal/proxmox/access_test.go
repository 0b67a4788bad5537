package proxmox_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

func group(id string) realm.AccessChange {
	return realm.AccessChange{Kind: realm.AccessGroup, Op: realm.Set, Group: id}
}

func granted(path, group, role string, propagate bool) realm.AccessChange {
	grant := realm.Grant{Path: path, Role: role, Propagate: propagate}
	return realm.AccessChange{Kind: realm.AccessGrant, Op: realm.Set, Group: group, Grant: grant}
}

func revoked(path, group, role string) realm.AccessChange {
	return realm.AccessChange{Kind: realm.AccessGrant, Op: realm.Unset, Group: group, Grant: realm.Grant{Path: path, Role: role}}
}

// ofGroups returns the entries for groups, one text each.
func ofGroups(t *testing.T, c *proxmox.Client) []string {
	t.Helper()
	current, err := c.Access(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range current.Entries {
		if e.Kind == "group" {
			out = append(out, strings.Join([]string{e.Path, e.ID, e.Role, map[bool]string{true: "propagates", false: "here"}[e.Propagate]}, " "))
		}
	}
	slices.Sort(out)
	return out
}

// Creates groups and grants, removes them, and checks the type of each refusal.
func TestGroupsAndGrants(t *testing.T) {
	s := start(t, realm.VE)
	c := connect(t, s, pve.TokenRoot)
	const admins = "admins-authelia"
	for range 2 { // a group that exists is not an error
		if err := c.Change(t.Context(), group(admins)); err != nil {
			t.Fatal(err)
		}
	}
	groups, err := c.Groups(t.Context())
	if err != nil || len(groups) != 1 || groups[0].ID != admins || len(groups[0].Members) != 0 {
		t.Errorf("%+v, %v", groups, err)
	}
	roles, err := c.Roles(t.Context())
	if err != nil || !slices.Contains(roles["PVEAuditor"], "Sys.Audit") || len(roles["NoAccess"]) != 0 {
		t.Errorf("%v, %v", roles, err)
	}
	for range 2 { // granting twice is not an error
		if err := c.Change(t.Context(), granted("/", admins, "PVEAdmin", true)); err != nil {
			t.Error(err)
		}
	}
	if err := c.Change(t.Context(), granted("/vms", admins, "PVEVMUser", false)); err != nil {
		t.Error(err)
	}
	if got := ofGroups(t, c); !slices.Equal(got, []string{"/ admins-authelia PVEAdmin propagates", "/vms admins-authelia PVEVMUser here"}) {
		t.Errorf("%q", got)
	}
	for range 2 {
		if err := c.Change(t.Context(), revoked("/", admins, "PVEAdmin")); err != nil {
			t.Error(err)
		}
	}
	if got := ofGroups(t, c); !slices.Equal(got, []string{"/vms admins-authelia PVEVMUser here"}) {
		t.Errorf("%q", got)
	}

	for name, tt := range map[string]struct {
		err  error
		kind proxmox.Kind
		code check.Code
	}{
		"a group's name":      {c.Change(t.Context(), group("bad name")), proxmox.Invalid, check.Config},
		"an unknown group":    {c.Change(t.Context(), granted("/", "nobody-authelia", "PVEAuditor", true)), proxmox.Absent, check.Conflict},
		"an unknown role":     {c.Change(t.Context(), granted("/", admins, "Nobody", true)), proxmox.UnknownRole, check.Config},
		"an unknown path":     {c.Change(t.Context(), granted("/nonsense", admins, "PVEAuditor", true)), proxmox.Invalid, check.Config},
		"revoked from nobody": {c.Change(t.Context(), revoked("/", "nobody-authelia", "PVEAuditor")), proxmox.Absent, check.Conflict},
	} {
		var e *proxmox.Error
		var f *check.Error
		if !errors.As(tt.err, &e) || !errors.As(tt.err, &f) || e.Kind != tt.kind || f.Code != tt.code || len(f.Hint) == 0 ||
			errors.Is(tt.err, realm.ErrConflict) != (tt.code == check.Conflict) {
			t.Errorf("%s: %v", name, tt.err)
		}
	}
}

// The error of a token without the privilege names it.
func TestGrantsWithoutPrivileges(t *testing.T) {
	s := start(t, realm.VE)
	c := connect(t, s, pve.TokenRealmAllocate)
	for want, err := range map[string]error{
		"    pveum role add RealmGroupAdmin --privs Group.Allocate,Sys.Audit\n    pveum acl modify /access/groups --users": c.Change(t.Context(), group("x-authelia")),
		"    pveum role add PermissionsModifyOnly --privs Permissions.Modify\n    pveum acl modify / --users":              c.Change(t.Context(), granted("/", "x-authelia", "PVEAuditor", true)),
	} {
		var f *check.Error
		if !errors.As(err, &f) || f.Code != check.PermissionDenied || !strings.Contains(f.Hint.For(check.Names{}), want) {
			t.Errorf("%v: %+v", err, f)
		}
	}
}

// While somebody else edits the same paths, the changes of a plan reach their groups alone, and undo no edit.
func TestChangesAmidOtherEdits(t *testing.T) {
	s := startVE(t, pve.Options{})
	mine, theirs := connect(t, s, pve.TokenRoot), connect(t, s, pve.TokenRoot)
	grants := rapid.Custom(func(t *rapid.T) realm.Grant {
		return realm.Grant{
			Path: rapid.SampledFrom([]string{"/", "/vms", "/pool/dev"}).Draw(t, "path"),
			Role: rapid.SampledFrom([]string{"PVEAdmin", "PVEAuditor"}).Draw(t, "role"), Propagate: rapid.Bool().Draw(t, "propagate"),
		}
	})
	distinct := rapid.SliceOfNDistinct(grants, 2, 5, func(g realm.Grant) string { return g.Path + g.Role })
	edits := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) realm.AccessChange {
		op := rapid.SampledFrom([]realm.Op{realm.Set, realm.Unset}).Draw(t, "op")
		return realm.AccessChange{Kind: realm.AccessGrant, Op: op, Group: "others-authelia", Grant: grants.Draw(t, "grant")}
	}), 0, 8)
	before := s.State().ACL
	for seed := range 12 {
		want, other := realm.Access{"admins": distinct.Example(seed)}, edits.Example(seed)
		edited := map[string]bool{} // what the edits alone leave of the neighbour's grants, and whether it propagates
		err := s.Update(func(st *pve.State) {
			st.Groups, st.ACL = map[string]pve.Group{"others-authelia": {}, "admins-authelia": {}}, slices.Clone(before)
			for _, g := range distinct.Example(seed + 100) {
				st.ACL = append(st.ACL, pve.ACL{Path: g.Path, Type: "group", ID: "admins-authelia", Role: g.Role, Propagate: g.Propagate})
			}
			for _, g := range distinct.Example(seed + 200) {
				st.ACL = append(st.ACL, pve.ACL{Path: g.Path, Type: "group", ID: "others-authelia", Role: g.Role, Propagate: g.Propagate})
				edited[g.Path+" "+g.Role] = g.Propagate
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		have, err := mine.Access(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		have.Roles = realm.Roles{"PVEAdmin": nil, "PVEAuditor": nil}
		plan := realm.DiffAccess(want, "authelia", realm.Login{GroupsClaim: "groups"}, have)
		var both sync.WaitGroup
		for client, changes := range map[*proxmox.Client][]realm.AccessChange{mine: plan.Changes, theirs: other} {
			both.Go(func() {
				for _, c := range changes {
					if err := client.Change(t.Context(), c); err != nil {
						t.Errorf("seed %d: %s: %v", seed, c, err)
					}
				}
			})
		}
		both.Wait()
		for _, c := range other {
			delete(edited, c.Grant.Path+" "+c.Grant.Role)
			if c.Op == realm.Set {
				edited[c.Grant.Path+" "+c.Grant.Role] = c.Grant.Propagate
			}
		}
		have, err = mine.Access(t.Context())
		if left := realm.DiffAccess(want, "authelia", realm.Login{GroupsClaim: "groups"}, have); err != nil || !left.Empty() || len(left.Hidden) > 0 {
			t.Errorf("seed %d: %v, left %v", seed, err, left.Changes)
		}
		kept := map[string]bool{}
		for _, e := range have.Entries {
			if e.ID == "others-authelia" {
				kept[e.Path+" "+e.Role] = e.Propagate
			}
		}
		if !maps.Equal(kept, edited) || len(have.Entries) != len(before)+len(want["admins"])+len(edited) {
			t.Errorf("seed %d: entries of others %v, want %v", seed, kept, edited)
		}
	}
}
