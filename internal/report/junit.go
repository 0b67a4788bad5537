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

// JUnit writes a run as JUnit XML, in the dialect that Jenkins and GitLab read. Each target is a suite. Its first case is the
// command itself; the others are the checks. A check that warns passes, with the warning in its output.
func JUnit(w io.Writer, run fleet.Run) error {
	out := junitRun{Name: "proxmox-realm " + oneLine(run.Command), Time: seconds(run.Duration)}
	if run.Err != nil {
		out.add(junitSuite{
			Name: oneLine(run.Command), Time: seconds(0),
			Cases: []junitCase{{Name: oneLine(run.Command), Class: "proxmox-realm", Time: seconds(0), Error: junitError(run.Err)}},
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

// add appends a suite and counts its cases.
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
	first := junitCase{Name: oneLine(command), Class: oneLine(t.Name), Time: seconds(t.Duration), Output: outputOf(command, t)}
	switch {
	case t.Err != nil && t.Outcome == reconcile.Failed:
		first.Error = junitError(t.Err)
	case t.Err != nil:
		first.Failure = junitError(t.Err)
	case undone(t):
		first.Failure = &junitResult{Message: string(t.Outcome), Type: string(t.Outcome)}
	}
	suite := junitSuite{Name: oneLine(t.Name), Time: seconds(t.Duration), Cases: []junitCase{first}}
	for _, c := range t.Checks {
		suite.Cases = append(suite.Cases, caseOf(t.Name, c))
	}
	return suite
}

func caseOf(target string, c check.Check) junitCase {
	out := junitCase{Name: oneLine(string(c.ID)), Class: oneLine(target), Time: seconds(c.Duration)}
	switch c.Status {
	case check.Fail:
		out.Failure = &junitResult{Message: oneLine(c.Summary), Type: string(check.Fail), Text: details(c)}
	case check.Skip:
		out.Skipped = &junitResult{Message: oneLine(c.Summary)}
	case check.Warn:
		out.Output = strings.TrimSuffix("warning: "+oneLine(c.Summary)+"\n"+details(c), "\n")
	case check.Pass:
		out.Output = oneLine(c.Summary)
	}
	return out
}

func details(c check.Check) string {
	var lines []string
	if c.Evidence != "" {
		lines = append(lines, "evidence: "+oneLine(c.Evidence))
	}
	if len(c.Hint) > 0 {
		lines = append(lines, "hint: "+c.Hint.For(check.Names{}))
	}
	return strings.Join(lines, "\n")
}

// outputOf returns the text report of a target, without its checks and its error, which have elements of their own.
func outputOf(command string, t reconcile.Result) string {
	p := &printer{}
	p.changes(0, t)
	for _, warning := range t.Warnings {
		p.labelled(0, "warning:", warning)
	}
	p.line(0, oneLine(sentence(command, t)))
	return p.out.String()
}

func junitError(err error) *junitResult {
	out := &junitResult{Message: oneLine(strings.ReplaceAll(check.MessageOf(err), "\n", "; ")), Type: string(check.CodeOf(err))}
	if hint := check.HintOf(err).For(check.Names{}); hint != "" {
		out.Text = "hint: " + hint
	}
	return out
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
