package standin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// Store holds the state of a stand-in, and its file. A state is never changed: a change edits a copy.
type Store[T any] struct {
	file  string
	clone func(*T) *T
	mu    sync.Mutex // for changes
	state atomic.Pointer[T]
}

// OpenStore reads the state from a file. If it does not exist, or has no name, the store begins with seed.
func OpenStore[T any](file string, clone func(*T) *T, seed *T) (*Store[T], error) {
	s := &Store[T]{file: file, clone: clone}
	s.state.Store(clone(seed))
	if file == "" {
		return s, nil
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the state: %w", err)
	}
	stored := new(T)
	if err := json.Unmarshal(data, stored); err != nil {
		return nil, fmt.Errorf("reading the state in %s: %w", file, err)
	}
	s.state.Store(stored)
	return s, nil
}

// View returns the current state. Callers do not change it.
func (s *Store[T]) View() *T { return s.state.Load() }

// Change edits a copy of the state. If f returns no error, the copy becomes the state, and replaces the file (mode 0600).
func (s *Store[T]) Change(f func(*T) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.clone(s.View())
	if err := f(state); err != nil {
		return err
	}
	s.state.Store(state)
	if s.file == "" {
		return nil
	}
	data, err := json.MarshalIndent(state, "", " ")
	if err != nil {
		return fmt.Errorf("saving the state: %w", err)
	}
	fresh, err := os.CreateTemp(filepath.Dir(s.file), ".state-*") // 0600
	if err != nil {
		return fmt.Errorf("saving the state: %w", err)
	}
	_, err = fresh.Write(data)
	if err = errors.Join(err, fresh.Close()); err == nil {
		err = os.Rename(fresh.Name(), s.file)
	}
	if err != nil {
		_ = os.Remove(fresh.Name())
		return fmt.Errorf("saving the state: %w", err)
	}
	return nil
}

// Clone is a deep copy of a state, by JSON.
func Clone[T any](state *T) *T {
	c := new(T)
	data, err := json.Marshal(state)
	if err == nil {
		err = json.Unmarshal(data, c)
	}
	if err != nil {
		panic(fmt.Sprintf("a state that is no JSON: %v", err)) // states are maps, lists and texts
	}
	return c
}
