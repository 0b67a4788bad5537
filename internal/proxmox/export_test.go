package proxmox

import (
	"context"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/realm"
)

// Send makes any request as the client makes its own.
func (c *Client) Send(ctx context.Context, method, path, body string) error {
	r := request{method: method, path: path, write: method != http.MethodGet, as: c.identity}
	if strings.HasPrefix(path, "/access/openid/") {
		r.write, r.as = false, identity{}
	}
	if body != "" {
		r.body = body
	}
	_, err := c.do(ctx, r, nil)
	return err
}

// Hurry makes a client report a missing privilege at once.
func (c *Client) Hurry() { c.patient = true }

// SetTimeout replaces the time limit of a request.
func (c *Client) SetTimeout(d time.Duration) { c.timeout = d }

// GotConn tells the trace of a request that it was sent.
func GotConn(req *http.Request) {
	httptrace.ContextClientTrace(req.Context()).GotConn(httptrace.GotConnInfo{Conn: &net.TCPConn{}})
}

// SetNow replaces the clock that tickets age by.
func (c *Client) SetNow(now func() time.Time) { c.identity.login.now = now }

// SetProxy replaces HTTPS_PROXY, which net/http reads once in a process and ignores for loopback addresses.
func (c *Client) SetProxy(u *url.URL) { c.base.Proxy = http.ProxyURL(u) }

// Phrase is a row of the table of texts.
type Phrase struct {
	Path, Text string
	Kind       Kind
}

// Phrases returns the table of a product.
func Phrases(p realm.Product) []Phrase {
	var out []Phrase
	d := dialectOf(p)
	for _, r := range d.phrases {
		out = append(out, Phrase{strings.Replace(r.path, "{realms}", d.realms, 1), r.text, r.kind})
	}
	return out
}

// Classify makes the error of an answer outside 2xx.
func Classify(p realm.Product, status int, method, path, said string, fields map[string]string, c *check.Cleaner) *Error {
	e := &Error{dialect: dialectOf(p), Status: status, Method: method, Path: path, Endpoint: "https://pve1.example.com:8006", who: "realmadm@pve!agent", sent: true}
	classify(e, said, fields, c)
	return explained(e)
}

// Over returns a client that uses a function in place of the network.
func Over(p realm.Product, trip func(*http.Request) (*http.Response, error)) *Client {
	c, err := New(config.Proxmox{
		Product: p, Endpoints: []config.Origin{"https://pve.example.com:8006"},
		Token: config.Token{User: config.UserID{Name: "a", Realm: "pve"}, ID: "bb", Secret: check.NewSecret("cccccccc")},
	}, Options{})
	if err != nil {
		panic(err)
	}
	c.wire.base = tripper(trip)
	return c
}

type tripper func(*http.Request) (*http.Response, error)

func (t tripper) RoundTrip(req *http.Request) (*http.Response, error) { return t(req) }
