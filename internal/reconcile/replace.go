package reconcile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"proxmox-realm/internal/check"

	"proxmox-realm/internal/realm"
)

// A DELETE whose answer was lost may wait for Proxmox's lock, or travel between nodes, and still take
// effect: so long a run watches for it before it gives up.
const (
	lateDelete = 75 * time.Second
	watchEach  = time.Second
)

// replace deletes the realm and creates it anew, since Proxmox cannot change the username-claim of one that
// exists. Its order is what makes it safe:
//
//  1. read once more: the realm is still the one that the plan was made from
//  2. save it, with every property known or unknown; without the file nothing starts
//  3. one DELETE, and wait until the realm is gone
//  4. create, or, where that fails, put the former realm back
//  5. read back; only then the file goes
//
// The context it is given is never cancelled: from the DELETE on, an interruption waits for the end.
func (r *run) replace(ctx context.Context, plan realm.Plan) error {
	current, err := r.Realms.Realm(ctx, r.Spec.Name)
	if err != nil {
		return err
	}
	if current.Digest != plan.Before().Digest || !current.SameAs(plan.Before()) {
		return fmt.Errorf("before the realm is deleted: %w", realm.ErrConflict)
	}
	if odd := current.Structures(); len(odd) > 0 {
		return check.Errorf(check.UnknownProperty, "realm %s holds %s in a form that a new realm could not take over: it is not replaced", r.Spec.Name, strings.Join(odd, ", ")).
			Try(check.Advise("set up a second realm beside this one (realm.name)"))
	}
	if err := r.Recovery.save(current); err != nil {
		return err
	}
	if err := r.remove(ctx); err != nil {
		return err
	}
	if err := r.recreate(ctx, plan.Params()); err != nil {
		return r.putBack(ctx, current, err)
	}
	if err := r.readBack(ctx); err != nil {
		return keep(r.Recovery, err)
	}
	return r.Recovery.remove()
}

// remove sends the run's only DELETE and returns once the realm is gone. Where it is certain that nothing was
// deleted, the recovery file goes again.
func (r *run) remove(ctx context.Context) error {
	r.deleting = true
	err := r.Realms.Delete(ctx, r.Spec.Name)
	switch {
	case err == nil:
		r.sent = true
		return nil
	case errors.Is(err, realm.ErrLost):
		r.sent = true
		return keep(r.Recovery, r.awaitAbsence(ctx))
	case errors.Is(err, realm.ErrConflict):
		return nil // somebody else deleted it in this moment: the way is free
	}
	if cleared := r.Recovery.remove(); cleared != nil {
		r.warn("%v", cleared)
	}
	return err
}

// awaitAbsence watches a realm whose deletion may still be under way.
func (r *run) awaitAbsence(ctx context.Context) error {
	for deadline := time.Now().Add(lateDelete); ; {
		current, err := r.Realms.Realm(ctx, r.Spec.Name)
		if err == nil && !current.Exists {
			return nil
		}
		if time.Now().After(deadline) {
			return check.Errorf(check.ReplacePending, "the answer to the DELETE of realm %s was lost, and the realm was not seen to be gone within %s", r.Spec.Name, lateDelete).
				Try(check.Advise("wait a few minutes: the deletion may still take effect")).Because(err)
		}
		if err := sleep(ctx, watchEach); err != nil {
			return err
		}
	}
}

// recreate creates a realm where there is none. A lost answer is resolved by looking, never by guessing.
func (r *run) recreate(ctx context.Context, params realm.Params) error {
	for attempt := 1; ; attempt++ {
		err := r.Realms.Create(ctx, params)
		if err == nil {
			r.sent = true
			return nil
		}
		if attempt == attempts || !errors.Is(err, realm.ErrLost) && !errors.Is(err, realm.ErrConflict) {
			return err
		}
		current, readErr := r.Realms.Realm(ctx, r.Spec.Name)
		switch {
		case readErr != nil:
			return errors.Join(readErr, err)
		case current.Exists:
			r.sent = true
			return nil // the lost request took effect, or somebody was faster: the read-back tells which
		}
	}
}

// putBack creates the former realm again after the new one could not be created, and returns why that was.
func (r *run) putBack(ctx context.Context, former realm.Current, why error) error {
	why = r.explain(ctx, why)
	if err := r.recreate(ctx, realm.RestoreParams(r.Spec.Name, former)); err != nil {
		return keep(r.Recovery, fmt.Errorf("the realm was deleted, and neither the new one nor the former could be created: %w", joined(why, err)))
	}
	current, err := r.Realms.Realm(ctx, r.Spec.Name)
	if left := realm.Diff(r.Spec, current, r.facts); err == nil && left.Empty() {
		r.plan = left
		return r.Recovery.remove() // a create that was given up for lost took effect after all
	}
	if err != nil || !current.SameAs(former) {
		return keep(r.Recovery, fmt.Errorf("the former realm was put back, but does not read as it was: %w", errors.Join(why, err)))
	}
	r.sent = false
	if err := r.Recovery.remove(); err != nil {
		r.warn("%v", err)
	}
	r.warn("the new realm could not be created: the former one was put back")
	return why
}

// joined is both errors, or one where both say the same.
func joined(a, b error) error {
	if a.Error() == b.Error() {
		return a
	}
	return errors.Join(a, b)
}

// keep adds to an error where the former realm waits.
func keep(recovery Recovery, err error) error {
	if err == nil {
		return nil
	}
	hint := "apply --recover creates it again where there is none"
	known := check.Describe(err)
	if first := known.Hint(); first != "" {
		hint = oneLine(first) + "; then " + hint
	}
	return check.Errorf(known.Code, "%s; the former realm is kept in %s", oneLine(known.Message), recovery.path()).Try(check.Advise("%s", hint)).Because(err)
}

// oneLine puts errors that were joined beside each other.
func oneLine(text string) string { return strings.ReplaceAll(text, "\n", "; ") }

// Recover ends a replace that was cut short: it creates the saved realm where it is absent, forgets it
// where it is there and equal, and refuses where it differs.
func Recover(ctx context.Context, t Target) Result {
	return start(t, Options{}).finish(ctx, func(r *run) error { return r.recover(ctx) })
}

func (r *run) recover(interruptible context.Context) error {
	ctx := r.shield(interruptible)
	saved, at, err := r.Recovery.load()
	if errors.Is(err, errNothingSaved) {
		r.action = realm.None
		r.warn("no replace was cut short: there is nothing to recover")
		return nil
	}
	if err != nil {
		return err
	}
	current, err := r.Realms.Realm(ctx, r.Spec.Name)
	if err != nil {
		return err
	}
	r.action = realm.None
	if current.Exists && current.SameAs(saved) {
		if current, err = r.outlast(interruptible, current, at); err != nil {
			return err
		}
	}
	if !current.Exists {
		r.action = realm.Create
		if err := r.recreate(ctx, realm.RestoreParams(r.Spec.Name, saved)); err != nil {
			return keep(r.Recovery, err)
		}
		if current, err = r.Realms.Realm(ctx, r.Spec.Name); err != nil {
			return keep(r.Recovery, fmt.Errorf("read back: %w", err))
		}
	}
	if !current.SameAs(saved) {
		return check.Errorf(check.RecoveryFile, "realm %s exists and differs from the one saved in %s", r.Spec.Name, r.Recovery.path()).
			Try(check.Advise("where the realm is as you want it, remove the file"))
	}
	return r.Recovery.remove()
}

// outlast watches a realm for as long as a DELETE may take effect that was under way when its replace was cut short, and
// returns the realm as it is then: whoever forgets the file before can lose what nobody else has.
func (r *run) outlast(ctx context.Context, current realm.Current, saved time.Time) (_ realm.Current, err error) {
	left := min(lateDelete-time.Since(saved), lateDelete) // a clock may have been set back
	if left > 0 {
		r.Log.Warn("watching the realm: a DELETE may still be under way", "realm", r.Spec.Name, "for", left.Round(time.Second))
	}
	for deadline := time.Now().Add(left); current.Exists && time.Now().Before(deadline); {
		if err := sleep(ctx, watchEach); err != nil {
			return current, err
		}
		if current, err = r.Realms.Realm(context.WithoutCancel(ctx), r.Spec.Name); err != nil {
			return current, err
		}
	}
	return current, nil
}

// Delete saves an OpenID Connect realm, then removes it. An absent realm is nothing to do.
func Delete(ctx context.Context, t Target) Result {
	return start(t, Options{}).finish(ctx, func(r *run) error { return r.delete(ctx) })
}

// PlanDelete shows what [Delete] would do, and changes nothing.
func PlanDelete(ctx context.Context, t Target) Result {
	return start(t, Options{}).finish(ctx, func(r *run) error {
		current, err := r.removable(ctx)
		if err != nil || !current.Exists {
			return err
		}
		r.action, r.changes, r.drift = realm.Delete, realm.Removal(current), true
		r.add(r.Realms.CheckPermissions(ctx, true))
		return nil
	})
}

// removable reads the realm that is to be deleted, and refuses what is not to be.
func (r *run) removable(ctx context.Context) (realm.Current, error) {
	name := r.Spec.Name
	if realm.Builtin(name) {
		return realm.Current{}, check.Errorf(check.BuiltinRealm, "realm %s is Proxmox's own and cannot be deleted", name)
	}
	if err := r.Recovery.refusePending(); err != nil {
		return realm.Current{}, err
	}
	current, err := r.Realms.Realm(ctx, name)
	if err == nil && current.Exists && current.Type != realm.Type {
		err = check.Errorf(check.WrongType, "realm %s has the type %s: only OpenID Connect realms are deleted", name, current.Type).
			Try(check.Advise("pveum realm delete %s", name))
	}
	if err == nil && !current.Exists {
		r.action = realm.None
	}
	return current, err
}

func (r *run) delete(ctx context.Context) error {
	name := r.Spec.Name
	current, err := r.removable(ctx)
	if err != nil || !current.Exists {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.action, r.changes = realm.Delete, realm.Removal(current)
	if r.saved, err = r.Recovery.archive(current, time.Now()); err != nil {
		return err
	}
	ctx = r.shield(ctx)
	err = r.Realms.Delete(ctx, name)
	r.sent = err == nil || errors.Is(err, realm.ErrLost)
	switch {
	case errors.Is(err, realm.ErrLost):
		return r.awaitAbsence(ctx)
	case err != nil && !errors.Is(err, realm.ErrConflict):
		if kept := os.Remove(r.saved); kept == nil {
			r.saved = "" // nothing was deleted: no copy of the client key stays behind
		}
		return err
	}
	if current, err = r.Realms.Realm(ctx, name); err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if current.Exists {
		return check.Errorf(check.NotTaken, "Proxmox accepted the DELETE, but realm %s is there", name).
			Try(check.Advise("somebody else may have created it again"))
	}
	return nil
}
