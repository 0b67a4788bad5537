//go:build acceptance

// Package acceptance holds the built program against a Proxmox API and an issuer: whichever LAB_* variables name. It looks from
// outside alone: commands and their exit codes, the JSON report, and the API itself. The scripts are in testdata.
//
// Each script has realms of its own, $REALM and $OTHER, and removes them. The flag of the default realm is put back.
package acceptance

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// required are the variables that the suite cannot do without.
var required = []string{
	"LAB_ENDPOINT", "LAB_CA_FILE", "LAB_ISSUER", "LAB_CLIENT_ID", "LAB_CLIENT_KEY", "LAB_REDIRECT_URL", "LAB_TOKEN_ROOT",
	"LAB_TOKEN_REALM_ALLOCATE", "LAB_TOKEN_SYS_AUDIT", "LAB_TOKEN_NO_PRIVILEGE",
}

func TestAcceptance(t *testing.T) {
	for _, name := range required {
		if os.Getenv(name) == "" {
			t.Fatalf("%s is not set: run `make acceptance`, or set the LAB_* variables of the API to test against", name)
		}
	}
	api, err := newAPI()
	if err != nil {
		t.Fatal(err)
	}
	testscript.RunT(sequential{t}, testscript.Params{
		Dir: "testdata", RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error { return setup(e, api) },
		Condition: func(condition string) (bool, error) {
			name, value, _ := strings.Cut(condition, ":")
			switch name {
			case "product":
				return slices.Contains(strings.Split(value, "|"), api.product.id), nil
			case "since": // of Proxmox VE
				return !earlier(api.version, value), nil
			case "lab": // a variable is set
				return os.Getenv("LAB_"+value) != "", nil
			}
			return false, fmt.Errorf("unknown condition %s", condition)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "realm": realm, "api": direct, "found": found, "target": target, "granted": granted, "meddle": meddle,
			"expand": expand, "secretfile": secretFile, "forget": forget, "failedlogin": failedLogin, "removed": removed,
		},
	})
}

// sequential runs one script after another: issuers limit requests, and the API is not ours alone.
type sequential struct{ *testing.T }

// Parallel implements [testscript.T].
func (sequential) Parallel() {}

// Run implements [testscript.T].
func (s sequential) Run(name string, f func(testscript.T)) {
	s.T.Run(name, func(t *testing.T) { f(sequential{t}) })
}

// Verbose implements [testscript.T].
func (sequential) Verbose() bool { return testing.Verbose() }

type apiKey struct{}

func theAPI(ts *testscript.TestScript) *api { return ts.Value(apiKey{}).(*api) }

// setup gives a script its names, its files and a configuration that asks no client, because issuers count such questions.
func setup(e *testscript.Env, shared *api) error {
	a := *shared
	a.remembered = map[string]string{}
	e.Values[apiKey{}] = &a
	for _, name := range []string{"REALM", "OTHER"} {
		realm := "acc-" + random()
		e.Setenv(name, realm)
		e.Defer(func() { a.remove(realm) })
	}
	if err := a.keepDefault(e); err != nil {
		return err
	}
	for _, v := range os.Environ() {
		if name, value, _ := strings.Cut(v, "="); strings.HasPrefix(name, "LAB_") {
			e.Setenv(name, value)
		}
	}
	e.Setenv("PATH", os.Getenv("PATH"))
	e.Setenv("PRODUCT", a.product.id)
	e.Setenv("HOME", e.WorkDir)
	e.Setenv("PROXMOX_REALM_CONFIG", filepath.Join(e.WorkDir, "config.yaml"))
	ca, flag := "", ""
	if file := os.Getenv("LAB_ISSUER_CA_FILE"); file != "" {
		ca, flag = "issuer_ca_file: "+file+", ", "--issuer-ca-file "+file
	}
	e.Setenv("ISSUER_CA", flag)
	e.Setenv("CA", ca)
	e.Setenv("VERIFY", ca+"redirect_urls: ["+os.Getenv("LAB_REDIRECT_URL")+"]")
	files := map[string]string{
		"token": os.Getenv("LAB_TOKEN_REALM_ALLOCATE") + "\n", "root": os.Getenv("LAB_TOKEN_ROOT") + "\n", "none": os.Getenv("LAB_TOKEN_NO_PRIVILEGE") + "\n", "client-key": os.Getenv("LAB_CLIENT_KEY") + "\n",
		"config.yaml": `proxmox: {product: $PRODUCT, endpoints: [$LAB_ENDPOINT], token_file: token, ca_file: $LAB_CA_FILE}
realm: {name: $REALM, issuer_url: "$LAB_ISSUER", client_id: "$LAB_CLIENT_ID", client_key_file: client-key, username_claim: preferred_username, scopes: [openid, profile, email], autocreate: true}
verify: {client: false, proxmox: false, $VERIFY}
state_dir: state
`,
		"asking.yaml": `proxmox: {product: $PRODUCT, endpoints: [$LAB_ENDPOINT], token_file: token, ca_file: $LAB_CA_FILE}
realm: {name: $REALM, issuer_url: "$LAB_ISSUER", client_id: "$LAB_CLIENT_ID", client_key_file: client-key, username_claim: preferred_username, scopes: [openid, profile, email], autocreate: true}
verify: {$VERIFY}
state_dir: state
`,
	}
	for name, content := range files {
		if strings.HasSuffix(name, ".yaml") {
			content = os.Expand(content, e.Getenv)
		}
		if err := os.WriteFile(filepath.Join(e.WorkDir, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func random() string {
	raw := make([]byte, 4)
	_, _ = rand.Read(raw) // never fails
	return hex.EncodeToString(raw)
}

// earlier compares versions such as "9.2" and "10.0".
func earlier(a, b string) bool {
	var major, minor [2]int
	for i, v := range []string{a, b} {
		_, _ = fmt.Sscanf(v, "%d.%d", &major[i], &minor[i])
	}
	return major[0] < major[1] || major[0] == major[1] && minor[0] < minor[1]
}

// exits CODE COMMAND … expects an exit code, and none of the secrets in what was printed.
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
	if !slices.Contains(strings.Split(args[0], "|"), strconv.Itoa(got)) {
		ts.Fatalf("exit code %d, expected %s", got, args[0])
	}
	printed := ts.ReadFile("stdout") + ts.ReadFile("stderr")
	for _, v := range os.Environ() {
		name, value, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, "LAB_TOKEN_") && name != "LAB_CLIENT_KEY" {
			continue
		}
		if i := strings.LastIndexAny(value, "=:"); name != "LAB_CLIENT_KEY" && i >= 0 {
			value = value[i+1:] // of a token, the part that is secret
		}
		if value != "" && strings.Contains(printed, value) {
			ts.Fatalf("what the program printed holds %s", name)
		}
	}
}

// report is the JSON report, as scripts read it.
type report struct {
	Outcome string
	Error   *problem
	Targets []struct {
		Outcome, Action string
		Wrote           bool
		Changes         []struct{ Kind, Property, Op, Group, Path, Role string }
		Checks          []struct{ ID, Status, Summary, Evidence, Hint string }
		Error           *problem
		Warnings        []string
	}
}

type problem struct{ Code, Message, Hint string }

func lastReport(ts *testscript.TestScript) (r report) {
	if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &r); err != nil || len(r.Targets) != 1 {
		ts.Fatalf("the report is not one JSON object about one target: %v", err)
	}
	return r
}

// found CHECK STATUS [SUMMARY [HINT [EVIDENCE]]] expects a check in the JSON report; ! found CHECK expects none. "found only pass"
// expects that no check failed or warned. Statuses may be alternatives, such as pass|skip.
func found(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 2 && args[0] == "only" {
		for _, c := range lastReport(ts).Targets[0].Checks {
			if c.Status == "fail" || c.Status == "warn" {
				ts.Fatalf("%s: %s: %s (%s)", c.ID, c.Status, c.Summary, c.Evidence)
			}
		}
		return
	}
	for _, c := range lastReport(ts).Targets[0].Checks {
		if c.ID != args[0] {
			continue
		}
		if neg {
			ts.Fatalf("%s: %s: %s", c.ID, c.Status, c.Summary)
		}
		if !slices.Contains(strings.Split(args[1], "|"), c.Status) {
			ts.Fatalf("%s is %s, expected %s: %s (%s)", c.ID, c.Status, args[1], c.Summary, c.Evidence)
		}
		for i, text := range []string{c.Summary, c.Hint, c.Evidence} {
			if len(args) > i+2 && !regexp.MustCompile(args[i+2]).MatchString(text) {
				ts.Fatalf("%s: %q does not match %q", c.ID, text, args[i+2])
			}
		}
		return
	}
	if !neg {
		ts.Fatalf("there is no check %s", args[0])
	}
}

// target FIELD VALUE expects a value in the JSON report: outcome, action, wrote, code, message, hint, warning (the last three are
// patterns), or changes (the properties, or "group NAME" and "grant NAME ROLE PATH", separated by commas).
func target(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: target FIELD VALUE")
	}
	t := lastReport(ts).Targets[0]
	if t.Error == nil {
		t.Error = &problem{}
	}
	var changes []string
	for _, c := range t.Changes {
		switch c.Kind {
		case "property":
			changes = append(changes, c.Property)
		default:
			changes = append(changes, strings.TrimSpace(strings.Join([]string{c.Kind, c.Group, c.Role, c.Path}, " ")))
		}
	}
	got := map[string]string{
		"outcome": t.Outcome, "action": t.Action, "wrote": fmt.Sprint(t.Wrote), "code": t.Error.Code, "changes": strings.Join(changes, ","),
		"message": t.Error.Message, "hint": t.Error.Hint, "warning": strings.Join(t.Warnings, "; "),
	}[args[0]]
	alike := got == args[1]
	if slices.Contains([]string{"message", "hint", "warning"}, args[0]) {
		alike = regexp.MustCompile(args[1]).MatchString(got)
	}
	if !alike {
		ts.Fatalf("%s is %q, expected %q", args[0], got, args[1])
	}
}

// secretfile FILE TEXT writes a file that only its owner can read.
func secretFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: secretfile FILE TEXT")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(args[1]+"\n"), 0o600))
}

// expand FILE … replaces variables in files, which only their owner can then read.
func expand(ts *testscript.TestScript, neg bool, args []string) {
	for _, name := range args {
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(os.Expand(ts.ReadFile(name), ts.Getenv)), 0o600))
		ts.Check(os.Chmod(ts.MkAbs(name), 0o600))
	}
}

// forget removes what runs remember.
func forget(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(os.RemoveAll(ts.MkAbs("state/history")))
}
