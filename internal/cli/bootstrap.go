package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/pve"
)

func (a *app) bootstrapCommand() *cobra.Command {
	var b pve.Bootstrap
	cmd := &cobra.Command{
		Use:   "bootstrap",
		Short: "Print the pveum lines for a least-privilege token",
		Long: `Print the pveum lines that create a role, a user and an API token with the one
privilege that this program needs. Run them as root on one node. The line that
creates the token prints its secret once.

Whoever holds that token can point any realm at another issuer and become any of
its users. Guard it like root's password.`,
		Example: "  proxmox-realm bootstrap\n  proxmox-realm bootstrap | ssh root@pve1.example.com sh -e",
		Args:    exactly(0, ""),
		RunE: func(*cobra.Command, []string) error {
			if err := b.Validate(); err != nil {
				return err
			}
			return a.printf("%s\n", strings.Join(b.Lines(), "\n"))
		},
	}
	f := cmd.Flags()
	f.StringVar(&b.User, "user", "", "create this `USER` (proxmox-realm@pve)")
	f.StringVar(&b.TokenID, "token-id", "", "create the token with this `ID` (agent)")
	f.BoolVar(&b.Audit, "audit", false, "grant only what plan and verify need: read realms, write nothing")
	f.BoolVar(&b.Users, "users", false, "also grant reading users, for the check proxmox.users")
	return cmd
}
