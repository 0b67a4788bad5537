package pbs

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"proxmox-realm/internal/lab/standin"
)

// realmOf is the realm of user@realm.
func realmOf(id string) string { return id[strings.LastIndex(id, "@")+1:] }

// ownerOf is the user of user@realm or user@realm!token.
func ownerOf(auth string) string {
	user, _, _ := strings.Cut(auth, "!")
	return user
}

func isToken(auth string) bool { return strings.Contains(auth, "!") }

// userText is what the digest of user.cfg is made of.
func (st *State) userText() string {
	users, tokens := map[string]UserConfig{}, map[string]TokenConfig{}
	for id, user := range st.Users {
		users[id] = user.UserConfig
	}
	for id, token := range st.Tokens {
		tokens[id] = token.TokenConfig
	}
	text, _ := json.Marshal([]any{users, tokens}) // texts and numbers
	return string(text)
}

// withUsers changes user.cfg, after it compared the digest. Both daemons see the change at once, and with it every ACL.
func (c *call) withUsers(f func(*State) error) error {
	return c.s.store.Change(func(st *State) error {
		if err := c.checkDigest(st.userText()); err != nil {
			return err
		}
		st.Generation++
		return f(st)
	})
}

// knows refuses a realm that is not there. Of pam and its own the server needs nothing in domains.cfg.
func (c *call) knows(st *State, realm string) error {
	if realm != "pam" && realm != c.s.product.Name && st.realm(realm) == nil {
		return refuse("unknown realm '%s'", realm)
	}
	return nil
}

func (c *call) listUsers() (any, error) {
	st := c.s.store.View()
	all := c.holds("/access/users", c.s.product.accessAudit)
	list := []any{}
	for _, id := range shuffled(slices.Collect(maps.Keys(st.Users))) {
		if !all && id != ownerOf(c.auth) {
			continue
		}
		var tokens []any
		if c.params.flag("include_tokens") {
			tokens = tokensOf(st, id)
		}
		list = append(list, userData{id, st.Users[id].UserConfig, tokens})
	}
	c.extra["digest"] = digestText(st.userText())
	return list, nil
}

type userData struct {
	ID string `json:"userid"`
	UserConfig
	Tokens []any `json:"tokens,omitempty"`
}

func (c *call) createUser() (any, error) {
	id := c.params.text("userid")
	realm := realmOf(id)
	return nil, c.withUsers(func(st *State) error {
		if st.Users[id] != nil {
			return refuse("user '%s' already exists.", id)
		}
		if err := c.knows(st, realm); err != nil {
			return err
		}
		user := &User{}
		user.set(c.params)
		st.Users[id] = user
		return nil
	})
}

// set stores what the parameters name.
func (u *UserConfig) set(p params) {
	for name, field := range map[string]*string{"comment": &u.Comment, "firstname": &u.FirstName, "lastname": &u.LastName, "email": &u.Email} {
		if value, ok := p[name].(string); ok {
			*field = strings.TrimSpace(value)
		}
	}
	setLimits(&u.Enable, &u.Expire, p)
}

func setLimits(enable **bool, expire **int64, p params) {
	if value, ok := p["enable"].(bool); ok {
		*enable = &value
	}
	if value, ok := p["expire"].(int64); ok {
		*expire = &value
	}
}

// dropDefaults forgets, in an update, what is the default anyway.
func dropDefaults(enable **bool, expire **int64) {
	if *enable != nil && **enable {
		*enable = nil
	}
	if *expire != nil && **expire <= 0 {
		*expire = nil
	}
}

func (c *call) user(st *State) (*User, error) {
	id := c.params.text("userid")
	if st.Users[id] == nil {
		return nil, fmt.Errorf("no such user '%s'", id)
	}
	return st.Users[id], nil
}

func (c *call) readUser() (any, error) {
	st := c.s.store.View()
	user, err := c.user(st)
	if err != nil {
		return nil, err
	}
	c.extra["digest"] = digestText(st.userText())
	return userData{ID: c.params.text("userid"), UserConfig: user.UserConfig}, nil
}

// deleteUser removes the user first. Where its realm is gone, the rest is not reached: its tokens stay. Its ACLs always do.
func (c *call) deleteUser() (any, error) {
	id := c.params.text("userid")
	realm := realmOf(id)
	var late error
	err := c.withUsers(func(st *State) error {
		if st.Users[id] == nil {
			return refuse("user '%s' does not exist.", id)
		}
		delete(st.Users, id)
		late = c.knows(st, realm)
		for token := range st.Tokens {
			if late == nil && ownerOf(token) == id {
				st.deleteToken(token)
			}
		}
		return nil
	})
	return nil, errors.Join(err, late)
}

func (st *State) deleteToken(id string) {
	delete(st.Tokens, id)
	st.ACL = slices.DeleteFunc(st.ACL, func(a ACL) bool { return a.ID == id })
}

type tokenData struct {
	ID   string `json:"tokenid"`
	Name string `json:"token-name,omitempty"`
	TokenConfig
}

func tokensOf(st *State, user string) []any {
	list := []any{}
	for _, id := range shuffled(slices.Collect(maps.Keys(st.Tokens))) {
		if owner, name, _ := strings.Cut(id, "!"); owner == user {
			list = append(list, tokenData{id, name, st.Tokens[id].TokenConfig})
		}
	}
	return list
}

func (c *call) listTokens() (any, error) {
	st := c.s.store.View()
	c.extra["digest"] = digestText(st.userText())
	return tokensOf(st, c.params.text("userid")), nil
}

func (c *call) tokenID() string { return c.params.text("userid") + "!" + c.params.text("token-name") }

func (c *call) readToken() (any, error) {
	st := c.s.store.View()
	token := st.Tokens[c.tokenID()]
	if token == nil {
		return nil, fmt.Errorf("no such token '%s'", c.tokenID())
	}
	c.extra["digest"] = digestText(st.userText())
	return tokenData{ID: c.tokenID(), TokenConfig: token.TokenConfig}, nil
}

// createToken does not look whether the user exists.
func (c *call) createToken() (any, error) {
	id, secret := c.tokenID(), standin.NewUUID()
	return map[string]any{"tokenid": id, "value": secret}, c.withUsers(func(st *State) error {
		if st.Tokens[id] != nil {
			return refuse("token '%s' for user '%s' already exists.", c.params.text("token-name"), c.params.text("userid"))
		}
		token := &Token{Secret: secret}
		token.set(c.params)
		st.Tokens[id] = token
		return nil
	})
}

func (t *TokenConfig) set(p params) {
	if comment, ok := p["comment"].(string); ok {
		t.Comment = strings.TrimSpace(comment)
	}
	setLimits(&t.Enable, &t.Expire, p)
}

func (c *call) updateToken() (any, error) {
	id := c.tokenID()
	var data any
	return &data, c.withUsers(func(st *State) error {
		token := st.Tokens[id]
		if token == nil {
			return fmt.Errorf("no such token '%s'", id)
		}
		token.set(c.params)
		dropDefaults(&token.Enable, &token.Expire)
		if c.params.flag("regenerate") {
			token.Secret = standin.NewUUID()
			data = map[string]any{"secret": token.Secret}
			if c.s.product.regenerateID {
				data = map[string]any{"tokenid": id, "value": token.Secret}
			}
		}
		return nil
	})
}

func (c *call) deleteToken() (any, error) {
	id := c.tokenID()
	return nil, c.withUsers(func(st *State) error {
		if st.Tokens[id] == nil {
			return refuse("token '%s' for user '%s' does not exist.", c.params.text("token-name"), c.params.text("userid"))
		}
		st.deleteToken(id)
		return nil
	})
}

// confirm checks the caller's own password, which all but root have to repeat, and that the user exists.
func (c *call) confirm() error {
	st, caller := c.s.store.View(), ownerOf(c.auth)
	if caller != "root@pam" {
		password, given := c.params["password"].(string)
		if !given {
			return &apiError{http.StatusUnauthorized, "missing password"}
		}
		if !st.Users[caller].accepts(password) {
			return &apiError{http.StatusUnauthorized, "invalid credentials"}
		}
	}
	if id := c.params.text("userid"); id != caller && st.Users[id] == nil {
		return &apiError{http.StatusUnauthorized, fmt.Sprintf("user '%s' does not exists.", id)}
	}
	return nil
}
