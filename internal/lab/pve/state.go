package pve

// State is all that a node stores of its access control.
type State struct {
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
	Keys      string           `json:"keys,omitempty"`
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
