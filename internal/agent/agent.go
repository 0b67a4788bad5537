// Package agent keeps realms as declared while it runs. It applies the configuration on a schedule and reloads it on
// request. It reports to Prometheus, systemd, the log and a status page.
package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/history"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

// limit is how long a run may take before the agent aborts it. Many targets that each wait for Proxmox stay below it.
const limit = 30 * time.Minute

// Runner applies one configuration; [fleet.Fleet] is one.
type Runner interface {
	Apply(ctx context.Context, o fleet.Options) fleet.Run
	History() *history.Store
}

// Options configure an agent.
type Options struct {
	Config *config.Config
	// Load reads the configuration again. If it fails, the agent keeps the former configuration.
	Load func(context.Context) (*config.Config, error)
	// Runner returns the runner of a configuration.
	Runner func(*config.Config) Runner
	// Reload requests a reload and a run. Requests that arrive during a run count as one.
	Reload   <-chan os.Signal
	Listener net.Listener // where status is served; nil: nowhere. The agent closes it
	Version  string       // of the program, for the status page
	By       report.By    // for notify.command
	Log      *slog.Logger
}

// Run runs an agent. It returns, without an error, when the context is done and a write under way has ended.
func Run(ctx context.Context, o Options) error {
	a := &agent{Options: o, status: newStatus(o.Version), journal: newJournal(o.Log), runner: o.Runner(o.Config), read: true}
	a.logins = a.status.metrics.countLogins()
	if o.Listener != nil {
		defer a.serve(o.Listener, o.Config.Agent.Listen)()
	}
	stopping := make(chan struct{})
	context.AfterFunc(ctx, func() { // at once, although a write under way may take its time
		defer close(stopping)
		a.systemd(daemon.SdNotifyStopping, "STATUS=stopping")
	})
	watched, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go a.watchdog(watched)

	a.systemd(daemon.SdNotifyReady, "STATUS=first run")
	a.loop(ctx)
	<-stopping
	a.Log.Info("agent stops")
	return nil
}

type agent struct {
	Options
	runner  Runner
	status  *status
	journal *journal
	logins  *fleet.Logins

	failures int  // in a row
	read     bool // the configuration was read since the last run
}

// loop runs at once, and then at the time of the schedule or on a reload.
func (a *agent) loop(ctx context.Context) {
	a.Log.Info("agent starts", "targets", len(a.Config.Targets), "interval", a.Config.Agent.Interval)
	a.warn()
	for ctx.Err() == nil {
		a.refresh(ctx)
		run, whole := a.cycle(ctx)
		if !whole {
			return
		}
		pause := a.schedule(run)
		a.status.sleep(pause)
		a.systemd("STATUS=" + a.status.line())
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-a.Reload:
			a.reload(ctx)
		}
		timer.Stop()
	}
}

// cycle applies the configuration once and reports the run. whole is false if the end of the agent interrupted the run.
func (a *agent) cycle(ctx context.Context) (run fleet.Run, whole bool) {
	options := fleet.Options{
		Options:  reconcile.Options{Quiet: true},
		WaitLock: min(a.Config.Agent.Interval/2, time.Minute),
		Logins:   a.logins,
	}
	a.status.work()
	bounded, cancel := context.WithTimeoutCause(ctx, limit, check.Errorf(check.Unreachable, "the run was aborted after %s", limit))
	run = a.runner.Apply(bounded, options)
	cancel()
	if ctx.Err() != nil && interrupted(run) {
		return run, false
	}
	a.status.ran(run, a.journal.run(run))
	Printed(a.runner.History(), run)
	a.tell(ctx, run)
	return run, true
}

// interrupted reports whether a run failed because the agent ends.
func interrupted(run fleet.Run) bool {
	ended := func(err error) bool {
		code := check.CodeOf(err)
		return code == check.Interrupted || code == check.Terminated || errors.Is(err, context.Canceled)
	}
	return ended(run.Err) || slices.ContainsFunc(run.Targets, func(t reconcile.Result) bool { return ended(t.Err) })
}

// tell runs notify.command if the run is news for it. If the command fails, the next run tries again.
func (a *agent) tell(ctx context.Context, run fleet.Run) {
	if len(a.Config.Notify.Command) == 0 {
		return
	}
	reader := Teller{
		Reader: history.Notify, Patience: report.Patience{After: report.DefaultAfter}, Runs: a.runner.History(), Usual: a.runner.History(),
		Configuration: a.Config.File,
	}
	err := reader.Tell(run, func(run fleet.Run, _ []report.News) error { return Notify(ctx, a.Config, run, a.By) })
	a.journal.attempt("notify", err, "notify.command failed; the next run tries again", "notify.command works again")
}

// reload takes the configuration as it is now, unless it has mistakes.
func (a *agent) reload(ctx context.Context) {
	a.systemd(daemon.SdNotifyReloading, strings.TrimSpace(daemon.SdNotifyMonotonicUsec()), "STATUS=reloading")
	defer a.systemd(daemon.SdNotifyReady)
	a.status.work()
	c, err := a.Load(ctx)
	a.read = true
	if err == nil && c.Agent.Listen != a.Config.Agent.Listen {
		a.Log.Warn("agent.listen changed: restart the agent, which still serves on the former address", "listen", a.Config.Agent.Listen)
	}
	if ctx.Err() != nil {
		return
	}
	a.status.reloaded(err)
	if err != nil {
		a.Log.Error("the configuration was not reloaded; the former one stays in force", "error", check.MessageOf(err), "hint", check.HintOf(err).For(check.Names{}))
		return
	}
	a.use(c)
	a.Log.Info("configuration reloaded", "targets", len(c.Targets), "interval", c.Agent.Interval)
	a.warn()
}

// refresh reads the files again that hold secrets and certificate authorities, so that a run uses what was changed since the
// last one. A change of the configuration itself waits for a reload.
func (a *agent) refresh(ctx context.Context) {
	if a.read {
		a.read = false
		return
	}
	a.status.work()
	c, err := a.Load(ctx)
	switch {
	case ctx.Err() != nil:
		return
	case err == nil && c.Digest != a.Config.Digest:
		a.journal.begins("configuration", c.Digest, slog.LevelInfo, "the configuration has changed: reload the agent to use it")
		return
	}
	a.journal.attempt("secrets", err, "secrets cannot be read again; the former ones stay in force", "secrets can be read again")
	if err == nil && !c.SameSecrets(a.Config) {
		a.use(c)
		a.Log.Info("secrets or certificate authorities have changed")
	}
}

// use runs another configuration from now on, on the address of the former one.
func (a *agent) use(c *config.Config) {
	c.Agent.Listen = a.Config.Agent.Listen
	a.Config, a.runner, a.failures = c, a.Runner(c), 0
}

// warn logs the warnings of the configuration.
func (a *agent) warn() {
	for _, w := range a.Config.Warnings {
		a.Log.Warn("configuration", "warning", w)
	}
}

// systemd sends assignments such as READY=1 to systemd (sd_notify(3)). Without systemd it does nothing.
func (a *agent) systemd(assignments ...string) {
	if _, err := daemon.SdNotify(false, strings.Join(assignments, "\n")); err != nil {
		a.Log.Debug("notify systemd", "error", err)
	}
}

// watchdog tells systemd that the agent is alive, twice in each of its periods. If the loop hangs, systemd restarts the
// agent.
func (a *agent) watchdog(ctx context.Context) {
	period, err := daemon.SdWatchdogEnabled(false)
	if err != nil || period == 0 {
		return
	}
	tick := time.NewTicker(period / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if a.status.alive() {
				a.systemd(daemon.SdNotifyWatchdog)
			}
		}
	}
}
