package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"proxmox-realm/internal/authelia"
	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/setup"
)

// lookAtIssuer inspects the issuer, and takes the name that it has for itself.
func (i *initRun) lookAtIssuer(ctx context.Context) (err error) {
	t := &i.target
	if t.Realm.Login().IssuerURL == "" {
		if err := i.askIssuer(ctx); err != nil {
			return err
		}
	}
	if !t.Verify.Issuer {
		i.tell("The issuer is not looked at from here: verify.issuer is false.")
		return nil
	}
	for {
		if i.issuer != nil {
			i.issuer.Close()
		}
		i.issuer = issuer.New(issuer.Options{Roots: t.Verify.IssuerCA, UserAgent: userAgent(), Cleaner: i.secrets, Log: i.logger()})
		stop := i.working("asking " + t.Realm.Login().IssuerURL)
		i.look, err = setup.Look(ctx, i.issuer, *t, i.cluster.Version)
		stop()
		if err != nil || i.known {
			return err
		}
		again, err := i.correctIssuer(ctx)
		if err != nil {
			return err
		}
		if again {
			continue
		}
		against := i.judgeIssuer()
		if against == nil || !i.asks || i.adopted || i.given["realm.issuer_url"] {
			return against
		}
		i.sayError(against)
		if err := i.askIssuer(ctx); err != nil {
			return err
		}
	}
}

// judgeIssuer says what the look has shown.
func (i *initRun) judgeIssuer() error {
	if err := i.look.Against(); err != nil {
		return err
	}
	url, provider := i.target.Realm.Login().IssuerURL, i.look.Provider()
	switch {
	case i.look.SwitchedOff():
		i.tell("Issuer %s: Authelia, whose OpenID Connect part is off. A complete one is printed below.", url)
		return nil
	case provider != "":
		i.tell("Issuer %s: %s, as expected.", url, provider)
	default:
		i.tell("Issuer %s: as expected.", url)
	}
	for _, c := range i.look.Checks {
		if c.Status == check.Warn {
			i.tell("%s: %s", c.ID, c.Summary)
		}
	}
	return nil
}

func (i *initRun) askIssuer(ctx context.Context) error {
	t, err := i.wantKey(ctx, "realm.issuer_url", "Issuer, its URL", "")
	if err == nil {
		i.set(t, realm.IssuerURL)
	}
	return err
}

// set takes over the value of a property.
func (i *initRun) set(from config.Target, p realm.Property) {
	if i.target.Realm.Set == nil {
		i.target.Realm.Set = realm.Values{}
	}
	i.target.Realm.Set[p] = from.Realm.Set[p]
}

// correctIssuer corrects what the look has shown, as far as somebody agrees. again tells that the issuer is to be looked at again.
func (i *initRun) correctIssuer(ctx context.Context) (again bool, err error) {
	t := &i.target
	if !i.look.Trusted() {
		if c, ok := check.Find(i.look.Checks, check.IssuerCertificate); ok && c.Status == check.Warn {
			return true, i.askAuthority(ctx, c)
		}
	}
	name, nearby := i.look.OtherName(*t)
	switch {
	case name == "":
		return false, nil
	case nearby:
		i.tell("The issuer's own name is %s: that is used.", name)
	case !i.asks:
		return false, nil // the check says what is wrong
	default:
		yes, err := i.yesOrNo(ctx, fmt.Sprintf("It calls itself %s. Proxmox needs that name: use it?", check.Printable(name)), true)
		if err != nil || !yes {
			return false, err
		}
	}
	named, err := i.parse(ctx, config.FlagValue{Key: "realm.issuer_url", Value: name})
	if err == nil {
		i.set(named, realm.IssuerURL)
	}
	return true, err
}

// askAuthority asks for the authority of an issuer that this machine does not trust.
func (i *initRun) askAuthority(ctx context.Context, c check.Check) error {
	i.tell("%s", c.Summary)
	i.tell("The nodes must trust its authority too. On each node, after copying it to /usr/local/share/ca-certificates/issuer.crt:")
	i.tell("  update-ca-certificates && systemctl restart pvedaemon pveproxy")
	if !i.asks {
		return check.Errorf(check.Config, "this machine does not know the authority of the issuer's certificate, so nothing was made").
			Try("set --issuer-ca-file to its certificate")
	}
	t, err := i.wantKey(ctx, "verify.issuer_ca_file", "File with the authority's certificate", "")
	if err == nil {
		i.target.Verify.IssuerCAFile, i.target.Verify.IssuerCA = t.Verify.IssuerCAFile, t.Verify.IssuerCA
	}
	return err
}

// complete asks what is not known yet of the realm.
func (i *initRun) complete(ctx context.Context) error {
	t := &i.target
	if !i.adopted {
		if err := i.askRealm(ctx); err != nil {
			return err
		}
	}
	if i.asks && len(i.grants) == 0 && !i.adopted {
		if err := i.askGrants(ctx); err != nil {
			return err
		}
	}
	if !i.adopted {
		i.target = setup.Complete(*t)
	}
	if len(t.Access) > 0 || i.groupsClaim != "" {
		i.target = setup.WithGroups(*t, i.look.Offers)
	}
	if !t.Verify.RedirectsDeclared {
		if err := i.askRedirects(ctx); err != nil {
			return err
		}
	}
	if err := setup.Lacks(*t, i.cluster.Version); err != nil {
		return err
	}
	return i.askClient(ctx)
}

// askClient asks for what concerns the client at the issuer alone.
func (i *initRun) askClient(ctx context.Context) (err error) {
	switch {
	case !i.asks || i.adopted || i.clientKeyFile != "":
		return nil
	case !i.isAuthelia():
		if err := i.printEntries(); err != nil {
			return err
		}
		i.key, err = i.askHidden(ctx, "Client key, if the issuer made one (not shown) []: ")
		if i.key.Reveal() == "" {
			i.key = check.Secret{}
		}
		i.secrets.Hold(i.key)
		return err
	case !i.cmd.Flags().Changed("one-factor"):
		two, err := i.yesOrNo(ctx, "Shall Authelia ask for two factors?", true)
		i.oneFactor = !two
		return err
	}
	return nil
}

func (i *initRun) isAuthelia() bool {
	return i.autheliaConfig != "" || i.look.Provider() == setup.Authelia
}

// printEntries prints what an administrator enters at an issuer that is not Authelia.
func (i *initRun) printEntries() error {
	name := i.look.Provider()
	if name == "" {
		name = "the issuer"
	}
	text := "Make a client at " + name + ":\n"
	for _, e := range i.look.Entries(i.target, i.place.Path(setup.KeyFile), authelia.LoginRedirectURI) {
		text += fmt.Sprintf("    %-15s %s\n", e.Name, e.Value)
		if where := e.Where.For(i.wording); where != "" {
			text += fmt.Sprintf("    %-15s   (%s)\n", "", where)
		}
	}
	return i.printf("%s", check.Printable(text))
}

func (i *initRun) askRealm(ctx context.Context) error {
	t := &i.target
	for i.asks && !i.given["realm.name"] {
		free := t.Realm.Name
		if i.taken(free) {
			free = "sso"
		}
		named, err := i.wantKey(ctx, "realm.name", "Name of the realm; users will be called NAME@"+free+", for good", free)
		if err != nil {
			return err
		}
		if i.taken(named.Realm.Name) {
			i.sayError(usage("the realm %s exists", named.Realm.Name))
			continue
		}
		t.Realm.Name = named.Realm.Name
		break
	}
	if i.asks && !i.given["realm.username_claim"] {
		otherwise := "preferred_username"
		if i.look.LacksClaim(otherwise) {
			i.tell("The issuer does not advertise the claim %s.", otherwise)
		}
		for kept := otherwise; ; {
			named, err := i.wantKey(ctx, "realm.username_claim", "What names users; fixed once the realm exists", otherwise)
			if err != nil {
				return err
			}
			if claim := named.Realm.Set.Login("").UsernameClaim; claim != kept && i.look.LacksClaim(claim) {
				i.tell("The issuer does not advertise the claim %s. If it is missing in a token, that login fails. Give it again to keep it.", claim)
				kept = claim
				continue
			}
			i.set(named, realm.UsernameClaim)
			break
		}
	}
	return nil
}

// taken tells whether there is a realm of that name.
func (i *initRun) taken(name string) bool {
	return slices.ContainsFunc(i.realms, func(r proxmox.NamedRealm) bool { return r.Name == name })
}

// askGrants asks what the issuer's groups may do.
func (i *initRun) askGrants(ctx context.Context) error {
	i.tell("A new user may do nothing yet. Groups of the issuer that may do something, as GROUP=PATH:ROLE, such as")
	i.tell("admins=/:PVEAdmin; empty to end. With them, the token is as good as an administrator's.")
	var texts []string
	for {
		text, err := i.line(ctx, "Group: ")
		if err != nil {
			return err
		}
		if text == "" {
			break
		}
		if _, _, err := setup.ParseGrant(text); err != nil {
			i.sayError(usage("it %v", err))
			continue
		}
		texts = append(texts, text)
	}
	access, err := setup.ParseGrants(texts)
	i.target.Access = access
	return err
}

// askRedirects asks which addresses browsers open: the nodes and a front.
func (i *initRun) askRedirects(ctx context.Context) error {
	var proposed []string
	if i.cluster.Front != "" {
		proposed = append(proposed, string(i.cluster.Front.Browser()))
	}
	for _, e := range i.target.Proxmox.Endpoints {
		proposed = append(proposed, string(e.Browser()))
	}
	t, err := i.wantKey(ctx, "verify.redirect_urls", "Addresses that browsers open", strings.Join(proposed, " "))
	if err == nil {
		i.target.Verify.RedirectURLs, i.target.Verify.RedirectsDeclared = t.Verify.RedirectURLs, true
	}
	return err
}
