package pbs_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/lab/pbs"
)

// silent is an issuer that accepts connections and never answers. arrived tells of each; hangUp ends them.
type silent struct {
	net.Listener
	arrived chan net.Conn
}

func newSilent(t *testing.T) *silent {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &silent{listener, make(chan net.Conn)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.arrived <- conn
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return s
}

func (s *silent) realm() string {
	return "realm=silent&client-id=proxmox&issuer-url=http%3A%2F%2F" + s.Addr().String()
}

const authURL = "realm=silent&redirect-url=https%3A%2F%2Fpbs.example.com%3A8007"

// later sends a request and returns its answer through a channel, which is closed without one if the client gave up.
func (h *host) later(ctx context.Context, method, path, body string) <-chan answer {
	answers := make(chan answer, 1)
	go func() {
		defer close(answers)
		r, err := http.NewRequestWithContext(ctx, method, h.URL()+"/api2/json"+path, strings.NewReader(body))
		if err != nil {
			return
		}
		r.Header = h.header.Clone()
		res, err := h.client.Do(r)
		if err != nil {
			return
		}
		defer func() { _ = res.Body.Close() }()
		raw, err := io.ReadAll(res.Body)
		if err == nil {
			answers <- answer{res.StatusCode, res.Status, string(raw), res.Header, res.Close}
		}
	}()
	return answers
}

// seen waits until so many requests for a path have arrived.
func (h *host) seen(path string, want int) {
	for n := 0; n < want; {
		n = 0
		for _, r := range h.Requests() {
			if strings.HasPrefix(r.Path, "/api2/json"+path) {
				n++
			}
		}
	}
}

// TestSilentIssuer: each auth-url holds a thread of the privileged daemon. When none is left, writes, tickets, logins and the
// list of users wait; reads go on. What waited happens as soon as the issuer hangs up, whether or not its client is there.
func TestSilentIssuer(t *testing.T) {
	h := newHost(t, pbs.Options{Cores: 2})
	issuer := newSilent(t)
	h.must("POST", openID, issuer.realm())

	first := h.later(t.Context(), "POST", "/access/openid/auth-url", authURL)
	conn := <-issuer.arrived
	h.must("PUT", openID+"/silent", "comment=one%20thread%20is%20left")
	gone, leave := context.WithCancel(t.Context())
	second := h.later(gone, "POST", "/access/openid/auth-url", authURL)
	other := <-issuer.arrived
	leave()
	<-second

	waiting := map[string]<-chan answer{
		"write":  h.later(t.Context(), "PUT", openID+"/silent", "comment=late"),
		"ticket": h.later(t.Context(), "POST", "/access/ticket", "username=admin%40pbs&password=admin-password"),
		"users":  h.later(t.Context(), "GET", "/access/users", ""),
		"login":  h.later(t.Context(), "POST", "/access/openid/login", "state=x&code=x&redirect-url=x"),
	}
	abandoned, abandon := context.WithCancel(t.Context())
	lost := h.later(abandoned, "POST", openID, minimal)
	h.seen("/access/openid/login", 1)
	h.seen("/access/users", 1)
	h.seen("/access/ticket", 1)
	h.seen(openID, 4)
	abandon()
	<-lost
	for _, path := range []string{"/version", openID, openID + "/silent", "/access/domains", "/access/permissions", "/access/users/admin@pbs"} {
		h.must("GET", path, "")
	}
	for what, answers := range waiting {
		select {
		case a := <-answers:
			t.Errorf("%s: %+v, though no thread is free", what, a)
		default:
		}
	}
	if h.State().Realms[2].Properties["comment"] != "one thread is left" {
		t.Error("a write happened, though no thread is free")
	}

	_ = conn.Close()
	if a := <-first; a.status != 400 || a.body != "Request failed" {
		t.Errorf("%+v", a)
	}
	for what, status := range map[string]int{"write": 200, "ticket": 200, "users": 200, "login": 401} {
		if a := <-waiting[what]; a.status != status {
			t.Errorf("%s: %+v", what, a)
		}
	}
	for len(h.State().Realms) < 4 { // the request whose client is gone
	}
	_ = other.Close()
}

// TestDaemonStops: without the privileged daemon reads go on; a restart frees what an issuer holds.
func TestDaemonStops(t *testing.T) {
	h := newHost(t, pbs.Options{Cores: 1})
	issuer := newSilent(t)
	h.must("POST", openID, issuer.realm())
	first := h.later(t.Context(), "POST", "/access/openid/auth-url", authURL)
	conn := <-issuer.arrived
	defer func() { _ = conn.Close() }()
	second := h.later(t.Context(), "PUT", openID+"/silent", "comment=x")
	h.seen(openID+"/", 1)
	h.SetDaemon(false)
	for _, answers := range []<-chan answer{first, second} {
		if a := <-answers; a.status != 400 || !strings.HasPrefix(a.body, "client error (") {
			t.Errorf("%+v", a)
		}
	}
	h.refused(400, "client error (Connect)", "PUT", openID+"/silent", "comment=x")
	h.refused(400, "client error (Connect)", "GET", "/access/users", "")
	h.must("GET", openID+"/silent", "")
	h.SetDaemon(true)
	h.must("PUT", openID+"/silent", "comment=x")
}

// TestUnreachable: the answer does not say why the issuer cannot be asked. Datacenter Manager's journal does.
func TestUnreachable(t *testing.T) {
	for _, product := range pbs.Products {
		h := newHost(t, pbs.Options{Product: product})
		h.must("POST", openID, "realm=silent&client-id=proxmox&issuer-url=http%3A%2F%2F127.0.0.1%3A9")
		h.refused(400, "Request failed", "POST", "/access/openid/auth-url", authURL)
		journal := h.must("GET", "/nodes/localhost/syslog", "")
		if !strings.Contains(journal, "POST /api2/json/access/openid/auth-url: 400 Bad Request: [client [::ffff:127.0.0.1]:") {
			t.Error(journal)
		}
		if explained := strings.Contains(journal, "could not get openid auth url: Request failed: io: Connection refused (os error 111)"); explained != (product == pbs.DatacenterManager) {
			t.Errorf("%s: %s", product.Name, journal)
		}
	}
}

// TestJournal: failures are in the host's log, which few may read; successes are not.
func TestJournal(t *testing.T) {
	clock, zone := newClock(), time.FixedZone("Europe/Vienna", 2*3600)
	clock.now = time.Date(2026, 12, 1, 3, 55, 50, 0, time.UTC)
	h := newHost(t, pbs.Options{Now: clock.Now, Zone: zone})
	h.send("POST", "/access/openid/login", "state=x&code=x&redirect-url=x")
	clock.advance(time.Minute)
	h.send("POST", "/access/ticket", "username=root%40pam&password=wrong")
	h.must("POST", "/access/ticket", "username=root%40pam&password=root-password")
	clock.advance(time.Hour)
	h.send("GET", "/nope", "")

	lines := func(query string) []string {
		t.Helper()
		var answer struct {
			Data  []struct{ T string }
			Total int
		}
		if err := json.Unmarshal([]byte(h.as(pbs.TokenLogReader).must("GET", "/nodes/localhost/syslog?"+query, "")), &answer); err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, line := range answer.Data {
			list = append(list, line.T)
		}
		return list
	}
	for query, want := range map[string][]string{
		"":                       {"Dec 01 05:55:50", "authentication failure; rhost=[::ffff:127.0.0.1]:", "msg=expected value", "Dec 01 05:55:50", "POST /api2/json/access/openid/login: 401 Unauthorized: [client [::ffff:127.0.0.1]:", "user=root@pam msg=invalid credentials", "POST /api2/json/access/ticket: 401", "GET /api2/json/nope: 404 Not Found"},
		"limit=1":                {"Dec 01 05:55:50 pbs proxmox-backup-api["},
		"start=3&limit=1":        {"Dec 01 05:56:50 pbs proxmox-backup-api["},
		"limit=0":                {},
		"since=2026-12-01 06:00": {"GET /api2/json/nope"},
		"since=2026-12-01 05:56:50&until=2026-12-01 05:56:50":   {"user=root@pam", "/access/ticket"},
		"service=proxmox-backup-proxy.service":                  {"proxmox-backup-proxy[", "/nope"},
		"service=proxmox-backup&since=2026-12-01 05:56&limit=1": {"user=root@pam"},
		"since=2026-12-02": {"-- No entries --"},
		"since=2026-02-31": {"no content"},
	} {
		got := strings.Join(lines(strings.ReplaceAll(query, " ", "%20")), "\n")
		rest := got
		for _, part := range want {
			before, after, found := strings.Cut(rest, part)
			if rest = after; !found {
				t.Errorf("%s: no %q after %q in\n%s", query, part, before, got)
			}
		}
		if len(want) == 0 && got != "" || strings.Contains(got, "successful") {
			t.Errorf("%s: %s", query, got)
		}
	}
	if got := lines("until=2026-12-01%2006:00"); len(got) != 4 {
		t.Errorf("%q", got)
	}
	h.as(pbs.TokenRealmAllocate).refused(403, "permission check failed", "GET", "/nodes/pbs/syslog", "")
	if got := h.must("GET", "/nodes/any/time", ""); got != `{"data":{"localtime":1796108210,"time":1796101010,"timezone":"Europe/Vienna"}}` {
		t.Error(got)
	}
}
