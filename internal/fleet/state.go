package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"time"

	"proxmox-realm/internal/config"
	"proxmox-realm/internal/reconcile"
)

// state is the folder "memory" in the state_dir: what runs remember, in a small file for each target and for each node on
// which an issuer hung. All configurations with that state_dir share it, and a run reads the files of its own targets. Without
// a file, or with a damaged one, a run does the same work and asks a little more.
type state struct {
	stateDir string

	mu      sync.Mutex
	unsaved map[string]string // by file name, what could not be written; the agent's next cycle reads it here
}

const (
	maxMemory = 1 << 20             // bytes of a file that are read at most; it holds the texts of a few checks
	forgotten = 90 * 24 * time.Hour // the age at which a file is removed
)

func newState(c *config.Config) *state {
	return &state{stateDir: c.StateDir, unsaved: map[string]string{}}
}

func (s *state) folder() string { return filepath.Join(s.stateDir, "memory") }

// ofTarget names the file of a target by its cluster and realm, because its name may later mean another cluster.
func ofTarget(t config.Target) string {
	words := []string{t.Realm.Name}
	for _, e := range t.Proxmox.Endpoints {
		words = append(words, string(e))
	}
	return fileName("target", strings.Join(words, " "))
}

func ofNode(node config.Origin) string { return fileName("node", string(node)) }

func fileName(kind, id string) string {
	sum := sha256.Sum256([]byte(id))
	return kind + "-" + hex.EncodeToString(sum[:16]) + ".json"
}

// memory returns what earlier runs found out about a target. A node on which an issuer hung is known to all its targets.
func (s *state) memory(t config.Target) reconcile.Memory {
	m := recall[reconcile.Memory](s, ofTarget(t))
	for _, node := range t.Proxmox.Endpoints {
		if until := recall[time.Time](s, ofNode(node)); !until.IsZero() {
			if m.HungUntil == nil {
				m.HungUntil = map[string]time.Time{}
			}
			m.HungUntil[string(node)] = until
		}
	}
	return m
}

// recall returns what a file holds, or the zero value if it cannot be used.
func recall[T any](s *state, name string) (value T) {
	s.mu.Lock()
	content, ok := s.unsaved[name]
	s.mu.Unlock()
	if !ok {
		file, _ := config.ReadPrivate(filepath.Join(s.folder(), name), maxMemory)
		content = string(file)
	}
	if json.Unmarshal([]byte(content), &value) != nil {
		return *new(T)
	}
	return value
}

// remember writes what a run found out about a target. before is what [state.memory] returned. Its error says why it could
// not be written.
func (s *state) remember(t config.Target, before, now reconcile.Memory) (err error) {
	for _, node := range t.Proxmox.Endpoints {
		if until := now.HungUntil[string(node)]; !until.Equal(before.HungUntil[string(node)]) {
			err = errors.Join(err, s.write(ofNode(node), until)) // zero: it answers again
		}
	}
	before.HungUntil, now.HungUntil = nil, nil
	if !reflect.DeepEqual(before, now) {
		err = errors.Join(err, s.write(ofTarget(t), now))
	}
	return err
}

func (s *state) write(name string, value any) error {
	content, err := json.Marshal(value)
	if err != nil {
		return err
	}
	for _, dir := range []string{s.stateDir, s.folder()} {
		if err == nil {
			err = config.MakePrivate(dir)
		}
	}
	if err == nil {
		err = config.ReplaceFile(filepath.Join(s.folder(), name), content, 0o600)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(s.unsaved, name); err != nil {
		s.unsaved[name] = string(content)
	}
	return err
}

// prune removes files that no run has written for 90 days. Those that cannot be removed are tried again next time.
func (s *state) prune(now time.Time) {
	entries, _ := os.ReadDir(s.folder())
	for _, e := range entries {
		if info, err := e.Info(); err == nil && now.Sub(info.ModTime()) > forgotten {
			_ = os.Remove(filepath.Join(s.folder(), e.Name()))
		}
	}
}
