package report

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/reconcile"
)

// Metrics returns the metrics of a run. ended is when it ended; success is when a run last left every target changed or
// unchanged, zero if that is not known.
//
// An outcome has a series for each possible value, with 1 for the one that holds. A check, a change and an error have a
// series only if there is one.
//
// If shard is not empty, it is a label of the series without a target. Several shards then have no series in common, as a
// collector that reads all their files requires.
func Metrics(run fleet.Run, ended, success time.Time, shard string) prometheus.Gatherer {
	registry := prometheus.NewRegistry()
	m := metrics{registry}
	if shard != "" {
		m = metrics{prometheus.WrapRegistererWith(prometheus.Labels{"shard": shard}, registry)}
	}
	m.gauge("last_run_timestamp_seconds", "When the last run ended, in Unix time.").set(unix(ended))
	m.gauge("last_success_timestamp_seconds", "When a run last ended with every target changed or unchanged, in Unix time; 0 if unknown.").
		set(unix(success))
	m.gauge("last_run_duration_seconds", "How long the last run took.").set(run.Duration.Seconds())
	m.gauge("last_run_outcome", "The outcome of the last run: that of its worst target.", "outcome").outcome(run.Outcome)
	failure := m.gauge("last_run_error", "The error that stopped the last run before it reached its targets, by code.", "code")
	if run.Err != nil {
		failure.set(1, string(check.CodeOf(run.Err)))
	}
	m = metrics{registry}
	outcome := m.gauge("target_outcome", "The outcome of the last run for a target.", "target", "realm", "outcome")
	targetError := m.gauge("target_error", "The error of a target in the last run, by code.", "target", "realm", "code")
	duration := m.gauge("target_duration_seconds", "How long the last run took for a target.", "target", "realm")
	requests := m.gauge("target_requests", "Requests that the last run sent to the Proxmox of a target.", "target", "realm")
	change := m.gauge("change", "A property that the last run changed, or would have changed.", "target", "realm", "property", "op")
	access := m.gauge("access_change", "A group or grant that the last run changed, or would have changed.",
		"target", "realm", "kind", "op", "group", "path", "role")
	status := m.gauge("check_status", "The status of a check in the last run.", "target", "realm", "check", "status")
	expiry := m.gauge("issuer_certificate_expiry_timestamp_seconds",
		"When the first certificate of the issuer's chain expires, in Unix time.", "target", "realm")
	for _, t := range run.Targets {
		outcome.outcome(t.Outcome, t.Name, t.Realm)
		if t.Err != nil {
			targetError.set(1, t.Name, t.Realm, string(check.CodeOf(t.Err)))
		}
		duration.set(t.Duration.Seconds(), t.Name, t.Realm)
		requests.set(float64(t.Requests), t.Name, t.Realm)
		for _, c := range t.Changes {
			change.set(1, t.Name, t.Realm, string(c.Property), string(c.Op))
		}
		for _, c := range t.Access {
			access.set(1, t.Name, t.Realm, string(c.Kind), string(c.Op), c.Group, c.Grant.Path, c.Grant.Role)
		}
		for _, c := range t.Checks {
			status.set(1, t.Name, t.Realm, string(c.ID), string(c.Status))
		}
		if !t.IssuerCertificate.IsZero() {
			expiry.set(unix(t.IssuerCertificate), t.Name, t.Realm)
		}
	}
	return registry
}

// WriteMetrics replaces a file for node_exporter's textfile collector, which may run as another user: everyone may read it.
func WriteMetrics(path string, run fleet.Run, ended, success time.Time, shard string) error {
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() && info.Mode().Type() != os.ModeSymlink {
		return fmt.Errorf("%s is not a regular file", path) // replacing a device or a pipe breaks it for others
	}
	err := prometheus.WriteToTextfile(path, Metrics(run, ended, success, shard))
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%s: %w", path, e.Err) // without the name of the temporary file
	}
	return err
}

type metrics struct{ registry prometheus.Registerer }

func (m metrics) gauge(name, help string, labels ...string) family {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "proxmox_realm", Name: name, Help: help}, labels)
	m.registry.MustRegister(g)
	return family{g}
}

type family struct{ *prometheus.GaugeVec }

func (f family) set(value float64, labels ...string) {
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "\uFFFD") // the library refuses anything else
	}
	f.WithLabelValues(labels...).Set(value)
}

func (f family) outcome(is reconcile.Outcome, labels ...string) {
	for _, o := range reconcile.Outcomes() {
		value := 0.0
		if o == is {
			value = 1
		}
		f.set(value, append(slices.Clone(labels), string(o))...)
	}
}

// unix returns seconds; 0 for the zero time.
func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
