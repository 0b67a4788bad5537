package ansible

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

// answer is what the module gets back and returns. Changes and checks are as in the JSON report of every command.
type answer struct {
	Protocol int             `json:"protocol"`
	Changed  bool            `json:"changed"`
	Failed   bool            `json:"failed"`
	Msg      string          `json:"msg"`
	Code     string          `json:"code,omitempty"` // why it failed: a code of the report, or unverified
	Hint     string          `json:"hint,omitempty"`
	Realm    string          `json:"realm"`
	Endpoint string          `json:"endpoint,omitempty"`
	Action   string          `json:"action"`
	Outcome  string          `json:"outcome"`
	Changes  json.RawMessage `json:"changes"`
	Checks   json.RawMessage `json:"checks"`
	Diff     diff            `json:"diff"`
	Warnings []string        `json:"warnings"`
	Saved    string          `json:"saved,omitempty"` // the file in which a deleted realm is kept
}

// diff is what Ansible shows with --diff: the properties that change.
type diff struct {
	BeforeHeader string            `json:"before_header"`
	AfterHeader  string            `json:"after_header"`
	Before       map[string]string `json:"before"`
	After        map[string]string `json:"after"`
}

// unverified is the code of a task whose realm is in place while a login through it would fail.
const unverified = "unverified"

// failed is the answer of a task that came to nothing.
func failed(realmName string, err error) answer {
	d := described(err)
	return answer{
		Protocol: Protocol, Failed: true, Msg: d.Message, Code: string(d.Code), Hint: d.Hint(),
		Realm: shownRealm(realmName), Action: string(realm.None), Outcome: string(reconcile.Failed),
		Changes: json.RawMessage("[]"), Checks: json.RawMessage("[]"), Diff: difference("", nil), Warnings: []string{},
	}
}

// shownRealm repeats a realm's name only where it is one.
func shownRealm(name string) string {
	if realm.ValidateName(name) != nil {
		return ""
	}
	return name
}

// answer says what became of a run.
func (t task) answer(run fleet.Run) answer {
	if run.Err != nil { // before the one target was looked at
		return failed(t.config.Targets[0].Realm.Name, run.Err)
	}
	target := run.Targets[0]
	for i := range target.Checks {
		target.Checks[i].Remedy = check.Advice(inArguments(target.Checks[i].Remedy.String()))
	}
	a := answer{
		Protocol: Protocol, Realm: target.Realm, Endpoint: target.Endpoint, Action: string(target.Action), Outcome: string(target.Outcome),
		Diff:     difference(fmt.Sprintf("realm %s at %s", target.Realm, target.Endpoint), target.Changes),
		Warnings: append(slices.Clone(t.config.Warnings), target.Warnings...), Saved: target.Saved,
	}
	if a.Action == "" {
		a.Action = string(realm.None)
	}
	a.Changes, a.Checks = reported(run)
	if err := target.Err; err != nil {
		d := described(err)
		a.fail(string(d.Code), d.Message, d.Hint())
		a.Changed = !t.check && d.Code == check.NotTaken // Proxmox took the write, whatever it made of it
		return a.complete()
	}
	a.Changed = target.Action != realm.None && target.Action != ""
	a.Msg = t.says(target)
	if denied, ok := check.Find(target.Checks, check.ProxmoxPermissions); ok && a.Changed && t.check && denied.Status == check.Fail {
		a.fail(string(check.PermissionDenied), denied.Summary, denied.Remedy.String())
		a.Changed = false // the write would be refused
		return a.complete()
	}
	if !t.absent {
		t.judge(&a, target)
	}
	return a.complete()
}

// judge does with checks what verify says.
func (t task) judge(a *answer, target reconcile.Result) {
	failures := check.Failures(target.Checks)
	if t.verify == verifyNot {
		return
	}
	for _, c := range target.Checks {
		if c.Status == check.Warn || c.Status == check.Fail && t.verify == verifyWarn {
			a.Warnings = append(a.Warnings, sentence(c)+"; "+c.Remedy.String())
		}
	}
	if len(failures) == 0 || t.verify == verifyWarn {
		return
	}
	var said []string
	for _, c := range failures {
		said = append(said, sentence(c))
	}
	a.fail(unverified, a.Msg+", but a login would fail: "+strings.Join(said, "; "), failures[0].Remedy.String())
}

func sentence(c check.Check) string { return string(c.ID) + ": " + c.Summary }

func (a *answer) fail(code, message, hint string) {
	a.Failed, a.Code, a.Msg, a.Hint = true, code, message, hint
}

// complete makes empty lists of absent ones.
func (a *answer) complete() answer {
	if a.Warnings == nil {
		a.Warnings = []string{}
	}
	return *a
}

// says sums a run without an error up.
func (t task) says(target reconcile.Result) string {
	name := "realm " + target.Realm
	done := map[realm.Action]string{realm.Create: "created ", realm.Update: "updated ", realm.Replace: "replaced ", realm.Delete: "deleted "}
	if t.check {
		done = map[realm.Action]string{realm.Create: "would create ", realm.Update: "would update ", realm.Replace: "would replace ", realm.Delete: "would delete "}
	}
	switch verb := done[target.Action]; {
	case verb == "" && t.absent:
		return "there is no " + name
	case verb == "":
		return name + " is as declared"
	case target.Action == realm.Update:
		var names []string
		for _, c := range target.Changes {
			names = append(names, string(c.Property))
		}
		return verb + name + ": " + strings.Join(names, ", ")
	case target.Saved != "":
		return verb + name + ", which is kept in " + target.Saved
	default:
		return verb + name
	}
}

// difference shows changes as Ansible's diff. Ansible compares the two sides as text, so a client key that changes must
// not look alike on both.
func difference(header string, changes []realm.Change) diff {
	d := diff{BeforeHeader: header, AfterHeader: header, Before: map[string]string{}, After: map[string]string{}}
	for _, c := range changes {
		if c.Before != nil {
			d.Before[string(c.Property)] = *c.Before
		}
		if c.After != nil {
			d.After[string(c.Property)] = *c.After
		}
		if c.Before != nil && c.After != nil && *c.Before == check.Mask && *c.After == check.Mask {
			d.After[string(c.Property)] = check.Mask + " changed"
		}
	}
	return d
}

// reported returns the changes and checks of a run with one target as the report has them.
func reported(run fleet.Run) (changes, checks json.RawMessage) {
	var buffer bytes.Buffer
	var shown struct {
		Targets []struct {
			Changes json.RawMessage `json:"changes"`
			Checks  json.RawMessage `json:"checks"`
		} `json:"targets"`
	}
	if report.JSON(&buffer, run) != nil || json.Unmarshal(buffer.Bytes(), &shown) != nil || len(shown.Targets) != 1 {
		return json.RawMessage("[]"), json.RawMessage("[]")
	}
	return shown.Targets[0].Changes, shown.Targets[0].Checks
}
