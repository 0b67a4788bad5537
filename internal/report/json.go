package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// Version is the version of the JSON report. Later versions only add keys.
const Version = 1

// JSON writes a run as one object on one line. Durations are whole milliseconds. Lists are never null. Absent values of a
// property, absent errors and an absent file are null.
func JSON(w io.Writer, run fleet.Run) error {
	out := jsonRun{
		Version: Version, Command: run.Command, Outcome: string(run.Outcome), Error: ErrorOf(run.Err),
		Targets: []jsonTarget{}, Duration: run.Duration.Milliseconds(),
	}
	for _, t := range run.Targets {
		out.Targets = append(out.Targets, jsonTargetOf(t))
	}
	return encode(w, out)
}

// JSONLines writes a line for each target, as [JSONTarget] does. The last line is the report, with counts in place of
// targets.
func JSONLines(w io.Writer, run fleet.Run) error {
	for _, t := range run.Targets {
		if err := JSONTarget(w, t); err != nil {
			return err
		}
	}
	tally := run.Tally()
	counts := map[string]int{}
	for outcome, n := range tally.Outcomes {
		counts[string(outcome)] = n
	}
	return encode(w, jsonRun{
		Version: Version, Command: run.Command, Outcome: string(run.Outcome), Error: ErrorOf(run.Err), Duration: run.Duration.Milliseconds(),
		jsonTally: &jsonTally{Counts: counts, Retries: tally.Retries, Lost: tally.Lost.Milliseconds()},
	})
}

// JSONTarget writes an element of the report's targets on one line.
func JSONTarget(w io.Writer, t reconcile.Result) error { return encode(w, jsonTargetOf(t)) }

// encode writes a value as one line of JSON.
func encode(w io.Writer, value any) error {
	encoder := json.NewEncoder(escaping{w})
	encoder.SetEscapeHTML(false) // addresses contain &
	return encoder.Encode(value)
}

// escaping writes JSON without the characters that a terminal may obey. An encoder hands over each value as a whole.
type escaping struct{ to io.Writer }

func (e escaping) Write(encoded []byte) (int, error) {
	if _, err := e.to.Write(escape(encoded)); err != nil {
		return 0, err
	}
	return len(encoded), nil
}

type jsonRun struct {
	Version  int          `json:"version"`
	Command  string       `json:"command"`
	Outcome  string       `json:"outcome"`
	Error    *Error       `json:"error"`
	Targets  []jsonTarget `json:"targets,omitzero"`
	Duration int64        `json:"duration_ms"`
	*jsonTally
}

// jsonTally replaces the targets in the last line.
type jsonTally struct {
	Counts  map[string]int `json:"counts"`  // of targets, by outcome
	Retries int            `json:"retries"` // requests repeated at another node, because one did not answer
	Lost    int64          `json:"lost_ms"` // spent on waiting for nodes that did not answer
}

type jsonTarget struct {
	Name     string       `json:"name"`
	Endpoint string       `json:"endpoint"`
	Realm    string       `json:"realm"`
	Outcome  string       `json:"outcome"`
	Action   string       `json:"action"`
	Changes  []jsonChange `json:"changes"`
	Checks   []Check      `json:"checks"`
	Error    *Error       `json:"error"`
	Duration int64        `json:"duration_ms"`
	Warnings []string     `json:"warnings"`
	Requests int          `json:"requests"`
	Saved    *string      `json:"saved"`
	Logins   []jsonLogin  `json:"logins,omitzero"` // only of diagnose
}

type jsonChange struct {
	Property  *string `json:"property"`
	Op        string  `json:"op"`
	Before    *string `json:"before"`
	After     *string `json:"after"`
	Kind      string  `json:"kind"`      // property, group or grant
	Group     *string `json:"group"`     // of a group or grant, as are the keys below
	Path      *string `json:"path"`      // of a grant
	Role      *string `json:"role"`      // of a grant
	Propagate *bool   `json:"propagate"` // of a grant; before and after say how it changes, as 1 or 0
}

func accessChange(c realm.AccessChange) jsonChange {
	out := jsonChange{Op: string(c.Op), Kind: string(c.Kind), Group: &c.Group}
	if c.Kind == realm.AccessGrant {
		out.Path, out.Role, out.Propagate = &c.Grant.Path, &c.Grant.Role, &c.Grant.Propagate
		below := map[bool]string{true: "1", false: "0"}
		is, other := below[c.Grant.Propagate], below[!c.Grant.Propagate]
		switch {
		case c.Op == realm.Unset:
			out.Before = &is
		case c.Flips:
			out.Before, out.After = &other, &is
		default:
			out.After = &is
		}
	}
	return out
}

// Check is a check in a JSON report.
type Check struct {
	ID       string `json:"id"`
	Status   string `json:"status"`
	Summary  string `json:"summary"`
	Evidence string `json:"evidence"`
	Hint     string `json:"hint"`
	Duration int64  `json:"duration_ms"`
}

// Error is an error in a JSON report. A joined error, such as several mistakes in a configuration, has a line for each in
// message and hint.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

func jsonTargetOf(t reconcile.Result) jsonTarget {
	out := jsonTarget{
		Name: t.Name, Endpoint: t.Endpoint, Realm: t.Realm, Outcome: string(t.Outcome), Action: string(t.Action),
		Changes: []jsonChange{}, Checks: []Check{}, Error: ErrorOf(t.Err), Duration: t.Duration.Milliseconds(),
		Warnings: append([]string{}, t.Warnings...), Requests: t.Requests, Logins: jsonLogins(t.Diagnosis),
	}
	if t.Saved != "" {
		out.Saved = &t.Saved
	}
	if out.Action == "" { // no plan was made
		out.Action = string(realm.None)
	}
	for _, c := range t.Changes {
		property := string(c.Property)
		out.Changes = append(out.Changes, jsonChange{Property: &property, Op: string(c.Op), Before: c.Before, After: c.After, Kind: "property"})
	}
	for _, c := range t.Access {
		out.Changes = append(out.Changes, accessChange(c))
	}
	for _, c := range t.Checks {
		out.Checks = append(out.Checks, CheckOf(c))
	}
	return out
}

// CheckOf returns a check as a JSON report has it.
func CheckOf(c check.Check) Check {
	return Check{
		string(c.ID), string(c.Status), c.Summary, c.Evidence, string(c.Hint),
		c.Duration.Round(time.Millisecond).Milliseconds(),
	}
}

// ErrorOf returns an error as a JSON report has it; nil for nil.
func ErrorOf(err error) *Error {
	if err == nil {
		return nil
	}
	return &Error{string(check.CodeOf(err)), check.MessageOf(err), check.Printable(string(check.HintOf(err)))}
}

// escape replaces characters that a terminal may obey by \u escapes. encoding/json leaves DEL, C1 controls and
// invisible formatting as they are. They occur only in strings, so no value changes.
func escape(encoded []byte) []byte {
	steers := func(r rune) bool { return r != '\n' && check.Invisible(r) }
	if !bytes.ContainsFunc(encoded, steers) {
		return encoded
	}
	out := make([]byte, 0, len(encoded)+64)
	for _, r := range string(encoded) {
		switch {
		case !steers(r):
			out = utf8.AppendRune(out, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}
