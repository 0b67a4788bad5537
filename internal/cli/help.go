package cli

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
)

// exitHelp ends a command's help with its exit codes, beside 0 and those that every command has.
func exitHelp(codes ...int) string {
	var b strings.Builder
	b.WriteString("\n\nExit codes:")
	for _, m := range exitMeanings {
		if m.code == exitOK || slices.Contains(codes, m.code) {
			fmt.Fprintf(&b, "\n  %-4d %s", m.code, m.means)
		}
	}
	b.WriteString("\nAll of them: proxmox-realm help exit-codes")
	return b.String()
}

// explain shows a command's help, folded for a terminal. The keys of the configuration belong to that of config; they are
// put together only then.
func explain(show func(*cobra.Command, []string)) func(*cobra.Command, []string) {
	return func(cmd *cobra.Command, args []string) {
		if cmd.CommandPath() == "proxmox-realm config" {
			cmd.Long = strings.TrimRight(configTopic(), "\n")
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if len(f.Annotations[keyAnnotation]) > 0 {
				f.Usage = brief(f.Usage)
			}
		})
		out := cmd.OutOrStdout()
		var page bytes.Buffer
		cmd.SetOut(&page)
		show(cmd, args)
		cmd.SetOut(out)
		_, _ = io.WriteString(out, folded(page.String()))
	}
}

// brief is what a key's text says first, written as the other flags' texts are; "help config" has all of it.
func brief(text string) string {
	first, _, _ := strings.Cut(text, ". ")
	first = strings.TrimSuffix(first, ".")
	if len(first) > 1 && unicode.IsLower(rune(first[1])) || strings.HasPrefix(first, "A ") {
		first = strings.ToLower(first[:1]) + first[1:]
	}
	return first
}

// values names what pflag calls by its Go type, in as many characters.
var values = strings.NewReplacer(` stringArray `, ` VALUE,...   `, ` string[="true"] `, `[=false]         `, ` string `, ` VALUE  `)

// folded breaks the lines of a help text at [width]: paragraphs, and the second column of what has two. Examples and
// other indented lines stay whole, to be copied.
func folded(text string) string {
	columns := regexp.MustCompile(`^( +(?:(?:-\w, )?--[a-z-]+.*?  |[0-9]+ ) *)([^ ].*)$`) // of flags and of exit codes
	var b strings.Builder
	var paragraph []string
	flush := func() {
		if len(paragraph) > 0 {
			b.WriteString(wrapped("", strings.Join(paragraph, " ")))
			paragraph = nil
		}
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if line != "" && line[0] != ' ' {
			paragraph = append(paragraph, line)
			continue
		}
		flush()
		if found := columns.FindStringSubmatch(line); found != nil {
			b.WriteString(wrapped(values.Replace(found[1]), found[2]))
			continue
		}
		b.WriteString(line + "\n")
	}
	flush()
	return b.String()
}

// helpCommand is cobra's, which takes every word for a topic and a typo for success, made strict.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "Explain a command or a topic",
		GroupID: "other",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			about, _, err := cmd.Root().Find(args)
			if err != nil || about == nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []string
			for _, c := range about.Commands() {
				if !c.Hidden {
					names = append(names, c.Name()+"\t"+c.Short)
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			about, left, err := cmd.Root().Find(args)
			switch {
			case err != nil:
				return unknownCommand(cmd.Root(), args[0])
			case len(left) > 0:
				return unknownCommand(about, left[0])
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

// addCompletion adds cobra's command, which takes every word for a shell and a typo for success, made strict.
func addCompletion(root *cobra.Command, args []string) {
	root.InitDefaultCompletionCmd(args...)
	for _, c := range root.Commands() {
		if c.Name() != "completion" {
			continue
		}
		c.Args = func(*cobra.Command, []string) error {
			return usage("completion takes one of bash, zsh, fish, powershell").Try(check.Advise("see proxmox-realm completion --help"))
		}
		c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() } // never: Args refuses all
	}
}

// helpTopics are commands that only explain.
func helpTopics() []*cobra.Command {
	topic := func(name, short string, text func() string) *cobra.Command {
		cmd := &cobra.Command{Use: name, Short: short}
		cmd.SetHelpFunc(func(cmd *cobra.Command, _ []string) { _, _ = io.WriteString(cmd.OutOrStdout(), folded(text())) })
		return cmd
	}
	return []*cobra.Command{
		topic("exit-codes", "The exit codes", exitCodesTopic),
		topic("environment", "The environment variables", environmentTopic),
		topic("checks", "The checks", checksTopic),
	}
}

func exitCodesTopic() string {
	var b strings.Builder
	b.WriteString("Exit codes:\n\n")
	for _, m := range exitMeanings {
		b.WriteString(wrapped(fmt.Sprintf("  %-5d", m.code), m.means))
	}
	b.WriteString("\nWith several targets, every one is tried, and the code is the first that occurred of\n")
	b.WriteString("130, 143, 1, 78, 77, 69, 75, 12, 13, 11, 10.\n")
	return b.String()
}

func configTopic() string {
	var b strings.Builder
	b.WriteString(`The configuration is one YAML document, found by --config, $PROXMOX_REALM_CONFIG,
$XDG_CONFIG_HOME/proxmox-realm/config.yaml or /etc/proxmox-realm/config.yaml. Flags beat the environment,
which beats the file. "config show" tells where each value came from.

`)
	for _, k := range config.Keys() {
		name := k.Path
		if k.Flag != "" {
			name += " (--" + k.Flag + ")"
		}
		b.WriteString("  " + name + "\n")
		text := k.Doc
		if k.Default != "" {
			text += " Default: " + k.Default + "."
		}
		if len(k.Choices) > 0 {
			text += " One of " + strings.Join(k.Choices, ", ") + "."
		}
		if k.Since != "" && k.Since > "7.1" {
			text += " Proxmox VE " + k.Since + " and later."
		}
		b.WriteString(wrapped("      ", text))
	}
	b.WriteString("  targets\n")
	b.WriteString(wrapped("      ", "Many clusters: a list of names, each with keys that overlay those above. A target that sets endpoints inherits no credentials, no trust and no redirect URLs."))
	return b.String()
}

func environmentTopic() string {
	var b strings.Builder
	b.WriteString("Every key but lists of arguments can be given as a variable; secrets are better kept in files.\n\n")
	for _, k := range config.Keys() {
		if k.Env != "" {
			fmt.Fprintf(&b, "  %-42s %s\n", k.Env, k.Path)
		}
	}
	b.WriteString(`
  PROXMOX_REALM_CONFIG     the configuration file
  NO_COLOR                 no colours
  HTTPS_PROXY, NO_PROXY    as usual

PROXMOX_VE_ENDPOINT, PROXMOX_VE_API_TOKEN, PROXMOX_VE_USERNAME, PROXMOX_VE_PASSWORD and PROXMOX_VE_INSECURE
count as one set, and only where nothing else says anything under "proxmox", trust aside. PROXMOX_TOKEN is never
read: other tools disagree on what it holds.
`)
	return b.String()
}

func checksTopic() string {
	var b strings.Builder
	b.WriteString(`A check passes, warns, fails or is skipped. It fails only on proof that a login breaks; what this machine or
these credentials cannot see is skipped. verify.ignore names checks that neither fail nor warn. Each holds when …

`)
	entry := func(e check.Entry) { b.WriteString(wrapped(fmt.Sprintf("  %-23s ", e.ID), e.Holds)) }
	for _, e := range check.Catalog() {
		entry(e)
	}
	return b.String()
}

// width is that of the lines of help texts, in characters.
const width = 80

// wrapped breaks text into lines of at most [width] characters, each indented as far as the first.
func wrapped(first, text string) string {
	var b strings.Builder
	line := first
	indent := strings.Repeat(" ", len(first))
	for i, word := range strings.Fields(text) {
		if i > 0 && len(line)+1+len(word) > width {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = indent
		} else if i > 0 && line != indent {
			line += " "
		}
		line += word
	}
	b.WriteString(line + "\n")
	return b.String()
}
