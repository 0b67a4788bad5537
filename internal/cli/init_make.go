package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/authelia"
	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/setup"
)

// make shows what is missing on this machine and in Proxmox, and makes it after a yes.
func (i *initRun) make(ctx context.Context) error {
	files, err := i.files(ctx)
	if err != nil {
		return err
	}
	steps, err := i.place.Missing(files...)
	if err != nil {
		return err
	}
	i.account.Access = i.target.Access
	if i.token != nil {
		err = i.account.Check(ctx, i.token)
		if err == nil {
			i.tell("Token %s may do what it must.", i.account.Token())
		} else if !setup.IsLack(err) || !i.asks && i.passwordFile == "" && (i.tokenFile == "" || i.newToken != nil) {
			return err
		}
	}
	if i.token == nil || err != nil {
		if err := i.logIn(ctx); err != nil {
			return err
		}
		account, err := i.account.Missing(ctx, i.admin)
		if err != nil {
			return err
		}
		steps = append(steps, account...)
	}
	if len(steps) == 0 {
		return nil
	}
	return i.agreeAndMake(ctx, steps)
}

// files returns what the folder is to hold: the configuration last, because it names the others. The token that the setup makes
// comes later. A configuration that is there is not written again.
func (i *initRun) files(ctx context.Context) ([]setup.File, error) {
	key, err := i.clientKey(ctx)
	if err != nil {
		return nil, err
	}
	var issuerCA, document []byte
	if !i.known {
		if key.IsSet() {
			i.target.ClientKeyFile = setup.KeyFile
		}
		t := i.target
		t.Proxmox.TokenFile = setup.TokenFile
		if t.Verify.IssuerCAFile != "" {
			if issuerCA, _, err = i.authorities(ctx, t.Verify.IssuerCAFile); err != nil {
				return nil, err
			}
			t.Verify.IssuerCAFile = setup.IssuerCAFile
		}
		document = config.Marshal(t)
	}
	return []setup.File{
		{Name: setup.AuthorityFile, Note: "the authority of the cluster's certificates", Content: i.cluster.Authority},
		{Name: setup.IssuerCAFile, Note: "the authority of the issuer's certificate", Content: issuerCA},
		{Name: setup.KeyFile, Note: "the key of the client", Content: []byte(key.Reveal())},
		{Name: setup.TokenFile, Note: "the API token", Content: i.newToken},
		{Name: setup.ConfigFile, Note: "the configuration", Content: document},
	}, nil
}

// clientKey finds the client key: of a flag, of the folder, of the realm that exists, or a new one. It is not set if the files of the
// folder need none.
func (i *initRun) clientKey(ctx context.Context) (key check.Secret, err error) {
	kept, err := i.place.Read(setup.KeyFile)
	switch {
	case err != nil:
		return key, err
	case i.clientKeyFile != "":
		key, err = i.secret(ctx, i.clientKeyFile)
	case kept != "":
		key = check.NewSecret(kept)
	case i.key.IsSet():
		key = i.key
	case i.known && i.target.ClientKeyFile != i.place.Path(setup.KeyFile), i.adopted:
	default:
		key = authelia.NewKey()
	}
	i.secrets.Hold(key)
	return key, err
}

// agreeAndMake makes steps after a yes.
func (i *initRun) agreeAndMake(ctx context.Context, steps []setup.Step) error {
	there := slices.DeleteFunc(slices.Clone(steps), func(s setup.Step) bool { return s.Here })
	here := slices.DeleteFunc(slices.Clone(steps), func(s setup.Step) bool { return !s.Here })
	text := ""
	if len(there) > 0 {
		text += "This will be made in Proxmox:\n" + setup.Lines(there)
	}
	if len(there) > 0 && len(i.target.Access) > 0 {
		text += "    (with the grants for groups, the token is as good as an administrator's)\n"
	}
	if len(here) > 0 {
		text += "This will be made on this machine, in " + string(i.place) + ", readable by you alone:\n" + setup.Lines(here)
	}
	if len(text) > 0 && !i.known && !i.adopted {
		text += "and, once the issuer accepts the client " + i.target.Realm.Login().ClientID + ":\n  + realm " + i.target.Realm.Name + "\n"
		for _, group := range i.target.Access.Groups() {
			for _, g := range i.target.Access[group] {
				text += fmt.Sprintf("  + group %s, %s on %s\n", realm.GroupName(group, i.target.Realm.Name), g.Role, g.Path)
			}
		}
	}
	if !i.quiet || i.asks {
		if err := i.printf("%s", text); err != nil {
			return err
		}
	}
	if i.dryRun {
		return nil
	}
	if err := i.goOn(ctx, "Go on?"); err != nil {
		return err
	}
	return setup.Make(ctx, i.place, steps, func(s setup.Step) { i.made = append(i.made, s) })
}

// goOn asks for a yes, unless --yes gives it.
func (i *initRun) goOn(ctx context.Context, question string) error {
	if i.yes {
		return nil
	}
	return i.agree(ctx, question, true, repeated(i.cmd)+" --yes")
}

// finishRealm makes the realm once the issuer accepts its client, and verifies it.
func (i *initRun) finishRealm(ctx context.Context) error {
	if i.dryRun && (!i.known || i.token == nil) {
		i.note("then the issuer gets the client %s, and Proxmox the realm %s; nothing was changed (--dry-run)",
			i.target.Realm.Login().ClientID, i.target.Realm.Name)
		return nil
	}
	i.known = true // from here on the configuration counts
	c, err := config.Load(ctx, config.Options{File: i.place.Path(setup.ConfigFile), Secrets: true})
	if err != nil {
		return err
	}
	i.target, i.file = c.Targets[0], i.place.Path(setup.ConfigFile)
	f := i.fleet(c)
	if i.dryRun {
		return i.show(f.Plan(ctx, fleet.Options{}), false)
	}
	client, err := f.Connect(i.target)
	if err != nil {
		return err
	}
	defer client.Close()
	if len(i.made) > 0 {
		if err := i.account.Check(ctx, client); err != nil {
			return err
		}
		i.tell("Made, and tried: the token may do what it must.")
	}
	held, err := client.Realm(ctx, i.target.Realm.Name)
	if err != nil {
		return err
	}
	if !held.Exists {
		if err := i.register(ctx, f); err != nil {
			return err
		}
	}
	return i.apply(ctx, f)
}

// register brings the client to the issuer, and waits until the issuer accepts it. If the issuer is not to be asked, somebody
// else brings it.
func (i *initRun) register(ctx context.Context, f *fleet.Fleet) error {
	if !i.target.Verify.Issuer || !i.target.Verify.Client || !i.target.Gate {
		return i.showClient(ctx)
	}
	const once = time.Nanosecond
	run := f.Plan(ctx, fleet.Options{Wait: once})
	if run.Outcome != reconcile.Held {
		return context.Cause(ctx) // apply says what else there is
	}
	if err := i.showClient(ctx); err != nil {
		return err
	}
	i.tell("Waiting until the issuer accepts it. To go on later with the same command: Ctrl-C.")
	began, last := time.Now(), ""
	say := func(held reconcile.Result, _ time.Time) {
		if why, _ := i.missing(held); why != last {
			took := int(time.Since(began).Seconds())
			i.tell("%02d:%02d  %s", took/60, took%60, why)
			last = why
		}
	}
	say(run.Targets[0], began)
	run = f.Plan(ctx, fleet.Options{Wait: max(i.wait, once), Waiting: say})
	if run.Outcome != reconcile.Held {
		return run.Targets[0].Err
	}
	why, hint := i.missing(run.Targets[0])
	held := check.Errorf(check.Held, "the realm was not created, because logins would fail: %s", why)
	if i.isAuthelia() {
		return held.Try("after the change of Authelia's configuration, "+restart, hint)
	}
	return held.Try(hint)
}

// missing says why the issuer does not accept the client. An issuer that refuses key and login request does not know the client.
func (i *initRun) missing(held reconcile.Result) (why string, hint check.Hint) {
	failed := check.Failures(held.Checks)
	_, key := check.Find(failed, check.ClientCredentials)
	_, request := check.Find(failed, check.ClientRedirect)
	switch {
	case len(failed) == 0:
		return check.MessageOf(held.Err), check.HintOf(held.Err)
	case key && request:
		why = "the issuer does not know the client " + i.target.Realm.Login().ClientID + " yet"
	}
	return cmp.Or(why, failed[0].Summary), failed[0].Hint
}

// showClient prints the client for the issuer, or puts it into Authelia's configuration.
func (i *initRun) showClient(ctx context.Context) (err error) {
	if !i.isAuthelia() {
		return i.printEntries()
	}
	if i.asks && i.autheliaConfig == "" {
		path, err := i.line(ctx, "Authelia's configuration file, if it is on this machine []: ")
		if err != nil {
			return err
		}
		if path != "" { // the command that goes on names it as well
			_ = i.cmd.Flags().Set("authelia-config", path)
		}
	}
	o := autheliaOptions{
		withLogin: true, write: i.autheliaConfig, yes: i.yes, oneFactor: i.oneFactor, whole: i.look.SwitchedOff(),
		next: "this command waits for that",
	}
	if i.autheliaConfig == "" {
		return i.printAuthelia(i.cmd, o)
	}
	before, _ := os.ReadFile(i.autheliaConfig) // writeAuthelia says what is wrong with it
	err = i.writeAuthelia(i.cmd, o)
	if after, _ := os.ReadFile(i.autheliaConfig); !bytes.Equal(before, after) {
		i.keepUndo("# remove the client " + i.target.Realm.Login().ClientID + " from " + i.autheliaConfig + ", and restart Authelia")
	}
	var remaining exited
	if check.CodeOf(err) == check.NotProven { // the lines were printed
		i.sayError(err)
		return nil
	}
	if errors.As(err, &remaining) { // differences were shown
		return nil
	}
	return err
}

// apply shows the plan and carries it out after a yes.
func (i *initRun) apply(ctx context.Context, f *fleet.Fleet) error {
	o := fleet.Options{Wait: max(i.wait, time.Second), Waiting: i.saysWhy()}
	if i.asks {
		plan := f.Plan(ctx, o)
		switch {
		case plan.Outcome == reconcile.Unchanged, plan.Outcome == reconcile.Unverified:
			return i.verify(ctx, f)
		case plan.Outcome != reconcile.Drift:
			return i.show(plan, false)
		}
		if err := i.show(plan, false); err != nil {
			return err
		}
		if err := i.goOn(ctx, "Apply it?"); err != nil {
			return err
		}
	}
	run := f.Apply(ctx, o)
	shown := run
	if i.asks { // the plan was shown
		shown.Targets = slices.Clone(run.Targets)
		shown.Targets[0].Changes, shown.Targets[0].Access = nil, nil
	}
	if run.Outcome == reconcile.Unchanged || run.Outcome == reconcile.Unverified && !run.Targets[0].Wrote() {
		return i.verify(ctx, f)
	}
	i.noteUndo(run.Targets[0])
	err := i.show(shown, false)
	if run.Outcome != reconcile.Changed && run.Outcome != reconcile.Unverified {
		return err
	}
	return errors.Join(i.last(ctx, run.Outcome), err)
}

// verify ends a setup that had nothing to apply.
func (i *initRun) verify(ctx context.Context, f *fleet.Fleet) error {
	run := f.Verify(ctx, fleet.Options{})
	run.Command = "apply" // shows only what is wrong
	err := i.show(run, false)
	switch {
	case len(i.made) > 0:
		return errors.Join(i.last(ctx, run.Outcome), err)
	case err != nil || i.quiet:
		return err
	}
	return i.printf("Nothing to do. To change something, edit %s and run\n    %s\n", i.file, i.wording.Command("apply"))
}

// noteUndo keeps how the realm and its groups are removed, if this run made them.
func (i *initRun) noteUndo(r reconcile.Result) {
	if r.Action != realm.Create || !r.WroteRealm() {
		return
	}
	for _, c := range r.Made {
		if c.Kind == realm.AccessGroup {
			i.made = append(i.made, setup.Step{What: "group " + c.Group})
			i.keepUndo("pveum group delete " + c.Group)
		}
	}
	i.made = append(i.made, setup.Step{What: "realm " + r.Realm})
	i.keepUndo(i.wording.Command("delete " + r.Realm))
}

func (i *initRun) keepUndo(line string) {
	if err := i.place.Note(line); err != nil {
		i.warning(check.MessageOf(err))
	}
}

// last offers a login, and says what comes next and how everything is undone, whatever became of the login.
func (i *initRun) last(ctx context.Context, outcome reconcile.Outcome) error {
	var err error
	if i.asks && outcome != reconcile.Unverified {
		var try bool
		if try, err = i.yesOrNo(ctx, "Try a login now, in a browser?", true); err == nil && try {
			err = i.login(i.cmd, loginOptions{})
		}
	}
	if i.quiet {
		return err
	}
	text := "Done."
	switch {
	case outcome == reconcile.Unverified:
		text = "Made, but logins do not work yet. After the corrections above:\n    " + i.wording.Command("verify")
	case err != nil:
		text = "Made, but no login was completed. To try it again:\n    " + i.wording.Command("login")
	case !i.asks:
		text += " To try a login in a browser:\n    " + i.wording.Command("login")
	}
	if len(i.target.Access) == 0 && !i.adopted {
		text += "\nWhoever logs in may do nothing yet. Declare what groups may do under access in " + i.file + ", or on a node:\n" +
			"    pveum acl modify / --users NAME@" + i.target.Realm.Name + " --roles PVEAuditor"
	}
	if len(i.made) > 0 {
		text += "\nMade now: " + i.whatWasMade()
	}
	text += "\nTo keep it so, one of:\n    " + strings.Join(i.schedules(), "\n    ")
	undo := strings.Join(i.place.Undo(), "\n    ")
	text += "\nTo undo all of it"
	if strings.Contains(undo, "    pveum ") {
		text += ", here and (pveum) on a node"
	}
	text += ":\n    " + undo
	if said := i.printf("%s\n", text); err == nil {
		err = said
	}
	return err
}

// schedules are the commands that keep the realm as it is declared.
func (i *initRun) schedules() []string {
	if string(i.place) == "/etc/proxmox-realm" {
		return []string{"systemctl enable --now proxmox-realm.timer", "systemctl enable --now proxmox-realm-agent.service"}
	}
	return []string{
		"*/15 * * * * " + strings.Replace(i.wording.Command("apply"), "apply", "apply -q", 1) + "    # a line for crontab -e",
		i.wording.Command("agent"),
	}
}
