package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"proxmox-realm/internal/lab"
	"proxmox-realm/internal/lab/fault"
	"proxmox-realm/internal/lab/issuer"
	"proxmox-realm/internal/lab/pbs"
)

// operation is one command in one situation. The test makes each of its requests fail in each way.
type operation struct {
	name string
	args []string
	seed string
	// onlyVE says that the other products have no such thing.
	onlyVE bool
	// nodes is the number of endpoints, if not 1. The second one has no faults.
	nodes int
	// ticket says that the program logs in with a password instead of a token.
	ticket bool
	// saved says that the realm is absent, and state_dir holds a saved realm of an earlier run.
	saved bool
	// declared returns the realm that must exist after exit code 0; nil means none.
	declared func(l *lab.Lab) map[string]string
	// rotates says that the issuer has the key newKey, and that it is in a file of its own.
	rotates bool
	// access says that the configuration declares access, and that Proxmox holds another one.
	access bool
	// reads says that the operation must change nothing.
	reads bool
	// clean is the exit code without a fault.
	clean int
}

func configured(l *lab.Lab) map[string]string { return l.Realm().Properties }

// replaced is the realm of the seed "claim" after its replacement.
func replaced(l *lab.Lab) map[string]string {
	properties := configured(l)
	properties["prompt"] = "login"
	return properties
}

// newKey is the key that a rotation gives the client.
const newKey = "the-key-that-the-issuer-made-for-this-client"

// rotated is the realm of the seed "converged" with the new key.
func rotated(l *lab.Lab) map[string]string {
	properties := configured(l)
	properties["client-key"] = newKey
	return properties
}

// unmanaged is the realm of the seed "unmanaged".
func unmanaged(l *lab.Lab) map[string]string {
	properties := configured(l)
	maps.Copy(properties, map[string]string{
		"prompt": "login", "acr-values": "urn:example:gold", "groups-claim": "groups", "groups-autocreate": "1", "query-userinfo": "1",
	})
	return properties
}

// operations are those that read and write the realm, with each kind of plan.
var operations = []operation{
	{name: "apply creates", args: []string{"apply"}, seed: "empty", declared: configured},
	{name: "apply updates", args: []string{"apply"}, seed: "drifted", declared: configured},
	{name: "apply changes nothing", args: []string{"apply"}, seed: "converged", declared: configured},
	{name: "apply replaces", args: []string{"apply", "--replace"}, seed: "claim", declared: replaced},
	{name: "apply updates through two nodes", args: []string{"apply"}, seed: "drifted", nodes: 2, onlyVE: true, declared: configured},
	{name: "apply replaces through two nodes", args: []string{"apply", "--replace"}, seed: "claim", nodes: 2, onlyVE: true, declared: replaced},
	{name: "apply changes access", args: []string{"apply"}, seed: "unmanaged", access: true, onlyVE: true, declared: unmanaged},
	{name: "apply updates with a password", args: []string{"apply"}, seed: "drifted", ticket: true, onlyVE: true, declared: configured},
	{name: "restore", args: []string{"restore", lab.RealmName, "--yes"}, seed: "empty", saved: true, declared: func(l *lab.Lab) map[string]string {
		properties := replaced(l)
		delete(properties, "username-claim")
		return properties
	}},
	{name: "rotate", args: []string{"rotate", "--yes", "--wait", "0", "--new-key-file", newKeyFile}, seed: "converged", rotates: true, declared: rotated},
	{name: "delete", args: []string{"delete", lab.RealmName, "--yes"}, seed: "converged", declared: func(*lab.Lab) map[string]string { return nil }},
	{name: "verify", args: []string{"verify"}, seed: "converged", reads: true, declared: configured},
	{name: "plan", args: []string{"plan", "--exit-code"}, seed: "drifted", reads: true, clean: 10},
	{name: "export", args: []string{"export", lab.RealmName}, seed: "converged", reads: true},
}

// contract lists the exit codes that "help exit-codes" documents.
var contract = []int{0, 1, 10, 11, 12, 13, 64, 69, 75, 77, 78, 130, 143}

// attempt is one run of the matrix.
type attempt struct {
	operation operation
	at        int // the number of the request that is hit
	request   fault.Request
	deletes   bool // the operation sends a DELETE
	fault     fault.Fault
	lasting   bool
}

func (a attempt) String() string {
	lasting := ""
	if a.lasting {
		lasting = " from there on"
	}
	return fmt.Sprintf("%s, request %d (%s)%s: %s", a.operation.name, a.at, a.request.Method, lasting, a.fault.Name)
}

// TestFaults injects each fault into each request of each operation, once and lasting, and checks what must always be
// true. FAULTS=all in the environment runs the whole matrix. Otherwise the test runs a sample without slow attempts.
func TestFaults(t *testing.T) {
	keys, err := issuer.DefaultKeys()
	if err != nil {
		t.Fatal(err)
	}
	for name, product := range map[string]*pbs.Product{"pve": nil, "pbs": pbs.BackupServer} {
		t.Run(name, func(t *testing.T) { injectAll(t, keys, product) })
	}
}

func injectAll(t *testing.T, keys []issuer.Key, product *pbs.Product) {
	whole := os.Getenv("FAULTS") == "all"
	first := newBench(t, keys, product)
	attempts := first.matrix(t)
	if !whole {
		attempts = sample(attempts)
	}
	workers := 8 * runtime.GOMAXPROCS(0)
	if whole {
		workers = 200 // hundreds of attempts wait for more than a minute
	}
	queue := make(chan attempt)
	var done sync.WaitGroup
	for range workers {
		b := newBench(t, keys, product)
		b.recovery = first.recovery
		done.Go(func() {
			for a := range queue {
				if wrong := b.try(a); len(wrong) > 0 {
					t.Errorf("%v:\n\t%s", a, strings.Join(wrong, "\n\t"))
				}
			}
		})
	}
	for _, a := range attempts {
		queue <- a
	}
	close(queue)
	done.Wait()
	t.Logf("%d faults injected", len(attempts))
}

// sample removes the slow attempts, and keeps every thirteenth of the others: each fault and each request remains.
func sample(attempts []attempt) []attempt {
	quick := slices.DeleteFunc(attempts, func(a attempt) bool {
		// After a lost answer to a DELETE, the program watches the realm for more than a minute.
		watches := a.request.Method == http.MethodDelete && !a.fault.Reaches ||
			a.deletes && a.lasting && a.at > 1 && a.request.Method != http.MethodPost
		return a.fault.Slow || watches
	})
	var kept []attempt
	for i := 0; i < len(quick); i += 13 {
		kept = append(kept, quick[i])
	}
	return kept
}

// matrix runs each operation without a fault to count its requests, and returns all attempts. It also sets b.recovery.
func (b *bench) matrix(t *testing.T) []attempt {
	t.Helper()
	b.recovery = b.cutShort(t)
	var all []attempt
	for _, o := range operations {
		if o.onlyVE && b.PVE == nil {
			continue
		}
		if err := b.prepare(o); err != nil {
			t.Fatal(err)
		}
		b.proxy.Calm()
		code, output := b.run(o.args)
		if code != o.clean {
			t.Fatalf("%s: exit code %d without a fault:\n%s", o.name, code, output)
		}
		requests := b.proxy.Requests()
		deletes := slices.ContainsFunc(requests, func(r fault.Request) bool { return r.Method == http.MethodDelete })
		for at, request := range requests {
			for _, f := range fault.Faults() {
				for _, lasting := range []bool{false, true} {
					a := attempt{operation: o, at: at + 1, request: request, deletes: deletes, fault: f, lasting: lasting}
					all = append(all, a)
				}
			}
		}
	}
	return all
}

// try runs an attempt, and returns the promises that it broke.
func (b *bench) try(a attempt) (wrong []string) {
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if err := b.prepare(a.operation); err != nil {
		return []string{err.Error()}
	}
	if a.fault.Slow {
		if err := b.configure(a.operation, impatient); err != nil {
			return []string{err.Error()}
		}
	}
	existed := a.operation.seed != "empty" || a.operation.saved
	b.proxy.Begin(fault.Rule{Fault: a.fault, At: a.at, Lasting: a.lasting})
	code, output := b.run(a.operation.args)
	requests := b.proxy.Requests()
	if b.other != nil {
		requests = append(requests, b.other.Requests()...)
	}
	if a.fault.Late() {
		time.Sleep(fault.LateAfter + 100*time.Millisecond)
	}
	if !slices.Contains(contract, code) {
		complain("exit code %d", code)
	}
	if promised := code == 0 || code == 11 && a.operation.args[0] == "apply"; promised && a.operation.declared != nil {
		if diff := b.differs(a.operation.declared(b.Lab)); diff != "" {
			complain("exit code %d, but %s", code, diff)
		}
	}
	if held := b.grants(); a.operation.access && code == 0 && held != declaredGrants {
		complain("exit code 0, but the grants are %s", held)
	}
	if !strings.Contains(b.grants(), neighbourGrant) {
		complain("the neighbour's grant is gone: %s", b.grants())
	}
	if code == 0 && a.operation.clean != 0 {
		complain("not the promised code: 0 instead of %d", a.operation.clean)
	}
	if code == 0 && a.refusesLogins(requests) {
		complain("exit code 0, but Proxmox refuses the first request of a login")
	}
	if existed && b.realm() == nil && len(b.saved()) == 0 {
		complain("the realm is lost without a copy")
	}
	if a.operation.rotates && code == 0 && !slices.Equal(b.keys(), []string{newKey}) {
		complain("exit code 0, but the new key is not in the key file alone")
	}
	if a.operation.rotates && !slices.Contains(b.keys(), b.realm()["client-key"]) {
		complain("the key that Proxmox holds is in no file")
	}
	wrong = append(wrong, b.traffic(a, requests)...)
	for _, secret := range b.secrets() {
		if strings.Contains(output, secret) {
			complain("a secret of %d characters was printed", len(secret))
		}
	}
	if !a.operation.reads {
		wrong = append(wrong, b.again(a)...)
	}
	for i := range wrong {
		wrong[i] += fmt.Sprintf(": exit code %d after %v:\n\t\t%s", code, requests, strings.ReplaceAll(output, "\n", "\n\t\t"))
	}
	return wrong
}

// refusesLogins says whether the request for the authorization URL was refused with an error status, or whether a verify
// could not send it.
func (a attempt) refusesLogins(requests []fault.Request) bool {
	asked := func(r fault.Request) bool { return r.Path == "/access/openid/auth-url" }
	refused := slices.ContainsFunc(requests, func(r fault.Request) bool { return asked(r) && r.Hit && a.fault.Answers >= 400 })
	answered := slices.ContainsFunc(requests, func(r fault.Request) bool { return asked(r) && !r.Hit })
	return refused || a.operation.args[0] == "verify" && a.lasting && !answered && (a.fault.Lost() || a.fault.Answers >= 300)
}

// traffic checks the requests: at most one DELETE, and no writes if the operation only reads.
func (b *bench) traffic(a attempt, requests []fault.Request) (wrong []string) {
	deletes := 0
	for _, r := range requests {
		if r.Method == http.MethodDelete {
			deletes++
		}
		if a.operation.reads && r.Method != http.MethodGet && r.Path != "/access/openid/auth-url" {
			wrong = append(wrong, "it sent "+r.Method+" "+r.Path)
		}
	}
	if deletes > 1 {
		wrong = append(wrong, fmt.Sprintf("%d DELETE requests", deletes))
	}
	return wrong
}

// again checks that the next run, without a fault, completes the operation.
func (b *bench) again(a attempt) []string {
	b.proxy.Calm()
	if err := b.configure(a.operation, patient); err != nil {
		return []string{err.Error()}
	}
	args, declared := a.operation.args, a.operation.declared(b.Lab)
	// What the fault made the run find stands for a while. The next run begins without it, as in a fresh pod.
	if err := os.RemoveAll(filepath.Join(b.state, "history")); err != nil {
		return []string{err.Error()}
	}
	if left, err := filepath.Glob(filepath.Join(b.state, "saved-*-replace.json")); err == nil && len(left) > 0 && !a.operation.saved {
		if err := b.ageRecovery(); err != nil {
			return []string{err.Error()}
		}
		if code, output := b.run([]string{"restore", lab.RealmName, "--yes"}); code != 0 {
			return []string{fmt.Sprintf("restore ends with %d:\n%s", code, output)}
		}
		if b.realm() == nil {
			return []string{"restore ends with 0, and there is no realm"}
		}
	}
	if a.operation.saved && len(b.saved()) == 0 {
		args = []string{"restore"} // it was restored: there is nothing left but to list
	}
	code, output := b.run(args)
	diff := b.differs(declared)
	if held := b.grants(); a.operation.access && held != declaredGrants {
		diff = "the grants are " + held
	}
	if code != 0 || diff != "" {
		return []string{fmt.Sprintf("the next run ends with %d, %s:\n%s", code, cmp.Or(diff, "the realm is as declared"), output)}
	}
	return nil
}

func (b *bench) ageRecovery() error {
	left, err := filepath.Glob(filepath.Join(b.state, "saved-*-replace.json"))
	for _, path := range left {
		text, readErr := os.ReadFile(path)
		err = errors.Join(err, readErr, os.WriteFile(path, []byte(aged(string(text))), 0o600))
	}
	return err
}
