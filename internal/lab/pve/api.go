package pve

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// apiError is the error of a handler. Its message ends in a line feed where
// Perl's does. errs says what is wrong with which parameter.
type apiError struct {
	status int
	msg    string
	errs   map[string]string
}

// Error is the message without its last line feed.
func (e *apiError) Error() string { return strings.TrimSuffix(e.msg, "\n") }

// dief is Perl's die: status 500.
func dief(format string, args ...any) error {
	return &apiError{status: 500, msg: fmt.Sprintf(format, args...) + "\n"}
}

func badParams(errs map[string]string) error {
	return &apiError{status: 400, msg: "Parameter verification failed.\n", errs: errs}
}

// forbidden is PVE::Exception::raise_perm_exc.
func forbidden(what string) error {
	if what != "" {
		what = " (" + what + ")"
	}
	return &apiError{status: 403, msg: "Permission check failed" + what + "\n"}
}

// wrapped puts what was being done before the message of an error.
func wrapped(prefix string, err error) error {
	e, ok := errors.AsType[*apiError](err)
	if !ok {
		return err
	}
	msg := e.msg
	for _, k := range slices.Sorted(maps.Keys(e.errs)) {
		msg += k + ": " + e.errs[k] + "\n"
	}
	if e.errs != nil {
		msg = strconv.Itoa(e.status) + " " + msg
	}
	return &apiError{status: 500, msg: prefix + ": " + msg}
}

// call is one request to a handler.
type call struct {
	user   string // user@realm or user@realm!token; empty for nobody
	client string // address, for the log
	asked  *node  // that the client asked
	node   *node  // that answers
	worker int    // process id of the daemon's worker
	params map[string]any
}

func (c *call) text(k string) string { return text(c.params[k]) }

// take removes a parameter and returns it.
func (c *call) take(k string) any {
	v := c.params[k]
	delete(c.params, k)
	return v
}

// endpoint is one method of the API.
type endpoint struct {
	method, path string
	parts        []string
	proxied      bool // handled by the daemon, behind the proxy
	world        bool // for everybody, without credentials too
	all          bool // for everybody with credentials
	noToken      bool // not for API tokens
	unchecked    bool // takes any parameters
	allowed      func(*call) error
	params       schema
	run          func(*call) (any, error)
}

// api is the tree of methods that a node of some version has.
type api struct {
	srv       *Server
	version   version
	schema    *realmSchema
	roles     map[string]map[string]bool // built-in
	privs     map[string]bool
	endpoints []*endpoint
}

func newAPI(srv *Server) *api {
	a := &api{srv: srv, version: parseVersion(srv.opts.Version)}
	a.schema = newRealmSchema(a.version)
	a.roles, a.privs = builtinRoles(a.version)

	realm := schema{"realm": &realmParam}
	user := schema{"userid": &userParam}
	group := schema{"groupid": &groupParam}
	role := schema{"roleid": &roleParam}
	privList := property{kind: "string", format: a.verifyPriv, list: true}
	groupComment := schema{"comment": anyString.opt()}
	userData := schema{
		"enable":    boolean.opt(),
		"expire":    {kind: "integer", bounded: true, optional: true},
		"firstname": {kind: "string", max: 1024, optional: true},
		"lastname":  {kind: "string", max: 1024, optional: true},
		"email":     {kind: "string", format: verifyMail, max: 254, optional: true},
		"comment":   {kind: "string", max: 2048, optional: true},
		"keys":      {kind: "string", pattern: pattern(`[0-9a-zA-Z!=]*`), max: 4096, optional: true},
		"groups":    {kind: "string", format: verifyGroup, list: true, optional: true},
	}
	password := property{kind: "string", min: 8, max: 64}
	token := user.and(schema{"tokenid": {kind: "string", pattern: pattern(realmExpr)}})
	tokenData := schema{
		"expire":  {kind: "integer", bounded: true, optional: true},
		"privsep": boolean.opt(),
		"comment": anyString.opt(),
	}
	tokenUpdate := tokenData
	if a.version.has(sinceRegenerate) {
		tokenUpdate = tokenData.and(schema{"regenerate": boolean.opt()})
	}
	redirect := schema{"redirect-url": {kind: "string", max: 255}}

	allocate := a.need("/access/realm", "Realm.Allocate")
	groups := a.need("/access/groups", "Group.Allocate")
	access := a.need("/access", "Sys.Modify")
	selfOrModify := anyOf(a.self, a.userGroup("", "User.Modify"))

	a.endpoints = []*endpoint{
		{method: "GET", path: "/", all: true, run: a.index("version", "cluster", "nodes", "storage", "access", "pools")},
		{method: "GET", path: "/version", all: true, run: func(*call) (any, error) { return versionData(srv.opts.Version), nil }},
		{method: "GET", path: "/access", all: true, run: a.index("users", "groups", "roles", "acl", "domains", "openid", "tfa", "ticket")},
		{method: "GET", path: "/access/permissions", all: true, run: a.readPermissions, params: schema{
			"userid": {kind: "string", pattern: pattern(userExpr + `@` + realmExpr + `(?:!` + realmExpr + `)?`), optional: true},
			"path":   anyString.opt(),
		}},

		{method: "GET", path: "/access/domains", world: true, run: a.listRealms},
		{method: "POST", path: "/access/domains", proxied: true, allowed: allocate, params: a.schema.create, run: a.createRealm},
		{method: "GET", path: "/access/domains/{realm}", allowed: a.needAny("/access/realm", "Realm.Allocate", "Sys.Audit"), params: realm, run: a.readRealm},
		{method: "PUT", path: "/access/domains/{realm}", proxied: true, allowed: allocate, params: a.schema.update, run: a.updateRealm},
		{method: "DELETE", path: "/access/domains/{realm}", proxied: true, allowed: allocate, params: realm, run: a.deleteRealm},

		{method: "GET", path: "/access/openid", all: true, run: a.index("auth-url", "login")},
		{method: "POST", path: "/access/openid/auth-url", proxied: true, world: true, params: redirect.and(realm), run: a.authURL},
		{method: "POST", path: "/access/openid/login", proxied: true, world: true, run: a.login, params: redirect.and(schema{
			"state": {kind: "string", max: 1024},
			"code":  {kind: "string", max: 4096},
		})},

		{method: "GET", path: "/access/ticket", world: true, unchecked: true, run: func(*call) (any, error) { return nil, nil }},
		{method: "POST", path: "/access/ticket", proxied: true, world: true, noToken: true, run: a.createTicket, params: schema{
			"username":      {kind: "string", max: 64},
			"realm":         realmParam.opt(),
			"password":      &anyString,
			"otp":           anyString.opt(),
			"path":          {kind: "string", max: 64, requires: "privs", optional: true},
			"privs":         {kind: "string", format: a.verifyPriv, list: true, max: 64, requires: "path", optional: true},
			"new-format":    boolean.opt(),
			"tfa-challenge": anyString.opt(),
		}},
		{method: "GET", path: "/access/users", proxied: true, all: true, run: a.listUsers, params: schema{"enabled": boolean.opt(), "full": boolean.opt()}},
		{
			method: "POST", path: "/access/users", proxied: true, allowed: allOf(a.allocateUser, a.userGroup("create", "User.Modify")),
			params: userData.and(user).and(schema{"password": password.opt()}), run: a.createUser,
		},
		{method: "GET", path: "/access/users/{userid}", allowed: a.userGroup("", "User.Modify", "Sys.Audit"), params: user, run: a.readUser},
		{
			method: "PUT", path: "/access/users/{userid}", proxied: true, allowed: a.userGroup("update", "User.Modify"),
			params: userData.and(user).and(schema{"append": {kind: "boolean", optional: true, requires: "groups"}}), run: a.updateUser,
		},
		{method: "DELETE", path: "/access/users/{userid}", proxied: true, allowed: allOf(a.allocateUser, a.userGroup("", "User.Modify")), params: user, run: a.deleteUser},
		{method: "GET", path: "/access/users/{userid}/token", allowed: selfOrModify, params: user, run: a.listTokens},
		{method: "GET", path: "/access/users/{userid}/token/{tokenid}", allowed: selfOrModify, params: token, run: a.readToken},
		{method: "POST", path: "/access/users/{userid}/token/{tokenid}", proxied: true, allowed: selfOrModify, params: token.and(tokenData), run: a.createToken},
		{method: "PUT", path: "/access/users/{userid}/token/{tokenid}", proxied: true, allowed: selfOrModify, params: token.and(tokenUpdate), run: a.updateToken},
		{method: "DELETE", path: "/access/users/{userid}/token/{tokenid}", proxied: true, allowed: selfOrModify, params: token, run: a.deleteToken},

		{method: "POST", path: "/access/tfa/{userid}", proxied: true, noToken: true, allowed: selfOrModify, run: a.addTOTP, params: user.and(schema{
			"type": {kind: "string", enum: []string{"totp"}}, "description": anyString.opt(), "totp": &anyString, "value": &anyString, "password": anyString.opt(),
		})},
		{method: "GET", path: "/access/groups", all: true, run: a.listGroups},
		{method: "POST", path: "/access/groups", proxied: true, allowed: groups, params: group.and(groupComment), run: a.createGroup},
		{method: "GET", path: "/access/groups/{groupid}", allowed: a.needAny("/access/groups", "Sys.Audit", "Group.Allocate"), params: group, run: a.readGroup},
		{method: "PUT", path: "/access/groups/{groupid}", proxied: true, allowed: groups, params: group.and(groupComment), run: a.updateGroup},
		{method: "DELETE", path: "/access/groups/{groupid}", proxied: true, allowed: groups, params: group, run: a.deleteGroup},

		{method: "GET", path: "/access/roles", all: true, run: a.listRoles},
		{method: "POST", path: "/access/roles", proxied: true, allowed: access, params: role.and(schema{"privs": privList.opt()}), run: a.createRole},
		{method: "GET", path: "/access/roles/{roleid}", all: true, params: role, run: a.readRole},
		{
			method: "PUT", path: "/access/roles/{roleid}", proxied: true, allowed: access, run: a.updateRole,
			params: role.and(schema{"privs": privList.opt(), "append": {kind: "boolean", optional: true, requires: "privs"}}),
		},
		{method: "DELETE", path: "/access/roles/{roleid}", proxied: true, allowed: access, params: role, run: a.deleteRole},

		{method: "GET", path: "/access/acl", all: true, run: a.listACL},
		{method: "PUT", path: "/access/acl", proxied: true, allowed: a.modifyACL, run: a.updateACL, params: schema{
			"path":      &anyString,
			"propagate": boolean.opt(),
			"delete":    boolean.opt(),
			"users":     {kind: "string", format: verifyUser, list: true, optional: true},
			"groups":    {kind: "string", format: verifyGroup, list: true, optional: true},
			"tokens":    {kind: "string", format: verifyToken, list: true, optional: true},
			"roles":     {kind: "string", format: verifyRole, list: true},
		}},
	}
	a.endpoints = slices.Concat(a.endpoints, a.clusterEndpoints(), a.logEndpoints())
	if !a.version.has(sinceOpenID) {
		a.endpoints = slices.DeleteFunc(a.endpoints, func(e *endpoint) bool { return strings.HasPrefix(e.path, "/access/openid") })
	}
	for _, e := range a.endpoints {
		e.parts = fragments(e.path)
	}
	return a
}

// fragments are the parts of a path that are not empty.
func fragments(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// find is the endpoint for a request and the parameters in its path, nil where there is none.
func (a *api) find(method, path string) (*endpoint, map[string]any) {
	parts := fragments(path)
next:
	for _, e := range a.endpoints {
		if e.method != method || len(e.parts) != len(parts) {
			continue
		}
		var params map[string]any
		for i, p := range e.parts {
			if p[0] != '{' {
				if p != parts[i] {
					continue next
				}
				continue
			}
			if strings.ContainsAny(parts[i], " \t\r\n\f\v") {
				continue next
			}
			if params == nil {
				params = map[string]any{}
			}
			params[p[1:len(p)-1]] = latin1(parts[i]) // a path is bytes to Perl, unlike a form or JSON
		}
		if params == nil {
			params = map[string]any{}
		}
		return e, params
	}
	return nil, nil
}

// prepare merges the parameters of a request into those of its path and checks
// what the proxy checks: conflicts and privileges.
func (a *api) prepare(e *endpoint, uri, params map[string]any, c *call, withToken bool) error {
	for _, k := range slices.Sorted(maps.Keys(params)) {
		if old, ok := uri[k]; ok && text(params[k]) != old {
			return badParams(map[string]string{k: "duplicate parameter (already defined in URI) with conflicting values!"})
		}
		uri[k] = params[k]
	}
	c.params = uri
	if e.noToken && withToken {
		return forbidden("URI '" + e.path + "' not available with API token, need proper ticket.\n")
	}
	switch {
	case c.user == "" && e.world:
		return nil
	case c.user == "":
		return forbidden("user != null")
	case c.user == "root@pam", e.all:
		return nil
	case e.allowed == nil:
		return forbidden("")
	}
	return e.allowed(c)
}

// run checks the parameters against the schema and calls the handler.
func (a *api) run(e *endpoint, c *call) (any, error) {
	if !e.unchecked {
		e.params.normalize(c.params)
		if err := e.params.check(c.params); err != nil {
			return nil, err
		}
	}
	return e.run(c)
}

func (a *api) index(names ...string) func(*call) (any, error) {
	return func(*call) (any, error) {
		list := []any{}
		for _, n := range names {
			list = append(list, map[string]any{"subdir": n})
		}
		return list, nil
	}
}

// byJSON sorts a list whose order is arbitrary on a node by the text of its
// entries, so that answers repeat.
func byJSON(list []any) []any {
	type entry struct {
		key string
		v   any
	}
	entries := make([]entry, len(list))
	for i, v := range list {
		b, _ := json.Marshal(v) // made of maps, texts and numbers
		entries[i] = entry{string(b), v}
	}
	slices.SortStableFunc(entries, func(x, y entry) int { return cmp.Compare(x.key, y.key) })
	for i, e := range entries {
		list[i] = e.v
	}
	return list
}

// number is a stored number as JSON gets it.
func number(s string) any {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n
	}
	return s
}
