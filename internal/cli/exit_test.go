package cli

import (
	"testing"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/reconcile"
)

// Of several targets, the first of these codes that occurred is the run's.
func TestTheCodeOfSeveralTargets(t *testing.T) {
	failed := func(code check.Code) reconcile.Result {
		return reconcile.Result{Outcome: reconcile.Failed, Err: check.Errorf(code, "no")}
	}
	worstFirst := []struct {
		code   int
		target reconcile.Result
	}{
		{130, failed(check.Interrupted)},
		{143, failed(check.Terminated)},
		{1, failed(check.Internal)},
		{78, failed(check.Config)},
		{77, failed(check.BadCredentials)},
		{69, failed(check.Unreachable)},
		{75, failed(check.Locked)},
		{12, failed(check.UsernameClaim)},
		{13, failed(check.Held)},
		{11, reconcile.Result{Outcome: reconcile.Unverified}},
		{10, reconcile.Result{Outcome: reconcile.Drift}},
		{0, reconcile.Result{Outcome: reconcile.Changed}},
	}
	run := fleet.Run{}
	for i := len(worstFirst) - 1; i >= 0; i-- {
		run.Targets = append(run.Targets, worstFirst[i].target)
		if got := runCode(run, true); got != worstFirst[i].code {
			t.Errorf("with %d targets: %d, want %d", len(run.Targets), got, worstFirst[i].code)
		}
	}
	if got := runCode(fleet.Run{Targets: []reconcile.Result{{Outcome: reconcile.Drift}}}, false); got != 0 {
		t.Errorf("drift without --exit-code: %d", got)
	}
}
