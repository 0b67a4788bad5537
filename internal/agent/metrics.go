package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

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
	const namespace, subsystem = "proxmox_realm", "agent"
	m := metrics{
		registry: prometheus.NewRegistry(),
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "runs_total", Help: "Runs of the agent, by outcome.",
		}, []string{"outcome"}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "reloads_total", Help: "Reloads of the configuration, by result.",
		}, []string{"result"}),
		next: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "next_run_timestamp_seconds",
			Help: "When the next run is planned, in Unix time; 0 before the first run has ended.",
		}),
		reloaded: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "config_reload_successful",
			Help: "Whether the last reload of the configuration succeeded; 1 before the first.",
		}),
	}
	start := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Subsystem: subsystem, Name: "start_timestamp_seconds", Help: "When the agent was started, in Unix time.",
	})
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Subsystem: subsystem, Name: "info", Help: "The version of the agent; always 1.",
		ConstLabels: prometheus.Labels{"version": version},
	})
	m.loginFailures = newLoginFailures()
	m.registry.MustRegister(m.runs, m.reloads, m.next, m.reloaded, m.loginFailures, start, info)
	for _, o := range reconcile.Outcomes() {
		m.runs.WithLabelValues(string(o))
	}
	m.reloads.WithLabelValues("failure")
	m.reloads.WithLabelValues("success")
	m.reloaded.Set(1)
	info.Set(1)
	start.Set(float64(started.UnixMilli()) / 1000)
	return m
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
