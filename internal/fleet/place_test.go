package fleet

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Dead clusters wait beside each other, and healthy ones are not held up.
func TestDeadClustersCostOnlyTheirOwnTime(t *testing.T) {
	const concurrency = 4
	synctest.Test(t, func(t *testing.T) {
		free := newPlaces(concurrency)
		var mu sync.Mutex
		running, most := 0, 0
		count := func(n int) {
			mu.Lock()
			defer mu.Unlock()
			running += n
			most = max(most, running)
		}
		began := time.Now()
		var all sync.WaitGroup
		for i := range 300 {
			own := free.enter()
			all.Go(func() {
				defer own.leave()
				count(1)
				defer count(-1)
				answer := 50 * time.Millisecond
				switch i % 10 {
				case 3: // dead
					answer = 10 * time.Second
				case 7: // slow
					answer = 3 * time.Second
				}
				for range 2 {
					answered, other := own.asking(), own.asking() // two requests at once cede one place
					time.Sleep(answer)
					answered()
					other()
				}
			})
		}
		all.Wait()
		if len(free.taken)+len(free.beside) != 0 {
			t.Errorf("%d places are still taken, and %d targets beside them", len(free.taken), len(free.beside))
		}
		if most > (1+besideFactor)*concurrency || most < (1+besideFactor)*concurrency/2 {
			t.Errorf("%d targets ran at once", most)
		}
		// In turn, the dead and the slow would take 30 targets × 26 s / 4 places = 195 s.
		if took := time.Since(began); took > 70*time.Second {
			t.Errorf("all of it took %s", took)
		}
	})
}

// No more targets cede their places than may. The next one cedes its place as soon as another ends.
func TestFewRunBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := newPlaces(1)
		var all sync.WaitGroup
		var began []time.Duration
		start := time.Now()
		for i := range besideFactor + 2 {
			own := free.enter()
			began = append(began, time.Since(start))
			all.Go(func() {
				defer own.leave()
				answered := own.asking()
				time.Sleep(20*time.Second + time.Duration(i)*time.Minute)
				answered()
			})
		}
		all.Wait()
		for i, at := range began {
			want := time.Duration(i) * patience
			if i == besideFactor+1 {
				want = 20 * time.Second // when the first ends
			}
			if at != want {
				t.Errorf("target %d began after %s, want %s", i, at, want)
			}
		}
	})
}

// A target that has its answers in time keeps its place, and an answer never has to wait.
func TestAnswersDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := newPlaces(1)
		quick := free.enter()
		for range 3 {
			answered := quick.asking()
			time.Sleep(patience / 2)
			answered()
		}
		time.Sleep(2 * patience)
		if len(free.taken) != 1 || len(free.beside) != 0 {
			t.Error("a place was ceded")
		}
		quick.leave()
		slow := free.enter()
		answered := slow.asking()
		time.Sleep(2 * patience)
		other := free.enter() // has the place from now on
		began := time.Now()
		answered()
		slow.asking()() // the next request
		if time.Since(began) != 0 {
			t.Error("an answer waited for a place")
		}
		slow.leave()
		other.leave()
		if len(free.taken)+len(free.beside) != 0 {
			t.Error("a place is still taken")
		}
	})
}

// A target that found no room beside the others keeps its place once it has its answer. One that leaves at the moment when
// there is room frees its own place only.
func TestNoRoomBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := newPlaces(2)
		for range cap(free.beside) {
			free.beside <- struct{}{}
		}
		own, other := free.enter(), free.enter()
		answered := own.asking()
		time.Sleep(2 * patience)
		answered()
		synctest.Wait()
		<-free.beside
		synctest.Wait()
		if len(free.taken) != 2 || len(free.beside) != cap(free.beside)-1 {
			t.Error("a target that has its answer ceded its place")
		}
		free.beside <- struct{}{}
		answered = own.asking()
		time.Sleep(2 * patience)
		<-free.beside
		own.leave()
		answered()
		synctest.Wait()
		if len(free.taken) != 1 || len(free.beside) != cap(free.beside)-1 {
			t.Errorf("%d places are taken, and %d targets run beside them", len(free.taken), len(free.beside))
		}
		other.leave()
	})
}
