package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/config"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

// metricsFlag gives a command --metrics-file.
func metricsFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "metrics-file", "", "write Prometheus metrics to `PATH`, for node_exporter's textfile collector (*.prom)")
}

// writeMetrics replaces the file with the metrics of a run. Everyone may read it, since the collector runs as somebody
// else; nothing in it is secret. What it cannot write is a warning: the realm matters more, and a stale file shows in
// the time of the last run.
func (a *app) writeMetrics(path string, run fleet.Run) {
	if path == "" {
		return
	}
	now := time.Now()
	at := report.Moments{Run: now, Success: lastSuccess(path), Certificate: map[string]time.Time{}}
	if run.Err == nil && (run.Outcome == reconcile.Changed || run.Outcome == reconcile.Unchanged) {
		at.Success = now
	}
	for _, t := range run.Targets {
		if !t.IssuerCertificate.IsZero() {
			at.Certificate[t.Name] = t.IssuerCertificate
		}
	}
	path = filepath.Clean(path)
	if err := config.ReplaceFile(path, report.Metrics(run, at), 0o644); err != nil {
		a.warning("--metrics-file: " + err.Error())
	}
}

// lastSuccess reads from the file of the last run when one last succeeded: so that is known also where this run has no
// configuration that says where its state is.
func lastSuccess(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > 64<<20 {
		return time.Time{}
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return time.Time{}
	}
	for line := range bytes.Lines(content) {
		value, found := bytes.CutPrefix(bytes.TrimSpace(line), []byte("proxmox_realm_last_success_timestamp_seconds "))
		if !found {
			continue
		}
		seconds, err := strconv.ParseFloat(string(value), 64)
		if err != nil || !(seconds > 0 && seconds < 1e11) {
			return time.Time{}
		}
		return time.UnixMilli(int64(seconds * 1000))
	}
	return time.Time{}
}
