//go:build unix

package config

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/realm"
)

func TestSecretsFromFilesAndCommands(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "token"), "realm@pve!agent=of-a-file\n")
	write(t, filepath.Join(dir, "key"), "key with spaces inside\r\n")
	text := "proxmox: {endpoints: [pve1], token_file: $CREDENTIALS_DIRECTORY/token}\n" +
		"realm: {issuer_url: https://auth.example.com, client_id: proxmox, client_key_command: [sh, -c, 'echo noise >&2; cat ${DIR}/key']}\n"
	o := Options{Secrets: true, Env: []string{"CREDENTIALS_DIRECTORY=" + dir, "DIR=" + dir, "PATH=" + os.Getenv("PATH")}}
	target := mustLoad(t, text, o).Targets[0]
	if got := target.Proxmox.Token.Full().Reveal(); got != "realm@pve!agent=of-a-file" || target.Proxmox.TokenFile != filepath.Join(dir, "token") {
		t.Errorf("token %q of %q", got, target.Proxmox.TokenFile)
	}
	d, _ := realm.ClientKey.Definition()
	if err := d.Validate(target.Realm.Set[realm.ClientKey]); err != nil || target.Realm.Validate() != nil {
		t.Errorf("client key: %v", err)
	}
	if got := target.Realm.Set.Login("x").ClientKey.Reveal(); got != "key with spaces inside" {
		t.Errorf("client key %q", got)
	}
	o.Secrets = false
	if p := mustLoad(t, text, o).Targets[0]; !p.Proxmox.Token.IsZero() || p.Proxmox.TokenFile == "" {
		t.Errorf("read without being asked for: %+v", p)
	}
}

// A source that targets share is read once.
func TestEachSourceOnce(t *testing.T) {
	count := filepath.Join(t.TempDir(), "count")
	text := "realm: {issuer_url: https://auth.example.com, client_id: proxmox, client_key_command: [sh, -c, 'echo x >> " + count + "; echo a-key']}\n" +
		"targets:\n"
	for _, name := range []string{"a", "b", "c"} {
		text += "  - {name: " + name + ", proxmox: {endpoints: [" + name + "], token: realm@pve!agent=x}}\n"
	}
	c := mustLoad(t, text, Options{Secrets: true, Env: []string{"PATH=" + os.Getenv("PATH")}})
	for _, target := range c.Targets {
		if target.Realm.Set[realm.ClientKey].String() == "" {
			t.Errorf("%s has no key", target.Name)
		}
	}
	if runs, err := os.ReadFile(count); err != nil || string(runs) != "x\n" {
		t.Errorf("ran %q times, %v", runs, err)
	}
	c = mustLoad(t, text, Options{Secrets: true, Targets: []string{"a"}, Env: []string{"PATH=" + os.Getenv("PATH")}}, "realm.client_key_file="+write(t, filepath.Join(t.TempDir(), "key"), "k"))
	if runs, err := os.ReadFile(count); err != nil || string(runs) != "x\n" || len(c.Targets) != 1 {
		t.Errorf("a command that a flag replaces ran: %q, %v", runs, err)
	}
}

func TestSourceMistakes(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string { return "token_file: " + write(t, filepath.Join(dir, name), text) }
	sh := func(script string) string { return `token_command: [sh, -c, "` + script + `"]` }
	for _, tt := range []struct{ name, source, want string }{
		{"absent", "token_file: " + dir + "/hunter2", "proxmox.token_file: no such file"},
		{"folder", "token_file: " + dir, "proxmox.token_file: is a folder, not a file"},
		{"empty", file("a", ""), "proxmox.token_file: what the file holds is empty"},
		{"one empty line", file("b", "\n"), "proxmox.token_file: what the file holds is empty"},
		{"two lines", file("c", "realm@pve!agent=hunter2\nhunter2\n"), "proxmox.token_file: what the file holds must be one line: it has more"},
		{"two line feeds", file("d", "realm@pve!agent=hunter2\n\n"), "proxmox.token_file: what the file holds must be one line: it has more"},
		{"byte order mark", file("bom", "\ufeffrealm@pve!agent=hunter2\r\n"), "proxmox.token_file: what the file holds begins with a byte order mark: save it as UTF-8 without one"},
		{"secret alone", file("e", "hunter2\n"), "proxmox.token_file: what the file holds must be a token of the form user@realm!id=secret: this may be the secret alone"},
		{"too large", file("f", strings.Repeat("hunter2", maxFile/7+1)), "proxmox.token_file: the file is too large"},
		{"no command", `token_command: [no-such-program, hunter2]`, "proxmox.token_command: the command no-such-program was not found"},
		{"not executable", `token_command: [./a, hunter2]`, "proxmox.token_command: the command a was not found"},
		{"exit code", sh("echo hunter2; echo hunter2 >&2; exit 7"), "proxmox.token_command: the command sh ended with status 7: run it by hand to see why"},
		{"signal", sh("kill -9 $$"), "proxmox.token_command: the command sh was killed by a signal"},
		{"no output", sh("true"), "proxmox.token_command: what the command prints is empty"},
		{"endless output", sh("yes hunter2 | head -c 1000000"), "proxmox.token_command: the command sh prints too much for a secret"},
		{"relative to the file", "token_file: hunter2", "proxmox.token_file: no such file"},
		{"authorities", "token: realm@pve!agent=x, ca_file: " + write(t, filepath.Join(dir, "g"), "hunter2"), "proxmox.ca_file: the file holds no certificate in PEM form"},
	} {
		_, err := load(t, "proxmox: {endpoints: [pve1], "+tt.source+"}\n"+issuer, Options{Secrets: true, Env: []string{"PATH=" + os.Getenv("PATH")}})
		if got, want := problemsOf(t, err), "config.yaml:1: "+tt.want; got != want {
			t.Errorf("%s: %q, want %q", tt.name, got, want)
		}
	}
}

func TestCommandIsBoundedInTime(t *testing.T) {
	s := sources{env: os.Environ(), timeout: 50 * time.Millisecond}
	// The child of the child keeps the output open; it must not hold us.
	if _, problem := s.run(t.Context(), []string{"sh", "-c", "sleep 60 & sleep 60"}); problem != "the command sh did not end within 50ms" {
		t.Errorf("%q", problem)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	cancel(stop)
	o := Options{Secrets: true, Env: os.Environ(), File: write(t, filepath.Join(t.TempDir(), "config.yaml"), "proxmox: {endpoints: [pve1], token_command: [sleep, '60']}\n"+issuer)}
	if _, err := Load(ctx, o); !errors.Is(err, stop) {
		t.Errorf("an interrupted Load: %v", err)
	}
}

// Nothing is run for a configuration with a mistake in it.
func TestNoCommandForAMistake(t *testing.T) {
	trace := filepath.Join(t.TempDir(), "trace")
	_, err := load(t, "proxmox: {endpoints: [pve1], token_command: [touch, "+trace+"]}\nrelam: {}\n"+issuer, Options{Secrets: true, Env: os.Environ()})
	if _, statErr := os.Stat(trace); err == nil || statErr == nil {
		t.Errorf("Load: %v, trace: %v", err, statErr)
	}
}

func TestWhoMayWriteTheFile(t *testing.T) {
	dir := t.TempDir()
	path := write(t, filepath.Join(dir, "config.yaml"), cluster+issuer)
	link := filepath.Join(dir, "link.yaml")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		mode os.FileMode
		want string
	}{
		{0o600, ""},
		{0o644, ""},
		{0o400, ""},
		{0o660, "can be written by others, and it can name commands"},
		{0o602, "can be written by others, and it can name commands"},
	} {
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{path, link} {
			c, err := Load(context.Background(), Options{File: name})
			got := problemsOf(t, err)
			if want := filepath.Base(name) + ": " + tt.want; got != want && (got != "" || tt.want != "") {
				t.Errorf("%o %s: %q, want %q", tt.mode, name, got, tt.want)
			}
			if tt.mode == 0o644 && (c == nil || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "everyone can read it")) {
				t.Errorf("a token that everyone can read: %+v", c)
			}
		}
	}
	if os.Geteuid() == 0 {
		if err := errors.Join(os.Chmod(path, 0o600), os.Chown(path, 65534, 65534)); err != nil {
			t.Fatal(err)
		}
		_, err := Load(context.Background(), Options{File: path})
		if got := problemsOf(t, err); !strings.Contains(got, "belongs to somebody else") {
			t.Errorf("somebody else's file: %q", got)
		}
	}
	_, err := Load(context.Background(), Options{File: dir})
	if got := problemsOf(t, err); !strings.HasSuffix(got, ": is a folder, not a file") {
		t.Errorf("a folder: %q", got)
	}
}

func TestWarnings(t *testing.T) {
	token := write(t, filepath.Join(t.TempDir(), "token"), "realm@pve!agent=x")
	if err := os.Chmod(token, 0o644); err != nil {
		t.Fatal(err)
	}
	c := mustLoad(t, "proxmox:\n  endpoints: [pve1]\n  token_file: "+token+"\n  insecure: true\n"+issuer+"targets: [{name: a}, {name: b, realm: {name: other}}]\n", Options{Secrets: true})
	if len(c.Warnings) != 2 || !strings.Contains(c.Warnings[0], "config.yaml:4: proxmox.insecure: nothing checks") || !strings.Contains(c.Warnings[1], "config.yaml:3: proxmox.token_file: everyone can read the file") {
		t.Errorf("%q", c.Warnings)
	}
}

func TestMakePrivate(t *testing.T) {
	dir := t.TempDir()
	made := filepath.Join(dir, "a", "b")
	for range 2 { // made, then found
		if err := MakePrivate(made); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(made); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(made, link); err != nil {
		t.Fatal(err)
	}
	if MakePrivate(link) == nil {
		t.Error("a symbolic link is taken for a folder")
	}
	if err := os.Chmod(made, 0o777); err != nil {
		t.Fatal(err)
	}
	if MakePrivate(made) == nil {
		t.Error("a folder that others can write is taken for private")
	}
}

func TestFolders(t *testing.T) {
	env := map[string]string{"STATE_DIRECTORY": "/var/lib/one:/var/lib/two", "RUNTIME_DIRECTORY": "/run/one"}
	if got := stateDir(env); got != "/var/lib/one" {
		t.Errorf("systemd's state folder: %s", got)
	}
	if got := runtimeDir(env); got != "/run/one" {
		t.Errorf("systemd's runtime folder: %s", got)
	}
	env = map[string]string{"XDG_STATE_HOME": "/home/x/state", "XDG_RUNTIME_DIR": "/run/user/1", "HOME": "/home/x"}
	state, runtime := "/home/x/state/proxmox-realm", "/run/user/1/proxmox-realm"
	if os.Geteuid() == 0 {
		state, runtime = "/var/lib/proxmox-realm", "/run/proxmox-realm"
	}
	if got := stateDir(env); got != state {
		t.Errorf("state folder %s, want %s", got, state)
	}
	if got := runtimeDir(env); got != runtime {
		t.Errorf("runtime folder %s, want %s", got, runtime)
	}
}
