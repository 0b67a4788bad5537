package fault_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"proxmox-realm/internal/lab/fault"
	"proxmox-realm/internal/lab/pve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a stand-in with a realm, its node, and a client.
type world struct {
	*pve.Server
	node   *fault.Node
	client *http.Client
	sent   int
}

func start(t *testing.T) *world {
	t.Helper()
	seed := pve.DefaultState()
	seed.Realms = []pve.Realm{{Name: "authelia", Type: "openid", Properties: map[string]string{"issuer-url": "https://auth.example.com", "client-id": "proxmox"}}}
	s, err := pve.Start(pve.Options{Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(s.CertificatePEM())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}
	t.Cleanup(transport.CloseIdleConnections)
	return &world{Server: s, node: fault.At(s, s.URL()), client: &http.Client{
		Transport:     transport,
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// limit is more than any answer that ends.
const limit = 16 << 20

// put sends a request that Go's client never repeats, and returns the status of a complete answer, else 0.
func (w *world) put(t *testing.T) int { return w.putUntil(t.Context(), t) }

// putUntil gives up when ctx ends.
func (w *world) putUntil(ctx context.Context, t *testing.T) int {
	t.Helper()
	w.sent++
	body := strings.NewReader("comment=" + w.comment())
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, w.node.URL()+"/api2/json/access/domains/authelia", body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "PVEAPIToken="+w.Token(pve.TokenRoot))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
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

// comment is what the latest request sets.
func (w *world) comment() string { return fmt.Sprint("of request ", w.sent) }

// reached says whether the latest request has taken effect.
func (w *world) reached() bool {
	realm, _ := w.Realm("authelia")
	return realm.Properties["comment"] == w.comment()
}

// hit says whether a rule has applied to a request.
func (w *world) hit() bool {
	return slices.ContainsFunc(w.node.Requests(), func(r fault.Request) bool { return r.Hit })
}

// TestFaults holds each fault to what it says of itself: whether the request takes effect, and what is answered.
func TestFaults(t *testing.T) {
	names := map[string]bool{}
	for _, f := range fault.Faults() {
		if names[f.Name] {
			t.Errorf("two faults are called %q", f.Name)
		}
		names[f.Name] = true
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			start(t).holds(t, f)
		})
	}
}

// holds holds a fault to what it says of itself.
func (w *world) holds(t *testing.T, f fault.Fault) {
	w.node.Begin(fault.Rule{Fault: f, At: 2})
	if got := w.put(t); got != http.StatusOK {
		t.Fatalf("the request before it was answered %d", got)
	}
	patience, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	if f.Slow { // its client waits until the node has the request, and no longer
		go func() {
			for patience.Err() == nil && !w.hit() {
				runtime.Gosched()
			}
			giveUp()
		}()
	}
	if got := w.putUntil(patience, t); got != f.Answers {
		t.Errorf("answered %d, want %d", got, f.Answers)
	}
	for f.Reaches && !w.reached() {
		runtime.Gosched()
	}
	if w.reached() != f.Reaches {
		t.Errorf("it reached Proxmox, want %v", f.Reaches)
	}
	if got := w.put(t); got != http.StatusOK || !w.reached() {
		t.Errorf("the request after it was answered %d", got)
	}
}

func TestLasting(t *testing.T) {
	w := start(t)
	faults := fault.Faults()
	bad := faults[slices.IndexFunc(faults, func(f fault.Fault) bool { return f.Answers == http.StatusBadGateway && !f.Reaches })]
	w.node.Begin(fault.Rule{Fault: bad, Method: http.MethodPut, Path: "/access/domains", At: 2, Lasting: true})
	var got []int
	for range 4 {
		got = append(got, w.put(t))
	}
	if want := []int{200, 502, 502, 502}; !slices.Equal(got, want) || w.reached() {
		t.Errorf("answered %v, want %v", got, want)
	}
	hits := 0
	for _, r := range w.node.Requests() {
		if r.Hit && r.Method == http.MethodPut && r.Path == "/access/domains/authelia" {
			hits++
		}
	}
	if hits != 3 {
		t.Errorf("requests %+v", w.node.Requests())
	}
	w.node.Calm()
	if got := w.put(t); got != http.StatusOK {
		t.Errorf("answered %d after the fault has ended", got)
	}
}
