package cli

import (
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/realm"
)

type probeOptions struct {
	scopes        string
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
		Args: arguments(0, 1, "one issuer URL"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.probe(cmd, args, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.scopes, "scopes", "openid,profile,email", "check these `SCOPES`")
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
	a.wording.Key = probeKey
	values, err := o.values(args)
	if err != nil {
		return err
	}
	t, err := a.probed(cmd, args, o)
	if err != nil {
		return err
	}
	configured := t.Realm.Login()
	if len(args) == 0 {
		values[realm.IssuerURL] = realm.Text(configured.IssuerURL)
	}
	if o.clientKeyFile != "" {
		values[realm.ClientKey] = realm.Key(configured.ClientKey)
	}
	p := fleet.Probe{Login: values.Login(""), Redirects: o.redirectURLs, Roots: t.Verify.IssuerCA, Timeout: a.timeout}
	if p.Login.IssuerURL == "" {
		return usage("probe takes an issuer URL, and no configuration names one").Try("run:\n    {probe https://auth.example.com}")
	}
	if o.proxmox != "" {
		if p.Version, err = realm.ParseVersion(realm.VE, o.proxmox); err != nil {
			return usage("--proxmox takes a version such as 8.4")
		}
	}
	stop := a.working("checking " + p.Login.IssuerURL)
	run := fleet.RunProbe(cmd.Context(), p, userAgent(), a.logger())
	stop()
	return a.finish(run, false)
}

// probed returns a target with the files that the flags name, or those of the configuration. With ISSUER, a configuration
// that cannot be loaded is ignored.
func (a *app) probed(cmd *cobra.Command, args []string, o probeOptions) (config.Target, error) {
	options := config.Options{Partial: true, IssuerCA: true, ClientKey: o.clientKeyFile != ""}
	for _, given := range []config.FlagValue{
		{Key: "verify.issuer_ca_file", Value: o.caFile}, {Key: "realm.client_key_file", Value: o.clientKeyFile},
	} {
		if given.Value != "" {
			options.Flags = append(options.Flags, given)
		}
	}
	c, err := a.load(cmd, options)
	if err != nil && len(args) == 1 && a.file == "" {
		options.File, options.Stdin = "-", strings.NewReader("{}")
		c, err = config.Load(cmd.Context(), options)
	}
	if err != nil {
		return config.Target{}, err
	}
	if len(args) == 0 {
		return only(cmd, c)
	}
	return c.Targets[0], nil
}

// values validates what the command line says of the login: the report would show a mistake as it was typed.
func (o probeOptions) values(args []string) (realm.Values, error) {
	if o.clientID == "" && (len(o.redirectURLs) > 0 || o.clientKeyFile != "") {
		return nil, usage("--redirect-url and --client-key-file need --client-id")
	}
	for _, address := range o.redirectURLs {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
			return nil, usage("--redirect-url takes a URL with scheme and host").
				Try(check.Hint("give what browsers open, such as https://pve1.example.com:8006"))
		}
	}
	scopes := strings.FieldsFunc(o.scopes, func(r rune) bool { return r == ',' || r == ' ' })
	values := realm.Values{realm.Scopes: realm.Words(realm.Scopes, scopes...), realm.UsernameClaim: realm.Text(o.usernameClaim)}
	if o.groupsClaim != "" {
		values[realm.GroupsClaim] = realm.Text(o.groupsClaim)
	}
	if o.clientID != "" {
		values[realm.ClientID] = realm.Text(o.clientID)
	}
	if len(args) == 1 {
		values[realm.IssuerURL] = realm.Text(args[0])
	}
	for _, d := range realm.Definitions() {
		value, given := values[d.Property]
		if !given {
			continue
		}
		flag := "--" + strings.ReplaceAll(d.Key, "_", "-")
		if d.Property == realm.IssuerURL {
			flag = "ISSUER"
		}
		if value.String() == "" {
			return nil, usage("%s must not be empty", flag).Try("run:\n    {probe --help}")
		}
		if err := realm.VE.Validate(d.Property, value); err != nil {
			return nil, usage("%s %v", flag, err)
		}
	}
	return values, nil
}

// probeKey names a key for readers of probe, which has other names for some, and reads no other key of verify and policy.
func probeKey(path string) string {
	own := map[string]string{
		"realm.issuer_url": "ISSUER", "realm.client_key": "--client-key-file", "realm.groups_claim": "--groups-claim",
		"verify.issuer_ca_file": "--ca-file", "verify.redirect_urls": "--redirect-url",
	}
	if name := own[path]; name != "" || strings.HasPrefix(path, "verify.") || strings.HasPrefix(path, "policy.") {
		return name
	}
	return flagKey(path)
}
