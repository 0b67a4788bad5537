package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// accessPlan is the plan for groups and grants, and what it was made from.
type accessPlan struct {
	realm.AccessPlan
	seen realm.CurrentAccess
}

// planAccess compares groups and grants. It reads the roles only if the comparison needs them.
func (r run) planAccess(ctx context.Context, plan realm.Plan, seen realm.CurrentAccess) (accessPlan, error) {
	if r.Access == nil {
		return accessPlan{}, nil
	}
	login := plan.After().Values.Login(r.Realm.Name)
	made := realm.DiffAccess(r.Access, r.Realm.Name, login, seen)
	if made.NeedsRoles() {
		var err error
		if seen.Roles, err = r.Cluster.Roles(ctx); err != nil {
			return accessPlan{}, err
		}
		made = realm.DiffAccess(r.Access, r.Realm.Name, login, seen)
	}
	return accessPlan{made, seen}, nil
}

// writeAccess makes the changes of groups and grants one by one and reads them back. Each write names one path, group
// and role, because the access control list has no digest. If a privilege is missing, it changes nothing, and
// proxmox.permissions fails. An addition that Proxmox refuses holds back no removal.
func (r run) writeAccess(ctx context.Context, res Result, plan planned) (Result, planned, error) {
	if missing := plan.access.Missing; len(missing) > 0 {
		permissions, err := r.Cluster.CheckPermissions(ctx, false, missing)
		res = res.add(r.Verify.Ignore, permissions)
		res.final, res.Access = true, nil // proxmox.access lists what was not written
		if len(res.Changes) == 0 && res.Action == realm.Update {
			res.Action = realm.None
		}
		return res, plan, err
	}
	if plan.access.Empty() {
		return res, plan, nil
	}
	res.final = true
	res, failure := r.changeAccess(ctx, res, plan.access.Changes)
	if failure != nil && !refusedAlone(failure) {
		return res, plan, failure
	}
	seen, err := r.Cluster.Access(context.WithoutCancel(ctx))
	if err != nil {
		return res, plan, errors.Join(failure, fmt.Errorf("read back: %w", err))
	}
	seen.Roles = plan.access.seen.Roles
	plan.access = accessPlan{realm.DiffAccess(r.Access, r.Realm.Name, plan.login(), seen), seen}
	if failure == nil && !plan.access.Empty() {
		failure = check.Errorf(check.NotTaken, "Proxmox accepted the writes, but does not hold them: %s", listed(plan.access.Changes)).
			Try("another program may manage these groups as well; this shows the difference:\n    {plan}")
	}
	return res, plan, failure
}

// changeAccess makes the changes in order and returns the first error, with what was not made. Removals come last, and are tried
// whatever became of the additions: who loses a role must not keep it because Proxmox refuses another one.
func (r run) changeAccess(ctx context.Context, res Result, changes []realm.AccessChange) (Result, error) {
	var failure error
	var left []realm.AccessChange
	stopped := map[realm.Op]bool{} // by an error that the next change would meet as well
	for _, c := range changes {
		if stopped[c.Op] {
			left = append(left, c)
			continue
		}
		err := ctx.Err()
		if err == nil {
			err = r.Cluster.Change(context.WithoutCancel(ctx), c)
		}
		if err == nil {
			res.Made = append(slices.Clone(res.Made), cleanedAccess([]realm.AccessChange{c}, r.Cleaner)...)
			res = res.reached(Written)
			continue
		}
		if errors.Is(err, realm.ErrLost) {
			res = res.reached(Sent)
		}
		if failure == nil {
			failure = err
		}
		left, stopped[c.Op] = append(left, c), !refusedAlone(err)
	}
	if failure != nil {
		failure = r.halfWay(ctx, left, len(res.Made), len(changes), failure)
	}
	return res, failure
}

// refusedAlone reports whether Proxmox refused one change, so that others may succeed.
func refusedAlone(err error) bool {
	switch check.CodeOf(err) {
	case check.ProxmoxFailed, check.UnknownRole, check.Config, check.PermissionDenied:
		return !errors.Is(err, realm.ErrLost)
	}
	return false
}

// halfWay returns the error of a run that made some of the changes.
func (r run) halfWay(ctx context.Context, left []realm.AccessChange, made, all int, err error) error {
	why := interruption(ctx, err)
	return check.Errorf(check.CodeOf(why), "%s; %d of %d changes of groups and grants were made; not made: %s",
		strings.ReplaceAll(check.MessageOf(why), "\n", "; "), made, all, listed(cleanedAccess(left, r.Cleaner))).
		Try(check.HintOf(why), "then, to make the others:\n    {apply}").Because(err)
}

// accessCheck returns the check proxmox.access for a configuration that declares access.
func (r run) accessCheck(plan accessPlan) check.Check {
	const id = check.ProxmoxAccess
	grants := 0
	for _, g := range r.Access {
		grants += len(g)
	}
	switch {
	case plan.Refusal != nil:
		return check.Failed(id, plan.Refusal.Hint, "%s", plan.Refusal.Message)
	case len(plan.Changes) > 0:
		return check.Failed(id, "to make them as declared:\n    {apply}", "groups or grants differ from the configuration").
			Because("%s", listed(plan.Changes))
	case len(plan.Hidden) > 0:
		return check.Skipped(id, "not checked: groups or grants are not visible to these credentials").Because("%s", listed(plan.Hidden))
	}
	passed := check.Passed(id, "the declared groups (%d) and grants (%d) are there", len(r.Access), grants)
	if !plan.seen.Complete() {
		return passed.Because("without Sys.Audit on /access, grants on other paths are not visible")
	}
	return passed
}

func listed(changes []realm.AccessChange) string {
	lines := make([]string, 0, len(changes))
	for _, c := range changes {
		lines = append(lines, c.String())
	}
	return strings.Join(lines, ", ")
}
