package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"proxmox-realm/internal/check"

	"github.com/rogpeppe/go-internal/testscript"
	"go.yaml.in/yaml/v3"

	"proxmox-realm/internal/authelia"
	"proxmox-realm/internal/lab/issuer"
)

// atAuthelia changes the client as the administrator of Authelia would:
//
//	client none                  there is no client yet
//	client paste TEXT KEYFILE    it is what the printed block says, or has the printed client_secret line in place of its
//	                             own; the digest must be of the key in the file
func atAuthelia(ts *testscript.TestScript, neg bool, args []string) {
	l := theLab(ts)
	switch {
	case !neg && len(args) == 1 && args[0] == "none":
		l.Issuer.RemoveClient(l.ClientID)
	case !neg && len(args) == 3 && args[0] == "paste":
		key := ts.ReadFile(args[2])
		if c, ok := l.Issuer.Client(l.ClientID); ok && secretLine(ts, ts.ReadFile(args[1]), key) {
			c.Secret = key
			l.Issuer.SetClient(c)
			return
		}
		l.Issuer.SetClient(pasted(ts, ts.ReadFile(args[1]), key))
	default:
		ts.Fatalf("usage: client none | client paste TEXT KEYFILE")
	}
}

// secretLine reports whether a text is only a client_secret line. Its digest must be the key's.
func secretLine(ts *testscript.TestScript, text, key string) bool {
	var line map[string]string
	if yaml.Unmarshal([]byte(text), &line) != nil || len(line) != 1 {
		return false
	}
	if ok, err := authelia.Verify(line["client_secret"], check.NewSecret(key)); err != nil || !ok {
		ts.Fatalf("the digest is not of the key: %v", err)
	}
	return true
}

// pasted reads a block as strictly as Authelia does: every key is known, and the client authenticates with the key that the
// digest is of.
func pasted(ts *testscript.TestScript, block, key string) issuer.Client {
	var clients []struct {
		ID              string   `yaml:"client_id"`
		Name            string   `yaml:"client_name"`
		Secret          string   `yaml:"client_secret"`
		Public          *bool    `yaml:"public"`
		Policy          string   `yaml:"authorization_policy"`
		RequirePKCE     bool     `yaml:"require_pkce"`
		ChallengeMethod string   `yaml:"pkce_challenge_method"`
		RedirectURIs    []string `yaml:"redirect_uris"`
		Scopes          []string `yaml:"scopes"`
		ResponseTypes   []string `yaml:"response_types"`
		GrantTypes      []string `yaml:"grant_types"`
		AccessToken     string   `yaml:"access_token_signed_response_alg"`
		Userinfo        string   `yaml:"userinfo_signed_response_alg"`
		AuthMethod      string   `yaml:"token_endpoint_auth_method"`
	}
	decoder := yaml.NewDecoder(strings.NewReader(block))
	decoder.KnownFields(true)
	ts.Check(decoder.Decode(&clients))
	if len(clients) != 1 {
		ts.Fatalf("%d clients", len(clients))
	}
	c := clients[0]
	if ok, err := authelia.Verify(c.Secret, check.NewSecret(key)); err != nil || !ok {
		ts.Fatalf("the digest is not of the key: %v", err)
	}
	if c.Public == nil || *c.Public || c.ChallengeMethod != "S256" || c.AccessToken != "none" || c.Userinfo != "none" {
		ts.Fatalf("no client that Proxmox can use: %+v", c)
	}
	return issuer.Client{
		ID: c.ID, Name: c.Name, Secret: key, AuthMethod: c.AuthMethod, RedirectURIs: c.RedirectURIs, Scopes: c.Scopes,
		ResponseTypes: c.ResponseTypes, GrantTypes: c.GrantTypes, RequirePKCE: c.RequirePKCE,
	}
}

// unprinted FILE … expects the content of these files in neither the last output nor the other files.
func unprinted(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: unprinted KEYFILE [FILE …]")
	}
	key := strings.TrimSpace(ts.ReadFile(args[0]))
	if key == "" {
		ts.Fatalf("%s is empty", args[0])
	}
	for _, file := range append([]string{"stdout", "stderr"}, args[1:]...) {
		if strings.Contains(ts.ReadFile(file), key) {
			ts.Fatalf("%s shows the key", file)
		}
	}
}

// waiter is a program that waits for something to happen.
type waiter struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner  // of its stderr
	said  strings.Builder // stderr so far
	shown bytes.Buffer    // stdout, complete after the end
}

// waits TEXT COMMAND … starts a program and returns when it has printed the text to stderr.
func waits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: waits TEXT COMMAND …")
	}
	w := &waiter{cmd: exec.Command(args[1], args[2:]...)}
	w.cmd.Dir, w.cmd.Stdout = ts.MkAbs("."), &w.shown
	w.cmd.Env = append(append(os.Environ(), theLab(ts).Environ()...), "HOME="+ts.Getenv("HOME"), "GORACE="+ts.Getenv("GORACE"))
	stderr, err := w.cmd.StderrPipe()
	ts.Check(err)
	w.lines = bufio.NewScanner(stderr)
	ts.Check(w.cmd.Start())
	ts.Defer(func() { _ = w.cmd.Process.Kill() }) // no effect after its end
	theLab(ts).waiting = w
	for w.line() {
		if strings.Contains(w.lines.Text(), args[0]) {
			return
		}
	}
	ts.Fatalf("it ended without %q: %s", args[0], w.said.String())
}

func (w *waiter) line() bool {
	if !w.lines.Scan() {
		return false
	}
	w.said.WriteString(w.lines.Text() + "\n")
	return true
}

// browse [USER] opens the address that the waiting program has printed. It logs in as the lab's user or another one of the
// issuer, consents, and goes back to the program.
func browse(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 1 {
		ts.Fatalf("usage: browse [USER]")
	}
	l := theLab(ts)
	user := strings.Join(append(args, l.Username)[:1], "")
	back, err := l.Authorize(context.Background(), strings.TrimSpace(l.waiting.lines.Text()), user, l.Password, "accept")
	ts.Check(err)
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, back.String(), nil)
	ts.Check(err)
	page, err := (&http.Client{Timeout: time.Minute}).Do(request)
	ts.Check(err)
	ts.Check(page.Body.Close())
	if at := page.Request.URL; at.Scheme != "http" || at.Path != "/callback" || page.StatusCode != http.StatusOK {
		ts.Fatalf("the browser ended at %s with %s", at.Redacted(), page.Status)
	}
}

// ends CODE [KEYFILE …] expects the exit code of the program of `waits`, and none of the keys in its output.
func ends(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: ends CODE [KEYFILE …]")
	}
	w := theLab(ts).waiting
	if w == nil {
		ts.Fatalf("nothing waits")
	}
	for w.line() {
	}
	var failed *exec.ExitError
	if err := w.cmd.Wait(); err != nil && !errors.As(err, &failed) {
		ts.Fatalf("%v", err)
	}
	printed := w.shown.String() + w.said.String()
	ts.Logf("%s", printed)
	if got := strconv.Itoa(w.cmd.ProcessState.ExitCode()); got != args[0] {
		ts.Fatalf("exit code %s, expected %s", got, args[0])
	}
	for _, file := range args[1:] {
		if strings.Contains(printed, strings.TrimSpace(ts.ReadFile(file))) {
			ts.Fatalf("the key of %s was printed", file)
		}
	}
}

// holds REALM KEYFILE expects this client key in Proxmox.
func holds(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: holds REALM KEYFILE")
	}
	r, _ := theLab(ts).PVE.Realm(args[0])
	if (r.Properties["client-key"] == strings.TrimSpace(ts.ReadFile(args[1]))) == neg {
		ts.Fatalf("the key of realm %s is that of %s: %v", args[0], args[1], neg)
	}
}
