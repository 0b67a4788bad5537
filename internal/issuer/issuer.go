// Package issuer looks at an OpenID Connect issuer from here: whether it can be reached and trusted, what
// it says of itself (OpenID Connect Discovery 1.0), and whether it takes a client's id, key and redirect URLs
// (RFC 6749), all without a user.
//
// A check fails only on proof that a login through Proxmox would break. What an issuer does not advertise
// may still work, and an answer that this package does not recognise is no verdict.
package issuer

import (
	"context"
	"log/slog"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/secret"
)

// Options configure a [Client]. The zero value is usable.
type Options struct {
	CA        []byte           // PEM; replaces the system's authorities where set
	Timeout   time.Duration    // of each request, its body included; 0: [DefaultTimeout]
	UserAgent string           // with which an administrator finds our requests in the issuer's log
	Cleaner   *check.Cleaner   // cleans what the issuer says
	Log       *slog.Logger     // nil: silent
	Now       func() time.Time // nil: time.Now
}

// DefaultTimeout is how long one request to an issuer may take.
const DefaultTimeout = 10 * time.Second

// Client inspects issuers that one set of authorities vouches for. It is safe for concurrent use.
type Client struct{}

// New returns a Client. The error says what is wrong with Options.CA.
func New(o Options) (*Client, error) { return &Client{}, nil }

// Close closes idle connections. Running inspections end with their own context.
func (c *Client) Close() {}

// Inspection is one look at one issuer: two requests, shared by every target that uses the issuer, and the
// questions about its clients. It is safe for concurrent use.
type Inspection struct{}

// Inspect starts the requests for discovery document and keys in the background and returns at once. They end
// with ctx, or after 15 s in all.
func (c *Client) Inspect(ctx context.Context, issuerURL string) *Inspection { return &Inspection{} }

// URL returns the issuer URL that is inspected.
func (i *Inspection) URL() string { return "" }

// Wait returns nil once the inspection has ended, whatever it found, and ctx's error where that ends first.
func (i *Inspection) Wait(ctx context.Context) error { return nil }

// Quick tells whether discovery and keys came within 5 s in all: the condition under which Proxmox may be
// asked for its authorization URL (a silent issuer blocks one of its workers for good). It waits for the inspection.
func (i *Inspection) Quick() bool { return false }

// View is what one target makes of an issuer.
type View struct {
	Login realm.Login
	// Version is called only where the verdict depends on the Proxmox generation. Nil, or the zero version: unknown.
	Version func() realm.Version
	// Clock returns Proxmox's clock minus the local one. Nil or false: unknown.
	Clock   func() (offset time.Duration, ok bool)
	MaxSkew time.Duration // between issuer and Proxmox; 0: 5 minutes
}

// Checks returns every issuer.* check in the order of the catalog, always all of them: one that depends
// on another which failed is a skip with the reason. It waits for the inspection.
func (i *Inspection) Checks(ctx context.Context, v View) []check.Check { return nil }

// Certificate returns the end of the lifetime of the issuer's certificate, also of one that is not trusted;
// false where none was seen. It waits for the inspection.
func (i *Inspection) Certificate() (notAfter time.Time, ok bool) { return time.Time{}, false }

// AuthorizationEndpoint returns where browsers are sent, where the issuer names an https URL. It waits for the inspection.
func (i *Inspection) AuthorizationEndpoint() (endpoint string, ok bool) { return "", false }

// Stats returns the requests and the TLS handshakes made so far, client questions included.
func (i *Inspection) Stats() (requests, handshakes int) { return 0, 0 }

// Outcome is what an issuer makes of a client.
type Outcome int

// The outcomes.
const (
	NoVerdict   Outcome = iota // the answer proves nothing, or nothing could be asked
	Accepted                   // the issuer takes it
	Rejected                   // the issuer refuses it: a login through Proxmox would fail
	RateLimited                // the issuer limits requests (429): try again later
)

// Verdict is an outcome with its reason, for a gate to act upon.
type Verdict struct {
	Outcome    Outcome
	Reason     string        // what the issuer said, cleaned
	RetryAfter time.Duration // where the outcome is RateLimited; 0: the issuer did not say
}

// Question asks an issuer about a client.
type Question struct {
	Login             realm.Login
	RedirectURLs      []string // what browsers open; none: client.redirect is skipped
	RedirectsDeclared bool     // false: a refused redirect URL warns instead of failing
	Quiet             bool     // asked repeatedly: introspection in place of the token endpoint, where there is one
}

// Answer is what an issuer said to a [Question].
type Answer struct {
	Checks      []check.Check // client.credentials, client.redirect
	Credentials Verdict
	Redirect    Verdict // Rejected where one redirect URL is
}

// RateLimited tells whether the issuer limited one of the requests, and after which time it may be asked again
// (0: it did not say).
func (a Answer) RateLimited() (retryAfter time.Duration, limited bool) { return 0, false }

// Client asks whether the issuer accepts client id and key, and redirect URLs and scopes. Each distinct question
// is asked once for an inspection, however many callers have it; after a first 429, nothing more is asked.
// The key is sent only to an https endpoint of an issuer whose identity and endpoints hold, never along a redirect.
func (i *Inspection) Client(ctx context.Context, q Question) Answer { return Answer{} }

// Accepts asks whether the issuer takes this id and key, as [Inspection.Client] does and under the same rules.
func (i *Inspection) Accepts(ctx context.Context, clientID string, key secret.Secret, quiet bool) Verdict {
	return Verdict{}
}
