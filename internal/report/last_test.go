package report_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

var planNone = realm.Plan{Action: realm.None}

// What makes a trouble another one, which is news: its target, outcome, error code and failed checks, and nothing else.
func TestWhatIsTheSameTrouble(t *testing.T) {
	base := func() fleet.Run { return single("apply", reconcile.Unverified, planNone, nil, bad()) }
	start := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name   string
		change func(*fleet.Run)
		same   bool
	}{
		{"nothing", func(*fleet.Run) {}, true},
		{"times", func(r *fleet.Run) {
			r.Duration, r.Targets[0].Duration, r.Targets[0].Checks[2].Duration = time.Hour, time.Hour, time.Hour
		}, true},
		{"texts", func(r *fleet.Run) {
			c := &r.Targets[0].Checks[2]
			c.Summary, c.Evidence, c.Hint = "other", "other", "other"
		}, true},
		{"a warning", func(r *fleet.Run) { r.Targets[0].Checks = slices.Delete(r.Targets[0].Checks, 1, 2) }, true},
		{"the order of checks", func(r *fleet.Run) { slices.Reverse(r.Targets[0].Checks) }, true},
		{"a second target that is as declared", func(r *fleet.Run) {
			r.Targets = append(r.Targets, reconcile.Result{Name: "x", Outcome: reconcile.Unchanged})
		}, true},
		{"one failure less", func(r *fleet.Run) { r.Targets[0].Checks[2].Status = check.Pass }, false},
		{"another failure", func(r *fleet.Run) { r.Targets[0].Checks[2].ID = check.IssuerKeys }, false},
		{"outcome", func(r *fleet.Run) { r.Targets[0].Outcome = reconcile.Held }, false},
		{"error of a target", func(r *fleet.Run) { r.Targets[0].Err = errors.New("x") }, false},
		{"error of the run", func(r *fleet.Run) { r.Err = check.Errorf(check.Config, "x") }, false},
		{"a second target that fails", func(r *fleet.Run) {
			r.Targets = append(r.Targets, reconcile.Result{Name: "x", Outcome: reconcile.Failed})
		}, false},
	} {
		last, _ := report.Last{}.After(base(), start, report.Rule{After: 2})
		run := base()
		tt.change(&run)
		if _, news := last.After(run, start.Add(time.Minute), report.Rule{After: 2}); (news.Text == "") != tt.same {
			t.Errorf("%s: says %q, the same: %v", tt.name, news.Text, tt.same)
		}
	}
}

// The truth table of Last.After, in runs of minutes. An empty text says nothing.
func TestWhatIsNews(t *testing.T) {
	two := func(o reconcile.Outcome, code check.Code) fleet.Run {
		return many(target("berlin", reconcile.Held, planNone, check.Errorf(check.Held, "x"), nil), target("paris", o, planNone, check.Errorf(code, "x"), nil))
	}
	var (
		fine      = single("apply", reconcile.Unchanged, planNone, nil, good())
		changed   = single("apply", reconcile.Changed, planNone, nil, good())
		broken    = single("apply", reconcile.Unverified, planNone, nil, bad())
		broken2   = single("apply", reconcile.Unverified, planNone, nil, bad()[:3])
		tampered  = single("apply", reconcile.Unverified, realm.Plan{Action: realm.Update, Changes: []realm.Change{{Property: realm.Comment}}}, nil, bad())
		down      = single("apply", reconcile.Failed, planNone, check.Errorf(check.Unreachable, "x"), nil)
		noQuorum  = single("apply", reconcile.Failed, planNone, check.Errorf(check.NoQuorum, "x"), nil)
		denied    = single("apply", reconcile.Failed, planNone, check.Errorf(check.BadCredentials, "x"), nil)
		lost      = single("apply", reconcile.Failed, planNone, check.Errorf(check.Unreachable, "x"), nil)
		locked    = fleet.Run{Command: "apply", Outcome: reconcile.Failed, Err: check.Errorf(check.Locked, "x")}
		unusable  = fleet.Run{Command: "apply", Outcome: reconcile.Failed, Err: check.Errorf(check.Config, "x")}
		heldAlone = many(target("berlin", reconcile.Held, planNone, check.Errorf(check.Held, "x"), nil), target("paris", reconcile.Unchanged, planNone, nil, nil))
		heldBoth  = two(reconcile.Failed, check.Unreachable)
	)
	lost.Targets[0].Wrote = true
	const day = 24 * 60
	type step struct {
		minute int
		run    fleet.Run
		says   string
	}
	for name, steps := range map[string][]step{
		"silent while all is well":      {{0, fine, ""}, {day, fine, ""}, {9 * day, fine, ""}},
		"every write is news":           {{0, changed, "changed"}, {1, changed, "changed"}, {2, fine, ""}, {3, changed, "changed"}},
		"a write in trouble is news":    {{0, broken, "unverified"}, {1, tampered, "still unverified, since 2026-11-23 00:00 UTC"}, {2, broken, ""}},
		"a write and then a failure":    {{0, fine, ""}, {1, lost, "failed"}, {2, fine, "OK again; had failed since 2026-11-23 00:01 UTC"}},
		"it breaks and is mended":       {{0, fine, ""}, {1, broken, "unverified"}, {2, broken, ""}, {3, fine, "OK again; had been unverified since 2026-11-23 00:01 UTC"}, {4, fine, ""}},
		"mended by a change":            {{0, denied, "failed"}, {1, changed, "OK again; had failed since 2026-11-23 00:00 UTC"}, {2, fine, ""}},
		"another check fails":           {{0, broken, "unverified"}, {1, broken2, "unverified in another way; had been unverified since 2026-11-23 00:00 UTC"}},
		"another outcome":               {{0, broken, "unverified"}, {1, denied, "failed; had been unverified since 2026-11-23 00:00 UTC"}},
		"a reminder each day":           {{0, denied, "failed"}, {day - 1, denied, ""}, {day, denied, "still failed, since 2026-11-23 00:00 UTC"}, {2*day - 1, denied, ""}},
		"the clock was set back":        {{day, denied, "failed"}, {0, denied, "still failed, since 2026-11-24 00:00 UTC"}, {1, denied, ""}},
		"one blip costs no mail":        {{0, fine, ""}, {1, down, ""}, {2, fine, ""}, {3, down, ""}, {4, fine, ""}},
		"two failures in a row":         {{0, down, ""}, {1, down, "failed, since 2026-11-23 00:00 UTC"}, {2, down, ""}, {3, fine, "OK again; had failed since 2026-11-23 00:00 UTC"}},
		"failures of two kinds":         {{0, down, ""}, {1, noQuorum, "failed, since 2026-11-23 00:00 UTC"}},
		"a blip within other trouble":   {{0, broken, "unverified"}, {1, down, ""}, {2, broken, ""}, {3, fine, "OK again; had been unverified since 2026-11-23 00:00 UTC"}},
		"the lock is held for a while":  {{0, fine, ""}, {5, locked, ""}, {10, locked, ""}, {60, locked, ""}, {62, fine, ""}},
		"the lock is held for long":     {{0, locked, ""}, {30, locked, ""}, {60, locked, "failed, since 2026-11-23 00:00 UTC"}, {61, locked, ""}},
		"a blip after the lock":         {{0, locked, ""}, {1, locked, ""}, {2, down, ""}, {3, fine, ""}, {4, locked, ""}, {5, down, ""}, {6, down, "failed, since 2026-11-23 00:05 UTC"}},
		"the lock between two failures": {{0, down, ""}, {1, locked, ""}, {2, down, "failed, since 2026-11-23 00:00 UTC"}},
		"a configuration with mistakes": {{0, fine, ""}, {1, unusable, "failed"}, {2, unusable, ""}, {3, fine, "OK again; had failed since 2026-11-23 00:01 UTC"}},
		"one of two targets":            {{0, heldAlone, "failed"}, {1, heldBoth, ""}, {2, heldBoth, "failed in another way; had failed since 2026-11-23 00:00 UTC"}, {3, heldAlone, "failed in another way; had failed since 2026-11-23 00:01 UTC"}},
	} {
		var last report.Last
		for i, s := range steps {
			now := time.Date(2026, 11, 23, 0, s.minute, 0, 0, time.UTC)
			next, news := last.After(s.run, now, report.Rule{After: 2, Remind: 24 * time.Hour})
			if news.Text != s.says || news.Reminder != (strings.HasPrefix(s.says, "still") && s.run.Targets[0].Changes == nil) {
				t.Errorf("%s: run %d says %+v, want %q", name, i, news, s.says)
			}
			kept, err := json.Marshal(next) // a file keeps it between runs
			if err != nil {
				t.Fatal(err)
			}
			last = report.Last{}
			if err := json.Unmarshal(kept, &last); err != nil {
				t.Fatal(err)
			}
		}
	}
	holding := func(p realm.Property) fleet.Run {
		return single("apply", reconcile.Held, realm.Plan{Action: realm.Update, Changes: []realm.Change{{Property: p, Op: realm.Set}}}, check.Errorf(check.Held, "x"), bad())
	}
	held, _ := report.Last{}.After(holding(realm.Scopes), time.Unix(0, 0), report.Rule{})
	if _, news := held.After(holding(realm.Scopes), time.Unix(60, 0), report.Rule{}); news.Text != "" {
		t.Errorf("the same held change is told once, not as %q", news.Text)
	}
	if _, news := held.After(holding(realm.IssuerURL), time.Unix(60, 0), report.Rule{}); !strings.HasPrefix(news.Text, "held in another way") {
		t.Errorf("somebody changed another property of a held realm: %q", news.Text)
	}
	last, _ := report.Last{}.After(denied, time.Unix(0, 0), report.Rule{})
	if _, news := last.After(denied, time.Unix(1e9, 0), report.Rule{}); news.Text != "" {
		t.Errorf("without a reminder, the same trouble is told once, not as %q", news.Text)
	}
	if next, _ := last.After(fine, time.Unix(1e9, 0), report.Rule{}); !next.Success.Equal(time.Unix(1e9, 0)) {
		t.Errorf("the last success: %v", next.Success)
	}
}

func TestBlock(t *testing.T) {
	for _, tt := range []struct{ name, scenario, news string }{
		{"first", "apply-unverified", "unverified"},
		{"mended", "apply-unchanged", "OK again; had been unverified since 2026-11-20 04:00 UTC"},
		{"fleet", "fleet-mixed", "failed"},
	} {
		var out bytes.Buffer
		if err := report.Block(&out, find(t, tt.scenario), report.News{Text: tt.news}, report.Style{Quiet: true, OmitErrors: true}); err != nil {
			t.Fatal(err)
		}
		golden(t, "block/"+tt.name, out.Bytes())
	}
}
