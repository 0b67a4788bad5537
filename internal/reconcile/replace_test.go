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
	"testing/synctest"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/history"
	"proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

var otherClaim = set(realm.UsernameClaim, "email")

// replaced is what stored() becomes: everything that nobody manages is carried over.
func replaced(changes ...func(fields)) fields {
	return stored(append([]func(fields){with(realm.UsernameClaim, "email")}, changes...)...)
}

func TestReplace(t *testing.T) {
	alone(t, func(s *site) {
		s.put(stored(with(realm.Default, "1"))).declares(otherClaim)
		s.on(remove, pve.Rule{Before: func() {
			saved := s.pending()
			if len(saved) != 1 {
				t.Errorf("nothing is saved when the realm is deleted: %v", saved)
				return
			}
			info, err := os.Lstat(saved[0])
			if dir, err2 := os.Stat(s.History.Dir()); err != nil || err2 != nil || info.Mode() != 0o600 || dir.Mode().Perm() != 0o700 {
				t.Errorf("%v, %v, %v", info.Mode(), err, err2)
			}
			var content struct {
				Version   int
				Reason    reconcile.Reason
				Realm     string
				Endpoints []string
				Stored    map[string]any
			}
			data, err := os.ReadFile(saved[0])
			if err != nil || json.Unmarshal(data, &content) != nil {
				t.Errorf("%v: %s", err, data)
			}
			if content.Version != 1 || content.Reason != reconcile.Replacement || content.Realm != name || !slices.Equal(content.Endpoints, []string{node1}) {
				t.Errorf("%+v", content)
			}
			if raw := content.Stored; raw["comment"] != "by hand" || raw["client-key"] != oldKey || raw["username-claim"] != "preferred_username" || raw["digest"] == nil {
				t.Errorf("not raw: %v", raw)
			}
		}})
		s.on("read#3", pve.Rule{Before: func() {
			if len(s.pending()) != 1 {
				t.Error("the file goes before the read-back")
			}
		}})
		got := s.apply(agreed)
		s.expect(got, reconcile.Changed, realm.Replace, "")
		s.called(append([]string{read, permissions, users, read, remove, create, read, discovery}, rights...)...)
		if !maps.Equal(s.holds(), replaced(with(realm.Default, "1"))) || len(s.saved()) != 0 || len(got.Warnings) != 0 || len(got.Changes) != 1 {
			t.Errorf("%v; files %v, warnings %q, changes %v", s.holds(), s.saved(), got.Warnings, got.Changes)
		}
		if all, _ := s.looks(); all != 1 || status(got, check.ClientCredentials) != check.Pass { // before the DELETE
			t.Errorf("%d questions", all)
		}
	})
}

func TestReplaceNeedsConsentAndAWrittenClaim(t *testing.T) {
	alone(t, func(s *site) {
		s.put(stored()).declares(otherClaim)
		s.expect(s.apply(), reconcile.Refused, realm.Refuse, check.UsernameClaim)
		s.put(replaced()).declares(undeclared(realm.UsernameClaim))
		s.expect(s.apply(agreed), reconcile.Unchanged, realm.None, "")
		if s.writes() != 0 {
			t.Errorf("%v", s.calls())
		}
	})
}

// Without the recovery file nothing starts.
func TestReplaceStartsWithTheFile(t *testing.T) {
	for title, spoil := range map[string]func(*site){
		"no state_dir": func(s *site) { s.History = history.Open("") },
		"state_dir is a file": func(s *site) {
			if err := os.WriteFile(s.History.Dir(), nil, 0o600); err != nil {
				s.Fatal(err)
			}
		},
	} {
		bubble(t, title, func(s *site) {
			s.put(stored()).declares(otherClaim)
			spoil(s)
			got := s.apply(agreed)
			s.expect(got, reconcile.Failed, realm.Replace, check.Config)
			if s.writes() != 0 || !strings.Contains(errorOf(got), "nothing was deleted") || !strings.Contains(errorOf(got), "state_dir") {
				s.Errorf("%v after %v", got.Err, s.calls())
			}
		})
	}
}

// A file that appears between the first look and the save is not overwritten, and no symlink is followed.
func TestTheFileIsExclusive(t *testing.T) {
	for title, link := range map[string]bool{"a file": false, "a symlink": true} {
		bubble(t, title, func(s *site) {
			path, victim := s.interrupted(), filepath.Join(s.TempDir(), "victim")
			if err := os.Remove(path); err != nil {
				s.Fatal(err)
			}
			s.put(stored()).on("read#2", pve.Rule{Before: func() {
				err := os.WriteFile(path, []byte("theirs"), 0o600)
				if link {
					err = errors.Join(os.Remove(path), os.Symlink(victim, path))
				}
				if err != nil {
					s.Error(err)
				}
			}})
			s.expect(s.apply(agreed), reconcile.Failed, realm.Replace, check.Config)
			if _, err := os.Stat(victim); err == nil || s.writes() != 0 {
				s.Errorf("%v, victim %v", s.calls(), err)
			}
			if data, err := os.ReadFile(path); !link && (err != nil || string(data) != "theirs") {
				s.Errorf("%q, %v", data, err)
			}
			if _, err := os.Lstat(path); err != nil {
				s.Error("somebody else's file is gone")
			}
		})
	}
}

func TestReplaceMeetsTrouble(t *testing.T) {
	theirs, upn := stored(with(realm.Comment, "theirs")), stored(with(realm.UsernameClaim, "upn"))
	type rules map[string]pve.Rule
	before := func(f func(*site)) func(*site) pve.Rule {
		return func(s *site) pve.Rule { return pve.Rule{Before: func() { f(s) }} }
	}
	touch, change := before((*site).touch), before(func(s *site) { s.put(theirs) })
	const changed, failed, back = reconcile.Changed, reconcile.Failed, "the former one was put back"
	for _, tt := range []struct {
		name    string
		rules   func(*site) rules
		outcome reconcile.Outcome
		action  realm.Action
		code    check.Code
		deletes int
		ends    fields // nil: absent
		kept    bool   // the file
		warns   string
	}{
		{
			"another realm changes before the second read", func(s *site) rules { return rules{"read#2": touch(s)} },
			changed, realm.Replace, "", 1, replaced(), false, "",
		},
		{
			"the realm changes before the second read", func(s *site) rules { return rules{"read#2": change(s)} },
			changed, realm.Replace, "", 1, replaced(with(realm.Comment, "theirs")), false, "",
		},
		{
			"realms change before every second read", func(s *site) rules { return rules{"read#2": touch(s), "read#4": touch(s), "read#6": touch(s)} },
			failed, realm.Replace, check.Conflict, 0, stored(), false, "",
		},
		{
			"the realm changes between the second read and the DELETE: what was saved is what is carried over",
			func(s *site) rules { return rules{remove: change(s)} }, changed, realm.Replace, "", 1, replaced(), false, "",
		},
		{
			"somebody deletes the realm in the same moment", func(s *site) rules { return rules{remove: before(func(s *site) { s.put(nil) })(s)} },
			changed, realm.Replace, "", 1, replaced(), false, "",
		},
		{"the DELETE is refused", func(*site) rules { return rules{remove: refused} }, failed, realm.Replace, check.PermissionDenied, 1, stored(), false, ""},
		{"Proxmox's lock at the DELETE", func(*site) rules { return rules{remove: locked} }, failed, realm.Replace, check.LockTimeout, 1, stored(), false, ""},
		{"the answer to the DELETE is lost, it took effect", func(*site) rules { return rules{remove: lost} }, changed, realm.Replace, "", 1, replaced(), false, ""},
		{"the new realm is refused: the former is put back", func(*site) rules { return rules{"create#1": refused} }, failed, realm.Replace, check.PermissionDenied, 1, stored(), false, back},
		{
			"the new realm is refused for a property: the former is put back", func(*site) rules {
				return rules{"create#1": {Status: 400, Reason: "Parameter verification failed.", Body: `{"data":null,"errors":{"audiences":"property is not defined in schema and the schema does not allow additional properties"}}`}}
			}, reconcile.Refused, realm.Refuse, check.UnknownProperty, 1, stored(), false, back,
		},
		{
			"answers to the creation are lost, and then the former is put back: no second DELETE",
			func(*site) rules { return rules{"create#1": dropped, "create#2": dropped, "create#3": dropped} },
			failed, realm.Replace, check.Unreachable, 1, stored(), false, back,
		},
		{"the answer to the creation is lost, it took effect", func(*site) rules { return rules{create: lost} }, changed, realm.Replace, "", 1, replaced(), false, ""},
		{"the answer to the creation is lost, it took no effect", func(*site) rules { return rules{"create#1": dropped} }, changed, realm.Replace, "", 1, replaced(), false, ""},
		{
			"the creation took effect, and nobody could see it at first", func(*site) rules { return rules{"create#1": lost, "read#3": broken} },
			changed, realm.Replace, "", 1, replaced(), false, "",
		},
		{"neither realm can be created", func(*site) rules { return rules{create: refused} }, failed, realm.Replace, check.PermissionDenied, 1, nil, true, ""},
		{
			"the former realm does not come back as it was",
			func(s *site) rules { return rules{"create#1": refused, "create#2": {After: func() { s.put(theirs) }}} },
			failed, realm.Replace, check.PermissionDenied, 1, theirs, true, "",
		},
		{
			"somebody else creates a realm in the gap", func(s *site) rules { return rules{"create#1": before(func(s *site) { s.put(upn) })(s)} },
			failed, realm.Replace, check.NotTaken, 1, upn, true, "",
		},
		{"the read-back fails", func(*site) rules { return rules{"read#3": broken} }, failed, realm.Replace, check.Unreachable, 1, replaced(), true, ""},
		{"the creation did not take", func(*site) rules { return rules{create: pretended} }, failed, realm.Replace, check.NotTaken, 1, nil, true, ""},
	} {
		bubble(t, tt.name, func(s *site) {
			s.put(stored()).declares(otherClaim)
			for request, rule := range tt.rules(s) {
				s.on(request, rule)
			}
			got := s.apply(agreed)
			s.expect(got, tt.outcome, tt.action, tt.code)
			if s.count(remove) != tt.deletes || !maps.Equal(s.holds(), tt.ends) || (len(s.pending()) == 1) != tt.kept {
				s.Errorf("%v, realm %v, files %v", s.calls(), s.holds(), s.pending())
			}
			if said := strings.Join(got.Warnings, "; "); !strings.Contains(said, tt.warns) || tt.warns == "" && said != "" {
				s.Errorf("warnings %q", got.Warnings)
			}
			if tt.kept {
				message, hint := check.MessageOf(got.Err), string(check.HintOf(got.Err))
				if !strings.Contains(message, s.pending()[0]) || !strings.Contains(hint, "restore ") || strings.Contains(message, "\n") {
					s.Errorf("%q, %q: does not say where the former realm is", message, hint)
				}
				if tt.code == check.PermissionDenied && !strings.Contains(hint, "pveum acl modify") {
					s.Errorf("%q: does not say what mends it", hint)
				}
			}
		})
	}
}

// A DELETE whose answer is lost may take effect up to a minute later: the run watches for it for 75 s.
func TestALateDelete(t *testing.T) {
	for after, gone := range map[time.Duration]bool{time.Second: true, 40 * time.Second: true, 74 * time.Second: true, 90 * time.Second: false} {
		bubble(t, after.String(), func(s *site) {
			s.put(stored()).on(remove, late(after)).declares(otherClaim)
			got := s.apply(agreed)
			if s.count(remove) != 1 {
				s.Errorf("%d DELETEs", s.count(remove))
			}
			if gone {
				s.expect(got, reconcile.Changed, realm.Replace, "")
				if got.Duration > after+2*time.Second || !maps.Equal(s.holds(), replaced()) || len(s.pending()) != 0 {
					s.Errorf("after %s: %v, %v", got.Duration, s.holds(), s.pending())
				}
				return
			}
			s.expect(got, reconcile.Failed, realm.Replace, check.ReplacePending)
			if got.Duration < 75*time.Second || got.Duration > 77*time.Second || len(s.pending()) != 1 || s.count(create) != 0 {
				s.Errorf("stopped after %s with %v: %v", got.Duration, s.pending(), s.calls())
			}
			// A run meanwhile says so and does nothing; the deletion takes effect; the saved realm is created.
			s.expect(s.apply(agreed), reconcile.Refused, realm.Refuse, check.SavedRealm)
			time.Sleep(time.Minute)
			if s.holds() != nil {
				s.Fatal("the late DELETE did nothing")
			}
			s.expect(s.restore(), reconcile.Changed, realm.Create, "")
			if !maps.Equal(s.holds(), stored()) || len(s.pending()) != 0 {
				s.Errorf("%v, %v", s.holds(), s.pending())
			}
		})
	}
}

// A read that fails says nothing about whether the realm is gone.
func TestALateDeleteWhileProxmoxCannotBeRead(t *testing.T) {
	bubble(t, "for a while", func(s *site) {
		s.put(stored()).on(remove, lost).on("read#3", broken).on("read#3", broken).declares(otherClaim)
		s.expect(s.apply(agreed), reconcile.Changed, realm.Replace, "")
	})
	bubble(t, "any more", func(s *site) {
		s.put(stored()).on(remove, pve.Rule{DropAnswer: true, After: func() { s.on(read, broken) }}).declares(otherClaim)
		s.expect(s.apply(agreed), reconcile.Failed, realm.Replace, check.ReplacePending)
		if len(s.pending()) != 1 || s.count(create) != 0 {
			t.Errorf("%v, %v", s.calls(), s.pending())
		}
	})
}

// From the DELETE on an interruption waits for the end; before it, nothing is deleted.
func TestReplaceInterruptedAtEveryRequest(t *testing.T) {
	const theDelete = 5
	for n := 1; n <= theDelete+4; n++ {
		for _, cause := range []check.Code{check.Interrupted, check.Terminated} {
			alone(t, func(s *site) {
				s.put(stored()).declares(otherClaim).before[n] = s.stops(cause)
				got := s.apply(agreed)
				if check.CodeOf(got.Err) != cause || got.Outcome != reconcile.Failed {
					t.Errorf("request %d: %s, %v", n, got.Outcome, got.Err)
				}
				want := stored()
				if n >= theDelete {
					want = replaced()
				}
				if !maps.Equal(s.holds(), want) || len(s.pending()) != 0 {
					t.Errorf("request %d: %v, %v after %v", n, s.holds(), s.pending(), s.calls())
				}
			})
		}
	}
}

// An interruption does not hide where the former realm is kept.
func TestAnInterruptionHidesNoFile(t *testing.T) {
	alone(t, func(s *site) {
		stop := s.stops(check.Terminated)
		s.put(stored()).on(remove, pve.Rule{After: stop}).on(create, refused).declares(otherClaim)
		got := s.apply(agreed)
		if kept := s.pending(); len(kept) != 1 || !strings.Contains(got.Err.Error(), kept[0]) {
			t.Errorf("%v: %v", kept, got.Err)
		}
	})
}

// trouble is what may happen around the n-th request of a run.
type trouble func(s *site, stop func(), n int)

// errDied is what a process that ends throws.
var errDied = errors.New("died")

func die() { panic(errDied) }

// troubles are all that may happen. Only writes meet those whose name begins with "a write".
func troubles() map[string]trouble {
	rule := func(rule pve.Rule) trouble {
		return func(s *site, _ func(), n int) {
			rule.From, rule.Count = n, 1
			s.pve.Inject(rule)
		}
	}
	return map[string]trouble{
		"interruption":           func(s *site, stop func(), n int) { s.before[n] = stop },
		"a broken answer":        rule(broken),
		"a refusal":              rule(refused),
		"death before":           func(s *site, _ func(), n int) { s.before[n] = die },
		"death after":            func(s *site, _ func(), n int) { s.after[n] = die },
		"a write lost":           rule(lost),
		"a write dropped":        rule(dropped),
		"a write 40 s late":      rule(late(40 * time.Second)),
		"a write 100 s late":     rule(late(100 * time.Second)),
		"a write without effect": rule(pretended),
		"another writer": func(s *site, _ func(), n int) {
			s.pve.Inject(pve.Rule{From: n, Count: 1, Before: s.touch, After: s.touch})
		},
	}
}

// Whatever happens at any request, and whatever else at a later one, there is always a realm or a file, and at most one DELETE.
// The realm is the former or the new one. A file that is left is spoken of, and restore ends it.
func TestReplaceSurvivesEveryPairOfTroubles(t *testing.T) {
	const most = 10 // a replace has 7 requests until its read-back; troubles add some
	runs := 0
	// try returns the requests that the run made.
	try := func(where string, happen func(s *site, stop func())) (calls []string) {
		runs++
		synctest.Test(t, func(t *testing.T) {
			s := open(t)
			s.Verify.Proxmox, s.Inspect = false, nil // what only looks is tested elsewhere
			s.put(stored()).declares(otherClaim)
			happen(s, s.stops(check.Terminated))
			var got reconcile.Result
			dead, ended := true, make(chan struct{})
			go func() {
				defer func() {
					if why := recover(); why != nil && why != errDied {
						panic(why)
					}
					close(ended)
				}()
				got = s.apply(agreed)
				dead = false
			}()
			<-ended
			time.Sleep(3 * time.Minute) // what was late has happened
			calls = s.calls()
			s.before, s.after, s.ctx = nil, nil, t.Context()
			s.survived(where, got, dead)
		})
		return calls
	}
	// happens tells whether the n-th request was made, and can have that trouble.
	happens := func(what string, n int, calls []string) bool {
		writes := []string{create, update, remove}
		return n <= len(calls) && (slices.Contains(writes, calls[n-1]) || !strings.HasPrefix(what, "a write"))
	}
	undisturbed := try("nothing", func(*site, func()) {})
	all := troubles()
	for first := 1; first <= most && !t.Failed(); first++ {
		for what, trouble1 := range all {
			if !happens(what, first, undisturbed) {
				continue
			}
			calls := try(what, func(s *site, stop func()) { trouble1(s, stop, first) })
			for second := first + 1; second <= most && !t.Failed(); second++ {
				for what2, trouble2 := range all {
					if happens(what2, second, calls) {
						where := what + " at request " + calls[first-1] + ", then " + what2 + " at " + calls[second-1]
						try(where, func(s *site, stop func()) { trouble1(s, stop, first); trouble2(s, stop, second) })
					}
				}
			}
		}
	}
	t.Logf("%d runs", runs)
}

// survived looks at what a run left.
func (s *site) survived(where string, got reconcile.Result, dead bool) {
	now, kept, calls := s.holds(), s.pending(), s.calls()
	fail := func(what string, err error) {
		s.Fatalf("%s: %s, %v\n%s, %v after %v; realm %v, file %v", where, what, err, got.Outcome, got.Err, calls, now, kept)
	}
	was, is := maps.Equal(now, stored()), maps.Equal(now, replaced())
	switch {
	case now == nil && len(kept) == 0:
		fail("neither realm nor file", nil)
	case s.count(remove) > 1:
		fail("more than one DELETE", nil)
	case now != nil && !was && !is:
		fail("a realm that nobody wants", nil)
	case !dead && got.Err == nil && (!is || len(kept) > 0 || got.Outcome != reconcile.Changed && got.Outcome != reconcile.Unverified):
		fail("a success that is none", nil)
	case !dead && len(kept) > 0 && !strings.Contains(got.Err.Error(), kept[0]):
		fail("nobody speaks of the file", nil)
	}
	if len(kept) == 0 {
		return
	}
	before := s.writes()
	if is { // the replace had finished: the file is obsolete
		if again := s.apply(agreed); again.Outcome != reconcile.Unchanged || len(s.pending()) != 0 || len(again.Warnings) == 0 {
			fail("the obsolete file stays", again.Err)
		}
		return
	}
	if again := s.apply(agreed); check.CodeOf(again.Err) != check.SavedRealm || s.writes() != before {
		fail("a run that meets the file goes on", again.Err)
	}
	restored := s.restore()
	switch left := len(s.pending()); {
	case now == nil && (restored.Outcome != reconcile.Changed || !maps.Equal(s.holds(), stored()) || left != 0):
		fail("restore does not create the saved realm", restored.Err)
	case was && (restored.Outcome != reconcile.Unchanged || left != 0):
		fail("restore does not forget an equal realm", restored.Err)
	}
}

// Something between this program and Proxmox may answer a DELETE that takes effect: the realm is read before the recovery
// file goes.
func TestReplaceBelievesNoAnswerToADelete(t *testing.T) {
	answered := refused
	answered.Process = true
	absent := pve.Rule{Status: 500, Reason: "domain '" + name + "' does not exist"}
	for title, tt := range map[string]struct {
		remove  pve.Rule
		unread  bool
		outcome reconcile.Outcome
		code    check.Code
		kept    int
	}{
		"it took effect":             {answered, false, reconcile.Changed, "", 0},
		"it took no effect":          {refused, false, reconcile.Failed, check.PermissionDenied, 0},
		"Proxmox cannot be read":     {answered, true, reconcile.Failed, check.PermissionDenied, 1},
		"does not exist, but exists": {absent, false, reconcile.Failed, check.Conflict, 0},
	} {
		bubble(t, title, func(s *site) {
			s.put(stored()).on(remove, tt.remove).declares(otherClaim)
			if tt.unread {
				s.on("read#3", broken)
			}
			s.expect(s.apply(agreed), tt.outcome, realm.Replace, tt.code)
			if len(s.pending()) != tt.kept || s.holds() == nil && tt.kept == 0 || s.count(remove) != 1 {
				s.Errorf("realm %v, files %v after %v", s.holds(), s.pending(), s.calls())
			}
		})
	}
}
