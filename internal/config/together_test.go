package config

import (
	"slices"
	"strings"
	"testing"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// Where a target is of another product than the file above it, it inherits what its product has.
func TestATargetOfAnotherProduct(t *testing.T) {
	const text = `
proxmox: {endpoints: [pve1], token: realm@pve!agent=of-the-cluster, ca_file: /etc/ca.pem}
realm: {issuer_url: https://auth.example.com, client_id: proxmox, client_key: the-shared-client-key, comment: Sign in,
  groups_claim: groups, groups_overwrite: true, query_userinfo: false, unset: [groups_autocreate, prompt]}
access: {admins: [{path: /, role: PVEAdmin}]}
targets:
  - {name: main}
  - {name: second, realm: {name: second}}
  - {name: backup, proxmox: {product: pbs, endpoints: [backup], token: "realm@pbs!agent:of-the-backup"}}
  - {name: manager, proxmox: {product: pdm, endpoints: ["https://pdm.example.com:8443"], token: realm@pdm!agent=of-the-manager}}
  - {name: berlin, proxmox: {endpoints: [berlin], token: realm@pve!agent=of-berlin}}
`
	c := mustLoad(t, text, Options{Strict: true})
	main, second, backup, manager, berlin := c.Targets[0], c.Targets[1], c.Targets[2], c.Targets[3], c.Targets[4]
	for _, target := range []Target{main, second, berlin} {
		if target.Realm.Product != realm.VE || target.Access == nil || len(target.Realm.Set) != 7 || len(target.Realm.Unset) != 2 {
			t.Errorf("%+v", target)
		}
	}
	for _, target := range []Target{backup, manager} {
		spec := target.Realm
		want := []realm.Property{realm.ClientID, realm.ClientKey, realm.Comment, realm.IssuerURL}
		if !slices.Equal(spec.Set.Properties(), want) || !slices.Equal(spec.Unset, []realm.Property{realm.Prompt}) || target.Access != nil {
			t.Errorf("%s inherits %v, unsets %v, access %v", target.Name, spec.Set.Properties(), spec.Unset, target.Access)
		}
	}
	if p := backup.Proxmox; p.Product != realm.BackupServer || backup.Realm.Product != realm.BackupServer || p.Endpoints[0] != "https://backup:8007" || p.Token.Secret.Reveal() != "of-the-backup" || p.CAFile != "" {
		t.Errorf("backup: %+v", p)
	}
	if p := manager.Proxmox; p.Product != realm.DatacenterManager || p.Endpoints[0] != "https://pdm.example.com:8443" || p.Token.Secret.Reveal() != "of-the-manager" {
		t.Errorf("manager: %+v", p)
	}

	// The product belongs to the endpoints: others do not inherit it.
	c = mustLoad(t, "proxmox: {product: pbs, endpoints: [backup], token: realm@pbs!agent=x}\n"+issuer+
		"targets: [{name: main}, {name: second, realm: {name: second}}, {name: a, proxmox: {endpoints: [pve1], token: realm@pve!agent=x}}]\n", Options{})
	for i, want := range []realm.Product{realm.BackupServer, realm.BackupServer, realm.VE} {
		if got := c.Targets[i].Proxmox.Product; got != want {
			t.Errorf("%s is %s, want %s", c.Targets[i].Name, got, want)
		}
	}
}

// What a plan would refuse is refused by config check as well, as far as the configuration tells. A run asks Proxmox.
func TestWhatIsOnlyRightTogether(t *testing.T) {
	pbs := "proxmox: {product: pbs, endpoints: [backup], token: realm@pbs!agent=x}\n"
	with := func(more string) string { return issuer[:len(issuer)-2] + ", " + more + "}\n" }
	for _, tt := range []struct{ text, want string }{
		{cluster + issuer + "access: {admins: []}\n", "config.yaml:3: access: needs realm.groups_claim, or no login joins a group"},
		{cluster + with("groups_claim: groups") + "access: {admins: []}\n", ""},
		{cluster + issuer + "access: {}\n", ""},
		{cluster + with("unset: [groups_claim]") + "access: {admins: []}\n", "config.yaml:3: access: needs realm.groups_claim, or no login joins a group"},
		{pbs + with("groups_claim: groups") + "access: {admins: []}\n", "config.yaml:2: realm.groups_claim: Proxmox Backup Server does not have it\n" +
			"config.yaml:3: access: Proxmox Backup Server has no groups"},
		{pbs + with("comment: "+strings.Repeat("x", 129)), "config.yaml:2: realm.comment: must be at most 128 characters long"},
	} {
		_, err := load(t, tt.text, Options{Strict: true})
		if got := problemsOf(t, err); got != tt.want {
			t.Errorf("%s%s\nwant %s", tt.text, got, tt.want)
		}
		if _, err := load(t, tt.text, Options{}); err != nil && !strings.Contains(tt.want, "must be") {
			t.Errorf("a run refuses %s: %v", tt.text, err)
		}
	}
}

// What stands above targets and is used by none of them is not dropped without a word.
func TestWhatNoTargetUses(t *testing.T) {
	own := "targets: [{name: a, proxmox: {endpoints: [a], token: realm@pve!agent=x}}]\n"
	_, err := load(t, cluster+issuer+own, Options{})
	if got, want := problemsOf(t, err), "config.yaml:1: proxmox.endpoints: is used by no target, since each of them sets its own"; got != want {
		t.Errorf("%s", got)
	}
	if hint := check.HintOf(err).For(check.Names{}); !strings.Contains(hint, "    targets:\n      - name: main") {
		t.Errorf("hint %s", hint)
	}
	c := mustLoad(t, "proxmox: {ca_file: /etc/ca.pem, timeout: 20s}\n"+issuer+own, Options{})
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "config.yaml:1: proxmox.ca_file: is used by no target") {
		t.Errorf("%q", c.Warnings)
	}
	c = mustLoad(t, cluster+issuer+strings.Replace(own, "[{", "[{name: main}, {", 1), Options{Targets: []string{"a"}})
	if len(c.Warnings) > 0 || len(c.Targets) != 1 {
		t.Errorf("a target that this run does not take uses them: %q", c.Warnings)
	}
}

// A secret is hidden wherever it turns up, also where no target uses it.
func TestSecretsOfEveryLayerAreKnown(t *testing.T) {
	setenv(t, "PROXMOX_REALM_REALM_CLIENT_KEY=key-of-the-environment")
	c := mustLoad(t, "proxmox: {token: realm@pve!agent=of-nobody}\nrealm: {issuer_url: https://auth.example.com, client_id: proxmox, client_key: key-of-the-file}\n"+
		"targets:\n  - {name: a, proxmox: {endpoints: [a], token: realm@pve!agent=of-target-a}, realm: {comment: key-of-the-file}}\n"+
		"  - {name: b, proxmox: {endpoints: [b], username: root@pam, password: password-of-b}}\n", Options{Show: true, Targets: []string{"a"}})
	cleaner := check.NewCleaner(c.Secrets...)
	for _, secret := range []string{"of-nobody", "key-of-the-file", "of-target-a", "password-of-b", "key-of-the-environment", "realm@pve!agent=of-nobody"} {
		if text := cleaner.Hide("x " + secret + " y"); text != "x "+check.Mask+" y" {
			t.Errorf("%s", text)
		}
	}
}

// A secret that stands where its file belongs is in nothing that is shown.
func TestASecretInPlaceOfItsFile(t *testing.T) {
	for _, secret := range []string{"hunter2", "realm@pve!agent=hunter2", "/hunter2Hunter2hunter2hunter", "hunter2/hunter2+hunter2="} {
		for _, key := range []string{"realm.client_key_file", "proxmox.token_file", "proxmox.password_file"} {
			section, name, _ := strings.Cut(key, ".")
			text := section + ": {" + name + ": '" + secret + "'}\n"
			if name == "password_file" {
				text = "proxmox: {username: root@pam, password_file: '" + secret + "'}\n"
			}
			c := mustLoad(t, text, Options{Partial: true, Show: true})
			for _, s := range c.Settings {
				if strings.Contains(s.Value, "hunter2") {
					t.Errorf("%s shows %s", s.Key, s.Value)
				}
			}
			_, err := load(t, text, Options{Partial: true, Secrets: true})
			if got := problemsOf(t, err) + check.HintOf(err).For(check.Names{}); !strings.Contains(got, key) || strings.Contains(got, "hunter2") {
				t.Errorf("%s: %s", key, got)
			}
		}
	}
}
