package cli

import (
	"cmp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/proxmox"
)

// keyFlag is a configuration key as a flag. It keeps what was typed: config parses it.
type keyFlag struct {
	config.Key
	values []string
}

// keyFlags returns the common configuration keys as flags. All commands share them, because only one runs.
func keyFlags() *pflag.FlagSet {
	f := pflag.NewFlagSet("keys", pflag.ContinueOnError)
	f.SortFlags = false
	for _, k := range config.Keys() {
		if k.Flag == "" {
			continue
		}
		usage := strings.ReplaceAll(k.Doc, "`", "'") // pflag takes `x` for the value's name
		flag := f.VarPF(&keyFlag{Key: k}, k.Flag, "", usage)
		if k.Kind == config.Bool {
			flag.NoOptDefVal = "true"
		}
	}
	return f
}

// configFlags gives a command the common configuration keys as flags.
func (a *app) configFlags(cmd *cobra.Command) {
	if a.keys == nil {
		a.keys = keyFlags()
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().AddFlagSet(a.keys)
	cmd.Long = cmp.Or(cmd.Long, cmd.Short+".") + `

The common configuration keys are flags too, such as --endpoint:
see "proxmox-realm help config".`
}

// shardFlag gives a command --shard.
func shardFlag(cmd *cobra.Command) {
	cmd.Flags().String("shard", "", "take only the targets of shard `INDEX/COUNT`, such as 0/4 (default from\n"+
		"JOB_COMPLETION_INDEX and PROXMOX_REALM_SHARDS)")
}

// String implements pflag.Value.
func (f *keyFlag) String() string { return strings.Join(f.values, ",") }

// Set implements pflag.Value. A list takes the values of all its flags; otherwise the last one counts. Endpoints are no such
// list: a second --endpoint replaces that of a wrapper script, and --endpoint a,b names two nodes.
func (f *keyFlag) Set(value string) error {
	if f.Kind != config.List || f.Path == "proxmox.endpoints" {
		f.values = nil
	}
	f.values = append(f.values, value)
	return nil
}

// Type implements pflag.Value: help shows it as the flag's value.
func (f *keyFlag) Type() string {
	switch f.Kind {
	case config.Path:
		return "FILE"
	case config.Bool:
		return "bool"
	case config.Enum:
		return strings.Join(f.Choices, "|")
	default:
		return "VALUE"
	}
}

// flagValues collects the keys that were given as flags.
func flagValues(cmd *cobra.Command) []config.FlagValue {
	var values []config.FlagValue
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if key, ok := f.Value.(*keyFlag); ok {
			for _, v := range key.values {
				values = append(values, config.FlagValue{Key: key.Path, Value: v})
			}
		}
	})
	return values
}

// flagKey names a key for readers without a configuration file: by its flag, if it has one.
func flagKey(path string) string {
	for _, k := range config.Keys() {
		if k.Path == path && k.Flag != "" {
			return "--" + k.Flag
		}
	}
	return path
}

// sameRun words a command line of a hint: copied, it works on the configuration and on the targets of the command cmd.
func sameRun(cmd *cobra.Command) func(line string) string {
	return func(line string) string {
		meant, _, err := cmd.Root().Find(strings.Fields(line))
		if err != nil || slices.Contains([]string{"help", "version", "init", "probe", "config schema"}, name(meant)) {
			return "proxmox-realm " + line
		}
		has := func(flag string) bool { return flag != "" && strings.Contains(" "+line+" ", " -"+flag+" ") }
		cmd.Flags().Visit(func(f *pflag.Flag) {
			_, isKey := f.Value.(*keyFlag)
			switch {
			case has("-" + f.Name), has(f.Shorthand), meant.Flag(f.Name) == nil:
			case f.Name == "config" && f.Value.String() == "-": // nobody can read it twice
			case f.Name == "config":
				line += given(f)
			case name(meant) == "rotate": // takes all targets of the client, with the key that the configuration says
			case f.Name == "target", isKey:
				line += given(f)
			}
		})
		return "proxmox-realm " + line
	}
}

// repeated is the command line as it was given, with those flags only; without names with all.
func repeated(cmd *cobra.Command, flags ...string) string {
	line := name(cmd)
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if len(flags) > 0 && !slices.Contains(flags, f.Name) {
			return
		}
		line += given(f)
	})
	return line
}

// given is a flag as it was given, with a space before it.
func given(f *pflag.Flag) (text string) {
	flag, values := " --"+f.Name, []string{f.Value.String()}
	if f.Name == "config" || f.Name == "target" { // known by their letters
		flag = " -" + f.Shorthand
	}
	switch v := f.Value.(type) {
	case *keyFlag:
		values = v.values
	case pflag.SliceValue:
		values = v.GetSlice()
	}
	for _, value := range values {
		switch isBool := f.Value.Type() == "bool"; {
		case isBool && value == "true":
			text += flag
		case isBool:
			text += flag + "=" + value
		default:
			text += flag + " " + check.Quote(value)
		}
	}
	return text
}

// load reads the configuration, with the command's flags on top.
func (a *app) load(cmd *cobra.Command, o config.Options) (*config.Config, error) {
	c, err := a.read(cmd, o)
	if err != nil {
		return nil, err
	}
	for _, w := range c.Warnings {
		a.warning(w)
	}
	return c, nil
}

// read reads the configuration. The caller shows its warnings.
func (a *app) read(cmd *cobra.Command, o config.Options) (*config.Config, error) {
	o.File, o.Stdin, o.Targets, o.Flags = a.file, a.stdin, a.targets, append(o.Flags, flagValues(cmd)...)
	if f := cmd.Flags().Lookup("shard"); f != nil {
		if o.Shard, o.Sharded = f.Value.String(), true; f.Changed && o.Shard == "" {
			return nil, usage("--shard takes INDEX/COUNT, such as 0/4")
		}
	}
	if !config.Found(o.File) && a.wording.Key == nil {
		a.wording.Key = flagKey
	}
	return config.Load(cmd.Context(), o)
}

// readAll reads the configuration with the targets that -t leaves out.
func (a *app) readAll(cmd *cobra.Command) (*config.Config, error) {
	whole := *a
	whole.targets = nil
	return whole.read(cmd, config.Options{Partial: true})
}

// connectable loads a configuration for a command that talks to Proxmox, and asks for the passwords that it lacks.
func (a *app) connectable(cmd *cobra.Command, partial bool) (*config.Config, error) {
	c, err := a.load(cmd, config.Options{Secrets: true, Partial: partial})
	if err != nil {
		return nil, err
	}
	if len(c.Targets) == 0 {
		a.note("shard %s has no target", c.Shard)
	}
	for i := range c.Targets {
		p := &c.Targets[i].Proxmox
		switch {
		case len(p.Endpoints) == 0:
			return nil, check.Errorf(check.Config, "required").At("proxmox.endpoints").
				Try("set {proxmox.endpoints} (such as pve1.example.com)")
		case p.Username.IsZero() && p.Token.IsZero():
			return nil, check.Errorf(check.Config, "no credentials").At("proxmox").
				Try("set {proxmox.token_file}", "set {proxmox.username} (asks for the password)")
		}
		if err := a.askPassword(cmd.Context(), c.Targets[i].Name, p); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// connect loads a configuration for a command that works on one cluster, and returns a client of that cluster. The
// configuration needs to hold only how to reach it.
func (a *app) connect(cmd *cobra.Command) (config.Target, *proxmox.Client, error) {
	c, err := a.connectable(cmd, true)
	if err != nil {
		return config.Target{}, nil, err
	}
	t, err := only(cmd, c)
	if err != nil {
		return t, nil, err
	}
	client, err := a.fleet(c).Connect(t)
	return t, client, err
}

// only returns the one target of a configuration.
func only(cmd *cobra.Command, c *config.Config) (config.Target, error) {
	if len(c.Targets) > 1 {
		return config.Target{}, chooseTarget(cmd, c)
	}
	return c.Targets[0], nil
}

// chooseTarget is the usage error of a command that wants -t.
func chooseTarget(cmd *cobra.Command, c *config.Config) error {
	var names []string
	for _, t := range c.Targets[:min(len(c.Targets), 10)] {
		names = append(names, t.Name)
	}
	return usage("%s needs -t NAME: the configuration has %d targets", name(cmd), len(c.Targets)).
		Try(check.Hintf("name one of the targets %s:\n    {%s%s -t NAME}", strings.Join(names, ", "), name(cmd), strings.TrimPrefix(cmd.Use, cmd.Name())))
}

// completeTargets completes the value of -t. A configuration that cannot be loaded has no completions.
func (a *app) completeTargets(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var names []cobra.Completion
	c, err := config.Load(cmd.Context(), config.Options{File: a.file, Flags: flagValues(cmd), Partial: true})
	if err == nil {
		for _, t := range c.Targets {
			names = append(names, t.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
