package reconcile_test

import (
	"testing"
	"testing/synctest"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// A remembered answer counts only for the client that it was about, and one that failed is asked again after an hour.
func TestRememberedAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newCluster(t).put(name, stored(with(realm.ClientKey, key))), &provider{takes: only("another-key")}
		target := aim(t, c, p, spec(setKey(key)))
		scheduled := reconcile.Options{Repeats: true}
		run := func(want reconcile.Outcome, questions int) {
			t.Helper()
			got := apply(t.Context(), target, scheduled)
			target.Memory = got.Memory
			if got.Outcome != want || len(p.questions) != questions {
				t.Errorf("%s after %d questions, want %s after %d; %v", got.Outcome, len(p.questions), want, questions, got.Err)
			}
		}
		run(reconcile.Unchanged, 0) // never asked, and nothing was written: not asked
		got := verify(t.Context(), target)
		target.Memory = got.Memory
		run(reconcile.Unverified, 1) // what failed counts
		time.Sleep(59 * time.Minute)
		run(reconcile.Unverified, 1)
		time.Sleep(2 * time.Minute)
		run(reconcile.Unverified, 2) // asked again after an hour
		p.takes = nil
		run(reconcile.Unverified, 2)
		time.Sleep(time.Hour)
		run(reconcile.Unchanged, 3) // the issuer has the key by now
		run(reconcile.Unchanged, 3)

		// Another key in Proxmox and in the configuration is another question.
		c.put(name, stored(with(realm.ClientKey, "a-third-key")))
		target.Realm = spec(setKey("a-third-key"))
		run(reconcile.Unchanged, 4)
		// And so are other redirect URLs.
		target.Verify.RedirectURLs = append(target.Verify.RedirectURLs, "https://pve2.example.com:8006")
		run(reconcile.Unchanged, 5)
	})
}

// A question that got no answer is not remembered as asked, but an issuer that limits requests is left alone for an hour.
func TestUnansweredIsNotAsked(t *testing.T) {
	for decision, want := range map[issuer.Decision]int{issuer.NoVerdict: 4, issuer.RateLimited: 1, issuer.Accepted: 1} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t).put(name, stored())
			p := &provider{verdict: func(string) *issuer.Verdict { return &issuer.Verdict{Decision: decision} }}
			target := aim(t, c, p, spec())
			for range 4 {
				target.Memory = apply(t.Context(), target, reconcile.Options{Repeats: true, ClientEvery: 24 * time.Hour}).Memory
				time.Sleep(15 * time.Minute)
			}
			if len(p.inspected) != 4 || len(p.questions) != want {
				t.Errorf("%s: %d questions in an hour, want %d", decision, len(p.questions), want)
			}
		})
	}
}

// A node on which the issuer hung is left alone for an hour, whatever asks.
func TestANodeOnWhichTheIssuerHungIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newCluster(t).put(name, stored()), &provider{}
		c.hung = true
		target := aim(t, c, p, spec())
		for range 3 {
			target.Memory = verify(t.Context(), target).Memory
			time.Sleep(19 * time.Minute)
		}
		if c.count(discovery) != 1 {
			t.Errorf("asked %d times within an hour", c.count(discovery))
		}
		time.Sleep(4 * time.Minute)
		c.hung = false
		got := verify(t.Context(), target)
		if c.count(discovery) != 2 || len(got.Memory.HungUntil) != 0 {
			t.Errorf("asked %d times, %v", c.count(discovery), got.Memory.HungUntil)
		}
	})
}

// Proxmox is never asked to discover an issuer that took more than 5 s: that rule keeps a node's workers alive.
func TestASlowIssuerIsNotDiscoveredByProxmox(t *testing.T) {
	c := newCluster(t).put(name, stored())
	target := aim(t, c, &provider{slow: true}, spec(set(realm.Comment, "new")))
	for _, got := range []reconcile.Result{apply(t.Context(), target, reconcile.Options{}), verify(t.Context(), target)} {
		if c.count(discovery) != 0 || status(got, check.ProxmoxDiscovery) != check.Skip {
			t.Errorf("asked %d times: %s", c.count(discovery), status(got, check.ProxmoxDiscovery))
		}
	}
}

// This machine's distrust of the issuer proves nothing about the node: Proxmox's own discovery decides.
func TestAnIssuerThatThisMachineDoesNotTrust(t *testing.T) {
	c, p := newCluster(t).put(name, stored()), &provider{untrusted: true}
	target := aim(t, c, p, spec(set(realm.Scopes, "openid email")))
	got := apply(t.Context(), target, reconcile.Options{})
	expect(t, got, reconcile.Changed, realm.Update, "")
	if len(p.questions) != 0 || len(got.Warnings) != 1 {
		t.Errorf("%d questions over a connection that is not trusted; warnings %q", len(p.questions), got.Warnings)
	}
	if view := p.views[len(p.views)-1]; !view.Discovered {
		t.Error("the checks do not know that Proxmox discovers the issuer")
	}
	// If the node cannot discover the issuer either, the change is held.
	c.put(name, stored())
	c.script[discovery] = trouble{never: true}
	expect(t, apply(t.Context(), target, reconcile.Options{}), reconcile.Held, realm.Update, check.Held)
}
