package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/reconcile"
)

// Last is what quiet runs remember: the troubles that a run last reported. The zero value is for the first run.
type Last struct {
	Troubles []string          `json:"troubles,omitempty"` // sorted; empty: nothing was wrong
	Outcome  reconcile.Outcome `json:"outcome,omitempty"`  // of the run that reported them
	Since    time.Time         `json:"since,omitzero"`     // when they began
	Told     time.Time         `json:"told,omitzero"`      // when a run last reported them
	// Unsaid counts the latest runs in a row that found a new trouble but did not report it, because it may pass by itself. A
	// run that found the lock held does not count, because it found out nothing else.
	Unsaid      int       `json:"unsaid,omitempty"`
	UnsaidSince time.Time `json:"unsaid_since,omitzero"`
	Success     time.Time `json:"success,omitzero"` // when a run last ended changed or unchanged
}

// Rule says when a quiet run reports something.
type Rule struct {
	After  int           // how many runs in a row must find a new trouble that may pass before one reports it
	Remind time.Duration // how often a run repeats a trouble that lasts; 0: never
}

// DefaultAfter is the usual [Rule.After].
const DefaultAfter = 2

// lockPatience is how long other runs may hold the lock before a run reports that. apply --wait holds it while somebody
// changes the issuer.
const lockPatience = time.Hour

// News is what a quiet run reports. The zero value is nothing.
type News struct {
	Text     string // how the run compares with the last one, such as "OK again; had failed since …"
	Reminder bool   // it was reported before
}

// After decides what a run that ended now reports, and returns what to remember. A trouble is a target that failed, was
// refused, held or unverified. Its identity is its outcome, error code and failed checks, and if the realm could not be
// changed, the properties that differ. It may pass if its code says so.
//
//	this run            compared with the last report      it reports
//	-----------------   --------------------------------   -----------------------------------------------------
//	changed a realm     anything                           what it changed, and all troubles
//	no trouble          no trouble                         nothing
//	no trouble          trouble                            OK again; had failed since …
//	trouble             the same                           nothing; once each Remind: still failed, since …
//	trouble             some of it is over                 what is left
//	trouble             new, may pass, fewer than After    nothing, and counts itself
//	trouble             new, the lock, for under an hour   nothing
//	trouble             new, anything else                 failed
func (l Last) After(run fleet.Run, now time.Time, rule Rule) (next Last, news News) {
	next = l
	next.Unsaid, next.UnsaidSince = 0, time.Time{}
	found := troubles(run)
	if len(found) == 0 {
		next.Success = now
	}
	fresh := slices.DeleteFunc(slices.Clone(found), func(t trouble) bool { return slices.Contains(l.Troubles, t.text) })
	same := len(fresh) == 0 && len(found) == len(l.Troubles)
	began := now
	switch {
	case same && !wrote(run):
		due := rule.Remind > 0 && (now.Sub(l.Told) >= rule.Remind || l.Told.After(now)) // After: the clock was set back
		if len(found) == 0 || !due {
			return next, News{}
		}
		news.Reminder = true
	case len(fresh) > 0:
		var wait bool
		next.Unsaid, next.UnsaidSince, wait = l.unsaid(fresh, now, rule)
		if wait && !wrote(run) {
			return next, News{}
		}
		began = next.UnsaidSince
		next.Unsaid, next.UnsaidSince = 0, time.Time{}
	}
	if same {
		began = l.Since
	}
	news.Text = l.compare(run, same, began, now)
	next.Troubles, next.Outcome, next.Since, next.Told = nil, run.Outcome, began, now
	for _, t := range found {
		next.Troubles = append(next.Troubles, t.text)
	}
	return next, news
}

// unsaid counts a run with new troubles. It returns since when such runs follow each other. wait is true if the
// troubles may pass and have not been found often enough to be reported.
func (l Last) unsaid(fresh []trouble, now time.Time, rule Rule) (runs int, since time.Time, wait bool) {
	locked, passing := true, true
	for _, t := range fresh {
		locked = locked && t.code == check.Locked
		passing = passing && t.code.MayPass()
	}
	runs, since = l.Unsaid, l.UnsaidSince
	if !locked {
		runs++
	}
	if since.IsZero() || since.After(now) || !locked && runs == 1 { // After: the clock was set back
		since = now
	}
	if locked {
		return runs, since, now.Sub(since) < lockPatience
	}
	return runs, since, passing && runs < rule.After
}

// compare says how a run compares with the last report.
func (l Last) compare(run fleet.Run, same bool, began, now time.Time) string {
	const format = "2006-01-02 15:04 UTC"
	before := fmt.Sprintf("had %s since %s", participle(l.Outcome), l.Since.UTC().Format(format))
	switch {
	case len(l.Troubles) == 0 && began.Before(now) && !same:
		return fmt.Sprintf("%s, since %s", run.Outcome, began.UTC().Format(format))
	case len(l.Troubles) == 0:
		return string(run.Outcome)
	case same:
		return fmt.Sprintf("still %s, since %s", run.Outcome, l.Since.UTC().Format(format))
	case Settled(run.Outcome):
		return "OK again; " + before
	case run.Outcome == l.Outcome:
		return fmt.Sprintf("%s in another way; %s", run.Outcome, before)
	}
	return fmt.Sprintf("%s; %s", run.Outcome, before)
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

// troubles returns what is wrong after a run, sorted.
func troubles(run fleet.Run) []trouble {
	var out []trouble
	if run.Err != nil {
		out = append(out, trouble{"run " + string(check.CodeOf(run.Err)), check.CodeOf(run.Err)})
	}
	for _, t := range run.Targets {
		if Settled(t.Outcome) {
			continue
		}
		words := []string{"target", t.Name, t.Realm, string(t.Outcome), string(check.CodeOf(t.Err))}
		var failing []string
		for _, c := range check.Failures(t.Checks) {
			failing = append(failing, string(c.ID))
		}
		slices.Sort(failing)
		words = append(words, failing...)
		if t.Outcome == reconcile.Held || t.Outcome == reconcile.Refused { // somebody may tamper with the realm meanwhile
			for _, c := range t.Changes {
				words = append(words, string(c.Op), string(c.Property))
			}
			for _, c := range t.Access {
				words = append(words, c.String())
			}
		}
		out = append(out, trouble{strings.Join(words, " "), check.CodeOf(t.Err)})
	}
	slices.SortFunc(out, func(a, b trouble) int { return strings.Compare(a.text, b.text) })
	return slices.CompactFunc(out, func(a, b trouble) bool { return a.text == b.text })
}

// wrote reports whether a run changed a realm.
func wrote(run fleet.Run) bool {
	return slices.ContainsFunc(run.Targets, func(t reconcile.Result) bool { return t.Wrote })
}

// Settled reports whether the realm is as declared and nothing failed.
func Settled(o reconcile.Outcome) bool { return o == reconcile.Changed || o == reconcile.Unchanged }

// Block writes a run as the body of a mail: the news, then the run as [Text] has it, with its errors.
func Block(w io.Writer, run fleet.Run, news News, style Style) error {
	if _, err := fmt.Fprintf(w, "proxmox-realm %s: %s\n", oneLine(run.Command), news.Text); err != nil {
		return err
	}
	style.Quiet, style.OmitErrors = false, false
	return Text(w, run, style)
}
