package fleet

import (
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/reconcile"
)

// Tally counts what became of targets.
type Tally struct {
	Targets  int
	Outcomes map[reconcile.Outcome]int
	Codes    map[check.Code]int // of the errors
	Retries  int                // requests repeated at another node, because one did not answer
	Lost     time.Duration      // spent on waiting for nodes that did not answer
}

func (t *Tally) add(r reconcile.Result) {
	if t.Outcomes == nil {
		t.Outcomes, t.Codes = map[reconcile.Outcome]int{}, map[check.Code]int{}
	}
	t.Targets++
	t.Outcomes[r.Outcome]++
	if r.Err != nil {
		t.Codes[check.CodeOf(r.Err)]++
	}
	t.Retries += r.Retries
	t.Lost += r.Lost
}

// worst is the outcome of a run: that of its worst target.
func (t *Tally) worst() reconcile.Outcome {
	for _, o := range reconcile.Outcomes() {
		if t.Outcomes[o] > 0 {
			return o
		}
	}
	return reconcile.Unchanged
}

// Tally counts the targets of the run, also those that [Options.Each] took.
func (r Run) Tally() Tally {
	if r.Targets == nil {
		return r.counted
	}
	var t Tally
	for _, target := range r.Targets {
		t.add(target)
	}
	return t
}

// Worst returns the outcome of the run's worst target.
func (r Run) Worst() reconcile.Outcome {
	t := r.Tally()
	return t.worst()
}
