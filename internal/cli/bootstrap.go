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
		Long: `Print the pveum lines that make a role, a user and an API token with the one privilege that this program
needs, and nothing more. Run them as root on one node; the line that makes the token prints its secret once.

Whoever holds that token can repoint any realm and become any of its users: guard it like root's password.`,
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
	f.StringVar(&b.User, "user", "", "the `USER` to make (proxmox-realm@pve)")
	f.StringVar(&b.TokenID, "token-id", "", "the `ID` of the token to make (agent)")
	f.BoolVar(&b.Audit, "audit", false, "plan and verify alone: may read realms, not write them")
	f.BoolVar(&b.Users, "users", false, "may see users as well, for proxmox.users")
	return cmd
}
