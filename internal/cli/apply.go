package cli

import (
	"cmp"
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

type applyOptions struct {
	fleet.Options
	recover bool
	remind  time.Duration
	metrics string
}

func (a *app) applyCommand() *cobra.Command {
	var o applyOptions
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Create or update the realm, read it back and verify it",
		Long: `Create or update the realm, read it back and verify it.

If the issuer would reject a change to an existing realm, nothing is written and
logins keep working. With --wait, apply asks the issuer again until it accepts
the change. That is how a client key is rotated.` +
			exitHelp(exitUnverified, exitRefused, exitHeld, exitTryAgain, exitDenied),
		Example: "  proxmox-realm apply\n" +
			"  proxmox-realm apply --wait 10m   # a new client key: now restart Authelia\n" +
			"  proxmox-realm apply -q           # cron",
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.apply(cmd, o) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.Replace, "replace", false, "delete and recreate a realm whose username-claim differs: every user gets a new name")
	f.BoolVar(&o.recover, "recover", false, "finish a replace that was interrupted")
	f.BoolVar(&o.NoGate, "no-gate", false, "write the change even if logins would fail")
	f.DurationVar(&o.Wait, "wait", 0, "ask the issuer again for up to `DURATION` until it accepts the change")
	f.DurationVar(&o.WaitLock, "wait-lock", 0, "wait up to `DURATION` while another run holds the lock")
	f.DurationVar(&o.remind, "remind", 24*time.Hour, "with --quiet, repeat an unresolved problem every `DURATION`")
	metricsFlag(cmd, &o.metrics)
	configFlags(cmd)
	return cmd
}

func (a *app) apply(cmd *cobra.Command, o applyOptions) error {
	if o.recover && (o.Replace || o.NoGate || o.Wait > 0) {
		return usage("--recover excludes --replace, --no-gate and --wait")
	}
	if o.Wait < 0 || o.WaitLock < 0 || o.remind < 0 {
		return usage("--wait, --wait-lock and --remind take durations above zero, such as 10m")
	}
	c, err := a.connectable(cmd, false)
	if err != nil {
		run := fleet.Run{Command: "apply", Outcome: reconcile.Failed, Err: err}
		a.writeMetrics(o.metrics, run)
		if a.quiet && a.output == "text" && !interrupted(cmd.Context()) {
			return a.finishUnconfigured(run, o.remind)
		}
		return err
	}
	f := a.fleet(c)
	o.Repeats = a.quiet
	run := f.Apply
	if o.recover {
		run = f.Recover
	}
	stop := func() {}
	if o.Wait > 0 {
		o.Waiting = a.saysWhy()
	} else {
		stop = a.working("applying")
	}
	result := run(cmd.Context(), o.Options)
	stop()
	a.writeMetrics(o.metrics, result)
	if a.quiet {
		return a.finishQuietly(cmd.Context(), c, f, result, o.remind)
	}
	if o.recover && a.output == "text" {
		result.Command = "recover" // the report is about the saved realm, not about the declared one
	}
	return a.finish(result, false)
}

// saysWhy returns a function that prints each reason for waiting once: somebody must act on it meanwhile.
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
			a.say("note", fmt.Sprintf("%s; waiting until %s for that to change", why, until.Format("2006-01-02 15:04:05 MST")))
		}
	}
}

// finishQuietly says only what is news compared with the last quiet run of this configuration: cron mails
// whatever is said, and the same mail 96 times a day is read by nobody. notify.command hears of the same news,
// reminders aside. A run that was interrupted is no news of the realm.
func (a *app) finishQuietly(ctx context.Context, c *config.Config, f *fleet.Fleet, run fleet.Run, remind time.Duration) error {
	if interrupted(ctx) {
		return a.finish(run, false)
	}
	ctx = context.WithoutCancel(ctx) // --timeout has ended it
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
	name := cmp.Or(a.file, a.getenv("PROXMOX_REALM_CONFIG"))
	return a.fleet(&config.Config{StateDir: config.StateDir(), File: "unusable " + name})
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
