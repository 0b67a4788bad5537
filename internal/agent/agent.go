// Package agent keeps realms as declared for as long as it runs: it applies the configuration on a schedule, takes a new
// one on request, and tells of itself to Prometheus, systemd, the log and people.
package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"proxmox-realm/internal/check"

	"proxmox-realm/internal/config"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

// How often an agent asks what costs issuer or node something, where the configuration leaves that to it.
const (
	proxmoxEach = time.Hour
	clientEach  = 24 * time.Hour
	askAnew     = time.Minute // the same after a start or a reload: somebody changed something and wants to know
)

// limit bounds one cycle: what takes longer hangs. The longest that is right is a write in hand per target, with its
// waiting for Proxmox, and many targets.
const limit = 30 * time.Minute

// Runner applies one configuration; [fleet.Fleet] is one.
type Runner interface {
	Apply(ctx context.Context, o fleet.Options) fleet.Run
	// Told and Tell keep what was last told of a run, over restarts.
	Told() []byte
	Tell(what []byte) error
}

// Options are what an agent is made of.
type Options struct {
	Config *config.Config
	// Load reads the configuration anew. Where it fails, the agent goes on with what it has.
	Load func(context.Context) (*config.Config, error)
	// Runner makes the one for a configuration; before is the one that it replaces, nil at the start.
	Runner func(c *config.Config, before Runner) Runner
	// Reload asks for the configuration to be loaded anew and for a run at once. Requests that come together are one.
	Reload   <-chan struct{}
	Listener net.Listener // where status is served; nil: nowhere. The agent closes it
	Version  string       // of the program, for the status page
	Env      []string     // holds NOTIFY_SOCKET and WATCHDOG_USEC under systemd; notify.command gets the rest of it
	Log      *slog.Logger
}

// Run is an agent's life. It ends, without an error, when the context does and the write in hand is finished.
func Run(ctx context.Context, o Options) error {
	a := &agent{
		Options: o, status: newStatus(o.Version), systemd: newSystemd(o.Env, o.Log), journal: newJournal(o.Log),
		runner: o.Runner(o.Config, nil),
	}
	a.web = a.serve(o.Listener)
	defer func() { a.web.close() }() // the one that there is by then
	stopping := make(chan struct{})
	context.AfterFunc(ctx, func() { // at once, though a write in hand may take its time
		defer close(stopping)
		a.systemd.say("STOPPING=1", "STATUS=stopping")
	})
	watchdog, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go a.systemd.watch(watchdog, a.status.alive)

	a.systemd.say("READY=1", "STATUS=first run")
	a.loop(ctx)
	<-stopping
	a.Log.Info("agent stops")
	return nil
}

type agent struct {
	Options
	runner  Runner
	status  *status
	systemd *systemd
	journal *journal
	web     *web

	failures int // in a row
}

// loop runs at once, and then whenever the schedule or somebody says so.
func (a *agent) loop(ctx context.Context) {
	a.Log.Info("agent starts", "targets", len(a.Config.Targets), "interval", a.Config.Agent.Interval, "listen", a.web.address())
	anew := true
	for ctx.Err() == nil {
		run, whole := a.cycle(ctx, anew)
		if !whole {
			return
		}
		pause := a.schedule(run)
		a.status.sleep(pause)
		a.systemd.say("STATUS=" + a.status.line())
		timer := time.NewTimer(pause)
		anew = false
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-a.Reload:
			a.reload(ctx)
			anew = true
		}
		timer.Stop()
	}
}

// cycle applies the configuration once and tells of it; whole is false where the end of the agent cut it short.
func (a *agent) cycle(ctx context.Context, anew bool) (run fleet.Run, whole bool) {
	options := fleet.Options{
		Options:  reconcile.Options{Repeats: true, ProxmoxEvery: proxmoxEach, ClientEvery: clientEach},
		WaitLock: min(a.Config.Agent.Interval/2, time.Minute),
	}
	if anew {
		options.ProxmoxEvery, options.ClientEvery = askAnew, askAnew
	}
	a.status.work(limit)
	bounded, cancel := context.WithTimeoutCause(ctx, limit, check.Errorf(check.Unreachable, "the run was given up after %s", limit))
	run = a.runner.Apply(bounded, options)
	cancel()
	if ctx.Err() != nil && interrupted(run) {
		return run, false
	}
	a.status.ran(run)
	a.journal.run(run)
	a.tell(ctx, run)
	return run, true
}

// interrupted tells that a run says more of the agent's end than of its targets.
func interrupted(run fleet.Run) bool {
	ended := func(err error) bool {
		code := check.CodeOf(err)
		return err != nil && (code == check.Interrupted || code == check.Terminated || errors.Is(err, context.Canceled))
	}
	return ended(run.Err) || slices.ContainsFunc(run.Targets, func(t reconcile.Result) bool { return ended(t.Err) })
}

// tell runs the command that wants to hear of news. Where it fails, the same news are told with the next run.
func (a *agent) tell(ctx context.Context, run fleet.Run) {
	var last report.Last
	_ = json.Unmarshal(a.runner.Told(), &last) // without it, everything is news
	next, news := last.After(run, time.Now(), 0)
	if news && len(a.Config.Notify.Command) > 0 {
		err := Notify(ctx, a.Config, a.Env, run)
		a.journal.notified(err)
		if err != nil {
			return
		}
	}
	kept, err := json.Marshal(next)
	if err == nil {
		err = a.runner.Tell(kept)
	}
	a.journal.remembered(err)
}

// reload takes the configuration as it is now, unless that cannot be used.
func (a *agent) reload(ctx context.Context) {
	a.systemd.say(append([]string{"RELOADING=1", "STATUS=reloading"}, monotonic()...)...)
	defer a.systemd.say("READY=1")
	a.status.work(limit)
	c, err := a.Load(ctx)
	if err == nil {
		err = a.listen(c.Agent.Listen)
	}
	if ctx.Err() != nil {
		return
	}
	a.status.reloaded(err)
	if err != nil {
		described := check.Describe(err)
		a.Log.Error("the configuration is not reloaded: the former one stays in force", "error", described.Message, "hint", described.Hint())
		return
	}
	for _, w := range c.Warnings {
		a.Log.Warn("configuration", "warning", w)
	}
	a.runner = a.Runner(c, a.runner)
	a.Config, a.failures = c, 0
	a.Log.Info("configuration reloaded", "targets", len(c.Targets), "interval", c.Agent.Interval)
}

// listen moves the status server to another address.
func (a *agent) listen(address string) error {
	if address == a.Config.Agent.Listen || a.Listener == nil {
		return nil
	}
	listener, err := Listen(address)
	if err != nil {
		return err
	}
	a.web.close()
	a.web = a.serve(listener)
	return nil
}

// Listen opens the address of agent.listen.
func Listen(address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address) //nolint:noctx // nothing is waited for
	if err != nil {
		return nil, check.Errorf(check.Config, "agent.listen: %v", err).
			Try(check.Advise("another agent may run here: stop it, or choose another address")).Because(err)
	}
	return listener, nil
}

// line is the status in a line, for systemctl.
func (s *status) line() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("%s; next run at %s", summary(s.last), s.next.UTC().Format("15:04:05 UTC"))
}

// summary is what became of a run, in a few words.
func summary(run fleet.Run) string {
	switch {
	case run.Err != nil:
		return fmt.Sprintf("%s (%s)", run.Outcome, check.CodeOf(run.Err))
	case len(run.Targets) == 1:
		return fmt.Sprintf("realm %s on %s: %s", run.Targets[0].Realm, run.Targets[0].Endpoint, run.Outcome)
	}
	return fmt.Sprintf("%d targets, %d of them in order", len(run.Targets), inOrder(run))
}

func inOrder(run fleet.Run) (n int) {
	for _, t := range run.Targets {
		if settled(t.Outcome) {
			n++
		}
	}
	return n
}

func settled(o reconcile.Outcome) bool { return o == reconcile.Changed || o == reconcile.Unchanged }
