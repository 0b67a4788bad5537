package fleet

import (
	"context"
	"sync"
	"time"

	"proxmox-realm/internal/config"
	"proxmox-realm/internal/issuer"
)

// issuerPool shares inspections between the targets of a run: each issuer is inspected once, however many targets use it.
type issuerPool struct {
	fleet *Fleet
	ctx   context.Context // the run's: an inspection outlives the target that asked first
	stop  func()

	mu         sync.Mutex
	inspectors map[string]*issuer.Inspector // by the file of the authorities that they trust
	newest     map[issuerKey]inspection
	left       map[issuerKey]int // targets that have yet to end
}

// issuerKey identifies an inspection. Targets with the same key share it.
type issuerKey struct{ caFile, url string }

func keyOf(t config.Target) issuerKey {
	return issuerKey{t.Verify.IssuerCAFile, t.Realm.Login().IssuerURL}
}

type inspection struct {
	*issuer.Inspection
	began time.Time
}

func newIssuerPool(ctx context.Context, f *Fleet) *issuerPool {
	ctx, stop := context.WithCancel(ctx)
	p := &issuerPool{
		fleet: f, ctx: ctx, stop: stop,
		inspectors: map[string]*issuer.Inspector{}, newest: map[issuerKey]inspection{}, left: map[issuerKey]int{},
	}
	for _, t := range f.config.Targets {
		p.left[keyOf(t)]++
	}
	return p
}

// ended notes that a look at a target has ended. The last target that uses an issuer frees its inspection.
func (p *issuerPool) ended(t config.Target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := keyOf(t)
	if p.left[key]--; p.left[key] == 0 {
		delete(p.newest, key)
	}
}

// inspect returns the newest inspection of an issuer by the authorities that a target trusts, or begins one if that began before
// notBefore.
func (p *issuerPool) inspect(v config.Verify, issuerURL string, notBefore time.Time) *issuer.Inspection {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := issuerKey{v.IssuerCAFile, issuerURL}
	if shared, ok := p.newest[key]; ok && !shared.began.Before(notBefore) {
		return shared.Inspection
	}
	inspector, ok := p.inspectors[v.IssuerCAFile]
	if !ok {
		inspector = issuer.New(issuer.Options{Roots: v.IssuerCA, UserAgent: p.fleet.userAgent, Cleaner: p.fleet.cleaner, Log: p.fleet.log})
		p.inspectors[v.IssuerCAFile] = inspector
	}
	fresh := inspection{inspector.Inspect(p.ctx, issuerURL), time.Now()}
	p.newest[key] = fresh
	return fresh.Inspection
}

func (p *issuerPool) close() {
	p.stop()
	for _, inspector := range p.inspectors {
		inspector.Close()
	}
}
