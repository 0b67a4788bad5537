package fleet

import (
	"sync"
	"time"
)

const (
	// patience is how long a cluster may leave a request without an answer before its target cedes its place. A healthy cluster
	// answers within a fraction of it.
	patience = time.Second
	// besideFactor times the concurrency is how many targets may run without a place. Each needs memory and a connection.
	besideFactor = 4
)

// places bounds the targets that run.
type places struct {
	taken  chan struct{} // by targets at work
	beside chan struct{} // targets that ceded their places
}

func newPlaces(concurrency int) places {
	concurrency = max(concurrency, 1)
	return places{make(chan struct{}, concurrency), make(chan struct{}, besideFactor*concurrency)}
}

// enter waits for a free place.
func (p places) enter() *place {
	p.taken <- struct{}{}
	return &place{places: p}
}

// place is one target's permission to run. The target cedes it for good once its cluster has been silent for [patience], so
// that dead and slow clusters cost their own time and nobody else's. It never waits for a place again: between two requests
// of a replace, that would leave the realm deleted.
type place struct {
	places

	mu          sync.Mutex
	ceded, left bool
}

// leave ends the run of the target.
func (p *place) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left = true; p.ceded {
		<-p.beside
	} else {
		<-p.taken
	}
}

// asking notes that a request begins. The caller calls answered when it has ended.
func (p *place) asking() (answered func()) {
	over := make(chan struct{})
	timer := time.AfterFunc(patience, func() {
		select {
		case p.beside <- struct{}{}:
			p.cede()
		case <-over: // before there was room beside the others
		}
	})
	return func() { timer.Stop(); close(over) }
}

func (p *place) cede() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ceded || p.left {
		<-p.beside
		return
	}
	p.ceded = true
	<-p.taken
}
