package proxmox

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// meaning holds the code, message and remedy of a kind.
type meaning struct {
	code    check.Code
	message string // {node}, {request}, {reason}, {status} and {who} are replaced
	remedy  remedy // nil: none, or one that was found together with the kind
}

// remedy returns the hint of an error. The commands in it are those of a host of the product.
type remedy func(*Error, realm.Host) check.Hint

// always returns a hint that is the same for all errors of a kind.
func always(hint check.Hint) remedy {
	return func(*Error, realm.Host) check.Hint { return hint }
}

func lookAtServices(_ *Error, k realm.Host) check.Hint { return k.Run("", k.Status) }

var meanings = map[Kind]meaning{
	Unreachable: {check.Unreachable, "cannot connect to {node}: {reason}", nil},
	NoAnswer:    {check.Unreachable, "{request} at {node} failed: {reason}", lookAtServices},
	Interrupted: {check.Interrupted, "{request} was interrupted", nil},
	Certificate: {check.UnknownCertificate, "the certificate of {node} is not trusted: {reason}", nil},
	NotProxmox:  {check.ProxmoxFailed, "{node} does not answer {request} like {product}: {reason}", checkPort},
	Unavailable: {check.ProxmoxFailed, "{node} got no answer from its own daemon or from another node: {status} {reason}", lookAtServices},
	Failed:      {check.ProxmoxFailed, "{request} at {node} failed: {status} {reason}", readJournal},

	BadCredentials:   {check.BadCredentials, "{node} rejects {who}: {reason}", checkCredentials},
	PermissionDenied: {check.PermissionDenied, "{who} may not {request} on {node}: {reason}", grantMissing},

	Absent:      {check.Conflict, "{node}: {reason}", always("run again: someone removed it in the meantime")},
	Exists:      {check.Conflict, "{node}: {reason}", always("run again: someone created it in the meantime")},
	StaleDigest: {check.Conflict, "{node}: someone changed the realms in the meantime", always("run again")},
	LockTimeout: {
		check.LockTimeout, "{node}: another task holds the lock of the configuration: {reason}", always("try again in a minute"),
	},
	NoQuorum: {
		check.NoQuorum, "{node} cannot write: {reason}",
		always("run on a node (shows which nodes are missing):\n    pvecm status"), // only Proxmox VE has a quorum
	},
	UnknownProperty: {check.UnknownProperty, "", nil}, // realm words it
	Invalid:         {check.Config, "{node} rejects the request: {reason}", correctFields},
	WrongType: {
		check.WrongType, "{node}: {reason}", always("set {realm.name} to the name of an OpenID Connect realm, or to a new one"),
	},
	UnknownRole: {check.Config, "{node}: {reason}", func(_ *Error, k realm.Host) check.Hint {
		return check.Hints("set {access} to roles that exist", k.Run("lists the roles", k.ListRoles))
	}},

	IssuerUnreachable: {check.ProxmoxFailed, "{node} cannot fetch the issuer's documents", func(_ *Error, k realm.Host) check.Hint {
		return check.Hints(
			check.Hintf("correct the DNS of the %s", k.Noun),
			k.Run("after copying the issuer's CA to /usr/local/share/ca-certificates", "update-ca-certificates"), k.Proxy)
	}},
	IssuerMismatch: {
		check.ProxmoxFailed, "{node}: the issuer's own name differs from issuer-url; Proxmox requires an exact match: {reason}",
		func(e *Error, _ realm.Host) check.Hint {
			return check.Hintf("set {realm.issuer_url} to %s (if its document is there)", e.Found)
		},
	},
	IssuerDocument: {
		check.ProxmoxFailed, "{node} cannot read the issuer's documents: {reason}",
		always("find out whether the node reaches another server than this machine\n" +
			"run this to see what the issuer answers here:\n    {probe}"),
	},
	IssuerURL: {
		check.ProxmoxFailed, "{node} cannot parse the realm's issuer-url: {reason}",
		always("set {realm.issuer_url} to the issuer's https URL"),
	},
	IssuerHung: {
		check.ProxmoxFailed, "the issuer did not answer {node} within 30 s, and {blocked} is blocked now",
		func(_ *Error, k realm.Host) check.Hint {
			return check.Hints(
				check.Hintf("find out why the issuer does not answer the %s, such as a firewall that drops packets", k.Noun),
				k.Run("frees what is blocked", k.Restart))
		},
	},
	TooManyPending: {
		check.ProxmoxFailed, "a hundred logins are pending on {node}: nobody can log in there until some expire",
		always("wait 10 minutes; if it happens again, find out what keeps opening the login page"),
	},
	LoginRefused: {check.Internal, "{node} rejects the login: {reason}", func(_ *Error, k realm.Host) check.Hint {
		return k.Run(k.Reason, k.Journal+" --since -5min")
	}},
	NoRealm: {
		check.ProxmoxFailed, "nobody can log in at {node}: {reason}", always("run this to see what is missing:\n    {plan}"),
	},
}

// explained gives an error its code, message and remedy, unless it has them already.
func explained(e *Error) *Error {
	if e.described == nil {
		m := meanings[e.Kind]
		message := strings.NewReplacer(
			"{node}", string(e.Endpoint), "{request}", e.Method+" "+e.Path, "{status}", fmt.Sprint(e.Status),
			"{reason}", e.detail(), "{who}", e.sender(), "{product}", e.dialect.product.Name(), "{blocked}", e.dialect.product.Host().Blocked,
		).Replace(m.message)
		e.described = check.Errorf(m.code, "%s", message).Try(e.remedy)
		if len(e.remedy) == 0 && m.remedy != nil {
			e.described.Hint = m.remedy(e, e.dialect.product.Host())
		}
	}
	e.noteLoss()
	return e
}

// detail returns the reason, or what Proxmox said about privileges and parameters.
func (e *Error) detail() string {
	if len(e.Privileges) > 0 {
		return fmt.Sprintf("the privilege %s on %s is missing", strings.Join(e.Privileges, " or "), e.DeniedPath)
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(e.Fields)) {
		all = append(all, name+": "+e.Fields[name])
	}
	return cmp.Or(strings.Join(all, "; "), e.Reason)
}

// sender names the identity of the request.
func (e *Error) sender() string {
	switch {
	case e.who == "":
		return "the request"
	case strings.Contains(e.who, "!"):
		return "the API token " + e.who
	}
	return "the user " + e.who
}

// noteLoss adds to the message that a write may have taken effect.
func (e *Error) noteLoss() {
	if e.Lost {
		e.described.Message += "; it is unknown whether the change took effect"
	}
}

func checkPort(e *Error, _ realm.Host) check.Hint {
	if strings.HasSuffix(string(e.Endpoint), ":"+e.dialect.product.Port()) {
		return nodeItself
	}
	return check.Hintf("correct {proxmox.endpoints}: %s listens on port %s", e.dialect.product.Name(), e.dialect.product.Port())
}

// nodeItself is the advice about everything that stands between this program and the product.
const nodeItself check.Hint = "set {proxmox.endpoints} to the address of the node itself"

func readJournal(e *Error, k realm.Host) check.Hint {
	hint := k.Run("may show more", k.Journal)
	if e.reasonLost() {
		hint = check.Hints(hint, nodeItself+", because a reverse proxy may drop the reason")
	}
	return hint
}

func checkCredentials(e *Error, k realm.Host) check.Hint {
	const dropped = nodeItself + ", if a reverse proxy drops the Authorization header"
	user, id, isToken := strings.Cut(e.who, "!")
	switch {
	case !isToken:
		return check.Hints(
			"set {proxmox.username}", "set {proxmox.password_file}", "set {proxmox.otp} to a current code: each code works once",
			"set {proxmox.token_file}: an API token needs no second factor")
	case e.Reason == noTicket:
		return dropped
	}
	hint := check.Hints(
		k.Run("shows whether the token "+id+" is there and has not expired", k.ListTokens.With("user", user)),
		k.Run("shows whether the user is enabled", k.ListUsers),
		"set {proxmox.token_file} to a file with the token's secret, if that has changed")
	if e.Reason == http.StatusText(http.StatusUnauthorized) { // not Proxmox's own words
		hint = check.Hints(hint, dropped)
	}
	return hint
}

func grantMissing(e *Error, k realm.Host) check.Hint {
	d := e.dialect
	lost := e.Reason == http.StatusText(http.StatusForbidden) && strings.HasPrefix(e.Path, d.realms)
	user, id, isToken := strings.Cut(e.who, "!")
	switch {
	case e.who == "":
		return ""
	case len(e.Privileges) > 0:
		return d.grant(e.who, e.DeniedPath, e.Privileges[0])
	case lost: // a reverse proxy replaced Proxmox's reason
		return d.grant(e.who, d.write.path, d.write.all[0])
	case isToken:
		return k.Run("shows what the token may do", k.TokenRights.With("user", user, "id", id, "token", e.who))
	}
	return k.Run("shows what the user may do", k.UserRights.With("user", e.who))
}

func correctFields(e *Error, _ realm.Host) check.Hint {
	var hint check.Hint
	for _, name := range slices.Sorted(maps.Keys(e.Fields)) {
		switch name {
		case "path":
			hint = check.Hints(hint, "set {access} to paths such as /vms/100, /pool/dev or /storage/local")
		case "groupid":
			hint = check.Hints(hint, "set {access} to groups of letters, digits, '.', '_' and '-' only")
		}
		if d, ok := realm.Property(name).Definition(); ok {
			hint = check.Hints(hint, check.Hintf("set {realm.%s}", d.Key))
		}
	}
	return hint
}
