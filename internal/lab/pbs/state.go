package pbs

import (
	"proxmox-realm/internal/lab/openid"
	"proxmox-realm/internal/lab/standin"
)

// The tokens of [DefaultState], as [Server.Token] names them.
const (
	TokenRoot           = "root"             // root@pam!rig, administrator on /
	TokenRealmAllocate  = "realm-allocate"   // administrator of realms
	TokenSysAudit       = "sys-audit"        // may read realms, and not list them
	TokenNoPrivilege    = "no-privilege"     // without an ACL
	TokenExpired        = "expired"          // since 2001
	TokenDisabled       = "disabled"         // enable 0
	TokenUserWithoutACL = "user-without-acl" // has an ACL, its user has none
	TokenDisabledUser   = "disabled-user"    // of a user with enable 0
	TokenNoPropagate    = "no-propagate"     // administrator of realms by an ACL with propagate 0
	TokenLogReader      = "log-reader"       // may read the system log
)

// State is all that a server stores of its access control.
type State struct {
	Realms []Realm           `json:"realms"`
	Users  map[string]*User  `json:"users"`  // by user@realm
	Tokens map[string]*Token `json:"tokens"` // by user@realm!name; the user may not exist
	ACL    []ACL             `json:"acl"`
	// Key signs tickets.
	Key []byte `json:"key"`
	// TokenNames gives short names to tokens, for [Server.Token].
	TokenNames map[string]string `json:"token_names"`
	// Pending holds the logins that have begun.
	Pending openid.Pending `json:"pending"`
	// Generation counts the changes of users and tokens: each makes both daemons read the ACLs again.
	Generation int `json:"generation"`
}

// Realm is one section of domains.cfg.
type Realm struct {
	Name string `json:"name"`
	Type string `json:"type"` // openid, pam, ldap, ad, or the product's own
	// Properties holds what is stored, by its API name: as text, booleans as "true" and "false".
	Properties map[string]string `json:"properties"`
}

// User is a user with password and second factor.
type User struct {
	UserConfig
	Password string `json:"password,omitempty"`
	TOTP     []TOTP `json:"totp,omitempty"`
}

// UserConfig is a user's section of user.cfg, as the API shows it.
type UserConfig struct {
	Comment   string `json:"comment,omitempty"`
	Enable    *bool  `json:"enable,omitempty"` // nil means enabled
	Expire    *int64 `json:"expire,omitempty"` // Unix time; nil and 0 mean never
	FirstName string `json:"firstname,omitempty"`
	LastName  string `json:"lastname,omitempty"`
	Email     string `json:"email,omitempty"`
}

// Token is an API token.
type Token struct {
	TokenConfig
	Secret string `json:"secret"`
}

// TokenConfig is a token's section of user.cfg, as the API shows it.
type TokenConfig struct {
	Comment string `json:"comment,omitempty"`
	Enable  *bool  `json:"enable,omitempty"`
	Expire  *int64 `json:"expire,omitempty"`
}

// TOTP is a second factor.
type TOTP struct {
	ID     string `json:"id"`
	Secret string `json:"secret"` // Base32 without padding
	// Used is the 30-second step of the last code that was accepted. Each is good once.
	Used int64 `json:"used"`
}

// ACL is one entry of acl.cfg.
type ACL struct {
	Path      string `json:"path"`
	ID        string `json:"ugid"` // of a user or token
	Role      string `json:"roleid"`
	Propagate bool   `json:"propagate"`
}

// DefaultState is the state of a fresh installation with the users and tokens of the recordings. Passwords are as recorded,
// secrets of tokens are random.
func DefaultState(p *Product) *State {
	st := &State{Key: standin.NewKey(), Pending: openid.Pending{}, Users: map[string]*User{}, Tokens: map[string]*Token{}, TokenNames: map[string]string{}}
	for _, realm := range []Realm{
		{"pam", "pam", map[string]string{"comment": "Linux PAM standard authentication"}},
		{p.Name, p.Name, map[string]string{"comment": p.comment}},
	} {
		if realm.Name == p.defaultRealm {
			realm.Properties["default"] = "true"
		}
		st.Realms = append(st.Realms, realm)
	}
	off, past := false, int64(1_000_000_000)
	grant := func(id, path, role string, propagate bool) {
		if path != "" {
			st.ACL = append(st.ACL, ACL{path, id, role, propagate})
		}
	}
	user := func(name, password, path, role string, propagate bool) *User {
		id := name + "@" + p.Name
		st.Users[id] = &User{Password: password}
		grant(id, path, role, propagate)
		return st.Users[id]
	}
	token := func(short, id, path, role string, propagate bool) *Token {
		st.TokenNames[short], st.Tokens[id] = id, &Token{Secret: standin.NewUUID()}
		grant(id, path, role, propagate)
		return st.Tokens[id]
	}
	at, realm := p.tokenPath, "@"+p.Name
	st.Users["root@pam"] = &User{Password: "root-password"}
	user("admin", "admin-password", "/", p.admin, true)
	user("useradmin", "useradmin-password", "/access", p.admin, true)
	user("plain", "plain-password", "", "", false)
	user("realmctl", "", at, p.admin, true)
	user("poor", "", "", "", false)
	user("away", "", at, p.admin, true).Enable = &off
	user("narrow", "", "/access/domains", p.admin, false)
	user("logs", "", "/system/log", p.auditor, true)
	token(TokenRoot, "root@pam!rig", "/", p.admin, true)
	token(TokenRealmAllocate, "realmctl"+realm+"!full", at, p.admin, true)
	token(TokenSysAudit, "realmctl"+realm+"!audit", at, p.auditor, true)
	token(TokenNoPrivilege, "realmctl"+realm+"!none", "", "", false)
	token(TokenExpired, "realmctl"+realm+"!expired", at, p.admin, true).Expire = &past
	token(TokenDisabled, "realmctl"+realm+"!off", at, p.admin, true).Enable = &off
	token(TokenUserWithoutACL, "poor"+realm+"!tool", at, p.admin, true)
	token(TokenDisabledUser, "away"+realm+"!tool", at, p.admin, true)
	token(TokenNoPropagate, "narrow"+realm+"!tool", "/access/domains", p.admin, false)
	token(TokenLogReader, "logs"+realm+"!tool", "/system/log", p.auditor, true)
	return st
}
