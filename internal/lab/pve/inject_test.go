package pve_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"proxmox-realm/internal/lab/pve"
)

func TestLock(t *testing.T) {
	n := newNode(t, pve.Options{LockTimeout: 20 * time.Millisecond})
	n.must("POST", "/access/domains", minimal)
	release := n.HoldLock()
	for _, x := range []struct{ method, path, body, want string }{
		{"POST", "", with("realm", "other"), "500 add auth server failed: cfs-lock 'file-domains_cfg' error: got lock request timeout"},
		{"PUT", "/authelia", "comment=x", "500 update auth server failed: cfs-lock 'file-domains_cfg' error: got lock request timeout"},
		{"DELETE", "/authelia", "", "500 delete auth server failed: cfs-lock 'file-domains_cfg' error: got lock request timeout"},
	} {
		if a := n.send(x.method, "/access/domains"+x.path, x.body); a.status != x.want {
			t.Error(a)
		}
	}
	if a := n.send("POST", "/access/domains", with("autocreate", "x")); !strings.HasPrefix(a.status, "400 ") {
		t.Error("the schema is checked after the lock", a)
	}
	n.must("GET", "/access/domains/authelia", "")
	n.must("POST", "/access/groups", "groupid=another-file")
	release()
	release()
	n.must("PUT", "/access/domains/authelia", "comment=x")

	n.SetQuorum(false)
	n.SetQuorum(false)
	if a := n.send("DELETE", "/access/domains/authelia", ""); a.status != "500 delete auth server failed: cfs-lock 'file-domains_cfg' error: no quorum!" {
		t.Error(a)
	}
	n.SetQuorum(true)
	n.SetQuorum(true)
	n.must("DELETE", "/access/domains/authelia", "")
}

// TestLateDelete: a request goes on after its client is gone.
func TestLateDelete(t *testing.T) {
	n := newNode(t, pve.Options{})
	n.must("POST", "/access/domains", minimal)
	release := n.HoldLock()
	ctx, cancel := context.WithCancel(t.Context())
	arrived := make(chan struct{})
	remove := n.Inject(pve.Rule{Method: "DELETE", Count: 1, Before: func() { close(arrived) }})
	defer remove()
	done := make(chan error)
	go func() {
		req, _ := http.NewRequestWithContext(ctx, http.MethodDelete, n.URL()+"/api2/json/access/domains/authelia", nil)
		req.Header = n.header
		res, err := n.client.Do(req)
		if err == nil {
			_ = res.Body.Close()
		}
		done <- err
	}()
	<-arrived
	cancel()
	if err := <-done; err == nil {
		t.Fatal("it was answered while the lock was held")
	}
	if _, ok := n.Realm("authelia"); !ok {
		t.Fatal("it was deleted while the lock was held")
	}
	release()
	for _, ok := n.Realm("authelia"); ok; _, ok = n.Realm("authelia") {
		n.HoldLock()() // waits behind the DELETE, or before it
	}
}

func TestOneDigestOneWinner(t *testing.T) {
	n := newNode(t, pve.Options{})
	n.must("POST", "/access/domains", minimal)
	body := `{"comment":"x","digest":"` + n.digest() + `"}`
	var mu sync.Mutex
	var wg sync.WaitGroup
	won := 0
	for range 8 {
		wg.Go(func() {
			a, err := n.try("PUT", "/access/domains/authelia", body)
			mu.Lock()
			defer mu.Unlock()
			if err == nil && a.status == "200 OK" {
				won++
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d won", won)
	}
}

func TestInject(t *testing.T) {
	for _, x := range []struct {
		name string
		rule pve.Rule
		want func(a answer, err error) bool
		done bool // whether the write took effect
	}{
		{"status", pve.Fail("PUT", "/access/domains/", 595, "Connection refused"), func(a answer, err error) bool {
			return err == nil && a.status == "595 Connection refused" && a.body == "" && a.header.Get("Content-Type") == ""
		}, false},
		{"status and effect", pve.Rule{Status: 500, Reason: "oops", Body: `{"data":null}`, Process: true}, func(a answer, err error) bool {
			return a.status == "500 oops" && a.body == `{"data":null}` && a.header.Get("Content-Type") == "application/json;charset=UTF-8"
		}, true},
		{"redirect", pve.Rule{Status: 302, Reason: "Found", Header: http.Header{"Location": {"https://evil.example/"}}}, func(a answer, err error) bool {
			return a.status == "302 Found" && a.header.Get("Location") == "https://evil.example/"
		}, false},
		{"drop", pve.Rule{Drop: true}, func(_ answer, err error) bool { return err != nil }, false},
		{"drop the answer", pve.Rule{DropAnswer: true}, func(_ answer, err error) bool { return err != nil }, true},
		{"garbage", pve.Rule{Garbage: "SSH-2.0-OpenSSH\r\n"}, func(_ answer, err error) bool { return err != nil }, true},
		{"truncated", pve.Rule{Truncate: true}, func(_ answer, err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }, true},
		{"content type", pve.Rule{ContentType: "text/html"}, func(a answer, err error) bool { return a.header.Get("Content-Type") == "text/html" }, true},
		{"no content type", pve.Rule{ContentType: "-"}, func(a answer, err error) bool { return a.header["Content-Type"] == nil }, true},
		{"padded", pve.Rule{Pad: 100_000}, func(a answer, err error) bool { return err == nil && len(a.body) == 100_000+len(`{"data":null}`) }, true},
		{"slow", pve.Rule{Slow: time.Microsecond}, func(a answer, err error) bool { return err == nil && a.body == `{"data":null}` }, true},
		{"late", pve.Rule{Delay: time.Microsecond}, func(a answer, err error) bool { return a.status == "200 OK" }, true},
		{"another method", pve.Rule{Method: "GET", Drop: true}, func(a answer, err error) bool { return a.status == "200 OK" }, true},
		{"another path", pve.Rule{Path: "/access/users", Drop: true}, func(a answer, err error) bool { return a.status == "200 OK" }, true},
		{"the second", pve.Rule{From: 2, Drop: true}, func(a answer, err error) bool { return a.status == "200 OK" }, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			n := newNode(t, pve.Options{})
			n.must("POST", "/access/domains", minimal)
			remove := n.Inject(x.rule)
			a, err := n.try("PUT", "/access/domains/authelia", "comment=done")
			if !x.want(a, err) {
				t.Errorf("%+v %v", a, err)
			}
			if r, _ := n.Realm("authelia"); (r.Properties["comment"] == "done") != x.done {
				t.Errorf("%+v", r)
			}
			remove()
			remove()
			n.must("PUT", "/access/domains/authelia", "comment=after")
		})
	}
}

func TestInjectOnce(t *testing.T) {
	n := newNode(t, pve.Options{})
	defer n.Inject(pve.Rule{Method: "GET", Path: "/version", From: 2, Count: 1, Status: 599, Reason: "x"})()
	var got []string
	for range 3 {
		got = append(got, n.send("GET", "/version", "").status)
	}
	if strings.Join(got, " ") != "200 OK 599 x 200 OK" {
		t.Error(got)
	}
}

func TestHangEndsWithTheRule(t *testing.T) {
	n := newNode(t, pve.Options{})
	remove := n.Inject(pve.Rule{Hang: true})
	go func() {
		for len(n.Requests()) == 0 {
			runtime.Gosched()
		}
		remove()
	}()
	if a, err := n.try("PUT", "/access/acl", "path=/"); err == nil {
		t.Error(a)
	}
}

func TestEndlessAnswerEndsWithTheClient(t *testing.T) {
	n := newNode(t, pve.Options{})
	defer n.Inject(pve.Rule{Endless: true})()
	req, _ := http.NewRequest(http.MethodGet, n.URL()+"/api2/json/version", nil)
	req.Header = n.header
	res, err := n.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.CopyN(io.Discard, res.Body, 1<<20); err != nil {
		t.Error(err)
	}
}

func TestStateSurvives(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state.json")
	s, err := pve.Start(pve.Options{StateFile: file})
	if err != nil {
		t.Fatal(err)
	}
	n := (&node{Server: s, t: t, client: clientOf(t, s)}).as(pve.TokenRoot)
	n.must("POST", "/access/domains", with("client-key", "clé"))
	n.must("POST", "/access/users", "userid=john@authelia")
	before, token := n.digest(), n.Token(pve.TokenRoot)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info.Mode(), err)
	}
	n = newNode(t, pve.Options{StateFile: file})
	if n.digest() != before || n.Token(pve.TokenRoot) != token {
		t.Error("digest or token changed")
	}
	if d := n.must("GET", "/access/domains/authelia", "").data(t); d["client-key"] != "clé" {
		t.Error(d)
	}
	if n.State().Users["john@authelia"] == nil {
		t.Error("the user is gone")
	}
	broken := filepath.Join(t.TempDir(), "state.json") // not the one that the server above still writes
	if err := os.WriteFile(broken, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pve.Start(pve.Options{StateFile: broken}); err == nil {
		t.Error("a broken state file was taken")
	}
}

func TestSeed(t *testing.T) {
	st := pve.DefaultState()
	st.Realms = []pve.Realm{{Name: "authelia", Type: "openid", Properties: map[string]string{"issuer-url": "https://a", "client-id": "b", "autocreate": "1"}}}
	n := newNode(t, pve.Options{Seed: st})
	if d := n.must("GET", "/access/domains/authelia", "").data(t); d["autocreate"] != 1.0 || d["issuer-url"] != "https://a" {
		t.Error(d)
	}
	st.Realms[0].Properties["comment"] = "the seed is a copy"
	if r, _ := n.Realm("authelia"); r.Properties["comment"] != "" {
		t.Error(r)
	}
}
