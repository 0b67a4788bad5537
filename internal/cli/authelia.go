package cli

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/authelia"
	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

func (a *app) autheliaCommand() *cobra.Command {
	var o autheliaOptions
	cmd := &cobra.Command{
		Use:   "authelia",
		Short: "Print the client for Authelia's configuration, or check it",
		Long: `Print the client block for Authelia's configuration that matches the realm: client id, digest of the client key,
redirect URIs, scopes and methods. It is the other half of the set-up, made from the same configuration. Targets
that share the client share the block.

With --new-key, a random key is written to FILE for realm.client_key_file, and the block holds its digest; the key
itself is never shown. A key in use is replaced by making FILE.new, pasting the digest, running
"apply --wait 10m --client-key-file FILE.new" and then restarting Authelia: the old key serves until the issuer takes
the new one, and nothing is written before.

With --check, Authelia's own files are read, and each mismatch with the realm is reported with its line. Only the
client of the realm is looked at, and nothing in the files is changed. "help checks" explains each check.` +
			exitHelp(exitUnverified, exitUsage, exitConfig),
		Example: `  proxmox-realm authelia --new-key /etc/proxmox-realm/client-key   # a first set-up: paste, restart Authelia, apply
  proxmox-realm authelia --policy one_factor --with-login
  proxmox-realm authelia --check /etc/authelia/configuration.yml
  ssh auth.example.com cat /etc/authelia/configuration.yml | proxmox-realm authelia --check - -o json
  proxmox-realm authelia --new-key client-key.new                  # rotation: paste the digest,
  proxmox-realm apply --wait 10m --client-key-file client-key.new  # and restart Authelia while this waits`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.authelia(cmd, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.newKey, "new-key", "", "make a key, and write it to `FILE` with mode 0600")
	f.BoolVar(&o.force, "force", false, "let --new-key overwrite FILE")
	f.StringVar(&o.digest, "digest", string(authelia.PBKDF2), "`ALGORITHM` of the digest: pbkdf2, argon2id, bcrypt or scrypt")
	f.StringVar(&o.policy, "policy", authelia.DefaultPolicy, "authorization `POLICY`: two_factor, one_factor, or the name of one that Authelia's configuration defines")
	f.StringVar(&o.name, "client-name", "Proxmox", "`NAME` of the client, which users see when they consent")
	f.BoolVar(&o.withLogin, "with-login", false, "register the redirect URI of the rehearsal (login) as well")
	f.BoolVar(&o.whole, "whole", false, "print the block inside identity_providers.oidc.clients")
	f.StringVar(&o.version, "authelia-version", "", "for this `VERSION` of Authelia, such as 4.37, in place of the newest")
	f.StringArrayVar(&o.check, "check", nil, "check `FILE` of Authelia's configuration, - for standard input, instead of printing a block (repeatable)")
	configFlags(cmd)
	return cmd
}

type autheliaOptions struct {
	newKey    string
	force     bool
	digest    string
	policy    string
	name      string
	withLogin bool
	whole     bool
	version   string
	check     []string
}

func (a *app) authelia(cmd *cobra.Command, o autheliaOptions) error {
	version, err := authelia.ParseVersion(o.version)
	if err != nil {
		return err
	}
	if cmd.Flags().Changed("check") {
		for _, flag := range []string{"new-key", "force", "digest", "policy", "client-name", "whole"} {
			if cmd.Flags().Changed(flag) {
				return usage("--%s is about the block to print, and --check prints none", flag)
			}
		}
		return a.checkAuthelia(cmd, o, version)
	}
	switch {
	case a.output != "text":
		return usage("authelia prints YAML, which --output does not change").Try(check.Advise("--check takes -o json and -o junit"))
	case o.force && o.newKey == "":
		return usage("--force lets --new-key overwrite a file").Try(check.Advise("name it with --new-key FILE"))
	case cmd.Flags().Changed("new-key") && o.newKey == "":
		return usage("--new-key takes the name of a file")
	}
	return a.printBlock(cmd, o, version)
}

// printBlock prints the client block. A new key is written last: where anything else is wrong, there is none.
func (a *app) printBlock(cmd *cobra.Command, o autheliaOptions, version authelia.Version) error {
	c, err := a.loadClient(cmd, o.newKey == "")
	if err != nil {
		return err
	}
	client, err := sharedClient(c.Targets, version)
	if err != nil {
		return err
	}
	options := authelia.Options{Client: client, Name: o.name, Policy: o.policy, WithLogin: o.withLogin, Whole: o.whole}
	if err := options.Validate(); err != nil {
		return err
	}
	key := client.Login.ClientKey
	if o.newKey != "" {
		key = authelia.NewKey()
	}
	if options.Digest, err = authelia.Digest(key, authelia.Algorithm(o.digest)); err != nil {
		return err
	}
	block, err := authelia.Block(options)
	if err != nil {
		return err
	}
	if o.newKey != "" {
		if err := authelia.WriteKey(o.newKey, key, o.force); err != nil {
			return err
		}
	}
	if err := a.printf("%s", block); err != nil {
		return err
	}
	a.adviseAuthelia(c, client, o)
	return nil
}

// adviseAuthelia says what the block does not: what is doubtful, and what to do next.
func (a *app) adviseAuthelia(c *config.Config, client authelia.Client, o autheliaOptions) {
	if !client.Version.KnowsDigests() {
		a.warning("authelia " + client.Version.String() + " compares the secret itself: paste the client key in place of the digest, or upgrade authelia")
	}
	if client.Assumed && len(client.RedirectURIs) > 0 {
		a.warning("the redirect URIs are those of the API endpoints: set verify.redirect_urls to what browsers open")
	}
	if a.quiet {
		return
	}
	place := "paste this below identity_providers.oidc.clients in Authelia's configuration, in place of a client with this id"
	if o.whole {
		place = "merge this into Authelia's configuration, in place of a client with this id"
	}
	configured, described := keySources(c)
	switch file := absolute(o.newKey); {
	case o.newKey == "":
		a.say("note", place+", restart Authelia, then run `proxmox-realm apply`")
	case len(described) == 0:
		a.warning("the configuration names no client key: set realm.client_key_file: " + file)
		a.say("note", place+", restart Authelia, then run `proxmox-realm apply`")
	case !slices.Equal(configured, []string{file}):
		a.warning("the new key is in " + file + ", and the configuration names " + strings.Join(described, ", "))
		a.say("note", place+", and run `proxmox-realm apply --wait 10m --client-key-file "+o.newKey+"`")
		a.say("note", "while it waits, restart Authelia: the old key serves until then; afterwards put the new key where the configuration has the old one")
	case o.force:
		a.say("note", place+", run `proxmox-realm apply --wait 10m`, and restart Authelia while it waits")
	default:
		a.say("note", place+", restart Authelia, then run `proxmox-realm apply`")
	}
}

// keySources returns the files that the targets' client keys are read from, and every source as it is shown, each once.
func keySources(c *config.Config) (files, described []string) {
	for _, s := range c.Show() {
		text := s.Key
		switch s.Key {
		case "realm.client_key_file":
			text = strings.Trim(s.Value, `'"`)
			if !slices.Contains(files, text) {
				files = append(files, text)
			}
		case "realm.client_key", "realm.client_key_command":
		default:
			continue
		}
		if !slices.Contains(described, text) {
			described = append(described, text)
		}
	}
	return files, described
}

func absolute(path string) string {
	if whole, err := filepath.Abs(path); err == nil {
		return whole
	}
	return path
}

// checkAuthelia compares Authelia's files with what the realm needs.
func (a *app) checkAuthelia(cmd *cobra.Command, o autheliaOptions, version authelia.Version) error {
	began := time.Now()
	c, err := a.loadClient(cmd, true)
	if err != nil {
		return err
	}
	client, err := sharedClient(c.Targets, version)
	if err != nil {
		return err
	}
	if o.withLogin {
		client.RedirectURIs = append(slices.Clone(client.RedirectURIs), authelia.LoginRedirectURI)
	}
	var files []authelia.File
	for _, path := range o.check {
		file, err := a.readAuthelia(path)
		if err != nil {
			return err
		}
		files = append(files, file)
	}
	first := c.Targets[0]
	target := reconcile.Result{Name: first.Name, Realm: first.Realm.Name}
	if len(c.Targets) > 1 {
		target.Name = client.Login.ClientID
	}
	target.Checks = check.Ignore(authelia.Check(client, files...), ignoredByAll(c.Targets))
	target.Action, target.Outcome, target.Duration = realm.None, reconcile.Unchanged, time.Since(began)
	if len(check.Failures(target.Checks)) > 0 {
		target.Outcome = reconcile.Unverified
	}
	run := fleet.Run{Command: a.command, Outcome: target.Outcome, Targets: []reconcile.Result{target}, Duration: target.Duration}
	show := func() error { return report.Checks(a.stdout, target.Checks, a.style()) }
	if a.output != "text" {
		show = func() error { return render(a.stdout, a.output, run, report.Style{}) }
	}
	if err := show(); err != nil {
		return err
	}
	return done(runCode(run, false))
}

func (a *app) readAuthelia(path string) (authelia.File, error) {
	if path == "-" {
		return authelia.Read("standard input", a.stdin)
	}
	return authelia.ReadFile(path)
}

// loadClient loads what a configuration says of the client; nothing about Proxmox is needed.
func (a *app) loadClient(cmd *cobra.Command, key bool) (*config.Config, error) {
	c, err := a.load(cmd, config.Options{Partial: true, ClientKey: key})
	var problems config.Problems
	if key && errors.As(err, &problems) { // a new key needs no old one
		for _, p := range problems {
			key := strings.ToLower(strings.ReplaceAll(p.Key, "-", "_")) // a flag's or variable's name too
			if strings.HasSuffix(key, "client_key_file") {
				return nil, check.Errorf(check.Config, "%s", check.Describe(err).Message).Because(err).
					Try(check.Advise("make a key with `proxmox-realm authelia --new-key FILE`, where there is none yet"))
			}
		}
	}
	return c, err
}

// sharedClient returns the one client of all targets: whoever logs in through any of them is sent back to a
// redirect URI of it, and asks for its scopes. Targets that cannot share a client are a usage error.
func sharedClient(targets []config.Target, version authelia.Version) (authelia.Client, error) {
	shared := authelia.Client{Login: creationLogin(targets[0].Realm), Version: version}
	for _, t := range targets {
		login := creationLogin(t.Realm)
		if key := difference(shared.Login, login); key != "" {
			return authelia.Client{}, usage("targets %s and %s differ in %s, and have no client in common", targets[0].Name, t.Name, key).
				Try(check.Advise("choose those that share one with -t NAME"))
		}
		shared.Login.Scopes = union(shared.Login.Scopes, login.Scopes)
		for _, url := range t.Verify.RedirectURLs {
			shared.RedirectURIs = union(shared.RedirectURIs, []string{string(url)})
		}
		shared.Assumed = shared.Assumed || !t.Verify.RedirectsDeclared
	}
	if shared.Login.ClientID == "" {
		return authelia.Client{}, check.Errorf(check.Config, "realm.client_id: required").Try(check.Advise("give --client-id, such as --client-id proxmox"))
	}
	return shared, nil
}

// creationLogin is what logins use of a realm that is created as the Spec asks.
func creationLogin(s realm.Spec) realm.Login {
	values := realm.CreationDefaults()
	for _, p := range s.Unset {
		delete(values, p)
	}
	for p, v := range s.Set {
		values[p] = v
	}
	return values.Login(s.Name)
}

// difference names the key that keeps two logins from sharing a client, "" where none does.
func difference(a, b realm.Login) string {
	switch {
	case a.IssuerURL != b.IssuerURL:
		return "realm.issuer_url"
	case a.ClientID != b.ClientID:
		return "realm.client_id"
	case !a.ClientKey.Equal(b.ClientKey):
		return "realm.client_key"
	case a.QueryUserinfo != b.QueryUserinfo:
		return "realm.query_userinfo"
	case !a.QueryUserinfo && a.UsernameClaim != b.UsernameClaim: // a claims policy names the claims
		return "realm.username_claim"
	case !a.QueryUserinfo && a.GroupsClaim != b.GroupsClaim:
		return "realm.groups_claim"
	}
	return ""
}

func union(words, more []string) []string {
	out := slices.Clone(words)
	for _, w := range more {
		if !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	return out
}

// ignoredByAll returns the checks that no target minds.
func ignoredByAll(targets []config.Target) []check.ID {
	return slices.DeleteFunc(slices.Clone(targets[0].Verify.Ignore), func(id check.ID) bool {
		return slices.ContainsFunc(targets, func(t config.Target) bool { return !slices.Contains(t.Verify.Ignore, id) })
	})
}
