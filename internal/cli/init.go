package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/disk"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/setup"
)

type initOptions struct {
	// How Proxmox is reached, and by whom.
	username, passwordFile, otpFile, tokenFile, tokenID string
	// Who may do what.
	groupsClaim string
	grants      []string
	logs        bool // --diagnose
	// The client.
	clientKeyFile, autheliaConfig string
	oneFactor                     bool
	wait                          time.Duration

	yes, dryRun, printCommands bool
}

// initFlags are flags that give configuration keys.
var initFlags = []struct{ flag, key, usage string }{
	{"endpoint", "proxmox.endpoints", "the `URL` of a node, such as https://pve1.example.com:8006"},
	{"ca-file", "proxmox.ca_file", "trust the certificate authorities in the PEM `FILE` for Proxmox"},
	{"fingerprint", "proxmox.fingerprints", "trust the certificate with this `SHA256`, as \"pvenode cert info\" prints it"},
	{"issuer-url", "realm.issuer_url", "the `URL` of the issuer, such as https://auth.example.com"},
	{"issuer-ca-file", "verify.issuer_ca_file", "trust the certificate authorities in the PEM `FILE` for the issuer"},
	{"realm", "realm.name", "the `NAME` of the realm; users are called USER@NAME, for good (authelia)"},
	{"client-id", "realm.client_id", "the `ID` of the client at the issuer (proxmox)"},
	{"username-claim", "realm.username_claim", "the `CLAIM` that names users, fixed once the realm exists (preferred_username)"},
	{"scopes", "realm.scopes", "the `SCOPES` to request (openid,profile,email)"},
	{"redirect-url", "verify.redirect_urls", "an address `URL` that browsers open (repeatable; the nodes)"},
}

func (a *app) initCommand() *cobra.Command {
	i := &initRun{app: a, place: setup.Place(config.Dir())}
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Lead from nothing to a verified login (Proxmox VE)",
		Long: `Set up a login with OpenID Connect for a Proxmox VE cluster: a token with the
least privileges, a configuration, the client at the issuer, and the realm.

On a terminal it asks, and nothing is changed without a yes. With --yes it asks
nothing, takes defaults and creates what is missing; it never accepts a
certificate, overwrites a file or replaces a token. Only the file of
--authelia-config is edited. A FILE of - is standard input.

Run it again at any time: it looks at what is there and does what is missing.
The password of an administrator is sent once and stored nowhere. It is needed
only for what the token of the configuration cannot do.` +
			exitHelp(exitUnverified, exitRefused, exitHeld, exitUnavailable, exitDenied, exitInterrupted),
		Example: `  proxmox-realm init
  proxmox-realm init --print-commands --grant admins=/:PVEAdmin   # for those who give it no password

  proxmox-realm init --yes --endpoint pve1.example.com --ca-file pve-root-ca.pem \
      --username root@pam --password-file - \
      --issuer-url https://auth.example.com`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			i.cmd = cmd
			return i.stopped(i.run(cmd.Context()))
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	dir := (*string)(&i.place)
	f.StringVar(dir, "dir", *dir, "write the configuration and its files into `DIR`")
	for _, k := range initFlags {
		f.StringArray(k.flag, nil, k.usage)
	}
	f.StringVar(&i.username, "username", "", "log in as this administrator, `NAME`@REALM, for what the token cannot do (root@pam)")
	f.StringVar(&i.passwordFile, "password-file", "", "the administrator's password is in `FILE`")
	f.StringVar(&i.otpFile, "otp-file", "", "the administrator's one-time code is in `FILE`")
	f.StringVar(&i.tokenFile, "token-file", "", "use the API token in `FILE`; one of an administrator only to make a lesser one")
	f.StringVar(&i.tokenID, "token-id", "", "make the token with this `ID` (agent)")
	f.StringVar(&i.clientKeyFile, "client-key-file", "", "use the client key in `FILE` instead of a new one")
	f.StringVar(&i.groupsClaim, "groups-claim", "", "the `CLAIM` with the user's groups (groups, if there are grants)")
	f.StringArrayVar(&i.grants, "grant", nil, "give a group of the issuer a role: `GROUP=PATH:ROLE` (repeatable)")
	f.BoolVar(&i.logs, "diagnose", false, "let the token read the whole system log of the nodes, for \"diagnose\"")
	f.StringVar(&i.autheliaConfig, "authelia-config", "", "add the client to Authelia's configuration in `FILE`")
	f.BoolVar(&i.oneFactor, "one-factor", false, "let Authelia ask for one factor instead of two")
	f.DurationVar(&i.wait, "wait", 10*time.Minute, "wait up to `DURATION` until the issuer accepts the client")
	f.BoolVarP(&i.yes, "yes", "y", false, "ask nothing")
	f.BoolVar(&i.dryRun, "dry-run", false, "show what would be made; change nothing")
	f.BoolVar(&i.printCommands, "print-commands", false, "print the commands that make the token, for a node; connect to nothing")
	return cmd
}

// initRun is the state of one setup.
type initRun struct {
	*app
	initOptions
	cmd   *cobra.Command
	place setup.Place
	asks  bool // somebody answers questions

	given  map[string]bool
	known  bool          // there is a configuration
	target config.Target // what is declared; without a configuration it grows with the answers

	admin, token *proxmox.Client // nil: not connected
	account      setup.Account
	secrets      *check.Cleaner
	realms       []proxmox.NamedRealm
	authority    []byte // of --ca-file
	cluster      setup.Cluster
	adopted      bool // the realm was there, and no configuration
	key          check.Secret
	newToken     []byte // of --token-file
	issuer       *issuer.Inspector
	look         setup.Issuer
	made         []setup.Step
}

// run takes the steps. Each looks first and does only what is missing.
func (i *initRun) run(ctx context.Context) error {
	if err := i.open(ctx); err != nil {
		return err
	}
	if i.printCommands {
		return i.printLines()
	}
	defer i.close()
	steps := []func(context.Context) error{i.trust, i.reach, i.identify, i.survey, i.adopt, i.lookAtIssuer, i.complete, i.make, i.finishRealm}
	if i.known { // somebody has answered
		steps = []func(context.Context) error{i.trust, i.identify, i.lookAtIssuer, i.make, i.finishRealm}
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// open finds out what is there, and what the flags ask for.
func (i *initRun) open(ctx context.Context) (err error) {
	i.secrets = check.NewCleaner()
	i.asks = !i.yes && !i.dryRun && onTerminal(i.stdin)
	i.place = setup.Place(absolute(string(i.place)))
	i.wording = i.words()
	stdin := 0
	for _, file := range []string{i.passwordFile, i.otpFile, i.tokenFile, i.clientKeyFile} {
		if file == "-" {
			stdin++
		}
	}
	switch {
	case i.file != "" || len(i.targets) > 0:
		return usage("init writes a configuration: --config and --target do not apply to it").Try("name its folder:\n    {init --dir DIR}")
	case stdin > 1:
		return usage("only one file can be standard input")
	case i.wait < 0:
		return usage("--wait takes no negative value")
	}
	if i.autheliaConfig != "" {
		if _, err := os.Stat(i.autheliaConfig); errors.Is(err, fs.ErrNotExist) { // said before anything is made
			return check.Errorf(check.Config, "--authelia-config %s: %v", i.autheliaConfig, disk.ErrAbsent).
				Try("name the file of Authelia's configuration on this machine, or leave the flag out: the client is printed then")
		}
	}
	var flags []config.FlagValue
	i.given = map[string]bool{}
	for _, k := range initFlags {
		values, _ := i.cmd.Flags().GetStringArray(k.flag)
		for _, v := range values {
			i.given[k.key] = true
			flags = append(flags, config.FlagValue{Key: k.key, Value: v})
		}
	}
	if i.groupsClaim != "" {
		flags = append(flags, config.FlagValue{Key: "realm.groups_claim", Value: i.groupsClaim})
	}
	if i.target, err = i.parse(ctx, flags...); err != nil {
		return err
	}
	if i.target.Access, err = setup.ParseGrants(i.grants); err != nil {
		return usage("--grant %v", err)
	}
	return i.openPlace(ctx)
}

// openPlace reads the configuration, if there is one. What the flags say must not contradict it.
func (i *initRun) openPlace(ctx context.Context) error {
	if err := i.place.Check(); err != nil {
		return err
	}
	if i.known = i.place.Has(setup.ConfigFile); !i.known {
		return nil
	}
	path := i.place.Path(setup.ConfigFile)
	c, err := config.Load(ctx, config.Options{File: path, Partial: true, IssuerCA: true})
	switch {
	case err != nil:
		return err
	case len(c.Targets) != 1:
		return usage("init sets up one cluster, and %s has %d targets", path, len(c.Targets)).Try("name another folder:\n    {init --dir DIR}")
	}
	asked := i.target
	i.target = c.Targets[0]
	if !i.given["realm.name"] {
		asked.Realm.Name = i.target.Realm.Name
	}
	if keys := setup.Differences(i.target, asked); len(keys) > 0 {
		return usage("%s is there and says something else in %s: it is not overwritten", path, strings.Join(keys, ", ")).
			Try(check.Hintf("edit %s, or leave the flags out", path), "set up another realm beside it:\n    {init --dir DIR}")
	}
	return nil
}

// parse reads keys and values as flags of other commands, without a configuration.
func (i *initRun) parse(ctx context.Context, flags ...config.FlagValue) (config.Target, error) {
	for _, f := range flags {
		_, port, _ := strings.Cut(strings.TrimPrefix(f.Value, "https://"), ":")
		if p, known := realm.ProductAt(strings.TrimSuffix(port, "/")); f.Key == "proxmox.endpoints" && known && p != realm.VE {
			return config.Target{}, otherProduct(p)
		}
	}
	c, err := config.Load(ctx, config.Options{File: "-", Stdin: strings.NewReader("{}"), Flags: flags, Partial: true, IssuerCA: true})
	if err != nil {
		return config.Target{}, err
	}
	if p := c.Targets[0].Proxmox.Product; p != realm.VE {
		return config.Target{}, otherProduct(p)
	}
	return c.Targets[0], nil
}

func otherProduct(p realm.Product) error {
	return usage("init sets up Proxmox VE, not %s", p.Name()).
		Try(check.Hintf("print the lines that make a token:\n    {bootstrap --product %s}", p))
}

// printLines prints the commands that make the token and what it needs.
func (i *initRun) printLines() error {
	b := i.bootstrap()
	b.Again = repeated(i.cmd, "print-commands", "grant", "diagnose")
	if err := b.Validate(); err != nil {
		return err
	}
	if err := i.printf("%s\n", strings.Join(b.All(), "\n")); err != nil || i.quiet {
		return err
	}
	i.say("note", "run these lines as root on a node. They write the token "+b.Token()+" to "+proxmox.TokenFile+
		": bring that file here, and go on")
	i.sayHint(check.Hintf("go on:\n    {%s --token-file %s}", repeated(i.cmd, "grant", "diagnose"), proxmox.TokenFile))
	return nil
}

// bootstrap returns the token that the setup makes, and what it needs.
func (i *initRun) bootstrap() proxmox.Bootstrap {
	return proxmox.Bootstrap{TokenID: i.tokenID, Access: i.target.Access, Diagnose: i.logs}
}

func (i *initRun) close() {
	for _, c := range []*proxmox.Client{i.admin, i.token} {
		if c != nil {
			c.Close()
		}
	}
	if i.issuer != nil {
		i.issuer.Close()
	}
}

// stopped adds to an error what was made so far, and how to go on.
func (i *initRun) stopped(err error) error {
	var ended exited
	if err == nil || errors.As(err, &ended) && int(ended) != exitHeld {
		return err
	}
	if len(i.made) > 0 {
		i.note("made so far: %s", i.whatWasMade())
		i.note("to undo it:\n%s%s", check.Command, strings.Join(i.place.Undo(), "\n"+check.Command))
	}
	if i.place.Has(setup.ConfigFile) && check.CodeOf(err) != check.Usage && check.CodeOf(err) != check.Config {
		i.note("to go on:\n%s%s", check.Command, i.wording.Command(repeated(i.cmd, "authelia-config", "yes")))
	}
	return err
}

// whatWasMade names what this run made.
func (i *initRun) whatWasMade() string {
	var what []string
	for _, s := range i.made {
		what = append(what, s.What)
	}
	return strings.Join(what, ", ")
}

// words names keys by flags, and adds the folder to commands.
func (i *initRun) words() check.Names {
	own := map[string]string{
		"proxmox.username": "--username", "proxmox.password_file": "--password-file", "proxmox.otp": "--otp-file",
		"proxmox.token_file": "--token-file", "realm.client_key_file": "--client-key-file", "realm.groups_claim": "--groups-claim", "access": "--grant",
		"verify.issuer": "PROXMOX_REALM_VERIFY_ISSUER",
	}
	for _, k := range initFlags {
		own[k.key] = "--" + k.flag
	}
	return check.Names{
		Key: func(path string) string {
			if flag := own[path]; flag != "" && !i.known {
				return flag
			}
			return path
		},
		Command: func(line string) string {
			line = "proxmox-realm " + line
			switch {
			case string(i.place) == config.Dir(), strings.Contains(line, " --dir "):
			case strings.HasPrefix(line, "proxmox-realm init"):
				line += " --dir " + check.Quote(string(i.place))
			case i.place.Has(setup.ConfigFile):
				line += " -c " + check.Quote(i.place.Path(setup.ConfigFile))
			}
			return line
		},
	}
}

// tell says what was found. It is for people, so it goes where the questions go.
func (i *initRun) tell(format string, args ...any) {
	if !i.quiet {
		_, _ = fmt.Fprintln(i.stderr, check.Printable("  "+fmt.Sprintf(format, args...)))
	}
}

// secret reads a file that a flag names, without its last line end.
func (i *initRun) secret(ctx context.Context, path string) (check.Secret, error) {
	const most = 64 << 10
	data, err := disk.Read(ctx, path, i.stdin, most)
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	s := check.NewSecret(text)
	i.secrets.Hold(s)
	if err == nil && text == "" {
		err = check.Errorf(check.Config, "%s is empty", path)
	}
	return s, err
}

// want asks a question until there is an answer; otherwise is what an empty answer means, and what nobody is asked for.
func (i *initRun) want(ctx context.Context, question, otherwise string) (string, error) {
	if !i.asks {
		return otherwise, nil
	}
	if otherwise != "" {
		question += " [" + otherwise + "]"
	}
	for {
		answer, err := i.line(ctx, question+": ")
		if answer = cmp.Or(answer, otherwise); err != nil || answer != "" {
			return answer, err
		}
		i.tell("An answer is needed here. Ctrl-C ends the setup.")
	}
}

// wantKey asks for the value of a key until it is valid.
func (i *initRun) wantKey(ctx context.Context, key, question, otherwise string) (config.Target, error) {
	if !i.asks && otherwise == "" {
		k := initFlags[slices.IndexFunc(initFlags, func(k struct{ flag, key, usage string }) bool { return k.key == key })]
		return config.Target{}, usage("--%s is needed: nobody is there to ask", k.flag).
			Try(check.Hintf("set --%s to %s", k.flag, strings.ReplaceAll(k.usage, "`", "")))
	}
	for {
		text, err := i.want(ctx, question, otherwise)
		if err != nil {
			return config.Target{}, err
		}
		t, err := i.parse(ctx, config.FlagValue{Key: key, Value: text})
		if err == nil || !i.asks {
			return t, err
		}
		i.sayError(err)
	}
}
