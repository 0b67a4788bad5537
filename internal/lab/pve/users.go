package pve

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (s *Server) userEndpoints() []*endpoint {
	user := schema{"userid": &userParam}
	data := user.and(schema{
		"enable":    boolean.opt(),
		"expire":    {kind: "integer", bounded: true, optional: true},
		"firstname": {kind: "string", max: 1024, optional: true},
		"lastname":  {kind: "string", max: 1024, optional: true},
		"email":     {kind: "string", max: 254, optional: true},
		"comment":   {kind: "string", max: 2048, optional: true},
		"groups":    {kind: "string", format: verifyGroup, list: true, optional: true},
	})
	made := data.and(schema{"password": {kind: "string", min: 8, max: 64, optional: true}})
	modify := s.userGroup("User.Modify")
	return []*endpoint{
		{method: "GET", path: "/access/users", proxied: true, all: true, run: s.listUsers, params: schema{"full": boolean.opt()}},
		{method: "POST", path: "/access/users", proxied: true, allowed: allOf(s.allocateUser, s.need("/access/groups", "User.Modify")), params: made, run: s.createUser},
		{method: "GET", path: "/access/users/{userid}", allowed: s.userGroup("User.Modify", "Sys.Audit"), params: user, run: s.readUser},
		{method: "PUT", path: "/access/users/{userid}", proxied: true, allowed: modify, params: data, run: s.updateUser},
		{method: "DELETE", path: "/access/users/{userid}", proxied: true, allowed: allOf(s.allocateUser, modify), params: user, run: s.deleteUser},
		{method: "POST", path: "/access/tfa/{userid}", proxied: true, noToken: true, allowed: s.selfOrModify(), run: s.addTOTP, params: user.and(schema{
			"type": {kind: "string", enum: []string{"totp"}}, "description": anyString.opt(), "totp": &anyString, "value": &anyString,
		})},
	}
}

func (s *Server) groupEndpoints() []*endpoint {
	group := schema{"groupid": &groupParam}
	data := group.and(schema{"comment": anyString.opt()})
	allocate := s.need("/access/groups", "Group.Allocate")
	return []*endpoint{
		{method: "GET", path: "/access/groups", all: true, run: s.listGroups},
		{method: "POST", path: "/access/groups", proxied: true, allowed: allocate, params: data, run: s.createGroup},
		{method: "GET", path: "/access/groups/{groupid}", allowed: s.need("/access/groups", "Sys.Audit", "Group.Allocate"), params: group, run: s.readGroup},
		{method: "PUT", path: "/access/groups/{groupid}", proxied: true, allowed: allocate, params: data, run: s.updateGroup},
		{method: "DELETE", path: "/access/groups/{groupid}", proxied: true, allowed: allocate, params: group, run: s.deleteGroup},
	}
}

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

// data is what an answer says of a user. That an empty email shows where a
// later field is filled comes of how the user file is split.
func (u *User) data() map[string]any {
	d := map[string]any{"enable": bit(u.Enable), "expire": u.Expire}
	for k, v := range map[string]string{
		"firstname": stored(u.FirstName), "lastname": stored(u.LastName), "email": u.Email, "comment": stored(u.Comment),
	} {
		if v != "" && v != "0" || k == "email" && u.Comment != "" {
			d[k] = v
		}
	}
	return d
}

// stored is what reading the user file makes of a text that was written to it.
func stored(s string) string { return decodeText(strings.TrimSpace(encodeText(s))) }

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

func (s *Server) listUsers(c *call) (any, error) {
	st := s.view()
	privs := []string{"User.Modify", "Sys.Audit"}
	all := s.has(st, c.user, "/access/groups", privs...)
	visible := map[string]bool{c.user: true}
	for name, g := range st.Groups {
		if s.has(st, c.user, "/access/groups/"+name, privs...) {
			maps.Copy(visible, g.Users)
		}
	}
	list := []any{}
	for _, user := range slices.Sorted(maps.Keys(st.Users)) {
		u := st.Users[user]
		if !all && !visible[user] {
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
		if r, ok := st.realm(realmOf(user)); ok {
			d["realm-type"] = r.Type
		}
		d["userid"] = user
		list = append(list, d)
	}
	return byJSON(list), nil
}

func (s *Server) readUser(c *call) (any, error) {
	st, user := s.view(), c.text("userid")
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

// setPassword is PVE::AccessControl::domain_set_password.
func (u *User) setPassword(st *State, realm, password string) error {
	r, ok := st.realm(realm)
	if !ok {
		return dief("auth domain '%s' does not exist", realm)
	}
	if r.Type != "pve" && r.Type != "pam" {
		return dief("can't set password on auth type '%s'", r.Type)
	}
	u.Password = password
	return nil
}

func (s *Server) createUser(c *call) (any, error) {
	return nil, s.withUsers("create user failed", func(st *State) error {
		user := c.text("userid")
		if st.Users[user] != nil {
			return dief("user '%s' already exists", user)
		}
		u := &User{Enable: c.params["enable"] == nil || truthy(c.params["enable"])}
		if p := c.params["password"]; p != nil {
			if err := u.setPassword(st, realmOf(user), text(p)); err != nil {
				return err
			}
		}
		st.Users[user] = u
		return u.set(st, user, c)
	})
}

func (s *Server) updateUser(c *call) (any, error) {
	user := c.text("userid")
	return nil, s.withUsers("update user failed", func(st *State) error {
		if err := userExists(st, user); err != nil {
			return err
		}
		u := st.Users[user]
		if e := c.params["enable"]; e != nil {
			u.Enable = truthy(e)
		}
		if c.params["groups"] != nil {
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
	for k, field := range map[string]*string{"firstname": &u.FirstName, "lastname": &u.LastName, "email": &u.Email, "comment": &u.Comment} {
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

func (s *Server) deleteUser(c *call) (any, error) {
	user := c.text("userid")
	return nil, s.withUsers("delete user failed", func(st *State) error {
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

func (s *Server) listGroups(c *call) (any, error) {
	st := s.view()
	list := []any{}
	for name, g := range st.Groups {
		if !s.has(st, c.user, "/access/groups/"+name, "User.Modify", "Sys.Audit", "Group.Allocate") {
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

func (s *Server) readGroup(c *call) (any, error) {
	g, ok := s.view().Groups[c.text("groupid")]
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

func (s *Server) createGroup(c *call) (any, error) {
	return nil, s.withUsers("create group failed", func(st *State) error {
		name := c.text("groupid")
		if _, ok := st.Groups[name]; ok {
			return dief("group '%s' already exists", name)
		}
		st.Groups[name] = Group{Comment: c.text("comment"), Users: map[string]bool{}}
		return nil
	})
}

func (s *Server) updateGroup(c *call) (any, error) {
	return nil, s.withUsers("update group failed", func(st *State) error {
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

func (s *Server) deleteGroup(c *call) (any, error) {
	return nil, s.withUsers("delete group failed", func(st *State) error {
		name := c.text("groupid")
		if _, ok := st.Groups[name]; !ok {
			return dief("group '%s' does not exist", name)
		}
		delete(st.Groups, name)
		st.ACL = slices.DeleteFunc(st.ACL, func(e ACL) bool { return e.Type == "group" && e.ID == name })
		return nil
	})
}

// totpID is the recorded name of a second factor; a node makes up another one for each.
const totpID = "a5d275e1-fb6c-601a-5fa1-c8415b88295b"

// addTOTP adds a second factor, if the request proves that somebody can use it.
func (s *Server) addTOTP(c *call) (any, error) {
	user := c.text("userid")
	uri, err := url.Parse(c.text("totp"))
	if err != nil {
		return nil, dief("failed to parse otpauth uri")
	}
	u := &User{TOTP: uri.Query().Get("secret")}
	if checkSecondFactor(u, "totp:"+c.text("value")) != nil {
		return nil, dief("failed to verify TOTP challenge")
	}
	return map[string]any{"id": totpID}, s.locked(s.userLock, "file-user_cfg", func(st *State) error {
		if err := userExists(st, user); err != nil {
			return err
		}
		st.Users[user].TOTP = u.TOTP
		return nil
	})
}
