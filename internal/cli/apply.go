package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/agent"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

func (a *app) applyCommand() *cobra.Command {
	var o fleet.Options
	var recovering bool
	var remind time.Duration
	var metrics string
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
			if recovering && (o.Replace || o.NoGate || o.Wait > 0) {
				return usage("--recover goes with none of --replace, --no-gate and --wait")
			}
			if o.Wait < 0 || o.WaitLock < 0 || remind < 0 {
				return usage("--wait, --wait-lock and --remind take durations above zero, such as 10m")
			}
			c, err := a.connectable(cmd, false)
			if err != nil {
				run := fleet.Run{Command: "apply", Outcome: reconcile.Failed, Err: err}
				a.writeMetrics(metrics, run)
				if a.quiet && a.output == "text" && cmd.Context().Err() == nil {
					return a.finishUnconfigured(run, remind)
				}
				return err
			}
			f := a.fleet(c)
			o.Carry = a.quiet
			run := f.Apply
			if recovering {
				run = f.Recover
			}
			stop := func() {}
			if o.Wait > 0 {
				o.Waiting = a.saysWhy()
			} else {
				stop = a.working("applying")
			}
			result := run(cmd.Context(), o)
			stop()
			a.writeMetrics(metrics, result)
			if a.quiet {
				return a.finishQuietly(cmd.Context(), c, f, result, remind)
			}
			if recovering && a.output == "text" {
				result.Command = "recover" // it looked at what was saved, not at what is declared
			}
			return a.finish(result, false)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.Replace, "replace", false, "delete and create a realm whose username-claim differs: every user gets another claim's name")
	f.BoolVar(&recovering, "recover", false, "end a replace that was cut short")
	f.BoolVar(&o.NoGate, "no-gate", false, "write whatever the issuer says")
	f.DurationVar(&o.Wait, "wait", 0, "keep asking for `DURATION` while the gate holds the change back")
	f.DurationVar(&o.WaitLock, "wait-lock", 0, "wait for `DURATION` while another run holds the lock")
	f.DurationVar(&remind, "remind", 24*time.Hour, "with --quiet, speak again of what lasts after `DURATION`")
	metricsFlag(cmd, &metrics)
	configFlags(cmd)
	return cmd
}

// saysWhy tells on stderr what the gate waits for, once for each reason: meanwhile somebody is to do something about it.
func (a *app) saysWhy() func(why string, until time.Time) {
	if a.quiet {
		return nil
	}
	var mu sync.Mutex // several targets may wait
	told := map[string]bool{}
	return func(why string, until time.Time) {
		mu.Lock()
		defer mu.Unlock()
		if !told[why] {
			told[why] = true
			a.say("note", fmt.Sprintf("%s; waiting until %s for that to change", why, until.Format(time.TimeOnly)))
		}
	}
}

// finishQuietly says only what is news compared with the last quiet run of this configuration: cron mails
// whatever is said, and the same mail 96 times a day is read by nobody. notify.command hears of the same news,
// reminders aside. A run that was interrupted is no news of the realm.
func (a *app) finishQuietly(ctx context.Context, c *config.Config, f *fleet.Fleet, run fleet.Run, remind time.Duration) error {
	if ctx.Err() != nil {
		return a.finish(run, false)
	}
	unconfigured := a.unconfigured()
	var last report.Last
	_ = json.Unmarshal(f.Told(), &last) // without it, everything is news
	if told := unconfigured.Told(); told != nil {
		_ = json.Unmarshal(told, &last) // the last run did not come as far as to the configuration
		a.remember(unconfigured, nil)
	}
	next, tell := last.After(run, time.Now(), remind)
	if tell && next.Digest != last.Digest {
		if err := agent.Notify(ctx, c, a.env, run); err != nil {
			a.warning("notify.command: " + err.Error())
		}
	}
	a.remember(f, &next)
	switch {
	case a.output != "text": // scripts read every report
		return a.finish(run, false)
	case tell:
		if err := report.Block(a.stdout, run, last, a.style()); err != nil {
			return err
		}
	}
	return done(runCode(run, false))
}

// finishUnconfigured is finishQuietly for a run without a usable configuration: its state_dir is unknown, so what was
// said is kept in the default one.
func (a *app) finishUnconfigured(run fleet.Run, remind time.Duration) error {
	f := a.unconfigured()
	var last report.Last
	_ = json.Unmarshal(f.Told(), &last)
	next, tell := last.After(run, time.Now(), remind)
	if tell {
		if err := report.Block(a.stdout, run, last, a.style()); err != nil {
			return err
		}
	}
	a.remember(f, &next)
	return done(runCode(run, false))
}

// unconfigured is a fleet without targets, for what is remembered of runs whose configuration could not be used.
func (a *app) unconfigured() *fleet.Fleet {
	name := cmpOr(a.file, a.getenv("PROXMOX_REALM_CONFIG"))
	return a.fleet(&config.Config{StateDir: config.StateDir(a.env), File: "unusable " + name})
}

// remember keeps what was said for the next run; nil: nothing.
func (a *app) remember(f *fleet.Fleet, last *report.Last) {
	var kept []byte
	var err error
	if last != nil {
		kept, err = json.Marshal(last)
	}
	if err == nil {
		err = f.Tell(kept)
	}
	if err != nil {
		a.logger().Warn("what was said cannot be remembered", "error", err)
	}
}
