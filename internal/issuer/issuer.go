// Package issuer looks at an OpenID Connect issuer from here: whether it can be reached and trusted, what
// it says of itself (OpenID Connect Discovery 1.0), and whether it takes a client's id, key and redirect URLs
// (RFC 6749), all without a user.
//
// A check fails only on proof that a login through Proxmox would break. What an issuer does not advertise
// may still work, and an answer that this package does not recognise is no verdict.
package issuer

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// Options configure a [Client]. The zero value is usable.
type Options struct {
	Roots     *x509.CertPool // the authorities to trust; nil: the system's
	Timeout   time.Duration  // of each request, its body included; 0: [DefaultTimeout]
	UserAgent string         // an administrator finds our requests by it in the issuer's log
	Cleaner   *check.Cleaner // cleans what the issuer says
	Log       *slog.Logger   // nil: silent
}

// DefaultTimeout is how long one request to an issuer may take.
const DefaultTimeout = 10 * time.Second

const (
	inspectionTimeout = 15 * time.Second // of discovery and keys together
	quickTime         = 5 * time.Second  // in which both must come for Proxmox to be asked too
	defaultMaxSkew    = 5 * time.Minute
)

// Client inspects issuers that one set of authorities vouches for. It is safe for concurrent use.
type Client struct {
	transport *http.Transport
	timeout   time.Duration
	userAgent string
	cleaner   *check.Cleaner
	log       *slog.Logger
}

// New returns a Client.
func New(o Options) *Client {
	c := &Client{timeout: o.Timeout, userAgent: o.UserAgent, cleaner: o.Cleaner, log: o.Log}
	if c.timeout <= 0 {
		c.timeout = DefaultTimeout
	}
	if c.userAgent == "" {
		c.userAgent = "proxmox-realm"
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.cleaner == nil {
		c.cleaner = check.NewCleaner()
	}
	c.transport = newTransport(o.Roots)
	return c
}

// Close closes idle connections. Running inspections end with their own context.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Inspection is one look at one issuer: two requests, shared by every target that uses the issuer, and the
// questions about its clients. It is safe for concurrent use.
type Inspection struct {
	client *Client
	issuer string
	done   chan struct{} // closed once the fields below are written; they do not change afterwards

	address   check.Check // issuer.url
	discovery answer
	document  document
	docErr    check.Check // what is wrong with the document; zero where it holds
	keys      answer
	keySet    keySet
	keysErr   check.Check
	took      time.Duration // both requests

	limit limit
	// What was asked about clients, each question once.
	credentials memo[credentialsQuestion, Verdict]
	redirects   memo[redirectQuestion, Verdict]
}

// Inspect starts the requests for discovery document and keys in the background and returns at once. They end
// with ctx, or after 15 s in all.
func (c *Client) Inspect(ctx context.Context, issuerURL string) *Inspection {
	i := &Inspection{client: c, issuer: issuerURL, done: make(chan struct{}), address: examineURL(issuerURL)}
	go func() {
		defer close(i.done)
		i.run(ctx)
	}()
	return i
}

func (i *Inspection) run(ctx context.Context) {
	if !requestable(i.issuer) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, inspectionTimeout)
	defer cancel()
	begin := time.Now()
	defer func() { i.took = time.Since(begin) }()

	i.discovery = i.client.get(ctx, wellKnown(i.issuer))
	i.limit.note(i.discovery)
	if i.document, i.docErr = parseDiscovery(i.issuer, i.discovery); i.docErr.Status != "" {
		return
	}
	if !secureEndpoint(i.document.JWKSURI) {
		return // issuer.endpoints says so
	}
	i.keys = i.client.get(ctx, i.document.JWKSURI)
	i.limit.note(i.keys)
	i.keySet, i.keysErr = parseKeys(i.keys)
	i.client.log.Debug("issuer inspected", "issuer", i.issuer, "keys", len(i.keySet.keys), "took", time.Since(begin))
}

// wellKnown returns the address of the discovery document (OpenID Connect Discovery 1.0, section 4.1), as
// openidconnect-rs and go-oidc form it.
func wellKnown(issuerURL string) string {
	return strings.TrimSuffix(issuerURL, "/") + "/.well-known/openid-configuration"
}

// requestable tells whether the issuer URL can be asked at all: https, with a host, and without credentials.
func requestable(issuerURL string) bool {
	u, err := url.Parse(issuerURL)
	return err == nil && u.Scheme == "https" && u.Hostname() != "" && u.User == nil
}

// Wait returns nil once the inspection has ended, whatever it found, and ctx's error where that ends first.
func (i *Inspection) Wait(ctx context.Context) error {
	select {
	case <-i.done:
		return nil
	default:
	}
	select {
	case <-i.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Quick tells whether discovery and keys came within 5 s in all: the condition under which Proxmox may be
// asked for its authorization URL (a silent issuer blocks one of its workers for good). It waits for the inspection.
func (i *Inspection) Quick() bool {
	<-i.done
	return i.discovery.arrived() && i.keys.arrived() && i.took <= quickTime
}

// Certificate returns the end of the lifetime of the issuer's certificate, also of one that is not trusted;
// false where none was seen. It waits for the inspection.
func (i *Inspection) Certificate() (notAfter time.Time, ok bool) {
	<-i.done
	if len(i.discovery.certificates) == 0 {
		return time.Time{}, false
	}
	return i.discovery.certificates[0].NotAfter, true
}

// AuthorizationEndpoint returns where browsers are sent, where the issuer names an https URL. It waits for the inspection.
func (i *Inspection) AuthorizationEndpoint() (endpoint string, ok bool) {
	<-i.done
	if i.docErr.Status != "" || !secureEndpoint(i.document.AuthorizationEndpoint) {
		return "", false
	}
	return i.document.AuthorizationEndpoint, true
}

// NeedsVersion tells whether the verdict on the keys depends on the Proxmox generation. It waits for the inspection.
func (i *Inspection) NeedsVersion() bool {
	<-i.done
	older, newer := i.verifiable()
	return (len(older) == 0) != (len(newer) == 0)
}

// Reached tells whether this machine made a connection to the issuer. If not, the Proxmox node may still reach it:
// Proxmox's own discovery decides, and [View.Discovered] carries what it found. It waits for the inspection.
func (i *Inspection) Reached() bool {
	<-i.done
	return i.discovery.stage >= stageTLS
}

// Trusted tells whether this machine trusts the issuer's certificate. No client question is asked of an issuer that it does
// not trust. It waits for the inspection.
func (i *Inspection) Trusted() bool {
	<-i.done
	return i.discovery.stage >= stageSent
}

// LacksClaim tells whether the issuer advertises its claims, and not this one. That is no proof: an issuer may map claims
// that it does not advertise. It waits for the inspection.
func (i *Inspection) LacksClaim(claim string) bool {
	<-i.done
	return i.document.Claims != nil && !slices.Contains(i.document.Claims, claim)
}

// RateLimited tells whether any request to the issuer, discovery included, was answered 429, and after which time
// it may be asked again (0: it did not say). It waits for the inspection.
func (i *Inspection) RateLimited() (retryAfter time.Duration, limited bool) {
	<-i.done
	return i.limit.get()
}

// View holds what the verdict on an issuer depends on besides the issuer: the login and the Proxmox that uses it.
type View struct {
	Login       realm.Login
	Version     realm.Version // of Proxmox; zero: unknown; see [Inspection.NeedsVersion]
	ClockOffset time.Duration // Proxmox's clock minus the local one
	ClockKnown  bool          // ClockOffset was measured
	MaxSkew     time.Duration // allowed between issuer and Proxmox; 0: 5 minutes
	// Discovered: Proxmox's own discovery of this issuer succeeded. An issuer that only this machine cannot reach is then a
	// warning.
	Discovered bool
}

// Checks returns every issuer.* check in the order of the catalog, always all of them: one that depends
// on another which failed is a skip with the reason. It waits for the inspection.
func (i *Inspection) Checks(v View) []check.Check {
	<-i.done
	out := make([]check.Check, 0, len(rules))
	for _, r := range rules {
		out = append(out, i.apply(r, v, out))
	}
	return out
}

// apply runs one rule, unless something that it needs does not hold.
func (i *Inspection) apply(r rule, v View, before []check.Check) check.Check {
	for _, need := range r.needs {
		if c, ok := check.Find(before, need); ok && unmet(c) {
			return check.Skipped(r.id, "needs %s", need)
		}
	}
	c := r.check(i, v)
	c.ID = r.id
	return c
}

// unmet tells whether what depends on a check has nothing to go by. A warning is no obstacle.
func unmet(c check.Check) bool { return c.Status == check.Fail || c.Status == check.Skip }

// limit remembers the first 429 of an issuer.
type limit struct {
	mu         sync.Mutex
	limited    bool
	retryAfter time.Duration
}

func (l *limit) note(a answer) {
	if a.status != http.StatusTooManyRequests {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limited, l.retryAfter = true, max(l.retryAfter, a.retryAfter())
}

func (l *limit) get() (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.retryAfter, l.limited
}
