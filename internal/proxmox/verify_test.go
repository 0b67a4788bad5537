package proxmox_test

import (
	"strings"
	"testing"

	"proxmox-realm/internal/check"
	lab "proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/realm"
)

func TestCheckUsers(t *testing.T) {
	user := func(id string, enable bool) func(*lab.State) {
		return func(s *lab.State) { s.Users[id] = &lab.User{Enable: enable} }
	}
	group := func(id string, members ...string) func(*lab.State) {
		return func(s *lab.State) {
			g := lab.Group{Users: map[string]bool{}}
			for _, m := range members {
				g.Users[m] = true
			}
			s.Groups[id] = g
		}
	}
	role := func(kind, id, name string) func(*lab.State) {
		return func(s *lab.State) {
			s.ACL = append(s.ACL, lab.ACL{Path: "/vms", Type: kind, ID: id, Role: name, Propagate: true})
		}
	}
	for name, tt := range map[string]struct {
		state []func(*lab.State)
		login realm.Login
		token string
		want  check.Status
		says  []string
	}{
		"nobody sees users":      {token: lab.TokenRealmAllocate, want: check.Skip, says: []string{"may not see users", "pveum acl modify /access --tokens"}},
		"nobody was created":     {want: check.Fail, says: []string{"nobody can log in", "pveum user add NAME@authelia"}},
		"one, who is disabled":   {state: []func(*lab.State){user("ann@authelia", false)}, want: check.Fail, says: []string{"1 user, 0 enabled"}},
		"no role":                {state: []func(*lab.State){user("ann@authelia", true)}, want: check.Warn, says: []string{"then do nothing", "--users ann@authelia"}},
		"a role that forbids":    {state: []func(*lab.State){user("ann@authelia", true), role("user", "ann@authelia", "NoAccess")}, want: check.Warn, says: []string{"then do nothing"}},
		"another realm's role":   {state: []func(*lab.State){user("ann@authelia", true), user("bob@pve", true), role("user", "bob@pve", "PVEAdmin")}, want: check.Warn, says: []string{"then do nothing"}},
		"a role":                 {state: []func(*lab.State){user("ann@authelia", true), role("user", "ann@authelia", "PVEAdmin")}, want: check.Pass},
		"a role by a group":      {state: []func(*lab.State){user("ann@authelia", true), group("staff", "ann@authelia"), role("group", "staff", "PVEAdmin")}, want: check.Pass},
		"a group without anyone": {state: []func(*lab.State){group("staff-authelia"), role("group", "staff-authelia", "PVEAdmin")}, login: realm.Login{Autocreate: true}, want: check.Warn, says: []string{"set realm.groups_claim to groups", "gives a role to somebody who can log in"}},
		"groups of logins":       {state: []func(*lab.State){group("staff-authelia"), role("group", "staff-authelia", "PVEAdmin")}, login: realm.Login{Autocreate: true, GroupsClaim: "groups"}, want: check.Pass},
		"groups under bare names": {
			state: []func(*lab.State){group("staff"), role("group", "staff", "PVEAdmin")}, login: realm.Login{Autocreate: true, GroupsClaim: "groups"},
			want: check.Warn, says: []string{"Proxmox ignores the groups", "pveum group add GROUP-authelia", "groups in Proxmox: staff"},
		},
		"groups made by logins, without a role": {
			login: realm.Login{Autocreate: true, GroupsClaim: "groups", GroupsAutocreate: true},
			want:  check.Warn, says: []string{"then do nothing", "pveum group add GROUP-authelia\n    pveum acl modify / --groups GROUP-authelia --roles PVEAuditor"},
		},
		"a subject that does not fit": {login: realm.Login{Realm: strings.Repeat("r", 28), UsernameClaim: "sub", Autocreate: true}, want: check.Warn, says: []string{"at most 27 characters"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := startLab(t, lab.Options{})
			err := s.Update(func(state *lab.State) {
				for _, change := range tt.state {
					change(state)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if tt.token == "" {
				tt.token = lab.TokenRoot
			}
			if tt.login.Realm == "" {
				tt.login.Realm = "authelia"
			}
			found, err := toLab(t, s, tt.token, nil).CheckUsers(t.Context(), tt.login, true)
			if err != nil || len(found) != 2 || found[0].ID != check.ProxmoxUsers || found[1].ID != check.ProxmoxAccess {
				t.Fatalf("%+v, %v", found, err)
			}
			c := found[0]
			if c.Status == check.Pass {
				c = found[1]
			}
			all := c.Summary + "\n" + c.Evidence + "\n" + c.Hint.For(check.Names{})
			if c.Status != tt.want || (c.Hint.For(check.Names{}) == "") == (c.Status == check.Warn || c.Status == check.Fail) {
				t.Errorf("%s, expected %s:\n%s", c.Status, tt.want, all)
			}
			for _, text := range tt.says {
				if !strings.Contains(all, text) {
					t.Errorf("%q is not in\n%s", text, all)
				}
			}
		})
	}
}

// Without the privilege to see the access control list, the check says that roles are not visible.
func TestRolesThatAreNotVisibleWarnNobody(t *testing.T) {
	s := startLab(t, lab.Options{})
	err := s.Update(func(state *lab.State) {
		state.ACL = append(state.ACL,
			lab.ACL{Path: "/access/groups", Type: "token", ID: "realmadm@pve!agent", Role: "PVEAuditor", Propagate: true},
			lab.ACL{Path: "/access/groups", Type: "user", ID: "realmadm@pve", Role: "PVEAuditor", Propagate: true})
		for id := range state.Users {
			for token := range state.Users[id].Tokens {
				state.ACL = append(state.ACL,
					lab.ACL{Path: "/access/groups", Type: "token", ID: id + "!" + token, Role: "PVEAuditor", Propagate: true},
					lab.ACL{Path: "/access/groups", Type: "user", ID: id, Role: "PVEAuditor", Propagate: true})
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	found, err := toLab(t, s, lab.TokenNoPrivilege, nil).CheckUsers(t.Context(), realm.Login{Realm: "authelia", Autocreate: true}, true)
	if err != nil || found[0].Status != check.Pass || found[1].Status != check.Skip || !strings.Contains(found[1].Summary, "not visible without Sys.Audit on /access") {
		t.Errorf("%+v", found)
	}
}

func TestCheckPermissions(t *testing.T) {
	s := startLab(t, lab.Options{})
	for _, tt := range []struct {
		token string
		write bool
		want  check.Status
		hint  string
	}{
		{lab.TokenRealmAllocate, true, check.Pass, ""},
		{lab.TokenRoot, true, check.Pass, ""},
		{lab.TokenSysAudit, false, check.Pass, ""},
		{lab.TokenSysAudit, true, check.Fail, "set proxmox.token_file to another token"},
		{lab.TokenNoPrivilege, false, check.Fail, "pveum role add RealmAuditor --privs Sys.Audit"},
		{lab.TokenPrivsepWithoutACL, true, check.Fail, "    pveum role add RealmAdmin --privs Realm.Allocate\n    pveum acl modify /access/realm --users"},
	} {
		if c, err := toLab(t, s, tt.token, nil).CheckPermissions(t.Context(), tt.write, nil); err != nil || c.Status != tt.want || !strings.Contains(c.Hint.For(check.Names{}), tt.hint) {
			t.Errorf("%s, write %v: %+v", tt.token, tt.write, c)
		}
	}
}

// A definite answer of the node fails the check, because a login gets the same answer. Any other answer, or none, skips the
// check and returns an error.
func TestCheckDiscoveryTellsAnswersFromSilence(t *testing.T) {
	login := realm.Login{Realm: "authelia", IssuerURL: "https://auth.example.com", ClientID: "proxmox", Scopes: []string{"openid"}}
	for _, tt := range []struct {
		name   string
		answer answer
		want   check.Status
		hung   bool
		says   string
	}{
		{"no such realm", fails(500, "authentication domain 'authelia' does not exist"), check.Fail, false, "nobody can log in"},
		{"a realm of another type", fails(500, "wrong realm type (ldap != openid)"), check.Fail, false, "set realm.name"},
		{"an unknown failure", fails(500, "something is wrong"), check.Fail, false, "journalctl"},
		{"a failure without a reason", fails(500, "Internal Server Error"), check.Fail, false, "a reverse proxy may drop the reason"},
		{"an unknown refusal", fails(418, "I'm a teapot"), check.Fail, false, "418 I'm a teapot|I'm a teapot"},
		{"the issuer is away", fails(500, "Request failed"), check.Fail, false, "curl -v https://auth.example.com/.well-known/openid-configuration"},
		{"the issuer hangs", fails(596, "Connection timed out"), check.Fail, true, "systemctl restart pvedaemon"},
		{"another URL", ok(`"https://auth.example.com/authorize?client_id=other"`), check.Fail, false, `client_id is "other", not "proxmox"`},
		{"silence", answer{Drop: true}, check.Skip, false, "not checked"},
		{"the daemon is away", fails(595, "Connection refused"), check.Skip, false, "not checked"},
		{"a gateway's 502", fails(502, "Bad Gateway"), check.Skip, false, "not checked"},
		{"a gateway's 503", fails(503, "Service Unavailable"), check.Skip, false, "not checked"},
		{"too many requests", fails(429, "Too Many Requests"), check.Skip, false, "not checked"},
		{"a portal", answer{Status: 200, Type: "text/html", Body: "<html>"}, check.Skip, false, "not checked"},
		{"a redirect", answer{Status: 302, Reason: "Found", Header: "Location: /\r\n"}, check.Skip, false, "not checked"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := start(t, func(*call) answer { return tt.answer })
			found, hung, err := connect(t, nil, n).CheckDiscovery(t.Context(), n.URL, login, "https://pve.example.com:8006", true)
			all := found.Summary + "\n" + found.Evidence + "\n" + found.Hint.For(check.Names{})
			says := false
			for text := range strings.SplitSeq(tt.says, "|") {
				says = says || strings.Contains(all, text)
			}
			if found.ID != check.ProxmoxDiscovery || found.Status != tt.want || hung != tt.hung || !says || (err != nil) != (tt.want == check.Skip) {
				t.Errorf("hung %v, %v, %s:\n%s", hung, err, found.Status, all)
			}
			if (len(found.Hint) > 0) != (found.Status == check.Fail) || len(n.seen()) != 1 {
				t.Errorf("%d steps, %d requests", len(found.Hint), len(n.seen()))
			}
		})
	}
}

// The checks return an error if Proxmox does not answer, but not for a missing privilege.
func TestChecksTellWhenProxmoxIsAway(t *testing.T) {
	for name, tt := range map[string]struct {
		answer answer
		code   check.Code
	}{
		"silence":     {answer{Drop: true}, check.Unreachable},
		"unavailable": {fails(595, "Connection refused"), check.ProxmoxFailed},
		"401":         {fails(401, "no such token"), check.BadCredentials},
		"403":         {fails(403, "Permission check failed (/access/groups, Sys.Audit)"), ""},
	} {
		c := connect(t, nil, start(t, func(*call) answer { return tt.answer }))
		found, err := c.CheckUsers(t.Context(), realm.Login{Realm: "authelia", Autocreate: true}, false)
		if users := found[0]; users.Status != check.Skip || (err != nil) != (tt.code != "") || err != nil && check.CodeOf(err) != tt.code {
			t.Errorf("%s: %+v, %v", name, found, err)
		}
		if permissions, err := c.CheckPermissions(t.Context(), true, nil); permissions.Status != check.Skip || err == nil {
			t.Errorf("%s: %+v, %v", name, permissions, err)
		}
	}
}
