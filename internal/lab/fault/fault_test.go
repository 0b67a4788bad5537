package fault_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"proxmox-realm/internal/lab/authority"
	"proxmox-realm/internal/lab/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is an upstream that counts what reaches it, the proxy before it, and a client of the proxy.
type world struct {
	reached atomic.Int32
	proxy   *fault.Proxy
	client  *http.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{}
	upstream := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		w.reached.Add(1)
		rw.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(rw, `{"data":"`+strings.Repeat("x", 100)+`"}`)
	}))
	t.Cleanup(upstream.Close)
	ca, err := authority.New()
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := ca.Issue(authority.Valid, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(upstream.Certificate())
	w.proxy, err = fault.Start(fault.Options{Upstream: upstream.URL, TLS: &tls.Config{RootCAs: trusted}, Certificate: certificate})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.proxy.Close(); err != nil {
			t.Error(err)
		}
	})
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}}
	t.Cleanup(transport.CloseIdleConnections)
	w.client = &http.Client{
		Transport:     transport,
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return w
}

// limit is more than any answer that ends.
const limit = 16 << 20

// put sends a request that Go's client never repeats, and returns the status of a complete answer, else 0.
func (w *world) put(t *testing.T) int {
	t.Helper()
	request, err := http.NewRequest(http.MethodPut, w.proxy.URL()+"/api2/json/access/domains/authelia", strings.NewReader("comment=x"))
	if err != nil {
		t.Fatal(err)
	}
	response, err := w.client.Do(request)
	if err != nil {
		return 0
	}
	defer func() { _ = response.Body.Close() }()
	if n, err := io.Copy(io.Discard, io.LimitReader(response.Body, limit)); err != nil || n == limit {
		return 0
	}
	return response.StatusCode
}

// TestFaults holds each fault to what it says of itself: whether the request reaches the upstream, and what is answered.
func TestFaults(t *testing.T) {
	names := map[string]bool{}
	for _, f := range fault.Faults() {
		if names[f.Name] {
			t.Errorf("two faults are called %q", f.Name)
		}
		names[f.Name] = true
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.proxy.Begin(fault.Rule{Fault: f, At: 2})
			if got := w.put(t); got != http.StatusOK {
				t.Fatalf("the request before it was answered %d", got)
			}
			before := w.reached.Load()
			if f.Slow {
				w.client.Timeout = 100 * time.Millisecond
			}
			if got := w.put(t); got != f.Answers {
				t.Errorf("answered %d, want %d", got, f.Answers)
			}
			if f.Slow || f.Reaches && f.Lost() {
				time.Sleep(fault.LateAfter + 200*time.Millisecond)
			}
			if reached := w.reached.Load() > before; reached != f.Reaches {
				t.Errorf("it reached the upstream: %v, want %v", reached, f.Reaches)
			}
			w.client.Timeout = 10 * time.Second
			w.put(t) // the handshake that fails is that of the connection after the one that was cut
			if got := w.put(t); got != http.StatusOK {
				t.Errorf("the request after it was answered %d", got)
			}
		})
	}
}

func TestLasting(t *testing.T) {
	w := newWorld(t)
	faults := fault.Faults()
	bad := faults[slices.IndexFunc(faults, func(f fault.Fault) bool { return f.Answers == http.StatusBadGateway && !f.Reaches })]
	w.proxy.Begin(fault.Rule{Fault: bad, Method: http.MethodPut, Path: "/access/domains", At: 2, Lasting: true})
	var got []int
	for range 4 {
		got = append(got, w.put(t))
	}
	if want := []int{200, 502, 502, 502}; !slices.Equal(got, want) || w.reached.Load() != 1 {
		t.Errorf("answered %v, want %v; %d reached the upstream", got, want, w.reached.Load())
	}
	hits := 0
	for _, r := range w.proxy.Requests() {
		if r.Hit && r.Method == http.MethodPut && r.Path == "/access/domains/authelia" {
			hits++
		}
	}
	if hits != 3 {
		t.Errorf("requests %+v", w.proxy.Requests())
	}
	w.proxy.Calm()
	if got := w.put(t); got != http.StatusOK {
		t.Errorf("answered %d after the fault has ended", got)
	}
}
