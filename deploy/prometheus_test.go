//go:build prometheus

package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func promtool(t *testing.T, args ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "promtool", args...)
	command.Dir = "monitoring"
	if out, err := command.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestAlertsFire lets promtool check the alerts and run their tests.
func TestAlertsFire(t *testing.T) {
	promtool(t, "check", "rules", "--lint-fatal", "alerts.yaml")
	promtool(t, "test", "rules", "alerts_test.yaml")
}

// TestDashboardExpressions lets promtool parse the expressions of the dashboard, as rules.
func TestDashboardExpressions(t *testing.T) {
	var rules strings.Builder
	rules.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	count := 0
	for title, lines := range expressions(t) {
		if strings.HasPrefix(title, "variable ") {
			continue
		}
		for line := range strings.Lines(lines) {
			count++
			line = strings.NewReplacer("$__rate_interval", "5m", "$target", ".*").Replace(strings.TrimSpace(line))
			fmt.Fprintf(&rules, "      - {record: 'dashboard:expression_%d', expr: %q}\n", count, line)
		}
	}
	path := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(path, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", path)
}
