package pve_test

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"proxmox-realm/internal/check"
	lab "proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/pve"
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
		"nobody sees users":      {token: lab.TokenRealmAllocate, want: check.Skip, says: []string{"does not see users", "pveum acl modify /access --tokens"}},
		"nobody was created":     {want: check.Fail, says: []string{"nobody can log in", "`pveum user add NAME@authelia`"}},
		"one, who is disabled":   {state: []func(*lab.State){user("ann@authelia", false)}, want: check.Fail, says: []string{"1 user, 0 enabled"}},
		"no role":                {state: []func(*lab.State){user("ann@authelia", true)}, want: check.Warn, says: []string{"may do nothing", "--users ann@authelia"}},
		"a role that forbids":    {state: []func(*lab.State){user("ann@authelia", true), role("user", "ann@authelia", "NoAccess")}, want: check.Warn, says: []string{"may do nothing"}},
		"another realm's role":   {state: []func(*lab.State){user("ann@authelia", true), user("bob@pve", true), role("user", "bob@pve", "PVEAdmin")}, want: check.Warn, says: []string{"may do nothing"}},
		"a role":                 {state: []func(*lab.State){user("ann@authelia", true), role("user", "ann@authelia", "PVEAdmin")}, want: check.Pass},
		"a role by a group":      {state: []func(*lab.State){user("ann@authelia", true), group("staff", "ann@authelia"), role("group", "staff", "PVEAdmin")}, want: check.Pass},
		"a group without anyone": {state: []func(*lab.State){group("staff-authelia"), role("group", "staff-authelia", "PVEAdmin")}, login: realm.Login{Autocreate: true}, want: check.Warn, says: []string{"set realm.groups_claim to groups", "staff-authelia"}},
		"groups of logins":       {state: []func(*lab.State){group("staff-authelia"), role("group", "staff-authelia", "PVEAdmin")}, login: realm.Login{Autocreate: true, GroupsClaim: "groups"}, want: check.Pass},
		"groups under bare names": {
			state: []func(*lab.State){group("staff"), role("group", "staff", "PVEAdmin")}, login: realm.Login{Autocreate: true, GroupsClaim: "groups"},
			want: check.Warn, says: []string{"are ignored", "`pveum group add GROUP-authelia`", "groups in Proxmox: staff"},
		},
		"groups made by logins, without a role": {
			login: realm.Login{Autocreate: true, GroupsClaim: "groups", GroupsAutocreate: true},
			want:  check.Warn, says: []string{"may do nothing", "`pveum acl modify / --groups GROUP-authelia --roles PVEAuditor`, after `pveum group add GROUP-authelia`"},
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
			c := toLab(t, s, tt.token, nil).CheckUsers(t.Context(), tt.login)
			all := c.Summary + "\n" + c.Evidence + "\n" + c.Remedy.String()
			if c.ID != check.ProxmoxUsers || c.Status != tt.want || (c.Remedy.String() == "") == (c.Status == check.Warn || c.Status == check.Fail) {
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

// Who sees users and not the access control list learns nothing about roles, and is told so.
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
	c := toLab(t, s, lab.TokenNoPrivilege, nil).CheckUsers(t.Context(), realm.Login{Realm: "authelia", Autocreate: true})
	if c.Status != check.Pass || !strings.Contains(c.Evidence, "Sys.Audit on /access shows it") {
		t.Errorf("%+v", c)
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
		{lab.TokenSysAudit, true, check.Fail, "pveum role add RealmAdmin --privs Realm.Allocate"},
		{lab.TokenNoPrivilege, false, check.Fail, "pveum role add RealmAuditor --privs Sys.Audit"},
		{lab.TokenPrivsepWithoutACL, true, check.Fail, "--tokens"},
	} {
		if c := toLab(t, s, tt.token, nil).CheckPermissions(t.Context(), tt.write); c.Status != tt.want || !strings.Contains(c.Remedy.String(), tt.hint) {
			t.Errorf("%s, write %v: %+v", tt.token, tt.write, c)
		}
	}
}

// An origin behind which nothing listens, and one with one node.
func TestLook(t *testing.T) {
	s := startLab(t, lab.Options{})
	if f := pve.Look(t.Context(), s.URL(), 3); f != (pve.Front{Nodes: 1}) {
		t.Errorf("%+v", f)
	}
	if f := pve.Look(t.Context(), "https://127.0.0.1:1", 1); f != (pve.Front{Refused: true}) {
		t.Errorf("%+v", f)
	}
	for _, unusable := range []string{"", "http://127.0.0.1", "https://", ":"} {
		if f := pve.Look(t.Context(), unusable, 1); f != (pve.Front{}) {
			t.Errorf("%s: %+v", unusable, f)
		}
	}
}

// One name with several addresses: those of one machine present one certificate, those of two nodes two; what cannot be
// reached from here is left out.
func TestLookAtANameWithSeveralAddresses(t *testing.T) {
	one := startLab(t, lab.Options{})
	u, err := url.Parse(one.URL())
	if err != nil {
		t.Fatal(err)
	}
	first, second, nobody := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")
	if f := pve.LookAt(t.Context(), "pve.example.com", u.Port(), first, nobody); f != (pve.Front{Nodes: 1}) {
		t.Errorf("one node and an address where nothing listens: %+v", f)
	}
	if f := pve.LookAt(t.Context(), "pve.example.com", u.Port(), second, nobody); f != (pve.Front{Refused: true}) {
		t.Errorf("nothing anywhere: %+v", f)
	}
	// The same machine by IPv4, and by IPv4 in IPv6.
	if f := pve.LookAt(t.Context(), "pve.example.com", u.Port(), first, netip.MustParseAddr("::ffff:127.0.0.1")); f != (pve.Front{Nodes: 1}) {
		t.Errorf("one node by two addresses: %+v", f)
	}
	startLab(t, lab.Options{Listen: "127.0.0.2:" + u.Port()})
	if f := pve.LookAt(t.Context(), "pve.example.com", u.Port(), first, second); f != (pve.Front{Nodes: 2}) {
		t.Errorf("two nodes: %+v", f)
	}
}
