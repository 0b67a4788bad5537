package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/login"
)

func (a *app) loginCommand() *cobra.Command {
	var o loginOptions
	cmd := &cobra.Command{
		Use:   "login",
		Short: "Rehearse a login, and show whom Proxmox takes the user for",
		Long: `Rehearse a login through Proxmox, as its web interface makes it, and show whom Proxmox takes the user for: user
id, groups, privileges by path, and whether Proxmox created the user just now.

The browser comes back to a port of this machine, and the issuer must know that address. At the client of
Proxmox, register

  ` + login.RedirectURL + `

Authelia then takes any port of 127.0.0.1; path and host must be these. "authelia --with-login" prints a client
that has it. Other issuers may compare the port as well. The web interface does not need it: remove it when
all is well.

Without a browser, as over ssh, the address to open is shown. Open it wherever a browser is; where that browser cannot
reach this machine, it ends at an address that it cannot open: paste that one into the terminal.

The ticket that Proxmox returns is neither shown nor kept. --timeout sets how long to wait for the user, instead
of 5 minutes; after 10, Proxmox forgets the login.` + exitHelp(exitUnverified, exitUnavailable, exitDenied, exitInterrupted),
		Example: "  proxmox-realm login\n  proxmox-realm login --no-browser --node pve2.example.com\n  proxmox-realm login -o json | jq .privileges",
		Args:    exactly(0, ""),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.login(cmd, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", "", "come back to this `HOST:PORT` of loopback, with a path or without (127.0.0.1:8000/callback)")
	f.BoolVar(&o.noBrowser, "no-browser", false, "show the address instead of opening a browser")
	f.StringVar(&o.node, "node", "", "log in through this `NODE`, one of the endpoints; each has its own DNS, authorities and proxy")
	configFlags(cmd)
	return cmd
}

type loginOptions struct {
	listen    string
	noBrowser bool
	node      string
}

func (a *app) login(cmd *cobra.Command, o loginOptions) error {
	if a.output == "junit" {
		return usage("login has no JUnit report").Try(check.Advise("use -o json"))
	}
	t, f, err := a.oneTarget(cmd)
	if err != nil {
		return err
	}
	client, err := f.Connect(t)
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
		options.Open = login.Browser(a.getenv)
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
		if r.Hint != "" {
			a.say("hint", r.Hint)
		}
		return nil
	}
	a.sayError(r.Err)
	return done(exitCode(r.Err))
}
