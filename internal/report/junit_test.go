package report_test

import (
	"bytes"
	"encoding/xml"
	"testing"

	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

func encodeJUnit(t testing.TB, run fleet.Run) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := report.JUnit(&out, run); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestJUnit(t *testing.T) {
	for _, name := range []string{"apply-failed", "plan-held", "verify-good", "verify-bad", "config-error", "fleet-mixed"} {
		t.Run(name, func(t *testing.T) { golden(t, "junit/"+name, encodeJUnit(t, find(t, name))) })
	}
}

// suites is JUnit XML as its readers know it.
type suites struct {
	XMLName  xml.Name `xml:"testsuites"`
	Tests    int      `xml:"tests,attr"`
	Failures int      `xml:"failures,attr"`
	Errors   int      `xml:"errors,attr"`
	Suites   []struct {
		Name     string `xml:"name,attr"`
		Tests    int    `xml:"tests,attr"`
		Failures int    `xml:"failures,attr"`
		Errors   int    `xml:"errors,attr"`
		Skipped  int    `xml:"skipped,attr"`
		Cases    []struct {
			Name     string     `xml:"name,attr"`
			Class    string     `xml:"classname,attr"`
			Time     float64    `xml:"time,attr"`
			Skipped  []struct{} `xml:"skipped"`
			Errors   []struct{} `xml:"error"`
			Failures []struct{} `xml:"failure"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// Pipelines show the attributes' counts, and fail by them: they must be those of the elements.
func TestJUnitCountsWhatItHolds(t *testing.T) {
	for _, s := range scenarios() {
		var got suites
		if err := xml.Unmarshal(encodeJUnit(t, s.run), &got); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		var tests, failures, errors int
		for _, suite := range got.Suites {
			var f, e, k int
			for _, c := range suite.Cases {
				f, e, k = f+len(c.Failures), e+len(c.Errors), k+len(c.Skipped)
				if n := len(c.Failures) + len(c.Errors) + len(c.Skipped); n > 1 || c.Name == "" || c.Class == "" {
					t.Errorf("%s: %+v", s.name, c)
				}
			}
			if suite.Tests != len(suite.Cases) || suite.Failures != f || suite.Errors != e || suite.Skipped != k {
				t.Errorf("%s: suite %s counts %d %d %d %d, has %d %d %d %d", s.name, suite.Name,
					suite.Tests, suite.Failures, suite.Errors, suite.Skipped, len(suite.Cases), f, e, k)
			}
			tests, failures, errors = tests+len(suite.Cases), failures+f, errors+e
		}
		if got.Tests != tests || got.Failures != failures || got.Errors != errors {
			t.Errorf("%s: counts %d %d %d, has %d %d %d", s.name, got.Tests, got.Failures, got.Errors, tests, failures, errors)
		}
		if broken := s.run.Outcome != "unchanged" && s.run.Outcome != "changed" && s.run.Outcome != "drift"; broken != (failures+errors > 0) {
			t.Errorf("%s: outcome %s, yet %d failures and %d errors", s.name, s.run.Outcome, failures, errors)
		}
	}
}

// A pipeline must not turn green because a target that is held, refused or failed carries no error.
func TestJUnitFailsWithoutAnError(t *testing.T) {
	for _, outcome := range []reconcile.Outcome{reconcile.Held, reconcile.Refused, reconcile.Failed} {
		var got suites
		if err := xml.Unmarshal(encodeJUnit(t, single("apply", outcome, planNone, nil, good())), &got); err != nil {
			t.Fatal(err)
		}
		if got.Failures != 1 {
			t.Errorf("%s: %d failures", outcome, got.Failures)
		}
	}
}
