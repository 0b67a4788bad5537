package issuer

import "slices"

// Serves returns the name of an issuer that serves its own document at or near the issuer URL; "" if none was found. Proxmox needs
// this exact name.
func (i *Inspection) Serves() string {
	<-i.done
	if i.metadataErr.Status == "" && string(i.metadata.Issuer) == i.issuer {
		return i.issuer
	}
	return i.around.serves
}

// OffersScope tells whether the issuer advertises a scope. It may have others as well.
func (i *Inspection) OffersScope(scope string) bool {
	<-i.done
	return i.metadataErr.Status == "" && slices.Contains(i.metadata.Scopes, scope)
}

// SwitchedOff tells whether Authelia answers, and its OpenID Connect part is off.
func (i *Inspection) SwitchedOff() bool {
	<-i.done
	return i.around.portal
}
