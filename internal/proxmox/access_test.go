package proxmox_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

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
		if e.Type == "group" {
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

	for _, tt := range []struct {
		change realm.AccessChange
		kind   proxmox.Kind
	}{
		{group("bad name"), proxmox.Invalid},
		{granted("/", "nobody-authelia", "PVEAuditor", true), proxmox.Absent},
		{granted("/", admins, "Nobody", true), proxmox.UnknownRole},
		{granted("/nonsense", admins, "PVEAuditor", true), proxmox.Invalid},
		{revoked("/", "nobody-authelia", "PVEAuditor"), proxmox.Absent},
	} {
		err := c.Change(t.Context(), tt.change)
		if isKind(t, tt.change.String(), err, tt.kind); hintOf(err) == "" {
			t.Errorf("%s: no hint", tt.change)
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
