package cli

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"proxmox-realm/internal/check"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/config"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/realm"
)

func (a *app) deleteCommand() *cobra.Command {
	var yes, dryRun bool
	var o fleet.Options
	cmd := &cobra.Command{
		Use:   "delete REALM",
		Short: "Save, then remove an OpenID Connect realm",
		Long: `Save an OpenID Connect realm to a file in state_dir, then remove it. Its users, their API tokens, groups and
access rules stay in Proxmox: they apply again when a realm of that name is created.

The file holds the realm as Proxmox answered it, client key included. To have the realm again, apply a configuration
with these values.` + exitHelp(exitRefused, exitUnavailable, exitDenied),
		Example: "  proxmox-realm delete authelia\n  proxmox-realm delete authelia --yes",
		Args:    exactly(1, "the name of one realm"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.delete(cmd, args[0], yes, dryRun, o)
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would be removed; change nothing")
	cmd.Flags().DurationVar(&o.WaitLock, "wait-lock", 0, "wait for `DURATION` while another run holds the lock")
	configFlags(cmd)
	return cmd
}

func (a *app) delete(cmd *cobra.Command, name string, yes, dryRun bool, o fleet.Options) error {
	c, err := a.connectable(cmd, true)
	if err != nil {
		return err
	}
	if err := realm.ValidateName(name); err != nil {
		return usage("a realm's name %v", err)
	}
	var where []string
	for i := range c.Targets {
		c.Targets[i].Realm = realm.Spec{Name: name}
		where = append(where, string(c.Targets[i].Proxmox.Endpoints[0]))
	}
	if dryRun {
		return a.finish(a.fleet(c).PlanDelete(cmd.Context(), o), false)
	}
	if !yes {
		if err := a.confirm(cmd.Context(), name, where); err != nil {
			return err
		}
	}
	run := a.fleet(c).Delete(cmd.Context(), o)
	err = a.finish(run, false)
	for _, t := range run.Targets {
		if t.Saved != "" && !a.quiet {
			a.say("note", fmt.Sprintf("realm %s of %s is kept in %s", t.Realm, t.Endpoint, t.Saved))
		}
	}
	return err
}

// confirm asks for the realm's name; without a terminal to ask on, --yes is the only way.
func (a *app) confirm(ctx context.Context, name string, where []string) error {
	if _, ok := terminal(a.stdin); !ok {
		return usage("delete asks before it removes realm %s from %s", name, strings.Join(where, ", ")).Try(check.Advise("add --yes where nobody can answer"))
	}
	_, _ = fmt.Fprintf(a.stderr, "Realm %s will be removed from %s; nobody can log in through it then.\nType its name to go on: ", name, strings.Join(where, ", "))
	typed, err := a.readLine(ctx)
	if err != nil {
		return err
	}
	if typed != name {
		return check.Errorf(check.Usage, "not confirmed: nothing was deleted")
	}
	return nil
}

// readLine reads a line of the standard input, unless the run ends first.
func (a *app) readLine(ctx context.Context) (string, error) {
	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		text, err := bufio.NewReader(a.stdin).ReadString('\n')
		answers <- answer{text, err}
	}()
	select {
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case got := <-answers:
		if got.err != nil && got.text == "" {
			return "", usage("no answer: nothing was done")
		}
		return strings.TrimSpace(got.text), nil
	}
}

// askPassword asks on the terminal for the password of a ticket login, and for a one-time code.
func (a *app) askPassword(ctx context.Context, target string, p *config.Proxmox) error {
	if p.Username.IsZero() || p.Password.IsSet() {
		return nil
	}
	password, ok, err := a.readHidden(ctx, "Password for "+p.Username.String()+" on "+string(p.Endpoints[0])+": ")
	if !ok {
		return check.Errorf(check.Config, "proxmox.password: there is none for %s of target %s, and no terminal to ask on", p.Username, target).
			Try(check.Advise("set proxmox.password_file, or use an API token (proxmox.token_file)"))
	}
	if err != nil {
		return err
	}
	p.Password = password
	if p.OTP.IsSet() {
		return nil
	}
	code, _, err := a.readHidden(ctx, "One-time code, empty where there is none: ")
	if digits := strings.TrimSpace(code.Reveal()); err == nil && digits != "" {
		p.OTP = check.NewSecret(digits)
	}
	return err
}
