//go:build prometheus

package agent

import (
	"os/exec"
	"strings"
	"testing"
)

func TestPromtoolAcceptsTheMetrics(t *testing.T) {
	for name, s := range map[string]*status{"fresh": newStatus(`proxmox-realm "1.0"\`), "after runs": shown()} {
		command := exec.CommandContext(t.Context(), "promtool", "check", "metrics")
		command.Stdin = strings.NewReader(metricsText(s))
		if out, err := command.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
