package history_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/history"
)

var id = history.TargetID{Product: "pve", Endpoints: []string{"https://pve1:8006", "https://pve2:8006"}, Realm: "authelia"}

func finding(id check.ID, status check.Status, at time.Time) history.Finding {
	return history.Of(check.Check{ID: id, Status: status, Summary: "found", Evidence: "the issuer says hunter2"}, "about", at)
}

// What is kept comes back, under whatever order the endpoints are named, and without the evidence.
func TestATargetComesBack(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	s := history.Open(dir)
	s.KeepTarget(id, history.Target{}, history.Target{}.Record(finding(check.ProxmoxUsers, check.Fail, now)).WithNode("https://pve1:8006", history.Node{Outage: true}))
	turned := id
	turned.Endpoints = []string{"https://pve2:8006", "https://pve1:8006"}
	got := history.Open(dir).Target(turned)
	f := got.Findings[check.ProxmoxUsers]
	if !f.Red() || !f.Asked.Equal(now) || f.About != "about" || !got.Nodes["https://pve1:8006"].Outage {
		t.Errorf("%+v", got)
	}
	if c := f.Recall(); strings.Contains(fmt.Sprint(c), "hunter2") || !strings.Contains(c.Evidence, "as of ") {
		t.Errorf("%+v", c)
	}
	for _, other := range []history.TargetID{{Product: "pbs", Endpoints: id.Endpoints, Realm: id.Realm}, {Product: "pve", Endpoints: id.Endpoints[:1], Realm: id.Realm}, {Product: "pve", Endpoints: id.Endpoints, Realm: "other"}} {
		if got := s.Target(other); len(got.Findings) > 0 {
			t.Errorf("%+v knows %+v", other, got)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "history", "*"))
	if err != nil || len(files) < 2 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range append(files, filepath.Join(dir, "history")) {
		text, _ := os.ReadFile(file)
		if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o077 != 0 || strings.Contains(string(text), "hunter2") {
			t.Errorf("%s: %v, %s", file, info.Mode(), text)
		}
	}
}

// Two runs merge by the time of their answers: the newer one counts, and what fell in one run falls.
func TestRunsMerge(t *testing.T) {
	s := history.Open(t.TempDir())
	start := time.Now().Add(-time.Hour)
	at := func(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }
	s.KeepTarget(id, history.Target{}, history.Target{}.Record(finding(check.ProxmoxUsers, check.Fail, at(1))).Record(finding(check.ProxmoxAccess, check.Warn, at(1))))
	mine := s.Target(id) // a run begins to read at minute 2
	s.KeepTarget(id, mine, mine.Record(finding(check.ProxmoxUsers, check.Pass, at(5))).Record(finding(check.IssuerKeys, check.Fail, at(5))))
	s.KeepTarget(id, mine, mine.Record(finding(check.ProxmoxUsers, check.Fail, at(3))).Drop(check.ProxmoxAccess))
	got := s.Target(id).Findings
	if got[check.ProxmoxUsers].Check.Status != check.Pass || got[check.IssuerKeys].Check.Status != check.Fail || !got[check.ProxmoxAccess].IsZero() {
		t.Errorf("%+v", got)
	}
}

// Answers of a clock that ran ahead never stand against the answers of the right clock.
func TestAnswersFromTheFutureLose(t *testing.T) {
	s := history.Open(t.TempDir())
	now, ahead := time.Now(), time.Now().Add(48*time.Hour)
	s.KeepTarget(id, history.Target{}, history.Target{}.Record(finding(check.ProxmoxUsers, check.Pass, ahead)).
		WithNode("https://pve1:8006", history.Node{Discovery: finding(check.ProxmoxDiscovery, check.Pass, ahead)}))
	read := s.Target(id)
	s.KeepTarget(id, read, read.Record(finding(check.ProxmoxUsers, check.Fail, now)).
		WithNode("https://pve1:8006", history.Node{Discovery: finding(check.ProxmoxDiscovery, check.Fail, now)}))
	if got := s.Target(id); !got.Findings[check.ProxmoxUsers].Red() || !got.Nodes["https://pve1:8006"].Discovery.Red() {
		t.Errorf("%+v", got)
	}
	client := history.ClientID{Issuer: "https://auth.example.com", Client: "proxmox"}
	answer := func(status check.Status, at time.Time) history.Client {
		return history.Client{Credentials: finding(check.ClientCredentials, status, at)}.
			WithRequest("login", history.Request{Full: at, Redirect: finding(check.ClientRedirect, status, at)})
	}
	s.KeepClient(client, answer(check.Pass, ahead))
	s.KeepClient(client, answer(check.Fail, now))
	if got := s.Client(client); !got.Credentials.Red() || !got.Requests["login"].Redirect.Red() || !got.Requests["login"].Full.Equal(now) {
		t.Errorf("%+v", got)
	}
}

// A memory that cannot be read may have held a failure; one that was never kept held none.
func TestADamagedMemoryIsLost(t *testing.T) {
	dir := t.TempDir()
	s := history.Open(dir)
	if s.Target(id).Lost || history.Open("").Target(id).Lost {
		t.Error("there was no memory")
	}
	s.KeepTarget(id, history.Target{}, history.Target{Begun: time.Now()})
	files, err := filepath.Glob(filepath.Join(dir, "history", "target-*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, content := range []string{"", "{", `{"findings":[]}`} {
		if err := os.WriteFile(files[0], []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if !s.Target(id).Lost {
			t.Errorf("%q can be read", content)
		}
	}
	s.ChangeTarget(id, func(t *history.Target) { *t = t.Remember([]string{"realm"}, history.Quiet) })
	if !s.Target(id).Lost {
		t.Error("nobody has asked again")
	}
	s.KeepTarget(id, history.Target{}, history.Target{Begun: time.Now()})
	if s.Target(id).Lost {
		t.Error("it was kept again")
	}
}

func TestConcurrentRunsLoseNothing(t *testing.T) {
	dir := t.TempDir()
	var runs sync.WaitGroup
	for _, e := range check.Catalog() {
		runs.Go(func() {
			s := history.Open(dir)
			read := s.Target(id)
			s.KeepTarget(id, read, read.Record(finding(e.ID, check.Fail, time.Now())))
			s.ChangeTarget(id, func(t *history.Target) { *t = t.Remember([]string{string(e.ID)}, history.Quiet) })
		})
	}
	runs.Wait()
	got := history.Open(dir).Target(id)
	if len(got.Findings) != len(check.Catalog()) || len(got.Told[history.Quiet].Written) != len(check.Catalog()) {
		t.Errorf("%d findings, %d writes", len(got.Findings), len(got.Told[history.Quiet].Written))
	}
}

// A client is found by issuer, id, key and redirect URLs. Nothing tells its key without the secret of the folder.
func TestAClientIsKeyed(t *testing.T) {
	dir := t.TempDir()
	s := history.Open(dir)
	client := history.ClientID{Issuer: "https://auth.example.com", Client: "proxmox", Key: check.NewSecret("short"), Redirects: []string{"https://b", "https://a"}}
	now := time.Now().UTC()
	s.KeepClient(client, history.Client{Credentials: finding(check.ClientCredentials, check.Fail, now)})
	turned := client
	turned.Redirects = []string{"https://a", "https://b"}
	if got := history.Open(dir).Client(turned); !got.Credentials.Red() || !got.Credentials.Asked.Equal(now) {
		t.Errorf("%+v", got)
	}
	for i, change := range []func(*history.ClientID){
		func(c *history.ClientID) { c.Issuer += "/" }, func(c *history.ClientID) { c.Client = "other" },
		func(c *history.ClientID) { c.Key = check.NewSecret("shorter") }, func(c *history.ClientID) { c.Redirects = c.Redirects[:1] },
	} {
		other := client
		change(&other)
		if s.Client(other).Credentials.Red() {
			t.Errorf("change %d is the same client", i)
		}
	}
	if elsewhere := history.Open(t.TempDir()); s.Digest("short") == elsewhere.Digest("short") || s.Digest("short") != history.Open(dir).Digest("short") {
		t.Error("the digest does not depend on the folder alone")
	}
}

// An answer about a client never makes an older one newer, and a limit holds until its end.
func TestAnswersAboutAClientMerge(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := history.Open("") // in memory
		client := history.ClientID{Issuer: "i", Client: "c"}
		base := time.Now().Add(-24 * time.Hour).UTC()
		newest := map[string]time.Time{}
		for range rapid.IntRange(1, 6).Draw(rt, "answers") {
			at := base.Add(time.Duration(rapid.IntRange(0, 1000).Draw(rt, "minute")) * time.Minute)
			name := rapid.SampledFrom([]string{"login", "other"}).Draw(rt, "request")
			if at.After(newest[name]) {
				newest[name] = at
			}
			s.KeepClient(client, history.Client{Limited: at, Credentials: finding(check.ClientCredentials, check.Pass, at)}.
				WithRequest(name, history.Request{Full: at, Redirect: finding(check.ClientRedirect, check.Pass, at)}))
		}
		got, last := s.Client(client), history.Later(newest["login"], newest["other"])
		if !got.Limited.Equal(last) || !got.Credentials.Asked.Equal(last) || len(got.Requests) != len(newest) {
			rt.Fatalf("%+v, want %s", got, last)
		}
		for name, at := range newest {
			if r := got.Requests[name]; !r.Full.Equal(at) || !r.Redirect.Asked.Equal(at) {
				rt.Fatalf("%s: %+v, want %s", name, r, at)
			}
		}
	})
}

// Files that this program did not write, or that others could have written, count as absent; so do answers from the future.
func TestOddFilesCountAsAbsent(t *testing.T) {
	for title, spoil := range map[string]func(path string) error{
		"cut short": func(p string) error { return os.WriteFile(p, []byte(`{"findings":`), 0o600) },
		"not ours":  func(p string) error { return os.WriteFile(p, []byte(`[]`), 0o600) },
		"large":     func(p string) error { return os.WriteFile(p, make([]byte, 2<<20), 0o600) },
		"a folder":  func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) },
		"a link":    func(p string) error { return errors.Join(os.Rename(p, p+".x"), os.Symlink(p+".x", p)) },
	} {
		dir := t.TempDir()
		s := history.Open(dir)
		s.KeepTarget(id, history.Target{}, history.Target{}.Record(finding(check.ProxmoxUsers, check.Fail, time.Now())))
		files, _ := filepath.Glob(filepath.Join(dir, "history", "target-*"))
		if len(files) != 1 {
			t.Fatal(files)
		}
		if err := spoil(files[0]); err != nil {
			t.Fatal(err)
		}
		if got := history.Open(dir).Target(id); len(got.Findings) > 0 {
			t.Errorf("%s: %+v", title, got)
		}
	}
	s := history.Open(t.TempDir())
	s.KeepTarget(id, history.Target{}, history.Target{}.Record(finding(check.ProxmoxUsers, check.Fail, time.Now().Add(time.Hour))))
	if f := s.Target(id).Findings[check.ProxmoxUsers]; !f.Red() || f.Age(time.Now()) < 24*time.Hour {
		t.Errorf("an answer from the future is %s old", f.Age(time.Now()))
	}
	for end, kept := range map[time.Duration]bool{time.Hour: true, 365 * 24 * time.Hour: false} {
		limited := history.ClientID{Issuer: "https://auth.example.com", Client: end.String()}
		s.KeepClient(limited, history.Client{Limited: time.Now().Add(end)})
		if got := s.Client(limited).Limited; got.IsZero() == kept {
			t.Errorf("an issuer that limits requests for %s is left alone until %s", end, got)
		}
	}
}

// Without a folder that can be used the process remembers by itself, and says once that later ones will not.
func TestWithoutAFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"", file} {
		s := history.Open(dir)
		s.KeepTarget(id, history.Target{}, history.Target{}.Record(finding(check.ProxmoxUsers, check.Fail, time.Now())))
		s.KeepTarget(id, s.Target(id), s.Target(id).Record(finding(check.ProxmoxAccess, check.Fail, time.Now())))
		if got := s.Target(id); len(got.Findings) != 2 {
			t.Errorf("%q: %+v", dir, got)
		}
		unlock, err := s.Lock(t.Context(), []string{"a"}, 0)
		if err != nil {
			t.Fatal(err)
		}
		unlock()
		if err := s.Problem(); err == nil || check.CodeOf(err) != check.Config {
			t.Errorf("%q: %v", dir, err)
		}
		if err := s.Problem(); err != nil {
			t.Errorf("%q: said twice", dir)
		}
	}
}

// Locks exclude each other by name, are taken whatever the order, and none is kept if one cannot be had.
func TestLocks(t *testing.T) {
	dir := t.TempDir()
	s, other := history.Open(dir), history.Open(dir)
	unlock, err := s.Lock(t.Context(), []string{"b", "a"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Lock(t.Context(), []string{"c", "a"}, 0); !errors.Is(err, history.ErrLocked) {
		t.Errorf("%v", err)
	}
	free, err := other.Lock(t.Context(), []string{"c"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	free()
	go func() {
		time.Sleep(300 * time.Millisecond)
		unlock()
	}()
	waited, err := other.Lock(t.Context(), []string{"a", "b"}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	waited()
}

// Files of targets that are gone go after 90 days; those that runs use stay.
func TestPrune(t *testing.T) {
	dir := t.TempDir()
	s := history.Open(dir)
	old := time.Now().Add(-91 * 24 * time.Hour)
	gone := history.TargetID{Realm: "gone"}
	for _, target := range []history.TargetID{id, gone} {
		s.KeepTarget(target, history.Target{}, history.Target{}.Record(finding(check.ProxmoxUsers, check.Fail, old)))
	}
	files, _ := filepath.Glob(filepath.Join(dir, "history", "*.json"))
	part := filepath.Join(dir, "history", ".target.json.1234")
	if err := os.WriteFile(part, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range append(files, part) {
		if err := os.Chtimes(f, old, old); err != nil {
			t.Fatal(err)
		}
	}
	_ = s.Digest("x")
	s.Target(id)
	s.Prune(time.Now())
	if len(s.Target(id).Findings) != 1 || len(s.Target(gone).Findings) != 0 {
		t.Error("the wrong one went")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "history", "*")); !slices.Contains(left, filepath.Join(dir, "history", "key")) || slices.Contains(left, part) {
		t.Errorf("the secret is gone: %v", left)
	}
}
