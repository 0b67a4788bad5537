package deploy

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/yaml"

	"proxmox-realm/internal/agent"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/report"
)

// metric is one row of the reference: labels are separated by spaces.
type metric struct{ Labels, Help string }

// exported returns the metrics that the program exports, by name.
func exported(t *testing.T) map[string]metric {
	t.Helper()
	description := regexp.MustCompile(`fqName: "(.*?)", help: "(.*?)", (?:unit: ".*?", )?constLabels: \{(.*?)\}, variableLabels: \{(.*?)\}`)
	found := map[string]metric{}
	for _, gatherer := range []prometheus.Gatherer{report.Metrics(fleet.Run{}, time.Time{}, time.Time{}, ""), agent.Metrics()} {
		descriptions := make(chan *prometheus.Desc)
		go func() {
			gatherer.(prometheus.Collector).Describe(descriptions)
			close(descriptions)
		}()
		for d := range descriptions {
			parts := description.FindStringSubmatch(d.String())
			if parts == nil {
				t.Fatalf("%s has another form", d)
			}
			labels := regexp.MustCompile(`=".*?"`).ReplaceAllString(parts[3], "") + " " + strings.ReplaceAll(parts[4], ",", " ")
			found[parts[1]] = metric{Labels: strings.TrimSpace(labels), Help: parts[2]}
		}
	}
	return found
}

// TestMetricsReference compares the table in the README with what the program exports.
func TestMetricsReference(t *testing.T) {
	documented := map[string]metric{}
	row := regexp.MustCompile("(?m)^\\| `(proxmox_realm_\\w+)` \\| (.*?) \\| (.*?) \\|$")
	for _, cells := range row.FindAllStringSubmatch(read(t, "monitoring/README.md"), -1) {
		documented[cells[1]] = metric{Labels: strings.NewReplacer("`", "", ",", "").Replace(cells[2]), Help: cells[3]}
	}
	if diff := cmp.Diff(exported(t), documented); diff != "" {
		t.Errorf("monitoring/README.md differs from what the program exports (-exported +documented):\n%s", diff)
	}
}

// rules reads the alerts as the Prometheus operator does.
func rules(t *testing.T) []monitoringv1.RuleGroup {
	t.Helper()
	var spec monitoringv1.PrometheusRuleSpec
	if err := yaml.UnmarshalStrict([]byte(read(t, "monitoring/alerts.yaml")), &spec); err != nil {
		t.Fatal(err)
	}
	return spec.Groups
}

// TestAlerts checks that the operator's alerts are those of the file for Prometheus, and that each alert has a test.
func TestAlerts(t *testing.T) {
	var operator monitoringv1.PrometheusRule
	if err := yaml.UnmarshalStrict([]byte(read(t, "kubernetes/monitoring/prometheusrule.yaml")), &operator); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rules(t), operator.Spec.Groups); diff != "" {
		t.Errorf("prometheusrule.yaml differs from alerts.yaml (-alerts +prometheusrule):\n%s", diff)
	}
	tests, reference := read(t, "monitoring/alerts_test.yaml"), read(t, "monitoring/README.md")
	for _, group := range rules(t) {
		for _, rule := range group.Rules {
			if !strings.Contains(tests, rule.Alert) {
				t.Errorf("%s has no test", rule.Alert)
			}
			if !strings.Contains(reference, "`"+rule.Alert+"`") {
				t.Errorf("%s is not in the README", rule.Alert)
			}
		}
	}
}

// expressions returns the expressions of the dashboard by their titles.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	var shown struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Annotations, Templating struct {
			List []struct{ Name, Expr, Definition string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "monitoring/dashboard.json")), &shown); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, p := range shown.Panels {
		for _, target := range p.Targets {
			found[p.Title] += target.Expr + "\n"
		}
	}
	for _, a := range shown.Annotations.List {
		found["annotation "+a.Name] = a.Expr + "\n"
	}
	for _, v := range shown.Templating.List {
		found["variable "+v.Name] = v.Definition
	}
	return found
}

// TestKnownMetrics checks that alerts and dashboard use metrics and labels that exist.
func TestKnownMetrics(t *testing.T) {
	used := expressions(t)
	for _, group := range rules(t) {
		for _, rule := range group.Rules {
			used[rule.Alert] = rule.Expr.String()
		}
	}
	known := exported(t)
	selector := regexp.MustCompile(`(proxmox_realm_\w+)(?:\{([^}]*)\})?`)
	for where, expression := range used {
		for _, s := range selector.FindAllStringSubmatch(expression, -1) {
			m, exists := known[s[1]]
			if !exists {
				t.Errorf("%s: there is no metric %s", where, s[1])
			}
			for _, label := range regexp.MustCompile(`(\w+)\s*[=!]~?`).FindAllStringSubmatch(s[2], -1) {
				if !strings.Contains(" "+m.Labels+" ", " "+label[1]+" ") {
					t.Errorf("%s: %s has no label %s", where, s[1], label[1])
				}
			}
		}
	}
}

// TestDashboard lets Grafana's own types read the dashboard. The panels lie beside each other.
func TestDashboard(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	text := []byte(read(t, "monitoring/dashboard.json"))
	// The library returns an empty list as an error where all is well, and no panels then.
	var d dashboard.Dashboard //nolint:staticcheck // this is the form that every Grafana imports, if not the newest
	if err := d.UnmarshalJSONStrict(text); err != nil && err.Error() != "" {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if err := d.Validate(); err != nil {
		t.Error(err)
	}
	taken := map[[2]uint32]string{}
	ids := map[uint32]bool{}
	for _, p := range d.Panels {
		panel, at := p.Panel, p.Panel.GridPos
		if panel.Title == nil || panel.Description == nil || ids[*panel.Id] || at.X+at.W > 24 {
			t.Errorf("panel %d: no title, no description, the id of another, or too wide: %+v", *panel.Id, at)
			continue
		}
		ids[*panel.Id] = true
		for x := at.X; x < at.X+at.W; x++ {
			for y := at.Y; y < at.Y+at.H; y++ {
				if other := taken[[2]uint32{x, y}]; other != "" {
					t.Fatalf("%s lies over %s", *panel.Title, other)
				}
				taken[[2]uint32{x, y}] = *panel.Title
			}
		}
	}
	if len(ids) < 10 {
		t.Errorf("%d panels", len(ids))
	}
}

// monitored is for files that the tests above read as a whole.
func monitored(t *testing.T, path string) {
	if filepath.Ext(path) == ".yaml" {
		var anything map[string]any
		if err := yaml.UnmarshalStrict([]byte(read(t, path)), &anything); err != nil {
			t.Error(err)
		}
	}
}
