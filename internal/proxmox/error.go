package proxmox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/realm"
)

// Kind says what went wrong in terms of Proxmox's API.
type Kind string

// The kinds.
const (
	Unreachable Kind = "unreachable" // no connection: name, TCP or TLS
	NoAnswer    Kind = "no-answer"   // no complete answer: it took too long, or the connection broke
	Interrupted Kind = "interrupted" // the caller's context ended
	Unavailable Kind = "unavailable" // 595 to 599: the node got no answer from its daemon or from another node
	Certificate Kind = "certificate" // the certificate is not trusted
	NotProxmox  Kind = "not-proxmox" // the answer is not Proxmox VE's: another service, a portal, a redirect, no data

	BadCredentials   Kind = "bad-credentials"   // 401
	PermissionDenied Kind = "permission-denied" // 403

	Absent          Kind = "absent"           // the realm, user or group does not exist
	Exists          Kind = "exists"           // the realm or group to create exists
	StaleDigest     Kind = "stale-digest"     // the configuration changed since it was read
	LockTimeout     Kind = "lock-timeout"     // another task holds the lock of the configuration
	NoQuorum        Kind = "no-quorum"        // the cluster cannot write
	UnknownProperty Kind = "unknown-property" // this version does not know a property
	Invalid         Kind = "invalid"          // Proxmox rejects a parameter
	UnknownRole     Kind = "unknown-role"     // the role of a grant does not exist
	WrongType       Kind = "wrong-type"       // the realm is not an OpenID Connect realm

	IssuerUnreachable Kind = "issuer-unreachable" // the node cannot fetch the issuer's documents
	IssuerMismatch    Kind = "issuer-mismatch"    // the issuer's own name differs from issuer-url
	IssuerDocument    Kind = "issuer-document"    // the node cannot read the issuer's documents
	IssuerURL         Kind = "issuer-url"         // the realm's issuer-url is not an absolute URL
	IssuerHung        Kind = "issuer-hung"        // 596: the issuer is silent, and one of the node's workers is blocked
	TooManyPending    Kind = "too-many-pending"   // a hundred logins are pending on this node
	LoginRefused      Kind = "login-refused"      // the login failed; only the node's syslog holds the reason
	NoRealm           Kind = "no-realm"           // the realm of a login does not exist

	Failed Kind = "failed" // any other failure that Proxmox reports
)

// Error is a request that did not succeed. It unwraps to a *[check.Error] with code, message and remedy. It also matches
// [realm.ErrConflict], [realm.ErrLost] and *[realm.UnknownPropertyError] if it is one of these. All its texts are clean.
type Error struct {
	Kind     Kind
	Status   int    // HTTP status; 0: no answer
	Reason   string // what Proxmox said, or what happened to the connection
	Endpoint config.Origin
	Method   string
	Path     string // below /api2/json, without query
	Lost     bool   // a write was sent and no answer came

	Fields      map[string]string // what Proxmox said about each parameter
	DeniedPath  string            // PermissionDenied: the path that Proxmox named, or ""
	Privileges  []string          // PermissionDenied: any one of these suffices
	Fingerprint string            // Certificate: SHA-256 of the certificate, as `pvenode cert info` prints it
	Found       string            // IssuerMismatch: the issuer's own name

	described *check.Error // what users read
	causes    []error      // what else the error matches
	sent      bool         // the request may have been sent
	tooLarge  bool         // NotProxmox: the answer exceeds the limit
	who       string       // the identity it was sent as
	remedy    check.Hint   // found together with the kind
}

// Error returns the message.
func (e *Error) Error() string { return e.described.Error() }

// Unwrap returns the *[check.Error] and what else the error matches.
func (e *Error) Unwrap() []error {
	return append([]error{e.described}, e.causes...)
}

// connection tells whether another node may do better.
func (e *Error) connection() bool {
	return slices.Contains([]Kind{Unreachable, NoAnswer, Unavailable}, e.Kind)
}

// undecided tells whether a write that was sent may have taken effect.
func (e *Error) undecided() bool {
	switch e.Kind {
	case NoAnswer, Interrupted, Unavailable:
		return true
	case NotProxmox:
		return e.Status < 300 || e.Status >= 500
	case Failed: // a reverse proxy gave up
		return slices.Contains([]int{
			http.StatusRequestTimeout, http.StatusTooManyRequests,
			http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
		}, e.Status)
	}
	return false
}

// answered tells whether the failure is Proxmox's own answer, which the same request of a login would get as well.
func (e *Error) answered() bool { return e.Status != 0 && e.Kind != NotProxmox && !e.undecided() }

// rule is one row of the table that maps Proxmox's texts to kinds. Proxmox sends nothing but text.
type rule struct {
	path string // prefix of the request's path
	text string // parts of the text, in this order, separated by %
	kind Kind
}

// rules are tried in order. The texts are those of libpve-access-control, pve-cluster and libpve-common of Proxmox VE 7 to
// 9, and of the Rust crate openidconnect.
var rules = []rule{
	{authURLPath, "unexpected issuer URI", IssuerMismatch},
	{authURLPath, "Failed to parse server response", IssuerDocument},
	{authURLPath, "Server returned invalid response", IssuerDocument},
	{authURLPath, "Validation error", IssuerDocument},
	{authURLPath, "relative URL without a base", IssuerURL},
	{authURLPath, "Failed to parse URL", IssuerURL},
	{authURLPath, "Request failed", IssuerUnreachable},
	{"/access/openid/", "too many pending openid auth request", TooManyPending},
	{"/access/openid/", "wrong realm type", WrongType},
	{"/access/openid/", "authentication failure", LoginRefused},
	{"/access/openid/", "domain '%' does not exist", NoRealm},

	{"", "got lock request timeout", LockTimeout},
	{"", "got lock timeout", LockTimeout},
	{"", "- got timeout", LockTimeout}, // the file locks of PVE::Tools
	{"", "no quorum", NoQuorum},
	{"", "unable to open file '/etc/pve/%Permission denied", NoQuorum}, // pmxcfs is read-only without quorum
	{"", "detected modified configuration", StaleDigest},
	{realmsPath, "' already exists", Exists},
	{realmsPath + "/", "cannot lookup undefined type", Absent},
	{realmsPath, "domain '%' does not exist", Absent},
	{realmsPath, "unexpected property '", UnknownProperty}, // PVE::SectionConfig, after the schema of the API
	{realmsPath, "missing value for required option", Invalid},
	{realmsPath, "got undefined value for option", Invalid},
	{realmsPath, "type check ('", Invalid},

	{groupsPath, "group '%' already exists", Exists},
	{groupsPath, "group '%' does not exist", Absent},
	{aclPath, "group '%' does not exist", Absent},
	{aclPath, "user '%' does not exist", Absent},
	{aclPath, "role '%' does not exist", UnknownRole},
	{"/access/roles/", "role '%' does not exist", UnknownRole},
}

// notInSchema is the text of a 400 for a parameter that the API does not know (PVE::JSONSchema).
const notInSchema = "property is not defined in schema"

// noTicket is the text of a 401 for a request without credentials (PVE::HTTPServer).
const noTicket = "No ticket"

// classify fills in what an answer outside 2xx says.
func classify(e *Error, said string, fields map[string]string, c *check.Cleaner) {
	e.Reason = cmp.Or(c.Clean(said), fmt.Sprintf("status %d", e.Status))
	e.Fields = make(map[string]string, len(fields))
	var unknown []realm.Property
	for name, value := range fields {
		e.Fields[c.Clean(name)] = strings.TrimSuffix(c.Clean(value), ".")
		if strings.HasPrefix(value, notInSchema) {
			unknown = append(unknown, realm.Property(c.Clean(name)))
		}
	}
	e.Kind = e.kindOf(said, len(unknown) > 0)
	switch e.Kind {
	case PermissionDenied:
		e.DeniedPath, e.Privileges = denied(e.Reason)
	case IssuerMismatch:
		e.Found = between(e.Reason, "URI `", "`")
	case UnknownProperty:
		if len(unknown) == 0 {
			unknown = []realm.Property{realm.Property(between(e.Reason, "unexpected property '", "'"))}
		}
		slices.Sort(unknown)
		e.causes = append(e.causes, &realm.UnknownPropertyError{Properties: unknown})
		e.described = realm.LacksProperties(realm.Version{}, unknown)
	case StaleDigest, Exists, Absent:
		e.causes = append(e.causes, realm.ErrConflict)
	}
}

// kindOf decides by the status where it suffices, and by the text otherwise.
func (e *Error) kindOf(said string, unknownField bool) Kind {
	switch {
	case e.Status == 596 && e.Path == authURLPath:
		return IssuerHung
	case e.Status >= 595 && e.Status <= 599:
		return Unavailable
	case e.Status == 401 && e.Path == loginPath:
		return LoginRefused
	case e.Status == 401:
		return BadCredentials
	case e.Status == 403:
		return PermissionDenied
	case e.Status == 404: // for a path that it does not know, Proxmox sends 501
		return NotProxmox
	case e.Status == 400 && unknownField && strings.HasPrefix(e.Path, realmsPath):
		return UnknownProperty
	case e.Status == 400:
		return Invalid
	}
	for _, r := range rules {
		if strings.HasPrefix(e.Path, r.path) && contains(said, r.text) {
			return r.kind
		}
	}
	if len(e.Fields) > 0 {
		return Invalid
	}
	return Failed
}

// contains tells whether the text contains the pattern's parts, which % separates, in their order.
func contains(text, pattern string) bool {
	for part := range strings.SplitSeq(pattern, "%") {
		_, after, found := strings.Cut(text, part)
		if !found {
			return false
		}
		text = after
	}
	return true
}

// between returns the text between two others, or "".
func between(text, before, after string) string {
	_, rest, _ := strings.Cut(text, before)
	inner, _, found := strings.Cut(rest, after)
	if !found {
		return ""
	}
	return inner
}

// denied reads "Permission check failed (/access/realm, Realm.Allocate|Sys.Audit)" (PVE::RPCEnvironment).
func denied(reason string) (path string, privileges []string) {
	path, list, found := strings.Cut(between(reason, "(", ")"), ", ")
	if !found || !strings.HasPrefix(path, "/") {
		return "", nil
	}
	return path, strings.FieldsFunc(list, func(r rune) bool { return r == '|' || r == ',' || r == ' ' })
}

// reasonLost tells whether Proxmox failed and its reason is missing. Before libpve-http-server 5.2.0 the reason is only in
// the reason phrase, which HTTP/2 lacks and many reverse proxies replace.
func (e *Error) reasonLost() bool {
	return e.Kind == Failed && e.Status == http.StatusInternalServerError &&
		(e.Reason == http.StatusText(e.Status) || e.Reason == fmt.Sprintf("status %d", e.Status))
}

// interrupted describes a request that ended with the caller's context.
func (e *Error) interrupted(ctx context.Context) {
	cause := context.Cause(ctx)
	e.Kind, e.Reason, e.causes = Interrupted, "interrupted", []error{ctx.Err(), cause}
	var told *check.Error
	switch {
	case errors.As(cause, &told):
		e.described = told.Because(nil)
	case errors.Is(cause, context.DeadlineExceeded):
		e.described = check.Errorf(check.Unreachable, "%s %s took longer than this run may take", e.Method, e.Path).
			Try(check.Hint("allow more time"))
	}
}

// joined combines the failures of several endpoints.
func joined(failures []*Error) error {
	last := failures[len(failures)-1]
	if len(failures) == 1 {
		return last
	}
	var parts []string
	for _, f := range failures {
		parts = append(parts, string(f.Endpoint)+": "+f.Reason)
	}
	all := *last
	all.described = check.Errorf(last.described.Code, "no endpoint of the cluster answers: %s", strings.Join(parts, "; ")).
		Try(last.described.Hint)
	all.noteLoss()
	return &all
}
