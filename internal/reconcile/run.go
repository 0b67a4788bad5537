package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// run is one target in the making.
type run struct {
	Target
	Options

	began      time.Time
	facts      realm.Facts
	inspection Inspection
	plan       realm.Plan // the newest
	asked      bool       // the gate has added its checks
	noVersion  bool       // Proxmox was asked for its version and did not say
	keyRefused bool       // the issuer no longer takes the key that Proxmox holds
	deleting   bool       // the run's one DELETE went out
	shielded   bool       // an interruption waits, so errors are not due to it

	// What the result will say: the first plan that asked for something, and what came of it.
	action   realm.Action
	changes  []realm.Change
	checks   []check.Check
	warnings []string
	saved    string
	unread   bool // the realm could not be read
	let      bool // the gate was asked, and opened
	sent     bool // a write went out
	drift    bool // something would be written
}

func start(t Target, o Options) *run {
	if t.Log == nil {
		t.Log = slog.New(slog.DiscardHandler)
	}
	return &run{Target: t, Options: o, began: time.Now(), facts: realm.Facts{AllowReplace: o.Replace}}
}

// finish carries out one way of running and says what became of it.
func (r *run) finish(ctx context.Context, work func(*run) error) Result {
	err := work(r)
	var why *check.Error
	if err != nil && !r.shielded && ctx.Err() != nil && errors.As(context.Cause(ctx), &why) {
		err = why // a request that failed because of an interruption is that interruption
	}
	check.Sort(r.checks)
	if err == nil && !r.sent && !r.drift && r.action != "" {
		r.action, r.changes = realm.None, nil // also where somebody else made our change first
	}
	result := Result{
		Action: r.action, Changes: r.changes, Checks: r.checks, Warnings: r.warnings, Saved: r.saved, Let: r.let,
		Err: err, Duration: time.Since(r.began),
	}
	switch {
	case err != nil:
		result.Outcome = outcomeOf(err)
		if result.Outcome == Refused {
			result.Action = realm.Refuse // also where Proxmox's answer or a recovery file was the reason
		}
	case r.drift:
		result.Outcome = Drift
	case len(check.Failures(r.checks)) > 0:
		result.Outcome = Unverified
	case r.sent:
		result.Outcome = Changed
	default:
		result.Outcome = Unchanged
	}
	return result
}

func outcomeOf(err error) Outcome {
	switch check.CodeOf(err) {
	case check.Held:
		return Held
	case check.WrongType, check.UsernameClaim, check.UnknownProperty, check.BuiltinRealm, check.RecoveryFile:
		return Refused
	}
	return Failed
}

// note keeps what the run set out to do: once a write is out, later plans only say what is left of it.
func (r *run) note(p realm.Plan) {
	if r.sent && p.Action != realm.Refuse {
		return
	}
	r.action, r.changes = p.Action, p.Changes
}

// add puts checks into the result and returns them as they count, those that the target ignores as skipped. A later
// finding replaces an earlier one of its id.
func (r *run) add(checks ...check.Check) []check.Check {
	counted := check.Ignore(checks, r.Ignore)
	for _, c := range counted {
		r.checks = slices.DeleteFunc(r.checks, func(old check.Check) bool { return old.ID == c.ID })
		r.checks = append(r.checks, c)
	}
	return counted
}

// warn adds a warning, once.
func (r *run) warn(format string, args ...any) {
	if w := fmt.Sprintf(format, args...); !slices.Contains(r.warnings, w) {
		r.warnings = append(r.warnings, w)
	}
}

// shield begins the part of a run for which an interruption waits: half a write helps nobody.
func (r *run) shield(ctx context.Context) context.Context {
	r.shielded = true
	return context.WithoutCancel(ctx)
}

func (r *run) inspect(ctx context.Context, notBefore time.Time) {
	if r.Issuer != nil {
		r.inspection = r.Issuer.Inspect(ctx, r.issuerURL(), notBefore)
	}
}

// issuerURL is the declared one.
func (r *run) issuerURL() string { return r.Spec.Set.Login(r.Spec.Name).IssuerURL }

// version asks Proxmox for its version, once; zero where it does not say.
func (r *run) version(ctx context.Context) realm.Version {
	if r.facts.Version.IsZero() && !r.noVersion {
		v, err := r.Realms.Version(ctx)
		if err != nil {
			r.Log.Debug("reading the Proxmox version", "error", err)
		}
		r.facts.Version, r.noVersion = v, v.IsZero()
	}
	return r.facts.Version
}

func (r *run) node(ctx context.Context) Node {
	return Node{
		Version: sync.OnceValue(func() realm.Version { return r.version(ctx) }),
		Clock:   r.Realms.Clock,
		MaxSkew: r.MaxSkew,
	}
}
