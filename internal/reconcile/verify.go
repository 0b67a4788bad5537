package reconcile

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/realm"
)

// verify runs the checks on what the run found or left. All that can run do run: why is the error that stopped the run before,
// after which Proxmox is not asked again. It remembers what was found, and returns an error only for an interruption and if
// Proxmox does not answer.
func (r run) verify(ctx context.Context, res Result, plan planned, inspection *issuer.Inspection, take steps, why error) (Result, error) {
	if code := check.CodeOf(why); ctx.Err() != nil || code == check.Held || code == check.RateLimited || outcomeOf(why) == Refused {
		return r.remember(res, plan), context.Cause(ctx)
	}
	if why != nil && !plan.made() && !take.gate { // verify shows what it could not look at
		for _, e := range check.Catalog() {
			if strings.HasPrefix(string(e.ID), "proxmox.") {
				res = res.add(r.Verify.Ignore, check.Skipped(e.ID, "not checked: the realm could not be read"))
			}
		}
	}
	asks := take.asks
	if res.Stage > Idle && (res.Action != realm.Update || res.concernsLogin()) {
		asks = max(asks, anew)
	}
	if res.known.Lost { // a failure may have been in it
		asks = max(asks, anew)
	}
	var err, issuerErr error
	if why == nil {
		res, inspection, err = r.verifyProxmox(ctx, res, plan, inspection, take, asks)
	}
	res, issuerErr = r.verifyIssuer(ctx, res, plan, inspection, asks)
	if why == nil && err == nil {
		res, err = r.verifyUsers(ctx, res, plan, asks)
	}
	if err == nil {
		err = issuerErr
	}
	if why == nil && err == nil {
		res.known.Lost = false
	}
	return r.remember(res, plan), err
}

// concernsLogin reports whether what was written decides about logins.
func (res Result) concernsLogin() bool {
	for _, c := range res.Changes {
		if d, _ := c.Property.Definition(); d.Gated {
			return true
		}
	}
	return len(res.Access) > 0
}

// verifyProxmox runs proxmox.realm, proxmox.access, proxmox.permissions and proxmox.discovery.
func (r run) verifyProxmox(
	ctx context.Context, res Result, plan planned, inspection *issuer.Inspection, take steps, asks want,
) (Result, *issuer.Inspection, error) {
	foresees := take.gate && !take.write
	if foresees && !plan.settled() {
		res, err := r.foresee(ctx, res, plan)
		return res, inspection, err
	}
	res = res.add(r.Verify.Ignore, r.realmCheck(plan))
	if r.Access != nil {
		res = res.add(r.Verify.Ignore, r.accessCheck(plan.access))
	}
	if !take.gate || foresees && len(plan.access.Missing) > 0 {
		permissions, err := r.Cluster.CheckPermissions(ctx, !plan.Empty(), plan.access.Missing)
		if res = res.add(r.Verify.Ignore, permissions); err != nil {
			return res, inspection, err
		}
	}
	if inspection != nil && inspection.Wait(ctx) == nil && !inspection.Trusted() {
		asks = max(asks, anew) // this machine cannot judge the issuer, but the node may
	}
	return r.discover(ctx, res, plan, inspection, asks)
}

// foresee checks whether a plan can be carried out. What differs is drift, and no failure.
func (r run) foresee(ctx context.Context, res Result, plan planned) (Result, error) {
	res.drift = true
	for _, p := range plan.MaybeUnknown() {
		res = res.warn(fmt.Sprintf("%s may not know %s, which exists since %s", r.askVersion().Named(), p, r.Realm.Product.Since(p)))
	}
	permissions, err := r.Cluster.CheckPermissions(ctx, !plan.Empty(), plan.access.Missing)
	return res.add(r.Verify.Ignore, permissions), err
}

// verifyIssuer runs the issuer.* and client.* checks.
func (r run) verifyIssuer(ctx context.Context, res Result, plan planned, inspection *issuer.Inspection, asks want) (Result, error) {
	if inspection == nil {
		return res, nil
	}
	if inspection.Wait(ctx) != nil {
		return res, context.Cause(ctx)
	}
	login, about := r.Realm.Set.Login(r.Realm.Name), "" // without a plan, what is declared alone is verified
	if plan.made() {
		login = plan.login()
		about = r.about(login)
	}
	var limited error
	if r.Verify.Client && (plan.made() || asks == always) && (about == "" || res.client.about != about) { // the gate's answers serve the whole run
		unread := !plan.made() && !login.ClientKey.IsSet()
		answer, err := r.askClient(ctx, login, unread, inspection, asks)
		if err != nil {
			return res, err
		}
		res.client = answer
		res = res.add(r.Verify.Ignore, answer.checks...)
		if answer.fresh && len(check.Failures(answer.checks)) == 0 && !answer.yes() && answer.limited.After(r.began) {
			limited = r.limited(answer.limited)
		}
	}
	return r.inspected(res, plan, inspection, login, about), limited
}

// inspected adds the issuer.* checks of an inspection that has ended.
func (r run) inspected(res Result, plan planned, inspection *issuer.Inspection, login realm.Login, about string) Result {
	version := realm.Version{Product: r.Realm.Product}
	if inspection.NeedsVersion() && plan.made() {
		version = r.askVersion()
	}
	offset, known := r.Cluster.ClockOffset()
	res = r.found(res, about, inspection.Checks(issuer.View{
		Login: login, Version: version, ClockOffset: offset, ClockKnown: known, MaxSkew: r.Verify.MaxClockSkew, Found: res.Checks,
	})...)
	if notAfter, ok := inspection.Certificate(); ok {
		res.IssuerCertificate = notAfter
	}
	return res
}

// verifyUsers runs proxmox.users, and proxmox.access if access is not declared.
func (r run) verifyUsers(ctx context.Context, res Result, plan planned, asks want) (Result, error) {
	about := r.about(plan.login())
	ids := []check.ID{check.ProxmoxUsers}
	if r.Access == nil {
		ids = append(ids, check.ProxmoxAccess)
	}
	ask := asks > ifDue || res.Stage > Idle || plan.Action == realm.Create
	for _, id := range ids {
		f := res.known.Findings[id]
		if stands := open(f) && f.About == about; stands && r.again(f) {
			ask = true
		} else if stands {
			res = res.add(r.Verify.Ignore, f.Recall())
		}
	}
	if !ask {
		return res, nil
	}
	users, err := r.Cluster.CheckUsers(ctx, plan.login(), r.Access == nil)
	for i, c := range users {
		if c.ID == check.ProxmoxUsers && c.Status == check.Fail && (res.Action == realm.Create || res.Action == realm.Replace) {
			users[i].Status = check.Warn // users can only be made once there is the realm
		}
	}
	res = r.found(res, about, users...)
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return res, err
}

// remember keeps what the run found out. Findings about values that are neither declared nor stored any more fall, and so do
// those whose check is switched off.
func (r run) remember(res Result, plan planned) Result {
	if plan.made() {
		for id, f := range res.known.Findings {
			stale := f.About != r.about(plan.login()) && f.About != r.about(plan.before())
			if stale || !r.Verify.Issuer && strings.HasPrefix(string(id), "issuer.") {
				res.known = res.known.Drop(id)
			}
		}
		if res.known.Begun.IsZero() {
			res.known.Begun = time.Now().UTC().Truncate(time.Second)
		}
	}
	if !reflect.DeepEqual(res.read, res.known) {
		r.History.KeepTarget(r.id, res.read, res.known)
	}
	return res
}

// realmCheck returns the check proxmox.realm.
func (r run) realmCheck(plan planned) check.Check {
	switch {
	case plan.Empty():
		return check.Passed(check.ProxmoxRealm, "realm %s is as declared", r.Realm.Name)
	case plan.Action == realm.Create:
		return check.Failed(check.ProxmoxRealm, "to create it:\n    {apply}", "realm %s does not exist", r.Realm.Name)
	case plan.Action == realm.Refuse:
		return check.Failed(check.ProxmoxRealm, plan.Refusal.Hint, "%s", plan.Refusal.Message)
	}
	return check.Failed(check.ProxmoxRealm, "to see the differences:\n    {plan}\nto make them go:\n    {apply}",
		"realm %s differs from its configuration", r.Realm.Name).Because("%s", strings.Join(plan.Names(), ", "))
}
