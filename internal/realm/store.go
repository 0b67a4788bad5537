package realm

import "errors"

// Errors of a write after which the caller must read the realm again.
var (
	// ErrConflict: the realm is not as it was read: the digest is stale, or the realm was created or deleted.
	ErrConflict = errors.New("the realm changed meanwhile")
	// ErrLost: the request was sent and no answer came. It may have taken effect, or may still do so.
	ErrLost = errors.New("the answer to a write was lost")
)

// UnknownPropertyError means that Proxmox does not know properties of a write.
type UnknownPropertyError struct {
	Product    Product
	Properties []Property
}

// Error names the properties.
func (e *UnknownPropertyError) Error() string {
	return LacksProperties(Version{Product: e.Product}, e.Properties).Message
}
