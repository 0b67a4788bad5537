package pbs

import (
	"errors"
	"fmt"
	"net/http"

	"proxmox-realm/internal/lab/openid"
)

// provider discovers the issuer of a realm.
func (c *call) provider(name, redirect string) (*openid.Provider, *Realm, error) {
	realm, err := c.s.store.View().ofType("openid", name)
	if err != nil {
		return nil, nil, err
	}
	p, err := c.s.library.Discover(c.ctx, openid.ClientOf(realm.Properties, openid.Algorithms()), redirect)
	return p, realm, err
}

// authURL is POST /access/openid/auth-url. The thread that runs it waits for the issuer as long as that takes.
func (c *call) authURL() (any, error) {
	realm := c.params.text("realm")
	p, _, err := c.provider(realm, c.params.text("redirect-url"))
	if err != nil {
		if c.s.product.explains {
			c.s.write(c.s.product.daemon, "could not get openid auth url: "+openid.Explain(err))
		}
		return nil, err
	}
	var login openid.Login
	err = c.s.store.Change(func(st *State) (err error) {
		login, err = st.Pending.Begin(realm)
		return err
	})
	if err != nil {
		return nil, err
	}
	return p.AuthorizationURL(realm, login), nil
}

// openIDLogin is POST /access/openid/login. Unlike Proxmox VE, both products answer with the reason of a failure.
func (c *call) openIDLogin() (any, error) {
	user, tested, err := c.logIn()
	switch {
	case errors.Is(err, openid.ErrNoIDToken): // the handler panics
		return nil, errHungUp
	case err != nil:
		c.s.logFailure(c.s.product.daemon, c, tested, err)
		return nil, &apiError{http.StatusUnauthorized, err.Error()}
	}
	return c.grantTicket(user, c.s.product.cookieOnly || c.params.flag("http-only"))
}

// logIn returns the user, and the name that the issuer gave, as soon as it is known.
func (c *call) logIn() (user, tested string, err error) {
	var name string
	var login openid.Login
	err = c.s.store.Change(func(st *State) (err error) {
		name, login, err = st.Pending.Take(c.s.product.run, c.params.text("state"))
		return err
	})
	if err != nil {
		return "", "", err
	}
	p, realm, err := c.provider(name, c.params.text("redirect-url"))
	if err != nil {
		return "", "", err
	}
	claims, err := p.Claims(c.ctx, c.params.text("code"), login)
	if err != nil {
		return "", "", err
	}
	claim := realm.Properties["username-claim"]
	if claim == "" {
		claim = "sub"
	}
	tested, ok := claims[claim].(string)
	if !ok {
		return "", "", fmt.Errorf("missing claim '%s'", claim)
	}
	user = tested + "@" + name
	if !userID.MatchString(user) {
		return "", "", errors.New("invalid user name in user id")
	}
	return user, tested, c.acceptUser(user, realm, claims)
}

// acceptUser makes the user, unless it is there and active.
func (c *call) acceptUser(user string, realm *Realm, claims map[string]any) error {
	if c.s.active(c.s.store.View(), user) {
		return nil
	}
	if realm.Properties["autocreate"] != "true" {
		return refuse("user account '%s' missing, disabled or expired.", user)
	}
	return c.s.store.Change(func(st *State) error {
		if known := st.Users[user]; known != nil {
			if known.Enable != nil && !*known.Enable {
				return refuse("user '%s' is disabled.", user)
			}
			return refuse("autocreate user failed - '%s' already exists.", user)
		}
		made := &User{}
		for claim, field := range map[string]*string{"given_name": &made.FirstName, "family_name": &made.LastName, "email": &made.Email} {
			limits := short(claim)
			if value, ok := claims[claim].(string); ok && limits.check(value) == nil {
				*field = value
			}
		}
		st.Users[user] = made
		st.Generation++
		return nil
	})
}
