package pve

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/luthermonson/go-proxmox"

	"proxmox-realm/internal/check"
)

// Send makes any request as the client makes its own.
func (c *Client) Send(ctx context.Context, method, path, body string) error {
	m, auth := read, c.auth
	if method != http.MethodGet {
		m = write
	}
	if len(path) > 15 && path[:15] == "/access/openid/" {
		m, auth = once, nobody{}
	}
	_, err := c.call(ctx, m, auth, realmLimit, func(ctx context.Context, api *proxmox.Client) error {
		var data json.RawMessage
		switch {
		case body != "":
			return api.Req(ctx, method, path, []byte(body), &data)
		default:
			return api.Req(ctx, method, path, nil, &data)
		}
	})
	return err
}

// SetNow moves the clock by which tickets age.
func (c *Client) SetNow(now func() time.Time) { c.auth.(*login).now = now }

// SetProxy takes the place of HTTPS_PROXY, which net/http reads once in a process and never for loopback addresses.
func (c *Client) SetProxy(u *url.URL) { c.base.Proxy = http.ProxyURL(u) }

// LookAt is [Look] where the name has these addresses.
func LookAt(ctx context.Context, host, port string, addresses ...netip.Addr) Front {
	return look(ctx, host, port, addresses, 3)
}

// Rule is a row of the table of texts.
type Rule struct {
	Path, Text string
	Kind       Kind
}

// Rules returns the table.
func Rules() []Rule {
	var out []Rule
	for _, r := range rules {
		out = append(out, Rule{r.path, r.text, r.kind})
	}
	return out
}

// Classify makes the error of an answer outside 2xx.
func Classify(status int, method, path, said string, fields map[string]string, c *check.Cleaner) *Error {
	e := &Error{Status: status, Method: method, Path: path, Endpoint: "https://pve1.example.com:8006", who: "realmadm@pve!agent", sent: true}
	classify(e, said, fields, c)
	return explained(e)
}

// Over returns a client over something else than a network.
func Over(trip func(*http.Request) (*http.Response, error)) *Client {
	c, err := New(Options{Endpoints: []string{"https://pve.example.com:8006"}, Token: check.NewSecret("a@pve!b=cccccccc")})
	if err != nil {
		panic(err)
	}
	c.wire.base = tripper(trip)
	return c
}

type tripper func(*http.Request) (*http.Response, error)

func (t tripper) RoundTrip(req *http.Request) (*http.Response, error) { return t(req) }
