package fleet

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Dead clusters wait beside each other, and healthy ones are not held up. No more targets than slots are at work.
func TestDeadClustersCostOnlyTheirOwnTime(t *testing.T) {
	const (
		limit   = 10 * time.Second // of a request
		targets = 300              // one in ten is dead, and one in ten is slow
	)
	synctest.Test(t, func(t *testing.T) {
		free := newPlaces(4)
		var working, most atomic.Int32
		work := func() {
			most.Store(max(most.Load(), working.Add(1)))
			time.Sleep(10 * time.Millisecond)
			working.Add(-1)
		}
		began := time.Now()
		var all sync.WaitGroup
		for i := range targets {
			own := free.take()
			all.Go(func() {
				defer own.leave()
				answer := 50 * time.Millisecond
				switch i % 10 {
				case 3:
					answer = limit
				case 7:
					answer = 3 * time.Second
				}
				work()
				for range 2 {
					answered := own.request()
					other := own.request() // two requests at once cede one place
					time.Sleep(answer)
					answered()
					other()
					work()
				}
			})
		}
		all.Wait()
		if n := most.Load(); n != 4 {
			t.Errorf("%d targets were at work at once", n)
		}
		if len(free.work)+len(free.waiting) != 0 {
			t.Errorf("%d places are still taken, and %d wait", len(free.work), len(free.waiting))
		}
		// In turn, the dead alone would take 30 targets × 20 s / 4 places = 150 s.
		if took := time.Since(began); took > 60*time.Second {
			t.Errorf("all of it took %s", took)
		}
	})
}

// No more targets cede their places than may. The next one cedes its place as soon as another has its answer.
func TestFewWaitAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := newPlaces(1)
		var all sync.WaitGroup
		var began []time.Duration
		start := time.Now()
		for i := range waitingFactor + 2 {
			own := free.take()
			began = append(began, time.Since(start))
			all.Go(func() {
				defer own.leave()
				answered := own.request()
				time.Sleep(20*time.Second + time.Duration(i)*time.Minute)
				answered()
			})
		}
		all.Wait()
		for i, at := range began {
			want := time.Duration(i) * patience
			if i == waitingFactor+1 {
				want = 20 * time.Second // when the first has its answer
			}
			if at < want || at > want+2*patience {
				t.Errorf("target %d began after %s, want %s", i, at, want)
			}
		}
	})
}

// A request that outlives its target neither takes nor frees a place.
func TestARequestThatOutlivesItsTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := newPlaces(1)
		first := free.take()
		early, late := first.request(), first.request()
		time.Sleep(2 * patience)
		first.leave()
		early()
		if len(free.work)+len(free.waiting) != 0 {
			t.Error("a place was taken")
		}
		second := free.take()
		forgotten := second.request()
		second.leave()
		third := free.take()
		time.Sleep(2 * patience)
		late()
		forgotten()
		if len(free.work) != 1 || len(free.waiting) != 0 {
			t.Error("a place was freed")
		}
		third.leave()
	})
}
