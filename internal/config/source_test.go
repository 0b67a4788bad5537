//go:build unix

package config

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"proxmox-realm/internal/lab/authority"
	"proxmox-realm/internal/realm"
)

func TestSecretsFromFilesAndCommands(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "token"), "\ufeffrealm@pve!agent=of-a-file\n")
	write(t, filepath.Join(dir, "key"), "key with spaces inside\r\n")
	text := "proxmox: {endpoints: [pve1], token_file: $CREDENTIALS_DIRECTORY/token}\n" +
		"realm: {issuer_url: https://auth.example.com, client_id: proxmox, client_key_command: [sh, -c, 'echo noise >&2; cat ${DIR}/key']}\n"
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	t.Setenv("DIR", dir)
	o := Options{Secrets: true}
	target := mustLoad(t, text, o).Targets[0]
	if got := target.Proxmox.Token.Full().Reveal(); got != "realm@pve!agent=of-a-file" || target.Proxmox.TokenFile != filepath.Join(dir, "token") {
		t.Errorf("token %q of %q", got, target.Proxmox.TokenFile)
	}
	d, _ := realm.ClientKey.Definition()
	if err := realm.VE.Validate(d.Property, target.Realm.Set[realm.ClientKey]); err != nil || wrong(target.Realm) != nil {
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

// Whoever loads a configuration again sees whether its own files changed, and whether the files of secrets did.
func TestWhatChangedBetweenTwoLoads(t *testing.T) {
	dir := t.TempDir()
	change := func(name, content string) { write(t, filepath.Join(dir, name), content) }
	change("token", "realm@pve!agent=first\n")
	authorities := [2]string{}
	for i := range authorities {
		ca, err := authority.New()
		if err != nil {
			t.Fatal(err)
		}
		authorities[i] = string(ca.PEM())
	}
	change("ca.pem", authorities[0])
	change("config.yaml", "proxmox: {token_file: token, ca_file: ca.pem}\nrealm: {issuer_url: https://auth.example.com, client_id: proxmox}\ntargets_from: targets\n")
	if err := os.Mkdir(filepath.Join(dir, "targets"), 0o700); err != nil {
		t.Fatal(err)
	}
	change("targets/berlin.yaml", "proxmox: {endpoints: [pve1], token_file: ../token, ca_file: ../ca.pem}\n")
	load := func() *Config {
		c, err := Load(t.Context(), Options{File: filepath.Join(dir, "config.yaml"), Secrets: true})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	former := load()
	for _, tt := range []struct {
		name, content           string
		sameDigest, sameSecrets bool
	}{
		{"token", "realm@pve!agent=first\n", true, true},
		{"token", "realm@pve!agent=second\n", true, false},
		{"ca.pem", authorities[1], true, false},
		{"targets/berlin.yaml", "proxmox: {endpoints: [pve2], token_file: ../token, ca_file: ../ca.pem}\n", false, true},
	} {
		change(tt.name, tt.content)
		c := load()
		if (c.Digest == former.Digest) != tt.sameDigest || c.SameSecrets(former) != tt.sameSecrets {
			t.Errorf("%s: same digest %v, same secrets %v", tt.name, c.Digest == former.Digest, c.SameSecrets(former))
		}
		former = c
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
	c := mustLoad(t, text, Options{Secrets: true})
	for _, target := range c.Targets {
		if target.Realm.Set[realm.ClientKey].String() == "" {
			t.Errorf("%s has no key", target.Name)
		}
	}
	if runs, err := os.ReadFile(count); err != nil || string(runs) != "x\n" {
		t.Errorf("ran %q times, %v", runs, err)
	}
	c = mustLoad(t, text, Options{Secrets: true, Targets: []string{"a"}}, "realm.client_key_file="+write(t, filepath.Join(t.TempDir(), "key"), "k"))
	if runs, err := os.ReadFile(count); err != nil || string(runs) != "x\n" || len(c.Targets) != 1 {
		t.Errorf("a command that a flag replaces ran: %q, %v", runs, err)
	}
}

// Relative paths of a file, and of the program of a command, begin in the folder of the file that names them.
func TestRelativeSourcesBeginWhereTheyAreNamed(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "targets"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"above", "targets"} {
		in := dir
		if name == "targets" {
			in = filepath.Join(dir, name)
		}
		write(t, filepath.Join(in, "token"), "realm@pve!agent="+name)
		if err := os.Chmod(write(t, filepath.Join(in, "key"), "#!/bin/sh\necho key-"+name+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	const sources = "proxmox: {endpoints: [%s], token_file: token}\nrealm: {name: r-%[1]s, client_key_command: [./key]}\n"
	write(t, filepath.Join(dir, "targets", "a.yaml"), fmt.Sprintf(sources, "a"))
	write(t, filepath.Join(dir, "targets", "b.yaml"), "proxmox: {endpoints: [b], token_file: token}\n")
	text := strings.Replace(fmt.Sprintf(sources, "c"), "realm: {name: r-c,", "realm: {issuer_url: https://auth.example.com, client_id: proxmox,", 1)
	c, err := Load(t.Context(), Options{Secrets: true, File: write(t, filepath.Join(dir, "config.yaml"), text+"targets_from: targets\ntargets: [{name: c}]\nnotify: {command: [./tell, ./x]}\n")})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{filepath.Join(dir, "tell"), "./x"}; !slices.Equal(c.Notify.Command, want) {
		t.Errorf("notify.command %q, want %q", c.Notify.Command, want)
	}
	for i, want := range []string{"c above key-above", "a targets key-targets", "b targets key-above"} {
		target := c.Targets[i]
		if got := target.Name + " " + target.Proxmox.Token.Secret.Reveal() + " " + target.Realm.Set.Login("").ClientKey.Reveal(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// A client key that a higher layer sets is not removed.
func TestAClientKeyAboveUnset(t *testing.T) {
	key := write(t, filepath.Join(t.TempDir(), "key"), "k")
	text := "realm: {issuer_url: https://auth.example.com, client_id: proxmox, unset: [client_key, comment]}\n" +
		"targets: [{name: a, proxmox: {endpoints: [a], token: a@pve!bc=d}, realm: {client_key_file: " + key + "}}]\n"
	target := mustLoad(t, text, Options{Secrets: true}).Targets[0]
	if !slices.Equal(target.Realm.Unset, []realm.Property{"comment"}) || target.Realm.Set.Login("").ClientKey.Reveal() != "k" {
		t.Errorf("%+v", target.Realm)
	}
}

func TestSourceMistakes(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string { return "token_file: " + write(t, filepath.Join(dir, name), text) }
	sh := func(script string) string { return `token_command: [sh, -c, "` + script + `"]` }
	for _, tt := range []struct{ name, source, want string }{
		{"absent", "token_file: " + dir + "/absent", "proxmox.token_file: " + dir + "/absent: no such file"},
		{"folder", "token_file: " + dir, "proxmox.token_file: " + dir + ": is a directory, not a file"},
		{"empty", file("a", ""), "proxmox.token_file: the content of the file must not be empty"},
		{"one empty line", file("b", "\n"), "proxmox.token_file: the content of the file must not be empty"},
		{"two lines", file("c", "realm@pve!agent=hunter2\nhunter2\n"), "proxmox.token_file: the content of the file must not contain control characters, such as line feeds"},
		{"two line feeds", file("d", "realm@pve!agent=hunter2\n\n"), "proxmox.token_file: the content of the file must not contain control characters, such as line feeds"},
		{"secret alone", file("e", "hunter2\n"), "proxmox.token_file: the content of the file must be a token of the form user@realm!id=secret: this may be the secret alone"},
		{"too large", file("f", strings.Repeat("hunter2", maxFile/7+1)), "proxmox.token_file: " + dir + "/f: is larger than 64 KiB"},
		{"no command", `token_command: [no-such-program, hunter2]`, "proxmox.token_command: the command cannot be run: executable file not found in $PATH"},
		{"not executable", `token_command: [./a, hunter2]`, "proxmox.token_command: the command cannot be run: no such file or directory"},
		{"exit code", sh("echo hunter2; echo hunter2 >&2; exit 7"), "proxmox.token_command: the command failed (exit status 7): run it by hand to see why"},
		{"signal", sh("kill -9 $$"), "proxmox.token_command: the command failed (signal: killed): run it by hand to see why"},
		{"no output", sh("true"), "proxmox.token_command: the output of the command must not be empty"},
		{"endless output", sh("yes hunter2 | head -c 1000000"), "proxmox.token_command: the command prints too much for a secret"},
		{"a secret in place of a path", "token_file: hunter2", "proxmox.token_file: no such file in DIR"},
		{"a child that keeps the output open", sh("echo hunter2; sleep 20 &"), "proxmox.token_command: the command ended, but left a process behind that keeps its output open"},
		{"authorities", "token: realm@pve!agent=x, ca_file: " + write(t, filepath.Join(dir, "g"), "hunter2"), "proxmox.ca_file: the content of the file must hold a certificate in PEM form"},
	} {
		_, err := load(t, "proxmox: {endpoints: [pve1], "+tt.source+"}\n"+issuer, Options{Secrets: true})
		got := regexp.MustCompile(`in /.*`).ReplaceAllString(problemsOf(t, err), "in DIR")
		if want := "config.yaml:1: " + tt.want; got != want {
			t.Errorf("%s: %q, want %q", tt.name, got, want)
		}
	}
}

func TestCommandIsBoundedInTime(t *testing.T) {
	// The child of the child keeps the output open; it must not hold us, and it ends as well.
	held := filepath.Join(t.TempDir(), "held")
	if err := syscall.Mkfifo(held, 0o600); err != nil {
		t.Fatal(err)
	}
	pipe, err := os.OpenFile(held, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := output(t.Context(), []string{"sh", "-c", "exec 3>" + held + "; sleep 60 & sleep 60"}, 50*time.Millisecond); err == nil || err.Error() != "the command did not end within 50ms" {
		t.Errorf("%v", err)
	}
	if _, err := output(t.Context(), []string{"sh", "-c", "exec 3>" + held + "; sleep 60 &"}, time.Minute); err == nil || !strings.Contains(err.Error(), "left a process behind") {
		t.Errorf("%v", err)
	}
	read, err := os.Open(held)
	if err = errors.Join(err, pipe.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := read.Read(make([]byte, 1)); !errors.Is(err, io.EOF) { // returns once no process has the other end
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	cancel(stop)
	o := Options{Secrets: true, File: write(t, filepath.Join(t.TempDir(), "config.yaml"), "proxmox: {endpoints: [pve1], token_command: [sleep, '60']}\n"+issuer)}
	if _, err := Load(ctx, o); !errors.Is(err, stop) {
		t.Errorf("an interrupted Load: %v", err)
	}
}

// A command sees the environment, but none of this program's variables, which may hold secrets.
func TestCommandEnvironment(t *testing.T) {
	setenv(t, "PROXMOX_REALM_REALM_CLIENT_KEY=hunter2", "NOTIFY_SOCKET=/run/x", "PROXMOX_TOKEN=kept", "OTHER=realm@pve!agent=x")
	dir := t.TempDir()
	_, err := load(t, "proxmox: {endpoints: [pve1], token_command: [sh, -c, 'env >"+dir+"/env; echo $OTHER']}\n"+issuer, Options{Secrets: true})
	if err != nil {
		t.Fatal(err)
	}
	env, err := os.ReadFile(filepath.Join(dir, "env"))
	if err != nil || strings.Contains(string(env), "hunter2") || strings.Contains(string(env), "NOTIFY_SOCKET") || !strings.Contains(string(env), "PROXMOX_TOKEN=kept") {
		t.Errorf("%v\n%s", err, env)
	}
}

// Nothing is run for a configuration with a mistake in it.
func TestNoCommandForAMistake(t *testing.T) {
	trace := filepath.Join(t.TempDir(), "trace")
	_, err := load(t, "proxmox: {endpoints: [pve1], token_command: [touch, "+trace+"]}\nrelam: {}\n"+issuer, Options{Secrets: true})
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
		{0o660, "can be written by other users, and a configuration can run commands"},
		{0o602, "can be written by other users, and a configuration can run commands"},
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
		if got := problemsOf(t, err); !strings.Contains(got, "is owned by another user") {
			t.Errorf("somebody else's file: %q", got)
		}
	}
	_, err := Load(context.Background(), Options{File: dir})
	if got := problemsOf(t, err); !strings.HasSuffix(got, ": is a directory, not a file") {
		t.Errorf("a folder: %q", got)
	}
}

func TestWarnings(t *testing.T) {
	token := write(t, filepath.Join(t.TempDir(), "token"), "realm@pve!agent=x")
	if err := os.Chmod(token, 0o644); err != nil {
		t.Fatal(err)
	}
	c := mustLoad(t, "proxmox:\n  endpoints: [pve1]\n  token_file: "+token+"\n  insecure: true\n"+issuer+"targets: [{name: a}, {name: b, realm: {name: other}}]\n", Options{Secrets: true})
	if len(c.Warnings) != 2 || !strings.Contains(c.Warnings[0], "config.yaml:4: proxmox.insecure: nothing verifies") || !strings.Contains(c.Warnings[1], "config.yaml:3: proxmox.token_file: everyone can read the file") {
		t.Errorf("%q", c.Warnings)
	}
}

func TestFolders(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two")
	if state := StateDir(); state != "/var/lib/one" {
		t.Errorf("systemd's directory: %s", state)
	}
	for name, value := range map[string]string{"STATE_DIRECTORY": "", "XDG_STATE_HOME": "/home/x/state", "XDG_CONFIG_HOME": "relative", "HOME": "/home/x"} {
		t.Setenv(name, value)
	}
	state, dir := "/home/x/state/proxmox-realm", "/home/x/.config/proxmox-realm"
	if os.Geteuid() == 0 {
		state, dir = "/var/lib/proxmox-realm", "/etc/proxmox-realm"
	}
	if StateDir() != state || Dir() != dir {
		t.Errorf("state directory %s, configuration %s", StateDir(), Dir())
	}
}
