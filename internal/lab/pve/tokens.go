package pve

import (
	"slices"
	"strconv"

	"proxmox-realm/internal/lab/standin"
)

func (s *Server) tokenEndpoints() []*endpoint {
	const path = "/access/users/{userid}/token/{tokenid}"
	user := schema{"userid": &userParam}
	token := user.and(schema{"tokenid": {kind: "string", pattern: pattern(realmExpr)}})
	data := token.and(schema{
		"expire":  {kind: "integer", bounded: true, optional: true},
		"privsep": boolean.opt(),
		"comment": anyString.opt(),
	})
	update := data
	if s.version.has(sinceRegenerate) {
		update = data.and(schema{"regenerate": boolean.opt()})
	}
	allowed := s.selfOrModify()
	return []*endpoint{
		{method: "GET", path: "/access/users/{userid}/token", allowed: allowed, params: user, run: s.listTokens},
		{method: "GET", path: path, allowed: allowed, params: token, run: s.readToken},
		{method: "POST", path: path, proxied: true, allowed: allowed, params: data, run: s.createToken},
		{method: "PUT", path: path, proxied: true, allowed: allowed, params: update, run: s.updateToken},
		{method: "DELETE", path: path, proxied: true, allowed: allowed, params: token, run: s.deleteToken},
	}
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

func (t Token) data() map[string]any {
	d := map[string]any{"expire": t.Expire, "privsep": bit(t.Privsep)}
	if truthy(t.Comment) {
		d["comment"] = stored(t.Comment)
	}
	return d
}

func (s *Server) listTokens(c *call) (any, error) {
	st, user := s.view(), c.text("userid")
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

func (s *Server) readToken(c *call) (any, error) {
	st := s.view()
	if err := tokenExists(st, c.text("userid"), c.text("tokenid")); err != nil {
		return nil, err
	}
	return st.Users[c.text("userid")].Tokens[c.text("tokenid")].data(), nil
}

func (s *Server) createToken(c *call) (any, error) {
	user, id := c.text("userid"), c.text("tokenid")
	if err := userExists(s.view(), user); err != nil {
		return nil, err
	}
	if tokenExists(s.view(), user, id) == nil {
		return nil, badParams(map[string]string{"tokenid": "Token already exists."})
	}
	t := Token{Secret: standin.NewUUID(), Privsep: c.params["privsep"] == nil || truthy(c.params["privsep"]), Comment: c.text("comment")}
	t.Expire, _ = strconv.ParseInt(c.text("expire"), 10, 64)
	err := s.withUsers("generating token failed", func(st *State) error {
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

func (s *Server) updateToken(c *call) (any, error) {
	user, id := c.text("userid"), c.text("tokenid")
	if err := tokenExists(s.view(), user, id); err != nil {
		return nil, err
	}
	var t Token
	err := s.withUsers("updating token info failed", func(st *State) error {
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
			t.Secret = standin.NewUUID()
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

func (s *Server) deleteToken(c *call) (any, error) {
	user, id := c.text("userid"), c.text("tokenid")
	if err := tokenExists(s.view(), user, id); err != nil {
		return nil, err
	}
	return nil, s.withUsers("deleting token failed", func(st *State) error {
		if err := tokenExists(st, user, id); err != nil {
			return err
		}
		delete(st.Users[user].Tokens, id)
		st.ACL = slices.DeleteFunc(st.ACL, func(e ACL) bool { return e.Type == "token" && e.ID == user+"!"+id })
		return nil
	})
}
