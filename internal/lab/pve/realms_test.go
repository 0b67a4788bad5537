package pve_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"proxmox-realm/internal/lab/pve"
)

// TestStored holds what becomes of values that are accepted.
func TestStored(t *testing.T) {
	const gone = "gone"
	for _, x := range []struct {
		property string
		value    any
		want     any
	}{
		{"autocreate", true, 1.0},
		{"autocreate", false, 0.0},
		{"autocreate", "1", 1.0},
		{"autocreate", 0, 0.0},
		{"default", 0, 0.0},
		{"comment", "  spaced  ", "spaced"},
		{"comment", "\tspaced\t", "\tspaced\t"}, // tabs are escaped in the file
		{"comment", "", gone},
		{"comment", "0", gone},
		{"comment", "   ", gone},
		{"comment", "ключ: 100%", "ключ: 100%"},
		{"comment", "%41%zz", "A%zz"},
		{"comment", "tab\there", "tab\there"},
		{"comment", 5, "5"},
		{"client-key", "", gone},
		{"client-key", " key ", "key"},
		{"client-key", "0", "0"},
		{"scopes", "", gone},
		{"scopes", "openid  email", "openid  email"},
		{"username-claim", "", gone},
		{"username-claim", "preferred_username", "preferred_username"},
		{"acr-values", "", gone},
		{"acr-values", "urn:a;urn:b", "urn:a;urn:b"},
		{"audiences", "x,y", "x,y"},
		{"groups-claim", "groups", "groups"},
		{"prompt", "create", "create"},
		{"query-userinfo", 0, 0.0},
		{"issuer-url", "foo", "foo"},
		{"issuer-url", "  https://auth.example.com/ ", "https://auth.example.com/"},
	} {
		t.Run(fmt.Sprintf("%s=%.20v", x.property, x.value), func(t *testing.T) {
			n := newNode(t, pve.Options{})
			n.must("POST", "/access/domains", with(x.property, x.value))
			got, ok := n.must("GET", "/access/domains/authelia", "").data(t)[x.property]
			if !ok {
				got = gone
			}
			if got != x.want {
				t.Errorf("%q, want %q", got, x.want)
			}
		})
	}
}

func TestDefaultMoves(t *testing.T) {
	n := newNode(t, pve.Options{})
	n.must("POST", "/access/domains", with("default", 1))
	n.must("PUT", "/access/domains/pam", `{"default":true}`)
	if r, _ := n.Realm("authelia"); r.Properties["default"] != "" {
		t.Error(r)
	}
	a := n.must("GET", "/access/domains/pam", "").data(t)
	if a["default"] != 1.0 || a["plugin"] != "PVE::Auth::PAM" || a["comment"] != "Linux PAM standard authentication" {
		t.Error(a)
	}
	n.must("PUT", "/access/domains/authelia", `{"default":0}`)
	if r, _ := n.Realm("pam"); r.Properties["default"] != "1" {
		t.Error("default: 0 took the flag from another realm")
	}
	n.must("DELETE", "/access/domains/pam", "") // which brings it back as it was born
	if a := n.must("GET", "/access/domains/pam", "").data(t); a["default"] != nil {
		t.Error(a)
	}
}

func TestDigestIsOfRealmsAlone(t *testing.T) {
	n := newNode(t, pve.Options{})
	for range 2 {
		before := n.digest()
		n.must("POST", "/access/groups", "groupid=a")
		n.must("DELETE", "/access/groups/a", "")
		if n.digest() != before {
			t.Error("a group moved the digest of the realms")
		}
		if err := n.Update(func(st *pve.State) { st.Groups["b"] = pve.Group{} }); err != nil || n.digest() != before {
			t.Error("a group moved the digest of the realms", err)
		}
		n.send("POST", "/access/domains", minimal)
	}
	before := n.digest()
	n.must("POST", "/access/domains", with("realm", "other"))
	n.must("DELETE", "/access/domains/other", "")
	if n.digest() != before {
		t.Error("the same realms, and another digest")
	}
}

func TestVersions(t *testing.T) {
	for _, x := range []struct {
		version, release, unknown string
		message                   bool
		missing                   string
	}{
		{"9.2.11", "9.2", "", true, "500 update auth server failed: cannot lookup undefined type! at PVE/API2/Domains.pm line N."},
		{"9.1.2", "9.1", "audiences", true, "500 update auth server failed: cannot lookup undefined type! at PVE/API2/Domains.pm line N."},
		{"8.4.1", "8.4", "audiences", true, "500 update auth server failed: unknown section type ''"},
		{"8.1.4", "8.1", "audiences groups-claim groups-autocreate groups-overwrite query-userinfo", false, "500 update auth server failed: unknown section type ''"},
		{"7.4-3", "7.4", "audiences groups-claim groups-autocreate groups-overwrite query-userinfo", false, "500 update auth server failed: domain 'gone' does not exist"},
		{"7.0-11", "7.0", "audiences groups-claim groups-autocreate groups-overwrite query-userinfo scopes prompt acr-values", false, "500 update auth server failed: domain 'gone' does not exist"},
	} {
		t.Run(x.version, func(t *testing.T) {
			n := newNode(t, pve.Options{Version: x.version})
			if v := n.must("GET", "/version", "").data(t); v["version"] != x.version || v["release"] != x.release || v["repoid"] == "" {
				t.Error(v)
			}
			n.must("POST", "/access/domains", minimal)
			all := `{"audiences":"a","groups-claim":"g","groups-autocreate":1,"groups-overwrite":1,"query-userinfo":1,"scopes":"a","prompt":"login","acr-values":"a","comment":"c"}`
			a := n.send("PUT", "/access/domains/authelia", all)
			unknown := strings.Fields(x.unknown)
			errs := a.errors()
			for _, k := range unknown {
				if errs[k] == "" {
					t.Errorf("%s is known", k)
				}
			}
			if len(errs) != len(unknown) {
				t.Errorf("%s %q, want %q", a.status, errs, unknown)
			}
			a = n.send("PUT", "/access/domains/gone", "comment=x")
			if a.status != x.missing || strings.Contains(a.body, "message") != x.message {
				t.Error(a.status, a.body)
			}
		})
	}
}

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
