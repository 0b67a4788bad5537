package reconcile_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

func grant(path, role string) realm.Grant {
	return realm.Grant{Path: path, Role: role, Propagate: true}
}

func entry(kind, id, path, role string) realm.Entry {
	return realm.Entry{Kind: kind, ID: id, Path: path, Role: role, Propagate: true}
}

// neighbours are entries that no run may touch.
var neighbours = []realm.Entry{
	entry("user", "admin@pve", "/", "Administrator"), entry("group", "others-authelia", "/", "PVEAdmin"),
	entry("group", "admins-other", "/", "PVEAdmin"), entry("token", "a@pve!t", "/vms", "PVEAuditor"),
}

// granting is a target whose configuration declares access, beside neighbours.
func granting(t *testing.T, access realm.Access) (*cluster, aimed) {
	t.Helper()
	c := newCluster(t).put(name, stored(with(realm.GroupsClaim, "groups")))
	c.own = realm.Privileges{"/": {"Sys.Audit": true, "Group.Allocate": true, "Permissions.Modify": true}}
	c.groups, c.entries = []string{"others-authelia", "admins-other"}, slices.Clone(neighbours)
	target := aim(t, c, &fakeIssuer{}, spec())
	target.Access = access
	return c, target
}

func (c *cluster) keepsNeighbours(t *testing.T) {
	t.Helper()
	for _, e := range neighbours {
		if !slices.Contains(c.entries, e) {
			t.Errorf("%+v is gone", e)
		}
	}
}

func TestAccessIsAppliedReadBackAndKept(t *testing.T) {
	c, target := granting(t, realm.Access{"admins": {grant("/", "PVEAdmin")}, "dev": {grant("/vms", "PVEVMUser")}, "none": {}})
	c.groups = append(c.groups, "dev-authelia")
	c.entries = append(c.entries, entry("group", "dev-authelia", "/", "PVEAuditor"))
	planned := plan(t.Context(), target, reconcile.Options{})
	expect(t, planned, reconcile.Drift, realm.Update, "")
	if c.count(changeAccess) != 0 {
		t.Error("plan changes access")
	}
	got := apply(t.Context(), target, reconcile.Options{})
	expect(t, got, reconcile.Changed, realm.Update, "")
	want := []string{
		"+ group admins-authelia", "+ group none-authelia", "+ grant admins-authelia PVEAdmin on /",
		"+ grant dev-authelia PVEVMUser on /vms", "- grant dev-authelia PVEAuditor on /",
	}
	for _, r := range []reconcile.Result{planned, got} {
		var changes []string
		for _, change := range r.Access {
			changes = append(changes, change.String())
		}
		if !slices.Equal(changes, want) {
			t.Errorf("changes %q", changes)
		}
	}
	if status(got, check.ProxmoxAccess) != check.Pass || len(got.Changes) != 0 {
		t.Errorf("%v, %v", got.Checks, got.Changes)
	}
	c.keepsNeighbours(t)

	c.calls = nil
	expect(t, apply(t.Context(), target, reconcile.Options{}), reconcile.Unchanged, realm.None, "")
	if !slices.Equal(c.calls, []string{read, readAccess}) {
		t.Errorf("nothing to do costs %v", c.calls)
	}
	c.entries = append(c.entries, entry("group", "none-authelia", "/", "Administrator"))
	if found := verify(t.Context(), target); found.Outcome != reconcile.Unverified || status(found, check.ProxmoxAccess) != check.Fail {
		t.Errorf("a grant made by hand: %s", found.Outcome)
	}
	expect(t, apply(t.Context(), target, reconcile.Options{}), reconcile.Changed, realm.Update, "")
	c.keepsNeighbours(t)
}

// Without declared access, no request is spent on it.
func TestAccessThatIsNotDeclaredCostsNothing(t *testing.T) {
	c, target := granting(t, nil)
	apply(t.Context(), target, reconcile.Options{})
	if c.count(readAccess) != 0 {
		t.Errorf("calls %v", c.calls)
	}
}

func TestAccessIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	for title, tt := range map[string]struct {
		access realm.Access
		claim  bool
		code   check.Code
	}{
		"no such role":        {realm.Access{"admins": {grant("/", "Nobody")}}, true, check.UnknownRole},
		"without groups":      {realm.Access{"admins": {grant("/", "PVEAdmin")}}, false, check.NoGroupsClaim},
		"a group alone is ok": {realm.Access{"admins": {}}, false, ""},
	} {
		c, target := granting(t, tt.access)
		if !tt.claim {
			c.put(name, stored(without(realm.GroupsClaim)))
		}
		target.Realm = spec(set(realm.Comment, "new"))
		got := apply(t.Context(), target, reconcile.Options{})
		if (got.Err == nil) != (tt.code == "") || got.Err != nil && (check.CodeOf(got.Err) != tt.code || c.writes()+c.count(changeAccess) != 0) {
			t.Errorf("%s: %v after %v", title, got.Err, c.calls)
		}
	}
}

// If the token may not change access, the realm is kept all the same.
func TestAccessWithoutThePrivilege(t *testing.T) {
	access := realm.Access{"admins": {grant("/", "PVEAdmin")}, "others": {grant("/", "PVEAdmin")}}
	for title, tt := range map[string]struct {
		own    realm.Privileges
		lacks  string // what is missing
		access check.Status
	}{
		"no Group.Allocate":     {realm.Privileges{"/": {"Sys.Audit": true, "Permissions.Modify": true}}, "[Group.Allocate on /access/groups]", check.Fail},
		"no Permissions.Modify": {realm.Privileges{"/": {"Sys.Audit": true, "Group.Allocate": true}}, "[Permissions.Modify on /]", check.Fail},
		"grants are hidden":     {realm.Privileges{"/access/groups": {"Group.Allocate": true}}, "[Permissions.Modify on /]", check.Fail},
		"nothing is visible":    {realm.Privileges{}, "[Group.Allocate on /access/groups Permissions.Modify on /]", check.Skip},
	} {
		c, target := granting(t, access)
		c.own = tt.own
		target.Realm = spec(set(realm.Comment, "new"))
		got := apply(t.Context(), target, reconcile.Options{})
		expect(t, got, reconcile.Unverified, realm.Update, "")
		permissions, _ := check.Find(got.Checks, check.ProxmoxPermissions)
		if permissions.Status != check.Fail || permissions.Summary != "missing: "+tt.lacks ||
			c.count(update) != 1 || c.count(changeAccess) != 0 || len(got.Access) > 0 {
			t.Errorf("%s: %v after %v", title, got.Checks, c.calls)
		}
		if status(got, check.ProxmoxAccess) != tt.access {
			t.Errorf("%s: proxmox.access is %s", title, status(got, check.ProxmoxAccess))
		}
		again := apply(t.Context(), target, reconcile.Options{})
		expect(t, again, reconcile.Unverified, realm.None, "")
		if tt.access != check.Skip {
			continue
		}
		// What is not visible is no change.
		planned := plan(t.Context(), target, reconcile.Options{})
		expect(t, planned, reconcile.Unverified, realm.None, "")
		if len(got.Access)+len(planned.Access) > 0 || status(planned, check.ProxmoxPermissions) != check.Fail {
			t.Errorf("%s: %v, %v", title, got.Access, planned.Checks)
		}
	}
}

// A failure half-way leaves what was done, says what is left, and the next run makes the rest.
func TestAccessThatFailsHalfWay(t *testing.T) {
	access := realm.Access{"admins": {grant("/", "PVEAdmin"), grant("/vms", "PVEVMUser")}}
	for n := 1; n <= 3; n++ {
		c, target := granting(t, access)
		made := 0
		c.atCall = func(_ int, call string) {
			if call != changeAccess {
				return
			}
			if made++; made == n {
				c.script[changeAccess] = trouble{err: errDown}
			}
		}
		got := apply(t.Context(), target, reconcile.Options{})
		expect(t, got, reconcile.Failed, realm.Update, check.Unreachable)
		if !strings.Contains(got.Err.Error(), "not made: ") || len(got.Access) != 3 {
			t.Errorf("%v", got.Err)
		}
		c.script, c.atCall = map[string]trouble{}, nil
		again := apply(t.Context(), target, reconcile.Options{})
		expect(t, again, reconcile.Changed, realm.Update, "")
		if len(again.Access) != 3-(n-1) {
			t.Errorf("%d changes were left after %d", len(again.Access), n-1)
		}
		c.keepsNeighbours(t)
	}
}

func TestAccessThatDoesNotTake(t *testing.T) {
	c, target := granting(t, realm.Access{"others": {grant("/", "PVEAuditor")}})
	c.script[changeAccess] = trouble{never: true}
	expect(t, apply(t.Context(), target, reconcile.Options{}), reconcile.Failed, realm.Update, check.NotTaken)
}

func TestAccessIsInterruptedBetweenWrites(t *testing.T) {
	c, target := granting(t, realm.Access{"admins": {grant("/", "PVEAdmin")}})
	ctx, stop := context.WithCancelCause(t.Context())
	defer stop(nil)
	c.script[changeAccess] = trouble{after: func() { stop(check.Errorf(check.Interrupted, "stopped")) }}
	got := apply(ctx, target, reconcile.Options{})
	expect(t, got, reconcile.Failed, realm.Update, check.Interrupted)
	if c.count(changeAccess) != 1 || !slices.Contains(c.groups, "admins-authelia") {
		t.Errorf("calls %v", c.calls)
	}
}

func TestPowerfulGrantsAreSaid(t *testing.T) {
	_, target := granting(t, realm.Access{"admins": {grant("/", "Administrator")}})
	got := plan(t.Context(), target, reconcile.Options{})
	if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "as powerful as root: Administrator on / for the group admins-authelia") {
		t.Errorf("warnings %q", got.Warnings)
	}
}

func TestDeleteListsWhatStays(t *testing.T) {
	c, target := granting(t, nil)
	got := deletes(t.Context(), target)
	if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "others-authelia (PVEAdmin on /)") || strings.Contains(got.Warnings[0], "admins-other") {
		t.Errorf("warnings %q", got.Warnings)
	}
	c.keepsNeighbours(t)
}
