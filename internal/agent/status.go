package agent

import (
	"sync"
	"time"

	"proxmox-realm/internal/check"

	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// status is what the agent knows of itself, for those who ask.
type status struct {
	version string
	started time.Time

	mu          sync.Mutex
	last        fleet.Run
	ended       time.Time // of the last run; zero: none has ended
	success     time.Time // when a run last left everything as declared
	next        time.Time
	due         time.Time // a loop that has done nothing by then hangs
	runs        map[reconcile.Outcome]int
	reloads     [2]int // failed, succeeded
	reloadedAt  time.Time
	reloadError string // "" where the last reload succeeded
	targets     map[string]past
}

// past is what the last run alone does not tell of a target.
type past struct {
	outcome     reconcile.Outcome
	since       time.Time // it has this outcome
	changed     time.Time // the realm was last changed; zero: not by this agent
	changes     []realm.Change
	certificate time.Time
}

// slack is how much later than planned a loop may be that does not hang.
const slack = 5 * time.Minute

func newStatus(version string) *status {
	now := time.Now()
	return &status{version: version, started: now, due: now.Add(slack), runs: map[reconcile.Outcome]int{}, targets: map[string]past{}}
}

// work and sleep note what the loop does now, and for how long at most.
func (s *status) work(atMost time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.due = time.Now().Add(atMost + slack)
}

func (s *status) sleep(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = time.Now().Add(d)
	s.due = s.next.Add(slack)
}

// alive tells whether the loop goes on. The monotonic clock decides: one that is set does not kill anybody.
func (s *status) alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.due)
}

func (s *status) ran(run fleet.Run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.last, s.ended = run, now
	s.runs[run.Outcome]++
	if settled(run.Outcome) {
		s.success = now
	}
	if run.Err != nil {
		return // nothing was learned of the targets
	}
	targets := make(map[string]past, len(run.Targets))
	for _, t := range run.Targets {
		p := s.targets[t.Name]
		// A target that is changed and then unchanged has been in order all the time.
		if p.since.IsZero() || p.outcome != t.Outcome && (!settled(p.outcome) || !settled(t.Outcome)) {
			p.since = now
		}
		p.outcome = t.Outcome
		if t.Outcome == reconcile.Changed || t.Outcome == reconcile.Unverified && len(t.Changes) > 0 {
			p.changed, p.changes = now, t.Changes
		}
		if !t.IssuerCertificate.IsZero() {
			p.certificate = t.IssuerCertificate
		}
		targets[t.Name] = p
	}
	s.targets = targets
}

func (s *status) reloaded(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.reloads[1]++
		s.reloadedAt, s.reloadError = time.Now(), ""
		return
	}
	s.reloads[0]++
	s.reloadError = check.Describe(err).Message
}
