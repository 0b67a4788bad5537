package pve

import "proxmox-realm/internal/fault"

// Kind says what went wrong in terms of Proxmox's API.
type Kind string

// The kinds.
const (
	Unreachable Kind = "unreachable" // no connection: name, TCP, TLS, or the node's proxy could not reach its daemon (595, 599)
	TimedOut    Kind = "timed-out"   // no complete answer within the timeout, or 596
	Interrupted Kind = "interrupted" // the caller's context ended
	Broken      Kind = "broken"      // the connection broke before the answer was complete
	Certificate Kind = "certificate" // the certificate is not trusted
	NotProxmox  Kind = "not-proxmox" // an answer that is not Proxmox VE's: another service, a portal, a proxy's page
	Redirected  Kind = "redirected"  // a redirect, which is never followed
	BadAnswer   Kind = "bad-answer"  // Proxmox's, but too large or not what this request is answered with

	BadCredentials   Kind = "bad-credentials"   // 401
	PermissionDenied Kind = "permission-denied" // 403

	Absent          Kind = "absent"           // the realm or user does not exist
	Exists          Kind = "exists"           // the realm to create exists
	StaleDigest     Kind = "stale-digest"     // the configuration changed since it was read
	LockTimeout     Kind = "lock-timeout"     // someone else holds the lock of the realm file
	NoQuorum        Kind = "no-quorum"        // the cluster cannot write
	UnknownProperty Kind = "unknown-property" // this version does not know a property
	Invalid         Kind = "invalid"          // a parameter is refused
	WrongType       Kind = "wrong-type"       // the realm is not an OpenID Connect realm

	IssuerUnreachable Kind = "issuer-unreachable" // the node cannot fetch the issuer's documents: DNS, TCP, CA, proxy, or 4xx and 5xx
	IssuerMismatch    Kind = "issuer-mismatch"    // the issuer names itself differently
	IssuerDocument    Kind = "issuer-document"    // the node cannot read the issuer's documents
	IssuerURL         Kind = "issuer-url"         // the realm's issuer-url is no absolute URL
	IssuerHung        Kind = "issuer-hung"        // 596: the issuer is silent, and one of the node's workers is blocked
	TooManyPending    Kind = "too-many-pending"   // a hundred logins are under way on this node
	LoginRefused      Kind = "login-refused"      // the login failed; the node's syslog knows why

	Failed Kind = "failed" // anything else that Proxmox answers
)

// Error is what came of a request that did not succeed. It unwraps to a *[fault.Error] with code, message and hint, and
// matches [realm.ErrConflict], [realm.ErrLost] and *[realm.UnknownPropertyError] where it is one. All text in it is clean.
type Error struct {
	Kind     Kind
	Status   int    // HTTP status; 0: no answer
	Reason   string // what Proxmox said, or what happened to the connection
	Endpoint string
	Method   string
	Path     string            // below /api2/json, without query
	Fields   map[string]string // what a 400 says about each parameter

	Path403     string   // PermissionDenied: the path that Proxmox named, or ""
	Privileges  []string // PermissionDenied: any of these would do
	Fingerprint string   // Certificate: SHA-256 of what was seen, as `pvenode cert info` prints it
	Found       string   // IssuerMismatch: what the issuer calls itself
	Expected    string   // IssuerMismatch: what the realm's issuer-url says
	Location    string   // Redirected: where to
	Lost        bool     // a write went out and its answer did not come back

	fault  *fault.Error
	causes []error
}

// Error returns the fault's message.
func (e *Error) Error() string { return e.fault.Message }

// Unwrap returns the fault and what else the error matches.
func (e *Error) Unwrap() []error { return append([]error{e.fault}, e.causes...) }
