package config

import (
	"bytes"
	"cmp"
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"proxmox-realm/internal/realm"
)

// Every key of the list reaches the configuration, by file and by variable. The schema takes and explains it.
func TestEveryKeyIsRead(t *testing.T) {
	values := map[Kind]string{
		Enum: "pbs", Bool: "true", Int: "3", Duration: "4m", Percent: "5%", List: "[openid]", Command: "[a]", Path: "/etc/x", String: "abc",
	}
	special := map[string]string{
		"proxmox.endpoint": "pve", "proxmox.token": "a@pve!bc=d", "proxmox.username": "a@pve", "proxmox.otp": "'123456'", "realm.unset": "[prompt]",
		"proxmox.fingerprints": "['" + strings.Repeat("ab", 32) + "']", "verify.redirect_urls": "['https://a']", "verify.ignore": "[issuer.clock]",
		"agent.listen": "':1'", "targets_from": filepath.Dir(write(t, filepath.Join(t.TempDir(), "berlin.yaml"), cluster)), "proxmox.endpoints": "[pve]", "access": "{Admins: [{path: /, role: PVEAdmin}]}",
	}
	s := schema(t)
	written, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range Keys() {
		text := cmp.Or(special[k.Path], values[k.Kind])
		section, name, nested := strings.Cut(k.Path, ".")
		line := k.Path + ": " + text
		if nested {
			line = section + ": {" + name + ": " + text + "}"
		}
		env := []string{k.Env + "=" + strings.Trim(text, "[]'")}
		if k.Path == "proxmox.password" || k.Path == "proxmox.otp" || strings.HasPrefix(k.Path, "proxmox.password_") {
			line = "proxmox: {username: a@pve, " + name + ": " + text + "}"
			env = append(env, "PROXMOX_REALM_PROXMOX_USERNAME=a@pve")
		}
		doc, _ := json.Marshal(k.Doc)
		if err := validate(t, s, []byte(line)); err != nil || !bytes.Contains(written, doc) {
			t.Errorf("the schema does not know %s: %v", k.Path, err)
		}
		setenv(t)
		file := mustLoad(t, line, Options{Partial: true, Show: true})
		shown := func(c *Config) (value, source string) {
			for _, s := range c.Settings {
				if s.Key == k.Path {
					return s.Value, s.Source
				}
			}
			return "", "default"
		}
		value, source := shown(file)
		if source == "default" {
			t.Errorf("%s has no effect", k.Path)
		}
		if k.Env == "" {
			continue
		}
		setenv(t, env...)
		if again, source := shown(mustLoad(t, "", Options{Partial: true, Show: true})); again != value || source != "environment "+k.Env {
			t.Errorf("%s gives %s from %s, want %s", k.Env, again, source, value)
		}
	}
}

func TestKeysAreComplete(t *testing.T) {
	seen := map[string]string{}
	taken := func(what, name, by string) {
		if other, dup := seen[what+name]; dup && name != "" {
			t.Errorf("%s %s is that of %s and of %s", what, name, other, by)
		}
		seen[what+name] = by
	}
	for _, k := range table() {
		taken("path", k.Path, k.Path)
		taken("variable", k.Env, k.Path)
		taken("flag", k.Flag, k.Path)
		if !strings.HasSuffix(k.Doc, ".") || strings.Contains(k.Doc, "\n") {
			t.Errorf("%s: documentation %q", k.Path, k.Doc)
		}
		if (k.Kind == Enum) != (len(k.Choices) > 0) {
			t.Errorf("%s: kind %s with choices %v", k.Path, k.Kind, k.Choices)
		}
		if k.Secret && (k.Flag != "" || k.Default != "") {
			t.Errorf("%s: a secret that a flag or a default gives", k.Path)
		}
	}
	for _, d := range realm.Definitions() {
		if index().path["realm."+d.Key] == nil {
			t.Errorf("%s has no key", d.Property)
		}
	}
}

// The flags of the contract, and no others.
func TestFlags(t *testing.T) {
	want := map[string]string{
		"endpoint": "proxmox.endpoints", "product": "proxmox.product", "token-file": "proxmox.token_file", "username": "proxmox.username",
		"ca-file": "proxmox.ca_file", "fingerprint": "proxmox.fingerprints", "insecure": "proxmox.insecure",
		"realm": "realm.name", "issuer-url": "realm.issuer_url", "issuer-ca-file": "verify.issuer_ca_file",
		"client-id": "realm.client_id", "client-key-file": "realm.client_key_file", "username-claim": "realm.username_claim",
		"scopes": "realm.scopes", "autocreate": "realm.autocreate", "redirect-url": "verify.redirect_urls",
	}
	got := map[string]string{}
	for _, k := range Keys() {
		if k.Flag != "" {
			got[k.Flag] = k.Path
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("flags %v, want %v", got, want)
	}
}
