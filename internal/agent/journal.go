package agent

import (
	"context"
	"log/slog"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

// journal logs a condition when it begins, when it changes and when it ends.
type journal struct {
	log     *slog.Logger
	lasting map[string]string // by subject: the condition that was logged last and still lasts
}

func newJournal(log *slog.Logger) *journal { return &journal{log: log, lasting: map[string]string{}} }

// run logs a run and its targets.
func (j *journal) run(run fleet.Run) {
	if run.Err != nil {
		j.begins("run", string(check.CodeOf(run.Err)), slog.LevelError, "the run failed",
			"error", check.MessageOf(run.Err), "hint", check.HintOf(run.Err).For(check.Names{}))
		return // the run did not reach its targets
	}
	j.ends("run", "runs succeed again")
	known := map[string]bool{"notify": true, "memory": true}
	for _, t := range run.Targets {
		known["target "+t.Name], known["warnings "+t.Name] = true, true
		j.target(t)
	}
	for subject := range j.lasting {
		if !known[subject] { // a target that the configuration no longer has
			delete(j.lasting, subject)
		}
	}
}

func (j *journal) target(t reconcile.Result) {
	who := []any{"target", t.Name, "realm", t.Realm, "endpoint", t.Endpoint}
	if t.Wrote {
		var changes []string
		for _, c := range t.Changes {
			changes = append(changes, string(c.Property))
		}
		for _, c := range t.Access {
			changes = append(changes, c.String())
		}
		j.log.Info("realm changed", append(who, "action", t.Action, "changes", strings.Join(changes, ", "))...)
	}
	warnings := strings.Join(t.Warnings, "; ")
	j.begins("warnings "+t.Name, warnings, slog.LevelWarn, "warning", append(who, "warning", warnings)...)

	subject := "target " + t.Name
	if report.Settled(t.Outcome) {
		j.ends(subject, "OK again: the realm is as declared", append(who, "outcome", t.Outcome)...)
		return
	}
	condition, why := string(t.Outcome), []any{"outcome", t.Outcome}
	if t.Err != nil {
		condition += " " + string(check.CodeOf(t.Err))
		why = append(why, "error", check.MessageOf(t.Err), "hint", check.HintOf(t.Err).For(check.Names{}))
	}
	for _, c := range check.Failures(t.Checks) {
		condition += " " + string(c.ID)
		why = append(why, string(c.ID), c.Summary)
	}
	level := slog.LevelWarn
	if t.Outcome == reconcile.Failed || t.Outcome == reconcile.Unverified {
		level = slog.LevelError
	}
	j.begins(subject, condition, level, "the realm needs attention", append(who, why...)...)
}

// attempt logs how something besides the run went.
func (j *journal) attempt(subject string, err error, failed, works string) {
	if err != nil {
		j.begins(subject, err.Error(), slog.LevelWarn, failed, "error", err)
		return
	}
	j.ends(subject, works)
}

// begins logs a condition, unless it was logged already. An empty condition is none.
func (j *journal) begins(subject, condition string, level slog.Level, message string, args ...any) {
	if j.lasting[subject] == condition {
		return
	}
	j.lasting[subject] = condition
	if condition == "" {
		delete(j.lasting, subject)
		return
	}
	j.log.Log(context.Background(), level, message, args...) //nolint:sloglint // constant where it is called
}

// ends logs that a condition is over, if it was logged.
func (j *journal) ends(subject, message string, args ...any) {
	if was, lasted := j.lasting[subject]; lasted {
		delete(j.lasting, subject)
		j.log.Info(message, append(args, "was", was)...) //nolint:sloglint // constant where it is called
	}
}
