package realm_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"proxmox-realm/internal/check"

	"proxmox-realm/internal/realm"
)

// spec returns the smallest right Spec, changed.
func spec(changes ...func(*realm.Spec)) realm.Spec {
	s := realm.Spec{Name: "authelia", Set: realm.Values{
		realm.IssuerURL: realm.Text("https://auth.example.com"), realm.ClientID: realm.Text("proxmox"),
	}}
	for _, change := range changes {
		change(&s)
	}
	return s
}

func set(p realm.Property, v realm.Value) func(*realm.Spec) {
	return func(s *realm.Spec) { s.Set[p] = v }
}

func unset(ps ...realm.Property) func(*realm.Spec) {
	return func(s *realm.Spec) { s.Unset = append(s.Unset, ps...) }
}

func of(p realm.Product) func(*realm.Spec) { return func(s *realm.Spec) { s.Product = p } }

func named(name string) func(*realm.Spec) { return func(s *realm.Spec) { s.Name = name } }

// exported returns the Spec that declares everything that a realm stores.
func exported(c realm.Current) realm.Spec {
	return realm.Spec{Name: "authelia", Set: maps.Clone(c.Values)}
}

func list(changes []realm.Change) string {
	var out []string
	for _, c := range changes {
		text := func(s *string) string {
			if s == nil {
				return "nil"
			}
			return *s
		}
		out = append(out, string(c.Op)+" "+string(c.Property)+" "+text(c.Before)+"->"+text(c.After))
	}
	return strings.Join(out, "; ")
}

// TestDiff is the truth table above Diff, row by row.
func TestDiff(t *testing.T) {
	const stored = `{"type": "openid", "digest": "d1", "issuer-url": "https://auth.example.com", "client-id": "proxmox",
		"client-key": "old", "username-claim": "preferred_username", "scopes": "openid profile email", "comment": "c", "autocreate": 0}`
	keyless := strings.Replace(stored, `"client-key": "old", `, "", 1)
	for _, tt := range []struct {
		name    string
		want    realm.Spec
		have    string // "" where the realm is absent
		facts   realm.Facts
		action  realm.Action
		code    check.Code // of a refusal
		changes string
	}{
		{name: "pam is Proxmox's own", want: spec(named("pam")), have: `{"type": "pam"}`, action: realm.Refuse, code: check.BuiltinRealm},
		{name: "pve is Proxmox's own, even where it seems absent", want: spec(named("pve")), action: realm.Refuse, code: check.BuiltinRealm},
		{name: "another type", want: spec(), have: `{"type": "ldap", "comment": "x"}`, action: realm.Refuse, code: check.WrongType},
		{name: "pbs is Backup Server's own", want: spec(named("pbs"), of(realm.BackupServer)), action: realm.Refuse, code: check.BuiltinRealm},
		{name: "pbs is no name of Proxmox VE", want: spec(named("pbs")), action: realm.Create},
		{name: "the stored key", want: spec(set(realm.ClientKey, realm.Key(check.NewSecret("old")))), have: stored, action: realm.None},
		{name: "no key is stored to unset", want: spec(unset(realm.ClientKey)), have: keyless, action: realm.None},
		{
			name: "a key where none is stored", want: spec(set(realm.ClientKey, realm.Key(check.NewSecret("k")))), have: keyless, action: realm.Update,
			changes: "set client-key nil->(sensitive)",
		},
		{
			name: "absent: creation defaults", want: spec(), action: realm.Create,
			changes: "set client-id nil->proxmox; set issuer-url nil->https://auth.example.com; set scopes nil->openid profile email; set username-claim nil->preferred_username",
		},
		{
			name: "absent: the Spec beats the defaults", want: spec(set(realm.UsernameClaim, realm.Text("sub")), unset(realm.Scopes, realm.Comment)), action: realm.Create,
			changes: "set client-id nil->proxmox; set issuer-url nil->https://auth.example.com; set username-claim nil->sub",
		},
		{name: "as declared", want: spec(), have: stored, action: realm.None},
		{
			name: "nobody wrote down claim or scopes: adoption changes neither", want: spec(),
			have: `{"type": "openid", "issuer-url": "https://auth.example.com", "client-id": "proxmox", "scopes": "groups"}`, action: realm.None,
		},
		{
			name: "updates, sorted", want: spec(set(realm.Scopes, realm.Text("openid groups")), set(realm.Comment, realm.Text("d")), set(realm.ClientKey, realm.Key(check.NewSecret("new")))),
			have: stored, action: realm.Update,
			changes: "set client-key (sensitive)->(sensitive); set comment c->d; set scopes openid profile email->openid groups",
		},
		{
			name: "a password that somebody put into the issuer URL", want: spec(),
			have: `{"type": "openid", "issuer-url": "https://user:hidden@auth.example.com/@", "client-id": "proxmox"}`, action: realm.Update,
			changes: "set issuer-url https://(sensitive)@auth.example.com/@->https://auth.example.com",
		},
		{
			name: "unset what is stored", want: spec(unset(realm.Comment, realm.ClientKey, realm.Prompt, realm.Autocreate)), have: stored, action: realm.Update,
			changes: "unset client-key (sensitive)->nil; unset comment c->nil",
		},
		{
			name: "unset a stored boolean that is not the default", want: spec(unset(realm.QueryUserinfo)),
			have:   strings.Replace(stored, `"autocreate": 0`, `"query-userinfo": 0`, 1),
			action: realm.Update, changes: "unset query-userinfo 0->nil",
		},
		{name: "a default that is stored is no drift", want: spec(set(realm.Autocreate, realm.Bool(false)), set(realm.QueryUserinfo, realm.Bool(true))), have: stored, action: realm.None},
		{
			name: "another claim", want: spec(set(realm.UsernameClaim, realm.Text("email"))), have: stored,
			action: realm.Refuse, code: check.UsernameClaim, changes: "set username-claim preferred_username->email",
		},
		{
			name: "another claim, agreed", want: spec(set(realm.UsernameClaim, realm.Text("email")), set(realm.Comment, realm.Text("d"))), have: stored,
			facts: realm.Facts{AllowReplace: true}, action: realm.Replace, changes: "set comment c->d; set username-claim preferred_username->email",
		},
		{name: "agreed, but the claim is not written down", want: spec(), have: strings.Replace(stored, "preferred_username", "email", 1), facts: realm.Facts{AllowReplace: true}, action: realm.None},
		{name: "an alias of the claim", want: spec(set(realm.UsernameClaim, realm.Text("username"))), have: stored, action: realm.None},
		{
			name: "sub by its other name, and absent", want: spec(set(realm.UsernameClaim, realm.Text("subject"))),
			have: `{"type": "openid", "issuer-url": "https://auth.example.com", "client-id": "proxmox"}`, action: realm.None,
		},
		{
			name: "what an earlier generation lacks", want: spec(set(realm.GroupsClaim, realm.Text("groups"))), have: stored,
			facts: realm.Facts{Version: realm.Version{Major: 7, Minor: 4}}, action: realm.Refuse, code: check.UnknownProperty, changes: "set groups-claim nil->groups",
		},
		{
			name: "what an earlier generation lacks, at creation", want: spec(set(realm.Audiences, realm.Text("x"))),
			facts: realm.Facts{Version: realm.Version{Major: 8, Minor: 4}}, action: realm.Refuse, code: check.UnknownProperty,
		},
		{
			name: "an earlier release of the same generation may know it", want: spec(set(realm.Audiences, realm.Text("x"))), have: stored,
			facts: realm.Facts{Version: realm.Version{Major: 9}}, action: realm.Update, changes: "set audiences nil->x",
		},
		{
			name: "removing what it lacks is no reason to refuse", want: spec(unset(realm.Audiences)), have: stored,
			facts: realm.Facts{Version: realm.Version{Major: 7, Minor: 4}}, action: realm.None,
		},
		{
			name: "nor is removing what it stores all the same", want: spec(unset(realm.Audiences)), have: strings.Replace(stored, `"autocreate": 0`, `"audiences": "x"`, 1),
			facts: realm.Facts{Version: realm.Version{Major: 7, Minor: 4}}, action: realm.Update, changes: "unset audiences x->nil",
		},
	} {
		var have realm.Current
		if tt.have != "" {
			have = parse(t, tt.have)
		}
		p := realm.Diff(tt.want, have, tt.facts)
		if p.Action != tt.action {
			t.Errorf("%s: action %s, want %s", tt.name, p.Action, tt.action)
		}
		if (p.Refusal != nil) != (tt.action == realm.Refuse) || p.Refusal != nil && p.Refusal.Code != tt.code {
			t.Errorf("%s: refusal %+v, want %q", tt.name, p.Refusal, tt.code)
		}
		if p.Refusal != nil && p.Refusal.Hint.For(check.Names{}) == "" {
			t.Errorf("%s: a refusal without a hint", tt.name)
		}
		if got := list(p.Changes); tt.changes != "" && got != tt.changes || tt.action == realm.None && got != "" {
			t.Errorf("%s: changes %q, want %q", tt.name, got, tt.changes)
		}
		if p.Empty() != (tt.action == realm.None) {
			t.Errorf("%s: empty is %t", tt.name, p.Empty())
		}
		if tt.action == realm.None || tt.action == realm.Refuse {
			if n := p.Params().Reveal(); len(n) > 0 {
				t.Errorf("%s: parameters %v though nothing is to be written", tt.name, n)
			}
		}
	}
}

// What Proxmox treats alike is no drift.
func TestComparing(t *testing.T) {
	for _, tt := range []struct {
		prop       realm.Property
		want, have string // have: "-" where the property is absent
		same       bool
	}{
		{realm.Scopes, "openid profile email", "email,profile;openid", true},
		{realm.Scopes, "profile email", "openid email profile email", true},
		{realm.Scopes, "openid profile email", "-", true},
		{realm.Scopes, "openid", "-", false},
		{realm.Scopes, "openid profile email groups", "openid profile email", false},
		{realm.Scopes, "openid Profile email", "openid profile email", false},
		{realm.Audiences, "x,y", "y;x", true},
		{realm.Audiences, "x,y", "x y y", true},
		{realm.Audiences, "x", "-", false},
		{realm.Audiences, "openid,x", "x", false},
		{realm.ACRValues, "urn:a,urn:b", "urn:a;urn:b", true},
		{realm.ACRValues, "urn:a,urn:b", "urn:a urn:b", true},
		{realm.ACRValues, "urn:a,urn:b", "urn:b,urn:a", false},
		{realm.ACRValues, "urn:a", "urn:a,urn:a", false},
		{realm.Autocreate, "0", "-", true},
		{realm.Autocreate, "1", "-", false},
		{realm.QueryUserinfo, "1", "-", true},
		{realm.QueryUserinfo, "0", "-", false},
		{realm.GroupsAutocreate, "0", "-", true},
		{realm.GroupsOverwrite, "0", "-", true},
		{realm.Default, "0", "-", true},
		{realm.Default, "1", "-", false},
		{realm.UsernameClaim, "subject", "sub", true},
		{realm.UsernameClaim, "sub", "-", true},
		{realm.UsernameClaim, "username", "preferred_username", true},
		{realm.UsernameClaim, "username", "sub", false},
		{realm.IssuerURL, "https://a/", "https://a", false},
		{realm.ClientID, "Proxmox", "proxmox", false},
		{realm.Comment, "a  b", "a b", false},
		{realm.Comment, "a", "-", false},
		{realm.Prompt, "login", "-", false},
		{realm.GroupsClaim, "groups", "-", false},
	} {
		base := spec()
		have := realm.Current{Exists: true, Type: realm.Type, Digest: "d", Values: maps.Clone(base.Set)}
		base.Set[tt.prop] = realm.Text(tt.want)
		delete(have.Values, tt.prop)
		if tt.have != "-" {
			have.Values[tt.prop] = realm.Text(tt.have)
		}
		p := realm.Diff(base, have, realm.Facts{AllowReplace: true})
		if p.Empty() != tt.same || p.Changed(tt.prop) == tt.same {
			t.Errorf("%s %q against %q: same is %t", tt.prop, tt.want, tt.have, p.Empty())
		}
	}
}

func TestParams(t *testing.T) {
	const stored = `{"type": "openid", "digest": "d1", "issuer-url": "https://auth.example.com", "client-id": "proxmox", "client-key": "k",
		"username-claim": "preferred_username", "comment": "c", "default": 1, "future": "x", "flag": false}`
	for _, tt := range []struct {
		name  string
		want  realm.Spec
		have  string
		facts realm.Facts
		out   map[string]any
	}{
		{"create", spec(set(realm.Autocreate, realm.Bool(true)), set(realm.ClientKey, realm.Key(check.NewSecret("n")))), "", realm.Facts{}, map[string]any{
			"realm": "authelia", "type": "openid", "issuer-url": "https://auth.example.com", "client-id": "proxmox", "client-key": "n", "autocreate": 1,
			"username-claim": "preferred_username", "scopes": "openid profile email",
		}},
		{"update", spec(set(realm.ClientKey, realm.Key(check.NewSecret("n"))), set(realm.QueryUserinfo, realm.Bool(false)), unset(realm.Comment, realm.Default)), stored, realm.Facts{}, map[string]any{
			"client-key": "n", "query-userinfo": 0, "delete": "comment,default", "digest": "d1",
		}},
		{"replace", spec(set(realm.UsernameClaim, realm.Text("email")), unset(realm.Comment)), stored, realm.Facts{AllowReplace: true}, map[string]any{
			"realm": "authelia", "type": "openid", "issuer-url": "https://auth.example.com", "client-id": "proxmox", "client-key": "k",
			"username-claim": "email", "default": 1, "future": "x", "flag": false,
		}},
	} {
		var have realm.Current
		if tt.have != "" {
			have = parse(t, tt.have)
		}
		params := realm.Diff(tt.want, have, tt.facts).Params()
		if got := params.Reveal(); !maps.Equal(got, tt.out) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.out)
		}
		params.Reveal()["digest"] = ""
		if got := params.Reveal(); !maps.Equal(got, tt.out) {
			t.Errorf("%s: a caller can change the parameters", tt.name)
		}
	}
	if (realm.Params{}).Reveal() != nil {
		t.Error("no parameters must be none")
	}
}

func TestGated(t *testing.T) {
	values := map[realm.Form]realm.Value{
		realm.FormText: realm.Text("other"), realm.FormSet: realm.Text("other"), realm.FormList: realm.Text("other"),
		realm.FormKey: realm.Key(check.NewSecret("other")),
	}
	have := realm.Current{Exists: true, Type: realm.Type, Digest: "d", Values: spec().Set}
	for _, d := range realm.Definitions() {
		v, ok := values[d.Form]
		if !ok {
			v = realm.Bool(d.Default == "0")
		}
		p := realm.Diff(spec(set(d.Property, v)), have, realm.Facts{AllowReplace: true})
		want := slices.Contains([]realm.Property{
			realm.IssuerURL, realm.ClientID, realm.ClientKey, realm.Scopes, realm.Prompt, realm.ACRValues, // named by the contract
			realm.UsernameClaim, // a replace
		}, d.Property)
		if p.Gated() != want {
			t.Errorf("a plan to %s that changes %s: gated is %t", p.Action, d.Property, p.Gated())
		}
		if create := realm.Diff(spec(set(d.Property, v)), realm.Current{}, realm.Facts{}); create.Gated() {
			t.Errorf("creating a realm with %s breaks no login that works", d.Property)
		}
	}
	if removed := realm.Diff(spec(unset(realm.ClientKey)), recorded(t, "read"), realm.Facts{}); !removed.Gated() {
		t.Error("removing the client key must be gated")
	}
}

func TestNeeds(t *testing.T) {
	have := recorded(t, "read")
	groups := spec(set(realm.GroupsClaim, realm.Text("groups")))
	claim := spec(set(realm.UsernameClaim, realm.Text("email")))
	for _, tt := range []struct {
		name           string
		want           realm.Spec
		have           realm.Current
		version, users bool
	}{
		{"nothing to do", spec(), have, false, false},
		{"a property of every version", spec(set(realm.Comment, realm.Text("x"))), have, false, false},
		{"a property of 7.1", spec(set(realm.Prompt, realm.Text("login"))), have, false, false},
		{"a property of 8.4", groups, have, true, false},
		{"a property of 8.4, at creation", groups, realm.Current{}, true, false},
		{"the removal of one", spec(unset(realm.Audiences)), recorded(t, "read-groups"), false, false},
		{"another claim", claim, have, false, true},
		{"a new realm rebinds nobody", claim, realm.Current{}, false, false},
	} {
		p := realm.Diff(tt.want, tt.have, realm.Facts{})
		if p.NeedsVersion() != tt.version || p.NeedsUsers() != tt.users {
			t.Errorf("%s: version %t, users %t", tt.name, p.NeedsVersion(), p.NeedsUsers())
		}
	}
}

func TestMaybeUnknown(t *testing.T) {
	want := spec(set(realm.GroupsClaim, realm.Text("groups")), set(realm.Comment, realm.Text("x")))
	for v, n := range map[realm.Version]int{{}: 0, {Major: 8, Minor: 3}: 1, {Major: 8, Minor: 4}: 0, {Major: 10}: 0} {
		if got := realm.Diff(want, recorded(t, "read"), realm.Facts{Version: v}).MaybeUnknown(); len(got) != n {
			t.Errorf("%s: %v", v, got)
		}
	}
}

func TestRefusalOfTheClaimSaysWhatItMeans(t *testing.T) {
	want := spec(set(realm.UsernameClaim, realm.Text("email")))
	for _, tt := range []struct {
		users realm.Users
		says  string
	}{
		{realm.Users{}, "an unknown number of users (not visible"},
		{realm.Users{Asked: true}, "an unknown number of users (not visible"},
		{realm.Users{Asked: true, Visible: true, Count: 1}, " 1 user another name"},
		{realm.Users{Asked: true, Visible: true, Count: 42}, " 42 users another name"},
		{realm.Users{Asked: true, Visible: true}, " 0 users another name"},
	} {
		refusal := realm.Diff(want, recorded(t, "read"), realm.Facts{Users: tt.users}).Refusal
		for _, part := range []string{tt.says, "preferred_username", "email"} {
			if !strings.Contains(refusal.Message, part) {
				t.Errorf("%q is missing in %q", part, refusal.Message)
			}
		}
		for _, part := range []string{"second realm", "--replace", "realm.username_claim"} {
			if !strings.Contains(refusal.Hint.For(check.Names{}), part) {
				t.Errorf("%q is missing in %q", part, refusal.Hint.For(check.Names{}))
			}
		}
	}
}

func TestLacksProperties(t *testing.T) {
	backup := func(major, minor, patch int) realm.Version {
		return realm.Version{Product: realm.BackupServer, Major: major, Minor: minor, Patch: patch}
	}
	for _, tt := range []struct {
		version       realm.Version
		lacking       []realm.Property
		message, hint string
	}{
		{
			realm.Version{Major: 7, Minor: 4},
			[]realm.Property{realm.GroupsClaim, realm.Audiences},
			"Proxmox VE 7.4 does not know groups-claim, audiences",
			"remove realm.groups_claim from the configuration\nremove realm.audiences from the configuration\nupgrade to Proxmox VE 9.2 or later",
		},
		{realm.Version{}, []realm.Property{"future"}, "this Proxmox VE does not know future", "upgrade Proxmox VE"},
		{
			backup(0, 0, 0),
			[]realm.Property{realm.GroupsClaim},
			"Proxmox Backup Server does not know groups-claim (it has no groups)",
			"remove realm.groups_claim from the configuration",
		},
		{
			realm.Version{Product: realm.DatacenterManager},
			[]realm.Property{realm.QueryUserinfo},
			"Proxmox Datacenter Manager does not know query-userinfo (it always reads the userinfo endpoint)", "remove realm.query_userinfo from the configuration",
		},
		{
			backup(4, 2, 0),
			[]realm.Property{realm.Audiences},
			"Proxmox Backup Server 4.2 does not know audiences",
			"remove realm.audiences from the configuration\nupgrade to Proxmox Backup Server 4.2.1 or later",
		},
	} {
		err := realm.LacksProperties(tt.version, tt.lacking)
		if err.Code != check.UnknownProperty || err.Message != tt.message || err.Hint.For(check.Names{}) != tt.hint {
			t.Errorf("%s: %q", err.Message, err.Hint)
		}
	}
}

func TestRemovalListsEverythingMasked(t *testing.T) {
	got := list(realm.Whole(realm.Unset, recorded(t, "read")))
	want := "unset autocreate 1->nil; unset client-id proxmox->nil; unset client-key (sensitive)->nil; unset issuer-url https://auth.example.com->nil; unset scopes openid profile email->nil; unset username-claim preferred_username->nil"
	if got != want {
		t.Errorf("%s", got)
	}
}

// After is what verification is asked about: it is complete also for plans that are refused.
func TestAfter(t *testing.T) {
	claim := spec(set(realm.UsernameClaim, realm.Text("email")))
	for name, p := range map[string]realm.Plan{
		"builtin":    realm.Diff(spec(named("pam")), realm.Current{Exists: true, Type: "pam"}, realm.Facts{}),
		"wrong type": realm.Diff(spec(), realm.Current{Exists: true, Type: "ldap"}, realm.Facts{}),
		"create":     realm.Diff(spec(), realm.Current{}, realm.Facts{}),
		"refused":    realm.Diff(claim, recorded(t, "read"), realm.Facts{}),
		"none":       realm.Diff(spec(), recorded(t, "read"), realm.Facts{}),
	} {
		after := p.After()
		login := after.Values.Login("authelia")
		if !after.Exists || after.Type != realm.Type || after.Digest != "" || login.IssuerURL != "https://auth.example.com" || login.ClientID != "proxmox" {
			t.Errorf("%s: %+v", name, after)
		}
	}
	if got := realm.Diff(claim, recorded(t, "read"), realm.Facts{}).After().Values.Login("x").UsernameClaim; got != "email" {
		t.Errorf("the refused claim is what was asked for, not %s", got)
	}
	p := realm.Diff(spec(unset(realm.Scopes)), realm.Current{Exists: true, Type: "ldap"}, realm.Facts{})
	if _, ok := p.After().Values[realm.Scopes]; ok {
		t.Error("a property that is unset is not given its creation default")
	}
}
