package reconcile

import (
	"context"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/realm"
)

// The pauses between two looks at the issuer while the gate is closed. An issuer counts refused keys by source address
// (Authelia: bursts of 30, then one a minute or less). Logins through the same address are then limited too. Asking
// about the key that Proxmox holds costs nothing while the issuer accepts it.
const (
	pauseFree    = 10 * time.Second
	pauseCostly  = time.Minute
	declaredEach = 2 * time.Minute // the issuer may accept both keys during a rotation, so the declared one is checked this often
)

// gated is what the gate found.
type gated struct {
	inspection Inspection // the newest
	checks     []check.Check
	warnings   []string
	opened     bool                 // the issuer accepts the client with the new values
	hung       map[string]time.Time // for [Memory.HungUntil]
}

// take adds what the gate found to the result.
func (res *Result) take(g gated) {
	res.add(nil, g.checks...) // the gate has applied verify.ignore
	res.warn(g.warnings...)
	res.GateOpened = res.GateOpened || g.opened
	if g.hung != nil {
		res.Memory.HungUntil = g.hung
	}
}

// gate returns an error if a change could break logins that work. It runs the issuer and client checks with the values
// that the realm would have: none may fail. A create breaks no login, so failed checks only make a warning.
func (r run) gate(ctx context.Context, plan planned, inspection Inspection) (gated, error) {
	if inspection == nil || r.NoGate || !r.Gate || plan.Action != realm.Create && !plan.Gated() {
		return gated{inspection: inspection}, nil
	}
	seen, err := r.look(ctx, plan, inspection, look{})
	if plan.Action == realm.Create {
		g := gated{inspection: inspection, checks: seen.checks, hung: seen.hung}
		if failed := check.Failures(seen.checks); len(failed) > 0 {
			g.warnings = []string{"logins through the new realm will fail: " + summaries(failed)}
		}
		return g, err
	}
	deadline := r.began.Add(r.Wait) // counted from the start of the run, so that a conflict does not prolong it
	for err == nil && seen.held != nil && seen.held.Code == check.Held && time.Now().Before(deadline) {
		pause := min(seen.pause(), time.Until(deadline)) // the last look is at the deadline
		r.Log.Info("waiting for the gate", "realm", r.Realm.Name, "because", seen.held.Message, "pause", pause, "until", deadline)
		if r.Waiting != nil {
			r.Waiting(seen.held.Message, deadline)
		}
		if err = sleep(ctx, pause); err != nil {
			break
		}
		inspection = r.inspect(ctx, time.Now())
		if seen.formerAccepted && time.Since(seen.declaredAsked) < declaredEach && time.Now().Before(deadline) {
			if seen = r.askFormer(ctx, plan, inspection, nil, seen); seen.formerAccepted {
				continue // nothing has changed, and asking cost nothing
			}
		}
		seen, err = r.look(ctx, plan, inspection, seen)
	}
	if err == nil && seen.held != nil {
		err = seen.held
	}
	return gated{inspection: inspection, checks: seen.checks, warnings: seen.warnings, opened: err == nil && seen.accepted, hung: seen.hung}, err
}

// look is what one look at issuer and client found.
type look struct {
	checks   []check.Check
	warnings []string
	held     *check.Error         // why the gate is closed; nil if it is open
	accepted bool                 // the issuer accepts the client
	hung     map[string]time.Time // for [Memory.HungUntil]

	formerAccepted bool      // the issuer accepts the key that Proxmox holds, and not the declared one
	formerRefused  bool      // the issuer refused the key that Proxmox holds: it is not asked about again
	free           bool      // another look costs the issuer nothing, so it may follow soon
	declaredAsked  time.Time // when the declared key was last asked about
}

func (l look) pause() time.Duration {
	if l.free {
		return pauseFree
	}
	return pauseCostly
}

// look checks issuer and client with the values that the realm would have.
func (r run) look(ctx context.Context, plan planned, inspection Inspection, before look) (look, error) {
	now := look{declaredAsked: time.Now(), formerRefused: before.formerRefused}
	discovered := false
	if inspection.Wait(ctx) == nil && !inspection.Trusted() && r.Verify.Proxmox && !plan.Changed(realm.IssuerURL) &&
		r.mayNotDiscover(ctx, plan, inspection) == "" {
		// This machine cannot judge the issuer, but the node can: it discovers the issuer that the realm has and keeps.
		found, memory, err := r.discoveries(ctx, plan.before(), r.Memory)
		if err != nil {
			return now, err
		}
		now.hung = memory.HungUntil
		now.checks, discovered = []check.Check{found}, found.Status == check.Pass
	}
	checks, err := r.issuerChecks(ctx, plan, inspection, discovered)
	if err != nil {
		return now, err
	}
	now.checks = check.Ignore(append(now.checks, checks...), r.Verify.Ignore)
	if against := decisive(plan, now.checks, inspection.LacksClaim(plan.login().UsernameClaim)); len(against) > 0 {
		now.held, now.free = heldBy(plan, against), true // another look fetches two public documents
		return now, nil
	}
	if after, limited := inspection.RateLimited(); limited {
		now.held = r.limited(after)
		return now, nil
	}
	if !inspection.Trusted() { // the client key is not sent over such a connection
		now.warnings = append(now.warnings, "this machine cannot check the client at the issuer: the change was not checked")
		return now, nil
	}
	if !r.Verify.Client {
		return now, nil
	}
	depth := issuer.Full
	if plan.Action != realm.Create && (r.Repeats || r.Wait > 0) {
		depth = issuer.Free
	}
	q := r.question(plan, depth)
	answer := inspection.Client(ctx, q)
	if err := ctx.Err(); err != nil {
		return now, err
	}
	client := check.Ignore(answer.Checks, r.Verify.Ignore)
	now.checks = append(now.checks, client...)
	failed := check.Failures(client)
	now.accepted = answer.Credentials.Decision == issuer.Accepted
	after, limited := answer.RateLimited()
	switch {
	case len(failed) > 0:
		now.held, now.free = heldBy(plan, failed), answer.Credentials.Decision == issuer.Accepted
		if answer.Credentials.Decision == issuer.Rejected {
			if now = r.askFormer(ctx, plan, inspection, q.RedirectURLs, now); now.formerAccepted {
				now.held, now.free = staleKey(plan), true
			}
		}
	case limited:
		now.held = r.limited(after)
	case answer.Credentials.Decision == issuer.NoVerdict && plan.Action != realm.Create:
		id := r.Cleaner.Clean(plan.login().ClientID)
		now.warnings = append(now.warnings, "the issuer gave no verdict on client "+id+": the change was not checked")
	}
	return now, ctx.Err()
}

// askFormer asks about the key that Proxmox holds, if it differs from the declared one. After one refusal it does not
// ask again, because the issuer counts refusals by source address. The inspection already knows the verdicts on the
// redirect URLs, so they cost no request.
func (r run) askFormer(ctx context.Context, plan planned, inspection Inspection, redirectURLs []string, l look) look {
	former := plan.before().ClientKey
	l.formerAccepted = false
	if l.formerRefused || !plan.Changed(realm.ClientKey) || !former.IsSet() {
		return l
	}
	q := issuer.Question{Login: plan.login(), RedirectURLs: redirectURLs, Depth: issuer.Free}
	q.Login.ClientKey = former
	decision := inspection.Client(ctx, q).Credentials.Decision
	l.formerAccepted, l.formerRefused = decision == issuer.Accepted, decision == issuer.Rejected
	return l
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
func (r run) limited(retryAfter time.Duration) *check.Error {
	err := check.Errorf(check.RateLimited, "the issuer limits requests, so the client could not be checked: realm %s is unchanged", r.Realm.Name)
	if retryAfter > 0 {
		return err.Try(check.Hintf("run again in %s", retryAfter.Round(time.Second)))
	}
	return err.Try(check.Hint("run again in a few minutes"))
}

func staleKey(plan planned) *check.Error {
	return check.Errorf(check.Held,
		"%s of realm %s not applied: the issuer accepts the client key that Proxmox holds, but not the declared one",
		plan.Action, plan.Realm).
		Try(check.Hint("restart Authelia if it does not have the new key's digest yet"),
			check.Run("apply --wait 10m").With("it waits for that"),
			check.Set("realm.client_key_file", "").With("if the file holds an old key"))
}

func heldBy(plan planned, against []check.Check) *check.Error {
	return check.Errorf(check.Held, "%s of realm %s not applied: logins would fail: %s", plan.Action, plan.Realm, summaries(against)).
		Try(against[0].Hint, check.Run("apply --no-gate").With("to write it anyway"))
}

func summaries(checks []check.Check) string {
	said := make([]string, 0, len(checks))
	for _, c := range checks {
		said = append(said, string(c.ID)+": "+c.Summary)
	}
	return strings.Join(said, "; ")
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
