package report

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/reconcile"
)

// Last is what is kept of a run, so that the next one can tell whether there is anything new to say.
// The zero value stands before the first run.
type Last struct {
	Digest  string            `json:"digest"`
	Outcome reconcile.Outcome `json:"outcome"`
	Since   time.Time         `json:"since"` // when runs began to end like this
	Told    time.Time         `json:"told"`  // when this was last said; zero: never
}

// After returns what to keep after a run that ended now, and whether that run is worth telling: where its digest
// differs from the last one's, and again after each remind (0: never) while it lasts. A run that left
// everything unchanged is told of only where it ends something that was wrong.
func (l Last) After(run fleet.Run, now time.Time, remind time.Duration) (next Last, tell bool) {
	next = Last{Digest: Digest(run), Outcome: run.Outcome, Since: now}
	switch {
	case next.Digest != l.Digest:
		tell = run.Outcome != reconcile.Unchanged || l.wrong()
	default:
		next.Since, next.Told = l.Since, l.Told
		// What was told at a time yet to come was told before the clock was set back.
		due := remind > 0 && (now.Sub(l.Told) >= remind || l.Told.After(now))
		tell = due && run.Outcome != reconcile.Unchanged
	}
	if tell {
		next.Told = now
	}
	return next, tell
}

// wrong tells that the last run ended in a way that somebody waits to see end.
func (l Last) wrong() bool {
	return l.Digest != "" && l.Outcome != reconcile.Unchanged && l.Outcome != reconcile.Changed
}

// Digest returns a fingerprint of how a run ended: outcomes, error codes and failing checks of every target. Texts,
// times, and the order of the targets do not alter it.
func Digest(run fleet.Run) string {
	lines := []string{}
	for _, t := range run.Targets {
		failing := []check.ID{}
		for _, c := range check.Failures(t.Checks) {
			failing = append(failing, c.ID)
		}
		slices.Sort(failing)
		lines = append(lines, encoded(t.Name, t.Realm, t.Outcome, code(t.Err), slices.Compact(failing)))
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(encoded(run.Command, run.Outcome, code(run.Err), lines)))
	return hex.EncodeToString(sum[:16])
}

// encoded joins values so that no two lists of them join alike.
func encoded(values ...any) string {
	text, _ := json.Marshal(values) // strings always marshal
	return string(text)
}

func code(err error) check.Code {
	if err == nil {
		return ""
	}
	return check.CodeOf(err)
}

// Block writes a run as a block for a mail: what is new compared with the last run, then the run as [Text] has it,
// errors included.
func Block(w io.Writer, run fleet.Run, last Last, style Style) error {
	if _, err := fmt.Fprintf(w, "proxmox-realm %s: %s\n", printable(run.Command), news(run, last)); err != nil {
		return err
	}
	style.Quiet, style.Aside = false, false
	return Text(w, run, style)
}

// news says how a run compares with the last one.
func news(run fleet.Run, last Last) string {
	since := last.Since.UTC().Format("2006-01-02 15:04 UTC")
	switch {
	case last.Digest == "":
		return string(run.Outcome)
	case last.Digest == Digest(run):
		return fmt.Sprintf("still %s, since %s", run.Outcome, since)
	case last.Outcome == run.Outcome:
		return fmt.Sprintf("still %s, but in another way than since %s", run.Outcome, since)
	}
	return fmt.Sprintf("%s, was %s since %s", run.Outcome, last.Outcome, since)
}
