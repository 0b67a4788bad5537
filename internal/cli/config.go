package cli

import (
	"cmp"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check, show or describe the configuration",
		RunE:  chooseCommand,
	}
	check := &cobra.Command{
		Use:   "check",
		Short: "Validate the configuration, its secret files and its commands",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.configCheck(cmd) },
	}
	show := &cobra.Command{
		Use:   "show",
		Short: "Print the effective values without secrets, and their sources",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.configShow(cmd) },
	}
	var ofReports bool
	schema := &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the configuration or of reports",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			schemaOf := config.Schema
			if ofReports {
				schemaOf = report.Schema
			}
			document, err := schemaOf()
			if err != nil {
				return err
			}
			return a.printf("%s", document)
		},
	}
	schema.Flags().BoolVar(&ofReports, "report", false, "print the schema of the reports of -o json")
	a.configFlags(check)
	a.configFlags(show)
	cmd.AddCommand(check, show, schema)
	return cmd
}

func (a *app) configCheck(cmd *cobra.Command) error {
	c, err := a.load(cmd, config.Options{Secrets: true, Strict: true})
	if err != nil {
		return err
	}
	if a.output != "text" {
		return render(a.stdout, a.output, fleet.Run{Command: a.command, Outcome: reconcile.Unchanged, Began: time.Now()}, report.Style{})
	}
	if a.quiet {
		return nil
	}
	targets := "1 target"
	if len(c.Targets) != 1 {
		targets = fmt.Sprintf("%d targets", len(c.Targets))
	}
	name := cmp.Or(c.File, "environment and flags")
	if a.file == "-" {
		name = "standard input"
	}
	if err := a.printf("%s: %s, no mistakes\n", name, targets); err != nil {
		return err
	}
	a.sayHint(nextPlan)
	return nil
}

// shownSetting is a line of config show as JSON. Target is null for what concerns the whole run.
type shownSetting struct {
	Target *string `json:"target"`
	config.Setting
}

func (a *app) configShow(cmd *cobra.Command) error {
	c, err := a.load(cmd, config.Options{Partial: true, Show: true})
	if err != nil {
		return err
	}
	secrets := check.NewCleaner(c.Secrets...) // people paste them into other keys
	for i, s := range c.Settings {
		c.Settings[i].Value = secrets.Hide(s.Value)
	}
	if a.output != "text" {
		settings := []shownSetting{}
		for _, s := range c.Settings {
			row := shownSetting{Setting: s}
			if s.Target != "" {
				row.Target = &s.Target
			}
			settings = append(settings, row)
		}
		return report.Encode(a.stdout, struct {
			Version  int            `json:"version"`
			Command  string         `json:"command"`
			File     string         `json:"file"`
			Settings []shownSetting `json:"settings"`
		}{report.Version, a.command, c.File, settings})
	}
	table := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	target := ""
	for _, s := range c.Settings {
		if s.Target != target {
			target = s.Target
			_, _ = fmt.Fprintf(table, "\n%s:\n", target)
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\n", s.Key, s.Value, s.Source)
	}
	return table.Flush()
}
