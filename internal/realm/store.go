package realm

import "errors"

// What a store of realms answers to a write beyond success and failure. Stores return errors that match these
// with errors.Is; the reconciler resolves both by observing again.
var (
	// ErrConflict: the realm is not as it was observed: stale digest, already there, or gone.
	ErrConflict = errors.New("the realm changed meanwhile")
	// ErrLost: the request went out and its answer did not come back: it may have taken effect, or may still.
	ErrLost = errors.New("the answer to a write was lost")
)

// UnknownPropertyError is the answer of a Proxmox that does not know properties of a write.
type UnknownPropertyError struct{ Properties []Property }

// Error names the properties.
func (e *UnknownPropertyError) Error() string {
	return LacksProperties(Version{}, e.Properties).Message
}
