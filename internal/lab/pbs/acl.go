package pbs

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// cache is what one of the two daemons last read of users and ACLs.
type cache struct {
	state *State
	read  time.Time
}

// known returns the state as the daemon that runs the call knows it. Changes of users and tokens invalidate what it knows,
// changes of ACLs alone do not.
func (c *call) known() *State {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	st, now, kept := s.store.View(), s.opts.Now(), &s.cache[0]
	if c.privileged {
		kept = &s.cache[1]
	}
	if kept.state == nil || kept.state.Generation != st.Generation || now.Sub(kept.read) >= s.opts.ACLCache {
		*kept = cache{st, now}
	}
	return kept.state
}

// may says whether the caller has access.
func (c *call) may(a access) bool {
	return a.path == "" || c.holds(a.path, a.privilege) || a.self && slices.Contains(c.path, [2]string{"userid", c.auth})
}

// holds says whether the caller has a privilege on a path.
func (c *call) holds(path, privilege string) bool {
	_, held := c.s.product.privileges(c.known(), c.auth, path)[privilege]
	return held
}

// privileges returns what a user or token may do on a path: privilege to whether it propagates. The roles of the deepest
// path that has any for it count, and a token has no more than its user.
func (p *Product) privileges(st *State, auth, path string) map[string]bool {
	held := map[string]bool{}
	if auth == "root@pam" {
		for _, privilege := range p.roles[p.admin] {
			held[privilege] = true
		}
		return held
	}
	path = strings.TrimSuffix(path, "/")
	for _, at := range ancestors(path) {
		var roles []ACL
		for _, a := range st.ACL {
			if strings.TrimSuffix(a.Path, "/") == at && a.ID == auth && (a.Propagate || at == path) {
				roles = append(roles, a)
			}
		}
		if len(roles) == 0 {
			continue
		}
		for _, a := range roles {
			for _, privilege := range p.roles[a.Role] {
				held[privilege] = held[privilege] || a.Propagate
			}
		}
		break
	}
	if !isToken(auth) {
		return held
	}
	own := p.privileges(st, ownerOf(auth), path)
	for privilege := range held {
		propagates, ok := own[privilege]
		if !ok {
			delete(held, privilege)
		} else if !propagates {
			held[privilege] = false
		}
	}
	return held
}

// ancestors lists a path and those above it, the root, which is "", last.
func ancestors(path string) []string {
	list := []string{path}
	for path != "" {
		path = path[:strings.LastIndex(path, "/")]
		list = append(list, path)
	}
	return list
}

// permissions is GET /access/permissions. It leaves out paths without privileges.
func (c *call) permissions() (any, error) {
	auth, p := c.params.text("auth-id"), c.s.product
	switch own := isToken(auth) && ownerOf(auth) == c.auth; {
	case auth == "":
		auth = c.auth
	case auth != c.auth && !own && !c.holds("/access", p.audit):
		return nil, fmt.Errorf("not allowed to list permissions of %s", auth)
	}
	paths := []string{c.params.text("path")}
	if paths[0] == "" {
		paths = slices.Clone(p.listed)
		for _, a := range c.s.store.View().ACL {
			for _, path := range ancestors(strings.TrimSuffix(a.Path, "/")) {
				if path != "" {
					paths = append(paths, path)
				}
			}
		}
	}
	data, known := map[string]map[string]bool{}, c.known()
	for _, path := range paths {
		if held := p.privileges(known, auth, path); len(held) > 0 {
			data[path] = held
		}
	}
	return data, nil
}

// text is what the digest of acl.cfg is made of.
func aclText(list []ACL) string {
	lines := []string{}
	for _, a := range list {
		lines = append(lines, fmt.Sprintf("acl:%v:%s:%s:%s\n", a.Propagate, a.Path, a.ID, a.Role))
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// listACL is GET /access/acl. Without the privilege it shows those of the caller's tokens.
func (c *call) listACL() (any, error) {
	st, all := c.s.store.View(), c.holds("/access/acl", c.s.product.accessAudit)
	path := strings.TrimSuffix(c.params.text("path"), "/")
	list := []map[string]any{}
	for _, a := range shuffled(st.ACL) {
		at := strings.TrimSuffix(a.Path, "/")
		below := at == path || strings.HasPrefix(at, path+"/") && !c.params.flag("exact")
		if own := isToken(a.ID) && ownerOf(a.ID) == c.auth; below && (all || own) {
			list = append(list, map[string]any{"path": a.Path, "ugid_type": "user", "ugid": a.ID, "roleid": a.Role, "propagate": a.Propagate})
		}
	}
	c.extra["digest"] = digestText(aclText(st.ACL))
	return list, nil
}

// updateACL is PUT /access/acl. It adds or removes one role of one user or token on one path.
func (c *call) updateACL() (any, error) {
	id, path, role := c.params.text("auth-id"), c.params.text("path"), c.params.text("role")
	if !c.holds("/access/acl", c.s.product.modify) {
		if err := c.mayGrantOwn(id); err != nil {
			return nil, err
		}
	}
	remove := c.params.flag("delete")
	return nil, c.s.store.Change(func(st *State) error {
		if err := c.checkDigest(aclText(st.ACL)); err != nil {
			return err
		}
		if err := c.checkACL(st, id, path, remove); err != nil {
			return err
		}
		same := func(a ACL) bool { return a.Path == path && a.ID == id && a.Role == role }
		displaced := func(a ACL) bool {
			return same(a) || !remove && a.Path == path && a.ID == id && (role == "NoAccess" || a.Role == "NoAccess")
		}
		st.ACL = slices.DeleteFunc(st.ACL, displaced)
		if !remove {
			propagate, given := c.params["propagate"].(bool)
			st.ACL = append(st.ACL, ACL{path, id, role, propagate || !given})
		}
		return nil
	})
}

// mayGrantOwn says whether a caller without the privilege may set an ACL: a user may, for its own tokens.
func (c *call) mayGrantOwn(id string) error {
	switch {
	case isToken(c.auth):
		return refuse("Unprivileged API tokens can't set ACL items.")
	case !isToken(id):
		return refuse("Unprivileged users can only set ACL items for API tokens.")
	case ownerOf(id) != c.auth:
		return refuse("Unprivileged users can only set ACL items for their own API tokens.")
	}
	return nil
}

func (c *call) checkACL(st *State, id, path string, remove bool) error {
	switch _, group := c.params["group"]; {
	case group:
		return refuse("parameter 'group' - groups are currently not supported.")
	case remove:
	case isToken(id) && st.Tokens[id] == nil:
		return refuse("no such API token.")
	case !isToken(id) && st.Users[id] == nil:
		return refuse("no such user.")
	case !c.s.product.aclPath.MatchString(path):
		return refuse("invalid acl path '%s'.", path)
	}
	return nil
}
