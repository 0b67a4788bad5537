package reconcile

import (
	"context"
	"fmt"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/realm"
)

// watchAfresh is the age of the file of a replace up to which its DELETE may still be under way.
const watchAfresh = 10 * time.Minute

// Restore brings a saved realm back: it creates the realm if there is none, with every property as it was, and removes the file.
// It removes the file too if the realm is there and equal, and refuses if it differs. Without write it only says what it would do.
func Restore(ctx context.Context, t config.Target, d Deps, o Options, s Saved, write bool) Result {
	r := newRun(ctx, t, d, o)
	res, err := r.restore(ctx, s, write)
	return r.finish(res, interruption(ctx, err))
}

func (r run) restore(ctx context.Context, s Saved, write bool) (Result, error) {
	res := r.begin()
	res.Saved, res.Action = s.Path, realm.None
	if !s.Of(r.id) {
		return res, check.Errorf(check.SavedRealm, "the saved realm %s is realm %s of %v, not of this target", s.Path, s.Realm, s.Endpoints).
			Try("choose its target:\n    {restore -t NAME}")
	}
	saved, err := s.Current()
	if err != nil {
		return res, err
	}
	current, err := r.Cluster.Realm(ctx, r.Realm.Name)
	if err != nil {
		return res, err
	}
	if write && s.Reason == Replacement && current.Exists && current.SameAs(saved) {
		if current, err = r.outlast(ctx, current, s.At); err != nil {
			return res, err
		}
	}
	switch {
	case !current.Exists:
		res.Action, res.Changes, res.drift = realm.Create, cleaned(realm.Whole(realm.Set, saved), r.Cleaner), !write
		if !write {
			return res, nil
		}
		return r.bringBack(context.WithoutCancel(ctx), res, s, saved)
	case !current.SameAs(saved) && (s.Reason != Replacement || !r.asDeclared(current)):
		return res, check.Errorf(check.SavedRealm, "realm %s exists and differs from the one saved in %s", r.Realm.Name, s.Path).
			Try(putAside(s.Path))
	case !write:
		return res, nil
	}
	res.Saved = ""
	return res, removeSaved(s.Path)
}

func (r run) bringBack(ctx context.Context, res Result, s Saved, saved realm.Current) (Result, error) {
	err := r.recreate(ctx, realm.RestoreParams(r.Realm.Name, saved))
	if err != nil {
		return res, r.keep(s.Path, r.explain(err))
	}
	res = res.reached(Written)
	current, err := r.Cluster.Realm(ctx, r.Realm.Name)
	switch {
	case err != nil:
		return res, r.keep(s.Path, fmt.Errorf("read back: %w", err))
	case !current.SameAs(saved):
		return res, r.keep(s.Path, check.Errorf(check.NotTaken, "Proxmox created realm %s, but it differs from the saved one", r.Realm.Name))
	}
	res.Saved = ""
	return res, removeSaved(s.Path)
}

// outlast watches a realm while the DELETE of its interrupted replace may still take effect, and returns the realm as
// it is then. The file stays until then, because it may become the only copy.
func (r run) outlast(ctx context.Context, current realm.Current, savedAt time.Time) (realm.Current, error) {
	age := time.Since(savedAt)
	if age > watchAfresh {
		return current, nil
	}
	watch := lateDelete + min(max(lateDelete-age, 0), lateDelete) // longer if the run was killed soon after its DELETE
	r.Log.Warn("watching the realm, because a DELETE may still be under way", "realm", r.Realm.Name, "for", watch)
	return r.watch(ctx, current, watch)
}
