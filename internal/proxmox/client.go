// Package proxmox is the client for realms, groups and grants of Proxmox VE, Backup Server and Datacenter Manager, over
// github.com/luthermonson/go-proxmox. What differs between the products is in the table of dialect.go.
//
// It adds to that library: an answer outside 2xx is always an error. Answers are bounded in size and time. Redirects are
// not followed. An error tells whether a write may have taken effect. Reads go to the next node if one does not answer.
package proxmox

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	goproxmox "github.com/luthermonson/go-proxmox"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
)

// Options are what a client needs beside the configuration of its cluster.
type Options struct {
	UserAgent string         // names the program to Proxmox; "" means "proxmox-realm"
	Cleaner   *check.Cleaner // cleans texts of Proxmox and learns secrets; nil means one of the client's own
	Log       *slog.Logger   // gets a debug record for each request, never bodies or headers; nil means none
	// SecondFactor is asked for a one-time code, if the configuration has none and the user needs one. It gets what the user may use,
	// such as totp and webauthn, and is called once, after the password was accepted. nil: the login fails.
	SecondFactor func(ctx context.Context, factors []string) (code check.Secret, err error)
	// Dial makes connections; nil: those of TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// OnRequest is called as each request begins, and the function that it returns as the request ends. nil: nobody is told.
	OnRequest func() (ended func())
}

// defaultTimeout is longer than the 30 s after which Proxmox itself gives up.
const defaultTimeout = 45 * time.Second

// Client talks to one cluster. It is safe for concurrent use.
//
// Connections go through the proxy that the environment names (HTTPS_PROXY, NO_PROXY). TLS ends at the node, so the
// proxy does not see the token.
type Client struct {
	*link
	endpoints []config.Origin // of this view
	identity  identity
}

// link is what a client shares with its views.
type link struct {
	all     []config.Origin // as configured
	http    *http.Client
	base    *http.Transport
	wire    *transport
	cleaner *check.Cleaner
	timeout time.Duration
	agent   string
	dialect *dialect

	mu      sync.Mutex
	last    config.Origin // the endpoint to try first
	retries int
	lost    time.Duration // waiting for nodes that did not answer
	patient bool          // it has waited for a grant to be seen, see [Client.patience]
}

// New makes a client of a validated configuration. It sends nothing. It fails with [check.Config] if a user has no password,
// because no terminal could be asked for it.
func New(p config.Proxmox, o Options) (*Client, error) {
	if p.Token.IsZero() && p.Password.Reveal() == "" {
		return nil, check.Errorf(check.Config, "the password of %s is missing", p.Username).
			Try("set {proxmox.password_file}")
	}
	c := newClient(p, o)
	c.identity = c.dialect.credentials(p, o.SecondFactor, c.cleaner)
	return c, nil
}

// newClient makes a client without credentials.
func newClient(p config.Proxmox, o Options) *Client {
	l := &link{
		dialect: dialectOf(p.Product), all: p.Endpoints, cleaner: o.Cleaner, timeout: cmp.Or(p.Timeout, defaultTimeout),
		agent: cmp.Or(o.UserAgent, "proxmox-realm"), last: p.Endpoints[0],
	}
	if l.cleaner == nil {
		l.cleaner = check.NewCleaner()
	}
	l.base = newBase(trust(p), l.timeout)
	if o.Dial != nil {
		l.base.DialContext = o.Dial
	}
	l.wire = &transport{base: l.base, dialect: l.dialect, trust: p, cleaner: l.cleaner, log: o.Log, onRequest: o.OnRequest}
	l.http = &http.Client{Transport: l.wire}
	return &Client{link: l, endpoints: p.Endpoints}
}

// Close closes idle connections, also those of the client's views. The client may be used again.
func (c *Client) Close() { c.base.CloseIdleConnections() }

// Endpoint returns the endpoint that answered last. Before the first answer it is the one to be tried first.
func (c *Client) Endpoint() config.Origin { return c.order()[0] }

// Endpoints returns all endpoints in the order of the configuration.
func (c *Client) Endpoints() []config.Origin { return slices.Clone(c.endpoints) }

// Identity returns the name that Proxmox knows the client by: user@realm!id of a token, user@realm of a ticket.
func (c *Client) Identity() string { return c.identity.name }

// On returns a view of the client that uses a single endpoint of the cluster and shares everything else.
func (c *Client) On(endpoint config.Origin) *Client {
	view := *c
	view.endpoints = []config.Origin{endpoint}
	return &view
}

// As returns a view of the client that uses the ticket from [Client.Login].
func (c *Client) As(s Session) *Client {
	view := *c
	view.identity = c.dialect.session(s)
	return &view
}

// Requests counts the HTTP requests that the client and its views have sent.
func (c *Client) Requests() int { return int(c.wire.requests.Load()) }

// Retries counts the requests that another node was asked because one did not answer, and the time that this took.
func (c *Client) Retries() (requests int, lost time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.retries, c.lost
}

// ClockOffset returns how far Proxmox's clock was ahead of this machine's at the last answer, to about a second. It is
// false before the first answer, and if the answer had no Date header.
func (c *Client) ClockOffset() (time.Duration, bool) {
	offset := c.wire.offset.Load()
	if offset == nil {
		return 0, false
	}
	return *offset, true
}

// Served returns the fingerprint of the certificate that came with the last answer; false before the first one.
func (c *Client) Served() (config.Fingerprint, bool) {
	served := c.wire.served.Load()
	if served == nil {
		return config.Fingerprint{}, false
	}
	return *served, true
}

// request is one call of the API.
type request struct {
	method string
	path   string // below /api2/json
	body   any    // sent as JSON; nil: none
	write  bool   // changes realms, groups or grants: it is lost if no answer comes
	as     identity
	aside  *beside       // gets what stands beside the data; nil: it is not asked for
	limit  time.Duration // for the whole request, set as it is sent
}

// get reads what is at a path. It returns the endpoint that answered.
func (c *Client) get(ctx context.Context, path string, answer any) (config.Origin, error) {
	return c.do(ctx, request{method: http.MethodGet, path: path, as: c.identity}, answer)
}

// change sends a write.
func (c *Client) change(ctx context.Context, method, path string, body any) error {
	_, err := c.do(ctx, request{method: method, path: path, body: body, write: true, as: c.identity}, nil)
	return err
}

// do sends a request and decodes the `data` of its answer, unless answer is nil. If an endpoint does not answer, it asks
// the next one: for reads always, otherwise only if nothing was sent. It returns the endpoint that answered.
func (c *Client) do(ctx context.Context, r request, answer any) (config.Origin, error) {
	var failures []*Error
	for _, endpoint := range c.order() {
		began := time.Now()
		if !slices.Contains(c.all, endpoint) {
			return endpoint, check.Errorf(check.Config, "%s is not an endpoint of this cluster", endpoint.Host()).
				Try("set {proxmox.endpoints}")
		}
		err := c.ask(ctx, r, endpoint, answer)
		if c.patience(ctx, err) {
			err = c.ask(ctx, r, endpoint, answer)
		}
		err = c.mistaken(ctx, endpoint, err)
		var e *Error
		switch {
		case err == nil:
			c.remember(endpoint)
			return endpoint, nil
		case !errors.As(err, &e):
			return endpoint, err
		case !e.connection():
			if e.Status != 0 {
				c.remember(endpoint)
			}
			return endpoint, err
		}
		failures = append(failures, e)
		again := len(failures) < len(c.endpoints) && (r.method == http.MethodGet || !e.sent)
		c.lose(time.Since(began), again)
		if !again {
			break
		}
	}
	return failures[0].Endpoint, joined(failures)
}

// unusable returns the error of an answer that does not hold what the request asks for.
func (c *Client) unusable(method, path string, endpoint config.Origin, reason string) error {
	path, _, _ = strings.Cut(path, "?")
	return explained(&Error{
		dialect: c.dialect, Kind: NotProxmox, Status: http.StatusOK, Endpoint: endpoint, Method: method, Path: path,
		Reason: c.cleaner.Clean(reason), sent: true,
	})
}

// ask sends one request to one endpoint. It first logs in if the identity needs a ticket and has none.
func (c *Client) ask(ctx context.Context, r request, endpoint config.Origin, answer any) error {
	options, l := r.as.options, r.as.login
	var e *Error
	if l != nil {
		session, err := l.ticket(ctx, c, endpoint)
		if errors.As(err, &e) {
			e.sent = false // the login was sent, the request itself was not
		}
		if err != nil {
			return err
		}
		options = c.dialect.session(session).options
	}
	err := c.send(ctx, r, endpoint, options, answer)
	if l != nil && errors.As(err, &e) && e.Kind == BadCredentials {
		l.discard()
	}
	return err
}

// base is the path below which the API lives.
const base = "/api2/json"

// requestKey is the key of a [request] in its context, where the transport finds it.
type requestKey struct{}

// send sends a request and decodes the `data` of its answer, unless answer is nil.
func (c *Client) send(
	ctx context.Context, r request, endpoint config.Origin, credentials []goproxmox.Option, answer any,
) error {
	r.limit = c.timeout
	ctx, cancel := context.WithTimeoutCause(ctx, r.limit, errTimeout)
	defer cancel()
	ctx = context.WithValue(ctx, requestKey{}, r)
	var body []byte
	if r.body != nil {
		body, _ = json.Marshal(r.body) // texts, numbers and booleans always marshal
	}
	// A logger of no level is silent: the library's own prints bodies.
	options := append([]goproxmox.Option{
		goproxmox.WithHTTPClient(c.http), goproxmox.WithUserAgent(c.agent), goproxmox.WithLogger(&goproxmox.LeveledLogger{}),
	}, credentials...)
	var data json.RawMessage
	err := goproxmox.NewClient(string(endpoint)+base, options...).Req(ctx, r.method, r.path, body, &data)
	var e *Error
	switch {
	case errors.As(err, &e):
		return e // without the library's wrapping, which names the URL
	case err == nil && answer == nil:
		return nil
	case err == nil && (len(data) == 0 || string(data) == "null"):
		err = errors.New("no data")
	case err == nil:
		err = json.Unmarshal(data, answer)
	}
	if err != nil {
		return c.unusable(r.method, r.path, endpoint, "its answer does not hold what was asked for: "+check.JSONFault(err))
	}
	return nil
}

func (c *Client) remember(endpoint config.Origin) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = endpoint
}

func (c *Client) lose(waited time.Duration, again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost += waited
	if again {
		c.retries++
	}
}

// order returns the endpoints of the view, the one that answered last first.
func (c *Client) order() []config.Origin {
	c.mu.Lock()
	last := c.last
	c.mu.Unlock()
	i := slices.Index(c.endpoints, last)
	if i < 0 {
		return c.endpoints
	}
	return slices.Concat(c.endpoints[i:i+1], c.endpoints[:i], c.endpoints[i+1:])
}
