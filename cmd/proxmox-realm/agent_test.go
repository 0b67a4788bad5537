//go:build unix

package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"proxmox-realm/internal/lab"
	"proxmox-realm/internal/lab/pve"
)

// process is a running program with a lab of its own.
type process struct {
	*testing.T
	lab    *lab.Lab
	cmd    *exec.Cmd
	events chan string // datagrams from NOTIFY_SOCKET
	lines  chan string // of stderr
	stdout bytes.Buffer
	base   string // URL of the agent
}

func newLab(t *testing.T, seed string) *lab.Lab {
	t.Helper()
	l, err := lab.Start(lab.Options{Dir: t.TempDir(), Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// start runs the program. The agent gets a free port and a short interval.
func start(t *testing.T, l *lab.Lab, args ...string) *process {
	t.Helper()
	p := &process{T: t, lab: l, events: make(chan string, 100), lines: make(chan string, 1000)}
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}
			p.events <- string(buffer[:n])
		}
	}()
	p.cmd = exec.CommandContext(t.Context(), "proxmox-realm", args...)
	p.cmd.Env = append(os.Environ(), "PROXMOX_REALM_CONFIG="+l.ConfigFile, "NOTIFY_SOCKET="+socket, "WATCHDOG_USEC=200000", "GORACE=atexit_sleep_ms=0")
	p.cmd.Stdout = &p.stdout
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for scanner := bufio.NewScanner(stderr); scanner.Scan(); {
			p.lines <- scanner.Text()
		}
		close(p.lines)
	}()
	return p
}

// patience is the time limit of every wait in these tests.
const patience = 30 * time.Second

func await(t *testing.T, from <-chan string, part string) string {
	t.Helper()
	deadline := time.After(patience)
	var seen []string
	for {
		select {
		case text, open := <-from:
			if strings.Contains(text, part) && open {
				return text
			}
			if !open {
				t.Fatalf("it ended without %q: %q", part, seen)
			}
			seen = append(seen, text)
		case <-deadline:
			t.Fatalf("no %q: %q", part, seen)
		}
	}
}

func (p *process) signal(s syscall.Signal) {
	p.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.Fatal(err)
	}
}

// ends expects an exit code and returns the rest of stderr.
func (p *process) ends(code int) string {
	p.Helper()
	var rest []string
	for line := range p.lines {
		rest = append(rest, line)
	}
	_ = p.cmd.Wait()
	text := strings.Join(rest, "\n")
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.Fatalf("exit code %d, want %d:\n%s", got, code, text)
	}
	return text
}

func (p *process) get(path string) (int, string) {
	p.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get(p.base + path)
	if err != nil {
		p.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		p.Fatal(err)
	}
	return r.StatusCode, string(text)
}

// agentSettings appends keys to the lab's configuration.
func agentSettings(t *testing.T, l *lab.Lab, text string) {
	t.Helper()
	file, err := os.OpenFile(l.ConfigFile, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

func startAgent(t *testing.T, l *lab.Lab) *process {
	t.Helper()
	p := start(t, l, "agent", "--log-format", "json")
	await(t, p.events, "READY=1")
	line := await(t, p.lines, "serving status")
	_, after, _ := strings.Cut(line, `"listen":"`)
	address, _, _ := strings.Cut(after, `"`)
	p.base = "http://" + address
	return p
}

func TestAgentKeepsTheRealm(t *testing.T) {
	l := newLab(t, "empty")
	dir := t.TempDir()
	tell := filepath.Join(dir, "tell")
	if err := os.WriteFile(tell, []byte("#!/bin/sh\ncat >>"+dir+"/told\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	agentSettings(t, l, "agent: {interval: 1h, listen: \"127.0.0.1:0\"}\nnotify: {command: ["+tell+"]}\n")
	p := startAgent(t, l)
	await(t, p.events, "next run at")
	if _, ok := l.PVE.Realm(lab.RealmName); !ok {
		t.Fatal("the first run did not create the realm")
	}
	await(t, p.events, "WATCHDOG=1")
	if told, err := os.ReadFile(filepath.Join(dir, "told")); err != nil || !strings.Contains(string(told), `"outcome":"changed"`) {
		t.Errorf("notify.command heard %s, %v", told, err)
	}

	// Somebody changes the realm. SIGHUP repairs it at once; many SIGHUPs do no harm.
	if err := l.PVE.SetProperty(lab.RealmName, "comment", "by hand"); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		p.signal(syscall.SIGHUP)
	}
	if event := await(t, p.events, "RELOADING=1"); !strings.Contains(event, "MONOTONIC_USEC=") && runtime.GOOS == "linux" {
		t.Errorf("told %q", event)
	}
	await(t, p.events, "READY=1")
	await(t, p.events, "next run at")
	if r, _ := l.PVE.Realm(lab.RealmName); r.Properties["comment"] == "by hand" {
		t.Error("the drift is still there")
	}

	for path, want := range map[string]string{
		"/": "All is as declared", "/metrics": "proxmox_realm_agent_runs_total{outcome=\"changed\"} ", "/healthz": "ok", "/readyz": "ok",
	} {
		code, text := p.get(path)
		if code != http.StatusOK || !strings.Contains(text, want) {
			t.Errorf("%s: %d:\n%s", path, code, text)
		}
		_, token, _ := strings.Cut(l.PVE.Token(pve.TokenRealmAllocate), "=")
		if strings.Contains(text, l.ClientKey) || strings.Contains(text, token) {
			t.Errorf("%s shows a secret", path)
		}
	}

	// If the new configuration is broken, the old one stays in force.
	agentSettings(t, l, "nonsense: true\n")
	p.signal(syscall.SIGHUP)
	await(t, p.lines, "not reloaded")
	await(t, p.events, "READY=1")
	if _, text := p.get("/"); !strings.Contains(text, "was not reloaded") {
		t.Error("the page does not tell of the configuration")
	}
	p.signal(syscall.SIGTERM)
	await(t, p.events, "STOPPING=1")
	p.ends(0)
	if p.stdout.Len() > 0 {
		t.Errorf("the agent printed %s", &p.stdout)
	}
}

// On SIGHUP the agent reads the folder of targets_from anew. While a file there is half written, no target is dropped.
func TestAgentReadsTheFolderOfTargets(t *testing.T) {
	l := newLab(t, "empty")
	target := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(l.Dir, "clusters", name+".yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(l.Dir, "clusters"), 0o700); err != nil {
		t.Fatal(err)
	}
	target("berlin", "realm: {name: berlin}")
	agentSettings(t, l, "targets_from: clusters\nagent: {interval: 1h, listen: \"127.0.0.1:0\"}\n")
	p := startAgent(t, l)
	await(t, p.events, "next run at")
	target("paris", "realm: {name: paris}")
	p.signal(syscall.SIGHUP)
	await(t, p.lines, "configuration reloaded")
	await(t, p.events, "2 targets, 2 of them as declared")
	if _, ok := l.PVE.Realm("paris"); !ok {
		t.Error("the realm of the new target is not there")
	}
	if err := l.PVE.SetProperty("berlin", "comment", "by hand"); err != nil {
		t.Fatal(err)
	}
	target("berlin", "realm: {name: ber")
	target("paris", "")
	p.signal(syscall.SIGHUP)
	if line := await(t, p.lines, "not reloaded"); !strings.Contains(line, "berlin.yaml") || !strings.Contains(line, "paris.yaml") {
		t.Errorf("logged %s", line)
	}
	await(t, p.events, "2 targets, 2 of them as declared")
	if r, _ := l.PVE.Realm("berlin"); r.Properties["comment"] == "by hand" {
		t.Error("berlin was dropped")
	}
	p.signal(syscall.SIGTERM)
	p.ends(0)
}

// SIGTERM lets the current write end. The agent exits with 0.
func TestAgentEndsTheWriteInHand(t *testing.T) {
	l := newLab(t, "empty")
	agentSettings(t, l, "agent: {interval: 1h, listen: \"127.0.0.1:0\"}\n")
	arrived, reached := when()
	signalled := make(chan struct{})
	remove := l.PVE.Inject(pve.Rule{Method: http.MethodPost, Path: "/access/domains", Before: func() { arrived(); <-signalled }})
	defer remove()
	p := startAgent(t, l)
	reach(t, reached)
	if code, text := p.get("/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("ready before the first run has ended: %s", text)
	}
	p.signal(syscall.SIGTERM)
	await(t, p.events, "STOPPING=1")
	close(signalled)
	p.ends(0)
	if _, ok := l.PVE.Realm(lab.RealmName); !ok {
		t.Error("the write in hand was cut short")
	}
}

// Two agents for one realm do not disturb each other: one creates it, both continue.
func TestTwoAgentsOnOneRealm(t *testing.T) {
	l := newLab(t, "empty")
	agentSettings(t, l, "agent: {interval: 1h, listen: \"127.0.0.1:0\"}\n")
	first, second := startAgent(t, l), startAgent(t, l)
	for _, p := range []*process{first, second} {
		if event := await(t, p.events, "next run at"); strings.Contains(event, "failed") {
			t.Errorf("told %q", event)
		}
		p.signal(syscall.SIGTERM)
		p.ends(0)
	}
	writes := 0
	for _, r := range l.PVE.Requests() {
		if r.Method == http.MethodPost && strings.HasSuffix(r.Path, "/access/domains") {
			writes++
		}
	}
	if writes != 1 {
		t.Errorf("the realm was created %d times", writes)
	}
}

// when returns a hook for a rule, and a channel that is closed after the hook has run.
func when() (hook func(), reached chan struct{}) {
	reached = make(chan struct{})
	var once sync.Once
	return func() { once.Do(func() { close(reached) }) }, reached
}

func reach(t *testing.T, reached <-chan struct{}) {
	t.Helper()
	select {
	case <-reached:
	case <-time.After(patience):
		t.Fatal("it did not come so far")
	}
}

func TestInterruptedWhileAnotherRunHoldsTheLock(t *testing.T) {
	l := newLab(t, "empty")
	arrived, reached := when()
	goOn := make(chan struct{})
	remove := l.PVE.Inject(pve.Rule{Method: http.MethodPost, Path: "/access/domains", Until: goOn, Count: 1})
	defer remove()
	counted := l.PVE.Inject(pve.Rule{Method: http.MethodGet, Path: "/access/domains", Before: arrived})
	defer counted()
	holder := start(t, l, "apply")
	reach(t, reached)
	if said := start(t, l, "apply").ends(75); !strings.Contains(said, "another run works on realm") {
		t.Errorf("said %s", said)
	}
	for signal, code := range map[syscall.Signal]int{syscall.SIGTERM: 143, syscall.SIGINT: 130} {
		waiting := start(t, l, "apply", "--wait-lock", "1h", "--log-level", "info")
		await(t, waiting.lines, "waiting for the lock")
		waiting.signal(signal)
		waiting.ends(code)
	}
	close(goOn)
	holder.ends(0)
}

// After the DELETE, an interruption waits until the realm exists again.
func TestInterruptedDuringAReplace(t *testing.T) {
	for signal, code := range map[syscall.Signal]int{syscall.SIGTERM: 143, syscall.SIGINT: 130} {
		l := newLab(t, "converged")
		config, err := os.ReadFile(l.ConfigFile)
		if err != nil {
			t.Fatal(err)
		}
		config = bytes.Replace(config, []byte("username_claim: preferred_username"), []byte("username_claim: email"), 1)
		if err := os.WriteFile(l.ConfigFile, config, 0o600); err != nil {
			t.Fatal(err)
		}
		arrived, reached := when()
		signalled := make(chan struct{})
		remove := l.PVE.Inject(pve.Rule{Method: http.MethodDelete, Path: "/access/domains/", Before: func() { arrived(); <-signalled }})
		p := start(t, l, "apply", "--replace")
		reach(t, reached)
		p.signal(signal)
		close(signalled)
		said := p.ends(code)
		remove()
		r, ok := l.PVE.Realm(lab.RealmName)
		if !ok || r.Properties["username-claim"] != "email" {
			t.Errorf("%s: the realm is %v, %v:\n%s", signal, ok, r.Properties, said)
		}
		left, err := filepath.Glob(filepath.Join(l.Dir, "agent", "saved-*"))
		if err != nil || len(left) > 0 {
			t.Errorf("%s: a saved realm is left: %v, %v", signal, left, err)
		}
	}
}

// An interruption ends --wait at once, and nothing is written.
func TestInterruptedWhileTheGateIsHeld(t *testing.T) {
	l := newLab(t, "converged")
	if err := os.WriteFile(filepath.Join(l.Dir, "client-key"), []byte("another-key-that-nobody-knows\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, l, "apply", "--wait", "1h", "--log-level", "info")
	await(t, p.lines, "waiting for the gate")
	p.signal(syscall.SIGTERM)
	p.ends(143)
	for _, r := range l.PVE.Requests() {
		if r.Method != http.MethodGet {
			t.Errorf("%s %s was sent", r.Method, r.Path)
		}
	}
}

// TestAgentCountsLogins: where the token may read the logs, each failed login is counted once, by its cause.
func TestAgentCountsLogins(t *testing.T) {
	l := newLab(t, "converged")
	if err := os.WriteFile(filepath.Join(l.Dir, "token"), []byte(l.PVE.Token(pve.TokenRoot)), 0o600); err != nil {
		t.Fatal(err)
	}
	agentSettings(t, l, "agent: {interval: 1h, listen: \"127.0.0.1:0\"}\n")
	p := startAgent(t, l)
	await(t, p.events, "next run at")
	fail := func(message string) {
		t.Helper()
		line := pve.Line{Time: time.Now(), Process: "pvedaemon", PID: 7, Message: "openid authentication failure; rhost=::ffff:192.0.2.17 msg=" + message}
		if err := l.PVE.Log("pve", line); err != nil {
			t.Fatal(err)
		}
	}
	again := func() string {
		t.Helper()
		p.signal(syscall.SIGHUP)
		await(t, p.events, "READY=1")
		await(t, p.events, "next run at")
		_, metrics := p.get("/metrics")
		return metrics
	}
	fail("user 'jane@authelia' is disabled")
	fail("user 'joe@authelia' is disabled")
	fail("user 'joe@other' is disabled")
	again()
	fail("missing configured claim 'department' in returned info object")
	metrics := again()
	for _, want := range []string{
		`proxmox_realm_login_failures_total{cause="user-disabled",realm="authelia",target="default"} 2`,
		`proxmox_realm_login_failures_total{cause="claim-missing",realm="authelia",target="default"} 1`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("%s is not in\n%s", want, metrics)
		}
	}
	for _, never := range []string{"jane", "192.0.2.17", "other"} {
		if strings.Contains(metrics, never) {
			t.Errorf("metrics hold %s", never)
		}
	}
	p.signal(syscall.SIGTERM)
	p.ends(0)
}
