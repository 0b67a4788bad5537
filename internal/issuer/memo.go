package issuer

import (
	"context"
	"sync"
)

// memo asks each question once, however many callers have it at the same time or later. The zero value is ready.
type memo[K comparable, V any] struct {
	mu      sync.Mutex
	answers map[K]*remembered[V]
}

type remembered[V any] struct {
	done  chan struct{}
	valid bool // false: the one who asked was interrupted, so the next one asks
	value V
}

// ask returns the answer to the question. The error is ctx's.
func (m *memo[K, V]) ask(ctx context.Context, question K, ask func() V) (V, error) {
	for {
		m.mu.Lock()
		r, asked := m.answers[question]
		if !asked {
			r = &remembered[V]{done: make(chan struct{})}
			if m.answers == nil {
				m.answers = map[K]*remembered[V]{}
			}
			m.answers[question] = r
			m.mu.Unlock()
			return m.first(ctx, question, r, ask)
		}
		m.mu.Unlock()

		select {
		case <-r.done:
			if r.valid {
				return r.value, nil
			}
		case <-ctx.Done():
			var none V
			return none, ctx.Err()
		}
	}
}

func (m *memo[K, V]) first(ctx context.Context, question K, r *remembered[V], ask func() V) (V, error) {
	defer close(r.done)
	value := ask()
	if err := ctx.Err(); err != nil {
		m.mu.Lock()
		delete(m.answers, question)
		m.mu.Unlock()
		var none V
		return none, err
	}
	r.value, r.valid = value, true
	return value, nil
}

// find returns a question whose answer is there and is as wanted.
func (m *memo[K, V]) find(wanted func(K, V) bool) (question K, found bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for q, r := range m.answers {
		select {
		case <-r.done:
			if r.valid && wanted(q, r.value) {
				return q, true
			}
		default:
		}
	}
	return question, false
}
