package agent

import (
	"fmt"
	"html/template"
	"io"
	"slices"
	"sync"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fault"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// page writes the status for people: plain HTML, no scripts, and nothing that a report would not show either.
func (s *status) page(w io.Writer, now time.Time) error {
	s.mu.Lock()
	v := s.view(now)
	s.mu.Unlock()
	return layout().Execute(w, v)
}

// view is what the page shows. All text in it comes cleaned, and is escaped by the template.
type view struct {
	Style       template.CSS
	Title       string
	Level       string // good, bad or wait
	Version     string
	Started     string
	Last, Next  string
	Success     string
	Error       *fault.Error
	ReloadError string
	Targets     []targetView
	Order       int
}

type targetView struct {
	Name, Realm, Endpoint, Outcome, Level string
	Since                                 string
	Error                                 *fault.Error
	Warnings                              []string
	Planned                               []changeView // not made
	Changed                               string       // when the realm was last changed
	Changes                               []changeView // by that change
	Certificate                           string
	CertificateLevel                      string
	Checks                                []check.Check
	Tally                                 string
	Open                                  bool
}

type changeView struct{ Property, Before, After string }

func (s *status) view(now time.Time) view {
	v := view{
		Style: style, Version: s.version, Started: moment(s.started, now), Next: moment(s.next, now),
		Success: moment(s.success, now), ReloadError: s.reloadError, Error: fault.Describe(s.last.Err), Order: inOrder(s.last),
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

func (s *status) target(t fleet.Target, now time.Time) targetView {
	p := s.targets[t.Name]
	v := targetView{
		Name: t.Name, Realm: t.Realm, Endpoint: t.Endpoint, Outcome: string(t.Outcome), Level: "bad",
		Since: moment(p.since, now), Error: fault.Describe(t.Err), Warnings: t.Warnings,
		Changed: moment(p.changed, now), Changes: changes(p.changes), Checks: t.Checks, Open: len(s.last.Targets) == 1,
	}
	if settled(t.Outcome) {
		v.Level = "good"
	} else {
		v.Open = true
		if t.Outcome == reconcile.Held || t.Outcome == reconcile.Drift {
			v.Level = "wait"
		}
		if t.Outcome != reconcile.Unverified {
			v.Planned = changes(t.Changes)
		}
	}
	if !p.certificate.IsZero() {
		left := p.certificate.Sub(now)
		v.Certificate = fmt.Sprintf("%s (%s)", p.certificate.UTC().Format("2006-01-02 15:04 UTC"), distance(left))
		if found, ok := check.Find(t.Checks, check.IssuerCertificate); left <= 0 || ok && found.Status != check.Pass && found.Status != check.Skip {
			v.CertificateLevel = "bad"
		}
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

// layout is parsed when the first page is asked for: other commands do not pay for it.
var layout = sync.OnceValue(func() *template.Template { return template.Must(template.New("status").Parse(markup)) })

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
.fail { color: var(--bad); } .warn { color: var(--wait); } .pass { color: var(--good); } .skip { color: var(--dim); }
.outcome { font-weight: 600; margin-left: .5rem; }
.note { border-left: 4px solid currentColor; padding: .1rem .8rem; margin: .8rem 0; }
.note p { margin: .2rem 0; overflow-wrap: anywhere; white-space: pre-line; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; }
th { text-align: left; font-weight: 600; color: var(--dim); }
th, td { padding: .3rem .6rem .3rem 0; border-top: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
td.id { white-space: nowrap; } td.status { font-weight: 600; width: 3.5rem; }
footer { margin-top: 2rem; }
a { color: inherit; }
`

const markup = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="60">
<title>{{.Title}} · proxmox-realm</title>
<style>{{.Style}}</style>
</head>
<body>
<header>
<h1 class="{{.Level}}">{{.Title}}</h1>
<dl>
{{with .Last}}<dt>Last run</dt><dd>{{.}}</dd>{{end}}
{{with .Success}}<dt>Last success</dt><dd>{{.}}</dd>{{end}}
{{with .Next}}<dt>Next run</dt><dd>{{.}}</dd>{{end}}
{{if gt (len .Targets) 1}}<dt>Targets</dt><dd>{{len .Targets}}, {{.Order}} of them in order</dd>{{end}}
</dl>
</header>
{{with .ReloadError}}<div class="note bad"><p><strong>The configuration was not reloaded, the former one stays in force:</strong>
{{.}}</p></div>{{end}}
{{with .Error}}<div class="note bad"><p><strong>{{.Code}}:</strong> {{.Message}}</p>{{with .Hint}}<p>Hint: {{.}}</p>{{end}}</div>{{end}}
<main>
{{range .Targets}}<details{{if .Open}} open{{end}}>
<summary><h2>{{.Name}}</h2> <span class="outcome {{.Level}}">{{.Outcome}}</span> <span class="dim">{{.Tally}}</span></summary>
<div class="body">
{{with .Error}}<div class="note bad"><p><strong>{{.Code}}:</strong> {{.Message}}</p>{{with .Hint}}<p>Hint: {{.}}</p>{{end}}</div>{{end}}
{{range .Warnings}}<div class="note wait"><p>{{.}}</p></div>{{end}}
<dl>
<dt>Realm</dt><dd>{{.Realm}} on {{.Endpoint}}</dd>
<dt>Like this since</dt><dd>{{.Since}}</dd>
{{with .Certificate}}<dt>Issuer's certificate</dt><dd>expires {{.}}</dd>{{end}}
<dt>Drift</dt><dd>{{if .Planned}}{{len .Planned}} to be changed{{else if eq .Outcome "failed"}}not known{{else}}none{{end}}{{with .Changed}}; last corrected {{.}}{{end}}</dd>
</dl>
{{if .Planned}}{{template "changes" .Planned}}{{else if .Changes}}{{template "changes" .Changes}}{{end}}
{{if .Checks}}<div class="scroll"><table>
<tr><th>Check</th><th>Status</th><th>What was found</th></tr>
{{range .Checks}}<tr><td class="id">{{.ID}}</td><td class="status {{.Status}}">{{.Status}}</td><td>{{.Summary}}
{{if or (eq .Status "fail") (eq .Status "warn")}}{{with .Evidence}}<br><span class="dim">Evidence: {{.}}</span>{{end}}{{with .Hint}}<br>Hint: {{.}}{{end}}{{end}}</td></tr>
{{end}}</table></div>{{end}}
</div>
</details>
{{end}}</main>
<footer class="dim">proxmox-realm {{.Version}}, started {{.Started}} · <a href="/metrics">metrics</a></footer>
</body>
</html>
{{define "changes"}}<div class="scroll"><table>
<tr><th>Property</th><th>Before</th><th>After</th></tr>
{{range .}}<tr><td class="id">{{.Property}}</td><td>{{.Before}}</td><td>{{.After}}</td></tr>
{{end}}</table></div>{{end}}
`
