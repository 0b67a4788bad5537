package history

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/disk"
)

const (
	maxFile    = 1 << 20                // bytes of a file that are read at most; it holds the texts of a few checks
	keptUnread = 90 * 24 * time.Hour    // the age at which a file that no run has used is removed
	touchAfter = 24 * time.Hour         // the age at which a file that a run uses is touched
	lockEvery  = 200 * time.Millisecond // how often a waiting run tries to take a lock
	mergeEvery = 5 * time.Millisecond   // the same for the short lock of a read and a write
	mergeWait  = 10 * time.Second
	maxLimited = 24 * time.Hour // a 429 that is said to hold for longer was noted before the clock was set back
)

// Store is the history of a state_dir. Without a usable folder it keeps the history in the memory of the process.
// It is safe for concurrent use.
type Store struct {
	stateDir string
	secret   func() []byte // the key of digests, made at first use

	mu      sync.Mutex
	kept    map[string][]byte // by file name, what could not be written
	problem error             // the first error; nil: everything was kept
	told    bool              // the problem was returned by Problem
}

// Open returns the history in a state_dir. Nothing is read or made before it is used. "" is no folder.
func Open(stateDir string) *Store {
	s := &Store{stateDir: stateDir, kept: map[string][]byte{}}
	s.secret = sync.OnceValue(s.readSecret)
	return s
}

// Dir returns the state_dir; "" for none.
func (s *Store) Dir() string { return s.stateDir }

// Usable makes the state_dir, and returns why nothing can be kept in it.
func (s *Store) Usable() error {
	if s.stateDir == "" {
		return errors.New("there is no state directory")
	}
	if err := disk.MakeDir(s.stateDir); err != nil {
		return err
	}
	return disk.MakeDir(s.folder())
}

// Problem returns, once in a process, why something could not be kept; nil if there is nothing new to say.
func (s *Store) Problem() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.problem == nil || s.told {
		return nil
	}
	s.told = true
	return check.Errorf(check.Config, "what this run found out cannot be kept, so later runs ask again and repeat what they reported: %v", s.problem).
		At("state_dir").Try("set {state_dir} to a folder that this user can write").Because(s.problem)
}

func (s *Store) folder() string { return filepath.Join(s.stateDir, "history") }

// Digest identifies values, such as a client key, without telling them: it is keyed with a random secret of the state_dir.
func (s *Store) Digest(values ...string) string {
	text, _ := json.Marshal(values) // strings always marshal
	return sum(s.secret(), string(text))
}

func sum(key []byte, text string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// readSecret reads the secret of the folder, or makes it. If several processes make it, the first one wins.
func (s *Store) readSecret() []byte {
	const size = 32
	fresh := make([]byte, size)
	_, _ = rand.Read(fresh) // never fails
	if s.Usable() != nil {
		return fresh
	}
	path := filepath.Join(s.folder(), "key")
	for range 2 {
		if held, err := disk.ReadOwn(path, size); err == nil && len(held) == size {
			return held
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.failed(err)
			return fresh
		}
		if err := disk.Create(path, fresh); err != nil && !errors.Is(err, fs.ErrExist) {
			s.failed(err)
			return fresh
		}
	}
	_ = os.Remove(path) // damaged: nothing that was kept can be recognised
	s.failed(disk.Create(path, fresh))
	return fresh
}

// Target returns what runs of a target remember; the zero value if there is nothing, with Lost if it cannot be read.
func (s *Store) Target(id TargetID) Target { return s.target(id.file()) }

func (s *Store) target(name string) Target {
	t, read := load[Target](s, name)
	now := time.Now()
	t.Lost = t.Lost || !read
	t.Findings = past(t.Findings, now)
	for name, node := range t.Nodes {
		node.Discovery.Asked = notAfter(node.Discovery.Asked, now)
		t.Nodes[name] = node
	}
	t.Begun, t.Success = notAfter(t.Begun, now), notAfter(t.Success, now)
	return t
}

// KeepTarget keeps what a run found out about a target, merged with what other runs found out meanwhile. before is what the run read.
// [Store.Problem] tells if it could not.
func (s *Store) KeepTarget(id TargetID, before, mine Target) {
	s.update(id.file(), func(name string) any { return merged(s.target(name), before, mine) })
}

// ChangeTarget changes what is kept of a target, under the lock.
func (s *Store) ChangeTarget(id TargetID, change func(*Target)) {
	s.update(id.file(), func(name string) any {
		t := s.target(name)
		change(&t)
		return t
	})
}

// Client returns what is known of a client; the zero value if there is nothing that can be used.
func (s *Store) Client(id ClientID) Client { return s.client(id.file(s)) }

func (s *Store) client(name string) Client {
	c, _ := load[Client](s, name)
	now := time.Now()
	c.Credentials.Asked = notAfter(c.Credentials.Asked, now)
	if c.Limited.After(now.Add(maxLimited)) {
		c.Limited = time.Time{}
	}
	for name, r := range c.Requests {
		r.Begun, r.Full, r.Free, r.Redirect.Asked = notAfter(r.Begun, now), notAfter(r.Full, now), notAfter(r.Free, now), notAfter(r.Redirect.Asked, now)
		c.Requests[name] = r
	}
	return c
}

// KeepClient keeps what a run found out about a client, merged with what other runs found out meanwhile.
func (s *Store) KeepClient(id ClientID, mine Client) {
	s.update(id.file(s), func(name string) any { return mergedClient(s.client(name), mine, time.Now()) })
}

// Hung returns when an issuer last kept a node waiting, which blocks one of its workers; zero if it did not, or if the node answered
// since. It is known to all targets of the node.
func (s *Store) Hung(endpoint string) time.Time {
	at, _ := load[time.Time](s, nodeFile(endpoint))
	return notAfter(at, time.Now())
}

// KeepHung keeps when an issuer kept a node waiting; zero: the node answers.
func (s *Store) KeepHung(endpoint string, at time.Time) {
	if !s.Hung(endpoint).Equal(at) {
		s.update(nodeFile(endpoint), func(string) any { return at.UTC() })
	}
}

func nodeFile(endpoint string) string { return "node-" + fileDigest(endpoint) + ".json" }

// past moves answers from the future, which a clock that was set back leaves, into the distant past: they are asked again.
func past(findings map[check.ID]Finding, now time.Time) map[check.ID]Finding {
	for id, f := range findings {
		f.Asked = notAfter(f.Asked, now)
		findings[id] = f
	}
	return findings
}

func notAfter(t, now time.Time) time.Time {
	if t.After(now) {
		return time.Unix(0, 0).UTC()
	}
	return t
}

// load returns what a file holds. If it cannot be used, that is the zero value; read is false if there
// is a file.
func load[T any](s *Store, name string) (value T, read bool) {
	s.mu.Lock()
	content, ok := s.kept[name]
	s.mu.Unlock()
	path := filepath.Join(s.folder(), name)
	if !ok && s.stateDir != "" {
		content, _ = disk.ReadOwn(path, maxFile)
	}
	info, err := os.Lstat(path)
	if json.Unmarshal(content, &value) != nil {
		return *new(T), s.stateDir == "" || err != nil
	}
	if err == nil && time.Since(info.ModTime()) > touchAfter {
		_ = os.Chtimes(path, time.Time{}, time.Now())
	}
	return value, true
}

// update replaces a file by the value that change returns, while no other process does the same.
func (s *Store) update(name string, change func(name string) any) {
	err := s.Usable()
	if err == nil {
		var unlock func()
		if unlock, err = s.lock(context.Background(), filepath.Join(s.folder(), "lock"), mergeWait, mergeEvery); err == nil {
			defer unlock()
		}
	}
	content, encodeErr := json.Marshal(change(name))
	if encodeErr != nil {
		s.failed(encodeErr)
		return
	}
	if err == nil {
		err = disk.Replace(filepath.Join(s.folder(), name), content, 0o600)
	}
	s.failed(err)
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(s.kept, name); err != nil {
		s.kept[name] = content
	}
}

func (s *Store) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.problem == nil {
		s.problem = err
	}
}

// ErrLocked means that another run holds a lock.
var ErrLocked = errors.New("another run holds the lock")

// Lock takes the locks of those names in the state_dir, in sorted order, and returns the function that unlocks them. It waits
// for them no longer than wait; 0 means not at all. It returns [ErrLocked] if another run holds one. Without a usable
// state_dir there are no locks, and [Store.Problem] tells.
func (s *Store) Lock(ctx context.Context, names []string, wait time.Duration) (unlock func(), err error) {
	if err := s.Usable(); err != nil {
		s.failed(err)
		return func() {}, nil
	}
	dir := filepath.Join(s.stateDir, "locks")
	if err := disk.MakeDir(dir); err != nil {
		s.failed(err)
		return func() {}, nil
	}
	var held []func()
	unlock = func() {
		for _, free := range held {
			free()
		}
	}
	deadline := time.Now().Add(wait)
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		free, err := s.lock(ctx, filepath.Join(dir, fileDigest(name)), max(time.Until(deadline), 0), lockEvery)
		if err != nil {
			unlock()
			return nil, err
		}
		held = append(held, free)
	}
	return unlock, nil
}

func (s *Store) lock(ctx context.Context, path string, wait, every time.Duration) (unlock func(), err error) {
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	file := flock.New(path, flock.SetPermissions(0o600))
	locked, err := file.TryLock()
	if err == nil && !locked && wait > 0 {
		waiting, cancel := context.WithTimeout(ctx, wait)
		locked, err = file.TryLockContext(waiting, every)
		cancel()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			err = nil
		}
	}
	switch {
	case err != nil:
		return nil, err
	case !locked:
		return nil, ErrLocked
	}
	return func() { _ = file.Unlock() }, nil
}

// Prune removes files that no run has used for 90 days, and what a run that was killed had not written whole. Those that cannot be
// removed are tried again next time.
func (s *Store) Prune(now time.Time) {
	entries, _ := os.ReadDir(s.folder())
	for _, e := range entries {
		written := strings.HasSuffix(e.Name(), ".json") || strings.HasPrefix(e.Name(), ".")
		if info, err := e.Info(); err == nil && written && now.Sub(info.ModTime()) > keptUnread {
			_ = os.Remove(filepath.Join(s.folder(), e.Name()))
		}
	}
}
