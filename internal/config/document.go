package config

import "proxmox-realm/internal/realm"

// Document returns a commented configuration for a realm that exists: every property of the Spec, and how
// Proxmox is reached. The client key itself is never written; clientKeyFile names the file that holds it, "" leaves
// the key unmanaged. Loading the document gives the Spec again.
func Document(spec realm.Spec, from Proxmox, clientKeyFile string) ([]byte, error) { return nil, nil }
