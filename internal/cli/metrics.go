package cli

import (
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/config"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/report"
)

// metricsFlag gives a command --metrics-file.
func metricsFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "metrics-file", "",
		"write Prometheus metrics to `PATH`, for node_exporter's textfile collector (*.prom)")
}

// writeMetrics replaces the file with the metrics of a run, and remembers when a run last succeeded. If it cannot write the
// file, it warns: the realm matters more, and the time of the last run shows that the file is stale. c is nil if the configuration
// cannot be loaded.
func (a *app) writeMetrics(cmd *cobra.Command, path string, run fleet.Run, c *config.Config) {
	if path == "" {
		return
	}
	memory := a.memory(run.Command, c)
	now, last := time.Now(), memory.Load()
	if report.Settled(run.Outcome) {
		last.Success = now
		if err := memory.Save(last); err != nil {
			a.logger().Warn("the time of this success cannot be stored", "error", err)
		}
	}
	label := ""
	if shard, ok := config.ChosenShard(cmd.Flag("shard").Value.String()); ok {
		label = strconv.Itoa(shard.Index)
	}
	if err := report.WriteMetrics(filepath.Clean(path), run, now, last.Success, label); err != nil {
		a.warning("--metrics-file: " + err.Error())
	}
}
