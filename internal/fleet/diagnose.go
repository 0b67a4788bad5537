package fleet

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/diagnose"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/reconcile"
)

// Diagnose explains the logins of every target that failed lately. It changes nothing.
func (f *Fleet) Diagnose(ctx context.Context, o Options, q reconcile.DiagnoseOptions) Run {
	return f.run(ctx, "diagnose", o, work{do: func(ctx context.Context, t config.Target, d reconcile.Deps, o reconcile.Options) reconcile.Result {
		return reconcile.Diagnose(ctx, t, d, o, q)
	}})
}

// Logins watches the logins of targets from their first run on, if the credentials may read the logs. It lives longer than a
// [Fleet]: a reload of the configuration changes nothing.
type Logins struct {
	Each func(target, realm string, l diagnose.Login) // takes each login once; calls may overlap

	mu      sync.Mutex
	watches map[string]*reconcile.LoginReader
}

// read reads what is new about a target whose run has just ended. Whatever fails is tried again after the next run.
func (w *Logins) read(ctx context.Context, t config.Target, client *proxmox.Client, cleaner *check.Cleaner, res reconcile.Result, log *slog.Logger) {
	if w == nil || res.Err != nil && check.CodeOf(res.Err).MayPass() {
		return
	}
	login := t.Realm.Login()
	facts := diagnose.Facts{Product: client.Product(), Login: login, Declared: login, Cleaner: cleaner}
	key := fmt.Sprintf("%q %q %q", t.Name, t.Realm.Name, t.Proxmox.Endpoints)
	w.mu.Lock()
	watch := w.watches[key]
	if watch == nil {
		if w.watches == nil {
			w.watches = map[string]*reconcile.LoginReader{}
		}
		watch = reconcile.NewLoginWatch(facts)
		w.watches[key] = watch
	}
	w.mu.Unlock()
	_, err := watch.Read(ctx, client, func(l diagnose.Login) {
		if l.Realm == "" || l.Realm == t.Realm.Name {
			w.Each(t.Name, t.Realm.Name, l.Decide(res.Checks, facts)) // the checks decide why an issuer refused a code
		}
	})
	if err != nil {
		log.Debug("reading the logins", "target", t.Name, "error", err)
	}
}
