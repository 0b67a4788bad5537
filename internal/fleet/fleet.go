// Package fleet runs the reconciler over every target of a configuration. It shares what targets have in common, and keeps runs
// of one realm apart. All commands that reconcile go through it.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/history"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/reconcile"
)

// Options are what a run adds to its configuration.
type Options struct {
	reconcile.Options
	Wait     time.Duration // how long to look again at targets whose gate is closed, from the start of the run
	WaitLock time.Duration // how long to wait for another run of the same realm; 0: not at all
	Locked   bool          // the caller holds the locks of all targets, see [Fleet.Lock]
	// Each takes the result of each target as it ends, so that the memory of a run does not grow with its targets. nil: the
	// run keeps them.
	Each func(reconcile.Result)
	// Progress hears of each target as it begins, with an empty outcome, and as it ends; nil: nobody does. Calls may overlap.
	Progress func(target string, ended reconcile.Outcome)
	// Waiting hears of each target that is looked at again, why, and until when; nil: nobody does. Calls do not overlap.
	Waiting func(held reconcile.Result, until time.Time)
	// Logins reads the new logins of each target after its run; nil: they are not read.
	Logins *Logins
}

// Run is what became of a command, over all of its targets.
type Run struct {
	Command  string // "plan", "apply", "verify", "delete", "restore", "rotate", "probe"
	Outcome  reconcile.Outcome
	Err      error              // what concerns no target: configuration, usage
	Targets  []reconcile.Result // none if [Options.Each] took them
	Warnings []string           // that concern no target
	Began    time.Time
	Duration time.Duration

	counted Tally // also of the targets that [Options.Each] took
}

// Fleet is a configuration at work. It may run many times.
type Fleet struct {
	config    *config.Config
	log       *slog.Logger
	userAgent string
	cleaner   *check.Cleaner // for what issuers say: it holds the client keys and passwords of all targets
	history   *history.Store
}

// New prepares a configuration's targets; it sends nothing. userAgent is how the program calls itself towards Proxmox
// and issuers, such as "proxmox-realm/1.0".
func New(c *config.Config, userAgent string, log *slog.Logger) *Fleet {
	var secrets []check.Secret
	for _, t := range c.Targets {
		// People paste them into the client id, also of other targets. Tokens are recognised by their form.
		secrets = append(secrets, t.Realm.Login().ClientKey, t.Proxmox.Password)
	}
	cleaner := check.NewCleaner(append(secrets, c.Secrets...)...)
	return &Fleet{config: c, log: log, userAgent: userAgent, cleaner: cleaner, history: history.Open(c.StateDir)}
}

// History is what runs of the configuration's targets remember.
func (f *Fleet) History() *history.Store { return f.history }

// Plan returns what Apply would do and changes nothing in Proxmox.
func (f *Fleet) Plan(ctx context.Context, o Options) Run {
	return f.run(ctx, "plan", o, work{do: reconcile.Plan})
}

// PlanDelete returns what Delete would do and changes nothing.
func (f *Fleet) PlanDelete(ctx context.Context, o Options) Run {
	return f.run(ctx, "delete", o, work{do: reconcile.PlanDelete})
}

// Apply brings every target's realm into its declared state, and verifies it.
func (f *Fleet) Apply(ctx context.Context, o Options) Run {
	return f.run(ctx, "apply", o, work{do: reconcile.Apply, writes: true})
}

// Verify runs every check and changes nothing in Proxmox.
func (f *Fleet) Verify(ctx context.Context, o Options) Run {
	return f.run(ctx, "verify", o, work{do: reconcile.Verify})
}

// Delete saves and removes every target's realm.
func (f *Fleet) Delete(ctx context.Context, o Options) Run {
	return f.run(ctx, "delete", o, work{do: reconcile.Delete, writes: true})
}

// Restore brings a saved realm of the configuration's one target back. Without write it only says what it would do.
func (f *Fleet) Restore(ctx context.Context, o Options, s reconcile.Saved, write bool) Run {
	do := func(ctx context.Context, t config.Target, d reconcile.Deps, o reconcile.Options) reconcile.Result {
		return reconcile.Restore(ctx, t, d, o, s, write)
	}
	return f.run(ctx, "restore", o, work{do: do, writes: write})
}

// Rekey gives every target's realm the declared client key, and changes nothing else. Without write it only says what it would do.
func (f *Fleet) Rekey(ctx context.Context, o Options, write bool) Run {
	do := func(ctx context.Context, t config.Target, d reconcile.Deps, o reconcile.Options) reconcile.Result {
		return reconcile.Rekey(ctx, t, d, o, write)
	}
	return f.run(ctx, "rotate", o, work{do: do, writes: write})
}

// AwaitKey looks, until [Options.Wait] is over, whether the issuer accepts the client key that the targets declare. One target asks
// for all, because they share the client. The outcome is [reconcile.Held] if the issuer does not accept the key.
func (f *Fleet) AwaitKey(ctx context.Context, o Options) Run {
	asking := max(slices.IndexFunc(f.config.Targets, func(t config.Target) bool { return t.Verify.Issuer && t.Verify.Client }), 0)
	one := *f.config
	one.Targets = one.Targets[asking : asking+1]
	return (&Fleet{&one, f.log, f.userAgent, f.cleaner, f.history}).run(ctx, "rotate", o, work{do: new(reconcile.KeyWait).Look})
}

// work is one of reconcile's functions.
type work struct {
	do     func(context.Context, config.Target, reconcile.Deps, reconcile.Options) reconcile.Result
	writes bool // to Proxmox: the run takes the realm's locks
}

// lookEvery is the pause between two looks at targets whose gate is closed.
const lookEvery = 10 * time.Second

// run does the work on every target, and with [Options.Wait] again on those that are held, until the time is over. Between the
// passes it holds no lock.
func (f *Fleet) run(ctx context.Context, command string, o Options, w work) Run {
	o.Began, o.Waits = time.Now(), o.Wait > 0
	deadline := o.Began.Add(o.Wait)
	if w.writes {
		reconcile.PruneSaved(f.config.StateDir, o.Began)
		f.history.Prune(o.Began)
	}
	pool := newIssuerPool(ctx, f)
	defer pool.close()
	run := Run{Command: command, Began: o.Began, Targets: make([]reconcile.Result, len(f.config.Targets))}
	looking := make([]int, len(f.config.Targets))
	for i := range looking {
		looking[i] = i
	}
	for len(looking) > 0 {
		ends := ctx.Err() != nil || !time.Now().Before(deadline)
		if looking = f.pass(ctx, pool, &run, looking, o, w, ends); len(looking) == 0 {
			break
		}
		for _, i := range looking {
			result := run.Targets[i]
			f.log.Info("waiting for the gate", "target", result.Name, "because", check.MessageOf(result.Err), "until", deadline)
			if o.Waiting != nil {
				o.Waiting(result, deadline)
			}
		}
		_ = reconcile.Sleep(ctx, min(lookEvery, time.Until(deadline))) // the next look says why it was interrupted
		o.Look = time.Now()
		o.Last = !o.Look.Before(deadline)
	}
	run.Outcome, run.Duration = run.counted.worst(), time.Since(o.Began)
	if o.Each != nil {
		run.Targets = nil
	}
	if err := f.history.Problem(); err != nil {
		run.Warnings = append(run.Warnings, check.MessageOf(err))
	}
	return run
}

// pass does the work once on the targets of those indices. It returns those whose gate is closed, which are to be looked at again
// unless the run ends. Of the others it keeps the results, or hands them over.
func (f *Fleet) pass(ctx context.Context, pool *issuerPool, run *Run, targets []int, o Options, w work, ends bool) (held []int) {
	progress := func(string, reconcile.Outcome) {}
	if o.Progress != nil {
		progress = o.Progress
	}
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(max(f.config.Concurrency, 1))
	for _, i := range targets {
		group.Go(func() error {
			t := f.config.Targets[i]
			progress(t.Name, "")
			result := f.target(ctx, t, pool, o, w)
			mu.Lock()
			defer mu.Unlock()
			if run.Targets[i] = result; result.Outcome == reconcile.Held && !ends {
				held = append(held, i)
				return nil
			}
			run.counted.add(result)
			progress(t.Name, result.Outcome)
			if o.Each != nil {
				run.Targets[i] = reconcile.Result{}
				o.Each(result)
			}
			return nil
		})
	}
	_ = group.Wait()
	slices.Sort(held)
	return held
}

// target does the work on one target. If its client cannot be made, or another run holds its realm, only this target fails.
func (f *Fleet) target(ctx context.Context, t config.Target, pool *issuerPool, o Options, w work) reconcile.Result {
	defer pool.ended(t)
	began := time.Now()
	failed := func(err error) reconcile.Result {
		return reconcile.Result{
			Name: t.Name, ID: reconcile.ID(t), Product: reconcile.ID(t).Product, Endpoint: string(t.Proxmox.Endpoints[0]), Realm: t.Realm.Name,
			Outcome: reconcile.Failed, Err: err, Duration: time.Since(began),
		}
	}
	unlock := func() {}
	if w.writes && !o.Locked {
		free, err := f.lock(ctx, o.WaitLock, t)
		if err != nil {
			return failed(err)
		}
		unlock = sync.OnceFunc(free)
	}
	defer unlock()
	cleaner := check.NewCleaner(t.Realm.Login().ClientKey)
	client, err := f.connect(t, cleaner)
	if err != nil {
		return failed(err)
	}
	defer client.Close()
	deps := reconcile.Deps{Cluster: client, Cleaner: cleaner, History: f.history, Log: f.log.With("target", t.Name)}
	if t.Verify.Issuer {
		deps.Inspect = func(issuerURL string, notBefore time.Time) *issuer.Inspection {
			return pool.inspect(t.Verify, issuerURL, notBefore)
		}
	}
	result := w.do(ctx, t, deps, o.Options)
	result.Requests = client.Requests()
	result.Retries, result.Lost = client.Retries()
	if written := Written(result); len(written) > 0 {
		result.Noted = written
		f.history.ChangeTarget(reconcile.ID(t), func(h *history.Target) { *h = h.Remember(written, f.readers()...) })
	}
	unlock()
	o.Logins.read(ctx, t, client, cleaner, result, f.log)
	return result
}

// readers returns who is told what runs write.
func (f *Fleet) readers() []history.Reader {
	readers := []history.Reader{history.Quiet}
	if len(f.config.Notify.Command) > 0 {
		readers = append(readers, history.Notify)
	}
	return readers
}

// Lock takes the locks of all targets, for a caller that does more than one thing with them. It waits for other runs at most that
// long. The caller unlocks them.
func (f *Fleet) Lock(ctx context.Context, wait time.Duration) (unlock func(), err error) {
	return f.lock(ctx, wait, f.config.Targets...)
}

// lock takes the locks of targets: one for each endpoint and realm.
func (f *Fleet) lock(ctx context.Context, wait time.Duration, targets ...config.Target) (unlock func(), err error) {
	var names []string
	for _, t := range targets {
		id := reconcile.ID(t)
		for _, e := range id.Endpoints {
			names = append(names, e+" "+id.Realm)
		}
	}
	what := fmt.Sprintf("realm %s of %s", targets[0].Realm.Name, targets[0].Proxmox.Endpoints[0])
	if len(targets) > 1 {
		what = fmt.Sprintf("one of %d realms", len(targets))
	}
	if unlock, err = f.history.Lock(ctx, names, 0); errors.Is(err, history.ErrLocked) && wait > 0 {
		f.log.Info("waiting for the lock", "target", targets[0].Name, "realm", targets[0].Realm.Name, "at_most", wait)
		unlock, err = f.history.Lock(ctx, names, wait)
	}
	switch {
	case errors.Is(err, history.ErrLocked):
		return nil, check.Errorf(check.Locked, "another run works on %s", what).
			Try("run again later", "to wait for it:\n    {apply --wait-lock 60s}")
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, check.Errorf(check.Config, "the lock of %s cannot be taken: %v", what, err).At("state_dir").
			Try("set {state_dir} to a folder that this user can write").Because(err)
	}
	return unlock, nil
}

// Connect returns the client of a target for a command that needs no reconciler. The caller closes it.
func (f *Fleet) Connect(t config.Target) (*proxmox.Client, error) {
	return f.connect(t, check.NewCleaner(t.Realm.Login().ClientKey))
}

func (f *Fleet) connect(t config.Target, cleaner *check.Cleaner) (*proxmox.Client, error) {
	return proxmox.New(t.Proxmox, proxmox.Options{UserAgent: f.userAgent, Cleaner: cleaner, Log: f.log.With("target", t.Name)})
}
