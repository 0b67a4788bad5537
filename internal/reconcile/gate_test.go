package reconcile_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	labissuer "proxmox-realm/internal/lab/issuer"
	"proxmox-realm/internal/lab/pve"
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
		bubble(t, string(d.Property), func(s *site) {
			change, action := set(d.Property, "other"), realm.Update
			switch {
			case d.Form == realm.FormKey:
				change = setKey(key)
			case d.Form == realm.FormBool:
				change = set(d.Property, map[bool]string{true: "0", false: "1"}[d.Property == realm.Autocreate || d.Property == realm.QueryUserinfo])
			case d.CreateOnly:
				action = realm.Replace
			}
			got := s.misnamed().put(stored()).declares(change).apply(agreed)
			if !gated[d.Property] {
				if got.Err != nil || got.Action != action || s.writes() != 1 {
					s.Errorf("%s, %v after %v", got.Action, got.Err, s.calls())
				}
				return
			}
			s.expect(got, reconcile.Held, action, check.Held)
			if all, _ := s.looks(); s.writes() != 0 || len(s.saved()) != 0 || len(got.Changes) != 1 || all != 0 {
				s.Errorf("held, but %v; the client was asked about %d times", s.calls(), all)
			}
		})
	}
	bubble(t, "a creation", func(s *site) { s.expect(s.misnamed().apply(), reconcile.Unverified, realm.Create, "") })
}

// limits makes the issuer answer 429 at a path.
func (s *site) limits(path, retryAfter string) {
	fault := labissuer.Fault{Status: http.StatusTooManyRequests}
	if retryAfter != "" {
		fault.Header = http.Header{"Retry-After": {retryAfter}}
	}
	s.idp.Inject(path, fault)
}

// elsewhere registers another redirect URL.
func (s *site) elsewhere() *site {
	client, _ := s.idp.Client(clientID)
	client.RedirectURIs = []string{"https://elsewhere.example.com"}
	s.idp.SetClient(client)
	s.Verify.RedirectsDeclared = true // else a refusal is a warning
	return s
}

// undecided is an issuer whose answers do not tell a key from a made-up one.
func (s *site) undecided() {
	s.idp.SetHabits(labissuer.Habits{CodeFirst: true, BlindIntrospection: true})
}

func TestWhatHoldsAndWhatDoesNot(t *testing.T) {
	misnamed := func(s *site) { s.misnamed() }
	former := func(s *site) { s.accepts(oldKey) }
	elsewhere := func(s *site) { s.elsewhere() }
	limited := func(s *site) { s.limits(documentPath, "60") }
	ignores := func(id check.ID) func(*site) { return func(s *site) { s.Verify.Ignore = []check.ID{id} } }
	unasked := func(s *site) { s.Verify.Client = false }
	signless := func(s *site) { s.idp.SetKeys() }
	nothing := func(*site) {}
	for _, tt := range []struct {
		name    string
		issuer  func(*site)
		target  func(*site)
		options reconcile.Options
		held    check.Code // "": written
		says    string     // in message or hint, or, where it is written, in a warning
	}{
		{name: "an issuer check fails", issuer: misnamed, held: check.Held, says: "issuer.identity: the issuer's own name"},
		{name: "its hint is the remedy", issuer: misnamed, held: check.Held, says: "set realm.issuer_url to " + issuerURL + "/\nto write it anyway:\n    proxmox-realm apply --no-gate"},
		{name: "the client's key is refused", issuer: func(s *site) { s.accepts("theirs") }, held: check.Held, says: "client.credentials: the issuer refuses the key"},
		{name: "the redirect URL is refused", issuer: elsewhere, held: check.Held, says: "client.redirect: the issuer"},
		{name: "only the former key is taken", issuer: former, held: check.Held, says: "accepts the client key that Proxmox holds, but not the declared one"},
		{name: "only the former key is taken: what to do", issuer: former, held: check.Held, says: "give the issuer the declared key"},
		{name: "the issuer limits requests", issuer: func(s *site) { s.limits(tokenPath, "90") }, held: check.RateLimited, says: "run again in 1m30s"},
		{name: "the issuer limits requests without saying for how long", issuer: func(s *site) { s.limits(tokenPath, "") }, held: check.RateLimited, says: "run again in 5m"},
		{name: "the issuer limits requests for its documents", issuer: limited, held: check.RateLimited, says: "run again in 1m0s"},
		{name: "that counts where no client is asked about, too", issuer: limited, target: unasked, held: check.RateLimited, says: "run again in 1m0s"},
		{name: "no verdict", issuer: (*site).undecided, held: check.Held, says: "nothing shows whether the issuer accepts the new client id or key"},
		{name: "all is well", issuer: func(s *site) { s.accepts(key) }},
		{name: "--no-gate", issuer: misnamed, options: reconcile.Options{NoGate: true}},
		{name: "policy.gate: false", issuer: misnamed, target: func(s *site) { s.Gate = false }},
		{name: "verify.issuer: false", issuer: misnamed, target: func(s *site) { s.Inspect = nil }},
		{name: "an issuer check that no question depends on", issuer: signless, held: check.Held, says: "issuer.keys"},
		{name: "it is ignored", issuer: signless, target: ignores(check.IssuerKeys)},
		{name: "an ignored client check", issuer: elsewhere, target: ignores(check.ClientRedirect)},
		{name: "another check is ignored", issuer: elsewhere, target: ignores(check.ClientCredentials), held: check.Held, says: "client.redirect"},
		{name: "verify.client: false", issuer: former, target: unasked, says: "was not checked"},
		{name: "verify.client: false leaves the issuer checks", issuer: misnamed, target: unasked, held: check.Held, says: "issuer.identity"},
	} {
		bubble(t, tt.name, func(s *site) {
			tt.issuer(s)
			s.put(stored()).declares(setKey(key))
			if tt.target == nil {
				tt.target = nothing
			}
			tt.target(s)
			got := s.apply(tt.options)
			if tt.held == "" {
				said := strings.Join(got.Warnings, "; ")
				if s.writes() != 1 || got.Err != nil || s.holds()["client-key"] != key || tt.says == "" && said != "" || !strings.Contains(said, tt.says) {
					s.Errorf("%s, %v after %v; warnings %q", got.Outcome, got.Err, s.calls(), got.Warnings)
				}
				return
			}
			outcome := map[bool]reconcile.Outcome{true: reconcile.Failed, false: reconcile.Held}[tt.held == check.RateLimited]
			s.expect(got, outcome, realm.Update, tt.held)
			if !strings.Contains(errorOf(got), tt.says) {
				s.Errorf("%q is missing in %q", tt.says, errorOf(got))
			}
			if s.writes() != 0 || s.holds()["client-key"] != oldKey {
				s.Errorf("held, but %v", s.calls())
			}
		})
	}
}

// The stale key is spoken of only where Proxmox holds another key and the key is what changes.
func TestTheFormerKeyIsAskedAboutOnlyWhereItTellsSomething(t *testing.T) {
	prompt := set(realm.Prompt, "login")
	for title, tt := range map[string]struct {
		begin   fields
		changes []func(*realm.Spec)
		says    bool
	}{
		"the key changes":          {stored(), []func(*realm.Spec){setKey(key)}, true},
		"the key stays":            {stored(), []func(*realm.Spec){setKey(oldKey), prompt}, false},
		"there was no key":         {stored(without(realm.ClientKey)), []func(*realm.Spec){setKey(key)}, false},
		"the key is not managed":   {stored(), []func(*realm.Spec){undeclared(realm.ClientKey), prompt}, false},
		"the key is being removed": {stored(), []func(*realm.Spec){undeclared(realm.ClientKey), unset(realm.ClientKey)}, true},
	} {
		bubble(t, title, func(s *site) {
			s.accepts("theirs")
			s.put(tt.begin).declares(tt.changes...)
			s.expect(s.apply(), reconcile.Held, realm.Update, check.Held)
			questions, _ := s.asked(introspectionPath)
			without := map[bool]int{true: 2, false: 1}[tt.says] // about the declared key, unless there is none
			if tt.changes[0](&s.Realm); !s.Realm.Login().ClientKey.IsSet() && title != "the key is not managed" {
				without--
			}
			if questions != without {
				s.Errorf("%d questions about keys", questions)
			}
		})
	}
}

// After a conflicting write the gate is asked again about the same inspection: issuer and client hear nothing new.
func TestTheGateAsksOnceAcrossAttempts(t *testing.T) {
	alone(t, func(s *site) {
		s.put(stored()).on("update#1", pve.Rule{Before: s.touch}).declares(setKey(key)).apply()
		if questions, _ := s.asked(authorizationPath); s.inspections() != 1 || questions != 1 || s.count(update) != 2 {
			t.Errorf("%d inspections, %d questions, %v", s.inspections(), questions, s.calls())
		}
	})
}

// waiting runs apply --wait 10m, and returns what it took.
func (s *site) waiting() (reconcile.Result, time.Duration) {
	return s.waits(10*time.Minute, func(o reconcile.Options) reconcile.Result { return s.apply(o) })
}

// failures returns how many authentications failed, controls included, at the endpoint where most did: an issuer counts these
// against our address, for each endpoint.
func (s *site) failures() int {
	at := map[string]int{}
	for _, r := range s.idp.Requests() {
		if r.Status == http.StatusUnauthorized {
			at[r.Path]++
		}
	}
	return max(at[tokenPath], at[introspectionPath])
}

// later does something after a time.
func later(d time.Duration, f func()) { time.AfterFunc(d, f) }

// How a key is rotated: the new key is declared, the run waits, Authelia is restarted with the new digest. An issuer may come to
// take both keys: the declared one is asked about now and then even while the former is taken. And an issuer that was away is back.
func TestWaiting(t *testing.T) {
	for title, tt := range map[string]struct {
		at          time.Duration
		begin, then func(*site)
		most        time.Duration // until it is noticed
		failures    int
	}{
		"the issuer restarts": {4*time.Minute + 5*time.Second, func(s *site) { s.accepts(oldKey) }, func(s *site) { s.accepts(key) }, 15 * time.Second, 15},
		"both keys are taken": {3 * time.Minute, func(s *site) { s.accepts(oldKey) }, func(s *site) { s.accepts(oldKey, key) }, 2*time.Minute + 20*time.Second, 10},
		"the issuer is away":  {3 * time.Minute, func(s *site) { s.misnamed() }, func(s *site) { s.idp.SetIssuer("") }, 10 * time.Second, 2},
		"a moment later":      {2 * time.Second, func(s *site) { s.accepts(oldKey) }, func(s *site) { s.accepts(oldKey, key) }, time.Minute, 4},
	} {
		bubble(t, title, func(s *site) {
			tt.begin(s)
			later(tt.at, func() { tt.then(s) })
			got, took := s.put(stored()).declares(setKey(key)).waiting()
			s.expect(got, reconcile.Changed, realm.Update, "")
			if took < tt.at || took > tt.at+tt.most || s.failures() > tt.failures || s.writes() != 1 {
				s.Errorf("after %s; %d failures; %v", took, s.failures(), s.calls())
			}
		})
	}
	bubble(t, "however short the wait is, the gate looks once more when it is over", func(s *site) {
		s.accepts(oldKey)
		later(2*time.Second, func() { s.accepts(key) })
		s.put(stored()).declares(setKey(key))
		got, _ := s.waits(3*time.Second, func(o reconcile.Options) reconcile.Result { return s.apply(o) })
		s.expect(got, reconcile.Changed, realm.Update, "")
	})
}

// Before a realm is created, somebody gives the issuer its client. That is noticed at the next look, and what may be refused is asked
// once a minute.
func TestWaitingForANewClient(t *testing.T) {
	alone(t, func(s *site) {
		s.elsewhere()
		s.idp.RemoveClient(clientID)
		later(4*time.Minute+35*time.Second, func() { s.accepts(key) })
		got, took := s.put(nil).declares(setKey(key)).waiting()
		s.expect(got, reconcile.Changed, realm.Create, "")
		if took > 4*time.Minute+45*time.Second || s.failures() > 15 || s.writes() != 1 {
			t.Errorf("after %s; %d failures; %v", took, s.failures(), s.calls())
		}
	})
}

// Authelia's smallest bursts are 30 refusals, refilled by one a minute: a wait stays below that, with two or three refusals a minute.
func TestWaitingInVainIsSparing(t *testing.T) {
	for title, tt := range map[string]struct {
		issuer   func(*site)
		failures int
		looks    int // at the client
	}{
		"the former key is taken":     {func(s *site) { s.accepts(oldKey) }, 33, 11},
		"neither key is taken":        {func(s *site) { s.accepts("theirs") }, 33, 11},
		"the redirect URL is refused": {func(s *site) { s.elsewhere() }, 2, 11},
		"the issuer is broken":        {func(s *site) { s.misnamed() }, 0, 0},
	} {
		bubble(t, title, func(s *site) {
			s.idp.SetLimits(labissuer.AutheliaLimits()...)
			tt.issuer(s)
			got, took := s.put(stored()).declares(setKey(key)).waiting()
			s.expect(got, reconcile.Held, realm.Update, check.Held)
			if all, _ := s.looks(); took != 10*time.Minute || s.failures() > tt.failures || all > tt.looks || s.writes() != 0 {
				s.Errorf("waited %s; %d failures, %d looks; %v", took, s.failures(), all, s.writes())
			}
			if _, times := s.asked(documentPath); times != 61 {
				s.Errorf("inspected %d times", times)
			}
		})
	}
}

// After a first 429 nothing more is asked, however long the run may wait.
func TestWaitingEndsWhereTheIssuerLimits(t *testing.T) {
	alone(t, func(s *site) {
		s.accepts("theirs")
		later(2*time.Minute, func() { s.limits(tokenPath, "3600") })
		got, took := s.put(stored()).declares(setKey(key)).waiting()
		s.expect(got, reconcile.Failed, realm.Update, check.RateLimited)
		if took > 3*time.Minute+time.Second || s.writes() != 0 {
			t.Errorf("ended after %s and %v", took, s.calls())
		}
	})
}

func TestWaitingIsInterrupted(t *testing.T) {
	alone(t, func(s *site) {
		s.accepts(oldKey)
		stop := s.stops(check.Interrupted)
		later(95*time.Second, stop)
		got, took := s.put(stored()).declares(setKey(key)).waiting()
		s.expect(got, reconcile.Failed, "", check.Interrupted)
		if took != 95*time.Second || s.writes() != 0 {
			t.Errorf("after %s: %v", took, s.calls())
		}
	})
}

// What the realm became during the wait counts.
func TestWaitingMeetsAnotherWriter(t *testing.T) {
	alone(t, func(s *site) {
		s.accepts(oldKey)
		later(6*time.Minute, func() { s.accepts(key) })
		s.put(stored()).declares(setKey(key)).on("update#1", pve.Rule{Before: func() { s.put(stored(with(realm.Comment, "theirs"))) }})
		got, took := s.waiting()
		s.expect(got, reconcile.Changed, realm.Update, "")
		if took > 6*time.Minute+10*time.Second || s.count(update) != 2 || s.holds()["comment"] != "theirs" {
			t.Errorf("after %s: %v, %v", took, s.calls(), s.holds())
		}
	})
}

// A create breaks no login, so it is written; but what certainly cannot work is said before.
func TestACreateThatCannotWork(t *testing.T) {
	for title, spoil := range map[string]func(*site){
		"the key is refused": func(s *site) { s.accepts("another-key") }, "the issuer is broken": func(s *site) { s.misnamed() },
	} {
		bubble(t, title, func(s *site) {
			spoil(s)
			foreseen := s.plan()
			s.expect(foreseen, reconcile.Drift, realm.Create, "")
			if len(foreseen.Warnings) != 1 || !strings.Contains(foreseen.Warnings[0], "will fail") || s.writes() != 0 {
				s.Errorf("plan: warnings %q", foreseen.Warnings)
			}
			got := s.apply()
			s.expect(got, reconcile.Unverified, realm.Create, "")
			if len(got.Warnings) != 1 || s.holds() == nil {
				s.Errorf("apply: warnings %q", got.Warnings)
			}
		})
	}
}

// After a write every check runs that costs only requests to Proxmox. Users can only be made once there is the realm.
func TestNobodyCanLogInAfterAWrite(t *testing.T) {
	alone(t, func(s *site) {
		if err := s.pve.Update(func(st *pve.State) { delete(st.Users, "jane@"+name) }); err != nil {
			t.Fatal(err)
		}
		got := s.apply()
		s.expect(got, reconcile.Changed, realm.Create, "")
		again := s.apply()
		s.expect(again, reconcile.Unchanged, realm.None, "")
		if status(got, check.ProxmoxUsers) != check.Warn || status(again, check.ProxmoxUsers) != check.Warn || s.count(users) != 1 {
			t.Errorf("asked %d times: %v", s.count(users), again.Checks)
		}
		time.Sleep(2 * time.Minute)
		s.expect(s.apply(), reconcile.Unverified, realm.None, "")
	})
}

// A replace binds every user to the claim for good: a claim that the issuer does not advertise holds it. Another warning about
// claims does not.
func TestAReplaceToAClaimThatIsNotAdvertised(t *testing.T) {
	alone(t, func(s *site) {
		s.put(stored()).declares(set(realm.UsernameClaim, "upn"))
		s.expect(s.apply(agreed), reconcile.Held, realm.Replace, check.Held)
		if s.writes() != 0 {
			t.Errorf("%v", s.calls())
		}
		insisting := agreed
		insisting.NoGate = true
		s.expect(s.apply(insisting), reconcile.Changed, realm.Replace, "")
		got := s.put(stored()).declares(set(realm.UsernameClaim, "sub")).apply(agreed)
		if s.expect(got, reconcile.Changed, realm.Replace, ""); status(got, check.IssuerClaims) != check.Warn {
			t.Errorf("%v", got.Checks)
		}
	})
}

// Users have the realm's name in theirs for good, so a default that names other software than the issuer's is worth a word, in time.
func TestADefaultNameThatIsNotTheIssuers(t *testing.T) {
	for title, tt := range map[string]struct {
		name    string // of the realm
		chosen  bool
		stored  bool
		unknown bool // the software
		options reconcile.Options
		warns   bool
	}{
		"another issuer":             {name: "keycloak", warns: true},
		"another issuer, no gate":    {name: "keycloak", options: reconcile.Options{NoGate: true}, warns: true},
		"a name that somebody chose": {name: "keycloak", chosen: true},
		"the realm exists":           {name: "keycloak", stored: true},
		"its own name":               {name: "authelia"},
		"an issuer nobody knows":     {name: "keycloak", unknown: true},
	} {
		bubble(t, title, func(s *site) {
			if tt.stored {
				s.putAs(tt.name, stored())
			}
			if tt.unknown {
				s.idp.SetMetadata("token_endpoint", issuerURL+"/elsewhere")
			}
			s.Realm.Name, s.Unnamed = tt.name, !tt.chosen
			for command, got := range map[string]reconcile.Result{"plan": s.plan(tt.options), "apply": s.apply(tt.options)} {
				said := slices.ContainsFunc(got.Warnings, func(w string) bool {
					return strings.Contains(w, "the issuer is Authelia, but users will be called jane@keycloak, for good: set realm.name")
				})
				if said != tt.warns {
					s.Errorf("%s: warnings %q", command, got.Warnings)
				}
			}
		})
	}
}

// The gate asks about the key of Proxmox alone. That answer does not stand for the redirect URLs, which nobody has asked about.
func TestTheFormerKeyDoesNotAnswerForTheRedirectURLs(t *testing.T) {
	alone(t, func(s *site) {
		s.accepts(oldKey)
		s.elsewhere().put(stored()).declares(setKey(key))
		s.expect(s.apply(), reconcile.Held, realm.Update, check.Held)
		got := s.declares(setKey(oldKey)).apply(quiet) // as the hint says
		if s.expect(got, reconcile.Unverified, realm.None, ""); status(got, check.ClientRedirect) != check.Fail {
			t.Errorf("%v", got.Checks)
		}
	})
}
