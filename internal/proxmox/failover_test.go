package proxmox_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

// What each answer of the first node leads to. A read goes to the next node if the first did not answer. A write and the request
// for an authorization URL are sent once; a write may have taken effect unless Proxmox refused it. proxmox.discovery judges only
// what Proxmox itself says.
func TestWhatAFaultLeadsTo(t *testing.T) {
	cut := func(status int, reason string) pve.Rule {
		return pve.Rule{Status: status, Reason: reason, Body: `{"data":null}`, Truncate: true}
	}
	for _, tt := range []struct {
		name       string
		fault      pve.Rule
		next, lost bool
		discovery  check.Status
	}{
		{"silence", pve.Rule{Drop: true}, true, true, check.Skip},
		{"cut off", cut(200, "OK"), true, true, check.Skip},
		{"garbage", pve.Rule{Garbage: "nonsense\r\n\r\n"}, true, true, check.Skip},
		{"595", fails(595, "Connection refused"), true, true, check.Skip},
		{"596", fails(596, "Connection timed out"), true, true, check.Fail},
		{"599", fails(599, "Broken pipe"), true, true, check.Skip},
		{"no JSON", pve.Rule{Status: 200, Body: "OK"}, false, true, check.Skip},
		{"a portal", page(200, "<html>"), false, true, check.Skip},
		{"a gateway's page", page(502, "<html>"), false, true, check.Skip},
		{"a gateway's 502", fails(502, "Bad Gateway"), false, true, check.Skip},
		{"a gateway's 503", fails(503, "Service Unavailable"), false, true, check.Skip},
		{"a gateway's 504", fails(504, "Gateway Time-out"), false, true, check.Skip},
		{"a gateway's 408", fails(408, "Request Timeout"), false, true, check.Skip},
		{"too many requests", fails(429, "Too Many Requests"), false, true, check.Skip},
		{"404", fails(404, "Not Found"), false, false, check.Skip},
		{"redirect", redirect(307, "https://evil.example/"), false, false, check.Skip},
		{"a portal's 403", page(403, "<html>"), false, false, check.Skip},
		{"401", fails(401, "Authentication failed!"), false, false, check.Fail},
		{"401 cut off", cut(401, "Authentication failed!"), false, false, check.Fail},
		{"403", fails(403, "Permission check failed (/access/realm, Realm.Allocate)"), false, false, check.Fail},
		{"418", fails(418, "I'm a teapot"), false, false, check.Fail},
		{"500", fails(500, "something is wrong"), false, false, check.Fail},
	} {
		s, c := cluster(t, 2)
		first := c.Endpoints()[0]
		tt.fault.Host = first.Host()
		remove := s.Inject(tt.fault)
		ask := func(name string, elsewhere int, send func() error) error {
			t.Helper()
			s.Reset()
			err := send()
			other := slices.DeleteFunc(s.Requests(), func(r pve.Request) bool { return r.Hit })
			if hit := len(s.Requests()) - len(other); hit != 1 || len(other) != elsewhere {
				t.Errorf("%s: %s: %d requests, %d elsewhere", tt.name, name, hit, len(other))
			}
			return err
		}
		for name, write := range map[string]func() error{
			"create": func() error { return c.Create(t.Context(), planned(realm.VE, realm.Current{}, nil)) },
			"update": func() error {
				return c.Update(t.Context(), "authelia", planned(realm.VE, stored(t, realm.VE, storedRealm), realm.Values{realm.Comment: realm.Text("y")}))
			},
			"delete": func() error { return c.Delete(t.Context(), "authelia", "d1") },
			"grant":  func() error { return c.Change(t.Context(), granted("/", "admins-authelia", "PVEAuditor", true)) },
		} {
			if err := ask(name, 0, write); err == nil || errors.Is(err, realm.ErrLost) != tt.lost || tt.lost != strings.Contains(err.Error(), "unknown whether") {
				t.Errorf("%s: %s: %v, lost %v", tt.name, name, err, !tt.lost)
			}
		}
		if err := ask("authorization URL", 0, func() error {
			_, err := c.AuthURL(t.Context(), "authelia", "https://pve.example.com:8006")
			return err
		}); err == nil || errors.Is(err, realm.ErrLost) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err := ask("discovery", 0, func() error {
			found, _, err := c.CheckDiscovery(t.Context(), first, realm.Login{Realm: "authelia"}, "https://pve.example.com:8006", true)
			if found.Status != tt.discovery {
				t.Errorf("%s: %+v", tt.name, found)
			}
			return err
		}); (err != nil) != (tt.discovery == check.Skip) {
			t.Errorf("%s: %v", tt.name, err)
		}
		elsewhere := map[bool]int{true: 1}[tt.next]
		if err := ask("read", elsewhere, func() error { _, err := c.Realm(t.Context(), "authelia"); return err }); (err == nil) != tt.next || tt.next && c.Endpoint() == first {
			t.Errorf("%s: %v from %s", tt.name, err, c.Endpoint())
		}
		remove()
	}
}

// A write goes to the node that answered the read. If no connection is possible, another node gets the write.
func TestWritesFollowTheRead(t *testing.T) {
	s, c := cluster(t, 3)
	off := func(name string) {
		if err := s.SetNode(name, false); err != nil {
			t.Fatal(err)
		}
	}
	asks := func(n int, kind proxmox.Kind) error {
		t.Helper()
		s.Reset()
		err := c.Delete(t.Context(), "authelia", "d1")
		isKind(t, "a write", err, kind)
		if all := s.Requests(); kind != proxmox.Unreachable && (len(all) != 1 || all[0].Host != c.Endpoints()[n].Host()) {
			t.Errorf("asked %+v", all)
		}
		return err
	}
	off("pve")
	if _, err := c.Realm(t.Context(), "authelia"); err != nil {
		t.Fatal(err)
	}
	asks(1, proxmox.Absent)
	off("pve2")
	asks(2, proxmox.NoQuorum)
	off("pve3")
	err := asks(0, proxmox.Unreachable)
	if n, lost := c.Retries(); errors.Is(err, realm.ErrLost) || n != 5 || lost == 0 {
		t.Errorf("%v, %d retries, %s", err, n, lost)
	}
	for _, e := range c.Endpoints() {
		if !strings.Contains(err.Error(), e.Host()) {
			t.Errorf("%v does not name %s", err, e)
		}
	}
}

func TestViews(t *testing.T) {
	s, c := cluster(t, 2)
	second := c.Endpoints()[1]
	if _, err := c.On(second).Realm(t.Context(), "authelia"); err != nil || len(s.Requests()) != 1 || s.Requests()[0].Host != second.Host() || c.Requests() != 1 {
		t.Errorf("%v, %+v", err, s.Requests())
	}
	if _, err := c.On("https://elsewhere.example:8006").Realm(t.Context(), "authelia"); check.CodeOf(err) != check.Config {
		t.Errorf("the token goes to endpoints of the configuration alone: %v", err)
	}
}

// silent never answers a request, which it was sent.
func silent(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		_, _ = io.Copy(io.Discard, req.Body)
	}
	proxmox.GotConn(req)
	<-req.Context().Done()
	return nil, req.Context().Err()
}

// A request ends by the client's time limit, or with its caller. A write is then lost, and the error says why it ended.
func TestRequestsThatEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := proxmox.Over(realm.VE, silent)
		_, err := c.Realm(t.Context(), "authelia")
		isKind(t, "timeout", err, proxmox.NoAnswer)
		if err := c.Delete(t.Context(), "authelia", "d1"); !errors.Is(err, realm.ErrLost) {
			t.Errorf("%v", err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(check.Errorf(check.Terminated, "terminated")) })
		if err := c.Delete(ctx, "authelia", "d1"); !errors.Is(err, realm.ErrLost) || !errors.Is(err, context.Canceled) || check.CodeOf(err) != check.Terminated {
			t.Errorf("%v (%s)", err, check.CodeOf(err))
		}
	})
	_, c := cluster(t, 2)
	late, stop := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer stop()
	if err := c.Delete(late, "authelia", "d1"); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, realm.ErrLost) || check.CodeOf(err) != check.Unreachable || c.Requests() != 0 {
		t.Errorf("%v (%s)", err, check.CodeOf(err))
	}
}

// dead returns an endpoint where nobody listens.
func dead(t *testing.T) config.Origin {
	t.Helper()
	endpoint := listen(t, nil)
	return config.Origin("https://" + endpoint)
}

// listen serves connections, or lets nobody listen if serve is nil. It returns host and port.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if serve == nil {
		_ = l.Close()
		return l.Addr().String()
	}
	var done sync.WaitGroup
	done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serve(conn)
			_ = conn.Close()
		}
	})
	t.Cleanup(func() { _ = l.Close(); done.Wait() })
	return l.Addr().String()
}

// Failures before a connection exists have different messages, and none reports a lost write.
func TestConnectionsThatCannotBeMade(t *testing.T) {
	says := func(first, second string) config.Origin {
		return config.Origin("https://" + listen(t, func(c net.Conn) {
			_, _ = io.WriteString(c, first)
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, second)
		}))
	}
	refuses := start(t, realm.VE)
	refuses.Inject(pve.Rule{Handshake: true})
	for name, tt := range map[string]struct {
		endpoint   config.Origin
		says, hint string
	}{
		"refused":          {dead(t), "connection refused", "pveproxy"},
		"no such name":     {"https://node.invalid:8006", "the name cannot be resolved", "this machine's DNS"},
		"a link's zone":    {"https://[fe80::1%25LO]:1", "cannot connect to", ""},
		"closed at once":   {says("", ""), "closed before TLS began", "ALLOW_FROM"},
		"no TLS in common": {config.Origin(refuses.URL()), "no TLS version or cipher in common", "8006"},
		"plain http":       {says("", "HTTP/1.1 400 Bad Request\r\n\r\n"), "the port does not speak TLS", "8006"},
		"another service":  {says("SSH-2.0-OpenSSH_9.2 and more\r\n", ""), "the port does not speak TLS", "8006"},
	} {
		_, c := failing(t, realm.VE, ok("null"), func(o *setup) { o.Endpoints = []config.Origin{tt.endpoint} })
		err := c.Delete(t.Context(), "authelia", "d1")
		isKind(t, name, err, proxmox.Unreachable)
		if errors.Is(err, realm.ErrLost) || !strings.Contains(err.Error(), tt.says) || !strings.Contains(hintOf(err), tt.hint) {
			t.Errorf("%s: %v; %s", name, err, hintOf(err))
		}
	}
	_, c := failing(t, realm.VE, pve.Rule{Garbage: "SSH-2.0-OpenSSH_9.2\r\n"})
	_, err := c.Realm(t.Context(), "authelia")
	if isKind(t, "another service with TLS", err, proxmox.NoAnswer); !strings.HasSuffix(err.Error(), "did not answer with valid HTTP") || !strings.Contains(hintOf(err), "proxmox.endpoints") {
		t.Errorf("%v; %s", err, hintOf(err))
	}
}

func TestIPv6Endpoint(t *testing.T) {
	probe, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Logf("no IPv6 on this machine: %v", err)
		return
	}
	_ = probe.Close()
	read(t, connect(t, startVE(t, pve.Options{Listen: "[::1]:0"}), pve.TokenRoot))
}

// Several goroutines share a client.
func TestConcurrentUse(t *testing.T) {
	s, c := cluster(t, 2)
	s.Inject(pve.Rule{Host: c.Endpoints()[0].Host(), Status: 595, Reason: "Connection refused"})
	var done sync.WaitGroup
	for range 8 {
		done.Go(func() {
			for range 5 {
				if _, err := c.Realm(t.Context(), "authelia"); err != nil {
					t.Error(err)
				}
				c.Requests()
				c.ClockOffset()
				c.Served()
				c.On(c.Endpoints()[1]).Endpoint()
			}
		})
	}
	done.Wait()
}

// A proxy never sees the token. The error of a proxy that refuses names the proxy.
func TestProxy(t *testing.T) {
	s := start(t, realm.VE)
	var head strings.Builder
	for _, tt := range []struct {
		proxy string
		says  string // "": it leads to the node
	}{
		{listen(t, func(conn net.Conn) {
			reader := bufio.NewReader(conn)
			req, err := http.ReadRequest(reader)
			if err != nil {
				return
			}
			_ = req.Write(&head)
			node, err := net.Dial("tcp", req.Host)
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
			var done sync.WaitGroup
			done.Go(func() { _, _ = io.Copy(node, reader); _ = node.Close() })
			_, _ = io.Copy(conn, node)
			done.Wait()
		}), ""},
		{listen(t, func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
		}), "the proxy in HTTPS_PROXY cannot be used: 407 Proxy Authentication Required"},
		{dead(t).Host(), "the proxy in HTTPS_PROXY cannot be used"},
	} {
		c := connect(t, s, pve.TokenRoot)
		c.SetProxy(&url.URL{Scheme: "http", Host: tt.proxy})
		_, err := c.Realm(t.Context(), "authelia")
		c.Close()
		if tt.says == "" && err == nil {
			continue
		}
		if isKind(t, tt.says, err, proxmox.Unreachable); !strings.Contains(err.Error(), tt.says) || !strings.Contains(hintOf(err), "NO_PROXY") {
			t.Errorf("%v; %s", err, hintOf(err))
		}
	}
	_, secret, _ := strings.Cut(s.Token(pve.TokenRoot), "=")
	if !strings.HasPrefix(head.String(), "CONNECT ") || strings.Contains(head.String(), secret) {
		t.Errorf("the proxy saw %q", head.String())
	}
}
