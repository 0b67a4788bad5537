package reconcile_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/history"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// interrupted leaves a saved realm behind: a replace whose realms could not be created.
func interrupted(t *testing.T) (*cluster, aimed, string) {
	t.Helper()
	c := newCluster(t).put(name, stored())
	c.script[create] = trouble{err: errDown}
	target := aim(t, c, &fakeIssuer{}, otherClaim)
	apply(t.Context(), target, agreed)
	kept := pending(t, target)
	if len(kept) != 1 || c.realms[name] != nil {
		t.Fatalf("%v, %v", kept, c.realms[name])
	}
	c.script, c.calls = map[string]trouble{}, nil
	return c, target, kept[0]
}

func TestRestore(t *testing.T) {
	for _, tt := range []struct {
		name    string
		before  func(*cluster)
		outcome reconcile.Outcome
		action  realm.Action
		code    check.Code
		ends    fields
		kept    bool
	}{
		{"absent", func(*cluster) {}, reconcile.Changed, realm.Create, "", stored(), false},
		{"there and equal", func(c *cluster) { c.put(name, stored()) }, reconcile.Unchanged, realm.None, "", stored(), false},
		{"there and different", func(c *cluster) { c.put(name, with2(stored(), "client-id", "else")) }, reconcile.Refused, realm.Refuse, check.SavedRealm, with2(stored(), "client-id", "else"), true},
		{"there and as declared", func(c *cluster) { c.put(name, replaced()) }, reconcile.Unchanged, realm.None, "", replaced(), false},
		{"there, and only an unknown property differs", func(c *cluster) { c.put(name, with2(stored(), "future", "else")) }, reconcile.Refused, realm.Refuse, check.SavedRealm, with2(stored(), "future", "else"), true},
		{"Proxmox cannot be read", func(c *cluster) { c.script[read] = trouble{err: errDown} }, reconcile.Failed, realm.None, check.Unreachable, nil, true},
		{"the creation is refused", func(c *cluster) { c.script[create] = trouble{err: errPermission} }, reconcile.Failed, realm.Create, check.PermissionDenied, nil, true},
		{"the answer is lost, it took effect", func(c *cluster) { c.script[create] = trouble{lost: true} }, reconcile.Changed, realm.Create, "", stored(), false},
		{"the answer is lost, it took no effect", func(c *cluster) { c.script["create#1"] = trouble{lost: true, never: true} }, reconcile.Changed, realm.Create, "", stored(), false},
		{"the creation did not take", func(c *cluster) { c.script[create] = trouble{never: true} }, reconcile.Failed, realm.Create, check.NotTaken, nil, true},
		{"the read-back fails", func(c *cluster) { c.script["read#2"] = trouble{err: errDown} }, reconcile.Failed, realm.Create, check.Unreachable, stored(), true},
	} {
		inBubble(t, tt.name, func(t *testing.T) { // an equal realm is watched for a while
			c, target, _ := interrupted(t)
			tt.before(c)
			got := restores(t.Context(), t, target)
			expect(t, got, tt.outcome, tt.action, tt.code)
			if !equal(c.realms[name], tt.ends) || (len(pending(t, target)) == 1) != tt.kept {
				t.Errorf("%v, %v", c.realms[name], pending(t, target))
			}
			if c.count(remove, update) != 0 || c.count(create) > 2 {
				t.Errorf("calls %v", c.calls)
			}
			if tt.code == check.SavedRealm && check.HintOf(got.Err).For(check.Names{}) == "" {
				t.Error("no hint")
			}
		})
	}
}

// A DELETE that outlives the run which sent it takes effect while the restore looks on: the file is still there.
func TestRestoreOutlastsALateDelete(t *testing.T) {
	inBubble(t, "later", func(t *testing.T) {
		c, target, _ := interrupted(t)
		c.put(name, stored())
		c.script["read#100"] = trouble{before: func() { delete(c.realms, name) }}
		expect(t, restores(t.Context(), t, target), reconcile.Changed, realm.Create, "")
		if !equal(c.realms[name], stored()) || len(pending(t, target)) != 0 {
			t.Errorf("%v, %v", c.realms[name], pending(t, target))
		}
	})
	inBubble(t, "never", func(t *testing.T) {
		c, target, _ := interrupted(t)
		c.put(name, stored())
		began := time.Now()
		expect(t, restores(t.Context(), t, target), reconcile.Unchanged, realm.None, "")
		if took := time.Since(began); took != 150*time.Second || len(pending(t, target)) != 0 {
			t.Errorf("watched for %s, %v", took, pending(t, target))
		}
	})
	inBubble(t, "a file of yesterday", func(t *testing.T) {
		c, target, _ := interrupted(t)
		c.put(name, stored())
		time.Sleep(24 * time.Hour)
		began := time.Now()
		expect(t, restores(t.Context(), t, target), reconcile.Unchanged, realm.None, "")
		if took := time.Since(began); took != 0 {
			t.Errorf("watched for %s", took)
		}
	})
	inBubble(t, "interrupted", func(t *testing.T) {
		c, target, _ := interrupted(t)
		c.put(name, stored())
		ctx, cancel := context.WithCancelCause(t.Context())
		c.script["read#9"] = trouble{before: func() { cancel(check.Errorf(check.Interrupted, "interrupted")) }}
		expect(t, restores(ctx, t, target), reconcile.Failed, realm.None, check.Interrupted)
		if len(pending(t, target)) != 1 {
			t.Error("the file is gone")
		}
	})
}

// inBubble is t.Run where time passes at once.
func inBubble(t *testing.T, name string, f func(*testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// A file that is not whole, not ours or not for this cluster restores nothing and stays for people to look at.
func TestRestoreDistrustsTheFile(t *testing.T) {
	rewrite := func(field string, value any) func([]byte) []byte {
		return func(data []byte) []byte {
			var content map[string]any
			if err := json.Unmarshal(data, &content); err != nil {
				panic(err)
			}
			content[field] = value
			out, err := json.Marshal(content)
			if err != nil {
				panic(err)
			}
			return out
		}
	}
	for title, tt := range map[string]struct {
		spoil func([]byte) []byte
		says  string
	}{
		"cut short":       {func(data []byte) []byte { return data[:len(data)/2] }, "is incomplete"},
		"empty":           {func([]byte) []byte { return nil }, "is incomplete"},
		"another cluster": {rewrite("endpoints", []string{"https://other.example.com:8006"}), "not of this target"},
		"no cluster":      {rewrite("endpoints", nil), "not of this target"},
		"another realm":   {rewrite("realm", "other"), "not of this target"},
		"another version": {rewrite("version", 2), "another release"},
		"no realm in it":  {rewrite("stored", map[string]any{}), "no realm"},
		"null in it":      {rewrite("stored", nil), "no realm"},
		"too large":       {func(data []byte) []byte { return append(data, strings.Repeat(" ", 1<<20)...) }, "was not written by this program"},
	} {
		t.Run(title, func(t *testing.T) {
			c, target, path := interrupted(t)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, tt.spoil(data), 0o600); err != nil {
				t.Fatal(err)
			}
			got := restores(t.Context(), t, target)
			expect(t, got, reconcile.Refused, realm.Refuse, check.SavedRealm)
			if len(c.calls) != 0 || !strings.Contains(got.Err.Error(), tt.says) || !strings.Contains(got.Err.Error(), path) || strings.Contains(got.Err.Error(), oldKey) {
				t.Errorf("%v after %v", got.Err, c.calls)
			}
			if len(pending(t, target)) != 1 {
				t.Error("the file is gone")
			}
		})
	}
	t.Run("a symlink", func(t *testing.T) {
		c, target, path := interrupted(t)
		moved := filepath.Join(t.TempDir(), "moved")
		if err := os.Rename(path, moved); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(moved, path); err != nil {
			t.Fatal(err)
		}
		expect(t, restores(t.Context(), t, target), reconcile.Refused, realm.Refuse, check.SavedRealm)
		if len(c.calls) != 0 {
			t.Errorf("%v", c.calls)
		}
	})
}

// One endpoint in common is enough: nodes are added to clusters and removed from them.
func TestRestoreKnowsTheClusterByOneEndpoint(t *testing.T) {
	c, target, _ := interrupted(t)
	target.Proxmox.Endpoints = []config.Origin{"https://pve9.example.com:8006", "https://pve1.example.com:8006"}
	expect(t, restores(t.Context(), t, target), reconcile.Changed, realm.Create, "")
	if !equal(c.realms[name], stored()) {
		t.Errorf("%v", c.realms[name])
	}
}

// Once a restore has begun to write, it finishes.
func TestRestoreIsNotInterrupted(t *testing.T) {
	c, target, _ := interrupted(t)
	ctx, stop := context.WithCancelCause(t.Context())
	c.script[create] = trouble{before: func() { stop(check.Errorf(check.Interrupted, "interrupted")) }}
	expect(t, restores(ctx, t, target), reconcile.Changed, realm.Create, "")
	if len(pending(t, target)) != 0 || !equal(c.realms[name], stored()) {
		t.Errorf("%v", c.realms[name])
	}
}

// A run that meets the saved realm of a replace says so; those that write refuse.
func TestRunsMeetASavedRealm(t *testing.T) {
	for title, run := range map[string]func(context.Context, aimed) reconcile.Result{
		"apply":  func(ctx context.Context, t aimed) reconcile.Result { return apply(ctx, t, agreed) },
		"plan":   func(ctx context.Context, t aimed) reconcile.Result { return plan(ctx, t, agreed) },
		"delete": deletes,
	} {
		c, target, path := interrupted(t)
		got := run(t.Context(), target)
		expect(t, got, reconcile.Refused, realm.Refuse, check.SavedRealm)
		if c.writes() != 0 || !strings.Contains(got.Err.Error(), path) || !strings.Contains(check.HintOf(got.Err).For(check.Names{}), "restore ") {
			t.Errorf("%s: %v after %v", title, got.Err, c.calls)
		}
	}
	c, target, path := interrupted(t)
	got := verify(t.Context(), target)
	expect(t, got, reconcile.Unverified, realm.None, "")
	if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], path) || status(got, check.ProxmoxRealm) != check.Fail {
		t.Errorf("%q after %v", got.Warnings, c.calls)
	}
	// Another realm's and another target's files are not ours.
	for _, other := range []func(*aimed){
		func(t *aimed) { t.Proxmox.Endpoints = []config.Origin{"https://berlin.example.com:8006"} },
		func(t *aimed) { t.Realm.Name = "other" },
	} {
		target := target
		other(&target)
		target.Realm = spec(func(s *realm.Spec) { s.Name = target.Realm.Name })
		expect(t, apply(t.Context(), target, reconcile.Options{NoGate: true}), reconcile.Changed, realm.Create, "")
		c.put(name, nil)
	}
}

func TestDelete(t *testing.T) {
	for _, tt := range []struct {
		name    string
		begin   fields
		script  map[string]trouble
		outcome reconcile.Outcome
		action  realm.Action
		code    check.Code
		calls   []string
		ends    fields
		saved   bool
	}{
		{"there", stored(), nil, reconcile.Changed, realm.Delete, "", []string{read, readAccess, remove, read}, nil, true},
		{"absent", nil, nil, reconcile.Unchanged, realm.None, "", []string{read}, nil, false},
		{"another type", fields{"type": "ldap"}, nil, reconcile.Refused, realm.Refuse, check.WrongType, []string{read}, fields{"type": "ldap"}, false},
		{"cannot be read", stored(), map[string]trouble{read: {err: errDown}}, reconcile.Failed, "", check.Unreachable, []string{read}, stored(), false},
		{"refused by Proxmox", stored(), map[string]trouble{remove: {err: errPermission}}, reconcile.Failed, realm.Delete, check.PermissionDenied, []string{read, readAccess, remove, read}, stored(), false},
		{"an error, though it took effect", stored(), map[string]trouble{remove: {err: errPermission, effect: true}}, reconcile.Changed, realm.Delete, "", []string{read, readAccess, remove, read}, nil, true},
		{"an error, and then Proxmox is gone", stored(), map[string]trouble{remove: {err: errPermission, effect: true}, "read#2": {err: errDown}}, reconcile.Failed, realm.Delete, check.PermissionDenied, []string{read, readAccess, remove, read}, nil, true},
		{"somebody was faster", stored(), map[string]trouble{remove: {err: conflict("gone"), before: nil}}, reconcile.Failed, realm.Delete, check.Conflict, []string{read, readAccess, remove, read}, stored(), false},
		{"did not take", stored(), map[string]trouble{remove: {never: true}}, reconcile.Failed, realm.Delete, check.NotTaken, []string{read, readAccess, remove, read}, stored(), true},
		{"the read-back fails", stored(), map[string]trouble{"read#2": {err: errDown}}, reconcile.Failed, realm.Delete, check.Unreachable, []string{read, readAccess, remove, read}, nil, true},
		{"the answer is lost", stored(), map[string]trouble{remove: {lost: true}}, reconcile.Changed, realm.Delete, "", []string{read, readAccess, remove, read}, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster(t)
			if tt.begin != nil {
				c.put(name, tt.begin)
			}
			if tt.script != nil {
				c.script = tt.script
			}
			target := aim(t, c, &fakeIssuer{finds: broken}, spec())
			got := deletes(t.Context(), target)
			expect(t, got, tt.outcome, tt.action, tt.code)
			if !slices.Equal(c.calls, tt.calls) || !equal(c.realms[name], tt.ends) {
				t.Errorf("calls %v, realm %v", c.calls, c.realms[name])
			}
			if kept := files(t, target); (got.Saved != "") != tt.saved || (len(kept) == 1 && kept[0] == got.Saved) != tt.saved || len(pending(t, target)) != 0 {
				t.Errorf("saved %q, files %v", got.Saved, kept)
			}
			if !tt.saved {
				return
			}
			data, err := os.ReadFile(got.Saved)
			info, serr := os.Stat(got.Saved)
			if err != nil || serr != nil || info.Mode() != 0o600 || !strings.Contains(string(data), `"future": "kept"`) || len(got.Changes) != 8-1 {
				t.Errorf("%v, %v, %d changes: %s", err, serr, len(got.Changes), data)
			}
		})
	}
	c := newCluster(t)
	target := aim(t, c, &fakeIssuer{}, spec(func(s *realm.Spec) { s.Name = "pve" }))
	expect(t, deletes(t.Context(), target), reconcile.Refused, realm.Refuse, check.BuiltinRealm)
	c.put(name, stored())
	target = aim(t, c, &fakeIssuer{}, spec())
	target.History = history.Open("")
	got := deletes(t.Context(), target)
	expect(t, got, reconcile.Failed, realm.Delete, check.Config)
	if c.writes() != 0 || got.Saved != "" {
		t.Errorf("deleted without saving: %v; saved %q", c.calls, got.Saved)
	}
}

// Proxmox keeps the groups of a deleted realm, and the grants of its groups and users. Those of a realm with a longer name are not
// among them.
func TestDeleteNamesWhatStays(t *testing.T) {
	c := newCluster(t).put(name, stored()).put("x-"+name, stored())
	c.groups = []string{"admins-" + name, "admins-x-" + name}
	c.entries = []realm.Entry{
		{Path: "/", Kind: "group", ID: "admins-" + name, Role: "PVEAdmin"},
		{Path: "/", Kind: "group", ID: "admins-x-" + name, Role: "PVEAdmin"},
		{Path: "/vms", Kind: "user", ID: "jane@" + name, Role: "PVEVMUser"},
		{Path: "/vms", Kind: "user", ID: "jane@x-" + name, Role: "PVEVMUser"},
	}
	c.own = realm.Privileges{"/": {"Sys.Audit": true}}
	want := "these groups and grants stay, and apply again to a new realm of this name: admins-authelia (PVEAdmin on /), jane@authelia (PVEVMUser on /vms)"
	if got := planDelete(t.Context(), aim(t, c, nil, spec())); !slices.Equal(got.Warnings, []string{want}) {
		t.Errorf("%q", got.Warnings)
	}
}

func TestDeleteThatSomebodyElseDid(t *testing.T) {
	c := newCluster(t).put(name, stored())
	c.script[remove] = trouble{before: func() { c.put(name, nil) }}
	expect(t, deletes(t.Context(), aim(t, c, nil, spec())), reconcile.Unchanged, realm.None, "")
}

func TestDeleteThatIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t).put(name, stored())
		c.script[remove] = trouble{late: 50 * time.Second}
		expect(t, deletes(t.Context(), aim(t, c, nil, spec())), reconcile.Changed, realm.Delete, "")
		c = newCluster(t).put(name, stored())
		c.script[remove] = trouble{late: 90 * time.Second}
		target := aim(t, c, nil, spec())
		got := deletes(t.Context(), target)
		expect(t, got, reconcile.Failed, realm.Delete, check.ReplacePending)
		if c.count(remove) != 1 || strings.Contains(check.HintOf(got.Err).For(check.Names{}), "restore") {
			t.Errorf("%v after %v", got.Err, c.calls)
		}
	})
}

func TestDeleteIsInterruptedBeforeItBeginsAndNotAfterwards(t *testing.T) {
	for n := 1; n <= 4; n++ {
		c := newCluster(t).put(name, stored())
		ctx, stop := context.WithCancelCause(t.Context())
		c.atCall = func(i int, _ string) {
			if i == n {
				stop(check.Errorf(check.Terminated, "stopped"))
			}
		}
		target := aim(t, c, nil, spec())
		got := deletes(ctx, target)
		if n <= 2 {
			if check.CodeOf(got.Err) != check.Terminated || c.realms[name] == nil || len(files(t, target)) != 0 {
				t.Errorf("%v, %v, %v", got.Err, c.realms[name], files(t, target))
			}
		} else {
			expect(t, got, reconcile.Changed, realm.Delete, "")
		}
		stop(nil)
	}
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
