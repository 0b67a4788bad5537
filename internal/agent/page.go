package agent

import (
	_ "embed" // page.html and style.css
	"fmt"
	"html/template"
	"slices"
	"sync"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

var (
	//go:embed style.css
	style string
	//go:embed page.html
	pageHTML string

	page = sync.OnceValue(func() *template.Template { // at first use: most commands need no page
		return template.Must(template.New("page").Funcs(template.FuncMap{
			"value": func(v *string) string {
				if v == nil {
					return "absent"
				}
				return (*check.Cleaner)(nil).Clean(*v) // cut short: a comment may have 4096 characters
			},
			"code": check.CodeOf, "message": check.MessageOf, "hintOf": check.HintOf, "tally": report.Tally,
			"hint": func(h check.Hint) string { return h.For(check.Names{}) },
			"color": func(s check.Status) string {
				return map[check.Status]string{check.Pass: "good", check.Warn: "wait", check.Fail: "bad", check.Skip: "dim"}[s]
			},
		}).Parse(pageHTML))
	})
)

// view is what the page shows.
type view struct {
	Style                        template.CSS
	Title, Level, Version        string // Level: good, bad or wait
	Started, Last, Success, Next time.Time
	Err                          error
	ReloadError                  string
	Targets                      []targetView
	Fine                         int // targets that are as declared
	now                          time.Time
}

type targetView struct {
	reconcile.Result
	Level, Drift     string
	Since, Corrected time.Time
	Changes          []realm.Change // those that are planned, or else those made last
	Access           []realm.AccessChange
	Open             bool
}

// view returns the status as the page shows it, the worst target first.
func (s *status) view(now time.Time) view {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := view{
		Style:   template.CSS(style), //nolint:gosec // constant
		Version: s.version, Started: s.started, Last: s.ended, Success: s.success, Next: s.next,
		ReloadError: s.reloadError, Err: s.last.Err, Fine: settled(s.last), now: now,
	}
	switch {
	case s.ended.IsZero():
		v.Title, v.Level = "The first run has not ended yet", "wait"
	case report.Settled(s.last.Outcome):
		v.Title, v.Level = "All is as declared", "good"
	default:
		v.Title, v.Level = "Needs attention: "+string(s.last.Outcome), "bad"
	}
	for _, t := range s.last.Targets {
		v.Targets = append(v.Targets, s.target(t))
	}
	worst := reconcile.Outcomes()
	slices.SortStableFunc(v.Targets, func(a, b targetView) int {
		return slices.Index(worst, a.Outcome) - slices.Index(worst, b.Outcome)
	})
	return v
}

func (s *status) target(t reconcile.Result) targetView {
	p := s.targets[t.Name]
	v := targetView{
		Result: t, Level: "bad", Since: p.since, Corrected: p.changed, Drift: "none", Changes: p.changes, Access: p.access, Open: len(s.last.Targets) == 1 || !report.Settled(t.Outcome),
	}
	switch {
	case report.Settled(t.Outcome):
		v.Level = "good"
	case t.Outcome == reconcile.Held || t.Outcome == reconcile.Drift:
		v.Level = "wait"
	}
	switch {
	case report.Settled(t.Outcome) || t.Outcome == reconcile.Unverified: // the changes were made
	case len(t.Changes)+len(t.Access) > 0:
		v.Drift = check.Count(len(t.Changes)+len(t.Access), "change", "changes") + " planned"
		v.Changes, v.Access = t.Changes, t.Access
	default:
		v.Drift = "not known"
	}
	return v
}

// Moment shows a time and its distance from now; "" for the zero time.
func (v view) Moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	d, format := t.Sub(v.now), "in %d %s"
	if d < 0 {
		d, format = -d, "%d %s ago"
	}
	distance := fmt.Sprintf(format, int(d.Hours()/24), "days")
	switch {
	case d < 2*time.Minute:
		distance = fmt.Sprintf(format, int(d.Seconds()), "s")
	case d < 2*time.Hour:
		distance = fmt.Sprintf(format, int(d.Minutes()), "min")
	case d < 48*time.Hour:
		distance = fmt.Sprintf(format, int(d.Hours()), "h")
	}
	return fmt.Sprintf("%s (%s)", t.UTC().Format("2006-01-02 15:04:05 UTC"), distance)
}
