package proxmox_test

import (
	"maps"
	"strings"
	"testing"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/lab/pbs"
	"proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

// words is all that a check says.
func words(c check.Check) string {
	return c.Summary + "\n" + c.Evidence + "\n" + c.Hint.For(check.Names{})
}

func TestCheckUsers(t *testing.T) {
	user := func(id string, enable bool) func(*pve.State) {
		return func(s *pve.State) { s.Users[id] = &pve.User{Enable: enable} }
	}
	group := func(id string, members ...string) func(*pve.State) {
		return func(s *pve.State) {
			g := pve.Group{Users: map[string]bool{}}
			for _, m := range members {
				g.Users[m] = true
			}
			s.Groups[id] = g
		}
	}
	role := func(kind, id, name, path string) func(*pve.State) {
		return func(s *pve.State) {
			s.ACL = append(s.ACL, pve.ACL{Path: path, Type: kind, ID: id, Role: name, Propagate: true})
		}
	}
	type state []func(*pve.State)
	created := realm.Login{Autocreate: true}
	grouped := realm.Login{Autocreate: true, GroupsClaim: "groups"}
	for name, tt := range map[string]struct {
		state state
		login realm.Login
		token string
		want  check.Status
		says  []string
	}{
		"nobody sees users":                 {token: pve.TokenRealmAllocate, want: check.Skip, says: []string{"may not see users", "pveum acl modify /access --tokens"}},
		"nobody was created":                {want: check.Fail, says: []string{"nobody can log in", "pveum user add NAME@authelia", "set realm.autocreate to true"}},
		"one, who is disabled":              {state: state{user("ann@authelia", false)}, want: check.Fail, says: []string{"1 user, 0 enabled"}},
		"no role":                           {state: state{user("ann@authelia", true)}, want: check.Warn, says: []string{"then do nothing", "--users ann@authelia"}},
		"a role that forbids":               {state: state{user("ann@authelia", true), role("user", "ann@authelia", "NoAccess", "/vms")}, want: check.Warn, says: []string{"then do nothing"}},
		"another realm's role":              {state: state{user("ann@authelia", true), user("bob@pve", true), role("user", "bob@pve", "PVEAdmin", "/vms")}, want: check.Warn, says: []string{"then do nothing"}},
		"a role":                            {state: state{user("ann@authelia", true), role("user", "ann@authelia", "PVEAdmin", "/vms")}, want: check.Pass},
		"a role by a group":                 {state: state{user("ann@authelia", true), group("staff", "ann@authelia"), role("group", "staff", "PVEAdmin", "/vms")}, want: check.Pass},
		"a group without anyone":            {state: state{group("staff-authelia"), role("group", "staff-authelia", "PVEAdmin", "/vms")}, login: created, want: check.Warn, says: []string{"set realm.groups_claim to groups", "gives a role to somebody who can log in"}},
		"groups of logins":                  {state: state{group("staff-authelia"), role("group", "staff-authelia", "PVEAdmin", "/vms")}, login: grouped, want: check.Pass},
		"a group of logins, without a role": {state: state{group("staff-authelia")}, login: grouped, want: check.Warn, says: []string{"    pveum acl modify / --groups staff-authelia --roles PVEAuditor"}},
		"groups under bare names": {
			state: state{group("staff"), role("group", "staff", "PVEAdmin", "/vms")}, login: grouped,
			want: check.Warn, says: []string{"Proxmox ignores the groups", "pveum group add GROUP-authelia", "groups in Proxmox: staff"},
		},
		"groups made by logins, without a role": {
			login: realm.Login{Autocreate: true, GroupsClaim: "groups", GroupsAutocreate: true},
			want:  check.Warn, says: []string{"then do nothing", "pveum group add GROUP-authelia\n    pveum acl modify / --groups GROUP-authelia --roles PVEAuditor"},
		},
		"a subject that does not fit": {login: realm.Login{Realm: strings.Repeat("r", 28), UsernameClaim: "sub", Autocreate: true}, want: check.Warn, says: []string{"at most 27 characters"}},
		"another claim that fits":     {login: realm.Login{Realm: strings.Repeat("r", 28), UsernameClaim: "email", Autocreate: true}, want: check.Warn, says: []string{"then do nothing"}},
		"grants that are not visible": {
			state: state{role("token", "nobody@pve!none", "PVEAuditor", "/access/groups"), role("user", "nobody@pve", "PVEAuditor", "/access/groups")},
			login: created, token: pve.TokenNoPrivilege, want: check.Skip, says: []string{"not visible without Sys.Audit on /access"},
		},
	} {
		s := startVE(t, pve.Options{})
		if err := s.Update(func(state *pve.State) {
			for _, change := range tt.state {
				change(state)
			}
		}); err != nil {
			t.Fatal(err)
		}
		if tt.token == "" {
			tt.token = pve.TokenRoot
		}
		if tt.login.Realm == "" {
			tt.login.Realm = "authelia"
		}
		found, err := connect(t, s, tt.token).CheckUsers(t.Context(), tt.login, true)
		if err != nil || len(found) != 2 || found[0].ID != check.ProxmoxUsers || found[1].ID != check.ProxmoxAccess {
			t.Fatalf("%s: %+v, %v", name, found, err)
		}
		c := found[0]
		if c.Status == check.Pass {
			c = found[1]
		}
		if c.Status != tt.want || (c.Hint == "") == (c.Status == check.Warn || c.Status == check.Fail) {
			t.Errorf("%s: %s, expected %s:\n%s", name, c.Status, tt.want, words(c))
		}
		for _, text := range tt.says {
			if !strings.Contains(words(c), text) {
				t.Errorf("%s: %q is not in\n%s", name, text, words(c))
			}
		}
	}
}

// After a login on Backup Server nobody may do anything: proxmox.access names the line that grants a role to a user.
func TestCheckUsersOfBackupServer(t *testing.T) {
	jane := func(roles ...string) func(*pbs.State) {
		return func(st *pbs.State) {
			st.Users["jane@authelia"] = &pbs.User{}
			for _, role := range roles {
				st.ACL = append(st.ACL, pbs.ACL{Path: "/datastore/one", ID: "jane@authelia", Role: role})
			}
		}
	}
	nobody := func(*pbs.State) {}
	for name, tt := range map[string]struct {
		product       realm.Product
		token         string
		change        func(*pbs.State)
		autocreate    bool
		users, access check.Status
		says          string
	}{
		"nobody yet":            {realm.BackupServer, pbs.TokenRoot, nobody, true, check.Pass, check.Warn, "run on the host (once NAME has logged in):\n    proxmox-backup-manager acl update / Audit --auth-id NAME@authelia"},
		"a user without a role": {realm.BackupServer, pbs.TokenRoot, jane(), true, check.Pass, check.Warn, "run on the host:\n    proxmox-backup-manager acl update / Audit --auth-id jane@authelia"},
		"on Datacenter Manager": {realm.DatacenterManager, pbs.TokenRoot, jane(), true, check.Pass, check.Warn, "    proxmox-datacenter-manager-client acl update / Auditor --auth-id jane@authelia"},
		"a user with a role":    {realm.BackupServer, pbs.TokenRoot, jane("DatastoreReader"), true, check.Pass, check.Pass, "a user of realm authelia has a role"},
		"no users":              {realm.BackupServer, pbs.TokenRoot, nobody, false, check.Fail, check.Skip, "    proxmox-backup-manager user create NAME@authelia"},
		"not visible":           {realm.BackupServer, pbs.TokenRealmAllocate, nobody, true, check.Skip, check.Skip, "proxmox-backup-manager acl update /access Audit --auth-id 'realmctl@pbs!full'"},
	} {
		s := startPBS(t, tt.product)
		if err := s.Update(tt.change); err != nil {
			t.Fatal(err)
		}
		login := realm.Login{Realm: "authelia", UsernameClaim: "preferred_username", Autocreate: tt.autocreate, QueryUserinfo: true}
		found, err := connect(t, s, tt.token).CheckUsers(t.Context(), login, true)
		if err != nil || len(found) != 2 || found[0].Status != tt.users || found[1].Status != tt.access {
			t.Errorf("%s: %+v, %v", name, found, err)
			continue
		}
		if text := words(found[0]) + words(found[1]); !strings.Contains(text, tt.says) || strings.Contains(text, "pveum") || strings.Contains(text, "set access") {
			t.Errorf("%s: %q is missing, or advice for another product is in\n%s", name, tt.says, text)
		}
	}
}

// Which token may read realms, change them and see users. A privilege that does not propagate is held all the same.
func TestPrivileges(t *testing.T) {
	type may struct {
		code            check.Code // of a read
		reads, writes   check.Status
		users           bool
		toRead, toWrite string // in the hints
	}
	everything := may{"", check.Pass, check.Pass, true, "", ""}
	none := may{check.PermissionDenied, check.Fail, check.Fail, false, "", ""}
	refused := may{check.BadCredentials, check.Skip, check.Skip, false, "", ""}
	ve := map[string]may{
		pve.TokenRoot:              everything,
		pve.TokenRealmAllocate:     {"", check.Pass, check.Pass, false, "", ""},
		pve.TokenSysAudit:          {"", check.Pass, check.Fail, false, "", "set proxmox.token_file to another token"},
		pve.TokenNoPrivilege:       {check.PermissionDenied, check.Fail, check.Fail, false, "pveum role add RealmAuditor --privs Sys.Audit", "pveum role add RealmAdmin"},
		pve.TokenPrivsepWithoutACL: {check.PermissionDenied, check.Fail, check.Fail, false, "", "    pveum role add RealmAdmin --privs Realm.Allocate\n    pveum acl modify /access/realm --users"},
	}
	backup := map[string]may{
		pbs.TokenRoot:           everything,
		pbs.TokenRealmAllocate:  {"", check.Pass, check.Pass, false, "", ""},
		pbs.TokenSysAudit:       {"", check.Pass, check.Fail, false, "", ""},
		pbs.TokenNoPropagate:    {"", check.Pass, check.Pass, false, "", ""},
		pbs.TokenNoPrivilege:    none,
		pbs.TokenUserWithoutACL: none,
		pbs.TokenExpired:        refused,
		pbs.TokenDisabled:       refused,
		pbs.TokenDisabledUser:   refused,
	}
	manager := maps.Clone(backup) // there, these tokens hold /access
	for _, token := range []string{pbs.TokenRealmAllocate, pbs.TokenSysAudit} {
		m := manager[token]
		m.users = true
		manager[token] = m
	}
	for p, tokens := range map[realm.Product]map[string]may{realm.VE: ve, realm.BackupServer: backup, realm.DatacenterManager: manager} {
		s := start(t, p)
		stale := created(t, connect(t, s, pve.TokenRoot), nil)
		stale.Digest = strings.Repeat("a", 64)
		for token, may := range tokens {
			c := connect(t, s, token)
			s.Reset()
			if _, err := c.Realm(t.Context(), "authelia"); check.CodeOf(err) != may.code || len(s.Requests()) != 1 {
				t.Errorf("%v: %s reads: %v, %s", p, token, err, asked(s))
			}
			read, _ := c.CheckPermissions(t.Context(), false, nil)
			write, _ := c.CheckPermissions(t.Context(), true, nil)
			for found, want := range map[*check.Check]check.Status{&read: may.reads, &write: may.writes} {
				if found.Status != want || (want == check.Fail) != (found.Hint != "") {
					t.Errorf("%v: %s: %+v, want %s", p, token, found, want)
				}
			}
			if !strings.Contains(words(read), may.toRead) || !strings.Contains(words(write), may.toWrite) {
				t.Errorf("%v: %s: %s; %s", p, token, words(read), words(write))
			}
			users, err := c.CountUsers(t.Context(), "pam")
			if users.Visible != may.users || (err != nil) != (may.code == check.BadCredentials) {
				t.Errorf("%v: %s sees users: %t, %v", p, token, users.Visible, err)
			}
			err = c.Update(t.Context(), "authelia", planned(p, stale, realm.Values{realm.Comment: realm.Text("y")}))
			if want := map[check.Status]check.Code{check.Pass: check.Conflict, check.Fail: check.PermissionDenied, check.Skip: check.BadCredentials}[may.writes]; check.CodeOf(err) != want {
				t.Errorf("%v: %s writes: %v", p, token, err)
			}
		}
	}
	s := start(t, realm.VE)
	wrong := connect(t, s, pve.TokenRoot, withToken(t, realm.VE))
	if _, err := wrong.Realm(t.Context(), "authelia"); check.CodeOf(err) != check.BadCredentials || len(s.Requests()) != 1 {
		t.Errorf("%v, %s", err, asked(s))
	}
}

// A definite answer of the node fails the check, because a login gets the same answer.
func TestCheckDiscovery(t *testing.T) {
	login := realm.Login{Realm: "authelia", IssuerURL: "https://auth.example.com", ClientID: "proxmox", Scopes: []string{"openid"}}
	for name, tt := range map[string]struct {
		answer pve.Rule
		hung   bool
		says   string
	}{
		"no such realm":              {fails(500, "authentication domain 'authelia' does not exist"), false, "nobody can log in"},
		"a realm of another type":    {fails(500, "wrong realm type (ldap != openid)"), false, "set realm.name"},
		"an unknown failure":         {fails(500, "something is wrong"), false, "journalctl"},
		"a failure without a reason": {fails(500, "Internal Server Error"), false, "a reverse proxy may drop the reason"},
		"an unknown refusal":         {fails(418, "I'm a teapot"), false, "418 I'm a teapot"},
		"the issuer is away":         {fails(500, "Request failed"), false, "although this machine can\n/access/openid/auth-url: 500 Request failed\nrun on a node (shows the cause):\n    curl -v https://auth.example.com/.well-known/openid-configuration"},
		"another document":           {fails(500, "Failed to parse server response"), false, "run on a node (must print JSON):\n    curl -v https://auth.example.com/.well-known/openid-configuration"},
		"the issuer hangs":           {fails(596, "Connection timed out"), true, "systemctl restart pvedaemon"},
		"another URL":                {ok(`"https://auth.example.com/authorize?client_id=other"`), false, `client_id is "other", not "proxmox"`},
	} {
		s, c := failing(t, realm.VE, tt.answer)
		found, hung, err := c.CheckDiscovery(t.Context(), c.Endpoint(), login, "https://pve.example.com:8006", true)
		if err != nil || found.ID != check.ProxmoxDiscovery || found.Status != check.Fail || hung != tt.hung || !strings.Contains(words(found), tt.says) || found.Hint == "" || len(s.Requests()) != 1 {
			t.Errorf("%s: hung %v, %v, %s:\n%s", name, hung, err, found.Status, words(found))
		}
	}
	_, c := failing(t, realm.VE, ok(`"https://auth.example.com/a?response_type=code&client_id=proxmox&redirect_uri=https%3A%2F%2Fpve.example.com%3A8006&code_challenge_method=S256`+
		`&scope=openid+openid&state=s&nonce=n&code_challenge=c"`))
	found, _, err := c.CheckDiscovery(t.Context(), c.Endpoint(), login, "https://pve.example.com:8006", true)
	if err != nil || found.Status != check.Pass || !strings.Contains(found.Evidence, "client_id=proxmox") {
		t.Errorf("%+v, %v", found, err)
	}
}

// The checks return an error if Proxmox does not answer, but not for a missing privilege.
func TestChecksTellWhenProxmoxIsAway(t *testing.T) {
	for name, tt := range map[string]struct {
		answer pve.Rule
		code   check.Code
	}{
		"silence":     {pve.Rule{Drop: true}, check.Unreachable},
		"unavailable": {fails(595, "Connection refused"), check.ProxmoxFailed},
		"401":         {fails(401, "no such token"), check.BadCredentials},
		"403":         {fails(403, "Permission check failed (/access/groups, Sys.Audit)"), ""},
	} {
		_, c := failing(t, realm.VE, tt.answer)
		found, err := c.CheckUsers(t.Context(), realm.Login{Realm: "authelia", Autocreate: true}, false)
		if users := found[0]; users.Status != check.Skip || check.CodeOf(err) != tt.code {
			t.Errorf("%s: %+v, %v", name, found, err)
		}
		if permissions, err := c.CheckPermissions(t.Context(), true, nil); permissions.Status != check.Skip || err == nil {
			t.Errorf("%s: %+v, %v", name, permissions, err)
		}
	}
}

// A user can log in if it is enabled, which is the default, and has not expired. Without the privilege to see all users there is no
// list: an empty one would not mean that there are none.
func TestListUsers(t *testing.T) {
	for held, want := range map[string]string{
		`{"/access/groups":{"Sys.Audit":0}}`: "default@a+ disabled@a- expired@a- later@a+ never@a+", // 0: held here, not inherited below
		`{}`:                                 "",
		`{"/access/groups":{}}`:              "",
		`{"/access/groups":{"Group.Allocate":1}}`: "",
	} {
		s, c := failing(t, realm.VE, ok(`[{"userid":"root@pam"},{"userid":"never@a","enable":1,"expire":0},{"userid":"default@a"},{"userid":"disabled@a","enable":0},
			{"userid":"expired@a","enable":1,"expire":1},{"userid":"later@a","enable":"1","expire":"4000000000"}]`))
		s.Inject(pve.Rule{Path: "/access/permissions", Status: 200, Body: `{"data":` + held + `}`})
		list, visible, err := c.ListUsers(t.Context(), "a")
		var got []string
		for _, u := range list {
			got = append(got, u.ID+map[bool]string{true: "+", false: "-"}[u.Enabled])
		}
		if err != nil || strings.Join(got, " ") != want || visible != (want != "") || visible != (len(s.Requests()) == 2) {
			t.Errorf("%s: %q, %v, %v, %s", held, got, visible, err, asked(s))
		}
	}
}

// A user who has logged in sees itself with its groups.
func TestSelf(t *testing.T) {
	s := startVE(t, pve.Options{})
	if err := s.Update(func(st *pve.State) {
		st.Groups["dev"], st.Groups["ops"] = pve.Group{Users: map[string]bool{"admin@pve": true}}, pve.Group{Users: map[string]bool{"admin@pve": true}}
	}); err != nil {
		t.Fatal(err)
	}
	me, found, err := connect(t, s, pve.TokenRoot, as(s, pve.UserAdmin)).Self(t.Context())
	if want := (proxmox.User{ID: "admin@pve", Enabled: true}); err != nil || !found || me.ID != want.ID || !me.Enabled || strings.Join(me.Groups, " ") != "dev ops" {
		t.Errorf("%+v, %t, %v", me, found, err)
	}
	if _, found, err := connect(t, s, pve.TokenRoot).Self(t.Context()); found || err != nil {
		t.Errorf("a token is no user: %t, %v", found, err)
	}
}
