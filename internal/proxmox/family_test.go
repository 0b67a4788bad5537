package proxmox_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	lab "proxmox-realm/internal/lab/pbs"
	"proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

// backup returns what was recorded with the real Backup Server.
func backup(t *testing.T) []recorded {
	t.Helper()
	return read(t, "proxmox-backup-4.2.json", "proxmox-backup-4.2-setup.json")
}

// Every recorded answer of Backup Server has the right kind and code. Datacenter Manager is the same code.
func TestBackupServerTranscripts(t *testing.T) {
	kinds := map[string]proxmox.Kind{
		"permissions-bad-path": proxmox.Invalid, "permissions-of-another": proxmox.Failed,
		"read-missing": proxmox.Absent, "update-missing": proxmox.Absent, "delete-missing": proxmox.Absent,
		"user-read-missing": proxmox.Absent, "token-read-missing": proxmox.Absent,
		"read-pam": proxmox.WrongType, "create-type": proxmox.UnknownProperty, "create-pve-keys": proxmox.UnknownProperty,
		"create-json-pve-keys": proxmox.UnknownProperty, "update-claim": proxmox.UnknownProperty, "read-unknown-query": proxmox.UnknownProperty,
		"create-pam": proxmox.Exists, "create-again": proxmox.Exists, "user-create-again": proxmox.Exists, "token-create-again": proxmox.Exists,
		"create-key-line-feed": proxmox.Failed, "create-json-broken": proxmox.Failed, "create-text": proxmox.Failed,
		"update-stale": proxmox.StaleDigest, "update-stale-missing": proxmox.StaleDigest, "delete-stale": proxmox.StaleDigest,
		"unknown-path": proxmox.NotProxmox, "head": proxmox.NotProxmox,
		"auth-url-missing": proxmox.NoRealm, "auth-url-unreachable": proxmox.IssuerUnreachable, "login-bad-state": proxmox.LoginRefused,
		"user-unknown-realm": proxmox.Failed, "openid-user-delete": proxmox.Failed, "acl-unknown-token": proxmox.Failed,
		"acl-unknown-path": proxmox.Failed, "acl-group": proxmox.Failed, "acl-as-token": proxmox.Failed, "own-acl": proxmox.Failed,
	}
	met := 0
	for _, r := range backup(t) {
		n := start(t, func(*call) answer { return r.answer() })
		c := connectTo(t, realm.BackupServer, n)
		c.Hurry()
		if r.Method == http.MethodHead {
			r.Method = http.MethodGet // the answer is what matters
		}
		err := c.Send(t.Context(), r.Method, r.Path, r.Body)
		if r.Response.Status == http.StatusOK {
			if err != nil {
				t.Errorf("%s: a success is %v", r.ID, err)
			}
			continue
		}
		want, listed := kinds[r.ID]
		switch {
		case listed:
			met++
		case r.Response.Status == 401:
			want = proxmox.BadCredentials
		case r.Response.Status == 403:
			want = proxmox.PermissionDenied
		default:
			want = proxmox.Invalid
		}
		var e *proxmox.Error
		if !errors.As(err, &e) || e.Kind != want || e.Status != r.Response.Status {
			t.Errorf("%s: %v, %+v; want %s", r.ID, err, e, want)
			continue
		}
		conflict := want == proxmox.Absent || want == proxmox.StaleDigest || want == proxmox.Exists
		if errors.Is(err, realm.ErrConflict) != conflict || errors.Is(err, realm.ErrLost) {
			t.Errorf("%s: a conflict %v, lost %v", r.ID, !conflict, errors.Is(err, realm.ErrLost))
		}
		if want == proxmox.Invalid && len(e.Fields) == 0 {
			t.Errorf("%s: no parameter was read from %q", r.ID, r.answer().Body)
		}
		if len(n.seen()) != 1 {
			t.Errorf("%s: %d requests", r.ID, len(n.seen()))
		}
	}
	if met != len(kinds) {
		t.Errorf("%d of %d listed exchanges are in the transcripts", met, len(kinds))
	}
}

// What an error says of parameters, properties and privileges reaches the caller.
func TestDetailsOfBackupServerRefusals(t *testing.T) {
	ask := func(id string) *proxmox.Error {
		t.Helper()
		all := backup(t)
		r := all[slices.IndexFunc(all, func(r recorded) bool { return r.ID == id })]
		c := connectTo(t, realm.BackupServer, start(t, func(*call) answer { return r.answer() }))
		c.Hurry()
		var e *proxmox.Error
		if !errors.As(c.Send(t.Context(), r.Method, r.Path, r.Body), &e) {
			t.Fatalf("%s: no error", id)
		}
		return e
	}
	var unknown *realm.UnknownPropertyError
	want := []realm.Property{"groups-autocreate", "groups-claim", "groups-overwrite", "query-userinfo"}
	e := ask("create-pve-keys")
	if !errors.As(e, &unknown) || !slices.Equal(unknown.Properties, want) || unknown.Product != realm.BackupServer {
		t.Errorf("unknown properties: %+v", unknown)
	}
	if !strings.HasPrefix(e.Error(), "Proxmox Backup Server does not know groups-autocreate (it has no groups), groups-claim (it has no groups), groups-overwrite (it has no groups), query-userinfo (it always reads") {
		t.Error(e.Error())
	}
	e = ask("create-empty")
	if len(e.Fields) != 3 || e.Fields["issuer-url"] != "parameter is missing and it is not optional" {
		t.Errorf("fields: %q", e.Fields)
	}
	if e := ask("create-scopes-colon"); !strings.HasPrefix(e.Fields["scopes"], "parameter verification failed - '': schema validation failed") {
		t.Errorf("a nested error: %q", e.Fields)
	}
	for id, privilege := range map[string]string{
		"list-openid-auditor": "Realm.Allocate", "create-auditor": "Realm.Allocate", "delete-auditor": "Realm.Allocate", "read-missing-no-privilege": "Sys.Audit",
	} {
		e := ask(id)
		if e.DeniedPath != "/access/domains" || !slices.Equal(e.Privileges, []string{privilege}) {
			t.Errorf("%s: %s, %q", id, e.DeniedPath, e.Privileges)
		}
		role := map[string]string{"Realm.Allocate": "Admin", "Sys.Audit": "Audit"}[privilege]
		line := "    proxmox-backup-manager acl update /access/domains " + role + " --auth-id 'realmctl@pbs!full'"
		if hint := string(check.HintOf(e)); !strings.Contains(hint, line) || !strings.Contains(hint, "--auth-id realmctl@pbs\n") || !strings.Contains(hint, "5s") {
			t.Errorf("%s: %s", id, hint)
		}
	}
	if e := ask("read-pam"); e.Found != "pam" {
		t.Errorf("the type: %q", e.Found)
	}
	if hint := check.HintOf(ask("version-expired")); !strings.Contains(string(hint), "    proxmox-backup-manager user list-tokens realmctl@pbs") {
		t.Error(hint)
	}
}

const secret = "7c5a3d1e-9b1f-4f0e-8f3b-2d1c0b9a8f7e"

// connectTo makes a client of a product.
func connectTo(t *testing.T, p realm.Product, nodes ...*node) *proxmox.Client {
	t.Helper()
	return connect(t, func(o *setup) {
		o.Product = p
		o.Token = config.Token{User: config.UserID{Name: "realmctl", Realm: p.String()}, ID: "full", Secret: check.NewSecret(secret)}
	}, nodes...)
}

func TestCredentialsOfEachProduct(t *testing.T) {
	for _, tt := range []struct {
		product               realm.Product
		authorization, cookie string
	}{
		{realm.VE, "PVEAPIToken=realmctl@pve!full=" + secret, "PVEAuthCookie=ticket:x"},
		{realm.BackupServer, "PBSAPIToken=realmctl@pbs!full:" + secret, "PBSAuthCookie=ticket:x"},
		{realm.DatacenterManager, "PDMAPIToken=realmctl@pdm!full:" + secret, "__Host-PDMAuthCookie=ticket:x"},
	} {
		n := start(t, func(*call) answer { return ok(`{"version":"9.2","release":"1"}`) })
		cleaner := check.NewCleaner()
		c := connect(t, func(o *setup) {
			o.Product, o.Cleaner = tt.product, cleaner
			o.Token = config.Token{User: config.UserID{Name: "realmctl", Realm: tt.product.String()}, ID: "full", Secret: check.NewSecret(secret)}
		}, n)
		session := proxmox.Session{Username: "jane@sso", Ticket: check.NewSecret("ticket:x"), CSRF: check.NewSecret("csrf")}
		for _, client := range []*proxmox.Client{c, c.As(session)} {
			if _, err := client.Version(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		byToken, byTicket := n.seen()[0].Header, n.seen()[1].Header
		if byToken.Get("Authorization") != tt.authorization || byToken.Get("Cookie") != "" {
			t.Errorf("%v: %s, cookie %s", tt.product, byToken.Get("Authorization"), byToken.Get("Cookie"))
		}
		if byTicket.Get("Cookie") != tt.cookie || byTicket.Get("CSRFPreventionToken") != "csrf" || byTicket.Get("Authorization") != "" {
			t.Errorf("%v: cookie %s, %s", tt.product, byTicket.Get("Cookie"), byTicket.Get("Authorization"))
		}
		for _, text := range []string{"realmctl@" + tt.product.String() + "!full:" + secret, "realmctl@" + tt.product.String() + "!full=" + secret} {
			if got := cleaner.Clean(text); strings.Contains(got, "7c5a") {
				t.Errorf("%v: %s is shown", tt.product, got)
			}
		}
		if c.Product() != tt.product {
			t.Error(c.Product())
		}
	}
}

func startBackup(t *testing.T, o lab.Options) *lab.Server {
	t.Helper()
	s, err := lab.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// products pairs each product of the stand-in with ours.
var products = map[realm.Product]*lab.Product{realm.BackupServer: lab.BackupServer, realm.DatacenterManager: lab.DatacenterManager}

func toBackup(t *testing.T, s *lab.Server, token string, change func(*setup)) *proxmox.Client {
	t.Helper()
	product, err := realm.ParseProduct(s.Product().Name)
	if err != nil {
		t.Fatal(err)
	}
	c := connect(t, func(o *setup) {
		o.Product, o.CA = product, x509.NewCertPool()
		o.CA.AppendCertsFromPEM(s.CertificatePEM())
		o.Endpoints = []config.Origin{config.Origin(s.URL())}
		name, secret, _ := strings.Cut(s.Token(token), ":")
		user, id, _ := strings.Cut(name, "!")
		at := strings.LastIndex(user, "@")
		o.Token = config.Token{User: config.UserID{Name: user[:at], Realm: user[at+1:]}, ID: id, Secret: check.NewSecret(secret)}
		if change != nil {
			change(o)
		}
	})
	c.Hurry()
	return c
}

// planFor plans what makes the realm hold the values.
func planFor(t *testing.T, p realm.Product, have realm.Current, set realm.Values, unset ...realm.Property) realm.Params {
	t.Helper()
	values := realm.Values{realm.IssuerURL: realm.Text("https://auth.example.com"), realm.ClientID: realm.Text("proxmox")}
	for property, v := range set {
		values[property] = v
	}
	plan := realm.Diff(realm.Spec{Product: p, Name: "authelia", Set: values, Unset: unset}, have, realm.Facts{})
	if plan.Action == realm.Refuse || plan.Empty() {
		t.Fatalf("%s: %v", plan.Action, plan.Refusal)
	}
	return plan.Params()
}

// defaults returns the realm that the login page preselects.
func defaults(s *lab.Server) string {
	for _, r := range s.State().Realms {
		if r.Properties["default"] == "true" {
			return r.Name
		}
	}
	return ""
}

// Creates, changes and deletes a realm. It takes the default from pam, and keeps it through every kind of change.
func TestLifeOfARealmOfBackupServer(t *testing.T) {
	for product, of := range products {
		t.Run(product.String(), func(t *testing.T) {
			s := startBackup(t, lab.Options{Product: of})
			c := toBackup(t, s, lab.TokenRealmAllocate, nil)
			read := func() realm.Current {
				t.Helper()
				got, err := c.Realm(t.Context(), "authelia")
				if err != nil || got.Product != product {
					t.Fatalf("%+v, %v", got, err)
				}
				return got
			}
			if read().Exists {
				t.Fatal("there already")
			}
			create := planFor(t, product, realm.Current{}, realm.Values{
				realm.ClientKey: realm.Key(check.NewSecret("key-number-one")), realm.Default: realm.Bool(true), realm.Autocreate: realm.Bool(true),
				realm.ACRValues: realm.Text("mfa"), realm.Comment: realm.Text("single sign-on"),
			})
			if err := c.Create(t.Context(), create); err != nil {
				t.Fatal(err)
			}
			if err := c.Create(t.Context(), create); !errors.Is(err, realm.ErrConflict) {
				t.Errorf("created twice: %v", err)
			}
			if defaults(s) != "authelia" {
				t.Errorf("the default is %q", defaults(s))
			}
			for name, change := range map[string]func(have realm.Current) realm.Params{
				"a text": func(have realm.Current) realm.Params {
					return planFor(t, product, have, realm.Values{realm.Comment: realm.Text("other")})
				},
				"a flag": func(have realm.Current) realm.Params {
					return planFor(t, product, have, realm.Values{realm.Autocreate: realm.Bool(false)})
				},
				"the key": func(have realm.Current) realm.Params {
					return planFor(t, product, have, realm.Values{realm.ClientKey: realm.Key(check.NewSecret("key-number-two"))})
				},
				"two properties go": func(have realm.Current) realm.Params {
					return planFor(t, product, have, nil, realm.Comment, realm.ACRValues)
				},
			} {
				if err := c.Update(t.Context(), "authelia", change(first(t, s, c, create))); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if defaults(s) != "authelia" {
					t.Errorf("after %s the default is %q", name, defaults(s))
				}
			}
			have := first(t, s, c, create)
			stale := planFor(t, product, have, realm.Values{realm.Comment: realm.Text("x")})
			if err := c.Update(t.Context(), "authelia", planFor(t, product, have, nil, realm.Comment, realm.Default)); err != nil {
				t.Fatal(err)
			}
			got := read()
			if _, there := got.Values[realm.Comment]; there || defaults(s) != "" || len(got.Digest) != 64 {
				t.Errorf("%+v, default %q", got, defaults(s))
			}
			if err := c.Update(t.Context(), "authelia", stale); !errors.Is(err, realm.ErrConflict) {
				t.Errorf("a stale digest: %v", err)
			}
			if err := c.Delete(t.Context(), "authelia", read().Digest); err != nil {
				t.Fatal(err)
			}
			if err := c.Delete(t.Context(), "authelia", got.Digest); !errors.Is(err, realm.ErrConflict) {
				t.Errorf("deleted twice: %v", err)
			}
			if err := c.Update(t.Context(), "authelia", stale); !errors.Is(err, realm.ErrConflict) {
				t.Errorf("updated what is gone: %v", err)
			}
			if read().Exists {
				t.Error("still there")
			}
			if v, err := c.Version(t.Context()); err != nil || v.Named() != product.Name()+" "+map[string]string{"pbs": "4.2.3", "pdm": "1.1.7"}[product.String()] {
				t.Errorf("%s, %v", v.Named(), err)
			}
		})
	}
}

// first makes the realm again as it was created, and reads it.
func first(t *testing.T, s *lab.Server, c *proxmox.Client, create realm.Params) realm.Current {
	t.Helper()
	if err := s.Update(func(st *lab.State) {
		st.Realms = slices.DeleteFunc(st.Realms, func(r lab.Realm) bool { return r.Name == "authelia" })
	}); err != nil {
		t.Fatal(err)
	}
	if err := c.Create(t.Context(), create); err != nil {
		t.Fatal(err)
	}
	have, err := c.Realm(t.Context(), "authelia")
	if err != nil {
		t.Fatal(err)
	}
	return have
}

// A DELETE of the API removes a realm of any type, and one that changed since it was read. This client's does not.
func TestDeleteIsGuarded(t *testing.T) {
	for _, of := range products {
		s := startBackup(t, lab.Options{Product: of})
		c := toBackup(t, s, lab.TokenRoot, nil)
		for _, name := range []string{"pam", of.Name} {
			current, err := c.Realm(t.Context(), name)
			if err != nil || !current.Exists || current.Type != name || current.Digest != "" {
				t.Errorf("%s: %+v, %v", name, current, err)
			}
			s.Reset()
			if err := c.Delete(t.Context(), name, current.Digest); check.CodeOf(err) != check.Internal || len(s.Requests()) > 0 {
				t.Errorf("%s: %v, %d requests", name, err, len(s.Requests()))
			}
		}
		product, _ := realm.ParseProduct(of.Name)
		if err := c.Create(t.Context(), planFor(t, product, realm.Current{}, nil)); err != nil {
			t.Fatal(err)
		}
		current, err := c.Realm(t.Context(), "authelia")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Update(func(st *lab.State) { st.Realms[len(st.Realms)-1].Type = "ldap" }); err != nil {
			t.Fatal(err)
		}
		if err := c.Delete(t.Context(), "authelia", current.Digest); !errors.Is(err, realm.ErrConflict) {
			t.Errorf("%s: a realm that became another one: %v", of.Name, err)
		}
		if realms, err := c.Realms(t.Context()); err != nil || len(realms) != 3 {
			t.Errorf("%s: %v, %v", of.Name, realms, err)
		}
	}
}

// Checks which token may read realms, write them and see users. A privilege that does not propagate is held all the same.
func TestPrivilegesOnBackupServer(t *testing.T) {
	for product, of := range products {
		s := startBackup(t, lab.Options{Product: of})
		if err := toBackup(t, s, lab.TokenRoot, nil).Create(t.Context(), planFor(t, product, realm.Current{}, nil)); err != nil {
			t.Fatal(err)
		}
		for token, may := range map[string]struct {
			code            check.Code
			reads, writes   check.Status
			users           bool
			reading, denied string
		}{
			lab.TokenRoot:           {"", check.Pass, check.Pass, true, "", ""},
			lab.TokenRealmAllocate:  {"", check.Pass, check.Pass, product == realm.DatacenterManager, "", ""}, // there, it holds /access
			lab.TokenSysAudit:       {"", check.Pass, check.Fail, product == realm.DatacenterManager, "", ""},
			lab.TokenNoPropagate:    {"", check.Pass, check.Pass, false, "", ""},
			lab.TokenNoPrivilege:    {check.PermissionDenied, check.Fail, check.Fail, false, "", ""},
			lab.TokenUserWithoutACL: {check.PermissionDenied, check.Fail, check.Fail, false, "", ""},
			lab.TokenExpired:        {check.BadCredentials, check.Skip, check.Skip, false, "", ""},
			lab.TokenDisabled:       {check.BadCredentials, check.Skip, check.Skip, false, "", ""},
			lab.TokenDisabledUser:   {check.BadCredentials, check.Skip, check.Skip, false, "", ""},
		} {
			c := toBackup(t, s, token, nil)
			if _, err := c.Realm(t.Context(), "authelia"); check.CodeOf(err) != may.code {
				t.Errorf("%v: %s reads: %v", product, token, err)
			}
			for write, want := range map[bool]check.Status{false: may.reads, true: may.writes} {
				found, _ := c.CheckPermissions(t.Context(), write, nil)
				if found.Status != want || (want == check.Fail) != (found.Hint != "") {
					t.Errorf("%v: %s, write %t: %+v, want %s", product, token, write, found, want)
				}
			}
			if users, _ := c.CountUsers(t.Context(), "pam"); users.Visible != may.users {
				t.Errorf("%v: %s sees users: %t", product, token, users.Visible)
			}
		}
	}
}

// A product without groups is asked for none, and a declared group is refused with the reason.
func TestNoGroups(t *testing.T) {
	s := startBackup(t, lab.Options{})
	c := toBackup(t, s, lab.TokenRoot, nil)
	current, err := c.Access(t.Context())
	groups, err2 := c.Groups(t.Context())
	if err != nil || err2 != nil || len(groups) > 0 || current.Product != realm.BackupServer || len(current.Entries) == 0 {
		t.Errorf("%+v, %v, %v", current, err, err2)
	}
	for _, r := range s.Requests() {
		if strings.HasSuffix(r.Path, "/access/groups") {
			t.Error("groups are asked for")
		}
	}
	plan := realm.DiffAccess(realm.Access{"admins": nil}, "authelia", realm.Login{}, current)
	if plan.Refusal == nil || plan.Refusal.Code != check.UnknownProperty || plan.Refusal.Key != "access" ||
		!strings.Contains(plan.Refusal.Message, "Proxmox Backup Server has no groups") || !strings.Contains(string(plan.Refusal.Hint), "{access}") {
		t.Errorf("%+v", plan.Refusal)
	}
}

// After a login on Backup Server nobody may do anything: proxmox.access names the line that grants a role to a user.
func TestAccessOnBackupServer(t *testing.T) {
	enabled := func(st *lab.State, name string) { st.Users[name] = &lab.User{} }
	for _, tt := range []struct {
		name          string
		product       realm.Product
		token         string
		change        func(*lab.State)
		autocreate    bool
		users, access check.Status
		says          string
	}{
		{
			"nobody yet", realm.BackupServer, lab.TokenRoot, nil, true, check.Pass, check.Warn,
			"run on the host (once NAME has logged in):\n    proxmox-backup-manager acl update / Audit --auth-id NAME@authelia",
		},
		{
			"a user without a role", realm.BackupServer, lab.TokenRoot, func(st *lab.State) { enabled(st, "jane@authelia") }, true, check.Pass, check.Warn,
			"run on the host:\n    proxmox-backup-manager acl update / Audit --auth-id jane@authelia",
		},
		{
			"on Datacenter Manager", realm.DatacenterManager, lab.TokenRoot, func(st *lab.State) { enabled(st, "jane@authelia") }, true, check.Pass, check.Warn,
			"    proxmox-datacenter-manager-client acl update / Auditor --auth-id jane@authelia",
		},
		{"a user with a role", realm.BackupServer, lab.TokenRoot, func(st *lab.State) {
			enabled(st, "jane@authelia")
			st.ACL = append(st.ACL, lab.ACL{Path: "/datastore/one", ID: "jane@authelia", Role: "DatastoreReader"})
		}, true, check.Pass, check.Pass, "a user of realm authelia has a role"},
		{"no users", realm.BackupServer, lab.TokenRoot, nil, false, check.Fail, check.Skip, "    proxmox-backup-manager user create NAME@authelia"},
		{"not visible", realm.BackupServer, lab.TokenRealmAllocate, nil, true, check.Skip, check.Skip, "proxmox-backup-manager acl update /access Audit --auth-id 'realmctl@pbs!full'"},
	} {
		s := startBackup(t, lab.Options{Product: products[tt.product]})
		if tt.change != nil {
			if err := s.Update(tt.change); err != nil {
				t.Fatal(err)
			}
		}
		login := realm.Login{Realm: "authelia", UsernameClaim: "preferred_username", Autocreate: tt.autocreate, QueryUserinfo: true}
		found, err := toBackup(t, s, tt.token, nil).CheckUsers(t.Context(), login, true)
		if err != nil || len(found) != 2 || found[0].Status != tt.users || found[1].Status != tt.access {
			t.Errorf("%s: %+v, %v", tt.name, found, err)
			continue
		}
		text := ""
		for _, c := range found {
			text += c.Summary + "\n" + c.Evidence + "\n" + string(c.Hint) + "\n"
			if strings.Contains(string(c.Hint), "pveum") || strings.Contains(string(c.Hint), "{access}") {
				t.Errorf("%s: advice for another product: %s", tt.name, c.Hint)
			}
		}
		if !strings.Contains(text, tt.says) {
			t.Errorf("%s: %q is missing in\n%s", tt.name, tt.says, text)
		}
	}
}

// The lock, the privileged daemon and lost answers.
func TestFailuresOfBackupServer(t *testing.T) {
	s := startBackup(t, lab.Options{LockTimeout: time.Millisecond})
	c := toBackup(t, s, lab.TokenRealmAllocate, nil)
	create := planFor(t, realm.BackupServer, realm.Current{}, nil)
	release := s.HoldLock()
	if err := c.Create(t.Context(), create); check.CodeOf(err) != check.LockTimeout || errors.Is(err, realm.ErrLost) {
		t.Errorf("lock: %v", err)
	}
	release()
	s.SetDaemon(false)
	err := c.Create(t.Context(), create)
	if check.CodeOf(err) != check.ProxmoxFailed || errors.Is(err, realm.ErrLost) || !strings.Contains(string(check.HintOf(err)), "systemctl status proxmox-backup-proxy proxmox-backup") {
		t.Errorf("no daemon: %v, %s", err, check.HintOf(err))
	}
	if _, err := c.Realm(t.Context(), "authelia"); err != nil {
		t.Errorf("reads go on without the daemon: %v", err)
	}
	s.SetDaemon(true)
	s.Inject(lab.Rule{Method: http.MethodPost, DropAnswer: true, Count: 1})
	if err := c.Create(t.Context(), create); !errors.Is(err, realm.ErrLost) {
		t.Errorf("a lost answer: %v", err)
	}
	if got, err := c.Realm(t.Context(), "authelia"); err != nil || !got.Exists {
		t.Errorf("%+v, %v", got, err)
	}
}

// An answer that shows another product says which one it is, and costs one request more.
func TestAnotherProduct(t *testing.T) {
	ve, err := pve.Start(pve.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ve.Close() })
	at := map[realm.Product]struct {
		url      string
		pem      []byte
		requests func() int
	}{realm.VE: {ve.URL(), ve.CertificatePEM(), func() int { return len(ve.Requests()) }}}
	for p, of := range products {
		s := startBackup(t, lab.Options{Product: of})
		at[p] = struct {
			url      string
			pem      []byte
			requests func() int
		}{s.URL(), s.CertificatePEM(), func() int { return len(s.Requests()) }}
	}
	for _, declared := range realm.Products() {
		for _, there := range realm.Products() {
			before := at[there].requests()
			c := connect(t, func(o *setup) {
				o.Product, o.CA = declared, x509.NewCertPool()
				o.CA.AppendCertsFromPEM(at[there].pem)
				o.Endpoints = []config.Origin{config.Origin(at[there].url)}
				o.Token = config.Token{User: config.UserID{Name: "a", Realm: declared.String()}, ID: "bb", Secret: check.NewSecret(secret)}
			})
			_, err := c.Realm(t.Context(), "authelia")
			requests := at[there].requests() - before
			if declared == there {
				if check.CodeOf(err) != check.BadCredentials || requests != 1 {
					t.Errorf("%v: %v, %d requests", declared, err, requests)
				}
				continue
			}
			var e *check.Error
			if !errors.As(err, &e) || e.Code != check.Config || e.Key != "proxmox.product" || requests != 2 ||
				!strings.Contains(e.Message, " is "+there.Name()+", not "+declared.Name()) ||
				!strings.Contains(string(e.Hint), "set {proxmox.product} to "+there.String()) {
				t.Errorf("%v at %v: %v, %d requests", declared, there, err, requests)
			}
		}
	}
}

// What stands before Proxmox is named, with the way past it.
func TestFrontsAreNamed(t *testing.T) {
	for _, tt := range []struct {
		name string
		answer
		says, hint string
	}{
		{
			"a sign-in proxy",
			answer{Status: 302, Reason: "Found", Header: "Location: https://login.example.com/?rd=x\r\n", Type: "text/html"},
			"it redirects to https://login.example.com/?rd=x with status 302 Found, as a sign-in proxy does", "address of the node itself",
		},
		{
			"a redirect without its path",
			answer{Status: 301, Reason: "Moved Permanently", Header: "Location: https://127.0.0.1:1/\r\n", Type: "-"},
			"it redirects to https://127.0.0.1:1/", "address of the node itself",
		},
		{"a sign-in page", answer{Status: 200, Reason: "OK", Type: "text/html", Body: "<!doctype html>Sign in"}, "it sent a web page with status 200 OK, as a sign-in proxy", "sign-in page"},
		{"a sign-in page as 401", answer{Status: 401, Reason: "Unauthorized", Type: "text/html", Body: "<html>"}, "it sent a web page with status 401", "sign-in page"},
		{
			"a load balancer",
			answer{Status: 503, Reason: "Service Unavailable", Type: "text/html", Body: "<html>No server is available"},
			"a load balancer or reverse proxy sent its error page with status 503", "the node behind it",
		},
	} {
		for _, p := range realm.Products() {
			n := start(t, func(*call) answer { return tt.answer })
			_, err := connectTo(t, p, n).Realm(t.Context(), "authelia")
			if check.CodeOf(err) != check.ProxmoxFailed || !strings.Contains(fmt.Sprint(err), tt.says) || !strings.Contains(string(check.HintOf(err)), tt.hint) {
				t.Errorf("%v: %s: %v; %s", p, tt.name, err, check.HintOf(err))
			}
			if len(n.seen()) != 1 {
				t.Errorf("%v: %s: %d requests", p, tt.name, len(n.seen()))
			}
		}
	}
}

// trip answers in memory, so that time can be that of a test.
func trip(answers ...func(*http.Request) (*http.Response, error)) func(*http.Request) (*http.Response, error) {
	n := 0
	return func(req *http.Request) (*http.Response, error) {
		n++
		return answers[min(n, len(answers))-1](req)
	}
}

func replies(status int, body string) func(*http.Request) (*http.Response, error) {
	return func(req *http.Request) (*http.Response, error) {
		res := inMemory(req, []byte(body))
		res.StatusCode, res.Status = status, fmt.Sprint(status, " ", http.StatusText(status))
		return res, nil
	}
}

// A grant is seen after up to 5 seconds: a client waits for it once.
func TestPatience(t *testing.T) {
	denied, there := replies(403, "permission check failed"), replies(200, `{"data":{"realm":"authelia","issuer-url":"https://a","client-id":"c"},"digest":"d"}`)
	for _, tt := range []struct {
		name    string
		product realm.Product
		answers []func(*http.Request) (*http.Response, error)
		took    time.Duration
		code    check.Code
	}{
		{"a grant just made", realm.BackupServer, []func(*http.Request) (*http.Response, error){denied, there}, 5 * time.Second, ""},
		{"no grant", realm.DatacenterManager, []func(*http.Request) (*http.Response, error){denied}, 5 * time.Second, check.PermissionDenied},
		{"Proxmox VE", realm.VE, []func(*http.Request) (*http.Response, error){denied}, 0, check.PermissionDenied},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := proxmox.Over(tt.product, trip(tt.answers...))
			began := time.Now()
			_, err := c.Realm(t.Context(), "authelia")
			if took := time.Since(began); check.CodeOf(err) != tt.code || took != tt.took {
				t.Errorf("%s: %v after %s", tt.name, err, took)
			}
			if _, err = c.Realm(t.Context(), "authelia"); time.Since(began) != tt.took {
				t.Errorf("%s: it waits again: %v", tt.name, err)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) { // an interruption ends it
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if _, err := proxmox.Over(realm.BackupServer, trip(denied)).Realm(ctx, "authelia"); err == nil || time.Since(began) != time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

// A silent issuer blocks the product for good, and no status tells: the request ends by its own time limit.
func TestSilentIssuer(t *testing.T) {
	silent := func(req *http.Request) (*http.Response, error) {
		_, _ = io.Copy(io.Discard, req.Body)
		proxmox.GotConn(req)
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	login := realm.Login{Realm: "authelia", IssuerURL: "https://auth.example.com"}
	for _, p := range realm.Products() {
		synctest.Test(t, func(t *testing.T) {
			c := proxmox.Over(p, silent)
			found, hung, err := c.CheckDiscovery(t.Context(), c.Endpoint(), login, "https://pve.example.com:8006", true)
			if err != nil || !hung || found.Status != check.Fail || !strings.Contains(found.Summary, "did not answer") {
				t.Errorf("%v: %+v, hung %t, %v", p, found, hung, err)
			}
			if !strings.Contains(string(found.Hint), "    curl -v -m 10 https://auth.example.com/.well-known/openid-configuration\n") || !strings.Contains(string(found.Hint), "    systemctl restart ") {
				t.Errorf("%v: %s", p, found.Hint)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) { // a short limit proves nothing, but the node must rest
		c := proxmox.Over(realm.BackupServer, silent)
		c.SetTimeout(5 * time.Second)
		found, hung, err := c.CheckDiscovery(t.Context(), c.Endpoint(), login, "https://pve.example.com:8006", true)
		if err != nil || !hung || found.Status != check.Skip {
			t.Errorf("%+v, hung %t, %v", found, hung, err)
		}
	})
}

// The ticket of a login is in the answer, or in a cookie that scripts do not see.
func TestTicketOfALogin(t *testing.T) {
	for p, a := range map[realm.Product]answer{
		realm.VE:           ok(`{"username":"jane@sso","ticket":"PVE:jane","CSRFPreventionToken":"x"}`),
		realm.BackupServer: ok(`{"username":"jane@sso","ticket":"PBS:jane","CSRFPreventionToken":"x"}`),
		realm.DatacenterManager: {
			Status: 200, Reason: "OK", Open: true, Body: `{"data":{"username":"jane@sso","ticket-info":"PDM:jane::ticketinfo","CSRFPreventionToken":"x"},"status":200,"success":true}`,
			Header: "Set-Cookie: __Host-PDMAuthCookie=PDM:jane; Secure; SameSite=Lax; HttpOnly; Path=/;\r\n",
		},
	} {
		n := start(t, func(c *call) answer {
			var body map[string]any
			if json.Unmarshal(c.Body, &body) != nil || len(body) != 3 {
				t.Errorf("%v: %s", p, c.Body)
			}
			return a
		})
		session, err := connectTo(t, p, n).Login(t.Context(), "state", "code-of-a-login", "https://pve.example.com")
		if err != nil || session.Username != "jane@sso" || !strings.HasSuffix(session.Ticket.Reveal(), ":jane") {
			t.Errorf("%v: %+v, %v", p, session, err)
		}
	}
}

// The reason of a failed login is in the answer of Backup Server; of Proxmox VE it is in the log only.
func TestReasonOfAFailedLogin(t *testing.T) {
	const text = "user account 'jane@sso' missing, disabled or expired."
	n := start(t, func(*call) answer { return answer{Status: 401, Reason: "Unauthorized", Body: text, Open: true} })
	var e *proxmox.Error
	_, err := connectTo(t, realm.BackupServer, n).Login(t.Context(), "state", "code-of-a-login", "https://pbs.example.com:8007")
	if !errors.As(err, &e) || e.Kind != proxmox.LoginRefused || e.Reason != text || len(n.seen()) != 1 {
		t.Errorf("%v", err)
	}
	if hint := string(check.HintOf(err)); !strings.Contains(hint, "journalctl -u proxmox-backup") || strings.Contains(hint, "only this log") {
		t.Error(hint)
	}
}

// Writes to Backup Server hold real booleans, a list of what to delete, and neither type nor name.
func TestFormOfWrites(t *testing.T) {
	var seen []map[string]any
	n := start(t, func(c *call) answer {
		var body map[string]any
		if c.Method != http.MethodGet && json.NewDecoder(bytes.NewReader(c.Body)).Decode(&body) == nil {
			seen = append(seen, body)
		}
		return ok("null")
	})
	c := connectTo(t, realm.BackupServer, n)
	have, err := realm.ParseCurrent(realm.BackupServer, []byte(`{"realm":"authelia","issuer-url":"https://auth.example.com","client-id":"proxmox","comment":"c","prompt":"login","autocreate":true,"default":true}`))
	if err != nil {
		t.Fatal(err)
	}
	have.Digest = strings.Repeat("a", 64)
	_ = c.Create(t.Context(), planFor(t, realm.BackupServer, realm.Current{}, realm.Values{realm.Autocreate: realm.Bool(false)}))
	_ = c.Update(t.Context(), "authelia", planFor(t, realm.BackupServer, have, realm.Values{realm.Autocreate: realm.Bool(false)}, realm.Comment, realm.Prompt))
	_ = c.Create(t.Context(), realm.RestoreParams("authelia", have))
	want := []string{
		`map[autocreate:false client-id:proxmox issuer-url:https://auth.example.com realm:authelia scopes:openid profile email username-claim:preferred_username]`,
		`map[autocreate:false default:true delete:[comment prompt] digest:` + have.Digest + `]`,
		`map[autocreate:true client-id:proxmox comment:c default:true issuer-url:https://auth.example.com prompt:login realm:authelia]`,
	}
	for i, w := range want {
		if i >= len(seen) || fmt.Sprint(seen[i]) != w {
			t.Errorf("write %d: %v, want %s", i, seen, w)
		}
	}
}
