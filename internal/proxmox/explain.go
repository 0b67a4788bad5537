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
	message string                  // {node}, {request}, {reason}, {status} and {who} are replaced
	remedy  func(*Error) check.Hint // nil: none, or one that was found together with the kind
}

// steps returns a remedy that is the same for all errors of a kind.
func steps(all ...check.Hint) func(*Error) check.Hint {
	return func(*Error) check.Hint { return check.Hints(all...) }
}

var meanings = map[Kind]meaning{
	Unreachable: {check.Unreachable, "cannot connect to {node}: {reason}", nil},
	NoAnswer:    {check.Unreachable, "{request} at {node} failed: {reason}", nil},
	Interrupted: {check.Interrupted, "{request} was interrupted", nil},
	Certificate: {check.UnknownCertificate, "the certificate of {node} is not trusted: {reason}", nil},
	NotProxmox:  {check.ProxmoxFailed, "{node} does not answer {request} like Proxmox VE: {reason}", checkPort},
	Unavailable: {
		check.ProxmoxFailed, "{node} got no answer from its own daemon or from another node: {status} {reason}",
		steps(check.OnNode("systemctl status pvedaemon pveproxy pve-cluster")),
	},
	Failed: {check.ProxmoxFailed, "{request} at {node} failed: {status} {reason}", readJournal},

	BadCredentials:   {check.BadCredentials, "{node} rejects {who}: {reason}", checkCredentials},
	PermissionDenied: {check.PermissionDenied, "{who} may not {request} on {node}: {reason}", grantMissing},

	Absent:      {check.Conflict, "{node}: {reason}", steps(check.Hint("run again: someone removed it in the meantime"))},
	Exists:      {check.Conflict, "{node}: {reason}", steps(check.Hint("run again: someone created it in the meantime"))},
	StaleDigest: {check.Conflict, "{node}: someone changed the realms in the meantime", steps(check.Hint("run again"))},
	LockTimeout: {
		check.LockTimeout, "{node}: another task holds the lock of the configuration: {reason}",
		steps(check.Hint("try again in a minute")),
	},
	NoQuorum: {
		check.NoQuorum, "{node} cannot write: {reason}",
		steps(check.OnNode("pvecm status").With("shows which nodes are missing")),
	},
	UnknownProperty: {check.UnknownProperty, "", nil}, // realm words it
	Invalid:         {check.Config, "{node} rejects the request: {reason}", correctFields},
	WrongType: {
		check.WrongType, "{node}: {reason}",
		steps(check.Set("realm.name", "").With("the name of an OpenID Connect realm")),
	},
	UnknownRole: {
		check.Config, "{node}: {reason}",
		steps(check.Set("access", "").With("use a role that exists"), check.OnNode("pveum role list").With("lists the roles")),
	},

	IssuerUnreachable: {
		check.ProxmoxFailed, "{node} cannot fetch the issuer's documents",
		steps(
			check.Hint("correct the node's DNS"),
			check.OnNode("update-ca-certificates").With("after copying the issuer's CA to /usr/local/share/ca-certificates"),
			check.Hint("if the node needs a proxy, correct http_proxy in /etc/pve/datacenter.cfg"),
		),
	},
	IssuerMismatch: {
		check.ProxmoxFailed, "{node}: the issuer's own name differs from issuer-url; Proxmox requires an exact match: {reason}",
		func(e *Error) check.Hint { return check.Hints(check.Set("realm.issuer_url", e.Found)) },
	},
	IssuerDocument: {
		check.ProxmoxFailed, "{node} cannot read the issuer's documents: {reason}",
		steps(
			check.Hint("find out whether the node reaches another server than this machine"),
			check.Run("probe").With("it shows what the issuer answers here"),
		),
	},
	IssuerURL: {
		check.ProxmoxFailed, "{node} cannot parse the realm's issuer-url: {reason}",
		steps(check.Set("realm.issuer_url", "").With("the issuer's https URL")),
	},
	IssuerHung: {
		check.ProxmoxFailed, "the issuer did not answer {node} within 30 s, and one of the node's workers is blocked now",
		steps(
			check.Hint("find out why the issuer does not answer that node, such as a firewall that drops packets"),
			check.OnNode("systemctl restart pvedaemon").With("frees the worker"),
		),
	},
	TooManyPending: {
		check.ProxmoxFailed, "a hundred logins are pending on {node}: nobody can log in there until some expire",
		steps(check.Hint("wait 10 minutes; if it happens again, find out what keeps opening the login page")),
	},
	LoginRefused: {
		check.Internal, "{node} rejects the login: {reason}",
		steps(check.OnNode("journalctl -u pvedaemon --since -5min").With("only this log holds the reason")),
	},
	NoRealm: {
		check.ProxmoxFailed, "nobody can log in at {node}: {reason}",
		steps(check.Run("plan").With("it shows what is missing")),
	},
}

// explained gives an error its code, message and remedy, unless it has them already.
func explained(e *Error) *Error {
	if e.described == nil {
		m := meanings[e.Kind]
		message := strings.NewReplacer(
			"{node}", string(e.Endpoint), "{request}", e.Method+" "+e.Path, "{status}", fmt.Sprint(e.Status),
			"{reason}", e.detail(), "{who}", e.sender(),
		).Replace(m.message)
		e.described = check.Errorf(m.code, "%s", message).Try(e.remedy)
		if len(e.remedy) == 0 && m.remedy != nil {
			e.described.Hint = m.remedy(e)
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

func checkPort(*Error) check.Hint {
	return check.Hints(check.Set("proxmox.endpoints", "").With("Proxmox VE listens on port 8006"))
}

func readJournal(e *Error) check.Hint {
	remedy := check.Hints(check.OnNode("journalctl -u pvedaemon -u pveproxy").With("may show more"))
	if e.reasonLost() {
		proxy := check.Set("proxmox.endpoints", "").With("name the node itself: a reverse proxy may drop the reason")
		remedy = check.Hints(remedy, proxy)
	}
	return remedy
}

func checkCredentials(e *Error) check.Hint {
	proxy := check.Set("proxmox.endpoints", "").
		With("if a reverse proxy drops the Authorization header: name the node itself")
	user, id, isToken := strings.Cut(e.who, "!")
	switch {
	case !isToken:
		return check.Hints(
			check.Set("proxmox.username", ""), check.Set("proxmox.password_file", ""),
			check.Set("proxmox.otp", "").With("each code works once"),
			check.Set("proxmox.token_file", "").With("an API token needs no second factor"))
	case e.Reason == noTicket:
		return check.Hints(proxy)
	}
	remedy := check.Hints(
		check.OnNode("pveum user token list %s", Quote(user)).With("shows whether %s exists and has not expired", id),
		check.OnNode("pveum user list").With("shows whether the user is enabled"),
		check.Set("proxmox.token_file", "").With("if the token has another secret"))
	if e.Reason == http.StatusText(http.StatusUnauthorized) { // not Proxmox's own words
		remedy = check.Hints(remedy, proxy)
	}
	return remedy
}

func grantMissing(e *Error) check.Hint {
	lost := e.Reason == http.StatusText(http.StatusForbidden) && strings.HasPrefix(e.Path, realmsPath)
	user, id, isToken := strings.Cut(e.who, "!")
	switch {
	case e.who == "":
		return ""
	case len(e.Privileges) > 0:
		return check.Hints(grantStep(e.who, e.DeniedPath, e.Privileges[0]))
	case lost: // a reverse proxy replaced Proxmox's reason
		return check.Hints(grantStep(e.who, realmGrants, "Realm.Allocate"))
	case isToken:
		return check.Hints(check.OnNode("pveum user token permissions %s %s", Quote(user), Quote(id)))
	}
	return check.Hints(check.OnNode("pveum user permissions %s", Quote(e.who)))
}

func correctFields(e *Error) check.Hint {
	var remedy check.Hint
	for _, name := range slices.Sorted(maps.Keys(e.Fields)) {
		switch name {
		case "path":
			remedy = check.Hints(remedy, check.Set("access", "").With("use a path such as /vms/100, /pool/dev or /storage/local"))
		case "groupid":
			remedy = check.Hints(remedy, check.Set("access", "").With("a group has letters, digits, '.', '_' and '-' only"))
		}
		if d, ok := realm.Property(name).Definition(); ok {
			remedy = check.Hints(remedy, check.Set("realm."+d.Key, ""))
		}
	}
	return remedy
}
