package config

import (
	"context"

	"proxmox-realm/internal/fault"
	"proxmox-realm/internal/realm"
)

// Load finds, reads, checks and merges a configuration. Flags beat the environment, which beats a target, which
// beats the keys above the targets, which beat the defaults.
//
// Its error is a *[fault.Error] with the code [fault.Config] that wraps [Problems], all of them; or what the
// context ended with.
func Load(ctx context.Context, o Options) (*Config, error) {
	return nil, fault.New(fault.Config, "no configuration")
}

// Document returns a commented configuration for a realm that exists: every property of the Spec, and how
// Proxmox is reached. The client key itself is never written; clientKeyFile names the file that holds it, "" leaves
// the key unmanaged. Loading the document gives the Spec again.
func Document(spec realm.Spec, from Proxmox, clientKeyFile string) ([]byte, error) { return nil, nil }

// Schema returns the JSON Schema (2020-12) of a configuration file.
func Schema() ([]byte, error) { return nil, nil }

// MakePrivate makes the folder, with its parents, for this user alone (0700) where it does not exist; one that exists
// must be a folder, not a symbolic link, that this user or root owns and others cannot write.
func MakePrivate(dir string) error { return nil }
