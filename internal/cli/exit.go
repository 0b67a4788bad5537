package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"

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

// exitMeanings is what `help exit-codes` shows.
var exitMeanings = []struct {
	code  int
	means string
}{
	{exitOK, "the realm is as declared, and nothing failed (plan: whatever it shows); warnings and skipped checks do not change the code"},
	{exitFailed, "failed, with no code of its own"},
	{exitDrift, "drift (plan --exit-code)"},
	{exitUnverified, "the realm is in place, but a check failed"},
	{exitRefused, "refused: the plan needs a decision (another type, username-claim, version, recovery file)"},
	{exitHeld, "held: the gate kept the change back; the realm is as before"},
	{exitUsage, "usage"},
	{exitUnavailable, "Proxmox unreachable or failing, no quorum"},
	{exitTryAgain, "try again: another run holds the lock, Proxmox's lock timed out, the configuration kept changing underneath, the issuer limits requests"},
	{exitDenied, "Proxmox refuses the credentials or the privilege"},
	{exitConfig, "configuration"},
	{exitInterrupted, "interrupted by SIGINT"},
	{exitTerminated, "interrupted by SIGTERM (the agent ends with 0)"},
}

// exitOrder ranks the codes of several targets: the first that occurred is the run's.
var exitOrder = []int{
	exitInterrupted, exitTerminated, exitFailed, exitConfig, exitDenied, exitUnavailable, exitTryAgain,
	exitRefused, exitHeld, exitUnverified, exitDrift,
}

// exitCode returns the exit code of an error.
func exitCode(err error) int {
	switch check.CodeOf(err) {
	case check.WrongType, check.UsernameClaim, check.UnknownProperty, check.BuiltinRealm, check.RecoveryFile:
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

// runCode returns the exit code of a run. Drift counts where the caller asked for it.
func runCode(run fleet.Run, drift bool) int {
	if run.Err != nil {
		return exitCode(run.Err)
	}
	var codes []int
	for _, t := range run.Targets {
		switch {
		case t.Err != nil:
			codes = append(codes, exitCode(t.Err))
		case t.Outcome == reconcile.Unverified:
			codes = append(codes, exitUnverified)
		case t.Outcome == reconcile.Drift && drift:
			codes = append(codes, exitDrift)
		}
	}
	for _, code := range exitOrder {
		if slices.Contains(codes, code) {
			return code
		}
	}
	return exitOK
}

// status ends the program with a code when everything has been said.
type status int

// Error implements error.
func (s status) Error() string { return fmt.Sprintf("exit code %d", int(s)) }

// done turns a code into what a command returns.
func done(code int) error {
	if code == exitOK {
		return nil
	}
	return status(code)
}

// exit says what went wrong, if anything did, and returns the exit code. Where the report is JSON or JUnit, an error that came
// before there was one is such a report.
func (a *app) exit(args []string, err error) int {
	var said status
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &said):
		return int(said)
	case errors.Is(err, syscall.EPIPE): // whoever read the output had enough of it
		return exitFailed
	}
	if format := a.wanted(args); format != "text" {
		run := fleet.Run{Command: a.command, Outcome: reconcile.Failed, Err: err}
		if render(a.stdout, format, run, report.Style{}) != nil {
			return exitFailed
		}
	}
	a.sayError(err)
	return exitCode(err)
}

// wanted returns the format of reports, also where the flags could not be read to their end.
func (a *app) wanted(args []string) string {
	if a.output == "json" || a.output == "junit" {
		return a.output
	}
	for i, arg := range args {
		value, joined := strings.CutPrefix(arg, "--output=")
		if !joined && (arg == "-o" || arg == "--output") && i+1 < len(args) {
			value, joined = args[i+1], true
		}
		if !joined {
			value, joined = strings.CutPrefix(arg, "-o")
			value = strings.TrimPrefix(value, "=")
		}
		if joined && (value == "json" || value == "junit") {
			return value
		}
	}
	return "text"
}

// render writes a run in one of the formats of --output.
func render(w io.Writer, format string, run fleet.Run, style report.Style) error {
	switch format {
	case "json":
		return report.JSON(w, run)
	case "junit":
		return report.JUnit(w, run)
	}
	return report.Text(w, run, style)
}

func (a *app) sayError(err error) {
	described := check.Describe(err)
	a.say("error", described.Message)
	if hint := described.Hint(); hint != "" {
		a.say("hint", hint)
	}
}

func (a *app) warning(text string) { a.say("warning", text) }

// say writes a message to stderr, each line of it with the program's name and the kind of message.
func (a *app) say(kind, text string) {
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		_, _ = fmt.Fprintf(a.stderr, "proxmox-realm: %s: %s\n", kind, line)
	}
}
