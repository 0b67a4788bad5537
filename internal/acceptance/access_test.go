//go:build acceptance

package acceptance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// entry is one entry of the access control list.
type entry struct {
	Path, Type, UGID, RoleID string
	Propagate                int
}

// grants returns a configuration that declares access, with the token of root unless s names another one.
func (w *world) grants(access object, s setting) string {
	w.Helper()
	if earlier(w.version(), "8.4") {
		w.Skip("this Proxmox VE has no groups claim")
	}
	if s.token == "" {
		s.token = "LAB_TOKEN_ROOT"
	}
	if s.realm == nil {
		s.realm = object{"groups_claim": "groups", "scopes": []string{"openid", "profile", "groups"}}
	}
	s.more = object{"access": access}
	return w.config(s)
}

// group returns what Proxmox calls a group of the test's realm, and removes it after the test.
func (w *world) group(name string) string {
	w.Helper()
	group := name + "-" + w.realm
	w.Cleanup(func() {
		if w.api(http.MethodGet, "/access/groups/"+group, nil).status == http.StatusOK {
			w.must(w.api(http.MethodDelete, "/access/groups/"+group, nil))
		}
	})
	return group
}

// entries returns the access control list, sorted: what names one of the groups, and the rest. Proxmox keeps no order.
func (w *world) entries(groups ...string) (ours, rest []entry) {
	w.Helper()
	var all []entry
	if err := json.Unmarshal(w.must(w.api(http.MethodGet, "/access/acl", nil)).data, &all); err != nil {
		w.Fatal(err)
	}
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	for _, e := range all {
		if e.Type == "group" && slices.Contains(groups, e.UGID) {
			ours = append(ours, e)
		} else {
			rest = append(rest, e)
		}
	}
	return ours, rest
}

// hold compares the entries of the groups with what should be there, in any order.
func (w *world) hold(groups []string, want ...entry) {
	w.Helper()
	have, _ := w.entries(groups...)
	missing := slices.DeleteFunc(slices.Clone(want), func(e entry) bool { return slices.Contains(have, e) })
	if len(missing) > 0 || len(have) != len(want) {
		w.Errorf("the entries are %v, not %v", have, want)
	}
}

// edit changes the access control list as somebody else would.
func (w *world) edit(params object) {
	w.Helper()
	w.must(w.api(http.MethodPut, "/access/acl", params))
}

func TestAccessIsGrantedRepairedAndRevoked(t *testing.T) {
	w := begin(t)
	admins, dev, others := w.group("admins"), w.group("dev"), w.group("others")
	ours := []string{admins, dev}
	config := w.grants(object{
		"admins": []object{{"path": "/vms", "role": "PVEVMAdmin"}},
		"dev":    []object{{"path": "/storage/local/", "role": "PVEDatastoreUser", "propagate": false}, {"path": "/nodes", "role": "PVEAuditor"}},
	}, setting{})
	w.must(w.api(http.MethodPost, "/access/groups", object{"groupid": others}))
	w.edit(object{"path": "/vms", "groups": others, "roles": "PVEAuditor"})
	_, neighbours := w.entries(ours...)

	o := w.run(10, config, "plan", "--exit-code")
	w.hold(ours)
	changes := o.report.Targets[0].Changes
	if last := changes[len(changes)-1]; last.Kind != "grant" || last.Op != "set" || last.Group != dev || last.Path != "/nodes" && last.Path != "/storage/local" {
		t.Errorf("the plan ends with %+v", last)
	}
	o = w.run(0, config, "apply")
	if target := o.report.Targets[0]; target.Outcome != "changed" || target.Action != "create" || len(target.Changes) != len(changes) {
		t.Errorf("the first apply says %s, %s, %d changes", target.Outcome, target.Action, len(target.Changes))
	}
	declared := []entry{
		{"/vms", "group", admins, "PVEVMAdmin", 1}, {"/storage/local", "group", dev, "PVEDatastoreUser", 0}, {"/nodes", "group", dev, "PVEAuditor", 1},
	}
	w.hold(ours, declared...)
	if o := w.run(0, config, "apply"); o.report.Outcome != "unchanged" || len(o.report.Targets[0].Changes) > 0 {
		t.Errorf("the second apply says %s: %v", o.report.Outcome, o.report.Targets[0].Changes)
	}
	w.run(0, config, "plan", "--exit-code")
	if status := w.status(w.run(0, config, "verify"), "proxmox.access"); status != "pass" {
		t.Errorf("proxmox.access: %s", status)
	}

	// Somebody takes a grant away, changes one, and adds one.
	w.edit(object{"path": "/vms", "groups": admins, "roles": "PVEVMAdmin", "delete": 1})
	w.edit(object{"path": "/storage/local", "groups": dev, "roles": "PVEDatastoreUser", "propagate": 1})
	w.edit(object{"path": "/pool", "groups": dev, "roles": "PVEPoolUser"})
	if status := w.status(w.run(11, config, "verify"), "proxmox.access"); status != "fail" {
		t.Errorf("proxmox.access: %s", status)
	}
	o = w.run(0, config, "apply")
	if target := o.report.Targets[0]; target.Outcome != "changed" || len(target.Changes) != 3 {
		t.Errorf("the repair says %s: %v", target.Outcome, target.Changes)
	}
	w.hold(ours, declared...)

	// What is no longer declared vanishes. A group that is no longer named stays as it is.
	w.run(0, w.grants(object{"dev": []object{}}, setting{}), "apply")
	w.hold(ours, declared[0])
	if _, now := w.entries(ours...); !slices.Equal(now, neighbours) {
		t.Errorf("the neighbours are %v, and were %v", now, neighbours)
	}

	// The realm goes alone.
	o = w.run(0, config, "delete", w.realm, "--yes")
	if warnings := strings.Join(o.report.Targets[0].Warnings, "; "); !strings.Contains(warnings, admins) || !strings.Contains(warnings, others) {
		t.Errorf("the warnings are %q", warnings)
	}
	w.hold(ours, declared[0])
}

func TestAccessIsExported(t *testing.T) {
	w := begin(t)
	admins := w.group("admins")
	config := w.grants(object{"admins": []object{{"path": "/vms", "role": "PVEVMUser", "propagate": false}}}, setting{})
	w.run(0, config, "apply")
	if o := w.plainly(0, "-c", config, "export", w.realm); !strings.Contains(o.stdout, "admins: [{path: /vms, role: PVEVMUser, propagate: false}]") {
		t.Errorf("exported:\n%s", o.stdout)
	}
	w.hold([]string{admins}, entry{"/vms", "group", admins, "PVEVMUser", 0})
}

func TestAccessIsRefused(t *testing.T) {
	w := begin(t)
	group := w.group("admins")
	for code, config := range map[string]string{
		"unknown-role":    w.grants(object{"admins": []object{{"path": "/vms", "role": "NoSuchRole"}}}, setting{}),
		"no-groups-claim": w.grants(object{"admins": []object{{"path": "/vms", "role": "PVEVMUser"}}}, setting{realm: object{"comment": "no claim"}}),
	} {
		o := w.run(12, config, "apply")
		if target := o.report.Targets[0]; target.Outcome != "refused" || target.Error == nil || target.Error.Code != code || target.Error.Hint == "" {
			t.Errorf("%s: %s, %+v", code, target.Outcome, target.Error)
		}
	}
	if _, exists := w.stored(w.realm); exists {
		t.Error("the realm was created")
	}
	w.hold([]string{group})
}

func TestAccessWithoutThePrivilege(t *testing.T) {
	w := begin(t)
	admins := w.group("admins")
	access := object{"admins": []object{{"path": "/vms", "role": "PVEVMUser"}}}
	o := w.run(11, w.grants(access, setting{token: "LAB_TOKEN_REALM_ALLOCATE"}), "apply")
	if status := w.status(o, "proxmox.permissions"); status != "fail" {
		t.Errorf("proxmox.permissions: %s", status)
	}
	for _, c := range o.report.Targets[0].Checks {
		if c.ID == "proxmox.permissions" && !strings.Contains(c.Hint, "pveum acl modify /vms --tokens") {
			t.Errorf("the hint is %s", c.Hint)
		}
	}
	w.holds(w.realm, object{"groups-claim": "groups"})
	w.hold([]string{admins})

	// The same grants, made by somebody else, are not taken for absent.
	w.run(0, w.grants(access, setting{}), "apply")
	o = w.run(11, w.grants(access, setting{token: "LAB_TOKEN_REALM_ALLOCATE"}), "plan", "--exit-code") // for want of privileges
	if changes := o.report.Targets[0].Changes; len(changes) > 0 {
		t.Errorf("what is not visible is planned: %v", changes)
	}
}

// Somebody else keeps changing grants on the same paths, while several agents repair theirs.
func TestAccessAmidOtherEdits(t *testing.T) {
	w := begin(t)
	admins, others := w.group("admins"), w.group("others")
	w.must(w.api(http.MethodPost, "/access/groups", object{"groupid": others}))
	w.run(0, w.grants(object{"admins": []object{}}, setting{}), "apply")
	stop := make(chan struct{})
	var writers, agents sync.WaitGroup
	writers.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				w.api(http.MethodPut, "/access/acl", object{"path": "/vms", "groups": others, "roles": "PVEVMUser", "delete": i % 2})
				w.api(http.MethodPut, "/access/acl", object{"path": "/vms", "groups": admins, "roles": "PVEAuditor", "delete": i % 2})
			}
		}
	})
	config := make([]string, 3)
	for i := range config {
		config[i] = w.grants(object{"admins": []object{{"path": "/vms", "role": "PVEVMUser"}, {"path": "/nodes", "role": "PVEAuditor"}}}, setting{})
	}
	for i := range config {
		agents.Go(func() { launch(t, "-c", config[i], "-o", "json", "apply") })
	}
	agents.Wait()
	close(stop)
	writers.Wait()
	w.edit(object{"path": "/vms", "groups": others, "roles": "PVEVMUser"})
	w.run(0, config[0], "apply")
	w.hold([]string{admins}, entry{"/vms", "group", admins, "PVEVMUser", 1}, entry{"/nodes", "group", admins, "PVEAuditor", 1})
	w.hold([]string{others}, entry{"/vms", "group", others, "PVEVMUser", 1})
}
