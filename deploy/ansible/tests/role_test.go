//go:build ansible

package tests

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"proxmox-realm/internal/lab"
	"proxmox-realm/internal/lab/pve"
)

// The role installs a binary from a file and creates a token. The token survives a run that fails afterwards, and the last
// run changes nothing. Other tests cover the units.
func TestRole(t *testing.T) {
	t.Run("realm", func(t *testing.T) { testRole(t, nil, nil) })
	t.Run("access", func(t *testing.T) {
		testRole(t, map[string]any{
			"authelia_realm_groups_claim": "groups", "authelia_realm_scopes": []string{"openid", "profile", "groups"},
			"authelia_realm_access": map[string]any{
				"admins": []any{map[string]any{"path": "/", "role": "PVEAdmin"}}, "dev": []any{map[string]any{"path": "/pool/dev/", "role": "PVEVMUser"}},
			},
		}, []string{
			"role add RealmAuditor --privs Sys.Audit", "role add RealmGroupAdmin --privs Group.Allocate,Sys.Audit",
			"role add PermissionsModifyOnly --privs Permissions.Modify",
			"acl modify /access --tokens ID --roles RealmAuditor", "acl modify /access/groups --tokens ID --roles RealmGroupAdmin",
			"acl modify / --tokens ID --roles PermissionsModifyOnly", "acl modify /pool/dev --tokens ID --roles PermissionsModifyOnly",
		})
	})
}

func testRole(t *testing.T, more map[string]any, lines []string) {
	c := newController(t, "empty")
	user, id, value := c.token()
	made := filepath.Join(c.dir, "made")
	bin := filepath.Join(c.dir, "bin")
	pveum := fmt.Sprintf(`#!/bin/sh
case "$*" in "acl modify"*) [ -e %[1]s.granting ] || exit 1 ;; esac
json() { echo "[$(sed -n "$1" %[1]s | paste -sd, -)]"; }
echo "$*" >>%[1]s
done_before() { [ -e %[1]s.token ]; }
case "$*" in
"role list"*) json 's#^role add \([^ ]*\) .*#{"roleid":"\1"}#p' ;;
"user list"*) done_before && echo '[{"userid":"%[2]s"}]' || echo '[]' ;;
"acl list"*) json 's#^acl modify \(.*\) --[a-z]* \(.*\) --roles \(.*\)#{"path":"\1","ugid":"\2","roleid":"\3"}#p' ;;
"user token list"*) done_before && echo '[{"tokenid":"%[3]s"}]' || echo '[]' ;;
"user token add"*) touch %[1]s.token; echo '{"full-tokenid":"%[2]s!%[3]s","value":"%[4]s"}' ;;
esac
`, made, user, id, value)
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "pveum"), []byte(pveum), 0o700); err != nil {
		t.Fatal(err)
	}
	if more != nil { // what the lines grant, which the stand-in for pveum does not
		err := c.PVE.Update(func(st *pve.State) {
			st.ACL = append(st.ACL, pve.ACL{Path: "/", Type: "token", ID: user + "!" + id, Role: "Administrator", Propagate: true})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	u, _ := url.Parse(c.PVE.URL())
	program, err := os.ReadFile(installed.binary)
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]any{
		"authelia_realm_file": installed.binary, "authelia_realm_checksum": fmt.Sprintf("sha256:%x", sha256.Sum256(program)),
		"authelia_realm_binary": filepath.Join(bin, "proxmox-realm"), "authelia_realm_token_file": filepath.Join(c.dir, "token"),
		"authelia_realm_node": "localhost", "authelia_realm_user": user, "authelia_realm_token_id": id,
		"authelia_realm_api_host": u.Hostname(), "authelia_realm_api_port": u.Port(), "authelia_realm_ca_path": c.CAFile,
		"authelia_realm_issuer_url": c.IssuerURL, "authelia_realm_issuer_ca_path": c.CAFile, "authelia_realm_redirect_urls": []string{c.RedirectURL},
	}
	maps.Copy(given, more)
	c.write("role.json", given)
	path := []string{"PATH=" + bin + string(os.PathListSeparator) + os.Getenv("PATH")}
	for _, tt := range []struct {
		args    []string
		summary string
	}{
		{nil, "failed=1 "},                          // the ACL cannot be changed
		{[]string{"-vvvv", "--diff"}, "changed=2 "}, // ACL, realm
		{nil, "changed=0 "},
		{[]string{"--check", "-e", "authelia_realm_checksum=sha256:00"}, "failed=1 "},
	} {
		out, err := c.play("testdata/role.yml", path, append([]string{"-e", "@role.json"}, tt.args...)...)
		if !strings.Contains(out, tt.summary) || (err != nil) != strings.HasPrefix(tt.summary, "failed") {
			t.Errorf("%v: %v, expected %s\n%s", tt.args, err, tt.summary, out)
		}
		if err := os.WriteFile(made+".granting", nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	asked, _ := os.ReadFile(made)
	for _, line := range append(lines, []string{
		"role add RealmAdmin --privs Realm.Allocate", "user token add " + user + " " + id + " --privsep 1 --output-format json",
		"acl modify /access/realm --tokens " + user + "!" + id + " --roles RealmAdmin", "acl modify /access/realm --users " + user + " --roles RealmAdmin",
	}...) {
		line = strings.ReplaceAll(line, " ID ", " "+user+"!"+id+" ")
		if strings.Count(string(asked), line+"\n") != 1 {
			t.Errorf("pveum %s was not called once: %s", line, asked)
		}
	}
	if held := c.PVE.State().Groups; len(held) != len(lines)/3 {
		t.Errorf("groups %v", held)
	}
	info, err := os.Stat(filepath.Join(c.dir, "token"))
	if r, ok := c.PVE.Realm(lab.RealmName); err != nil || info.Mode() != 0o600 || !ok || r.Properties["client-key"] != c.ClientKey {
		t.Errorf("%v, %v", err, r)
	}
}

// The role installs a binary from a URL, takes a given token, and enables and disables a timer. systemd is a stand-in; the
// test runs what systemd would run, with the credentials of the unit.
func TestRoleTimer(t *testing.T) {
	c := newController(t, "empty")
	user, id, value := c.token()
	program, err := os.ReadFile(installed.binary)
	if err != nil {
		t.Fatal(err)
	}
	releases := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(program) }))
	t.Cleanup(releases.Close)
	bin, units, etc := filepath.Join(c.dir, "bin"), filepath.Join(c.dir, "units"), filepath.Join(c.dir, "etc")
	for _, dir := range []string{bin, units} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	systemctl := fmt.Sprintf(`#!/bin/sh
cd %s && echo "$*" >>calls
case "$1" in
show) echo LoadState=loaded; [ -e start ] && echo ActiveState=active || echo ActiveState=inactive ;;
is-enabled) [ -e enable ] && echo enabled || { echo disabled; exit 1; } ;;
enable | start) touch "$1" ;;
disable) rm -f enable ;;
stop) rm -f start ;;
esac
`, c.dir)
	if err := os.WriteFile(filepath.Join(bin, "systemctl"), []byte(systemctl), 0o700); err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(c.PVE.URL())
	c.write("role.json", map[string]any{
		"authelia_realm_url": releases.URL + "/proxmox-realm", "authelia_realm_checksum": fmt.Sprintf("sha256:%x", sha256.Sum256(program)),
		"authelia_realm_binary": filepath.Join(bin, "proxmox-realm"), "authelia_realm_directory": etc, "authelia_realm_unit_directory": units,
		"authelia_realm_user": user, "authelia_realm_token_id": id,
		"authelia_realm_api_host": u.Hostname(), "authelia_realm_api_port": u.Port(), "authelia_realm_ca_path": c.CAFile,
		"authelia_realm_issuer_url": c.IssuerURL, "authelia_realm_issuer_ca_path": c.CAFile, "authelia_realm_redirect_urls": []string{c.RedirectURL},
		"authelia_realm_comment": "Log in: \"Authelia\" # ☃", "authelia_realm_timer": true,
	})
	c.write("vault.yml", map[string]any{"authelia_realm_token_secret": value, "vault_client_key": c.ClientKey})
	c.encrypt("vault.yml")
	path := []string{"PATH=" + bin + string(os.PathListSeparator) + os.Getenv("PATH")}
	for _, tt := range []struct {
		args    []string
		summary string
		says    string
	}{
		{[]string{"-e", "authelia_realm_checksum=sha256:00"}, "failed=1 ", "checksum"},
		{[]string{"-e", "authelia_realm_checksum="}, "failed=1 ", "set authelia_realm_checksum"},
		{[]string{"--check"}, "failed=0 ", ""},
		{[]string{"-vvvv", "--diff"}, "changed=10 ", "Enable and start the timer"}, // binary, realm, folder, configuration, token, key, units, folder, drop-in, timer
		{nil, "changed=0 ", ""},
		{[]string{"-e", `{"authelia_realm_token_secret":"","authelia_realm_token_file":"/nowhere/token"}`}, "failed=1 ", "there is no token in /nowhere/token"},
		{
			[]string{"-e", `{"authelia_realm_verify":"warn","authelia_realm_verify_ignore":["issuer.clock"],"authelia_realm_verify_issuer":false}`},
			"changed=2 ", "Write the drop-in",
		},
	} {
		out, err := c.play("testdata/role.yml", path, append([]string{"-e", "@role.json"}, tt.args...)...)
		if !strings.Contains(out, tt.summary) || !strings.Contains(out, tt.says) || (err != nil) != strings.HasPrefix(tt.summary, "failed=1") {
			t.Errorf("%v: %v, expected %s\n%s", tt.args, err, tt.summary, out)
		}
	}
	calls, _ := os.ReadFile(filepath.Join(c.dir, "calls"))
	for _, call := range []string{"enable proxmox-realm.timer\n", "start proxmox-realm.timer\n"} {
		if strings.Count(string(calls), call) != 1 {
			t.Errorf("systemctl %s was not called once:\n%s", strings.TrimSpace(call), calls)
		}
	}
	if strings.Count(string(calls), "daemon-reload\n") != 2 {
		t.Errorf("systemd was not reloaded after each change of the drop-in:\n%s", calls)
	}
	c.holds(filepath.Join(etc, "config.yaml"), "\n  issuer: false\n", "\n  ignore: [\"issuer.clock\"]\n")
	c.holds(filepath.Join(units, "proxmox-realm.service.d", "ansible.conf"), "\nSuccessExitStatus=11\n")
	c.starts(filepath.Join(units, "proxmox-realm.service.d", "ansible.conf"))
	if r, ok := c.PVE.Realm(lab.RealmName); !ok || r.Properties["comment"] != "Log in: \"Authelia\" # ☃" {
		t.Errorf("%v", r)
	}
	for _, summary := range []string{"changed=2 ", "changed=0 "} { // timer, drop-in
		if out, err := c.play("testdata/role.yml", path, "-e", "@role.json", "-e", `{"authelia_realm_timer":false}`); err != nil || !strings.Contains(out, summary) {
			t.Errorf("without the timer: %v, expected %s\n%s", err, summary, out)
		}
	}
	calls, _ = os.ReadFile(filepath.Join(c.dir, "calls"))
	if !strings.Contains(string(calls), "disable proxmox-realm.timer\n") || !strings.Contains(string(calls), "stop proxmox-realm.timer\n") {
		t.Errorf("the timer is not disabled:\n%s", calls)
	}
}

// holds looks for texts in a file.
func (c controller) holds(path string, texts ...string) {
	c.tb.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		c.tb.Fatal(err)
	}
	for _, text := range texts {
		if !strings.Contains(string(content), text) {
			c.tb.Errorf("%s lacks %q:\n%s", path, text, content)
		}
	}
}

// starts does what systemd does with a drop-in: it copies the credentials into a folder and runs the program. It changes the
// realm first, so that the program has something to repair.
func (c controller) starts(dropIn string) {
	c.tb.Helper()
	content, err := os.ReadFile(dropIn)
	if err != nil {
		c.tb.Fatal(err)
	}
	credentials := filepath.Join(c.dir, "credentials")
	if err := os.Mkdir(credentials, 0o700); err != nil {
		c.tb.Fatal(err)
	}
	var command []string
	for line := range strings.Lines(string(content)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch {
		case key == "ExecStart" && value != "":
			command = strings.Fields(strings.ReplaceAll(value, "${CREDENTIALS_DIRECTORY}", credentials))
		case key == "LoadCredential" && value != "":
			name, from, _ := strings.Cut(value, ":")
			data, err := os.ReadFile(from)
			if err == nil {
				err = os.WriteFile(filepath.Join(credentials, name), data, 0o600)
			}
			if err != nil {
				c.tb.Fatal(err)
			}
		}
	}
	if len(command) == 0 {
		c.tb.Fatalf("nothing to run: %s", content)
	}
	if err := c.PVE.SetProperty(lab.RealmName, "comment", "changed by somebody"); err != nil {
		c.tb.Fatal(err)
	}
	if out, err := c.commandWith([]string{"CREDENTIALS_DIRECTORY=" + credentials}, command[0], command[1:]...); err != nil {
		c.tb.Errorf("%v\n%s", err, out)
	}
}
