package reconcile

import (
	"context"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/realm"
)

// gate returns an error if a change could break logins that work. It runs the issuer and client checks with the values
// that the realm would have: none may fail, now or as last seen. A create breaks no login: failed checks make a warning, unless
// the caller waits for the issuer.
func (r run) gate(ctx context.Context, res Result, plan planned, inspection *issuer.Inspection) (Result, error) {
	if inspection == nil || r.NoGate || !r.Gate || plan.Action != realm.Create && !plan.Gated() {
		return res, nil
	}
	res, against, err := r.look(ctx, res, plan, inspection)
	if err != nil || plan.Action != realm.Create || r.Waits {
		if err == nil && against != nil {
			err = against
		}
		return res, err
	}
	if failed := check.Failures(res.Checks); len(failed) > 0 {
		res = res.warn("logins through the new realm will fail: " + summaries(failed))
	}
	return res, nil
}

// look checks issuer and client with the values that the realm would have. against is why the gate is closed; nil if it is open.
func (r run) look(ctx context.Context, res Result, plan planned, inspection *issuer.Inspection) (_ Result, against *check.Error, err error) {
	if inspection.Wait(ctx) != nil {
		return res, nil, context.Cause(ctx)
	}
	login := plan.login()
	if !inspection.Trusted() && plan.Action != realm.Create && !plan.Changed(realm.IssuerURL) {
		// This machine cannot judge the issuer, but the node can: it discovers the issuer that the realm has and keeps.
		if res, inspection, err = r.discover(ctx, res, plan, inspection, anew); err != nil {
			return res, nil, err
		}
	}
	res = r.inspected(res, plan, inspection, login, r.about(login))
	found := slices.DeleteFunc(decisive(plan, res.Checks, inspection.LacksClaim(login.UsernameClaim)), func(c check.Check) bool {
		return c.ID == check.IssuerCapabilities && r.Verify.Client // the client's answer is better than what is advertised
	})
	if len(found) > 0 {
		return res, heldBy(plan, found), nil
	}
	if after, limited := inspection.RateLimited(); limited {
		return res, r.limited(time.Now().Add(after)), nil
	}
	if !r.Verify.Client {
		return res.warn("whether the issuer accepts the client was not checked, because verify.client is false"), nil, nil
	}
	res, stale, err := r.lookAtClient(ctx, res, plan, inspection)
	if err != nil {
		return res, nil, err
	}
	res = r.inspected(res, plan, inspection, login, r.about(login)) // an answer is better than what is advertised
	failed := check.Failures(res.Checks)
	switch decision := res.client.decision(); {
	case res.client.limited.After(r.began):
		against = r.limited(res.client.limited)
	case len(failed) > 0 && stale:
		against = r.staleKey(plan)
	case len(failed) > 0:
		against = heldBy(plan, failed)
	case decision == issuer.NoVerdict && (plan.Changed(realm.ClientKey) || plan.Changed(realm.ClientID)) && plan.Action != realm.Create:
		against = unjudged(plan, res.Checks)
	case decision == issuer.NoVerdict && plan.Action != realm.Create:
		res = res.warn("the issuer gave no verdict on client " + r.Cleaner.Clean(login.ClientID) + ": the change was not checked")
	}
	if against != nil && !res.client.fresh && len(check.Failures(res.client.checks)) > 0 {
		against = against.Try(against.Hint, "after a correction, ask the issuer again:\n    {verify}")
	}
	return res, against, nil
}

// lookAtClient asks about the declared client. If the issuer refuses its key, it also asks about the key that Proxmox holds:
// stale tells that the issuer accepts that one. An issuer that stops accepting it has been changed, so the declared key is asked
// about at once.
func (r run) lookAtClient(ctx context.Context, res Result, plan planned, inspection *issuer.Inspection) (_ Result, stale bool, err error) {
	first := anew
	if plan.Action == realm.Create && r.Waits {
		first = watched
	}
	for _, w := range []want{first, atOnce} {
		answer, err := r.askClient(ctx, plan.login(), false, inspection, w)
		if err != nil {
			return res, false, err
		}
		res.client = answer
		res = res.add(r.Verify.Ignore, answer.checks...)
		if answer.decision() != issuer.Rejected {
			return res, false, nil
		}
		accepted, flipped, err := r.askFormer(ctx, plan, inspection, answer.fresh)
		if err != nil || !flipped || answer.fresh {
			return res, accepted, err
		}
	}
	return res, false, nil
}

// askFormer asks about the key that Proxmox holds, if it differs from the declared one, by questions that cost nothing while the
// issuer accepts it. If the issuer has not accepted it so far, they may cost something: it asks only if costly is set. After one
// refusal it does not ask again. flipped tells that this was the first refusal.
func (r run) askFormer(ctx context.Context, plan planned, inspection *issuer.Inspection, costly bool) (accepted, flipped bool, err error) {
	former := plan.before()
	if !plan.Changed(realm.ClientKey) || !former.ClientKey.IsSet() {
		return false, false, nil
	}
	l := plan.login()
	l.ClientKey = former.ClientKey
	known := r.History.Client(r.clientID(l))
	if known.Credentials.Red() || known.Credentials.IsZero() && !costly {
		return false, false, nil
	}
	answer := inspection.Client(ctx, issuer.Question{Login: l, Depth: issuer.Free, Known: r.controls(known), Limited: known.Limited})
	if ctx.Err() != nil {
		return false, false, context.Cause(ctx)
	}
	r.rememberClient(l, known, answer, issuer.Free)
	decision := answer.Credentials.Decision
	return decision == issuer.Accepted, decision == issuer.Rejected, nil
}

// decisive returns the checks that close the gate: the failures. For a replace, a username claim that the issuer does
// not advertise counts too, because the claim cannot be corrected later.
func decisive(plan planned, checks []check.Check, lacksClaim bool) []check.Check {
	found := check.Failures(checks)
	if claims, ok := check.Find(checks, check.IssuerClaims); ok && plan.Action == realm.Replace && lacksClaim && claims.Status == check.Warn {
		found = append(found, claims)
	}
	return found
}

// limited returns the error for an issuer that answered 429. That is no verdict on the client.
func (r run) limited(until time.Time) *check.Error {
	err := check.Errorf(check.RateLimited, "the issuer limits requests, so the client could not be checked: realm %s is unchanged", r.Realm.Name)
	if left := time.Until(until); left > 0 {
		return err.Try(check.Hintf("run again in %s", left.Round(time.Second)))
	}
	return err.Try("run again in a few minutes")
}

func (r run) staleKey(plan planned) *check.Error {
	held := check.Errorf(check.Held,
		"%s of realm %s not applied: the issuer accepts the client key that Proxmox holds, but not the declared one",
		plan.Action, plan.Realm).
		Try("give the issuer the declared key, and restart it if it reads its configuration only then; to wait for that:\n    {apply --wait 10m}",
			"set {realm.client_key_file} to the file of the key that the issuer holds")
	if r.Rotating() {
		return held.Try("a rotation of the key has begun; to finish it:\n    {rotate}")
	}
	return held
}

// unjudged is the error for a changed key or client on which there is no verdict.
func unjudged(plan planned, checks []check.Check) *check.Error {
	why := ""
	if c, ok := check.Find(checks, check.ClientCredentials); ok {
		why = ": " + c.Summary
	}
	return check.Errorf(check.Held, "%s of realm %s not applied: nothing shows whether the issuer accepts the new client id or key%s",
		plan.Action, plan.Realm, why).
		Try("if this machine does not know the issuer's authority, set {verify.issuer_ca_file} to its certificate",
			"to write it anyway:\n    {apply --no-gate}")
}

func heldBy(plan planned, against []check.Check) *check.Error {
	return check.Errorf(check.Held, "%s of realm %s not applied: logins would fail: %s", plan.Action, plan.Realm, summaries(against)).
		Try(against[0].Hint, "to write it anyway:\n    {apply --no-gate}")
}

func summaries(checks []check.Check) string {
	said := make([]string, 0, len(checks))
	for _, c := range checks {
		said = append(said, string(c.ID)+": "+c.Summary)
	}
	return strings.Join(said, "; ")
}
