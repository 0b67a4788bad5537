package pve_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"proxmox-realm/internal/check"
	lab "proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/pve"
	"proxmox-realm/internal/realm"
)

// ofGroups returns the entries for groups, one text each.
func ofGroups(t *testing.T, c *pve.Client) []string {
	t.Helper()
	entries, visible, err := c.ACL(t.Context())
	if err != nil || !visible {
		t.Fatalf("visible %v, %v", visible, err)
	}
	var out []string
	for _, e := range entries {
		if e.Kind == "group" {
			out = append(out, strings.Join([]string{e.Path, e.ID, e.Role, map[bool]string{true: "propagates", false: "here"}[e.Propagate]}, " "))
		}
	}
	slices.Sort(out)
	return out
}

// Creates groups and grants, removes them, and checks the type of each refusal.
func TestGroupsAndGrants(t *testing.T) {
	s := startLab(t, lab.Options{})
	c := toLab(t, s, lab.TokenRoot, nil)
	const group = "admins-authelia"
	if err := c.CreateGroup(t.Context(), group, "Authelia: admins"); err != nil {
		t.Fatal(err)
	}
	groups, err := c.Groups(t.Context())
	if err != nil || len(groups) != 1 || groups[0].ID != group || len(groups[0].Members) != 0 {
		t.Errorf("%+v, %v", groups, err)
	}
	roles, err := c.Roles(t.Context())
	if err != nil || !slices.Contains(roles["PVEAuditor"], "Sys.Audit") || len(roles["NoAccess"]) != 0 {
		t.Errorf("%v, %v", roles, err)
	}
	for range 2 { // granting twice is not an error
		if err := c.Grant(t.Context(), "/", group, "PVEAdmin", true); err != nil {
			t.Error(err)
		}
	}
	if err := c.Grant(t.Context(), "/vms", group, "PVEVMUser", false); err != nil {
		t.Error(err)
	}
	if got := ofGroups(t, c); !slices.Equal(got, []string{"/ admins-authelia PVEAdmin propagates", "/vms admins-authelia PVEVMUser here"}) {
		t.Errorf("%q", got)
	}
	for range 2 {
		if err := c.Revoke(t.Context(), "/", group, "PVEAdmin"); err != nil {
			t.Error(err)
		}
	}
	if got := ofGroups(t, c); !slices.Equal(got, []string{"/vms admins-authelia PVEVMUser here"}) {
		t.Errorf("%q", got)
	}

	for name, tt := range map[string]struct {
		err  error
		kind pve.Kind
		code check.Code
	}{
		"a group twice":       {c.CreateGroup(t.Context(), group, ""), pve.Exists, check.Conflict},
		"a group's name":      {c.CreateGroup(t.Context(), "bad name", ""), pve.Invalid, check.Config},
		"an unknown group":    {c.Grant(t.Context(), "/", "nobody-authelia", "PVEAuditor", true), pve.Absent, check.Conflict},
		"an unknown role":     {c.Grant(t.Context(), "/", group, "Nobody", true), pve.UnknownRole, check.Config},
		"an unknown path":     {c.Grant(t.Context(), "/nonsense", group, "PVEAuditor", true), pve.Invalid, check.Config},
		"revoked from nobody": {c.Revoke(t.Context(), "/", "nobody-authelia", "PVEAuditor"), pve.Absent, check.Conflict},
	} {
		var e *pve.Error
		var f *check.Error
		if !errors.As(tt.err, &e) || !errors.As(tt.err, &f) || e.Kind != tt.kind || f.Code != tt.code || len(f.Remedy) == 0 ||
			errors.Is(tt.err, realm.ErrConflict) != (tt.code == check.Conflict) {
			t.Errorf("%s: %v", name, tt.err)
		}
	}
}

// The error of a token without the privilege names it. A list that the token may not see is not reported as empty.
func TestGrantsWithoutPrivileges(t *testing.T) {
	s := startLab(t, lab.Options{})
	c := toLab(t, s, lab.TokenRealmAllocate, nil)
	for want, err := range map[string]error{
		"pveum role add RealmGroupAdmin --privs Group.Allocate,Sys.Audit; pveum acl modify /access/groups --tokens": c.CreateGroup(t.Context(), "x-authelia", ""),
		"pveum role add PermissionsModifyOnly --privs Permissions.Modify; pveum acl modify / --tokens":              c.Grant(t.Context(), "/", "x-authelia", "PVEAuditor", true),
	} {
		var f *check.Error
		if !errors.As(err, &f) || f.Code != check.PermissionDenied || !strings.Contains(f.Remedy.String(), want) {
			t.Errorf("%v: %+v", err, f)
		}
	}
	if entries, visible, err := c.ACL(t.Context()); err != nil || visible || entries != nil {
		t.Errorf("%v, %v, %v", entries, visible, err)
	}
}

// A grant without an answer is reported as lost and is not sent again.
func TestLostGrants(t *testing.T) {
	n := start(t, func(*call) answer { return answer{Drop: true} })
	other := start(t, func(*call) answer { return answer{Drop: true} })
	err := connect(t, nil, n, other).Grant(t.Context(), "/", "admins-authelia", "PVEAuditor", true)
	if !errors.Is(err, realm.ErrLost) || len(n.seen()) != 1 || len(other.seen()) != 0 {
		t.Errorf("%v", err)
	}
	if body := string(n.seen()[0].Body); body != `{"groups":"admins-authelia","path":"/","propagate":1,"roles":"PVEAuditor"}` {
		t.Errorf("sent %s", body)
	}
}
