package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"proxmox-realm/internal/lab"
	"proxmox-realm/internal/login"
)

// remoteTerminal is a terminal over ssh. The test opens the printed address in a browser elsewhere, and types the address of the
// page where that browser ends.
type remoteTerminal struct {
	mu    sync.Mutex
	said  bytes.Buffer
	shown func(address string)
}

func (r *remoteTerminal) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if line := strings.TrimSpace(string(p)); strings.HasPrefix(line, "https://") {
		go r.shown(line)
	}
	return r.said.Write(p)
}

func (r *remoteTerminal) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said.String()
}

// loginOverSSH runs the command and does in a browser what the command asks for.
func loginOverSSH(t *testing.T, l *lab.Lab, decision string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	in, typed := io.Pipe()
	shell := &remoteTerminal{shown: func(address string) {
		defer func() { _ = typed.Close() }()
		back, err := l.Authorize(t.Context(), address, l.Username, l.Password, decision)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = fmt.Fprintln(typed, back)
	}}
	var out bytes.Buffer
	args = append([]string{"login", "-c", l.ConfigFile, "--listen", "127.0.0.1:0"}, args...)
	t.Setenv("SSH_CONNECTION", "192.0.2.1 50000 192.0.2.2 22")
	t.Setenv("DISPLAY", ":10.0")
	code = Main(args, in, &out, shell)
	return code, out.String(), shell.String()
}

func TestLogin(t *testing.T) {
	l, err := lab.Start(lab.Options{Seed: "converged"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	client, _ := l.Issuer.Client(l.ClientID)
	client.RedirectURIs = []string{l.RedirectURL, login.RedirectURL}
	l.Issuer.SetClient(client)

	t.Run("text", func(t *testing.T) {
		code, stdout, stderr := loginOverSSH(t, l, "accept")
		if code != exitOK || !strings.Contains(stdout, "takes the user for john@authelia\n") || !strings.Contains(stdout, "  privileges: none") {
			t.Errorf("exit %d\n%s\n%s", code, stdout, stderr)
		}
		for _, want := range []string{
			"proxmox-realm: note: the issuer must know the redirect URL http://127.0.0.1:",
			"proxmox-realm: hint: run on a node (for this user):\n    pveum acl modify / --users john@authelia --roles PVEAuditor\n",
			"paste its address here",
		} {
			if !strings.Contains(stderr, want) {
				t.Errorf("%q is not in %s", want, stderr)
			}
		}
	})
	t.Run("json", func(t *testing.T) {
		code, stdout, stderr := loginOverSSH(t, l, "accept", "-o", "json", "--node", l.PVE.URL())
		var object struct {
			Version    int
			Command    string
			Outcome    string
			Error      any
			User       string
			Privileges map[string][]string
		}
		if err := json.Unmarshal([]byte(stdout), &object); err != nil {
			t.Fatalf("%v: %s\n%s", err, stdout, stderr)
		}
		if code != exitOK || object.Version != 1 || object.Command != "login" || object.Outcome != "unchanged" || object.Error != nil ||
			object.User != "john@authelia" || object.Privileges == nil {
			t.Errorf("exit %d\n%s", code, stdout)
		}
	})
	t.Run("denied", func(t *testing.T) {
		code, stdout, stderr := loginOverSSH(t, l, "deny", "-o", "json")
		if code != exitUnverified || !strings.Contains(stdout, `"code":"login-failed"`) || !strings.Contains(stderr, "proxmox-realm: error: the issuer sent the browser back with an error: access_denied") {
			t.Errorf("exit %d\n%s\n%s", code, stdout, stderr)
		}
	})
	t.Run("not registered", func(t *testing.T) {
		client.RedirectURIs = []string{l.RedirectURL}
		l.Issuer.SetClient(client)
		var stdout, stderr bytes.Buffer
		code := Main([]string{"login", "-c", l.ConfigFile, "--listen", "127.0.0.1:0"}, strings.NewReader(""), &stdout, &stderr)
		if code != exitUnverified || !strings.Contains(stderr.String(), "redirect_uris") || !strings.Contains(stderr.String(), "authelia --with-login") ||
			stdout.Len() > 0 {
			t.Errorf("exit %d\n%s\n%s", code, stdout.String(), stderr.String())
		}
		if strings.Contains(stderr.String(), "open this address") {
			t.Errorf("a user was troubled in vain: %s", stderr.String())
		}
		stderr.Reset()
		code = Main([]string{"login", "-c", l.ConfigFile, "--listen", "127.0.0.2:0"}, strings.NewReader(""), &stdout, &stderr)
		if said := stderr.String(); code != exitUnverified || !strings.Contains(said, "http://127.0.0.2:") || strings.Contains(said, "--with-login") {
			t.Errorf("--with-login registers another address: exit %d\n%s", code, said)
		}
	})
	for name, tt := range map[string]struct {
		args []string
		code int
	}{
		"junit":           {[]string{"-o", "junit"}, exitUsage},
		"jsonl":           {[]string{"-o", "jsonl"}, exitUsage},
		"another machine": {[]string{"--listen", "0.0.0.0:8000"}, exitUsage},
		"unknown node":    {[]string{"--node", "https://pve9.example.test:8006"}, exitUsage},
		"no time":         {[]string{"--timeout", "1ns"}, exitUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := Main(append([]string{"login", "-c", l.ConfigFile}, tt.args...), strings.NewReader(""), &stdout, &stderr); code != tt.code {
				t.Errorf("exit %d, want %d\n%s\n%s", code, tt.code, stdout.String(), stderr.String())
			}
		})
	}
}
