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
	"proxmox-realm/internal/report"
)

// ruleFlags gives a command the flags that decide when a quiet run prints something.
func ruleFlags(cmd *cobra.Command, rule *report.Rule) {
	f := cmd.Flags()
	f.IntVar(&rule.After, "after", report.DefaultAfter,
		"with --quiet, report exit codes 69 and 75 only after `N` failed runs in a row: they may pass")
	f.DurationVar(&rule.Remind, "remind", 24*time.Hour, "with --quiet, repeat an unresolved problem every `DURATION`")
}

// finishQuietly shows a run only if it is news, because cron mails all output. notify.command gets the same news, without
// the reminders. An interrupted run says nothing about the realm, so it is shown and not remembered. c is nil if the
// configuration cannot be loaded.
func (a *app) finishQuietly(ctx context.Context, c *config.Config, run fleet.Run, rule report.Rule) error {
	if interrupted(ctx) {
		return a.finish(run, false)
	}
	memory, unusable := a.memory(run.Command, c), a.memory(run.Command, nil)
	last := memory.Load()
	if broken := unusable.Load(); c != nil && len(broken.Troubles) > 0 { // the last run could not load it
		broken.Success = last.Success
		last = broken
		unusable.Forget()
	}
	next, news := last.After(run, time.Now(), rule)
	if c != nil && news.Text != "" && !news.Reminder {
		if err := agent.Notify(ctx, c, run); err != nil {
			a.warning("notify.command: " + err.Error())
		}
	}
	if err := memory.Save(next); err != nil {
		a.logger().Warn("the next run will repeat this news, because it cannot be stored", "error", err)
	}
	switch {
	case a.output != "text": // scripts read every report
		return a.finish(run, false)
	case news.Text != "":
		if err := report.Block(a.stdout, run, news, a.style()); err != nil {
			return err
		}
	}
	return done(runCode(run, false))
}

// memory returns what runs of a command remember. If the configuration cannot be loaded (nil), it belongs to its file.
func (a *app) memory(command string, c *config.Config) agent.Memory {
	if c == nil {
		return agent.UnusableMemory(command, cmp.Or(a.file, os.Getenv("PROXMOX_REALM_CONFIG")))
	}
	return agent.MemoryOf(command, c)
}
