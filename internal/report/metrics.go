package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/reconcile"
)

// Moments are the times that metrics tell and a run does not know.
type Moments struct {
	Run         time.Time            // when the run ended
	Success     time.Time            // when one last ended changed or unchanged; zero: never
	Certificate map[string]time.Time // by target name: when the first certificate of its issuer's chain expires
}

// Metrics returns a run in the Prometheus text exposition format 0.0.4, for the textfile collector of
// node_exporter. An outcome has a series for each possible value, 1 for the one that holds; a check, a change
// and an error have a series only where there is one. A check that was asked more than once (of several
// endpoints) has its worst status.
func Metrics(run fleet.Run, at Moments) []byte {
	var e exposition
	e.family("last_run_timestamp_seconds", "When the last run ended, in Unix time.")
	e.sample(unix(at.Run))
	e.family("last_success_timestamp_seconds", "When a run last ended with every target changed or unchanged, in Unix time; 0 if none has.")
	e.sample(unix(at.Success))
	e.family("last_run_duration_seconds", "How long the last run took.")
	e.sample(run.Duration.Seconds())
	e.family("last_run_outcome", "The outcome of the last run: that of its worst target.")
	e.outcomes(run.Outcome)
	e.family("last_run_error", "The error that kept the last run from its targets, by code.")
	if run.Err != nil {
		e.sample(1, "code", string(check.CodeOf(run.Err)))
	}

	e.family("target_outcome", "The outcome of the last run for a target.")
	for _, t := range run.Targets {
		e.outcomes(t.Outcome, labels(t)...)
	}
	e.family("target_error", "The error of a target in the last run, by code.")
	for _, t := range run.Targets {
		if t.Err != nil {
			e.sample(1, append(labels(t), "code", string(check.CodeOf(t.Err)))...)
		}
	}
	e.family("target_duration_seconds", "How long the last run took for a target.")
	for _, t := range run.Targets {
		e.sample(t.Duration.Seconds(), labels(t)...)
	}
	e.family("target_requests", "Requests that the last run sent to the Proxmox of a target.")
	for _, t := range run.Targets {
		e.sample(float64(t.Requests), labels(t)...)
	}
	e.family("change", "A property that the last run changed, or would have changed.")
	for _, t := range run.Targets {
		for _, c := range t.Changes {
			e.sample(1, append(labels(t), "property", string(c.Property), "op", string(c.Op))...)
		}
	}
	e.family("check_status", "The status of a check in the last run.")
	for _, t := range run.Targets {
		for _, c := range worst(t.Checks) {
			e.sample(1, append(labels(t), "check", string(c.ID), "status", string(c.Status))...)
		}
	}
	e.family("issuer_certificate_expiry_timestamp_seconds", "When the first certificate of the issuer's chain expires, in Unix time.")
	for _, t := range run.Targets {
		if expiry, known := at.Certificate[t.Name]; known {
			e.sample(unix(expiry), labels(t)...)
		}
	}
	return []byte(e.out.String())
}

func labels(t reconcile.Result) []string { return []string{"target", t.Name, "realm", t.Realm} }

// worst returns the checks with each id once.
func worst(checks []check.Check) []check.Check {
	severity := []check.Status{check.Pass, check.Skip, check.Warn, check.Fail}
	var out []check.Check
	for _, c := range checks {
		i := slices.IndexFunc(out, func(o check.Check) bool { return o.ID == c.ID })
		switch {
		case i < 0:
			out = append(out, c)
		case slices.Index(severity, c.Status) > slices.Index(severity, out[i].Status):
			out[i] = c
		}
	}
	return out
}

// exposition builds the text format. A family without samples leaves no trace.
type exposition struct {
	out  strings.Builder
	name string
	head string
}

func (e *exposition) family(name, help string) {
	e.name = "proxmox_realm_" + name
	e.head = fmt.Sprintf("# HELP %s %s\n# TYPE %s gauge\n", e.name, help, e.name)
}

func (e *exposition) sample(value float64, labels ...string) {
	e.out.WriteString(e.head + e.name)
	e.head = ""
	for i := 0; i < len(labels); i += 2 {
		separator := ","
		if i == 0 {
			separator = "{"
		}
		e.out.WriteString(separator + labels[i] + `="` + labelValue.Replace(strings.ToValidUTF8(labels[i+1], "\uFFFD")) + `"`) //nolint:gosec // labels come in pairs
	}
	if len(labels) > 0 {
		e.out.WriteString("}")
	}
	e.out.WriteString(" " + strconv.FormatFloat(value, 'f', -1, 64) + "\n")
}

func (e *exposition) outcomes(is reconcile.Outcome, labels ...string) {
	for _, o := range reconcile.Outcomes() {
		value := 0.0
		if o == is {
			value = 1
		}
		e.sample(value, append(slices.Clone(labels), "outcome", string(o))...)
	}
}

var labelValue = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// unix returns seconds; 0 for the zero time.
func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
