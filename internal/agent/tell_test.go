package agent

import (
	"errors"
	"slices"
	"testing"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/history"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

// reader is somebody who is told, or who does not listen.
type reader struct {
	deaf bool
	told [][]report.News
	runs []fleet.Run
}

func (r *reader) show(run fleet.Run, news []report.News) error {
	if r.deaf {
		return errors.New("nobody listens")
	}
	r.told, r.runs = append(r.told, news), append(r.runs, run)
	return nil
}

func tell(t *testing.T, h *history.Store, name history.Reader, r *reader, run fleet.Run) {
	t.Helper()
	err := Teller{Reader: name, Patience: report.Patience{After: 2}, Runs: h, Usual: h, Configuration: "config.yaml"}.Tell(run, r.show)
	if (err != nil) != r.deaf {
		t.Errorf("%v", err)
	}
}

// Told means accepted: a reader who does not listen is told again, each reader for itself.
func TestToldMeansAccepted(t *testing.T) {
	h := history.Open(t.TempDir())
	deaf, listening := &reader{deaf: true}, &reader{}
	for range 3 {
		tell(t, h, history.Notify, deaf, failed(check.BadCredentials))
		tell(t, h, history.Quiet, listening, failed(check.BadCredentials))
	}
	if len(listening.told) != 1 {
		t.Errorf("told %d times", len(listening.told))
	}
	deaf.deaf = false
	tell(t, h, history.Notify, deaf, failed(check.BadCredentials))
	tell(t, h, history.Notify, deaf, failed(check.BadCredentials))
	if len(deaf.told) != 1 {
		t.Errorf("told %d times after it listens", len(deaf.told))
	}
}

// What a run wrote is told whatever happens afterwards: in the run itself, or by the next one that can.
func TestEveryWriteIsTold(t *testing.T) {
	h := history.Open(t.TempDir())
	run := target(reconcile.Failed, check.Errorf(check.Unreachable, "gone")) // may pass, and is not told the first time
	run.Targets[0].Stage = reconcile.Written
	run.Targets[0].Made = []realm.AccessChange{{Kind: realm.AccessGroup, Op: realm.Set, Group: "admins-authelia"}}
	id := run.Targets[0].ID
	h.ChangeTarget(id, func(target *history.Target) {
		run.Targets[0].Noted = fleet.Written(run.Targets[0])
		*target = target.Remember(run.Targets[0].Noted, history.Quiet)
	})
	r := &reader{deaf: true}
	tell(t, h, history.Quiet, r, run)
	r.deaf = false
	next := fine()
	tell(t, h, history.Quiet, r, next)
	if len(r.told) != 1 || len(r.runs[0].Targets[0].Untold) != 1 {
		t.Fatalf("told %v", r.told)
	}
	tell(t, h, history.Quiet, r, next)
	if len(r.told) != 1 {
		t.Errorf("told again: %v", r.told)
	}
}

// The mistakes of a configuration are told once, and so is their end. Targets that come and go reset nothing.
func TestMistakesAreToldOnce(t *testing.T) {
	h := history.Open(t.TempDir())
	r := &reader{}
	broken := fleet.Run{Command: "apply", Outcome: reconcile.Failed, Err: check.Errorf(check.Config, "x")}
	tell(t, h, history.Quiet, r, broken)
	tell(t, h, history.Quiet, r, broken)
	tell(t, h, history.Quiet, r, fine())
	tell(t, h, history.Quiet, r, fine())
	if len(r.told) != 2 || !slices.ContainsFunc(r.told[1], func(n report.News) bool { return n.Text != "" }) {
		t.Errorf("told %v", r.told)
	}
	two := failed(check.BadCredentials)
	tell(t, h, history.Quiet, r, two)
	other := fine().Targets[0]
	other.ID.Realm = "other"
	two.Targets = append(two.Targets, other)
	tell(t, h, history.Quiet, r, two)
	if len(r.told) != 3 {
		t.Errorf("a target more resets what was told: %v", r.told)
	}
}
