package pve

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/hex"
	"maps"
	"slices"

	"proxmox-realm/internal/lab/openid"
	"proxmox-realm/internal/lab/standin"
)

// State is all that a node stores of its access control.
type State struct {
	// Realms is what is in the realm file, in its order. The realms pam and pve
	// need not be in it: a node always has them.
	Realms []Realm          `json:"realms"`
	Users  map[string]*User `json:"users"`  // by user@realm
	Groups map[string]Group `json:"groups"` // by name
	// Roles maps a role that somebody made to its privileges; built-in roles are not in it.
	Roles map[string][]string `json:"roles"`
	ACL   []ACL               `json:"acl"`
	// Secrets of the node: what it signs tickets and CSRF tokens with.
	Key []byte `json:"key"`
	// Names gives short names to tokens, for [Server.Token], and to users, for [Server.User].
	TokenNames map[string]string `json:"token_names"`
	UserNames  map[string]string `json:"user_names"`
	// Pending holds the logins that have begun, by the name of the node.
	Pending map[string]openid.Pending `json:"pending,omitempty"`
	// AtTicket replaces Users, Roles and ACL when root@pam gets its first ticket, unless the API changed them before. See
	// [RecordedAccounts].
	AtTicket *State `json:"at_ticket,omitempty"`

	sum [sha1.Size]byte // of all realms, see digest
}

// Realm is one section of the realm file.
type Realm struct {
	Name string `json:"name"`
	Type string `json:"type"` // openid, pam, pve, ad or ldap
	// Properties holds what is stored, by its API name: as text, booleans as "0" and "1".
	Properties map[string]string `json:"properties"`
}

// User is one user of the user file, with what the shadow and TFA files hold of it.
type User struct {
	Enable    bool             `json:"enable"`
	Expire    int64            `json:"expire"` // Unix time; 0 means never
	FirstName string           `json:"firstname,omitempty"`
	LastName  string           `json:"lastname,omitempty"`
	Email     string           `json:"email,omitempty"`
	Comment   string           `json:"comment,omitempty"`
	Password  string           `json:"password,omitempty"`
	TOTP      string           `json:"totp,omitempty"` // Base32 secret of a second factor
	Tokens    map[string]Token `json:"tokens,omitempty"`
}

// Token is one API token of a user.
type Token struct {
	Secret  string `json:"secret"`
	Comment string `json:"comment,omitempty"`
	Expire  int64  `json:"expire"`
	Privsep bool   `json:"privsep"`
}

// Group is one group of the user file.
type Group struct {
	Comment string          `json:"comment,omitempty"`
	Users   map[string]bool `json:"users"`
}

// ACL is one entry of the access control list.
type ACL struct {
	Path      string `json:"path"`
	Type      string `json:"type"` // user, group or token
	ID        string `json:"id"`
	Role      string `json:"role"`
	Propagate bool   `json:"propagate"`
}

// pending are the logins that have begun on a node.
func (st *State) pending(n *node) openid.Pending {
	if st.Pending[n.Name] == nil {
		st.Pending[n.Name] = openid.Pending{}
	}
	return st.Pending[n.Name]
}

// builtin are the realms that are always there.
var builtin = []Realm{
	{Name: "pam", Type: "pam", Properties: map[string]string{"comment": "Linux PAM standard authentication"}},
	{Name: "pve", Type: "pve", Properties: map[string]string{"comment": "Proxmox VE authentication server"}},
}

// at is the place of a realm in the file, or -1.
func (st *State) at(name string) int {
	return slices.IndexFunc(st.Realms, func(r Realm) bool { return r.Name == name })
}

// realm is a copy of the realm of that name.
func (st *State) realm(name string) (r Realm, ok bool) {
	i := st.at(name)
	if i < 0 {
		return Realm{}, false
	}
	r = st.Realms[i]
	r.Properties = maps.Clone(r.Properties)
	return r, true
}

// put stores a realm as reading the file finds it. The flag of the default realm is taken from all others if r has it.
func (st *State) put(s *realmSchema, r Realm) error {
	r.Properties = s.stored(r)
	if k := s.missing(r.Type, r.Properties); k != "" {
		return dief("section '%s' - missing value for required option '%s'", r.Name, k)
	}
	if truthy(r.Properties["default"]) {
		for i, other := range st.Realms {
			if other.Properties["default"] != "" && other.Name != r.Name {
				other.Properties = maps.Clone(other.Properties)
				delete(other.Properties, "default")
				st.replace(i, other)
			}
		}
	}
	if i := st.at(r.Name); i >= 0 {
		st.replace(i, r)
	} else {
		st.Realms = append(st.Realms, r)
		st.add(r)
	}
	return nil
}

func (st *State) replace(i int, r Realm) {
	st.add(st.Realms[i])
	st.add(r)
	st.Realms[i] = r
}

// remove removes a realm. The built-in ones come back as they were born.
func (st *State) remove(name string) {
	i := st.at(name)
	st.add(st.Realms[i])
	st.Realms = slices.Delete(st.Realms, i, i+1)
	for _, r := range builtin {
		if r.Name == name {
			st.Realms = append(st.Realms, r)
			st.add(r)
		}
	}
}

// add adds a realm to the sum, or takes it away.
func (st *State) add(r Realm) {
	text := r.Type + ": " + r.Name + "\n"
	for _, k := range slices.Sorted(maps.Keys(r.Properties)) {
		text += "\t" + k + " " + r.Properties[k] + "\n"
	}
	for i, b := range sha1.Sum([]byte(text)) {
		st.sum[i] ^= b
	}
}

// digest is the digest of the realm file: the same for the same realms.
func (st *State) digest() string { return hex.EncodeToString(st.sum[:]) }

// DefaultState is the state that a server begins with. It holds the realms pam
// and pve, and the users, roles, tokens and ACLs behind [Server.Token] and
// [Server.User]. Its secrets are random.
func DefaultState() *State {
	token := func(privsep bool) Token { return Token{Secret: standin.NewUUID(), Privsep: privsep} }
	return &State{
		Key: standin.NewKey(),
		Users: map[string]*User{
			"root@pam":     {Enable: true, Email: "root@example.org", Password: "root-password", Tokens: map[string]Token{"full": token(false)}},
			"admin@pve":    {Enable: true, Password: "admin-password", Tokens: map[string]Token{"realm": token(true)}},
			"admin2@pve":   {Enable: true, Password: "admin2-password", TOTP: standin.NewTOTPSecret()},
			"auditor@pve":  {Enable: true, Password: "auditor-password", Tokens: map[string]Token{"ro": token(true)}},
			"nobody@pve":   {Enable: true, Password: "nobody-password", Tokens: map[string]Token{"none": token(true)}},
			"realmadm@pve": {Enable: true, Password: "realmadm-password", Tokens: map[string]Token{"sep": token(true)}},
			"disabled@pve": {Enable: false, Password: "disabled-password"},
		},
		Groups: map[string]Group{},
		Roles: map[string][]string{
			"RigAudit":      {"Sys.Audit"},
			"RigRealmAdmin": {"Realm.Allocate"},
		},
		ACL: []ACL{
			{Path: "/", Type: "user", ID: "admin@pve", Role: "Administrator", Propagate: true},
			{Path: "/access/realm", Type: "user", ID: "auditor@pve", Role: "RigAudit", Propagate: true},
			{Path: "/access/realm", Type: "token", ID: "auditor@pve!ro", Role: "RigAudit", Propagate: true},
			{Path: "/access/realm", Type: "user", ID: "realmadm@pve", Role: "RigRealmAdmin", Propagate: true},
			{Path: "/access/realm", Type: "token", ID: "admin@pve!realm", Role: "RigRealmAdmin", Propagate: true},
		},
		TokenNames: map[string]string{
			TokenRoot:              "root@pam!full",
			TokenRealmAllocate:     "admin@pve!realm",
			TokenSysAudit:          "auditor@pve!ro",
			TokenNoPrivilege:       "nobody@pve!none",
			TokenPrivsepWithoutACL: "realmadm@pve!sep",
		},
		UserNames: map[string]string{UserAdmin: "admin@pve", UserTOTP: "admin2@pve", UserRoot: "root@pam"},
	}
}

// BareState is a node that nobody prepared: root@pam, with a random password, is the only user.
func BareState() *State {
	return &State{
		Key:   standin.NewKey(),
		Users: map[string]*User{"root@pam": {Enable: true, Password: rand.Text()}}, Groups: map[string]Group{}, Roles: map[string][]string{},
		UserNames: map[string]string{UserRoot: "root@pam"},
	}
}

// RequireTOTP gives a user a second factor, unless the user has one.
func (st *State) RequireTOTP(user string) {
	u := st.Users[user]
	if u.TOTP == "" {
		u.TOTP = standin.NewTOTPSecret()
	}
	if st.AtTicket != nil {
		st.AtTicket.Users[user].TOTP = u.TOTP
	}
}

// RecordedAccounts returns the users, roles and ACL that the recording proxmox-ve-9.2-init.json begins with. The older
// recordings begin with those of [DefaultState]. Both are to be replayed on one server: only the newer one logs in with
// passwords, so a ticket tells which is needed. The tokens of st stay, with the same privileges.
func RecordedAccounts(st *State) *State {
	c := standin.Clone(st)
	c.Users["half@pve"] = &User{Enable: true, Password: "half-password", Tokens: map[string]Token{"half": {Secret: standin.NewUUID(), Privsep: true}}}
	if auditor := c.Users["auditor@pve"]; auditor != nil {
		auditor.Tokens["audit"] = Token{Secret: standin.NewUUID(), Privsep: true}
		ro := auditor.Tokens["ro"]
		ro.Privsep = false // it has no ACL of its own
		auditor.Tokens["ro"] = ro
	}
	c.Roles = map[string][]string{"RealmAdmin": {"Realm.Allocate"}, "RealmAudit": {"Sys.Audit"}}
	c.ACL = []ACL{
		{Path: "/access/realm", Type: "user", ID: "admin@pve", Role: "RealmAdmin", Propagate: true},
		{Path: "/access/realm", Type: "token", ID: "admin@pve!realm", Role: "RealmAdmin", Propagate: true},
		{Path: "/access/realm", Type: "user", ID: "half@pve", Role: "RealmAdmin", Propagate: true},
		{Path: "/access/realm", Type: "user", ID: "auditor@pve", Role: "RealmAudit", Propagate: true},
		{Path: "/access/realm", Type: "token", ID: "auditor@pve!audit", Role: "RealmAudit", Propagate: true},
	}
	return c
}

// begin takes the accounts of AtTicket.
func (st *State) begin() error {
	if t := st.AtTicket; t != nil {
		st.Users, st.Roles, st.ACL, st.AtTicket = t.Users, t.Roles, t.ACL, nil
	}
	return nil
}

// clone is a copy for a change, which replaces the properties of a realm and never edits them: the time of a write
// hardly grows with the number of realms.
func (st *State) clone() *State {
	c := *st
	c.Realms = slices.Clone(st.Realms)
	c.Users = map[string]*User{}
	for name, u := range st.Users {
		u := *u
		u.Tokens = maps.Clone(u.Tokens)
		c.Users[name] = &u
	}
	c.Groups = map[string]Group{}
	for name, g := range st.Groups {
		g.Users = maps.Clone(g.Users)
		c.Groups[name] = g
	}
	c.Roles, c.ACL = maps.Clone(st.Roles), slices.Clone(st.ACL)
	c.Pending = map[string]openid.Pending{}
	for node, pending := range st.Pending {
		c.Pending[node] = maps.Clone(pending)
	}
	return &c
}
