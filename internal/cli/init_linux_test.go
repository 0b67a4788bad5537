package cli

import (
	"bytes"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"proxmox-realm/internal/lab"
	"proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/lab/standin"
)

// turn is what a person reads, and answers.
type turn struct {
	reads  string // a pattern
	answer string
	does   func() // before the answer
	quiet  bool   // nothing is answered
}

// converse runs the program on a terminal until it has shown the last pattern. It returns the exit code and everything that the
// terminal showed.
func converse(t *testing.T, args []string, turns []turn, last string) (code int, shown string) {
	t.Helper()
	person, program := pseudoTerminal(t)
	pieces := make(chan string)
	go func() { // until the terminal is closed
		chunk := make([]byte, 4096)
		for {
			n, err := person.Read(chunk)
			if err != nil {
				return
			}
			pieces <- string(chunk[:n])
		}
	}()
	ended := make(chan int, 1)
	go func() { ended <- Main(args, program, program, program) }()
	from := 0
	await := func(pattern string) {
		for {
			if at := regexp.MustCompile(pattern).FindStringIndex(shown[from:]); at != nil {
				from += at[1]
				return
			}
			select {
			case piece := <-pieces:
				shown += piece
			case <-time.After(time.Minute):
				t.Fatalf("%q was not shown:\n%s", pattern, shown)
			}
		}
	}
	for _, turn := range turns {
		await(turn.reads)
		if turn.does != nil {
			turn.does()
		}
		if turn.quiet {
			continue
		}
		if strings.HasPrefix(turn.reads, "Password") {
			time.Sleep(200 * time.Millisecond) // nobody types before the terminal has stopped to echo
		}
		if _, err := person.WriteString(turn.answer + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	await(last)
	return <-ended, strings.ReplaceAll(shown, "\r\n", "\n")
}

// A newcomer answers the questions: a certificate, a password, a one-time code, and values that are mostly the defaults.
func TestInitOnATerminal(t *testing.T) {
	l, err := lab.Start(lab.Options{Seed: "bare", TOTP: true, PVE: pve.Options{Nodes: make([]pve.Node, 2)}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	t.Setenv("STATE_DIRECTORY", t.TempDir())
	t.Setenv("NO_COLOR", "1")
	dir := filepath.Join(t.TempDir(), "etc")
	admin := l.PVE.User(pve.UserRoot)
	restart := func() { // as soon as the client is in the file
		before, err := os.ReadFile(l.AutheliaConfig)
		if err != nil {
			t.Error(err)
		}
		go func() {
			for now := before; bytes.Equal(now, before); {
				now, _ = os.ReadFile(l.AutheliaConfig)
			}
			if err := l.RestartIssuer(); err != nil {
				t.Error(err)
			}
		}()
	}
	code, shown := converse(t, []string{"init", "--dir", dir}, []turn{
		{reads: `Nothing is changed without a yes.\s+Proxmox VE, address of a node: `, answer: "http://wrong"},
		{reads: `must begin with https(?s:.*)address of a node: `, answer: strings.TrimPrefix(l.PVE.URL(), "https://")},
		{reads: `SHA-256 fingerprint is [0-9A-F:]{95}: compare with .pvenode cert info.\s+\n\r?\nDoes the node print the same fingerprint\? \[y/N\] `, answer: "perhaps"},
		{reads: `Does the node print the same fingerprint\? \[y/N\] `, answer: "y"},
		{reads: `Security keys do not work here(?s:.*)Administrator \[root@pam\]: `},
		{reads: `Password of root@pam \(used once, not stored\): `, answer: admin.Password},
		{reads: `One-time code: `, answer: standin.TOTP(admin.TOTPSecret, time.Now())}, // still accepted one step later
		{reads: `2 nodes: pve, pve2\s+Realms: pam, pve. No OpenID Connect realm yet.\s+Issuer, its URL: `},
		{reads: `An answer is needed here. Ctrl-C ends the setup.\s+Issuer, its URL: `, answer: "https://127.0.0.1:1"},
		{reads: `nothing was made: issuer.reach(?s:.*)Issuer, its URL: `, answer: l.IssuerURL + "/"},
		{reads: `The nodes must trust its authority too(?s:.*)File with the authority's certificate: `, answer: l.IssuerCAFile},
		{reads: `own name is https://[0-9.:]+: that is used(?s:.*)NAME@authelia, for good \[authelia\]: `},
		{reads: `What names users; fixed once the realm exists \[preferred_username\]: `, answer: "root"},
		{reads: `does not advertise the claim root. If (?s:.*)\[preferred_username\]: `},
		{reads: `empty to end(?s:.*)Group: `, answer: "admins"},
		{reads: `must be GROUP=PATH:ROLE(?s:.*)Group: `, answer: "admins=/:PVEAdmin"},
		{reads: `Group: `},
		{reads: `Addresses that browsers open \[https://127.0.0.1:[0-9]+ https://127.0.0.2:[0-9]+\]: `},
		{reads: `two factors\? \[Y/n\] `, answer: "n"},
		{reads: `\+ token proxmox-realm@pve!agent(?s:.*)Go on\? \[Y/n\] `},
		{reads: `tried: the token may do what it must(?s:.*)on this machine \[\]: `, answer: l.AutheliaConfig},
		{reads: `authorization_policy: 'one_factor'(?s:.*)Write this to .*\? \[y/N\] `, does: restart, answer: "y"},
		{reads: `apply would create it(?s:.*)Apply it\? \[Y/n\] `},
		{reads: `is created(?s:.*)Try a login now, in a browser\? \[Y/n\] `, answer: "n"},
	}, `    rmdir .*\s`)
	if code != 0 || !strings.Contains(shown, "\nDone.\n") || !strings.Contains(shown, "    pveum user delete proxmox-realm@pve\n") {
		t.Errorf("exit code %d:\n%s", code, shown)
	}
	if strings.Contains(shown, admin.Password) {
		t.Error("the password was shown")
	}
	if _, exists := l.PVE.Realm(lab.RealmName); !exists {
		t.Errorf("there is no realm:\n%s", shown)
	}
}

// A realm that exists is taken over after a yes. Ctrl-C at the last question leaves nothing behind; afterwards there is nothing to ask.
func TestInitAdoptsOnATerminal(t *testing.T) {
	interrupts := make(chan os.Signal, 10)
	signal.Notify(interrupts, os.Interrupt) // one that comes too late does not end the test
	defer signal.Stop(interrupts)
	l, err := lab.Start(lab.Options{Seed: "claim"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	t.Setenv("STATE_DIRECTORY", t.TempDir())
	t.Setenv("NO_COLOR", "1")
	dir := filepath.Join(t.TempDir(), "etc")
	args := []string{
		"init", "--dir", dir, "--endpoint", l.PVE.URL(), "--ca-file", l.CAFile, "--token-file", filepath.Join(l.Dir, "token"), "--issuer-ca-file", l.IssuerCAFile,
	}
	turns := func(goOn turn) []turn {
		return []turn{
			{reads: `Take the realm "authelia" as it is\? \[Y/n\] `},
			{reads: `named by the claim sub(?s:.*)browsers open \[` + l.PVE.URL() + `\]: `},
			goOn,
		}
	}
	if code, shown := converse(t, args, turns(turn{reads: `Go on\? \[Y/n\] `, does: func() {
		if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
			t.Error(err)
		}
	}, quiet: true}), `interrupted by SIGINT\s`); code != exitInterrupted {
		t.Errorf("exit code %d:\n%s", code, shown)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the interrupted setup left a folder")
	}
	// The port of the rehearsal is taken, by this test or by another program: what was made is said all the same.
	if taken, err := net.Listen("tcp", "127.0.0.1:8000"); err == nil {
		defer func() { _ = taken.Close() }()
	}
	yes := append(turns(turn{reads: `Go on\? \[Y/n\] `, answer: "y"}), turn{reads: `is as declared(?s:.*)in a browser\? \[Y/n\] `, answer: "y"})
	code, shown := converse(t, args, yes, `To undo all of it:(?s:.*)rmdir .*\s`)
	if code != exitUsage || !strings.Contains(shown, "Made, but no login was completed. To try it again:\n") {
		t.Errorf("exit code %d:\n%s", code, shown)
	}
	if code, shown := converse(t, args[:3], nil, `Nothing to do. (?s:.*)proxmox-realm apply -c .*\s`); code != 0 || strings.Contains(shown, "? ") {
		t.Errorf("exit code %d:\n%s", code, shown)
	}
}
