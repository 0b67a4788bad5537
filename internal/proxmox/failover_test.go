package proxmox_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"

	"go.uber.org/goleak"

	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dead returns a node that does not listen on its port.
func dead(t *testing.T) *node {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	return &node{URL: config.Origin("https://" + listener.Addr().String())}
}

func TestReadsGoToTheNextNode(t *testing.T) {
	right := func(*call) answer { return byID(t, "read").answer() }
	for _, tt := range []struct {
		name  string
		first answer
		next  bool
	}{
		{"silence", answer{Drop: true}, true},
		{"cut off", answer{Status: 200, Body: `{"data":{}}`, Cut: 3}, true},
		{"595", fails(595, "Connection refused"), true},
		{"596", fails(596, "Connection timed out"), true},
		{"599", fails(599, "Broken pipe"), true},
		{"401", fails(401, "Authentication failed!"), false},
		{"401 cut off", answer{Status: 401, Reason: "Authentication failed!", Body: "xxxx", Cut: 2}, false},
		{"403", fails(403, "Permission check failed (/access/realm, Realm.Allocate|Sys.Audit)"), false},
		{"500", fails(500, "something is wrong"), false},
		{"404", fails(404, "Not Found"), false},
		{"redirect", answer{Status: 302, Reason: "Found", Header: "Location: /\r\n"}, false},
		{"portal", answer{Status: 200, Type: "text/html", Body: "<html>"}, false},
		{"null", ok("null"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			first, second := start(t, func(*call) answer { return tt.first }), start(t, right)
			c := connect(t, nil, first, second)
			_, err := c.Realm(t.Context(), "authelia")
			if (err == nil) != tt.next || len(first.seen()) != 1 {
				t.Errorf("%v; first node asked %d times", err, len(first.seen()))
			}
			if got := len(second.seen()) > 0; got != tt.next {
				t.Errorf("second node asked: %v", got)
			}
			if tt.next && c.Endpoint() != second.URL {
				t.Errorf("endpoint %s", c.Endpoint())
			}
		})
	}
}

// A write goes to the node that answered the read. If no connection is possible, another node gets the write.
func TestWritesFollowTheRead(t *testing.T) {
	answers := func(c *call) answer {
		if c.Method == "GET" {
			return byID(t, "read").answer()
		}
		return answer{Status: 200, Reason: "OK", Body: `{"data":null}`}
	}
	first, second, third := dead(t), start(t, answers), start(t, answers)
	c := connect(t, nil, first, second, third)
	if _, err := c.Realm(t.Context(), "authelia"); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context(), "authelia", "d1"); err != nil || len(second.seen()) != 2 {
		t.Fatalf("%v, %d requests to the second node", err, len(second.seen()))
	}
	second.close()
	if err := c.Delete(t.Context(), "authelia", "d1"); err != nil || len(third.seen()) != 1 {
		t.Errorf("%v, %d requests to the third node", err, len(third.seen()))
	}
	third.close()
	err := c.Delete(t.Context(), "authelia", "d1")
	if check.CodeOf(err) != check.Unreachable || errors.Is(err, realm.ErrLost) {
		t.Errorf("%v", err)
	}
	for _, n := range []*node{first, second, third} {
		if !strings.Contains(err.Error(), n.URL.Host()) {
			t.Errorf("%v does not name %s", err, n.URL)
		}
	}
}

func TestViews(t *testing.T) {
	right := func(*call) answer { return byID(t, "read").answer() }
	a, b := start(t, right), start(t, right)
	c := connect(t, nil, a, b)
	if _, err := c.On(a.URL).Realm(t.Context(), "authelia"); err != nil || len(a.seen()) != 1 || len(b.seen()) != 0 {
		t.Errorf("view: %v, %d and %d requests", err, len(a.seen()), len(b.seen()))
	}
	if c.Requests() != 1 {
		t.Errorf("a view's requests count: %d", c.Requests())
	}
	if _, err := c.On("https://elsewhere.example:8006").Realm(t.Context(), "authelia"); check.CodeOf(err) != check.Config {
		t.Errorf("the token goes to endpoints of the configuration alone: %v", err)
	}
}

// A request ends after the timeout. A write is then lost.
func TestTimeout(t *testing.T) {
	release := make(chan struct{})
	n := start(t, func(*call) answer { return answer{Drop: true, Wait: release} })
	t.Cleanup(func() { close(release) })
	c := connect(t, func(o *setup) { o.Timeout = 100 * time.Millisecond }, n)
	_, err := c.Realm(t.Context(), "authelia")
	var e *proxmox.Error
	if !errors.As(err, &e) || e.Kind != proxmox.NoAnswer || check.CodeOf(err) != check.Unreachable {
		t.Errorf("%v", err)
	}
	if err := c.Delete(t.Context(), "authelia", "d1"); !errors.Is(err, realm.ErrLost) || !strings.Contains(err.Error(), "unknown whether") {
		t.Errorf("%v", err)
	}
}

// An interrupted write is lost, and its error says why it was interrupted.
func TestInterruption(t *testing.T) {
	release := make(chan struct{})
	arrived := make(chan struct{}, 1)
	n := start(t, func(*call) answer {
		arrived <- struct{}{}
		return answer{Drop: true, Wait: release}
	})
	t.Cleanup(func() { close(release) })
	c := connect(t, nil, n, n)
	ctx, cancel := context.WithCancelCause(t.Context())
	var done sync.WaitGroup
	var err error
	done.Go(func() { err = c.Delete(ctx, "authelia", "d1") })
	<-arrived
	cancel(check.Errorf(check.Terminated, "terminated"))
	done.Wait()
	if !errors.Is(err, realm.ErrLost) || !errors.Is(err, context.Canceled) || check.CodeOf(err) != check.Terminated {
		t.Errorf("%v (%s)", err, check.CodeOf(err))
	}
	if _, err := c.Realm(ctx, "authelia"); !errors.Is(err, context.Canceled) || errors.Is(err, realm.ErrLost) || len(n.seen()) != 1 {
		t.Errorf("%v", err)
	}
	late, stop := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer stop()
	if err := c.Delete(late, "authelia", "d1"); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, realm.ErrLost) || check.CodeOf(err) != check.Unreachable {
		t.Errorf("%v (%s)", err, check.CodeOf(err))
	}
}

// Failures before a connection exists have different messages, and none reports a lost write.
func TestConnectionsThatCannotBeMade(t *testing.T) {
	listen := func(serve func(net.Conn)) config.Origin {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
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
		return config.Origin("https://" + l.Addr().String())
	}
	for _, tt := range []struct {
		name       string
		endpoint   config.Origin
		says, hint string
	}{
		{"refused", dead(t).URL, "connection refused", "pveproxy"},
		{"no such name", "https://node.invalid:8006", "the name cannot be resolved", ""},
		{"closed at once", listen(func(c net.Conn) { _ = c.(*net.TCPConn).CloseWrite(); _, _ = c.Read(make([]byte, 4096)) }), "closed before TLS began", "ALLOW_FROM"},
		{"plain http", listen(func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4096))
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		}), "the port does not speak TLS", "8006"},
		{"another service", listen(func(c net.Conn) {
			_, _ = c.Write([]byte("SSH-2.0-OpenSSH_9.2 and more\r\n"))
			_, _ = c.Read(make([]byte, 4096))
		}), "the port does not speak TLS", "8006"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := connect(t, func(o *setup) { o.Endpoints = []config.Origin{tt.endpoint}; o.Timeout = 20 * time.Second })
			err := c.Delete(t.Context(), "authelia", "d1")
			var f *check.Error
			if !errors.As(err, &f) || f.Code != check.Unreachable || errors.Is(err, realm.ErrLost) || !strings.Contains(f.Message, tt.says) || !strings.Contains(f.Hint.For(check.Names{}), tt.hint) {
				t.Errorf("%v; %+v", err, f)
			}
		})
	}
}

func TestIPv6Endpoint(t *testing.T) {
	probe, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Logf("no IPv6 on this machine: %v", err)
		return
	}
	_ = probe.Close()
	n := startAt(t, "[::1]:0", nodeCert(), func(*call) answer { return byID(t, "read").answer() })
	if _, err := connect(t, nil, n).Realm(t.Context(), "authelia"); err != nil || n.seen()[0].Host != n.URL.Host() {
		t.Errorf("%v", err)
	}
}

// Several goroutines share a client.
func TestConcurrentUse(t *testing.T) {
	n := start(t, func(*call) answer { return byID(t, "read").answer() })
	other := start(t, func(*call) answer { return fails(595, "Connection refused") })
	c := connect(t, nil, other, n)
	var done sync.WaitGroup
	for range 8 {
		done.Go(func() {
			for range 5 {
				if _, err := c.Realm(t.Context(), "authelia"); err != nil {
					t.Error(err)
				}
				c.Requests()
				c.ClockOffset()
				c.On(n.URL).Endpoint()
			}
		})
	}
	done.Wait()
}

// A proxy never sees the token. The error of a proxy that refuses names the proxy.
func TestProxy(t *testing.T) {
	n := start(t, func(*call) answer { return byID(t, "read").answer() })
	var head strings.Builder
	proxy := func(status string) *url.URL {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var done sync.WaitGroup
		done.Go(func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer func() { _ = conn.Close() }()
			reader := bufio.NewReader(conn)
			req, err := http.ReadRequest(reader)
			if err != nil {
				return
			}
			_ = req.Write(&head)
			if status != "200 OK" {
				_, _ = conn.Write([]byte("HTTP/1.1 " + status + "\r\nContent-Length: 0\r\n\r\n"))
				return
			}
			node, err := net.Dial("tcp", req.Host)
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("HTTP/1.1 " + status + "\r\n\r\n"))
			done.Go(func() { _, _ = io.Copy(node, reader); _ = node.Close() })
			_, _ = io.Copy(conn, node)
		})
		t.Cleanup(func() { _ = l.Close(); done.Wait() })
		return &url.URL{Scheme: "http", Host: l.Addr().String()}
	}
	through := connect(t, nil, n)
	through.SetProxy(proxy("200 OK"))
	if _, err := through.Realm(t.Context(), "authelia"); err != nil {
		t.Error(err)
	}
	through.Close()
	if !strings.HasPrefix(head.String(), "CONNECT ") || strings.Contains(head.String(), tokenSecret) {
		t.Errorf("the proxy saw %q", head.String())
	}

	refused := connect(t, nil, n)
	refused.SetProxy(proxy("407 Proxy Authentication Required"))
	err := refused.Delete(t.Context(), "authelia", "d1")
	var f *check.Error
	if !errors.As(err, &f) || f.Code != check.Unreachable || !strings.Contains(f.Message, "the proxy in HTTPS_PROXY cannot be used: 407 Proxy Authentication Required") || !strings.Contains(f.Hint.For(check.Names{}), "NO_PROXY") || errors.Is(err, realm.ErrLost) {
		t.Errorf("%v", err)
	}
	away := connect(t, nil, n)
	away.SetProxy(&url.URL{Scheme: "http", Host: dead(t).URL.Host()})
	if _, err := away.Realm(t.Context(), "authelia"); !errors.As(err, &f) || !strings.Contains(f.Message, "the proxy in HTTPS_PROXY cannot be used") {
		t.Errorf("%v", err)
	}
}
