package reconcile

import (
	"context"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// How long the gate pauses between two looks while it waits. An issuer counts refused keys against our address
// (Authelia: bursts of 30, then one a minute and less), and real logins through the same address suffer with us;
// the key that Proxmox still holds costs nothing to ask about while it is accepted.
const (
	pauseFree    = 10 * time.Second
	pauseCostly  = time.Minute
	declaredEach = 2 * time.Minute // an issuer may come to accept both keys: so often the declared one is asked about
)

// gate holds back a change that could break logins which work: the issuer and client checks must not
// fail with the values that the realm would have. It returns nil where the write may go ahead.
func (r *run) gate(ctx context.Context, plan realm.Plan) error {
	if !plan.Gated() || !r.Gate || r.NoGate || r.Issuer == nil {
		return nil
	}
	deadline := r.began.Add(r.Wait) // of the run: planning anew after a conflict does not begin the wait anew
	held := r.judge(ctx, plan)
	lastDeclared := time.Now()
	for held != nil {
		pause := pauseCostly
		if held.free {
			pause = pauseFree
		}
		if r.Wait == 0 || held.err.Code == check.RateLimited || time.Now().Add(pause).After(deadline) {
			return held.err
		}
		r.Log.Info("waiting for the gate", "realm", r.Spec.Name, "because", held.err.Message, "pause", pause, "until", deadline.Format(time.TimeOnly))
		if r.Waiting != nil {
			r.Waiting(held.err.Message, deadline)
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		r.inspect(ctx, time.Now())
		if held.keyHeld && time.Since(lastDeclared) < declaredEach && r.stillTaken(ctx, plan) {
			continue // nothing has changed, and asking cost nothing
		}
		held = r.judge(ctx, plan)
		lastDeclared = time.Now()
	}
	r.let = true
	return nil
}

// refusal is why the gate is shut.
type refusal struct {
	err     *check.Error
	keyHeld bool // the issuer takes the key that Proxmox holds, and not the declared one
	free    bool // looking again soon costs the issuer nothing
}

// judge asks issuer and client about the values that the realm would have.
func (r *run) judge(ctx context.Context, plan realm.Plan) *refusal {
	r.asked = true
	login := plan.After().Values.Login(r.Spec.Name)
	if failed := check.Failures(r.add(r.inspection.Checks(ctx, login, r.node(ctx))...)); len(failed) > 0 {
		return &refusal{err: heldBy(plan, failed), free: true} // the next look asks for two public documents
	}
	if after, limited := r.inspection.Limited(ctx); limited {
		return r.limited(after)
	}
	if r.AskClient == Never {
		return nil
	}
	failed, verdict := r.askClient(ctx, login)
	switch {
	case len(failed) > 0 && verdict.Answer == Rejected && r.stillTaken(ctx, plan):
		return &refusal{err: staleKey(plan), keyHeld: true, free: true}
	case len(failed) > 0:
		return &refusal{err: heldBy(plan, failed), free: verdict.Answer == Accepted}
	case verdict.Answer == Limited:
		return r.limited(verdict.RetryAfter)
	case verdict.Answer == NoAnswer:
		r.warn("the issuer gives no verdict on client %s: the change is written unproven", login.ClientID)
	}
	return nil
}

// limited is the refusal of an issuer that answers 429: no verdict, and nothing more is asked of it.
func (r *run) limited(retryAfter time.Duration) *refusal {
	err := check.Errorf(check.RateLimited, "the issuer limits requests, so that nobody can tell whether logins would work: realm %s is as before", r.Spec.Name)
	if retryAfter > 0 {
		return &refusal{err: err.Try(check.Advise("run again in %s", retryAfter.Round(time.Second)))}
	}
	return &refusal{err: err.Try(check.Advise("run again in some minutes"))}
}

// stillTaken tells whether the issuer accepts the key that Proxmox holds, where that is another than the declared one.
// Once that key was refused it is not asked about again: each refusal counts against us.
func (r *run) stillTaken(ctx context.Context, plan realm.Plan) bool {
	was := plan.Before().Values.Login(r.Spec.Name)
	if r.keyRefused || !plan.Changed(realm.ClientKey) || !was.ClientKey.IsSet() {
		return false
	}
	answer := r.inspection.Accepts(ctx, plan.After().Values.Login(r.Spec.Name), was.ClientKey).Answer
	r.keyRefused = answer == Rejected
	return answer == Accepted
}

func staleKey(plan realm.Plan) *check.Error {
	return check.Errorf(check.Held, "%s of realm %s is held back: the issuer still takes the key that Proxmox holds, and not the declared one", plan.Action, plan.Realm).
		Try(check.Advise("the client key's file is stale, or the issuer does not have the new key's digest yet: restart Authelia, or let apply --wait 10m wait for it"))
}

func heldBy(plan realm.Plan, failed []check.Check) *check.Error {
	var said []string
	for _, c := range failed {
		said = append(said, string(c.ID)+": "+c.Summary)
	}
	return check.Errorf(check.Held, "%s of realm %s is held back, since logins would fail: %s", plan.Action, plan.Realm, strings.Join(said, "; ")).
		Try(append(failed[0].Remedy, check.Run("apply --no-gate").With("to write it all the same"))...)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
