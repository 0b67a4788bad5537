// Package reconcile makes one realm of one Proxmox cluster what it should be, and proves that a login
// through it works: observe, plan, gate, write, read back, verify. This file holds these steps from top to
// bottom. gate.go holds how the third decides and waits, replace.go the one write that is dangerous, recovery.go the file that
// makes it safe, and run.go what a run notes down on its way.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// Realms is one Proxmox cluster, as far as a reconciler needs it. Errors of the writes match
// [realm.ErrConflict], [realm.ErrLost] and [realm.UnknownPropertyError]; a store never repeats a write.
type Realms interface {
	// Realm reads a realm; an absent one is the zero Current, not an error.
	Realm(ctx context.Context, name string) (realm.Current, error)
	Create(ctx context.Context, p realm.Params) error
	Update(ctx context.Context, name string, p realm.Params) error
	Delete(ctx context.Context, name string) error

	Version(ctx context.Context) (realm.Version, error)
	Users(ctx context.Context, name string) (realm.Users, error)
	// Clock returns how far Proxmox's clock is ahead of this machine's, from the last answer.
	Clock() (time.Duration, bool)

	// What Proxmox alone can tell of a login, one check each.
	CheckPermissions(ctx context.Context, write bool) check.Check
	CheckDiscovery(ctx context.Context, login realm.Login, redirects []string) check.Check
	CheckUsers(ctx context.Context, login realm.Login) check.Check
}

// Issuer gives inspections of an OpenID provider.
type Issuer interface {
	// Inspect begins an inspection and returns at once. It may hand out one that others share, if
	// that was begun at or after notBefore.
	Inspect(ctx context.Context, issuerURL string, notBefore time.Time) Inspection
}

// Inspection is what an issuer shows of itself. Its methods wait until the asking is done.
type Inspection interface {
	// Checks are the issuer.* checks for this login.
	Checks(ctx context.Context, login realm.Login, node Node) []check.Check
	// Quick tells whether the issuer answered so quickly that Proxmox may be asked to discover it:
	// a silent issuer blocks one of a node's three workers for good.
	Quick(ctx context.Context) bool
	// Limited tells whether the issuer limited a request of ours, and when it may be asked again (0: it did not say).
	Limited(ctx context.Context) (retryAfter time.Duration, limited bool)
	// Client are the client.* checks, and what became of the question about the key.
	Client(ctx context.Context, q Question) ([]check.Check, Verdict)
	// Accepts asks about a key alone, in the way that costs the issuer least.
	Accepts(ctx context.Context, login realm.Login, key check.Secret) Verdict
}

// Node is what the verdict on an issuer may need to know of the Proxmox that will use it.
type Node struct {
	Version func() realm.Version         // asks when called; zero where unknown
	Clock   func() (time.Duration, bool) // Proxmox's clock, relative to this machine's
	MaxSkew time.Duration
}

// Question is what an issuer is asked about a client.
type Question struct {
	Login     realm.Login
	Redirects []string
	Declared  bool // an administrator wrote the redirect URLs down; derived ones warn instead of failing
	// KeyUnknown: the key is not managed, and the realm that holds it could not be read.
	KeyUnknown bool
	Quiet      bool // the question repeats: ask in the way that costs the issuer least
}

// Verdict is what an issuer says of a client's key.
type Verdict struct {
	Answer     Answer
	RetryAfter time.Duration // of Limited; 0 where the issuer did not say
}

// Answer is a verdict in one word.
type Answer int

// The answers. NoAnswer is everything that proves nothing.
const (
	NoAnswer Answer = iota
	Accepted
	Rejected
	Limited // the issuer limits requests: it was asked nothing more
)

// Mode says when a costly question is asked.
type Mode string

// The modes. Auto: after a write, in the gate (client) and in verify.
const (
	Auto   Mode = "auto"
	Always Mode = "always"
	Never  Mode = "never"
)

// Target is one realm of one cluster, with everything that reconciling it needs.
type Target struct {
	Spec   realm.Spec
	Realms Realms
	Issuer Issuer // nil where this machine cannot reach the issuer: no issuer checks, no gate

	Redirects         []string // what browsers open: scheme, host, port
	RedirectsDeclared bool
	AskProxmox        Mode
	AskClient         Mode
	Ignore            []check.ID
	MaxSkew           time.Duration
	Gate              bool

	Recovery Recovery // where a replaced realm waits until the new one is in place
	Log      *slog.Logger
}

// Options are what one run adds to a target.
type Options struct {
	Replace bool          // agreed: delete and create the realm where its username-claim differs
	NoGate  bool          // write whatever the issuer says
	Wait    time.Duration // keep asking for so long while the gate holds the change back
	Quiet   bool          // this run repeats: ask the issuer in the way that costs it least
	// Waiting is told, while the gate waits, why it is shut and until when it will be asked again. Nil: nobody is.
	Waiting func(why string, until time.Time)
}

// attempts bounds how many writes a run sends for one change. After each that met a conflict or lost its answer,
// the last one included, the run observes and plans anew: the change may be there already.
const attempts = 3

// Plan shows what [Apply] would do, the gate's verdict included, and changes nothing.
func Plan(ctx context.Context, t Target, o Options) Result {
	o.Wait = 0
	result := start(t, o).finish(ctx, func(r *run) error { return r.reconcile(ctx, false) })
	if result.Outcome == Unverified {
		result.Outcome = Unchanged // whether logins work is verify's question
	}
	return result
}

// Apply makes the realm what the target's Spec asks for, reads it back and verifies it.
func Apply(ctx context.Context, t Target, o Options) Result {
	return start(t, o).finish(ctx, func(r *run) error { return r.reconcile(ctx, true) })
}

// reconcile is the whole of it. Without write it stops before the fourth step.
func (r *run) reconcile(ctx context.Context, write bool) error {
	if err := r.Recovery.refusePending(); err != nil {
		return err
	}
	r.inspect(ctx, time.Time{}) // 1. observe: the issuer, and at the same time…
	var unsettled error         // what came of the last write, where that is not known from its answer
	for attempt := 1; ; attempt++ {
		current, err := r.Realms.Realm(ctx, r.Spec.Name) // …the realm
		if err != nil {
			return err
		}
		plan := r.decide(ctx, current) // 2. plan
		if plan.Action == realm.Refuse {
			return plan.Refusal
		}
		if plan.Empty() {
			break
		}
		if attempt > attempts {
			return r.givenUp(plan, unsettled)
		}
		if err := r.gate(ctx, plan); err != nil { // 3. gate
			return err
		}
		if !write {
			return r.foresee(ctx, plan)
		}
		err = r.write(ctx, plan) // 4. write, and 5. read back
		if err == nil {
			break
		}
		if r.deleting || !errors.Is(err, realm.ErrConflict) && !errors.Is(err, realm.ErrLost) {
			return r.explain(ctx, err) // a second DELETE is never sent
		}
		r.Log.Info("observing again", "realm", r.Spec.Name, "because", err)
		unsettled, r.shielded = err, false // nothing is half done: an interruption counts again
	}
	return r.verify(ctx, r.due(write)) // 6. verify
}

// decide plans, and asks Proxmox for what the plan turns out to need beyond the realm.
func (r *run) decide(ctx context.Context, current realm.Current) realm.Plan {
	plan := realm.Diff(r.Spec, current, r.facts)
	if plan.Needs(realm.NeedVersion, r.facts) {
		r.facts.Version = r.version(ctx)
		plan = realm.Diff(r.Spec, current, r.facts)
	}
	if plan.Needs(realm.NeedUsers, r.facts) {
		users, err := r.Realms.Users(ctx, r.Spec.Name)
		if err != nil {
			r.Log.Debug("counting users", "realm", r.Spec.Name, "error", err)
		}
		r.facts.Users = users
		r.facts.Users.Asked = true
		plan = realm.Diff(r.Spec, current, r.facts)
	}
	r.plan = plan
	r.note(plan)
	return plan
}

// write carries the plan out by one request and reads the realm back.
func (r *run) write(ctx context.Context, plan realm.Plan) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	ctx = r.shield(ctx)
	var err error
	switch plan.Action {
	case realm.Create:
		err = r.Realms.Create(ctx, plan.Params())
	case realm.Update:
		err = r.Realms.Update(ctx, r.Spec.Name, plan.Params())
	case realm.Replace:
		return r.replace(ctx, plan)
	case realm.None, realm.Refuse, realm.Delete:
		return fmt.Errorf("a plan to %s is not written", plan.Action)
	}
	r.sent = r.sent || err == nil || errors.Is(err, realm.ErrLost)
	if err != nil {
		return err
	}
	return r.readBack(ctx)
}

// readBack plans again: nothing may be left to do.
func (r *run) readBack(ctx context.Context) error {
	current, err := r.Realms.Realm(ctx, r.Spec.Name)
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	left := realm.Diff(r.Spec, current, r.facts)
	if left.Empty() {
		r.plan = left
		return nil
	}
	var names []string
	for _, c := range left.Changes {
		names = append(names, string(c.Property))
	}
	what := strings.Join(names, ", ")
	if left.Action == realm.Refuse {
		what = left.Refusal.Message
	}
	return check.Errorf(check.NotTaken, "Proxmox accepted the write, but realm %s is not as it was written: %s", r.Spec.Name, what).
		Try(check.Advise("somebody else may manage this realm as well: run plan to see the difference"))
}

// explain gives the error of a write that was refused its final form.
func (r *run) explain(ctx context.Context, err error) error {
	var unknown *realm.UnknownPropertyError
	if errors.As(err, &unknown) {
		return realm.LacksProperties(r.version(ctx), unknown.Properties).Because(err)
	}
	return err
}

// givenUp ends a run after its last write, which did not do what the plan still asks for.
func (r *run) givenUp(plan realm.Plan, unsettled error) error {
	if !errors.Is(unsettled, realm.ErrConflict) {
		return unsettled
	}
	return check.Errorf(check.Conflict, "the realms of this cluster kept changing: %s of realm %s was given up after %d attempts", plan.Action, r.Spec.Name, attempts).
		Try(check.Advise("run again; where it persists, look for another program that writes realms")).Because(unsettled)
}

// foresee ends a plan that has something to do: whether the credentials suffice for the write, what the issuer shows (where the
// gate had no reason to ask), and what this Proxmox may refuse.
func (r *run) foresee(ctx context.Context, plan realm.Plan) error {
	r.add(r.Realms.CheckPermissions(ctx, true))
	if !r.asked && r.Issuer != nil {
		r.add(r.inspection.Checks(ctx, plan.After().Values.Login(r.Spec.Name), r.node(ctx))...)
	}
	for _, c := range plan.Changes {
		if d, _ := c.Property.Definition(); c.Op == realm.Set && !r.facts.Version.IsZero() && r.facts.Version.Less(d.Since) {
			r.warn("Proxmox VE %s may not know %s, which is there since %s: apply will tell", r.facts.Version, c.Property, d.Since)
		}
	}
	r.drift = true
	return nil
}

// due tells what a reconciling run asks beyond the issuer's own documents.
func (r *run) due(write bool) questions {
	wrote := write && r.sent
	return questions{
		proxmox: r.AskProxmox == Always || r.AskProxmox == Auto && wrote,
		client:  r.AskClient == Always || r.AskClient == Auto && wrote,
	}
}

// Verify runs every check on realm, issuer and client, and changes nothing.
func Verify(ctx context.Context, t Target) Result {
	return start(t, Options{}).finish(ctx, func(r *run) error { return r.examine(ctx) })
}

// examine is Verify. Where Proxmox cannot be asked, the issuer is examined all the same.
func (r *run) examine(ctx context.Context) error {
	if err := r.Recovery.refusePending(); err != nil {
		r.warn("%s; %s", err.Message, err.Remedy)
	}
	r.inspect(ctx, time.Time{})
	current, err := r.Realms.Realm(ctx, r.Spec.Name)
	plan := r.decideOrAssume(ctx, current, err)
	if err != nil {
		for _, id := range []check.ID{check.ProxmoxRealm, check.ProxmoxPermissions, check.ProxmoxDiscovery, check.ProxmoxUsers} {
			r.add(check.Skipped(id, "the realm could not be read"))
		}
	} else {
		r.add(r.Realms.CheckPermissions(ctx, !plan.Empty()))
	}
	asking := questions{proxmox: r.AskProxmox != Never, client: r.AskClient != Never, users: true}
	if err != nil {
		asking.proxmox, asking.users, r.unread = false, false, true
	}
	if failed := r.verify(ctx, asking); failed != nil {
		return failed
	}
	return err
}

// decideOrAssume plans from the realm, or, where it could not be read, from none.
func (r *run) decideOrAssume(ctx context.Context, current realm.Current, err error) realm.Plan {
	if err == nil {
		return r.decide(ctx, current)
	}
	r.plan = realm.Diff(r.Spec, realm.Current{}, r.facts)
	return r.plan
}

// questions are what a verification asks beyond the issuer's own documents.
type questions struct {
	proxmox bool // Proxmox's own discovery
	client  bool // the client's key and redirect URLs
	users   bool
}

// verify runs the checks, with the questions that are to be asked. All of them run; what fails is found in the checks, and an
// error is returned only for an interruption.
func (r *run) verify(ctx context.Context, asking questions) error {
	if ctx.Err() != nil {
		if r.sent {
			r.warn("realm %s was written and read back, but not verified: run verify", r.Spec.Name)
		}
		return context.Cause(ctx)
	}
	login := r.plan.After().Values.Login(r.Spec.Name)
	if !r.unread {
		r.add(r.realmCheck())
	}
	if r.Issuer != nil {
		r.add(r.inspection.Checks(ctx, login, r.node(ctx))...)
		if asking.client {
			r.askClient(ctx, login)
		}
	}
	if asking.proxmox {
		r.askProxmox(ctx)
	}
	if asking.users {
		r.add(r.Realms.CheckUsers(ctx, login))
	}
	return context.Cause(ctx)
}

// realmCheck is proxmox.realm.
func (r *run) realmCheck() check.Check {
	switch {
	case r.plan.Empty():
		return check.Passed(check.ProxmoxRealm, "realm %s is as declared", r.Spec.Name)
	case r.plan.Action == realm.Create:
		return check.Failed(check.ProxmoxRealm, check.Remedy{check.Advise("run apply")}, "realm %s does not exist", r.Spec.Name)
	case r.plan.Action == realm.Refuse:
		return check.Failed(check.ProxmoxRealm, r.plan.Refusal.Remedy, "%s", r.plan.Refusal.Message)
	}
	var differ []string
	for _, c := range r.plan.Changes {
		differ = append(differ, string(c.Property))
	}
	return check.Failed(check.ProxmoxRealm, check.Remedy{check.Advise("run plan to see the differences, apply to mend them")},
		"realm %s differs from its configuration", r.Spec.Name).Because("%s", strings.Join(differ, ", "))
}

// askClient adds the client.* checks, and returns those that failed and were not ignored. The question repeats, and
// so is asked quietly, while the gate waits; after a write it is asked in the way that proves most.
func (r *run) askClient(ctx context.Context, login realm.Login) ([]check.Check, Verdict) {
	checks, verdict := r.inspection.Client(ctx, Question{
		Login: login, Redirects: r.Redirects, Declared: r.RedirectsDeclared,
		KeyUnknown: r.unread && !login.ClientKey.IsSet(), Quiet: r.Quiet || r.Wait > 0 && !r.sent,
	})
	return check.Failures(r.add(checks...)), verdict
}

// askProxmox adds proxmox.discovery, unless that could harm the node. It is asked about the realm as it is stored.
func (r *run) askProxmox(ctx context.Context) {
	const id = check.ProxmoxDiscovery
	stored := r.plan.Before()
	login := stored.Values.Login(r.Spec.Name)
	switch {
	case stored.Type != realm.Type:
		r.add(check.Skipped(id, "there is no such realm to ask about"))
	case r.Issuer != nil && login.IssuerURL != r.issuerURL():
		r.add(check.Skipped(id, "the realm names another issuer than the declared one"))
	case r.Issuer != nil && !r.inspection.Quick(ctx):
		r.add(check.Skipped(id, "the issuer did not give discovery document and keys within 5 s: asking Proxmox now could block a worker of the node for good"))
	default:
		r.add(r.Realms.CheckDiscovery(ctx, login, r.Redirects))
	}
}
