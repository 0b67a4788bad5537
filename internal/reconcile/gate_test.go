package reconcile_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/issuer"
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
		case d.Form == realm.FormKey:
			change = setKey(key)
		case d.Form == realm.FormBool:
			change = set(d.Property, map[bool]string{true: "0", false: "1"}[d.Property == realm.Autocreate || d.Property == realm.QueryUserinfo])
		case d.CreateOnly:
			action = realm.Replace
		}
		c, p := newCluster(t).put(name, stored()), &fakeIssuer{finds: broken}
		target := aim(t, c, p, spec(change))
		got := apply(t.Context(), target, reconcile.Options{Replace: true})
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
	expect(t, apply(t.Context(), aim(t, c, &fakeIssuer{finds: broken}, spec()), reconcile.Options{}), reconcile.Unverified, realm.Create, "")
}

func TestWhatHoldsAndWhatDoesNot(t *testing.T) {
	limited := func(string) *issuer.Verdict {
		return &issuer.Verdict{Decision: issuer.RateLimited, RetryAfter: 90*time.Second + time.Millisecond}
	}
	never := func() bool { return false }
	for _, tt := range []struct {
		name    string
		issuer  fakeIssuer
		target  func(*aimed)
		options reconcile.Options
		held    check.Code // "": written
		says    string     // in message or hint, or, where it is written, in a warning
	}{
		{name: "an issuer check fails", issuer: fakeIssuer{finds: broken}, held: check.Held, says: "issuer.identity: the issuer calls itself"},
		{name: "its hint is the remedy", issuer: fakeIssuer{finds: broken}, held: check.Held, says: "set realm.issuer_url to https://auth.example.com/\nto write it anyway:\n    proxmox-realm apply --no-gate"},
		{name: "the client's key is refused", issuer: fakeIssuer{takes: func(string) bool { return false }}, held: check.Held, says: "client.credentials: the issuer refuses the key"},
		{name: "the redirect URL is refused", issuer: fakeIssuer{redirect: never}, held: check.Held, says: "client.redirect: the issuer refuses the redirect URL"},
		{name: "only the former key is taken", issuer: fakeIssuer{takes: only(oldKey)}, held: check.Held, says: "accepts the client key that Proxmox holds, but not the declared one"},
		{name: "only the former key is taken: what to do", issuer: fakeIssuer{takes: only(oldKey)}, held: check.Held, says: "give the issuer the declared key"},
		{name: "the issuer limits requests", issuer: fakeIssuer{verdict: limited}, held: check.RateLimited, says: "run again in 1m30s"},
		{name: "the issuer limits requests without saying for how long", issuer: fakeIssuer{verdict: func(string) *issuer.Verdict { return &issuer.Verdict{Decision: issuer.RateLimited} }}, held: check.RateLimited, says: "run again in 5m"},
		{name: "the issuer limits requests for its documents", issuer: fakeIssuer{limited: true}, held: check.RateLimited, says: "run again in 1m0s"},
		{name: "that counts where no client is asked about, too", issuer: fakeIssuer{limited: true}, target: func(t *aimed) { t.Verify.Client = false }, held: check.RateLimited, says: "run again in 1m0s"},
		{name: "no verdict", issuer: fakeIssuer{verdict: func(string) *issuer.Verdict { return &issuer.Verdict{} }}, held: check.Held, says: "nothing shows whether the issuer accepts the new client id or key"},
		{name: "all is well", issuer: fakeIssuer{takes: only(key)}},
		{name: "--no-gate", issuer: fakeIssuer{finds: broken, takes: only(oldKey)}, options: reconcile.Options{NoGate: true}},
		{name: "policy.gate: false", issuer: fakeIssuer{finds: broken, takes: only(oldKey)}, target: func(t *aimed) { t.Gate = false }},
		{name: "verify.issuer: false", issuer: fakeIssuer{finds: broken}, target: func(t *aimed) { t.Issuer = nil }},
		{name: "an ignored issuer check", issuer: fakeIssuer{finds: broken}, target: func(t *aimed) { t.Verify.Ignore = []check.ID{check.IssuerIdentity} }},
		{name: "an ignored client check", issuer: fakeIssuer{redirect: never}, target: func(t *aimed) { t.Verify.Ignore = []check.ID{check.ClientRedirect} }},
		{name: "another check is ignored", issuer: fakeIssuer{redirect: never}, target: func(t *aimed) { t.Verify.Ignore = []check.ID{check.ClientCredentials} }, held: check.Held, says: "client.redirect"},
		{name: "verify.client: false", issuer: fakeIssuer{takes: only(oldKey)}, target: func(t *aimed) { t.Verify.Client = false }, says: "was not checked"},
		{name: "verify.client: false leaves the issuer checks", issuer: fakeIssuer{finds: broken}, target: func(t *aimed) { t.Verify.Client = false }, held: check.Held, says: "issuer.identity"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, p := newCluster(t).put(name, stored()), &tt.issuer
			target := aim(t, c, p, spec(setKey(key)))
			if tt.target != nil {
				tt.target(&target)
			}
			got := apply(t.Context(), target, tt.options)
			if tt.held != "" {
				outcome := reconcile.Held
				if tt.held == check.RateLimited {
					outcome = reconcile.Failed
				}
				expect(t, got, outcome, realm.Update, tt.held)
				message, hint := check.MessageOf(got.Err), check.HintOf(got.Err).For(check.Names{})
				if !strings.Contains(message+"; "+hint, tt.says) {
					t.Errorf("%q is missing in %q, %q", tt.says, message, hint)
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
		c, p := newCluster(t).put(name, tt.begin), &fakeIssuer{takes: refuseAll}
		expect(t, apply(t.Context(), aim(t, c, p, tt.spec), reconcile.Options{}), reconcile.Held, realm.Update, check.Held)
		if p.accepts != tt.accepts {
			t.Errorf("%s: asked %d times", title, p.accepts)
		}
	}
}

// After a lost or conflicting write the gate is asked again about the same inspection: issuer and client hear nothing new.
func TestTheGateAsksOnceAcrossAttempts(t *testing.T) {
	c, p := newCluster(t).put(name, stored()), &fakeIssuer{takes: only(key)}
	c.script["update#1"] = trouble{before: c.touch}
	expect(t, apply(t.Context(), aim(t, c, p, spec(setKey(key))), reconcile.Options{}), reconcile.Changed, realm.Update, "")
	if len(p.inspected) != 1 {
		t.Errorf("inspected %d times", len(p.inspected))
	}
}

// waiting runs apply --wait 10m and returns what it took.
func waiting(t *testing.T, c *cluster, p *fakeIssuer, s realm.Spec) (reconcile.Result, time.Duration) {
	t.Helper()
	began := time.Now()
	got := waits(t.Context(), aim(t, c, p, s), 10*time.Minute)
	return got, time.Since(began)
}

// How a key is rotated: the new key is declared, the run waits, Authelia is restarted with the new digest.
func TestWaitingRotatesAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		restart := time.Now().Add(4*time.Minute + 5*time.Second)
		c, p := newCluster(t).put(name, stored()), &fakeIssuer{takes: func(k string) bool { return (k == key) == time.Now().After(restart) }}
		got, took := waiting(t, c, p, spec(setKey(key)))
		expect(t, got, reconcile.Changed, realm.Update, "")
		if took < 4*time.Minute || took > 4*time.Minute+20*time.Second {
			t.Errorf("the gate opened after %s", took)
		}
		// The declared key at the beginning and every minute, and the former one once when it stops being taken.
		if n := len(p.refused); n > 6 {
			t.Errorf("%d refusals count against our address", n)
		}
		if c.writes() != 1 {
			t.Errorf("calls %v", c.calls)
		}
	})
}

// An issuer may come to take both keys: the declared one is asked about now and then even while the former is taken.
func TestWaitingNoticesThatBothKeysAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		restart := time.Now().Add(3 * time.Minute)
		c, p := newCluster(t).put(name, stored()), &fakeIssuer{takes: func(k string) bool { return k == oldKey || time.Now().After(restart) }}
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
		issuer    *fakeIssuer
		refusals  int
		questions int
	}{
		"the former key is taken":     {&fakeIssuer{takes: only(oldKey)}, 11, 11},
		"neither key is taken":        {&fakeIssuer{takes: func(string) bool { return false }}, 12, 11},
		"the redirect URL is refused": {&fakeIssuer{redirect: func() bool { return false }}, 0, 11},
		"the issuer is broken":        {&fakeIssuer{finds: broken}, 0, 0},
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
			if len(p.inspected) < 10 || len(p.inspected) > 61 || c.writes() != 0 {
				t.Errorf("%s: inspected %d times, calls %v", title, len(p.inspected), c.calls)
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
		c, p := newCluster(t).put(name, stored()), &fakeIssuer{takes: only(key)}
		p.finds = func() []check.Check {
			if time.Now().Before(back) {
				return broken()
			}
			return []check.Check{check.Passed(check.IssuerIdentity, "the issuer is itself")}
		}
		got, took := waiting(t, c, p, spec(setKey(key)))
		expect(t, got, reconcile.Changed, realm.Update, "")
		if took < 3*time.Minute || took > 3*time.Minute+10*time.Second || len(p.questions) != 1 || status(got, check.IssuerIdentity) != check.Pass {
			t.Errorf("after %s and %d questions", took, len(p.questions))
		}
	})
}

// After a first 429 nothing more is asked, however long the run may wait.
func TestWaitingEndsWhereTheIssuerLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := time.Now().Add(2 * time.Minute)
		c, p := newCluster(t).put(name, stored()), &fakeIssuer{takes: func(string) bool { return false }}
		p.verdict = func(string) *issuer.Verdict {
			if time.Now().Before(limit) {
				return nil
			}
			return &issuer.Verdict{Decision: issuer.RateLimited, RetryAfter: time.Hour}
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
		c, p := newCluster(t).put(name, stored()), &fakeIssuer{takes: only(oldKey)}
		ctx, stop := context.WithCancelCause(t.Context())
		defer stop(nil)
		time.AfterFunc(95*time.Second, func() { stop(check.Errorf(check.Interrupted, "interrupted")) })
		began := time.Now()
		got := waits(ctx, aim(t, c, p, spec(setKey(key))), 10*time.Minute)
		expect(t, got, reconcile.Failed, "", check.Interrupted)
		if time.Since(began) != 95*time.Second || c.writes() != 0 {
			t.Errorf("after %s: %v", time.Since(began), c.calls)
		}
	})
}

// What the realm became during the wait counts, and the wait does not begin anew.
func TestWaitingMeetsAnotherWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opens := time.Now().Add(6 * time.Minute)
		c, p := newCluster(t).put(name, stored()), &fakeIssuer{}
		p.takes = func(k string) bool { return (k == key) == time.Now().After(opens) }
		c.script["update#1"] = trouble{before: func() {
			c.put(name, stored(with(realm.Comment, "theirs")))
			p.finds = broken // and the gate closes again
		}}
		got, took := waiting(t, c, p, spec(setKey(key)))
		expect(t, got, reconcile.Held, realm.Update, check.Held)
		if took < 9*time.Minute || took > 10*time.Minute || c.count(update) != 1 {
			t.Errorf("after %s: %v", took, c.calls)
		}
		if c.realms[name]["comment"] != "theirs" {
			t.Errorf("overwrote %v", c.realms[name])
		}
	})
}

// A create breaks no login, so it is written; but what certainly cannot work is said before.
func TestACreateThatCannotWork(t *testing.T) {
	for _, p := range []*fakeIssuer{{takes: only("another-key")}, {finds: broken}} {
		c := newCluster(t)
		target := aim(t, c, p, spec(setKey(key)))
		foreseen := plan(t.Context(), target, reconcile.Options{})
		expect(t, foreseen, reconcile.Drift, realm.Create, "")
		if len(foreseen.Warnings) != 1 || !strings.Contains(foreseen.Warnings[0], "will fail") || c.writes() != 0 {
			t.Errorf("plan: warnings %q", foreseen.Warnings)
		}
		got := apply(t.Context(), target, reconcile.Options{})
		expect(t, got, reconcile.Unverified, realm.Create, "")
		if len(got.Warnings) != 1 || c.realms[name] == nil {
			t.Errorf("apply: warnings %q", got.Warnings)
		}
	}
}

// After a write every check runs that costs only requests to Proxmox.
func TestNobodyCanLogInAfterAWrite(t *testing.T) {
	c := newCluster(t)
	c.script[usersCheck] = trouble{never: true}
	synctest.Test(t, func(t *testing.T) {
		target := aim(t, c, &fakeIssuer{}, spec())
		got := apply(t.Context(), target, reconcile.Options{}) // users can only be made once there is the realm
		expect(t, got, reconcile.Changed, realm.Create, "")
		if status(got, check.ProxmoxUsers) != check.Warn {
			t.Errorf("%v", got.Checks)
		}
		again := apply(t.Context(), target, reconcile.Options{})
		expect(t, again, reconcile.Unchanged, realm.None, "")
		if status(again, check.ProxmoxUsers) != check.Warn || c.count(usersCheck) != 1 {
			t.Errorf("asked %d times: %v", c.count(usersCheck), again.Checks)
		}
		time.Sleep(2 * time.Minute)
		expect(t, apply(t.Context(), target, reconcile.Options{}), reconcile.Unverified, realm.None, "")
	})
}

// A replace binds every user to the claim for good: a claim that the issuer does not advertise holds it.
func TestAReplaceToAClaimThatIsNotAdvertised(t *testing.T) {
	claims := func() []check.Check {
		return []check.Check{check.Warned(check.IssuerClaims, "set {realm.username_claim} to email", "the issuer does not advertise the claim")}
	}
	c := newCluster(t).put(name, stored())
	target := aim(t, c, &fakeIssuer{finds: claims, unclaimed: "email"}, otherClaim)
	got := apply(t.Context(), target, agreed)
	expect(t, got, reconcile.Held, realm.Replace, check.Held)
	if c.writes() != 0 {
		t.Errorf("calls %v", c.calls)
	}
	insisting := agreed
	insisting.NoGate = true
	expect(t, apply(t.Context(), target, insisting), reconcile.Changed, realm.Replace, "")
	// Another warning about claims does not hold it.
	c.put(name, stored())
	target.Issuer = &fakeIssuer{finds: claims}
	expect(t, apply(t.Context(), target, agreed), reconcile.Changed, realm.Replace, "")
}

// However short the wait is, the gate looks once more when it is over.
func TestAShortWait(t *testing.T) {
	inBubble(t, "3 s", func(t *testing.T) {
		c, p := newCluster(t).put(name, stored()), &fakeIssuer{}
		began := time.Now()
		p.takes = func(k string) bool { return k == oldKey || time.Since(began) > 2*time.Second }
		target := aim(t, c, p, spec(setKey(key)))
		expect(t, waits(t.Context(), target, 3*time.Second), reconcile.Changed, realm.Update, "")
	})
}

// Users have the realm's name in theirs for good, so a default that names other software than the issuer's is worth a word, in time.
func TestADefaultNameThatIsNotTheIssuers(t *testing.T) {
	for title, tt := range map[string]struct {
		software string
		chosen   bool
		stored   bool
		options  reconcile.Options
		warns    bool
	}{
		"another issuer":             {software: "Keycloak", warns: true},
		"another issuer, no gate":    {software: "Keycloak", options: reconcile.Options{NoGate: true}, warns: true},
		"a name that somebody chose": {software: "Keycloak", chosen: true},
		"the realm exists":           {software: "Keycloak", stored: true},
		"Authelia":                   {software: "Authelia"},
		"an issuer nobody knows":     {},
	} {
		t.Run(title, func(t *testing.T) {
			c, p := newCluster(t), &fakeIssuer{software: tt.software}
			if tt.stored {
				c.put(name, stored())
			}
			target := aim(t, c, p, spec())
			target.Unnamed = !tt.chosen
			for command, got := range map[string]reconcile.Result{"plan": plan(t.Context(), target, tt.options), "apply": apply(t.Context(), target, tt.options)} {
				said := slices.ContainsFunc(got.Warnings, func(w string) bool {
					return strings.Contains(w, "the issuer is Keycloak, but users will be called jane@authelia, for good: set realm.name")
				})
				if said != tt.warns {
					t.Errorf("%s: warnings %q", command, got.Warnings)
				}
			}
		})
	}
}

// The gate asks about the key of Proxmox alone. That answer does not stand for the redirect URLs, which nobody has asked about.
func TestTheFormerKeyDoesNotAnswerForTheRedirectURLs(t *testing.T) {
	c := newCluster(t).put(name, stored(with(realm.ClientKey, oldKey)))
	p := &fakeIssuer{takes: only(oldKey), redirect: func() bool { return false }}
	target := aim(t, c, p, spec(setKey(key)))
	expect(t, apply(t.Context(), target, reconcile.Options{}), reconcile.Held, realm.Update, check.Held)
	target.Realm = spec(setKey(oldKey)) // as the hint says
	got := apply(t.Context(), target, reconcile.Options{Quiet: true})
	if expect(t, got, reconcile.Unverified, realm.None, ""); status(got, check.ClientRedirect) != check.Fail {
		t.Errorf("%v", got.Checks)
	}
}
