//go:build ansible

package tests

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"proxmox-realm/internal/config"
	"proxmox-realm/internal/lab"
	"proxmox-realm/internal/lab/pve"
)

// rolePlay is a play of the role on a machine whose pveum changes the lab. See pveum.
type rolePlay struct {
	controller
	bin string
	env []string
}

// newRolePlay writes the variables of the role to role.json. The role installs the program from a file and creates the token.
func newRolePlay(t *testing.T, more map[string]any) rolePlay {
	t.Helper()
	c := newController(t, "empty")
	p := rolePlay{controller: c, bin: filepath.Join(c.dir, "bin")}
	own, err := os.Executable()
	if err == nil {
		err = errors.Join(os.Mkdir(p.bin, 0o700), os.Symlink(own, filepath.Join(p.bin, "pveum")))
	}
	if err != nil {
		t.Fatal(err)
	}
	p.env = []string{
		"PATH=" + p.bin + string(os.PathListSeparator) + os.Getenv("PATH"),
		"PVEUM_API=" + c.PVE.URL(), "PVEUM_CA=" + c.CAFile, "PVEUM_TOKEN=" + c.PVE.Token(pve.TokenRoot),
	}
	u, _ := url.Parse(c.PVE.URL())
	program, err := os.ReadFile(installed.binary)
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]any{
		"authelia_realm_file": installed.binary, "authelia_realm_checksum": fmt.Sprintf("sha256:%x", sha256.Sum256(program)),
		"authelia_realm_binary": filepath.Join(p.bin, "proxmox-realm"), "authelia_realm_token_file": filepath.Join(c.dir, "kept", "token"),
		"authelia_realm_node": "localhost", "authelia_realm_api_host": u.Hostname(), "authelia_realm_api_port": u.Port(), "authelia_realm_ca_path": c.CAFile,
		"authelia_realm_issuer_url": c.IssuerURL, "authelia_realm_issuer_ca_path": c.CAFile, "authelia_realm_redirect_urls": []string{c.RedirectURL},
	}
	maps.Copy(given, more)
	c.write("role.json", given)
	return p
}

// runs plays the role, and fails unless the recap holds the summary and the output the text.
func (p rolePlay) runs(summary, says string, args ...string) {
	p.tb.Helper()
	out, err := p.play("testdata/role.yml", p.env, append([]string{"-e", "@role.json"}, args...)...)
	if !strings.Contains(out, summary) || !strings.Contains(out, says) || (err != nil) != strings.HasPrefix(summary, "failed=1") {
		p.tb.Errorf("%v: %v, expected %s and %q\n%s", args, err, summary, says, out)
	}
	if token, err := os.ReadFile(filepath.Join(p.dir, "kept", "token")); err == nil {
		if _, value, _ := strings.Cut(strings.TrimSpace(string(token)), "="); strings.Contains(out, value) {
			p.tb.Error("the token's secret was printed")
		}
	}
}

const roleUser = "proxmox-realm@pve"

// granted lists the entries of the ACL for the role's user and token.
func (p rolePlay) granted() []string {
	var entries []string
	for _, e := range p.PVE.State().ACL {
		if user, _, _ := strings.Cut(e.ID, "!"); user == roleUser {
			entries = append(entries, e.Path+" "+e.Role+" "+e.ID)
		}
	}
	slices.Sort(entries)
	return entries
}

// The role creates a token with what it needs. The token survives a run that fails afterwards. A second run changes nothing.
func TestRole(t *testing.T) {
	p := newRolePlay(t, nil)
	p.runs("failed=0 ", "", "--check") // there is neither program nor token
	failing := append(slices.Clone(p.env), "PVEUM_FAILS=acl modify")
	if out, err := p.play("testdata/role.yml", failing, "-e", "@role.json"); err == nil || !strings.Contains(out, "failed=1 ") {
		t.Fatalf("the ACL could not be changed: %v\n%s", err, out)
	}
	p.runs("changed=2 ", "", "-vvvv", "--diff") // ACL, realm
	p.runs("changed=0 ", "")
	p.runs("failed=1 ", "", "--check", "-e", "authelia_realm_checksum=sha256:00")
	if diff := cmp.Diff([]string{"/access/realm RealmAdmin " + roleUser, "/access/realm RealmAdmin " + roleUser + "!agent"}, p.granted()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for path, mode := range map[string]os.FileMode{"kept": os.ModeDir | 0o700, "kept/token": 0o600} {
		if info, err := os.Stat(filepath.Join(p.dir, path)); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v %v", path, info.Mode(), err)
		}
	}
	if r, ok := p.PVE.Realm(lab.RealmName); !ok || r.Properties["client-key"] != p.ClientKey || !p.PVE.State().Users[roleUser].Tokens["agent"].Privsep {
		t.Errorf("%v", r)
	}
}

// With access the token gets more privileges. When access goes, the role takes them back. Check mode fails in neither case,
// although the token lacks then what a run would give it.
func TestRoleAccess(t *testing.T) {
	p := newRolePlay(t, map[string]any{"authelia_realm_groups_claim": "groups", "authelia_realm_scopes": []string{"openid", "profile", "groups"}})
	if err := os.Mkdir(filepath.Join(p.dir, "kept"), 0o711); err != nil {
		t.Fatal(err)
	}
	p.runs("failed=0 ", "")
	if info, err := os.Stat(filepath.Join(p.dir, "kept")); err != nil || info.Mode().Perm() != 0o711 {
		t.Errorf("the mode of a folder that existed: %v, %v", info.Mode(), err)
	}
	base := p.granted()
	access := `{"authelia_realm_access": {"admins": [{"path": "/", "role": "PVEAdmin"}], "dev": [{"path": "/pool/dev/", "role": "PVEVMUser"}]}}`
	p.runs("failed=0 ", "", "--check", "-e", access)
	if diff := cmp.Diff(base, p.granted()); diff != "" {
		t.Errorf("check mode changed the ACL (-want +got)\n%s", diff)
	}
	p.runs("changed=3 ", "", "-e", access) // roles, ACL, realm
	p.runs("changed=0 ", "", "-e", access)
	var want []string
	for _, id := range []string{roleUser, roleUser + "!agent"} {
		want = append(want, "/access/realm RealmAdmin "+id, "/access RealmAuditor "+id, "/access/groups RealmGroupAdmin "+id,
			"/ PermissionsModifyOnly "+id, "/pool/dev PermissionsModifyOnly "+id)
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, p.granted()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if len(p.PVE.State().Groups) != 2 {
		t.Errorf("groups %v", p.PVE.State().Groups)
	}
	p.runs("changed=1 ", "", "-e", `{"authelia_realm_access": {"dev": [{"path": "/pool/dev", "role": "PVEVMUser"}]}}`)
	if got := p.granted(); slices.ContainsFunc(got, func(e string) bool { return strings.HasPrefix(e, "/ ") }) || len(got) != len(want)-2 {
		t.Errorf("after a path is gone: %v", got)
	}
	p.runs("failed=0 ", "", "--check")
	p.runs("changed=1 ", "Take back what")
	if diff := cmp.Diff(base, p.granted()); diff != "" {
		t.Errorf("after access is gone (-want +got)\n%s", diff)
	}
	p.runs("changed=0 ", "")
}

// An existing role that holds something else is not used. Another name helps.
func TestRoleOfOthers(t *testing.T) {
	p := newRolePlay(t, nil)
	if err := p.PVE.Update(func(st *pve.State) { st.Roles["RealmAdmin"] = []string{"Realm.Allocate", "Sys.PowerMgmt"} }); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--check"}, nil} {
		p.runs("failed=1 ", "the role RealmAdmin exists with other privileges (Realm.Allocate, Sys.PowerMgmt instead of Realm.Allocate): "+
			"set authelia_realm_roles.realm to another name", args...)
	}
	if got := p.granted(); len(got) > 0 || p.PVE.State().Users[roleUser] != nil {
		t.Errorf("%v", got)
	}
	p.runs("failed=0 ", "", "-e", `{"authelia_realm_roles": {"realm": "SsoRealm"}}`)
	if got := p.granted(); len(got) != 2 || !strings.HasPrefix(got[0], "/access/realm SsoRealm ") {
		t.Errorf("%v", got)
	}
}

// Every property of a realm has a variable, which both the module and the timer's configuration get.
func TestRoleProperties(t *testing.T) {
	p := newRolePlay(t, map[string]any{
		"authelia_realm_groups_claim": "groups", "authelia_realm_groups_autocreate": true, "authelia_realm_groups_overwrite": "no",
		"authelia_realm_query_userinfo": true, "authelia_realm_audiences": []string{"other"}, "authelia_realm_prompt": "login",
		"authelia_realm_acr_values": []string{"urn:a", "urn:b"}, "authelia_realm_default": false,
	})
	p.runs("failed=0 ", "")
	stored, _ := p.PVE.Realm(lab.RealmName)
	for property, want := range map[string]string{
		"groups-claim": "groups", "groups-autocreate": "1", "groups-overwrite": "0", "query-userinfo": "1", "audiences": "other", "prompt": "login",
		"acr-values": "urn:a,urn:b", "default": "0",
	} {
		if got := stored.Properties[property]; got != want && (got != "" || want != "0") {
			t.Errorf("%s is %q, want %q", property, got, want)
		}
	}
	template, err := os.ReadFile("../roles/authelia_realm/templates/config.yaml.j2")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range config.Keys() {
		name, isProperty := strings.CutPrefix(k.Path, "realm.")
		if isProperty && !strings.HasPrefix(name, "client_key") && !strings.Contains(string(template), name+":") && !strings.Contains(string(template), "'"+name+"'") {
			t.Errorf("the timer's configuration cannot have %s", k.Path)
		}
	}
	p.runs("failed=1 ", "the role creates tokens of Proxmox VE only", "-e", "authelia_realm_product=pbs")
}

// pveum is the command of a node: it calls the API of the lab as root. The role's tests run this program under that name.
func pveum(args []string) error {
	if failing := os.Getenv("PVEUM_FAILS"); failing != "" && strings.HasPrefix(strings.Join(args, " "), failing) {
		return errors.New("it fails, as a test wants")
	}
	method, path, params := http.MethodGet, "/access/", url.Values{}
	var words []string
	for i := 0; i < len(args); i++ {
		if name, isOption := strings.CutPrefix(args[i], "--"); isOption {
			i++
			params.Set(name, args[i])
		} else {
			words = append(words, args[i])
		}
	}
	params.Del("output-format")
	switch verb := strings.Join(words[:2], " "); verb {
	case "role list", "user list":
		path += words[0] + "s"
	case "acl list":
		path += "acl"
	case "role add":
		method, path = http.MethodPost, path+"roles"
		params.Set("roleid", words[2])
	case "user add":
		method, path = http.MethodPost, path+"users"
		params.Set("userid", words[2])
	case "acl modify", "acl delete":
		method, path = http.MethodPut, path+"acl"
		params.Set("path", words[2])
		if words[1] == "delete" {
			params.Set("delete", "1")
		}
	case "user token":
		path += "users/" + words[3] + "/token"
		if words[2] == "add" {
			method, path = http.MethodPost, path+"/"+words[4]
		}
	default:
		return fmt.Errorf("no command %s", verb)
	}
	return callAPI(method, path, params)
}

// callAPI sends a request to the lab and prints what it answers, as pveum prints JSON.
func callAPI(method, path string, params url.Values) error {
	pem, err := os.ReadFile(os.Getenv("PVEUM_CA"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	request, err := http.NewRequest(method, os.Getenv("PVEUM_API")+"/api2/json"+path, strings.NewReader(params.Encode()))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "PVEAPIToken="+os.Getenv("PVEUM_TOKEN"))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	var answer struct{ Data json.RawMessage }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s (%v)", method, path, response.Status, err)
	}
	if method == http.MethodGet || strings.Contains(path, "/token/") {
		fmt.Fprintln(os.Stdout, string(answer.Data))
	}
	return nil
}

// The role installs a binary from a URL, takes a given token, and enables and disables a timer. systemd is a stand-in; the
// test runs what systemd would run, with the drop-in of the role.
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

// starts runs the command of a drop-in, as systemd does. It changes the realm first, so that the program has something to
// repair.
func (c controller) starts(dropIn string) {
	c.tb.Helper()
	content, err := os.ReadFile(dropIn)
	if err != nil {
		c.tb.Fatal(err)
	}
	_, command, found := strings.Cut(string(content), "ExecStart=\nExecStart=")
	command, _, _ = strings.Cut(command, "\n")
	if !found || strings.Contains(string(content), "LoadCredential") {
		c.tb.Fatalf("nothing to run, or copies of files: %s", content)
	}
	if err := c.PVE.SetProperty(lab.RealmName, "comment", "changed by somebody"); err != nil {
		c.tb.Fatal(err)
	}
	words := strings.Fields(command)
	if out, err := c.command(words[0], words[1:]...); err != nil {
		c.tb.Errorf("%v\n%s", err, out)
	}
}
