package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"proxmox-realm/internal/lab/pve"
)

// configuration is the part of proxmox-realm's configuration that the lab writes.
type configuration struct {
	Proxmox *proxmox `yaml:"proxmox,omitempty"`
	Realm   struct {
		Name          string   `yaml:"name"`
		IssuerURL     string   `yaml:"issuer_url"`
		ClientID      string   `yaml:"client_id"`
		ClientKeyFile string   `yaml:"client_key_file,omitempty"`
		UsernameClaim string   `yaml:"username_claim"`
		Scopes        []string `yaml:"scopes,flow"`
		Autocreate    bool     `yaml:"autocreate"`
		Comment       string   `yaml:"comment"`
	} `yaml:"realm"`
	Verify   verify   `yaml:"verify,omitempty"`
	StateDir string   `yaml:"state_dir"`
	Targets  []target `yaml:"targets,omitempty"`
}

type proxmox struct {
	Product   string   `yaml:"product,omitempty"` // absent for Proxmox VE
	Endpoints []string `yaml:"endpoints"`
	TokenFile string   `yaml:"token_file"`
	CAFile    string   `yaml:"ca_file"`
}

type verify struct {
	IssuerCAFile string   `yaml:"issuer_ca_file,omitempty"`
	RedirectURLs []string `yaml:"redirect_urls,omitempty"`
}

// target is one of several clusters.
type target struct {
	Name    string  `yaml:"name"`
	Proxmox proxmox `yaml:"proxmox"`
	Verify  verify  `yaml:"verify"`
}

const comment = "Log in with Authelia"

var scopes = []string{"openid", "profile", "email"}

// writeConfig writes the configuration and the files that it names.
func (l *Lab) writeConfig() error {
	var c configuration
	tokenFile := filepath.Join(l.Dir, "token")
	c.Proxmox = &proxmox{Endpoints: l.origins(), TokenFile: tokenFile, CAFile: l.CAFile}
	if l.PBS != nil {
		c.Proxmox.Product = l.product()
	}
	c.Realm.Name = RealmName
	c.Realm.IssuerURL = l.IssuerURL
	c.Realm.ClientID = l.ClientID
	c.Realm.UsernameClaim = "preferred_username"
	c.Realm.Scopes = scopes
	c.Realm.Autocreate = true
	c.Realm.Comment = comment
	c.Verify.IssuerCAFile = l.IssuerCAFile
	c.Verify.RedirectURLs = l.redirectURLs()
	if len(l.Clusters) > 1 {
		c.Proxmox, c.Verify.RedirectURLs = nil, nil
		for i, cluster := range l.Clusters {
			c.Targets = append(c.Targets, target{
				Name:    fmt.Sprintf("cluster-%d", i+1),
				Proxmox: proxmox{Endpoints: cluster.URLs(), TokenFile: tokenFile, CAFile: l.CAFile},
				Verify:  verify{RedirectURLs: cluster.URLs()},
			})
		}
	}
	c.StateDir = filepath.Join(l.Dir, "agent")

	if err := os.WriteFile(tokenFile, []byte(l.tokens()[tokenVariable(pve.TokenRealmAllocate)]+"\n"), 0o600); err != nil {
		return err
	}
	if l.ClientKey != "" {
		c.Realm.ClientKeyFile = filepath.Join(l.Dir, "client-key")
		if err := os.WriteFile(c.Realm.ClientKeyFile, []byte(l.ClientKey+"\n"), 0o600); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return err
	}
	var text strings.Builder
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	if err := errors.Join(encoder.Encode(c), encoder.Close()); err != nil {
		return err
	}
	l.ConfigFile = filepath.Join(l.Dir, "config.yaml")
	return os.WriteFile(l.ConfigFile, []byte(text.String()), 0o600)
}

// redirectURLs are the addresses that browsers open of the first cluster.
func (l *Lab) redirectURLs() []string {
	if l.RedirectURL != l.origins()[0] { // of an outside issuer
		return []string{l.RedirectURL}
	}
	return l.origins()
}

func writeJSON(file string, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o600)
}
