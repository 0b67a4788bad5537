package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
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
func JSON(w io.Writer, run fleet.Run, by By) error {
	out := jsonRunOf(run, by)
	out.Targets = []jsonTarget{}
	for _, t := range run.Targets {
		out.Targets = append(out.Targets, jsonTargetOf(t))
	}
	return Encode(w, out)
}

// JSONLines writes a line for each target, as [JSONTarget] does. The last line is the report, with counts in place of
// targets.
func JSONLines(w io.Writer, run fleet.Run, by By) error {
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
	out := jsonRunOf(run, by)
	out.jsonTally = &jsonTally{Counts: counts, Retries: tally.Retries, Lost: tally.Lost.Milliseconds()}
	return Encode(w, out)
}

// JSONTarget writes an element of the report's targets on one line.
func JSONTarget(w io.Writer, t reconcile.Result) error { return Encode(w, jsonTargetOf(t)) }

// Encode writes a value as one line of JSON. Every report for programs is written by it.
func Encode(w io.Writer, value any) error {
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false) // addresses contain &
	if err := encoder.Encode(value); err != nil {
		return err
	}
	_, err := w.Write(escape(line.Bytes()))
	return err
}

// By says which program made a report, and where.
type By struct {
	Program string // the version of the program
	Host    string // the name of the machine
}

type jsonRun struct {
	Version  int          `json:"version"`
	Program  string       `json:"program"`
	Host     string       `json:"host"`
	Time     string       `json:"time" jsonschema:"when the run began, RFC 3339"`
	Command  string       `json:"command"`
	Outcome  string       `json:"outcome"`
	Error    *Error       `json:"error"`
	Warnings []string     `json:"warnings" jsonschema:"that concern no target"`
	Targets  []jsonTarget `json:"targets,omitzero"`
	Duration int64        `json:"duration_ms"`
	*jsonTally
}

func jsonRunOf(run fleet.Run, by By) jsonRun {
	return jsonRun{
		Version: Version, Program: by.Program, Host: by.Host, Time: run.Began.UTC().Format(time.RFC3339), Command: run.Command,
		Outcome: string(run.Outcome), Error: ErrorOf(run.Err), Warnings: append([]string{}, run.Warnings...), Duration: run.Duration.Milliseconds(),
	}
}

// jsonTally replaces the targets in the last line.
type jsonTally struct {
	Counts  map[string]int `json:"counts" jsonschema:"of targets, by outcome"`
	Retries int            `json:"retries" jsonschema:"requests repeated at another node, because one did not answer"`
	Lost    int64          `json:"lost_ms" jsonschema:"spent on waiting for nodes that did not answer"`
}

type jsonTarget struct {
	Name     string       `json:"name"`
	Product  string       `json:"product" jsonschema:"empty for probe, as are endpoint and realm"`
	Endpoint string       `json:"endpoint"`
	Realm    string       `json:"realm"`
	Outcome  string       `json:"outcome"`
	Action   string       `json:"action"`
	Wrote    bool         `json:"wrote" jsonschema:"a write took effect, or may have: its answer was lost"`
	Changes  []jsonChange `json:"changes"`
	Checks   []Check      `json:"checks"`
	Saved    *string      `json:"saved"`
	Warnings []string     `json:"warnings"`
	Error    *Error       `json:"error"`
	Duration int64        `json:"duration_ms"`
	Requests int          `json:"requests"`
	Logins   []jsonLogin  `json:"logins,omitzero" jsonschema:"only of diagnose"`
}

type jsonChange struct {
	Property  *string `json:"property"`
	Op        string  `json:"op"`
	Before    *string `json:"before"`
	After     *string `json:"after"`
	Kind      string  `json:"kind" jsonschema:"property, group or grant"`
	Group     *string `json:"group" jsonschema:"of a group or grant, as are the keys below"`
	Path      *string `json:"path" jsonschema:"of a grant"`
	Role      *string `json:"role" jsonschema:"of a grant"`
	Propagate *bool   `json:"propagate" jsonschema:"of a grant; before and after say how it changes, as 1 or 0"`
	Written   bool    `json:"written" jsonschema:"the change was made"`
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
		Name: t.Name, Product: t.Product, Endpoint: t.Endpoint, Realm: t.Realm, Outcome: string(t.Outcome), Action: string(t.Action), Wrote: t.Wrote(),
		Changes: []jsonChange{}, Checks: []Check{}, Error: ErrorOf(t.Err), Duration: t.Duration.Milliseconds(),
		Warnings: append([]string{}, t.Notes()...), Requests: t.Requests, Logins: jsonLogins(t.Diagnosis),
	}
	if t.Saved != "" {
		out.Saved = &t.Saved
	}
	if out.Action == "" { // no plan was made
		out.Action = string(realm.None)
	}
	for _, c := range t.Changes {
		property := string(c.Property)
		out.Changes = append(out.Changes, jsonChange{Property: &property, Op: string(c.Op), Before: c.Before, After: c.After, Kind: "property", Written: t.WroteRealm()})
	}
	for _, c := range t.Access {
		change := accessChange(c)
		change.Written = slices.Contains(t.Made, c)
		out.Changes = append(out.Changes, change)
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
