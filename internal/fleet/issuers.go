package fleet

import (
	"context"
	"sync"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// provider hands out inspections made under one set of authorities: one of each issuer, however many
// targets share it.
type provider struct {
	client *issuer.Client
	ctx    context.Context // the run's: an inspection must outlive the target that asked first

	mu     sync.Mutex
	newest map[string]inspection // by issuer URL
}

type inspection struct {
	*issuer.Inspection
	begun time.Time
	asked func() // notes that the issuer was asked about a client
}

func newProvider(ctx context.Context, client *issuer.Client) *provider {
	return &provider{client: client, ctx: ctx, newest: map[string]inspection{}}
}

// inspect returns the newest inspection of the issuer, unless it was begun before notBefore.
func (p *provider) inspect(issuerURL string, notBefore time.Time) inspection {
	p.mu.Lock()
	defer p.mu.Unlock()
	if shared, ok := p.newest[issuerURL]; ok && !shared.begun.Before(notBefore) {
		return shared
	}
	fresh := inspection{Inspection: p.client.Inspect(p.ctx, issuerURL), begun: time.Now()}
	p.newest[issuerURL] = fresh
	return fresh
}

// watch is the provider as one target's reconciler sees it.
type watch struct {
	*provider
	asked func() // called when the issuer is asked about a client

	last inspection
}

// Inspect implements [reconcile.Issuer].
func (w *watch) Inspect(_ context.Context, issuerURL string, notBefore time.Time) reconcile.Inspection {
	w.last = w.inspect(issuerURL, notBefore)
	w.last.asked = w.asked
	return w.last
}

// expiry returns the end of the issuer's certificate, as far as the target's work has seen it.
func (w *watch) expiry() time.Time {
	if w.last.Inspection == nil {
		return time.Time{}
	}
	notAfter, _ := w.last.Certificate()
	return notAfter
}

// Checks implements [reconcile.Inspection].
func (i inspection) Checks(ctx context.Context, login realm.Login, node reconcile.Node) []check.Check {
	if i.Wait(ctx) != nil {
		return nil
	}
	view := issuer.View{Login: login, MaxSkew: node.MaxSkew}
	view.ClockOffset, view.ClockKnown = node.Clock()
	if i.NeedsVersion() {
		view.Version = node.Version()
	}
	return i.Inspection.Checks(view)
}

// Quick implements [reconcile.Inspection].
func (i inspection) Quick(ctx context.Context) bool {
	return i.Wait(ctx) == nil && i.Inspection.Quick()
}

// Limited implements [reconcile.Inspection].
func (i inspection) Limited(ctx context.Context) (time.Duration, bool) {
	if i.Wait(ctx) != nil {
		return 0, false
	}
	return i.RateLimited()
}

// Client implements [reconcile.Inspection].
func (i inspection) Client(ctx context.Context, q reconcile.Question) ([]check.Check, reconcile.Verdict) {
	i.asked()
	answer := i.Inspection.Client(ctx, issuer.Question{
		Login: q.Login, RedirectURLs: q.Redirects, RedirectsDeclared: q.Declared, Cheap: q.Quiet, KeyUnknown: q.KeyUnknown,
	})
	verdict := verdictOf(answer.Credentials)
	if after, limited := answer.RateLimited(); limited {
		verdict = reconcile.Verdict{Answer: reconcile.Limited, RetryAfter: after}
	}
	return answer.Checks, verdict
}

// Accepts implements [reconcile.Inspection].
func (i inspection) Accepts(ctx context.Context, login realm.Login, key check.Secret) reconcile.Verdict {
	return verdictOf(i.Inspection.Accepts(ctx, login, key))
}

func verdictOf(v issuer.Verdict) reconcile.Verdict {
	answers := map[issuer.Decision]reconcile.Answer{
		issuer.NoVerdict: reconcile.NoAnswer, issuer.Accepted: reconcile.Accepted,
		issuer.Rejected: reconcile.Rejected, issuer.RateLimited: reconcile.Limited,
	}
	return reconcile.Verdict{Answer: answers[v.Decision], RetryAfter: v.RetryAfter}
}
