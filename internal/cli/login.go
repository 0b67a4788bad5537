package cli

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/login"
)

func (a *app) loginCommand() *cobra.Command {
	var o loginOptions
	cmd := &cobra.Command{
		Use:   "login",
		Short: "Rehearse a login, and show which user Proxmox takes you for",
		Long: `Rehearse a login through Proxmox, like its web interface, and show which user
Proxmox takes you for: user id, groups, privileges by path, and whether Proxmox
created the user in this login.

The browser comes back to a port of this machine. Register this redirect URL at
the client of Proxmox:

    ` + login.RedirectURL + `

"authelia --with-login" prints a client for Authelia that has it. Authelia then
accepts any port of 127.0.0.1; other issuers may compare the port. The web
interface does not need this URL: remove it when all is well.

Without a browser, for example over ssh, the address to open is shown. Open it
in any browser. If that browser then shows an unreachable page, paste its
address into the terminal.

The ticket that Proxmox returns is neither shown nor kept. --timeout sets how
long to wait for you to log in: 5 minutes by default, and at most 10, because
Proxmox then forgets the login. If nobody logs in, the login counts as failed.` +
			exitHelp(exitUnverified, exitUnavailable, exitDenied, exitInterrupted),
		Example: "  proxmox-realm login\n" +
			"  proxmox-realm login --no-browser --node pve2.example.com\n" +
			"  proxmox-realm login -o json | jq .privileges",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.login(cmd, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", "", "let the browser come back to this loopback `HOST:PORT` (default 127.0.0.1:8000)")
	f.BoolVar(&o.noBrowser, "no-browser", false, "show the address instead of opening a browser")
	f.StringVar(&o.node, "node", "", "log in through this `NODE`, one of the endpoints")
	a.configFlags(cmd)
	return cmd
}

type loginOptions struct {
	listen    string
	noBrowser bool
	node      string
}

func (a *app) login(cmd *cobra.Command, o loginOptions) error {
	t, client, err := a.connect(cmd)
	if err != nil {
		return err
	}
	defer client.Close()
	options := login.Options{
		Target: t, Client: client, Node: o.node, Listen: o.listen, Wait: a.timeout, Paste: a.stdin,
		UserAgent: userAgent(), Log: a.logger(),
		Note: func(text string) {
			if !a.quiet {
				a.say("note", text)
			}
		},
		Show: func(address string) { _, _ = fmt.Fprintln(a.stderr, address) },
	}
	if !o.noBrowser {
		options.Open = login.Browser()
	}
	return a.finishLogin(login.Run(cmd.Context(), options))
}

// finishLogin shows a rehearsal and returns what the command ends with.
func (a *app) finishLogin(r login.Result) error {
	show := func() error { return login.Text(a.stdout, r, a.style()) }
	if a.output == "json" {
		show = func() error { return login.JSON(a.stdout, r) }
	}
	if err := show(); err != nil {
		return err
	}
	for _, w := range r.Warnings {
		a.warning(w)
	}
	if r.Err == nil {
		if a.output == "text" && !a.quiet {
			r.Hint = cmp.Or(r.Hint, nextCron)
		}
		a.sayHint(r.Hint)
		return nil
	}
	a.sayError(r.Err)
	return done(exitCode(r.Err))
}
