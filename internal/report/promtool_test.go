//go:build prometheus

package report_test

import (
	"bytes"
	"os/exec"
	"testing"
)

// promtool is Prometheus's own judge of names, units, help texts and syntax.
func TestPromtoolAcceptsTheMetrics(t *testing.T) {
	for _, s := range scenarios() {
		check := exec.CommandContext(t.Context(), "promtool", "check", "metrics")
		check.Stdin = bytes.NewReader(exposition(s.run, success))
		if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", s.name, err, out)
		}
	}
}
