package report_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

// by is what made the reports.
var by = report.By{Program: "1.0.0", Host: "admin1"}

func encodeJSON(t testing.TB, run fleet.Run) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := report.JSON(&out, run, by); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestJSON(t *testing.T) {
	for _, name := range []string{"apply-updated", "apply-failed", "plan-held", "verify-bad", "delete-done", "plan-access", "config-error", "fleet-mixed", "diagnose-failed"} {
		t.Run(name, func(t *testing.T) { golden(t, "json/"+name, encodeJSON(t, find(t, name))) })
	}
}

// Each line but the last is an element of the report's targets; the last is the report without them.
func TestJSONLinesAreTheReportInPieces(t *testing.T) {
	for _, name := range []string{"fleet-mixed", "apply-failed", "config-error"} {
		run := find(t, name)
		var out bytes.Buffer
		if err := report.JSONLines(&out, run, by); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		var whole, last map[string]any
		if err := errors.Join(json.Unmarshal(encodeJSON(t, run), &whole), json.Unmarshal([]byte(lines[len(lines)-1]), &last)); err != nil {
			t.Fatal(err)
		}
		targets, _ := whole["targets"].([]any)
		if len(targets) != len(lines)-1 {
			t.Fatalf("%s: %d lines for %d targets", name, len(lines), len(targets))
		}
		count := map[string]any{}
		for i, target := range targets {
			var line map[string]any
			if err := json.Unmarshal([]byte(lines[i]), &line); err != nil || !reflect.DeepEqual(any(line), target) {
				t.Errorf("%s: %v: line %d is %v, want %v", name, err, i, line, target)
			}
			outcome, _ := line["outcome"].(string)
			n, _ := count[outcome].(float64)
			count[outcome] = n + 1
		}
		delete(whole, "targets")
		whole["counts"], whole["retries"], whole["lost_ms"] = count, 0.0, 0.0
		if !reflect.DeepEqual(last, whole) {
			t.Errorf("%s: the last line is %v, want %v", name, last, whole)
		}
	}
}

// An empty run still has lists where lists belong, and null where something is absent.
func TestJSONOfNothing(t *testing.T) {
	const want = `{"version":1,"program":"1.0.0","host":"admin1","time":"0001-01-01T00:00:00Z","command":"","outcome":"","error":null,"warnings":[],` +
		`"targets":[{"name":"","product":"","endpoint":"","realm":"","outcome":"","action":"none","wrote":false,"changes":[],"checks":[],"saved":null,` +
		`"warnings":[],"error":null,"duration_ms":0,"requests":0}],"duration_ms":0}` + "\n"
	if got := encodeJSON(t, fleet.Run{Targets: make([]reconcile.Result, 1)}); string(got) != want {
		t.Errorf("got  %swant %s", got, want)
	}
	if got := encodeJSON(t, fleet.Run{}); !bytes.Contains(got, []byte(`"targets":[]`)) {
		t.Errorf("no targets: %s", got)
	}
}

// Addresses hold &, and are there to be copied.
func TestJSONLeavesAddressesReadable(t *testing.T) {
	const address = "https://auth.example.com/authorize?client_id=proxmox&prompt=none"
	run := single("verify", reconcile.Unverified, planNone, nil, []check.Check{
		check.Failed(check.ClientRedirect, "x", "refused").Because("%s", address),
	})
	if got := encodeJSON(t, run); !bytes.Contains(got, []byte(address)) {
		t.Errorf("%s", got)
	}
}
