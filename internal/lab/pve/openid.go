package pve

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"proxmox-realm/internal/lab/openid"
)

func (s *Server) openIDEndpoints() []*endpoint {
	redirect := schema{"redirect-url": {kind: "string", max: 255}}
	return []*endpoint{
		{method: "POST", path: "/access/openid/auth-url", proxied: true, world: true, params: redirect.and(schema{"realm": &realmParam}), run: s.authURL},
		{method: "POST", path: "/access/openid/login", proxied: true, world: true, run: s.login, params: redirect.and(schema{
			"state": {kind: "string", max: 1024},
			"code":  {kind: "string", max: 4096},
		})},
	}
}

// stateFolder is where a node keeps the logins that have begun.
const stateFolder = "/var/lib/pve-manager"

// provider discovers the issuer of a realm, which must be of type openid.
func (s *Server) provider(realm, redirect string) (*openid.Provider, map[string]string, error) {
	r, ok := s.view().realm(realm)
	if !ok {
		return nil, nil, dief("authentication domain '%s' does not exist", realm)
	}
	if r.Type != "openid" {
		return nil, nil, dief("wrong realm type (%s != openid)", r.Type)
	}
	p, err := s.library.Discover(s.Context(), openid.ClientOf(r.Properties, s.algorithms()), redirect)
	return p, r.Properties, err
}

// algorithms are those that a node of this version verifies.
func (s *Server) algorithms() []jose.SignatureAlgorithm {
	if s.version.has(sinceEllipticCurves) {
		return openid.Algorithms()
	}
	return []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.HS256, jose.HS384, jose.HS512}
}

func (s *Server) authURL(c *call) (any, error) {
	realm := c.text("realm")
	p, _, err := s.provider(realm, c.text("redirect-url"))
	if err != nil {
		return nil, err
	}
	var login openid.Login
	err = s.store.Change(func(st *State) (err error) {
		login, err = st.pending(c.node).Begin(realm)
		return err
	})
	if err != nil {
		return nil, err
	}
	return p.AuthorizationURL(realm, login), nil
}

func (s *Server) login(c *call) (any, error) {
	res, err := s.openIDLogin(c)
	if err != nil {
		s.report(c, "openid authentication failure; rhost="+c.rhost()+" msg="+err.Error())
		return nil, errLogin
	}
	return res, nil
}

func (s *Server) openIDLogin(c *call) (any, error) {
	var realm string
	var login openid.Login
	err := s.store.Change(func(st *State) (err error) {
		realm, login, err = st.pending(c.node).Take(stateFolder, c.text("state"))
		return err
	})
	if err != nil {
		return nil, err
	}
	p, props, err := s.provider(realm, c.text("redirect-url"))
	if err != nil {
		return nil, err
	}
	claims, err := p.Claims(s.Context(), c.text("code"), login)
	if err != nil {
		return nil, err
	}
	user, err := s.acceptUser(realm, props, claims)
	if err != nil {
		return nil, err
	}
	if err := s.mapGroups(c, user, realm, props, claims); err != nil {
		return nil, err
	}
	s.tell(c, "root@pam", "successful openid auth for user '"+user+"'")
	return map[string]any{
		"username":            user,
		"ticket":              s.signer().Ticket(user, ""),
		"CSRFPreventionToken": s.signer().CSRF(user),
		"cap":                 s.capabilities(s.view(), user),
	}, nil
}

// acceptUser finds or makes the user.
func (s *Server) acceptUser(realm string, props map[string]string, claims map[string]any) (string, error) {
	claimName := props["username-claim"]
	if claimName == "" {
		claimName = "sub"
	}
	name := claims[claimName]
	switch {
	case name != nil:
	case claimName == "subject":
		name = claims["sub"]
	case claimName == "username":
		if name = claims["preferred_username"]; name == nil {
			return "", dief("missing claim 'preferred_username'")
		}
	default:
		return "", dief("missing configured claim '%s' in returned info object", claimName)
	}
	user := claimText(name) + "@" + realm
	if err := verifyUser(user); err != nil {
		return "", err
	}
	st := s.view()
	if truthy(props["autocreate"]) && st.Users[user] == nil {
		err := s.withUsers("autocreate openid user failed", func(st *State) error {
			if st.Users[user] != nil {
				return dief("user '%s' already exists", user)
			}
			st.Users[user] = &User{
				Enable: true, Email: claimText(claims["email"]),
				FirstName: claimText(claims["given_name"]), LastName: claimText(claims["family_name"]),
			}
			return nil
		})
		if err != nil {
			return "", err
		}
	} else if err := userEnabled(st, user); err != nil {
		return "", err
	}
	return user, nil
}

// mapGroups puts a user into the groups of the realm's groups claim.
func (s *Server) mapGroups(c *call, user, realm string, props map[string]string, claims map[string]any) error {
	claim := props["groups-claim"]
	if claim == "" {
		return nil
	}
	value, ok := claims[claim]
	if !ok {
		s.report(c, "openid groups claim '"+claim+"' is not found in claims")
		return nil
	}
	list, ok := value.([]any)
	if !ok {
		s.report(c, "openid groups list is not an array; groups will not be updated")
		return nil
	}
	var groups []string
	for _, g := range list {
		if name := claimText(g); groupPattern.MatchString(name) {
			groups = append(groups, name+"-"+realm)
		} else {
			s.report(c, "openid group '"+name+"' contains invalid characters")
		}
	}
	return s.withUsers("openid group mapping failed", func(st *State) error {
		missing := func(g string) bool { _, ok := st.Groups[g]; return !ok }
		if made := filter(groups, missing); len(made) > 0 && truthy(props["groups-autocreate"]) {
			for _, g := range made {
				st.Groups[g] = Group{Users: map[string]bool{}}
			}
			s.report(c, "groups created automatically from openid claim: "+strings.Join(made, ", "))
		}
		if truthy(props["groups-overwrite"]) {
			leaveGroups(st, user)
			s.report(c, "openid overwrite groups enabled; user '"+user+"' removed from all groups")
		}
		groups = slices.DeleteFunc(groups, missing)
		for _, g := range groups {
			joinGroup(st, user, g)
		}
		if len(groups) > 0 {
			s.report(c, "openid user '"+user+"' added to groups: "+strings.Join(groups, ", "))
		}
		return nil
	})
}

// report logs a message of the worker that handles a request.
func (s *Server) report(c *call, message string) {
	c.node.write(c.worker, message)
	s.Logger().Info("syslog", "node", c.node.Name, "msg", message)
}

func filter(list []string, keep func(string) bool) (kept []string) {
	for _, s := range list {
		if keep(s) {
			kept = append(kept, s)
		}
	}
	return kept
}

func claimText(v any) string {
	if n, ok := v.(json.Number); ok {
		return n.String()
	}
	return text(v)
}
