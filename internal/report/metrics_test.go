package report_test

import (
	"bytes"
	"math"
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

// value returns the one sample of a family with these labels (name, value, …).
func value(t testing.TB, families map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	t.Helper()
	for _, m := range families["proxmox_realm_"+name].GetMetric() {
		have := map[string]string{}
		for _, l := range m.GetLabel() {
			have[l.GetName()] = l.GetValue()
		}
		same := len(have) == len(labels)/2
		for i := 0; i < len(labels); i += 2 {
			same = same && have[labels[i]] == labels[i+1]
		}
		if same {
			return m.GetGauge().GetValue()
		}
	}
	return math.NaN()
}

// withExpiry is the run with the end of the lifetime of an issuer's certificate.
func withExpiry(run fleet.Run) fleet.Run {
	run.Targets[0].IssuerCertificate = time.Date(2026, 12, 2, 10, 0, 0, 0, time.UTC)
	return run
}

func TestMetrics(t *testing.T) {
	for _, name := range []string{"fleet-mixed", "config-error"} {
		t.Run(name, func(t *testing.T) { golden(t, "metrics/"+name, exposition(find(t, name), success)) })
	}
}

func TestMetricsHoldTheRun(t *testing.T) {
	families, err := parseMetrics(exposition(withExpiry(find(t, "fleet-mixed")), success))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		want   float64
		name   string
		labels []string
	}{
		{1795460400.5, "last_run_timestamp_seconds", nil},
		{1795374000, "last_success_timestamp_seconds", nil},
		{1.234, "last_run_duration_seconds", nil},
		{1, "last_run_outcome", []string{"outcome", "failed"}},
		{0, "last_run_outcome", []string{"outcome", "unchanged"}},
		{1, "target_outcome", []string{"target", "zurich", "realm", "authelia", "outcome", "held"}},
		{0, "target_outcome", []string{"target", "zurich", "realm", "authelia", "outcome", "failed"}},
		{1, "target_error", []string{"target", "rome", "realm", "authelia", "code", "permission-denied"}},
		{0.048, "target_duration_seconds", []string{"target", "paris", "realm", "authelia"}},
		{2, "target_requests", []string{"target", "paris", "realm", "authelia"}},
		{1, "change", []string{"target", "paris", "realm", "authelia", "property", "client-key", "op", "set"}},
		{1, "change", []string{"target", "paris", "realm", "authelia", "property", "comment", "op", "unset"}},
		{1, "check_status", []string{"target", "zurich", "realm", "authelia", "check", "client.redirect", "status", "fail"}},
		{1, "check_status", []string{"target", "berlin", "realm", "authelia", "check", "proxmox.users", "status", "skip"}},
		{1796205600, "issuer_certificate_expiry_timestamp_seconds", []string{"target", "berlin", "realm", "authelia"}},
	} {
		if got := value(t, families, tt.name, tt.labels...); got != tt.want {
			t.Errorf("%s%q = %v, want %v", tt.name, tt.labels, got, tt.want)
		}
	}
	never, err := parseMetrics(exposition(fleet.Run{Command: "apply", Outcome: reconcile.Failed}, time.Time{}))
	if err != nil {
		t.Fatal(err)
	}
	if got := value(t, never, "last_success_timestamp_seconds"); got != 0 {
		t.Errorf("a run that never succeeded must say 0, so that an alert on its age fires; got %v", got)
	}
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
	if got := value(t, families, "target_requests", "target", "a\"b\\c\nd\uFFFD", "realm", "authelia"); got != 2 {
		t.Errorf("the label did not come back: %v", families["proxmox_realm_target_requests"])
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
