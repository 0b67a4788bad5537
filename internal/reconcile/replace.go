package reconcile

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// A DELETE whose answer was lost may take effect later, because it waits for Proxmox's lock or travels between nodes. A
// run watches the realm for lateDelete before it gives up.
const (
	lateDelete = 75 * time.Second
	watchEvery = time.Second
)

// replace deletes the realm and creates it again, because Proxmox cannot change the username-claim of an existing realm.
// The order of its steps makes it safe:
//
//  1. read the realm once more: it is still the one that the plan was made from
//  2. save it with every property, known or unknown; nothing starts without the file
//  3. send one DELETE, and wait until the realm is gone
//  4. create the new realm, or put the former one back if that fails
//  5. read back; remove the file only then
//
// ctx can stop it until right before the DELETE. From then on an interruption waits for the end.
func (r run) replace(ctx context.Context, plan planned) (written, error) {
	uninterruptible := context.WithoutCancel(ctx)
	current, err := r.Cluster.Realm(uninterruptible, r.Realm.Name)
	if err != nil {
		return written{}, err
	}
	if current.Digest != plan.Before().Digest || !current.SameAs(plan.Before()) {
		return written{}, fmt.Errorf("before the realm is deleted: %w", realm.ErrConflict)
	}
	if odd := current.Structures; len(odd) > 0 {
		return written{}, check.Errorf(check.UnknownProperty,
			"realm %s holds %s in a form that a new realm cannot take over: it is not replaced", r.Realm.Name, strings.Join(odd, ", ")).
			Try(check.Set("realm.name", "").With("a second realm beside this one"))
	}
	if err := r.Recovery.save(current); err != nil {
		return written{}, err
	}
	if ctx.Err() != nil {
		return written{}, errors.Join(context.Cause(ctx), r.Recovery.remove())
	}
	done := written{final: true, left: plan}
	if done.sent, err = r.remove(uninterruptible); err != nil {
		return done, err
	}
	done.sent = true
	if err := r.recreate(uninterruptible, plan.Params()); err != nil {
		return r.putBack(uninterruptible, current, done, err)
	}
	if done.left.Plan, err = r.readBack(uninterruptible); err != nil {
		return done, r.keep(err)
	}
	return done, r.Recovery.remove()
}

// remove sends the run's only DELETE and returns nil once the realm was seen to be gone. Whatever the answer is, it
// reads the realm again before it removes the recovery file, because a proxy may have answered instead of Proxmox.
func (r run) remove(ctx context.Context) (sent bool, err error) {
	err = r.Cluster.Delete(ctx, r.Realm.Name)
	if err == nil {
		return true, nil
	}
	if errors.Is(err, realm.ErrLost) {
		return true, r.keep(r.awaitAbsence(ctx))
	}
	current, readErr := r.Cluster.Realm(ctx, r.Realm.Name)
	switch {
	case readErr != nil:
		return true, r.keep(errors.Join(err, readErr))
	case !current.Exists: // the DELETE took effect, or another program deleted the realm at the same moment
		return true, nil
	}
	return false, errors.Join(err, r.Recovery.remove())
}

// awaitAbsence watches a realm whose deletion may still be under way.
func (r run) awaitAbsence(ctx context.Context) error {
	for deadline := time.Now().Add(lateDelete); ; {
		current, err := r.Cluster.Realm(ctx, r.Realm.Name)
		if err == nil && !current.Exists {
			return nil
		}
		if time.Now().After(deadline) {
			return check.Errorf(check.ReplacePending,
				"the answer to the DELETE of realm %s was lost, and the realm still existed after %s", r.Realm.Name, lateDelete).
				Try(check.Hint("wait a few minutes, because the deletion may still take effect")).Because(err)
		}
		if err := sleep(ctx, watchEvery); err != nil {
			return err
		}
	}
}

// recreate creates a realm that does not exist. After a lost answer it reads the realm before it tries again.
func (r run) recreate(ctx context.Context, params realm.Params) error {
	for attempt := 1; ; attempt++ {
		err := r.Cluster.Create(ctx, params)
		if err == nil {
			return nil
		}
		if attempt == attempts || !errors.Is(err, realm.ErrLost) && !errors.Is(err, realm.ErrConflict) {
			return err
		}
		current, readErr := r.Cluster.Realm(ctx, r.Realm.Name)
		switch {
		case readErr != nil:
			return errors.Join(readErr, err)
		case current.Exists:
			return nil // the lost request took effect, or another program was faster: the read-back tells which
		}
	}
}

// putBack creates the former realm again. why is the error of the new one, with which the run ends.
func (r run) putBack(ctx context.Context, former realm.Current, done written, why error) (written, error) {
	why = r.explain(why)
	if err := r.recreate(ctx, realm.RestoreParams(r.Realm.Name, former)); err != nil {
		if err.Error() != why.Error() {
			why = errors.Join(why, err)
		}
		return done, r.keep(fmt.Errorf("the realm was deleted, and neither the new one nor the former could be created: %w", why))
	}
	current, err := r.Cluster.Realm(ctx, r.Realm.Name)
	if left := r.left(current); err == nil && left.Empty() {
		done.left.Plan = left // a create whose answer was lost took effect after all
		return done, r.Recovery.remove()
	}
	if err != nil || !current.SameAs(former) {
		return done, r.keep(fmt.Errorf("the former realm was put back, but differs from before: %w", errors.Join(why, err)))
	}
	if err := r.Recovery.remove(); err != nil {
		done.warnings = append(done.warnings, err.Error())
	}
	done.warnings = append(done.warnings, "the new realm could not be created: the former one was put back")
	return done, why
}

// keep adds the path of the recovery file to an error.
func (r run) keep(err error) error {
	if err == nil {
		return nil
	}
	return check.Errorf(check.CodeOf(err), "%s; the former realm is saved in %s", strings.ReplaceAll(check.MessageOf(err), "\n", "; "), r.Recovery.path()).
		Try(check.HintOf(err), check.Run("apply --recover").With("it creates the former realm if there is none")).Because(err)
}
