package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/reconcile"
)

// JUnit writes a run as JUnit XML, in the dialect that Jenkins and GitLab read: a suite for each target, whose first
// case is the command itself and whose others are its checks. A check that warns passes, and says so in its output.
// XML 1.0 has no form for most control characters: there are none.
func JUnit(w io.Writer, run fleet.Run) error {
	out := junitRun{Name: "proxmox-realm " + printable(run.Command), Time: seconds(run.Duration)}
	if run.Err != nil {
		out.add(junitSuite{
			Name: printable(run.Command), Time: seconds(0),
			Cases: []junitCase{{Name: printable(run.Command), Class: "proxmox-realm", Time: seconds(0), Error: junitError(run.Err)}},
		})
	}
	for _, t := range run.Targets {
		out.add(suiteOf(run.Command, t))
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	encoder := xml.NewEncoder(w)
	encoder.Indent("", "  ")
	if err := encoder.Encode(out); err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	_, err := io.WriteString(w, "\n")
	return err
}

type junitRun struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Time     string       `xml:"time,attr"` // seconds
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Time     string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string       `xml:"name,attr"`
	Class   string       `xml:"classname,attr"`
	Time    string       `xml:"time,attr"`
	Skipped *junitResult `xml:"skipped"`
	Error   *junitResult `xml:"error"`
	Failure *junitResult `xml:"failure"`
	Output  string       `xml:"system-out,omitempty"`
}

type junitResult struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

// add counts a suite's cases and takes it in.
func (r *junitRun) add(s junitSuite) {
	s.Tests = len(s.Cases)
	for _, c := range s.Cases {
		switch {
		case c.Skipped != nil:
			s.Skipped++
		case c.Error != nil:
			s.Errors++
		case c.Failure != nil:
			s.Failures++
		}
	}
	r.Tests, r.Failures, r.Errors = r.Tests+s.Tests, r.Failures+s.Failures, r.Errors+s.Errors
	r.Suites = append(r.Suites, s)
}

func suiteOf(command string, t reconcile.Result) junitSuite {
	first := junitCase{Name: printable(command), Class: printable(t.Name), Time: seconds(t.Duration), Output: outputOf(command, t)}
	switch {
	case t.Err != nil && t.Outcome == reconcile.Failed:
		first.Error = junitError(t.Err)
	case t.Err != nil:
		first.Failure = junitError(t.Err)
	case undone(t.Outcome):
		first.Failure = &junitResult{Message: string(t.Outcome), Type: string(t.Outcome)}
	}
	suite := junitSuite{Name: printable(t.Name), Time: seconds(t.Duration), Cases: []junitCase{first}}
	for _, c := range t.Checks {
		suite.Cases = append(suite.Cases, caseOf(t.Name, c))
	}
	return suite
}

func caseOf(target string, c check.Check) junitCase {
	out := junitCase{Name: printable(string(c.ID)), Class: printable(target), Time: seconds(c.Duration)}
	switch c.Status {
	case check.Fail:
		out.Failure = &junitResult{Message: printable(c.Summary), Type: string(check.Fail), Text: details(c)}
	case check.Skip:
		out.Skipped = &junitResult{Message: printable(c.Summary)}
	case check.Warn:
		out.Output = strings.TrimSuffix("warning: "+printable(c.Summary)+"\n"+details(c), "\n")
	case check.Pass:
		out.Output = printable(c.Summary)
	}
	return out
}

func details(c check.Check) string {
	var lines []string
	if c.Evidence != "" {
		lines = append(lines, "evidence: "+printable(c.Evidence))
	}
	if len(c.Remedy) > 0 {
		lines = append(lines, "hint: "+printable(c.Remedy.String()))
	}
	return strings.Join(lines, "\n")
}

// outputOf is the text report of a target without its checks and its error, which have places of their own.
func outputOf(command string, t reconcile.Result) string {
	said := t
	said.Checks, said.Err = nil, nil
	p := &printer{}
	p.body(0, command, said, true)
	p.line(0, p.text(sentence(command, t)))
	return p.String()
}

func junitError(err error) *junitResult {
	f := check.Describe(err)
	out := &junitResult{Message: printable(strings.ReplaceAll(f.Message, "\n", "; ")), Type: string(f.Code)}
	if hint := f.Hint(); hint != "" {
		out.Text = "hint: " + hint
	}
	return out
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
