package agent

import (
	"math/rand/v2"
	"time"

	"proxmox-realm/internal/check"

	"proxmox-realm/internal/fleet"
)

// How long an agent waits after runs that failed, the first time and at most. What may pass soon is tried again sooner
// than the interval; refused credentials are tried less and less often, since a node's fail2ban may count them.
const (
	firstRetry = 30 * time.Second
	mostRetry  = 5 * time.Minute // or the interval, whichever is longer
	mostDenied = 6 * time.Hour   // or the interval
)

// schedule returns how long to wait after a run.
func (a *agent) schedule(run fleet.Run) time.Duration {
	interval := a.Config.Agent.Interval
	pause := interval
	switch manner(run) {
	case soon:
		pause = doubled(min(firstRetry, interval), a.failures, max(mostRetry, interval))
		a.failures++
	case seldom:
		pause = doubled(interval, a.failures, max(mostDenied, interval))
		a.failures++
	case usual:
		a.failures = 0
	}
	// #nosec G404 -- spreading agents over time is no secret
	return vary(pause, a.Config.Agent.Jitter, rand.Float64())
}

// vary returns the duration, longer or shorter by up to that share of it; random is from 0 to 1.
func vary(d time.Duration, share, random float64) time.Duration {
	return max(d+time.Duration(float64(d)*share*(2*random-1)), min(d, time.Second))
}

// doubled returns the first duration, doubled so many times, and at most the last.
func doubled(first time.Duration, times int, most time.Duration) time.Duration {
	for range times {
		if first >= most/2 {
			return most
		}
		first *= 2
	}
	return min(first, most)
}

// when says how a run's end bears on the next one's time.
type when int

const (
	usual  when = iota // at the interval
	soon               // sooner: what failed may pass
	seldom             // less and less often
)

// manner judges a run by its errors. Decisions, held changes and a limit on requests wait for the interval.
func manner(run fleet.Run) when {
	errs := []error{run.Err}
	denied := 0
	for _, t := range run.Targets {
		errs = append(errs, t.Err)
		if t.Err != nil && check.CodeOf(t.Err) == check.BadCredentials {
			denied++
		}
	}
	switch {
	case denied > 0 && denied == len(run.Targets):
		return seldom
	case denied > 0:
		return usual // those that may pass must not have the others asked sooner
	}
	for _, err := range errs {
		if err == nil {
			continue
		}
		switch check.CodeOf(err) { //nolint:exhaustive // all others wait for somebody
		case check.Unreachable, check.ProxmoxFailed, check.NoQuorum, check.UnknownCertificate,
			check.Locked, check.LockTimeout, check.Conflict, check.ReplacePending, check.NotTaken, check.Internal:
			return soon
		}
	}
	return usual
}
