package cli

import (
	"cmp"
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/agent"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/history"
	"proxmox-realm/internal/report"
)

// patienceFlags gives a command the flags that decide when a quiet run prints something.
func patienceFlags(cmd *cobra.Command, p *report.Patience) {
	f := cmd.Flags()
	f.IntVar(&p.After, "after", report.DefaultAfter,
		"with --quiet, report exit codes 69 and 75 only after `N` failed runs in a row: they may pass")
	f.DurationVar(&p.Remind, "remind", 24*time.Hour, "with --quiet, repeat an unresolved problem every `DURATION`")
}

// finishQuietly shows a run only if it is news, because cron mails all output. notify.command gets the same news, without
// the reminders. An interrupted run says nothing about the realm, so it is shown and not remembered, unless it wrote something. c is
// nil if the configuration cannot be loaded.
func (a *app) finishQuietly(ctx context.Context, c *config.Config, run fleet.Run, patience report.Patience) error {
	if interrupted(ctx) {
		return a.finish(run, false)
	}
	reader := agent.Teller{
		Reader: history.Quiet, Patience: patience, Runs: a.runs(), Usual: history.Open(config.StateDir()),
		Configuration: cmp.Or(a.file, os.Getenv("PROXMOX_REALM_CONFIG")),
	}
	for _, w := range run.Warnings {
		a.warning(w)
	}
	run.Warnings = nil
	if c != nil && len(c.Notify.Command) > 0 {
		notified := reader
		notified.Reader, notified.Patience.Remind = history.Notify, 0
		err := notified.Tell(run, func(run fleet.Run, _ []report.News) error { return agent.Notify(ctx, c, run, by()) })
		if err != nil {
			a.warning("notify.command: " + err.Error())
		}
	}
	if a.output != "text" { // scripts read every report
		return a.finish(run, false)
	}
	err := reader.Tell(run, func(run fleet.Run, news []report.News) error {
		if err := report.Block(a.stdout, run, news, a.style()); err != nil {
			return unwritten(err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return done(runCode(run, false))
}

// runs is what runs remember: that of the command's fleet, or of the usual state_dir if the configuration cannot be loaded.
func (a *app) runs() *history.Store {
	if a.fleetHistory == nil {
		a.fleetHistory = history.Open(config.StateDir())
	}
	return a.fleetHistory
}
