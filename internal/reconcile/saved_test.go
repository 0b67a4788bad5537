package reconcile_test

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/history"
	"proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// interrupted leaves a saved realm behind: a replace whose realms could not be created.
func (s *site) interrupted() (file string) {
	s.Helper()
	remove := s.refuseCreations()
	s.put(stored()).declares(otherClaim).apply(agreed)
	remove()
	kept := s.pending()
	if len(kept) != 1 || s.holds() != nil {
		s.Fatalf("%v, %v", kept, s.holds())
	}
	s.reset()
	return kept[0]
}

// refuseCreations makes Proxmox refuse to create realms until remove is called.
func (s *site) refuseCreations() (remove func()) {
	rule := refused
	rule.Method, rule.Path = requests[create].method, requests[create].path
	return s.pve.Inject(rule)
}

func TestRestore(t *testing.T) {
	other := stored(with(realm.ClientID, "else"))
	on := func(request string, rule pve.Rule) func(*site) { return func(s *site) { s.on(request, rule) } }
	holds := func(f fields) func(*site) { return func(s *site) { s.put(f) } }
	const changed, unchanged, failed = reconcile.Changed, reconcile.Unchanged, reconcile.Failed
	for _, tt := range []struct {
		name    string
		before  func(*site)
		outcome reconcile.Outcome
		action  realm.Action
		code    check.Code
		ends    fields
		kept    bool
	}{
		{"absent", func(*site) {}, changed, realm.Create, "", stored(), false},
		{"there and equal", holds(stored()), unchanged, realm.None, "", stored(), false},
		{"there and different", holds(other), reconcile.Refused, realm.Refuse, check.SavedRealm, other, true},
		{"there and as declared", holds(replaced()), unchanged, realm.None, "", replaced(), false},
		{"Proxmox cannot be read", on(read, broken), failed, realm.None, check.Unreachable, nil, true},
		{"the creation is refused", on(create, refused), failed, realm.Create, check.PermissionDenied, nil, true},
		{"the answer is lost, it took effect", on(create, lost), changed, realm.Create, "", stored(), false},
		{"the answer is lost, it took no effect", on("create#1", dropped), changed, realm.Create, "", stored(), false},
		{"the creation did not take", on(create, pretended), failed, realm.Create, check.NotTaken, nil, true},
		{"the read-back fails", on("read#2", broken), failed, realm.Create, check.Unreachable, stored(), true},
	} {
		bubble(t, tt.name, func(s *site) { // an equal realm is watched for a while
			s.interrupted()
			tt.before(s)
			got := s.restore()
			s.expect(got, tt.outcome, tt.action, tt.code)
			if !maps.Equal(s.holds(), tt.ends) || (len(s.pending()) == 1) != tt.kept || s.count(remove, update) != 0 || s.count(create) > 2 {
				s.Errorf("%v, %v after %v", s.holds(), s.pending(), s.calls())
			}
			if tt.code == check.SavedRealm && check.HintOf(got.Err) == "" {
				s.Error("no hint")
			}
		})
	}
}

// A DELETE that outlives the run which sent it takes effect while the restore looks on: the file is still there.
func TestRestoreOutlastsALateDelete(t *testing.T) {
	bubble(t, "later", func(s *site) {
		s.interrupted()
		s.put(stored())
		later(100*time.Second, func() { s.put(nil) })
		s.expect(s.restore(), reconcile.Changed, realm.Create, "")
		if !maps.Equal(s.holds(), stored()) || len(s.pending()) != 0 {
			t.Errorf("%v, %v", s.holds(), s.pending())
		}
	})
	for title, tt := range map[string]struct{ age, took time.Duration }{
		"never": {0, 150 * time.Second}, "a file of yesterday": {24 * time.Hour, 0},
	} {
		bubble(t, title, func(s *site) {
			s.interrupted()
			s.put(stored())
			time.Sleep(tt.age)
			got := s.restore()
			s.expect(got, reconcile.Unchanged, realm.None, "")
			if got.Duration != tt.took || len(s.pending()) != 0 {
				t.Errorf("watched for %s, %v", got.Duration, s.pending())
			}
		})
	}
	bubble(t, "interrupted", func(s *site) {
		s.interrupted()
		s.put(stored()).before[9] = s.stops(check.Interrupted)
		s.expect(s.restore(), reconcile.Failed, realm.None, check.Interrupted)
		if len(s.pending()) != 1 {
			t.Error("the file is gone")
		}
	})
}

// A file that is not whole, not ours or not for this cluster restores nothing and stays for people to look at.
func TestRestoreDistrustsTheFile(t *testing.T) {
	content := func(change func([]byte) []byte) func(string) error {
		return func(path string) error {
			data, err := os.ReadFile(path)
			return errors.Join(err, os.WriteFile(path, change(data), 0o600))
		}
	}
	rewrite := func(field string, value any) func(string) error {
		return content(func(data []byte) []byte {
			var saved map[string]any
			if err := json.Unmarshal(data, &saved); err != nil {
				t.Error(err)
			}
			saved[field] = value
			out, _ := json.Marshal(saved)
			return out
		})
	}
	for title, tt := range map[string]struct {
		spoil func(path string) error
		says  string
	}{
		"cut short":       {content(func(data []byte) []byte { return data[:len(data)/2] }), "is incomplete"},
		"empty":           {content(func([]byte) []byte { return nil }), "is incomplete"},
		"another cluster": {rewrite("endpoints", []string{"https://other.example.com:8006"}), "not of this target"},
		"no cluster":      {rewrite("endpoints", nil), "not of this target"},
		"another realm":   {rewrite("realm", "other"), "not of this target"},
		"another version": {rewrite("version", 2), "another release"},
		"no realm in it":  {rewrite("stored", map[string]any{}), "no realm"},
		"null in it":      {rewrite("stored", nil), "no realm"},
		"too large":       {content(func(data []byte) []byte { return append(data, strings.Repeat(" ", 1<<20)...) }), "was not written by this program"},
		"others' folder":  {func(path string) error { return os.Chmod(filepath.Dir(path), 0o777) }, "may be another user's"},
		"a symlink": {func(path string) error {
			moved := filepath.Join(filepath.Dir(path), "moved")
			return errors.Join(os.Rename(path, moved), os.Symlink(moved, path))
		}, ""},
	} {
		bubble(t, title, func(s *site) {
			path := s.interrupted()
			if err := tt.spoil(path); err != nil {
				s.Fatal(err)
			}
			got := s.restore()
			s.expect(got, reconcile.Refused, realm.Refuse, check.SavedRealm)
			said := got.Err.Error()
			if len(s.calls()) != 0 || !strings.Contains(said, tt.says) || !strings.Contains(said, path) || strings.Contains(said, oldKey) {
				s.Errorf("%v after %v", got.Err, s.calls())
			}
			if len(s.pending()) != 1 {
				s.Error("the file is gone")
			}
		})
	}
}

// One endpoint in common is enough: nodes are added to clusters and removed from them. Once a restore has begun to write, it
// finishes.
func TestRestoreKnowsTheClusterByOneEndpoint(t *testing.T) {
	alone(t, func(s *site) {
		s.interrupted()
		s.Proxmox.Endpoints = []config.Origin{"https://127.0.0.9:8006", node1}
		s.on(create, pve.Rule{Before: s.stops(check.Interrupted)})
		s.expect(s.restore(), reconcile.Changed, realm.Create, "")
		if !maps.Equal(s.holds(), stored()) || len(s.pending()) != 0 {
			t.Errorf("%v, %v", s.holds(), s.pending())
		}
	})
}

// A run that meets the saved realm of a replace says so; those that write refuse.
func TestRunsMeetASavedRealm(t *testing.T) {
	for title, run := range map[string]func(*site) reconcile.Result{
		"apply": func(s *site) reconcile.Result { return s.apply(agreed) }, "plan": func(s *site) reconcile.Result { return s.plan(agreed) }, "delete": (*site).delete,
	} {
		bubble(t, title, func(s *site) {
			path := s.interrupted()
			got := run(s)
			s.expect(got, reconcile.Refused, realm.Refuse, check.SavedRealm)
			if s.writes() != 0 || !strings.Contains(errorOf(got), path) || !strings.Contains(errorOf(got), "restore ") {
				s.Errorf("%v after %v", got.Err, s.calls())
			}
		})
	}
	bubble(t, "verify", func(s *site) {
		path := s.interrupted()
		got := s.verify()
		s.expect(got, reconcile.Unverified, realm.None, "")
		if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], path) || status(got, check.ProxmoxRealm) != check.Fail {
			s.Errorf("%q after %v", got.Warnings, s.calls())
		}
	})
	// Another realm's and another target's files are not ours.
	for title, other := range map[string]func(*site){
		"another target": func(s *site) { s.Proxmox.Endpoints = []config.Origin{"https://127.0.0.9:8006"} },
		"another realm":  func(s *site) { s.declares(func(spec *realm.Spec) { spec.Name = "other" }) },
	} {
		bubble(t, title, func(s *site) {
			s.interrupted()
			other(s)
			s.expect(s.apply(), reconcile.Changed, realm.Create, "")
		})
	}
}

// Delete saves the realm, and removes it. What it would do is foreseen.
func TestDelete(t *testing.T) {
	looks := []string{read, groups, acl, permissions, "GET /access/domains"} // what stays is named
	deletes := append(looks[:len(looks):len(looks)], remove, read)
	again := append(deletes[:len(deletes):len(deletes)], read)
	answered := refused
	answered.Process = true
	gone := pve.Rule{Status: 500, Reason: "domain '" + name + "' does not exist"}
	type rules map[string]pve.Rule
	const changed, failed = reconcile.Changed, reconcile.Failed
	for _, tt := range []struct {
		name    string
		begin   fields
		rules   rules
		outcome reconcile.Outcome
		action  realm.Action
		code    check.Code
		calls   []string
		ends    fields
		saved   bool
	}{
		{"there", stored(), nil, changed, realm.Delete, "", deletes, nil, true},
		{"absent", nil, nil, reconcile.Unchanged, realm.None, "", []string{read}, nil, false},
		{"another type", directory(), nil, reconcile.Refused, realm.Refuse, check.WrongType, []string{read}, directory(), false},
		{"cannot be read", stored(), rules{read: broken}, failed, "", check.Unreachable, []string{read}, stored(), false},
		{"refused by Proxmox", stored(), rules{remove: refused}, failed, realm.Delete, check.PermissionDenied, deletes, stored(), false},
		{"an error, though it took effect", stored(), rules{remove: answered}, changed, realm.Delete, "", again, nil, true},
		{"an error, and then Proxmox is gone", stored(), rules{remove: answered, "read#2": broken}, failed, realm.Delete, check.PermissionDenied, deletes, nil, true},
		{"does not exist, but exists", stored(), rules{remove: gone}, failed, realm.Delete, check.Conflict, deletes, stored(), false},
		{"did not take", stored(), rules{remove: pretended}, failed, realm.Delete, check.NotTaken, deletes, stored(), true},
		{"the read-back fails", stored(), rules{"read#2": broken}, failed, realm.Delete, check.Unreachable, deletes, nil, true},
		{"the answer is lost", stored(), rules{remove: lost}, changed, realm.Delete, "", again, nil, true},
		{"the answer is lost, and it is late", stored(), rules{remove: late(50 * time.Second)}, changed, realm.Delete, "", nil, nil, true},
		{"it is too late", stored(), rules{remove: late(90 * time.Second)}, failed, realm.Delete, check.ReplacePending, nil, stored(), true},
	} {
		bubble(t, tt.name, func(s *site) {
			s.misnamed().put(tt.begin)
			for request, rule := range tt.rules {
				s.on(request, rule)
			}
			got := s.delete()
			s.expect(got, tt.outcome, tt.action, tt.code)
			if tt.calls != nil {
				s.called(tt.calls...)
			}
			kept := s.saved()
			if (got.Saved != "") != tt.saved || (len(kept) == 1 && kept[0] == got.Saved) != tt.saved || len(s.pending()) != 0 ||
				!maps.Equal(s.holds(), tt.ends) || s.count(remove) > 1 || strings.Contains(errorOf(got), "restore") {
				s.Errorf("realm %v, saved %q, files %v; %s", s.holds(), got.Saved, kept, errorOf(got))
			}
			if !tt.saved {
				return
			}
			data, err := os.ReadFile(got.Saved)
			info, serr := os.Stat(got.Saved)
			if err != nil || serr != nil || info.Mode() != 0o600 || !strings.Contains(string(data), `"comment": "by hand"`) || len(got.Changes) != 7 {
				s.Errorf("%v, %v, %d changes: %s", err, serr, len(got.Changes), data)
			}
		})
	}
	for _, tt := range []struct {
		name    string
		begin   fields
		outcome reconcile.Outcome
		action  realm.Action
		code    check.Code
		calls   []string
	}{
		{"foreseen", stored(), reconcile.Drift, realm.Delete, "", append(looks[:len(looks):len(looks)], permissions)},
		{"foreseen, absent", nil, reconcile.Unchanged, realm.None, "", []string{read}},
		{"foreseen, another type", directory(), reconcile.Refused, realm.Refuse, check.WrongType, []string{read}},
	} {
		bubble(t, tt.name, func(s *site) {
			planned := s.put(tt.begin).planDelete()
			s.expect(planned, tt.outcome, tt.action, tt.code)
			s.called(tt.calls...)
			if deleted := s.delete(); len(planned.Changes) != len(deleted.Changes) || deleted.Action != planned.Action {
				s.Errorf("then: %s, %d changes, planned %d", deleted.Action, len(deleted.Changes), len(planned.Changes))
			}
		})
	}
	bubble(t, "built in", func(s *site) {
		s.declares(func(s *realm.Spec) { s.Name = "pve" })
		s.expect(s.delete(), reconcile.Refused, realm.Refuse, check.BuiltinRealm)
	})
	bubble(t, "no place for the file", func(s *site) {
		s.History = history.Open("")
		got := s.put(stored()).delete()
		s.expect(got, reconcile.Failed, realm.Delete, check.Config)
		if s.writes() != 0 || got.Saved != "" {
			t.Errorf("deleted without saving: %v; saved %q", s.calls(), got.Saved)
		}
	})
	bubble(t, "somebody else did", func(s *site) {
		s.put(stored()).on(remove, pve.Rule{Before: func() { s.put(nil) }})
		s.expect(s.delete(), reconcile.Unchanged, realm.None, "")
	})
}

// Proxmox keeps the groups of a deleted realm, and the grants of its groups and users. Those of a realm with a longer name are not
// among them.
func TestDeleteNamesWhatStays(t *testing.T) {
	alone(t, func(s *site) {
		s.put(stored()).putAs("x-"+name, stored())
		s.grants(
			pve.ACL{Path: "/", Type: "group", ID: "admins-" + name, Role: "PVEAdmin"}, pve.ACL{Path: "/", Type: "group", ID: "admins-x-" + name, Role: "PVEAdmin"},
			pve.ACL{Path: "/vms", Type: "user", ID: "jane@x-" + name, Role: "PVEVMUser"},
		)
		want := "these groups and grants stay, and apply again to a new realm of this name: admins-authelia (PVEAdmin on /), jane@authelia (PVEVMUser on /vms)"
		for _, got := range []reconcile.Result{s.planDelete(), s.delete()} {
			if !slices.Equal(got.Warnings, []string{want}) {
				t.Errorf("%q", got.Warnings)
			}
		}
	})
}

func TestDeleteIsInterruptedBeforeItBeginsAndNotAfterwards(t *testing.T) {
	const theDelete = 6
	for n := 1; n <= theDelete+1; n++ {
		alone(t, func(s *site) {
			s.put(stored()).before[n] = s.stops(check.Terminated)
			got := s.delete()
			if n >= theDelete {
				s.expect(got, reconcile.Changed, realm.Delete, "")
			} else if check.CodeOf(got.Err) != check.Terminated || s.holds() == nil || len(s.saved()) != 0 {
				t.Errorf("request %d: %v, %v, %v", n, got.Err, s.holds(), s.saved())
			}
		})
	}
}

// Deleted realms are kept for 30 days.
func TestPruneSaved(t *testing.T) {
	alone(t, func(s *site) {
		s.put(stored()).delete()
		s.interrupted()
		for day := 29; day <= 31; day += 2 {
			reconcile.PruneSaved(s.History.Dir(), time.Now().AddDate(0, 0, day))
			if want := map[int]int{29: 2, 31: 1}[day]; len(s.saved()) != want || len(s.pending()) != 1 { // that of a replace stays
				t.Errorf("after %d days: %v", day, s.saved())
			}
		}
	})
}

// Somebody names another file by mistake: nothing says that it may be removed.
func TestAnotherFileIsNoSavedRealm(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(path, []byte("root:x:0:0"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{path, filepath.Dir(path)} {
		_, err := reconcile.ReadSaved(file)
		if hint := check.HintOf(err); err == nil || strings.Contains(string(hint), "remove") {
			t.Errorf("%v, %s", err, hint)
		}
	}
}
