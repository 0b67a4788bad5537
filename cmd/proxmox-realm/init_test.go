package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"proxmox-realm/internal/cli"
	"proxmox-realm/internal/lab"
	"proxmox-realm/internal/lab/fault"
	"proxmox-realm/internal/lab/issuer"
	"proxmox-realm/internal/lab/pve"
)

// bare makes the lab as nobody has prepared it, writes the administrator's password to the file password, and sets FINGERPRINT.
func bare(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: bare")
	}
	l := theLab(ts)
	ts.Check(l.Seed("bare"))
	for _, variable := range l.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		ts.Setenv(name, value)
	}
	connection, err := tls.Dial("tcp", strings.TrimPrefix(l.PVE.URL(), "https://"), &tls.Config{RootCAs: l.Authority.Pool()})
	ts.Check(err)
	ts.Setenv("FINGERPRINT", fmt.Sprintf("%x", sha256.Sum256(connection.ConnectionState().PeerCertificates[0].Raw)))
	ts.Check(connection.Close())
	ts.Check(os.WriteFile(ts.MkAbs("password"), []byte(ts.Getenv("LAB_ADMIN_PASSWORD")+"\n"), 0o600))
}

// made [KIND …] expects what init makes in the bare lab, and nothing else: RoleID, user@realm, user@realm!token and PATH:RoleID of
// grants. ! made expects nothing.
func made(ts *testscript.TestScript, neg bool, args []string) {
	if got := madeIn(theLab(ts).PVE); neg != (len(args) == 0) || !slices.Equal(got, args) {
		ts.Fatalf("made was %q", got)
	}
}

// madeIn lists what nobody but init makes, sorted. A grant counts once for user and token.
func madeIn(p *pve.Server) (list []string) {
	state := p.State()
	for name := range state.Roles {
		if strings.HasPrefix(name, "Realm") || strings.HasPrefix(name, "Permissions") {
			list = append(list, name)
		}
	}
	for id, user := range state.Users {
		if strings.HasPrefix(id, "proxmox-realm@") {
			list = append(list, id)
			for token := range user.Tokens {
				list = append(list, id+"!"+token)
			}
		}
	}
	for _, e := range state.ACL {
		if grant := e.Path + ":" + e.Role; strings.HasPrefix(e.ID, "proxmox-realm@") && !slices.Contains(list, grant) {
			list = append(list, grant)
		}
	}
	slices.Sort(list)
	return list
}

// unprepared is a lab whose issuer knows the client, and whose Proxmox has neither user nor realm for the program.
type unprepared struct {
	*lab.Lab
	node  *fault.Node
	clean pve.State
}

func newUnprepared(t *testing.T) *unprepared {
	t.Helper()
	keys, err := issuer.DefaultKeys()
	if err != nil {
		t.Fatal(err)
	}
	l, err := lab.Start(lab.Options{Issuer: issuer.Options{Keys: keys}, PVE: pve.Options{LockTimeout: 50 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	known, _ := l.Issuer.Client(l.ClientID)
	if err := l.Seed("bare"); err != nil {
		t.Fatal(err)
	}
	l.Issuer.SetClient(known)
	u := &unprepared{Lab: l, node: fault.At(l.PVE, l.PVE.URLs()[0]), clean: *l.PVE.State()}
	t.Cleanup(u.node.Calm)
	if err := os.WriteFile(u.file("password"), []byte(l.PVE.User(pve.UserRoot).Password), 0o600); err != nil {
		t.Fatal(err)
	}
	return u
}

func (u *unprepared) file(name string) string { return filepath.Join(u.Dir, name) }

// begin makes Proxmox and this machine as before.
func (u *unprepared) begin(t *testing.T) {
	t.Helper()
	u.node.Calm()
	if err := u.PVE.Update(func(s *pve.State) { *s = u.clean }); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(u.file("etc")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("STATE_DIRECTORY", t.TempDir())
}

// run runs init unattended.
func (u *unprepared) run(more ...string) (code int, output string) {
	var out bytes.Buffer
	args := []string{
		"init", "--yes", "--dir", u.file("etc"), "--endpoint", u.PVE.URL(), "--ca-file", u.CAFile, "--username", "root@pam",
		"--password-file", u.file("password"), "--issuer-url", u.IssuerURL, "--issuer-ca-file", u.IssuerCAFile,
		"--client-key-file", u.file("client-key"), "--redirect-url", u.RedirectURL, "--grant", "admins=/pool/dev:PVEAdmin", "--wait", "1s",
	}
	code = cli.Main(append(args, more...), strings.NewReader("a wrong password\n"), &out, &out)
	return code, out.String()
}

// wanted is what init makes for [unprepared.run].
var wanted = []string{
	"/access/groups:RealmGroupAdmin", "/access/realm:RealmAdmin", "/access:RealmAuditor", "/pool/dev:PermissionsModifyOnly", "PermissionsModifyOnly",
	"RealmAdmin", "RealmAuditor", "RealmGroupAdmin", "proxmox-realm@pve", "proxmox-realm@pve!agent",
}

// complete returns what is missing after a setup that was interrupted and begun again.
func (u *unprepared) complete() (missing []string) {
	if got := madeIn(u.PVE); !slices.Equal(got, wanted) {
		missing = append(missing, fmt.Sprintf("made was %q", got))
	}
	if _, exists := u.PVE.Realm(lab.RealmName); !exists {
		missing = append(missing, "there is no realm")
	}
	if code, output := u.run(); code != 0 || !strings.Contains(output, "Nothing to do.") {
		missing = append(missing, fmt.Sprintf("a third run ends with %d:\n%s", code, output))
	}
	for _, name := range []string{"config.yaml", "token", "client-key", "pve-root-ca.pem", "issuer-ca.pem", "undo"} {
		if info, err := os.Stat(filepath.Join(u.file("etc"), name)); err != nil || info.Mode().Perm() != 0o600 {
			missing = append(missing, fmt.Sprintf("%s: %v", name, err))
		}
	}
	return missing
}

// After a fault in any request, the same command again finishes the setup. FAULTS=all tries every fault in every request.
func TestInitGoesOnAfterFaults(t *testing.T) {
	u := newUnprepared(t)
	u.begin(t)
	if code, output := u.run(); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, output)
	}
	if missing := u.complete(); len(missing) > 0 {
		t.Fatal(missing)
	}
	u.begin(t)
	u.run()
	requests := u.node.Requests()
	n := 0
	for at, request := range requests {
		for _, f := range fault.Faults() {
			n++
			lies := f.Answers == http.StatusOK && !f.Reaches && request.Method == http.MethodPut // a grant that is not carried out
			chosen := n%67 == 0 || lies || request.Method != http.MethodGet && f.Reaches && n%13 == 0
			if f.Slow || f.Late() || os.Getenv("FAULTS") != "all" && !chosen {
				continue
			}
			u.begin(t)
			u.node.Begin(fault.Rule{Fault: f, At: at + 1})
			first, before := u.run()
			u.node.Calm()
			second, output := u.run()
			if missing := u.complete(); second != 0 || len(missing) > 0 {
				t.Errorf("request %d, %s %s: %s: exit codes %d and %d, %s:\n%s\n---\n%s",
					at+1, request.Method, request.Path, f.Name, first, second, strings.Join(missing, "; "), before, output)
			}
		}
	}
	t.Logf("%d requests", len(requests))
}

// Ctrl-C between any two requests leaves what the same command finishes.
func TestInitGoesOnAfterAnInterruption(t *testing.T) {
	interrupts := make(chan os.Signal, 100)
	signal.Notify(interrupts, os.Interrupt) // one that comes too late does not end the test
	defer signal.Stop(interrupts)
	u := newUnprepared(t)
	u.begin(t)
	u.run()
	for at := range u.node.Requests() {
		u.begin(t)
		remove := u.PVE.Inject(pve.Rule{From: at + 1, Count: 1, After: func() { _ = syscall.Kill(os.Getpid(), syscall.SIGINT) }})
		first, before := u.run()
		remove()
		if first != 130 && first != 0 {
			t.Errorf("request %d: exit code %d:\n%s", at+1, first, before)
		}
		second, output := u.run()
		if missing := u.complete(); second != 0 || len(missing) > 0 {
			t.Errorf("request %d: exit code %d, %s:\n%s\n---\n%s", at+1, second, strings.Join(missing, "; "), before, output)
		}
	}
}

// A token that cannot be stored is removed on both sides, and the same command makes another one.
func TestInitGoesOnAfterATokenIsLost(t *testing.T) {
	u := newUnprepared(t)
	u.begin(t)
	inTheWay := filepath.Join(u.file("etc"), "token")
	remove := u.PVE.Inject(pve.Rule{Method: http.MethodPost, Path: "/access/users/proxmox-realm@pve/token", Count: 1, After: func() {
		_ = os.Mkdir(inTheWay, 0o700)
	}})
	code, before := u.run()
	remove()
	if code != 1 || !strings.Contains(before, inTheWay) {
		t.Errorf("exit code %d:\n%s", code, before)
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	code, output := u.run()
	if missing := u.complete(); code != 0 || len(missing) > 0 {
		t.Errorf("exit code %d, %s:\n%s\n---\n%s", code, strings.Join(missing, "; "), before, output)
	}
}

// initCase is a setup in one situation.
type initCase struct {
	name  string
	state func(*pve.State)
	args  []string
	code  int
	says  []string // patterns
	made  []string // nil: nothing
	// after looks at what Proxmox holds then.
	after func(*pve.State) string
}

// roles are those that grants for groups need.
var roles = []string{"PermissionsModifyOnly", "RealmAdmin", "RealmAuditor", "RealmGroupAdmin"}

var initCases = []initCase{
	{
		name: "a wrong password is sent once", args: []string{"--password-file", "-"}, code: 77,
		says: []string{"rejects the user root@pam: authentication failure"},
	},
	{
		name: "a second factor is missing", state: func(s *pve.State) { s.RequireTOTP("root@pam") }, code: 77,
		says: []string{"root@pam has a second factor, and no one-time code is given", "set --otp-file"},
	},
	{
		name: "PVEAdmin may not set up", code: 77, args: []string{"--username", "boss@pve"},
		state: func(s *pve.State) {
			s.Users["boss@pve"] = &pve.User{Enable: true, Password: s.Users["root@pam"].Password}
			s.ACL = append(s.ACL, pve.ACL{Path: "/", Type: "user", ID: "boss@pve", Role: "PVEAdmin", Propagate: true})
		},
		says: []string{"boss@pve may not set this up, nothing was made in Proxmox: missing is Permissions.Modify on /access, Sys.Modify on /access", "init --print-commands"},
	},
	{
		name: "an Administrator may", args: []string{"--username", "boss@pve"}, made: wanted,
		state: func(s *pve.State) {
			s.Users["boss@pve"] = &pve.User{Enable: true, Password: s.Users["root@pam"].Password}
			s.ACL = append(s.ACL, pve.ACL{Path: "/", Type: "user", ID: "boss@pve", Role: "Administrator", Propagate: true})
		},
	},
	{
		name: "a token whose secret is elsewhere", code: 12,
		state: func(s *pve.State) {
			s.Users["proxmox-realm@pve"] = &pve.User{Enable: true, Tokens: map[string]pve.Token{"agent": {}, "agent2": {}}}
		},
		says: []string{"the token proxmox-realm@pve!agent exists, and its secret is not in .*: it is not replaced", "add --token-id agent3 "},
		made: []string{"proxmox-realm@pve", "proxmox-realm@pve!agent", "proxmox-realm@pve!agent2"},
	},
	{
		name: "another id beside it", args: []string{"--token-id", "second"},
		state: func(s *pve.State) {
			s.Users["proxmox-realm@pve"] = &pve.User{Enable: true, Tokens: map[string]pve.Token{"agent": {}}}
		},
		says: []string{"pveum user token remove proxmox-realm@pve second", "pveum acl delete /access/realm --roles RealmAdmin --users proxmox-realm@pve"},
		made: append(slices.Clone(wanted), "proxmox-realm@pve!second"),
	},
	{
		name: "roles of others are not changed", state: func(s *pve.State) {
			s.Roles = map[string][]string{"RealmAdmin": {"Sys.Audit"}, "RealmAuditor": {"Sys.Audit"}, "RealmAdmin2": {"Realm.Allocate", "Realm.AllocateUser"}}
		},
		made: []string{
			"/access/groups:RealmGroupAdmin", "/access/realm:RealmAdmin3", "/access:RealmAuditor", "/pool/dev:PermissionsModifyOnly", "PermissionsModifyOnly",
			"RealmAdmin", "RealmAdmin2", "RealmAdmin3", "RealmAuditor", "RealmGroupAdmin", "proxmox-realm@pve", "proxmox-realm@pve!agent",
		},
		after: func(s *pve.State) string {
			return fmt.Sprint(s.Roles["RealmAdmin"], s.Roles["RealmAdmin2"], s.Roles["RealmAdmin3"], s.Roles["RealmAuditor"])
		},
		says: []string{`^\[Sys.Audit\] \[Realm.Allocate Realm.AllocateUser\] \[Realm.Allocate\] \[Sys.Audit\]$`},
	},
	{
		name: "what the user inherits is not replaced", state: func(s *pve.State) {
			s.Users["proxmox-realm@pve"] = &pve.User{Enable: true}
			s.ACL = append(s.ACL, pve.ACL{Path: "/", Type: "user", ID: "proxmox-realm@pve", Role: "Administrator", Propagate: true})
		},
		made: append(append([]string{
			"/:Administrator", "/access/groups:RealmGroupAdmin", "/access/realm:RealmAdmin", "/access:RealmAuditor", "/pool/dev:PermissionsModifyOnly",
		}, roles...), "proxmox-realm@pve", "proxmox-realm@pve!agent"),
		after: func(s *pve.State) string {
			var of []string
			for _, e := range s.ACL {
				if e.ID == "proxmox-realm@pve" {
					of = append(of, e.Path)
				}
			}
			return fmt.Sprint(of)
		},
		says: []string{`^\[/\]$`},
	},
	{
		name: "what the user inherits stays where more is granted", state: func(s *pve.State) {
			s.Users["proxmox-realm@pve"] = &pve.User{Enable: true}
			s.Roles = map[string][]string{"Pools": {"Pool.Audit", "Sys.Audit"}}
			s.ACL = append(s.ACL, pve.ACL{Path: "/", Type: "user", ID: "proxmox-realm@pve", Role: "Pools", Propagate: true})
		},
		after: func(s *pve.State) string {
			for _, e := range s.ACL {
				if e.ID == "proxmox-realm@pve" && e.Path == "/pool/dev" {
					return fmt.Sprint(s.Roles[e.Role])
				}
			}
			return "none"
		},
		says: []string{`^\[Permissions.Modify Pool.Audit Sys.Audit\]$`},
		made: []string{"?"},
	},
}

// Each situation ends with its code, says what to do, and changes nothing of others.
func TestInitInEverySituation(t *testing.T) {
	u := newUnprepared(t)
	for _, tt := range initCases {
		t.Run(tt.name, func(t *testing.T) {
			u.begin(t)
			if tt.state != nil {
				if err := u.PVE.Update(tt.state); err != nil {
					t.Fatal(err)
				}
			}
			u.node.Calm()
			code, output := u.run(tt.args...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d:\n%s", code, tt.code, output)
			}
			text := output
			if tt.after != nil {
				text = tt.after(u.PVE.State())
			}
			for _, pattern := range tt.says {
				if !regexp.MustCompile(pattern).MatchString(text) {
					t.Errorf("%q is not in\n%s", pattern, text)
				}
			}
			if got := madeIn(u.PVE); !slices.Equal(got, tt.made) && !slices.Equal(tt.made, []string{"?"}) {
				t.Errorf("made was %q, want %q:\n%s", got, tt.made, output)
			}
			logins := slices.DeleteFunc(u.node.Requests(), func(r fault.Request) bool { return r.Path != "/access/ticket" })
			if len(logins) != 1 && (len(logins) != 2 || !strings.Contains(tt.name, "factor")) {
				t.Errorf("%d logins", len(logins))
			}
			if _, err := os.Stat(u.file("etc")); code != 0 && err == nil {
				t.Errorf("there are files after exit code %d", code)
			}
		})
	}
}
