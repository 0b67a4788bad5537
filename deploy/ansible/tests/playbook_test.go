//go:build ansible

package tests

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"proxmox-realm/internal/lab"
	"proxmox-realm/internal/lab/pve"
)

// installed holds the paths of the program and of the installed collection, both built from this tree.
var installed struct{ binary, collections string }

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "proxmox-realm-ansible-")
		if err == nil {
			defer func() { _ = os.RemoveAll(dir) }()
			err = install(dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// install builds program and collection, and installs the collection as users do.
func install(dir string) error {
	installed.binary, installed.collections = filepath.Join(dir, "bin", "proxmox-realm"), filepath.Join(dir, "collections")
	for _, command := range [][]string{
		{"go", "build", "-o", installed.binary, "../../../cmd/proxmox-realm"},
		{"ansible-galaxy", "collection", "build", "..", "--output-path", dir},
		{"ansible-galaxy", "collection", "install", filepath.Join(dir, "proxmox_realm-sso-1.0.0.tar.gz"), "--offline", "-p", installed.collections},
	} {
		c := exec.Command(command[0], command[1:]...)
		c.Env = append(os.Environ(), "ANSIBLE_HOME="+dir, "ANSIBLE_COLLECTIONS_PATH="+installed.collections)
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, out)
		}
	}
	return nil
}

// controller is a machine with Ansible, beside a lab.
type controller struct {
	world
	dir string
}

func newController(t *testing.T, seed string) controller {
	t.Helper()
	c := controller{newWorld(t), t.TempDir()}
	if err := c.Seed(seed); err != nil {
		t.Fatal(err)
	}
	user, id, value := c.token()
	u, err := url.Parse(c.PVE.URL())
	if err != nil {
		t.Fatal(err)
	}
	c.write("lab.json", map[string]any{
		"host": u.Hostname(), "api_port": u.Port(), "user": user, "token_id": id, "ca": c.CAFile,
		"issuer": c.IssuerURL, "redirect_url": c.RedirectURL,
		"issuer_url": c.IssuerURL, "issuer_ca": c.IssuerCAFile, // as the examples call them
	})
	c.write("vault.yml", map[string]any{"vault_token_secret": value, "vault_client_key": c.ClientKey})
	c.encrypt("vault.yml")
	return c
}

// token returns the least-privilege token in its three parts.
func (c controller) token() (user, id, value string) {
	name, value, _ := strings.Cut(c.PVE.Token(pve.TokenRealmAllocate), "=")
	user, id, _ = strings.Cut(name, "!")
	return user, id, value
}

func (c controller) write(name string, content any) {
	c.tb.Helper()
	data, err := json.Marshal(content)
	if err == nil {
		err = os.WriteFile(filepath.Join(c.dir, name), data, 0o600)
	}
	if err != nil {
		c.tb.Fatal(err)
	}
}

func (c controller) encrypt(name string) {
	c.tb.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, "password"), []byte("of the vault\n"), 0o600); err != nil {
		c.tb.Fatal(err)
	}
	if out, err := c.command("ansible-vault", "encrypt", "--vault-password-file", "password", name); err != nil {
		c.tb.Fatalf("%v\n%s", err, out)
	}
}

// command runs a command of Ansible in an environment of its own.
func (c controller) command(name string, args ...string) (string, error) {
	return c.commandWith(nil, name, args...)
}

func (c controller) commandWith(env []string, name string, args ...string) (string, error) {
	command := exec.CommandContext(c.tb.Context(), name, args...)
	command.Dir = c.dir
	command.Env = append([]string{
		"PATH=" + filepath.Dir(installed.binary) + string(os.PathListSeparator) + os.Getenv("PATH"), "LANG=C.UTF-8", "HOME=" + c.dir,
		"ANSIBLE_COLLECTIONS_PATH=" + installed.collections, "ANSIBLE_HOME=" + filepath.Join(c.dir, "ansible"), "ANSIBLE_NOCOLOR=1",
		"ANSIBLE_LOCALHOST_WARNING=False", "STATE_DIRECTORY=" + filepath.Join(c.dir, "state"), "RUNTIME_DIRECTORY=" + c.dir,
	}, env...)
	out, err := command.CombinedOutput()
	return string(out), err
}

// play runs a playbook with the lab's variables and the Vault file.
func (c controller) play(playbook string, env []string, args ...string) (string, error) {
	c.tb.Helper()
	path, err := filepath.Abs(playbook)
	if err != nil {
		c.tb.Fatal(err)
	}
	out, err := c.commandWith(env, "ansible-playbook", append([]string{path, "-e", "@lab.json", "-e", "@vault.yml", "--vault-password-file", "password"}, args...)...)
	c.unprinted("what Ansible printed", out)
	return out, err
}

// unprinted fails if the text holds a secret of the lab.
func (c controller) unprinted(where, text string) {
	c.tb.Helper()
	_, _, value := c.token()
	for _, secret := range []string{value, c.ClientKey, "another-key-than-the-issuers", "of the vault"} {
		if at := strings.Index(text, secret); at >= 0 {
			c.tb.Errorf("a secret is in %s: …%s(here)", where, text[max(0, at-200):at])
		}
	}
}

func (c controller) plays(playbook string, args ...string) string {
	c.tb.Helper()
	out, err := c.play(playbook, nil, args...)
	if err != nil {
		c.tb.Fatalf("%v\n%s", err, out)
	}
	return out
}

func TestLife(t *testing.T) {
	c := newController(t, "empty")
	out := c.plays("testdata/life.yml")
	if !strings.Contains(out, `+    "comment": "Log in with Authelia"`) {
		t.Errorf("no diff was shown:\n%s", out)
	}
	if _, there := c.PVE.Realm(lab.RealmName); there {
		t.Error("the realm is there")
	}
}

func TestRefusals(t *testing.T) {
	c := newController(t, "claim")
	for name, script := range map[string]string{
		"later":   `cat >/dev/null; echo '{"version":2,"targets":[],"error":null}'`,
		"partial": `cat >/dev/null; echo '{"version":1,"targets":[],"error":null}'`,
		"list":    `cat >/dev/null; echo '[1]'`,
		"deaf":    `exit 64`,
		"upset":   `cat >&2; echo it went wrong >&2; exit 2`, // and says what it was given, secrets among it
	} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	out := c.plays("testdata/refusals.yml", "-vvvv", "-e", "programs="+c.dir)
	if !strings.Contains(out, "[WARNING]: client.credentials: ") {
		t.Errorf("no warning was shown:\n%s", out)
	}
	r, _ := c.PVE.Realm(lab.RealmName)
	if r.Properties["client-key"] != "a-fourth-key-of-nobody" || r.Properties["username-claim"] != "preferred_username" || r.Properties["prompt"] != "login" {
		t.Errorf("%v", r)
	}
}

// Secrets from the environment of Ansible are not in the program's environment or in any process's arguments.
func TestEnvironment(t *testing.T) {
	c := newController(t, "empty")
	user, id, value := c.token()
	u, _ := url.Parse(c.PVE.URL())
	witness := filepath.Join(c.dir, "witness")
	script := fmt.Sprintf("#!/bin/sh\n{ cat /proc/[0-9]*/cmdline; cat /proc/$$/environ; } 2>/dev/null | tr '\\0' '\\n' >>%s\nexec %s \"$@\"\n", witness, installed.binary)
	wrapper := filepath.Join(c.dir, "wrapper")
	if err := os.WriteFile(wrapper, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := c.play("testdata/environment.yml", []string{
		"PROXMOX_HOST=" + u.Hostname(), "PROXMOX_PORT=" + u.Port(), "PROXMOX_USER=" + user, "PROXMOX_TOKEN_ID=" + id,
		"PROXMOX_TOKEN_SECRET=" + value, "PROXMOX_CA_PATH=" + c.CAFile, "PROXMOX_VALIDATE_CERTS=yes", "PROXMOX_API_TIMEOUT=30",
		"PROXMOX_REALM_BINARY=" + wrapper,
	}, "-vvvv")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	seen, err := os.ReadFile(witness)
	if err != nil || !bytes.Contains(seen, []byte("ansible-playbook")) || !bytes.Contains(seen, []byte("\nHOME=")) {
		t.Fatalf("the witness saw nothing: %v", err)
	}
	c.unprinted("arguments or environment", string(seen))
	if bytes.Contains(seen, []byte("\nPROXMOX_")) {
		t.Error("the program's environment has variables of the module")
	}
}

// The example keeps several clusters in a loop, with secrets from a Vault file and common arguments in module_defaults.
func TestExampleRealm(t *testing.T) {
	c := newController(t, "drifted")
	other := world{tb: t}
	var err error
	other.Lab, err = lab.Start(lab.Options{Outside: &lab.Outside{URL: c.IssuerURL, CAFile: c.IssuerCAFile, ClientKey: c.ClientKey}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	user, id, _ := c.token()
	values := map[string]string{}
	var clusters []map[string]any
	for name, w := range map[string]world{"berlin": c.world, "paris": other} {
		u, _ := url.Parse(w.PVE.URL())
		_, values[name], _ = strings.Cut(w.PVE.Token(pve.TokenRealmAllocate), "=")
		clusters = append(clusters, map[string]any{"name": name, "host": u.Hostname(), "port": u.Port(), "ca": w.CAFile})
	}
	client, _ := c.Issuer.Client(c.ClientID)
	client.RedirectURIs = append(client.RedirectURIs, other.PVE.URL())
	c.Issuer.SetClient(client)
	c.write("clusters.json", map[string]any{"clusters": clusters})
	c.write("vault.yml", map[string]any{"vault_client_key": c.ClientKey, "vault_token_secrets": values})
	c.encrypt("vault.yml")
	if user+"!"+id != "proxmox-realm@pve!agent" {
		playbook, err := os.ReadFile("../../../examples/ansible-realm.yml")
		if err != nil {
			t.Fatal(err)
		}
		playbook = bytes.ReplaceAll(playbook, []byte("api_user: proxmox-realm@pve"), []byte("api_user: "+user))
		playbook = bytes.ReplaceAll(playbook, []byte("api_token_id: agent"), []byte("api_token_id: "+id))
		if err := os.WriteFile(filepath.Join(c.dir, "realm.yml"), playbook, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		args    []string
		changed int
	}{{[]string{"--check", "--diff"}, 2}, {[]string{"--diff"}, 2}, {nil, 0}} {
		out := c.plays(filepath.Join(c.dir, "realm.yml"), append([]string{"-e", "@clusters.json"}, tt.args...)...)
		if got := strings.Count(out, "\nchanged: [localhost] => (item="); got != tt.changed || !strings.Contains(out, "(item=berlin)") || !strings.Contains(out, "(item=paris)") {
			t.Errorf("%v: %d changed, expected %d\n%s", tt.args, got, tt.changed, out)
		}
	}
	for _, w := range []world{c.world, other} {
		if r, ok := w.PVE.Realm(lab.RealmName); !ok || r.Properties["client-key"] != c.ClientKey || r.Properties["issuer-url"] != c.IssuerURL {
			t.Errorf("%v", r)
		}
	}
}

// The example without the module handles every kind of exit code.
func TestExampleCommand(t *testing.T) {
	c := newController(t, "drifted")
	fake := filepath.Join(c.dir, "fake")
	if err := os.WriteFile(fake, []byte("#!/bin/sh\ncat \""+c.dir+"/$5.json\" 2>/dev/null\nexit \"$5\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	targets := func(pairs ...string) {
		var list []map[string]string
		for i := 1; i < len(pairs); i += 2 {
			list = append(list, map[string]string{"outcome": pairs[i], "action": pairs[i+1]})
		}
		c.write(pairs[0]+".json", map[string]any{"version": 1, "targets": list})
	}
	targets("0", "changed", "update")
	targets("11", "unverified", "none", "unverified", "create")
	targets("12", "refused", "refuse")
	targets("13", "held", "update", "changed", "update")
	targets("77", "failed", "none", "unchanged", "none")
	inventory := "real ansible_connection=local proxmox_realm_config=" + c.ConfigFile + "\n"
	want := map[string]string{ // ok, changed, failed
		"0": "110", "1": "001", "10": "001", "11": "001", "12": "001", "13": "001", "75": "001", "77": "001", "143": "001",
	}
	for code := range want {
		inventory += fmt.Sprintf("exit%s ansible_connection=local proxmox_realm_binary=%s proxmox_realm_config=%s\n", code, fake, code)
	}
	want["real"] = "110"
	if err := os.WriteFile(filepath.Join(c.dir, "inventory"), []byte(inventory), 0o600); err != nil {
		t.Fatal(err)
	}
	changed := map[string]bool{}
	play := func(args ...string) map[string]string {
		args = append([]string{"-i", "inventory", "-f", "4", "-e", "target=all", "-e", "retry_delay=0"}, args...)
		out, _ := c.play("../../../examples/ansible-command.yml", []string{"ANSIBLE_PYTHON_INTERPRETER=/usr/bin/python3"}, args...)
		got := map[string]string{}
		for line := range strings.Lines(out) {
			if name, result, found := strings.Cut(strings.TrimPrefix(line, "fatal: ["), "]: FAILED! => "); found { // the recap counts it as failed alone
				var task struct{ Changed bool }
				if err := json.Unmarshal([]byte(result), &task); err != nil {
					t.Fatalf("%v: %s", err, line)
				}
				changed[strings.TrimPrefix(name, "exit")] = task.Changed
			}
			name, numbers, found := strings.Cut(line, " : ok=")
			if !found {
				continue
			}
			var ok, wrote, unreachable, failed int
			if _, err := fmt.Sscanf("ok="+strings.Join(strings.Fields(numbers), " "), "ok=%d changed=%d unreachable=%d failed=%d", &ok, &wrote, &unreachable, &failed); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			got[strings.TrimPrefix(strings.TrimSpace(name), "exit")] = fmt.Sprint(ok, wrote, failed)
		}
		if len(got) == 0 {
			t.Fatalf("no recap:\n%s", out)
		}
		return got
	}
	if got := play("--check", "--limit", "real")["real"]; got != "1 1 0" {
		t.Errorf("plan: %s", got)
	}
	got := play()
	for name, expected := range want {
		if strings.ReplaceAll(got[name], " ", "") != expected {
			t.Errorf("exit code %s: ok, changed, failed are %q, expected %q", name, got[name], expected)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%v", got)
	}
	for name, was := range changed {
		if want := name == "11" || name == "13"; was != want {
			t.Errorf("exit code %s: changed %v", name, was)
		}
	}
	if again := play("--limit", "real")["real"]; again != "1 0 0" {
		t.Errorf("again: %s", again)
	}
}

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

// ansible-doc shows the documentation of the collection, and ansible-lint finds nothing with its strictest profile.
func TestCollection(t *testing.T) {
	c := newController(t, "empty")
	for _, tt := range []struct{ says, command string }{
		{"proxmox_realm.sso.proxmox_openid_realm", "ansible-doc -l proxmox_realm.sso"},
		{"openid_username_claim", "ansible-doc proxmox_realm.sso.proxmox_openid_realm"},
		{"authelia_realm_timer", "ansible-doc -t role proxmox_realm.sso.authelia_realm"},
	} {
		words := strings.Fields(tt.command)
		if out, err := c.command(words[0], words[1:]...); err != nil || !strings.Contains(out, tt.says) {
			t.Errorf("%s: %v\n%s", tt.command, err, out)
		}
	}
	tree := filepath.Join(installed.collections, "ansible_collections", "proxmox_realm", "sso")
	if out, err := c.command("ansible-lint", "--offline", "--profile", "production", "--project-dir", tree, tree); err != nil {
		t.Errorf("ansible-lint: %v\n%s", err, out)
	}
	if out, err := c.command("yamllint", append([]string{"-s", "-c", filepath.Join(tree, ".yamllint"), tree}, playbooks(t)...)...); err != nil {
		t.Errorf("yamllint: %v\n%s", err, out)
	}
	if info, err := os.Lstat(filepath.Join(tree, "roles/authelia_realm/files/proxmox-realm.service")); err != nil || !info.Mode().IsRegular() {
		t.Errorf("the units are not in the collection: %v", err)
	}
}

// playbooks returns those of the examples and of the tests.
func playbooks(t *testing.T) []string {
	t.Helper()
	var paths []string
	for _, pattern := range []string{"../../../examples/ansible-*.yml", "testdata/*.yml"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: none, %v", pattern, err)
		}
		for _, path := range found {
			absolute, err := filepath.Abs(path)
			if err != nil {
				t.Fatal(err)
			}
			paths = append(paths, absolute)
		}
	}
	return paths
}
