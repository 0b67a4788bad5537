package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/authelia"
	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/setup"
)

type rotateOptions struct {
	newKeyFile string
	authelia   string
	wait       time.Duration
	yes        bool
	abort      bool
}

func (a *app) rotateCommand() *cobra.Command {
	var o rotateOptions
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Give a client a new key: issuer, realms and key files",
		Long: `Give a client a new key: at the issuer, in every realm that uses the client, and
in the file that realm.client_key_file names.

rotate makes the new key beside the old one (KEYFILE.new). It prints the line
for Authelia's configuration or, with --authelia-config, writes it there. Then
it waits until the issuer accepts the new key, writes it into all realms, puts
it into the key files, and verifies. Before that, nothing in Proxmox changes.
Authelia holds one key for each client, so logins fail from its restart until
rotate looks again, which is at most 10 seconds later.

If it is interrupted, run it again: it goes on. --abort goes back to the former
key. If the issuer makes its keys itself, put the new one into a file and name
that with --new-key-file.

A key that stands in the configuration or in the environment, or that a command
prints, is refused: rotate changes files only.` +
			exitHelp(exitUnverified, exitRefused, exitHeld, exitUsage, exitUnavailable, exitTryAgain, exitDenied),
		Example: "  proxmox-realm rotate\n" +
			"  proxmox-realm rotate --authelia-config /etc/authelia/configuration.yml\n" +
			"  proxmox-realm rotate --new-key-file key-of-the-issuer\n" +
			"  proxmox-realm rotate --abort",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch changed := cmd.Flags().Changed; {
			case o.abort && changed("new-key-file"):
				return usage("--abort goes back to the former key, so it takes no --new-key-file")
			case changed("new-key-file") && o.newKeyFile == "", changed("authelia-config") && (o.authelia == "" || o.authelia == "-"):
				return usage("--new-key-file and --authelia-config need the name of a file")
			case o.newKeyFile == "-" && a.file == "-":
				return usage("-c - and --new-key-file - cannot both read standard input")
			case o.wait < 0:
				return usage("--wait takes no negative value")
			}
			return a.rotate(cmd, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.newKeyFile, "new-key-file", "", "use the key in `FILE`, which the issuer made (-: standard input)")
	f.StringVar(&o.authelia, "authelia-config", "", "write the digest of the key into Authelia's configuration in `FILE`")
	f.DurationVar(&o.wait, "wait", 10*time.Minute, "wait up to `DURATION` until the issuer accepts the key")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask for confirmation")
	f.BoolVar(&o.abort, "abort", false, "go back to the former key")
	a.configFlags(cmd)
	return cmd
}

// rotator is one run of rotate.
type rotator struct {
	*app
	rotateOptions
	*setup.Rotation
	cmd *cobra.Command
}

func (a *app) rotate(cmd *cobra.Command, o rotateOptions) error {
	ctx := cmd.Context()
	c, err := a.connectable(cmd, false)
	if err != nil {
		return err
	}
	if len(c.Targets) == 0 {
		return usage("the configuration has no target")
	}
	if err := a.wholeClient(cmd, c); err != nil {
		return err
	}
	r := rotator{app: a, rotateOptions: o, cmd: cmd}
	if r.Rotation, err = setup.NewRotation(c, a.fleet); err != nil {
		return err
	}
	a.saysState(c.StateDir)
	unlock, problem, err := r.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if problem != nil {
		a.warning(check.MessageOf(problem))
	}
	if err := r.look(ctx); err != nil {
		return err
	}
	switch {
	case o.abort && !r.Begun:
		a.note("no rotation has begun: nothing was changed")
		return a.finish(fleet.Run{Command: "rotate", Outcome: reconcile.Unchanged, Began: time.Now()}, false)
	case r.Begun && !o.abort:
		a.note("a rotation has begun: it goes on with the key in %s", r.From)
	}
	return r.resumable(r.run(ctx))
}

// wholeClient refuses a choice of targets that is not all of one client.
func (a *app) wholeClient(cmd *cobra.Command, c *config.Config) error {
	all := c
	if len(a.targets) > 0 {
		var err error
		if all, err = a.readAll(cmd); err != nil {
			return err
		}
	}
	sharing := map[[2]string][]string{} // names of targets, by client
	for _, t := range all.Targets {
		sharing[clientOf(t)] = append(sharing[clientOf(t)], t.Name)
	}
	command := func(names []string) check.Hint {
		return "\n" + check.Hintf(check.Command+"{%s}", "rotate -t "+strings.Join(names, " -t "))
	}
	one := clientOf(c.Targets[0])
	for _, t := range c.Targets {
		if clientOf(t) != one {
			hint := check.Hint("name the targets of one client:")
			for _, client := range slices.SortedFunc(maps.Keys(sharing), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) }) {
				hint += command(sharing[client])
			}
			return usage("the targets use several clients, and rotate changes the key of one").Try(hint)
		}
	}
	for _, name := range sharing[one] {
		if !slices.ContainsFunc(c.Targets, func(t config.Target) bool { return t.Name == name }) {
			return usage("target %s uses the same client, and would not get the new key", name).
				Try("name all targets of the client:" + command(sharing[one]))
		}
	}
	return nil
}

// clientOf returns the issuer and the id of a target's client.
func clientOf(t config.Target) [2]string {
	l := t.Realm.Login()
	return [2]string{l.IssuerURL, l.ClientID}
}

func (r rotator) look(ctx context.Context) (err error) {
	var given check.Secret
	if r.newKeyFile != "" {
		if given, err = config.ReadClientKey(ctx, r.newKeyFile, r.stdin); err != nil {
			return err
		}
	}
	return r.Look(ctx, given, r.abort)
}

// run takes the steps of the rotation, as far as they are missing.
func (r rotator) run(ctx context.Context) error {
	var err error
	foreseen, ready := r.Foresee(ctx)
	if !ready {
		r.note("nothing was changed: rotate begins only if all realms of the client answer and can be written")
		return r.finish(foreseen, false)
	}
	accepted := false
	if r.Begun || r.newKeyFile != "" { // nobody knows a key that is yet to be made
		if accepted, err = r.Accepted(ctx, foreseen); err != nil {
			return err
		}
	}
	edit, err := r.edit(ctx, accepted)
	if err != nil {
		return err
	}
	if err := r.agreeTo(ctx, foreseen, edit, accepted); err != nil {
		return err
	}
	if err := setup.Make(ctx, "", r.Begin(), func(setup.Step) {}); err != nil {
		return err
	}
	if err := r.tellIssuer(ctx, edit); err != nil {
		return err
	}
	if !accepted {
		if err := r.await(ctx); err != nil {
			return err
		}
	}
	return r.conclude(ctx)
}

// resumable adds to an error how the rotation goes on.
func (r rotator) resumable(err error) error {
	var known *check.Error
	if !errors.As(err, &known) || known.Code == check.Usage || len(r.Aside()) == 0 {
		return err
	}
	return known.Try(known.Hint, r.goOn())
}

func (r rotator) goOn() check.Hint {
	on := "to go on:\n" + check.Hintf(check.Command+"{%s}", r.command(r.abort))
	if r.abort {
		return on
	}
	return on + "\nto go back to the former key:\n" + check.Hintf(check.Command+"{%s}", r.command(true))
}

// command is the command that goes on, or goes back.
func (r rotator) command(abort bool) string {
	flags := []string{"target", "authelia-config"}
	switch {
	case abort:
		return repeated(r.cmd, flags...) + " --abort"
	case len(r.Aside()) == 0: // the new key is not kept yet
		flags = append(flags, "new-key-file")
	}
	return repeated(r.cmd, flags...)
}

// edit returns what becomes of Authelia's configuration; the zero value if nothing does.
func (r rotator) edit(ctx context.Context, accepted bool) (authelia.Edit, error) {
	if accepted && !r.abort || r.newKeyFile != "" && r.authelia == "" {
		return authelia.Edit{}, nil
	}
	return r.Edit(ctx, r.authelia)
}

// agreeTo shows what is to be done, and asks.
func (r rotator) agreeTo(ctx context.Context, foreseen fleet.Run, edit authelia.Edit, accepted bool) error {
	steps := r.Begin()
	add := func(sign, what, note string) { steps = append(steps, setup.Step{Sign: sign, What: what, Note: note}) }
	if edit.Changes() {
		add("~", r.authelia, "its digest")
	}
	when := "once the issuer accepts the key"
	if accepted {
		when = "the issuer accepts the key"
	}
	for _, t := range foreseen.Targets {
		if t.Outcome == reconcile.Drift {
			add("~", "realm "+t.Realm+" on "+t.Endpoint, when)
		}
	}
	for _, path := range r.Changed() {
		add("~", path, "once all realms have the key")
	}
	for _, path := range r.Aside() {
		if !slices.Contains(r.Used(), path) {
			add("-", path, "at the end")
		}
	}
	if len(steps) == 0 {
		return nil
	}
	which := "a new key"
	if r.abort {
		which = "its former key again"
	}
	client := r.Client()
	r.tell(fmt.Sprintf("client %s of %s gets %s:\n%s", client.ClientID, client.IssuerURL, which, setup.Lines(steps)))
	if edit.Changes() {
		r.tell(authelia.Diff(r.authelia, edit.Before, edit.After))
	}
	switch {
	case accepted:
	case r.authelia == "" && r.newKeyFile != "":
		r.note("if the issuer holds one key for each client, logins fail from its change until rotate looks again, which is at most 10 s later")
	default:
		r.note("Authelia holds one key for each client: logins fail from its restart until rotate looks again, which is at most 10 s later")
	}
	if r.yes {
		return nil
	}
	return r.agree(ctx, "Go on?", false, r.command(r.abort)+" --yes")
}

// tell prints for people. The rotation does not depend on it.
func (r rotator) tell(text string) {
	if !r.quiet {
		_, _ = fmt.Fprint(r.out(), check.Printable(text))
	}
}

// out is stdout, unless that is for a report.
func (r rotator) out() io.Writer {
	if r.output != "text" {
		return r.stderr
	}
	return r.stdout
}

// tellIssuer gives Authelia the digest, or shows it to whoever does.
func (r rotator) tellIssuer(ctx context.Context, edit authelia.Edit) error {
	switch {
	case edit.Options.Digest == "":
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case edit.Refused != nil:
		r.warning(fmt.Sprintf("%s is not changed: %v", r.authelia, edit.Refused))
		return r.printSecret(edit.Options)
	case r.authelia == "":
		return r.printSecret(edit.Options)
	case !edit.Changes():
		r.note("%s holds the digest of the key already", r.authelia)
		return nil
	}
	backup, err := edit.Write()
	if err != nil {
		return err
	}
	r.noteWritten(edit, backup)
	return nil
}

// printSecret prints the line for Authelia's configuration.
func (r rotator) printSecret(options authelia.Options) error {
	line, err := authelia.SecretLine(options)
	if err != nil {
		return err
	}
	if _, err := r.out().Write(line); err != nil {
		return unwritten(err)
	}
	if r.abort {
		r.note("if Authelia's configuration has the digest of the new key, restore the former one, or put this line in its place")
		return nil
	}
	r.note("put this line in place of the client_secret of client %s in Authelia's configuration", r.Client().ClientID)
	return nil
}

// await waits until the issuer accepts the key.
func (r rotator) await(ctx context.Context) error {
	if r.wait > 0 {
		if r.newKeyFile == "" || r.authelia != "" {
			r.note("now %s", restart)
		}
		r.note("waiting until the issuer accepts the key, at most until %s; if this is interrupted, the same command goes on",
			time.Now().Add(r.wait).Format("15:04:05 MST"))
	}
	if err := r.Await(ctx, fleet.Options{Wait: r.wait, Waiting: r.saysWhy()}); err != nil {
		return err
	}
	r.note("the issuer accepts the key")
	return nil
}

// conclude gives all realms and files the key, and verifies.
func (r rotator) conclude(ctx context.Context) error {
	written, complete, err := r.Write(ctx, max(r.wait, time.Minute)) // logins may fail meanwhile, so a short run is waited for
	if err != nil {
		return err
	}
	if !complete {
		err := r.finish(written, false)
		r.sayHint(r.goOn())
		return err
	}
	run, kept, err := r.Verify(ctx, written)
	ended := r.finish(run, false)
	switch {
	case err != nil:
		r.sayError(err)
		return cmp.Or(ended, done(exitFailed))
	case len(kept) > 0:
		r.note("until the key is verified, the other one is kept in %s", strings.Join(kept, ", "))
	case r.newKeyFile != "":
		r.note("%s is not needed any more", r.newKeyFile)
	}
	if ended == nil {
		r.note("%s", check.Hint("to try a login:\n    {login}").For(r.wording))
	}
	return ended
}
