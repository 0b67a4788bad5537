package report_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with testdata/NAME.golden.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s (rewrite with -update)\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

func text(t *testing.T, run fleet.Run, style report.Style) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := report.Text(&out, run, style); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func find(t *testing.T, name string) fleet.Run {
	t.Helper()
	for _, s := range scenarios() {
		if s.name == name {
			return s.run
		}
	}
	t.Fatalf("no scenario %s", name)
	return fleet.Run{}
}

func TestText(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) { golden(t, "text/"+s.name, text(t, s.run, report.Style{})) })
	}
}

func TestTextStyles(t *testing.T) {
	for _, tt := range []struct {
		name, scenario string
		style          report.Style
	}{
		{"color-verify", "verify-bad", report.Style{Color: true}},
		{"color-plan", "plan-update", report.Style{Color: true}},
		{"narrow", "verify-bad", report.Style{Width: 64}},
		{"very-narrow", "verify-bad", report.Style{Width: 30}},
		{"ascii-checks", "verify-bad", report.Style{ASCII: true}},
		{"ascii-changes", "plan-update", report.Style{ASCII: true}},
		{"verbose", "apply-updated", report.Style{Verbose: true}},
		{"quiet-verify", "verify-bad", report.Style{Quiet: true}},
		{"quiet-fleet", "fleet-mixed", report.Style{Quiet: true}},
		{"here", "diagnose-failed", report.Style{Zone: time.UTC}},
		{"narrow-logins", "diagnose-failed", report.Style{Width: 64}},
		{"omit-errors", "apply-failed", report.Style{OmitErrors: true}},
		{"omit-errors-fleet", "fleet-mixed", report.Style{OmitErrors: true}},
	} {
		t.Run(tt.name, func(t *testing.T) { golden(t, "style/"+tt.name, text(t, find(t, tt.scenario), tt.style)) })
	}
}

// diagnose --follow shows logins as they become known.
func TestLogins(t *testing.T) {
	var out bytes.Buffer
	if err := report.Logins(&out, "berlin", find(t, "diagnose-failed").Targets[0], report.Style{}); err != nil {
		t.Fatal(err)
	}
	golden(t, "text/follow", out.Bytes())
}

func TestQuietIsSilentWhereAllIsWell(t *testing.T) {
	for _, s := range scenarios() {
		well := s.run.Err == nil
		for _, target := range s.run.Targets {
			well = well && target.Outcome == reconcile.Unchanged
		}
		if got := text(t, s.run, report.Style{Quiet: true}); (len(got) == 0) != well {
			t.Errorf("%s: all is well: %v, yet it says %q", s.name, well, got)
		}
	}
}

func TestAThousandTargetsStayReadable(t *testing.T) {
	if lines := bytes.Count(text(t, find(t, "fleet-1000"), report.Style{}), []byte("\n")); lines > 15 {
		t.Errorf("%d lines", lines)
	}
	slow := find(t, "fleet-1000")
	slow.Targets = slices.Clone(slow.Targets)
	slow.Targets[0].Retries, slow.Targets[0].Lost, slow.Targets[1].Lost = 1, 9*time.Second, time.Second
	if got := string(text(t, slow, report.Style{})); !strings.HasSuffix(got, "; nodes that did not answer cost 10s, and 1 request was retried\n") {
		t.Errorf("it ends with %q", got[strings.LastIndex(strings.TrimSpace(got), "\n"):])
	}
	all := string(text(t, find(t, "fleet-1000"), report.Style{Verbose: true}))
	for _, name := range []string{"site0000", "site0999", "site0700"} {
		if !strings.Contains(all, name) {
			t.Errorf("verbose leaves out %s", name)
		}
	}
}

func TestChecksWithoutATarget(t *testing.T) {
	for name, checks := range map[string][]check.Check{"good": good(), "bad": bad()} {
		var out bytes.Buffer
		if err := report.Checks(&out, checks, report.Style{}); err != nil {
			t.Fatal(err)
		}
		golden(t, "checks/"+name, out.Bytes())
	}
	var out bytes.Buffer
	if err := report.Checks(&out, good(), report.Style{Quiet: true}); err != nil || out.Len() > 0 {
		t.Errorf("quiet, and all is well: %q, %v", out.String(), err)
	}
}
