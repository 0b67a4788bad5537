package pve

import (
	"crypto/rand"
	"encoding/hex"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

func userExists(st *State, user string) error {
	if err := verifyUser(user); err != nil {
		return err
	}
	if st.Users[user] == nil {
		return dief("no such user ('%s')", user)
	}
	return nil
}

func userEnabled(st *State, user string) error {
	if err := userExists(st, user); err != nil {
		return err
	}
	u := st.Users[user]
	if !u.Enable {
		return dief("user '%s' is disabled", user)
	}
	if u.Expire != 0 && u.Expire < time.Now().Unix() {
		return dief("user '%s' access expired", user)
	}
	return nil
}

func tokenExists(st *State, user, id string) error {
	if err := userExists(st, user); err != nil {
		return err
	}
	if _, ok := st.Users[user].Tokens[id]; !ok {
		return dief("no such token '%s' for user '%s'", id, user)
	}
	return nil
}

// data is what an answer says of a user. That an empty email shows where a
// later field is filled comes of how the user file is split.
func (u *User) data() map[string]any {
	d := map[string]any{"enable": bit(u.Enable), "expire": u.Expire}
	for k, v := range map[string]string{
		"firstname": stored(u.FirstName), "lastname": stored(u.LastName), "email": u.Email, "comment": stored(u.Comment), "keys": u.Keys,
	} {
		if v != "" && v != "0" || k == "email" && u.Comment+u.Keys != "" {
			d[k] = v
		}
	}
	return d
}

// stored is what reading the user file makes of a text that was written to it.
func stored(s string) string { return decodeText(strings.TrimSpace(encodeText(s))) }

func (t Token) data() map[string]any {
	d := map[string]any{"expire": t.Expire, "privsep": bit(t.Privsep)}
	if truthy(t.Comment) {
		d["comment"] = stored(t.Comment)
	}
	return d
}

// groupsOf are the names of a user's groups, sorted.
func groupsOf(st *State, user string) []string {
	names := []string{}
	for name, g := range st.Groups {
		if g.Users[user] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (a *api) listUsers(c *call) (any, error) {
	st := a.srv.view()
	privs := []string{"User.Modify", "Sys.Audit"}
	all := a.has(st, c.user, "/access/groups", privs...)
	visible := map[string]bool{c.user: true}
	for name, g := range st.Groups {
		if a.has(st, c.user, "/access/groups/"+name, privs...) {
			maps.Copy(visible, g.Users)
		}
	}
	list := []any{}
	for _, user := range slices.Sorted(maps.Keys(st.Users)) {
		u := st.Users[user]
		if !all && !visible[user] {
			continue
		}
		if only := c.params["enabled"]; only != nil && truthy(only) != u.Enable {
			continue
		}
		d := u.data()
		if truthy(c.params["full"]) {
			d["groups"] = strings.Join(groupsOf(st, user), ",")
			if len(u.Tokens) > 0 {
				tokens := []any{}
				for _, id := range slices.Sorted(maps.Keys(u.Tokens)) {
					t := u.Tokens[id].data()
					t["tokenid"] = id
					tokens = append(tokens, t)
				}
				d["tokens"] = tokens
			} else {
				d["tokens"] = nil
			}
		}
		if realm := a.srv.realms.get(realmOf(user)); realm != nil {
			d["realm-type"] = realm.kind
		}
		d["userid"] = user
		list = append(list, d)
	}
	return byJSON(list), nil
}

func (a *api) readUser(c *call) (any, error) {
	st, user := a.srv.view(), c.text("userid")
	if err := userExists(st, user); err != nil {
		return nil, err
	}
	d := st.Users[user].data()
	groups := []any{}
	for _, g := range groupsOf(st, user) {
		groups = append(groups, g)
	}
	d["groups"] = groups
	d["tokens"] = nil
	if tokens := st.Users[user].Tokens; len(tokens) > 0 {
		m := map[string]any{}
		for id, t := range tokens {
			m[id] = t.data()
		}
		d["tokens"] = m
	}
	return d, nil
}

// totpID is the recorded name of a second factor; a node makes up another one for each.
const totpID = "a5d275e1-fb6c-601a-5fa1-c8415b88295b"

// addTOTP adds a second factor, if the request proves that somebody can use it.
func (a *api) addTOTP(c *call) (any, error) {
	user := c.text("userid")
	uri, err := url.Parse(c.text("totp"))
	if err != nil {
		return nil, dief("failed to parse otpauth uri")
	}
	u := &User{TOTP: uri.Query().Get("secret")}
	if err := checkSecondFactor(u, "totp:"+c.text("value")); err != nil {
		return nil, dief("failed to verify TOTP challenge")
	}
	return map[string]any{"id": totpID}, a.srv.withUsers("", func(st *State) error {
		if err := userExists(st, user); err != nil {
			return err
		}
		st.Users[user].TOTP = u.TOTP
		return nil
	})
}

// setPassword is PVE::AccessControl::domain_set_password.
func (a *api) setPassword(u *User, realm, password string) error {
	sec := a.srv.realms.get(realm)
	if sec == nil {
		return dief("auth domain '%s' does not exist", realm)
	}
	if sec.kind != "pve" && sec.kind != "pam" {
		return dief("can't set password on auth type '%s'", sec.kind)
	}
	u.Password = password
	return nil
}

func (a *api) createUser(c *call) (any, error) {
	return nil, a.srv.withUsers("create user failed", func(st *State) error {
		user := c.text("userid")
		if st.Users[user] != nil {
			return dief("user '%s' already exists", user)
		}
		u := &User{Enable: c.params["enable"] == nil || truthy(c.params["enable"])}
		if p := c.params["password"]; p != nil {
			realm := realmOf(user)
			if err := a.setPassword(u, realm, text(p)); err != nil {
				return err
			}
		}
		st.Users[user] = u
		return u.set(st, user, c)
	})
}

func (a *api) updateUser(c *call) (any, error) {
	user := c.text("userid")
	return nil, a.srv.withUsers("update user failed", func(st *State) error {
		if err := userExists(st, user); err != nil {
			return err
		}
		u := st.Users[user]
		if e := c.params["enable"]; e != nil {
			u.Enable = truthy(e)
		}
		if c.params["groups"] != nil && !truthy(c.params["append"]) {
			leaveGroups(st, user)
		}
		return u.set(st, user, c)
	})
}

// set stores what a request says of a user and puts the user into groups.
func (u *User) set(st *State, user string, c *call) error {
	if e := c.params["expire"]; e != nil {
		u.Expire, _ = strconv.ParseInt(text(e), 10, 64)
	}
	for _, g := range splitList(c.text("groups")) {
		if _, ok := st.Groups[g]; !ok {
			return dief("no such group '%s'", g)
		}
		joinGroup(st, user, g)
	}
	for k, field := range map[string]*string{"firstname": &u.FirstName, "lastname": &u.LastName, "email": &u.Email, "comment": &u.Comment, "keys": &u.Keys} {
		if v := c.params[k]; v != nil {
			*field = text(v)
		}
	}
	return nil
}

func joinGroup(st *State, user, group string) {
	g := st.Groups[group]
	if g.Users == nil {
		g.Users = map[string]bool{}
	}
	g.Users[user] = true
	st.Groups[group] = g
}

func leaveGroups(st *State, user string) {
	for _, g := range st.Groups {
		delete(g.Users, user)
	}
}

func (a *api) deleteUser(c *call) (any, error) {
	user := c.text("userid")
	return nil, a.srv.withUsers("delete user failed", func(st *State) error {
		delete(st.Users, user)
		leaveGroups(st, user)
		st.ACL = slices.DeleteFunc(st.ACL, func(e ACL) bool {
			return e.Type == "user" && e.ID == user || e.Type == "token" && strings.HasPrefix(e.ID, user+"!")
		})
		if user == "root@pam" { // there is always a root
			st.Users[user] = &User{Enable: true}
		}
		return nil
	})
}

func (a *api) listTokens(c *call) (any, error) {
	st, user := a.srv.view(), c.text("userid")
	if err := userExists(st, user); err != nil {
		return nil, err
	}
	list := []any{}
	for id, t := range st.Users[user].Tokens {
		d := t.data()
		d["tokenid"] = id
		list = append(list, d)
	}
	return byJSON(list), nil
}

func (a *api) readToken(c *call) (any, error) {
	st := a.srv.view()
	if err := tokenExists(st, c.text("userid"), c.text("tokenid")); err != nil {
		return nil, err
	}
	return st.Users[c.text("userid")].Tokens[c.text("tokenid")].data(), nil
}

// newUUID is a random UUID (RFC 9562, version 4): what token secrets are.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

func (a *api) createToken(c *call) (any, error) {
	user, id := c.text("userid"), c.text("tokenid")
	if err := userExists(a.srv.view(), user); err != nil {
		return nil, err
	}
	if tokenExists(a.srv.view(), user, id) == nil {
		return nil, badParams(map[string]string{"tokenid": "Token already exists."})
	}
	t := Token{Secret: newUUID(), Privsep: c.params["privsep"] == nil || truthy(c.params["privsep"]), Comment: c.text("comment")}
	t.Expire, _ = strconv.ParseInt(c.text("expire"), 10, 64)
	err := a.srv.withUsers("generating token failed", func(st *State) error {
		if err := userExists(st, user); err != nil {
			return err
		}
		if _, ok := st.Users[user].Tokens[id]; ok {
			return dief("Token already exists.")
		}
		if st.Users[user].Tokens == nil {
			st.Users[user].Tokens = map[string]Token{}
		}
		st.Users[user].Tokens[id] = t
		return nil
	})
	if err != nil {
		return nil, err
	}
	info := t.data()
	if c.params["expire"] == nil {
		delete(info, "expire")
	}
	asSent(info, c)
	return map[string]any{"info": info, "value": t.Secret, "full-tokenid": user + "!" + id}, nil
}

// asSent replaces numbers by the text that was sent.
func asSent(info map[string]any, c *call) {
	for _, k := range []string{"privsep", "expire"} {
		if v := c.params[k]; v != nil {
			info[k] = text(v)
		}
	}
}

func (a *api) updateToken(c *call) (any, error) {
	user, id := c.text("userid"), c.text("tokenid")
	if err := tokenExists(a.srv.view(), user, id); err != nil {
		return nil, err
	}
	var t Token
	err := a.srv.withUsers("updating token info failed", func(st *State) error {
		if err := tokenExists(st, user, id); err != nil {
			return err
		}
		t = st.Users[user].Tokens[id]
		if v := c.params["privsep"]; v != nil {
			t.Privsep = truthy(v)
		}
		if v := c.params["expire"]; v != nil {
			t.Expire = int64(c.number("expire"))
		}
		if v := c.params["comment"]; v != nil {
			t.Comment = text(v)
		}
		if truthy(c.params["regenerate"]) {
			t.Secret = newUUID()
		}
		st.Users[user].Tokens[id] = t
		return nil
	})
	if err != nil {
		return nil, err
	}
	info := t.data()
	asSent(info, c)
	if truthy(c.params["regenerate"]) {
		info["value"], info["full-tokenid"] = t.Secret, user+"!"+id
	}
	return info, nil
}

func (a *api) deleteToken(c *call) (any, error) {
	user, id := c.text("userid"), c.text("tokenid")
	if err := tokenExists(a.srv.view(), user, id); err != nil {
		return nil, err
	}
	return nil, a.srv.withUsers("deleting token failed", func(st *State) error {
		if err := tokenExists(st, user, id); err != nil {
			return err
		}
		delete(st.Users[user].Tokens, id)
		st.ACL = slices.DeleteFunc(st.ACL, func(e ACL) bool { return e.Type == "token" && e.ID == user+"!"+id })
		return nil
	})
}

func (a *api) listGroups(c *call) (any, error) {
	st := a.srv.view()
	list := []any{}
	for name, g := range st.Groups {
		if !a.has(st, c.user, "/access/groups/"+name, "User.Modify", "Sys.Audit", "Group.Allocate") {
			continue
		}
		d := map[string]any{"groupid": name, "users": strings.Join(slices.Sorted(maps.Keys(g.Users)), ",")}
		if truthy(g.Comment) {
			d["comment"] = stored(g.Comment)
		}
		list = append(list, d)
	}
	return byJSON(list), nil
}

func (a *api) readGroup(c *call) (any, error) {
	g, ok := a.srv.view().Groups[c.text("groupid")]
	if !ok {
		return nil, dief("group '%s' does not exist", c.text("groupid"))
	}
	members := []any{}
	for _, u := range slices.Sorted(maps.Keys(g.Users)) {
		members = append(members, u)
	}
	d := map[string]any{"members": members}
	if truthy(g.Comment) {
		d["comment"] = stored(g.Comment)
	}
	return d, nil
}

func (a *api) createGroup(c *call) (any, error) {
	return nil, a.srv.withUsers("create group failed", func(st *State) error {
		name := c.text("groupid")
		if _, ok := st.Groups[name]; ok {
			return dief("group '%s' already exists", name)
		}
		st.Groups[name] = Group{Comment: c.text("comment"), Users: map[string]bool{}}
		return nil
	})
}

func (a *api) updateGroup(c *call) (any, error) {
	return nil, a.srv.withUsers("update group failed", func(st *State) error {
		name := c.text("groupid")
		g, ok := st.Groups[name]
		if !ok {
			return dief("group '%s' does not exist", name)
		}
		if v := c.params["comment"]; v != nil {
			g.Comment = text(v)
		}
		st.Groups[name] = g
		return nil
	})
}

func (a *api) deleteGroup(c *call) (any, error) {
	return nil, a.srv.withUsers("delete group failed", func(st *State) error {
		name := c.text("groupid")
		if _, ok := st.Groups[name]; !ok {
			return dief("group '%s' does not exist", name)
		}
		delete(st.Groups, name)
		st.ACL = slices.DeleteFunc(st.ACL, func(e ACL) bool { return e.Type == "group" && e.ID == name })
		return nil
	})
}

func (a *api) listRoles(*call) (any, error) {
	st := a.srv.view()
	list := []any{}
	add := func(name string, privs map[string]bool, special any) {
		list = append(list, map[string]any{"roleid": name, "privs": strings.Join(slices.Sorted(maps.Keys(privs)), ","), "special": special})
	}
	for name, privs := range a.roles {
		add(name, privs, 1)
	}
	for name := range st.Roles {
		privs, _ := a.rolePrivs(st, name)
		add(name, privs, 0)
	}
	return byJSON(list), nil
}

func (a *api) readRole(c *call) (any, error) {
	privs, ok := a.rolePrivs(a.srv.view(), c.text("roleid"))
	if !ok {
		return nil, dief("role '%s' does not exist", c.text("roleid"))
	}
	d := map[string]any{}
	for p := range privs {
		d[p] = 1
	}
	return d, nil
}

func (a *api) createRole(c *call) (any, error) {
	name := c.text("roleid")
	if len(name) >= 3 && strings.EqualFold(name[:3], "PVE") && a.version.atLeast(8, 0) {
		return nil, badParams(map[string]string{"roleid": "cannot use role ID starting with the (case-insensitive) 'PVE' namespace"})
	}
	return nil, a.srv.withUsers("create role failed", func(st *State) error {
		if _, ok := a.rolePrivs(st, name); ok {
			return dief("role '%s' already exists", name)
		}
		st.Roles[name] = splitList(c.text("privs"))
		return nil
	})
}

func (a *api) updateRole(c *call) (any, error) {
	name := c.text("roleid")
	if a.roles[name] != nil {
		return nil, dief("auto-generated role '%s' cannot be modified", name)
	}
	return nil, a.srv.withUsers("update role failed", func(st *State) error {
		privs, ok := st.Roles[name]
		if !ok {
			return dief("role '%s' does not exist", name)
		}
		if !truthy(c.params["append"]) {
			privs = nil
		}
		st.Roles[name] = append(slices.Clone(privs), splitList(c.text("privs"))...)
		return nil
	})
}

func (a *api) deleteRole(c *call) (any, error) {
	name := c.text("roleid")
	if a.roles[name] != nil {
		return nil, dief("auto-generated role '%s' cannot be deleted", name)
	}
	return nil, a.srv.withUsers("delete role failed", func(st *State) error {
		if _, ok := st.Roles[name]; !ok {
			return dief("role '%s' does not exist", name)
		}
		delete(st.Roles, name)
		st.ACL = slices.DeleteFunc(st.ACL, func(e ACL) bool { return e.Role == name })
		return nil
	})
}
