package cli

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/authelia"
	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/disk"
	"proxmox-realm/internal/reconcile"
)

type autheliaOptions struct {
	newKey    string
	withLogin bool
	oneFactor bool
	whole     bool
	check     []string
	write     string
	yes       bool
	dryRun    bool
	next      string // what comes after a restart of Authelia; "" means apply
}

func (a *app) autheliaCommand() *cobra.Command {
	var o autheliaOptions
	cmd := &cobra.Command{
		Use:   "authelia",
		Short: "Print, compare or write the client in Authelia's configuration",
		Long: `Print the client for the configuration of Authelia (4.38 or later) that matches
the realm: client id, digest of the client key, redirect URIs, scopes and
methods. Targets that share an issuer and a client share the block.

--new-key FILE makes a random client key, writes it to FILE and prints its
digest. The key itself is never shown. If the configuration already names
another key, only the client_secret line is printed, so that you keep your own
settings of the client. --whole prints Authelia's whole OpenID part, for an
Authelia that has none.

--check FILE finds the client in Authelia's configuration and shows how it
differs from the printed block, and what keeps Authelia from starting, with line
numbers. The file may be a whole configuration, the client alone, a manifest of
Kubernetes or values of Helm. Nothing is changed. Settings of your own that do
not break logins are listed as kept.

--write FILE adds the client to Authelia's configuration, or gives a client that
is there another digest: of the configured key, or with --new-key of a new one.
It shows what it would write, asks, and keeps the former file beside the new
one. No other byte changes: if that cannot be proven, it prints the lines, and
says why.` +
			exitHelp(exitUnverified, exitRefused, exitUsage, exitConfig),
		Example: `  # first setup: paste the block, restart Authelia, then apply
  proxmox-realm authelia --new-key /etc/proxmox-realm/client-key

  # the same, if Authelia's configuration is on this machine
  proxmox-realm authelia --write /etc/authelia/configuration.yml \
      --new-key /etc/proxmox-realm/client-key

  # compare
  proxmox-realm authelia --check /etc/authelia/configuration.yml
  ssh auth.example.com cat /etc/authelia/configuration.yml | proxmox-realm authelia --check -

  # a new key for a client in use: "rotate", or by hand with a restart of
  # Authelia while apply waits
  proxmox-realm authelia --new-key client-key.new
  proxmox-realm apply --wait 10m --client-key-file client-key.new`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch changed := cmd.Flags().Changed; {
			case changed("write") && (changed("check") || changed("whole")):
				return usage("--write cannot be combined with --check or --whole")
			case !changed("write") && (changed("yes") || changed("dry-run")):
				return usage("--yes and --dry-run belong to --write")
			case changed("new-key") && o.newKey == "":
				return usage("--new-key needs the name of a file")
			case changed("write"):
				return a.writeAuthelia(cmd, o)
			case changed("check"):
				return a.compareAuthelia(cmd, o)
			}
			return a.printAuthelia(cmd, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.newKey, "new-key", "", "make a client key and write it to `FILE`, which must not exist")
	f.BoolVar(&o.withLogin, "with-login", true, "register the redirect URI of the login command as well")
	f.BoolVar(&o.oneFactor, "one-factor", false, "let users log in with one factor instead of two")
	f.BoolVar(&o.whole, "whole", false, "print Authelia's whole OpenID part")
	f.StringArrayVar(&o.check, "check", nil,
		"compare with Authelia's configuration in `FILE`, - for standard input (repeatable)")
	f.StringVar(&o.write, "write", "", "put the client or its digest into Authelia's configuration in `FILE`")
	f.BoolVarP(&o.yes, "yes", "y", false, "with --write: do not ask")
	f.BoolVar(&o.dryRun, "dry-run", false, "with --write: show what would be written; change nothing")
	a.configFlags(cmd)
	return cmd
}

// autheliaClient loads the configuration. It returns the options of the block, without the digest, and the source of
// the client key. The source is a file, a configuration key, or "" if the client key is not managed.
func (a *app) autheliaClient(cmd *cobra.Command, o autheliaOptions) (authelia.Options, string, error) {
	// A new key needs no old one, whose file may not exist yet.
	c, err := a.load(cmd, config.Options{Partial: true, ClientKey: o.newKey == ""})
	if problem := (*check.Error)(nil); errors.As(err, &problem) && problem.Key == "realm.client_key_file" {
		problem.Hint = check.Hints(problem.Hint, "make a key:\n    {authelia --new-key FILE}")
	}
	if err != nil {
		return authelia.Options{}, "", err
	}
	client, err := authelia.ClientOf(c.Targets)
	if err != nil {
		return authelia.Options{}, "", err
	}
	if len(a.targets) > 0 {
		a.addOthers(cmd, &client)
	}
	if client.Assumed && len(client.RedirectURIs) > 0 {
		a.warning("the redirect URIs are the addresses of the API endpoints: if browsers open others, set verify.redirect_urls")
	}
	options := authelia.Options{
		Client: client, WithLogin: o.withLogin, OneFactor: o.oneFactor, Whole: o.whole, LoginRequired: o.withLogin && cmd.Flags().Changed("with-login"),
	}
	return options, cmp.Or(c.Targets[0].ClientKeyFile, c.Targets[0].ClientKeyFrom), options.Validate()
}

// addOthers adds what targets need that -t leaves out and that share the client: the block is one for all of them.
func (a *app) addOthers(cmd *cobra.Command, client *authelia.Client) {
	all, err := a.readAll(cmd)
	if err != nil {
		a.warning("other targets that share the client are left out: the configuration is not valid without -t")
		return
	}
	client.Add(all.Targets)
}

// printAuthelia prints the client block. It writes a new key last, so that an earlier error leaves no file behind.
func (a *app) printAuthelia(cmd *cobra.Command, o autheliaOptions) error {
	if a.output != "text" {
		return usage("authelia prints YAML, so --output applies only to --check")
	}
	options, configured, err := a.autheliaClient(cmd, o)
	if err != nil {
		return err
	}
	key, show := options.Login.ClientKey, authelia.Block
	if o.newKey != "" {
		key = authelia.NewKey()
	}
	if o.besides(configured) && !o.whole {
		show = authelia.SecretLine
	}
	if options.Digest, err = authelia.Digest(key); err != nil {
		return err
	}
	text, err := show(options)
	if err != nil {
		return err
	}
	if o.newKey != "" {
		if err := writeKey(o.newKey, key); err != nil {
			return err
		}
	}
	if err := a.printf("%s", text); err != nil {
		return err
	}
	a.advise(o, configured, false)
	return nil
}

func absolute(path string) string {
	whole, _ := filepath.Abs(path) // fails only if the working directory is gone
	return cmp.Or(whole, path)
}

// restart makes Authelia read its configuration.
const restart = "restart Authelia by one of:\n    docker compose restart authelia\n    systemctl restart authelia"

// besides tells whether the new key is another one than the configured key: Authelia must not have it before Proxmox can get it.
func (o autheliaOptions) besides(configured string) bool {
	return o.newKey != "" && configured != "" && configured != absolute(o.newKey)
}

// advise says what comes after the client or its digest was printed or written.
func (a *app) advise(o autheliaOptions, configured string, written bool) {
	if o.newKey != "" && configured == "" && !a.quiet {
		a.warning("no client key is configured: set realm.client_key_file to " + absolute(o.newKey))
	}
	if o.besides(configured) {
		if written {
			a.note("do not restart Authelia yet")
		} else {
			a.note("replace the client_secret line of this client in Authelia's configuration, but do not restart Authelia yet")
		}
		a.note("run `proxmox-realm apply --wait 10m --client-key-file %s`; while it waits, %s", o.newKey, restart)
		a.note("then put the new key in place of the old one: %s", configured)
		return
	}
	if !written {
		a.note("add this client below identity_providers.oidc.clients in Authelia's configuration")
	}
	a.note("then %s", restart)
	a.note("%s", cmp.Or(o.next, "then run:\n    proxmox-realm apply"))
	if !written {
		a.note("if Authelia has this client already, `proxmox-realm authelia --check FILE` shows what to change")
	}
}

// compareAuthelia compares the client in Authelia's files with the block.
func (a *app) compareAuthelia(cmd *cobra.Command, o autheliaOptions) error {
	for _, flag := range []string{"new-key", "whole"} {
		if cmd.Flags().Changed(flag) {
			return usage("--%s cannot be combined with --check", flag)
		}
	}
	if a.file == "-" && slices.Contains(o.check, "-") {
		return usage("-c - and --check - cannot both read standard input")
	}
	if a.output != "text" && a.output != "json" {
		return usage("authelia --check has no %s report", a.output).Try("for programs:\n    {authelia --check FILE -o json}")
	}
	options, _, err := a.autheliaClient(cmd, o)
	if err != nil {
		return err
	}
	var files []authelia.File
	for _, path := range o.check {
		file, err := a.readAuthelia(cmd.Context(), path)
		if err != nil {
			return err
		}
		files = append(files, file)
	}
	compared, err := authelia.Compare(options, files...)
	if err != nil {
		return err
	}
	show := func() error { return authelia.Text(a.stdout, compared, a.style()) }
	if a.output == "json" {
		show = func() error { return authelia.JSON(a.stdout, compared) }
	}
	if err := show(); err != nil {
		return unwritten(err)
	}
	a.note("Authelia itself checks the rest of its configuration: %s", validate)
	if compared.Outcome() == reconcile.Unverified {
		return done(exitUnverified)
	}
	return nil
}

// readAuthelia reads one file of Authelia's configuration, or standard input.
func (a *app) readAuthelia(ctx context.Context, path string) (authelia.File, error) {
	data, err := disk.Read(ctx, path, a.stdin, authelia.MaxFile)
	if info, statErr := os.Stat(path); statErr == nil && info.IsDir() {
		err = check.Errorf(check.Config, "%s: is a directory, not a file", path).
			Try("name its *.yml and *.yaml files, in the order of their names, in which Authelia reads them:\n" +
				"    {authelia --check FILE --check FILE}")
	}
	if path == "-" {
		path = "standard input"
	}
	return authelia.File{Name: path, Data: data}, err
}
