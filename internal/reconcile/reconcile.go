// Package reconcile brings one realm of one Proxmox installation into its declared state and verifies that logins through it
// work. This file holds the six steps in order: observe, plan, gate, write, read back, verify. Each step takes values and
// returns values. gate.go holds the third step, verify.go the last one, ask.go what it asks and what it remembers. replace.go
// holds the one dangerous write, and saved.go the files that make it safe.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/history"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

// Deps are what a run works with.
type Deps struct {
	Cluster *proxmox.Client
	// Inspect begins an inspection of an issuer and returns at once. It may return one that other targets share, if that began at or
	// after notBefore. nil: this machine cannot reach the issuer, so there are no issuer checks and no gate.
	Inspect func(issuerURL string, notBefore time.Time) *issuer.Inspection
	Cleaner *check.Cleaner // masks secrets in values that are shown
	History *history.Store // of earlier runs
	Log     *slog.Logger
}

// Options are what one run adds to its configuration.
type Options struct {
	Replace      bool // the caller agreed to delete and create the realm if its username-claim differs
	NoGate       bool // write whatever the issuer says
	Waits        bool // the caller tries again while the gate is closed, so that a create waits for the issuer too
	AllEndpoints bool // ask every node to discover the issuer, not only the one that answers
	Quiet        bool // a scheduled run: it asks again hourly what failed, others do once a minute
	// Began is when the run of all targets began, and Look when this look at the target did. Without several looks both are zero.
	Began, Look time.Time
	Last        bool // this look is the last one of a run that waits
}

// attempts is how many writes a run sends for one change at most. After a conflict or a lost answer the run observes
// and plans again, because the change may have been made already.
const attempts = 3

// run holds what one run works with. Nothing in it changes while the run lasts.
type run struct {
	config.Target
	Deps
	Options
	id    history.TargetID
	began time.Time // this look
	// askVersion and askUsers ask Proxmox once in a run, at the first call; the answer is the zero value if it does not tell.
	askVersion func() realm.Version
	askUsers   func() realm.Users
}

func newRun(ctx context.Context, t config.Target, d Deps, o Options) run {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.History == nil {
		d.History = history.Open("")
	}
	now := time.Now()
	if o.Began.IsZero() {
		o.Began = now
	}
	return run{
		Target: t, Deps: d, Options: o, id: ID(t), began: now,
		askVersion: sync.OnceValue(func() realm.Version {
			v, err := d.Cluster.Version(context.WithoutCancel(ctx))
			if err != nil {
				d.Log.Debug("reading the Proxmox version", "error", err)
			}
			return v
		}),
		askUsers: sync.OnceValue(func() realm.Users {
			users, err := d.Cluster.CountUsers(context.WithoutCancel(ctx), t.Realm.Name)
			if err != nil {
				d.Log.Debug("counting users", "realm", t.Realm.Name, "error", err)
			}
			users.Asked = true
			return users
		}),
	}
}

// ID identifies a target in the history.
func ID(t config.Target) history.TargetID {
	id := history.TargetID{Product: t.Realm.Product.String(), Realm: t.Realm.Name}
	for _, e := range t.Proxmox.Endpoints {
		id.Endpoints = append(id.Endpoints, string(e))
	}
	return id
}

// steps are what a command takes of the six steps.
type steps struct {
	gate  bool // 3
	write bool // 4 and 5
	key   bool // only the client key may change
	// asks says what the verification asks if nothing was written.
	asks want
}

// Plan returns what [Apply] would do, the gate's verdict included, and changes nothing in Proxmox.
func Plan(ctx context.Context, t config.Target, d Deps, o Options) Result {
	return newRun(ctx, t, d, o).take(ctx, steps{gate: true, asks: ifDue})
}

// Apply brings the realm into its declared state, reads it back and verifies it.
func Apply(ctx context.Context, t config.Target, d Deps, o Options) Result {
	return newRun(ctx, t, d, o).take(ctx, steps{gate: true, write: true, asks: ifDue})
}

// Verify runs every check on realm, issuer and client, and changes nothing in Proxmox.
func Verify(ctx context.Context, t config.Target, d Deps, o Options) Result {
	return newRun(ctx, t, d, o).take(ctx, steps{asks: always})
}

// take takes the steps of a command. What can be checked is checked, whatever failed before.
func (r run) take(ctx context.Context, steps steps) Result {
	inspection := r.inspect(r.Look) // 1. observe the issuer, and at the same time the realm
	res, plan, err := r.change(ctx, steps, r.begin(), inspection)
	res, checkErr := r.verify(ctx, res, plan, inspection, steps, err)
	if err == nil && checkErr != nil {
		if err = interruption(ctx, checkErr); res.Stage == Written {
			res = res.warn(fmt.Sprintf("realm %s was written and read back, but not verified", r.Realm.Name))
		}
	}
	return r.finish(res, err)
}

// change takes the steps from observing to reading back.
func (r run) change(ctx context.Context, steps steps, res Result, inspection *issuer.Inspection) (Result, planned, error) {
	var unsettled error // the conflict or lost answer of the last write
	for attempt := 1; ; attempt++ {
		current, access, err := r.observe(ctx) // 1. observe
		if err != nil {
			return res, planned{}, interruption(ctx, err)
		}
		if res, err = r.settleSaved(res, current, steps); err != nil {
			return res, planned{}, err
		}
		plan, err := r.plan(ctx, current, access) // 2. plan
		if err != nil {
			return res, planned{}, interruption(ctx, err)
		}
		if !steps.gate { // verify: a refusal or a difference is a finding
			res.Action = realm.None
			return res, plan, nil
		}
		if err := plan.otherClient(); err != nil && steps.key {
			return res, plan, err
		}
		res = r.unnamed(ctx, res.planned(plan, r.Cleaner), plan, inspection)
		if err = plan.refusal(); err == nil && attempt > attempts && !plan.settled() {
			err = r.gaveUp(plan, unsettled)
		}
		if err != nil {
			return res, plan, err
		}
		if res, err = r.gate(ctx, res, plan, inspection); err != nil || !steps.write { // 3. gate
			return res, plan, interruption(ctx, err)
		}
		res, plan, err = r.write(ctx, res, plan) // 4. write, and 5. read back
		if err == nil || res.final || !errors.Is(err, realm.ErrConflict) && !errors.Is(err, realm.ErrLost) {
			return res, plan, r.explain(err)
		}
		r.Log.Info("observing again", "realm", r.Realm.Name, "because", err)
		unsettled = err
	}
}

// observe reads the realm, and if access is declared, groups and the access control list.
func (r run) observe(ctx context.Context) (current realm.Current, access realm.CurrentAccess, err error) {
	if current, err = r.Cluster.Realm(ctx, r.Realm.Name); err == nil && r.Access != nil {
		access, err = r.Cluster.Access(ctx)
	}
	return current, access, err
}

// interruption returns the cause of the interruption if ctx was interrupted, otherwise err. The error of an interrupted
// request says nothing about Proxmox.
func interruption(ctx context.Context, err error) error {
	var why *check.Error
	if err != nil && ctx.Err() != nil && errors.As(context.Cause(ctx), &why) {
		return why
	}
	return err
}

// inspect begins the inspection of the declared issuer; nil if this machine cannot reach the issuer.
func (r run) inspect(notBefore time.Time) *issuer.Inspection {
	if r.Inspect == nil {
		return nil
	}
	return r.Inspect(r.Realm.Login().IssuerURL, notBefore)
}

// unnamed warns if a realm would get the default name, which is that of other software than the issuer's. Users have it in their
// names for good.
func (r run) unnamed(ctx context.Context, res Result, plan planned, inspection *issuer.Inspection) Result {
	if !r.Unnamed || plan.Action != realm.Create || inspection == nil || inspection.Wait(ctx) != nil {
		return res
	}
	if name := inspection.Provider(); name != "" && !strings.EqualFold(name, r.Realm.Name) {
		return res.warn(fmt.Sprintf("the issuer is %s, but users will be called jane@%s, for good: set realm.name to choose another name than the default",
			r.Cleaner.Clean(name), r.Realm.Name))
	}
	return res
}

// planned holds the plan for the realm and the plan for groups and grants. The zero value is no plan.
type planned struct {
	realm.Plan
	access accessPlan
}

// plan compares what Proxmox holds with what is declared. It asks Proxmox for further facts only if the comparison
// needs them.
func (r run) plan(ctx context.Context, current realm.Current, access realm.CurrentAccess) (planned, error) {
	plan, facts := r.left(current), realm.Facts{AllowReplace: r.Replace}
	if plan.NeedsVersion() {
		facts.Version = r.askVersion()
	}
	if plan.NeedsUsers() {
		facts.Users = r.askUsers()
	}
	plan = realm.Diff(r.Realm, current, facts)
	groups, err := r.planAccess(ctx, plan, access)
	return planned{plan, groups}, err
}

// made reports whether there is a plan.
func (p planned) made() bool { return p.Action != "" }

// settled reports whether there is nothing to do.
func (p planned) settled() bool { return p.Empty() && p.access.Empty() }

// refusal returns why the plan must not be carried out.
func (p planned) refusal() error {
	switch {
	case p.Action == realm.Refuse:
		return p.Refusal
	case p.access.Refusal != nil:
		return p.access.Refusal
	}
	return nil
}

// login returns the login that the realm serves once the plan is carried out.
func (p planned) login() realm.Login { return p.After().Values.Login(p.Realm) }

// before returns the login that the realm serves now.
func (p planned) before() realm.Login { return p.Before().Values.Login(p.Realm) }

// write carries the plan out and reads back what it wrote: first the realm, by one request, then groups and grants. It returns
// the plan that is left, which is empty on success. It runs to its end even if ctx is cancelled, because half a change helps
// nobody. A replace looks at ctx once more, right before its DELETE.
func (r run) write(ctx context.Context, res Result, plan planned) (Result, planned, error) {
	if err := ctx.Err(); err != nil {
		return res, plan, interruption(ctx, err)
	}
	uninterruptible := context.WithoutCancel(ctx)
	var err error
	switch plan.Action {
	case realm.None:
		return r.writeAccess(ctx, res, plan)
	case realm.Replace:
		res, plan.Plan, err = r.replace(ctx, res, plan)
	case realm.Create:
		res, plan.Plan, err = r.sent(uninterruptible, res, plan, r.Cluster.Create(uninterruptible, plan.Params()))
	case realm.Update:
		res, plan.Plan, err = r.sent(uninterruptible, res, plan, r.Cluster.Update(uninterruptible, r.Realm.Name, plan.Params()))
	case realm.Refuse, realm.Delete:
		return res, plan, fmt.Errorf("a plan to %s is not written", plan.Action)
	}
	if err != nil {
		return res, plan, err
	}
	return r.writeAccess(ctx, res, plan)
}

// sent notes the answer to the one write of the realm, and reads the realm back.
func (r run) sent(ctx context.Context, res Result, plan planned, err error) (Result, realm.Plan, error) {
	if err != nil {
		if errors.Is(err, realm.ErrLost) {
			res = res.reached(Sent)
		}
		return res, plan.Plan, err
	}
	left, err := r.readBack(ctx)
	return res.reached(Written), left, err
}

// readBack plans again: nothing may be left to do.
func (r run) readBack(ctx context.Context) (realm.Plan, error) {
	current, err := r.Cluster.Realm(ctx, r.Realm.Name)
	if err != nil {
		return realm.Plan{}, fmt.Errorf("read back: %w", err)
	}
	left := r.left(current)
	if left.Empty() {
		return left, nil
	}
	what := strings.Join(left.Names(), ", ")
	if left.Action == realm.Refuse {
		what = left.Refusal.Message
	}
	return left, check.Errorf(check.NotTaken, "Proxmox accepted the write, but realm %s does not hold it: %s", r.Realm.Name, what).
		Try("another program may manage this realm as well; this shows the difference:\n    {plan}")
}

// left returns what is left to do with the realm.
func (r run) left(current realm.Current) realm.Plan {
	return realm.Diff(r.Realm, current, realm.Facts{AllowReplace: r.Replace})
}

// explain adds the missing properties and their versions to an "unknown property" error.
func (r run) explain(err error) error {
	var e *proxmox.Error
	if errors.As(err, &e) && e.Kind == proxmox.UnknownProperty {
		return realm.LacksProperties(r.askVersion(), e.Unknown).Because(err)
	}
	return err
}

// gaveUp returns the error of a run that has sent all its attempts and still has something to write.
func (r run) gaveUp(plan planned, unsettled error) error {
	if !errors.Is(unsettled, realm.ErrConflict) {
		return unsettled
	}
	return check.Errorf(check.Conflict,
		"the %s of realm %s was abandoned after %d attempts: other programs kept changing the realms of this installation",
		plan.Action, r.Realm.Name, attempts).
		Try("run again; if it happens repeatedly, look for another program that writes realms").Because(unsettled)
}
