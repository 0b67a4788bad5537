package agent

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"proxmox-realm/internal/diagnose"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

// metrics are the agent's own; those of the last run come from [report.Metrics].
type metrics struct {
	registry       *prometheus.Registry
	runs, reloads  *prometheus.CounterVec
	next, reloaded prometheus.Gauge
	loginFailures  *prometheus.CounterVec
}

func newMetrics(version string, started time.Time) metrics {
	const namespace = "proxmox_realm"
	registry := prometheus.NewRegistry()
	made := promauto.With(registry)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return made.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels prometheus.Labels) prometheus.Gauge {
		return made.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help, ConstLabels: labels})
	}
	m := metrics{
		registry: registry,
		runs:     counter("agent_runs_total", "Runs of the agent, by outcome.", "outcome"),
		reloads:  counter("agent_reloads_total", "Reloads of the configuration, by result.", "result"),
		next: gauge("agent_next_run_timestamp_seconds",
			"When the next run is planned, in Unix time; 0 before the first run has ended.", nil),
		reloaded: gauge("agent_config_reload_successful",
			"Whether the last reload of the configuration succeeded; 1 before the first.", nil),
		loginFailures: counter("login_failures_total", // its labels hold neither users nor addresses
			"Logins through the realm that failed since the agent was started, by cause. Without the privilege to read the nodes' logs there is none.",
			"target", "realm", "cause"),
	}
	for _, o := range reconcile.Outcomes() {
		m.runs.WithLabelValues(string(o))
	}
	m.reloads.WithLabelValues("failure")
	m.reloads.WithLabelValues("success")
	m.reloaded.Set(1)
	gauge("agent_info", "The version of the agent; always 1.", prometheus.Labels{"version": version}).Set(1)
	gauge("agent_start_timestamp_seconds", "When the agent was started, in Unix time.", nil).Set(float64(started.UnixMilli()) / 1000)
	return m
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

// Metrics returns the agent's own metrics as they are before its first run. [report.Metrics] returns those of a run.
func Metrics() prometheus.Gatherer { return newMetrics("", time.Time{}).registry }

// gatherers returns the agent's own metrics and those of the last run.
func (s *status) gatherers() prometheus.Gatherers {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := prometheus.Gatherers{s.metrics.registry}
	if !s.ended.IsZero() {
		all = append(all, report.Metrics(s.last, s.ended, s.success, ""))
	}
	return all
}
