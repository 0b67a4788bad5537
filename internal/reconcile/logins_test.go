package reconcile_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/diagnose"
	"proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// logReader are the privileges that a diagnosis needs on the nodes.
var logReader = []string{"Sys.Audit", "Sys.Syslog"}

// logging makes the installation have these nodes, and the target use a token with these privileges on them.
func (s *site) logging(privileges []string, nodes ...pve.Node) *site {
	s.Helper()
	seed := s.pve.State()
	if err := s.pve.Close(); err != nil {
		s.Fatal(err)
	}
	s.startPVE(pve.Options{Seed: seed, Nodes: nodes})
	s.may(map[string][]string{"/nodes": privileges})
	time.Sleep(3 * time.Second / 2) // a node tells its clock in whole seconds
	return s
}

// write adds a line of pvedaemon to the log of a node.
func (s *site) write(node string, at time.Time, pid int, message string) {
	s.Helper()
	if err := s.pve.Log(node, pve.Line{Time: at, Process: "pvedaemon", PID: pid, Message: message}); err != nil {
		s.Fatal(err)
	}
}

func failure(text string) string {
	return "openid authentication failure; rhost=::ffff:192.0.2.17 msg=" + text
}

func facts() diagnose.Facts {
	return diagnose.Facts{Login: realm.Login{Realm: name}, Cleaner: check.NewCleaner()}
}

func (s *site) reader(span time.Duration) *reconcile.LoginReader {
	return reconcile.NewLoginReader(facts(), span)
}

// reads reads once, and returns what was told, sorted.
func (s *site) reads(r *reconcile.LoginReader) ([]string, reconcile.Reading, error) {
	var all []string
	reading, err := r.Read(s.ctx, s.Cluster, func(l diagnose.Login) {
		all = append(all, fmt.Sprintf("%s %s %s %s", l.Node, l.Time.Format("01-02 15:04:05 -0700"), l.Outcome, l.Cause))
	})
	slices.Sort(all)
	return all, reading, err
}

// TestLogsOfAllNodes reads three nodes, each with a zone and a clock of its own, and one that is off.
func TestLogsOfAllNodes(t *testing.T) {
	alone(t, func(s *site) {
		s.logging(logReader, pve.Node{Zone: "Asia/Kathmandu"}, pve.Node{Zone: "America/St_Johns", Ahead: 30 * time.Minute}, pve.Node{Off: true})
		stamp := func(at time.Time, zone string) string {
			z, err := time.LoadLocation(zone)
			if err != nil {
				t.Fatal(err)
			}
			return at.In(z).Format("01-02 15:04:05 -0700")
		}
		now := time.Now()
		early, late := now.Add(-25*time.Hour), now.Add(-23*time.Hour)
		s.write("pve", early, 1, failure("Request failed"))
		s.write("pve", late, 1, failure("Request failed"))
		s.write("pve2", late.Add(30*time.Minute), 1, failure("user 'jane@authelia' is disabled"))
		s.write("pve2", early.Add(30*time.Minute), 1, failure("user 'jane@authelia' is disabled"))
		got, reading, err := s.reads(s.reader(24 * time.Hour))
		want := []string{
			"pve " + stamp(late, "Asia/Kathmandu") + " failed issuer-unreachable",
			"pve2 " + stamp(late.Add(30*time.Minute), "America/St_Johns") + " failed user-disabled",
		}
		if err != nil || !slices.Equal(got, want) || !slices.Equal(reading.Read, []string{"pve", "pve2"}) || len(reading.Unread) != 1 || reading.Unread[0].Node != "pve3" {
			t.Errorf("%v\n%s\n%v, %v", err, strings.Join(got, "\n"), reading.Read, reading.Unread)
		}
		warnings := reading.Warnings(5 * time.Minute)
		if len(warnings) != 2 || !strings.HasPrefix(warnings[0], "pve3: its log was not read: ") || !strings.HasPrefix(warnings[1], "pve2: its clock is 30m0s ahead") {
			t.Error(warnings)
		}
	})
}

// TestEachLoginIsToldOnce reads again and again, while lines of one login arrive between two reads.
func TestEachLoginIsToldOnce(t *testing.T) {
	alone(t, func(s *site) {
		s.logging(logReader)
		r, now := s.reader(time.Hour), time.Now()
		expect := func(want ...string) {
			t.Helper()
			got, _, err := s.reads(r)
			for i, text := range got {
				got[i] = text[strings.Index(text, "+0000 ")+6:]
			}
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%v: %v, expected %v", err, got, want)
			}
		}
		s.write("pve", now, 1, failure("Request failed"))
		s.write("pve", now, 1, failure("Request failed"))
		s.write("pve", now, 2, "openid groups claim 'groups' is not found in claims")
		expect("failed issuer-unreachable", "failed issuer-unreachable")
		expect()
		s.write("pve", now, 1, failure("Request failed"))
		s.write("pve", now, 2, "<root@pam> successful openid auth for user 'jane@authelia'")
		expect("failed issuer-unreachable", "succeeded groups-claim-absent")
		expect()
		s.write("pve", now.Add(time.Second), 1, failure("Request failed"))
		expect("failed issuer-unreachable")
	})
}

// many writes lines that end now, so many apart.
func (s *site) many(count int, apart time.Duration, message func(n int) string) {
	lines := make([]pve.Line, count)
	for i := range lines {
		lines[i] = pve.Line{Time: time.Now().Add(-time.Duration(count-1-i) * apart), Process: "pvedaemon", PID: 1, Message: message(i)}
	}
	if err := s.pve.Log("pve", lines...); err != nil {
		s.Fatal(err)
	}
}

func same(int) string { return failure("Request failed") }

// TestReadsGoOn: a later read does not begin at the beginning. One that breaks tells nothing twice and loses nothing.
func TestReadsGoOn(t *testing.T) {
	alone(t, func(s *site) {
		s.logging(logReader)
		r := s.reader(24 * time.Hour)
		s.many(6000, time.Second, same)
		s.unreadable(pve.Rule{From: 2, Count: 1, Status: 500, Reason: "gone"})
		for i, want := range []struct{ logins, requests int }{{4999, 4}, {1001, 3}, {0, 3}} { // nodes, time, and pages; of the last login more may come
			s.reset()
			got, _, err := s.reads(r)
			if (err != nil) != (i == 0) || len(got) != want.logins || len(s.calls()) != want.requests {
				t.Errorf("read %d: %v, %d logins, %v", i, err, len(got), s.calls())
			}
		}
	})
}

// TestALongLogTakesLittleMemory: a summary and a reader keep little of 100,000 logins.
func TestALongLogTakesLittleMemory(t *testing.T) {
	alone(t, func(s *site) {
		const logins = 100_000
		s.logging(logReader)
		s.many(logins, 100*time.Millisecond, func(n int) string { return failure(fmt.Sprintf("no such user ('user-%06d@authelia')", n)) })
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var sum diagnose.Summary
		count := 0
		r := s.reader(24 * time.Hour)
		if _, err := r.Read(s.ctx, s.Cluster, func(login diagnose.Login) { sum.Add(login); count++ }); err != nil {
			t.Fatal(err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc); count != logins || kept > 8<<20 {
			t.Errorf("%d logins, %d KiB kept", count, kept>>10)
		}
		entries := sum.Entries()
		if last := entries[0].User; !strings.HasPrefix(last, "user-09999") || len(entries)+sum.Dropped() != logins {
			t.Errorf("%s, %d entries, %d dropped", last, len(entries), sum.Dropped())
		}
		runtime.KeepAlive(r)
	})
}

// TestSummerTimeEnds reads a log over the hour that comes twice, with a `since` inside of it.
func TestSummerTimeEnds(t *testing.T) {
	alone(t, func(s *site) {
		at := func(hour, minute int) time.Time { return time.Date(2000, 10, 29, hour, minute, 0, 0, time.UTC) }
		time.Sleep(time.Until(at(1, 50))) // 02:50 for the second time
		s.logging(logReader, pve.Node{Zone: "Europe/Vienna"})
		for _, minute := range []int{10, 40} {
			s.write("pve", at(0, minute), 1, failure("Request failed")) // 02:10 and 02:40 the first time
			s.write("pve", at(1, minute), 1, failure("Request failed"))
		}
		got, _, err := s.reads(s.reader(30 * time.Minute)) // since 02:20 the second time
		if want := []string{"pve 10-29 02:40:00 +0100 failed issuer-unreachable"}; err != nil || !slices.Equal(got, want) {
			t.Errorf("%v %v", err, got)
		}
	})
}

// TestLogWithoutAuditOfTheNode reads by the epoch, because the zone is not known.
func TestLogWithoutAuditOfTheNode(t *testing.T) {
	alone(t, func(s *site) {
		s.logging([]string{"Sys.Syslog"}, pve.Node{Zone: "Asia/Kolkata"})
		at := time.Now().Add(-time.Minute)
		s.write("pve", at, 1, failure("user 'jane@authelia' is disabled"))
		got, _, err := s.reads(s.reader(time.Hour))
		if want := "pve " + at.In(time.FixedZone("", 19800)).Format("01-02 15:04:05 -0700") + " failed user-disabled"; err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("%v %v, expected %s", err, got, want)
		}
	})
}

// TestNoLogMayBeRead: the error says what is missing, and the hint grants it.
func TestNoLogMayBeRead(t *testing.T) {
	alone(t, func(s *site) {
		_, reading, err := s.logging([]string{"Sys.Audit"}, pve.Node{}, pve.Node{}, pve.Node{Off: true}).reads(s.reader(time.Hour))
		if check.CodeOf(err) != check.PermissionDenied || !strings.Contains(err.Error(), "Sys.Syslog on /nodes/pve") || len(reading.Unread) != 3 ||
			!strings.Contains(check.HintOf(err).For(check.Names{}), "RealmLogReader") {
			t.Errorf("%v\n%s", err, check.HintOf(err))
		}
	})
}

// watches reads with a watch: at most two requests a node, each login once.
func (s *site) watches(w *reconcile.LoginReader) (told []string) {
	s.reset()
	_, err := w.Read(s.ctx, s.Cluster, func(login diagnose.Login) { told = append(told, string(login.Cause)) })
	if err != nil || len(s.calls()) > 2 {
		s.Errorf("%v, %v", err, s.calls())
	}
	return told
}

// TestWatch reads sparingly, from the first read on.
func TestWatch(t *testing.T) {
	alone(t, func(s *site) {
		s.logging(logReader, pve.Node{Zone: "Asia/Kolkata"}, pve.Node{}, pve.Node{Off: true})
		if err := s.pve.SetNode("pve2", false); err != nil {
			t.Fatal(err)
		}
		w := reconcile.NewLoginWatch(facts())
		expect := func(want ...string) {
			t.Helper()
			if got := s.watches(w); !slices.Equal(got, want) {
				t.Errorf("%q, expected %q", got, want)
			}
		}
		now := time.Now()
		s.write("pve", now.Add(-time.Minute), 1, failure("user 'jane@authelia' is disabled"))
		expect()
		s.write("pve", now.Add(time.Second), 1, failure(refusedCode))
		expect("request-failed")
		expect()
		s.write("pve", now.Add(time.Second), 1, failure(refusedCode))
		s.write("pve", now.Add(2*time.Second), 1, failure("user 'jane@authelia' is disabled"))
		expect("request-failed", "user-disabled")
	})
}

// TestAWatchThatLagsBehind goes on where its requests ended, and does not stay in a second with more lines than they fetch.
func TestAWatchThatLagsBehind(t *testing.T) {
	alone(t, func(s *site) {
		s.logging(logReader)
		w := reconcile.NewLoginWatch(facts())
		s.watches(w)
		s.many(10_001, 0, same)
		time.Sleep(2 * time.Second)
		s.logs(failure("user 'jane@authelia' is disabled"))
		for read, want := range []int{10_000, 1, 0} { // better to lose some than to stay there
			if got := s.watches(w); len(got) != want {
				t.Errorf("read %d: %d logins, expected %d", read, len(got), want)
			}
		}
	})
}

// TestWatchWithoutThePrivilege asks once, and not again with each run.
func TestWatchWithoutThePrivilege(t *testing.T) {
	alone(t, func(s *site) {
		s.logging([]string{"Sys.Audit"})
		w := reconcile.NewLoginWatch(facts())
		var asked []int
		for range 4 {
			s.watches(w)
			asked = append(asked, len(s.calls()))
		}
		if !slices.Equal(asked, []int{2, 1, 0, 0}) {
			t.Error(asked)
		}
	})
}
