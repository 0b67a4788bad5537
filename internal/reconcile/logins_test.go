package reconcile_test

import (
	"crypto/x509"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/diagnose"
	"proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// loggers is a Proxmox installation with logs, and a client of it.
type loggers struct {
	*pve.Server
	client *proxmox.Client
	now    *atomic.Pointer[time.Time] // of all nodes, their clocks being set; nil: the real time
}

// startLoggers starts nodes. The token gets the privileges on /nodes.
func startLoggers(t *testing.T, privileges []string, nodes ...pve.Node) loggers {
	t.Helper()
	l := loggers{now: &atomic.Pointer[time.Time]{}}
	seed := pve.DefaultState()
	seed.Roles["LogReader"] = privileges
	for kind, id := range map[string]string{"user": "nobody@pve", "token": "nobody@pve!none"} {
		seed.ACL = append(seed.ACL, pve.ACL{Path: "/nodes", Type: kind, ID: id, Role: "LogReader", Propagate: true})
	}
	server, err := pve.Start(pve.Options{Seed: seed, Nodes: nodes, Now: func() time.Time {
		if now := l.now.Load(); now != nil {
			return *now
		}
		return time.Now()
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	l.Server = server
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(server.CertificatePEM())
	parsed, err := config.ParseToken(realm.VE, server.Token(pve.TokenNoPrivilege))
	if err != nil {
		t.Fatal(err)
	}
	l.client, err = proxmox.New(config.Proxmox{
		Endpoints: []config.Origin{config.Origin(server.URL())}, Token: parsed, CA: roots, Timeout: time.Minute,
	}, proxmox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.client.Close)
	return l
}

// logReader are the privileges that a diagnosis needs on the nodes.
var logReader = []string{"Sys.Audit", "Sys.Syslog"}

// write adds a line of pvedaemon to the log of a node.
func (l loggers) write(t *testing.T, node string, at time.Time, pid int, message string) {
	t.Helper()
	if err := l.Log(node, pve.Line{Time: at, Process: "pvedaemon", PID: pid, Message: message}); err != nil {
		t.Fatal(err)
	}
}

func failure(text string) string {
	return "openid authentication failure; rhost=::ffff:192.0.2.17 msg=" + text
}

func facts() diagnose.Facts {
	return diagnose.Facts{Login: realm.Login{Realm: "authelia"}, Cleaner: check.NewCleaner()}
}

// readAll reads once, and returns what was told, sorted.
func readAll(t *testing.T, r *reconcile.LoginReader) ([]string, reconcile.Reading, error) {
	t.Helper()
	var all []string
	reading, err := r.Read(t.Context(), func(l diagnose.Login) {
		all = append(all, fmt.Sprintf("%s %s %s %s", l.Node, l.Time.Format("01-02 15:04:05 -0700"), l.Outcome, l.Cause))
	})
	slices.Sort(all)
	return all, reading, err
}

// TestLogsOfAllNodes reads three nodes, each with a zone and a clock of its own, and one that is off.
func TestLogsOfAllNodes(t *testing.T) {
	l := startLoggers(t, logReader, pve.Node{Zone: "Asia/Kathmandu"}, pve.Node{Zone: "America/St_Johns", Ahead: 30 * time.Minute}, pve.Node{Off: true})
	now := time.Now()
	stamp := func(at time.Time, zone string) string {
		z, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		return at.In(z).Format("01-02 15:04:05 -0700")
	}
	early, late := now.Add(-25*time.Hour), now.Add(-23*time.Hour)
	l.write(t, "pve", early, 1, failure("Request failed"))
	l.write(t, "pve", late, 1, failure("Request failed"))
	l.write(t, "pve2", late.Add(30*time.Minute), 1, failure("user 'jane@authelia' is disabled"))
	l.write(t, "pve2", early.Add(30*time.Minute), 1, failure("user 'jane@authelia' is disabled"))
	got, reading, err := readAll(t, reconcile.NewLoginReader(l.client, facts(), 24*time.Hour))
	want := []string{
		"pve " + stamp(late, "Asia/Kathmandu") + " failed issuer-unreachable",
		"pve2 " + stamp(late.Add(30*time.Minute), "America/St_Johns") + " failed user-disabled",
	}
	if err != nil || !slices.Equal(got, want) || !slices.Equal(reading.Read, []string{"pve", "pve2"}) {
		t.Errorf("%v\n%s\n%v", err, strings.Join(got, "\n"), reading.Read)
	}
	if len(reading.Unread) != 1 || reading.Unread[0].Node != "pve3" {
		t.Errorf("%v", reading.Unread)
	}
	warnings := reading.Warnings(5 * time.Minute)
	if len(warnings) != 2 || !strings.HasPrefix(warnings[0], "pve3: its log was not read: ") || !strings.HasPrefix(warnings[1], "pve2: its clock is 30m0s ahead") {
		t.Error(warnings)
	}
}

// TestEachLoginIsToldOnce reads again and again, while lines of one login arrive between two reads.
func TestEachLoginIsToldOnce(t *testing.T) {
	l := startLoggers(t, logReader)
	r := reconcile.NewLoginReader(l.client, facts(), time.Hour)
	now := time.Now().Truncate(time.Second)
	expect := func(want ...string) {
		t.Helper()
		got, _, err := readAll(t, r)
		for i, text := range got {
			got[i] = text[strings.Index(text, "+0000 ")+6:]
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%v: %v, expected %v", err, got, want)
		}
	}
	l.write(t, "pve", now, 1, failure("Request failed"))
	l.write(t, "pve", now, 1, failure("Request failed"))
	l.write(t, "pve", now, 2, "openid groups claim 'groups' is not found in claims")
	expect("failed issuer-unreachable", "failed issuer-unreachable")
	expect()
	l.write(t, "pve", now, 1, failure("Request failed"))
	l.write(t, "pve", now, 2, "<root@pam> successful openid auth for user 'jane@authelia'")
	expect("failed issuer-unreachable", "succeeded groups-claim-absent")
	expect()
	l.write(t, "pve", now.Add(time.Second), 1, failure("Request failed"))
	expect("failed issuer-unreachable")
}

// TestReadsGoOn: a later read does not begin at the beginning.
func TestReadsGoOn(t *testing.T) {
	l := startLoggers(t, logReader)
	r := reconcile.NewLoginReader(l.client, facts(), 24*time.Hour)
	now := time.Now()
	for i := range 6000 {
		l.write(t, "pve", now.Add(-time.Duration(i+600)*time.Second), 1, failure("Request failed"))
	}
	if got, _, err := readAll(t, r); err != nil || len(got) != 6000 {
		t.Fatalf("%v, %d logins", err, len(got))
	}
	l.Reset()
	if got, _, err := readAll(t, r); err != nil || len(got) != 0 {
		t.Fatalf("%v, %d logins", err, len(got))
	}
	if n := len(l.Requests()); n != 3 { // nodes, time, and one page
		t.Errorf("%d requests: %v", n, l.Requests())
	}
}

// TestALongLogTakesLittleMemory: a summary and a reader keep little of 100,000 logins.
func TestALongLogTakesLittleMemory(t *testing.T) {
	l := startLoggers(t, logReader)
	now := time.Now()
	lines := make([]pve.Line, 100_000)
	for i := range lines {
		lines[i] = pve.Line{
			Time: now.Add(-time.Duration(len(lines)-i) * 100 * time.Millisecond), Process: "pvedaemon", PID: 1,
			Message: failure(fmt.Sprintf("no such user ('user-%06d@authelia')", i)),
		}
	}
	if err := l.Log("pve", lines...); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var sum diagnose.Summary
	count := 0
	r := reconcile.NewLoginReader(l.client, facts(), 24*time.Hour)
	if _, err := r.Read(t.Context(), func(login diagnose.Login) { sum.Add(login); count++ }); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc); count != len(lines) || kept > 8<<20 {
		t.Errorf("%d logins, %d KiB kept", count, kept>>10)
	}
	entries := sum.Entries()
	if last := entries[0].User; !strings.HasPrefix(last, "user-09999") || len(entries)+sum.Dropped() != len(lines) {
		t.Errorf("%s, %d entries, %d dropped", last, len(entries), sum.Dropped())
	}
	runtime.KeepAlive(r)
}

// TestSummerTimeEnds reads a log over the hour that comes twice, with a `since` inside of it.
func TestSummerTimeEnds(t *testing.T) {
	l := startLoggers(t, logReader, pve.Node{Zone: "Europe/Vienna"})
	at := func(hour, minute int) time.Time { return time.Date(2026, 10, 25, hour, minute, 0, 0, time.UTC) }
	now := at(1, 50) // 02:50 for the second time
	l.now.Store(&now)
	for _, minute := range []int{10, 40} {
		l.write(t, "pve", at(0, minute), 1, failure("Request failed")) // 02:10 and 02:40 the first time
		l.write(t, "pve", at(1, minute), 1, failure("Request failed"))
	}
	r := reconcile.NewLoginReader(l.client, facts(), 30*time.Minute) // since 02:20 the second time
	got, _, err := readAll(t, r)
	if want := []string{"pve 10-25 02:40:00 +0100 failed issuer-unreachable"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v %v", err, got)
	}
}

// TestLogWithoutAuditOfTheNode reads by the epoch, because the zone is not known.
func TestLogWithoutAuditOfTheNode(t *testing.T) {
	l := startLoggers(t, []string{"Sys.Syslog"}, pve.Node{Zone: "Asia/Kolkata"})
	now := time.Now()
	l.write(t, "pve", now.Add(-time.Minute), 1, failure("user 'jane@authelia' is disabled"))
	got, _, err := readAll(t, reconcile.NewLoginReader(l.client, facts(), time.Hour))
	if want := "pve " + now.Add(-time.Minute).In(time.FixedZone("", 19800)).Format("01-02 15:04:05 -0700") + " failed user-disabled"; err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("%v %v, expected %s", err, got, want)
	}
}

// TestNoLogMayBeRead: the error says what is missing, and the hint grants it.
func TestNoLogMayBeRead(t *testing.T) {
	l := startLoggers(t, []string{"Sys.Audit"}, pve.Node{}, pve.Node{Off: true})
	_, reading, err := readAll(t, reconcile.NewLoginReader(l.client, facts(), time.Hour))
	if check.CodeOf(err) != check.PermissionDenied || !strings.Contains(err.Error(), "Sys.Syslog on /nodes/pve") || len(reading.Unread) != 2 ||
		!strings.Contains(check.HintOf(err).For(check.Names{}), "RealmLogReader") {
		t.Errorf("%v\n%s", err, check.HintOf(err))
	}
}

// TestWatch reads sparingly: at most two requests a node and read, each login once, from the first read on.
func TestWatch(t *testing.T) {
	l := startLoggers(t, logReader, pve.Node{Zone: "Asia/Kolkata"}, pve.Node{Off: true})
	w := reconcile.NewLoginWatch(facts())
	var got []string
	read := func(want string, most int) {
		t.Helper()
		l.Reset()
		got = nil
		accepted := []check.Check{check.Passed(check.ClientCredentials, "fine"), check.Passed(check.ClientRedirect, "fine")}
		err := w.Read(t.Context(), l.client, accepted, func(login diagnose.Login) { got = append(got, string(login.Cause)) })
		if err != nil || strings.Join(got, " ") != want || len(l.Requests()) > most {
			t.Errorf("%v: %q, expected %q; requests %v", err, got, want, l.Requests())
		}
	}
	now := time.Now()
	l.write(t, "pve", now.Add(-time.Minute), 1, failure("user 'jane@authelia' is disabled"))
	read("", 2)
	l.write(t, "pve", now.Add(time.Second), 1, failure("Failed to contact token endpoint: Request failed"))
	read("node-to-issuer", 2)
	read("", 2)
	l.write(t, "pve", now.Add(time.Second), 1, failure("Failed to contact token endpoint: Request failed"))
	l.write(t, "pve", now.Add(2*time.Second), 1, failure("user 'jane@authelia' is disabled"))
	read("node-to-issuer user-disabled", 2)
}

// TestWatchWithoutThePrivilege asks once, and not again with each run.
func TestWatchWithoutThePrivilege(t *testing.T) {
	l := startLoggers(t, []string{"Sys.Audit"})
	w := reconcile.NewLoginWatch(facts())
	var asked []int
	for range 4 {
		l.Reset()
		if err := w.Read(t.Context(), l.client, nil, func(diagnose.Login) {}); err != nil {
			t.Error(err)
		}
		asked = append(asked, len(l.Requests()))
	}
	if !slices.Equal(asked, []int{2, 1, 0, 0}) {
		t.Error(asked)
	}
}
