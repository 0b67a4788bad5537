package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/history"
	"proxmox-realm/internal/reconcile"
)

// Patience says when a reader is told something.
type Patience struct {
	After  int           // how many runs in a row must find a new trouble that may pass before the reader is told
	Remind time.Duration // how often a failure that lasts is told again; 0: never
}

// DefaultAfter is the usual [Patience.After].
const DefaultAfter = 2

// lockPatience is how long other runs may hold the lock before a reader is told. apply --wait holds it while it looks.
const lockPatience = time.Hour

// News is what a reader is told about a target. The zero value is nothing.
type News struct {
	Text     string // how the run compares with what was told last, such as "OK again; had failed since …"
	Reminder bool   // it was told before
}

// News decides what a reader is told about a target whose run ended now, and returns what the reader knows then. A trouble is an
// outcome with its error code, a check that failed or warned, or a warning. If the realm could not be changed, each property that
// differs is one too. A trouble may pass if its error code says so.
//
//	this run            compared with what was told        the reader is told
//	-----------------   --------------------------------   -----------------------------------------------------
//	wrote something     anything                           what was written, and all troubles
//	no trouble          no trouble                         nothing
//	no trouble          trouble                            OK again; had failed since …
//	trouble             the same                           nothing; failures once each Remind: still failed, since …
//	trouble             some of it is over                 what is left
//	trouble             new, may pass, fewer than After    nothing, and it is counted
//	trouble             new, the lock, for under an hour   nothing
//	trouble             new, anything else                 failed
func (p Patience) News(told history.Told, r reconcile.Result, now time.Time) (next history.Told, news News) {
	next = told
	next.Unsaid, next.UnsaidSince = 0, time.Time{}
	found := troubles(r, told)
	fresh := slices.DeleteFunc(slices.Clone(found), func(t trouble) bool { return slices.Contains(told.Troubles, t.text) })
	same := len(fresh) == 0 && len(found) == len(told.Troubles)
	wrote := r.Wrote() || len(told.Written) > 0
	began := now
	switch {
	case same && !wrote:
		due := p.Remind > 0 && !Settled(r.Outcome) && (now.Sub(told.At) >= p.Remind || told.At.After(now)) // After: the clock was set back
		if len(found) == 0 || !due {
			return next, News{}
		}
		news.Reminder = true
	case len(fresh) > 0:
		var wait bool
		next.Unsaid, next.UnsaidSince, wait = passing(told, fresh, now, p)
		if wait && !wrote {
			return next, News{}
		}
		began = next.UnsaidSince
		next.Unsaid, next.UnsaidSince = 0, time.Time{}
	}
	if same && !told.Since.IsZero() {
		began = told.Since
	}
	news.Text = compare(told, r, same, began, now)
	next = history.Told{Outcome: string(r.Outcome), Since: began, At: now}
	for _, t := range found {
		next.Troubles = append(next.Troubles, t.text)
	}
	return next, news
}

// passing counts a run with new troubles. It returns since when such runs follow each other. wait is true if the
// troubles may pass and have not been found often enough to be told.
func passing(told history.Told, fresh []trouble, now time.Time, p Patience) (runs int, since time.Time, wait bool) {
	locked, passing := true, true
	for _, t := range fresh {
		locked = locked && t.code == check.Locked
		passing = passing && t.code.MayPass()
	}
	runs, since = told.Unsaid, told.UnsaidSince
	if !locked {
		runs++
	}
	if since.IsZero() || since.After(now) || !locked && runs == 1 { // After: the clock was set back
		since = now
	}
	if locked {
		return runs, since, now.Sub(since) < lockPatience
	}
	return runs, since, passing && runs < p.After
}

// compare says how a run compares with what was told last.
func compare(told history.Told, r reconcile.Result, same bool, began, now time.Time) string {
	const format = "2006-01-02 15:04 UTC"
	former := reconcile.Outcome(told.Outcome)
	before := fmt.Sprintf("had %s since %s", participle(former), told.Since.UTC().Format(format))
	switch {
	case len(told.Troubles) == 0 && began.Before(now) && !same:
		return fmt.Sprintf("%s, since %s", r.Outcome, began.UTC().Format(format))
	case len(told.Troubles) == 0 || Settled(former):
		return string(r.Outcome)
	case same:
		return fmt.Sprintf("still %s, since %s", r.Outcome, told.Since.UTC().Format(format))
	case Settled(r.Outcome):
		return "OK again; " + before
	case r.Outcome == former:
		return fmt.Sprintf("%s in another way; %s", r.Outcome, before)
	}
	return fmt.Sprintf("%s; %s", r.Outcome, before)
}

func participle(o reconcile.Outcome) string {
	if o == reconcile.Failed {
		return "failed"
	}
	return "been " + string(o)
}

// trouble is something that is wrong.
type trouble struct {
	text string // identifies it
	code check.Code
}

// troubles returns what is wrong after a run, sorted. A run that failed found out nothing about the checks that it did not make:
// what was told about them stays.
func troubles(r reconcile.Result, told history.Told) []trouble {
	var out []trouble
	code := check.CodeOf(r.Err)
	if !Settled(r.Outcome) {
		out = append(out, trouble{strings.TrimSpace(fmt.Sprintf("outcome %s %s", r.Outcome, code)), code})
	}
	for _, c := range findings(r.Checks) {
		out = append(out, trouble{text: fmt.Sprintf("%s %s", c.Status, c.ID)})
	}
	for _, w := range r.Warnings {
		out = append(out, trouble{text: "warning " + w})
	}
	if r.Outcome == reconcile.Held || r.Outcome == reconcile.Refused { // somebody may tamper with the realm meanwhile
		for _, c := range r.Changes {
			out = append(out, trouble{text: fmt.Sprintf("change %s %s", c.Op, c.Property)})
		}
		for _, c := range r.Access {
			out = append(out, trouble{text: "change " + c.String()})
		}
	}
	for _, former := range told.Troubles {
		status, id, _ := strings.Cut(former, " ")
		_, made := check.Find(r.Checks, check.ID(id))
		if r.Outcome == reconcile.Failed && !made && (status == string(check.Fail) || status == string(check.Warn)) {
			out = append(out, trouble{text: former})
		}
	}
	slices.SortFunc(out, func(a, b trouble) int { return strings.Compare(a.text, b.text) })
	return slices.CompactFunc(out, func(a, b trouble) bool { return a.text == b.text })
}

// Settled reports whether the realm is as declared and nothing failed.
func Settled(o reconcile.Outcome) bool { return o == reconcile.Changed || o == reconcile.Unchanged }

// Block writes a run as the body of a mail: what is new, and then the targets with news as [Text] has them, with errors. news
// belong to the run's targets, or to its error if it has none.
func Block(w io.Writer, run fleet.Run, news []News, style Style) error {
	style.Quiet, style.OmitErrors = false, false
	var texts []string
	told := run
	told.Targets = nil
	for i, n := range news {
		if n.Text == "" {
			continue
		}
		if !slices.Contains(texts, n.Text) {
			texts = append(texts, n.Text)
		}
		if i < len(run.Targets) {
			told.Targets = append(told.Targets, run.Targets[i])
		}
	}
	text := string(run.Outcome)
	if len(texts) == 1 {
		text = texts[0]
	}
	if len(told.Targets) < len(run.Targets) {
		text += fmt.Sprintf(" (%d of %d targets have news)", len(told.Targets), len(run.Targets))
	}
	if _, err := fmt.Fprintf(w, "proxmox-realm %s: %s\n", oneLine(run.Command), text); err != nil {
		return err
	}
	return Text(w, told, style)
}
