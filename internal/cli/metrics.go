package cli

import (
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/config"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/history"
	"proxmox-realm/internal/report"
)

// metricsFlag gives a command --metrics-file.
func metricsFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "metrics-file", "",
		"write Prometheus metrics to `PATH`, for node_exporter's textfile collector (*.prom)")
}

// writeMetrics replaces the file with the metrics of a run, and remembers when runs last succeeded. If it cannot write the
// file, it warns: the realm matters more, and the time of the last run shows that the file is stale.
func (a *app) writeMetrics(cmd *cobra.Command, path string, run fleet.Run) {
	if path == "" {
		return
	}
	now := time.Now()
	success := a.success(run, now)
	label := ""
	if shard, ok := config.ChosenShard(cmd.Flag("shard").Value.String()); ok {
		label = strconv.Itoa(shard.Index)
	}
	if err := report.WriteMetrics(filepath.Clean(path), run, now, success, label); err != nil {
		a.warning("--metrics-file: " + err.Error())
	}
}

// success notes for each target that it is as declared, and returns when all targets last were; zero if that is not known.
func (a *app) success(run fleet.Run, now time.Time) time.Time {
	var oldest time.Time
	for i, t := range run.Targets {
		last := a.runs().Target(t.ID).Success
		if report.Settled(t.Outcome) {
			last = now
			a.runs().ChangeTarget(t.ID, func(target *history.Target) { target.Success = now.UTC() })
		}
		if i == 0 || last.Before(oldest) {
			oldest = last
		}
	}
	return oldest
}
