package fleet

import (
	"context"

	"proxmox-realm/internal/config"
	"proxmox-realm/internal/reconcile"
)

// Diagnose explains the logins of every target that failed lately. It changes nothing.
func (f *Fleet) Diagnose(ctx context.Context, o Options, q reconcile.DiagnoseOptions) Run {
	return f.run(ctx, "diagnose", o, work{do: func(ctx context.Context, t config.Target, d reconcile.Deps, o reconcile.Options) reconcile.Result {
		return reconcile.Diagnose(ctx, t, d, o, q)
	}})
}
