package reconcile_test

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// A finding about the client stands until something newer contradicts it. A quiet run asks again after an hour, a loud one after a
// minute.
func TestFindingsAboutTheClientStand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newCluster(t).put(name, stored(with(realm.ClientKey, key))), &fakeIssuer{takes: only("another-key")}
		target := aim(t, c, p, spec(setKey(key)))
		run := func(o reconcile.Options, want reconcile.Outcome, questions int) {
			t.Helper()
			got := apply(t.Context(), target, o)
			if got.Outcome != want || len(p.questions) != questions {
				t.Errorf("%s after %d questions, want %s after %d; %v", got.Outcome, len(p.questions), want, questions, got.Err)
			}
		}
		quiet, loud := reconcile.Options{Quiet: true}, reconcile.Options{}
		run(quiet, reconcile.Unverified, 2) // for free, and as the answer was no, in full
		run(quiet, reconcile.Unverified, 2)
		run(loud, reconcile.Unverified, 2)
		time.Sleep(59 * time.Second)
		run(loud, reconcile.Unverified, 2)
		time.Sleep(2 * time.Second)
		run(loud, reconcile.Unverified, 3) // a loud run asks again after a minute
		time.Sleep(58 * time.Minute)
		run(quiet, reconcile.Unverified, 3)
		time.Sleep(2 * time.Minute)
		run(quiet, reconcile.Unverified, 4) // a quiet one after an hour
		p.takes = nil
		run(quiet, reconcile.Unverified, 4)
		time.Sleep(time.Hour)
		run(quiet, reconcile.Unchanged, 5) // the issuer has the key by now
		run(quiet, reconcile.Unchanged, 5)
		time.Sleep(time.Hour)
		run(quiet, reconcile.Unchanged, 6) // for free
		if p.questions[5].Depth != issuer.Free {
			t.Errorf("asked %v", p.questions[5].Depth)
		}
		for range 24 {
			time.Sleep(time.Hour)
			run(quiet, reconcile.Unchanged, len(p.questions)+1)
		}
		if full := len(p.questions) - 1; p.questions[full].Depth != issuer.Full && p.questions[full-1].Depth != issuer.Full && p.questions[full-2].Depth != issuer.Full {
			t.Error("never asked in full within a day")
		}

		// Another key in Proxmox and in the configuration is another question.
		asked := len(p.questions)
		c.put(name, stored(with(realm.ClientKey, "a-third-key")))
		target.Realm = spec(setKey("a-third-key"))
		run(quiet, reconcile.Unchanged, asked+1)
		// And so are other redirect URLs.
		target.Verify.RedirectURLs = append(target.Verify.RedirectURLs, "https://pve2.example.com:8006")
		run(quiet, reconcile.Unchanged, asked+2)
		run(quiet, reconcile.Unchanged, asked+2)
	})
}

// Realms that share a client, with other scopes, share what is known of its key and keep apart what is known of their login
// requests: no run forgets what the other found, and neither asks anew because of the other.
func TestRealmsThatShareAClientKeepTheirFindings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, q := &fakeIssuer{redirect: func() bool { return false }}, &fakeIssuer{}
		first := aim(t, newCluster(t).put(name, stored(with(realm.ClientKey, key), with(realm.Scopes, "openid groups"))), p,
			spec(setKey(key), func(s *realm.Spec) { s.Set[realm.Scopes] = realm.Words(realm.Scopes, "openid", "groups") }))
		second := aim(t, newCluster(t).put(name, stored(with(realm.ClientKey, key))), q, spec(setKey(key)))
		second.History = first.History
		quiet := reconcile.Options{Quiet: true}
		for hour := range 3 {
			for range 4 {
				expect(t, apply(t.Context(), first, quiet), reconcile.Unverified, realm.None, "")
				expect(t, apply(t.Context(), second, quiet), reconcile.Unchanged, realm.None, "")
			}
			if len(p.questions) != hour+2 || len(q.questions) != hour+1 { // what is refused is asked in full at once
				t.Fatalf("%d and %d questions in %d hours", len(p.questions), len(q.questions), hour+1)
			}
			time.Sleep(time.Hour)
		}
		p.verdict = func(string) *issuer.Verdict { return &issuer.Verdict{Decision: issuer.RateLimited} }
		q.verdict = p.verdict
		for range 2 { // the issuer gives no answer any more: what was found stands
			expect(t, apply(t.Context(), second, quiet), reconcile.Unchanged, realm.None, "")
			expect(t, apply(t.Context(), first, quiet), reconcile.Unverified, realm.None, "")
			time.Sleep(time.Hour)
		}
	})
}

// A question that got no answer is asked again in the next run, but an issuer that limits requests is left alone until the limit
// ends.
func TestUnansweredIsNotAsked(t *testing.T) {
	for decision, want := range map[issuer.Decision]int{issuer.NoVerdict: 8, issuer.RateLimited: 2, issuer.Accepted: 1} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t).put(name, stored())
			p := &fakeIssuer{verdict: func(string) *issuer.Verdict {
				return &issuer.Verdict{Decision: decision, RetryAfter: 30 * time.Minute}
			}}
			target := aim(t, c, p, spec())
			for range 4 {
				apply(t.Context(), target, reconcile.Options{Quiet: true})
				time.Sleep(15*time.Minute - time.Second)
			}
			if len(p.inspected) != 4 || len(p.questions) != want {
				t.Errorf("%s: %d questions in an hour, want %d", decision, len(p.questions), want)
			}
		})
	}
}

// What a day of quiet runs costs issuer and node while all is well: the client for free each hour and in full once, and one discovery.
func TestADayOfRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newCluster(t), &fakeIssuer{}
		target := aim(t, c, p, spec(setKey(key)))
		expect(t, apply(t.Context(), target, reconcile.Options{}), reconcile.Changed, realm.Create, "")
		p.questions, c.calls = nil, nil
		for range 4 * 24 {
			time.Sleep(15 * time.Minute)
			expect(t, apply(t.Context(), target, reconcile.Options{Quiet: true}), reconcile.Unchanged, realm.None, "")
		}
		full := 0
		for _, q := range p.questions {
			if q.Depth != issuer.Free {
				full++
			}
		}
		if len(p.questions) != 24 || full != 1 || c.count(discovery) != 1 || c.count(usersCheck) != 0 || c.count(read) != 4*24 {
			t.Errorf("%d questions, %d of them in full; calls: %d discoveries, %d of users, %d reads",
				len(p.questions), full, c.count(discovery), c.count(usersCheck), c.count(read))
		}
	})
}

// A verify that loses Proxmox half-way shows what issuer and client said.
func TestAVerifyThatLosesProxmoxShowsTheRest(t *testing.T) {
	for _, call := range []string{permissions, discovery, usersCheck, readAccess} {
		c, p := newCluster(t).put(name, stored()), &fakeIssuer{takes: only("another-key")}
		c.script[call] = trouble{err: errDown}
		target := aim(t, c, p, spec())
		target.Access = realm.Access{}
		got := verify(t.Context(), target)
		if status(got, check.ClientCredentials) != check.Fail || status(got, check.IssuerIdentity) != check.Pass {
			t.Errorf("%s: %s, %v", call, got.Outcome, got.Checks)
		}
	}
}

// A node on which the issuer hung is left alone for a day, but for a verify that somebody waits for. What the node said stands.
func TestANodeOnWhichTheIssuerHungIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newCluster(t), &fakeIssuer{}
		c.hung = true
		c.script[discovery] = trouble{never: true}
		target := aim(t, c, p, spec())
		expect(t, apply(t.Context(), target, reconcile.Options{}), reconcile.Unverified, realm.Create, "")
		for range 23 {
			time.Sleep(time.Hour)
			expect(t, apply(t.Context(), target, reconcile.Options{}), reconcile.Unverified, realm.None, "")
		}
		if c.count(discovery) != 1 {
			t.Errorf("asked %d times within a day", c.count(discovery))
		}
		expect(t, reconcile.Verify(t.Context(), target.Target, target.Deps, reconcile.Options{Quiet: true}), reconcile.Unverified, realm.None, "")
		if c.count(discovery) != 1 {
			t.Error("a quiet verify asks")
		}
		expect(t, verify(t.Context(), target), reconcile.Unverified, realm.None, "")
		if c.count(discovery) != 2 {
			t.Error("a loud verify does not ask")
		}
		c.hung, c.script = false, map[string]trouble{}
		time.Sleep(25 * time.Hour)
		expect(t, apply(t.Context(), target, reconcile.Options{}), reconcile.Unchanged, realm.None, "")
		if c.count(discovery) != 3 {
			t.Errorf("asked %d times", c.count(discovery))
		}
	})
}

// A failure of Proxmox's discovery that an outage of the issuer caused falls with the outage.
func TestAnOutageOfTheIssuerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newCluster(t), &fakeIssuer{}
		c.script[discovery] = trouble{never: true, before: func() { p.slow = true }} // the issuer falls over between two requests
		target := aim(t, c, p, spec())
		expect(t, apply(t.Context(), target, reconcile.Options{Quiet: true}), reconcile.Unverified, realm.Create, "")
		time.Sleep(5 * time.Minute)
		expect(t, apply(t.Context(), target, reconcile.Options{Quiet: true}), reconcile.Unverified, realm.None, "")
		p.slow, c.script = false, map[string]trouble{}
		time.Sleep(5 * time.Minute)
		expect(t, apply(t.Context(), target, reconcile.Options{Quiet: true}), reconcile.Unchanged, realm.None, "")
		if c.count(discovery) != 2 {
			t.Errorf("asked %d times", c.count(discovery))
		}
	})
}

// An outage that comes and goes later does not silence a node that is left alone and cannot prove that it is mended.
func TestALaterOutageDoesNotMendANode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newCluster(t), &fakeIssuer{}
		c.hung = true
		c.script[discovery] = trouble{never: true}
		target := aim(t, c, p, spec())
		expect(t, apply(t.Context(), target, reconcile.Options{Quiet: true}), reconcile.Unverified, realm.Create, "")
		for _, p.slow = range []bool{true, false, false} {
			time.Sleep(2 * time.Hour)
			expect(t, apply(t.Context(), target, reconcile.Options{Quiet: true}), reconcile.Unverified, realm.None, "")
		}
	})
}

// A memory that cannot be read may have held a failure: everything is asked again, by the first run that can.
func TestALostMemoryIsAskedAgain(t *testing.T) {
	c, p := newCluster(t).put(name, stored()), &fakeIssuer{}
	c.failing = "https://pve1.example.com:8006"
	target := aim(t, c, p, spec())
	expect(t, verify(t.Context(), target), reconcile.Unverified, realm.None, "")
	files, err := filepath.Glob(filepath.Join(target.History.Dir(), "history", "target-*"))
	if err != nil || len(files) != 1 || os.WriteFile(files[0], []byte("{"), 0o600) != nil {
		t.Fatal(files, err)
	}
	c.script[discovery] = trouble{err: errDown}
	expect(t, apply(t.Context(), target, reconcile.Options{Quiet: true}), reconcile.Failed, realm.None, check.Unreachable)
	delete(c.script, discovery)
	expect(t, apply(t.Context(), target, reconcile.Options{Quiet: true}), reconcile.Unverified, realm.None, "")
}

// What one node found stands, whichever node answers later.
func TestEachNodeSpeaksForItself(t *testing.T) {
	c, p := newCluster(t).put(name, stored()), &fakeIssuer{}
	target := aim(t, c, p, spec())
	target.Proxmox.Endpoints = append(target.Proxmox.Endpoints, "https://pve2.example.com:8006")
	c.failing = "https://pve2.example.com:8006"
	all := reconcile.Options{AllEndpoints: true}
	expect(t, reconcile.Verify(t.Context(), target.Target, target.Deps, all), reconcile.Unverified, realm.None, "")
	expect(t, apply(t.Context(), target, reconcile.Options{}), reconcile.Unverified, realm.None, "")
	expect(t, verify(t.Context(), target), reconcile.Unverified, realm.None, "")
	c.failing = ""
	expect(t, reconcile.Verify(t.Context(), target.Target, target.Deps, all), reconcile.Unchanged, realm.None, "")
	expect(t, apply(t.Context(), target, reconcile.Options{}), reconcile.Unchanged, realm.None, "")
}

// What closed the gate keeps it closed: a question that is not asked again opens nothing.
func TestASkipDoesNotOpenTheGate(t *testing.T) {
	c, p := newCluster(t).put(name, stored()), &fakeIssuer{untrusted: true}
	c.hung = true
	c.script[discovery] = trouble{never: true}
	target := aim(t, c, p, spec(set(realm.Scopes, "openid email")))
	for range 3 {
		expect(t, apply(t.Context(), target, reconcile.Options{Quiet: true}), reconcile.Held, realm.Update, check.Held)
		expect(t, plan(t.Context(), target, reconcile.Options{}), reconcile.Held, realm.Update, check.Held)
	}
	if c.count(discovery) != 1 {
		t.Errorf("the node was asked %d times", c.count(discovery))
	}
}

// A finding about values that nobody declares and Proxmox does not hold falls, and so does one whose check is off.
func TestFindingsFall(t *testing.T) {
	for title, change := range map[string]func(*aimed, *cluster){
		"verify.client: false": func(t *aimed, _ *cluster) { t.Verify.Client = false },
		"verify.ignore":        func(t *aimed, _ *cluster) { t.Verify.Ignore = []check.ID{check.ClientCredentials} },
		"another key": func(t *aimed, c *cluster) {
			c.put(name, stored(with(realm.ClientKey, oldKey)))
			t.Realm = spec(setKey(oldKey))
		},
	} {
		c, p := newCluster(t).put(name, stored(with(realm.ClientKey, key))), &fakeIssuer{takes: only(oldKey)}
		target := aim(t, c, p, spec(setKey(key)))
		expect(t, verify(t.Context(), target), reconcile.Unverified, realm.None, "")
		expect(t, plan(t.Context(), target, reconcile.Options{}), reconcile.Unverified, realm.None, "")
		change(&target, c)
		if got := apply(t.Context(), target, reconcile.Options{}); got.Outcome != reconcile.Unchanged {
			t.Errorf("%s: %s, %v", title, got.Outcome, got.Checks)
		}
	}
}

// Proxmox is never asked to discover an issuer that took more than 5 s: that rule keeps a node's workers alive.
func TestASlowIssuerIsNotDiscoveredByProxmox(t *testing.T) {
	c := newCluster(t).put(name, stored())
	target := aim(t, c, &fakeIssuer{slow: true}, spec(set(realm.Comment, "new")))
	for _, got := range []reconcile.Result{apply(t.Context(), target, reconcile.Options{}), verify(t.Context(), target)} {
		if c.count(discovery) != 0 || status(got, check.ProxmoxDiscovery) != check.Skip {
			t.Errorf("asked %d times: %s", c.count(discovery), status(got, check.ProxmoxDiscovery))
		}
	}
}

// This machine's distrust of the issuer proves nothing about the node: Proxmox's own discovery decides.
func TestAnIssuerThatThisMachineDoesNotTrust(t *testing.T) {
	c, p := newCluster(t).put(name, stored()), &fakeIssuer{untrusted: true}
	target := aim(t, c, p, spec(set(realm.Scopes, "openid email")))
	got := apply(t.Context(), target, reconcile.Options{})
	expect(t, got, reconcile.Changed, realm.Update, "")
	if len(p.questions) != 0 || len(got.Warnings) != 1 {
		t.Errorf("%d questions over a connection that is not trusted; warnings %q", len(p.questions), got.Warnings)
	}
	if found, ok := check.Find(p.views[len(p.views)-1].Found, check.ProxmoxDiscovery); !ok || found.Status != check.Pass {
		t.Error("the checks do not know that Proxmox discovers the issuer")
	}
	// If the node cannot discover the issuer either, the change is held.
	c.put(name, stored())
	c.script[discovery] = trouble{never: true}
	expect(t, apply(t.Context(), target, reconcile.Options{}), reconcile.Held, realm.Update, check.Held)
}
