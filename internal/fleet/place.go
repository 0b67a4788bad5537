package fleet

import (
	"sync"
	"time"
)

const (
	// patience is how long a cluster may leave a request without an answer before its target cedes its place. A healthy cluster
	// answers within a fraction of it.
	patience = time.Second
	// waitingFactor times the concurrency is how many targets may have ceded their places: each needs memory and a connection.
	waitingFactor = 4
)

// places bounds the targets at work, and those that only wait for their clusters.
type places struct{ work, waiting chan struct{} }

func newPlaces(concurrency int) places {
	concurrency = max(concurrency, 1)
	return places{make(chan struct{}, concurrency), make(chan struct{}, waitingFactor*concurrency)}
}

// take waits for a free place.
func (p places) take() *place {
	p.work <- struct{}{}
	return &place{places: p}
}

// place is that of one target. While its cluster leaves it waiting for longer than [patience], another target has the place,
// so that dead clusters cost their own time limits and nobody else's.
type place struct {
	places

	mu    sync.Mutex
	ceded bool // another target has the place
	left  bool // the target has ended
}

// leave frees the place.
func (p *place) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left = true; p.ceded {
		<-p.waiting
	} else {
		<-p.work
	}
}

// request notes that a request was sent. The caller calls answered when its answer is there or will not come; that waits for
// a free place if another target has this one.
func (p *place) request() (answered func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	over := false
	var timer *time.Timer
	timer = time.AfterFunc(patience, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if over || p.ceded || p.left {
			return
		}
		select {
		case p.waiting <- struct{}{}:
			p.ceded = true
			<-p.work
		default: // too many wait already
			timer.Reset(patience)
		}
	})
	return func() {
		timer.Stop()
		p.mu.Lock()
		defer p.mu.Unlock()
		if over = true; p.ceded && !p.left {
			<-p.waiting // first, so that the target at work can cede its place
			p.work <- struct{}{}
			p.ceded = false
		}
	}
}
