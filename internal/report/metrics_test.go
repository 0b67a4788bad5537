package report_test

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

var (
	ended   = time.Date(2026, 11, 23, 19, 0, 0, 500e6, time.UTC)
	success = time.Date(2026, 11, 22, 19, 0, 0, 0, time.UTC)
)

// exposition returns the metrics of a run as a scraper reads them.
func exposition(run fleet.Run, success time.Time) []byte {
	families, err := report.Metrics(run, ended, success, "").Gather()
	if err != nil {
		return []byte(err.Error())
	}
	var out bytes.Buffer
	for _, f := range families {
		_, _ = expfmt.MetricFamilyToText(&out, f) // a buffer takes everything
	}
	return out.Bytes()
}

func parseMetrics(text []byte) (map[string]*dto.MetricFamily, error) {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	return parser.TextToMetricFamilies(bytes.NewReader(text))
}

// withExpiry is the run with the end of the lifetime of an issuer's certificate.
func withExpiry(run fleet.Run) fleet.Run {
	run.Targets[0].IssuerCertificate = time.Date(2026, 12, 2, 10, 0, 0, 0, time.UTC)
	return run
}

// The metrics of a run, and of one that reached no target and never succeeded: an alert on its age fires at 0.
func TestMetrics(t *testing.T) {
	golden(t, "metrics/fleet-mixed", exposition(withExpiry(find(t, "fleet-mixed")), success))
	golden(t, "metrics/config-error", exposition(find(t, "config-error"), time.Time{}))
}

// One node_exporter reads the files of all shards. It drops a series that it has read already.
func TestMetricsOfShardsHaveNoSeriesInCommon(t *testing.T) {
	other := single("apply", reconcile.Unchanged, planNone, nil, nil)
	other.Targets[0].Name = "another"
	shards := prometheus.Gatherers{
		report.Metrics(find(t, "fleet-mixed"), ended, success, "0"),
		report.Metrics(other, ended, success, "1"),
		report.Metrics(fleet.Run{Command: "apply", Outcome: reconcile.Failed, Err: check.Errorf(check.Config, "broken")}, ended, time.Time{}, "2"),
	}
	families, err := shards.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "proxmox_realm_last_run_timestamp_seconds" && len(f.GetMetric()) != 3 {
			t.Errorf("%v, want a series for each shard", f.GetMetric())
		}
	}
}

func TestMetricLabelsAreEscaped(t *testing.T) {
	run := single("apply", reconcile.Unchanged, planNone, nil, nil)
	run.Targets[0].Name = "a\"b\\c\nd\xff"
	families, err := parseMetrics(exposition(run, success))
	if err != nil {
		t.Fatal(err)
	}
	labels := families["proxmox_realm_target_requests"].GetMetric()[0].GetLabel()
	if got := labels[1].GetValue(); got != "a\"b\\c\nd\uFFFD" {
		t.Errorf("the label did not come back: %v", labels)
	}
}

// The file is for a collector that runs as another user, and is never seen half written.
func TestMetricsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "realm.prom")
	if err := report.WriteMetrics(path, find(t, "fleet-mixed"), ended, success, ""); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(content, exposition(find(t, "fleet-mixed"), success)) {
		t.Errorf("%s, %v", content, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	socket := filepath.Join(t.TempDir(), "socket")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := report.WriteMetrics(socket, find(t, "fleet-mixed"), ended, success, ""); err == nil {
		t.Error("what is no regular file was replaced")
	}
}
