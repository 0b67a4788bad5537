package reconcile_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

func (s *site) rekey(write bool) reconcile.Result {
	return reconcile.Rekey(s.ctx, s.Target, s.Deps, reconcile.Options{}, write)
}

// Only the key changes, whatever else differs. What another writer does meanwhile stays.
func TestRekeyChangesTheKeyAlone(t *testing.T) {
	rekeyed := stored(with(realm.ClientKey, key))
	theirs := func(p realm.Property, v string) fields { return stored(with(p, v)) }
	nothing := func(*site) {}
	const changed, refuses = reconcile.Changed, reconcile.Refused
	for title, tt := range map[string]struct {
		before  fields
		trouble func(*site)
		outcome reconcile.Outcome
		action  realm.Action
		code    check.Code
		after   fields
	}{
		"another key":    {stored(), nothing, changed, realm.Update, "", rekeyed},
		"no key":         {stored(without(realm.ClientKey)), nothing, changed, realm.Update, "", rekeyed},
		"the key":        {rekeyed, nothing, reconcile.Unchanged, realm.None, "", rekeyed},
		"no realm":       {nil, nothing, refuses, realm.Refuse, check.KeyRotation, nil},
		"another client": {theirs(realm.ClientID, "theirs"), nothing, refuses, realm.Refuse, check.KeyRotation, theirs(realm.ClientID, "theirs")},
		"another issuer": {theirs(realm.IssuerURL, "https://theirs"), nothing, refuses, realm.Refuse, check.KeyRotation, theirs(realm.IssuerURL, "https://theirs")},
		"another type":   {directory(), nothing, refuses, realm.Refuse, check.WrongType, directory()},
		"a lost answer":  {stored(), func(s *site) { s.on("update#1", lost) }, changed, realm.Update, "", rekeyed},
		"another writer": {
			stored(), func(s *site) { s.on("update#1", pve.Rule{Before: func() { s.put(theirs(realm.Comment, "theirs")) }}) },
			changed, realm.Update, "", stored(with(realm.ClientKey, key), with(realm.Comment, "theirs")),
		},
		"it is refused": {stored(), func(s *site) { s.on(update, refused) }, reconcile.Failed, realm.Update, check.PermissionDenied, stored()},
	} {
		bubble(t, title, func(s *site) {
			s.accepts("nothing")
			tt.trouble(s)
			s.put(tt.before).declares(setKey(key), set(realm.Scopes, "openid"), set(realm.UsernameClaim, "email"))
			got := s.rekey(true)
			s.expect(got, tt.outcome, tt.action, tt.code)
			if !maps.Equal(s.holds(), tt.after) || s.inspections() > 0 || len(got.Checks) > 0 {
				s.Errorf("the realm is %v; %d inspections, %v", s.holds(), s.inspections(), got.Checks)
			}
		})
	}
}

// A realm that an interrupted replace left is not touched, and neither is its file, even if it looks as declared.
func TestRekeyStopsAtASavedRealm(t *testing.T) {
	alone(t, func(s *site) {
		file := s.interrupted()
		s.put(replaced()).declares(setKey(oldKey))
		for _, write := range []bool{false, true} {
			s.expect(s.rekey(write), reconcile.Refused, realm.Refuse, check.SavedRealm)
		}
		if s.writes() > 0 || !slices.Equal(s.pending(), []string{file}) {
			t.Errorf("%v, %v", s.calls(), s.pending())
		}
	})
}

// What would be written is known before, and whether it may.
func TestRekeyIsForeseen(t *testing.T) {
	alone(t, func(s *site) {
		s.put(stored()).declares(setKey(key))
		s.expect(s.rekey(false), reconcile.Drift, realm.Update, "")
		s.as(pve.TokenSysAudit)
		s.expect(s.rekey(false), reconcile.Failed, realm.Update, check.PermissionDenied)
		s.put(stored(with(realm.ClientKey, key)))
		s.expect(s.rekey(false), reconcile.Unchanged, realm.None, "")
		if s.writes() > 0 {
			t.Errorf("%v", s.calls())
		}
	})
}

// await looks every 10 s whether the issuer accepts the declared key, as a fleet does.
func (s *site) await(atMost time.Duration) (reconcile.Result, time.Duration) {
	var wait reconcile.KeyWait
	return s.waits(atMost, func(o reconcile.Options) reconcile.Result { return wait.Look(s.ctx, s.Target, s.Deps, o) })
}

// A wait asks about a key that may be refused once a minute, and about the former one until it is refused.
func TestWaitForAKey(t *testing.T) {
	const moment = 10 * time.Second
	for _, tt := range []struct {
		name        string
		first       []string      // the keys that the issuer accepts
		at          time.Duration // when it accepts others
		then        []string
		stored      string
		code        check.Code
		least, most time.Duration
		failures    int // at most, at one endpoint
	}{
		{"the issuer restarts with the key", []string{oldKey}, 245 * time.Second, []string{key}, oldKey, "", 245 * time.Second, 255 * time.Second, 15},
		{"the issuer restarts at once", []string{oldKey}, 5 * time.Second, []string{key}, oldKey, "", 5 * time.Second, 15 * time.Second, 3},
		{"it has the key already", []string{key}, moment, []string{key}, oldKey, "", 0, 0, 1},
		{"it comes to accept both", []string{oldKey}, 3 * time.Minute, []string{oldKey, key}, oldKey, "", 3 * time.Minute, 4*time.Minute + moment, 10},
		{"it never gets the key", []string{oldKey}, moment, []string{oldKey}, oldKey, check.Held, 10 * time.Minute, 10 * time.Minute, 33},
		{"it accepts neither", []string{"theirs"}, moment, []string{"theirs"}, oldKey, check.Held, 10 * time.Minute, 10 * time.Minute, 33},
		{"it gets another key than this", []string{oldKey}, 95 * time.Second, []string{"theirs"}, oldKey, check.Held, 10 * time.Minute, 10 * time.Minute, 36},
		{"Proxmox has the key already", []string{key}, moment, []string{key}, key, "", 0, 0, 1},
	} {
		bubble(t, tt.name, func(s *site) {
			s.accepts(tt.first...)
			later(tt.at, func() { s.accepts(tt.then...) })
			s.put(stored(with(realm.ClientKey, tt.stored))).declares(setKey(key))
			got, took := s.await(10 * time.Minute)
			outcome := reconcile.Unchanged
			if tt.code != "" {
				outcome = reconcile.Held
			}
			s.expect(got, outcome, realm.None, tt.code)
			if took < tt.least || took > tt.most || s.failures() > tt.failures || s.writes() > 0 {
				s.Errorf("took %s; %d failures; %v", took, s.failures(), s.writes())
			}
		})
	}
}

// A key that was refused within a minute is not asked about again, also by another process.
func TestWaitForAKeyGoesOn(t *testing.T) {
	alone(t, func(s *site) {
		s.accepts("theirs")
		later(3*time.Minute, func() { s.accepts(key) })
		s.put(stored()).declares(setKey(key))
		began := time.Now()
		for range 20 {
			if got, _ := s.await(0); got.Outcome == reconcile.Unchanged {
				break
			}
			time.Sleep(15 * time.Second)
		}
		if took := time.Since(began); took < 3*time.Minute || took > 4*time.Minute+30*time.Second || s.failures() > 18 {
			t.Errorf("accepted after %s, with %d failures", took, s.failures())
		}
	})
}

// What was accepted a moment ago may not be any more.
func TestWaitForAKeyAsksAnew(t *testing.T) {
	alone(t, func(s *site) {
		s.put(stored()).declares(setKey(key)).accepts(key)
		got, _ := s.await(0)
		s.expect(got, reconcile.Unchanged, realm.None, "")
		s.accepts(oldKey)
		got, _ = s.await(0)
		s.expect(got, reconcile.Held, realm.None, check.Held)
	})
}

// A question that decides nothing is asked as rarely as one that is refused.
func TestWaitForAKeyThatNothingTells(t *testing.T) {
	alone(t, func(s *site) {
		s.put(stored()).declares(setKey(key)).undecided()
		got, _ := s.await(10 * time.Minute)
		s.expect(got, reconcile.Held, realm.None, check.Held)
		if _, full := s.looks(); full < 9 || full > 11 {
			t.Errorf("%d questions", full)
		}
	})
}

// A 429 ends the wait, whichever key was asked about, and nothing more is asked.
func TestWaitForAKeyEndsWhereTheIssuerLimits(t *testing.T) {
	for title, path := range map[string]string{"the former key": introspectionPath, "the declared key": tokenPath} {
		bubble(t, title, func(s *site) {
			s.put(stored()).declares(setKey(key)).accepts(oldKey)
			later(2*time.Minute, func() { s.limits(path, "3600") })
			got, took := s.await(10 * time.Minute)
			s.expect(got, reconcile.Failed, realm.None, check.RateLimited)
			if took > 3*time.Minute {
				s.Errorf("ended after %s", took)
			}
		})
	}
}
