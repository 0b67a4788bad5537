package reconcile

import (
	"slices"
	"time"

	"proxmox-realm/internal/check"
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

// Result is what became of one target. It is complete also if Err is set: it shows how far the run came.
type Result struct {
	Name     string // of the target; "default" if the configuration has no targets
	Endpoint string // the one that answered, or the first that was tried
	Realm    string
	Requests int           // sent to Proxmox
	Retries  int           // requests repeated at another node, because one did not answer
	Lost     time.Duration // spent on waiting for nodes that did not answer
	// IssuerCertificate is the end of the lifetime of the issuer's certificate; zero if none was seen.
	IssuerCertificate time.Time

	Outcome    Outcome
	Action     realm.Action // of the plan; "" if none was made
	Changes    []realm.Change
	Access     []realm.AccessChange
	Checks     []check.Check
	Warnings   []string   // what an administrator should know although nothing failed
	GateOpened bool       // the gate let the change pass, and the issuer accepts the client with the new values
	Wrote      bool       // a write was sent and read back, whatever followed
	Saved      string     // the file that keeps a deleted realm; "" if there is none
	Diagnosis  *Diagnosis // what the logs tell of logins; nil: they were not read
	Err        error      // usually a *check.Error in its tree
	Duration   time.Duration

	Memory Memory // for the next run of this target

	sent  bool // a write was sent
	drift bool // apply would send a write
}

// start returns the result of a run that has done nothing yet.
func (r run) start() Result {
	return Result{Name: r.Name, Realm: r.Realm.Name, Memory: r.Memory}
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
			res.Action = realm.Refuse // also if Proxmox's answer or a recovery file is the reason
		}
	case res.drift:
		res.Outcome = Drift
	case len(check.Failures(res.Checks)) > 0:
		res.Outcome = Unverified
	case res.sent:
		res.Outcome, res.Wrote = Changed, true
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
		check.BuiltinRealm, check.RecoveryFile:
		return Refused
	}
	return Failed
}

// propose notes the plan. After a write it keeps the first plan, because a later one shows only what is left to do.
func (res *Result) propose(p planned, clean *check.Cleaner) {
	if res.sent && p.Action != realm.Refuse {
		return
	}
	res.Action, res.Changes, res.Access = p.Action, cleaned(p.Changes, clean), cleanedAccess(p.access.Changes, clean)
	if p.Action == realm.None && !p.access.Empty() {
		res.Action = realm.Update
	}
	for _, grant := range p.access.Replacing {
		res.warn(grant)
	}
	for _, grant := range p.access.Powerful {
		res.warn("whoever controls the issuer becomes as powerful as root: " + grant)
	}
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

// wrote notes the result of a write.
func (res *Result) wrote(w written, ignore []check.ID) {
	res.sent = res.sent || w.sent
	res.warn(w.warnings...)
	if w.permissions.ID == "" {
		return
	}
	res.add(ignore, w.permissions)
	res.Access = nil // proxmox.access lists what was not written
	if len(res.Changes) == 0 && res.Action == realm.Update {
		res.Action = realm.None
	}
}

// add adds checks. An ignored one becomes a skip. A later finding replaces an earlier one of its id.
func (res *Result) add(ignore []check.ID, checks ...check.Check) {
	out := append(make([]check.Check, 0, len(res.Checks)+len(checks)), res.Checks...) // a copy: the caller's result stays as it is
	for _, c := range check.Ignore(checks, ignore) {
		out = append(slices.DeleteFunc(out, func(old check.Check) bool { return old.ID == c.ID }), c)
	}
	res.Checks = out
}

// warn adds warnings, each once, and drops empty ones.
func (res *Result) warn(texts ...string) {
	for _, text := range texts {
		if text != "" && !slices.Contains(res.Warnings, text) {
			res.Warnings = append(res.Warnings, text)
		}
	}
}
