package agent

import (
	"context"
	"log/slog"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/reconcile"
)

// journal writes what is news to the log: a failure when it begins, when it changes and when it ends.
type journal struct {
	log *slog.Logger
	// By what it is about: what was said last. Only what lasts is here, so this does not grow.
	lasting map[string]string
}

func newJournal(log *slog.Logger) *journal { return &journal{log: log, lasting: map[string]string{}} }

// run writes about a run and its targets.
func (j *journal) run(run fleet.Run) {
	about := map[string]bool{"run": true, "notify": true, "memory": true}
	if run.Err != nil {
		described := check.Describe(run.Err)
		j.say("run", string(described.Code), slog.LevelError, "the run failed", "error", described.Message, "hint", described.Hint())
		return // nothing is known of the targets
	}
	j.end("run", "runs reach their targets again")
	for _, t := range run.Targets {
		about["target "+t.Name], about["warnings "+t.Name] = true, true
		j.target(t)
	}
	for what := range j.lasting {
		if !about[what] { // a target that the configuration no longer has
			delete(j.lasting, what)
		}
	}
}

func (j *journal) target(t reconcile.Result) {
	who := []any{"target", t.Name, "realm", t.Realm, "endpoint", t.Endpoint}
	if t.Outcome == reconcile.Changed {
		var properties []string
		for _, c := range t.Changes {
			properties = append(properties, string(c.Property))
		}
		j.log.Info("realm changed", append(who, "action", t.Action, "properties", strings.Join(properties, ","))...)
	}
	if warnings := strings.Join(t.Warnings, "; "); warnings != "" {
		j.say("warnings "+t.Name, warnings, slog.LevelWarn, "warning", append(who, "warning", warnings)...)
	} else {
		delete(j.lasting, "warnings "+t.Name)
	}
	what := "target " + t.Name
	if settled(t.Outcome) {
		j.end(what, "the realm is as declared again", append(who, "outcome", t.Outcome)...)
		return
	}
	why := []any{"outcome", t.Outcome}
	state := string(t.Outcome)
	if t.Err != nil {
		described := check.Describe(t.Err)
		state += " " + string(described.Code)
		why = append(why, "error", described.Message, "hint", described.Hint())
	}
	for _, c := range check.Failures(t.Checks) {
		state += " " + string(c.ID)
		why = append(why, string(c.ID), c.Summary)
	}
	level := slog.LevelWarn
	if t.Outcome == reconcile.Failed || t.Outcome == reconcile.Unverified {
		level = slog.LevelError
	}
	j.say(what, state, level, "the realm needs attention", append(who, why...)...)
}

// notified writes about notify.command, remembered about the memory between runs.
func (j *journal) notified(err error) {
	j.lapse("notify", err, "notify.command failed: it is run again with the next run", "notify.command works again")
}

func (j *journal) remembered(err error) {
	j.lapse("memory", err, "what was told cannot be remembered over a restart", "what was told is remembered again")
}

func (j *journal) lapse(what string, err error, begins, ends string) {
	if err == nil {
		j.end(what, ends)
		return
	}
	j.say(what, err.Error(), slog.LevelWarn, begins, "error", err)
}

// say writes unless the last thing said about this is the same.
func (j *journal) say(about, state string, level slog.Level, message string, args ...any) {
	if j.lasting[about] == state {
		return
	}
	j.lasting[about] = state
	j.log.Log(context.Background(), level, message, args...) //nolint:sloglint // constant where it is called
}

// end writes that something is over, if it was there.
func (j *journal) end(about, message string, args ...any) {
	if was, lasted := j.lasting[about]; lasted {
		delete(j.lasting, about)
		j.log.Info(message, append(args, "was", was)...) //nolint:sloglint // constant where it is called
	}
}
