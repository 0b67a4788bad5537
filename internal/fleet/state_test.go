package fleet_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/lab"
	"proxmox-realm/internal/reconcile"
)

var scheduled = fleet.Options{Options: reconcile.Options{Repeats: true, ProxmoxEvery: time.Hour, ClientEvery: 24 * time.Hour}}

// asked counts the questions about the client that the issuer got from here, and forgets them.
func asked(l *lab.Lab) (n int) {
	for _, r := range l.Issuer.Requests() {
		if strings.HasPrefix(r.UserAgent, "proxmox-realm/") && (strings.HasSuffix(r.Path, "/introspection") || strings.HasSuffix(r.Path, "/token")) {
			n++
		}
	}
	l.Issuer.Reset()
	return n
}

// age moves the times of the answers that are remembered of the one target.
func age(t *testing.T, c *config.Config, by time.Duration) {
	t.Helper()
	files := remembered(t, c, "target-*")
	if len(files) != 1 {
		t.Fatalf("files of targets: %v", files)
	}
	var target map[string]any
	text, err := os.ReadFile(files[0])
	if err != nil || json.Unmarshal(text, &target) != nil {
		t.Fatalf("what is remembered: %v", err)
	}
	for _, name := range []string{"client", "proxmox"} {
		answers, _ := target[name].(map[string]any)
		written, _ := answers["asked"].(string)
		at, err := time.Parse(time.RFC3339Nano, written)
		if err != nil {
			t.Fatal(err)
		}
		answers["asked"] = at.Add(-by)
	}
	text, err = json.Marshal(target)
	if err == nil {
		err = os.WriteFile(files[0], text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// remembered returns the paths of the files that runs keep in the state_dir.
func remembered(t *testing.T, c *config.Config, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(c.StateDir, "memory", pattern))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// What is asked once a day counts all day, also after a restart; what failed is asked again after an hour.
func TestAnswersToCostlyQuestionsAreCarriedOver(t *testing.T) {
	l, c := startLab(t, "converged", 1)
	apply := func() reconcile.Result { return open(t, c).Apply(t.Context(), scheduled).Targets[0] }
	expect := func(when string, questions int, outcome reconcile.Outcome, status check.Status) {
		t.Helper()
		target := apply()
		found, _ := check.Find(target.Checks, check.ClientCredentials)
		if n := asked(l); (n > 0) != (questions > 0) || target.Outcome != outcome || found.Status != status {
			t.Errorf("%s: %d questions, %s (%v), %s %s", when, n, target.Outcome, target.Err, found.Status, found.Summary)
		}
		if discovery, ok := check.Find(target.Checks, check.ProxmoxDiscovery); !ok || discovery.Status != check.Pass {
			t.Errorf("%s: proxmox.discovery is %+v", when, discovery)
		}
	}
	l.Issuer.Reset()
	expect("the first run", 1, reconcile.Unchanged, check.Pass)
	expect("the second", 0, reconcile.Unchanged, check.Pass)
	client, _ := l.Issuer.Client(l.ClientID)
	right := client.Secret
	client.Secret = "another-key"
	l.Issuer.SetClient(client)
	age(t, c, 23*time.Hour)
	expect("an hour before the day is over", 0, reconcile.Unchanged, check.Pass)
	age(t, c, time.Hour)
	expect("the next day", 1, reconcile.Unverified, check.Fail)
	expect("in between, a failure lasts", 0, reconcile.Unverified, check.Fail)
	client.Secret = right
	l.Issuer.SetClient(client)
	age(t, c, time.Hour)
	expect("after an hour, what failed is asked again", 1, reconcile.Unchanged, check.Pass)
	age(t, c, -48*time.Hour)
	expect("the clock was set back", 1, reconcile.Unchanged, check.Pass)
	c.Targets[0].Verify.RedirectURLs = append(c.Targets[0].Verify.RedirectURLs, "https://127.0.0.1:1")
	if target := apply(); asked(l) == 0 || target.Outcome != reconcile.Unverified {
		t.Errorf("another configuration is not asked about anew: %s", target.Outcome)
	}
	// Without carrying, a run says what it saw itself.
	if run := open(t, c).Apply(t.Context(), fleet.Options{}); run.Outcome != reconcile.Unchanged {
		t.Errorf("a run by hand: %s", run.Outcome)
	}
}

// A file that no run has written for 90 days is removed; a damaged one counts as none. Where files cannot be written, the
// cycles of one agent remember all the same.
func TestWhatIsRemembered(t *testing.T) {
	l, c := startLab(t, "converged", 1)
	f := open(t, c)
	f.Apply(t.Context(), scheduled)
	if n := asked(l); n == 0 {
		t.Fatal("the first run does not ask")
	}
	file := remembered(t, c, "target-*")[0]
	if err := os.WriteFile(file, []byte(`{"client": {"asked": "`), 0o600); err != nil {
		t.Fatal(err)
	}
	if f.Apply(t.Context(), scheduled); asked(l) == 0 {
		t.Error("a damaged file counts as an answer")
	}
	long := time.Now().Add(-91 * 24 * time.Hour)
	if err := os.Chtimes(file, long, long); err != nil {
		t.Fatal(err)
	}
	if f.Apply(t.Context(), scheduled); asked(l) == 0 {
		t.Error("a file of 90 days ago counts")
	}

	c.StateDir = filepath.Join(t.TempDir(), "absent")
	if err := os.WriteFile(c.StateDir, nil, 0o600); err != nil { // no directory can be made there
		t.Fatal(err)
	}
	f = open(t, c)
	f.Apply(t.Context(), scheduled)
	if n := asked(l); n == 0 {
		t.Error("without a state_dir nothing is asked")
	}
	if f.Apply(t.Context(), scheduled); asked(l) != 0 {
		t.Error("without a state_dir every cycle asks")
	}
}
