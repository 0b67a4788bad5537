// Package reconcile brings one realm of one Proxmox cluster into its declared state and verifies that logins through it
// work. This file holds the six steps in order: observe, plan, gate, write, read back, verify. Each step is a function
// from values to values. gate.go holds the third step, verify.go the last one, replace.go the one dangerous write, and
// recovery.go the file that makes that write safe.
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
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/realm"
)

// Cluster is one Proxmox cluster; *proxmox.Client implements it. Errors of the writes match [realm.ErrConflict],
// [realm.ErrLost] and [realm.UnknownPropertyError]. A cluster never repeats a write.
type Cluster interface {
	// Realm reads a realm; an absent one is the zero Current, not an error.
	Realm(ctx context.Context, name string) (realm.Current, error)
	Create(ctx context.Context, p realm.Params) error
	Update(ctx context.Context, name string, p realm.Params) error
	Delete(ctx context.Context, name string) error

	// Access reads groups and the access control list, as far as the credentials see them, but no roles.
	Access(ctx context.Context) (realm.CurrentAccess, error)
	Roles(ctx context.Context) (realm.Roles, error)
	// Change makes one change of groups and grants.
	Change(ctx context.Context, c realm.AccessChange) error

	Version(ctx context.Context) (realm.Version, error)
	CountUsers(ctx context.Context, name string) (realm.Users, error)
	// ClockOffset returns how far Proxmox's clock is ahead of this machine's, as of the last answer.
	ClockOffset() (offset time.Duration, known bool)

	// The proxmox.* checks. An error means that Proxmox could not be asked; the check is a skip then.
	// CheckPermissions checks whether the credentials may read and write realms. It fails if a privilege for access is missing.
	CheckPermissions(ctx context.Context, write bool, missing []realm.Privilege) (check.Check, error)
	// CheckUsers is proxmox.users, and with access also proxmox.access of a realm whose access is not declared.
	CheckUsers(ctx context.Context, login realm.Login, access bool) ([]check.Check, error)
	// CheckDiscovery asks one node. hung reports that the issuer kept that node waiting, which blocks one of its workers.
	CheckDiscovery(
		ctx context.Context, node config.Origin, login realm.Login, redirectURL string, inspected bool,
	) (found check.Check, hung bool, err error)
	// Endpoint returns the endpoint that answers.
	Endpoint() config.Origin
}

// Issuer inspects OpenID providers.
type Issuer interface {
	// Inspect begins an inspection and returns at once. It may return an inspection that other targets share, if that
	// began at or after notBefore.
	Inspect(ctx context.Context, issuerURL string, notBefore time.Time) Inspection
}

// Inspection is one look at an issuer; *issuer.Inspection implements it. All methods but Wait need a Wait before them.
type Inspection interface {
	// Wait returns nil once the inspection has ended, whatever it found.
	Wait(ctx context.Context) error
	Checks(v issuer.View) []check.Check
	// NeedsVersion reports whether the checks depend on the Proxmox version.
	NeedsVersion() bool
	// Quick reports whether the issuer answered, or failed, soon enough that Proxmox may be asked to discover it.
	Quick() bool
	// Trusted reports whether this machine reached the issuer and trusts its certificate.
	Trusted() bool
	// LacksClaim reports whether the issuer advertises its claims, and not this one.
	LacksClaim(claim string) bool
	RateLimited() (retryAfter time.Duration, limited bool)
	Certificate() (notAfter time.Time, ok bool)
	Client(ctx context.Context, q issuer.Question) issuer.Answer
}

// Deps are what a run works with.
type Deps struct {
	Cluster  Cluster
	Issuer   Issuer // nil if this machine cannot reach the issuer: no issuer checks, no gate
	Recovery Recovery
	Cleaner  *check.Cleaner // masks secrets in values that are shown
	Memory   Memory         // of earlier runs
	Log      *slog.Logger
	Logs     Logs // of the nodes; only [Diagnose] needs them
}

// Options are what one run adds to its configuration.
type Options struct {
	Replace      bool          // the caller agreed to delete and create the realm if its username-claim differs
	NoGate       bool          // write whatever the issuer says
	Wait         time.Duration // how long to keep asking while the gate is closed
	AllEndpoints bool          // ask every node to discover the issuer, not only the one that answers
	// Repeats marks runs on a schedule: the issuer is asked in the cheapest way, and remembered failures count.
	Repeats bool
	// ProxmoxEvery and ClientEvery are how often scheduled runs ask the costly questions if the configuration says auto;
	// 0: never.
	ProxmoxEvery, ClientEvery time.Duration
	// Waiting is called while the gate is closed, with the reason and the time at which the run gives up; nil: not called.
	Waiting func(why string, until time.Time)
}

// attempts is how many writes a run sends for one change at most. After a conflict or a lost answer the run observes
// and plans again, because the change may have been made already.
const attempts = 3

// run holds what one run works with. Nothing in it changes while the run lasts.
type run struct {
	config.Target
	Deps
	Options
	began time.Time
	// askVersion and askUsers ask Proxmox once in a run, at the first call; the answer is the zero value if it does not tell.
	askVersion func() realm.Version
	askUsers   func() realm.Users
}

func newRun(ctx context.Context, t config.Target, d Deps, o Options) run {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	return run{
		Target: t, Deps: d, Options: o, began: time.Now(),
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

// Plan returns what [Apply] would do, the gate's verdict included, and changes nothing.
func Plan(ctx context.Context, t config.Target, d Deps, o Options) Result {
	o.Wait = 0
	r := newRun(ctx, t, d, o)
	result := r.finish(r.reconcile(ctx, false))
	if result.Outcome == Unverified {
		result.Outcome = Unchanged // verify tells whether logins work
	}
	return result
}

// Apply brings the realm into its declared state, reads it back and verifies it.
func Apply(ctx context.Context, t config.Target, d Deps, o Options) Result {
	r := newRun(ctx, t, d, o)
	return r.finish(r.reconcile(ctx, true))
}

// reconcile takes the six steps. Without write it stops before the fourth.
func (r run) reconcile(ctx context.Context, write bool) (Result, error) {
	res := r.start()
	inspection := r.inspect(ctx, time.Time{}) // 1. observe the issuer, and at the same time groups, grants and realm
	seen, err := r.observeAccess(ctx)
	if err != nil {
		return res, interruption(ctx, err)
	}
	var unsettled error // the conflict or lost answer of the last write
	for attempt := 1; ; attempt++ {
		current, note, err := r.observeRealm(ctx, write)
		if err != nil {
			return res, interruption(ctx, err)
		}
		res.warn(note)
		plan, err := r.plan(ctx, current, seen) // 2. plan
		if err != nil {
			return res, interruption(ctx, err)
		}
		res.propose(plan, r.Cleaner)
		if err := plan.refusal(); err != nil {
			return res, err
		}
		if attempt > attempts && !plan.Empty() {
			return res, r.gaveUp(plan, unsettled)
		}
		gated, err := r.gate(ctx, plan, inspection) // 3. gate
		inspection = gated.inspection
		res.take(gated)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return res, interruption(ctx, err)
		}
		if !write {
			return r.foresee(ctx, res, plan, inspection)
		}
		done, err := r.write(ctx, plan) // 4. write, and 5. read back: the realm, then groups and grants
		if err == nil {
			done, err = r.writeAccess(ctx, done)
		}
		res.wrote(done, r.Verify.Ignore)
		if err == nil {
			res.Wrote = res.sent
			res, err = r.verify(ctx, res, done.left, inspection, r.due(done.left, res.sent)) // 6. verify
			if err != nil && res.Wrote {
				res.warn(fmt.Sprintf("realm %s was written and read back, but not verified", r.Realm.Name))
			}
			return res, err
		}
		if done.final || !errors.Is(err, realm.ErrConflict) && !errors.Is(err, realm.ErrLost) {
			return res, r.explain(err)
		}
		r.Log.Info("observing again", "realm", r.Realm.Name, "because", err)
		unsettled = err
	}
}

// observeRealm reads the realm and settles an interrupted replace. note is the warning about that; "" if there was
// none.
func (r run) observeRealm(ctx context.Context, write bool) (current realm.Current, note string, err error) {
	if current, err = r.Cluster.Realm(ctx, r.Realm.Name); err != nil {
		return current, "", err
	}
	note, err = r.settleRecovery(current, write)
	return current, note, err
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
func (r run) inspect(ctx context.Context, notBefore time.Time) Inspection {
	if r.Issuer == nil {
		return nil
	}
	return r.Issuer.Inspect(ctx, r.declared().IssuerURL, notBefore)
}

// declared returns the login that the configuration asks for.
func (r run) declared() realm.Login { return r.Realm.Set.Login(r.Realm.Name) }

// planned holds the plan for the realm and the plan for groups and grants.
type planned struct {
	realm.Plan
	access accessPlan
}

// plan compares what Proxmox holds with what is declared. It asks Proxmox for further facts only if the comparison
// needs them.
func (r run) plan(ctx context.Context, current realm.Current, seen realm.CurrentAccess) (planned, error) {
	plan := realm.Diff(r.Realm, current, realm.Facts{AllowReplace: r.Replace})
	facts := realm.Facts{AllowReplace: r.Replace}
	if plan.NeedsVersion() {
		facts.Version = r.askVersion()
	}
	if plan.NeedsUsers() {
		facts.Users = r.askUsers()
	}
	plan = realm.Diff(r.Realm, current, facts)
	access, err := r.planAccess(ctx, plan, seen)
	return planned{plan, access}, err
}

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

// written is the result of a write.
type written struct {
	sent        bool    // a request was sent and may have taken effect
	final       bool    // the run does not write again: it sent a DELETE, or began with groups and grants
	left        planned // what the read-back found left to do: nothing if the write succeeded
	warnings    []string
	permissions check.Check // for groups and grants; zero if there was nothing to change
}

// write carries the plan out by one request and reads the realm back. It runs to its end even if ctx is cancelled,
// because half a change helps nobody. A replace looks at ctx once more, right before its DELETE.
func (r run) write(ctx context.Context, plan planned) (written, error) {
	uninterruptible := context.WithoutCancel(ctx)
	var err error
	switch plan.Action {
	case realm.Create:
		err = r.Cluster.Create(uninterruptible, plan.Params())
	case realm.Update:
		err = r.Cluster.Update(uninterruptible, r.Realm.Name, plan.Params())
	case realm.Replace:
		return r.replace(ctx, plan)
	case realm.None:
		return written{left: plan}, nil
	case realm.Refuse, realm.Delete:
		return written{}, fmt.Errorf("a plan to %s is not written", plan.Action)
	}
	if err != nil {
		return written{sent: errors.Is(err, realm.ErrLost)}, err
	}
	plan.Plan, err = r.readBack(uninterruptible)
	return written{sent: true, left: plan}, err
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
		Try(check.Run("plan").With("it shows the difference; another program may manage this realm as well"))
}

// left returns what is left to do with the realm.
func (r run) left(current realm.Current) realm.Plan {
	return realm.Diff(r.Realm, current, realm.Facts{AllowReplace: r.Replace})
}

// explain adds the missing properties and their versions to an "unknown property" error.
func (r run) explain(err error) error {
	var unknown *realm.UnknownPropertyError
	if errors.As(err, &unknown) {
		return realm.LacksProperties(r.askVersion(), unknown.Properties).Because(err)
	}
	return err
}

// gaveUp returns the error of a run that has sent all its attempts and still has something to write.
func (r run) gaveUp(plan planned, unsettled error) error {
	if !errors.Is(unsettled, realm.ErrConflict) {
		return unsettled
	}
	return check.Errorf(check.Conflict,
		"the %s of realm %s was abandoned after %d attempts: other programs kept changing the realms of this cluster",
		plan.Action, r.Realm.Name, attempts).
		Try(check.Hint("run again; if it happens repeatedly, look for another program that writes realms")).Because(unsettled)
}

// foresee completes the result of a plan. If there is something to do, it checks the credentials' privileges and the
// issuer, and warns of properties that this Proxmox may not know.
func (r run) foresee(ctx context.Context, res Result, plan planned, inspection Inspection) (Result, error) {
	if plan.Empty() && plan.access.Empty() && len(plan.access.Missing) == 0 {
		return r.verify(ctx, res, plan, inspection, r.due(plan, false))
	}
	res.drift = !plan.Empty() || !plan.access.Empty()
	permissions, err := r.Cluster.CheckPermissions(ctx, !plan.Empty(), plan.access.Missing)
	res.add(r.Verify.Ignore, permissions)
	if err != nil {
		return res, interruption(ctx, err)
	}
	if _, seen := check.Find(res.Checks, check.IssuerURL); inspection != nil && !seen { // the gate had no reason to look
		checks, err := r.issuerChecks(ctx, plan, inspection, false)
		if err != nil {
			return res, err
		}
		res.add(r.Verify.Ignore, checks...)
	}
	for _, p := range plan.MaybeUnknown() {
		res.warn(fmt.Sprintf("%s may not know %s, which exists since %s", r.askVersion().Named(), p, r.Realm.Product.Since(p)))
	}
	return res, nil
}
