package reconcile

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/realm"
)

// Delete saves an OpenID Connect realm, then removes it. It does nothing if the realm is absent.
func Delete(ctx context.Context, t config.Target, d Deps, o Options) Result {
	r := newRun(ctx, t, d, o)
	res, err := r.delete(ctx)
	return r.finish(res, interruption(ctx, err))
}

// PlanDelete returns what [Delete] would do, and changes nothing.
func PlanDelete(ctx context.Context, t config.Target, d Deps, o Options) Result {
	r := newRun(ctx, t, d, o)
	res, err := r.foreseeDelete(ctx)
	return r.finish(res, interruption(ctx, err))
}

func (r run) foreseeDelete(ctx context.Context) (Result, error) {
	res, current, err := r.deletable(ctx)
	if err != nil || !current.Exists {
		return res, err
	}
	res.drift = true
	permissions, err := r.Cluster.CheckPermissions(ctx, true, nil)
	return res.add(r.Verify.Ignore, permissions), err
}

// deletable reads the realm to delete, and refuses a realm that this program does not delete.
func (r run) deletable(ctx context.Context) (Result, realm.Current, error) {
	res := r.begin()
	name := r.Realm.Name
	if product := r.Realm.Product; product.Builtin(name) {
		return res, realm.Current{}, check.Errorf(check.BuiltinRealm, "realm %s is built into %s and cannot be deleted", name, product.Name())
	}
	current, err := r.Cluster.Realm(ctx, name)
	if err != nil {
		return res, current, err
	}
	if res, err = r.settleSaved(res, realm.Current{}, steps{gate: true}); err != nil {
		return res, current, err
	}
	switch {
	case !current.Exists:
		res.Action = realm.None
		return res, current, nil
	case current.Type != realm.Type:
		return res, current, check.Errorf(check.WrongType, "realm %s has the type %s: only OpenID Connect realms are deleted",
			name, r.Cleaner.Clean(current.Type)).
			Try("name the OpenID Connect realm to delete")
	}
	res.Action, res.Changes = realm.Delete, cleaned(realm.Whole(realm.Unset, current), r.Cleaner)
	if stays := r.staying(ctx); stays != "" {
		res = res.warn(fmt.Sprintf("these groups and grants stay, and apply again to a new realm of this name: %s", r.Cleaner.Clean(stays)))
	}
	return res, current, nil
}

// staying lists the groups of the realm, and the grants of its groups and users, as far as they are visible: Proxmox keeps them.
func (r run) staying(ctx context.Context) string {
	current, err := r.Cluster.Access(ctx)
	var realms []string
	if err == nil {
		realms, err = r.Cluster.Realms(ctx)
	}
	if err != nil {
		r.Log.Debug("reading groups and grants", "realm", r.Realm.Name, "error", err)
		return ""
	}
	var stay []string
	access := current.Stored(r.Realm.Name, realms...)
	for _, name := range access.Groups() {
		group := realm.GroupName(name, r.Realm.Name)
		for _, g := range access[name] {
			group += " (" + g.Role + " on " + g.Path + ")"
		}
		stay = append(stay, group)
	}
	for _, e := range current.Entries {
		if e.Type == "user" && strings.HasSuffix(e.ID, "@"+r.Realm.Name) {
			stay = append(stay, e.ID+" ("+e.Role+" on "+e.Path+")")
		}
	}
	return strings.Join(stay, ", ")
}

func (r run) delete(ctx context.Context) (Result, error) {
	res, current, err := r.deletable(ctx)
	if err != nil || !current.Exists {
		return res, err
	}
	if ctx.Err() != nil {
		return res, ctx.Err()
	}
	if res.Saved, err = r.save(current, Deletion); err != nil {
		return res, err
	}
	uninterruptible := context.WithoutCancel(ctx)
	res, err = r.remove(uninterruptible, res, current.Digest)
	if res.Stage == Idle && errors.Is(err, realm.ErrConflict) {
		err = check.Errorf(check.Conflict, "realm %s was not deleted, because realms changed in the meantime", r.Realm.Name).
			Try("run again").Because(err)
	}
	if err != nil {
		return res, err
	}
	if res.Stage == Idle { // another program deleted it at the same moment
		res.Action, res.Changes = realm.None, nil
		return res, nil
	}
	current, err = r.Cluster.Realm(uninterruptible, r.Realm.Name)
	switch {
	case err != nil:
		return res, fmt.Errorf("read back: %w", err)
	case current.Exists:
		return res, check.Errorf(check.NotTaken, "Proxmox accepted the DELETE, but realm %s still exists", r.Realm.Name).
			Try("look for another program that creates it again")
	}
	return res, nil
}
