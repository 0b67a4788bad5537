//go:build unix

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"proxmox-realm/internal/cli"
	"proxmox-realm/internal/lab"
	"proxmox-realm/internal/lab/pve"
)

// keyFiles returns the keys in a lab's key file and beside it, by suffix.
func keyFiles(t *testing.T, l *lab.Lab) map[string]string {
	t.Helper()
	keys := map[string]string{}
	for _, suffix := range []string{"", ".new", ".former"} {
		switch key, err := os.ReadFile(filepath.Join(l.Dir, "client-key"+suffix)); {
		case err == nil:
			keys[suffix] = strings.TrimSpace(string(key))
		case !errors.Is(err, os.ErrNotExist):
			t.Fatal(err)
		}
	}
	return keys
}

func storedKey(l *lab.Lab) string {
	r, _ := l.PVE.Realm(lab.RealmName)
	return r.Properties["client-key"]
}

// ended expects that all sides have one key, and no file another one.
func ended(t *testing.T, l *lab.Lab, key string) {
	t.Helper()
	client, _ := l.Issuer.Client(l.ClientID)
	if held := keyFiles(t, l); len(held) != 1 || held[""] != key || storedKey(l) != key || client.Secret == l.ClientKey && key != l.ClientKey {
		t.Errorf("the key is in %d files, in the key file: %v, in Proxmox: %v", len(held), held[""] == key, storedKey(l) == key)
	}
}

// The key is written at the first look after Authelia's restart. Until then nothing changes, and other runs go on.
func TestRotateWaitsForTheRestart(t *testing.T) {
	l := newLab(t, "converged")
	p := start(t, l, "rotate", "--yes", "--authelia-config", l.AutheliaConfig)
	await(t, p.lines, "now restart Authelia")
	await(t, p.lines, "the issuer still accepts the client key that realm authelia holds")
	start(t, l, "apply").ends(0)
	fresh := keyFiles(t, l)[".new"]
	if storedKey(l) != l.ClientKey || fresh == "" {
		t.Fatal("the key was written too early, or nowhere")
	}
	if err := l.RestartIssuer(); err != nil {
		t.Fatal(err)
	}
	await(t, p.lines, "the issuer accepts the key")
	p.ends(0)
	ended(t, l, fresh)
}

// An interruption ends the wait, and the same command goes on, or goes back.
func TestRotateIsInterruptedWhileItWaits(t *testing.T) {
	for signal, code := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		l := newLab(t, "converged")
		p := start(t, l, "rotate", "--yes", "--authelia-config", l.AutheliaConfig)
		await(t, p.lines, "the issuer still accepts")
		p.signal(signal)
		if said := p.ends(code); !strings.Contains(said, "proxmox-realm rotate --authelia-config") || !strings.Contains(said, "--abort") {
			t.Errorf("said %s", said)
		}
		fresh := keyFiles(t, l)[".new"]
		if storedKey(l) != l.ClientKey || fresh == "" {
			t.Fatal("the key was written, or is lost")
		}
		if signal == syscall.SIGTERM {
			start(t, l, "rotate", "--yes", "--abort", "--authelia-config", l.AutheliaConfig).ends(0)
			ended(t, l, l.ClientKey)
			continue
		}
		if err := l.RestartIssuer(); err != nil {
			t.Fatal(err)
		}
		start(t, l, "rotate", "--yes").ends(0)
		ended(t, l, fresh)
	}
}

// From the first write to the swapped files no other run may touch the realm, and no other rotation the client.
func TestRotateHoldsTheLocks(t *testing.T) {
	l := newLab(t, "converged")
	fresh := issued(t, l, 1)
	arrived, reached := when()
	goOn := make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	defer release()
	remove := l.PVE.Inject(pve.Rule{Method: http.MethodPut, Path: "/access/domains/", Count: 1, Before: func() { arrived(); <-goOn }})
	defer remove()
	p := start(t, l, "rotate", "--yes", "--new-key-file", filepath.Join(l.Dir, "issued"))
	reach(t, reached)
	if said := start(t, l, "apply").ends(75); !strings.Contains(said, "another run works on realm") {
		t.Errorf("said %s", said)
	}
	if said := start(t, l, "rotate", "--abort", "--yes").ends(75); !strings.Contains(said, "another run") {
		t.Errorf("said %s", said)
	}
	release()
	p.ends(0)
	ended(t, l, fresh)
}

// If the issuer takes the new key back before it is verified, the former one is still there: the rotation goes back, or on.
func TestRotateKeepsTheFormerKeyUntilTheNewOneIsVerified(t *testing.T) {
	for _, abort := range []bool{true, false} {
		l := newLab(t, "converged")
		fresh := issued(t, l, 1)
		takes := func(key string) {
			client, _ := l.Issuer.Client(l.ClientID)
			client.Secret = key
			l.Issuer.SetClient(client)
		}
		remove := l.PVE.Inject(pve.Rule{Method: http.MethodPut, Path: "/access/domains/", After: func() { takes(l.ClientKey) }})
		said := start(t, l, "rotate", "--yes", "--new-key-file", filepath.Join(l.Dir, "issued")).ends(11)
		remove()
		if keys := keyFiles(t, l); !strings.Contains(said, "client-key.former") || keys[""] != fresh || keys[".former"] != l.ClientKey || len(keys) != 2 {
			t.Fatalf("%d files, and it said %s", len(keys), said)
		}
		if abort {
			start(t, l, "rotate", "--yes", "--abort").ends(0)
			ended(t, l, l.ClientKey)
			continue
		}
		start(t, l, "rotate", "--yes", "--wait", "0").ends(13)
		takes(fresh)
		if err := os.RemoveAll(filepath.Join(l.Dir, "agent", "history")); err != nil { // it was refused within the last minute
			t.Fatal(err)
		}
		start(t, l, "rotate", "--yes", "--wait", "0").ends(0)
		ended(t, l, fresh)
	}
}

// issued lets the issuer make a new key, and puts it into a file.
func issued(t *testing.T, l *lab.Lab, n int) string {
	t.Helper()
	key := fmt.Sprintf("key-number-%d-that-the-issuer-made", n)
	client, _ := l.Issuer.Client(l.ClientID)
	client.Secret = key
	l.Issuer.SetClient(client)
	if err := os.WriteFile(filepath.Join(l.Dir, "issued"), []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return key
}

// A rotation that is killed at any of its requests loses no key, and the next one finishes it.
func TestRotateIsKilledAtAnyRequest(t *testing.T) {
	l := newLab(t, "converged")
	held := l.ClientKey
	for n := 1; ; n++ {
		fresh := issued(t, l, n)
		given := []string{"--yes", "--wait", "0", "--new-key-file", filepath.Join(l.Dir, "issued")}
		if !killedAt(t, l, n, append([]string{"rotate"}, given...)) {
			if ended(t, l, fresh); n < 10 {
				t.Errorf("a rotation sends %d requests", n-1)
			}
			return
		}
		keys, stored := keyFiles(t, l), storedKey(l)
		if stored != held && stored != fresh || !slices.Contains(slices.Collect(maps.Values(keys)), stored) {
			t.Fatalf("request %d: the key that Proxmox holds is in none of %d files", n, len(keys))
		}
		args := []string{"rotate", "-c", l.ConfigFile, "--yes", "--wait", "0"}
		if len(keys) == 1 { // it had not begun
			args = append(args, given...)
		}
		var out bytes.Buffer
		if code := cli.Main(args, strings.NewReader(""), io.Discard, &out); code != 0 {
			t.Errorf("request %d: the next run ends with %d:\n%s", n, code, &out)
		}
		ended(t, l, fresh)
		held = fresh
	}
}

// killedAt runs the program and kills it when its n-th request has arrived. It returns false if the program sends fewer.
func killedAt(t *testing.T, l *lab.Lab, n int, args []string) bool {
	t.Helper()
	arrived, killed, over := make(chan struct{}), make(chan struct{}), make(chan struct{})
	remove := l.PVE.Inject(pve.Rule{From: n, Count: 1, Before: func() { close(arrived); <-killed }})
	defer remove()
	p := start(t, l, args...)
	go func() {
		for range p.lines { // until it ends
		}
		close(over)
	}()
	reached := false
	select {
	case <-arrived:
		reached = true
		_ = p.cmd.Process.Kill()
		<-over
	case <-over:
	}
	_ = p.cmd.Wait()
	close(killed)
	return reached
}
