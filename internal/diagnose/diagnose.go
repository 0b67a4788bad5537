// Package diagnose explains logins through OpenID Connect from what the nodes of Proxmox wrote into their logs. Proxmox
// answers a failed login with "authentication failure"; the reason is in the log of the one node that the browser asked.
//
// It is pure: package proxmox reads the logs. Lines become logins ([Reader]), and logins with the same cause become one entry
// ([Summary]). The findings of our own checks decide what a log leaves open ([Login.Decide]).
package diagnose

import (
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// Outcome is how a login ended.
type Outcome string

// The outcomes.
const (
	Failed    Outcome = "failed"
	Succeeded Outcome = "succeeded"
)

// Login is what a log tells of one login. Its texts are cleaned.
type Login struct {
	Time    time.Time // on the node's clock, in its zone
	Node    string
	Address string // of the browser, or of a reverse proxy before the node; "": the log does not tell
	User    string // user@realm; "": the log does not tell
	Realm   string // "": the log does not tell
	Outcome Outcome

	Cause   Cause      // why it failed, or why it set no groups; "": nothing is wrong
	Text    string     // the node's own words
	Summary string     // the cause in one sentence: lower case, without full stop
	Hint    check.Hint // what to do

	Groups  []string // that the login added the user to
	Refused []string // names of the issuer's groups that Proxmox refuses
	Unshown int      // names that the log does not show, because they hold characters outside ASCII

	related []check.ID // checks about the same cause
	subject string     // what the cause is about: logins with another subject are not folded into one
}

// Facts are what is known of the target whose logins are explained.
type Facts struct {
	Product  realm.Product
	Login    realm.Login // of the realm as it is stored; as it is declared if that cannot be read
	Declared realm.Login
	Limited  bool // the issuer has just answered that it limits requests
	Encrypts bool // the issuer encrypts the tokens of this client
	// Advice is what the administrator of the software behind the issuer must know, if that software is known.
	Advice  map[Cause]check.Hint
	Cleaner *check.Cleaner
}

// Decide completes a login whose cause our own checks know better than the log. A check about the same cause that fails
// brings its own hint. An OpenID library tells nothing about a token endpoint that refuses: then the checks of the client
// decide, which were made just now.
func (l Login) Decide(checks []check.Check, f Facts) Login {
	if f.foreign(l) {
		return l
	}
	client, _ := check.Find(checks, check.ClientCredentials)
	switch {
	case l.Cause == RequestFailed, l.Cause == TokenUnreadable && client.Status == check.Fail: // an issuer may refuse with status 200
		return l.decideRequest(checks, f)
	case l.Cause == TokenUnreadable && f.Encrypts:
		l.Cause, l.Summary, l.Hint = EncryptedToken, encrypted, unencrypted
	}
	for _, id := range l.related {
		if found, ok := check.Find(checks, id); ok && found.Status == check.Fail && found.Hint != "" {
			l.Hint = found.Hint
			return l
		}
	}
	if l.Hint != corrected && (l.Cause != GroupsRefused || slices.ContainsFunc(l.Refused, madeByIssuer)) {
		l.Hint = check.Hints(l.Hint, f.Advice[l.Cause])
	}
	return l
}

// madeByIssuer tells whether the name of a group is a path or an address, which is a choice of the issuer and nobody's own.
func madeByIssuer(group string) bool {
	return strings.HasPrefix(group, "/") || strings.Contains(group, "@")
}

// About tells whether a check is about the same cause.
func (l Login) About(id check.ID) bool {
	switch l.Cause {
	case UserAbsent:
		return id == check.ProxmoxUsers
	case ClientRefused:
		return id == check.ClientCredentials
	case RedirectRefused:
		return id == check.ClientRedirect
	}
	return slices.Contains(l.related, id)
}

// decideRequest decides why the token endpoint refused a code.
func (l Login) decideRequest(checks []check.Check, f Facts) Login {
	credentials, _ := check.Find(checks, check.ClientCredentials)
	redirect, _ := check.Find(checks, check.ClientRedirect)
	const now = " (asked just now)"
	switch {
	case credentials.Status == check.Fail:
		l.Cause, l.Summary, l.Hint = ClientRefused, credentials.Summary+now, credentials.Hint
	case redirect.Status == check.Fail:
		l.Cause, l.Summary, l.Hint = RedirectRefused, redirect.Summary+now, redirect.Hint
	case f.Limited:
		l.Cause = RateLimited
		l.Summary = "the issuer limits requests" + now + ", which refuses logins as well where it sees Proxmox at the same address as this machine, or counts for itself"
		l.Hint = "wait, and find out who asks the issuer so often: its log names the address"
	case credentials.Status == check.Pass && redirect.Status == check.Pass:
		l.Cause = NodeToIssuer
		l.Summary = "the issuer accepts client, key and redirect URLs from here" + now +
			": it was corrected since, a code was used twice, or the issuer answers this node differently"
		l.Hint = f.fromNode(l)
	}
	return l
}

// foreign tells whether a login used another realm than the one that the facts are about.
func (f Facts) foreign(l Login) bool {
	return l.Realm != "" && f.Login.Realm != "" && l.Realm != f.Login.Realm
}
