package cli

import (
	"time"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

type applyOptions struct {
	fleet.Options
	patience report.Patience
	metrics  string
}

func (a *app) applyCommand() *cobra.Command {
	var o applyOptions
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Create or update the realm, read it back and verify it",
		Long: `Create or update the realm, read it back and verify it.

If the issuer would reject a change to an existing realm, nothing is written and
logins keep working. With --wait, apply asks the issuer again until it accepts
the change. "rotate" gives a client a new key.` +
			exitHelp(exitUnverified, exitRefused, exitHeld, exitTryAgain, exitDenied),
		Example: "  proxmox-realm apply\n" +
			"  proxmox-realm apply --wait 10m   # until the issuer accepts the change\n" +
			"  proxmox-realm apply -q           # cron",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.apply(cmd, o) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.Replace, "replace", false,
		"delete and recreate a realm whose username-claim differs: every user gets a new name")
	f.BoolVar(&o.NoGate, "no-gate", false, "write the change even if logins would fail")
	f.DurationVar(&o.Wait, "wait", 0, "ask the issuer again for up to `DURATION` until it accepts the change")
	f.DurationVar(&o.WaitLock, "wait-lock", 0, "wait up to `DURATION` while another run holds the lock")
	patienceFlags(cmd, &o.patience)
	metricsFlag(cmd, &o.metrics)
	shardFlag(cmd)
	a.configFlags(cmd)
	return cmd
}

func (a *app) apply(cmd *cobra.Command, o applyOptions) error {
	if o.Wait < 0 || o.WaitLock < 0 || o.patience.Remind < 0 || o.patience.After < 0 {
		return usage("--wait, --wait-lock, --remind and --after take no negative values")
	}
	c, err := a.connectable(cmd, false)
	if err != nil {
		run := fleet.Run{Command: "apply", Outcome: reconcile.Failed, Err: err, Began: time.Now()}
		a.writeMetrics(cmd, o.metrics, run)
		if a.quiet && a.output == "text" {
			return a.finishQuietly(cmd.Context(), nil, run, o.patience)
		}
		return err
	}
	if o.Replace {
		a.saysState(c.StateDir)
	}
	o.Quiet = a.quiet
	if o.Wait > 0 {
		o.Waiting = a.saysWhy()
	}
	result, err := a.watched(cmd, c, "applying", o.metrics, o.Options, (*fleet.Fleet).Apply)
	if err != nil {
		return err
	}
	if a.quiet {
		return a.finishQuietly(cmd.Context(), c, result, o.patience)
	}
	return a.finish(result, false)
}

// saysWhy returns a function that prints each reason for waiting once: somebody must act on it meanwhile.
func (a *app) saysWhy() func(held reconcile.Result, until time.Time) {
	if a.quiet {
		return nil
	}
	told := map[string]bool{}
	return func(held reconcile.Result, until time.Time) {
		why := check.MessageOf(held.Err)
		if !told[why] {
			told[why] = true
			a.note("%s; waiting until %s for that to change", why, until.Format("2006-01-02 15:04:05 MST"))
		}
	}
}
