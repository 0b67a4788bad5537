package reconcile_test

import (
	"slices"
	"testing"

	"proxmox-realm/internal/fault"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)
