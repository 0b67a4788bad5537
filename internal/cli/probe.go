package cli

import (
	"net/url"
	"os"
	"strings"

	"proxmox-realm/internal/check"

	"github.com/spf13/cobra"

	"proxmox-realm/internal/config"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/realm"
)

func (a *app) probeCommand() *cobra.Command {
	var o probeOptions
	cmd := &cobra.Command{
		Use:   "probe [ISSUER]",
		Short: "Run the issuer checks alone; needs no Proxmox and no configuration",
		Long: `Inspect an issuer from here: address, certificate, discovery document, keys, what it advertises. Without
ISSUER, that of the configuration is inspected. With --client-id, the issuer is asked about a client as well.

The report can be pasted into a ticket: it holds no secrets.` + exitHelp(exitUnverified),
		Example: "  proxmox-realm probe https://auth.example.com\n  proxmox-realm probe https://auth.example.com --client-id proxmox --redirect-url https://pve1.example.com:8006",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage("%s takes one issuer URL", cmd.CommandPath()).Try(check.Advise("see %s --help", cmd.CommandPath()))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.probe(cmd, args, o) },
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.scopes, "scopes", []string{"openid,profile,email"}, "`SCOPES` that a login would ask for")
	f.StringVar(&o.usernameClaim, "username-claim", "preferred_username", "the `CLAIM` that would name users")
	f.StringVar(&o.groupsClaim, "groups-claim", "", "the `CLAIM` that would hold groups")
	f.StringVar(&o.clientID, "client-id", "", "ask about the client of this `ID`")
	f.StringVar(&o.clientKeyFile, "client-key-file", "", "ask whether the issuer accepts the key in `FILE`")
	f.StringArrayVar(&o.redirectURLs, "redirect-url", nil, "ask whether the client may be sent back to `URL` (repeatable)")
	f.StringVar(&o.caFile, "ca-file", "", "certificate authorities (PEM `FILE`) of the issuer, in place of the system's")
	f.StringVar(&o.caFile, "issuer-ca-file", "", "as --ca-file")
	_ = f.MarkHidden("issuer-ca-file")
	f.StringVar(&o.proxmox, "proxmox", "", "judge for this `VERSION` of Proxmox VE, such as 8.4")
	f.SortFlags = false
	return cmd
}

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

func (a *app) probe(cmd *cobra.Command, args []string, o probeOptions) error {
	p := fleet.Probe{CAFile: o.caFile, Redirects: o.redirectURLs, Timeout: a.timeout}
	values := realm.Values{}
	switch {
	case len(args) == 1:
		given := realm.Text(args[0])
		if d, _ := realm.IssuerURL.Definition(); args[0] == "" {
			return usage("probe takes an issuer URL").Try(check.Advise("proxmox-realm probe https://auth.example.com"))
		} else if err := d.Validate(given); err != nil { // the report shows the URL
			return usage("ISSUER %v", err)
		}
		values[realm.IssuerURL] = given
	default:
		c, err := a.load(cmd, config.Options{Partial: true})
		if err != nil {
			return err
		}
		t := c.Targets[0]
		if len(c.Targets) > 1 {
			return usage("probe takes an issuer URL, or a configuration with one target").Try(check.Advise("choose one with -t NAME"))
		}
		issuerURL := t.Realm.Set.Login("").IssuerURL
		if issuerURL == "" {
			return usage("probe takes an issuer URL: there is none in a configuration either").Try(check.Advise("proxmox-realm probe https://auth.example.com"))
		}
		values[realm.IssuerURL] = realm.Text(issuerURL)
		if p.CAFile == "" {
			p.CAFile = t.Verify.IssuerCAFile
		}
	}
	set := func(p realm.Property, v realm.Value) error {
		values[p] = v
		d, _ := p.Definition()
		flag := strings.ReplaceAll(d.Key, "_", "-")
		if v.String() == "" {
			return usage("--%s must not be empty", flag)
		}
		if err := d.Validate(v); err != nil {
			return usage("--%s %v", flag, err)
		}
		return nil
	}
	for _, address := range o.redirectURLs {
		if u, err := url.Parse(address); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || strings.Contains(address, "#") {
			return usage("--redirect-url takes a URL with scheme and host").Try(check.Advise("Proxmox sends what browsers open, such as https://pve1.example.com:8006"))
		}
	}
	scopes := strings.FieldsFunc(strings.Join(o.scopes, " "), func(r rune) bool { return r == ',' || r == ' ' })
	if err := set(realm.Scopes, realm.Words(realm.Scopes, scopes...)); err != nil {
		return err
	}
	if err := set(realm.UsernameClaim, realm.Text(o.usernameClaim)); err != nil {
		return err
	}
	if o.groupsClaim != "" {
		if err := set(realm.GroupsClaim, realm.Text(o.groupsClaim)); err != nil {
			return err
		}
	}
	if o.clientID != "" {
		if err := set(realm.ClientID, realm.Text(o.clientID)); err != nil {
			return err
		}
	} else if len(o.redirectURLs) > 0 || o.clientKeyFile != "" {
		return usage("--redirect-url and --client-key-file ask about a client").Try(check.Advise("name it with --client-id"))
	}
	if o.clientKeyFile != "" {
		key, err := os.ReadFile(o.clientKeyFile)
		if err != nil {
			return check.Errorf(check.Config, "--client-key-file: %v", err).Try(check.Advise("give a file that this user can read")).Because(err)
		}
		text := strings.TrimSuffix(strings.TrimSuffix(string(key), "\n"), "\r")
		if text == "" {
			return check.Errorf(check.Config, "--client-key-file: the file is empty").Try(check.Advise("give the file that holds the client key"))
		}
		d, _ := realm.ClientKey.Definition()
		values[realm.ClientKey] = realm.Key(check.NewSecret(text))
		if err := d.Validate(values[realm.ClientKey]); err != nil {
			return check.Errorf(check.Config, "--client-key-file: what the file holds %v", err)
		}
	}
	if o.proxmox != "" {
		v, err := realm.ParseVersion(o.proxmox)
		if err != nil {
			return usage("--proxmox takes a version such as 8.4")
		}
		p.Version = v
	}
	p.Login = values.Login("")
	stop := a.working("asking " + p.Login.IssuerURL)
	run := fleet.RunProbe(cmd.Context(), p, userAgent(), a.logger())
	stop()
	for i, c := range run.Targets[0].Checks { // hints name keys of a configuration, where there is none
		run.Targets[0].Checks[i].Remedy = check.Advice(strings.ReplaceAll(c.Remedy.String(), "verify.issuer_ca_file", "--ca-file"))
	}
	return a.finish(run, false)
}
