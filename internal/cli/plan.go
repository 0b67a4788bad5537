package cli

import (
	"github.com/spf13/cobra"

	"proxmox-realm/internal/fleet"
)

func (a *app) planCommand() *cobra.Command {
	var o fleet.Options
	var exitCode bool
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what apply would do; change nothing",
		Long: `Show what "apply" would do, and whether logins would still work. Change nothing.

A property that the configuration does not name is not managed: no plan has it.
plan exits with 0 for drift, unless --exit-code is given.` +
			exitHelp(exitDrift, exitUnverified, exitRefused, exitHeld),
		Example: "  proxmox-realm plan\n  proxmox-realm plan --exit-code || proxmox-realm apply",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.run(cmd, "comparing", "", o, exitCode, (*fleet.Fleet).Plan)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&exitCode, "exit-code", false, "exit with 10 if there is drift")
	f.BoolVar(&o.Replace, "replace", false, "plan to delete and recreate the realm if its username-claim differs")
	f.BoolVar(&o.NoGate, "no-gate", false, "plan the change even if logins would fail")
	shardFlag(cmd)
	a.configFlags(cmd)
	return cmd
}
