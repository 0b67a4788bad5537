package reconcile

import (
	"cmp"
	"context"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/history"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/realm"
)

// Rekey gives the realm the declared client key, and changes nothing else of it. It asks the issuer nothing: [KeyWait] does. A
// realm that is absent or serves another client is refused. Without write, Rekey only says what it would do, and fails if the
// credentials lack the privilege.
func Rekey(ctx context.Context, t config.Target, d Deps, o Options, write bool) Result {
	r := newRun(ctx, keyOnly(t), d, o)
	res, plan, err := r.change(ctx, steps{gate: true, write: write, key: true}, r.begin(), nil)
	if err == nil && !write && !plan.settled() {
		res.drift = true
		err = r.mayWrite(ctx)
	}
	return r.finish(res, interruption(ctx, err))
}

// keyOnly returns the target with nothing declared but the client and its key.
func keyOnly(t config.Target) config.Target {
	client := realm.Values{}
	for _, p := range []realm.Property{realm.IssuerURL, realm.ClientID, realm.ClientKey} {
		if v, ok := t.Realm.Set[p]; ok {
			client[p] = v
		}
	}
	t.Realm.Set, t.Realm.Unset, t.Access = client, nil, nil
	return t
}

// otherClient returns why the plan must not give the realm the key: the realm serves another client, or none.
func (p planned) otherClient() error {
	switch {
	case p.Action == realm.Create:
		return check.Errorf(check.KeyRotation, "realm %s does not exist", p.Realm).Try("to create it:\n    {apply}")
	case p.Changed(realm.IssuerURL) || p.Changed(realm.ClientID):
		return check.Errorf(check.KeyRotation, "realm %s serves another client than the declared one", p.Realm).
			Try("to see the difference:\n    {plan}", "to give it the declared client:\n    {apply}")
	}
	return nil
}

// mayWrite returns an error if the credentials may not write the realm.
func (r run) mayWrite(ctx context.Context) error {
	c, err := r.Cluster.CheckPermissions(ctx, true, nil)
	if err == nil && c.Status == check.Fail {
		err = check.Errorf(check.PermissionDenied, "%s", c.Summary).Try(c.Hint)
	}
	return err
}

// KeyWait waits until the issuer accepts a client key. The zero value is a wait that has not begun.
type KeyWait struct{ asked time.Time }

// Look looks once whether the issuer accepts the declared client key. The result is [Held] while it does not.
//
// While the issuer accepts the key that Proxmox holds, Look asks about that one, which costs nothing. The declared key is asked
// about once a minute, because the issuer may accept both. It is asked about at once when the issuer first refuses the former
// one, because then somebody has changed the client. Logins fail until the realms have the key. What an earlier run found out
// about the declared key counts if it was refused.
func (w *KeyWait) Look(ctx context.Context, t config.Target, d Deps, o Options) Result {
	r := newRun(ctx, keyOnly(t), d, o)
	res, err := r.awaitKey(ctx, r.begin(), r.inspect(r.Look), w)
	return r.finish(res, interruption(ctx, err))
}

func (r run) awaitKey(ctx context.Context, res Result, inspection *issuer.Inspection, w *KeyWait) (Result, error) {
	current, err := r.Cluster.Realm(ctx, r.Realm.Name)
	if err != nil {
		return res, err
	}
	plan := planned{Plan: r.left(current)}
	res.Action = realm.None
	if err := cmp.Or(plan.refusal(), plan.otherClient()); err != nil {
		return res, err
	}
	if inspection.Wait(ctx) != nil {
		return res, context.Cause(ctx)
	}
	login := plan.login()
	res = r.inspected(res, plan, inspection, login, "")
	former, flipped, err := r.askFormer(ctx, plan, inspection, w.asked.IsZero())
	if err == nil {
		err = r.limitedNow(plan, inspection)
	}
	if err != nil {
		return res, err
	}
	known := r.History.Client(r.clientID(login))
	last := w.asked
	if known.Credentials.Red() {
		last = history.Later(last, known.Credentials.Asked)
	}
	if former {
		last = history.Later(last, r.Began)
	}
	if r.began.Sub(last) < againLoud && !flipped {
		res = res.add(r.Verify.Ignore, recall(known.Findings(r.request(login)))...)
		return res, notYet(plan, res.Checks, former)
	}
	w.asked = r.began
	answer, err := r.askClient(ctx, login, false, inspection, atOnce)
	if err != nil {
		return res, err
	}
	res = res.add(r.Verify.Ignore, answer.checks...)
	if answer.decision() == issuer.Accepted {
		return res, nil
	}
	if !former && !flipped { // the answer may be the control that tells what an answer about the former key is worth
		if former, _, err = r.askFormer(ctx, plan, inspection, true); err != nil {
			return res, err
		}
	}
	if err := r.limitedNow(plan, inspection); err != nil {
		return res, err
	}
	return res, notYet(plan, res.Checks, former)
}

// limitedNow returns an error if the issuer limits requests, as it answered now or to an earlier run.
func (r run) limitedNow(plan planned, inspection *issuer.Inspection) error {
	var until time.Time
	for _, l := range []realm.Login{plan.login(), plan.before()} {
		until = history.Later(until, r.History.Client(r.clientID(l)).Limited)
	}
	if after, limited := inspection.RateLimited(); limited {
		until = history.Later(until, time.Now().Add(after))
	}
	if until.After(r.began) {
		return r.limited(until)
	}
	return nil
}

// notYet is the reason to wait for an issuer that does not accept the declared key.
func notYet(plan planned, checks []check.Check, former bool) *check.Error {
	const give = "give the issuer that key, and restart it if it reads its configuration at its start only"
	failed := check.Failures(checks)
	credentials, _ := check.Find(checks, check.ClientCredentials)
	switch {
	case former:
		return check.Errorf(check.Held, "the issuer still accepts the client key that realm %s holds, and not yet the next one", plan.Realm).Try(give)
	case credentials.Status == check.Fail:
		return check.Errorf(check.Held, "the issuer does not accept the next client key: %s", credentials.Summary).Try(give)
	case len(failed) > 0:
		return check.Errorf(check.Held, "the issuer does not accept the next client key: %s", summaries(failed)).Try(failed[0].Hint)
	case credentials.Summary != "":
		return check.Errorf(check.Held, "nothing shows whether the issuer accepts the next client key: %s", credentials.Summary)
	}
	return check.Errorf(check.Held, "nothing shows whether the issuer accepts the next client key")
}
