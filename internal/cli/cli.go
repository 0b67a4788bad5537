// Package cli is the command line: one file for each command, and exit.go, which alone turns errors into
// message, hint and exit code.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/history"
)

// Help lists commands in the order in which they were added. This switch of cobra is global, and it is set only once,
// because tests run several commands at the same time.
func init() { cobra.EnableCommandSorting = false }

// Main runs one command and returns its exit code. Results go to stdout, everything else to stderr.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, release: func() {}}
	root := a.root()
	err := a.execute(root, args)
	defer a.release()
	return a.exit(err)
}

// Command returns the whole command line, for those who describe it. It is not to be run: see Main.
func Command() *cobra.Command {
	root := (&app{}).root()
	explain(root)
	return root
}

// app is what all commands share: the streams and the global flags.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer

	command string         // the name of the command for reports; "" before cobra found it
	ready   bool           // the command line is valid, and the command has begun
	wording check.Names    // how hints name keys and commands
	release func()         // ends what prepare began
	keys    *pflag.FlagSet // see keyFlags

	fleetHistory *history.Store // see runs

	file      string
	targets   []string
	output    string
	quiet     bool
	verbose   bool
	logLevel  string
	logFormat string
	timeout   time.Duration
	noColor   bool
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "proxmox-realm",
		Short: "Keep an OpenID Connect realm of Proxmox as declared, and verify that logins work",
		Long: `proxmox-realm creates or updates one OpenID Connect realm ("authelia" by
default) of Proxmox VE, Backup Server or Datacenter Manager. It verifies it
before a user logs in: the issuer as seen from this machine, the issuer as seen
from Proxmox, and the client.

Begin with "init": it asks, and sets up Proxmox VE. By hand, and for the other
products, begin with "probe https://auth.example.com" and "bootstrap". Write a
configuration ("help config"). Then run "authelia --new-key FILE", "plan" and
"apply".`,
		Version: versionLine(),
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true, // manual pages carry no date of their making
		PersistentPreRunE: a.prepare,
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	a.globalFlags(root)

	root.AddGroup(&cobra.Group{ID: "main", Title: "Commands:"},
		&cobra.Group{ID: "setup", Title: "Setting up:"}, &cobra.Group{ID: "other", Title: "Other:"})
	root.SetHelpCommandGroupID("other")
	root.SetCompletionCommandGroupID("other")
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("main", a.planCommand(), a.applyCommand(), a.verifyCommand(), a.probeCommand(), a.loginCommand(), a.diagnoseCommand(), a.agentCommand())
	add("setup", a.initCommand(), a.bootstrapCommand(), a.exportCommand(), a.rotateCommand(), a.deleteCommand(), a.restoreCommand(), a.autheliaCommand(), a.configCommand())
	add("other", a.versionCommand())
	root.AddCommand(helpTopics()...)
	addStrict(root)
	terse(root)
	return root
}

func (a *app) globalFlags(root *cobra.Command) {
	choices := func(flag string, of ...string) {
		_ = root.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(of, cobra.ShellCompDirectiveNoFileComp))
	}
	f := root.PersistentFlags()
	f.SortFlags = false
	f.StringVarP(&a.file, "config", "c", "", "read the configuration from `FILE` (-: standard input)")
	f.StringArrayVarP(&a.targets, "target", "t", nil, "use only the target `NAME` of the configuration (repeatable)")
	f.StringVarP(&a.output, "output", "o", "text", "print the result as `FORMAT`: text, json or jsonl "+
		"(a JSON line for each target as it ends, and one for the run)")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "print less; nothing if all is well")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "show every check with its evidence")
	f.StringVar(&a.logLevel, "log-level", "warn", "log at `LEVEL`: debug, info, warn or error")
	f.StringVar(&a.logFormat, "log-format", "text", "log to stderr as `FORMAT`: text or json")
	f.DurationVar(&a.timeout, "timeout", 0, "abort after `DURATION`")
	f.BoolVar(&a.noColor, "no-color", false, "use no colors (as NO_COLOR does)")
	choices("output", outputs...)
	choices("log-level", logLevels...)
	choices("log-format", logFormats...)
	_ = root.RegisterFlagCompletionFunc("target", a.completeTargets)
}

var (
	outputs    = []string{"text", "json", "jsonl"}
	logLevels  = []string{"debug", "info", "warn", "error"}
	logFormats = []string{"text", "json"}
)

// execute runs cobra. Every error that cobra finds before a command begins is a usage error.
func (a *app) execute(root *cobra.Command, args []string) error {
	root.SetArgs(args)
	cmd, err := root.ExecuteC()
	if err == nil || a.ready {
		return err
	}
	a.output = outputOf(args) // cobra may have stopped before it reached --output
	if a.command == "" && cmd != root {
		a.command = name(cmd)
	}
	var known *check.Error
	if errors.As(err, &known) {
		return err
	}
	return flagError(cmd, err)
}

// outputOf returns the --output of a command line that may have mistakes; text if it has none.
func outputOf(args []string) string {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.ParseErrorsAllowlist.UnknownFlags, flags.Usage = true, func() {}
	flags.SetOutput(io.Discard)
	output := flags.StringP("output", "o", "text", "")
	for _, single := range []string{"q", "v"} { // may stand before o, as in -qojson
		flags.BoolP("flag-"+single, single, false, "")
	}
	if _ = flags.Parse(args); slices.Contains(outputs, *output) {
		return *output
	}
	return "text"
}

// printed are the formats of commands whose result is no report of a run.
var printed = map[string][]string{
	"agent": {"text"}, "bootstrap": {"text"}, "completion": {"text"}, "config schema": {"text", "json"}, "config show": {"text", "json"},
	"export": {"text"}, "help": {"text"}, "init": {"text"}, "login": {"text", "json"}, "version": {"text", "json"},
}

// formats checks that a command prints the chosen format, rather than another one than its caller reads.
func (a *app) formats(cmd *cobra.Command) error {
	of, ok := printed[a.command]
	for parent := cmd; !ok && parent.HasParent(); parent = parent.Parent() { // completion bash
		of, ok = printed[name(parent)]
	}
	if !ok || slices.Contains(of, a.output) {
		return nil
	}
	return usage("%s prints %s, and no %s", name(cmd), strings.Join(of, " or "), a.output).Try(seeHelp(cmd))
}

// prepare validates the global flags and starts the command's context.
func (a *app) prepare(cmd *cobra.Command, _ []string) error {
	a.command = name(cmd)
	for _, choice := range []struct {
		flag, value string
		of          []string
	}{
		{"output", a.output, outputs}, {"log-level", a.logLevel, logLevels}, {"log-format", a.logFormat, logFormats},
	} {
		if !slices.Contains(choice.of, choice.value) {
			return usage("--%s takes one of %s", choice.flag, strings.Join(choice.of, ", "))
		}
	}
	if err := a.formats(cmd); err != nil {
		return err
	}
	if a.timeout < 0 {
		return usage("--timeout takes a duration above zero, such as 90s")
	}
	ctx, release := interruptible(cmd.Context(), cmd.Name() == "agent")
	a.release = release
	if a.timeout > 0 {
		var cancel func()
		ctx, cancel = context.WithTimeoutCause(ctx, a.timeout,
			check.Errorf(check.Unreachable, "aborted after %s (--timeout)", a.timeout))
		a.release = func() { cancel(); release() }
	}
	cmd.SetContext(ctx)
	if file, ok := a.stdout.(*os.File); ok {
		a.stdout = &reader{File: file, ctx: ctx, patience: 2 * time.Second}
	}
	a.wording.Command = sameRun(cmd)
	a.ready = true
	return nil
}

// reader is whoever reads stdout. One that stops reading blocks a write for ever, but not an interruption.
type reader struct {
	*os.File
	ctx      context.Context
	patience time.Duration // how long a write may last after an interruption
}

// Write implements io.Writer.
func (r *reader) Write(text []byte) (int, error) {
	type written struct {
		n   int
		err error
	}
	done := make(chan written, 1)
	go func() {
		n, err := r.File.Write(text)
		done <- written{n, err}
	}()
	select {
	case w := <-done:
		return w.n, w.err
	case <-r.ctx.Done():
	}
	select {
	case w := <-done:
		return w.n, w.err
	case <-time.After(r.patience):
		return 0, context.Cause(r.ctx)
	}
}

// interruptible returns a context that ends on SIGINT, SIGTERM and SIGHUP (the terminal is gone), with the reason as its
// cause. Later signals change nothing, because a write in progress must end. SIGPIPE fails a write to stdout and does
// not end the run. A command that reloads handles SIGHUP itself.
func interruptible(ctx context.Context, reloads bool) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !reloads && !signal.Ignored(syscall.SIGHUP) { // nohup ignores it
		signal.Notify(signals, syscall.SIGHUP)
	}
	unread := make(chan os.Signal, 1)
	signal.Notify(unread, syscall.SIGPIPE)
	go func() {
		for s := range signals {
			switch s {
			case os.Interrupt:
				cancel(check.Errorf(check.Interrupted, "interrupted by SIGINT"))
			case syscall.SIGHUP:
				cancel(check.Errorf(check.Terminated, "interrupted by SIGHUP: the terminal is gone"))
			default:
				cancel(check.Errorf(check.Terminated, "interrupted by SIGTERM"))
			}
		}
	}()
	return ctx, func() {
		signal.Stop(unread)
		signal.Stop(signals)
		close(signals)
		cancel(nil)
	}
}

// interrupted reports whether a signal ended the context. The end of --timeout is no interruption.
func interrupted(ctx context.Context) bool {
	code := check.CodeOf(context.Cause(ctx))
	return ctx.Err() != nil && (code == check.Interrupted || code == check.Terminated)
}

// name is what reports call a command: its path without the program's name.
func name(cmd *cobra.Command) string { return strings.TrimPrefix(cmd.CommandPath(), "proxmox-realm ") }

// logger writes to stderr.
func (a *app) logger() *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(a.logLevel)) // prepare has validated it
	options := &slog.HandlerOptions{Level: level}
	if a.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(a.stderr, options))
	}
	return slog.New(slog.NewTextHandler(a.stderr, options))
}

func (a *app) fleet(c *config.Config) *fleet.Fleet {
	f := fleet.New(c, userAgent(), a.logger())
	a.fleetHistory = f.History()
	return f
}

func (a *app) printf(format string, args ...any) error {
	if _, err := fmt.Fprintf(a.stdout, format, args...); err != nil {
		return unwritten(err)
	}
	return nil
}
