package reconcile_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

func grant(path, role string) realm.Grant {
	return realm.Grant{Path: path, Role: role, Propagate: true}
}

// grants adds entries to the access control list, and their groups.
func (s *site) grants(entries ...pve.ACL) {
	s.Helper()
	err := s.pve.Update(func(st *pve.State) {
		for _, e := range entries {
			e.Propagate = true
			if e.Type == "group" {
				st.Groups[e.ID] = pve.Group{}
			}
			st.ACL = append(st.ACL, e)
		}
	})
	if err != nil {
		s.Fatal(err)
	}
}

// neighbours are entries that no run may touch.
var neighbours = []pve.ACL{
	{Path: "/", Type: "user", ID: "auditor@pve", Role: "Administrator", Propagate: true},
	{Path: "/", Type: "group", ID: "others-" + name, Role: "PVEAdmin", Propagate: true},
	{Path: "/", Type: "group", ID: "admins-other", Role: "PVEAdmin", Propagate: true},
	{Path: "/vms", Type: "token", ID: "admin@pve!realm", Role: "PVEAuditor", Propagate: true},
}

// granting makes the configuration declare access, beside neighbours.
func (s *site) granting(access realm.Access) *site {
	s.put(stored(with(realm.GroupsClaim, "groups"))).grants(neighbours...)
	s.Access = access
	return s
}

// may gives the target credentials that hold privileges at paths, beside those for realms.
func (s *site) may(privileges map[string][]string) {
	err := s.pve.Update(func(st *pve.State) {
		for path, names := range privileges {
			role := "Test" + strings.ReplaceAll(path, "/", "-")
			st.Roles[role] = names
			for kind, id := range map[string]string{"user": "realmadm@pve", "token": "realmadm@pve!sep"} {
				st.ACL = append(st.ACL, pve.ACL{Path: path, Type: kind, ID: id, Role: role, Propagate: true})
			}
		}
	})
	if err != nil {
		s.Fatal(err)
	}
	s.as(pve.TokenPrivsepWithoutACL)
}

func (s *site) keepsNeighbours() {
	s.Helper()
	for _, e := range neighbours {
		if !slices.Contains(s.pve.State().ACL, e) {
			s.Errorf("%+v is gone", e)
		}
	}
}

// changes counts the writes of groups and grants.
func (s *site) changes() int { return s.count(addGroup, setGrant) }

func listed(changes []realm.AccessChange) (list []string) {
	for _, c := range changes {
		list = append(list, c.String())
	}
	return list
}

func TestAccessIsAppliedReadBackAndKept(t *testing.T) {
	alone(t, func(s *site) {
		s.granting(realm.Access{"admins": {grant("/", "PVEAdmin")}, "dev": {grant("/vms", "PVEVMUser")}, "none": {}})
		s.grants(pve.ACL{Path: "/", Type: "group", ID: "dev-" + name, Role: "PVEAuditor"})
		planned := s.plan()
		s.expect(planned, reconcile.Drift, realm.Update, "")
		if s.changes() != 0 {
			t.Error("plan changes access")
		}
		got := s.apply()
		s.expect(got, reconcile.Changed, realm.Update, "")
		want := []string{
			"+ group admins-authelia", "+ group none-authelia", "+ grant admins-authelia PVEAdmin on /",
			"+ grant dev-authelia PVEVMUser on /vms", "- grant dev-authelia PVEAuditor on /",
		}
		if !slices.Equal(listed(planned.Access), want) || !slices.Equal(listed(got.Access), want) || !slices.Equal(listed(got.Made), want) {
			t.Errorf("planned %q, changes %q, made %q", planned.Access, got.Access, got.Made)
		}
		if status(got, check.ProxmoxAccess) != check.Pass || len(got.Changes) != 0 {
			t.Errorf("%v, %v", got.Checks, got.Changes)
		}
		s.keepsNeighbours()
		s.reset()
		s.expect(s.apply(), reconcile.Unchanged, realm.None, "")
		s.called(read, groups, acl, permissions)
		s.grants(pve.ACL{Path: "/", Type: "group", ID: "none-" + name, Role: "Administrator"})
		if found := s.verify(); found.Outcome != reconcile.Unverified || status(found, check.ProxmoxAccess) != check.Fail {
			t.Errorf("a grant made by hand: %s", found.Outcome)
		}
		s.expect(s.apply(), reconcile.Changed, realm.Update, "")
		s.keepsNeighbours()
	})
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
		bubble(t, title, func(s *site) {
			if s.granting(tt.access); !tt.claim {
				s.put(stored())
			}
			got := s.declares(set(realm.Comment, "new")).apply()
			if (got.Err == nil) != (tt.code == "") || got.Err != nil && (check.CodeOf(got.Err) != tt.code || s.writes() != 0) {
				s.Errorf("%v after %v", got.Err, s.calls())
			}
		})
	}
}

// If the token may not change access, the realm is kept all the same.
func TestAccessWithoutThePrivilege(t *testing.T) {
	for title, tt := range map[string]struct {
		own    map[string][]string
		lacks  []string
		access check.Status
	}{
		"no Group.Allocate":     {map[string][]string{"/": {"Sys.Audit", "Permissions.Modify"}}, []string{"Group.Allocate on /access/groups"}, check.Fail},
		"no Permissions.Modify": {map[string][]string{"/": {"Sys.Audit", "Group.Allocate"}}, []string{"Permissions.Modify on /"}, check.Fail},
		"grants are hidden":     {map[string][]string{"/access/groups": {"Group.Allocate"}}, []string{"Permissions.Modify on /"}, check.Fail},
		"nothing is visible":    {nil, []string{"Group.Allocate on /access/groups", "Permissions.Modify on /"}, check.Skip},
	} {
		bubble(t, title, func(s *site) {
			s.granting(realm.Access{"admins": {grant("/", "PVEAdmin")}, "others": {grant("/", "PVEAdmin")}})
			s.may(map[string][]string{"/access/realm": {"Realm.Allocate"}})
			if tt.own != nil {
				s.may(tt.own)
			}
			got := s.declares(set(realm.Comment, "new")).apply()
			s.expect(got, reconcile.Unverified, realm.Update, "")
			permitted, _ := check.Find(got.Checks, check.ProxmoxPermissions)
			for _, privilege := range tt.lacks {
				if !strings.Contains(permitted.Evidence, privilege) {
					s.Errorf("%s is missing in %+v", privilege, permitted)
				}
			}
			if permitted.Status != check.Fail || s.count(update) != 1 || s.changes() != 0 || len(got.Access) > 0 || status(got, check.ProxmoxAccess) != tt.access {
				s.Errorf("%v after %v", got.Checks, s.calls())
			}
			s.expect(s.apply(), reconcile.Unverified, realm.None, "")
			if tt.access != check.Skip {
				return
			}
			planned := s.plan() // what is not visible is no change
			s.expect(planned, reconcile.Unverified, realm.None, "")
			if len(planned.Access) > 0 || status(planned, check.ProxmoxPermissions) != check.Fail {
				s.Errorf("%v, %v", planned.Access, planned.Checks)
			}
		})
	}
}

// A failure half-way leaves what was done, says what is left, and the next run makes the rest. An addition that Proxmox refuses
// holds back no removal.
func TestAccessThatFailsHalfWay(t *testing.T) {
	for made, request := range []string{addGroup, "grant#1", "grant#2"} {
		bubble(t, request, func(s *site) {
			s.granting(realm.Access{"admins": {grant("/", "PVEAdmin"), grant("/vms", "PVEVMUser")}}).on(request, dropped)
			got := s.apply()
			s.expect(got, reconcile.Failed, realm.Update, check.Unreachable)
			if !strings.Contains(got.Err.Error(), "not made: ") || len(got.Access) != 3 || len(got.Made) != made {
				s.Errorf("%v, %v", got.Err, got.Made)
			}
			s.on(request, pve.Rule{})
			again := s.apply()
			s.expect(again, reconcile.Changed, realm.Update, "")
			if len(again.Access) != 3-made {
				s.Errorf("%d changes were left after %d", len(again.Access), made)
			}
			s.keepsNeighbours()
		})
	}
	bubble(t, "refused", func(s *site) {
		s.granting(realm.Access{"others": {grant("/vms", "PVEVMUser")}}).on("grant#1", refused)
		got := s.apply()
		s.expect(got, reconcile.Failed, realm.Update, check.PermissionDenied)
		if want := []string{"- grant others-authelia PVEAdmin on /"}; !slices.Equal(listed(got.Made), want) {
			t.Errorf("%v", got.Made)
		}
	})
}

func TestAccessThatDoesNotTake(t *testing.T) {
	alone(t, func(s *site) {
		s.granting(realm.Access{"others": {grant("/", "PVEAuditor")}}).on(setGrant, pretended)
		s.expect(s.apply(), reconcile.Failed, realm.Update, check.NotTaken)
	})
}

func TestAccessIsInterruptedBetweenWrites(t *testing.T) {
	alone(t, func(s *site) {
		s.granting(realm.Access{"admins": {grant("/", "PVEAdmin")}}).on(addGroup, pve.Rule{After: s.stops(check.Interrupted)})
		s.expect(s.apply(), reconcile.Failed, realm.Update, check.Interrupted)
		if made := slices.Collect(maps.Keys(s.pve.State().Groups)); s.changes() != 1 || !slices.Contains(made, "admins-authelia") {
			t.Errorf("%v, groups %v", s.calls(), made)
		}
	})
}

func TestPowerfulGrantsAreSaid(t *testing.T) {
	alone(t, func(s *site) {
		got := s.granting(realm.Access{"admins": {grant("/", "Administrator")}}).plan()
		if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "as powerful as root: Administrator on / for the group admins-authelia") {
			t.Errorf("warnings %q", got.Warnings)
		}
	})
}
