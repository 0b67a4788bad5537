package pve

import (
	"encoding/json"

	"github.com/go-jose/go-jose/v4"

	"proxmox-realm/internal/lab/openid"
)

// stateFolder is where a node keeps the logins that have begun.
const stateFolder = "/var/lib/pve-manager"

// provider discovers the issuer of a realm, which must be of type openid.
func (a *api) provider(realm, redirect string) (*openid.Provider, map[string]string, error) {
	sec := a.srv.file.get(realm)
	if sec == nil {
		return nil, nil, dief("authentication domain '%s' does not exist", realm)
	}
	if sec.kind != "openid" {
		return nil, nil, dief("wrong realm type (%s != openid)", sec.kind)
	}
	scopes, ok := sec.props["scopes"]
	if !ok {
		scopes = "email profile"
	}
	key, confidential := sec.props["client-key"]
	p, err := a.srv.library.Discover(a.srv.ctx, openid.Client{
		IssuerURL: sec.props["issuer-url"], ID: sec.props["client-id"], Key: key, Public: !confidential,
		Scopes: splitList(scopes), ACRValues: splitList(sec.props["acr-values"]), Audiences: splitList(sec.props["audiences"]),
		Prompt: sec.props["prompt"], NoUserInfo: sec.props["query-userinfo"] == "0", Algorithms: a.algorithms(),
	}, redirect)
	return p, sec.props, err
}

// algorithms are those that a node of this version verifies.
func (a *api) algorithms() []jose.SignatureAlgorithm {
	if a.version.has(sinceEllipticCurves) {
		return openid.Algorithms()
	}
	return []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.HS256, jose.HS384, jose.HS512}
}

func (a *api) authURL(c *call) (any, error) {
	realm := c.text("realm")
	p, _, err := a.provider(realm, c.text("redirect-url"))
	if err != nil {
		return nil, err
	}
	var login openid.Login
	err = a.srv.changePending(func(pending openid.Pending) (err error) {
		login, err = pending.Begin(realm)
		return err
	})
	if err != nil {
		return nil, err
	}
	return p.AuthorizationURL(realm, login), nil
}

func (a *api) login(c *call) (any, error) {
	res, err := a.openIDLogin(c)
	if err != nil {
		a.srv.log.Error("openid authentication failure", "rhost", c.client, "msg", err.Error())
		return nil, errLogin
	}
	return res, nil
}

func (a *api) openIDLogin(c *call) (any, error) {
	var realm string
	var login openid.Login
	err := a.srv.changePending(func(pending openid.Pending) (err error) {
		realm, login, err = pending.Take(stateFolder, c.text("state"))
		return err
	})
	if err != nil {
		return nil, err
	}
	p, props, err := a.provider(realm, c.text("redirect-url"))
	if err != nil {
		return nil, err
	}
	claims, err := p.Claims(a.srv.ctx, c.text("code"), login)
	if err != nil {
		return nil, err
	}
	user, err := a.acceptUser(realm, props, claims)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"username":            user,
		"ticket":              a.srv.newTicket(user, ""),
		"CSRFPreventionToken": a.srv.newCSRF(user),
		"cap":                 a.capabilities(a.srv.view(), user),
	}, nil
}

// acceptUser finds or makes the user and puts it into groups.
func (a *api) acceptUser(realm string, props map[string]string, claims map[string]any) (string, error) {
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
	st := a.srv.view()
	if truthy(props["autocreate"]) && st.Users[user] == nil {
		err := a.srv.withUsers("autocreate openid user failed", func(st *State) error {
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
	groupsClaim := props["groups-claim"]
	list, ok := claims[groupsClaim].([]any)
	if groupsClaim == "" || !ok {
		return user, nil
	}
	return user, a.srv.withUsers("openid group mapping failed", func(st *State) error {
		var groups []string
		for _, g := range list {
			if s := claimText(g); groupPattern.MatchString(s) {
				groups = append(groups, s+"-"+realm)
			}
		}
		if truthy(props["groups-overwrite"]) {
			leaveGroups(st, user)
		}
		for _, g := range groups {
			if _, ok := st.Groups[g]; !ok {
				if !truthy(props["groups-autocreate"]) {
					continue
				}
				st.Groups[g] = Group{Users: map[string]bool{}}
			}
			joinGroup(st, user, g)
		}
		return nil
	})
}

func claimText(v any) string {
	if n, ok := v.(json.Number); ok {
		return n.String()
	}
	return text(v)
}
