// Package pve is a stand-in for the access API of Proxmox VE: the part of it
// that OpenID Connect realms need, answering byte for byte as the handlers of
// libpve-access-control behind pve-http-server do: status, reason phrase,
// headers, body, and the moment at which the connection closes.
//
// It is made for tests and for trying things out. It listens on loopback,
// keeps its state in memory or in one file, lets a test hold the lock of the
// realm file, change the state behind a client's back and break answers in
// many ways, and it really talks to an issuer when a login is asked for.
package pve

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"time"
)

// The delays of a real node, for those who want them. See [Options].
const (
	// RealDelay401 is how long a node holds back the answer to bad credentials.
	RealDelay401 = 3 * time.Second
	// RealLockTimeout is how long a write waits for the lock of the realm file.
	RealLockTimeout = 10 * time.Second
	// RealIssuerTimeout is how long the proxy waits for a worker that waits for an issuer.
	RealIssuerTimeout = 30 * time.Second
	// RealWorkers is how many workers a node's daemon has.
	RealWorkers = 3
)

// DefaultVersion is the version that a server reports and behaves like unless told otherwise.
const DefaultVersion = "9.2.11"

// Options says what kind of node to stand in for. The zero value is a node of
// [DefaultVersion] on a free port of 127.0.0.1, with a certificate of its own,
// the seed of [DefaultState], and no state file.
type Options struct {
	// Version is the version of the node, such as "9.2.11", "8.4.1", "8.1.4"
	// or "7.4-3". It decides which properties a realm may have, the shape of
	// /version and whether error bodies repeat the message.
	Version string
	// StateFile, if not empty, is a file that is read at the start, where it
	// exists, and replaced (mode 0600) after every change. The state in it wins over Seed.
	StateFile string
	// Seed is the state to begin with; nil means [DefaultState].
	Seed *State
	// Certificate is what the listener presents; without one, the server makes
	// a self-signed certificate for 127.0.0.1, ::1 and localhost.
	Certificate tls.Certificate
	// Listen is the address to listen on, by default 127.0.0.1:0.
	Listen string
	// IssuerClient is how the node reaches issuers: its CA store, its DNS, its
	// proxy. Its own redirect policy and timeout are not used. Nil means the system's.
	IssuerClient *http.Client
	// IssuerTimeout is how long the node waits for an issuer before it answers
	// 596; the worker stays blocked until the issuer answers. Zero means [RealIssuerTimeout].
	IssuerTimeout time.Duration
	// Delay401 holds back every 401 that follows refused credentials. Zero
	// means at once; a real node takes [RealDelay401].
	Delay401 time.Duration
	// LockTimeout is how long a write waits for the lock of the realm or user
	// file. Zero means [RealLockTimeout].
	LockTimeout time.Duration
	// Workers is how many requests the node's daemon handles at once: writes
	// and logins go through it. Zero means [RealWorkers].
	Workers int
	// Log receives one record for each request, never a secret, and the true
	// reason of each refused login, as a node's syslog does. Nil discards.
	Log *slog.Logger
}

// Names of the API tokens of [DefaultState], for [Server.Token].
const (
	TokenRoot              = "root"                // root@pam, without privilege separation
	TokenRealmAllocate     = "realm-allocate"      // Realm.Allocate on /access/realm
	TokenSysAudit          = "sys-audit"           // Sys.Audit on /access/realm
	TokenNoPrivilege       = "no-privilege"        // valid, and may do nothing
	TokenPrivsepWithoutACL = "privsep-without-acl" // separated, without ACL; its owner has Realm.Allocate
)

// Names of the users of [DefaultState] that can log in with a password, for [Server.User].
const (
	UserAdmin = "admin" // admin@pve, Administrator on /
	UserTOTP  = "totp"  // admin2@pve, with a one-time password as second factor
	UserRoot  = "root"  // root@pam
)

// Credentials are what a user logs in with.
type Credentials struct {
	Username   string // user@realm
	Password   string
	TOTPSecret string // Base32 without padding; empty where the user has no second factor
}

// Request is what the server remembers of one request. It holds no body and no secret.
type Request struct {
	Method string
	Path   string // as sent, without query
	Query  string // as sent
	Token  string // user@realm!id of an API token, user@realm of a ticket; empty if anonymous or refused
	Status int    // 0 while it is under way, or where the connection was dropped instead of an answer
	Begin  time.Time
}

// Handshakes counts TLS handshakes that a server completed.
type Handshakes struct {
	Full    int
	Resumed int
}

// Rule is a fault to inject into requests that match it. Exactly the faults
// that are set happen, in the order of the fields; a rule without a fault only counts.
type Rule struct {
	// Method to match; empty matches all.
	Method string
	// Path is a prefix of the path without /api2/json, such as "/access/domains/"; empty matches all.
	Path string
	// From is the number of the first matching request that is hit, counted
	// from 1; zero means the first.
	From int
	// Count is how many matching requests are hit; zero means all from then on.
	Count int

	// Drop closes the connection before anything is processed.
	Drop bool
	// Hang never answers nor processes: the connection stays open until the
	// client leaves, the rule is removed or the server closes.
	Hang bool
	// Delay processes the request only after that time, whether or not the client
	// is still there: a late DELETE.
	Delay time.Duration
	// Until, if not nil, processes the request only once it is closed, whether
	// or not the client is still there. It is the clockless form of Delay.
	Until <-chan struct{}
	// Before, if not nil, runs just before the request is processed, such as for a
	// change by somebody else that comes between a read and a write.
	Before func()
	// After, if not nil, runs after the request was processed and before it is answered.
	After func()
	// DropAnswer processes the request, then closes the connection instead of answering.
	DropAnswer bool
	// Status, if not zero, is answered instead of processing the request; Process processes it nevertheless.
	Status  int
	Process bool
	// Reason is the reason phrase that goes with Status.
	Reason string
	// Header is added to the answer, such as Location for a redirect.
	Header http.Header
	// Body is the answer's body that goes with Status.
	Body string
	// ContentType replaces the answer's content type; with "-" it has none.
	ContentType string
	// Garbage is written instead of an HTTP answer, then the connection is closed.
	Garbage string
	// Pad adds that many bytes of white space to the body.
	Pad int64
	// Endless goes on with white space after the body for as long as the client reads.
	Endless bool
	// Slow pauses that long after each byte of the body.
	Slow time.Duration
	// Truncate announces the whole body and closes the connection halfway.
	Truncate bool
}

// Fail is the rule that answers every request of method below path with a status and a reason phrase.
func Fail(method, path string, status int, reason string) Rule {
	return Rule{Method: method, Path: path, Status: status, Reason: reason}
}
