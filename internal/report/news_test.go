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
	"proxmox-realm/internal/history"
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
		{"a warning", func(r *fleet.Run) { r.Targets[0].Checks = slices.Delete(r.Targets[0].Checks, 1, 2) }, false},
		{"a warning of the run", func(r *fleet.Run) { r.Targets[0].Warnings = []string{"x"} }, false},
		{"the order of checks", func(r *fleet.Run) { slices.Reverse(r.Targets[0].Checks) }, true},
		{"one failure less", func(r *fleet.Run) { r.Targets[0].Checks[2].Status = check.Pass }, false},
		{"another failure", func(r *fleet.Run) { r.Targets[0].Checks[2].ID = check.IssuerKeys }, false},
		{"outcome", func(r *fleet.Run) { r.Targets[0].Outcome = reconcile.Held }, false},
		{"error of a target", func(r *fleet.Run) { r.Targets[0].Err = errors.New("x") }, false},
	} {
		rule := report.Patience{After: 2}
		last, _ := rule.News(history.Told{}, base().Targets[0], start)
		run := base()
		tt.change(&run)
		if _, news := rule.News(last, run.Targets[0], start.Add(time.Minute)); (news.Text == "") != tt.same {
			t.Errorf("%s: says %q, the same: %v", tt.name, news.Text, tt.same)
		}
	}
}

// The truth table of Patience.News, in runs of minutes. An empty text says nothing.
func TestWhatIsNews(t *testing.T) {
	var (
		fine     = single("apply", reconcile.Unchanged, planNone, nil, good())
		changed  = single("apply", reconcile.Changed, planNone, nil, good())
		broken   = single("apply", reconcile.Unverified, planNone, nil, bad())
		broken2  = single("apply", reconcile.Unverified, planNone, nil, bad()[:3])
		tampered = single("apply", reconcile.Unverified, realm.Plan{Action: realm.Update, Changes: []realm.Change{{Property: realm.Comment}}}, nil, bad())
		down     = single("apply", reconcile.Failed, planNone, check.Errorf(check.Unreachable, "x"), nil)
		noQuorum = single("apply", reconcile.Failed, planNone, check.Errorf(check.NoQuorum, "x"), nil)
		denied   = single("apply", reconcile.Failed, planNone, check.Errorf(check.BadCredentials, "x"), nil)
		lost     = single("apply", reconcile.Failed, planNone, check.Errorf(check.Unreachable, "x"), nil)
		locked   = single("apply", reconcile.Failed, planNone, check.Errorf(check.Locked, "x"), nil)
		unusable = single("apply", reconcile.Failed, planNone, check.Errorf(check.Config, "x"), nil)
	)
	lost.Targets[0].Stage = reconcile.Sent
	for _, r := range []fleet.Run{down, noQuorum, denied, lost, locked, unusable} {
		r.Targets[0].Warnings = nil
	}
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
	} {
		var last history.Told
		for i, s := range steps {
			now := time.Date(2026, 11, 23, 0, s.minute, 0, 0, time.UTC)
			next, news := report.Patience{After: 2, Remind: 24 * time.Hour}.News(last, s.run.Targets[0], now)
			if news.Text != s.says || news.Reminder != (strings.HasPrefix(s.says, "still") && s.run.Targets[0].Changes == nil) {
				t.Errorf("%s: run %d says %+v, want %q", name, i, news, s.says)
			}
			kept, err := json.Marshal(next) // a file keeps it between runs
			if err != nil {
				t.Fatal(err)
			}
			last = history.Told{}
			if err := json.Unmarshal(kept, &last); err != nil {
				t.Fatal(err)
			}
		}
	}
	holding := func(p realm.Property) fleet.Run {
		return single("apply", reconcile.Held, realm.Plan{Action: realm.Update, Changes: []realm.Change{{Property: p, Op: realm.Set}}}, check.Errorf(check.Held, "x"), bad())
	}
	held, _ := (report.Patience{}).News(history.Told{}, holding(realm.Scopes).Targets[0], time.Unix(0, 0))
	if _, news := (report.Patience{}).News(held, holding(realm.Scopes).Targets[0], time.Unix(60, 0)); news.Text != "" {
		t.Errorf("the same held change is told once, not as %q", news.Text)
	}
	if _, news := (report.Patience{}).News(held, holding(realm.IssuerURL).Targets[0], time.Unix(60, 0)); !strings.HasPrefix(news.Text, "held in another way") {
		t.Errorf("somebody changed another property of a held realm: %q", news.Text)
	}
	last, _ := (report.Patience{}).News(history.Told{}, denied.Targets[0], time.Unix(0, 0))
	if _, news := (report.Patience{}).News(last, denied.Targets[0], time.Unix(1e9, 0)); news.Text != "" {
		t.Errorf("without a reminder, the same trouble is told once, not as %q", news.Text)
	}
	// What an earlier run wrote and could not report is news, whatever this run did.
	last.Written = []string{"+ group admins-authelia"}
	if next, news := (report.Patience{After: 9}).News(last, down.Targets[0], time.Unix(60, 0)); news.Text == "" || len(next.Written) > 0 {
		t.Errorf("a write that nobody was told of: %q, %q", news.Text, next.Written)
	}
}

func TestBlock(t *testing.T) {
	for _, tt := range []struct{ name, scenario, news string }{
		{"first", "apply-unverified", "unverified"},
		{"mended", "apply-unchanged", "OK again; had been unverified since 2026-11-20 04:00 UTC"},
		{"fleet", "fleet-mixed", "failed"},
	} {
		var out bytes.Buffer
		if err := report.Block(&out, find(t, tt.scenario), news(find(t, tt.scenario), tt.news), report.Style{Quiet: true, OmitErrors: true}); err != nil {
			t.Fatal(err)
		}
		golden(t, "block/"+tt.name, out.Bytes())
	}
}
