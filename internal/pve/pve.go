// Package pve is the client for realms of Proxmox VE: reads and writes over github.com/luthermonson/go-proxmox, with
// own request and answer types, an own transport below it, and an error type for each thing that Proxmox says.
//
// What it adds to that library: nothing outside 2xx is ever success; answers are bounded in size and time; redirects
// are not followed; a write whose answer did not come back is told apart from one that failed; reads go to the next
// node where one is away.
package pve

import (
	"context"
	"log/slog"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fault"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/secret"
)

// Options say how to reach one cluster and as whom. Exactly one of Token and Username is set.
type Options struct {
	// Endpoints are origins of nodes of one cluster, https://host:port, tried in order.
	Endpoints []string
	// Prefer is the endpoint to try first, such as the one that answered last time; ignored unless it is in Endpoints.
	Prefer string

	// Token is an API token, complete: user@realm!id=secret.
	Token secret.Secret
	// Username (user@realm), Password and, where the user has one as second factor, OTP (a TOTP code) log in for a
	// ticket with the first request. The ticket is renewed within its two hours; a code serves once.
	Username string
	Password secret.Secret
	OTP      secret.Secret

	// CA is a PEM file of certificates that replaces the system's CAs.
	CA []byte
	// Fingerprints are SHA-256 digests of the nodes' certificates (leaf, DER), in hexadecimal with or without colons.
	// They replace the system's CAs; with CA as well, both must hold.
	Fingerprints []string
	// Insecure trusts any certificate.
	Insecure bool

	// Timeout bounds each request, connecting included. Zero means 45 s.
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
type Client struct{}

// New checks the options and makes a client; it sends nothing. Its errors are *[fault.Error] with [fault.Config].
func New(o Options) (*Client, error) { return nil, fault.New(fault.Internal, "not yet") }

// Close closes idle connections, those of its views as well. The client may be used again.
func (c *Client) Close() {}

// Endpoint is the one that answered last, or else the one that will be tried first.
func (c *Client) Endpoint() string { return "" }

// Endpoints are all of them, in the order of the options.
func (c *Client) Endpoints() []string { return nil }

// Identity is whom Proxmox takes the client for: user@realm!id of a token, user@realm of a ticket.
func (c *Client) Identity() string { return "" }

// On returns a view of the client that talks to one of its endpoints alone, and shares all else with it.
// Where the endpoint is not among them, every request of the view is a [fault.Config] error.
func (c *Client) On(endpoint string) *Client { return nil }

// As returns a view of the client that acts with a ticket that [Client.Login] got.
func (c *Client) As(s Session) *Client { return nil }

// Stats counts what a client and its views have sent so far.
type Stats struct {
	Requests   int // HTTP requests sent, refused ones included
	Handshakes int // TLS handshakes completed, resumptions included
	Resumed    int // of these: resumptions
}

// Stats returns the counts so far.
func (c *Client) Stats() Stats { return Stats{} }

// Date returns what the last answer said the time was, and the local time halfway between the request's leaving and
// the answer's coming: their difference is that of the clocks, to a second or so. ok is false before the first answer.
func (c *Client) Date() (server, local time.Time, ok bool) { return }

// Realm reads a realm (GET /access/domains/{realm}). One that does not exist is the zero Current and no error.
// It needs Realm.Allocate or Sys.Audit on /access/realm.
func (c *Client) Realm(ctx context.Context, name string) (realm.Current, error) {
	return realm.Current{}, nil
}

// Create adds a realm (POST /access/domains). Errors match [realm.ErrConflict] where it exists already,
// [realm.ErrLost] where the answer did not come back, and *[realm.UnknownPropertyError].
func (c *Client) Create(ctx context.Context, p realm.Params) error { return nil }

// Update changes a realm (PUT /access/domains/{realm}). It refuses to send what Proxmox would swallow to the
// realm's harm: a missing or empty digest, an empty issuer-url or client-id, and removing username-claim. Errors match
// [realm.ErrConflict] where the digest is stale or the realm is gone, else as those of [Client.Create].
func (c *Client) Update(ctx context.Context, name string, p realm.Params) error { return nil }

// Delete removes a realm (DELETE /access/domains/{realm}). An error that matches [realm.ErrLost] means that it may still
// take effect, up to a minute later; one that matches [realm.ErrConflict], that the realm is gone already.
func (c *Client) Delete(ctx context.Context, name string) error { return nil }

// Version asks for the Proxmox VE version (GET /version).
func (c *Client) Version(ctx context.Context) (realm.Version, error) { return realm.Version{}, nil }

// Permissions returns the client's own privileges at a path such as /access/realm, those inherited from above included.
func (c *Client) Permissions(ctx context.Context, path string) (map[string]bool, error) {
	return nil, nil
}

// User is a user as Proxmox lists it.
type User struct {
	ID      string // user@realm
	Enabled bool
	Expire  time.Time // zero: never
	Email   string
	Name    string // first and last name
	Comment string
	Groups  []string // from [Client.User] alone
}

// Users returns the users of a realm. Proxmox answers an empty list to whom it does not show users, so the privilege is
// asked for first: without Sys.Audit or User.Modify on /access/groups, Visible is false and there is no list.
func (c *Client) Users(ctx context.Context, realmName string) (realm.Users, []User, error) {
	return realm.Users{}, nil, nil
}

// User reads one user with its groups; false where there is none.
func (c *Client) User(ctx context.Context, userID string) (User, bool, error) {
	return User{}, false, nil
}

// UserPermissions returns a user's privileges by path; the client's own where userID is empty. Those of others
// need Sys.Audit on /access.
func (c *Client) UserPermissions(ctx context.Context, userID string) (map[string]map[string]bool, error) {
	return nil, nil
}

// AuthURL is the authorization URL that Proxmox made for a login (OpenID Connect Core 3.1.2.1, RFC 7636).
type AuthURL struct {
	Endpoint string // the node that made it: it alone can complete the login
	Raw      string

	Location            string // the authorization endpoint: the URL without its query
	ResponseType        string
	ClientID            string
	Scopes              []string // as sent: openid comes twice where the realm lists it
	RedirectURI         string
	State               string
	Nonce               string
	CodeChallenge       string
	CodeChallengeMethod string
	Prompt              string
	Display             string
	ACRValues           []string
}

// AuthURL makes a node discover the issuer and returns the authorization URL that it would send a browser to
// (POST /access/openid/auth-url). No credentials are sent. It leaves one of a hundred pending logins behind for 10
// minutes, and where the issuer is silent, a blocked worker on the node: an [Error] of [IssuerHung].
func (c *Client) AuthURL(ctx context.Context, realmName, redirectURL string) (AuthURL, error) {
	return AuthURL{}, nil
}

// Session is a completed login.
type Session struct {
	Endpoint string // the node that completed it
	Username string // user@realm
	Ticket   secret.Secret
	CSRF     secret.Secret
	Cap      map[string]map[string]bool // privileges by area, as the web interface uses them
}

// Login completes a login with what the issuer sent the browser back with (POST /access/openid/login), on the node that
// made the authorization URL: use [Client.On] with [AuthURL].Endpoint. No credentials are sent. Any refusal is an [Error]
// of [LoginRefused]: the reason is in that node's syslog alone.
func (c *Client) Login(ctx context.Context, state, code, redirectURL string) (Session, error) {
	return Session{}, nil
}
