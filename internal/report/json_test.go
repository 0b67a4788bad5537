package report_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
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

// The keys of the report and their order are what scripts rely on: they are added to at the end, never changed.
func TestJSONKeys(t *testing.T) {
	want := map[string][]string{
		"":                {"version", "program", "host", "time", "command", "outcome", "error", "warnings", "targets", "duration_ms"},
		"error":           {"code", "message", "hint"},
		"targets":         {"name", "product", "endpoint", "realm", "outcome", "action", "wrote", "changes", "checks", "saved", "warnings", "error", "duration_ms", "requests"},
		"targets.changes": {"property", "op", "before", "after", "kind", "group", "path", "role", "propagate", "written"},
		"targets.checks":  {"id", "status", "summary", "evidence", "hint", "duration_ms"},
		"targets.error":   {"code", "message", "hint"},
		"targets.logins": {
			"time", "since", "node", "address", "addresses", "user", "realm", "outcome", "cause", "summary", "text", "hint", "count", "groups", "refused", "works",
		},
	}
	seen := map[string]bool{}
	for _, s := range scenarios() {
		walk(t, json.NewDecoder(bytes.NewReader(encodeJSON(t, s.run))), "", func(path string, keys []string) {
			seen[path] = true
			if path == "targets" && s.run.Targets[0].Diagnosis != nil {
				keys = slices.DeleteFunc(keys, func(key string) bool { return key == "logins" })
			}
			if !slices.Equal(keys, want[path]) {
				t.Errorf("%s: keys of %q: %q, want %q", s.name, path, keys, want[path])
			}
		})
	}
	for path, keys := range want {
		if keys != nil && !seen[path] {
			t.Errorf("no scenario has %q", path)
		}
	}
}

// walk reads one value and tells of each object its path, without list positions, and its keys in order.
func walk(t *testing.T, d *json.Decoder, path string, object func(path string, keys []string)) {
	t.Helper()
	token, err := d.Token()
	if err != nil {
		t.Fatal(err)
	}
	switch token {
	case json.Delim('['):
		for d.More() {
			walk(t, d, path, object)
		}
	case json.Delim('{'):
		var keys []string
		for d.More() {
			key, err := d.Token()
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, fmt.Sprint(key))
			below := fmt.Sprint(key)
			if path != "" {
				below = path + "." + below
			}
			walk(t, d, below, object)
		}
		object(path, keys)
	default:
		return
	}
	if _, err := d.Token(); err != nil { // the closing delimiter
		t.Fatal(err)
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

// contract is the report as a strict reader declares it.
type contract struct {
	Version  int      `json:"version"`
	Program  string   `json:"program"`
	Host     string   `json:"host"`
	Time     string   `json:"time"`
	Command  string   `json:"command"`
	Outcome  string   `json:"outcome"`
	Error    *failed  `json:"error"`
	Warnings []string `json:"warnings"`
	Targets  []struct {
		Name     string `json:"name"`
		Product  string `json:"product"`
		Wrote    bool   `json:"wrote"`
		Endpoint string `json:"endpoint"`
		Realm    string `json:"realm"`
		Outcome  string `json:"outcome"`
		Action   string `json:"action"`
		Changes  []struct {
			Property  *string `json:"property"`
			Op        string  `json:"op"`
			Before    *string `json:"before"`
			After     *string `json:"after"`
			Kind      string  `json:"kind"`
			Group     *string `json:"group"`
			Path      *string `json:"path"`
			Role      *string `json:"role"`
			Propagate *bool   `json:"propagate"`
			Written   bool    `json:"written"`
		} `json:"changes"`
		Checks []struct {
			ID       string `json:"id"`
			Status   string `json:"status"`
			Summary  string `json:"summary"`
			Evidence string `json:"evidence"`
			Hint     string `json:"hint"`
			Duration int64  `json:"duration_ms"`
		} `json:"checks"`
		Error    *failed  `json:"error"`
		Duration int64    `json:"duration_ms"`
		Warnings []string `json:"warnings"`
		Requests int      `json:"requests"`
		Saved    *string  `json:"saved"`
	} `json:"targets"`
	Duration int64 `json:"duration_ms"`
}

type failed struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

func decodeStrictly(data []byte) (contract, error) {
	var c contract
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, err
	}
	if _, err := d.Token(); err != io.EOF {
		return c, fmt.Errorf("more than one value: %v", err)
	}
	return c, nil
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
