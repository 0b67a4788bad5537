package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

func (a *app) bootstrapCommand() *cobra.Command {
	var b proxmox.Bootstrap
	var access bool
	cmd := &cobra.Command{
		Use:   "bootstrap",
		Short: "Print the pveum lines for a least-privilege token",
		Long: `Print the pveum lines that create a role, a user and an API token with the one
privilege that this program needs. Run them as root on one node. The line that
creates the token prints its secret once.

Whoever holds that token can point any realm at another issuer and become any of
its users. Guard it like root's password.

A configuration with "access" needs more: --access reads it and prints the lines
for a token that may also create groups and change permissions on its paths.
Whoever holds such a token is as powerful as an administrator.`,
		Example: "  proxmox-realm bootstrap\n  proxmox-realm bootstrap | ssh root@pve1.example.com sh -e\n" +
			"  proxmox-realm bootstrap --access -c config.yaml",
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := b.Validate(); err != nil {
				return err
			}
			if access && b.Audit {
				return usage("--access and --audit exclude each other: --access grants writing")
			}
			if access {
				var err error
				if b.Access, err = a.declaredAccess(cmd); err != nil {
					return err
				}
			}
			if err := a.printf("%s\n", strings.Join(b.Lines(), "\n")); err != nil || a.quiet {
				return err
			}
			a.say("note", "run these lines as root on one node, then write the token to the file of proxmox.token_file: "+b.Token()+"=SECRET")
			return nil
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&b.User, "user", "", "create this `USER` (proxmox-realm@pve)")
	f.StringVar(&b.TokenID, "token-id", "", "create the token with this `ID` (agent)")
	f.BoolVar(&b.Audit, "audit", false, "grant only what plan and verify need: read realms, write nothing")
	f.BoolVar(&b.Users, "users", false, "also grant reading users, for the check proxmox.users")
	f.BoolVar(&access, "access", false, "also grant what the configuration's groups and grants need, and reading users")
	return cmd
}

// declaredAccess returns what the configuration of one cluster says of groups and grants.
func (a *app) declaredAccess(cmd *cobra.Command) (realm.Access, error) {
	c, err := a.load(cmd, config.Options{Partial: true})
	switch {
	case err != nil:
		return nil, err
	case len(c.Targets) > 1:
		return nil, chooseTarget(cmd, c)
	case c.Targets[0].Access == nil:
		return nil, check.Errorf(check.Config, "required").At("access").
			Try(check.Set("access", "").With("the issuer's groups and the roles that they get"))
	}
	return c.Targets[0].Access, nil
}
