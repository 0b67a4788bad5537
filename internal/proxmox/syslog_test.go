package proxmox_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

var inUTC = proxmox.NodeTime{Zone: time.UTC}

// Each line arrives once, however the product counts and however long lines are. An answer that is too large is asked for again in
// smaller parts. A read may have a limit.
func TestALongLogIsReadByPages(t *testing.T) {
	began := time.Now().Add(-time.Hour)
	for name, tt := range map[string]struct{ lines, tooLarge, limit, read, requests int }{
		"one page":                               {4990, 0, 0, 4990, 1},
		"a full page":                            {5000, 0, 0, 5000, 2},
		"many":                                   {12_345, 0, 0, 12_345, 3},
		"long lines":                             {5000, 1, 0, 5000, 6},
		"a limit":                                {12_345, 0, 1, 5000, 1},
		"a limit that the first attempt uses up": {5000, 1, 1, 0, 1},
	} {
		s := startVE(t, pve.Options{})
		lines := make([]pve.Line, tt.lines)
		for n := range lines {
			lines[n] = pve.Line{Time: began.Add(time.Duration(n) * time.Millisecond), Process: "pvedaemon", Message: fmt.Sprint("line ", n)}
		}
		if err := s.Log("pve", lines...); err != nil {
			t.Fatal(err)
		}
		if tt.tooLarge > 0 {
			s.Inject(pve.Rule{Path: "/nodes/pve/syslog", Count: tt.tooLarge, Pad: 9 << 20})
		}
		next := 0
		r := proxmox.LogRange{Since: began.Add(-time.Minute), Requests: tt.limit}
		whole, err := connect(t, s, pve.TokenRoot).ReadLog(t.Context(), "pve", inUTC, r, func(p proxmox.LogPage) {
			for _, line := range p.Lines {
				if strings.HasSuffix(line, fmt.Sprint(" line ", next)) {
					next++
				} else if !strings.Contains(line, "start") { // of the daemon
					t.Fatalf("%s: %s instead of line %d", name, line, next)
				}
			}
		})
		if err != nil || whole != (tt.limit == 0) || next != tt.read || len(s.Requests()) != tt.requests {
			t.Errorf("%s: %v, whole %v, %d lines, %d requests", name, err, whole, next, len(s.Requests()))
		}
	}
	// Backup Server begins with the line `start`, not after it.
	s := startPBS(t, realm.BackupServer)
	wrong := connect(t, s, pve.TokenRoot, withToken(t, realm.BackupServer))
	for range 45 {
		_, _ = wrong.Version(t.Context())
	}
	count := func() (lines int) {
		whole, err := connect(t, s, pve.TokenRoot).ReadLog(t.Context(), "localhost", inUTC, proxmox.LogRange{Since: began}, func(p proxmox.LogPage) { lines += len(p.Lines) })
		if err != nil || !whole {
			t.Errorf("%v, whole %v", err, whole)
		}
		return lines
	}
	atOnce := count()
	s.Inject(pve.Rule{Path: "/nodes/localhost/syslog", Count: 4, Pad: 9 << 20}) // until 19 lines are asked for
	if lines := count(); lines != atOnce || lines < 45 {
		t.Errorf("%d lines instead of %d", lines, atOnce)
	}
}

// Proxmox takes a time of day alone. Where there are two such times, the log is read from before both.
func TestSinceIsInTheNodesZone(t *testing.T) {
	for _, tt := range []struct{ zone, since, want string }{
		{"Europe/Vienna", "2026-12-01T04:55:06Z", "2026-12-01 05:55:06"},
		{"Asia/Kolkata", "2026-12-01T04:55:06Z", "2026-12-01 10:25:06"},
		{"Europe/Vienna", "2026-10-25T00:30:00Z", "2026-10-25 00:30:00"}, // 02:30 the first time
		{"Europe/Vienna", "2026-10-25T01:30:00Z", "2026-10-25 01:30:00"}, // 02:30 the second time
		{"Europe/Vienna", "2026-10-25T02:30:00Z", "2026-10-25 03:30:00"},
		{"Europe/Vienna", "2026-03-29T01:30:00Z", "2026-03-29 03:30:00"},
	} {
		zone, err := time.LoadLocation(tt.zone)
		if err != nil {
			t.Fatal(err)
		}
		since, err := time.Parse(time.RFC3339, tt.since)
		if err != nil {
			t.Fatal(err)
		}
		s, c := failing(t, realm.VE, ok("[]"))
		_, err = c.ReadLog(t.Context(), "pve2", proxmox.NodeTime{Zone: zone}, proxmox.LogRange{Since: since}, func(proxmox.LogPage) {})
		query, _ := url.ParseQuery(s.Requests()[0].Query)
		if got := query.Get("since"); err != nil || got != tt.want || query.Get("service") != "pvedaemon" || s.Requests()[0].Path != "/api2/json/nodes/pve2/syslog" {
			t.Errorf("%s in %s: %s, expected %s (%v)", tt.since, tt.zone, got, tt.want, err)
		}
	}
}

// Clocks and zones of nodes. A zone whose rules this machine does not know is the offset of now.
func TestNodeTime(t *testing.T) {
	now := time.Now().Unix()
	for _, tt := range []struct {
		name   string
		offset int64
		ahead  time.Duration
		zone   string
		unsure bool
	}{
		{"Asia/Kolkata", 19800, 0, "Asia/Kolkata", false},
		{"Asia/Kathmandu", 20700, 10 * time.Minute, "Asia/Kathmandu", false},
		{"UTC", 0, -time.Hour, "UTC", false},
		{"Mars/Olympus", 3600, 0, "", true},
		{"Local", 3600, 0, "", true},
		{"../../etc/passwd", 3600, 0, "", true},
		{"Asia/Kolkata", 3600, 0, "", true}, // its rules have changed
	} {
		at := now + int64(tt.ahead.Seconds())
		_, c := failing(t, realm.VE, ok(fmt.Sprintf(`{"time":%d,"localtime":%d,"timezone":%q}`, at, at+tt.offset, tt.name)))
		got, err := c.NodeTime(t.Context(), "pve2")
		if err != nil {
			t.Fatal(err)
		}
		if _, offset := got.Now().Zone(); int64(offset) != tt.offset || got.Zone.String() != tt.zone || got.Unsure != tt.unsure || (got.Ahead-tt.ahead).Abs() > 2*time.Second {
			t.Errorf("%+v: %+v", tt, got)
		}
	}
}

// The recorded answer of a node whose zone is not known: the cursors tell it. Over a change of summer time they tell both offsets.
func TestJournal(t *testing.T) {
	_, c := failing(t, realm.VE, exchangeOf(t, realm.VE, "journal-last").rule())
	var got []proxmox.LogPage
	keep := func(p proxmox.LogPage) { got = append(got, p) }
	whole, err := c.ReadJournal(t.Context(), "pve", 0, proxmox.LogRange{Since: time.Unix(1796100000, 0)}, keep)
	if err != nil || !whole || len(got) != 1 || len(got[0].Lines) != 2 || !slices.Equal(got[0].Offsets, []int{3600}) || got[0].Zone != nil {
		t.Errorf("%v %v %+v", err, whole, got)
	}
	s := startVE(t, pve.Options{Nodes: []pve.Node{{Zone: "Europe/Vienna"}}, Now: func() time.Time { return time.Date(2026, 10, 25, 1, 5, 0, 0, time.UTC) }})
	first := time.Date(2026, 10, 25, 0, 50, 0, 0, time.UTC)
	if err := s.Log("pve", pve.Line{Time: first, Process: "pvedaemon", Message: "a\nof two lines"}); err != nil {
		t.Fatal(err)
	}
	got = nil
	whole, err = connect(t, s, pve.TokenRoot).ReadJournal(t.Context(), "pve", 0, proxmox.LogRange{Since: first}, keep)
	if err != nil || !whole || len(got) != 1 || !slices.Equal(slices.Sorted(slices.Values(got[0].Offsets)), []int{3600, 7200}) {
		t.Errorf("%v %v %+v", err, whole, got)
	}
}

// Nodes before pve-manager 9.2.4 refuse to choose a unit, so the time is cut in pieces that are small enough. Their reader breaks
// off where there is no entry.
func TestJournalOfAllUnits(t *testing.T) {
	since := time.Now().Add(-13 * time.Hour).Truncate(time.Second)
	var spans []time.Duration
	c := inMemory(realm.VE, func(req *http.Request, _ string) (int, string) {
		q := req.URL.Query()
		if q.Has("unit") {
			return 400, `{"data":null,"errors":{"unit":"property is not defined in schema and the schema does not allow additional properties"}}`
		}
		from, _ := strconv.ParseInt(q.Get("since"), 10, 64)
		to, err := strconv.ParseInt(q.Get("until"), 10, 64)
		if err != nil {
			to = time.Now().Unix()
		}
		span := time.Duration(to-from) * time.Second
		if from == since.Unix() && span > 2*time.Hour {
			return 200, `["` + strings.Repeat("x", 9<<20) + `"]`
		}
		if spans = append(spans, span.Round(time.Minute)); len(spans)%2 == 1 {
			return 200, `{"data":[`
		}
		at := time.Unix(from, 0)
		return 200, fmt.Sprintf(`{"data":["s=1;t=%x;x=1",%q,"s=1;t=%x;x=1"]}`, at.UnixMicro(), at.UTC().Format(time.Stamp)+" pve pvedaemon[1]: a", at.UnixMicro())
	})
	lines := 0
	whole, err := c.ReadJournal(t.Context(), "pve", 0, proxmox.LogRange{Since: since}, func(p proxmox.LogPage) { lines += len(p.Lines) })
	if want := 9; err != nil || !whole || len(spans) != want || lines != want/2 || spans[0] != 90*time.Minute {
		t.Errorf("%v, whole %v, %d lines, spans %v", err, whole, lines, spans)
	}
	for requests := range 3 { // the attempts count
		if whole, err := c.ReadJournal(t.Context(), "pve", 0, proxmox.LogRange{Since: since, Requests: requests + 1}, func(proxmox.LogPage) {}); whole || err != nil {
			t.Errorf("%d requests: %v, %v", requests+1, whole, err)
		}
	}
}

// Without the privilege, the hint grants it on all nodes, for token and user, and names the way without it.
func TestLogWithoutThePrivilege(t *testing.T) {
	c := connect(t, start(t, realm.VE), pve.TokenRealmAllocate)
	whole, err := c.ReadLog(t.Context(), "pve", inUTC, proxmox.LogRange{}, func(proxmox.LogPage) {})
	wholeToo, again := c.ReadJournal(t.Context(), "pve", 0, proxmox.LogRange{}, func(proxmox.LogPage) {})
	if whole || wholeToo {
		t.Error("a refusal is the whole log")
	}
	for _, err := range []error{err, again} {
		for _, want := range []string{
			"pveum acl modify /nodes --tokens 'admin@pve!realm' --roles RealmLogReader", "pveum acl modify /nodes --users admin@pve --roles RealmLogReader",
			"Sys.Syslog", "\n    journalctl -u pvedaemon",
		} {
			if !strings.Contains(hintOf(err), want) {
				t.Errorf("%q is not in\n%s", want, hintOf(err))
			}
		}
		if check.CodeOf(err) != check.PermissionDenied || !strings.Contains(err.Error(), "Sys.Syslog on /nodes/pve") {
			t.Error(err)
		}
	}
}
