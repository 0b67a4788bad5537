package agent

import (
	"fmt"
	"strings"
	"time"

	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

// metrics are those of the last run, as `apply --metrics-file` writes them, and the agent's own.
func (s *status) metrics() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []byte
	if !s.ended.IsZero() {
		at := report.Moments{Run: s.ended, Success: s.success, Certificate: map[string]time.Time{}}
		for name, p := range s.targets {
			if !p.certificate.IsZero() {
				at.Certificate[name] = p.certificate
			}
		}
		out = report.Metrics(s.last, at)
	}
	var b strings.Builder
	family := func(name, kind, help string) {
		fmt.Fprintf(&b, "# HELP proxmox_realm_agent_%s %s\n# TYPE proxmox_realm_agent_%s %s\n", name, help, name, kind)
	}
	family("info", "gauge", "The version of the agent; always 1.")
	fmt.Fprintf(&b, "proxmox_realm_agent_info{version=\"%s\"} 1\n", strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s.version))
	family("start_timestamp_seconds", "gauge", "When the agent was started, in Unix time.")
	fmt.Fprintf(&b, "proxmox_realm_agent_start_timestamp_seconds %s\n", seconds(s.started))
	family("runs_total", "counter", "Runs of the agent, by outcome.")
	for _, o := range reconcile.Outcomes() {
		fmt.Fprintf(&b, "proxmox_realm_agent_runs_total{outcome=%q} %d\n", o, s.runs[o])
	}
	family("reloads_total", "counter", "Reloads of the configuration, by result.")
	fmt.Fprintf(&b, "proxmox_realm_agent_reloads_total{result=\"failure\"} %d\nproxmox_realm_agent_reloads_total{result=\"success\"} %d\n", s.reloads[0], s.reloads[1])
	family("config_reload_successful", "gauge", "Whether the last reload of the configuration succeeded; 1 before the first.")
	successful := 1
	if s.reloadError != "" {
		successful = 0
	}
	fmt.Fprintf(&b, "proxmox_realm_agent_config_reload_successful %d\n", successful)
	if !s.next.IsZero() {
		family("next_run_timestamp_seconds", "gauge", "When the next run is planned, in Unix time.")
		fmt.Fprintf(&b, "proxmox_realm_agent_next_run_timestamp_seconds %s\n", seconds(s.next))
	}
	return append(out, b.String()...)
}

func seconds(t time.Time) string {
	return fmt.Sprintf("%d.%03d", t.Unix(), t.Nanosecond()/1_000_000)
}
