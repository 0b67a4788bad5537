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

	mu      sync.Mutex
	clients map[string]*issuerClient // by issuer CA file
	left    map[issuerKey]int        // targets that have yet to end
}

// issuerKey identifies an inspection. Targets with the same key share it.
type issuerKey struct{ caFile, url string }

func keyOf(t config.Target) issuerKey {
	return issuerKey{t.Verify.IssuerCAFile, t.Realm.Set.Login(t.Realm.Name).IssuerURL}
}

// issuerClient inspects issuers under one set of certificate authorities. Its Inspect is that of [reconcile.Deps].
type issuerClient struct {
	*issuer.Inspector
	ctx context.Context

	mu     sync.Mutex
	newest map[string]inspection // by issuer URL
}

type inspection struct {
	*issuer.Inspection
	began time.Time
}

func newIssuerPool(ctx context.Context, f *Fleet) *issuerPool {
	ctx, stop := context.WithCancel(ctx)
	p := &issuerPool{fleet: f, ctx: ctx, stop: stop, clients: map[string]*issuerClient{}, left: map[issuerKey]int{}}
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
	p.left[key]--
	if c := p.clients[key.caFile]; c != nil && p.left[key] == 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.newest, key.url)
	}
}

// trusting returns the client for the certificate authorities that a target trusts.
func (p *issuerPool) trusting(v config.Verify) *issuerClient {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, ok := p.clients[v.IssuerCAFile]
	if !ok {
		client := issuer.New(issuer.Options{Roots: v.IssuerCA, UserAgent: p.fleet.userAgent, Cleaner: p.fleet.cleaner, Log: p.fleet.log})
		c = &issuerClient{Inspector: client, ctx: p.ctx, newest: map[string]inspection{}}
		p.clients[v.IssuerCAFile] = c
	}
	return c
}

func (p *issuerPool) close() {
	p.stop()
	for _, c := range p.clients {
		c.Close()
	}
}

// Inspect returns the newest inspection of the issuer, or begins one if that began before notBefore.
func (c *issuerClient) Inspect(issuerURL string, notBefore time.Time) *issuer.Inspection {
	c.mu.Lock()
	defer c.mu.Unlock()
	if shared, ok := c.newest[issuerURL]; ok && !shared.began.Before(notBefore) {
		return shared.Inspection
	}
	fresh := inspection{Inspection: c.Inspector.Inspect(c.ctx, issuerURL), began: time.Now()}
	c.newest[issuerURL] = fresh
	return fresh.Inspection
}
