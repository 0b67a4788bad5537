package pbs

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// endpoint is one method of one path.
type endpoint struct {
	method    string
	path      []string // {name} stands for a parameter
	protected bool     // runs in the privileged daemon
	access    access
	schema    []property
	run       func(*call) (any, error)
}

// access says who may call an endpoint: everybody, every valid id, who has a privilege on a path, or that user itself.
type access struct {
	world           bool
	path, privilege string
	self            bool // the user of the parameter userid
}

// call is one request on its way through the API.
type call struct {
	s          *Server
	ctx        context.Context //nolint:containedctx // of the daemon that runs the handler
	request    *http.Request
	path       [][2]string // parameters
	params     params
	auth       string // user@realm or user@realm!token
	peer       string
	privileged bool // runs in the privileged daemon

	extra       map[string]any // beside data in the answer
	cookie      string         // a Set-Cookie for the answer
	contentType string         // of the answer; empty means jsonType
}

// find returns the endpoint of a path, or nil, and notes the parameters in the path.
func (s *Server) find(c *call, components []string) *endpoint {
	for i := range s.endpoints {
		e := &s.endpoints[i]
		if e.method != c.request.Method || len(e.path) != len(components) {
			continue
		}
		var path [][2]string
		matches := true
		for n, want := range e.path {
			if name, ok := strings.CutPrefix(want, "{"); ok {
				path = append(path, [2]string{strings.TrimSuffix(name, "}"), components[n]})
			} else if want != components[n] {
				matches = false
			}
		}
		if matches {
			c.path = path
			return e
		}
	}
	return nil
}

var (
	userID    = regexp.MustCompile(`^[^\pZ:/\x00-\x20\x7f]+@[A-Za-z0-9_][A-Za-z0-9._\-]*$`)
	authID    = regexp.MustCompile(`^[^\pZ:/\x00-\x20\x7f]+@[A-Za-z0-9_][A-Za-z0-9._\-]*(![A-Za-z0-9_][A-Za-z0-9._\-]*)?$`)
	oneLine   = regexp.MustCompile(`^[^\x00-\x1f\x7f-\x9f]*$`)
	digest    = regexp.MustCompile(`^[a-f0-9]{64}$`)
	nodeName  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9\-.]*[A-Za-z0-9])?$`)
	aclFormat = regexp.MustCompile(`^(/|(/[A-Za-z0-9_][A-Za-z0-9._\-]*)+)$`)
)

func required(p property) property { p.required = true; return p }

// The properties that several endpoints share.
var (
	realmID     = property{name: "realm", required: true, min: 2, max: 32, pattern: safeID}
	comment     = property{name: "comment", max: 128, pattern: oneLine}
	digestOf    = property{name: "digest", pattern: digest}
	defaultFlag = property{name: "default", kind: boolean}
	ofUser      = property{name: "userid", required: true, min: 3, max: 64, pattern: userID}
	tokenName   = property{name: "token-name", required: true, pattern: safeID}
	enable      = property{name: "enable", kind: boolean}
	expire      = property{name: "expire", kind: integer}
	node        = property{name: "node", required: true, pattern: nodeName}
	httpOnly    = property{name: "http-only", kind: boolean}
	ownPassword = property{name: "password", min: 1, max: 1024, pattern: oneLine}
	aclAt       = property{name: "path", min: 1, max: 128, pattern: aclFormat}
	personal    = []property{comment, enable, expire, short("firstname"), short("lastname"), short("email")}
)

func short(name string) property { return property{name: name, min: 2, max: 64, pattern: oneLine} }

// realmProperties are those of an OpenID realm that an update may change; a list takes the limits of its items.
func (p *Product) realmProperties(version string) []property {
	list := []property{
		{name: "issuer-url"},
		{name: "client-id"},
		{name: "client-key"},
		comment, defaultFlag,
		{name: "autocreate", kind: boolean},
		{name: "scopes", item: safeID},
		{name: "prompt", pattern: safeID},
		{name: "acr-values", item: p.acr},
		{name: "audiences", item: acrItem, max: 256},
	}
	return slices.DeleteFunc(list, func(one property) bool { return !p.knows(version, one.name) })
}

// endpoints lists what the stand-in answers.
func (p *Product) endpoints(version string) []endpoint {
	anybody, world := access{}, access{world: true}
	allocate, read := access{path: "/access/domains", privilege: "Realm.Allocate"}, access{path: "/access/domains", privilege: p.audit}
	logs := access{path: "/system/log", privilege: p.audit}
	users, editUser := access{path: "/access/users", privilege: p.modify}, access{path: "/access/users", privilege: p.modify, self: true}
	readUser := access{path: "/access/users", privilege: p.accessAudit, self: true}

	realm := p.realmProperties(version)
	var deletable []string
	for _, property := range realm {
		if property.name != "issuer-url" && property.name != "client-id" {
			deletable = append(deletable, property.name)
		}
	}
	deleting := func(names ...string) property { return property{name: "delete", kind: array, enum: names} }
	create := slices.Concat([]property{realmID, {name: "username-claim", min: 1, max: 64, pattern: safeID}}, realm)
	create[2].required, create[3].required = true, true // issuer-url, client-id
	update := slices.Concat([]property{realmID, deleting(deletable...), digestOf}, realm)
	builtIn := []property{comment, defaultFlag, deleting("comment", "default"), digestOf}

	ticket := []property{required(property{name: "username", min: 3, max: 64, pattern: userID}), ownPassword, {name: "tfa-challenge"}, {name: "path"}, {name: "privs"}, {name: "port", kind: integer}}
	login := []property{{name: "state", required: true}, {name: "code", required: true}, {name: "redirect-url", required: true}}
	if !p.cookieOnly && p.knows(version, httpOnly.name) {
		ticket, login = append(ticket, httpOnly), append(login, httpOnly)
	}
	var roles []string
	for role := range p.roles {
		roles = append(roles, role)
	}
	token := []property{ofUser, tokenName, comment, enable, expire, digestOf}
	dates := []property{node, {name: "start", kind: integer}, {name: "limit", kind: integer}, {name: "since", pattern: dateTime}, {name: "until", pattern: dateTime}, {name: "service", max: 128}}

	list := []endpoint{
		route("GET /version", false, anybody, (*call).version),
		route("GET /ping", false, world, (*call).ping),
		route("GET /access/domains", false, world, (*call).listRealms),
		route("GET /config/access/openid", false, allocate, (*call).listOpenID),
		route("POST /config/access/openid", true, allocate, (*call).createRealm, create...),
		route("GET /config/access/openid/{realm}", false, read, (*call).readOpenID, realmID),
		route("PUT /config/access/openid/{realm}", true, allocate, (*call).updateOpenID, update...),
		route("DELETE /config/access/openid/{realm}", true, allocate, (*call).deleteRealm, realmID, digestOf),
		route("POST /access/openid/auth-url", true, world, (*call).authURL, realmID, property{name: "redirect-url", required: true, pattern: p.redirect}),
		route("POST /access/openid/login", true, world, (*call).openIDLogin, login...),
		route("POST /access/ticket", true, world, (*call).createTicket, ticket...),
		route("GET /access/permissions", false, anybody, (*call).permissions, aclAt, property{name: "auth-id", min: 3, max: 64, pattern: authID}),
		route("GET /access/acl", false, anybody, (*call).listACL, aclAt, property{name: "exact", kind: boolean}),
		route("PUT /access/acl", true, anybody, (*call).updateACL, required(aclAt), property{name: "role", required: true, enum: roles},
			property{name: "auth-id", min: 3, max: 64, pattern: authID}, property{name: "group", pattern: safeID},
			property{name: "propagate", kind: boolean}, property{name: "delete", kind: boolean}, digestOf),
		route("GET /access/users", true, anybody, (*call).listUsers, property{name: "include_tokens", kind: boolean}),
		route("POST /access/users", true, users, (*call).createUser, append(personal, ofUser)...),
		route("GET /access/users/{userid}", false, readUser, (*call).readUser, ofUser),
		route("DELETE /access/users/{userid}", true, editUser, (*call).deleteUser, ofUser, digestOf),
		route("GET /access/users/{userid}/token", false, readUser, (*call).listTokens, ofUser),
		route("GET /access/users/{userid}/token/{token-name}", false, readUser, (*call).readToken, ofUser, tokenName),
		route("POST /access/users/{userid}/token/{token-name}", true, editUser, (*call).createToken, token...),
		route("PUT /access/users/{userid}/token/{token-name}", true, editUser, (*call).updateToken, append(token, property{name: "regenerate", kind: boolean})...),
		route("DELETE /access/users/{userid}/token/{token-name}", true, editUser, (*call).deleteToken, ofUser, tokenName, digestOf),
		route("POST /access/tfa/{userid}", true, editUser, (*call).addTOTP, ofUser, property{name: "type", required: true, enum: []string{"totp"}},
			required(property{name: "description", max: 255}), required(property{name: "totp"}), required(property{name: "value"}), ownPassword),
		route("DELETE /access/tfa/{userid}/{id}", true, editUser, (*call).removeTOTP, ofUser, property{name: "id", required: true}, ownPassword),
		route("GET /nodes/{node}/syslog", true, logs, (*call).syslog, dates...),
		route("GET /nodes/{node}/time", false, anybody, (*call).time, node),
	}
	for _, kind := range []string{"pam", p.Name} {
		list = append(list,
			route("GET /config/access/"+kind, false, read, func(c *call) (any, error) { return c.readRealm(kind, kind) }),
			route("PUT /config/access/"+kind, true, allocate, func(c *call) (any, error) { return c.updateRealm(kind, kind) }, builtIn...))
	}
	return list
}

// route makes an endpoint of "METHOD /path".
func route(what string, protected bool, who access, run func(*call) (any, error), schema ...property) endpoint {
	method, path, _ := strings.Cut(what, " /")
	return endpoint{method, strings.Split(path, "/"), protected, who, schema, run}
}

func (c *call) ping() (any, error) { return c.s.product.ping, nil }

// version is GET /version: MAJOR.MINOR in version, the rest in release.
func (c *call) version() (any, error) {
	version, release := c.s.opts.Version, ""
	if i := strings.LastIndex(version, "."); strings.Count(version, ".") > 1 {
		version, release = version[:i], version[i+1:]
	}
	return map[string]any{"version": version, "release": release, "repoid": c.s.product.repoID}, nil
}
