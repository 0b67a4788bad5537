//go:build ansible

package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"proxmox-realm/internal/lab"
	"proxmox-realm/internal/lab/pve"
)

// installed holds the paths of the program and of the installed collection, both built from this tree.
var installed struct{ binary, collections string }

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "pveum" {
		if err := pveum(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
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
		var list []map[string]any
		for i := 1; i < len(pairs); i += 2 {
			wrote := pairs[i+1] != "none" && slices.Contains([]string{"changed", "unverified"}, pairs[i])
			list = append(list, map[string]any{"outcome": pairs[i], "action": pairs[i+1], "wrote": wrote})
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
