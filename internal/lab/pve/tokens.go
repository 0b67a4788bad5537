package pve

import (
	"slices"
	"strconv"

	"proxmox-realm/internal/lab/standin"
)

func (a *api) tokenEndpoints() []*endpoint {
	const path = "/access/users/{userid}/token/{tokenid}"
	user := schema{"userid": &userParam}
	token := user.and(schema{"tokenid": {kind: "string", pattern: pattern(realmExpr)}})
	data := token.and(schema{
		"expire":  {kind: "integer", bounded: true, optional: true},
		"privsep": boolean.opt(),
		"comment": anyString.opt(),
	})
	update := data
	if a.version.has(sinceRegenerate) {
		update = data.and(schema{"regenerate": boolean.opt()})
	}
	allowed := a.selfOrModify()
	return []*endpoint{
		{method: "GET", path: "/access/users/{userid}/token", allowed: allowed, params: user, run: a.listTokens},
		{method: "GET", path: path, allowed: allowed, params: token, run: a.readToken},
		{method: "POST", path: path, proxied: true, allowed: allowed, params: data, run: a.createToken},
		{method: "PUT", path: path, proxied: true, allowed: allowed, params: update, run: a.updateToken},
		{method: "DELETE", path: path, proxied: true, allowed: allowed, params: token, run: a.deleteToken},
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

func (a *api) createToken(c *call) (any, error) {
	user, id := c.text("userid"), c.text("tokenid")
	if err := userExists(a.srv.view(), user); err != nil {
		return nil, err
	}
	if tokenExists(a.srv.view(), user, id) == nil {
		return nil, badParams(map[string]string{"tokenid": "Token already exists."})
	}
	t := Token{Secret: standin.NewUUID(), Privsep: c.params["privsep"] == nil || truthy(c.params["privsep"]), Comment: c.text("comment")}
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
