package agent

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"proxmox-realm/internal/diagnose"
	"proxmox-realm/internal/fleet"
)

// newLoginFailures returns the counter of logins that failed. Its labels hold neither users nor addresses.
func newLoginFailures() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "proxmox_realm", Name: "login_failures_total",
		Help: "Logins through the realm that failed since the agent was started, by cause. Without the privilege to read the nodes' logs there is none.",
	}, []string{"target", "realm", "cause"})
}

// countLogins returns what reads logins after each run, and counts those that failed.
func (m metrics) countLogins() *fleet.Logins {
	return &fleet.Logins{Each: func(target, realm string, l diagnose.Login) {
		if l.Outcome == diagnose.Failed {
			valid := func(text string) string { return strings.ToValidUTF8(text, "\uFFFD") } // the library refuses anything else
			m.loginFailures.WithLabelValues(valid(target), valid(realm), string(l.Cause)).Inc()
		}
	}}
}
