package cli

import (
	"crypto/x509"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/realm"
)

type probeOptions struct {
	scopes        []string
	usernameClaim string
	groupsClaim   string
	clientID      string
	clientKeyFile string
	redirectURLs  []string
	caFile        string
	proxmox       string
}

func (a *app) probeCommand() *cobra.Command {
	var o probeOptions
	cmd := &cobra.Command{
		Use:   "probe [ISSUER]",
		Short: "Run the issuer checks alone, without Proxmox or a configuration",
		Long: `Check an issuer from this machine: its address, certificate, discovery document
and keys, and what it advertises. Without ISSUER, the issuer of the
configuration is checked. With --client-id, the client is checked as well.

The report contains no secrets: it can be pasted into a ticket.` + exitHelp(exitUnverified),
		Example: "  proxmox-realm probe https://auth.example.com\n" +
			"  proxmox-realm probe https://auth.example.com --client-id proxmox --redirect-url https://pve1.example.com:8006",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage("%s takes one issuer URL", cmd.CommandPath()).Try(seeHelp(cmd))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.probe(cmd, args, o) },
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.scopes, "scopes", []string{"openid,profile,email"}, "check these `SCOPES`")
	f.StringVar(&o.usernameClaim, "username-claim", "preferred_username", "check that `CLAIM` can name users")
	f.StringVar(&o.groupsClaim, "groups-claim", "", "check that `CLAIM` can hold groups")
	f.StringVar(&o.clientID, "client-id", "", "check the client with this `ID`")
	f.StringVar(&o.clientKeyFile, "client-key-file", "", "check that the issuer accepts the client key in `FILE`")
	f.StringArrayVar(&o.redirectURLs, "redirect-url", nil, "check that the issuer accepts the redirect `URL` (repeatable)")
	f.StringVar(&o.caFile, "ca-file", "", "trust the certificate authorities in the PEM `FILE`, and not the system's")
	f.StringVar(&o.caFile, "issuer-ca-file", "", "the same as --ca-file")
	_ = f.MarkHidden("issuer-ca-file")
	f.StringVar(&o.proxmox, "proxmox", "", "check for this `VERSION` of Proxmox VE, such as 8.4")
	f.SortFlags = false
	return cmd
}

func (a *app) probe(cmd *cobra.Command, args []string, o probeOptions) error {
	a.wording = probeWording()
	values, err := o.values()
	if err != nil {
		return err
	}
	issuerURL, caFile, err := a.probedIssuer(cmd, args)
	if err != nil {
		return err
	}
	values[realm.IssuerURL] = realm.Text(issuerURL)
	if o.caFile != "" {
		caFile = o.caFile
	}
	roots, key, err := a.probeFiles(cmd, caFile, o.clientKeyFile)
	if err != nil {
		return err
	}
	if key.IsSet() {
		values[realm.ClientKey] = realm.Key(key)
	}
	p := fleet.Probe{Login: values.Login(""), Redirects: o.redirectURLs, Roots: roots, Timeout: a.timeout}
	if o.proxmox != "" {
		if p.Version, err = realm.ParseVersion(o.proxmox); err != nil {
			return usage("--proxmox takes a version such as 8.4")
		}
	}
	stop := a.working("checking " + issuerURL)
	run := fleet.RunProbe(cmd.Context(), p, userAgent(), a.logger())
	stop()
	return a.finish(run, false)
}

// probedIssuer returns the issuer that the command line or the configuration names, and the CA file that the
// configuration has for it.
func (a *app) probedIssuer(cmd *cobra.Command, args []string) (issuerURL, caFile string, err error) {
	example := check.Run("probe https://auth.example.com")
	if len(args) == 1 {
		issuerURL = args[0]
		if issuerURL == "" {
			return "", "", usage("probe takes an issuer URL").Try(example)
		}
		if d, _ := realm.IssuerURL.Definition(); d.Validate(realm.Text(issuerURL)) != nil {
			return "", "", usage("ISSUER %v", d.Validate(realm.Text(issuerURL)))
		}
	}
	c, err := a.load(cmd, config.Options{Partial: true})
	a.wording = probeWording()
	switch {
	case err != nil && issuerURL != "" && a.file == "":
		return issuerURL, "", nil // the command line says enough
	case err != nil:
		return "", "", err
	case issuerURL != "":
		for _, t := range c.Targets {
			if t.Realm.Set.Login("").IssuerURL == issuerURL {
				return issuerURL, t.Verify.IssuerCAFile, nil
			}
		}
		return issuerURL, c.Targets[0].Verify.IssuerCAFile, nil
	case len(c.Targets) > 1:
		return "", "", chooseTarget(cmd, c)
	}
	issuerURL = c.Targets[0].Realm.Set.Login("").IssuerURL
	if issuerURL == "" {
		return "", "", usage("probe takes an issuer URL, and no configuration names one").Try(example)
	}
	return issuerURL, c.Targets[0].Verify.IssuerCAFile, nil
}

// probeFiles reads the files that the flags name, as config reads every file.
func (a *app) probeFiles(cmd *cobra.Command, caFile, keyFile string) (*x509.CertPool, check.Secret, error) {
	o := config.Options{File: "-", Stdin: strings.NewReader("{}"), Partial: true, Secrets: true}
	if caFile != "" {
		o.Flags = append(o.Flags, config.FlagValue{Key: "verify.issuer_ca_file", Value: caFile})
	}
	if keyFile != "" {
		o.Flags = append(o.Flags, config.FlagValue{Key: "realm.client_key_file", Value: keyFile})
	}
	c, err := config.Load(cmd.Context(), o)
	if err != nil {
		return nil, check.Secret{}, err
	}
	for _, w := range c.Warnings {
		a.warning(w)
	}
	t := c.Targets[0]
	return t.Verify.IssuerCA, t.Realm.Set.Login("").ClientKey, nil
}

// values validates what the flags say of the login.
func (o probeOptions) values() (realm.Values, error) {
	if o.clientID == "" && (len(o.redirectURLs) > 0 || o.clientKeyFile != "") {
		return nil, usage("--redirect-url and --client-key-file need --client-id")
	}
	for _, address := range o.redirectURLs {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
			return nil, usage("--redirect-url takes a URL with scheme and host").
				Try(check.Advise("give what browsers open, such as https://pve1.example.com:8006"))
		}
	}
	scopes := strings.FieldsFunc(strings.Join(o.scopes, " "), func(r rune) bool { return r == ',' || r == ' ' })
	values := realm.Values{}
	for _, given := range []struct {
		flag     string
		property realm.Property
		value    realm.Value
		optional bool
	}{
		{"scopes", realm.Scopes, realm.Words(realm.Scopes, scopes...), false},
		{"username-claim", realm.UsernameClaim, realm.Text(o.usernameClaim), false},
		{"groups-claim", realm.GroupsClaim, realm.Text(o.groupsClaim), true},
		{"client-id", realm.ClientID, realm.Text(o.clientID), true},
	} {
		switch d, _ := given.property.Definition(); {
		case given.value.String() == "" && given.optional:
			continue
		case given.value.String() == "":
			return nil, usage("--%s must not be empty", given.flag)
		default:
			if err := d.Validate(given.value); err != nil {
				return nil, usage("--%s %v", given.flag, err)
			}
		}
		values[given.property] = given.value
	}
	return values, nil
}

// probeWording words hints for probe: it has flags of its own for some keys.
func probeWording() check.Wording {
	flags := map[string]string{
		"realm.issuer_url": "ISSUER", "realm.client_id": "--client-id", "realm.client_key_file": "--client-key-file",
		"realm.client_key": "--client-key-file", "realm.scopes": "--scopes", "realm.username_claim": "--username-claim",
		"realm.groups_claim": "--groups-claim", "verify.redirect_urls": "--redirect-url", "verify.issuer_ca_file": "--ca-file",
	}
	return check.Wording{Key: func(path string) string {
		if flag, ok := flags[path]; ok {
			return flag
		}
		return path
	}}
}
