package fleet

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
)

// state is what runs of one configuration remember of each other. Nothing in it is needed: a run without it, or
// with a damaged one, does the same work and asks a little more.
type state struct {
	path string
	read sync.Once // at first use: most runs need none of it

	mu      sync.Mutex
	kept    kept
	changed map[string]bool // the targets whose memory this run changed
	spoke   bool            // this run changed what was told
}

// kept is the file's content.
type kept struct {
	Targets map[string]Memory `json:"targets"`
	Told    json.RawMessage   `json:"told,omitempty"` // what a quiet run remembers of what it last said
}

// Memory is what is remembered of one target.
type Memory struct {
	Endpoint string               `json:"endpoint,omitempty"` // the one that answered last
	Rests    map[string]time.Time `json:"rests,omitempty"`    // endpoints that are not asked to discover the issuer until then
	Proxmox  time.Time            `json:"proxmox,omitzero"`   // when Proxmox's own discovery was last asked for
	Client   time.Time            `json:"client,omitzero"`    // when the issuer was last asked about the client
	// Findings are what the costly questions last found about Subject, a fingerprint of what was asked.
	Findings []check.Check `json:"findings,omitempty"`
	Subject  string        `json:"subject,omitempty"`
}

// maxState bounds the file, in bytes: 1,000 targets need some 200 KiB.
const maxState = 16 << 20

// loadState is what earlier runs of the configuration left.
func loadState(dir, configFile string) *state {
	s := &state{changed: map[string]bool{}}
	if dir != "" {
		sum := sha256.Sum256([]byte(configFile))
		s.path = filepath.Join(dir, "state-"+hex.EncodeToString(sum[:4])+".json")
	}
	return s
}

// lock reads the file at first use.
func (s *state) lock() {
	s.mu.Lock()
	s.read.Do(func() { s.kept = readKept(s.path) })
}

// readKept reads the file; what cannot be read or understood is empty.
func readKept(path string) kept {
	nothing := kept{Targets: map[string]Memory{}}
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() || info.Size() > maxState {
		return nothing
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nothing
	}
	var k kept
	if json.Unmarshal(content, &k) != nil || k.Targets == nil {
		return nothing
	}
	return k
}

func (s *state) get(key string) Memory {
	s.lock()
	defer s.mu.Unlock()
	m := s.kept.Targets[key]
	m.Rests = maps.Clone(m.Rests)
	return m
}

// rest returns until when a node is not asked to discover an issuer, whichever target found out: it is the node's workers
// that a silent issuer blocks.
func (s *state) rest(node string) (until time.Time) {
	s.lock()
	defer s.mu.Unlock()
	for _, m := range s.kept.Targets {
		if m.Rests[node].After(until) {
			until = m.Rests[node]
		}
	}
	return until
}

func (s *state) update(key string, change func(*Memory)) {
	s.lock()
	defer s.mu.Unlock()
	before := s.kept.Targets[key]
	after := before
	after.Rests = maps.Clone(before.Rests)
	change(&after)
	if after.Endpoint == before.Endpoint && after.Proxmox.Equal(before.Proxmox) && after.Client.Equal(before.Client) &&
		maps.EqualFunc(after.Rests, before.Rests, time.Time.Equal) &&
		after.Subject == before.Subject && reflect.DeepEqual(after.Findings, before.Findings) {
		return
	}
	s.kept.Targets[key], s.changed[key] = after, true
}

// told returns what was kept by tell.
func (s *state) told() json.RawMessage {
	s.lock()
	defer s.mu.Unlock()
	return s.kept.Told
}

func (s *state) tell(what json.RawMessage) {
	s.lock()
	defer s.mu.Unlock()
	s.spoke = s.spoke || !bytes.Equal(what, s.kept.Told)
	s.kept.Told = what
}

// save writes what this run changed into what the file holds by now, since verify runs beside others: atomically, readable by
// its owner alone.
func (s *state) save() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.changed) == 0 && !s.spoke || s.path == "" {
		return nil
	}
	now := readKept(s.path)
	for key := range s.changed {
		now.Targets[key] = s.kept.Targets[key]
	}
	if s.spoke {
		now.Told = s.kept.Told
	}
	content, err := json.Marshal(now)
	if err != nil {
		return err
	}
	if err := config.MakePrivate(filepath.Dir(s.path)); err != nil {
		return err
	}
	if err := WriteFile(s.path, content, 0o600); err != nil {
		return err
	}
	s.kept, s.changed, s.spoke = now, map[string]bool{}, false
	return nil
}

// WriteFile replaces a file as a whole: whoever reads it sees the former content or the new one, never a part. On the
// way there it is readable by its owner alone.
func WriteFile(path string, content []byte, mode os.FileMode) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	if _, err = file.Write(content); err != nil {
		_ = file.Close()
		return err
	}
	if err = file.Chmod(mode); err != nil {
		_ = file.Close()
		return err
	}
	if err = file.Close(); err == nil {
		err = os.Rename(file.Name(), path)
	}
	return err
}
