package reconcile_test

import (
	"crypto/x509"
	"maps"
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

// rights are the requests of proxmox.users and proxmox.access.
var rights = []string{permissions, users, groups, permissions, acl}

func TestApplyCreatesReadsBackAndVerifies(t *testing.T) {
	alone(t, func(s *site) {
		s.declares(setKey(key))
		got := s.apply()
		s.expect(got, reconcile.Changed, realm.Create, "")
		s.called(append([]string{read, create, read, discovery}, rights...)...)
		if all, full := s.looks(); s.inspections() != 1 || all != 1 || full != 1 {
			t.Errorf("%d inspections; the client was asked about %d times, %d of them in full", s.inspections(), all, full)
		}
		for _, id := range []check.ID{check.IssuerIdentity, check.ClientCredentials, check.ClientRedirect, check.ProxmoxRealm, check.ProxmoxDiscovery} {
			if status(got, id) != check.Pass {
				t.Errorf("%s: %q", id, status(got, id))
			}
		}
		if len(got.Changes) != 5 || len(got.Warnings) != 0 || len(s.saved()) != 0 {
			t.Errorf("%d changes, warnings %q, files %v", len(got.Changes), got.Warnings, s.saved())
		}
		s.reset()
		again := s.apply()
		s.expect(again, reconcile.Unchanged, realm.None, "")
		s.called(read)
		if all, _ := s.looks(); s.inspections() != 1 || all != 0 || len(again.Changes) != 0 {
			t.Errorf("nothing to do costs %d inspections and %d questions", s.inspections(), all)
		}
	})
}

// The issuer is inspected while the realm is read: neither waits for the other.
func TestObservesBothSidesAtOnce(t *testing.T) {
	alone(t, func(s *site) {
		s.put(stored()).on(read, pve.Rule{Delay: 3 * time.Second})
		s.idp.Inject(documentPath, labissuer.Fault{Delay: 3 * time.Second})
		if got := s.apply(); got.Duration != 3*time.Second {
			t.Errorf("took %s", got.Duration)
		}
	})
}

// Each property is written by one PUT, which changes nothing else.
func TestApplyUpdatesEveryProperty(t *testing.T) {
	for _, d := range realm.Definitions() {
		if d.CreateOnly {
			continue
		}
		bubble(t, string(d.Property), func(s *site) {
			change, value := set(d.Property, "other"), "other"
			switch d.Form {
			case realm.FormBool:
				value = map[bool]string{true: "0", false: "1"}[d.Property == realm.QueryUserinfo || d.Property == realm.Autocreate]
				change = set(d.Property, value)
			case realm.FormKey:
				change, value = setKey(key), key
			case realm.FormText, realm.FormSet, realm.FormList:
			}
			got := s.put(stored()).declares(change).apply(reconcile.Options{NoGate: true})
			if got.Action != realm.Update || len(got.Changes) != 1 || got.Changes[0].Property != d.Property || got.Err != nil {
				s.Errorf("%s, changes %v, %v", got.Action, got.Changes, got.Err)
			}
			if !maps.Equal(s.holds(), stored(with(d.Property, value))) || s.writes() != 1 {
				s.Errorf("%v after %v", s.holds(), s.calls())
			}
		})
	}
}

func TestApplyUnsetsAndMovesTheDefaultFlag(t *testing.T) {
	alone(t, func(s *site) {
		s.putAs("other", stored(with(realm.Default, "1"))).put(stored()).declares(set(realm.Default, "1"), unset(realm.Comment, realm.Prompt))
		s.expect(s.apply(), reconcile.Changed, realm.Update, "")
		other, _ := s.pve.Realm("other")
		if other.Properties["default"] != "" || !maps.Equal(s.holds(), stored(with(realm.Default, "1"), without(realm.Comment))) {
			t.Errorf("%v, %v", other, s.holds())
		}
	})
}

// What a write meets, and what comes of it: at most three writes, each after a look, none repeated blindly.
func TestWritesThatMeetTrouble(t *testing.T) {
	theirs, ours := stored(with(realm.Comment, "theirs")), stored(with(realm.Comment, "declared"))
	before := func(request string, f fields) func(*site) {
		return func(s *site) { s.on(request, pve.Rule{Before: func() { s.put(f) }}) }
	}
	after := func(f fields) func(*site) {
		return func(s *site) { s.on(update, pve.Rule{After: func() { s.put(f) }}) }
	}
	on := func(request string, rule pve.Rule) func(*site) { return func(s *site) { s.on(request, rule) } }
	both := func(a, b func(*site)) func(*site) { return func(s *site) { a(s); b(s) } }
	const (
		changed, unchanged, failed = reconcile.Changed, reconcile.Unchanged, reconcile.Failed
		updates                    = realm.Update
	)
	for _, tt := range []struct {
		name          string
		begin         fields // nil: absent
		trouble       func(*site)
		outcome       reconcile.Outcome
		action        realm.Action
		code          check.Code
		writes, reads int
		holds         bool // in the end the realm is as declared
	}{
		{"another realm changes between observation and write", stored(), func(s *site) { s.on("update#1", pve.Rule{Before: s.touch}) }, changed, updates, "", 2, 3, true},
		{"realms keep changing", stored(), func(s *site) { s.on(update, pve.Rule{Before: s.touch}) }, failed, updates, check.Conflict, 3, 4, false},
		{"somebody makes our change first", stored(), before(update, ours), unchanged, realm.None, "", 1, 2, true},
		{"somebody creates the same realm first", nil, before(create, ours), unchanged, realm.None, "", 1, 2, true},
		{"somebody creates another realm of that name first", nil, before(create, stored()), changed, updates, "", 2, 3, true},
		{"somebody takes the name for another type", nil, before(create, directory()), reconcile.Refused, realm.Refuse, check.WrongType, 1, 2, false},
		{"somebody deletes the realm first", stored(), before(update, nil), changed, realm.Create, "", 2, 3, true},
		{"the answer is lost, the write took effect", stored(), on(update, lost), changed, updates, "", 1, 2, true},
		{"the answer to a creation is lost, it took effect", nil, on(create, lost), changed, realm.Create, "", 1, 2, true},
		{"the answer is lost, the write took no effect", stored(), on("update#1", dropped), changed, updates, "", 2, 3, true},
		{
			"the answer is lost, the write takes effect just before the second", stored(),
			both(on("update#1", dropped), before("update#2", ours)), changed, updates, "", 2, 3, true,
		},
		{"every answer is lost and nothing takes effect", stored(), on(update, dropped), failed, updates, check.Unreachable, 3, 4, false},
		{"every answer is lost, the last write takes effect", stored(), both(on(update, dropped), on("update#3", lost)), changed, updates, "", 3, 4, true},
		{"Proxmox cannot be read after a lost answer", stored(), both(on(update, lost), on("read#2", broken)), failed, updates, check.Unreachable, 1, 2, true},
		{"Proxmox's lock", stored(), on(update, locked), failed, updates, check.LockTimeout, 1, 1, false},
		{"no privilege", stored(), on(update, refused), failed, updates, check.PermissionDenied, 1, 1, false},
		{"a success that did not take", stored(), on(update, pretended), failed, updates, check.NotTaken, 1, 2, false},
		{
			"a value that Proxmox rewrites", stored(), func(s *site) { s.declares(set(realm.Comment, " surrounded ")) },
			failed, updates, check.NotTaken, 1, 2, false,
		},
		{"somebody changes the realm between write and read-back", stored(), after(theirs), failed, updates, check.NotTaken, 1, 2, false},
		{"somebody turns the realm into another type after the write", stored(), after(directory()), failed, updates, check.NotTaken, 1, 2, false},
		{"another realm changes between write and read-back", stored(), func(s *site) { s.on(update, pve.Rule{After: s.touch}) }, changed, updates, "", 1, 2, true},
		{"the read-back fails", stored(), on("read#2", broken), failed, updates, check.Unreachable, 1, 2, true},
		{"Proxmox cannot be read", stored(), on(read, broken), failed, "", check.Unreachable, 0, 1, false},
	} {
		bubble(t, tt.name, func(s *site) {
			s.put(tt.begin).declares(set(realm.Comment, "declared"))
			tt.trouble(s)
			got := s.apply()
			s.expect(got, tt.outcome, tt.action, tt.code)
			if s.writes() != tt.writes || s.count(read) != tt.reads || s.inspections() != 1 {
				s.Errorf("requests %v, %d inspections; want %d writes, %d reads", s.calls(), s.inspections(), tt.writes, tt.reads)
			}
			if tt.outcome == unchanged && len(got.Changes) != 0 || tt.outcome == changed && len(got.Changes) == 0 {
				s.Errorf("changes %v", got.Changes)
			}
			if held := s.holds(); held["type"] == "openid" && held["comment"] == "declared" != tt.holds {
				s.Errorf("in the end: %v", held)
			}
		})
	}
}

// A PUT that takes effect while the run is already at its next step cannot hit what it was not made for. Its digest is stale.
func TestALatePutIsGuardedByItsDigest(t *testing.T) {
	alone(t, func(s *site) {
		s.put(stored()).on("update#1", late(20*time.Second)).declares(set(realm.Comment, "declared"))
		s.expect(s.apply(), reconcile.Changed, realm.Update, "")
		theirs := stored(with(realm.Comment, "theirs, later"))
		s.put(theirs)
		time.Sleep(time.Minute)
		if !maps.Equal(s.holds(), theirs) {
			t.Errorf("%v", s.holds())
		}
	})
}

// older replaces the installation by one of another version.
func (s *site) older(version string) *site {
	seed := s.pve.State()
	if err := s.pve.Close(); err != nil {
		s.Fatal(err)
	}
	s.startPVE(pve.Options{Version: version, Seed: seed})
	return s
}

func TestApplyRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*realm.Spec)
		begin  fields
		code   check.Code
		calls  []string
		says   string
	}{
		{"another type", set(realm.Comment, "x"), directory(), check.WrongType, []string{read}, "ldap"},
		{"pam", func(s *realm.Spec) { s.Name = "pam" }, nil, check.BuiltinRealm, []string{read}, "pam"},
		{"another claim", set(realm.UsernameClaim, "email"), stored(), check.UsernameClaim, []string{read, permissions, users}, "1 user"},
		{"a property of a later generation", set(realm.Audiences, "x"), stored(), check.UnknownProperty, []string{read, version}, "8.4"},
	} {
		bubble(t, tt.name, func(s *site) {
			s.older("8.4.1").put(tt.begin).declares(tt.change)
			for _, run := range []func(...reconcile.Options) reconcile.Result{s.apply, s.plan} {
				s.reset()
				got := run()
				s.expect(got, reconcile.Refused, realm.Refuse, tt.code)
				s.called(tt.calls...)
				if !strings.Contains(errorOf(got), tt.says) || check.HintOf(got.Err) == "" {
					s.Error(errorOf(got))
				}
			}
		})
	}
	bubble(t, "another claim, and the users cannot be counted", func(s *site) {
		s.put(stored()).on(users, refused).declares(set(realm.UsernameClaim, "email"))
		got := s.apply()
		s.expect(got, reconcile.Refused, realm.Refuse, check.UsernameClaim)
		if !strings.Contains(got.Err.Error(), "not visible") || s.count(users) != 1 {
			t.Errorf("%v after %v", got.Err, s.calls())
		}
	})
}

// The node's own answer is the proof that it does not know a property; its version words the hint.
func TestANodeThatDoesNotKnowAProperty(t *testing.T) {
	alone(t, func(s *site) {
		got := s.older("8.1.4").put(stored()).declares(set(realm.GroupsClaim, "groups")).apply()
		s.expect(got, reconcile.Refused, realm.Refuse, check.UnknownProperty)
		s.called(read, version, update)
		if !strings.Contains(got.Err.Error(), "8.1") || !strings.Contains(errorOf(got), "realm.groups_claim") {
			t.Errorf("%v", got.Err)
		}
	})
}

// A node that does not tell its version is asked once, although the plan and the issuer's keys depend on it.
func TestTheVersionIsAskedOnce(t *testing.T) {
	alone(t, func(s *site) {
		edwards, err := labissuer.NewKey("ed", "EdDSA")
		if err != nil {
			t.Fatal(err)
		}
		s.idp.SetKeys(edwards)
		s.idp.SetMetadata("id_token_signing_alg_values_supported", []string{"EdDSA"})
		s.on(version, refused).declares(set(realm.Audiences, "x")).apply()
		if s.count(version) != 1 || s.holds() == nil {
			t.Errorf("%v", s.calls())
		}
	})
}

func TestAFailedCheckAfterTheWriteIsUnverified(t *testing.T) {
	bubble(t, "of the node", func(s *site) {
		s.on(discovery, undiscovered)
		s.expect(s.apply(), reconcile.Unverified, realm.Create, "")
	})
	bubble(t, "of the issuer", func(s *site) {
		s.misnamed().put(stored())
		s.expect(s.apply(), reconcile.Unverified, realm.None, "")
		s.Verify.Ignore = []check.ID{check.IssuerIdentity}
		got := s.apply()
		s.expect(got, reconcile.Unchanged, realm.None, "")
		if found, _ := check.Find(got.Checks, check.IssuerIdentity); found.Status != check.Skip || !strings.Contains(found.Summary, "ignored by verify.ignore (fail)") {
			t.Errorf("%+v", found)
		}
	})
}

// When verification asks what costs something.
func TestModes(t *testing.T) {
	for title, tt := range map[string]struct {
		mode, write bool
		discoveries int
		all, full   int
	}{
		"on, a write": {true, true, 1, 1, 1},
		// A question that costs nothing comes first. As nothing is remembered, its answer is no proof yet.
		"on, no write":  {true, false, 0, 1, 1},
		"off, a write":  {false, true, 0, 0, 0},
		"off, no write": {false, false, 0, 0, 0},
	} {
		bubble(t, title, func(s *site) {
			if !tt.write {
				s.put(stored())
			}
			s.Verify.Proxmox, s.Verify.Client = tt.mode, tt.mode
			got := s.apply()
			all, full := s.looks()
			if s.count(discovery) != tt.discoveries || all != tt.all || full != tt.full {
				s.Errorf("%v; the client was asked about %d times, %d in full", s.calls(), all, full)
			}
			if (status(got, check.ProxmoxDiscovery) != "") != (tt.discoveries > 0) {
				s.Errorf("proxmox.discovery is %q", status(got, check.ProxmoxDiscovery))
			}
			s.reset()
			time.Sleep(time.Minute)
			s.verify()
			if all, _ := s.looks(); (s.count(discovery) > 0) != tt.mode || (all > 0) != tt.mode {
				s.Errorf("verify: %v, %d questions", s.calls(), all)
			}
		})
	}
}

// Proxmox is not asked to discover an issuer that could block a worker of the node, nor about another realm than ours.
func TestProxmoxIsNotAskedAtTheNodesExpense(t *testing.T) {
	slow := func(s *site) { s.idp.Inject(documentPath, labissuer.Fault{Delay: 6 * time.Second}) }
	unseen := func(s *site) { s.Inspect = nil }
	for title, tt := range map[string]struct {
		begin fields
		setup func(*site)
		asked bool
	}{
		"a slow issuer":                                 {stored(), slow, false},
		"another issuer is stored":                      {stored(with(realm.IssuerURL, "https://elsewhere.example.com")), func(*site) {}, false},
		"no realm":                                      {nil, func(*site) {}, false},
		"no realm, and no issuer here":                  {nil, unseen, false},
		"a realm of another type, and no issuer here":   {directory(), unseen, false},
		"a realm, and this machine sees not the issuer": {stored(), unseen, true}, // Proxmox's view alone counts
	} {
		bubble(t, title, func(s *site) {
			tt.setup(s)
			want := map[bool]check.Status{true: check.Pass, false: check.Skip}[tt.asked]
			if got := s.put(tt.begin).verify(); (s.count(discovery) == 1) != tt.asked || status(got, check.ProxmoxDiscovery) != want {
				s.Errorf("%v, %q", s.calls(), status(got, check.ProxmoxDiscovery))
			}
		})
	}
	bubble(t, "a slow issuer, and a write", func(s *site) {
		slow(s)
		if got := s.apply(); s.count(discovery) != 0 || status(got, check.ProxmoxDiscovery) != check.Skip {
			t.Errorf("%v, %q", s.calls(), status(got, check.ProxmoxDiscovery))
		}
	})
}

func TestVerify(t *testing.T) {
	for _, tt := range []struct {
		name    string
		begin   fields
		changes []func(*realm.Spec)
		outcome reconcile.Outcome
		realm   check.Status
		says    string
	}{
		{"as declared", stored(), nil, reconcile.Unchanged, check.Pass, "as declared"},
		{"absent", nil, nil, reconcile.Unverified, check.Fail, "does not exist"},
		{"drifted", stored(), []func(*realm.Spec){set(realm.Comment, "x"), setKey(key)}, reconcile.Unverified, check.Fail, "differs"},
		{"another type", directory(), nil, reconcile.Unverified, check.Fail, "ldap"},
		{"another claim", stored(), []func(*realm.Spec){set(realm.UsernameClaim, "email")}, reconcile.Unverified, check.Fail, "email"},
	} {
		bubble(t, tt.name, func(s *site) {
			got := s.put(tt.begin).declares(tt.changes...).verify()
			s.expect(got, tt.outcome, realm.None, "")
			found, _ := check.Find(got.Checks, check.ProxmoxRealm)
			if found.Status != tt.realm || !strings.Contains(found.Summary, tt.says) || found.Status == check.Fail && found.Hint == "" {
				s.Errorf("%+v", found)
			}
			if tt.name == "drifted" && found.Evidence != "client-key, comment" {
				s.Errorf("evidence %q", found.Evidence)
			}
			if _, full := s.looks(); s.writes() != 0 || status(got, check.ProxmoxPermissions) != check.Pass || s.count(users) == 0 || full != 1 || len(got.Changes) != 0 {
				s.Errorf("%v, %d questions, changes %v", s.calls(), full, got.Changes)
			}
			// A token that may not write is enough where nothing is to be written.
			s.as(pve.TokenSysAudit)
			if may := status(s.verify(), check.ProxmoxPermissions) == check.Pass; may != (tt.outcome == reconcile.Unchanged) {
				s.Errorf("a read-only token passes: %t", may)
			}
		})
	}
}

// Where Proxmox cannot be read the issuer is examined all the same, and where it is lost half-way, too.
func TestVerifyWithoutProxmox(t *testing.T) {
	bubble(t, read, func(s *site) {
		got := s.put(stored()).on(read, broken).declares(setKey(key)).verify()
		s.expect(got, reconcile.Failed, "", check.Unreachable)
		s.called(read)
		if _, full := s.looks(); status(got, check.IssuerIdentity) != check.Pass || status(got, check.ClientCredentials) != check.Pass || full != 1 {
			t.Errorf("%+v", got.Checks)
		}
		for _, id := range []check.ID{check.ProxmoxRealm, check.ProxmoxPermissions, check.ProxmoxDiscovery, check.ProxmoxUsers} {
			if status(got, id) != check.Skip {
				t.Errorf("%s is %q", id, status(got, id))
			}
		}
	})
	last := map[string]string{permissions: "#2"} // the first one belongs to the access, without which there is no plan
	for _, request := range []string{permissions, discovery, users} {
		bubble(t, request, func(s *site) {
			s.accepts("another-key")
			s.Access = realm.Access{}
			got := s.put(stored()).on(request+last[request], broken).verify()
			if status(got, check.ClientCredentials) != check.Fail || status(got, check.IssuerIdentity) != check.Pass || check.CodeOf(got.Err) != check.Unreachable {
				s.Errorf("%s, %v, %v", got.Outcome, got.Err, got.Checks)
			}
		})
	}
}

func TestPlanForeseesAndNeverWrites(t *testing.T) {
	comment, declared := set(realm.Comment, "x"), set(realm.UsernameClaim, "email")
	for _, tt := range []struct {
		name    string
		begin   fields
		change  func(*realm.Spec)
		broken  bool
		options reconcile.Options
		outcome reconcile.Outcome
		action  realm.Action
		code    check.Code
	}{
		{"absent", nil, comment, false, reconcile.Options{}, reconcile.Drift, realm.Create, ""},
		{"as declared", stored(), unset(), false, reconcile.Options{}, reconcile.Unchanged, realm.None, ""},
		{"as declared, the issuer is broken", stored(), unset(), true, reconcile.Options{}, reconcile.Unverified, realm.None, ""},
		{"drifted", stored(), comment, false, reconcile.Options{}, reconcile.Drift, realm.Update, ""},
		{"drifted harmlessly, the issuer is broken", stored(), comment, true, reconcile.Options{}, reconcile.Drift, realm.Update, ""},
		{"held", stored(), setKey(key), true, reconcile.Options{Waits: true}, reconcile.Held, realm.Update, check.Held},
		{"drifted, no gate", stored(), setKey(key), true, reconcile.Options{NoGate: true}, reconcile.Drift, realm.Update, ""},
		{"replace", stored(), declared, false, agreed, reconcile.Drift, realm.Replace, ""},
		{"refused", stored(), declared, false, reconcile.Options{}, reconcile.Refused, realm.Refuse, check.UsernameClaim},
	} {
		bubble(t, tt.name, func(s *site) {
			if tt.broken {
				s.misnamed()
			}
			got := s.put(tt.begin).declares(tt.change).plan(tt.options)
			s.expect(got, tt.outcome, tt.action, tt.code)
			if s.writes() != 0 || s.count(discovery) != 0 || len(s.saved()) != 0 || got.Duration != 0 { // plan waits for nothing
				s.Errorf("%v, files %v, %s", s.calls(), s.saved(), got.Duration)
			}
			if tt.outcome == reconcile.Drift && (status(got, check.ProxmoxPermissions) != check.Pass || status(got, check.IssuerIdentity) == "" || len(got.Changes) == 0) {
				s.Errorf("%v, checks %v, changes %v", s.calls(), got.Checks, got.Changes)
			}
			if tt.outcome == reconcile.Held && len(got.Changes) != 1 {
				s.Errorf("changes %v", got.Changes)
			}
		})
	}
	bubble(t, "the gate's consent", func(s *site) { // plan says that a gated change passes
		s.accepts(key)
		got := s.put(stored()).declares(setKey(key)).plan()
		s.expect(got, reconcile.Drift, realm.Update, "")
		if status(got, check.ClientCredentials) != check.Pass {
			t.Errorf("%+v", got.Checks)
		}
	})
}

// An interruption at any request ends the run: what is under way is finished, nothing else is begun.
func TestInterruptionAtEveryRequest(t *testing.T) {
	for _, cause := range []check.Code{check.Interrupted, check.Terminated} {
		for n := 1; n <= 4; n++ {
			alone(t, func(s *site) {
				s.put(stored()).declares(set(realm.Comment, "declared")).before[n] = s.stops(cause)
				got := s.apply()
				if got.Err == nil || check.CodeOf(got.Err) != cause || got.Outcome != reconcile.Failed {
					t.Errorf("request %d: %s, %v", n, got.Outcome, got.Err)
				}
				if written := s.holds()["comment"] == "declared"; written != (n > 1) || s.count(update) != min(n-1, 1) {
					t.Errorf("request %d: written is %t after %v", n, written, s.calls())
				}
				if n == 2 {
					s.called(read, update, read) // an update under way is read back
				}
				if said := len(got.Warnings) == 1 && strings.Contains(got.Warnings[0], "not verified"); said != (n >= 2) {
					t.Errorf("request %d: warnings %q", n, got.Warnings)
				}
			})
		}
	}
}

// What went wrong with a write under way is not hidden by an interruption. After a lost answer the interruption ends the run,
// instead of another look.
func TestAnInterruptionHidesNoVerdict(t *testing.T) {
	for code, rule := range map[check.Code]pve.Rule{check.NotTaken: pretended, check.Terminated: dropped} {
		alone(t, func(s *site) {
			s.put(stored()).on(update, rule).declares(set(realm.Comment, "declared")).before[2] = s.stops(check.Terminated)
			s.expect(s.apply(), reconcile.Failed, realm.Update, code)
		})
	}
}

func TestOutcomesAreOrdered(t *testing.T) {
	want := []reconcile.Outcome{"failed", "refused", "held", "unverified", "drift", "changed", "unchanged"}
	if got := reconcile.Outcomes(); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

func TestChecksAreSorted(t *testing.T) {
	alone(t, func(s *site) {
		got := s.put(stored()).verify()
		sorted := slices.Clone(got.Checks)
		check.Sort(sorted)
		if !slices.EqualFunc(sorted, got.Checks, func(a, b check.Check) bool { return a.ID == b.ID }) || len(got.Checks) != 19 {
			t.Errorf("%d: %v", len(got.Checks), got.Checks)
		}
	})
}

// A key that somebody pasted into another property is not shown.
func TestSecretsInOtherPropertiesAreMasked(t *testing.T) {
	alone(t, func(s *site) {
		s.put(stored(with(realm.Comment, "the key is "+oldKey), with(realm.ClientID, oldKey))).declares(set(realm.Comment, "see "+key))
		s.Cleaner.Hold(check.NewSecret(oldKey), check.NewSecret(key))
		for _, got := range []reconcile.Result{s.plan(), s.planDelete()} {
			if len(got.Changes) == 0 {
				t.Error("no changes")
			}
			for _, change := range got.Changes {
				for _, text := range []*string{change.Before, change.After} {
					if text != nil && (strings.Contains(*text, oldKey) || strings.Contains(*text, key)) {
						t.Errorf("%s: %s", change.Property, *text)
					}
				}
			}
		}
	})
}

// An apply that wrote, and could not verify it, says both. A write that took no effect was none.
func TestApplyThatLosesProxmoxAfterItsWrite(t *testing.T) {
	alone(t, func(s *site) {
		got := s.put(stored()).on(discovery, broken).declares(set(realm.Prompt, "login")).apply()
		s.expect(got, reconcile.Failed, realm.Update, check.Unreachable)
		if !got.Wrote() || len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "was written and read back, but not verified") {
			t.Errorf("wrote: %t; warnings %q", got.Wrote(), got.Warnings)
		}
		if got := s.on(update, refused).declares(set(realm.Comment, "another")).apply(); got.Wrote() {
			t.Error("a write that failed counts")
		}
	})
}

// misnamed makes the issuer name itself in another way than it is declared.
func (s *site) misnamed() *site {
	s.idp.SetIssuer(issuerURL + "/")
	return s
}

// undiscovered is a node that cannot reach the issuer.
var undiscovered = pve.Rule{Status: http.StatusInternalServerError, Reason: "Request failed"}

// distrusts makes this machine know no authority.
func (s *site) distrusts() *site {
	s.sees(s.network, x509.NewCertPool())
	return s
}
