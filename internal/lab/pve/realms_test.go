package pve_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"proxmox-realm/internal/lab/pve"
)

// TestBadParameters holds the complaint about each property and bad value.
func TestBadParameters(t *testing.T) {
	const regex = "value does not match the regex pattern"
	long := func(n int) string { return strings.Repeat("x", n) }
	isBool := func(got string) string { return "type check ('boolean') failed - got " + got }
	isString := func(got string) string { return "type check ('string') failed - got " + got }
	const badRealm = "invalid format - value does not look like a valid realm\n"
	for _, x := range []struct {
		property string
		value    any
		want     string
	}{
		{"realm", "a", badRealm},
		{"realm", "", badRealm},
		{"realm", "a b", badRealm},
		{"realm", "-ab", badRealm},
		{"realm", "ünter", badRealm},
		{"realm", 12, badRealm},
		{"realm", "a" + long(32), "value may only be 32 characters long"},
		{"realm", nil, "property is missing and it is not optional"},
		{"realm", []string{"a"}, isString("ARRAY")},
		{"type", "", "value '' does not have a value in the enumeration 'ad, ldap, openid, pam, pve'"},
		{"type", nil, "property is missing and it is not optional"},
		{"issuer-url", "https://" + long(249), "value may only be 256 characters long"},
		{"issuer-url", true, isString("JSON::PP::Boolean")},
		{"issuer-url", map[string]any{"a": 1}, isString("HASH")},
		{"client-id", long(257), "value may only be 256 characters long"},
		{"client-key", long(257), "value may only be 256 characters long"},
		{"client-key", false, isString("JSON::PP::Boolean")},
		{"comment", long(4097), "value may only be 4096 characters long"},
		{"comment", []any{}, isString("ARRAY")},
		{"autocreate", "true", isBool("'true'")},
		{"autocreate", 2, isBool("'2'")},
		{"autocreate", 1.5, isBool("'1.5'")},
		{"autocreate", "", isBool("''")},
		{"autocreate", " 1", isBool("' 1'")},
		{"autocreate", []int{1}, isBool("ARRAY")},
		{"autocreate", map[string]any{}, isBool("HASH")},
		{"default", "on", isBool("'on'")},
		{"groups-autocreate", -1, isBool("'-1'")},
		{"groups-overwrite", "no", isBool("'no'")},
		{"query-userinfo", "off", isBool("'off'")},
		{"groups-claim", "a/b", regex},
		{"groups-claim", "grüppe", regex},
		{"groups-claim", long(257), "value may only be 256 characters long"},
		{"prompt", "", regex},
		{"prompt", "login consent", regex},
		{"acr-values", "a b", regex},
		{"acr-values", "a<b", regex},
		{"acr-values", "a#b", regex},
		{"acr-values", "a\tb", regex},
		{"acr-values", []string{"a", "b"}, isString("ARRAY")},
		{"audiences", `a"b`, regex},
		{"audiences", "a\x7fb", regex},
		{"scopes", []string{"openid"}, isString("ARRAY")},
		{"username-claim", true, isString("JSON::PP::Boolean")},
		{"issuer_url", "x", "property is not defined in schema and the schema does not allow additional properties"},
		{"nothing", nil, "property is not defined in schema and the schema does not allow additional properties"},
		{"server1", "not an address", "invalid format - value does not look like a valid address: not an address\n"},
		{"port", "http", "type check ('integer') failed - got 'http'"},
		{"port", 0, "value must have a minimum value of 1"},
		{"port", 70000, "value must have a maximum value of 65535"},
		{"tfa", "digits=6", "invalid format - format error\ntfa.type: property is missing and it is not optional\n"},
		{"mode", "tls", "value 'tls' does not have a value in the enumeration 'ldap, ldaps, ldap+starttls'"},
		{"user_classes", "a b,c-d", "invalid format - value 'c-d' does not look like a simple ldap attribute name\n"},
	} {
		t.Run(fmt.Sprintf("%s=%.20v", x.property, x.value), func(t *testing.T) {
			n := newNode(t, pve.Options{})
			a := n.send("POST", "/access/domains", with(x.property, x.value))
			if a.status != "400 Parameter verification failed." {
				t.Fatal(a.status, a.body)
			}
			errs := a.errors()
			if errs[x.property] != x.want || len(errs) != 1 {
				t.Errorf("%q, want %q", errs, x.want)
			}
			if _, ok := n.Realm("authelia"); ok {
				t.Error("it was created nevertheless")
			}
		})
	}
}

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
		{"autocreate", json.Number("1.0"), 1.0},
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
		{"comment", 1.50, "1.5"},
		{"comment", strings.Repeat("é", 2000), gone}, // escaped, it is longer than the schema allows
		{"client-key", "", gone},
		{"client-key", " key ", "key"},
		{"client-key", "clé", "clé"},
		{"client-key", "ключ", "Ð\u00baÐ»Ñ\u008eÑ\u0087"},
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
		{"password", "ignored", gone},
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

// TestDies holds the errors that come after the schema, with their order.
func TestDies(t *testing.T) {
	for _, x := range []struct{ name, method, path, body, want string }{
		{"null", "POST", "", with("scopes", nil), "add auth server failed: got undefined value for option 'scopes'"},
		{"form without value", "POST", "", "realm=x2&type=openid&issuer-url=https://a&client-id", "add auth server failed: got undefined value for option 'client-id'"},
		{"line feed", "POST", "", with("comment", "a\nb"), "add auth server failed: property contains a line feed"},
		{"line feed after a pattern", "POST", "", with("acr-values", "a\n"), "add auth server failed: property contains a line feed"},
		{"carriage return", "POST", "", with("client-key", "a\r"), "add auth server failed: property contains a line feed"},
		{"other type's property", "POST", "", with("base_dn", "dc=x"), "add auth server failed: unexpected property 'base_dn'"},
		{"check-connection", "POST", "", with("check-connection", 0), "add auth server failed: 'check-connection' parameter can only be set for realms of type 'ldap' or 'ad'"},
		{"builtin type", "POST", "", `{"realm":"other","type":"pve"}`, "add auth server failed: unable to create builtin type 'pve'"},
		{"exists before all else", "POST", "", `{"realm":"pve","type":"pve","check-connection":1}`, "add auth server failed: domain 'pve' already exists"},
		{"ldap without server", "POST", "", `{"realm":"dir","type":"ldap","base_dn":"dc=x","user_attr":"uid"}`, "add auth server failed: missing value for required option 'server1'"},
		{"ad without domain", "POST", "", `{"realm":"dir","type":"ad","server1":"10.0.0.1"}`, "add auth server failed: missing value for required option 'domain'"},
		{"issuer of pam", "PUT", "/pam", `{"issuer-url":"https://a"}`, "update auth server failed: unexpected property 'issuer-url'"},
		{"missing, nothing to do", "PUT", "/gone", `{}`, "update auth server failed: no options specified"},
		{"missing, stale digest", "PUT", "/gone", `{"comment":"x","digest":"0123"}`, "update auth server failed: detected modified configuration - file changed by other user? Try again."},
		{"missing, check-connection", "PUT", "/gone", `{"check-connection":1}`, "update auth server failed: 'check-connection' parameter can only be set for realms of type 'ldap' or 'ad'"},
		{"missing", "PUT", "/gone", `{"comment":"x"}`, "update auth server failed: cannot lookup undefined type! at PVE/API2/Domains.pm line N."},
		{"delete the type", "PUT", "/there", `{"delete":"type"}`, "update auth server failed: cannot lookup undefined type! at PVE/API2/Domains.pm line N."},
		{"delete both required", "PUT", "/there", `{"delete":["issuer-url","client-id"]}`, "update auth server failed: section 'there' - missing value for required option 'client-id'"},
		{"delete nothing", "PUT", "/there", `{"delete":[]}`, "update auth server failed: no options specified"},
		{"null alone", "PUT", "/there", `{"digest":null,"delete":null}`, "update auth server failed: no options specified"},
		{"delete missing", "DELETE", "/gone", "", "delete auth server failed: authentication domain 'gone' does not exist"},
		{"read missing", "GET", "/gone", "", "domain 'gone' does not exist"},
	} {
		t.Run(x.name, func(t *testing.T) {
			n := newNode(t, pve.Options{})
			n.must("POST", "/access/domains", with("realm", "there"))
			before := n.Digest()
			a := n.send(x.method, "/access/domains"+x.path, x.body)
			if a.status != "500 "+x.want || !a.close {
				t.Errorf("%s, want 500 %s", a.status, x.want)
			}
			if n.Digest() != before {
				t.Error("the digest moved")
			}
		})
	}
}

func TestConflictComesBeforePermission(t *testing.T) {
	n := newNode(t, pve.Options{}).as(pve.TokenNoPrivilege)
	a := n.send("PUT", "/access/domains/authelia", `{"realm":"other"}`)
	if a.status != "400 Parameter verification failed." || a.errors()["realm"] == "" {
		t.Error(a)
	}
	if a := n.send("PUT", "/access/domains/authelia", `{"nonsense":"1"}`); !strings.HasPrefix(a.status, "403 ") {
		t.Error(a)
	}
}

// TestEmptyIssuer: the realm vanishes and blocks every write, until it is created again.
func TestEmptyIssuer(t *testing.T) {
	for _, body := range []string{with("issuer-url", ""), with("client-id", "  "), with("realm", "authelia\n")} {
		n := newNode(t, pve.Options{})
		n.must("POST", "/access/domains", with("realm", "other"))
		n.must("POST", "/access/domains", body)
		if a := n.send("GET", "/access/domains/authelia", ""); a.status != "500 domain 'authelia' does not exist" {
			t.Error(a)
		}
		if a := n.send("PUT", "/access/domains/other", "comment=x"); a.status != "500 update auth server failed: unknown section type ''" {
			t.Error(a)
		}
		if a := n.send("DELETE", "/access/domains/authelia", ""); a.status != "500 delete auth server failed: authentication domain 'authelia' does not exist" {
			t.Error(a)
		}
		if a := n.as("").must("GET", "/access/domains", ""); !strings.Contains(a.body, `{"realm":"authelia","type":null}`) {
			t.Error(a.body)
		}
		n.must("POST", "/access/domains", minimal)
		n.must("PUT", "/access/domains/other", "comment=x")
	}
}

func TestBuiltinRealmsCannotBeLost(t *testing.T) {
	n := newNode(t, pve.Options{})
	n.must("POST", "/access/domains", with("realm", "pam\n"))
	if a := n.must("GET", "/access/domains/pam", "").data(t); a["type"] != "pam" {
		t.Error(a)
	}
	n.must("POST", "/access/domains", minimal)
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

func TestDirectories(t *testing.T) {
	n := newNode(t, pve.Options{})
	n.must("POST", "/access/domains", `{"realm":"dir","type":"ldap","server1":"ldap.example.com","base_dn":"dc=x","user_attr":"uid",`+
		`"port":389,"password":"secret","sync-defaults-options":"full=1,scope=users","user_classes":["person","user"]}`)
	a := n.must("GET", "/access/domains/dir", "").data(t)
	if a["port"] != 389.0 || a["password"] != nil || a["user_classes"] != "person,user" ||
		a["sync-defaults-options"] != "remove-vanished=entry;properties,scope=users" {
		t.Error(a)
	}
	n.must("PUT", "/access/domains/dir", `{"password":"other"}`)
	n.must("POST", "/access/domains", `{"realm":"corp","type":"ad","server1":"10.0.0.1","domain":"corp.example.com"}`)
	if a := n.send("POST", "/access/domains/corp/sync", ""); a.errors()["scope"] == "" {
		t.Error(a)
	}
	if a := n.send("POST", "/access/domains/pam/sync", ""); a.status != "500 Cannot sync realm type 'pam'! Only LDAP/AD realms can be synced." {
		t.Error(a)
	}
	if a := n.send("PUT", "/access/domains/corp", `{"check-connection":1}`); !strings.HasPrefix(a.status, "500 ") {
		t.Error(a)
	}
}

func TestSomebodyElse(t *testing.T) {
	n := newNode(t, pve.Options{})
	n.must("POST", "/access/domains", minimal)
	digest := n.Digest()
	if err := n.SetProperty("authelia", "scopes", "openid"); err != nil {
		t.Fatal(err)
	}
	if n.Digest() == digest {
		t.Error("the digest did not move")
	}
	a := n.send("PUT", "/access/domains/authelia", `{"comment":"x","digest":"`+digest+`"}`)
	if !strings.Contains(a.status, "detected modified configuration") {
		t.Error(a)
	}
	if err := n.SetRealm(pve.Realm{Name: "other", Type: "openid", Properties: map[string]string{"issuer-url": "https://b", "client-id": "c"}}); err != nil {
		t.Fatal(err)
	}
	if err := n.RemoveRealm("authelia"); err != nil {
		t.Fatal(err)
	}
	if err := n.SetRealm(pve.Realm{Name: "bad", Type: "openid"}); err == nil {
		t.Error("a realm without issuer was stored")
	}
	if err := n.Update(func(st *pve.State) { st.Domains = "" }); err != nil || len(n.Realms()) != 3 {
		t.Error("clearing the text of the file cleared the realms", err)
	}
	var names []string
	for _, r := range n.Realms() {
		names = append(names, r.Name)
	}
	if got := strings.Join(names, " "); got != "pam pve other" {
		t.Error(got)
	}
}

func TestDigestIsOfRealmsAlone(t *testing.T) {
	n := newNode(t, pve.Options{})
	for range 2 {
		before := n.Digest()
		n.must("POST", "/access/groups", "groupid=a")
		n.must("DELETE", "/access/groups/a", "")
		if n.Digest() != before {
			t.Error("a group moved the digest of the realms")
		}
		if err := n.Update(func(st *pve.State) { st.Groups["b"] = pve.Group{} }); err != nil || n.Digest() != before {
			t.Error("a group moved the digest of the realms", err)
		}
		n.send("POST", "/access/domains", minimal)
	}
	before := n.Digest()
	n.must("POST", "/access/domains", with("realm", "other"))
	n.must("DELETE", "/access/domains/other", "")
	if n.Digest() != before {
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
		{"7.4-3", "7.4", "audiences groups-claim groups-autocreate groups-overwrite query-userinfo check-connection", false, "500 update auth server failed: domain 'gone' does not exist"},
		{"7.0-11", "7.0", "audiences groups-claim groups-autocreate groups-overwrite query-userinfo check-connection scopes prompt acr-values", false, "500 update auth server failed: domain 'gone' does not exist"},
	} {
		t.Run(x.version, func(t *testing.T) {
			n := newNode(t, pve.Options{Version: x.version})
			if v := n.must("GET", "/version", "").data(t); v["version"] != x.version || v["release"] != x.release || v["repoid"] == "" {
				t.Error(v)
			}
			n.must("POST", "/access/domains", minimal)
			all := `{"audiences":"a","groups-claim":"g","groups-autocreate":1,"groups-overwrite":1,"query-userinfo":1,"scopes":"a","prompt":"login","acr-values":"a","comment":"c","check-connection":null}`
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
