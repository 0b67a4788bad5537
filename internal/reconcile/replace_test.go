package reconcile_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/history"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

var (
	otherClaim = spec(set(realm.UsernameClaim, "email"))
	agreed     = reconcile.Options{Replace: true}
)

// replaced is what stored() becomes: everything that nobody manages is carried over, unknown properties too.
func replaced() fields { return stored(with(realm.UsernameClaim, "email")) }

func equal(a, b fields) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

func pending(tb testing.TB, t aimed) []string {
	tb.Helper()
	return slices.DeleteFunc(files(tb, t), func(f string) bool { return !strings.Contains(f, "-replace") })
}

func TestReplace(t *testing.T) {
	c, p := newCluster(t).put(name, stored(with(realm.Default, 1))), &fakeIssuer{}
	target := aim(t, c, p, otherClaim)
	c.script[remove] = trouble{before: func() {
		saved := pending(t, target)
		if len(saved) != 1 {
			t.Fatalf("nothing is saved when the realm is deleted: %v", saved)
		}
		info, err := os.Lstat(saved[0])
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		if dir, err := os.Stat(target.History.Dir()); err != nil || dir.Mode().Perm() != 0o700 {
			t.Errorf("%v, %v", dir.Mode(), err)
		}
		var content struct {
			Version   int
			Reason    reconcile.Reason
			Realm     string
			Endpoints []string
			Stored    fields
		}
		data, err := os.ReadFile(saved[0])
		if err != nil || json.Unmarshal(data, &content) != nil {
			t.Fatalf("%v: %s", err, data)
		}
		if content.Version != 1 || content.Reason != reconcile.Replacement || content.Realm != name || !slices.Equal(content.Endpoints, reconcile.ID(target.Target).Endpoints) {
			t.Errorf("%+v", content)
		}
		if content.Stored["future"] != "kept" || content.Stored["client-key"] != oldKey || content.Stored["username-claim"] != "preferred_username" || content.Stored["digest"] == nil {
			t.Errorf("not raw: %v", content.Stored)
		}
	}}
	c.script["read#3"] = trouble{before: func() {
		if len(pending(t, target)) != 1 {
			t.Error("the file goes before the read-back")
		}
	}}
	got := apply(t.Context(), target, agreed)
	expect(t, got, reconcile.Changed, realm.Replace, "")
	if want := []string{read, users, read, remove, create, read, discovery, usersCheck}; !slices.Equal(c.calls, want) {
		t.Errorf("calls %v, want %v", c.calls, want)
	}
	if !equal(c.realms[name], with2(replaced(), "default", 1)) {
		t.Errorf("%v", c.realms[name])
	}
	if len(files(t, target)) != 0 || len(got.Warnings) != 0 || len(got.Changes) != 1 {
		t.Errorf("files %v, warnings %q, changes %v", files(t, target), got.Warnings, got.Changes)
	}
	// The issuer and the client were asked before.
	if len(p.questions) == 0 || status(got, check.ClientCredentials) != check.Pass {
		t.Errorf("%d questions", len(p.questions))
	}
}

func with2(f fields, name string, v any) fields {
	f[name] = v
	return f
}

func TestReplaceNeedsConsentAndAWrittenClaim(t *testing.T) {
	c := newCluster(t).put(name, stored())
	expect(t, apply(t.Context(), aim(t, c, &fakeIssuer{}, otherClaim), reconcile.Options{}), reconcile.Refused, realm.Refuse, check.UsernameClaim)
	c.put(name, stored(with(realm.UsernameClaim, "email")))
	expect(t, apply(t.Context(), aim(t, c, &fakeIssuer{}, spec()), agreed), reconcile.Unchanged, realm.None, "")
	if c.writes() != 0 {
		t.Errorf("%v", c.calls)
	}
}

// Without the recovery file nothing starts.
func TestReplaceStartsWithTheFile(t *testing.T) {
	for title, spoil := range map[string]func(*testing.T, *aimed){
		"no state_dir": func(_ *testing.T, t *aimed) { t.History = history.Open("") },
		"state_dir is a file": func(tb *testing.T, t *aimed) {
			if err := os.WriteFile(t.History.Dir(), nil, 0o600); err != nil {
				tb.Fatal(err)
			}
		},
	} {
		c := newCluster(t).put(name, stored())
		target := aim(t, c, &fakeIssuer{}, otherClaim)
		spoil(t, &target)
		got := apply(t.Context(), target, agreed)
		expect(t, got, reconcile.Failed, realm.Replace, check.Config)
		if c.writes() != 0 || !strings.Contains(got.Err.Error(), "nothing was deleted") || !strings.Contains(check.HintOf(got.Err).For(check.Names{}), "state_dir") {
			t.Errorf("%s: %v after %v", title, got.Err, c.calls)
		}
	}
}

// savedBy returns the file that a replace of a realm makes.
func savedBy(t *testing.T, realmName string) string {
	t.Helper()
	c := newCluster(t).put(realmName, stored())
	c.script[create] = trouble{err: errDown}
	target := aim(t, c, &fakeIssuer{}, otherClaim)
	apply(t.Context(), target, agreed)
	return pending(t, target)[0]
}

// A file that appears between the first look and the save is not overwritten, and no symlink is followed.
func TestTheFileIsExclusive(t *testing.T) {
	for _, link := range []bool{false, true} {
		c := newCluster(t).put(name, stored())
		target := aim(t, c, &fakeIssuer{}, otherClaim)
		path := savedBy(t, name)
		path = filepath.Join(target.History.Dir(), filepath.Base(path))
		victim := filepath.Join(t.TempDir(), "victim")
		c.script["read#2"] = trouble{before: func() {
			err := os.MkdirAll(target.History.Dir(), 0o700)
			if link {
				err = errors.Join(err, os.Symlink(victim, path))
			} else {
				err = errors.Join(err, os.WriteFile(path, []byte("theirs"), 0o600))
			}
			if err != nil {
				t.Fatal(err)
			}
		}}
		got := apply(t.Context(), target, agreed)
		expect(t, got, reconcile.Failed, realm.Replace, check.Config)
		if _, err := os.Stat(victim); err == nil || c.writes() != 0 {
			t.Errorf("link %t: calls %v, victim %v", link, c.calls, err)
		}
		if data, err := os.ReadFile(path); !link && (err != nil || string(data) != "theirs") {
			t.Errorf("%q, %v", data, err)
		}
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("link %t: somebody else's file is gone", link)
		}
	}
}

func TestReplaceMeetsTrouble(t *testing.T) {
	for _, tt := range []struct {
		name    string
		script  func(*cluster) map[string]trouble
		outcome reconcile.Outcome
		action  realm.Action
		code    check.Code
		deletes int
		ends    fields // nil: absent
		kept    bool   // the file
		warns   string
	}{
		{
			name:    "another realm changes before the second read",
			script:  func(c *cluster) map[string]trouble { return map[string]trouble{"read#2": {before: c.touch}} },
			outcome: reconcile.Changed, action: realm.Replace, deletes: 1, ends: replaced(),
		},
		{
			name: "the realm changes before the second read",
			script: func(c *cluster) map[string]trouble {
				return map[string]trouble{"read#2": {before: func() { c.put(name, stored(with(realm.Comment, "theirs"))) }}}
			},
			outcome: reconcile.Changed, action: realm.Replace, deletes: 1, ends: with2(replaced(), "comment", "theirs"),
		},
		{
			name: "realms change before every second read",
			script: func(c *cluster) map[string]trouble {
				return map[string]trouble{"read#2": {before: c.touch}, "read#4": {before: c.touch}, "read#6": {before: c.touch}}
			},
			outcome: reconcile.Failed, action: realm.Replace, code: check.Conflict, deletes: 0, ends: stored(),
		},
		{
			name: "the realm changes between the second read and the DELETE: what was saved is what is carried over",
			script: func(c *cluster) map[string]trouble {
				return map[string]trouble{remove: {before: func() { c.put(name, stored(with(realm.Comment, "theirs"))) }}}
			},
			outcome: reconcile.Changed, action: realm.Replace, deletes: 1, ends: replaced(),
		},
		{
			name: "somebody deletes the realm in the same moment",
			script: func(c *cluster) map[string]trouble {
				return map[string]trouble{remove: {before: func() { c.put(name, nil) }}}
			},
			outcome: reconcile.Changed, action: realm.Replace, deletes: 1, ends: replaced(),
		},
		{
			name:    "the DELETE is refused",
			script:  func(*cluster) map[string]trouble { return map[string]trouble{remove: {err: errPermission}} },
			outcome: reconcile.Failed, action: realm.Replace, code: check.PermissionDenied, deletes: 1, ends: stored(),
		},
		{
			name:    "Proxmox's lock at the DELETE",
			script:  func(*cluster) map[string]trouble { return map[string]trouble{remove: {err: errLock}} },
			outcome: reconcile.Failed, action: realm.Replace, code: check.LockTimeout, deletes: 1, ends: stored(),
		},
		{
			name:    "the answer to the DELETE is lost, it took effect",
			script:  func(*cluster) map[string]trouble { return map[string]trouble{remove: {lost: true}} },
			outcome: reconcile.Changed, action: realm.Replace, deletes: 1, ends: replaced(),
		},
		{
			name:    "the new realm is refused: the former is put back",
			script:  func(*cluster) map[string]trouble { return map[string]trouble{"create#1": {err: errPermission}} },
			outcome: reconcile.Failed, action: realm.Replace, code: check.PermissionDenied, deletes: 1, ends: stored(), warns: "the former one was put back",
		},
		{
			name: "the new realm is refused for a property: the former is put back",
			script: func(*cluster) map[string]trouble {
				return map[string]trouble{"create#1": {err: &realm.UnknownPropertyError{Properties: []realm.Property{realm.Audiences}}}}
			},
			outcome: reconcile.Refused, action: realm.Refuse, code: check.UnknownProperty, deletes: 1, ends: stored(), warns: "the former one was put back",
		},
		{
			name: "answers to the creation are lost, and then the former is put back: no second DELETE",
			script: func(*cluster) map[string]trouble {
				return map[string]trouble{"create#1": {lost: true, never: true}, "create#2": {lost: true, never: true}, "create#3": {lost: true, never: true}}
			},
			outcome: reconcile.Failed, action: realm.Replace, code: check.Unreachable, deletes: 1, ends: stored(), warns: "the former one was put back",
		},
		{
			name:    "the answer to the creation is lost, it took effect",
			script:  func(*cluster) map[string]trouble { return map[string]trouble{create: {lost: true}} },
			outcome: reconcile.Changed, action: realm.Replace, deletes: 1, ends: replaced(),
		},
		{
			name:    "the answer to the creation is lost, it took no effect",
			script:  func(*cluster) map[string]trouble { return map[string]trouble{"create#1": {lost: true, never: true}} },
			outcome: reconcile.Changed, action: realm.Replace, deletes: 1, ends: replaced(),
		},
		{
			name: "the creation took effect, and nobody could see it at first",
			script: func(*cluster) map[string]trouble {
				return map[string]trouble{"create#1": {lost: true}, "read#3": {err: errDown}}
			},
			outcome: reconcile.Changed, action: realm.Replace, deletes: 1, ends: replaced(),
		},
		{
			name:    "neither realm can be created",
			script:  func(*cluster) map[string]trouble { return map[string]trouble{create: {err: errPermission}} },
			outcome: reconcile.Failed, action: realm.Replace, code: check.PermissionDenied, deletes: 1, kept: true,
		},
		{
			name: "the former realm does not come back as it was",
			script: func(c *cluster) map[string]trouble {
				return map[string]trouble{"create#1": {err: errPermission}, "create#2": {after: func() { c.put(name, stored(with(realm.Comment, "theirs"))) }}}
			},
			outcome: reconcile.Failed, action: realm.Replace, code: check.PermissionDenied, deletes: 1, ends: stored(with(realm.Comment, "theirs")), kept: true,
		},
		{
			name: "somebody else creates a realm in the gap",
			script: func(c *cluster) map[string]trouble {
				return map[string]trouble{"create#1": {before: func() { c.put(name, stored(with(realm.UsernameClaim, "upn"))) }}}
			},
			outcome: reconcile.Failed, action: realm.Replace, code: check.NotTaken, deletes: 1, ends: stored(with(realm.UsernameClaim, "upn")), kept: true,
		},
		{
			name:    "the read-back fails",
			script:  func(*cluster) map[string]trouble { return map[string]trouble{"read#3": {err: errDown}} },
			outcome: reconcile.Failed, action: realm.Replace, code: check.Unreachable, deletes: 1, ends: replaced(), kept: true,
		},
		{
			name:    "the creation did not take",
			script:  func(*cluster) map[string]trouble { return map[string]trouble{create: {never: true}} },
			outcome: reconcile.Failed, action: realm.Replace, code: check.NotTaken, deletes: 1, kept: true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t).put(name, stored())
				c.script = tt.script(c)
				target := aim(t, c, &fakeIssuer{}, otherClaim)
				got := apply(t.Context(), target, agreed)
				expect(t, got, tt.outcome, tt.action, tt.code)
				if c.count(remove) != tt.deletes || !equal(c.realms[name], tt.ends) || (len(pending(t, target)) == 1) != tt.kept {
					t.Errorf("calls %v, realm %v, files %v", c.calls, c.realms[name], pending(t, target))
				}
				if said := strings.Join(got.Warnings, "; "); !strings.Contains(said, tt.warns) || tt.warns == "" && said != "" {
					t.Errorf("warnings %q", got.Warnings)
				}
				if tt.kept {
					message, hint := check.MessageOf(got.Err), string(check.HintOf(got.Err))
					if !strings.Contains(message, pending(t, target)[0]) || !strings.Contains(hint, "restore ") || strings.Contains(message, "\n") {
						t.Errorf("%q, %q: does not say where the former realm is", message, hint)
					}
					if tt.code == check.PermissionDenied && !strings.Contains(hint, "pveum acl modify") {
						t.Errorf("%q: does not say what mends it", hint)
					}
				}
			})
		})
	}
}

// A DELETE whose answer is lost may take effect up to a minute later: the run watches for it for 75 s.
func TestALateDelete(t *testing.T) {
	for after, gone := range map[time.Duration]bool{time.Second: true, 40 * time.Second: true, 74 * time.Second: true, 90 * time.Second: false} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t).put(name, stored())
			c.script[remove] = trouble{late: after}
			target := aim(t, c, &fakeIssuer{}, otherClaim)
			began := time.Now()
			got := apply(t.Context(), target, agreed)
			took := time.Since(began)
			if c.count(remove) != 1 {
				t.Errorf("%s: %d DELETEs", after, c.count(remove))
			}
			if gone {
				expect(t, got, reconcile.Changed, realm.Replace, "")
				if took > after+2*time.Second || !equal(c.realms[name], replaced()) || len(pending(t, target)) != 0 {
					t.Errorf("%s: after %s: %v, %v", after, took, c.realms[name], pending(t, target))
				}
				return
			}
			expect(t, got, reconcile.Failed, realm.Replace, check.ReplacePending)
			if took < 75*time.Second || took > 77*time.Second || len(pending(t, target)) != 1 || c.count(create) != 0 {
				t.Errorf("%s: stopped after %s with %v: %v", after, took, pending(t, target), c.calls)
			}
			// A run meanwhile says so and does nothing; the deletion takes effect; the saved realm is created.
			expect(t, apply(t.Context(), target, agreed), reconcile.Refused, realm.Refuse, check.SavedRealm)
			time.Sleep(time.Minute)
			synctest.Wait()
			if c.realms[name] != nil {
				t.Fatal("the model is wrong: the late DELETE did nothing")
			}
			expect(t, restores(t.Context(), t, target), reconcile.Changed, realm.Create, "")
			if !equal(c.realms[name], stored()) || len(pending(t, target)) != 0 {
				t.Errorf("%v, %v", c.realms[name], pending(t, target))
			}
		})
	}
}

// A read that fails says nothing about whether the realm is gone.
func TestALateDeleteWhileProxmoxCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t).put(name, stored())
		c.script[remove] = trouble{lost: true}
		c.script["read#3"], c.script["read#4"] = trouble{err: errDown}, trouble{err: errDown}
		expect(t, apply(t.Context(), aim(t, c, &fakeIssuer{}, otherClaim), agreed), reconcile.Changed, realm.Replace, "")
		c = newCluster(t).put(name, stored())
		c.script[remove] = trouble{lost: true, after: func() { c.script[read] = trouble{err: errDown} }}
		target := aim(t, c, &fakeIssuer{}, otherClaim)
		expect(t, apply(t.Context(), target, agreed), reconcile.Failed, realm.Replace, check.ReplacePending)
		if len(pending(t, target)) != 1 || c.count(create) != 0 {
			t.Errorf("%v, %v", c.calls, pending(t, target))
		}
	})
}

// From the DELETE on an interruption waits for the end; before it, nothing is deleted.
func TestReplaceInterruptedAtEveryCall(t *testing.T) {
	for n := 1; n <= 7; n++ {
		for _, cause := range []check.Code{check.Interrupted, check.Terminated} {
			c := newCluster(t).put(name, stored())
			target := aim(t, c, &fakeIssuer{}, otherClaim)
			ctx, stop := context.WithCancelCause(t.Context())
			c.atCall = func(i int, _ string) {
				if i == n {
					stop(check.Errorf(cause, "stopped"))
				}
			}
			got := apply(ctx, target, agreed)
			if check.CodeOf(got.Err) != cause || got.Outcome != reconcile.Failed {
				t.Errorf("call %d: %s, %v", n, got.Outcome, got.Err)
			}
			want := stored()
			if n > 3 { // the third call is the last before the DELETE
				want = replaced()
			}
			if !equal(c.realms[name], want) || len(pending(t, target)) != 0 {
				t.Errorf("call %d: %v, %v after %v", n, c.realms[name], pending(t, target), c.calls)
			}
			stop(nil)
		}
	}
}

// An interruption does not hide where the former realm is kept.
func TestAnInterruptionHidesNoFile(t *testing.T) {
	c := newCluster(t).put(name, stored())
	target := aim(t, c, &fakeIssuer{}, otherClaim)
	ctx, stop := context.WithCancelCause(t.Context())
	defer stop(nil)
	c.script[remove] = trouble{after: func() { stop(check.Errorf(check.Terminated, "stopped")) }}
	c.script[create] = trouble{err: errPermission}
	got := apply(ctx, target, agreed)
	if kept := pending(t, target); len(kept) != 1 || !strings.Contains(got.Err.Error(), kept[0]) {
		t.Errorf("%v: %v", kept, got.Err)
	}
}

// apply runs a replace until it ends or dies.
func applyOrDie(ctx context.Context, target aimed) (got reconcile.Result, dead bool) {
	defer func() {
		if p := recover(); p != nil {
			if _, ours := p.(died); !ours {
				panic(p)
			}
			dead = true
		}
	}()
	return apply(ctx, target, agreed), false
}

// Whatever happens at any call, and whatever else at any later one: never is there neither realm nor file, never more than
// one DELETE, never a realm that is neither the former nor the new one; a file that is left is spoken of, and ends by --recover.
func TestReplaceSurvivesEveryPairOfTroubles(t *testing.T) {
	troubles := map[string]func(*cluster, func()) trouble{
		"interrupt":        func(_ *cluster, stop func()) trouble { return trouble{before: stop} },
		"error":            func(*cluster, func()) trouble { return trouble{err: errDown} },
		"refusal":          func(*cluster, func()) trouble { return trouble{err: errPermission} },
		"death before":     func(*cluster, func()) trouble { return trouble{die: true} },
		"death after":      func(*cluster, func()) trouble { return trouble{after: func() { panic(died{}) }} },
		"lost":             func(*cluster, func()) trouble { return trouble{lost: true} },
		"lost, no effect":  func(*cluster, func()) trouble { return trouble{lost: true, never: true} },
		"lost, 40 s late":  func(*cluster, func()) trouble { return trouble{late: 40 * time.Second} },
		"lost, 100 s late": func(*cluster, func()) trouble { return trouble{late: 100 * time.Second} },
		"no effect":        func(*cluster, func()) trouble { return trouble{never: true} },
		"another writer":   func(c *cluster, _ func()) trouble { return trouble{before: c.touch, after: c.touch} },
	}
	const most = 11 // a run has 7 calls; troubles add some
	base := t.TempDir()
	runs := 0
	// try returns the calls that the run made.
	try := func(where string, at func(*cluster, func()) map[int]trouble) (calls []string) {
		runs++
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t).put(name, stored())
			ctx, cancel := context.WithCancelCause(context.Background())
			defer cancel(nil)
			c.at = at(c, func() { cancel(check.Errorf(check.Terminated, "stopped")) })
			target := aim(t, c, &fakeIssuer{}, otherClaim)
			target.History = history.Open(filepath.Join(base, fmt.Sprint(runs)))
			got, dead := applyOrDie(ctx, target)
			time.Sleep(3 * time.Minute) // what was late has happened
			synctest.Wait()
			c.at, calls = nil, slices.Clone(c.calls)

			now, kept := c.realms[name], pending(t, target)
			fail := func(format string, args ...any) {
				t.Helper()
				t.Fatalf("%s: %s\n%s, %v after %v; realm %v, file %v", where, fmt.Sprintf(format, args...), got.Outcome, got.Err, c.calls, now, kept)
			}
			switch {
			case now == nil && len(kept) == 0:
				fail("neither realm nor file")
			case c.count(remove) > 1:
				fail("more than one DELETE")
			case now != nil && !equal(now, stored()) && !equal(now, replaced()):
				fail("a realm that nobody wants")
			case !dead && got.Err == nil && (!equal(now, replaced()) || len(kept) > 0 || got.Outcome != reconcile.Changed && got.Outcome != reconcile.Unverified):
				fail("a success that is none")
			case !dead && len(kept) > 0 && !strings.Contains(got.Err.Error(), kept[0]):
				fail("nobody speaks of the file")
			}
			if len(kept) == 0 {
				return
			}
			before := c.writes()
			if equal(now, replaced()) { // the replace had finished: the file is obsolete
				if again := apply(context.Background(), target, agreed); again.Outcome != reconcile.Unchanged || len(pending(t, target)) != 0 || len(again.Warnings) == 0 {
					fail("the obsolete file stays: %v", again.Err)
				}
				return
			}
			if again := apply(context.Background(), target, agreed); check.CodeOf(again.Err) != check.SavedRealm || c.writes() != before {
				fail("a run that meets the file goes on: %v", again.Err)
			}
			recovered := restores(context.Background(), t, target)
			left := len(pending(t, target))
			switch {
			case now == nil && (recovered.Outcome != reconcile.Changed || !equal(c.realms[name], stored()) || left != 0):
				fail("restore does not create the saved realm: %v", recovered.Err)
			case equal(now, stored()) && (recovered.Outcome != reconcile.Unchanged || left != 0):
				fail("restore does not forget an equal realm: %v", recovered.Err)
			}
		})
		return calls
	}
	// happens tells whether the n-th call was made, and can have that trouble: the answer to a read is never lost.
	happens := func(what string, n int, calls []string) bool {
		writes := []string{create, update, remove}
		return n <= len(calls) && (slices.Contains(writes, calls[n-1]) || !strings.HasPrefix(what, "lost") && what != "no effect")
	}
	undisturbed := try("nothing", func(*cluster, func()) map[int]trouble { return nil })
	for first := 1; first <= most && !t.Failed(); first++ {
		for what, trouble1 := range troubles {
			if !happens(what, first, undisturbed) {
				continue
			}
			calls := try(fmt.Sprintf("%s at call %d", what, first), func(c *cluster, stop func()) map[int]trouble {
				return map[int]trouble{first: trouble1(c, stop)}
			})
			for second := first + 1; second <= most && !t.Failed(); second++ {
				for what2, trouble2 := range troubles {
					if !happens(what2, second, calls) {
						continue
					}
					try(fmt.Sprintf("%s at call %d, then %s at call %d", what, first, what2, second), func(c *cluster, stop func()) map[int]trouble {
						return map[int]trouble{first: trouble1(c, stop), second: trouble2(c, stop)}
					})
				}
			}
		}
	}
	t.Logf("%d runs", runs)
}

// Something between this program and Proxmox may answer a DELETE that takes effect: the realm is read before the recovery
// file goes.
func TestReplaceBelievesNoAnswerToADelete(t *testing.T) {
	for title, tt := range map[string]struct {
		remove  trouble
		reads   map[string]trouble
		outcome reconcile.Outcome
		code    check.Code
		kept    int
	}{
		"it took effect":             {remove: trouble{err: errPermission, effect: true}, outcome: reconcile.Changed},
		"it took no effect":          {remove: trouble{err: errPermission}, outcome: reconcile.Failed, code: check.PermissionDenied},
		"Proxmox cannot be read":     {remove: trouble{err: errPermission, effect: true}, reads: map[string]trouble{"read#3": {err: errDown}}, outcome: reconcile.Failed, code: check.PermissionDenied, kept: 1},
		"does not exist, but exists": {remove: trouble{err: conflict("does not exist")}, outcome: reconcile.Failed, code: check.Internal},
	} {
		inBubble(t, title, func(t *testing.T) {
			c := newCluster(t).put(name, stored())
			target := aim(t, c, &fakeIssuer{}, otherClaim)
			c.script[remove] = tt.remove
			for call, trouble := range tt.reads {
				c.script[call] = trouble
			}
			got := apply(t.Context(), target, agreed)
			expect(t, got, tt.outcome, realm.Replace, tt.code)
			if len(pending(t, target)) != tt.kept {
				t.Errorf("files %v", pending(t, target))
			}
			if c.realms[name] == nil && tt.kept == 0 || c.count(remove) != 1 {
				t.Errorf("realm %v after %v", c.realms[name], c.calls)
			}
		})
	}
}
