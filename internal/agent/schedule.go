package agent

import (
	"math/rand/v2"
	"slices"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
)

// How long the agent waits after a failed run, the first time and at most.
const (
	firstRetry = 30 * time.Second
	mostRetry  = 5 * time.Minute // or the interval, if that is longer
	mostDenied = 6 * time.Hour   // or the interval
)

// schedule returns how long to wait after a run. It retries early after an error that may pass. Refused and held changes need a
// person, so the next run follows at the interval. If all targets refuse the credentials, it follows less and less often,
// because fail2ban on a node may count them. If some do, no run is early, because it would try those again.
func (a *agent) schedule(run fleet.Run) time.Duration {
	interval := a.Config.Agent.Interval
	errs := []error{run.Err}
	denied := 0
	for _, t := range run.Targets {
		errs = append(errs, t.Err)
		if check.CodeOf(t.Err) == check.BadCredentials {
			denied++
		}
	}
	pause := interval
	switch {
	case denied > 0 && denied == len(run.Targets):
		pause = doubled(interval, a.failures, max(mostDenied, interval))
		a.failures++
	case denied == 0 && slices.ContainsFunc(errs, mayPass):
		pause = doubled(min(firstRetry, interval), a.failures, max(mostRetry, interval))
		a.failures++
	default:
		a.failures = 0
	}
	// #nosec G404 -- spreading agents over time is no secret
	return vary(pause, a.Config.Agent.Jitter, rand.Float64())
}

// mayPass reports whether an early run can help. Early requests prolong a limit of requests.
func mayPass(err error) bool {
	code := check.CodeOf(err)
	return code.MayPass() && code != check.RateLimited
}

// vary lengthens or shortens the duration by up to that share of it; random is from 0 to 1.
func vary(d time.Duration, share, random float64) time.Duration {
	return max(d+time.Duration(float64(d)*share*(2*random-1)), min(d, time.Second))
}

// doubled returns the first duration, doubled that many times, but not more than most.
func doubled(first time.Duration, times int, most time.Duration) time.Duration {
	for range times {
		if first >= most/2 {
			return most
		}
		first *= 2
	}
	return min(first, most)
}
