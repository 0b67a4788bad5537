package reconcile

import (
	"context"
	"fmt"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// seenAccess is what Proxmox shows of groups and grants.
type seenAccess struct {
	realm.CurrentAccess
	visible bool // the credentials may see them
}

// accessPlan is the plan for groups and grants; empty if the configuration declares none.
type accessPlan struct {
	realm.AccessPlan
	login   realm.Login
	visible bool
}

// observeAccess reads groups, roles and the access control list, if the configuration declares access.
func (r run) observeAccess(ctx context.Context) (seenAccess, error) {
	if r.Access == nil {
		return seenAccess{}, nil
	}
	current, visible, err := r.Cluster.Access(ctx)
	return seenAccess{CurrentAccess: current, visible: visible}, err
}

// planAccess compares groups and grants. If they are not visible, the plan holds everything that is declared.
func (r run) planAccess(plan realm.Plan, seen seenAccess) accessPlan {
	if r.Access == nil {
		return accessPlan{visible: true}
	}
	login := r.login(plan)
	return accessPlan{realm.DiffAccess(r.Access, r.Realm.Name, login, seen.CurrentAccess), login, seen.visible}
}

// writeAccess makes the changes one by one and reads them back. Each write names one path, group and role, because the
// access control list has no digest. If the credentials do not suffice, it makes none: proxmox.permissions fails then.
func (r run) writeAccess(ctx context.Context, res Result, plan accessPlan, write bool) (Result, accessPlan, error) {
	if !write || plan.Empty() {
		return res, plan, nil
	}
	permissions, err := r.Cluster.CheckPermissions(ctx, false, plan.Changes)
	if err != nil {
		return res, plan, interruption(ctx, err)
	}
	if permissions.Status == check.Fail || !plan.visible {
		res.add(r.Verify.Ignore, permissions)
		return res, plan, nil
	}
	uninterruptible := context.WithoutCancel(ctx)
	for i, c := range plan.Changes {
		err := ctx.Err()
		if err == nil {
			err = r.Cluster.Change(uninterruptible, c)
		}
		if err != nil {
			return res, plan, r.halfWay(ctx, plan.Changes[i:], i, err)
		}
		res.sent = true
	}
	current, visible, err := r.Cluster.Access(uninterruptible)
	if err != nil {
		return res, plan, fmt.Errorf("read back: %w", err)
	}
	left := accessPlan{realm.DiffAccess(r.Access, r.Realm.Name, plan.login, current), plan.login, visible}
	if !left.Empty() {
		return res, left, check.Errorf(check.NotTaken, "Proxmox accepted the writes, but does not hold them: %s", listed(left.Changes)).
			Try(check.Run("plan").With("it shows the difference; another program may manage these groups as well"))
	}
	return res, left, nil
}

// halfWay returns the error of a run that made some of the changes.
func (r run) halfWay(ctx context.Context, left []realm.AccessChange, made int, err error) error {
	why := check.Describe(interruption(ctx, err))
	failure := check.Errorf(why.Code, "%s; %d of %d changes of groups and grants were made, left are: %s",
		strings.ReplaceAll(why.Message, "\n", "; "), made, made+len(left), listed(left)).Because(err)
	for _, remedy := range why.Remedy {
		failure.Remedy = append(failure.Remedy, remedy...)
	}
	failure.Remedy = append(failure.Remedy, check.Run("apply").With("again, to make the others"))
	return failure
}

// accessCheck is proxmox.access for a configuration that declares access.
func (r run) accessCheck(plan accessPlan) check.Check {
	const id = check.ProxmoxAccess
	grants := 0
	for _, g := range r.Access {
		grants += len(g)
	}
	switch {
	case plan.Refusal != nil:
		return check.Failed(id, plan.Refusal.Remedy, "%s", plan.Refusal.Message)
	case !plan.visible:
		return check.Skipped(id, "not checked: groups and grants are not visible to these credentials")
	case plan.Empty():
		return check.Passed(id, "the declared groups (%d) and grants (%d) are there", len(r.Access), grants)
	}
	return check.Failed(id, check.Remedy{check.Run("apply")}, "groups or grants differ from the configuration").Because("%s", listed(plan.Changes))
}

func listed(changes []realm.AccessChange) string {
	lines := make([]string, 0, len(changes))
	for _, c := range changes {
		lines = append(lines, c.String())
	}
	return strings.Join(lines, ", ")
}
