// Package report renders what became of a run: as text for people, as JSON for scripts, and as Prometheus metrics. It also decides whether a run is news.
//
// Rendering is pure: it reads no clock and does not ask what kind of terminal there is.
package report

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// Text writes a run for people.
//
// A lone target gets its changes, its checks, and a last line with its outcome. Commands that only check show all
// checks, other commands those that warn or fail. Several targets are listed worst first. Those that ended alike share
// a heading, and the first of them is shown as the example. The last line counts all targets.
func Text(w io.Writer, run fleet.Run, style Style) error {
	p := &printer{Style: style}
	if run.Err != nil && !style.OmitErrors {
		p.fault(0, run.Err)
	}
	switch {
	case style.Quiet && run.Err == nil && !slices.ContainsFunc(run.Targets, noteworthy):
	case len(run.Targets) == 1:
		t := run.Targets[0]
		p.target(0, run.Command, t, !style.OmitErrors)
		text := p.clean(p.sentence(run.Command, t))
		if style.Verbose {
			text += fmt.Sprintf(" (%d ms)", t.Duration.Milliseconds())
		}
		p.line(0, p.paint(outcomeColor[t.Outcome], text))
	case len(run.Targets) > 1:
		p.several(run)
	}
	return p.writeTo(w)
}

// Checks writes checks that belong to no target, and how many of each status there are.
func Checks(w io.Writer, checks []check.Check, style Style) error {
	p := &printer{Style: style}
	if style.Quiet {
		checks = findings(checks)
	}
	p.checks(0, checks)
	if len(checks) > 0 {
		color := green
		if len(check.Failures(checks)) > 0 {
			color = red
		}
		p.line(0, p.paint(color, Tally(checks)))
	}
	return p.writeTo(w)
}

// noteworthy reports whether a target is shown where only what matters is shown.
func noteworthy(t reconcile.Result) bool {
	told := t.Diagnosis != nil && len(t.Diagnosis.Logins) > 0
	return t.Outcome != reconcile.Unchanged || told || len(t.Notes()) > 0 || len(findings(t.Checks)) > 0
}

// several writes the targets in groups that ended alike.
func (p *printer) several(run fleet.Run) {
	groups := map[string][]reconcile.Result{}
	for i, t := range run.Targets {
		key := likeness(t)
		if p.Verbose || t.Diagnosis != nil && len(t.Diagnosis.Logins) > 0 {
			key = fmt.Sprint(i)
		}
		groups[key] = append(groups[key], t)
	}
	ordered := slices.SortedFunc(maps.Values(groups), func(a, b []reconcile.Result) int {
		return cmp.Or(severity(a[0].Outcome)-severity(b[0].Outcome), cmp.Compare(a[0].Name, b[0].Name))
	})
	for _, group := range ordered {
		first := group[0]
		if !noteworthy(first) && (p.Quiet || !p.Verbose) {
			continue // the last line counts them
		}
		color := outcomeColor[first.Outcome]
		if len(group) == 1 {
			p.line(0, p.paint(color, p.clean(first.Name+": "+p.sentence(run.Command, first))))
			p.target(2, run.Command, first, true)
			continue
		}
		p.line(0, p.paint(color, p.clean(heading(run.Command, group))))
		p.line(2, p.clean("for example "+first.Name+":"))
		p.target(4, run.Command, first, true)
	}
	p.line(0, p.paint(bold, counts(run)))
}

// likeness is a key that targets share if they ended alike: same outcome, error, changed properties and findings.
func likeness(t reconcile.Result) string {
	key := []any{t.Outcome, t.Action, check.CodeOf(t.Err), len(t.Warnings)}
	for _, c := range t.Changes {
		key = append(key, c.Property, c.Op)
	}
	for _, c := range t.Access {
		key = append(key, c.Kind, c.Op)
	}
	for _, c := range findings(t.Checks) {
		key = append(key, c.ID, c.Status)
	}
	return fmt.Sprint(key...)
}

// heading names the first targets of a group, and says how many more there are.
func heading(command string, group []reconcile.Result) string {
	const most = 8
	var names []string
	for _, t := range group {
		names = append(names, t.Name)
	}
	text := word(command, group[0].Outcome)
	if group[0].Err != nil {
		text += fmt.Sprintf(" (%s)", check.CodeOf(group[0].Err))
	}
	if rest := len(names) - most; rest > 1 {
		return fmt.Sprintf("%s: %s and %d more", text, strings.Join(names[:most], ", "), rest)
	}
	return text + ": " + strings.Join(names, ", ")
}

// word returns the word for an outcome: a command that only checks leaves everything unchanged, so it says verified.
func word(command string, o reconcile.Outcome) string {
	if o == reconcile.Unchanged && checking(command) {
		return "verified"
	}
	return string(o)
}

// counts returns "1000 targets: 1 failed, 999 unchanged".
func counts(run fleet.Run) string {
	tally := run.Tally()
	var parts []string
	for _, o := range reconcile.Outcomes() {
		if tally.Outcomes[o] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", tally.Outcomes[o], word(run.Command, o)))
		}
	}
	text := fmt.Sprintf("%d targets: %s", tally.Targets, strings.Join(parts, ", "))
	if tally.Lost > 0 {
		text += fmt.Sprintf("; nodes that did not answer cost %s", tally.Lost.Round(100*time.Millisecond))
		if tally.Retries > 0 {
			text += ", and " + check.Count(tally.Retries, "request was retried", "requests were retried")
		}
	}
	return text
}

// target writes everything about a target besides its sentence.
func (p *printer) target(indent int, command string, t reconcile.Result, errors bool) {
	p.changes(indent, t)
	if t.Diagnosis != nil {
		p.logins(indent, t.Diagnosis)
	}
	checks := t.Checks
	if !p.Verbose && (indent > 0 || p.Quiet || !checking(command)) {
		checks = findings(checks)
	}
	if t.Diagnosis != nil && !p.Verbose {
		checks = unsaid(findings(t.Checks), t.Diagnosis)
		if len(checks) > 0 {
			p.line(indent, "verify, for logins that fail before a node writes a line about them:")
		}
	}
	p.checks(indent, checks)
	if !errors {
		return
	}
	for _, warning := range t.Notes() {
		p.labelled(indent, p.paint(yellow, "warning:"), warning)
	}
	if t.Err != nil {
		p.fault(indent, t.Err)
	}
}

// sentence says how a run ended for a target.
func (p *printer) sentence(command string, t reconcile.Result) string {
	if t.Diagnosis != nil {
		return p.diagnosed(t)
	}
	return sentence(command, t)
}

// undone reports whether a target may have planned changes that were not made.
func undone(t reconcile.Result) bool {
	return t.Outcome == reconcile.Failed || t.Outcome == reconcile.Refused || t.Outcome == reconcile.Held
}

// findings returns the checks that warn or fail.
func findings(checks []check.Check) []check.Check {
	return slices.DeleteFunc(slices.Clone(checks), func(c check.Check) bool {
		return c.Status != check.Fail && c.Status != check.Warn
	})
}

// changes writes what was changed or is planned. If the run did not reach its end, it tells the two apart.
func (p *printer) changes(indent int, t reconcile.Result) {
	if !undone(t) {
		p.properties(indent, t.Changes)
		p.access(indent, t.Access)
		return
	}
	section := func(title string, changes []realm.Change, access []realm.AccessChange) {
		if len(changes)+len(access) > 0 {
			p.line(indent, title)
			p.properties(indent+2, changes)
			p.access(indent+2, access)
		}
	}
	left := slices.DeleteFunc(slices.Clone(t.Access), func(c realm.AccessChange) bool { return slices.Contains(t.Made, c) })
	switch {
	case t.Stage == reconcile.Sent && len(t.Made) == 0:
		section("sent, and the answer was lost:", t.Changes, nil)
		section("planned:", nil, left)
	case t.Stage > reconcile.Idle:
		section("written:", t.Changes, t.Made)
		section("not written:", nil, left)
	default:
		section("planned:", t.Changes, t.Access)
	}
}

func (p *printer) properties(indent int, changes []realm.Change) {
	arrow := " → "
	if p.ASCII {
		arrow = " -> "
	}
	for _, c := range changes {
		name := p.clean(string(c.Property))
		d, _ := c.Property.Definition()
		switch {
		case c.After == nil && c.Before == nil:
			p.line(indent, p.paint(red, "- "+name))
		case c.After == nil:
			p.line(indent, p.paint(red, "- "+name+": ")+p.value(c.Before))
		case c.Before == nil:
			p.line(indent, p.paint(green, "+ "+name+": ")+p.value(c.After))
		case d.Form == realm.FormKey:
			p.line(indent, p.paint(yellow, "~ "+name+": ")+"differs")
		default:
			p.line(indent, p.paint(yellow, "~ "+name+": ")+p.value(c.Before)+arrow+p.value(c.After))
		}
	}
}

func (p *printer) access(indent int, changes []realm.AccessChange) {
	for _, c := range changes {
		paint := green
		if c.Op == realm.Unset {
			paint = red
		}
		p.line(indent, p.paint(paint, p.clean(c.String())))
	}
}

func (p *printer) value(v *string) string {
	if *v == "" {
		return `""`
	}
	return p.clean((*check.Cleaner)(nil).Clean(*v)) // cut short: a comment may have 4096 characters
}

var outcomeColor = map[reconcile.Outcome]color{
	reconcile.Failed: red, reconcile.Refused: red, reconcile.Unverified: red,
	reconcile.Held: yellow, reconcile.Drift: yellow,
	reconcile.Changed: green, reconcile.Unchanged: green,
}

// severity ranks outcomes, the worst first.
func severity(o reconcile.Outcome) int { return slices.Index(reconcile.Outcomes(), o) }
