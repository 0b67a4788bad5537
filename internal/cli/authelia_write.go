package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/authelia"
	"proxmox-realm/internal/check"
	"proxmox-realm/internal/report"
)

// validate names the commands of Authelia that check its configuration, before and in a container.
const validate = "authelia config validate (docker compose exec authelia authelia config validate)"

// writeAuthelia puts the client or its digest into Authelia's configuration. What cannot be proven right it prints.
func (a *app) writeAuthelia(cmd *cobra.Command, o autheliaOptions) error {
	switch {
	case a.output != "text":
		return usage("authelia --write has no report, so --output applies only to --check")
	case o.write == "" || o.write == "-":
		return usage("--write needs the name of a file")
	}
	if _, err := os.Lstat(o.newKey); o.newKey != "" && !errors.Is(err, fs.ErrNotExist) {
		return overwrites(o.newKey)
	}
	e, configured, err := a.prepareEdit(cmd, o)
	switch {
	case err != nil:
		return err
	case e.Refused != nil:
		return a.printInstead(o, e)
	case !e.Changes():
		a.note("client %s is there with this key: %s is not changed", e.Options.Login.ClientID, o.write)
		return a.remaining(o.write, e)
	}
	if err := a.printf("%s", authelia.Diff(o.write, e.Before, e.After)); err != nil {
		return err
	}
	if o.dryRun {
		a.note("nothing is written (--dry-run)")
		return a.remaining(o.write, e)
	}
	if err := a.agreeToWrite(cmd, o); err != nil {
		return err
	}
	backup, err := a.store(o, e)
	if err != nil {
		return err
	}
	a.noteWritten(e, backup)
	a.advise(o, configured, true)
	return a.remaining(o.write, e)
}

// prepareEdit works out the new content of the file. configured is the source of the configured client key.
func (a *app) prepareEdit(cmd *cobra.Command, o autheliaOptions) (e authelia.Edit, configured string, err error) {
	options, configured, err := a.autheliaClient(cmd, o)
	if err != nil {
		return e, "", err
	}
	file, err := a.readAuthelia(cmd.Context(), o.write)
	if err != nil {
		return e, "", err
	}
	if o.newKey != "" {
		options.Login.ClientKey = authelia.NewKey()
	}
	e, err = authelia.NewEdit(file, options, authelia.Put)
	return e, configured, err
}

// printInstead prints the lines that somebody has to put into the file by hand, and returns why as an error.
func (a *app) printInstead(o autheliaOptions, e authelia.Edit) error {
	show := authelia.Block
	e.Options.Whole = e.Refused.NoOpenID
	hints := []check.Hint{"the file is not changed: put the printed lines in by hand"}
	if compared, err := authelia.Compare(e.Options, authelia.File{Name: o.write, Data: e.Before}); err == nil {
		show = authelia.SecretLine
		if len(compared.Differences) > 1 {
			hints = append(hints, check.Hintf("look at all differences:\n    {authelia --check %s}", o.write))
		}
	}
	hints = append(hints, "then let Authelia check it (in Docker behind `docker compose exec authelia`):\n    authelia config validate")
	text, err := show(e.Options)
	if err != nil {
		return err
	}
	if o.newKey != "" && !o.dryRun {
		if err := writeKey(o.newKey, e.Options.Login.ClientKey); err != nil {
			return err
		}
	}
	if err := a.printf("%s", text); err != nil {
		return err
	}
	place := o.write
	if e.Refused.Line > 0 {
		place = fmt.Sprintf("%s:%d", o.write, e.Refused.Line)
	}
	return check.Errorf(check.NotProven, "%s: %s", place, e.Refused.Reason).Try(hints...)
}

// agreeToWrite asks, unless --yes answers.
func (a *app) agreeToWrite(cmd *cobra.Command, o autheliaOptions) error {
	if o.yes {
		return nil
	}
	return a.agree(cmd.Context(), "Write this to "+o.write+"?", false, repeated(cmd, "write", "new-key", "with-login", "one-factor")+" --yes")
}

// store writes a new key and then the file, so that no digest of a lost key stays.
func (a *app) store(o autheliaOptions, e authelia.Edit) (backup string, err error) {
	if o.newKey != "" {
		if err := writeKey(o.newKey, e.Options.Login.ClientKey); err != nil {
			return "", err
		}
	}
	backup, err = e.Write()
	if err != nil && backup == "" && o.newKey != "" {
		_ = os.Remove(o.newKey) // of no use: nobody has its digest
	}
	return backup, err
}

// noteWritten says what was written to Authelia's configuration, and what may no longer be true there.
func (a *app) noteWritten(e authelia.Edit, backup string) {
	if line := authelia.CommentBehind(e.Before, e.After); line > 0 {
		a.warning(fmt.Sprintf("%s:%d: the comment behind the digest may no longer be true", e.Path, line))
	}
	if authelia.FormerKeys(e.Before) && !authelia.FormerKeys(e.After) { // the client was added
		a.warning("the other clients have the keys of Authelia 4.37: this one needs Authelia 4.38 or later")
	}
	a.note("%s is written; its former content is in %s", e.Path, backup)
	a.note("let Authelia check it:\n    authelia config validate --config %s\nin Docker:\n    docker compose exec authelia authelia config validate", e.Path)
}

// remaining shows how the client still differs: --write changes only its secret.
func (a *app) remaining(name string, e authelia.Edit) error {
	compared, err := authelia.Compare(e.Options, authelia.File{Name: name, Data: e.After})
	if err != nil || len(compared.Differences) == 0 {
		return err
	}
	if err := authelia.Text(a.stdout, compared, report.Style{}); err != nil {
		return unwritten(err)
	}
	a.warning("these differences remain: correct them by hand")
	return done(exitUnverified)
}
