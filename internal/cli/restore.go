package cli

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

type restoreOptions struct {
	fleet.Options
	yes, dryRun bool
}

func (a *app) restoreCommand() *cobra.Command {
	var o restoreOptions
	cmd := &cobra.Command{
		Use:   "restore [REALM or FILE]",
		Short: "Bring a saved realm back; alone, list the saved realms",
		Long: `Bring back a realm that "delete" removed, or one that an interrupted replace
left, as it was: with its client key, and with properties that this release does
not know. Without an argument, list what can be restored.

The realm is created only if there is none of its name, and only in the Proxmox
installation that the file names. The file is removed once the realm is there
and equal. restore refuses if the realm differs.

Deleted realms are kept in state_dir for 30 days. The realm of an interrupted
replace is kept until it is restored.` + exitHelp(exitRefused, exitUnavailable, exitDenied),
		Example: "  proxmox-realm restore\n  proxmox-realm restore authelia --dry-run\n  proxmox-realm restore authelia",
		Args:    arguments(0, 1, "one realm or file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.listSaved(cmd)
			}
			return a.restore(cmd, args[0], o)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask for confirmation")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would be restored; change nothing")
	f.DurationVar(&o.WaitLock, "wait-lock", 0, "wait up to `DURATION` while another run holds the lock")
	a.configFlags(cmd)
	return cmd
}

// listSaved prints the saved realms of the state_dir, the newest first.
func (a *app) listSaved(cmd *cobra.Command) error {
	dir := config.StateDir()
	if c, err := a.read(cmd, config.Options{Partial: true}); err == nil {
		dir = c.StateDir
	} else if a.file != "" {
		return err
	}
	a.saysState(dir)
	saved, problems := reconcile.ListSaved(dir)
	for _, err := range problems {
		a.warning(check.MessageOf(err))
	}
	if a.output != "text" {
		return report.Encode(a.stdout, savedReport{Version: report.Version, Command: a.command, Saved: listed(saved)})
	}
	if len(saved)+len(problems) == 0 && !a.quiet {
		a.say("note", "no realm is saved in "+cmp.Or(dir, "state_dir, because there is none"))
	}
	for _, s := range saved {
		why := map[reconcile.Reason]string{reconcile.Deletion: "deleted", reconcile.Replacement: "left by an interrupted replace"}[s.Reason]
		line := fmt.Sprintf("%s  %s  %s  %s\n    %s\n", s.Realm, strings.Join(s.Endpoints, " "), why, s.At.Format("2006-01-02 15:04 UTC"), s.Path)
		if err := a.printf("%s", check.Printable(line)); err != nil {
			return err
		}
	}
	return nil
}

// savedReport is the list of saved realms for programs.
type savedReport struct {
	Version int         `json:"version"`
	Command string      `json:"command"`
	Saved   []savedFile `json:"saved"`
}

type savedFile struct {
	Path      string           `json:"path"`
	Realm     string           `json:"realm"`
	Product   string           `json:"product"`
	Endpoints []string         `json:"endpoints"`
	Reason    reconcile.Reason `json:"reason"`
	Time      time.Time        `json:"time"`
}

func listed(saved []reconcile.Saved) []savedFile {
	files := []savedFile{}
	for _, s := range saved {
		files = append(files, savedFile{s.Path, s.Realm, s.Product, s.Endpoints, s.Reason, s.At})
	}
	return files
}

func (a *app) restore(cmd *cobra.Command, what string, o restoreOptions) error {
	c, err := a.connectable(cmd, true)
	if err != nil {
		return err
	}
	a.saysState(c.StateDir)
	s, err := a.chooseSaved(cmd, c, what)
	if err != nil {
		return err
	}
	var targets []config.Target
	for _, t := range c.Targets {
		t.Realm = realm.Spec{Name: s.Realm, Product: t.Realm.Product}
		if s.Of(reconcile.ID(t)) && len(targets) == 0 {
			targets = append(targets, t)
		}
	}
	if len(targets) == 0 {
		return check.Errorf(check.SavedRealm, "the saved realm %s is realm %s of %s, which no target of the configuration is",
			s.Path, s.Realm, strings.Join(s.Endpoints, " ")).
			Try(check.Hintf("name it:\n    {restore --endpoint %s %s}", s.Endpoints[0], what))
	}
	c.Targets = targets
	f := a.fleet(c)
	if !o.dryRun && !o.yes {
		plan := f.Restore(cmd.Context(), o.Options, s, false)
		if err := a.show(plan, false); err != nil || plan.Outcome != reconcile.Drift {
			return err
		}
		if err := a.agree(cmd.Context(), "Restore it?", false, "restore "+what+" --yes"); err != nil {
			return err
		}
	}
	if err := a.finish(f.Restore(cmd.Context(), o.Options, s, !o.dryRun), false); err != nil || o.dryRun {
		return err
	}
	a.note("%s", check.Hint("to see whether logins work:\n    {verify}").For(a.wording))
	return nil
}

// saysState tells somebody who is not root which state_dir counts, if root has another one: saved realms and locks are not shared.
func (a *app) saysState(dir string) {
	if root := config.RootState(dir); root != "" {
		a.note("saved realms, locks and findings of this user are in %s, and those of root in %s", cmp.Or(dir, "no folder"), root)
	}
}

// chooseSaved returns the saved realm in a file, or the newest one of that name. If there is one of an interrupted replace, that one
// counts. Targets that each have one are not guessed at.
func (a *app) chooseSaved(cmd *cobra.Command, c *config.Config, what string) (reconcile.Saved, error) {
	if strings.ContainsRune(what, filepath.Separator) || strings.HasSuffix(what, ".json") {
		path, err := filepath.Abs(what)
		if err != nil {
			return reconcile.Saved{}, usage("%s: %v", what, err)
		}
		return reconcile.ReadSaved(path)
	}
	saved, problems := reconcile.ListSaved(c.StateDir)
	var found *reconcile.Saved
	for _, t := range c.Targets {
		t.Realm.Name = what
		ours := slices.DeleteFunc(slices.Clone(saved), func(s reconcile.Saved) bool { return !s.Of(reconcile.ID(t)) })
		slices.SortStableFunc(ours, func(a, b reconcile.Saved) int { return cmp.Compare(rank(a), rank(b)) })
		switch {
		case len(ours) == 0:
		case found == nil:
			found = &ours[0]
		case found.Path != ours[0].Path:
			return reconcile.Saved{}, chooseTarget(cmd, c)
		}
	}
	if found != nil {
		return *found, nil
	}
	for _, err := range problems {
		if check.CodeOf(err) == check.Config || strings.Contains(err.Error(), string(os.PathSeparator)+"saved-"+what+"@") {
			return reconcile.Saved{}, err
		}
	}
	return reconcile.Saved{}, check.Errorf(check.SavedRealm, "no realm %s of this configuration is saved in %s", what, cmp.Or(c.StateDir, "state_dir")).
		Try("to see what can be restored:\n    {restore}")
}

// rank puts the realm of an interrupted replace before deleted ones.
func rank(s reconcile.Saved) int {
	if s.Reason == reconcile.Replacement {
		return 0
	}
	return 1
}
