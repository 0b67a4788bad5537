package agent

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/history"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

// journal logs what is new of each target, and other conditions when they begin and when they end.
type journal struct {
	log     *slog.Logger
	told    map[string]history.Told // by target
	lasting map[string]string       // by subject: the condition that was logged last and still lasts
}

func newJournal(log *slog.Logger) *journal {
	return &journal{log: log, told: map[string]history.Told{}, lasting: map[string]string{}}
}

// run logs what is new, and returns what is known of each target, by name.
func (j *journal) run(run fleet.Run) map[string]history.Told {
	for _, w := range run.Warnings {
		j.log.Warn(w) //nolint:sloglint // made for people
	}
	if run.Err != nil {
		j.begins("run", string(check.CodeOf(run.Err)), slog.LevelError, "the run failed",
			"error", check.MessageOf(run.Err), "hint", check.HintOf(run.Err).For(check.Names{}))
		return j.told // the run did not reach its targets
	}
	j.ends("run", "runs succeed again")
	told := make(map[string]history.Told, len(run.Targets))
	for _, t := range run.Targets {
		next, news := report.Patience{}.News(j.told[t.Name], t, time.Now())
		if told[t.Name] = next; news.Text != "" {
			j.target(t, news)
		}
	}
	j.told = told
	return told
}

func (j *journal) target(t reconcile.Result, news report.News) {
	who := []any{"target", t.Name, "realm", t.Realm, "endpoint", t.Endpoint}
	if t.Wrote() {
		j.log.Info("realm changed", append(slices.Clone(who), "action", t.Action, "changes", strings.Join(fleet.Written(t), ", "))...)
	}
	for _, w := range t.Notes() {
		j.log.Warn("warning", append(slices.Clone(who), "warning", w)...)
	}
	why := append(slices.Clone(who), "outcome", t.Outcome)
	if t.Err != nil {
		why = append(why, "error", check.MessageOf(t.Err), "hint", check.HintOf(t.Err).For(check.Names{}))
	}
	for _, c := range t.Checks {
		if c.Status == check.Fail || c.Status == check.Warn {
			why = append(why, string(c.ID), c.Summary)
		}
	}
	switch {
	case t.Outcome == reconcile.Failed || t.Outcome == reconcile.Unverified:
		j.log.Error("the realm needs attention: "+news.Text, why...) //nolint:sloglint // made for people
	case !report.Settled(t.Outcome):
		j.log.Warn("the realm needs attention: "+news.Text, why...) //nolint:sloglint // made for people
	default:
		j.log.Info("the realm is as declared: "+news.Text, why...) //nolint:sloglint // made for people
	}
}

// attempt logs how something besides the run went.
func (j *journal) attempt(subject string, err error, failed, works string) {
	if err != nil {
		j.begins(subject, err.Error(), slog.LevelWarn, failed, "error", err)
		return
	}
	j.ends(subject, works)
}

// begins logs a condition, unless it was logged already.
func (j *journal) begins(subject, condition string, level slog.Level, message string, args ...any) {
	if j.lasting[subject] == condition {
		return
	}
	j.lasting[subject] = condition
	j.log.Log(context.Background(), level, message, args...) //nolint:sloglint // constant where it is called
}

// ends logs that a condition is over, if it was logged.
func (j *journal) ends(subject, message string, args ...any) {
	if was, lasted := j.lasting[subject]; lasted {
		delete(j.lasting, subject)
		j.log.Info(message, append(args, "was", was)...) //nolint:sloglint // constant where it is called
	}
}
