package pve

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"
)

func (s *Server) aclEndpoints() []*endpoint {
	return []*endpoint{
		{method: "GET", path: "/access/permissions", all: true, run: s.readPermissions, params: schema{
			"userid": {kind: "string", pattern: pattern(userExpr + `@` + realmExpr + `(?:!` + realmExpr + `)?`), optional: true},
			"path":   anyString.opt(),
		}},
		{method: "GET", path: "/access/acl", all: true, run: s.listACL},
		{method: "PUT", path: "/access/acl", proxied: true, allowed: s.modifyACL, run: s.updateACL, params: schema{
			"path":      &anyString,
			"propagate": boolean.opt(),
			"delete":    boolean.opt(),
			"users":     {kind: "string", format: verifyUser, list: true, optional: true},
			"groups":    {kind: "string", format: verifyGroup, list: true, optional: true},
			"tokens":    {kind: "string", format: verifyToken, list: true, optional: true},
			"roles":     {kind: "string", format: verifyRole, list: true},
		}},
	}
}

// rolesAt are the roles that a user or token has on a path, with their
// propagation (PVE::AccessControl::roles).
func (s *Server) rolesAt(st *State, user, path string) map[string]bool {
	_, _, isToken := splitToken(user)
	roles := map[string]bool{}
	parts := strings.Split(strings.TrimRight(path, "/"), "/")
	at := ""
	for i, p := range parts {
		if p != "" {
			at += "/" + p
		}
		final := i == len(parts)-1
		here := at
		if here == "" {
			here = "/"
		}
		for _, kind := range []string{"token", "user", "group"} {
			if (kind == "token") != isToken {
				continue
			}
			found := map[string]bool{}
			for _, e := range st.ACL {
				if e.Path != here || e.Type != kind || !final && !e.Propagate {
					continue
				}
				if kind == "group" && st.Groups[e.ID].Users[user] || kind != "group" && e.ID == user {
					found[e.Role] = e.Propagate
				}
			}
			if len(found) > 0 {
				roles = found
				break
			}
		}
	}
	if p, ok := roles["NoAccess"]; ok {
		return map[string]bool{"NoAccess": p}
	}
	return roles
}

// permissions are the privileges that a user or token has on a path, with
// their propagation (PVE::RPCEnvironment::permissions).
func (s *Server) permissions(st *State, user, path string) map[string]bool {
	if user == "root@pam" {
		return s.roles["Administrator"]
	}
	owner, id, isToken := splitToken(user)
	var owned map[string]bool
	if isToken {
		u := st.Users[owner]
		if u == nil {
			return nil
		}
		t, ok := u.Tokens[id]
		if !ok {
			return nil
		}
		owned = s.permissions(st, owner, path)
		if !t.Privsep {
			return owned
		}
	} else if verifyUser(user) != nil {
		return nil
	}
	privs := map[string]bool{}
	for role, propagate := range s.rolesAt(st, user, path) {
		rp, _ := s.rolePrivs(st, role)
		for p := range rp {
			privs[p] = privs[p] || propagate
		}
	}
	if isToken && owner != "root@pam" {
		for p, propagate := range privs {
			if up, ok := owned[p]; ok {
				privs[p] = up && propagate
			} else {
				delete(privs, p)
			}
		}
	}
	return privs
}

// has says whether a user has any of some privileges on a path.
func (s *Server) has(st *State, user, path string, privs ...string) bool {
	have := s.permissions(st, user, path)
	return slices.ContainsFunc(privs, func(p string) bool { _, ok := have[p]; return ok })
}

// need is a check for any of some privileges on a path.
func (s *Server) need(path string, privs ...string) func(*call) error {
	return func(c *call) error {
		if !s.has(s.view(), c.user, path, privs...) {
			return forbidden(path + ", " + strings.Join(privs, "|"))
		}
		return nil
	}
}

func allOf(checks ...func(*call) error) func(*call) error {
	return func(c *call) error {
		for _, check := range checks {
			if err := check(c); err != nil {
				return err
			}
		}
		return nil
	}
}

// selfOrModify is the check [or, [userid-param, self], [userid-group, [User.Modify]]].
func (s *Server) selfOrModify() func(*call) error {
	modify := s.userGroup("User.Modify")
	return func(c *call) error {
		if s.view().Users[c.user] != nil && c.user == c.text("userid") {
			return nil
		}
		if modify(c) != nil {
			return forbidden("")
		}
		return nil
	}
}

// allocateUser is the check [userid-param, Realm.AllocateUser].
func (s *Server) allocateUser(c *call) error {
	if err := verifyUser(c.text("userid")); err != nil {
		return err
	}
	realm := realmOf(c.text("userid"))
	return s.need("/access/realm/"+realm, "Realm.AllocateUser")(c)
}

// userGroup is the check [userid-group, privs]: of all groups, or of one of the user's.
func (s *Server) userGroup(privs ...string) func(*call) error {
	return func(c *call) error {
		st, user := s.view(), c.text("userid")
		if err := userExists(st, user); err != nil {
			return err
		}
		for name, g := range st.Groups {
			if g.Users[user] && s.has(st, c.user, "/access/groups/"+name, privs...) {
				return nil
			}
		}
		if !s.has(st, c.user, "/access/groups", privs...) {
			return forbidden("")
		}
		return nil
	}
}

var (
	aclPath = pattern(`/|/access|/access/groups|/access/groups/[[:alnum:]._-]+|/access/realm|/access/realm/[[:alnum:]._-]+` +
		`|/nodes|/nodes/[[:alnum:]._-]+|/pool|/pool/[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+){0,2}|/sdn` +
		`|/sdn/(?:controllers|dns|ipams|zones|fabrics)(?:/[[:alnum:]._-]+){0,3}|/storage|/storage/[[:alnum:]._-]+` +
		`|/vms|/vms/[1-9][0-9]{2,}|/mapping|/mapping/[[:alnum:]._-]+|/mapping/[[:alnum:]._-]+/[[:alnum:]._-]+`)
	slashes = regexp.MustCompile(`/+`)
)

// normalizePath is PVE::AccessControl::normalize_path.
func normalizePath(p string) string {
	return cmp.Or(strings.TrimSuffix(slashes.ReplaceAllString("/"+p, "/"), "/"), "/")
}

// mayModify is PVE::RPCEnvironment::check_perm_modify.
func (s *Server) mayModify(st *State, user, path string) error {
	privs := []string{"Permissions.Modify"}
	for prefix, p := range map[string]string{"/storage/": "Datastore.Allocate", "/vms/": "VM.Allocate", "/pool/": "Pool.Allocate"} {
		if strings.HasPrefix(path, prefix) && len(path) > len(prefix) {
			privs = append(privs, p)
		}
	}
	if !s.has(st, user, path, privs...) {
		return forbidden(path + ", " + strings.Join(privs, "|"))
	}
	return nil
}

func (s *Server) modifyACL(c *call) error {
	return s.mayModify(s.view(), c.user, normalizePath(c.text("path")))
}

// aclPaths are all paths of the tree, with those on the way to them.
func aclPaths(st *State) []string {
	paths := map[string]bool{"/": true}
	for _, e := range st.ACL {
		for p := e.Path; p != "/" && p != ""; p = p[:strings.LastIndexByte(p, '/')] {
			paths[p] = true
		}
	}
	return slices.Sorted(maps.Keys(paths))
}

func numbers(perms map[string]bool) map[string]any {
	m := map[string]any{}
	for p, propagate := range perms {
		m[p] = bit(propagate)
	}
	return m
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (s *Server) readPermissions(c *call) (any, error) {
	st := s.view()
	user := c.user
	if c.params["userid"] != nil {
		user = c.text("userid")
	}
	if owner, _, _ := splitToken(user); user != c.user && owner != c.user && !s.has(st, c.user, "/access", "Sys.Audit") {
		return nil, forbidden("/access, Sys.Audit")
	}
	if path := c.params["path"]; truthy(path) {
		return map[string]any{text(path): numbers(s.permissions(st, user, text(path)))}, nil
	}
	res := map[string]any{}
	for _, path := range append(aclPaths(st), "/access", "/access/groups", "/nodes", "/pool", "/sdn", "/storage", "/vms") {
		if perms := s.permissions(st, user, path); len(perms) > 0 {
			res[path] = numbers(perms)
		}
	}
	return res, nil
}

// capabilities is PVE::RPCEnvironment::compute_api_permission: what the web interface may show.
func (s *Server) capabilities(st *State, user string) map[string]any {
	kinds := map[string][]string{
		"vms":     {"VM.", "Permissions.Modify"},
		"access":  {"User.", "Group.", "Permissions.Modify"},
		"storage": {"Datastore.", "Permissions.Modify"},
		"nodes":   {"Sys.", "Permissions.Modify"},
		"sdn":     {"SDN.", "Permissions.Modify"},
		"dc":      {"Sys.Audit", "Sys.Modify", "SDN."},
		"mapping": {"Mapping.", "Permissions.Modify"},
	}
	caps := map[string]map[string]any{}
	for k := range kinds {
		caps[k] = map[string]any{}
	}
	for _, path := range append(aclPaths(st), "/nodes", "/access/groups", "/vms", "/storage", "/sdn", "/mapping") {
		top := "dc"
		if parts := fragments(path); len(parts) > 0 {
			top = parts[0]
		}
		for p := range s.permissions(st, user, path) {
			if slices.ContainsFunc(kinds[top], func(prefix string) bool { return strings.HasPrefix(p, prefix) }) {
				caps[top][p] = 1
			}
		}
	}
	res := map[string]any{}
	for k, m := range caps {
		res[k] = m
	}
	return res
}

func (s *Server) listACL(c *call) (any, error) {
	st := s.view()
	audit := s.has(st, c.user, "/access", "Sys.Audit")
	list := []any{}
	for _, e := range st.ACL {
		if !audit && s.mayModify(st, c.user, e.Path) != nil {
			continue
		}
		list = append(list, map[string]any{"path": e.Path, "type": e.Type, "ugid": e.ID, "roleid": e.Role, "propagate": bit(e.Propagate)})
	}
	return byJSON(list), nil
}

func (s *Server) updateACL(c *call) (any, error) {
	if !truthy(c.params["users"]) && !truthy(c.params["groups"]) && !truthy(c.params["tokens"]) {
		e := "either 'users', 'groups' or 'tokens' is required."
		return nil, badParams(map[string]string{"users": e, "groups": e, "tokens": e})
	}
	path, remove := normalizePath(c.text("path")), truthy(c.params["delete"])
	if !remove && !aclPath.MatchString(path) {
		return nil, badParams(map[string]string{"path": "invalid ACL path '" + c.text("path") + "'"})
	}
	propagate := c.params["propagate"] == nil || truthy(c.params["propagate"])
	return nil, s.withUsers("ACL update failed", func(st *State) error {
		for _, role := range splitList(c.text("roles")) {
			if _, ok := s.rolePrivs(st, role); !ok {
				return dief("role '%s' does not exist", role)
			}
			set := func(kind, id string) {
				st.ACL = slices.DeleteFunc(st.ACL, func(e ACL) bool {
					return e.Path == path && e.Type == kind && e.ID == id && e.Role == role
				})
				if !remove {
					st.ACL = append(st.ACL, ACL{Path: path, Type: kind, ID: id, Role: role, Propagate: propagate})
				}
			}
			for _, g := range splitList(c.text("groups")) {
				if _, ok := st.Groups[g]; !ok {
					return dief("group '%s' does not exist", g)
				}
				set("group", g)
			}
			for _, u := range splitList(c.text("users")) {
				if st.Users[u] == nil {
					return dief("user '%s' does not exist", u)
				}
				set("user", u)
			}
			for _, t := range splitList(c.text("tokens")) {
				owner, id, _ := splitToken(t)
				if err := tokenExists(st, owner, id); err != nil {
					return err
				}
				set("token", t)
			}
		}
		return nil
	})
}
