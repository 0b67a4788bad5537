package report_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

var planNone = realm.Plan{Action: realm.None}

func TestDigestSeesOutcomesErrorsAndFailuresAlone(t *testing.T) {
	base := func() fleet.Run { return single("apply", reconcile.Unverified, planNone, nil, bad()) }
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
			c.Summary, c.Evidence, c.Remedy = "other", "other", check.Advice("other")
		}, true},
		{"a warning", func(r *fleet.Run) { r.Targets[0].Checks = slices.Delete(r.Targets[0].Checks, 1, 2) }, true},
		{"the order of checks", func(r *fleet.Run) { slices.Reverse(r.Targets[0].Checks) }, true},
		{"one failure less", func(r *fleet.Run) { r.Targets[0].Checks[2].Status = check.Pass }, false},
		{"another failure", func(r *fleet.Run) { r.Targets[0].Checks[2].ID = check.IssuerKeys }, false},
		{"outcome", func(r *fleet.Run) { r.Targets[0].Outcome = reconcile.Held }, false},
		{"outcome of the run", func(r *fleet.Run) { r.Outcome = reconcile.Failed }, false},
		{"error of a target", func(r *fleet.Run) { r.Targets[0].Err = errors.New("x") }, false},
		{"error of the run", func(r *fleet.Run) { r.Err = check.Errorf(check.Locked, "x") }, false},
		{"another target", func(r *fleet.Run) { r.Targets = append(r.Targets, reconcile.Result{}) }, false},
	} {
		run := base()
		tt.change(&run)
		if same := report.Digest(run) == report.Digest(base()); same != tt.same {
			t.Errorf("%s: same digest: %v, want %v", tt.name, same, tt.same)
		}
	}
	mixed, reversed := find(t, "fleet-mixed"), find(t, "fleet-mixed")
	slices.Reverse(reversed.Targets)
	if report.Digest(mixed) != report.Digest(reversed) {
		t.Error("the order of targets is no news")
	}
	locked, denied := base(), base()
	locked.Err, denied.Err = check.Errorf(check.Locked, "x"), check.Errorf(check.PermissionDenied, "x")
	if report.Digest(locked) == report.Digest(denied) {
		t.Error("another error code is news")
	}
}

// A day of runs, every six hours at most, with a reminder each day.
func TestWhenARunIsWorthTelling(t *testing.T) {
	var (
		fine     = single("apply", reconcile.Unchanged, planNone, nil, good())
		changed  = single("apply", reconcile.Changed, planNone, nil, good())
		broken   = single("apply", reconcile.Unverified, planNone, nil, bad())
		broken2  = single("apply", reconcile.Unverified, planNone, nil, bad()[:3])
		down     = single("apply", reconcile.Failed, planNone, check.Errorf(check.Unreachable, "x"), nil)
		start    = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
		oneDay   = 24 * time.Hour
		justLess = oneDay - time.Second
	)
	type step struct {
		at   time.Duration
		run  fleet.Run
		tell bool
	}
	for name, steps := range map[string][]step{
		"silent while all is well":        {{0, fine, false}, {oneDay, fine, false}, {9 * oneDay, fine, false}},
		"the first run changes":           {{0, changed, true}, {1, fine, false}, {2, fine, false}},
		"drift is repaired":               {{0, fine, false}, {1, changed, true}, {2, fine, false}},
		"somebody undoes it every time":   {{0, changed, true}, {1, changed, false}, {oneDay, changed, true}},
		"it breaks and is mended":         {{0, fine, false}, {1, broken, true}, {2, broken, false}, {3, fine, true}, {4, fine, false}},
		"another check fails":             {{0, broken, true}, {1, broken2, true}, {2, broken2, false}},
		"it gets worse":                   {{0, broken, true}, {1, down, true}, {2, broken, true}},
		"a reminder each day":             {{0, down, true}, {justLess, down, false}, {oneDay, down, true}, {oneDay + justLess, down, false}, {2 * oneDay, down, true}},
		"mended by a change":              {{0, down, true}, {1, changed, true}, {2, fine, false}},
		"the clock was set back":          {{oneDay, down, true}, {0, down, true}, {1, down, false}},
		"well for long, then broken once": {{0, fine, false}, {9 * oneDay, broken, true}, {9*oneDay + 1, broken, false}},
	} {
		var last report.Last
		for i, s := range steps {
			next, tell := last.After(s.run, start.Add(s.at), oneDay)
			if tell != s.tell {
				t.Errorf("%s: step %d: told: %v, want %v", name, i, tell, s.tell)
			}
			// It is kept in a file between runs.
			kept, err := json.Marshal(next)
			if err != nil {
				t.Fatal(err)
			}
			last = report.Last{}
			if err := json.Unmarshal(kept, &last); err != nil {
				t.Fatal(err)
			}
		}
	}
	last, _ := report.Last{}.After(down, start, 0)
	if _, tell := last.After(down, start.Add(9*oneDay), 0); tell {
		t.Error("without a reminder, the same is told once")
	}
	later, _ := last.After(down, start.Add(oneDay), oneDay)
	if !later.Since.Equal(start) {
		t.Errorf("it is like this since the first such run, not since %v", later.Since)
	}
}

func TestBlock(t *testing.T) {
	since := time.Date(2026, 11, 20, 4, 0, 0, 0, time.UTC)
	before := func(scenario string) report.Last {
		last, _ := report.Last{}.After(find(t, scenario), since, 0)
		return last
	}
	for _, tt := range []struct {
		name, scenario string
		last           report.Last
	}{
		{"first", "apply-unverified", report.Last{}},
		{"breaks", "apply-unverified", before("apply-unchanged")},
		{"lasts", "apply-unverified", before("apply-unverified")},
		{"mended", "apply-unchanged", before("apply-unverified")},
		{"otherwise", "apply-failed", before("config-error")},
		{"fleet", "fleet-mixed", before("apply-unchanged")},
	} {
		var out bytes.Buffer
		if err := report.Block(&out, find(t, tt.scenario), tt.last, report.Style{Quiet: true, Aside: true}); err != nil {
			t.Fatal(err)
		}
		golden(t, "block/"+tt.name, out.Bytes())
	}
}
