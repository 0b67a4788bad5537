package fleet

import (
	"time"

	"proxmox-realm/internal/reconcile"
)

// Target is what became of one target.
type Target struct {
	Name     string // of the configuration; "default" where it has no targets
	Endpoint string // the one that answered, or the first that was tried
	Realm    string
	Requests int // sent to Proxmox
	// IssuerCertificate is the end of the lifetime of the issuer's certificate; zero where none was seen.
	IssuerCertificate time.Time
	reconcile.Result
}

// Run is what became of a command, over all of its targets.
type Run struct {
	Command  string // "plan", "apply", "verify", "delete", "probe"
	Outcome  reconcile.Outcome
	Err      error // what concerns no target: configuration, usage, lock
	Targets  []Target
	Duration time.Duration
}
