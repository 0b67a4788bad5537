//go:build acceptance

package acceptance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestCreateThenNothingToDo(t *testing.T) {
	w := begin(t)
	config := w.config(setting{})

	o := w.run(10, config, "plan", "--exit-code")
	if target := o.report.Targets[0]; target.Action != "create" || target.Outcome != "drift" {
		t.Errorf("the plan says %s, %s", target.Action, target.Outcome)
	}
	if _, exists := w.stored(w.realm); exists {
		t.Fatal("plan created the realm")
	}

	o = w.run(0, config, "apply")
	if target := o.report.Targets[0]; target.Action != "create" || target.Outcome != "changed" {
		t.Errorf("the first apply says %s, %s", target.Action, target.Outcome)
	}
	w.holds(w.realm, object{
		"type": "openid", "issuer-url": env(t, "LAB_ISSUER"), "client-id": env(t, "LAB_CLIENT_ID"), "client-key": env(t, "LAB_CLIENT_KEY"),
		"username-claim": "preferred_username", "autocreate": 1, "comment": nil,
	})

	before := w.digest(w.realm)
	o = w.run(0, config, "apply")
	if target := o.report.Targets[0]; target.Action != "none" || target.Outcome != "unchanged" || len(target.Changes) > 0 {
		t.Errorf("the second apply says %s, %s, %d changes", target.Action, target.Outcome, len(target.Changes))
	}
	if w.digest(w.realm) != before {
		t.Error("the digest moved though there was nothing to do")
	}
	w.run(0, config, "plan", "--exit-code")
}

func TestDefaultsAtCreationManageNothingAfterwards(t *testing.T) {
	w := begin(t)
	config := w.config(setting{bare: true})
	w.run(0, config, "apply")
	w.holds(w.realm, object{"username-claim": "preferred_username", "scopes": "openid profile email", "autocreate": nil, "client-key": nil})
	w.change(w.realm, object{"scopes": "openid"})
	o := w.run(0, config, "apply")
	if len(o.changed()) > 0 {
		t.Errorf("changes what nobody wrote down: %v", o.changed())
	}
	w.holds(w.realm, object{"scopes": "openid"})
}

// everything lists each property that can be updated: its key, two values as configured, and the second as stored.
var everything = []struct {
	since         string // Proxmox VE version
	key, property string
	first, second any
	stored        any
}{
	{"7.1", "acr_values", "acr-values", []string{"urn:a"}, []string{"urn:b", "urn:a"}, "urn:b,urn:a"},
	{"9.2", "audiences", "audiences", []string{"one"}, []string{"one", "two"}, "one,two"},
	{"7.0", "autocreate", "autocreate", true, false, 0},
	{"7.0", "client_id", "client-id", "first", "second", "second"},
	{"7.0", "comment", "comment", "first", "Größe & Co: \"zwei\"", "Größe & Co: \"zwei\""},
	{"8.4", "groups_autocreate", "groups-autocreate", true, false, 0},
	{"8.4", "groups_claim", "groups-claim", "groups", "roles", "roles"},
	{"8.4", "groups_overwrite", "groups-overwrite", false, true, 1},
	{"7.0", "issuer_url", "issuer-url", "https://first.example.com", "https://second.example.com/path", "https://second.example.com/path"},
	{"7.1", "prompt", "prompt", "login", "consent", "consent"},
	{"8.4", "query_userinfo", "query-userinfo", true, false, 0},
	{"7.1", "scopes", "scopes", []string{"openid", "email"}, []string{"openid", "profile", "groups"}, "openid profile groups"},
}

func TestUpdateOfEveryPropertyAndUnset(t *testing.T) {
	w := begin(t)
	version := w.version()
	offline := object{"issuer": false} // these issuers do not exist: only the realm is looked at
	first, second, want := object{}, object{}, object{}
	for _, p := range everything {
		if earlier(version, p.since) {
			t.Logf("Proxmox VE %s does not know %s", version, p.property)
			continue
		}
		first[p.key], second[p.key], want[p.property] = p.first, p.second, p.stored
	}
	w.run(0, w.config(setting{realm: first, verify: offline}), "apply")

	for _, p := range everything { // one at a time
		if _, known := second[p.key]; !known {
			continue
		}
		first[p.key] = p.second
		o := w.run(0, w.config(setting{realm: first, verify: offline}), "apply")
		if got := o.changed(); !slices.Equal(got, []string{p.property}) {
			t.Errorf("changing %s changes %v", p.property, got)
		}
	}
	w.holds(w.realm, want)
	w.run(0, w.config(setting{realm: second, verify: offline}), "plan", "--exit-code")

	var unset []string
	for property := range want {
		if property != "issuer-url" && property != "client-id" {
			unset = append(unset, property)
		}
	}
	unset = append(unset, "client-key")
	slices.Sort(unset)
	config := w.config(setting{bare: true, verify: offline, realm: object{
		"issuer_url": "https://second.example.com/path", "client_id": "second", "unset": unset,
	}})
	o := w.run(0, config, "apply")
	for _, c := range o.report.Targets[0].Changes {
		if c.Op != "unset" || c.Before == nil || c.After != nil {
			t.Errorf("%s: op %s", c.Property, c.Op)
		}
	}
	have, _ := w.stored(w.realm)
	for _, property := range []string{"acr-values", "audiences", "client-key", "comment", "groups-claim", "prompt", "scopes"} {
		if _, there := have[property]; there {
			t.Errorf("%s is still there", property)
		}
	}
	if have["username-claim"] != "preferred_username" {
		t.Error("username-claim is not what it was")
	}
	w.run(0, config, "plan", "--exit-code")
}

// version is the Proxmox VE version, as "9.2".
func (w *world) version() string {
	w.Helper()
	var v struct{ Version string }
	if err := json.Unmarshal(w.must(w.api(http.MethodGet, "/version", nil)).data, &v); err != nil {
		w.Fatal(err)
	}
	major, rest, _ := strings.Cut(v.Version, ".")
	minor, _, _ := strings.Cut(strings.ReplaceAll(rest, "-", "."), ".")
	return major + "." + minor
}

// earlier compares versions such as "9.2" and "10.0".
func earlier(a, b string) bool {
	var major, minor [2]int
	for i, v := range []string{a, b} {
		_, _ = fmt.Sscanf(v, "%d.%d", &major[i], &minor[i])
	}
	return major[0] < major[1] || major[0] == major[1] && minor[0] < minor[1]
}

func TestDriftOfTheClientKeyIsSeenAndNeverShown(t *testing.T) {
	w := begin(t)
	config := w.config(setting{})
	w.run(0, config, "apply")
	const stale = "somebody-elses-key-5d1c"
	w.change(w.realm, object{"client-key": stale})

	o := w.run(10, config, "plan", "--exit-code", "--log-level", "debug")
	if got := o.changed(); !slices.Equal(got, []string{"client-key"}) {
		t.Fatalf("the plan changes %v", got)
	}
	c := o.report.Targets[0].Changes[0]
	if c.Before == nil || c.After == nil || *c.Before != "(sensitive)" || *c.After != "(sensitive)" {
		t.Error("the key is not masked")
	}
	applied := w.run(0, config, "apply", "--log-level", "debug")
	for _, text := range []string{o.stdout, o.stderr, applied.stdout, applied.stderr} {
		if strings.Contains(text, stale) {
			t.Error("the stored key was printed")
		}
	}
	w.holds(w.realm, object{"client-key": env(t, "LAB_CLIENT_KEY")})
}

func TestDefaultMovesFromAnotherRealm(t *testing.T) {
	w := begin(t)
	var realms []struct {
		Realm   string
		Default any
	}
	if err := json.Unmarshal(w.must(w.api(http.MethodGet, "/access/domains", nil)).data, &realms); err != nil {
		t.Fatal(err)
	}
	for _, r := range realms {
		if r.Default != nil {
			w.Cleanup(func() { w.change(r.Realm, object{"default": 1}) })
		}
	}
	other := name()
	w.create(other, object{"default": 1})
	w.run(0, w.config(setting{realm: object{"default": true}}), "apply")
	w.holds(w.realm, object{"default": 1})
	w.holds(other, object{"default": nil})
}

func TestWhatProxmoxTreatsAlikeIsNoDrift(t *testing.T) {
	w := begin(t)
	w.create(w.realm, object{"scopes": "groups;profile, email", "username-claim": "username"})
	o := w.run(0, w.config(setting{bare: true, realm: object{
		"scopes": []string{"openid", "email", "profile", "groups"}, "username_claim": "preferred_username", "autocreate": false, "query_userinfo": true,
	}}), "plan", "--exit-code")
	if len(o.changed()) > 0 {
		t.Errorf("plans to change %v", o.changed())
	}
}

func TestAdoptionStripsNothing(t *testing.T) {
	w := begin(t)
	w.create(w.realm, object{
		"client-key": env(t, "LAB_CLIENT_KEY"), "comment": "by hand", "prompt": "login", "acr-values": "urn:x", "autocreate": 1, "scopes": "email profile groups",
	})
	w.run(0, w.config(setting{bare: true, realm: object{"comment": "adopted"}}), "apply")
	w.holds(w.realm, object{
		"comment": "adopted", "prompt": "login", "acr-values": "urn:x", "autocreate": 1, "scopes": "email profile groups",
		"client-key": env(t, "LAB_CLIENT_KEY"), "username-claim": nil,
	})
}

func TestConcurrentWriters(t *testing.T) {
	w := begin(t)
	other := name()
	w.create(other, nil)
	w.create(w.realm, object{"username-claim": "preferred_username"})

	// Somebody else keeps changing another realm, which moves the digest, while several agents
	// repair the same realm.
	stop := make(chan struct{})
	var writers, agents sync.WaitGroup
	writers.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				w.api(http.MethodPut, "/access/domains/"+other, object{"comment": strings.Repeat("x", i%50+1)})
			}
		}
	})
	codes := make([]int, 4)
	for i := range codes {
		config := w.config(setting{realm: object{"comment": "declared"}, more: object{"state_dir": filepath.Join(w.dir, fmt.Sprint("state", i))}})
		agents.Go(func() { codes[i] = launch(t, "-c", config, "-o", "json", "apply").code })
	}
	agents.Wait()
	close(stop)
	writers.Wait()
	for _, code := range codes {
		if code != 0 && code != 75 {
			t.Errorf("an agent ended with %d", code)
		}
	}
	w.run(0, w.config(setting{realm: object{"comment": "declared"}}), "apply")
	w.holds(w.realm, object{"comment": "declared", "autocreate": 1, "client-key": env(t, "LAB_CLIENT_KEY")})
	if have, _ := w.stored(other); !strings.HasPrefix(have["comment"].(string), "x") {
		t.Error("the other writer's change is lost")
	}
}

func TestUsernameClaimIsRefusedThenReplaced(t *testing.T) {
	w := begin(t)
	w.create(w.realm, object{"username-claim": "email", "comment": "unmanaged", "prompt": "login", "client-key": env(t, "LAB_CLIENT_KEY")})
	config := w.config(setting{bare: true, realm: object{"username_claim": "preferred_username", "scopes": []string{"openid", "profile"}}})

	for _, command := range []string{"plan", "apply"} {
		o := w.run(12, config, command)
		if target := o.report.Targets[0]; target.Action != "refuse" || target.Outcome != "refused" || target.Error == nil || target.Error.Hint == "" {
			t.Errorf("%s says %s, %s, %+v", command, target.Action, target.Outcome, target.Error)
		}
	}
	w.holds(w.realm, object{"username-claim": "email", "scopes": nil})

	o := w.run(0, config, "apply", "--replace")
	if action := o.report.Targets[0].Action; action != "replace" {
		t.Errorf("the action is %s", action)
	}
	w.holds(w.realm, object{
		"username-claim": "preferred_username", "scopes": "openid profile", "comment": "unmanaged", "prompt": "login", "client-key": env(t, "LAB_CLIENT_KEY"),
	})
	if left, _ := filepath.Glob(filepath.Join(w.dir, "state", "replaced-*")); len(left) > 0 {
		t.Errorf("a saved realm was left: %v", left)
	}
	w.run(0, config, "plan", "--exit-code")
}

func TestARealmOfAnotherType(t *testing.T) {
	w := begin(t)
	w.must(w.api(http.MethodPost, "/access/domains", object{
		"realm": w.realm, "type": "ldap", "server1": "ldap.example.com", "base_dn": "dc=example,dc=com", "user_attr": "uid",
	}))
	for _, command := range []string{"plan", "apply"} {
		if o := w.run(12, w.config(setting{}), command); o.report.Targets[0].Error.Code != "wrong-type" {
			t.Errorf("%s: %+v", command, o.report.Targets[0].Error)
		}
	}
	w.run(12, w.config(setting{}), "delete", w.realm, "--yes")
	w.holds(w.realm, object{"type": "ldap"})

	pam := w.config(setting{realm: object{"name": "pam"}})
	if o := w.run(12, pam, "apply"); o.report.Targets[0].Error.Code != "builtin-realm" {
		t.Errorf("pam: %+v", o.report.Targets[0].Error)
	}
}

func TestTokens(t *testing.T) {
	w := begin(t)
	w.create(w.realm, object{"username-claim": "preferred_username"})
	full := env(t, "LAB_TOKEN_REALM_ALLOCATE")
	id, _, _ := strings.Cut(full, "=")
	for _, c := range []struct {
		token       string
		plan, apply int
		code        string
	}{
		{"LAB_TOKEN_SYS_AUDIT", 10, 77, "permission-denied"},
		{"LAB_TOKEN_NO_PRIVILEGE", 77, 77, "permission-denied"},
		{"LAB_TOKEN_PRIVSEP_WITHOUT_ACL", 77, 77, "permission-denied"},
		{id + "=00000000-0000-4000-8000-000000000000", 77, 77, "bad-credentials"},
		{"LAB_TOKEN_REALM_ALLOCATE", 10, 0, ""},
	} {
		config := w.config(setting{token: c.token})
		w.run(c.plan, config, "plan", "--exit-code")
		o := w.run(c.apply, config, "apply")
		got := o.report.Targets[0].Error
		switch {
		case c.code == "" && got != nil:
			t.Errorf("%s: %+v", id, got)
		case c.code != "" && (got == nil || got.Code != c.code || got.Hint == ""):
			t.Errorf("expected %s with a hint, got %+v", c.code, got)
		}
	}
}

func TestExportAndApplyAgainIsNoChange(t *testing.T) {
	w := begin(t)
	w.create(w.realm, object{
		"client-key": env(t, "LAB_CLIENT_KEY"), "comment": "it's \"quoted\": yes # no", "prompt": "login", "acr-values": "urn:a;urn:b",
		"username-claim": "preferred_username", "autocreate": 0, "scopes": "email",
	})
	connection := w.config(setting{})
	keyFile := filepath.Join(w.dir, "exported-key")
	o := w.plainly(0, "-c", connection, "export", w.realm, "--key-out", keyFile)
	exported := filepath.Join(w.dir, "exported.yaml")
	// What is left behind stays with the test; the rest is as exported.
	kept := fmt.Sprintf("\nstate_dir: %q\n", filepath.Join(w.dir, "state"))
	if err := os.WriteFile(exported, []byte(o.stdout+kept), 0o600); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(keyFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key file: %v, %v", info, err)
	}
	args := []string{
		"-c", exported, "--token-file", w.secretFile(env(t, "LAB_TOKEN_REALM_ALLOCATE")), "--ca-file", env(t, "LAB_CA_FILE"), "-o", "json",
	}
	before := w.digest(w.realm)
	w.plainly(0, append(args, "plan", "--exit-code")...)
	if o := w.plainly(0, append(args, "apply")...); !strings.Contains(o.stdout, `"outcome":"unchanged"`) {
		t.Errorf("applying what was exported is a change:\n%s", o.stdout)
	}
	if w.digest(w.realm) != before {
		t.Error("the digest moved")
	}
	w.plainly(64, "-c", connection, "export", w.realm, "--key-out", keyFile) // never overwritten
}

func TestDelete(t *testing.T) {
	w := begin(t)
	w.create(w.realm, object{"comment": "to be deleted"})
	config := w.config(setting{})
	w.run(64, config, "delete", w.realm) // nobody there to confirm
	if _, exists := w.stored(w.realm); !exists {
		t.Fatal("deleted without a confirmation")
	}
	o := w.run(0, config, "delete", w.realm, "--yes")
	if target := o.report.Targets[0]; target.Action != "delete" || target.Outcome != "changed" {
		t.Errorf("%s, %s", target.Action, target.Outcome)
	}
	if _, exists := w.stored(w.realm); exists {
		t.Error("the realm is still there")
	}
	saved, _ := filepath.Glob(filepath.Join(w.dir, "state", "saved-*"))
	if len(saved) != 1 {
		t.Fatalf("saved: %v", saved)
	}
	if info, err := os.Stat(saved[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the saved realm: %v, %v", info, err)
	}
	if o := w.run(0, config, "delete", w.realm, "--yes"); o.report.Targets[0].Outcome != "unchanged" {
		t.Error("deleting an absent realm changes something")
	}
	w.run(0, config, "restore", w.realm, "--yes")
	w.holds(w.realm, object{"comment": "to be deleted"})
	if left, _ := filepath.Glob(filepath.Join(w.dir, "state", "saved-*")); len(left) > 0 {
		t.Errorf("restored, and still saved: %v", left)
	}
}
