package agent

import (
	"fmt"
	"sync"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/history"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

// status is what the agent shows on its page, in its metrics and to systemd.
type status struct {
	version string
	started time.Time
	metrics metrics

	mu          sync.Mutex
	last        fleet.Run
	ended       time.Time // of the last run; zero: none has ended
	success     time.Time // when a run last left everything as declared
	next        time.Time
	due         time.Time // the loop hangs if it has done nothing by then
	reloadError string    // "" if the last reload succeeded
	targets     map[string]past
}

// past is what is kept of a target's earlier runs.
type past struct {
	since   time.Time // when what was told last began
	changed time.Time // when this agent last changed the realm; zero: never
	changes []realm.Change
	access  []realm.AccessChange
}

// slack is how late the loop may be before it counts as hanging.
const slack = 5 * time.Minute

func newStatus(version string) *status {
	now := time.Now()
	return &status{version: version, started: now, due: now.Add(slack), metrics: newMetrics(version, now), targets: map[string]past{}}
}

// work notes that the loop is busy.
func (s *status) work() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.due = time.Now().Add(limit + slack)
}

// sleep notes that the loop waits for the next run.
func (s *status) sleep(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = time.Now().Add(d)
	s.due = s.next.Add(slack)
	s.metrics.next.Set(float64(s.next.UnixMilli()) / 1000)
}

// alive reports whether the loop goes on. It compares monotonic times, so that setting the clock has no effect.
func (s *status) alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.due)
}

// ready reports whether the first run has ended.
func (s *status) ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.ended.IsZero()
}

// ran notes a run that has ended. told is what the log says of each target.
func (s *status) ran(run fleet.Run, told map[string]history.Told) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.metrics.runs.WithLabelValues(string(run.Outcome)).Inc()
	s.ended = now
	if report.Settled(run.Outcome) {
		s.success = now
	}
	targets := make(map[string]past, len(run.Targets))
	for _, t := range run.Targets {
		p := s.targets[t.Name]
		if p.since = told[t.Name].Since; p.since.IsZero() {
			p.since = s.started
		}
		if t.Wrote() {
			p.changed, p.changes, p.access = now, t.Changes, t.Access
		}
		targets[t.Name] = p
	}
	s.last = run
	if run.Err == nil { // otherwise the run did not reach its targets
		s.targets = targets
	}
}

func (s *status) reloaded(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.reloadError = ""
		s.metrics.reloads.WithLabelValues("success").Inc()
		s.metrics.reloaded.Set(1)
		return
	}
	s.reloadError = check.MessageOf(err)
	s.metrics.reloads.WithLabelValues("failure").Inc()
	s.metrics.reloaded.Set(0)
}

// settled counts the targets that are as declared.
func settled(run fleet.Run) int {
	tally := run.Tally()
	return tally.Outcomes[reconcile.Changed] + tally.Outcomes[reconcile.Unchanged]
}

// line is the status in one line, for systemctl.
func (s *status) line() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	run := s.last
	var what string
	switch {
	case run.Err != nil:
		what = fmt.Sprintf("%s (%s)", run.Outcome, check.CodeOf(run.Err))
	case len(run.Targets) == 1:
		what = fmt.Sprintf("realm %s on %s: %s", run.Targets[0].Realm, run.Targets[0].Endpoint, run.Outcome)
	default:
		what = fmt.Sprintf("%d targets, %d of them as declared", len(run.Targets), settled(run))
	}
	return fmt.Sprintf("%s; next run at %s", what, s.next.UTC().Format("2006-01-02 15:04:05 UTC"))
}
