package pve_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/lab/pve"
)

// syslog is what a node answers for its log.
type syslog struct {
	Data []struct {
		N int
		T string
	}
	Total int
}

func (n *node) syslog(query string) syslog {
	n.t.Helper()
	var s syslog
	if err := json.Unmarshal([]byte(n.must("GET", "/nodes/pve/syslog?"+query, "").body), &s); err != nil {
		n.t.Fatal(err)
	}
	return s
}

func (s syslog) lines() string {
	var lines []string
	for _, l := range s.Data {
		lines = append(lines, l.T)
	}
	return strings.Join(lines, "\n")
}

func TestSyslog(t *testing.T) {
	day := time.Date(2026, 12, 1, 4, 0, 0, 0, time.UTC)
	n := newNode(t, pve.Options{Nodes: []pve.Node{{Zone: "Asia/Kolkata"}}, Now: func() time.Time { return day.Add(24 * time.Hour) }})
	line := func(after time.Duration, unit, message string) pve.Line {
		return pve.Line{Time: day.Add(after), Process: "pvedaemon", PID: 7, Unit: unit, Message: message}
	}
	if err := n.Log("pve", line(3*time.Second, "", "late"), line(0, "", "first\nsecond\n\tthird"), line(time.Second, "other", "of another unit"),
		line(2*time.Second, "", "gr\xf6\xdfen\x1b"), pve.Line{Time: day.Add(90 * time.Minute), Message: "-- Boot 3f0c --"}); err != nil {
		t.Fatal(err)
	}
	const want = `Dec 01 09:30:00 pve pvedaemon[7]: first
                                  second
                                  	third
Dec 01 09:30:02 pve pvedaemon[7]: [7B blob data]
Dec 01 09:30:03 pve pvedaemon[7]: late
-- Boot 3f0c --`
	const window = "until=2026-12-01%2012:00&service=pvedaemon"
	if s := n.syslog(window); s.lines() != want || s.Total != 6 {
		t.Errorf("%d lines:\n%s", s.Total, s.lines())
	}
	if s := n.syslog(window + "&start=1&limit=3"); s.lines() != strings.Join(strings.Split(want, "\n")[1:4], "\n") || s.Data[0].N != 2 || s.Total != 6 {
		t.Errorf("a page that begins within a message: %+v", s)
	}
	if s := n.syslog(window + "&since=2026-12-01%2009:30:02"); s.Total != 3 {
		t.Errorf("since is the first second: %+v", s)
	}
	if s := n.syslog("since=2026-12-01%2009:30&until=2026-12-01%2009:30:01"); s.Total != 4 {
		t.Errorf("all units: %+v", s)
	}
	if s := n.syslog("since=2026-12-03"); s.lines() != "-- No entries --" || s.Total != 1 {
		t.Errorf("%+v", s)
	}
	if err := n.Log("gone", line(0, "", "x")); err == nil {
		t.Error("a log of no node")
	}
}

func TestTime(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	n := newNode(t, pve.Options{Nodes: []pve.Node{{Zone: "Europe/Vienna", Ahead: time.Hour}}, Now: func() time.Time { return now }})
	if a := n.must("GET", "/nodes/pve/time", ""); a.body != fmt.Sprintf(`{"data":{"localtime":%d,"time":%d,"timezone":"Europe/Vienna"}}`, now.Unix()+10800, now.Unix()+3600) {
		t.Error(a.body)
	}
	if _, err := pve.Start(pve.Options{Nodes: []pve.Node{{Zone: "Nowhere"}}}); err == nil {
		t.Error("an unknown zone")
	}
}

// A node that is off does not answer, and the others say so. It keeps its address.
func TestNodes(t *testing.T) {
	n := newNode(t, pve.Options{LockTimeout: 20 * time.Millisecond, Nodes: []pve.Node{{}, {}, {Off: true}}})
	urls := n.URLs()
	if len(urls) != 3 || !strings.HasPrefix(urls[2], "https://127.0.0.3:") || n.NodeURL("pve3") != urls[2] || n.NodeURL("pve4") != "" {
		t.Error(urls)
	}
	for i, want := range []string{"595 Connection timed out", "595 No route to host"} {
		if a := n.send("GET", "/nodes/pve3/time", ""); a.status != want || a.body != "" {
			t.Errorf("%d: %v", i, a)
		}
	}
	dials := func(name string) bool {
		u, err := url.Parse(n.NodeURL(name))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", u.Host)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	}
	set := func(name string, on bool) {
		t.Helper()
		if err := n.SetNode(name, on); err != nil {
			t.Fatal(err)
		}
	}
	if dials("pve3") || !dials("pve2") {
		t.Error("pve3 listens, or pve2 does not")
	}
	set("pve2", false)
	if a := n.send("POST", "/access/groups", "groupid=a"); !strings.Contains(a.status, "no quorum!") {
		t.Error(a)
	}
	set("pve3", true)
	n.must("POST", "/access/groups", "groupid=a")
	if a := n.must("GET", "/nodes/pve3/version", ""); !dials("pve3") {
		t.Error(a)
	}
	if err := n.SetNode("pve4", true); err == nil {
		t.Error("a node that is not there was switched on")
	}
}

// A node of no cluster says so, and its certificate is by the cluster's CA.
func TestSingleNode(t *testing.T) {
	n := newNode(t, pve.Options{})
	if a := n.must("GET", "/cluster/status", ""); a.body != `{"data":[{"id":"node/pve","ip":"127.0.0.1","level":"","local":1,"name":"pve","nodeid":0,"online":1,"type":"node"}]}` {
		t.Error(a.body)
	}
	if a := n.send("GET", "/cluster/config/join", ""); a.status != "424 node is not in a cluster, no join info available!" {
		t.Error(a)
	}
	if a := n.must("GET", "/cluster/config/nodes", ""); a.body != `{"data":[]}` {
		t.Error(a.body)
	}
}

// TestSilentIssuer: the proxy gives up, the worker stays blocked, and once all are, so is every write.
func TestSilentIssuer(t *testing.T) {
	release := make(chan struct{})
	transport := roundTripper(func(*http.Request) (*http.Response, error) {
		<-release
		return nil, net.ErrClosed
	})
	n := newNode(t, pve.Options{IssuerTimeout: 50 * time.Millisecond, Workers: 1, IssuerClient: &http.Client{Transport: transport}})
	if err := n.SetRealm(pve.Realm{Name: "authelia", Type: "openid", Properties: map[string]string{"issuer-url": "https://auth.example.com", "client-id": "proxmox"}}); err != nil {
		t.Fatal(err)
	}
	if a := n.as("").send("POST", "/access/openid/auth-url", `{"realm":"authelia","redirect-url":"https://pve"}`); a.status != "596 Connection timed out" || a.body != "" || a.header.Get("Content-Type") != "" {
		t.Error(a)
	}
	if a := n.send("PUT", "/access/domains/authelia", "comment=late"); a.status != "596 Connection timed out" {
		t.Error(a)
	}
	n.must("GET", "/access/domains/authelia", "")
	close(release)
	for r, _ := n.Realm("authelia"); r.Properties["comment"] != "late"; r, _ = n.Realm("authelia") {
		n.HoldLock()()
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
