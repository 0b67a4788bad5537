package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
)

// terse hides the flags that are configuration keys from help: they are the same fifteen for most commands. The manual
// pages and the shell completions have them.
func terse(root *cobra.Command) {
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages", ".FlagUsagesWrapped 80"))
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) { f.Hidden = f.Hidden || isKey(f) })
		explain(cmd.Root())
		help(cmd, args)
	})
}

func isKey(f *pflag.Flag) bool {
	_, ok := f.Value.(*keyFlag)
	return ok
}

// exitHelp ends a command's help with its exit codes, without those that every command has.
func exitHelp(codes ...int) string {
	return "\n\nExit codes:\n\n" + exitLines(append(codes, exitOK)) + "\n\"help exit-codes\" lists all of them."
}

// exitLines explains exit codes, one a line.
func exitLines(codes []int) string {
	var b strings.Builder
	for _, code := range slices.Sorted(slices.Values(codes)) {
		for _, m := range exitMeanings {
			if m.code == code {
				fmt.Fprintf(&b, "    %-4d %s\n", code, m.means)
			}
		}
	}
	return b.String()
}

// addStrict adds cobra's commands help and completion. As cobra defines them, a typo in their arguments is a success.
func addStrict(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Args = func(cmd *cobra.Command, args []string) error {
				if about, left, _ := cmd.Root().Find(args); len(left) > 0 {
					return unknownCommand(about, left[0])
				}
				return nil
			}
		case "completion":
			c.Args, c.RunE = nil, chooseCommand
		}
	}
}

// chooseCommand is what a command does that only has commands below it.
func chooseCommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return unknownCommand(cmd, args[0])
	}
	var names []string
	for _, c := range cmd.Commands() {
		names = append(names, c.Name())
	}
	return usage("%s takes one of %s", name(cmd), strings.Join(names, ", ")).Try(seeHelp(cmd))
}

// helpTopics are commands that only explain.
func helpTopics() []*cobra.Command {
	return []*cobra.Command{
		{Use: "exit-codes", Short: "The exit codes"},
		{Use: "environment", Short: "The environment variables"},
		{Use: "checks", Short: "The checks"},
	}
}

// topics are the long texts of commands that explain. In them, four spaces begin a list, as in Markdown.
var topics = map[string]func() string{
	"exit-codes": exitCodesTopic, "environment": environmentTopic, "checks": checksTopic, "config": configTopic,
}

// explain writes the topics, which only help and the manual pages need.
func explain(root *cobra.Command) {
	for _, c := range root.Commands() {
		if topic, ok := topics[c.Name()]; ok {
			c.Long = topic()
		}
	}
}

func exitCodesTopic() string {
	var codes []int
	for _, m := range exitMeanings {
		codes = append(codes, m.code)
	}
	order := strings.Trim(fmt.Sprint(codes[:len(codes)-2]), "[]") // without 64 and 0
	return "Exit codes:\n\n" + exitLines(codes) + `
With several targets, every target is tried. The exit code is the first of these
that occurred: ` + strings.ReplaceAll(order, " ", ", ") + `.

plan returns 0 for drift, unless --exit-code is given.`
}

func configTopic() string {
	var b strings.Builder
	b.WriteString(`The configuration is one YAML document. It is read from --config,
$PROXMOX_REALM_CONFIG, $XDG_CONFIG_HOME/proxmox-realm/config.yaml or
/etc/proxmox-realm/config.yaml, whichever is found first. Flags override the
environment, and the environment overrides the file. "config show" prints where
each value came from.

`)
	for _, k := range config.Keys() {
		name := k.Path
		if k.Flag != "" {
			name += " (--" + k.Flag + ")"
		}
		text := k.Doc
		if k.Default != "" {
			text += " Default: " + k.Default + "."
		}
		if len(k.Choices) > 0 {
			text += " One of " + strings.Join(k.Choices, ", ") + "."
		}
		if k.Needs != "" {
			text += " Needs " + k.Needs + "."
		}
		b.WriteString("    " + name + "\n" + wrapped("        ", text))
	}
	b.WriteString("    targets\n" + wrapped("        ", "A list of clusters. "+
		"Each entry has a name and keys that override those above. "+
		"A target that sets endpoints inherits no credentials, no trust, no product and no redirect URLs. "+
		"A target of another product inherits the keys of realm that its product has."))
	return strings.TrimSuffix(b.String(), "\n")
}

func environmentTopic() string {
	var b strings.Builder
	b.WriteString(`Every configuration key can be set by an environment variable, except
commands, access and targets.
Keep secrets in files rather than in variables.

`)
	for _, k := range config.Keys() {
		if k.Env != "" {
			fmt.Fprintf(&b, "    %-40s %s\n", k.Env, k.Path)
		}
	}
	b.WriteString(`
Other variables:

    PROXMOX_REALM_CONFIG     the configuration file
    PROXMOX_REALM_SHARDS     the number of shards for plan, apply and verify;
                             JOB_COMPLETION_INDEX is the index of this one
    NO_COLOR                 use no colors
    HTTPS_PROXY, NO_PROXY    the proxy for requests to Proxmox and the issuer
    STATE_DIRECTORY          the default of state_dir; systemd sets it

Variables of other tools, such as PROXMOX_VE_* and PROXMOX_TOKEN, are not read.`)
	return b.String()
}

func checksTopic() string {
	var b strings.Builder
	b.WriteString(`A check passes, warns, fails or is skipped. It fails only if a login would break
for certain. It is skipped if this machine or token lacks access to the
information. verify.ignore names checks that neither fail nor warn. Each check
tests whether:

`)
	for _, e := range check.Catalog() {
		b.WriteString(wrapped(fmt.Sprintf("    %-21s ", e.ID), e.Holds))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// wrapped breaks text into lines of at most 80 characters. It puts first before the first line and indents the others
// as far.
func wrapped(first, text string) string {
	const width = 80
	var b strings.Builder
	line, empty := first, true
	for word := range strings.FieldsSeq(text) {
		if !empty && len(line)+1+len(word) > width {
			b.WriteString(line + "\n")
			line, empty = strings.Repeat(" ", len(first)), true
		}
		if !empty {
			line += " "
		}
		line, empty = line+word, false
	}
	return b.String() + line + "\n"
}
