// Package check holds the types with which all packages report. A [Check] is one named finding about issuer, client or
// realm. An [Error] is a failure with a code. A [Hint] says how to repair either. A [Secret] is never shown. A [Cleaner]
// cleans text of servers before it is shown.
package check

import (
	"fmt"
	"slices"
	"time"
)

// Status is the verdict of a check.
type Status string

// The statuses. Fail needs proof that a login breaks. Skip means that this machine or token lacks access to the information.
const (
	Pass Status = "pass"
	Warn Status = "warn"
	Fail Status = "fail"
	Skip Status = "skip"
)

// ID names a check. Identifiers are part of the contract: scripts and `verify.ignore` name them.
type ID string

// The checks, in the order in which they are shown.
const (
	IssuerURL          ID = "issuer.url"
	IssuerReach        ID = "issuer.reach"
	IssuerCertificate  ID = "issuer.certificate"
	IssuerDiscovery    ID = "issuer.discovery"
	IssuerIdentity     ID = "issuer.identity"
	IssuerEndpoints    ID = "issuer.endpoints"
	IssuerKeys         ID = "issuer.keys"
	IssuerCapabilities ID = "issuer.capabilities"
	IssuerScopes       ID = "issuer.scopes"
	IssuerClaims       ID = "issuer.claims"
	IssuerAudience     ID = "issuer.audience"
	IssuerClock        ID = "issuer.clock"
	ClientCredentials  ID = "client.credentials"
	ClientRedirect     ID = "client.redirect"
	ProxmoxPermissions ID = "proxmox.permissions"
	ProxmoxRealm       ID = "proxmox.realm"
	ProxmoxDiscovery   ID = "proxmox.discovery"
	ProxmoxAccess      ID = "proxmox.access"
	ProxmoxUsers       ID = "proxmox.users"
)

// Check is one finding. Summary and Evidence are lower case, without full stop, and never hold a secret.
type Check struct {
	ID       ID
	Status   Status
	Summary  string        // one line: what was found
	Evidence string        // what was seen: values, answers, addresses; may be ""
	Hint     Hint          // how to repair it; set for Warn and Fail
	Duration time.Duration // of the requests; 0 if there were none
}

// Passed returns a check that holds.
func Passed(id ID, format string, args ...any) Check {
	return Check{ID: id, Status: Pass, Summary: fmt.Sprintf(format, args...)}
}

// Skipped returns a check that could not be made, with the reason.
func Skipped(id ID, format string, args ...any) Check {
	return Check{ID: id, Status: Skip, Summary: fmt.Sprintf(format, args...)}
}

// Warned returns a check that found a risk. The hint says what to do about it.
func Warned(id ID, hint Hint, format string, args ...any) Check {
	return Check{ID: id, Status: Warn, Summary: fmt.Sprintf(format, args...), Hint: hint}
}

// Failed returns a check with proof that a login breaks. The hint says how to repair it.
func Failed(id ID, hint Hint, format string, args ...any) Check {
	return Check{ID: id, Status: Fail, Summary: fmt.Sprintf(format, args...), Hint: hint}
}

// Because returns a copy with evidence.
func (c Check) Because(format string, args ...any) Check {
	c.Evidence = fmt.Sprintf(format, args...)
	return c
}

// Took returns a copy with the duration of its requests.
func (c Check) Took(d time.Duration) Check {
	c.Duration = d
	return c
}

// Failures returns the checks that failed.
func Failures(checks []Check) []Check {
	return slices.DeleteFunc(slices.Clone(checks), func(c Check) bool { return c.Status != Fail })
}

// Find returns the check of that id.
func Find(checks []Check, id ID) (Check, bool) {
	if i := slices.IndexFunc(checks, func(c Check) bool { return c.ID == id }); i >= 0 {
		return checks[i], true
	}
	return Check{}, false
}

// Count returns "1 check" or "2 checks".
func Count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// Ignore turns warnings and failures of the ids into skips that say what was found.
func Ignore(checks []Check, ids []ID) []Check {
	out := slices.Clone(checks)
	for i, c := range out {
		if slices.Contains(ids, c.ID) && (c.Status == Fail || c.Status == Warn) {
			out[i].Summary = fmt.Sprintf("ignored by verify.ignore (%s): %s", c.Status, c.Summary)
			out[i].Status = Skip
		}
	}
	return out
}

// Sort puts checks into the order of [Catalog], keeping the order of equal ids and putting unknown ids last.
func Sort(checks []Check) {
	slices.SortStableFunc(checks, func(a, b Check) int { return rank(a.ID) - rank(b.ID) })
}

func rank(id ID) int {
	if i := slices.IndexFunc(catalog, func(e Entry) bool { return e.ID == id }); i >= 0 {
		return i
	}
	return len(catalog)
}
