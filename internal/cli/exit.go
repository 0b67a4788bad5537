package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"proxmox-realm/internal/agent"
	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

// The exit codes. 2 is never chosen: a Go panic exits with it.
const (
	exitOK          = 0
	exitFailed      = 1
	exitDrift       = 10
	exitUnverified  = 11
	exitRefused     = 12
	exitHeld        = 13
	exitUsage       = 64
	exitUnavailable = 69
	exitTryAgain    = 75
	exitDenied      = 77
	exitConfig      = 78
	exitInterrupted = 130
	exitTerminated  = 143
)

// exitMeanings says what each code means, in at most 70 characters. Of the codes of several targets, the first here is
// the run's.
var exitMeanings = []struct {
	code  int
	means string
}{
	{exitInterrupted, "interrupted by SIGINT"},
	{exitTerminated, "interrupted by SIGTERM (the agent exits with 0)"},
	{exitFailed, "failed, for a reason without a code of its own"},
	{exitConfig, "configuration error"},
	{exitDenied, "Proxmox rejects the credentials, or a privilege is missing"},
	{exitUnavailable, "Proxmox is unreachable or failing, or the cluster has no quorum"},
	{exitTryAgain, "try again: locked, changed meanwhile, or rate-limited by the issuer"},
	{exitRefused, "refused: needs a decision, such as --replace or restore"},
	{exitHeld, "held: logins would fail; nothing was written"},
	{exitUnverified, "unverified: a check failed"},
	{exitDrift, "drift (plan --exit-code)"},
	{exitUsage, "usage error"}, // ends a run before its targets
	{exitOK, "success"},
}

// exitCode returns the exit code of an error.
func exitCode(err error) int { return exitCodeOf(check.CodeOf(err)) }

func exitCodeOf(code check.Code) int {
	switch code {
	case check.WrongType, check.UsernameClaim, check.UnknownProperty, check.BuiltinRealm, check.SavedRealm,
		check.UnknownRole, check.NoGroupsClaim, check.TokenTaken, check.NotProven, check.KeyRotation:
		return exitRefused
	case check.LoginFailed:
		return exitUnverified
	case check.Held:
		return exitHeld
	case check.Usage:
		return exitUsage
	case check.Unreachable, check.UnknownCertificate, check.ProxmoxFailed, check.NoQuorum:
		return exitUnavailable
	case check.Locked, check.LockTimeout, check.Conflict, check.RateLimited, check.ReplacePending:
		return exitTryAgain
	case check.BadCredentials, check.PermissionDenied:
		return exitDenied
	case check.Config:
		return exitConfig
	case check.Interrupted:
		return exitInterrupted
	case check.Terminated:
		return exitTerminated
	case check.Internal, check.NotTaken:
	}
	return exitFailed
}

// runCode returns the exit code of a run. Drift has a code of its own only if the caller asks for it.
func runCode(run fleet.Run, drift bool) int {
	if run.Err != nil {
		return exitCode(run.Err)
	}
	tally := run.Tally()
	codes := map[int]bool{
		exitUnverified: tally.Outcomes[reconcile.Unverified] > 0,
		exitDrift:      tally.Outcomes[reconcile.Drift] > 0 && drift,
	}
	for code := range tally.Codes {
		codes[exitCodeOf(code)] = true
	}
	for _, m := range exitMeanings {
		if codes[m.code] {
			return m.code
		}
	}
	return exitOK
}

// exited is the exit code of a command that has printed everything.
type exited int

// Error implements error.
func (code exited) Error() string { return fmt.Sprintf("exit code %d", int(code)) }

// done returns an exit code as the error that a command returns.
func done(code int) error {
	if code == exitOK {
		return nil
	}
	return exited(code)
}

// exit shows an error and returns the exit code. With an output for programs, the error is also a report on stdout.
func (a *app) exit(err error) int {
	var said exited
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &said):
		return int(said)
	case errors.Is(err, syscall.EPIPE): // the reader of stdout has gone
		return exitFailed
	}
	if slices.Contains(outputs[1:], a.output) { // all but text
		run := fleet.Run{Command: a.command, Outcome: reconcile.Failed, Err: err, Began: time.Now()}
		if render(a.stdout, a.output, run, report.Style{}) != nil {
			return exitFailed
		}
	}
	a.sayError(err)
	return exitCode(err)
}

func usage(format string, args ...any) *check.Error {
	return check.Errorf(check.Usage, format, args...)
}

func seeHelp(cmd *cobra.Command) check.Hint {
	return check.Hintf("run:\n    {%s}", strings.TrimPrefix(cmd.CommandPath()+" --help", "proxmox-realm "))
}

// destructive commands are never proposed for a mistyped one: undelete is not delete.
var destructive = []string{"delete", "rotate"}

func unknownCommand(cmd *cobra.Command, called string) error {
	cmd.SuggestionsMinimumDistance = 2
	var steps []check.Hint
	for _, near := range cmd.SuggestionsFor(called) {
		if slices.Contains(destructive, near) {
			continue
		}
		steps = append(steps, check.Hintf("run:\n    {%s}", strings.TrimPrefix(cmd.CommandPath()+" "+near, "proxmox-realm ")))
	}
	if len(steps) == 0 {
		steps = append(steps, seeHelp(cmd))
	}
	return usage("there is no command %q", called).Try(steps...)
}

// arguments lets cobra report a wrong number of arguments as a usage error.
func arguments(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return usage("%s takes %s", name(cmd), what).Try(seeHelp(cmd))
		}
		return nil
	}
}

var noArguments = arguments(0, 0, "no arguments")

// forms are the values that flags of these types take.
var forms = map[string]string{
	"bool": "true or false", "duration": "a duration in hours, minutes or seconds, such as 24h, 90m or 30s", "int": "a whole number",
}

// flagError words a mistake in a flag. The texts of Go about a value do not say what is accepted.
func flagError(cmd *cobra.Command, err error) error {
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		if form := forms[invalid.GetFlag().Value.Type()]; form != "" {
			return usage("--%s takes %s", invalid.GetFlag().Name, form).Try(seeHelp(cmd))
		}
	}
	return usage("%s", strings.TrimSpace(err.Error())).Try(seeHelp(cmd))
}

// finish prints a run, and after a success what comes next. It returns the exit code as an error.
func (a *app) finish(run fleet.Run, drift bool) error {
	err := a.show(run, drift)
	if err == nil && a.output == "text" && !a.quiet {
		a.sayHint(next(run))
	}
	return err
}

// show prints a run to stdout. If it has one target, its warnings and error go to stderr; those of several targets are in
// the report. show returns the exit code as an error.
func (a *app) show(run fleet.Run, drift bool) error {
	code := runCode(run, drift)
	err := render(a.stdout, a.output, run, a.style())
	switch {
	case err == nil && a.fleetHistory != nil:
		agent.Printed(a.fleetHistory, run)
	case err != nil && !errors.Is(err, syscall.EPIPE): // otherwise the reader has gone; what was written is told again
		a.sayError(unwritten(err))
		code = cmp.Or(code, exitCode(unwritten(err)))
	}
	for _, w := range run.Warnings {
		a.warning(w)
	}
	if len(run.Targets) == 1 {
		for _, w := range run.Targets[0].Notes() {
			a.warning(w)
		}
		if err := run.Targets[0].Err; err != nil {
			a.sayError(err)
		}
	}
	if run.Err != nil {
		a.sayError(run.Err)
	}
	return done(code)
}

// render writes a run in one of the formats of --output.
func render(w io.Writer, format string, run fleet.Run, style report.Style) error {
	switch format {
	case "json":
		return report.JSON(w, run, by())
	case "jsonl":
		return report.JSONLines(w, run, by())
	}
	return report.Text(w, run, style)
}

// unwritten is the error of a result that could not be printed. It undoes nothing.
func unwritten(err error) error {
	if code := check.CodeOf(err); code == check.Interrupted || code == check.Terminated {
		return err
	}
	return check.Errorf(check.Internal, "the result could not be written to standard output: %v", err).Because(err)
}

func (a *app) sayError(err error) {
	a.say("error", check.MessageOf(err))
	a.sayHint(check.HintOf(err))
}

func (a *app) sayHint(hint check.Hint) {
	if text := hint.For(a.wording); text != "" {
		a.say("hint", text)
	}
}

func (a *app) warning(text string) { a.say("warning", text) }

// note says what a person may want to know.
func (a *app) note(format string, args ...any) {
	if !a.quiet {
		a.say("note", fmt.Sprintf(format, args...))
	}
}

// say writes a message to stderr: each line with the program's name and the kind of message. Commands have neither, so that
// they can be copied.
func (a *app) say(kind, text string) {
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		if !strings.HasPrefix(line, check.Command) {
			line = "proxmox-realm: " + kind + ": " + line
		}
		_, _ = fmt.Fprintln(a.stderr, line)
	}
}
