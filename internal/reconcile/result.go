package reconcile

import (
	"slices"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/history"
	"proxmox-realm/internal/realm"
)

// Outcome is how a run ended for one target.
type Outcome string

// The outcomes, worst first.
const (
	Failed     Outcome = "failed"
	Refused    Outcome = "refused"    // the plan needs a decision
	Held       Outcome = "held"       // the gate prevented the change
	Unverified Outcome = "unverified" // the realm is in place, but a check failed
	Drift      Outcome = "drift"      // plan alone: apply would change something
	Changed    Outcome = "changed"
	Unchanged  Outcome = "unchanged"
)

// Outcomes returns every outcome, worst first.
func Outcomes() []Outcome {
	return []Outcome{Failed, Refused, Held, Unverified, Drift, Changed, Unchanged}
}

// Stage is how far a run came with its writes.
type Stage int

// The stages, in order. A run never goes back.
const (
	Idle    Stage = iota // no write was sent
	Sent                 // a write was sent, and its answer was lost: whether it took effect is unknown
	Written              // at least one write took effect
)

// Result is what became of one target. It is complete also if Err is set: it shows how far the run came.
type Result struct {
	Name     string // of the target; "default" if the configuration has no targets
	ID       history.TargetID
	Product  string
	Endpoint string // the one that answered, or the first that was tried
	Realm    string
	Requests int           // sent to Proxmox
	Retries  int           // requests repeated at another node, because one did not answer
	Lost     time.Duration // spent on waiting for nodes that did not answer
	// IssuerCertificate is the end of the lifetime of the issuer's certificate; zero if none was seen.
	IssuerCertificate time.Time

	Outcome Outcome
	Action  realm.Action         // of the plan; "" if none was made
	Changes []realm.Change       // of the realm's properties; all are made by one write
	Access  []realm.AccessChange // of groups and grants
	Made    []realm.AccessChange // the part of Access that was made
	Stage   Stage
	Checks  []check.Check
	// Warnings are what an administrator should know although nothing failed.
	Warnings []string
	// Untold is what earlier runs wrote and could not report.
	Untold []string
	// Noted is what the history notes of this run's writes, for readers who are told of each.
	Noted     []string
	Saved     string     // the file that keeps a realm; "" if there is none
	Diagnosis *Diagnosis // what the logs tell of logins; nil: they were not read
	Err       error      // usually a *check.Error in its tree
	Duration  time.Duration

	read   history.Target // what earlier runs remember of the target
	known  history.Target // the same with what this run found out
	client clientFindings // what the gate or the verification learned of the client
	final  bool           // the run does not write again: it sent a DELETE, or began with groups and grants
	drift  bool           // apply would send a write
}

// Wrote reports whether a write took effect, or may have.
func (res Result) Wrote() bool { return res.Stage >= Sent }

// WroteRealm reports whether the changes of the realm itself took effect.
func (res Result) WroteRealm() bool { return res.Stage == Written && len(res.Changes) > 0 }

// Notes returns the warnings, and what earlier runs wrote and could not report.
func (res Result) Notes() []string {
	notes := slices.Clone(res.Warnings)
	for _, line := range res.Untold {
		notes = append(notes, "written by an earlier run, and not reported then: "+line)
	}
	return notes
}

// begin returns the result of a run that has done nothing yet.
func (r run) begin() Result {
	known := r.History.Target(r.id)
	return Result{
		Name: r.Name, ID: r.id, Product: r.id.Product, Realm: r.Realm.Name, read: known, known: known, Untold: known.Told[history.Quiet].Written,
	}
}

// finish completes a result: it names the outcome.
func (r run) finish(res Result, err error) Result {
	check.Sort(res.Checks)
	res.Err = err
	res.Duration = time.Since(r.began)
	res.Endpoint = string(r.Cluster.Endpoint())
	switch {
	case err != nil:
		res.Outcome = outcomeOf(err)
		if res.Outcome == Refused {
			res.Action = realm.Refuse // also if Proxmox's answer or a saved realm is the reason
		}
	case res.drift:
		res.Outcome = Drift
	case len(check.Failures(res.Checks)) > 0:
		res.Outcome = Unverified
	case res.Stage > Idle:
		res.Outcome = Changed
	default:
		res.Outcome = Unchanged
	}
	return res
}

func outcomeOf(err error) Outcome {
	switch check.CodeOf(err) {
	case check.Held:
		return Held
	case check.WrongType, check.UsernameClaim, check.UnknownProperty, check.UnknownRole, check.NoGroupsClaim,
		check.BuiltinRealm, check.SavedRealm, check.KeyRotation:
		return Refused
	}
	return Failed
}

// planned notes the plan. After a write it keeps the first plan, because a later one shows only what is left to do.
func (res Result) planned(p planned, clean *check.Cleaner) Result {
	if res.Stage > Idle && p.Action != realm.Refuse {
		return res
	}
	res.Action, res.Changes, res.Access = p.Action, cleaned(p.Changes, clean), cleanedAccess(p.access.Changes, clean)
	if p.Action == realm.None && !p.access.Empty() {
		res.Action = realm.Update
	}
	for _, grant := range p.access.Replacing {
		res = res.warn(grant)
	}
	for _, grant := range p.access.Powerful {
		res = res.warn("whoever controls the issuer becomes as powerful as root: " + grant)
	}
	return res
}

// cleaned masks secrets in the values of changes: people paste keys into a comment or a client id.
func cleaned(changes []realm.Change, clean *check.Cleaner) []realm.Change {
	mask := func(text *string) *string {
		if text == nil {
			return nil
		}
		masked := clean.Clean(*text)
		return &masked
	}
	out := slices.Clone(changes)
	for i, c := range out {
		out[i].Before, out[i].After = mask(c.Before), mask(c.After)
	}
	return out
}

// cleanedAccess masks secrets in the names of groups, roles and paths.
func cleanedAccess(changes []realm.AccessChange, clean *check.Cleaner) []realm.AccessChange {
	out := slices.Clone(changes)
	for i, c := range out {
		out[i].Group = clean.Clean(c.Group)
		out[i].Grant.Path, out[i].Grant.Role = clean.Clean(c.Grant.Path), clean.Clean(c.Grant.Role)
	}
	return out
}

// reached notes how far the run came with its writes.
func (res Result) reached(s Stage) Result {
	res.Stage = max(res.Stage, s)
	return res
}

// add adds checks. An ignored one becomes a skip. A later finding replaces an earlier one of its id.
func (res Result) add(ignore []check.ID, checks ...check.Check) Result {
	out := slices.Clone(res.Checks)
	for _, c := range check.Ignore(checks, ignore) {
		out = append(slices.DeleteFunc(out, func(old check.Check) bool { return old.ID == c.ID }), c)
	}
	res.Checks = out
	return res
}

// warn adds warnings, each once, and drops empty ones.
func (res Result) warn(texts ...string) Result {
	for _, text := range texts {
		if text != "" && !slices.Contains(res.Warnings, text) {
			res.Warnings = append(slices.Clone(res.Warnings), text)
		}
	}
	return res
}
