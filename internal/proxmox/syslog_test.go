package proxmox_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/proxmox"
)

// logNode is a node with a system log of so many lines. Its lines begin after `start`, or with it.
func logNode(t *testing.T, lines, skipped, largest int) *node {
	t.Helper()
	return start(t, func(c *call) answer {
		query := c.URL.Query()
		from, err1 := strconv.Atoi(query.Get("start"))
		limit, err2 := strconv.Atoi(query.Get("limit"))
		if err1 != nil || err2 != nil || query.Get("service") != "pvedaemon" || c.URL.Path != "/api2/json/nodes/pve2/syslog" {
			return fails(400, "Parameter verification failed.")
		}
		if limit > largest {
			return ok(`["` + strings.Repeat("x", 9<<20) + `"]`)
		}
		if from > 0 {
			from -= 1 - skipped
		}
		page := []map[string]any{}
		for n := from; n < lines && len(page) < limit; n++ {
			page = append(page, map[string]any{"n": n + 1, "t": fmt.Sprint("line ", n+1)})
		}
		data, _ := json.Marshal(page)
		return ok(string(data))
	})
}

var inUTC = proxmox.NodeTime{Zone: time.UTC}

// TestALongLogIsReadByPages: each line arrives once, however the product counts and however long lines are.
func TestALongLogIsReadByPages(t *testing.T) {
	for name, c := range map[string]struct{ lines, skipped, largest, requests int }{
		"empty":            {0, 1, 9999, 1},
		"one page":         {4999, 1, 9999, 1},
		"a full page":      {5000, 1, 9999, 2},
		"many":             {100_000, 1, 9999, 21},
		"counted from one": {12_345, 0, 9999, 3},
		"long lines":       {5000, 1, 1500, 6},
	} {
		t.Run(name, func(t *testing.T) {
			n := logNode(t, c.lines, c.skipped, c.largest)
			next := 1
			whole, err := connect(t, nil, n).ReadLog(t.Context(), "pve2", inUTC, proxmox.LogRange{Since: time.Now()}, func(p proxmox.LogPage) {
				for _, line := range p.Lines {
					if line != fmt.Sprint("line ", next) {
						t.Fatalf("%s instead of line %d", line, next)
					}
					next++
				}
			})
			if err != nil || !whole || next != c.lines+1 || len(n.seen()) != c.requests {
				t.Errorf("%v, whole %v, %d lines, %d requests", err, whole, next-1, len(n.seen()))
			}
		})
	}
}

func TestAReadMayHaveALimit(t *testing.T) {
	n := logNode(t, 100_000, 1, 9999)
	lines := 0
	whole, err := connect(t, nil, n).ReadLog(t.Context(), "pve2", inUTC, proxmox.LogRange{Since: time.Now(), Requests: 1},
		func(p proxmox.LogPage) { lines += len(p.Lines) })
	if err != nil || whole || lines != 5000 || len(n.seen()) != 1 {
		t.Errorf("%v, whole %v, %d lines, %d requests", err, whole, lines, len(n.seen()))
	}
}

// TestSinceIsInTheNodesZone: Proxmox takes a time of day alone. Where there are two such times, the log is read from before both.
func TestSinceIsInTheNodesZone(t *testing.T) {
	for _, c := range []struct{ zone, since, want string }{
		{"Europe/Vienna", "2026-12-01T04:55:06Z", "2026-12-01 05:55:06"},
		{"Asia/Kolkata", "2026-12-01T04:55:06Z", "2026-12-01 10:25:06"},
		{"Europe/Vienna", "2026-10-25T00:30:00Z", "2026-10-25 00:30:00"}, // 02:30 the first time
		{"Europe/Vienna", "2026-10-25T01:30:00Z", "2026-10-25 01:30:00"}, // 02:30 the second time
		{"Europe/Vienna", "2026-10-25T02:30:00Z", "2026-10-25 03:30:00"},
		{"Europe/Vienna", "2026-03-29T01:30:00Z", "2026-03-29 03:30:00"},
	} {
		zone, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		since, err := time.Parse(time.RFC3339, c.since)
		if err != nil {
			t.Fatal(err)
		}
		n := logNode(t, 1, 1, 9999)
		_, err = connect(t, nil, n).ReadLog(t.Context(), "pve2", proxmox.NodeTime{Zone: zone}, proxmox.LogRange{Since: since}, func(proxmox.LogPage) {})
		if got := n.seen()[0].URL.Query().Get("since"); err != nil || got != c.want {
			t.Errorf("%s in %s: %s, expected %s (%v)", c.since, c.zone, got, c.want, err)
		}
	}
}

// TestNodeTime reads clocks and zones.
func TestNodeTime(t *testing.T) {
	now := time.Now().Unix()
	for _, c := range []struct {
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
		at := now + int64(c.ahead.Seconds())
		n := start(t, func(*call) answer {
			return ok(fmt.Sprintf(`{"time":%d,"localtime":%d,"timezone":%q}`, at, at+c.offset, c.name))
		})
		got, err := connect(t, nil, n).NodeTime(t.Context(), "pve2")
		if err != nil {
			t.Fatal(err)
		}
		if _, offset := got.Now().Zone(); int64(offset) != c.offset && !strings.HasPrefix(c.name, "Asia") || got.Zone.String() != c.zone ||
			got.Unsure != c.unsure || (got.Ahead-c.ahead).Abs() > 2*time.Second {
			t.Errorf("%+v: %+v", c, got)
		}
	}
}

// TestNodes: a node that is off is known as such.
func TestNodes(t *testing.T) {
	n := start(t, func(*call) answer {
		return ok(`[{"node":"pve2","status":"offline"},{"node":"pve","status":"online","cpu":0.1},{"node":"pve3","status":"unknown"}]`)
	})
	got, err := connect(t, nil, n).Nodes(t.Context())
	if want := []proxmox.Node{{Name: "pve", Online: true}, {Name: "pve2"}, {Name: "pve3"}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v %v", got, err)
	}
}

// TestJournal reads the recorded answer of a node whose zone is not known.
func TestJournal(t *testing.T) {
	body := zipped(`{"data":["s=fef65b9ef3c8482e83c8be4c761eb918;i=63;b=c1419c5d1087427f9cfb6d9437b3e4bc;m=1687d4791;t=6618b547fa4fa;x=8dc42c9ee9fe95b7",` +
		`"Dec 01 05:55:06 pve pvedaemon[26812]: worker 26823 started","Dec 01 05:55:06 pve pvedaemon[26812]: worker 26842 started",` +
		`"s=fef65b9ef3c8482e83c8be4c761eb918;i=67;b=c1419c5d1087427f9cfb6d9437b3e4bc;m=1687eec77;t=6618b548149e0;x=6d5b407c9d3d1869"],"success":1}`)
	n := start(t, func(c *call) answer {
		if q := c.URL.Query(); q.Get("unit") != "pvedaemon" || q.Get("since") != "1796100000" || q.Has("until") {
			return fails(400, "Parameter verification failed.")
		}
		return answer{Status: 200, Reason: "OK", Type: "application/json", Header: "Content-Encoding: gzip\r\n", Body: body}
	})
	var got []proxmox.LogPage
	whole, err := connect(t, nil, n).ReadJournal(t.Context(), "pve", 0, proxmox.LogRange{Since: time.Unix(1796100000, 0)}, func(p proxmox.LogPage) { got = append(got, p) })
	if err != nil || !whole || len(got) != 1 || len(got[0].Lines) != 2 || !slices.Equal(got[0].Offsets, []int{3600}) || got[0].Zone != nil {
		t.Errorf("%v %v %+v", err, whole, got)
	}
}

// TestJournalOverAChangeOfSummerTime: the two cursors tell both offsets.
func TestJournalOverAChangeOfSummerTime(t *testing.T) {
	first, last := time.Date(2026, 10, 25, 0, 50, 0, 0, time.UTC), time.Date(2026, 10, 25, 1, 5, 0, 0, time.UTC)
	n := start(t, func(*call) answer {
		return ok(fmt.Sprintf(`["s=1;t=%x;x=1","Oct 25 02:50:00 pve pvedaemon[1]: a","Oct 25 02:05:00 pve pvedaemon[1]: b","      of two lines","s=1;t=%x;x=1"]`, first.UnixMicro(), last.UnixMicro()))
	})
	_, err := connect(t, nil, n).ReadJournal(t.Context(), "pve", 0, proxmox.LogRange{Since: first}, func(p proxmox.LogPage) {
		if slices.Sort(p.Offsets); !slices.Equal(p.Offsets, []int{3600, 7200}) {
			t.Error(p.Offsets)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

// TestJournalOfAllUnits: nodes before pve-manager 9.2.4 refuse to choose, so the time is cut in pieces that are small enough.
// Their reader breaks off where there is no entry.
func TestJournalOfAllUnits(t *testing.T) {
	since := time.Now().Add(-13 * time.Hour).Truncate(time.Second)
	var spans []string
	n := start(t, func(c *call) answer {
		q := c.URL.Query()
		if q.Has("unit") {
			return answer{Status: 400, Reason: "Parameter verification failed.", Body: `{"data":null,"errors":{"unit":"property is not defined in schema and the schema does not allow additional properties"}}`}
		}
		from, _ := strconv.ParseInt(q.Get("since"), 10, 64)
		to, err := strconv.ParseInt(q.Get("until"), 10, 64)
		if err != nil {
			to = time.Now().Unix()
		}
		span := time.Duration(to-from) * time.Second
		switch {
		case from == since.Unix() && span > 2*time.Hour:
			return ok(`["` + strings.Repeat("x", 9<<20) + `"]`)
		case len(spans)%2 == 0:
			spans = append(spans, fmt.Sprint(span.Round(time.Minute)))
			return answer{Status: 200, Reason: "OK", Type: "application/json", Body: `{"data":[`, Open: true}
		}
		spans = append(spans, fmt.Sprint(span.Round(time.Minute)))
		at := time.Unix(from, 0)
		return ok(fmt.Sprintf(`["s=1;t=%x;x=1",%q,"s=1;t=%x;x=1"]`, at.UnixMicro(), at.UTC().Format(time.Stamp)+" pve pvedaemon[1]: a", at.UnixMicro()))
	})
	lines := 0
	whole, err := connect(t, nil, n).ReadJournal(t.Context(), "pve", 0, proxmox.LogRange{Since: since}, func(p proxmox.LogPage) { lines += len(p.Lines) })
	if want := 9; err != nil || !whole || len(spans) != want || lines != want/2 || spans[0] != "1h30m0s" {
		t.Errorf("%v, whole %v, %d lines, spans %v", err, whole, lines, spans)
	}
}

// TestLogWithoutThePrivilege: the hint grants it on all nodes, for token and user, and names the way without it.
func TestLogWithoutThePrivilege(t *testing.T) {
	n := start(t, func(*call) answer { return fails(403, "Permission check failed (/nodes/pve2, Sys.Syslog)") })
	client := connect(t, nil, n)
	_, err := client.ReadLog(t.Context(), "pve2", inUTC, proxmox.LogRange{}, func(proxmox.LogPage) {})
	_, again := client.ReadJournal(t.Context(), "pve2", 0, proxmox.LogRange{}, func(proxmox.LogPage) {})
	for _, err := range []error{err, again} {
		hint := check.HintOf(err).For(check.Names{})
		for _, want := range []string{
			"pveum acl modify /nodes --tokens 'realmadm@pve!agent' --roles RealmLogReader", "pveum acl modify /nodes --users realmadm@pve --roles RealmLogReader",
			"Sys.Syslog", "\n    journalctl -u pvedaemon",
		} {
			if !strings.Contains(hint, want) {
				t.Errorf("%q is not in\n%s", want, hint)
			}
		}
		if check.CodeOf(err) != check.PermissionDenied || !strings.Contains(err.Error(), "Sys.Syslog on /nodes/pve2") {
			t.Error(err)
		}
	}
}

// TestANodeThatIsOff: the node that was asked answers for it.
func TestANodeThatIsOff(t *testing.T) {
	n := start(t, func(*call) answer { return answer{Status: 595, Reason: "No route to host", Type: "-"} })
	_, err := connect(t, nil, n).ReadLog(t.Context(), "pve3", inUTC, proxmox.LogRange{}, func(proxmox.LogPage) {})
	var e *proxmox.Error
	if !errors.As(err, &e) || e.Kind != proxmox.Unavailable || e.Status != 595 {
		t.Error(err)
	}
}
