package reconcile

import (
	"context"
	"fmt"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// accessPlan is the plan for groups and grants, and what it was made from.
type accessPlan struct {
	realm.AccessPlan
	seen realm.CurrentAccess
}

// observeAccess reads groups and the access control list, if the configuration declares access.
func (r run) observeAccess(ctx context.Context) (realm.CurrentAccess, error) {
	if r.Access == nil {
		return realm.CurrentAccess{}, nil
	}
	return r.Cluster.Access(ctx)
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
// proxmox.permissions fails.
func (r run) writeAccess(ctx context.Context, done written) (written, error) {
	plan := done.left.access
	if len(plan.Missing) > 0 {
		var err error
		done.final = true
		done.permissions, err = r.Cluster.CheckPermissions(ctx, false, plan.Missing)
		return done, interruption(ctx, err)
	}
	if plan.Empty() {
		return done, nil
	}
	done.final = true
	uninterruptible := context.WithoutCancel(ctx)
	for i, c := range plan.Changes {
		err := ctx.Err()
		if err == nil {
			err = r.Cluster.Change(uninterruptible, c)
		}
		if err != nil {
			return done, r.halfWay(ctx, plan.Changes[i:], i, err)
		}
		done.sent = true
	}
	seen, err := r.Cluster.Access(uninterruptible)
	if err != nil {
		return done, fmt.Errorf("read back: %w", err)
	}
	seen.Roles = plan.seen.Roles
	done.left.access = accessPlan{realm.DiffAccess(r.Access, r.Realm.Name, done.left.login(), seen), seen}
	if !done.left.access.Empty() {
		return done, check.Errorf(check.NotTaken, "Proxmox accepted the writes, but does not hold them: %s", listed(done.left.access.Changes)).
			Try(check.Run("plan").With("it shows the difference; another program may manage these groups as well"))
	}
	return done, nil
}

// halfWay returns the error of a run that made some of the changes.
func (r run) halfWay(ctx context.Context, left []realm.AccessChange, made int, err error) error {
	why := interruption(ctx, err)
	return check.Errorf(check.CodeOf(why), "%s; %d of %d changes of groups and grants were made; not made: %s",
		strings.ReplaceAll(check.MessageOf(why), "\n", "; "), made, made+len(left), listed(left)).
		Try(check.HintOf(why), check.Run("apply").With("it makes the others")).Because(err)
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
		return check.Failed(id, check.Hints(check.Run("apply")), "groups or grants differ from the configuration").
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
