package fleet

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"proxmox-realm/internal/config"
	"proxmox-realm/internal/reconcile"
)

// state is the file state.json in the state_dir: what runs remember of their targets. All configurations with that
// state_dir share it. Without the file, or with a damaged one, a run does the same work and asks a little more.
type state struct {
	path string // "" if nothing is remembered

	mu      sync.Mutex
	read    bool
	kept    kept
	hung    map[config.Origin]time.Time // of all targets: see [reconcile.Memory]
	changed map[string]bool             // keys of kept.Targets
}

// kept is the content of the file.
type kept struct {
	Targets map[string]remembered `json:"targets"` // by [targetKey]
}

type remembered struct {
	reconcile.Memory
	At time.Time `json:"at"` // when it last changed
}

const (
	maxState  = 64 << 20            // bytes that are read at most: 10,000 targets need some 3 MiB
	forgotten = 90 * 24 * time.Hour // the age at which an entry is dropped
)

func openState(c *config.Config) *state {
	s := &state{changed: map[string]bool{}}
	if c.StateDir != "" {
		s.path = filepath.Join(c.StateDir, "state.json")
	}
	return s
}

// targetKey names a target by its cluster and realm, because its name may later mean another cluster.
func targetKey(t config.Target) string {
	words := []string{t.Realm.Name}
	for _, e := range t.Proxmox.Endpoints {
		words = append(words, string(e))
	}
	return strings.Join(words, " ")
}

// lock locks the state, and reads the file at first use.
func (s *state) lock() {
	s.mu.Lock()
	if s.read {
		return
	}
	s.kept, s.read = readState(s.path), true
	s.hung = map[config.Origin]time.Time{}
	for _, r := range s.kept.Targets {
		for node, until := range r.HungUntil {
			if node := config.Origin(node); until.After(s.hung[node]) {
				s.hung[node] = until
			}
		}
	}
}

// refresh makes the next use read the file again: other runs may have changed it.
func (s *state) refresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.path != "" && len(s.changed) == 0 {
		s.read = false
	}
}

// readState reads the file. It returns an empty state for a file that cannot be used.
func readState(path string) kept {
	var k kept
	if content, err := config.ReadPrivate(path, maxState); err != nil || json.Unmarshal(content, &k) != nil {
		k = kept{}
	}
	if k.Targets == nil {
		k.Targets = map[string]remembered{}
	}
	return k
}

// memory returns what earlier runs found out about a target. A node on which an issuer hung is known to all its targets.
func (s *state) memory(t config.Target) reconcile.Memory {
	s.lock()
	defer s.mu.Unlock()
	m := s.kept.Targets[targetKey(t)].Memory
	m.HungUntil = maps.Clone(m.HungUntil)
	for _, node := range t.Proxmox.Endpoints {
		if until, ok := s.hung[node]; ok {
			if m.HungUntil == nil {
				m.HungUntil = map[string]time.Time{}
			}
			m.HungUntil[string(node)] = until
		}
	}
	return m
}

// remember keeps what a run found out about a target.
func (s *state) remember(t config.Target, m reconcile.Memory) {
	s.lock()
	defer s.mu.Unlock()
	key := targetKey(t)
	if len(m.HungUntil) == 0 {
		m.HungUntil = nil
	}
	if !reflect.DeepEqual(s.kept.Targets[key].Memory, m) {
		s.kept.Targets[key], s.changed[key] = remembered{Memory: m, At: time.Now()}, true
	}
}

// save merges what this run changed into the file, which other runs may have changed meanwhile.
func (s *state) save() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.changed) == 0 || s.path == "" {
		return nil
	}
	if err := config.MakePrivate(filepath.Dir(s.path)); err != nil {
		return err
	}
	file := flock.New(s.path+".lock", flock.SetPermissions(0o600))
	if err := file.Lock(); err != nil {
		return err
	}
	defer func() { _ = file.Unlock() }()
	merged := readState(s.path)
	for key := range s.changed {
		merged.Targets[key] = s.kept.Targets[key]
	}
	maps.DeleteFunc(merged.Targets, func(_ string, r remembered) bool { return time.Since(r.At) > forgotten })
	content, err := json.Marshal(merged)
	if err == nil {
		err = config.ReplaceFile(s.path, content, 0o600)
	}
	if err == nil {
		s.kept, s.changed = merged, map[string]bool{}
	}
	return err
}
