package fleet

import (
	"time"

	"proxmox-realm/internal/reconcile"
)

// Run is what became of a command, over all of its targets.
type Run struct {
	Command  string // "plan", "apply", "verify", "delete", "probe"
	Outcome  reconcile.Outcome
	Err      error // what concerns no target: configuration, usage, lock
	Targets  []reconcile.Result
	Duration time.Duration
}
