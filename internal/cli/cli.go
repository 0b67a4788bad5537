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

	"proxmox-realm/internal/check"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"proxmox-realm/internal/config"
	"proxmox-realm/internal/fleet"
)

// Main runs one command and returns the exit code. Results go to stdout, everything else to stderr.
func Main(args, env []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{env: env, stdin: stdin, stdout: stdout, stderr: stderr, output: "text"}
	root := a.root()
	addConfigFlags(root, args)
	root.SetArgs(args)
	called, _, _ := root.Find(args) // an unknown one is reported when it is executed
	if called == root {
		addCompletion(root, args)
	}
	ctx, stop := a.interruptible(called.Name() == "agent")
	defer stop()
	return a.exit(args, a.execute(ctx, root))
}

// app is what all commands share: the streams, the global flags, and which command was called.
type app struct {
	env            []string
	stdin          io.Reader
	stdout, stderr io.Writer

	command   string // for reports; "" before one was found
	file      string
	targets   []string
	output    string
	quiet     bool
	verbose   bool
	logLevel  string
	logFormat string
	timeout   time.Duration
	noColor   bool

	cancelled func() // frees the timeout's timer
}

// interruptible returns a context that SIGINT, SIGTERM and the end of the terminal (SIGHUP) end, with a fault as the cause.
// Further signals change nothing: what must not be left half done is being finished. For the same reason a reader who
// went away (SIGPIPE) ends no run, but the write to it. A command that reloads has another use for SIGHUP.
func (a *app) interruptible(reloads bool) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !reloads && !signal.Ignored(syscall.SIGHUP) { // as nohup has it
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
		if a.cancelled != nil {
			a.cancelled()
		}
	}
}

func (a *app) root() *cobra.Command {
	var showVersion bool
	root := &cobra.Command{
		Use:   "proxmox-realm",
		Short: "Keeps an OpenID Connect realm of Proxmox VE as declared, and proves that logins through it work",
		Long: `proxmox-realm creates or updates one OpenID Connect realm of Proxmox VE (authelia by default) and verifies
it: the issuer from here, the issuer through Proxmox, and the client, all before a user logs in.

Begin with "probe https://auth.example.com", then "bootstrap", then "plan" and "apply".`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return unknownCommand(cmd, args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if showVersion {
				return a.printf("%s\n", versionLine())
			}
			return cmd.Help()
		},
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: a.prepare,
	}
	root.Flags().BoolVar(&showVersion, "version", false, "print the version")
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage("%s", strings.TrimSpace(err.Error())).Try(check.Advise("see %s --help", cmd.CommandPath()))
	})
	root.SuggestionsMinimumDistance = 2
	cobra.EnableCommandSorting = false

	f := root.PersistentFlags()
	f.StringVarP(&a.file, "config", "c", "", "configuration `FILE`; - for the standard input")
	f.StringArrayVarP(&a.targets, "target", "t", nil, "only the target `NAME` of the configuration (repeatable)")
	f.StringVarP(&a.output, "output", "o", "text", "`FORMAT` of the result: text, json or junit")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "say nothing where all is well")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "show every check with its evidence")
	f.StringVar(&a.logLevel, "log-level", "warn", "`LEVEL` of messages on stderr: debug, info, warn or error")
	f.StringVar(&a.logFormat, "log-format", "text", "`FORMAT` of these messages: text or json")
	f.DurationVar(&a.timeout, "timeout", 0, "give the whole run up after `DURATION`")
	f.BoolVar(&a.noColor, "no-color", false, "no colours (as NO_COLOR does)")
	f.SortFlags = false

	root.AddGroup(&cobra.Group{ID: "main", Title: "Commands:"}, &cobra.Group{ID: "setup", Title: "Setting up:"}, &cobra.Group{ID: "other", Title: "Other:"})
	root.SetHelpCommandGroupID("other")
	root.SetCompletionCommandGroupID("other")
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("main", a.planCommand(), a.applyCommand(), a.verifyCommand(), a.probeCommand(), a.loginCommand(), a.agentCommand())
	add("setup", a.bootstrapCommand(), a.exportCommand(), a.deleteCommand(), a.autheliaCommand(), a.configCommand())
	add("other", a.versionCommand())
	root.AddCommand(helpTopics()...)
	root.SetHelpCommand(helpCommand())
	root.AddCommand(a.docsCommand())
	root.SetHelpFunc(explain(root.HelpFunc()))
	return root
}

// prepare checks the global flags, once the command is known.
func (a *app) prepare(cmd *cobra.Command, _ []string) error {
	a.command = name(cmd)
	for _, choice := range []struct {
		flag, value string
		of          []string
	}{
		{"output", a.output, []string{"text", "json", "junit"}},
		{"log-level", a.logLevel, []string{"debug", "info", "warn", "error"}},
		{"log-format", a.logFormat, []string{"text", "json"}},
	} {
		if !slices.Contains(choice.of, choice.value) {
			return usage("--%s takes one of %s", choice.flag, strings.Join(choice.of, ", "))
		}
	}
	if a.timeout < 0 {
		return usage("--timeout takes a duration above zero, such as 90s")
	}
	if a.timeout > 0 {
		ctx, cancel := context.WithTimeoutCause(cmd.Context(), a.timeout,
			check.Errorf(check.Unreachable, "given up after %s (--timeout)", a.timeout))
		a.cancelled = cancel
		cmd.SetContext(ctx)
	}
	return nil
}

// name is what reports call a command: without the program's name.
func name(cmd *cobra.Command) string { return strings.TrimPrefix(cmd.CommandPath(), "proxmox-realm ") }

// execute runs cobra, which reports a wrong number of arguments as an error like any other.
func (a *app) execute(ctx context.Context, root *cobra.Command) error {
	cmd, err := root.ExecuteContextC(ctx)
	if a.command == "" && cmd != nil && cmd != root { // its arguments were wrong
		a.command = name(cmd)
	}
	var known *check.Error
	var done status
	if err != nil && !errors.As(err, &known) && !errors.As(err, &done) && strings.HasPrefix(err.Error(), "unknown command") {
		return usage("%s", firstLine(err.Error())).Try(check.Advise("see %s --help", cmd.CommandPath()))
	}
	return err
}

func usage(format string, args ...any) *check.Error {
	return check.Errorf(check.Usage, format, args...)
}

func unknownCommand(cmd *cobra.Command, called string) error {
	err := usage("there is no command %q", called)
	if near := cmd.SuggestionsFor(called); len(near) > 0 {
		return err.Try(check.Advise("did you mean %s", strings.Join(near, " or ")))
	}
	return err.Try(check.Advise("see %s --help", cmd.CommandPath()))
}

// exactly, atMost: cobra's own argument checks, as usage errors.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		if n == 0 {
			return usage("%s takes no arguments", cmd.CommandPath()).Try(check.Advise("see %s --help", cmd.CommandPath()))
		}
		return usage("%s takes %s", cmd.CommandPath(), what).Try(check.Advise("see %s --help", cmd.CommandPath()))
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return strings.TrimSpace(line)
}

// logger writes to stderr.
func (a *app) logger() *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(a.logLevel)) // checked in prepare
	options := &slog.HandlerOptions{Level: level}
	if a.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(a.stderr, options))
	}
	return slog.New(slog.NewTextHandler(a.stderr, options))
}

// configFlags gives a command the common keys as flags. They are many, and most runs need those of one command: see
// addConfigFlags.
func configFlags(cmd *cobra.Command) {
	cmd.Flags().SortFlags = false
	if cmd.Annotations == nil {
		cmd.Annotations = map[string]string{}
	}
	cmd.Annotations[keyAnnotation] = "flags"
}

// addConfigFlags adds the flags that configFlags promised to the command that the arguments call, or, where that is one
// that looks at other commands (help, completion), to all.
func addConfigFlags(root *cobra.Command, args []string) {
	called, _, err := root.Find(args)
	if err == nil && called != root && called.Annotations[keyAnnotation] != "" {
		defineFlags(called)
		root.CompletionOptions.DisableDefaultCmd = true // four commands that this run cannot reach
		return
	}
	if err == nil && called == root && !slices.ContainsFunc(args, func(arg string) bool {
		return arg == "help" || strings.HasPrefix(arg, "__complete")
	}) {
		return
	}
	if err == nil && called != root && !slices.Contains([]string{"help", "completion", "__complete", "__completeNoDesc"}, called.Name()) {
		return
	}
	defineAllFlags(root)
}

func defineAllFlags(cmd *cobra.Command) {
	if cmd.Annotations[keyAnnotation] != "" {
		defineFlags(cmd)
	}
	for _, c := range cmd.Commands() {
		defineAllFlags(c)
	}
}

func defineFlags(cmd *cobra.Command) {
	set := cmd.Flags()
	for _, k := range config.Keys() {
		if k.Flag == "" {
			continue
		}
		doc := strings.ReplaceAll(k.Doc, "`", "'") // which pflag would take for the value's name
		switch k.Kind {
		case config.List:
			set.StringArray(k.Flag, nil, doc)
		case config.Bool:
			set.String(k.Flag, "", doc)
			set.Lookup(k.Flag).NoOptDefVal = "true"
		default:
			set.String(k.Flag, "", doc)
		}
		_ = set.SetAnnotation(k.Flag, keyAnnotation, []string{k.Path})
	}
}

const keyAnnotation = "configuration key"

// flagValues collects the keys that were given as flags.
func flagValues(cmd *cobra.Command) []config.FlagValue {
	var values []config.FlagValue
	cmd.Flags().Visit(func(f *pflag.Flag) {
		path, ok := f.Annotations[keyAnnotation]
		if !ok {
			return
		}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			for _, v := range list.GetSlice() {
				values = append(values, config.FlagValue{Key: path[0], Value: v})
			}
			return
		}
		values = append(values, config.FlagValue{Key: path[0], Value: f.Value.String()})
	})
	return values
}

// load reads the configuration with the command's flags on top, and asks for passwords that it lacks.
func (a *app) load(cmd *cobra.Command, o config.Options) (*config.Config, error) {
	o.File, o.Stdin, o.Env, o.Targets, o.Flags = a.file, a.stdin, a.env, a.targets, append(o.Flags, flagValues(cmd)...)
	c, err := config.Load(cmd.Context(), o)
	if err != nil {
		return nil, err
	}
	for _, w := range c.Warnings {
		a.warning(w)
	}
	return c, nil
}

// connectable loads a configuration for a command that talks to Proxmox.
func (a *app) connectable(cmd *cobra.Command, partial bool) (*config.Config, error) {
	c, err := a.load(cmd, config.Options{Secrets: true, Partial: partial})
	if err != nil {
		return nil, err
	}
	for i := range c.Targets {
		p := &c.Targets[i].Proxmox
		switch {
		case len(p.Endpoints) == 0:
			return nil, check.Errorf(check.Config, "proxmox.endpoints: required").Try(check.Advise("give --endpoint, such as --endpoint pve1.example.com"))
		case p.Username.IsZero() && p.Token.IsZero():
			return nil, check.Errorf(check.Config, "proxmox: no credentials").Try(check.Advise("give --token-file, or --username to be asked for the password"))
		}
		if err := a.askPassword(cmd.Context(), c.Targets[i].Name, p); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (a *app) fleet(c *config.Config) *fleet.Fleet {
	return fleet.New(c, userAgent(), a.logger())
}

// terminal tells whether a stream is one, and how wide it is.
func terminal(stream any) (width int, ok bool) {
	f, isFile := stream.(*os.File)
	if !isFile || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		width = 0
	}
	return width, true
}

func (a *app) getenv(name string) string {
	for _, v := range slices.Backward(a.env) {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

func (a *app) printf(format string, args ...any) error {
	if _, err := fmt.Fprintf(a.stdout, format, args...); err != nil {
		return unwritten(err)
	}
	return nil
}
