package cli

import (
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/report"
)

func (a *app) applyCommand() *cobra.Command {
	var o fleet.Options
	var recover bool
	var remind time.Duration
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Create or update the realm, read it back and verify it",
		Long: `Create or update the realm, read it back and verify it.

A change to an existing realm that could break logins is written only while the issuer and client checks do not
fail with the new values. With --wait, apply keeps asking until they hold: that is how a client key is rotated.` +
			exitHelp(exitUnverified, exitRefused, exitHeld, exitTryAgain, exitDenied),
		Example: "  proxmox-realm apply\n  proxmox-realm apply --wait 10m   # a new key: then restart Authelia\n  proxmox-realm apply -q           # cron",
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if recover && (o.Replace || o.NoGate || o.Wait > 0) {
				return usage("--recover goes with none of --replace, --no-gate and --wait")
			}
			if o.Wait < 0 || o.WaitLock < 0 || remind < 0 {
				return usage("--wait, --wait-lock and --remind take durations above zero, such as 10m")
			}
			c, err := a.connectable(cmd, false)
			if err != nil {
				return err
			}
			f := a.fleet(c)
			run := f.Apply
			if recover {
				run = f.Recover
			}
			stop := a.working("applying")
			result := run(cmd.Context(), o)
			stop()
			if a.quiet && a.output == "text" {
				return a.finishQuietly(f, result, remind)
			}
			return a.finish(result, false)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.Replace, "replace", false, "delete and create a realm whose username-claim differs: every user gets another claim's name")
	f.BoolVar(&recover, "recover", false, "end a replace that was cut short")
	f.BoolVar(&o.NoGate, "no-gate", false, "write whatever the issuer says")
	f.DurationVar(&o.Wait, "wait", 0, "keep asking for `DURATION` while the gate holds the change back")
	f.DurationVar(&o.WaitLock, "wait-lock", 0, "wait for `DURATION` while another run holds the lock")
	f.DurationVar(&remind, "remind", 24*time.Hour, "with --quiet, speak again of what lasts after `DURATION`")
	configFlags(cmd)
	return cmd
}

// finishQuietly says only what is news compared with the last quiet run of this configuration: cron mails
// whatever is said, and the same mail 96 times a day is read by nobody.
func (a *app) finishQuietly(f *fleet.Fleet, run fleet.Run, remind time.Duration) error {
	var last report.Last
	_ = json.Unmarshal(f.Told(), &last) // without it, everything is news
	next, tell := last.After(run, time.Now(), remind)
	if tell {
		if err := report.Block(a.stdout, run, last, a.style()); err != nil {
			return err
		}
	}
	kept, err := json.Marshal(next)
	if err == nil {
		err = f.Tell(kept)
	}
	if err != nil {
		a.logger().Warn("what was said cannot be remembered", "error", err)
	}
	return done(runCode(run, false))
}
