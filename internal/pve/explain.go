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

// meaning is how errors of one kind are shown.
type meaning struct {
	code    check.Code
	message string // {host}, {request}, {reason} and {status} are replaced
	remedy  check.Remedy
	// detail replaces message and remedy if they depend on more than that.
	detail func(*Error) (message string, remedy check.Remedy)
}

// meanings says how each kind is shown. An error's own remedy, found together with its kind, comes before the one here.
var meanings = map[Kind]meaning{
	Unreachable: {code: check.Unreachable, message: "cannot connect to {host}: {reason}"},
	TimedOut:    {code: check.Unreachable, message: "{request} at {host} failed: {reason}"},
	Broken:      {code: check.Unreachable, message: "{request} at {host} failed: {reason}"},
	Interrupted: {code: check.Interrupted, message: "{request} at {host} was interrupted"},
	Unavailable: {
		code: check.ProxmoxFailed, message: "{host} got no answer from its own daemon or from another node: {status} {reason}",
		remedy: check.Remedy{check.OnNode("systemctl status pvedaemon pveproxy pve-cluster")},
	},
	Certificate: {code: check.UnknownCertificate, detail: (*Error).certificate},
	NotProxmox: {code: check.ProxmoxFailed, detail: func(e *Error) (string, check.Remedy) {
		return "{host} does not answer as Proxmox VE does: {reason}", e.checkPort()
	}},
	Redirected: {code: check.ProxmoxFailed, detail: (*Error).redirected},
	BadAnswer: {code: check.ProxmoxFailed, detail: func(e *Error) (string, check.Remedy) {
		return "{request} at {host} got an unusable answer: {reason}", e.checkPort()
	}},

	BadCredentials:   {code: check.BadCredentials, detail: (*Error).badCredentials},
	PermissionDenied: {code: check.PermissionDenied, detail: (*Error).permissionDenied},

	Absent: {
		code: check.Conflict, message: "{host}: {reason}",
		remedy: check.Remedy{check.Advise("run again: someone removed it in the meantime")},
	},
	Exists: {
		code: check.Conflict, message: "{host}: {reason}",
		remedy: check.Remedy{check.Advise("run again: someone created it in the meantime")},
	},
	StaleDigest: {
		code: check.Conflict, message: "{host}: someone changed the realms after this run had read them",
		remedy: check.Remedy{check.Advise("run again")},
	},
	LockTimeout: {
		code: check.LockTimeout, message: "{host}: another task holds the lock of the configuration: {reason}",
		remedy: check.Remedy{check.Advise("try again in a minute")},
	},
	NoQuorum: {
		code: check.NoQuorum, message: "{host} cannot write: {reason}",
		remedy: check.Remedy{check.OnNode("pvecm status").With("shows which nodes are missing")},
	},
	UnknownProperty: {code: check.UnknownProperty}, // realm words it
	Invalid: {code: check.Config, detail: func(e *Error) (string, check.Remedy) {
		return "{host} rejects " + e.fieldErrors(), e.correctFields()
	}},
	WrongType: {
		code: check.WrongType, message: "{host}: {reason}",
		remedy: check.Remedy{check.Set("realm.name", "").With("the name of an OpenID Connect realm")},
	},

	UnknownRole: {
		code: check.Config, message: "{host}: {reason}",
		remedy: check.Remedy{check.Set("access", "").With("use a role that exists"), check.OnNode("pveum role list").With("lists the roles")},
	},
	UnknownPath: {code: check.Config, detail: func(e *Error) (string, check.Remedy) {
		return "{host} rejects " + e.fieldErrors(),
			check.Remedy{check.Set("access", "").With("use a path such as /vms/100, /pool/dev or /storage/local")}
	}},
	InvalidGroup: {code: check.Config, detail: func(e *Error) (string, check.Remedy) {
		return "{host} rejects " + e.fieldErrors(),
			check.Remedy{check.Set("access", "").With("a group has letters, digits, '.', '_' and '-' only")}
	}},

	IssuerUnreachable: {
		code: check.ProxmoxFailed, message: "{host} cannot fetch the issuer's discovery document or keys: {reason}",
		remedy: check.Remedy{check.Advise("check on the node: its DNS, its certificate authorities (`update-ca-certificates`), and http_proxy in /etc/pve/datacenter.cfg")},
	},
	IssuerMismatch: {code: check.ProxmoxFailed, detail: func(e *Error) (string, check.Remedy) {
		return fmt.Sprintf("the issuer's own name %s differs from the realm's issuer-url %s", e.Found, e.Expected),
			check.Remedy{check.Set("realm.issuer_url", e.Found)}
	}},
	IssuerDocument: {
		code: check.ProxmoxFailed, message: "{host} cannot read the issuer's discovery document or keys: {reason}",
		remedy: check.Remedy{check.Run("probe").With("shows what the issuer answers")},
	},
	IssuerURL: {
		code: check.ProxmoxFailed, message: "{host} cannot use the realm's issuer-url: {reason}",
		remedy: check.Remedy{check.Set("realm.issuer_url", "").With("the issuer's https URL")},
	},
	IssuerHung: {
		code: check.ProxmoxFailed, message: "the issuer did not answer {host} within 30 s, and one of the node's three workers is blocked",
		remedy: check.Remedy{check.OnNode("systemctl restart pvedaemon").With("after repairing the network between node and issuer")},
	},
	TooManyPending: {
		code: check.ProxmoxFailed, message: "a hundred logins are pending on {host}, so it accepts no more",
		remedy: check.Remedy{check.Advise("try again in 10 minutes, when the pending logins have expired")},
	},
	LoginRefused: {
		code: check.Internal, message: "{host} rejects the login: {reason}",
		remedy: check.Remedy{check.OnNode("journalctl -u pvedaemon --since -5min").With("only this log holds the reason")},
	},
	Failed: {code: check.ProxmoxFailed, detail: (*Error).failed},
}

// explained gives an error its code, message and remedy, and adds what else it matches.
func explained(e *Error) *Error {
	m := meanings[e.Kind]
	message, remedy := m.message, m.remedy
	if m.detail != nil {
		message, remedy = m.detail(e)
	}
	if len(e.remedy) > 0 {
		remedy = e.remedy
	}
	message = strings.NewReplacer(
		"{host}", e.Endpoint.Host(), "{request}", e.request(), "{reason}", e.Reason, "{status}", fmt.Sprint(e.Status),
	).Replace(message)
	e.described = &check.Error{Code: m.code, Message: message, Remedy: remedy}

	var unknown *realm.UnknownPropertyError
	var told *check.Error
	causes := errors.Join(e.causes...)
	switch {
	case e.Kind == UnknownProperty && errors.As(causes, &unknown):
		e.described = realm.LacksProperties(realm.Version{}, unknown.Properties)
	case e.Kind == Interrupted && errors.As(causes, &told): // whoever ended the context said why
		e.described = told.Because(nil)
	case e.Kind == Interrupted && errors.Is(causes, context.DeadlineExceeded):
		e.described = check.Errorf(check.Unreachable, "%s at %s took longer than this run may take", e.request(), e.Endpoint.Host()).
			Try(check.Advise("allow more time"))
	case e.Kind == Absent && !e.observable():
		e.described = check.Errorf(check.ProxmoxFailed, "%s", message).Try(check.Run("plan").With("shows what is missing"))
	case slices.Contains([]Kind{StaleDigest, Exists, Absent}, e.Kind) && e.observable():
		e.causes = append(e.causes, realm.ErrConflict)
	}
	e.noteLoss()
	return e
}

// noteLoss adds to the message that a write may have taken effect.
func (e *Error) noteLoss() {
	if e.Lost {
		e.described.Message += "; it is unknown whether the change took effect"
	}
}

// observable tells whether the request concerns realms, groups or grants, which the next run reads again.
func (e *Error) observable() bool {
	return e.onRealms() || strings.HasPrefix(e.Path, groupsPath) || e.Path == aclPath
}

func (e *Error) request() string {
	if e.Method == "" {
		return "the request"
	}
	return e.Method + " " + e.Path
}

func (e *Error) certificate() (string, check.Remedy) {
	message := "the certificate of {host} is not trusted: {reason}"
	if e.Fingerprint != "" {
		message += "; its SHA-256 fingerprint is " + e.Fingerprint + ": compare with `pvenode cert info`"
	}
	return message, nil
}

func (e *Error) redirected() (string, check.Remedy) {
	to := ""
	if e.Location != "" {
		to = " to " + e.Location
	}
	return "{host} answers with a redirect" + to + " ({status} {reason}), which is not followed",
		check.Remedy{check.Set("proxmox.endpoints", "").With("name the nodes themselves, each with its port")}
}

func (e *Error) badCredentials() (string, check.Remedy) {
	user, id, isToken := strings.Cut(e.who, "!")
	subject := "the ticket of " + e.who
	switch {
	case e.who == "":
		subject = "a request without credentials"
	case isToken:
		subject = "the API token " + e.who
	case e.Path == ticketPath:
		subject = "the login of " + e.who
	}
	message := "{host} rejects " + subject + ": {reason}"
	// The reason is not Proxmox's if the request lost its credentials on the way, or something in front of Proxmox answered.
	proxy := check.Set("proxmox.endpoints", "").With("if a reverse proxy drops the Authorization header: name the node itself%s", e.otherService())
	switch {
	case isToken && e.Reason == noTicket:
		return message, check.Remedy{proxy}
	case isToken:
		remedy := check.Remedy{
			check.OnNode("pveum user token list %s", Quote(user)).With("shows whether %s exists and has not expired", id),
			check.OnNode("pveum user list").With("shows whether the user is enabled"),
			check.Set("proxmox.token_file", "").With("if the token has another secret%s", e.otherService()),
		}
		if e.Reason == http.StatusText(http.StatusUnauthorized) {
			remedy = append(remedy, proxy)
		}
		return message, remedy
	}
	return message, check.Remedy{
		check.Set("proxmox.username", "").With("user@realm%s", e.otherService()), check.Set("proxmox.password_file", ""),
		check.Set("proxmox.otp", "").With("each code works once"),
	}
}

func (e *Error) permissionDenied() (string, check.Remedy) {
	who := e.who
	if strings.Contains(who, "!") {
		who = "the API token " + who
	}
	message := who + " may not {request} on {host}: {reason}"
	if e.DeniedPath != "" {
		message = fmt.Sprintf("%s may not {request} on {host}: it lacks the privilege %s on %s", who, strings.Join(e.Privileges, " or "), e.DeniedPath)
	}
	path, privileges := e.DeniedPath, e.Privileges
	if path == "" || len(privileges) == 0 {
		path, privileges = e.neededPrivilege()
	}
	switch user, id, isToken := strings.Cut(e.who, "!"); {
	case e.who == "":
		return message, nil
	case path != "":
		return message, check.Remedy{grantStep(e.who, path, privileges[0])}
	case isToken:
		return message, check.Remedy{check.OnNode("pveum user token permissions %s %s", Quote(user), Quote(id)).With("shows its privileges")}
	}
	return message, check.Remedy{check.OnNode("pveum user permissions %s", Quote(e.who)).With("shows its privileges")}
}

// neededPrivilege returns the privilege that a request needs if Proxmox did not name it.
func (e *Error) neededPrivilege() (path string, privileges []string) {
	switch {
	case strings.HasPrefix(e.Path, usersPath):
		return groupsPath, []string{"Sys.Audit"}
	case strings.HasPrefix(e.Path, permissionsPath):
		return "/access", []string{"Sys.Audit"}
	case e.onRealms() && e.Reason == http.StatusText(http.StatusForbidden): // a reverse proxy replaced Proxmox's reason
		return realmGrants, []string{"Realm.Allocate"}
	}
	return "", nil
}

func (e *Error) failed() (string, check.Remedy) {
	journal := check.OnNode("journalctl -u pvedaemon -u pveproxy").With("may show more")
	if reasonLost(e) {
		return "{request} at {host} failed without a reason", check.Remedy{
			check.Set("proxmox.endpoints", "").With("name the node itself: a reverse proxy may drop the reason"), journal,
		}
	}
	if e.Status == http.StatusInternalServerError { // the status of nearly every failure of Proxmox
		return "{request} at {host} failed: {reason}", check.Remedy{journal}
	}
	return "{request} at {host} failed: {status} {reason}", check.Remedy{journal}
}

func (e *Error) correctFields() check.Remedy {
	var remedy check.Remedy
	for _, name := range slices.Sorted(maps.Keys(e.Fields)) {
		if d, ok := realm.Property(name).Definition(); ok {
			remedy = append(remedy, check.Set("realm."+d.Key, ""))
		}
	}
	return remedy
}

func (e *Error) checkPort() check.Remedy {
	return check.Remedy{check.Set("proxmox.endpoints", "").With("Proxmox VE listens on port 8006%s", e.otherService())}
}

// otherService names the usual mistake behind port 8007.
func (e *Error) otherService() string {
	if u, err := url.Parse(string(e.Endpoint)); err == nil && u.Port() == "8007" {
		return "; port 8007 belongs to Proxmox Backup Server"
	}
	return ""
}
