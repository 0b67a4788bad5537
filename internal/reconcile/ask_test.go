package reconcile_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	labissuer "proxmox-realm/internal/lab/issuer"
	"proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/lab/standin"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

const (
	unverified, unchanged = reconcile.Unverified, reconcile.Unchanged
	loud                  = false
)

// runs applies once more, and compares the outcome with the looks at the client since the beginning.
func (s *site) runs(quietly bool, want reconcile.Outcome, looks int) {
	s.Helper()
	got := s.apply(reconcile.Options{Quiet: quietly})
	if all, _ := s.looks(); got.Outcome != want || all != looks {
		s.Errorf("%s after %d looks, want %s after %d; %v, %v", got.Outcome, all, want, looks, got.Err, check.Failures(got.Checks))
	}
}

// A finding about the client stands until something newer contradicts it. A quiet run asks again after an hour, a loud one after a
// minute.
func TestFindingsAboutTheClientStand(t *testing.T) {
	alone(t, func(s *site) {
		s.accepts("another-key")
		s.put(stored(with(realm.ClientKey, key))).declares(setKey(key))
		const quietly = true
		s.runs(quietly, unverified, 1) // for free, and as the answer was no, in full
		s.runs(quietly, unverified, 1)
		s.runs(loud, unverified, 1)
		time.Sleep(59 * time.Second)
		s.runs(loud, unverified, 1)
		time.Sleep(2 * time.Second)
		s.runs(loud, unverified, 2) // a loud run asks again after a minute
		time.Sleep(58 * time.Minute)
		s.runs(quietly, unverified, 2)
		time.Sleep(2 * time.Minute)
		s.runs(quietly, unverified, 3) // a quiet one after an hour
		s.accepts(key)
		s.runs(quietly, unverified, 3)
		time.Sleep(time.Hour)
		s.runs(quietly, unchanged, 4) // the issuer has the key by now
		s.runs(quietly, unchanged, 4)
		_, full := s.looks()
		time.Sleep(time.Hour)
		s.runs(quietly, unchanged, 5)
		if _, now := s.looks(); now != full { // for free
			t.Errorf("asked %d times in full", now)
		}
		for n := range 24 {
			time.Sleep(time.Hour)
			s.runs(quietly, unchanged, 6+n)
		}
		if _, now := s.looks(); now != full+1 {
			t.Errorf("asked in full %d times within a day", now-full)
		}
		// Another key in Proxmox and in the configuration is another question, and so are other redirect URLs.
		s.accepts("a-third-key")
		s.put(stored(with(realm.ClientKey, "a-third-key"))).declares(setKey("a-third-key"))
		s.runs(quietly, unchanged, 30)
		s.Verify.RedirectURLs = []config.Origin{"https://elsewhere.example.com"}
		s.runs(quietly, unchanged, 31) // a refusal of what nobody declared is a warning
		s.runs(quietly, unchanged, 31)
	})
}

// Realms that share a client, with other scopes, share what is known of its key. What is known of their login requests is kept
// apart: no run forgets what the other found, and neither asks anew because of the other.
func TestRealmsThatShareAClientKeepTheirFindings(t *testing.T) {
	alone(t, func(s *site) {
		// The second realm asks for a scope that the client may not request.
		second := stored(with(realm.Scopes, "openid address"))
		s.put(stored()).putAs("second", second)
		run := func(name string, want reconcile.Outcome, looks int) {
			t.Helper()
			s.reset()
			s.Realm = spec(func(spec *realm.Spec) { spec.Name = name })
			s.runs(true, want, looks)
		}
		for range 3 {
			run(name, unchanged, 1)
			run("second", unverified, 1)
			for range 3 {
				run(name, unchanged, 0)
				run("second", unverified, 0)
			}
			time.Sleep(time.Hour)
		}
		s.limits(authorizationPath, "") // the issuer gives no answer any more: what was found stands
		for range 2 {
			run(name, unchanged, 1)
			run("second", unverified, 0)
			time.Sleep(time.Hour)
		}
	})
}

// A question that got no answer is asked again in the next run. An issuer that limits requests is left alone until the limit
// ends.
func TestUnansweredIsNotAsked(t *testing.T) {
	down := labissuer.Fault{Status: 502}
	for title, tt := range map[string]struct {
		issuer func(*site)
		looks  int
	}{
		"no verdict": {func(s *site) {
			s.idp.Inject(authorizationPath, down)
			s.idp.Inject(tokenPath, down)
			s.idp.Inject(introspectionPath, down)
		}, 4},
		"limited": {func(s *site) { s.limits(authorizationPath, "1800") }, 2}, "accepted": {func(*site) {}, 1},
	} {
		bubble(t, title, func(s *site) {
			tt.issuer(s)
			s.put(stored())
			for range 4 {
				s.apply(quiet)
				time.Sleep(15*time.Minute - time.Second)
			}
			if all, _ := s.looks(); s.inspections() != 4 || all != tt.looks {
				s.Errorf("%d looks in an hour, want %d", all, tt.looks)
			}
		})
	}
}

// A day of quiet runs while all is well asks about the client for free each hour and once in full, and for one discovery.
func TestADayOfRuns(t *testing.T) {
	alone(t, func(s *site) {
		s.expect(s.apply(), reconcile.Changed, realm.Create, "")
		s.reset()
		for range 4 * 24 {
			time.Sleep(15 * time.Minute)
			s.expect(s.apply(quiet), unchanged, realm.None, "")
		}
		if all, full := s.looks(); all != 24 || full != 1 || s.count(discovery) != 1 || s.count(users) != 0 || s.count(read) != 4*24 {
			t.Errorf("%d looks, %d of them in full; %v", all, full, s.calls())
		}
	})
}

// hanging is a node that an issuer keeps waiting.
var hanging = pve.Rule{Status: 596, Reason: "Connection timed out"}

// A node on which the issuer hung is left alone for a day, but for a verify that somebody waits for. What the node said stands.
func TestANodeOnWhichTheIssuerHungIsLeftAlone(t *testing.T) {
	alone(t, func(s *site) {
		s.on(discovery, hanging)
		asked := func(times int) {
			t.Helper()
			if n := s.count(discovery); n != times {
				t.Errorf("asked %d times, want %d", n, times)
			}
		}
		s.expect(s.apply(), unverified, realm.Create, "")
		for range 23 {
			time.Sleep(time.Hour)
			s.expect(s.apply(), unverified, realm.None, "")
		}
		asked(1)
		s.expect(s.verify(quiet), unverified, realm.None, "")
		asked(1)
		s.expect(s.verify(), unverified, realm.None, "")
		asked(2)
		s.on(discovery, pve.Rule{})
		time.Sleep(25 * time.Hour)
		s.expect(s.apply(), unchanged, realm.None, "")
		asked(3)
	})
}

// A failure of Proxmox's discovery that an outage of the issuer caused falls with the outage. An outage that comes and goes later
// does not silence a node that is left alone and cannot prove that it is mended.
func TestAnOutageOfTheIssuer(t *testing.T) {
	outage := func(s *site) { s.idp.Inject("", labissuer.Fault{Status: 502}) }
	alone(t, func(s *site) {
		s.on(discovery, pve.Rule{Before: func() { outage(s) }}) // the issuer falls over between two requests
		s.expect(s.apply(quiet), unverified, realm.Create, "")
		time.Sleep(5 * time.Minute)
		s.expect(s.apply(quiet), unverified, realm.None, "")
		s.on(discovery, pve.Rule{})
		s.idp.Clear()
		time.Sleep(5 * time.Minute)
		s.expect(s.apply(quiet), unchanged, realm.None, "")
		if n := s.count(discovery); n != 2 {
			t.Errorf("asked %d times", n)
		}
	})
	alone(t, func(s *site) {
		s.on(discovery, hanging)
		s.expect(s.apply(quiet), unverified, realm.Create, "")
		for _, change := range []func(){func() { outage(s) }, s.idp.Clear, func() {}} {
			change()
			time.Sleep(2 * time.Hour)
			s.expect(s.apply(quiet), unverified, realm.None, "")
		}
	})
}

// A memory that cannot be read may have held a failure: everything is asked again, by the first run that can.
func TestALostMemoryIsAskedAgain(t *testing.T) {
	alone(t, func(s *site) {
		s.put(stored()).on(discovery, undiscovered)
		s.expect(s.verify(), unverified, realm.None, "")
		files, err := filepath.Glob(filepath.Join(s.History.Dir(), "history", "target-*"))
		if err != nil || len(files) != 1 || os.WriteFile(files[0], []byte("{"), 0o600) != nil {
			t.Fatal(files, err)
		}
		s.on(discovery, broken)
		s.expect(s.apply(quiet), reconcile.Failed, realm.None, check.Unreachable)
		s.on(discovery, undiscovered)
		s.expect(s.apply(quiet), unverified, realm.None, "")
	})
}

// What one node found stands, whichever node answers later.
func TestEachNodeSpeaksForItself(t *testing.T) {
	alone(t, func(s *site) {
		if err := s.pve.Close(); err != nil {
			t.Fatal(err)
		}
		s.startPVE(pve.Options{Seed: s.pve.State(), Nodes: []pve.Node{{}, {}}})
		s.put(stored())
		const node2 = "https://127.0.0.2:8006"
		s.Proxmox.Endpoints = append(s.Proxmox.Endpoints, node2)
		s.reconnect()
		failing := undiscovered
		failing.Path, failing.Host = requests[discovery].path, "127.0.0.2:8006"
		mend := s.pve.Inject(failing)
		all := reconcile.Options{AllEndpoints: true}
		s.expect(s.verify(all), unverified, realm.None, "")
		s.expect(s.apply(), unverified, realm.None, "")
		s.expect(s.verify(), unverified, realm.None, "")
		mend()
		time.Sleep(time.Second)
		s.expect(s.verify(all), unchanged, realm.None, "")
		s.expect(s.apply(), unchanged, realm.None, "")
	})
}

// This machine's distrust of the issuer proves nothing about the node: Proxmox's own discovery decides. What closed the gate keeps it
// closed: a question that is not asked again opens nothing.
func TestAnIssuerThatThisMachineDoesNotTrust(t *testing.T) {
	bubble(t, "the node trusts it", func(s *site) {
		got := s.distrusts().put(stored()).declares(set(realm.Scopes, "openid email")).apply()
		s.expect(got, reconcile.Changed, realm.Update, "")
		if all, _ := s.looks(); all != 0 || len(got.Warnings) != 1 {
			t.Errorf("%d questions over a connection that is not trusted; warnings %q", all, got.Warnings)
		}
	})
	bubble(t, "the node reaches it, and this machine does not", func(s *site) {
		s.sees(&standin.Memory{}, nil)
		if got := s.put(stored()).verify(); status(got, check.IssuerReach) != check.Warn || status(got, check.ProxmoxDiscovery) != check.Pass {
			t.Errorf("%v", got.Checks)
		}
		time.Sleep(time.Second)
		if got := s.on(discovery, undiscovered).verify(); status(got, check.IssuerReach) != check.Fail {
			t.Errorf("%v", got.Checks)
		}
	})
	for title, rule := range map[string]pve.Rule{"the node does not": undiscovered, "the node hangs": hanging} {
		bubble(t, title, func(s *site) {
			s.distrusts().put(stored()).on(discovery, rule).declares(set(realm.Scopes, "openid email"))
			for range 3 {
				s.expect(s.apply(quiet), reconcile.Held, realm.Update, check.Held)
				s.expect(s.plan(), reconcile.Held, realm.Update, check.Held)
			}
			if s.count(discovery) != 1 {
				s.Errorf("the node was asked %d times", s.count(discovery))
			}
		})
	}
}

// A finding about values that nobody declares and Proxmox does not hold falls, and so does one whose check is off.
func TestFindingsFall(t *testing.T) {
	for title, change := range map[string]func(*site){
		"verify.client: false": func(s *site) { s.Verify.Client = false },
		"verify.ignore":        func(s *site) { s.Verify.Ignore = []check.ID{check.ClientCredentials} },
		"another key":          func(s *site) { s.put(stored()).declares() },
	} {
		bubble(t, title, func(s *site) {
			s.accepts(oldKey)
			s.put(stored(with(realm.ClientKey, key))).declares(setKey(key))
			s.expect(s.verify(), unverified, realm.None, "")
			s.expect(s.plan(), unverified, realm.None, "")
			change(s)
			s.expect(s.apply(), unchanged, realm.None, "")
		})
	}
}
