package pbs

import (
	"context"
	"errors"
	"sync"

	"proxmox-realm/internal/lab/standin"
)

// daemon is the privileged daemon. The proxy forwards writes, tickets, logins and the list of users to it. It has a thread
// for each core, and a login step blocks its thread while it waits for the issuer, without a timeout.
type daemon struct {
	mu      sync.Mutex
	ctx     context.Context // ends when the daemon stops; nil while it is stopped
	cancel  context.CancelFunc
	threads chan struct{}
}

func (d *daemon) start(ctx context.Context, threads int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ctx, d.cancel = context.WithCancel(ctx)
	d.threads = make(chan struct{}, threads)
}

func (d *daemon) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cancel != nil {
		d.cancel()
	}
	d.ctx = nil
}

var (
	errConnect = errors.New("client error (Connect)")
	errHungUp  = errors.New("client error (SendRequest)")
)

// run waits for a thread and runs f on it. ctx ends when the daemon stops.
func (d *daemon) run(f func(ctx context.Context) *standin.Answer) (*standin.Answer, error) {
	d.mu.Lock()
	ctx, threads := d.ctx, d.threads
	d.mu.Unlock()
	if ctx == nil {
		return nil, errConnect
	}
	select {
	case threads <- struct{}{}:
	case <-ctx.Done():
		return nil, errHungUp
	}
	defer func() { <-threads }()
	res := f(ctx)
	if ctx.Err() != nil {
		return nil, errHungUp
	}
	return res, nil
}
