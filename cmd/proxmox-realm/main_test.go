package main

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"proxmox-realm/internal/lab"
	"proxmox-realm/internal/lab/issuer"
	"proxmox-realm/internal/lab/pve"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"proxmox-realm": main})
}

// TestScripts runs the program as its users do. Each script has a lab of its own in this process. Its name is the
// behaviour that it tests.
func TestScripts(t *testing.T) { testscript.Run(t, scripts(t, "testdata")) }

// scripts are the parameters for the scripts of a folder. Without nodes, Proxmox has one.
func scripts(t *testing.T, dir string, nodes ...pve.Node) testscript.Params {
	t.Helper()
	keys, err := issuer.DefaultKeys()
	if err != nil {
		t.Fatal(err)
	}
	return testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("RUNTIME_DIRECTORY", filepath.Join(env.WorkDir, "run")) // the default folder of lock files
			env.Setenv("STATE_DIRECTORY", filepath.Join(env.WorkDir, "state"))
			env.Setenv("LANG", "C.UTF-8")
			l, err := lab.Start(lab.Options{
				Dir:    filepath.Join(env.WorkDir, "lab"),
				PVE:    pve.Options{LockTimeout: 50 * time.Millisecond, Nodes: nodes},
				Issuer: issuer.Options{Keys: keys},
			})
			if err != nil {
				return err
			}
			env.Defer(func() { _ = l.Close() })
			for _, variable := range l.Environ() {
				name, value, _ := strings.Cut(variable, "=")
				env.Setenv(name, value)
			}
			env.Values[labKey{}] = &world{Lab: l}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "seed": seed, "realm": realm, "pve": atProxmox, "issuer": atIssuer, "secretfile": secretFile, "forget": forget,
			"client": atAuthelia, "unprinted": unprinted, "waits": waits, "browse": browse, "ends": ends, "holds": holds,
			"tune": tune, "node": node, "access": access, "heeded": heeded, "found": found, "expand": expand,
			"provider": provider, "proxied": proxied, "streets": town, "documented": documented,
			"logsin": logsIn, "logged": logged, "granted": granted, "neighbours": neighbours, "showed": showed,
			"bare": bare, "made": made,
		},
	}
}

type labKey struct{}

// world is one script's lab, with functions that end its faults, and the program that waits.
type world struct {
	*lab.Lab
	faults  []func()
	waiting *waiter
	nodes   []*pve.Server // started by the script
	town    *streets      // nil until the script uses host names
	// neighbours are the entries of others that no run may change.
	neighbours []pve.ACL
}

func theLab(ts *testscript.TestScript) *world { return ts.Value(labKey{}).(*world) }

// exits CODE COMMAND … expects an exit code, and none of the lab's secrets in the output.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND …")
	}
	got := 0
	var failed *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &failed) {
		got = failed.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, expected %s", got, args[0])
	}
	printed := ts.ReadFile("stdout") + ts.ReadFile("stderr")
	l := theLab(ts)
	held := []string{l.ClientKey, l.Password}
	for _, token := range []string{pve.TokenRoot, pve.TokenRealmAllocate, pve.TokenSysAudit, pve.TokenNoPrivilege, pve.TokenPrivsepWithoutACL} {
		_, secret, _ := strings.Cut(l.PVE.Token(token), "=")
		held = append(held, secret)
	}
	if r, ok := l.PVE.Realm(lab.RealmName); ok {
		held = append(held, r.Properties["client-key"])
	}
	for _, secret := range held {
		if secret != "" && strings.Contains(printed, secret) {
			ts.Fatalf("a secret of %d characters was printed", len(secret))
		}
	}
}

// seed NAME sets the realms to one of the lab's seeds.
func seed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: seed NAME")
	}
	ts.Check(theLab(ts).Seed(args[0]))
}

// realm NAME [PROPERTY=VALUE …] expects a realm with these values; an empty value means absent.
// ! realm NAME expects no realm. realm NAME set PROPERTY=VALUE … changes it, as somebody else would.
func realm(ts *testscript.TestScript, neg bool, args []string) {
	l := theLab(ts)
	r, exists := l.PVE.Realm(args[0])
	if exists == neg {
		ts.Fatalf("realm %s exists: %v", args[0], exists)
	}
	args = args[1:]
	set := len(args) > 0 && args[0] == "set"
	if set {
		args = args[1:]
	}
	for _, pair := range args {
		property, value, _ := strings.Cut(pair, "=")
		switch {
		case set:
			ts.Check(l.PVE.SetProperty(r.Name, property, value))
		case r.Properties[property] != value:
			ts.Fatalf("%s is %q, expected %q", property, r.Properties[property], value)
		}
	}
}

// atProxmox changes or inspects Proxmox (pve 1 …: the first node that the script started):
//
//	pve answer METHOD PATH STATUS REASON   always answers like this
//	pve drop METHOD PATH                   closes the connection before processing the request
//	pve lose METHOD PATH                   processes the next such request, then closes the connection without an answer
//	pve lock | pve unlock | pve noquorum   takes the lock of the realms, releases it, removes the quorum
//	pve requests N                         expects N requests since the last reset
//	pve handshakes N
//	pve asked PATH N                       expects N requests for a path
//	pve wrote N                            expects N requests other than GET
//	pve reset | pve clear                  forgets requests, ends injected faults
func atProxmox(ts *testscript.TestScript, neg bool, args []string) {
	w := theLab(ts)
	p := w.PVE
	if i, err := strconv.Atoi(args[0]); err == nil && i >= 1 && i <= len(w.nodes) {
		p, args = w.nodes[i-1], args[1:]
	}
	number := func() int {
		n, err := strconv.Atoi(args[1])
		ts.Check(err)
		return n
	}
	undo := func(remove func()) {
		ts.Defer(remove)
		w.faults = append(w.faults, remove)
	}
	switch args[0] {
	case "answer":
		status, err := strconv.Atoi(args[3])
		ts.Check(err)
		undo(p.Inject(pve.Rule{Method: args[1], Path: args[2], Status: status, Reason: args[4], Body: `{"data":null}`, ContentType: "application/json;charset=UTF-8"}))
	case "drop":
		undo(p.Inject(pve.Rule{Method: args[1], Path: args[2], Drop: true}))
	case "lose":
		undo(p.Inject(pve.Rule{Method: args[1], Path: args[2], DropAnswer: true, Count: 1}))
	case "lock":
		undo(p.HoldLock())
	case "noquorum":
		p.SetQuorum(false)
	case "requests":
		if got := len(p.Requests()); got != number() {
			ts.Fatalf("%d requests, expected %s: %v", got, args[1], p.Requests())
		}
	case "asked":
		asked := 0
		for _, r := range p.Requests() {
			if strings.TrimPrefix(r.Path, "/api2/json") == args[1] {
				asked++
			}
		}
		if strconv.Itoa(asked) != args[2] {
			ts.Fatalf("%d requests for %s, expected %s: %v", asked, args[1], args[2], p.Requests())
		}
	case "wrote":
		var wrote []pve.Request
		for _, r := range p.Requests() {
			if r.Method != http.MethodGet {
				wrote = append(wrote, r)
			}
		}
		if len(wrote) != number() {
			ts.Fatalf("%d writes, expected %s: %v", len(wrote), args[1], wrote)
		}
	case "handshakes":
		if h := p.Handshakes(); h.Full+h.Resumed != number() {
			ts.Fatalf("%d handshakes, expected %s", h.Full+h.Resumed, args[1])
		}
	case "reset":
		p.Reset()
	case "clear":
		for _, remove := range w.faults {
			remove()
		}
		w.faults = nil
		p.SetQuorum(true)
	default:
		ts.Fatalf("pve %s: unknown", args[0])
	}
}

// atIssuer changes or inspects the issuer:
//
//	issuer key SECRET           changes the client's key
//	issuer status PATH STATUS   always answers with this status
//	issuer hang PATH            never answers at this path
//	issuer clear
//	issuer restart              reads LAB_AUTHELIA_CONFIG again
//	issuer requests N | issuer handshakes N | issuer reset
func atIssuer(ts *testscript.TestScript, neg bool, args []string) {
	l := theLab(ts)
	number := func(i int) int {
		n, err := strconv.Atoi(args[i])
		ts.Check(err)
		return n
	}
	switch args[0] {
	case "key":
		client, _ := l.Issuer.Client(l.ClientID)
		client.Secret = args[1]
		l.Issuer.SetClient(client)
	case "status":
		l.Issuer.Inject(args[1], issuer.Fault{Status: number(2)})
	case "hang":
		l.Issuer.Inject(args[1], issuer.Fault{Hang: true})
	case "clear":
		l.Issuer.Clear()
	case "restart":
		ts.Check(l.RestartIssuer())
	case "requests":
		if got := len(l.Issuer.Requests()); got != number(1) {
			ts.Fatalf("%d requests, expected %s: %v", got, args[1], l.Issuer.Requests())
		}
	case "asked":
		asked := 0
		for _, r := range l.Issuer.Requests() {
			if r.Path == args[1] && strings.HasPrefix(r.UserAgent, "proxmox-realm/") {
				asked++
			}
		}
		if asked != number(2) {
			ts.Fatalf("%s was asked %d times, expected %s", args[1], asked, args[2])
		}
	case "handshakes":
		if got := l.Issuer.Handshakes(); got != number(1) {
			ts.Fatalf("%d handshakes, expected %s", got, args[1])
		}
	case "reset":
		l.Issuer.Reset()
	default:
		ts.Fatalf("issuer %s: unknown", args[0])
	}
}

// secretfile FILE TEXT writes a file that only its owner can read.
func secretFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: secretfile FILE TEXT")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(args[1]+"\n"), 0o600))
}

// forget [FOLDER] removes what runs remember, as a fresh pod has nothing.
func forget(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 1 {
		ts.Fatalf("usage: forget [FOLDER]")
	}
	folder := "lab/agent"
	if len(args) == 1 {
		folder = args[0]
	}
	ts.Check(os.RemoveAll(ts.MkAbs(filepath.Join(folder, "history"))))
}
