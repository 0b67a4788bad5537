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
// ctx can stop it until right before the DELETE. From then on an interruption waits for the end. It returns the plan that is left.
func (r run) replace(ctx context.Context, res Result, plan planned) (Result, realm.Plan, error) {
	uninterruptible := context.WithoutCancel(ctx)
	current, err := r.Cluster.Realm(uninterruptible, r.Realm.Name)
	if err != nil {
		return res, plan.Plan, err
	}
	if current.Digest != plan.Before().Digest || !current.SameAs(plan.Before()) {
		return res, plan.Plan, fmt.Errorf("before the realm is deleted: %w", realm.ErrConflict)
	}
	if odd := current.Structures; len(odd) > 0 {
		return res, plan.Plan, check.Errorf(check.UnknownProperty,
			"realm %s holds %s in a form that a new realm cannot take over: it is not replaced", r.Realm.Name, strings.Join(odd, ", ")).
			Try("set {realm.name} to a second realm beside this one")
	}
	if res.Saved, err = r.save(current, Replacement); err != nil {
		return res, plan.Plan, err
	}
	if ctx.Err() != nil {
		return res, plan.Plan, errors.Join(context.Cause(ctx), removeSaved(res.Saved))
	}
	res.final = true
	if res, err = r.remove(uninterruptible, res, current.Digest); err != nil && res.Saved != "" {
		err = r.keep(res.Saved, err)
	}
	if err != nil {
		return res, plan.Plan, err
	}
	if err := r.recreate(uninterruptible, plan.Params()); err != nil {
		return r.putBack(uninterruptible, res, current, plan, err)
	}
	res = res.reached(Written)
	left, err := r.readBack(uninterruptible)
	if err != nil {
		return res, left, r.keep(res.Saved, err)
	}
	return res.discard(), left, removeSaved(res.Saved)
}

// discard notes that the file of the former realm is obsolete.
func (res Result) discard() Result {
	res.Saved = ""
	return res
}

// remove sends the run's only DELETE and returns nil once the realm was seen to be gone, or Proxmox said so. Whatever an error
// says, it reads the realm again before it removes the file: a proxy may have answered instead of Proxmox. If another program
// deleted the realm at the same moment, the stage stays.
func (r run) remove(ctx context.Context, res Result, digest string) (Result, error) {
	err := r.Cluster.Delete(ctx, r.Realm.Name, digest)
	switch {
	case err == nil:
		return res.reached(Written), nil
	case errors.Is(err, realm.ErrLost):
		return res.reached(Sent), r.awaitAbsence(ctx)
	}
	current, readErr := r.Cluster.Realm(ctx, r.Realm.Name)
	switch {
	case readErr != nil:
		return res.reached(Sent), errors.Join(err, readErr)
	case current.Exists:
		return res.discard(), errors.Join(err, removeSaved(res.Saved)) // no copy of the client key stays behind
	case errors.Is(err, realm.ErrConflict):
		return res, nil
	}
	return res.reached(Written), nil
}

// awaitAbsence watches a realm whose deletion may still be under way.
func (r run) awaitAbsence(ctx context.Context) error {
	current, err := r.watch(ctx, realm.Current{Exists: true}, lateDelete)
	if err == nil && !current.Exists {
		return nil
	}
	return check.Errorf(check.ReplacePending,
		"the answer to the DELETE of realm %s was lost, and the realm still existed after %s", r.Realm.Name, lateDelete).
		Try("wait a few minutes, because the deletion may still take effect").Because(err)
}

// watch reads a realm each second until it is gone or the time is over, and returns it as it was last seen. It returns the error of
// the last reading.
func (r run) watch(ctx context.Context, current realm.Current, atMost time.Duration) (realm.Current, error) {
	for deadline := time.Now().Add(atMost); ; {
		read, err := r.Cluster.Realm(context.WithoutCancel(ctx), r.Realm.Name)
		if err == nil {
			current = read
		}
		left := time.Until(deadline)
		if !current.Exists || left <= 0 {
			return current, err
		}
		if err := Sleep(ctx, min(watchEvery, left)); err != nil {
			return current, err
		}
	}
}

// Sleep waits for a time, or until the context ends; the error is its cause then.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
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
func (r run) putBack(ctx context.Context, res Result, former realm.Current, plan planned, why error) (Result, realm.Plan, error) {
	why = r.explain(why)
	if err := r.recreate(ctx, realm.RestoreParams(r.Realm.Name, former)); err != nil {
		if err.Error() != why.Error() {
			why = errors.Join(why, err)
		}
		return res, plan.Plan, r.keep(res.Saved,
			fmt.Errorf("the realm was deleted, and neither the new one nor the former could be created: %w", why))
	}
	current, err := r.Cluster.Realm(ctx, r.Realm.Name)
	if left := r.left(current); err == nil && left.Empty() {
		return res.discard().reached(Written), left, removeSaved(res.Saved) // a create whose answer was lost took effect after all
	}
	if err != nil || !current.SameAs(former) {
		return res, plan.Plan, r.keep(res.Saved,
			fmt.Errorf("the former realm was put back, but differs from before: %w", errors.Join(why, err)))
	}
	if err := removeSaved(res.Saved); err != nil {
		res = res.warn(err.Error())
	}
	return res.discard().warn("the new realm could not be created: the former one was put back"), plan.Plan, why
}

// keep adds the path of the saved realm to an error.
func (r run) keep(path string, err error) error {
	if err == nil {
		return nil
	}
	return check.Errorf(check.CodeOf(err), "%s; the former realm is saved in %s", strings.ReplaceAll(check.MessageOf(err), "\n", "; "), path).
		Try(check.HintOf(err), check.Hintf("to create the former realm if there is none:\n    {restore %s}", r.Realm.Name)).Because(err)
}
