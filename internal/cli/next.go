package cli

import (
	"slices"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// Commands that come next.
const (
	nextApply  check.Hint = "to make it so:\n    {apply}"
	nextVerify check.Hint = "to check everything, with evidence:\n    {verify -v}"
	nextLogin  check.Hint = "to rehearse a login in a browser:\n    {login}"
	nextPlan   check.Hint = "to see what would change:\n    {plan}"
	nextCheck  check.Hint = "after it was saved to a file:\n    {config check -c FILE}"
	nextCron   check.Hint = "to keep the realm as it is, from cron or a timer:\n    {apply -q}"
	nextInit   check.Hint = "to set up a realm for it:\n    {init}"
)

// next returns what is useful after a run that went well; "" if nothing is.
func next(run fleet.Run) check.Hint {
	made := slices.ContainsFunc(run.Targets, func(t reconcile.Result) bool { return t.Action == realm.Create })
	switch {
	case run.Command == "plan" && run.Outcome == reconcile.Drift:
		return nextApply
	case run.Command == "plan" && run.Outcome == reconcile.Unchanged:
		return nextVerify
	case run.Command == "apply" && run.Outcome == reconcile.Changed && !made:
		return nextVerify
	case run.Command == "apply" && run.Outcome == reconcile.Changed, run.Command == "verify" && run.Outcome == reconcile.Unchanged,
		run.Command == "restore" && run.Outcome == reconcile.Changed:
		return nextLogin
	case run.Command == "probe" && run.Outcome == reconcile.Unchanged:
		return nextInit
	}
	return ""
}
