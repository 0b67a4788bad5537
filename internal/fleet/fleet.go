// Package fleet runs the reconciler over every target of a configuration. It shares what targets have in common, locks
// the configuration, and stores what the next run can use. All commands that reconcile go through it.
package fleet

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/reconcile"
)

// Options are what a run adds to its configuration.
type Options struct {
	reconcile.Options
	WaitLock time.Duration // how long to wait for another run of the configuration; 0: not at all
	// Each takes the result of each target as it ends, so that the memory of a run does not grow with its targets. nil: the
	// run keeps them.
	Each func(reconcile.Result)
	// Progress hears of each target as it begins, with an empty outcome, and as it ends; nil: nobody does. Calls may overlap.
	Progress func(target string, ended reconcile.Outcome)
}

// Run is what became of a command, over all of its targets.
type Run struct {
	Command  string // "plan", "apply", "verify", "delete", "probe"
	Outcome  reconcile.Outcome
	Err      error              // what concerns no target: configuration, usage, lock
	Targets  []reconcile.Result // none if [Options.Each] took them
	Duration time.Duration

	taken *Tally // of the targets that [Options.Each] took
}

// Fleet is a configuration at work. It may run many times.
type Fleet struct {
	config    *config.Config
	log       *slog.Logger
	userAgent string
	cleaner   *check.Cleaner // for what issuers say: it holds client keys and passwords, and tokens of targets that run
	state     *state
}

// New prepares a configuration's targets; it sends nothing. userAgent is how the program calls itself towards Proxmox
// and issuers, such as "proxmox-realm/1.0".
func New(c *config.Config, userAgent string, log *slog.Logger) *Fleet {
	f := &Fleet{config: c, log: log, userAgent: userAgent, cleaner: check.NewCleaner(), state: newState(c)}
	for _, t := range c.Targets {
		// People paste them into the client id, also of other targets. Tokens are recognised by their form.
		f.cleaner.Hold(t.Realm.Set.Login(t.Realm.Name).ClientKey, t.Proxmox.Password)
	}
	return f
}

// Plan returns what Apply would do and changes nothing.
func (f *Fleet) Plan(ctx context.Context, o Options) Run {
	return f.each(ctx, "plan", o, reconcile.Plan)
}

// PlanDelete returns what Delete would do and changes nothing.
func (f *Fleet) PlanDelete(ctx context.Context, o Options) Run {
	return f.each(ctx, "delete", o, reconcile.PlanDelete)
}

// Apply brings every target's realm into its declared state, and verifies it.
func (f *Fleet) Apply(ctx context.Context, o Options) Run {
	return f.alone(ctx, "apply", o, reconcile.Apply)
}

// Recover finishes replaces that were interrupted.
func (f *Fleet) Recover(ctx context.Context, o Options) Run {
	return f.alone(ctx, "apply", o, reconcile.Recover)
}

// Verify runs every check and changes nothing.
func (f *Fleet) Verify(ctx context.Context, o Options) Run {
	return f.each(ctx, "verify", o, reconcile.Verify)
}

// Delete saves and removes every target's realm.
func (f *Fleet) Delete(ctx context.Context, o Options) Run {
	return f.alone(ctx, "delete", o, reconcile.Delete)
}

// work is one of reconcile's functions.
type work func(context.Context, config.Target, reconcile.Deps, reconcile.Options) reconcile.Result

// alone does the same as each under the lock, so that no other run of the configuration writes at the same time.
func (f *Fleet) alone(ctx context.Context, command string, o Options, do work) Run {
	began := time.Now()
	unlock, err := locks(ctx, f.config, o.WaitLock, f.log)
	if err != nil {
		return Run{Command: command, Outcome: reconcile.Failed, Err: err, Duration: time.Since(began)}
	}
	defer unlock()
	if f.config.StateDir != "" {
		reconcile.PruneDeleted(f.config.StateDir, began)
		f.state.prune(began)
	}
	return f.each(ctx, command, o, do)
}

// each does the work on every target. [places] bounds how many run at once.
func (f *Fleet) each(ctx context.Context, command string, o Options, do work) Run {
	began := time.Now()
	issuers := newIssuerPool(ctx, f)
	defer issuers.close()

	out := newCollector(o, len(f.config.Targets))
	free := newPlaces(f.config.Concurrency)
	var targets sync.WaitGroup
	for i, t := range f.config.Targets {
		own := free.enter()
		targets.Go(func() {
			defer own.leave()
			out.begin(t.Name)
			result := f.run(ctx, command, t, issuers, own, o, do)
			issuers.ended(t)
			out.end(i, result)
		})
	}
	targets.Wait()
	run := Run{Command: command, Outcome: out.tally.worst(), Targets: out.targets, Duration: time.Since(began)}
	if o.Each != nil {
		run.taken = &out.tally
	}
	return run
}

// collector gathers results or hands them over, one at a time.
type collector struct {
	Options
	mu      sync.Mutex
	targets []reconcile.Result
	tally   Tally
}

func newCollector(o Options, targets int) *collector {
	c := &collector{Options: o}
	if o.Each == nil {
		c.targets = make([]reconcile.Result, targets)
	}
	return c
}

func (c *collector) begin(target string) {
	if c.Progress != nil {
		c.Progress(target, "")
	}
}

func (c *collector) end(i int, r reconcile.Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tally.add(r)
	if c.Progress != nil {
		c.Progress(r.Name, r.Outcome)
	}
	if c.Each != nil {
		c.Each(r)
		return
	}
	c.targets[i] = r
}

// run does the work on one target. If its client cannot be made, only this target fails.
func (f *Fleet) run(ctx context.Context, command string, t config.Target, issuers *issuerPool, own *place, o Options, do work) reconcile.Result {
	began := time.Now()
	failed := func(err error) reconcile.Result {
		return reconcile.Result{
			Name: t.Name, Endpoint: string(t.Proxmox.Endpoints[0]), Realm: t.Realm.Name,
			Outcome: reconcile.Failed, Err: err, Duration: time.Since(began),
		}
	}
	f.cleaner.Hold(t.Secrets()...)
	defer f.cleaner.Release(t.Secrets()...)
	cleaner := check.NewCleaner(t.Realm.Set.Login(t.Realm.Name).ClientKey)
	client, err := f.connect(t, cleaner, own.asking)
	if err != nil {
		return failed(err)
	}
	defer client.Close()
	memory := f.state.memory(t)
	deps := reconcile.Deps{
		Cluster: client, Logs: client, Cleaner: cleaner, Memory: memory, Log: f.log.With("target", t.Name),
		Recovery: reconcile.Recovery{Dir: f.config.StateDir, Target: t.Name, Realm: t.Realm.Name, Endpoints: t.Proxmox.Endpoints},
	}
	if t.Verify.Issuer {
		deps.Issuer = issuers.trusting(t.Verify)
	}
	result := do(ctx, t, deps, o.Options)
	result.Requests = client.Requests()
	result.Retries, result.Lost = client.Retries()
	if command != "plan" { // which changes nothing
		if err := f.state.remember(t, memory, result.Memory); err != nil {
			f.log.Debug("saving what the run found out", "target", t.Name, "error", err)
		}
	}
	return result
}

// Connect returns the client of a target for a command that needs no reconciler. The caller closes it.
func (f *Fleet) Connect(t config.Target) (*proxmox.Client, error) {
	return f.connect(t, check.NewCleaner(t.Realm.Set.Login(t.Realm.Name).ClientKey), nil)
}

func (f *Fleet) connect(t config.Target, cleaner *check.Cleaner, asking func() func()) (*proxmox.Client, error) {
	return proxmox.New(t.Proxmox, proxmox.Options{UserAgent: f.userAgent, Cleaner: cleaner, OnRequest: asking, Log: f.log.With("target", t.Name)})
}
