// Package report renders what became of a run: as text for people, as JSON for scripts, as JUnit XML for
// pipelines, as Prometheus metrics, and as the short block that cron mails.
//
// Everything here is pure: it neither reads a clock nor asks what kind of terminal there is.
package report

import (
	"cmp"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// Style says how text looks. The zero value is complete, plain UTF-8 for a pipe or a file.
type Style struct {
	Color   bool // with ANSI colours; statuses are words all the same
	ASCII   bool // nothing beyond ASCII, for a locale that is not UTF-8: other characters are escaped
	Width   int  // of the terminal in columns, where summaries and evidence wrap; 0: they do not
	Quiet   bool // nothing at all about a run whose targets are all unchanged
	Verbose bool // every check with its evidence and time, and every target by name
	// Aside leaves out the run's error, and a lone target's error and warnings, because the caller shows them on
	// standard error. Where there are several targets, each one's stay with it.
	Aside bool
	// Wording words the hints; the zero value is for readers of a configuration file.
	Wording check.Wording
}

// Text writes a run for people.
//
// A lone target gets its changes, a line for each check (all of them where checking was the command,
// otherwise those that warn or fail), and a last line that says in words what became of it. Several targets
// are listed worst first, those alike together under one heading, and the last line counts them.
// Hints are never wrapped, because they hold commands to copy.
func Text(w io.Writer, run fleet.Run, style Style) error {
	p := &printer{Style: style}
	if run.Err != nil && !style.Aside {
		p.fault(0, run.Err)
	}
	switch {
	case style.Quiet && run.Err == nil && quiet(run):
	case len(run.Targets) == 1:
		p.lone(run.Command, run.Targets[0])
	case len(run.Targets) > 1:
		p.several(run)
	}
	_, err := io.WriteString(w, p.String())
	return err
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
		p.line(0, p.paint(color, tally(checks)))
	}
	_, err := io.WriteString(w, p.String())
	return err
}

func quiet(run fleet.Run) bool {
	return !slices.ContainsFunc(run.Targets, func(t reconcile.Result) bool { return t.Outcome != reconcile.Unchanged })
}

// printer builds the text. Whatever it is given passes text() before it is written.
type printer struct {
	strings.Builder
	Style
	names *strings.Replacer // what one target's text is generalised with; nil: nothing
}

func (p *printer) lone(command string, t reconcile.Result) {
	p.body(0, command, t, !p.Aside)
	p.line(0, p.paint(outcomeColor[t.Outcome], p.text(sentence(command, t))+p.took(t.Duration)))
}

// group is targets that read alike: same outcome, and details that differ in the endpoint at most.
type group struct {
	outcome reconcile.Outcome
	body    string
	targets []reconcile.Result
}

func (p *printer) several(run fleet.Run) {
	index := map[string]*group{}
	var groups []*group
	for _, t := range run.Targets {
		general := &printer{Style: p.Style, names: generalise(t)}
		general.body(2, run.Command, t, true)
		key := string(t.Outcome) + "\n" + general.String()
		if index[key] == nil {
			index[key] = &group{outcome: t.Outcome, body: general.String()}
			groups = append(groups, index[key])
		}
		index[key].targets = append(index[key].targets, t)
	}
	worst := reconcile.Outcomes()
	slices.SortStableFunc(groups, func(a, b *group) int {
		return cmp.Or(
			cmp.Compare(slices.Index(worst, a.outcome), slices.Index(worst, b.outcome)),
			cmp.Compare(min(len(b.body), 1), min(len(a.body), 1)), // those with something to say first
		)
	})
	for _, g := range groups {
		if p.Quiet && g.outcome == reconcile.Unchanged {
			continue
		}
		p.line(0, p.paint(outcomeColor[g.outcome], p.text(p.heading(run.Command, g))))
		if len(g.targets) == 1 {
			p.body(2, run.Command, g.targets[0], true)
		} else {
			p.WriteString(g.body)
		}
	}
	p.line(0, p.paint(bold, counts(run))+p.took(run.Duration))
}

// generalise replaces what names the target's endpoint, so that one failure of a thousand targets is told once.
func generalise(t reconcile.Result) *strings.Replacer {
	pairs := []string{}
	if u, err := url.Parse(t.Endpoint); err == nil && u.Hostname() != "" {
		pairs = append(pairs, t.Endpoint, "<endpoint>", u.Host, "<endpoint>", u.Hostname(), "<host>")
	}
	return strings.NewReplacer(pairs...)
}

func (p *printer) heading(command string, g *group) string {
	if len(g.targets) == 1 {
		return g.targets[0].Name + ": " + sentence(command, g.targets[0])
	}
	const most = 8
	var names []string
	for _, t := range g.targets {
		names = append(names, t.Name)
	}
	if rest := len(names) - most; rest > 1 && !p.Verbose {
		return fmt.Sprintf("%s: %s and %d more", g.outcome, strings.Join(names[:most], ", "), rest)
	}
	return fmt.Sprintf("%s: %s", g.outcome, strings.Join(names, ", "))
}

// counts returns "1000 targets: 1 failed, 999 unchanged".
func counts(run fleet.Run) string {
	number := map[reconcile.Outcome]int{}
	for _, t := range run.Targets {
		number[t.Outcome]++
	}
	var parts []string
	for _, o := range reconcile.Outcomes() {
		if number[o] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", number[o], o))
		}
	}
	return fmt.Sprintf("%d targets: %s", len(run.Targets), strings.Join(parts, ", "))
}

// body writes what belongs to a target besides its sentence.
func (p *printer) body(indent int, command string, t reconcile.Result, aside bool) {
	if len(t.Changes) > 0 && undone(t.Outcome) {
		p.line(indent, "planned:")
		p.changes(indent+2, t.Changes)
	} else {
		p.changes(indent, t.Changes)
	}
	checks := t.Checks
	if !p.Verbose && (indent > 0 || p.Quiet || !asks(command)) {
		checks = findings(checks)
	}
	p.checks(indent, checks)
	if !aside {
		return
	}
	for _, warning := range t.Warnings {
		p.labelled(indent, p.paint(yellow, "warning:"), warning)
	}
	if t.Err != nil {
		p.fault(indent, t.Err)
	}
}

// undone tells that the changes of a target with this outcome were planned, and not, or not surely, made.
func undone(o reconcile.Outcome) bool {
	return o == reconcile.Failed || o == reconcile.Refused || o == reconcile.Held
}

// findings returns the checks that ask for somebody's attention.
func findings(checks []check.Check) []check.Check {
	return slices.DeleteFunc(slices.Clone(checks), func(c check.Check) bool {
		return c.Status != check.Fail && c.Status != check.Warn
	})
}

func (p *printer) changes(indent int, changes []realm.Change) {
	for _, c := range changes {
		name := p.text(string(c.Property))
		switch {
		case c.After == nil && c.Before == nil:
			p.line(indent, p.paint(red, "- "+name))
		case c.After == nil:
			p.line(indent, p.paint(red, "- "+name+": ")+p.value(c.Before))
		case c.Before == nil:
			p.line(indent, p.paint(green, "+ "+name+": ")+p.value(c.After))
		default:
			p.line(indent, p.paint(yellow, "~ "+name+": ")+p.value(c.Before)+p.arrow()+p.value(c.After))
		}
	}
}

func (p *printer) value(v *string) string {
	if *v == "" {
		return `""`
	}
	return p.text((*check.Cleaner)(nil).Clean(*v)) // bounded: a comment may be 4096 characters long
}

func (p *printer) arrow() string {
	if p.ASCII {
		return " -> "
	}
	return " → "
}

func (p *printer) checks(indent int, checks []check.Check) {
	width := 0
	for _, c := range checks {
		width = max(width, utf8.RuneCountInString(p.text(string(c.ID))))
	}
	for _, c := range checks {
		id := p.text(string(c.ID))
		head := p.paint(statusColor[c.Status], fmt.Sprintf("%-4s", p.text(string(c.Status)))) + "  " +
			id + strings.Repeat(" ", width-utf8.RuneCountInString(id)) + "  "
		text := p.text(c.Summary)
		if c.Duration > 0 {
			text += p.took(c.Duration)
		}
		p.wrapped(indent, head, 4+2+width+2, text)
		attention := c.Status == check.Fail || c.Status == check.Warn
		if c.Evidence != "" && (attention || p.Verbose) {
			p.wrapped(indent+6, p.paint(dim, "evidence:")+" ", len("evidence: "), p.text(c.Evidence))
		}
		if len(c.Remedy) > 0 && (attention || p.Verbose) {
			p.line(indent+6, p.paint(dim, "hint:")+" "+p.text(c.Remedy.In(p.Wording)))
		}
	}
}

func (p *printer) fault(indent int, err error) {
	f := check.Describe(err)
	p.labelled(indent, p.paint(red, "error:"), f.Message)
	if hint := f.HintIn(p.Wording); hint != "" {
		p.labelled(indent, p.paint(dim, "hint:"), hint)
	}
}

// labelled writes each line of the text after the label, so that a joined error reads as several.
func (p *printer) labelled(indent int, label, text string) {
	for line := range strings.Lines(text) {
		p.line(indent, label+" "+p.text(line))
	}
}

func (p *printer) line(indent int, text string) {
	p.WriteString(strings.Repeat(" ", indent) + strings.TrimRight(text, " ") + "\n")
}

// wrapped writes the text after a head of so many columns, and what does not fit in the width below it. Words are
// never broken: an address is there to be copied.
func (p *printer) wrapped(indent int, head string, columns int, text string) {
	room := p.Width - indent - columns
	if p.Width <= 0 || room < 20 { // too narrow for a column of its own: the terminal may wrap
		p.line(indent, head+text)
		return
	}
	line, length := head, 0
	for _, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		if length > 0 && length+1+n > room {
			p.line(indent, line)
			line, length = strings.Repeat(" ", columns), 0
		}
		if length > 0 {
			line, length = line+" ", length+1
		}
		line, length = line+word, length+n
	}
	p.line(indent, line)
}

func (p *printer) took(d time.Duration) string {
	if !p.Verbose || d <= 0 {
		return ""
	}
	return fmt.Sprintf(" (%d ms)", d.Milliseconds())
}

// text returns what others said on one line, without anything that could steer the terminal.
func (p *printer) text(s string) string {
	s = printable(s)
	if p.names != nil {
		s = p.names.Replace(s)
	}
	if !p.ASCII {
		return s
	}
	s = strings.ReplaceAll(s, "…", "...")
	var out strings.Builder
	for _, r := range s {
		switch {
		case r < utf8.RuneSelf:
			out.WriteRune(r)
		case r <= 0xffff:
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			fmt.Fprintf(&out, `\U%08x`, r)
		}
	}
	return out.String()
}

// SGR sequences (ECMA-48).
const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
)

var statusColor = map[check.Status]string{check.Pass: green, check.Warn: yellow, check.Fail: red, check.Skip: dim}

var outcomeColor = map[reconcile.Outcome]string{
	reconcile.Failed: red, reconcile.Refused: red, reconcile.Unverified: red,
	reconcile.Held: yellow, reconcile.Drift: yellow,
	reconcile.Changed: green, reconcile.Unchanged: green,
}

func (p *printer) paint(color, text string) string {
	if !p.Color || color == "" {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}
