package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

type bootstrapOptions struct {
	proxmox.Bootstrap
	product string
	access  bool
}

func (a *app) bootstrapCommand() *cobra.Command {
	var o bootstrapOptions
	cmd := &cobra.Command{
		Use:   "bootstrap",
		Short: "Print the lines that make a least-privilege token",
		Long: `Print the lines that make a role, a user and an API token with the one privilege
that this program needs. Run them as root on a node or host. They can be run
again: what exists is left as it is. The token is written to ` + proxmox.TokenFile + `
in the current folder there; that of Datacenter Manager is made in its web
interface.

Whoever holds that token can point any realm at another issuer and become any of
its users. Guard it like root's password.

Proxmox VE and Backup Server take a grant for realms alone. Datacenter Manager
takes none that is smaller than Administrator on /access, which is as good as
everything.

--access and --diagnose print only what they need beyond that, for the token of
the configuration of -c if no other is named. A configuration with "access"
needs a token that may also create groups and change permissions on its paths:
whoever holds such a token is as powerful as an administrator. --diagnose opens
the whole system log of the nodes, with the names and addresses of users.`,
		Example: "  proxmox-realm bootstrap\n  proxmox-realm bootstrap | ssh root@pve1.example.com sh -e\n" +
			"  proxmox-realm bootstrap --product pbs | ssh root@backup.example.com sh -e\n" +
			"  proxmox-realm bootstrap --access -c config.yaml",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.bootstrap(cmd, o) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.product, "product", "", "print the lines for this `PRODUCT`: pve, pbs or pdm (pve, or that of the configuration of -c)")
	f.StringVar(&o.User, "user", "", "create this `USER` (proxmox-realm in the product's own realm)")
	f.StringVar(&o.TokenID, "token-id", "", "create the token with this `ID` (agent)")
	f.BoolVar(&o.Audit, "audit", false, "grant only what plan and verify need: read realms, write nothing")
	f.BoolVar(&o.Users, "users", false, "also grant reading users, for the check proxmox.users")
	f.BoolVar(&o.access, "access", false, "grant what the configuration's groups and grants need beyond that, and reading users")
	f.BoolVar(&o.Diagnose, "diagnose", false, "grant what diagnose needs beyond that: the whole system log of the nodes")
	_ = cmd.RegisterFlagCompletionFunc("product", cobra.FixedCompletions([]string{"pve", "pbs", "pdm"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) bootstrap(cmd *cobra.Command, o bootstrapOptions) error {
	if o.access && o.Audit {
		return usage("--access and --audit exclude each other: --access grants writing")
	}
	if o.product != "" {
		var err error
		if o.Product, err = realm.ParseProduct(o.product); err != nil {
			return usage("--product %v", err)
		}
	}
	configured := o.access || a.file != "" || len(a.targets) > 0
	if configured {
		c, err := a.load(cmd, config.Options{Partial: true})
		if err != nil {
			return err
		}
		t, err := only(cmd, c)
		if err != nil {
			return err
		}
		if o.product == "" {
			o.Product = t.Proxmox.Product
		}
		if o.access && t.Access == nil && o.Product.HasGroups() {
			return check.Errorf(check.Config, "is required").At("access").Try("set {access} to the issuer's groups and the roles that they get")
		}
		if o.access {
			o.Access = t.Access
		}
	}
	if (o.access || o.Diagnose) && o.User == "" && o.TokenID == "" && configured {
		o.User, o.TokenID = a.declaredToken(cmd, o.Product)
	}
	if o.access && o.Access == nil {
		o.Access = realm.Access{} // for a product without groups, which refuses it
	}
	o.Again = repeated(cmd, "config", "target", "product", "user", "audit", "users", "access", "diagnose")
	if err := o.Validate(); err != nil {
		return err
	}
	lines := strings.Join(o.Lines(), "\n")
	if err := a.printf("%s\n", lines); err != nil || a.quiet {
		return err
	}
	note := "run these lines as root on one node or host"
	if o.access || o.Diagnose {
		note += ": they are for the token " + o.Token()
	}
	if strings.Contains(lines, proxmox.TokenFile) { // not where a token is made by hand, or made already
		note += ", then move the token from " + proxmox.TokenFile + " there to the file of proxmox.token_file: it is " + o.Token()
	}
	a.note("%s", note)
	return nil
}

// declaredToken returns the user and the id of the configuration's token of a product; "" if there is none yet.
func (a *app) declaredToken(cmd *cobra.Command, p realm.Product) (user, id string) {
	c, err := a.read(cmd, config.Options{Partial: true, Secrets: true})
	if err != nil || len(c.Targets) != 1 || c.Targets[0].Proxmox.Product != p {
		return "", ""
	}
	token := c.Targets[0].Proxmox.Token
	return token.User.String(), token.ID
}
