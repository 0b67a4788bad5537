package agent

import (
	"fmt"
	"html"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// page returns the status for people: plain HTML, no scripts, and nothing that a report would not show either.
//
// It is written by hand: html/template, once linked, keeps every exported method in the program, which makes it 6 MiB
// larger for everyone who never asks for this page. Whatever is shown goes through [sheet.text], and stands in no
// place but between tags.
func (s *status) page(now time.Time) []byte {
	s.mu.Lock()
	v := s.view(now)
	s.mu.Unlock()
	var out sheet
	out.whole(v)
	return []byte(out.String())
}

// view is what the page shows. All text in it comes cleaned.
type view struct {
	Title       string
	Level       string // good, bad or wait
	Version     string
	Started     string
	Last, Next  string
	Success     string
	Error       check.Description
	ReloadError string
	Targets     []targetView
	Order       int
}

type targetView struct {
	Name, Realm, Endpoint, Outcome, Level string
	Since                                 string
	Error                                 check.Description
	Warnings                              []string
	Drift                                 string
	Changes                               []changeView // those that are to be made, or else those made last
	Certificate                           string
	Checks                                []check.Check
	Tally                                 string
	Open                                  bool
}

type changeView struct{ Property, Before, After string }

func (s *status) view(now time.Time) view {
	v := view{
		Version: s.version, Started: moment(s.started, now), Next: moment(s.next, now),
		Success: moment(s.success, now), ReloadError: s.reloadError, Error: check.Describe(s.last.Err), Order: inOrder(s.last),
	}
	switch {
	case s.ended.IsZero():
		v.Title, v.Level = "First run under way", "wait"
	case settled(s.last.Outcome):
		v.Title, v.Level = "All is as declared", "good"
	default:
		v.Title, v.Level = "Needs attention: "+string(s.last.Outcome), "bad"
	}
	if !s.ended.IsZero() {
		v.Last = moment(s.ended, now)
	}
	for _, t := range s.last.Targets {
		v.Targets = append(v.Targets, s.target(t, now))
	}
	worst := reconcile.Outcomes()
	slices.SortStableFunc(v.Targets, func(a, b targetView) int {
		return slices.Index(worst, reconcile.Outcome(a.Outcome)) - slices.Index(worst, reconcile.Outcome(b.Outcome))
	})
	return v
}

func (s *status) target(t reconcile.Result, now time.Time) targetView {
	p := s.targets[t.Name]
	v := targetView{
		Name: t.Name, Realm: t.Realm, Endpoint: t.Endpoint, Outcome: string(t.Outcome), Level: "bad",
		Since: moment(p.since, now), Error: check.Describe(t.Err), Warnings: t.Warnings,
		Drift: "none", Changes: changes(p.changes), Checks: t.Checks, Open: len(s.last.Targets) == 1,
	}
	if settled(t.Outcome) {
		v.Level = "good"
	} else {
		v.Open = true
		if t.Outcome == reconcile.Held || t.Outcome == reconcile.Drift {
			v.Level = "wait"
		}
	}
	switch planned := changes(t.Changes); {
	case settled(t.Outcome) || t.Outcome == reconcile.Unverified: // what was planned is done
	case len(planned) > 0:
		v.Drift, v.Changes = fmt.Sprintf("%d to be changed", len(planned)), planned
	default:
		v.Drift = "not known"
	}
	if !p.changed.IsZero() {
		v.Drift += "; last corrected " + moment(p.changed, now)
	}
	if !p.certificate.IsZero() {
		v.Certificate = fmt.Sprintf("%s (%s)", p.certificate.UTC().Format("2006-01-02 15:04 UTC"), distance(p.certificate.Sub(now)))
	}
	number := map[check.Status]int{}
	for _, c := range t.Checks {
		number[c.Status]++
	}
	for _, status := range []check.Status{check.Fail, check.Warn, check.Pass, check.Skip} {
		if n := number[status]; n > 0 {
			if v.Tally != "" {
				v.Tally += ", "
			}
			v.Tally += fmt.Sprintf("%d %s", n, status)
		}
	}
	return v
}

func changes(all []realm.Change) (out []changeView) {
	show := func(value *string) string {
		if value == nil {
			return "absent"
		}
		return (*check.Cleaner)(nil).Clean(*value)
	}
	for _, c := range all {
		out = append(out, changeView{string(c.Property), show(c.Before), show(c.After)})
	}
	return out
}

// moment is a time and how far away it is; "" for none.
func moment(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return fmt.Sprintf("%s (%s)", t.UTC().Format("2006-01-02 15:04:05 UTC"), distance(t.Sub(now)))
}

func distance(d time.Duration) string {
	format := "in %s"
	if d < 0 {
		d, format = -d, "%s ago"
	}
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf(format, fmt.Sprintf("%d s", int(d.Seconds())))
	case d < 2*time.Hour:
		return fmt.Sprintf(format, fmt.Sprintf("%d min", int(d.Minutes())))
	case d < 48*time.Hour:
		return fmt.Sprintf(format, fmt.Sprintf("%d h", int(d.Hours())))
	}
	return fmt.Sprintf(format, fmt.Sprintf("%d days", int(d.Hours()/24)))
}

const style = `
:root { color-scheme: light dark; --text: #1c2024; --dim: #5b6470; --back: #ffffff; --card: #f5f6f8; --line: #d9dde3;
  --good: #15703a; --bad: #b3261e; --wait: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e8eb; --dim: #9aa4b0; --back: #14171a; --card: #1d2126; --line: #343a42;
  --good: #5fd08a; --bad: #ff8a80; --wait: #f0b94d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 64rem; padding: 1.5rem 1rem 3rem; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; }
h2 { font-size: 1.05rem; margin: 0; display: inline; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .75rem 0; }
dt { color: var(--dim); } dd { margin: 0; overflow-wrap: anywhere; }
details { border: 1px solid var(--line); border-radius: .5rem; margin: 1rem 0; background: var(--card); }
summary { padding: .7rem 1rem; cursor: pointer; }
.body { padding: 0 1rem .8rem; }
.good { color: var(--good); } .bad { color: var(--bad); } .wait { color: var(--wait); } .dim { color: var(--dim); }
.outcome { font-weight: 600; margin-left: .5rem; }
.note { border-left: 4px solid currentColor; padding: .1rem .8rem; margin: .8rem 0; }
.note p { margin: .2rem 0; overflow-wrap: anywhere; white-space: pre-line; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; }
th { text-align: left; white-space: nowrap; font-weight: 600; color: var(--dim); }
th, td { padding: .3rem .6rem .3rem 0; border-top: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
td.id { white-space: nowrap; width: 1%; } td.status { font-weight: 600; width: 4.5rem; }
footer { margin-top: 2rem; }
a { color: inherit; }
`

// sheet is HTML in the making.
type sheet struct{ strings.Builder }

// raw writes markup, which is constant.
func (b *sheet) raw(markup ...string) {
	for _, m := range markup {
		b.WriteString(m)
	}
}

// text writes what is to be read.
func (b *sheet) text(text ...string) {
	for _, t := range text {
		b.WriteString(html.EscapeString(t))
	}
}

func (b *sheet) whole(v view) {
	b.raw(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="60">
<title>`)
	b.text(v.Title, " · proxmox-realm")
	b.raw("</title>\n<style>", style, "</style>\n</head>\n<body>\n<header>\n")
	b.raw(`<h1 class="`, v.Level, `">`)
	b.text(v.Title)
	b.raw("</h1>\n<dl>\n")
	b.term("Last run", v.Last)
	b.term("Last success", v.Success)
	b.term("Next run", v.Next)
	if len(v.Targets) > 1 {
		b.term("Targets", fmt.Sprintf("%d, %d of them in order", len(v.Targets), v.Order))
	}
	b.raw("</dl>\n</header>\n")
	if v.ReloadError != "" {
		b.note("bad", "The configuration was not reloaded, the former one stays in force:", v.ReloadError, "")
	}
	b.fault(v.Error)
	b.raw("<main>\n")
	for _, t := range v.Targets {
		b.target(t)
	}
	b.raw("</main>\n", `<footer class="dim">`)
	b.text(v.Version, ", started ", v.Started)
	b.raw(` · <a href="/metrics">metrics</a></footer>`, "\n</body>\n</html>\n")
}

func (b *sheet) target(t targetView) {
	open := ""
	if t.Open {
		open = " open"
	}
	b.raw("<details", open, ">\n<summary><h2>")
	b.text(t.Name)
	b.raw(`</h2> <span class="outcome `, t.Level, `">`)
	b.text(t.Outcome)
	b.raw(`</span> <span class="dim">`)
	b.text(t.Tally)
	b.raw("</span></summary>\n", `<div class="body">`, "\n")
	b.fault(t.Error)
	for _, w := range t.Warnings {
		b.note("wait", "", w, "")
	}
	b.raw("<dl>\n")
	b.term("Realm", t.Realm+" on "+t.Endpoint)
	b.term("Like this since", t.Since)
	if t.Certificate != "" {
		b.term("Issuer's certificate", "expires "+t.Certificate)
	}
	b.term("Drift", t.Drift)
	b.raw("</dl>\n")
	if len(t.Changes) > 0 {
		b.raw(`<div class="scroll"><table>`, "\n<tr><th>Property</th><th>Before</th><th>After</th></tr>\n")
		for _, c := range t.Changes {
			b.raw(`<tr><td class="id">`)
			b.text(c.Property)
			b.raw("</td><td>")
			b.text(c.Before)
			b.raw("</td><td>")
			b.text(c.After)
			b.raw("</td></tr>\n")
		}
		b.raw("</table></div>\n")
	}
	if len(t.Checks) > 0 {
		b.raw(`<div class="scroll"><table>`, "\n<tr><th>Check</th><th>Status</th><th>What was found</th></tr>\n")
		for _, c := range t.Checks {
			b.check(c)
		}
		b.raw("</table></div>\n")
	}
	b.raw("</div>\n</details>\n")
}

func (b *sheet) check(c check.Check) {
	class := map[check.Status]string{check.Pass: "good", check.Warn: "wait", check.Fail: "bad"}[c.Status]
	if class == "" {
		class = "dim"
	}
	b.raw(`<tr><td class="id">`)
	b.text(string(c.ID))
	b.raw(`</td><td class="status `, class, `">`)
	b.text(string(c.Status))
	b.raw("</td><td>")
	b.text(c.Summary)
	if c.Status == check.Fail || c.Status == check.Warn {
		if c.Evidence != "" {
			b.raw(`<br><span class="dim">Evidence: `)
			b.text(c.Evidence)
			b.raw("</span>")
		}
		if len(c.Remedy) > 0 {
			b.raw("<br>Hint: ")
			b.text(c.Remedy.String())
		}
	}
	b.raw("</td></tr>\n")
}

// term writes a line of a list, unless there is nothing to say.
func (b *sheet) term(term, description string) {
	if description == "" {
		return
	}
	b.raw("<dt>")
	b.text(term)
	b.raw("</dt><dd>")
	b.text(description)
	b.raw("</dd>\n")
}

func (b *sheet) fault(f check.Description) {
	if f.Code != "" {
		b.note("bad", string(f.Code)+":", f.Message, f.Hint())
	}
}

func (b *sheet) note(level, head, message, hint string) {
	b.raw(`<div class="note `, level, `"><p>`)
	if head != "" {
		b.raw("<strong>")
		b.text(head)
		b.raw("</strong> ")
	}
	b.text(message)
	b.raw("</p>")
	if hint != "" {
		b.raw("<p>")
		b.text("Hint: ", hint)
		b.raw("</p>")
	}
	b.raw("</div>\n")
}
