// Package lab runs a stand-in for a Proxmox product and an OpenID provider on loopback,
// and writes a configuration of proxmox-realm for them. It serves tests, the
// demo and experiments.
package lab

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"proxmox-realm/internal/lab/authority"
	"proxmox-realm/internal/lab/issuer"
	"proxmox-realm/internal/lab/pbs"
	"proxmox-realm/internal/lab/pve"
)

// RealmName is the realm that the configuration is about.
const RealmName = "authelia"

// LoginRedirectURL is registered at the lab's issuer for rehearsals of a
// login: on any port, as RFC 8252, section 7.3 has it.
const LoginRedirectURL = "http://127.0.0.1:8000/callback"

// Options configure a lab. The zero value is a lab without realms in a
// temporary folder, which Close removes.
type Options struct {
	// Dir stores authority, realms, users, tokens, keys and addresses for the
	// next start. Start creates it. Empty means a temporary folder.
	Dir string
	// Seed names the state of the realms at the start: one of Seeds. If it is
	// empty, the realms stay as Dir has them; a new lab has none.
	Seed string
	// PVE configures the stand-in. The lab sets its certificate, state file,
	// seed and issuer client.
	PVE pve.Options
	// PBS, if it is set, runs a Backup Server or Datacenter Manager instead of Proxmox VE. The lab sets the same as for PVE.
	PBS *pbs.Options
	// Clusters is the number of Proxmox stand-ins; zero means one. They share users and tokens, and each has its own
	// realms. Dir stores only the realms of the first.
	Clusters int
	// Issuer configures the provider. The lab sets its authority and keys, and
	// adds its own client.
	Issuer issuer.Options
	// Outside replaces the lab's issuer by another one, if it is set.
	Outside *Outside
	// TOTP gives the administrator root@pam a second factor.
	TOTP bool
}

// Outside describes an issuer that runs somewhere else.
type Outside struct {
	URL       string
	CAFile    string // PEM; empty means the system's authorities
	ClientID  string // default "proxmox"
	ClientKey string
	Username  string
	Password  string
	// RedirectURL is registered at the client; default is the origin of the Proxmox stand-in.
	RedirectURL string
	// AutheliaConfig is its configuration file, if it is Authelia.
	AutheliaConfig string
}

// Lab is a running lab.
type Lab struct {
	Dir       string
	Authority *authority.CA
	PVE       *pve.Server    // nil with another product
	Clusters  []*pve.Server  // all Proxmox VE stand-ins, PVE first
	PBS       *pbs.Server    // nil with Proxmox VE
	Issuer    *issuer.Server // nil where the issuer is an outside one

	ConfigFile   string // for proxmox-realm, 0600; "" with the seed "bare"
	CAFile       string // trusts the stand-in, and the lab's own issuer
	IssuerCAFile string // trusts the issuer; empty means the system's authorities

	// AutheliaConfig is a file in the form of Authelia's configuration. The issuer takes its clients from it.
	AutheliaConfig string

	IssuerURL   string
	ClientID    string
	ClientKey   string
	RedirectURL string
	Username    string
	Password    string

	// Moved says that another program uses an address of the last run. Realms
	// that were created then name the old address.
	Moved bool

	temporary bool
	keys      []issuer.Key    // of the issuer
	clients   []issuer.Client // that the caller gave
}

// Start starts a lab. Close it when done.
func Start(options Options) (_ *Lab, err error) {
	lab := &Lab{Dir: options.Dir, ClientID: "proxmox", Username: "john"}
	if lab.Dir == "" {
		if lab.Dir, err = os.MkdirTemp("", "proxmox-realm-lab-"); err != nil {
			return nil, err
		}
		lab.temporary = true
	}
	if lab.Dir, err = filepath.Abs(lab.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lab.Close())
		}
	}()
	if err := os.MkdirAll(lab.Dir, 0o700); err != nil {
		return nil, err
	}
	if lab.Authority, err = authority.Open(lab.Dir); err != nil {
		return nil, err
	}
	lab.CAFile = filepath.Join(lab.Dir, "ca.pem")
	kept, err := lab.keep()
	if err != nil {
		return nil, err
	}

	if options.Outside != nil {
		lab.useOutside(*options.Outside)
	} else {
		err = lab.startIssuer(options.Issuer, &kept)
	}
	if err != nil {
		return nil, fmt.Errorf("start the issuer: %w", err)
	}
	fresh, err := lab.startProxmox(options, &kept)
	if err != nil {
		return nil, fmt.Errorf("start the Proxmox stand-in: %w", err)
	}
	if lab.RedirectURL == "" {
		lab.RedirectURL = lab.origins()[0]
	}
	if options.Seed != "" || fresh {
		if err := lab.Seed(options.Seed); err != nil {
			return nil, err
		}
	}
	if lab.Issuer != nil {
		if _, err := os.Stat(lab.AutheliaConfig); err != nil || lab.Moved || len(lab.Clusters) > 1 {
			if err := lab.writeClients(); err != nil {
				return nil, err
			}
		}
		if err := lab.RestartIssuer(); err != nil {
			return nil, err
		}
	}
	if options.TOTP && lab.PVE != nil {
		if err := lab.PVE.Update(func(state *pve.State) { state.RequireTOTP("root@pam") }); err != nil {
			return nil, err
		}
	}
	if err := writeJSON(filepath.Join(lab.Dir, "lab.json"), kept); err != nil {
		return nil, err
	}
	if !lab.bare() {
		if err := lab.writeConfig(); err != nil {
			return nil, err
		}
	}
	return lab, nil
}

// Close stops everything, and removes a temporary folder.
func (l *Lab) Close() error {
	var errs []error
	for _, cluster := range l.Clusters {
		errs = append(errs, cluster.Close())
	}
	if l.PBS != nil {
		errs = append(errs, l.PBS.Close())
	}
	if l.Issuer != nil {
		errs = append(errs, l.Issuer.Close())
	}
	if l.temporary {
		errs = append(errs, os.RemoveAll(l.Dir))
	}
	return errors.Join(errs...)
}

// Environ returns the variables that commands in the lab find, as NAME=value, sorted.
func (l *Lab) Environ() []string {
	endpoints := []string{l.origins()[0]}
	for i, cluster := range l.Clusters {
		if i > 0 {
			endpoints = append(endpoints, cluster.URL())
		}
	}
	admin := l.admin()
	variables := l.tokens()
	maps.Copy(variables, map[string]string{
		"LAB_PRODUCT":         l.product(),
		"LAB_ADMIN_USERNAME":  admin.Username,
		"LAB_ADMIN_PASSWORD":  admin.Password,
		"LAB_AUTHELIA_CONFIG": l.AutheliaConfig,
		"LAB_ENDPOINT":        l.origins()[0],
		"LAB_ENDPOINTS":       strings.Join(endpoints, " "),
		"LAB_CA_FILE":         l.CAFile,
		"LAB_ISSUER":          l.IssuerURL,
		"LAB_ISSUER_CA_FILE":  l.IssuerCAFile,
		"LAB_CLIENT_ID":       l.ClientID,
		"LAB_CLIENT_KEY":      l.ClientKey,
		"LAB_REDIRECT_URL":    l.RedirectURL,
		"LAB_USERNAME":        l.Username,
		"LAB_PASSWORD":        l.Password,
	})
	if l.ConfigFile != "" {
		variables["PROXMOX_REALM_CONFIG"] = l.ConfigFile
	}
	if admin.TOTPSecret != "" {
		variables["LAB_ADMIN_TOTP_SECRET"] = admin.TOTPSecret
	}
	if l.bare() {
		variables["LAB_CLIENT_KEY"] = "" // whoever makes the client makes its key
	}
	var list []string
	for name, value := range variables {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list
}

// kept is the content of lab.json: what the files of stand-in and issuer do not hold.
type kept struct {
	PVEAddress    string `json:"pve_address"`
	IssuerAddress string `json:"issuer_address"`
	ClientKey     string `json:"client_key"`
	Password      string `json:"password"`
}

func (l *Lab) keep() (kept, error) {
	var k kept
	data, err := os.ReadFile(filepath.Join(l.Dir, "lab.json"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// They are random, so that a test that finds them in an output has found a leak.
		return kept{ClientKey: rand.Text() + rand.Text(), Password: rand.Text()}, nil
	case err != nil:
		return k, err
	}
	err = json.Unmarshal(data, &k)
	return k, err
}

func (l *Lab) useOutside(outside Outside) {
	l.IssuerURL, l.IssuerCAFile = outside.URL, outside.CAFile
	l.ClientKey, l.RedirectURL = outside.ClientKey, outside.RedirectURL
	l.Username, l.Password = outside.Username, outside.Password
	l.AutheliaConfig = outside.AutheliaConfig
	if outside.ClientID != "" {
		l.ClientID = outside.ClientID
	}
}

func (l *Lab) startIssuer(options issuer.Options, kept *kept) error {
	l.ClientKey, l.Password = kept.ClientKey, kept.Password
	l.IssuerCAFile = l.CAFile
	l.AutheliaConfig = filepath.Join(l.Dir, "authelia.yml")
	l.clients = options.Clients
	options.Authority = l.Authority
	if options.Users == nil {
		options.Users = append(issuer.DefaultUsers(),
			issuer.User{Name: "olga", Email: "olga@example.test", Groups: []string{"dev", "Team Leads", "größen"}}, // Proxmox refuses two of them
			issuer.User{Name: "space man", Email: "space.man@example.test"},                                        // Proxmox refuses the name
		)
		for i := range options.Users {
			options.Users[i].Password = l.Password
		}
	}
	if options.Keys == nil {
		keys, err := l.issuerKeys()
		if err != nil {
			return err
		}
		options.Keys = keys
	}
	l.keys = options.Keys
	err := l.startAt(&options.Listen, kept.IssuerAddress, func() (err error) {
		l.Issuer, err = issuer.Start(options)
		return err
	})
	if err != nil {
		return err
	}
	l.IssuerURL = l.Issuer.URL()
	kept.IssuerAddress, err = hostOf(l.IssuerURL)
	return err
}

// issuerKeys loads the issuer's keys, or generates and stores them. Generating an RSA key takes most of the start.
func (l *Lab) issuerKeys() ([]issuer.Key, error) {
	if l.temporary {
		return issuer.DefaultKeys()
	}
	file := filepath.Join(l.Dir, "issuer-keys.json")
	var set jose.JSONWebKeySet
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &set)
		return set.Keys, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if set.Keys, err = issuer.DefaultKeys(); err != nil {
		return nil, err
	}
	return set.Keys, writeJSON(file, set)
}

// nodeClient returns the node's HTTP client for issuers. It trusts the system's, the lab's and the issuer's authorities.
func (l *Lab) nodeClient() (*http.Client, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	pool.AppendCertsFromPEM(l.Authority.PEM())
	if l.IssuerCAFile != "" {
		data, err := os.ReadFile(l.IssuerCAFile)
		if err != nil {
			return nil, err
		}
		pool.AppendCertsFromPEM(data)
	}
	return &http.Client{Transport: &http.Transport{
		Proxy:             http.ProxyFromEnvironment,
		TLSClientConfig:   &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true, // the library that Proxmox uses opens a connection for each request
	}}, nil
}

// startAt tries the address of the last run first, so that URLs stay the same.
// If that is taken, it uses any free port. It changes no address that the caller set.
func (l *Lab) startAt(listen *string, before string, start func() error) error {
	if *listen != "" || before == "" {
		return start()
	}
	*listen = before
	if err := start(); err == nil {
		return nil
	}
	*listen, l.Moved = "", true
	return start()
}

func hostOf(address string) (string, error) {
	parsed, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	return parsed.Host, nil
}
