package reconcile_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// The gate stands before an update of six properties and before every replace, and before nothing else.
func TestTheGateStandsWhereLoginsCouldBreak(t *testing.T) {
	gated := map[realm.Property]bool{
		realm.IssuerURL: true, realm.ClientID: true, realm.ClientKey: true, realm.Scopes: true, realm.Prompt: true, realm.ACRValues: true,
		realm.UsernameClaim: true, // a replace
	}
	for _, d := range realm.Definitions() {
		change, action := set(d.Property, "other"), realm.Update
		switch {
		case d.Kind == realm.KindKey:
			change = setKey(key)
		case d.Kind == realm.KindBool:
			change = set(d.Property, map[bool]string{true: "0", false: "1"}[d.Property == realm.Autocreate || d.Property == realm.QueryUserinfo])
		case d.CreateOnly:
			action = realm.Replace
		}
		c, p := newCluster(t).put(name, stored()), &provider{finds: broken}
		target := aim(t, c, p, spec(change))
		got := reconcile.Apply(t.Context(), target, reconcile.Options{Replace: true})
		if gated[d.Property] {
			expect(t, got, reconcile.Held, action, check.Held)
			if c.writes() != 0 || len(files(t, target)) != 0 || len(got.Changes) != 1 {
				t.Errorf("%s: held, but %v", d.Property, c.calls)
			}
			if len(p.questions) != 0 {
				t.Errorf("%s: the client is asked about though its issuer is broken", d.Property)
			}
			continue
		}
		expect(t, got, reconcile.Unverified, action, "")
		if c.writes() != 1 {
			t.Errorf("%s: %v", d.Property, c.calls)
		}
	}
	c := newCluster(t)
	expect(t, reconcile.Apply(t.Context(), aim(t, c, &provider{finds: broken}, spec()), reconcile.Options{}), reconcile.Unverified, realm.Create, "")
}

func TestWhatHoldsAndWhatDoesNot(t *testing.T) {
	limited := func(string) *reconcile.Verdict {
		return &reconcile.Verdict{Answer: reconcile.Limited, RetryAfter: 90*time.Second + time.Millisecond}
	}
	never := func() bool { return false }
	for _, tt := range []struct {
		name    string
		issuer  provider
		target  func(*reconcile.Target)
		options reconcile.Options
		held    check.Code // "": written
		says    string     // in message or hint, or, where it is written, in a warning
	}{
		{name: "an issuer check fails", issuer: provider{finds: broken}, held: check.Held, says: "issuer.identity: the issuer calls itself"},
		{name: "its hint is the remedy", issuer: provider{finds: broken}, held: check.Held, says: "set realm.issuer_url to https://auth.example.com/; --no-gate"},
		{name: "the client's key is refused", issuer: provider{takes: func(string) bool { return false }}, held: check.Held, says: "client.credentials: the issuer refuses the key"},
		{name: "the redirect URL is refused", issuer: provider{redirect: never}, held: check.Held, says: "client.redirect: the issuer refuses the redirect URL"},
		{name: "only the former key is taken", issuer: provider{takes: only(oldKey)}, held: check.Held, says: "still takes the key that Proxmox holds, and not the declared one"},
		{name: "only the former key is taken: what to do", issuer: provider{takes: only(oldKey)}, held: check.Held, says: "file is stale, or the issuer does not have the new key's digest yet: restart Authelia"},
		{name: "the issuer limits requests", issuer: provider{verdict: limited}, held: check.RateLimited, says: "run again in 1m30s"},
		{name: "the issuer limits requests without saying for how long", issuer: provider{verdict: func(string) *reconcile.Verdict { return &reconcile.Verdict{Answer: reconcile.Limited} }}, held: check.RateLimited, says: "some minutes"},
		{name: "the issuer limits requests for its documents", issuer: provider{limited: true}, held: check.RateLimited, says: "run again in 1m0s"},
		{name: "that counts where no client is asked about, too", issuer: provider{limited: true}, target: func(t *reconcile.Target) { t.AskClient = reconcile.Never }, held: check.RateLimited, says: "run again in 1m0s"},
		{name: "no verdict", issuer: provider{verdict: func(string) *reconcile.Verdict { return &reconcile.Verdict{} }}, says: "no verdict on client proxmox"},
		{name: "all is well", issuer: provider{takes: only(key)}},
		{name: "--no-gate", issuer: provider{finds: broken, takes: only(oldKey)}, options: reconcile.Options{NoGate: true}},
		{name: "policy.gate: false", issuer: provider{finds: broken, takes: only(oldKey)}, target: func(t *reconcile.Target) { t.Gate = false }},
		{name: "verify.issuer: false", issuer: provider{finds: broken}, target: func(t *reconcile.Target) { t.Issuer = nil }},
		{name: "an ignored issuer check", issuer: provider{finds: broken}, target: func(t *reconcile.Target) { t.Ignore = []check.ID{check.IssuerIdentity} }},
		{name: "an ignored client check", issuer: provider{redirect: never}, target: func(t *reconcile.Target) { t.Ignore = []check.ID{check.ClientRedirect} }},
		{name: "another check is ignored", issuer: provider{redirect: never}, target: func(t *reconcile.Target) { t.Ignore = []check.ID{check.ClientCredentials} }, held: check.Held, says: "client.redirect"},
		{name: "verify.client: never", issuer: provider{takes: only(oldKey)}, target: func(t *reconcile.Target) { t.AskClient = reconcile.Never }},
		{name: "verify.client: never leaves the issuer checks", issuer: provider{finds: broken}, target: func(t *reconcile.Target) { t.AskClient = reconcile.Never }, held: check.Held, says: "issuer.identity"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, p := newCluster(t).put(name, stored()), &tt.issuer
			target := aim(t, c, p, spec(setKey(key)))
			if tt.target != nil {
				tt.target(&target)
			}
			got := reconcile.Apply(t.Context(), target, tt.options)
			if tt.held != "" {
				outcome := reconcile.Held
				if tt.held == check.RateLimited {
					outcome = reconcile.Failed
				}
				expect(t, got, outcome, realm.Update, tt.held)
				f := check.Describe(got.Err)
				if !strings.Contains(f.Message+"; "+f.Hint(), tt.says) {
					t.Errorf("%q is missing in %q, %q", tt.says, f.Message, f.Hint())
				}
				if c.writes() != 0 || c.realms[name]["client-key"] != oldKey {
					t.Errorf("held, but %v", c.calls)
				}
				return
			}
			if c.writes() != 1 || got.Err != nil || c.realms[name]["client-key"] != key {
				t.Errorf("%s, %v after %v", got.Outcome, got.Err, c.calls)
			}
			if said := strings.Join(got.Warnings, "; "); tt.says == "" && said != "" || !strings.Contains(said, tt.says) || len(got.Warnings) > 1 {
				t.Errorf("warnings %q, want one with %q", got.Warnings, tt.says)
			}
			if tt.options.NoGate && len(p.questions) != 1 {
				t.Errorf("%d questions: only the verification asks", len(p.questions))
			}
		})
	}
}

// The stale key is spoken of only where Proxmox holds another key and the key is what changes.
func TestTheFormerKeyIsAskedAboutOnlyWhereItTellsSomething(t *testing.T) {
	refuseAll := func(string) bool { return false }
	for title, tt := range map[string]struct {
		begin   fields
		spec    realm.Spec
		accepts int
	}{
		"the key changes":          {stored(), spec(setKey(key)), 1},
		"the key stays":            {stored(), spec(setKey(oldKey), set(realm.Prompt, "login")), 0},
		"there was no key":         {stored(without(realm.ClientKey)), spec(setKey(key)), 0},
		"the key is not managed":   {stored(), spec(set(realm.Prompt, "login")), 0},
		"the key is being removed": {stored(), spec(unset(realm.ClientKey)), 1},
	} {
		c, p := newCluster(t).put(name, tt.begin), &provider{takes: refuseAll}
		expect(t, reconcile.Apply(t.Context(), aim(t, c, p, tt.spec), reconcile.Options{}), reconcile.Held, realm.Update, check.Held)
		if p.accepts != tt.accepts {
			t.Errorf("%s: asked %d times", title, p.accepts)
		}
	}
}

// After a lost or conflicting write the gate is asked again about the same inspection: issuer and client hear nothing new.
func TestTheGateAsksOnceAcrossAttempts(t *testing.T) {
	c, p := newCluster(t).put(name, stored()), &provider{takes: only(key)}
	c.script["update#1"] = trouble{before: c.touch}
	expect(t, reconcile.Apply(t.Context(), aim(t, c, p, spec(setKey(key))), reconcile.Options{}), reconcile.Changed, realm.Update, "")
	if len(p.inspected) != 1 {
		t.Errorf("inspected %d times", len(p.inspected))
	}
}

// waiting runs apply --wait 10m and returns what it took.
func waiting(t *testing.T, c *cluster, p *provider, s realm.Spec) (reconcile.Result, time.Duration) {
	t.Helper()
	began := time.Now()
	got := reconcile.Apply(t.Context(), aim(t, c, p, s), reconcile.Options{Wait: 10 * time.Minute})
	return got, time.Since(began)
}

// How a key is rotated: the new key is declared, the run waits, Authelia is restarted with the new digest.
func TestWaitingRotatesAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		restart := time.Now().Add(4*time.Minute + 5*time.Second)
		c, p := newCluster(t).put(name, stored()), &provider{takes: func(k string) bool { return (k == key) == time.Now().After(restart) }}
		got, took := waiting(t, c, p, spec(setKey(key)))
		expect(t, got, reconcile.Changed, realm.Update, "")
		if took < 4*time.Minute || took > 4*time.Minute+20*time.Second {
			t.Errorf("the gate opened after %s", took)
		}
		// The declared key at the beginning, every 2 minutes, and the former one once when it stops being taken.
		if n := len(p.refused); n > 4 {
			t.Errorf("%d refusals count against our address", n)
		}
		for i, q := range p.questions {
			if last := i == len(p.questions)-1; q.Quiet == last {
				t.Errorf("question %d of %d: quiet is %t: while waiting it repeats, after the write it must prove most", i+1, len(p.questions), q.Quiet)
			}
		}
		if c.writes() != 1 || c.count(read) != 2 {
			t.Errorf("calls %v", c.calls)
		}
	})
}

// An issuer may come to take both keys: the declared one is asked about now and then even while the former is taken.
func TestWaitingNoticesThatBothKeysAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		restart := time.Now().Add(3 * time.Minute)
		c, p := newCluster(t).put(name, stored()), &provider{takes: func(k string) bool { return k == oldKey || time.Now().After(restart) }}
		got, took := waiting(t, c, p, spec(setKey(key)))
		expect(t, got, reconcile.Changed, realm.Update, "")
		if took < 3*time.Minute || took > 5*time.Minute+20*time.Second {
			t.Errorf("noticed after %s", took)
		}
	})
}

// Authelia's smallest bursts are 30 refusals, refilled by one a minute: a wait must leave most of them to real logins.
func TestWaitingInVainIsSparing(t *testing.T) {
	for title, tt := range map[string]struct {
		issuer    *provider
		refusals  int
		questions int
	}{
		"the former key is taken":     {&provider{takes: only(oldKey)}, 6, 6},
		"neither key is taken":        {&provider{takes: func(string) bool { return false }}, 12, 11},
		"the redirect URL is refused": {&provider{redirect: func() bool { return false }}, 0, 61},
		"the issuer is broken":        {&provider{finds: broken}, 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, p := newCluster(t).put(name, stored()), tt.issuer
			got, took := waiting(t, c, p, spec(setKey(key)))
			expect(t, got, reconcile.Held, realm.Update, check.Held)
			if took > 10*time.Minute || took < 9*time.Minute {
				t.Errorf("%s: waited %s", title, took)
			}
			if len(p.refused) > tt.refusals || len(p.questions) > tt.questions {
				t.Errorf("%s: %d refusals and %d questions, at most %d and %d", title, len(p.refused), len(p.questions), tt.refusals, tt.questions)
			}
			if len(p.inspected) < 10 || len(p.inspected) > 61 || c.writes() != 0 || c.count(read) != 1 {
				t.Errorf("%s: inspected %d times, calls %v", title, len(p.inspected), c.calls)
			}
			for i, q := range p.questions {
				if !q.Quiet {
					t.Errorf("%s: question %d is not quiet", title, i+1)
				}
			}
			for i := 1; i < len(p.began); i++ {
				if p.began[i].Sub(p.began[i-1]) < 10*time.Second {
					t.Errorf("%s: looked again after %s", title, p.began[i].Sub(p.began[i-1]))
				}
			}
		})
	}
}

func TestWaitingForAnIssuerThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		back := time.Now().Add(3 * time.Minute)
		c, p := newCluster(t).put(name, stored()), &provider{takes: only(key)}
		p.finds = func() []check.Check {
			if time.Now().Before(back) {
				return broken()
			}
			return []check.Check{check.Passed(check.IssuerIdentity, "the issuer is itself")}
		}
		got, took := waiting(t, c, p, spec(setKey(key)))
		expect(t, got, reconcile.Changed, realm.Update, "")
		if took < 3*time.Minute || took > 3*time.Minute+10*time.Second || len(p.questions) != 2 || status(got, check.IssuerIdentity) != check.Pass {
			t.Errorf("after %s and %d questions", took, len(p.questions))
		}
	})
}

// After a first 429 nothing more is asked, however long the run may wait.
func TestWaitingEndsWhereTheIssuerLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := time.Now().Add(2 * time.Minute)
		c, p := newCluster(t).put(name, stored()), &provider{takes: func(string) bool { return false }}
		p.verdict = func(string) *reconcile.Verdict {
			if time.Now().Before(limit) {
				return nil
			}
			return &reconcile.Verdict{Answer: reconcile.Limited, RetryAfter: time.Hour}
		}
		got, took := waiting(t, c, p, spec(setKey(key)))
		expect(t, got, reconcile.Failed, realm.Update, check.RateLimited)
		if took > 3*time.Minute+time.Second || c.writes() != 0 {
			t.Errorf("ended after %s and %v", took, c.calls)
		}
	})
}

func TestWaitingIsInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newCluster(t).put(name, stored()), &provider{takes: only(oldKey)}
		ctx, stop := context.WithCancelCause(t.Context())
		defer stop(nil)
		time.AfterFunc(95*time.Second, func() { stop(check.Errorf(check.Interrupted, "interrupted")) })
		began := time.Now()
		got := reconcile.Apply(ctx, aim(t, c, p, spec(setKey(key))), reconcile.Options{Wait: 10 * time.Minute})
		expect(t, got, reconcile.Failed, realm.Update, check.Interrupted)
		if time.Since(began) != 95*time.Second || c.writes() != 0 {
			t.Errorf("after %s: %v", time.Since(began), c.calls)
		}
	})
}

// What the realm became during the wait counts, and the wait does not begin anew.
func TestWaitingMeetsAnotherWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opens := time.Now().Add(6 * time.Minute)
		c, p := newCluster(t).put(name, stored()), &provider{}
		p.takes = func(k string) bool { return (k == key) == time.Now().After(opens) }
		c.script["update#1"] = trouble{before: func() {
			c.put(name, stored(with(realm.Comment, "theirs")))
			p.finds = broken // and the gate closes again
		}}
		got, took := waiting(t, c, p, spec(setKey(key)))
		expect(t, got, reconcile.Held, realm.Update, check.Held)
		if took < 9*time.Minute || took > 10*time.Minute || c.count(update) != 1 || c.count(read) != 2 {
			t.Errorf("after %s: %v", took, c.calls)
		}
		if c.realms[name]["comment"] != "theirs" {
			t.Errorf("overwrote %v", c.realms[name])
		}
	})
}
