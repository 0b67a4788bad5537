package cli

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/disk"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/setup"
)

func (i *initRun) options() proxmox.Options {
	return proxmox.Options{UserAgent: userAgent(), Cleaner: i.secrets, Log: i.logger(), SecondFactor: i.secondFactor}
}

// trust reads what verifies Proxmox's certificate.
func (i *initRun) trust(ctx context.Context) (err error) {
	p := &i.target.Proxmox
	switch {
	case p.Insecure:
		return usage("init sends a password, so it does not work without the verification of TLS").Try("set {proxmox.fingerprints}", "set {proxmox.ca_file}")
	case len(p.Endpoints) > 1 && !i.known:
		return usage("init takes one address and finds the other nodes")
	case p.CAFile != "":
		i.authority, p.CA, err = i.authorities(ctx, p.CAFile)
	}
	return err
}

// reach finds Proxmox over verified or pinned TLS. No credentials are sent.
func (i *initRun) reach(ctx context.Context) (err error) {
	p := &i.target.Proxmox
	given := len(p.Endpoints) > 0
	if i.asks {
		i.tell("Sets up a login with OpenID Connect for a Proxmox VE cluster. Nothing is changed without a yes.")
	}
	for {
		if len(p.Endpoints) == 0 {
			t, err := i.wantKey(ctx, "proxmox.endpoints", "Proxmox VE, address of a node", "")
			if err != nil {
				return err
			}
			p.Endpoints = t.Proxmox.Endpoints[:1]
		}
		i.realms, err = proxmox.Reach(ctx, *p, i.options())
		fingerprint, unknown := setup.Fingerprint(err)
		switch {
		case unknown && i.asks && len(p.Fingerprints) == 0:
			if err := i.askCertificate(ctx, err, fingerprint); err != nil {
				return err
			}
		case err == nil, given, !i.asks, ctx.Err() != nil:
			return err
		default:
			i.sayError(err)
			p.Endpoints = nil
		}
	}
}

func (i *initRun) authorities(ctx context.Context, path string) (pem []byte, pool *x509.CertPool, err error) {
	const most = 4 << 20
	if pem, err = disk.Read(ctx, path, i.stdin, most); err != nil {
		return nil, nil, err
	}
	pool = x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, nil, check.Errorf(check.Config, "%s: must hold a certificate in PEM form", path)
	}
	return pem, pool, nil
}

// askCertificate shows an unknown certificate and trusts it after a yes.
func (i *initRun) askCertificate(ctx context.Context, why error, fingerprint string) error {
	i.tell("%s\n", check.MessageOf(why))
	same, err := i.yesOrNo(ctx, "Does the node print the same fingerprint?", false)
	if err != nil {
		return err
	}
	if !same {
		return check.Errorf(check.UnknownCertificate, "the certificate is not accepted: nothing was sent").
			Try("find out what answers at this address")
	}
	pin, err := config.ParseFingerprint(realm.VE, fingerprint)
	i.target.Proxmox.Fingerprints = []config.Fingerprint{pin}
	return err
}

// identify finds whom requests are sent as: the token of the configuration, one that a flag names, or an administrator.
func (i *initRun) identify(ctx context.Context) error {
	i.account = setup.Account{Bootstrap: i.bootstrap(), Place: i.place}
	if err := i.account.Validate(); err != nil {
		return err
	}
	own, err := i.ownToken(ctx)
	switch {
	case err != nil:
		return err
	case !own.IsZero():
		i.token, _, err = i.connectAs(ctx, own, config.UserID{}, check.Secret{})
		i.account.User, i.account.TokenID, i.account.Here = own.User.String(), own.ID, true
		return err
	case i.tokenFile == "":
		return i.logIn(ctx)
	}
	given, err := i.readToken(ctx, i.tokenFile)
	if err != nil {
		return err
	}
	client, held, err := i.connectAs(ctx, given, config.UserID{}, check.Secret{})
	switch {
	case err != nil:
		return err
	case setup.Strong(held) && given.String() != i.account.Token():
		i.admin = client
		i.tell("The token %s may do more than is needed: it is used to make another one.", given)
		return nil
	}
	i.token, i.newToken = client, []byte(given.Full().Reveal()+"\n")
	i.account.User, i.account.TokenID, i.account.Here = given.User.String(), given.ID, true
	return nil
}

// ownToken returns the token of the configuration, or of the folder; the zero value if there is none yet.
func (i *initRun) ownToken(ctx context.Context) (config.Token, error) {
	path, p := i.place.Path(setup.TokenFile), i.target.Proxmox
	if !i.known || p.TokenFile == path {
		if !i.place.Has(setup.TokenFile) {
			return config.Token{}, nil
		}
		return i.readToken(ctx, path)
	}
	c, err := config.Load(ctx, config.Options{File: i.place.Path(setup.ConfigFile), Secrets: true, Partial: true})
	if err != nil {
		return config.Token{}, err
	}
	token := c.Targets[0].Proxmox.Token
	if token.IsZero() {
		return token, usage("%s names no token, and init would make one", i.place.Path(setup.ConfigFile)).
			Try(check.Hintf("set {proxmox.token_file} to %s", setup.TokenFile))
	}
	return token, nil
}

func (i *initRun) readToken(ctx context.Context, path string) (config.Token, error) {
	text, err := i.secret(ctx, path)
	if err != nil {
		return config.Token{}, err
	}
	token, err := config.ParseToken(realm.VE, text.Reveal())
	if err != nil {
		return token, check.Errorf(check.Config, "%s %v", path, err)
	}
	return token, nil
}

// connectAs uses a token, or the password of a user, and returns what may be done with it.
func (i *initRun) connectAs(ctx context.Context, token config.Token, user config.UserID, password check.Secret) (*proxmox.Client, realm.Privileges, error) {
	p := i.target.Proxmox
	p.Token, p.Username, p.Password = token, user, password
	client, err := proxmox.New(p, i.options())
	if err != nil {
		return nil, nil, err
	}
	held, err := client.Privileges(ctx)
	if err != nil {
		client.Close()
		return nil, nil, err
	}
	return client, held, nil
}

// logIn logs in as an administrator, once: a refused password counts towards a ban.
func (i *initRun) logIn(ctx context.Context) error {
	switch {
	case i.admin != nil:
		return nil
	case i.tokenFile != "" && i.newToken == nil: // the token of the folder may do too little
		given, err := i.readToken(ctx, i.tokenFile)
		if err != nil {
			return err
		}
		i.admin, _, err = i.connectAs(ctx, given, config.UserID{}, check.Secret{})
		return err
	}
	if i.asks && i.username == "" {
		i.tell("An administrator logs in once, with a password and, if Proxmox asks for it, a one-time code or recovery key.")
		i.tell("Security keys do not work here. If you have no other second factor, use an API token (--token-file FILE),")
		i.tell("or run the commands yourself that --print-commands prints.")
	}
	user, err := i.administrator(ctx)
	if err != nil {
		return err
	}
	var password check.Secret
	switch {
	case i.passwordFile != "":
		password, err = i.secret(ctx, i.passwordFile)
	case i.asks:
		password, err = i.askHidden(ctx, "Password of "+user.String()+" (used once, not stored): ")
	default:
		return usage("an administrator is needed, and no password is given").
			Try("set --password-file to a file with the password, such as /root/password, or to - for standard input",
				"set --token-file to a file with an API token, such as /root/token", "print the commands for a node:\n    {init --print-commands}")
	}
	if err != nil {
		return err
	}
	i.admin, _, err = i.connectAs(ctx, config.Token{}, user, password)
	return err
}

// administrator returns the user who logs in.
func (i *initRun) administrator(ctx context.Context) (config.UserID, error) {
	for {
		name, err := i.username, error(nil)
		if name == "" {
			name, err = i.want(ctx, "Administrator", "root@pam")
		}
		if err != nil {
			return config.UserID{}, err
		}
		user, err := config.ParseUserID(realm.VE, name)
		switch {
		case err == nil:
			return user, nil
		case i.username != "" || !i.asks:
			return user, usage("--username %v", err)
		}
		i.sayError(usage("it %v", err))
	}
}

// secondFactor gives the one-time code of an administrator who needs one.
func (i *initRun) secondFactor(ctx context.Context, factors []string) (check.Secret, error) {
	switch {
	case i.otpFile != "":
		return i.secret(ctx, i.otpFile)
	case i.asks && slices.Contains(factors, "totp"):
		code, err := i.askHidden(ctx, "One-time code: ")
		return code, err
	case i.asks && slices.Contains(factors, "recovery"):
		code, err := i.askHidden(ctx, "Recovery key: ")
		return check.NewSecret("recovery:" + strings.TrimSpace(code.Reveal())), err
	}
	return check.Secret{}, nil
}

// client is whoever may look.
func (i *initRun) client() *proxmox.Client {
	if i.admin != nil {
		return i.admin
	}
	return i.token
}

// survey looks at the cluster: its nodes become endpoints.
func (i *initRun) survey(ctx context.Context) (err error) {
	if i.cluster, err = setup.Survey(ctx, i.client(), i.target.Proxmox, i.authority, i.options()); err != nil {
		return err
	}
	i.tell("%s", i.cluster)
	if i.cluster.Front != "" {
		i.tell("%s is not a node: what stands there ends TLS, and would see the token.", i.cluster.Front)
	}
	for _, node := range i.cluster.Silent {
		i.tell("Node %s does not answer over a trusted certificate: it is no endpoint.", node)
	}
	p := &i.target.Proxmox
	p.Endpoints, p.Fingerprints, p.CAFile = i.cluster.Endpoints, i.cluster.Fingerprints, ""
	if i.cluster.Authority != nil {
		p.CAFile = setup.AuthorityFile
	}
	return nil
}

// adopt takes over a realm that exists.
func (i *initRun) adopt(ctx context.Context) error {
	t := &i.target
	var all, open []string
	for _, r := range i.realms {
		all = append(all, r.Name)
		if r.Type == realm.Type {
			open = append(open, r.Name)
		}
	}
	if len(open) == 0 {
		i.tell("Realms: %s. No OpenID Connect realm yet.", strings.Join(all, ", "))
	} else {
		i.tell("Realms: %s. OpenID Connect: %s.", strings.Join(all, ", "), strings.Join(open, ", "))
	}
	if i.asks && !i.given["realm.name"] && len(open) > 0 {
		take, err := i.chooseRealm(ctx, open)
		if err != nil {
			return err
		}
		if take != "" {
			t.Realm.Name, i.given["realm.name"] = take, true
		}
	}
	n := slices.IndexFunc(i.realms, func(r proxmox.NamedRealm) bool { return r.Name == t.Realm.Name })
	if n < 0 {
		return nil
	}
	if kind := i.realms[n].Type; kind != realm.Type {
		return setup.WrongType(t.Realm.Name, kind)
	}
	held, err := i.client().Realm(ctx, t.Realm.Name)
	if err != nil || !held.Exists {
		return err
	}
	i.adopted, i.key = true, held.Values.Login(t.Realm.Name).ClientKey
	i.target = setup.Adopt(*t, held)
	there, login := held.Values.Login(t.Realm.Name), i.target.Realm.Set.Login(t.Realm.Name)
	i.tell("Realm %s is taken as it is: issuer %s, client %s.", t.Realm.Name, i.secrets.Clean(there.IssuerURL), i.secrets.Clean(there.ClientID))
	if there.IssuerURL != login.IssuerURL || there.ClientID != login.ClientID {
		i.tell("The flags change that: issuer %s, client %s.", login.IssuerURL, login.ClientID)
	}
	if login.UsernameClaim == "sub" {
		i.tell("Its users are named by the claim sub. That cannot be changed in place; a second realm beside it can use another one:")
		i.tell("  %s", i.wording.Command("init --realm sso"))
	}
	if !i.key.IsSet() {
		i.tell("It has no client key: it is that of a public client.")
	}
	return nil
}

// chooseRealm asks which of several realms is taken; "" means none.
func (i *initRun) chooseRealm(ctx context.Context, open []string) (string, error) {
	for _, name := range open {
		yes, err := i.yesOrNo(ctx, fmt.Sprintf("Take the realm %q as it is?", name), true)
		if err != nil || yes {
			return name, err
		}
	}
	return "", nil
}
