package pve_test

import (
	"fmt"
	"strings"
	"testing"

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

// TestEmptyInAForm holds that a form's empty values are what JSON's empty strings are: dropped, or refused by a pattern.
func TestEmptyInAForm(t *testing.T) {
	n := newNode(t, pve.Options{})
	n.must("POST", "/access/domains", "realm=authelia&type=openid&issuer-url=https://a&client-id=b&scopes=&client-key=&comment=")
	r, _ := n.Realm("authelia")
	if got, want := fmt.Sprint(r.Properties), "map[client-id:b issuer-url:https://a]"; got != want {
		t.Errorf("stored %s, want %s", got, want)
	}
	n.must("PUT", "/access/domains/authelia", "client-key=k&comment=c")
	n.must("PUT", "/access/domains/authelia", "client-key=&comment=")
	if r, _ := n.Realm("authelia"); len(r.Properties) != 2 {
		t.Errorf("an empty value left %v", r.Properties)
	}
	for _, property := range []string{"prompt", "groups-claim"} {
		if a := n.send("PUT", "/access/domains/authelia", property+"="); a.errors()[property] != "value does not match the regex pattern" {
			t.Errorf("%s: %v", property, a)
		}
	}
	if a := n.send("POST", "/access/users", "userid=jo@pve&password="); !strings.HasPrefix(a.errors()["password"], "value must be at least 8") {
		t.Error(a)
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

func TestSomebodyElse(t *testing.T) {
	n := newNode(t, pve.Options{})
	n.must("POST", "/access/domains", minimal)
	digest := n.digest()
	if err := n.SetProperty("authelia", "scopes", "openid"); err != nil {
		t.Fatal(err)
	}
	if n.digest() == digest {
		t.Error("the digest did not move")
	}
	a := n.send("PUT", "/access/domains/authelia", `{"comment":"x","digest":"`+digest+`"}`)
	if !strings.Contains(a.status, "detected modified configuration") {
		t.Error(a)
	}
	if err := n.SetRealm(pve.Realm{Name: "other", Type: "openid", Properties: map[string]string{"issuer-url": "https://b", "client-id": "c"}}); err != nil {
		t.Fatal(err)
	}
	if err := n.SetRealm(pve.Realm{Name: "bad", Type: "openid"}); err == nil {
		t.Error("a realm without issuer was stored")
	}
	var names []string
	for _, r := range n.Realms() {
		names = append(names, r.Name)
	}
	if got := strings.Join(names, " "); got != "pam pve authelia other" {
		t.Error(got)
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
