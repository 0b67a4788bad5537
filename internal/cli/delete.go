package cli

import (
	"github.com/spf13/cobra"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/realm"
)

type deleteOptions struct {
	fleet.Options
	yes    bool
	dryRun bool
}

func (a *app) deleteCommand() *cobra.Command {
	var o deleteOptions
	cmd := &cobra.Command{
		Use:   "delete REALM",
		Short: "Save, then remove an OpenID Connect realm",
		Long: `Save an OpenID Connect realm to a file in state_dir, then remove it. Its users,
their API tokens, groups and ACL entries stay in Proxmox. They take effect again
if a realm of that name is created.

The file holds the realm as Proxmox returned it, including the client key. It is
kept for 30 days. "restore" brings the realm back.` + exitHelp(exitRefused, exitUnavailable, exitDenied),
		Example: "  proxmox-realm delete authelia --dry-run\n  proxmox-realm delete authelia --yes",
		Args:    arguments(1, 1, "the name of one realm"),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.delete(cmd, args[0], o) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask for confirmation")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would be deleted; change nothing")
	f.DurationVar(&o.WaitLock, "wait-lock", 0, "wait up to `DURATION` while another run holds the lock")
	a.configFlags(cmd)
	return cmd
}

func (a *app) delete(cmd *cobra.Command, name string, o deleteOptions) error {
	c, err := a.connectable(cmd, true)
	if err != nil {
		return err
	}
	if len(c.Targets) > 1 && len(a.targets) == 0 {
		return chooseTarget(cmd, c)
	}
	var where []string
	for i := range c.Targets {
		if err := c.Targets[i].Proxmox.Product.ValidateName(name); err != nil {
			return usage("a realm's name %v", err)
		}
		c.Targets[i].Realm = realm.Spec{Product: c.Targets[i].Proxmox.Product, Name: name}
		where = append(where, string(c.Targets[i].Proxmox.Endpoints[0]))
	}
	a.saysState(c.StateDir)
	f := a.fleet(c)
	if o.dryRun {
		return a.finish(f.PlanDelete(cmd.Context(), o.Options), false)
	}
	if !o.yes {
		if err := a.confirm(cmd.Context(), name, where); err != nil {
			return err
		}
	}
	run := f.Delete(cmd.Context(), o.Options)
	err = a.finish(run, false)
	for _, t := range run.Targets {
		if t.Saved != "" && !a.quiet {
			a.note("realm %s of %s is saved in %s for 30 days", t.Realm, t.Endpoint, t.Saved)
			command := "restore " + t.Realm
			if len(a.targets) > 0 {
				command += " -t " + t.Name
			}
			a.sayHint(check.Hintf("to bring it back:\n    {%s}", command))
		}
	}
	return err
}
