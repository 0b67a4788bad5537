package pve

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"proxmox-realm/internal/lab/standin"
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
	return &apiError{status: 500, msg: prefix + ": " + e.msg}
}

// call is one request to a handler.
type call struct {
	user      string // user@realm or user@realm!token; empty for nobody
	withToken bool
	client    string // address, for the log
	asked     *node  // that the client asked
	node      *node  // that answers
	worker    int    // process id of the daemon's worker
	params    map[string]any
}

// rhost is the client's address as a node logs it: its sockets are for IPv6.
func (c *call) rhost() string {
	if strings.Contains(c.client, ":") {
		return c.client
	}
	return "::ffff:" + c.client
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
	allowed      func(*call) error
	params       schema
	run          func(*call) (any, error)
}

// addEndpoints makes the tree of methods that a node of the version has.
func (s *Server) addEndpoints() {
	s.version = parseVersion(s.opts.Version)
	s.schema = newRealmSchema(s.version)
	s.roles, s.privs = builtinRoles(s.version)
	s.endpoints = slices.Concat(
		s.realmEndpoints(), s.ticketEndpoints(), s.userEndpoints(), s.tokenEndpoints(), s.groupEndpoints(), s.roleEndpoints(), s.aclEndpoints(),
		s.openIDEndpoints(), s.clusterEndpoints(), s.logEndpoints(),
	)
	for _, e := range s.endpoints {
		e.parts = fragments(e.path)
	}
}

// fragments are the parts of a path that are not empty.
func fragments(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// find is the endpoint for a request and the parameters in its path, nil where there is none.
func (s *Server) find(method, path string) (*endpoint, map[string]any) {
	parts := fragments(path)
next:
	for _, e := range s.endpoints {
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
func (s *Server) prepare(e *endpoint, uri, params map[string]any, c *call) error {
	for _, k := range slices.Sorted(maps.Keys(params)) {
		if old, ok := uri[k]; ok && text(params[k]) != old {
			return badParams(map[string]string{k: "duplicate parameter (already defined in URI) with conflicting values!"})
		}
		uri[k] = params[k]
	}
	c.params = uri
	if e.noToken && c.withToken {
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
func (s *Server) run(e *endpoint, c *call) (any, error) {
	if err := e.params.check(c.params); err != nil {
		return nil, err
	}
	return e.run(c)
}

// byJSON sorts a list whose order is arbitrary on a node by the text of its
// entries, so that answers repeat.
func byJSON(list []any) []any {
	slices.SortFunc(list, func(x, y any) int { return bytes.Compare(standin.Marshal(x), standin.Marshal(y)) })
	return list
}

// number is a stored number as JSON gets it.
func number(s string) any {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n
	}
	return s
}
