package pve_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"proxmox-realm/internal/lab/pve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is a server with a client and a token.
type node struct {
	*pve.Server
	t      *testing.T
	client *http.Client
	header http.Header
}

func newNode(t *testing.T, o pve.Options) *node {
	t.Helper()
	s, c := start(t, o)
	return (&node{Server: s, t: t, client: c}).as(pve.TokenRoot)
}

// as is the same node asked with another token; an empty name is nobody.
func (n *node) as(token string) *node {
	c := *n
	c.header = http.Header{}
	if token != "" {
		c.header.Set("Authorization", "PVEAPIToken="+n.Token(token))
	}
	return &c
}

// ticket is the same node asked with a ticket.
func (n *node) ticket(ticket, csrf string) *node {
	c := *n
	c.header = http.Header{"Cookie": {"PVEAuthCookie=" + strings.ReplaceAll(ticket, ":", "%3A")}}
	if csrf != "" {
		c.header["CSRFPreventionToken"] = []string{csrf}
	}
	return &c
}

type answer struct {
	status string // such as "200 OK"
	body   string
	header http.Header
	close  bool
}

// object is a JSON object; what is missing in it, or of another type, is empty.
type object map[string]any

func (o object) text(k string) string {
	s, _ := o[k].(string)
	return s
}

// data is the answer's data.
func (a answer) data(t *testing.T) object {
	t.Helper()
	var v struct{ Data object }
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%s %s: %v", a.status, a.body, err)
	}
	return v.Data
}

// errors are the parameters that the answer complains of.
func (a answer) errors() map[string]string {
	var v struct{ Errors map[string]string }
	_ = json.Unmarshal([]byte(a.body), &v)
	return v.Errors
}

// send sends a request; a body that begins with a brace or bracket is JSON, any other a form.
func (n *node) send(method, path, body string) answer {
	n.t.Helper()
	a, err := n.try(method, path, body)
	if err != nil {
		n.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (n *node) try(method, path, body string) (answer, error) {
	n.t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, n.URL()+"/api2/json"+path, in)
	if err != nil {
		n.t.Fatal(err)
	}
	req.Header = n.header.Clone()
	if body != "" && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if strings.ContainsAny(body[:1], "{[") {
			req.Header.Set("Content-Type", "application/json")
		}
	}
	res, err := n.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	return answer{res.Status, string(b), res.Header, res.Close}, err
}

// must sends a request that must be answered with 200.
func (n *node) must(method, path, body string) answer {
	n.t.Helper()
	a := n.send(method, path, body)
	if a.status != "200 OK" {
		n.t.Fatalf("%s %s %s: %s %s", method, path, body, a.status, a.body)
	}
	return a
}

// digest is that of the realms.
func (n *node) digest() string {
	n.t.Helper()
	return n.must("GET", "/access/domains/pve", "").data(n.t).text("digest")
}

const minimal = `{"realm": "authelia", "type": "openid", "issuer-url": "https://auth.example.com", "client-id": "proxmox"}`

// with is minimal with one more member, or one replaced.
func with(k string, v any) string {
	m := map[string]any{}
	_ = json.Unmarshal([]byte(minimal), &m)
	m[k] = v
	b, _ := json.Marshal(m)
	return string(b)
}

// start is a server without delays, and a client that trusts it.
func start(t *testing.T, o pve.Options) (*pve.Server, *http.Client) {
	t.Helper()
	s, err := pve.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, clientOf(t, s)
}

func clientOf(tb testing.TB, s *pve.Server) *http.Client {
	tb.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(s.CertificatePEM()) {
		tb.Fatal("no certificate")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	tb.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		Timeout:       time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
