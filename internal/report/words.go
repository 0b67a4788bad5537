package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// sentence says what became of a target, in the words of the command that was given:
// "realm authelia on https://pve1:8006 is as declared; 14 checks passed, 2 skipped".
func sentence(command string, t reconcile.Result) string {
	text, counted := subject(t)+verdict(command, t), tally(t.Checks)
	switch {
	case counted == "":
		return text
	case t.Outcome == reconcile.Unverified && !asks(command):
		return text + ", but " + counted
	}
	return text + "; " + counted
}

// subject names the realm and where it is; without a realm, the issuer alone was asked.
func subject(t reconcile.Result) string {
	switch {
	case t.Realm == "":
		return "issuer " + cmp.Or(t.Endpoint, t.Name)
	case t.Endpoint == "":
		return "realm " + t.Realm
	}
	return "realm " + t.Realm + " on " + t.Endpoint
}

// verdict continues the subject's sentence.
func verdict(command string, t reconcile.Result) string {
	switch t.Outcome {
	case reconcile.Failed:
		return fmt.Sprintf(": %s failed (%s)", command, check.CodeOf(t.Err))
	case reconcile.Refused:
		if command == "plan" {
			return ": apply would refuse, because a decision is needed"
		}
		return fmt.Sprintf(" is as before: %s refuses, because a decision is needed", command)
	case reconcile.Held:
		if command == "plan" {
			return differs(t) + ": the gate would hold the change back"
		}
		return " is as before: the gate held the change back"
	case reconcile.Drift:
		return differs(t) + wouldDo(t)
	case reconcile.Unverified:
		if asks(command) {
			return " is not verified"
		}
		return achieved(t)
	case reconcile.Changed:
		return achieved(t)
	case reconcile.Unchanged:
		switch {
		case command == "delete":
			return " does not exist: there is nothing to delete"
		case command == "recover":
			return " is left as it is"
		case !asks(command):
			return " is as declared"
		case slices.ContainsFunc(t.Checks, func(c check.Check) bool { return c.Status != check.Skip }):
			return " is verified"
		}
		return " could not be verified"
	}
	return ": " + string(t.Outcome)
}

// asks tells whether checking is all that the command does.
func asks(command string) bool {
	return command == "verify" || command == "probe" || command == "authelia"
}

// achieved says what was done, for outcomes that mean that the realm now holds.
func achieved(t reconcile.Result) string {
	switch t.Action {
	case realm.Create:
		return " is created"
	case realm.Update:
		return fmt.Sprintf(" is updated (%s)", number(len(t.Changes), "property", "properties"))
	case realm.Replace:
		return " is replaced"
	case realm.Delete:
		return " is deleted"
	case realm.None, realm.Refuse:
	}
	if t.Outcome == reconcile.Changed {
		return " is changed"
	}
	return " is as declared"
}

func differs(t reconcile.Result) string {
	if t.Action == realm.Create {
		return " does not exist"
	}
	return fmt.Sprintf(" differs in %s", number(len(t.Changes), "property", "properties"))
}

func wouldDo(t reconcile.Result) string {
	text := ": apply would update it"
	switch t.Action {
	case realm.Create:
		return ": apply would create it"
	case realm.Replace:
		text = ": apply --replace would delete and create it"
	case realm.Update, realm.Delete, realm.None, realm.Refuse:
	}
	if t.GateOpened {
		text += ", and the gate would let it pass"
	}
	return text
}

// tally returns "1 check failed, 1 warned, 12 passed, 2 skipped"; "" where there are none.
func tally(checks []check.Check) string {
	var parts []string
	for _, s := range []struct {
		status check.Status
		word   string
	}{{check.Fail, "failed"}, {check.Warn, "warned"}, {check.Pass, "passed"}, {check.Skip, "skipped"}} {
		n := 0
		for _, c := range checks {
			if c.Status == s.status {
				n++
			}
		}
		switch {
		case n == 0:
		case len(parts) == 0:
			parts = append(parts, number(n, "check", "checks")+" "+s.word)
		default:
			parts = append(parts, fmt.Sprintf("%d %s", n, s.word))
		}
	}
	return strings.Join(parts, ", ")
}

func number(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// printable puts text on one line and takes out what could steer a terminal or reorder what it shows.
func printable(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case steers(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD")))
}

// steers tells control characters and invisible formatting, direction overrides among it (Unicode Cc and Cf).
func steers(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }
