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
		Short: "Show what apply would do; changes nothing",
		Long: `Show what apply would do, the gate's verdict included, and change nothing.

A property that the configuration does not name is not managed: it never appears in a plan.` + exitHelp(exitDrift, exitRefused, exitHeld),
		Example: "  proxmox-realm plan\n  proxmox-realm plan --exit-code || proxmox-realm apply",
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connectable(cmd, false)
			if err != nil {
				return err
			}
			stop := a.working("comparing")
			run := a.fleet(c).Plan(cmd.Context(), o)
			stop()
			return a.finish(run, exitCode)
		},
	}
	cmd.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 10 where there is drift")
	cmd.Flags().BoolVar(&o.Replace, "replace", false, "plan to delete and create a realm whose username-claim differs")
	cmd.Flags().BoolVar(&o.NoGate, "no-gate", false, "do not ask what the gate would say")
	configFlags(cmd)
	return cmd
}
