package pve

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// Kind says what went wrong in terms of Proxmox's API.
type Kind string

// The kinds.
const (
	Unreachable Kind = "unreachable" // no connection: name, TCP or TLS
	TimedOut    Kind = "timed-out"   // no complete answer within the timeout
	Broken      Kind = "broken"      // the connection broke before the answer was complete
	Interrupted Kind = "interrupted" // the caller's context ended
	Unavailable Kind = "unavailable" // 595 to 599: the node's proxy got no answer from its daemon or from another node
	Certificate Kind = "certificate" // the certificate is not trusted
	NotProxmox  Kind = "not-proxmox" // an answer that is not Proxmox VE's: another service, a portal, a proxy's page
	Redirected  Kind = "redirected"  // a redirect, which is never followed
	BadAnswer   Kind = "bad-answer"  // too large, cut off, or not what this request is answered with

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

// Error is what came of a request that did not succeed. It unwraps to a *[check.Error] with code, message and hint, and
// matches [realm.ErrConflict], [realm.ErrLost] and *[realm.UnknownPropertyError] where it is one. All text in it is clean.
type Error struct {
	Kind     Kind
	Status   int    // HTTP status; 0: no answer
	Reason   string // what Proxmox said, or what happened to the connection
	Endpoint string
	Method   string
	Path     string            // below /api2/json, without query
	Fields   map[string]string // what Proxmox says about each parameter

	DeniedPath  string   // PermissionDenied: the path that Proxmox named, or ""
	Privileges  []string // PermissionDenied: any of these would do
	Fingerprint string   // Certificate: SHA-256 of what was seen, as `pvenode cert info` prints it
	Found       string   // IssuerMismatch: what the issuer calls itself
	Expected    string   // IssuerMismatch: what the realm's issuer-url says
	Location    string   // Redirected: where to
	Lost        bool     // a write went out and its answer did not come back

	fault  *check.Error
	causes []error
	sent   bool   // the request may have gone out
	who    string // identity, for hints
	advice string // a hint that was found together with the kind
}

// Error returns the fault's message.
func (e *Error) Error() string { return e.fault.Error() }

// Unwrap returns the fault and what else the error matches.
func (e *Error) Unwrap() []error {
	all := make([]error, 0, len(e.causes)+2)
	if e.Lost {
		all = append(all, realm.ErrLost)
	}
	return append(append(all, e.fault), e.causes...)
}

// connection tells whether another node may do better.
func (e *Error) connection() bool {
	switch e.Kind {
	case Unreachable, TimedOut, Broken, Unavailable:
		return true
	}
	return false
}

// undecided tells whether a request that went out may have taken effect.
func (e *Error) undecided() bool {
	switch e.Kind {
	case TimedOut, Broken, Interrupted, Unavailable:
		return true
	case NotProxmox, BadAnswer:
		return e.Status < 300 || e.Status >= 500
	case Failed:
		return e.Status >= 502 && e.Status <= 504 // a gateway's, in front of Proxmox
	}
	return false
}

// rule is one row of the table that turns Proxmox's texts into kinds: it has nothing but text.
type rule struct {
	path string // the request's path begins so
	text string // the text contains this
	kind Kind
}

// rules are tried in order. The texts are those of libpve-access-control, pve-cluster, libpve-common, and of the Rust crate
// openidconnect, on the versions 7 to 9 of Proxmox VE.
var rules = []rule{
	{"/access/openid/auth-url", "unexpected issuer URI", IssuerMismatch},
	{"/access/openid/auth-url", "Failed to parse server response", IssuerDocument},
	{"/access/openid/auth-url", "Server returned invalid response", IssuerDocument},
	{"/access/openid/auth-url", "Validation error", IssuerDocument},
	{"/access/openid/auth-url", "relative URL without a base", IssuerURL},
	{"/access/openid/auth-url", "Failed to parse URL", IssuerURL},
	{"/access/openid/auth-url", "empty host", IssuerURL},
	{"/access/openid/auth-url", "invalid port number", IssuerURL},
	{"/access/openid/auth-url", "invalid international domain name", IssuerURL},
	{"/access/openid/auth-url", "invalid domain character", IssuerURL},
	{"/access/openid/auth-url", "invalid IPv", IssuerURL},
	{"/access/openid/auth-url", "Request failed", IssuerUnreachable},
	{"/access/openid/", "too many pending openid auth request", TooManyPending},
	{"/access/openid/", "wrong realm type", WrongType},
	{"/access/openid/", "authentication failure", LoginRefused},

	{"", "got lock request timeout", LockTimeout},
	{"", "got lock timeout", LockTimeout},
	{"", "- got timeout", LockTimeout}, // the file locks of PVE::Tools
	{"", "no quorum", NoQuorum},
	{"", "unable to open file '/etc/pve/%Permission denied", NoQuorum}, // pmxcfs is read-only without quorum
	{"", "detected modified configuration", StaleDigest},
	{"/access/domains", "' already exists", Exists},
	{"/access/domains/", "cannot lookup undefined type", Absent},
	{"", "domain '%' does not exist", Absent},
	{"/access/users/", "no such user", Absent},
	{"/access/users/", "user '%' does not exist", Absent},
	{"/access/permissions", "user '%' does not exist", Absent},
	{"/access/domains", "unexpected property '", UnknownProperty}, // PVE::SectionConfig, past the schema of the API
	{"/access/domains", "missing value for required option", Invalid},
	{"/access/domains", "got undefined value for option", Invalid},
	{"/access/domains", "type check ('", Invalid},
}

// notInSchema is what a 400 says of a parameter that the API does not know (PVE::JSONSchema).
const notInSchema = "property is not defined in schema"

// noTicket is what a 401 says where no credentials were seen (PVE::HTTPServer).
const noTicket = "No ticket"

// classify sets what kind of refusal an answer outside 2xx is.
func classify(e *Error, said string, fields map[string]string, c *check.Cleaner) {
	e.Reason = c.Clean(said)
	if e.Reason == "" {
		e.Reason = fmt.Sprintf("status %d", e.Status)
	}
	var unknown []string
	for name, says := range fields {
		if e.Fields == nil {
			e.Fields = map[string]string{}
		}
		e.Fields[c.Clean(name)] = c.Clean(says)
		if strings.HasPrefix(says, notInSchema) {
			unknown = append(unknown, c.Clean(name))
		}
	}
	e.Kind = kindOf(e.Status, e.Path, said, len(fields) > 0, len(unknown) > 0)
	switch e.Kind {
	case PermissionDenied:
		e.DeniedPath, e.Privileges = denied(e.Reason)
	case IssuerMismatch:
		e.Found, e.Expected = quoted(e.Reason, "URI `", "`"), quoted(e.Reason, "expected `", "`")
	case UnknownProperty:
		if len(unknown) == 0 {
			unknown = []string{quoted(e.Reason, "unexpected property '", "'")}
		}
		slices.Sort(unknown)
		properties := &realm.UnknownPropertyError{}
		for _, name := range unknown {
			properties.Properties = append(properties.Properties, realm.Property(name))
		}
		e.causes = append(e.causes, properties)
	}
}

func kindOf(status int, path, said string, fields, unknown bool) Kind {
	switch {
	case status == 596 && strings.HasPrefix(path, "/access/openid/auth-url"):
		return IssuerHung
	case status >= 595 && status <= 599:
		return Unavailable
	case status == 401 && path == "/access/openid/login":
		return LoginRefused
	case status == 401:
		return BadCredentials
	case status == 403:
		return PermissionDenied
	case status == 404: // Proxmox says 501 of a path that it does not know
		return NotProxmox
	case status == 400 && unknown && strings.HasPrefix(path, "/access/domains"):
		return UnknownProperty
	case status == 400:
		return Invalid
	}
	for _, r := range rules {
		if strings.HasPrefix(path, r.path) && says(said, r.text) {
			return r.kind
		}
	}
	if fields {
		return Invalid
	}
	return Failed
}

// mute tells whether Proxmox failed without a word: before libpve-http-server 5.2.0 its messages are in the reason phrase
// alone, which HTTP/2 does not have and many reverse proxies replace.
func mute(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == Failed && e.Status == http.StatusInternalServerError &&
		(e.Reason == http.StatusText(e.Status) || e.Reason == fmt.Sprintf("status %d", e.Status))
}

// says tells whether the text contains the pattern's parts, which % separates, in their order.
func says(text, pattern string) bool {
	for part := range strings.SplitSeq(pattern, "%") {
		_, after, found := strings.Cut(text, part)
		if !found {
			return false
		}
		text = after
	}
	return true
}

// quoted returns what stands between the two, or "".
func quoted(text, before, after string) string {
	_, rest, _ := strings.Cut(text, before)
	inner, _, found := strings.Cut(rest, after)
	if !found {
		return ""
	}
	return inner
}

// denied reads "Permission check failed (/access/realm, Realm.Allocate|Sys.Audit)" (PVE::RPCEnvironment).
func denied(reason string) (path string, privileges []string) {
	path, list, found := strings.Cut(quoted(reason, "(", ")"), ", ")
	if !found || !strings.HasPrefix(path, "/") {
		return "", nil
	}
	return path, strings.FieldsFunc(list, func(r rune) bool { return r == '|' || r == ',' || r == ' ' })
}

// explained gives an error its code, message and hint.
func explained(e *Error) *Error {
	code, message, hint := e.explain()
	e.fault = &check.Error{Code: code, Message: message, Remedy: check.Advice(hint)}
	if e.Kind == UnknownProperty {
		var unknown *realm.UnknownPropertyError
		if errors.As(errors.Join(e.causes...), &unknown) {
			e.fault = realm.LacksProperties(realm.Version{}, unknown.Properties)
		}
	}
	switch e.Kind {
	case StaleDigest, Exists, Absent:
		if e.onRealms() {
			e.causes = append(e.causes, realm.ErrConflict)
		}
	case Interrupted:
		var told *check.Error
		if errors.As(errors.Join(e.causes...), &told) { // whoever ended the context said why
			e.fault = told.Because(nil)
		}
	}
	if e.Lost {
		e.fault.Message += "; whether the change took effect is not known"
	}
	return e
}

// interrupted takes over why the caller's context ended.
func (e *Error) interrupted(ctx context.Context) {
	e.Kind, e.Reason = Interrupted, "interrupted"
	e.causes = append(e.causes, ctx.Err())
	if cause := context.Cause(ctx); !errors.Is(cause, ctx.Err()) {
		e.causes = append(e.causes, cause)
	}
}

// onRealms tells whether the request was one of those that change realms, or read one.
func (e *Error) onRealms() bool { return strings.HasPrefix(e.Path, "/access/domains") }

func (e *Error) explain() (code check.Code, message, hint string) {
	host := e.host()
	switch e.Kind {
	case Unreachable:
		return check.Unreachable, fmt.Sprintf("%s cannot be reached: %s", host, e.Reason), e.advice
	case TimedOut, Broken:
		return check.Unreachable, fmt.Sprintf("%s of %s: %s", e.request(), host, e.Reason), e.advice
	case Interrupted:
		if slices.Contains(e.causes, context.DeadlineExceeded) {
			return check.Unreachable, fmt.Sprintf("%s of %s: the time for it was over", e.request(), host), "--timeout allows for more"
		}
		return check.Interrupted, fmt.Sprintf("%s of %s was interrupted", e.request(), host), ""
	case Unavailable:
		return check.ProxmoxFailed, fmt.Sprintf("%s could not pass the request on: %d %s", host, e.Status, e.Reason),
			"`systemctl status pvedaemon pveproxy pve-cluster` on the node shows what is down"
	case Certificate:
		message := fmt.Sprintf("the certificate of %s is not trusted: %s", host, e.Reason)
		if e.Fingerprint != "" {
			message += fmt.Sprintf("; its SHA-256 fingerprint is %s: compare with `pvenode cert info`", e.Fingerprint)
		}
		return check.UnknownCertificate, message, e.advice
	case NotProxmox:
		return check.ProxmoxFailed, fmt.Sprintf("%s answers, but not as Proxmox VE does: %s", host, e.Reason), e.portHint()
	case Redirected:
		to := ""
		if e.Location != "" {
			to = " to " + e.Location
		}
		return check.ProxmoxFailed, fmt.Sprintf("%s answers with a redirect%s (%d %s): not followed", host, to, e.Status, e.Reason),
			"name the nodes themselves in proxmox.endpoints, each with its port"
	case BadAnswer:
		return check.ProxmoxFailed, fmt.Sprintf("%s of %s got an answer that is of no use: %s", e.request(), host, e.Reason), e.portHint()

	case BadCredentials:
		return check.BadCredentials, fmt.Sprintf("%s refuses %s: %s", host, e.whose(), e.Reason), e.credentialHint()
	case PermissionDenied:
		return check.PermissionDenied, e.lacking(), e.grantHint()

	case Absent:
		if !e.onRealms() {
			return check.ProxmoxFailed, fmt.Sprintf("%s: %s", host, e.Reason), "`proxmox-realm plan` shows what is missing"
		}
		return check.Conflict, fmt.Sprintf("%s: %s", host, e.Reason), "somebody removed it meanwhile: run again"
	case Exists:
		return check.Conflict, fmt.Sprintf("%s: %s", host, e.Reason), "somebody created it meanwhile: run again"
	case StaleDigest:
		return check.Conflict, fmt.Sprintf("%s: the realms were changed since they were read", host), "run again"
	case LockTimeout:
		return check.LockTimeout, fmt.Sprintf("%s: someone else holds the lock of its configuration: %s", host, e.Reason), "try again in a minute"
	case NoQuorum:
		return check.NoQuorum, fmt.Sprintf("%s cannot write: %s", host, e.Reason), "`pvecm status` on a node shows which others are missing"
	case Invalid:
		return check.Config, fmt.Sprintf("%s refuses %s", host, e.refusals()), e.keyHint()
	case WrongType:
		return check.WrongType, fmt.Sprintf("%s: %s", host, e.Reason), "name an OpenID Connect realm in realm.name"

	case IssuerUnreachable:
		return check.ProxmoxFailed, fmt.Sprintf("%s cannot fetch the issuer's discovery document or keys: %s", host, e.Reason),
			"on the node, `curl -v` the issuer's URL with /.well-known/openid-configuration: look at its DNS, its CA store (`update-ca-certificates`) and http_proxy in /etc/pve/datacenter.cfg"
	case IssuerMismatch:
		return check.ProxmoxFailed, fmt.Sprintf("the issuer calls itself %s, the realm has issuer-url %s", e.Found, e.Expected),
			fmt.Sprintf("set realm.issuer_url to %s, exactly", e.Found)
	case IssuerDocument:
		return check.ProxmoxFailed, fmt.Sprintf("%s cannot read the issuer's discovery document or keys: %s", host, e.Reason),
			"`proxmox-realm probe` shows what the issuer answers"
	case IssuerURL:
		return check.ProxmoxFailed, fmt.Sprintf("%s cannot use the realm's issuer-url: %s", host, e.Reason), "set realm.issuer_url to an https URL"
	case IssuerHung:
		return check.ProxmoxFailed, fmt.Sprintf("the issuer did not answer %s in 30 seconds, and one of the node's three workers stays blocked", host),
			"mend the way from the node to the issuer, then `systemctl restart pvedaemon` on the node"
	case TooManyPending:
		return check.ProxmoxFailed, fmt.Sprintf("%s has a hundred logins of this realm under way, and takes no more", host), "they end after 10 minutes: try again then"
	case LoginRefused:
		return check.Internal, fmt.Sprintf("%s refuses the login: %s", host, e.Reason),
			"the reason is in the node's syslog alone: `journalctl -u pvedaemon --since -5min`"
	}
	if mute(e) {
		return check.ProxmoxFailed, fmt.Sprintf("%s of %s fails, and no reason came with it", e.request(), host),
			"a reverse proxy in front of Proxmox may drop what it says: name the node itself in proxmox.endpoints; `journalctl -u pvedaemon -u pveproxy` on the node may say more"
	}
	said := e.Reason
	if e.Status != 500 { // which Proxmox gives for everything
		said = fmt.Sprintf("%d %s", e.Status, e.Reason)
	}
	return check.ProxmoxFailed, fmt.Sprintf("%s of %s fails: %s", e.request(), host, said),
		"`journalctl -u pvedaemon -u pveproxy` on the node may say more"
}

// host is the endpoint as people write it.
func (e *Error) host() string { return strings.TrimPrefix(e.Endpoint, "https://") }

func (e *Error) request() string {
	if e.Method == "" {
		return "the request"
	}
	return e.Method + " " + e.Path
}

func (e *Error) whose() string {
	switch {
	case e.who == "":
		return "a request without credentials"
	case strings.Contains(e.who, "!"):
		return "the API token " + e.who
	case e.Path == "/access/ticket":
		return "the login of " + e.who
	}
	return "the ticket of " + e.who
}

func (e *Error) credentialHint() string {
	if e.advice != "" {
		return e.advice
	}
	user, id, token := strings.Cut(e.who, "!")
	if token && e.Reason == noTicket {
		return "the token did not arrive: a reverse proxy in front of Proxmox may drop the Authorization header" + e.otherService()
	}
	if token {
		proxy := ""
		if e.Reason == http.StatusText(http.StatusUnauthorized) { // not Proxmox's own words
			proxy = "; or a reverse proxy in front of Proxmox drops the Authorization header"
		}
		return fmt.Sprintf("`pveum user token list %s` on a node shows whether %s is there and not expired, `pveum user list` whether its user is enabled; else the secret in proxmox.token is another one%s%s",
			Quote(user), id, proxy, e.otherService())
	}
	return "check proxmox.username (user@realm), the password and the one-time code: each code serves once" + e.otherService()
}

func (e *Error) lacking() string {
	if e.DeniedPath == "" {
		return fmt.Sprintf("%s does not allow %s to %s: %s", e.host(), e.grantee(), e.request(), e.Reason)
	}
	return fmt.Sprintf("%s may not %s on %s: the privilege %s on %s is missing",
		e.grantee(), e.request(), e.host(), strings.Join(e.Privileges, " or "), e.DeniedPath)
}

func (e *Error) grantee() string {
	if strings.Contains(e.who, "!") {
		return "the API token " + e.who
	}
	return e.who
}

func (e *Error) grantHint() string {
	path, privileges := e.DeniedPath, e.Privileges
	if e.who == "" {
		return ""
	}
	if path == "" || len(privileges) == 0 {
		switch {
		case strings.HasPrefix(e.Path, "/access/users"):
			path, privileges = "/access/groups", []string{"Sys.Audit"}
		case strings.HasPrefix(e.Path, "/access/permissions"):
			path, privileges = "/access", []string{"Sys.Audit"}
		case e.onRealms() && e.Reason == http.StatusText(http.StatusForbidden): // the words were lost on the way
			path, privileges = realmPath, []string{"Realm.Allocate"}
		default:
			return "`" + e.permissionsCommand() + "` on a node shows what is granted"
		}
	}
	return "as root on a node: " + strings.Join(Grant(e.who, path, privileges[0]), "; ")
}

func (e *Error) permissionsCommand() string {
	if user, id, token := strings.Cut(e.who, "!"); token {
		return "pveum user token permissions " + Quote(user) + " " + Quote(id)
	}
	return "pveum user permissions " + Quote(e.who)
}

func (e *Error) refusals() string {
	if len(e.Fields) == 0 {
		return "the request: " + e.Reason
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(e.Fields)) {
		out = append(out, name+": "+e.Fields[name])
	}
	return strings.Join(out, "; ")
}

func (e *Error) keyHint() string {
	var keys []string
	for _, name := range slices.Sorted(maps.Keys(e.Fields)) {
		if d, ok := realm.Property(name).Definition(); ok {
			keys = append(keys, "realm."+d.Key)
		}
	}
	if len(keys) == 0 {
		return ""
	}
	return "correct " + strings.Join(keys, ", ")
}

func (e *Error) portHint() string {
	return "check proxmox.endpoints: Proxmox VE listens on port 8006" + e.otherService()
}

func (e *Error) otherService() string {
	if u, err := url.Parse(e.Endpoint); err == nil && u.Port() == "8007" {
		return "; port 8007 is that of Proxmox Backup Server"
	}
	return ""
}

// joined makes one error of what each endpoint said.
func joined(failures []*Error) error {
	last := failures[len(failures)-1]
	if len(failures) == 1 {
		return last
	}
	var parts []string
	for _, f := range failures {
		parts = append(parts, fmt.Sprintf("%s: %s", f.host(), f.Reason))
	}
	all := *last
	all.fault = check.Errorf(last.fault.Code, "no endpoint of the cluster answers: %s", strings.Join(parts, "; ")).Try(last.fault.Remedy...)
	if all.Lost {
		all.fault.Message += "; whether the change took effect is not known"
	}
	return &all
}
