package cli

import (
	"github.com/spf13/cobra"

	"proxmox-realm/internal/fleet"
)

func (a *app) verifyCommand() *cobra.Command {
	var o fleet.Options
	var metrics string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Run all checks on realm, issuer and client; change nothing",
		Long: `Run all checks on realm, issuer and client. Change nothing.

A check fails only if a login would break for certain. It is skipped if this
machine or token lacks access to what it needs. "help checks" lists the checks.` +
			exitHelp(exitUnverified, exitUnavailable, exitDenied),
		Example: "  proxmox-realm verify\n  proxmox-realm verify --all-endpoints -o json",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.run(cmd, "verifying", metrics, o, false, (*fleet.Fleet).Verify)
		},
	}
	cmd.Flags().BoolVar(&o.AllEndpoints, "all-endpoints", false,
		"let every node discover the issuer: each has its own DNS, certificate authorities and proxy")
	metricsFlag(cmd, &metrics)
	shardFlag(cmd)
	a.configFlags(cmd)
	return cmd
}
