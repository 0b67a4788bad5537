package proxmox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
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
	NotProxmox  Kind = "not-proxmox" // the answer is not of the declared product: another service, a portal, a redirect, no data

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
	IssuerHung        Kind = "issuer-hung"        // the issuer is silent, and a worker or thread of the node is blocked
	TooManyPending    Kind = "too-many-pending"   // a hundred logins are pending on this node
	LoginRefused      Kind = "login-refused"      // the login failed; of Proxmox VE, only the node's syslog holds the reason
	NoRealm           Kind = "no-realm"           // the realm of a login does not exist

	Failed Kind = "failed" // any other failure that Proxmox reports
)

// Error is a request that did not succeed. It unwraps to a *[check.Error] with code, message and remedy. It also matches
// [realm.ErrConflict] and [realm.ErrLost] if it is one of these. All its texts are clean.
type Error struct {
	Kind     Kind
	Status   int    // HTTP status; 0: no answer
	Reason   string // what Proxmox said, or what happened to the connection
	Endpoint config.Origin
	Method   string
	Path     string // below /api2/json, without query
	Lost     bool   // a write was sent and no answer came

	Fields      map[string]string // what Proxmox said about each parameter
	Unknown     []realm.Property  // parameters that Proxmox does not know, sorted
	DeniedPath  string            // PermissionDenied: the path that Proxmox named, or ""
	Privileges  []string          // PermissionDenied: any one of these suffices
	Fingerprint string            // Certificate: SHA-256 of the certificate
	Found       string            // IssuerMismatch: the issuer's own name; WrongType: the type, if it is known

	dialect   *dialect     // of the product that was declared
	described *check.Error // what users read
	causes    []error      // what else the error matches
	sent      bool         // the request may have been sent
	tooLarge  bool         // NotProxmox: the answer exceeds the limit
	foreign   bool         // a refusal of the credentials in the words of another product
	timedOut  bool         // it was sent, and no answer came in time
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
	case NoAnswer, Interrupted:
		return true
	case Unavailable: // nothing was sent on if the node's own daemon does not run
		return e.Status != e.dialect.handlerStatus
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

// answered tells whether the failure is Proxmox's own answer, or its silence, which the same request of a login would get as well.
func (e *Error) answered() bool {
	return e.Kind == IssuerHung || e.Status != 0 && e.Kind != NotProxmox && !e.undecided()
}

// noTicket is the text of a 401 for a request without credentials (PVE::HTTPServer).
const noTicket = "No ticket"

// classify fills in what an answer outside 2xx says.
func classify(e *Error, said string, fields map[string]string, c *check.Cleaner) {
	e.Reason = cmp.Or(c.Clean(said), fmt.Sprintf("status %d", e.Status))
	e.Fields = make(map[string]string, len(fields))
	for name, value := range fields {
		e.Fields[c.Clean(name)] = strings.TrimSuffix(c.Clean(value), ".")
		if strings.HasPrefix(value, e.dialect.unknown) {
			e.Unknown = append(e.Unknown, realm.Property(c.Clean(name)))
		}
	}
	slices.Sort(e.Unknown)
	e.Kind = e.kindOf(said, fields)
	switch e.Kind {
	case PermissionDenied:
		e.DeniedPath, e.Privileges = e.denied()
	case IssuerMismatch:
		e.Found = between(e.Reason, "URI `", "`")
	case WrongType:
		e.Found = between(e.Reason, "unexpected type '", "'")
	case UnknownProperty:
		if len(e.Unknown) == 0 {
			e.Unknown = []realm.Property{realm.Property(between(e.Reason, "unexpected property '", "'"))}
		}
		e.described = realm.LacksProperties(realm.Version{Product: e.dialect.product}, e.Unknown)
	case StaleDigest, Exists, Absent:
		e.causes = append(e.causes, realm.ErrConflict)
	}
}

// kindOf decides by the status where it suffices, and by the text otherwise.
func (e *Error) kindOf(said string, fields map[string]string) Kind {
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
	case e.Status == 400 && len(e.Unknown) > 0 && strings.HasPrefix(e.Path, e.dialect.realms):
		return UnknownProperty
	}
	if kind := e.phrased(said, fields); kind != "" {
		return kind
	}
	switch {
	case len(fields) > 0, e.Status == 400 && e.dialect.handlerStatus != 400:
		return Invalid
	case e.Status == 404: // for a path that it does not know, Proxmox VE sends 501
		return NotProxmox
	}
	return Failed
}

// phrased returns the kind that the table has for a text, or for the text about a parameter; "" if it has none.
func (e *Error) phrased(said string, fields map[string]string) Kind {
	texts := append(slices.Sorted(maps.Values(fields)), said)
	for _, r := range e.dialect.phrases {
		path := strings.Replace(r.path, "{realms}", e.dialect.realms, 1)
		if strings.HasPrefix(e.Path, path) && slices.ContainsFunc(texts, func(text string) bool { return contains(text, r.text) }) {
			return r.kind
		}
	}
	return ""
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

// denied returns the privileges that a request lacks, and their path. Proxmox VE names them: "Permission check failed
// (/access/realm, Realm.Allocate|Sys.Audit)" (PVE::RPCEnvironment). The other products do not: there, the table tells those of
// requests for realms.
func (e *Error) denied() (path string, names []string) {
	path, list, found := strings.Cut(between(e.Reason, "(", ")"), ", ")
	if found && strings.HasPrefix(path, "/") {
		return path, strings.FieldsFunc(list, func(r rune) bool { return r == '|' || r == ',' || r == ' ' })
	}
	if e.dialect.handlerStatus != http.StatusBadRequest || !strings.HasPrefix(e.Path, e.dialect.realms) {
		return "", nil
	}
	if e.Method == http.MethodGet && e.Path != e.dialect.realms {
		return e.dialect.read.path, e.dialect.read.all
	}
	return e.dialect.write.path, e.dialect.write.all[:1]
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
