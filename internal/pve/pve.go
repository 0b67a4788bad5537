// Package pve is the client for realms of Proxmox VE: reads and writes over github.com/luthermonson/go-proxmox, with
// own request and answer types, an own transport below it, and an error for each thing that Proxmox says.
//
// What it adds to that library: nothing outside 2xx is ever success; answers are bounded in size and time; redirects
// are not followed; a write whose answer did not come back is told apart from one that failed; reads go to the next
// node where one is away.
package pve

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/luthermonson/go-proxmox"

	"proxmox-realm/internal/check"
)

// Options say how to reach one cluster and as whom. Exactly one of Token and Username is set.
type Options struct {
	// Endpoints are origins of nodes of one cluster, https://host:port, tried in order.
	Endpoints []string
	// Prefer is the endpoint to try first, such as the one that answered last time; ignored unless it is in Endpoints.
	Prefer string

	// Token is an API token, complete: user@realm!id=secret.
	Token check.Secret
	// Username (user@realm), Password and, where the user has one as second factor, OTP (a TOTP code) log in for a
	// ticket with the first request. The ticket is renewed within its two hours; a code serves once.
	Username string
	Password check.Secret
	OTP      check.Secret

	// CA is a PEM file of certificates that replaces the system's CAs.
	CA []byte
	// Fingerprints are SHA-256 digests of the nodes' certificates (leaf, DER), in hexadecimal with or without colons.
	// They replace the system's CAs; with CA as well, both must hold.
	Fingerprints []string
	// Insecure trusts any certificate.
	Insecure bool

	// Timeout bounds each request, connecting included. Zero means 45 s: Proxmox itself gives up after 30.
	Timeout time.Duration
	// UserAgent names the program to Proxmox. Empty means "proxmox-realm".
	UserAgent string
	// Cleaner cleans what Proxmox says and learns the secrets met here: credentials, tickets, client keys.
	// Nil means one of the client's own.
	Cleaner *check.Cleaner
	// Log receives a debug record for each request: method, path, status, duration; never bodies or headers.
	// Nil means none.
	Log *slog.Logger
}

// Client talks to one cluster. It is safe for concurrent use.
//
// Connections go through the proxy that the environment names (HTTPS_PROXY, NO_PROXY), as administrators expect of every
// program; TLS ends at the node in any case, so a proxy sees no token.
type Client struct {
	*link
	endpoints []string // of this view
	auth      authenticator
}

// link is what a client shares with its views.
type link struct {
	all     []string // as configured
	http    *http.Client
	base    *http.Transport
	wire    *transport
	cleaner *check.Cleaner
	timeout time.Duration
	agent   string

	mu   sync.Mutex
	last string // the endpoint to try first
}

// New checks the options and makes a client; it sends nothing. Its errors are *[check.Error] with [check.Config].
func New(o Options) (*Client, error) {
	endpoints, err := origins(o.Endpoints)
	if err != nil {
		return nil, err
	}
	trust, err := o.trust()
	if err != nil {
		return nil, err
	}
	l := &link{all: endpoints, cleaner: o.Cleaner, timeout: o.Timeout, agent: o.UserAgent, last: endpoints[0]}
	if l.cleaner == nil {
		l.cleaner = check.NewCleaner()
	}
	if l.timeout <= 0 {
		l.timeout = 45 * time.Second
	}
	if l.agent == "" {
		l.agent = "proxmox-realm"
	}
	if prefer, err := origin(o.Prefer); err == nil && slices.Contains(endpoints, prefer) {
		l.last = prefer
	}
	auth, err := o.authenticator(l.cleaner)
	if err != nil {
		return nil, err
	}
	l.base = newBase(trust, l.timeout)
	l.wire = &transport{base: l.base, cleaner: l.cleaner, log: o.Log}
	l.http = &http.Client{
		Transport:     l.wire,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &Client{link: l, endpoints: endpoints, auth: auth}, nil
}

// Close closes idle connections, those of its views as well. The client may be used again.
func (c *Client) Close() { c.base.CloseIdleConnections() }

// Endpoint is the one that answered last, or else the one that will be tried first.
func (c *Client) Endpoint() string {
	order := c.order()
	if len(order) == 0 {
		return ""
	}
	return order[0]
}

// Endpoints are all of them, in the order of the options.
func (c *Client) Endpoints() []string { return slices.Clone(c.endpoints) }

// Identity is whom Proxmox takes the client for: user@realm!id of a token, user@realm of a ticket.
func (c *Client) Identity() string { return c.auth.identity() }

// On returns a view of the client that talks to one of its endpoints alone, and shares all else with it.
// Where the endpoint is not among them, every request of the view is a [check.Config] error.
func (c *Client) On(endpoint string) *Client {
	view := *c
	view.endpoints = nil
	if o, err := origin(endpoint); err == nil && slices.Contains(c.all, o) {
		view.endpoints = []string{o}
	}
	return &view
}

// As returns a view of the client that acts with a ticket that [Client.Login] got.
func (c *Client) As(s Session) *Client {
	view := *c
	view.auth = ticket(s)
	return &view
}

// Stats counts what a client and its views have sent so far.
type Stats struct {
	Requests   int // HTTP requests sent, refused ones included
	Handshakes int // TLS handshakes completed, resumptions included
	Resumed    int // of these: resumptions
}

// Stats returns the counts so far.
func (c *Client) Stats() Stats {
	return Stats{
		Requests:   int(c.wire.requests.Load()),
		Handshakes: int(c.wire.handshakes.Load()),
		Resumed:    int(c.wire.resumed.Load()),
	}
}

// Date returns what the last answer said the time was, and the local time halfway between the request's leaving and
// the answer's coming: their difference is that of the clocks, to a second or so. ok is false before the first answer.
func (c *Client) Date() (server, local time.Time, ok bool) {
	d := c.wire.date.Load()
	if d == nil {
		return time.Time{}, time.Time{}, false
	}
	return d.server, d.local, true
}

// mode says what may be done with a request whose answer does not come.
type mode int

const (
	read  mode = iota // ask the next endpoint
	write             // ask the next one where no connection was made; once sent, report it as lost
	once              // the same for what is no write of a realm
)

type exchangeKey struct{}

// exchange travels with a request's context to the transport.
type exchange struct {
	mode  mode
	limit int64 // bytes of an answer
	who   string
}

const (
	realmLimit = 1 << 20
	userLimit  = 16 << 20
)

// call lets send make one request, on the next endpoint where one cannot take it, and returns the endpoint that answered.
func (c *Client) call(ctx context.Context, m mode, auth authenticator, limit int64, send func(context.Context, *proxmox.Client) error) (string, error) {
	order := c.order()
	if len(order) == 0 {
		return "", check.Errorf(check.Config, "the endpoint is not one of this cluster").Try(check.Advise("name it in proxmox.endpoints"))
	}
	var failures []*Error
	for _, endpoint := range order {
		err := c.ask(ctx, m, auth, limit, endpoint, send)
		if err == nil {
			c.answered(endpoint)
			return endpoint, nil
		}
		var e *Error
		if !errors.As(err, &e) {
			return endpoint, err
		}
		if !e.connection() {
			if e.Status != 0 {
				c.answered(endpoint)
			}
			return endpoint, err
		}
		failures = append(failures, e)
		if m != read && e.sent {
			break
		}
	}
	return failures[0].Endpoint, joined(failures)
}

// ask makes one request to one endpoint, after a login where there is no ticket yet.
func (c *Client) ask(ctx context.Context, m mode, auth authenticator, limit int64, endpoint string, send func(context.Context, *proxmox.Client) error) error {
	who := auth.identity()
	request := func(ctx context.Context, x exchange, send func(context.Context, *proxmox.Client) error, credentials ...proxmox.Option) error {
		ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, errTimeout)
		defer cancel()
		options := append([]proxmox.Option{
			proxmox.WithHTTPClient(c.http), proxmox.WithUserAgent(c.agent), proxmox.WithLogger(silence{}),
		}, credentials...)
		err := send(context.WithValue(ctx, exchangeKey{}, x), proxmox.NewClient(endpoint+base, options...))
		return c.typed(err, endpoint)
	}
	credentials, err := auth.options(ctx, func(ctx context.Context, body map[string]string, answer *json.RawMessage) error {
		return request(ctx, exchange{mode: once, limit: realmLimit, who: who}, func(ctx context.Context, api *proxmox.Client) error {
			return api.Post(ctx, "/access/ticket", body, answer)
		})
	})
	if err != nil {
		var e *Error
		if errors.As(err, &e) {
			e.sent = false // what was asked for was not
		}
		return err
	}
	err = request(ctx, exchange{mode: m, limit: limit, who: who}, send, credentials...)
	var e *Error
	if errors.As(err, &e) && e.Kind == BadCredentials {
		auth.refused()
	}
	return err
}

// base is the path below which the API lives.
const base = "/api2/json"

// typed makes an error of the library's own, which it gives for answers that its types cannot hold, one of ours.
func (c *Client) typed(err error, endpoint string) error {
	var e *Error
	if err == nil || errors.As(err, &e) {
		if e != nil {
			return e // without the library's wrapping, which names the URL
		}
		return nil
	}
	return explained(&Error{Kind: BadAnswer, Endpoint: endpoint, Reason: c.cleaner.Clean(err.Error()), sent: true})
}

func (c *Client) answered(endpoint string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = endpoint
}

// order returns the endpoints of the view, the one that answered last first.
func (c *Client) order() []string {
	c.mu.Lock()
	last := c.last
	c.mu.Unlock()
	i := slices.Index(c.endpoints, last)
	if i < 0 {
		return c.endpoints
	}
	return slices.Concat(c.endpoints[i:i+1], c.endpoints[:i], c.endpoints[i+1:])
}

func origins(endpoints []string) ([]string, error) {
	if len(endpoints) == 0 {
		return nil, check.Errorf(check.Config, "no endpoint of Proxmox is given").Try(check.Advise("set proxmox.endpoints, or --endpoint"))
	}
	var out []string
	for _, e := range endpoints {
		o, err := origin(e)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, o) {
			out = append(out, o)
		}
	}
	return out, nil
}

func origin(endpoint string) (string, error) {
	hint := "write https://host:8006"
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		return "", check.Errorf(check.Config, "an endpoint is not a URL").Try(check.Advise("%s", hint))
	case u.Scheme != "https":
		return "", check.Errorf(check.Config, "the endpoint %s is not https: Proxmox would redirect plain http, after the token was sent", u.Host).Try(check.Advise("%s", hint))
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return "", check.Errorf(check.Config, "the endpoint %s is more than scheme, host and port", u.Host).Try(check.Advise("%s", hint))
	}
	return "https://" + strings.Replace(strings.ToLower(u.Host), "%", "%25", 1), nil // a zone (RFC 6874), which u.Host holds decoded
}

// newBase returns the transport below all else: HTTP/1.1 alone, as Proxmox speaks it, and no compression, so that the
// bound on an answer's size holds for what is kept in memory.
func newBase(trust *tls.Config, timeout time.Duration) *http.Transport {
	connect := min(timeout, 10*time.Second) // a node that is off costs this before the next is asked
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dialer(connect),
		TLSClientConfig:        trust,
		TLSHandshakeTimeout:    connect,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConnsPerHost:    2,
		IdleConnTimeout:        4 * time.Second, // PVE::APIServer::AnyEvent closes idle connections after 5
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	t.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, res *http.Response) error {
		if res.StatusCode != http.StatusOK {
			return &proxyError{status: res.Status}
		}
		return nil
	}
	return t
}

// silence keeps the library's logger, which prints bodies, from ever being connected.
type silence struct{}

func (silence) Debugf(string, ...any) {}
func (silence) Errorf(string, ...any) {}
func (silence) Infof(string, ...any)  {}
func (silence) Warnf(string, ...any)  {}
