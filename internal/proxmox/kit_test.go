package proxmox_test

import (
	"cmp"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/lab/pbs"
	"proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is what the labs of all products have in common.
type server interface {
	URL() string
	CertificatePEM() []byte
	Token(name string) string
	Inject(rule pve.Rule) (remove func())
	HoldLock() (release func())
	Requests() []pve.Request
	Handshakes() pve.Handshakes
	Reset()
}

// start starts the lab of a product.
func start(t *testing.T, p realm.Product) server {
	t.Helper()
	if p == realm.VE {
		return startVE(t, pve.Options{})
	}
	return startPBS(t, p)
}

func startVE(t *testing.T, o pve.Options) *pve.Server {
	t.Helper()
	o.LockTimeout = time.Millisecond
	s, err := pve.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func startPBS(t *testing.T, p realm.Product) *pbs.Server {
	t.Helper()
	o := pbs.Options{Product: pbs.BackupServer, LockTimeout: time.Millisecond}
	if p == realm.DatacenterManager {
		o.Product = pbs.DatacenterManager
	}
	s, err := pbs.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// productOf returns the product of a lab.
func productOf(s server) realm.Product {
	if s, ok := s.(*pbs.Server); ok {
		p, _ := realm.ParseProduct(s.Product().Name)
		return p
	}
	return realm.VE
}

// setup is what a client is made from.
type setup struct {
	config.Proxmox
	proxmox.Options
}

// connect makes a client that uses one of a lab's tokens.
func connect(t *testing.T, s server, token string, changes ...func(*setup)) *proxmox.Client {
	t.Helper()
	o := setup{
		Proxmox: config.Proxmox{Product: productOf(s), Endpoints: []config.Origin{config.Origin(s.URL())}, CA: x509.NewCertPool(), Timeout: time.Minute},
		Options: proxmox.Options{Cleaner: check.NewCleaner()},
	}
	o.CA.AppendCertsFromPEM(s.CertificatePEM())
	var err error
	if o.Token, err = config.ParseToken(o.Product, s.Token(token)); err != nil {
		t.Fatal(err)
	}
	for _, change := range changes {
		change(&o)
	}
	c, err := proxmox.New(o.Proxmox, o.Options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.Hurry()
	return c
}

const tokenSecret = "7c5a3d1e-9b1f-4f0e-8f3b-2d1c0b9a8f7e"

// withToken replaces the token by realmadm's of a product.
func withToken(t *testing.T, p realm.Product) func(*setup) {
	t.Helper()
	token, err := config.ParseToken(p, "realmadm@"+p.String()+"!agent"+p.TokenSeparators()[:1]+tokenSecret)
	if err != nil {
		t.Fatal(err)
	}
	return func(o *setup) { o.Token = token }
}

// failing starts a lab that answers every request with a fault, and a client of it.
func failing(t *testing.T, p realm.Product, fault pve.Rule, changes ...func(*setup)) (server, *proxmox.Client) {
	t.Helper()
	s := start(t, p)
	s.Inject(fault)
	return s, connect(t, s, pve.TokenRealmAllocate, changes...)
}

// cluster starts a lab with so many nodes, and a client of all of them.
func cluster(t *testing.T, nodes int, changes ...func(*setup)) (*pve.Server, *proxmox.Client) {
	t.Helper()
	s := startVE(t, pve.Options{Nodes: make([]pve.Node, nodes)})
	every := func(o *setup) {
		o.Endpoints = nil
		for _, url := range s.URLs() {
			o.Endpoints = append(o.Endpoints, config.Origin(url))
		}
	}
	return s, connect(t, s, pve.TokenRoot, append([]func(*setup){every}, changes...)...)
}

func ok(data string) pve.Rule {
	return pve.Rule{Status: http.StatusOK, Reason: "OK", Body: `{"data":` + data + `}`}
}

func fails(status int, reason string) pve.Rule { return pve.Rule{Status: status, Reason: reason} }

func page(status int, html string) pve.Rule {
	return pve.Rule{Status: status, ContentType: "text/html", Body: html}
}

func redirect(status int, to string) pve.Rule {
	return pve.Rule{Status: status, Header: http.Header{"Location": {to}}}
}

// asked lists the requests of a lab.
func asked(s server) string {
	var out []string
	for _, r := range s.Requests() {
		out = append(out, r.Method+" "+strings.TrimPrefix(r.Path, "/api2/json"))
	}
	return strings.Join(out, ", ")
}

// codes holds the code of each kind of error.
var codes = map[proxmox.Kind]check.Code{
	proxmox.BadCredentials: check.BadCredentials, proxmox.PermissionDenied: check.PermissionDenied,
	proxmox.Absent: check.Conflict, proxmox.Exists: check.Conflict, proxmox.StaleDigest: check.Conflict,
	proxmox.LockTimeout: check.LockTimeout, proxmox.NoQuorum: check.NoQuorum,
	proxmox.Invalid: check.Config, proxmox.UnknownRole: check.Config, proxmox.UnknownProperty: check.UnknownProperty, proxmox.WrongType: check.WrongType,
	proxmox.Unreachable: check.Unreachable, proxmox.NoAnswer: check.Unreachable, proxmox.Certificate: check.UnknownCertificate,
	proxmox.LoginRefused: check.Internal,
}

// isKind reports an error that is not of a kind, or has not its code.
func isKind(t *testing.T, name string, err error, want proxmox.Kind) *proxmox.Error {
	t.Helper()
	var e *proxmox.Error
	if !errors.As(err, &e) || e.Kind != want || check.CodeOf(err) != cmp.Or(codes[want], check.ProxmoxFailed) {
		t.Errorf("%s: %v, code %s, want %s", name, err, check.CodeOf(err), want)
		return &proxmox.Error{}
	}
	if conflict := codes[want] == check.Conflict; errors.Is(err, realm.ErrConflict) != conflict {
		t.Errorf("%s: ErrConflict is %v", name, !conflict)
	}
	return e
}

// hintOf is the hint of an error for readers of a configuration file.
func hintOf(err error) string { return check.HintOf(err).For(check.Names{}) }

// recorded is one exchange with the real handlers.
type recorded struct {
	ID, Auth, Method, Path, Body string
	Response                     struct {
		Status      int
		Reason      string
		ContentType *string `json:"content_type"`
		SetCookie   string  `json:"set_cookie"`
		Body        json.RawMessage
	}
}

// transcripts holds the recordings of each product.
var transcripts = map[realm.Product][]string{
	realm.VE: {
		"proxmox-ve-9.2", "proxmox-ve-9.2-users", "proxmox-ve-9.2-access", "proxmox-ve-9.2-init", "proxmox-ve-9.2-syslog",
	},
	realm.BackupServer: {"proxmox-backup-4.2", "proxmox-backup-4.2-setup"},
}

// exchanges returns all exchanges of recordings.
func exchanges(t *testing.T, names ...string) []recorded {
	t.Helper()
	var all []recorded
	for _, name := range names {
		raw, err := os.ReadFile("../lab/testdata/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var file struct{ Exchanges []recorded }
		if err := json.Unmarshal(raw, &file); err != nil {
			t.Fatal(err)
		}
		all = append(all, file.Exchanges...)
	}
	if len(all) < 90 {
		t.Fatalf("only %d exchanges", len(all))
	}
	return all
}

// exchangeOf returns one exchange of a product.
func exchangeOf(t *testing.T, p realm.Product, id string) recorded {
	t.Helper()
	all := exchanges(t, transcripts[p]...)
	i := slices.IndexFunc(all, func(r recorded) bool { return r.ID == id })
	if i < 0 {
		t.Fatalf("no exchange %s", id)
	}
	return all[i]
}

// body is the body of the answer.
func (r recorded) body() string {
	var text string
	if json.Unmarshal(r.Response.Body, &text) == nil {
		return text
	}
	return string(r.Response.Body)
}

// rule makes a lab answer as it was recorded.
func (r recorded) rule() pve.Rule {
	rule := pve.Rule{Status: r.Response.Status, Reason: r.Response.Reason, Body: r.body(), ContentType: "-", Header: http.Header{}}
	if r.Response.ContentType != nil {
		rule.ContentType = *r.Response.ContentType
	}
	if r.Response.SetCookie != "" {
		rule.Header.Set("Set-Cookie", r.Response.SetCookie)
	}
	return rule
}

// send sends the recorded request. The answer to a HEAD is what matters.
func (r recorded) send(t *testing.T, c *proxmox.Client) error {
	t.Helper()
	return c.Send(t.Context(), strings.Replace(r.Method, http.MethodHead, http.MethodGet, 1), r.Path, r.Body)
}

// inMemory makes a client whose requests a function answers without a connection: it sees what is sent, and time can be a test's.
func inMemory(p realm.Product, answer func(req *http.Request, body string) (status int, data string)) *proxmox.Client {
	return proxmox.Over(p, func(req *http.Request) (*http.Response, error) {
		var sent []byte
		if req.Body != nil {
			sent, _ = io.ReadAll(req.Body)
		}
		status, data := answer(req, string(sent))
		return &http.Response{
			StatusCode: status, Status: http.StatusText(status), Request: req,
			Header: http.Header{"Content-Type": {"application/json;charset=UTF-8"}}, Body: io.NopCloser(strings.NewReader(data)),
		}, nil
	})
}
