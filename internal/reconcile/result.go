package reconcile

import (
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
	Held       Outcome = "held"       // the gate kept the change back
	Unverified Outcome = "unverified" // the realm is in place, but a check failed
	Drift      Outcome = "drift"      // plan alone: apply would change something
	Changed    Outcome = "changed"
	Unchanged  Outcome = "unchanged"
)

// Outcomes returns every outcome, worst first.
func Outcomes() []Outcome {
	return []Outcome{Failed, Refused, Held, Unverified, Drift, Changed, Unchanged}
}

// Result is what became of one target. It is complete also where Err is set: it says how far the run came.
type Result struct {
	Name     string // of the target; "default" where the configuration has no targets
	Endpoint string // the one that answered, or the first that was tried
	Realm    string
	Requests int // sent to Proxmox
	// IssuerCertificate is the end of the lifetime of the issuer's certificate; zero where none was seen.
	IssuerCertificate time.Time

	Outcome  Outcome
	Action   realm.Action // of the plan; "" where none was made
	Changes  []realm.Change
	Checks   []check.Check
	Warnings []string // what an administrator should know though nothing failed
	Let      bool     // the gate was asked, and lets the change pass
	Saved    string   // the file in which a deleted realm was kept; "" elsewhere
	Err      error    // usually a *fault.Error in its tree
	Duration time.Duration
}
