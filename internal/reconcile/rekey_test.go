package reconcile_test

import (
	"context"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

func rekey(ctx context.Context, t aimed, write bool) reconcile.Result {
	return reconcile.Rekey(ctx, t.Target, t.Deps, reconcile.Options{}, write)
}

// Only the key changes, whatever else differs. What another writer does meanwhile stays.
func TestRekeyChangesTheKeyAlone(t *testing.T) {
	rekeyed := stored(with(realm.ClientKey, key))
	for title, tt := range map[string]struct {
		before  fields
		script  map[string]trouble
		outcome reconcile.Outcome
		action  realm.Action
		code    check.Code
		after   fields
	}{
		"another key":     {stored(), nil, reconcile.Changed, realm.Update, "", rekeyed},
		"no key":          {stored(without(realm.ClientKey)), nil, reconcile.Changed, realm.Update, "", rekeyed},
		"the key":         {rekeyed, nil, reconcile.Unchanged, realm.None, "", rekeyed},
		"no realm":        {nil, nil, reconcile.Refused, realm.Refuse, check.KeyRotation, nil},
		"another client":  {stored(with(realm.ClientID, "theirs")), nil, reconcile.Refused, realm.Refuse, check.KeyRotation, stored(with(realm.ClientID, "theirs"))},
		"another issuer":  {stored(with(realm.IssuerURL, "https://theirs")), nil, reconcile.Refused, realm.Refuse, check.KeyRotation, stored(with(realm.IssuerURL, "https://theirs"))},
		"another type":    {fields{"type": "ldap"}, nil, reconcile.Refused, realm.Refuse, check.WrongType, fields{"type": "ldap"}},
		"a lost answer":   {stored(), map[string]trouble{"update#1": {lost: true}}, reconcile.Changed, realm.Update, "", rekeyed},
		"another writer":  {stored(), map[string]trouble{"update#1": {err: conflict("detected modified configuration")}}, reconcile.Changed, realm.Update, "", rekeyed},
		"Proxmox is down": {stored(), map[string]trouble{update: {err: errDown}}, reconcile.Failed, realm.Update, check.Unreachable, stored()},
	} {
		c := newCluster(t).put(name, tt.before)
		c.script = tt.script
		p := &fakeIssuer{takes: only("nothing")}
		s := spec(setKey(key), set(realm.Scopes, "openid"), set(realm.UsernameClaim, "email"))
		target := aim(t, c, p, s)
		got := rekey(t.Context(), target, true)
		t.Log(title)
		expect(t, got, tt.outcome, tt.action, tt.code)
		if !equal(c.realms[name], tt.after) {
			t.Errorf("%s: the realm is %v", title, c.realms[name])
		}
		if len(p.inspected) > 0 || len(got.Checks) > 0 {
			t.Errorf("%s: asked the issuer", title)
		}
		for _, put := range c.puts {
			if sent := slices.Sorted(maps.Keys(put)); !slices.Equal(sent, []string{"client-key", "digest"}) {
				t.Errorf("%s: sent %v", title, sent)
			}
		}
	}
}

// A realm that an interrupted replace left is not touched, and neither is its file, even if it looks as declared.
func TestRekeyStopsAtASavedRealm(t *testing.T) {
	c, target, file := interrupted(t)
	c.put(name, stored(with(realm.UsernameClaim, "email")))
	target.Realm = spec(setKey(oldKey))
	for _, write := range []bool{false, true} {
		expect(t, rekey(t.Context(), target, write), reconcile.Refused, realm.Refuse, check.SavedRealm)
	}
	if left := pending(t, target); c.writes() > 0 || !slices.Equal(left, []string{file}) {
		t.Errorf("%v, %v", c.calls, left)
	}
}

// What would be written is known before, and whether it may.
func TestRekeyIsForeseen(t *testing.T) {
	c := newCluster(t).put(name, stored())
	target := aim(t, c, &fakeIssuer{}, spec(setKey(key)))
	expect(t, rekey(t.Context(), target, false), reconcile.Drift, realm.Update, "")
	c.script[permissions] = trouble{err: errPermission}
	expect(t, rekey(t.Context(), target, false), reconcile.Failed, realm.Update, check.PermissionDenied)
	c.put(name, stored(with(realm.ClientKey, key)))
	expect(t, rekey(t.Context(), target, false), reconcile.Unchanged, realm.None, "")
	if c.writes() > 0 {
		t.Errorf("%v", c.calls)
	}
}

// keyWait is a wait for the declared key. It notes when which key was refused.
type keyWait struct {
	aimed
	*fakeIssuer
	refusals map[string][]time.Time
}

func waitForKey(t *testing.T, takes func(key string) bool) *keyWait {
	t.Helper()
	w := &keyWait{fakeIssuer: &fakeIssuer{}, refusals: map[string][]time.Time{}}
	w.takes = func(k string) bool {
		ok := takes(k)
		if !ok {
			w.refusals[k] = append(w.refusals[k], time.Now())
		}
		return ok
	}
	w.aimed = aim(t, newCluster(t).put(name, stored()), w.fakeIssuer, spec(setKey(key)))
	return w
}

// await looks every 10 s, as a fleet does.
func (w *keyWait) await(ctx context.Context, atMost time.Duration) (got reconcile.Result, took time.Duration) {
	var wait reconcile.KeyWait
	o := reconcile.Options{Began: time.Now(), Waits: true}
	for {
		got = wait.Look(ctx, w.Target, w.Deps, o)
		took = time.Since(o.Began)
		if got.Outcome != reconcile.Held || took >= atMost || ctx.Err() != nil {
			return got, took
		}
		time.Sleep(10 * time.Second)
		o.Look, o.Last = time.Now(), time.Since(o.Began) >= atMost
	}
}

// sparing expects at most one refusal a minute of each key, and none of the former key after the first. Only when the former key is
// refused, the declared one is asked about at once.
func (w *keyWait) sparing(t *testing.T) {
	t.Helper()
	if len(w.refusals[oldKey]) > 1 {
		t.Errorf("the former key was refused at %v", w.refusals[oldKey])
	}
	for i, at := range w.refusals[key] {
		if i > 0 && at.Sub(w.refusals[key][i-1]) < time.Minute && !slices.Contains(w.refusals[oldKey], at) {
			t.Errorf("the declared key was refused at %v", w.refusals[key])
		}
	}
}

func TestWaitForAKey(t *testing.T) {
	after := func(d time.Duration) func() bool {
		began := time.Now()
		return func() bool { return time.Since(began) >= d }
	}
	for _, tt := range []struct {
		name           string
		takes          func() func(key string) bool
		outcome        reconcile.Outcome
		code           check.Code
		least, most    time.Duration
		refusedAtMost  int
		formerIsStored bool
	}{
		{"the issuer restarts with the key", func() func(string) bool {
			restarted := after(4*time.Minute + 5*time.Second)
			return func(k string) bool { return (k == key) == restarted() }
		}, reconcile.Unchanged, "", 4*time.Minute + 5*time.Second, 4*time.Minute + 15*time.Second, 5, true},
		{"the issuer restarts at once", func() func(string) bool {
			restarted := after(5 * time.Second)
			return func(k string) bool { return (k == key) == restarted() }
		}, reconcile.Unchanged, "", 5 * time.Second, 15 * time.Second, 1, true},
		{"it has the key already", func() func(string) bool { return only(key) }, reconcile.Unchanged, "", 0, 0, 1, true},
		{"it comes to accept both", func() func(string) bool {
			added := after(3 * time.Minute)
			return func(k string) bool { return k == oldKey || added() }
		}, reconcile.Unchanged, "", 3 * time.Minute, 4*time.Minute + 10*time.Second, 3, true},
		{"it never gets the key", func() func(string) bool { return only(oldKey) }, reconcile.Held, check.Held, 10 * time.Minute, 10 * time.Minute, 10, true},
		{"it accepts neither", func() func(string) bool { return only("theirs") }, reconcile.Held, check.Held, 10 * time.Minute, 10 * time.Minute, 12, true},
		{"it gets another key than this", func() func(string) bool {
			restarted := after(95 * time.Second)
			return func(k string) bool { return k == oldKey && !restarted() }
		}, reconcile.Held, check.Held, 10 * time.Minute, 10 * time.Minute, 12, true},
		{"Proxmox has the key already", func() func(string) bool { return only(key) }, reconcile.Unchanged, "", 0, 0, 0, false},
	} {
		inBubble(t, tt.name, func(t *testing.T) {
			w := waitForKey(t, tt.takes())
			c := w.Cluster.(*cluster)
			if !tt.formerIsStored {
				c.put(name, stored(with(realm.ClientKey, key)))
			}
			got, took := w.await(t.Context(), 10*time.Minute)
			expect(t, got, tt.outcome, realm.None, tt.code)
			if took < tt.least || took > tt.most {
				t.Errorf("took %s", took)
			}
			if n := len(w.refused); n > tt.refusedAtMost {
				t.Errorf("%d questions were refused: %v", n, w.refusals)
			}
			if w.sparing(t); c.writes() > 0 {
				t.Errorf("%v", c.calls)
			}
		})
	}
}

// A key that was refused within a minute is not asked about again, also by another process.
func TestWaitForAKeyGoesOn(t *testing.T) {
	inBubble(t, "in another process", func(t *testing.T) {
		restart := time.Now().Add(3 * time.Minute)
		w := waitForKey(t, func(k string) bool { return k == key && time.Now().After(restart) })
		for range 20 {
			if got, _ := w.await(t.Context(), 0); got.Outcome == reconcile.Unchanged {
				break
			}
			time.Sleep(15 * time.Second)
		}
		if took := time.Since(restart); took < 0 || took > time.Minute+30*time.Second {
			t.Errorf("accepted after %s", took)
		}
		w.sparing(t)
	})
}

// What was accepted a moment ago may not be any more.
func TestWaitForAKeyAsksAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		accepts := key
		w := waitForKey(t, func(k string) bool { return k == accepts })
		got, _ := w.await(t.Context(), 0)
		expect(t, got, reconcile.Unchanged, realm.None, "")
		accepts = oldKey
		got, _ = w.await(t.Context(), 0)
		expect(t, got, reconcile.Held, realm.None, check.Held)
	})
}

// A question that decides nothing is asked as rarely as one that is refused.
func TestWaitForAKeyThatNothingTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := waitForKey(t, func(string) bool { return true })
		asked := 0 // about the declared key
		w.verdict = func(k string) *issuer.Verdict {
			if k == key {
				asked++
			}
			return &issuer.Verdict{Decision: issuer.NoVerdict}
		}
		got, _ := w.await(t.Context(), 10*time.Minute)
		expect(t, got, reconcile.Held, realm.None, check.Held)
		if asked < 9 || asked > 11 {
			t.Errorf("%d questions", asked)
		}
	})
}

// A 429 ends the wait, whichever key was asked about, and nothing more is asked.
func TestWaitForAKeyEndsWhereTheIssuerLimits(t *testing.T) {
	for _, limited := range []string{oldKey, key} {
		inBubble(t, limited, func(t *testing.T) {
			limit := time.Now().Add(2 * time.Minute)
			w := waitForKey(t, only(oldKey))
			w.verdict = func(k string) *issuer.Verdict {
				if k != limited || time.Now().Before(limit) {
					return nil
				}
				return &issuer.Verdict{Decision: issuer.RateLimited, RetryAfter: time.Hour}
			}
			got, took := w.await(t.Context(), 10*time.Minute)
			expect(t, got, reconcile.Failed, realm.None, check.RateLimited)
			if took > 3*time.Minute {
				t.Errorf("ended after %s", took)
			}
		})
	}
}
