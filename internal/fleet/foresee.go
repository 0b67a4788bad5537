package fleet

import (
	"context"

	"proxmox-realm/internal/reconcile"
)

// PlanDelete shows what Delete would do and changes nothing.
func (f *Fleet) PlanDelete(ctx context.Context, o Options) Run {
	return f.each(ctx, "delete", o, reconcile.PlanDelete)
}
