package fleet_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/diagnose"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/lab"
	"proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// startLab returns a lab, and its configuration with the target multiplied: each copy has another realm of the
// same cluster.
func startLab(t testing.TB, seed string, targets int) (*lab.Lab, *config.Config) {
	t.Helper()
	l, err := lab.Start(lab.Options{Dir: t.TempDir(), Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	c, err := config.Load(context.Background(), config.Options{File: l.ConfigFile, Secrets: true})
	if err != nil {
		t.Fatal(err)
	}
	one := c.Targets[0]
	for i := 1; i < targets; i++ {
		next := one
		next.Name = "t" + strconv.Itoa(i)
		next.Realm.Name = "realm" + strconv.Itoa(i)
		c.Targets = append(c.Targets, next)
	}
	return l, c
}

func open(t testing.TB, c *config.Config) *fleet.Fleet {
	t.Helper()
	return fleet.New(c, "proxmox-realm/test", slog.New(slog.DiscardHandler))
}

// However many targets share an issuer and a client: one inspection, and the client is asked about once.
func TestTargetsShareTheInspectionAndTheQuestion(t *testing.T) {
	l, c := startLab(t, "empty", 40)
	l.Issuer.Reset()
	run := open(t, c).Apply(t.Context(), fleet.Options{})
	if run.Outcome != reconcile.Changed {
		t.Fatalf("the outcome is %s: %v", run.Outcome, firstError(run))
	}
	counts := map[string]int{}
	for _, r := range l.Issuer.Requests() {
		if strings.HasPrefix(r.UserAgent, "proxmox-realm/") { // not those of the node
			counts[r.Path]++
		}
	}
	for path, n := range counts {
		want := 1
		if path == "/api/oidc/token" || path == "/api/oidc/introspection" {
			want = 2 // the key, and a made-up one
		}
		if n != want {
			t.Errorf("%s was asked %d times", path, n)
		}
	}
	if len(counts) != 5 {
		t.Errorf("the requests were %v", counts)
	}
}

func firstError(run fleet.Run) error {
	for _, t := range run.Targets {
		if t.Err != nil {
			return t.Err
		}
	}
	return run.Err
}

// One target's failure is its own.
func TestATargetThatCannotBeReachedLeavesTheOthersAlone(t *testing.T) {
	_, c := startLab(t, "converged", 2)
	c.Targets[1].Proxmox.Endpoints = []config.Origin{"https://127.0.0.1:1"}
	run := open(t, c).Apply(t.Context(), fleet.Options{})
	if got := run.Targets[0].Outcome; got != reconcile.Unchanged {
		t.Errorf("the reachable target: %s, %v", got, run.Targets[0].Err)
	}
	if got := check.CodeOf(run.Targets[1].Err); got != check.Unreachable {
		t.Errorf("the other: %s", got)
	}
	if run.Outcome != reconcile.Failed {
		t.Errorf("the run: %s", run.Outcome)
	}
}

// With Each, the run keeps counts alone. Each target is handed over once, one at a time, and Progress hears of it before.
func TestResultsAreHandedOver(t *testing.T) {
	_, c := startLab(t, "converged", 20)
	c.Concurrency = 2
	c.Targets[3].Proxmox.Endpoints = []config.Origin{"https://127.0.0.1:1", "https://127.0.0.1:2"}
	running, most := 0, 0
	var mu sync.Mutex
	seen := map[string]int{}
	run := open(t, c).Plan(t.Context(), fleet.Options{
		Each: func(r reconcile.Result) {
			mu.Lock()
			defer mu.Unlock()
			seen[r.Name]++
		},
		Progress: func(target string, ended reconcile.Outcome) {
			mu.Lock()
			defer mu.Unlock()
			if running++; ended != "" {
				running -= 2
			}
			most = max(most, running)
			if seen[target] > 0 {
				t.Errorf("%s is handed over before its end", target)
			}
		},
	})
	if run.Targets != nil || len(seen) != 20 || running != 0 || most > 2 {
		t.Errorf("the run keeps %d targets; %d were handed over; %d run still, at most %d ran", len(run.Targets), len(seen), running, most)
	}
	tally := run.Tally()
	if tally.Targets != 20 || tally.Outcomes[reconcile.Failed] != 1 || tally.Outcomes[reconcile.Drift] != 18 || tally.Codes[check.Unreachable] != 1 {
		t.Errorf("the tally is %+v", tally)
	}
	if tally.Retries != 1 || tally.Lost <= 0 || run.Outcome != reconcile.Failed {
		t.Errorf("%s, %+v", run.Outcome, tally)
	}
}

// People paste secrets into the client id. What an issuer says of that client hides them, even if they are the key of a target
// that does not run at the time. Nor are they remembered.
func TestSecretsOfOtherTargetsAreHidden(t *testing.T) {
	_, c := startLab(t, "converged", 2)
	c.Concurrency = 1
	const key = "another-targets-client-key"
	first, second := &c.Targets[0].Realm, &c.Targets[1].Realm
	first.Set, second.Set = maps.Clone(first.Set), maps.Clone(second.Set)
	first.Set[realm.ClientKey] = realm.Key(check.NewSecret(key))
	second.Set[realm.ClientID] = realm.Text(key)
	run := open(t, c).Verify(t.Context(), fleet.Options{})
	found, _ := check.Find(run.Targets[1].Checks, check.ClientCredentials)
	if found.Status != check.Fail || !strings.Contains(found.Summary, check.Mask) {
		t.Errorf("%+v", found)
	}
	for _, c := range run.Targets[1].Checks {
		if strings.Contains(fmt.Sprint(c), key) && strings.HasPrefix(string(c.ID), "client.") {
			t.Errorf("%s shows it: %+v", c.ID, c)
		}
	}
	for _, file := range remembered(t, c, "*") {
		if text, err := os.ReadFile(file); err != nil || strings.Contains(string(text), key) {
			t.Errorf("%s holds it: %s, %v", file, text, err)
		}
	}
}

func TestTheStateIsPrivate(t *testing.T) {
	_, c := startLab(t, "converged", 1)
	open(t, c).Verify(t.Context(), fleet.Options{})
	files := remembered(t, c, "*")
	for _, path := range append(files, c.StateDir, filepath.Join(c.StateDir, "history")) {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	if len(files) == 0 {
		t.Error("nothing is remembered")
	}
}

func TestProbe(t *testing.T) {
	l, c := startLab(t, "empty", 1)
	login := c.Targets[0].Realm.Set.Login("")
	run := fleet.RunProbe(t.Context(), fleet.Probe{Login: login, Roots: c.Targets[0].Verify.IssuerCA, Redirects: []string{l.RedirectURL}}, "proxmox-realm/test", slog.New(slog.DiscardHandler))
	if run.Outcome != reconcile.Unchanged {
		t.Errorf("%s: %+v", run.Outcome, check.Failures(run.Targets[0].Checks))
	}
	run = fleet.RunProbe(t.Context(), fleet.Probe{Login: login}, "proxmox-realm/test", slog.New(slog.DiscardHandler))
	if found, _ := check.Find(run.Targets[0].Checks, check.IssuerCertificate); found.Status != check.Warn {
		t.Errorf("an unknown authority: %+v", found)
	}
	if run.Targets[0].IssuerCertificate.IsZero() {
		t.Error("the certificate's end is not known")
	}
}

// Plan remembers what it found out, as every run does, and takes no lock.
func TestPlanRemembers(t *testing.T) {
	_, c := startLab(t, "drifted", 1)
	if run := open(t, c).Plan(t.Context(), fleet.Options{}); run.Outcome != reconcile.Drift {
		t.Fatalf("%s: %v", run.Outcome, firstError(run))
	}
	if files := remembered(t, c, "target-*"); len(files) != 1 {
		t.Errorf("plan left %v", files)
	}
	if locks, _ := filepath.Glob(filepath.Join(c.StateDir, "locks", "*")); len(locks) > 0 {
		t.Error("plan took the lock")
	}
}

// verify takes no lock, so two may run at the same time: each keeps what the other remembered. What is remembered belongs to
// clusters and realms, whatever the targets are called.
func TestRunsBesideEachOtherKeepWhatTheOtherRemembers(t *testing.T) {
	_, c := startLab(t, "converged", 2)
	var runs sync.WaitGroup
	for i := range c.Targets {
		one := *c
		one.Targets = []config.Target{c.Targets[i]}
		one.Targets[0].Name = "default"
		f := open(t, &one)
		runs.Go(func() {
			if err := firstError(f.Verify(t.Context(), fleet.Options{})); err != nil {
				t.Error(err)
			}
		})
	}
	runs.Wait()
	if files := remembered(t, c, "target-*"); len(files) != 2 {
		t.Errorf("of two targets there are %v", files)
	}
}

// remembered returns the files of the history.
func remembered(t *testing.T, c *config.Config, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(c.StateDir, "history", pattern))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// A run that holds the lock of one realm stops nobody else: that target ends with its own error, and the others run. Runs of other
// configurations that name the same realm, by whatever name, meet the same lock.
func TestALockIsOfOneRealm(t *testing.T) {
	l, c := startLab(t, "converged", 3)
	gate, entered := make(chan struct{}), make(chan struct{})
	var once sync.Once
	remove := l.PVE.Inject(pve.Rule{Method: http.MethodPost, Path: "/access/domains", Before: func() { once.Do(func() { close(entered) }); <-gate }})
	defer remove()
	one := *c
	one.Targets = []config.Target{c.Targets[1]}
	one.Targets[0].Name = "under another name"
	done := make(chan fleet.Run)
	go func() { done <- open(t, &one).Apply(context.Background(), fleet.Options{}) }()
	<-entered
	others := *c
	others.Targets = []config.Target{c.Targets[0], c.Targets[1]}
	run := open(t, &others).Apply(t.Context(), fleet.Options{})
	if run.Targets[0].Err != nil || check.CodeOf(run.Targets[1].Err) != check.Locked || run.Targets[1].Outcome != reconcile.Failed {
		t.Errorf("%v, %v", run.Targets[0].Err, run.Targets[1].Err)
	}
	if run := open(t, &others).Plan(t.Context(), fleet.Options{}); firstError(run) != nil { // takes no lock
		t.Error(firstError(run))
	}
	waited := make(chan fleet.Run)
	go func() { waited <- open(t, &others).Apply(context.Background(), fleet.Options{WaitLock: time.Minute}) }()
	close(gate)
	if run := <-done; run.Outcome != reconcile.Changed {
		t.Errorf("%s: %v", run.Outcome, firstError(run))
	}
	if run := <-waited; firstError(run) != nil {
		t.Error(firstError(run))
	}
}

// Without a usable state_dir a run says so once, and does its work.
func TestWithoutAStateDir(t *testing.T) {
	_, c := startLab(t, "empty", 1)
	c.StateDir = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(c.StateDir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := open(t, c)
	for i, want := range []reconcile.Outcome{reconcile.Changed, reconcile.Unchanged, reconcile.Unchanged} {
		run := f.Apply(t.Context(), fleet.Options{})
		if run.Outcome != want || (len(run.Warnings) == 1) != (i == 0) {
			t.Errorf("run %d: %s, %v, warnings %q", i, run.Outcome, firstError(run), run.Warnings)
		}
	}
	run := f.Delete(t.Context(), fleet.Options{})
	if check.CodeOf(firstError(run)) != check.Config {
		t.Errorf("a delete without a place for the saved realm: %s, %v", run.Outcome, firstError(run))
	}
}

// The logins of a target are read after its run, from the first run on, by credentials that may read the logs. What the run found
// decides why an issuer refused a code.
func TestLoginsAreReadAfterARun(t *testing.T) {
	l, c := startLab(t, "converged", 1)
	token, err := config.ParseToken(realm.VE, l.PVE.Token(pve.TokenRoot))
	if err != nil {
		t.Fatal(err)
	}
	c.Targets[0].Proxmox.Token = token
	var told []string
	o := fleet.Options{Logins: &fleet.Logins{Each: func(target, realm string, l diagnose.Login) {
		told = append(told, target+" "+realm+" "+string(l.Cause))
	}}}
	f := open(t, c)
	f.Verify(t.Context(), o)
	err = l.PVE.Log("pve", pve.Line{Time: time.Now().Add(2 * time.Second), Process: "pvedaemon", PID: 1, Message: "openid authentication failure; rhost=::1 msg=Failed to contact token endpoint: Request failed"})
	if f.Verify(t.Context(), o); err != nil || len(told) != 1 || told[0] != c.Targets[0].Name+" authelia node-to-issuer" {
		t.Errorf("%v, %q", err, told)
	}
}
