package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// sentence says how a run ended for a target:
// "realm authelia on https://pve1:8006 is as declared; 12 checks passed; not checked: client.*".
func sentence(command string, t reconcile.Result) string {
	text := subject(t) + verdict(command, t)
	if tally := Tally(t.Checks); tally != "" {
		text += "; " + tally
	}
	if missing := notChecked(command, t); missing != "" {
		text += "; not checked: " + missing
	}
	return text
}

// subject names the realm and its cluster, or the issuer if there is no realm.
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
			return fmt.Sprintf(": apply would refuse the change (%s)", check.CodeOf(t.Err))
		}
		return fmt.Sprintf(" was not changed: refused (%s)", check.CodeOf(t.Err))
	case reconcile.Held:
		reason := "logins would fail" + decidedBy(t.Checks)
		if command == "plan" {
			return differs(t) + ": apply would not change it, because " + reason
		}
		return " was not changed, because " + reason
	case reconcile.Drift:
		return differs(t) + proposal(command, t)
	case reconcile.Unverified:
		if checking(command) {
			return " is not verified"
		}
		return achieved(t) + ", but not verified"
	case reconcile.Changed:
		return achieved(t)
	case reconcile.Unchanged:
		return unchanged(command)
	}
	return ": " + string(t.Outcome)
}

func unchanged(command string) string {
	switch {
	case command == "delete":
		return " does not exist: nothing to delete"
	case command == "restore":
		return " is there already: nothing to restore"
	case !checking(command):
		return " is as declared"
	}
	return " is verified"
}

// checking reports whether the command does nothing but check.
func checking(command string) bool {
	return command == "verify" || command == "probe" || command == "authelia"
}

// achieved says what was done, for outcomes that leave the realm as declared.
func achieved(t reconcile.Result) string {
	switch done := actions[t.Action].done; {
	case done != "":
		return done
	case t.Action == realm.Update || len(t.Access) > 0:
		return fmt.Sprintf(" is updated (%s)", amount(t))
	case t.Outcome == reconcile.Changed:
		return " is changed"
	}
	return " is as declared"
}

func differs(t reconcile.Result) string {
	return cmp.Or(actions[t.Action].found, " differs in "+amount(t))
}

// actions says what becomes of a realm as a whole: how a report calls it, what it finds before, and what a plan proposes.
var actions = map[realm.Action]struct{ done, found, proposal string }{
	realm.Create:  {" is created", " does not exist", ": apply would create it"},
	realm.Replace: {" is replaced", "", ": apply --replace would recreate it and give every user another name"},
	realm.Delete:  {" is deleted", " exists", ": delete would remove it"},
}

// amount counts changes: "2 properties, 1 group and 3 grants".
func amount(t reconcile.Result) string {
	groups := 0
	for _, c := range t.Access {
		if c.Kind == realm.AccessGroup {
			groups++
		}
	}
	var parts []string
	if len(t.Changes) > 0 || len(t.Access) == 0 {
		parts = append(parts, check.Count(len(t.Changes), "property", "properties"))
	}
	if groups > 0 {
		parts = append(parts, check.Count(groups, "group", "groups"))
	}
	if grants := len(t.Access) - groups; grants > 0 {
		parts = append(parts, check.Count(grants, "grant", "grants"))
	}
	if last := len(parts) - 1; last > 0 {
		return strings.Join(parts[:last], ", ") + " and " + parts[last]
	}
	return parts[0]
}

func proposal(command string, t reconcile.Result) string {
	text := cmp.Or(actions[t.Action].proposal, ": apply would update it")
	switch command {
	case "restore":
		text = ": restore would create it"
	case "rotate":
		text = ": rotate would write the new client key"
	}
	if key, _ := check.Find(t.Checks, check.ClientCredentials); key.Status == check.Pass && t.Action != realm.Create && len(check.Failures(t.Checks)) == 0 {
		text += ", and logins would keep working"
	}
	return text
}

// decidedBy names the failed checks that closed the gate.
func decidedBy(checks []check.Check) string {
	var ids []string
	for _, c := range check.Failures(checks) {
		ids = append(ids, string(c.ID))
	}
	if len(ids) == 0 {
		return ""
	}
	return " (" + strings.Join(ids, ", ") + ")"
}

// Tally returns "1 check failed, 1 warned, 12 passed"; "" for no checks.
func Tally(checks []check.Check) string {
	count := map[check.Status]int{}
	for _, c := range checks {
		count[c.Status]++
	}
	var parts []string
	for _, s := range []struct {
		status check.Status
		word   string
	}{{check.Fail, "failed"}, {check.Warn, "warned"}, {check.Pass, "passed"}} {
		switch n := count[s.status]; {
		case n == 0:
		case len(parts) == 0:
			parts = append(parts, check.Count(n, "check", "checks")+" "+s.word)
		default:
			parts = append(parts, fmt.Sprintf("%d %s", n, s.word))
		}
	}
	return strings.Join(parts, ", ")
}

// notChecked names the checks that were skipped, that a run had no reason to make, or that the configuration turns off. A group
// without any check is named as a whole, such as client.*.
func notChecked(command string, t reconcile.Result) string {
	partly := command != "plan" && command != "apply" && command != "verify" || t.Outcome == reconcile.Failed // says itself what it checks
	var groups, missing []string
	made := map[string]bool{}
	for _, e := range check.Catalog() {
		group, _, _ := strings.Cut(string(e.ID), ".")
		c, found := check.Find(t.Checks, e.ID)
		switch {
		case found && c.Status != check.Skip:
			made[group] = true
		case found || !partly && len(t.Checks) > 0:
			groups, missing = append(groups, group), append(missing, string(e.ID))
		}
	}
	for i, group := range groups {
		if !made[group] && !partly {
			missing[i] = group + ".*"
		}
	}
	return strings.Join(slices.Compact(missing), ", ")
}
