package proxmox

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
)

const (
	authURLPath = "/access/openid/auth-url"
	loginPath   = "/access/openid/login"
)

// AuthURL is the authorization URL that Proxmox made for a login (OpenID Connect Core 3.1.2.1, RFC 7636).
type AuthURL struct {
	Endpoint config.Origin // the node that made it: only this node can complete the login
	Raw      string        // not cleaned
	Location string        // the authorization endpoint: the URL without its query
	Query    url.Values    // not cleaned
}

// AuthURL makes a node discover the issuer and returns the authorization URL for a browser (POST
// /access/openid/auth-url). It sends no credentials. Each call leaves a pending login for 10 minutes, of which a node keeps
// a hundred. A silent issuer blocks a worker or thread of the node: see [IssuerHung].
func (c *Client) AuthURL(ctx context.Context, realmName, redirectURL string) (AuthURL, error) {
	var raw string
	body := map[string]string{"realm": realmName, "redirect-url": redirectURL}
	r := request{method: http.MethodPost, path: authURLPath, body: body}
	endpoint, err := c.do(ctx, r, &raw)
	if err != nil {
		return AuthURL{}, err
	}
	location, encoded, _ := strings.Cut(raw, "?")
	query, err := url.ParseQuery(encoded)
	if err != nil || !strings.HasPrefix(location, "http") {
		return AuthURL{}, c.unusable(r.method, r.path, endpoint, "its answer is not an http or https URL")
	}
	return AuthURL{Endpoint: endpoint, Raw: raw, Location: c.cleaner.Clean(location), Query: query}, nil
}

// Session is a completed login.
type Session struct {
	Endpoint config.Origin // the node that completed it
	Username string        // user@realm
	Ticket   check.Secret
	CSRF     check.Secret
}

// Login completes a login with the state and code that the issuer sent the browser back with (POST /access/openid/login).
// Only the node that made the authorization URL can do that: use [Client.On] with [AuthURL].Endpoint. It sends no
// credentials. Every refusal is an [Error] of [LoginRefused]. Proxmox VE writes the reason to the node's syslog only; the others
// say it.
func (c *Client) Login(ctx context.Context, state, code, redirectURL string) (Session, error) {
	c.cleaner.Hold(check.NewSecret(code))
	var answer struct {
		Username string `json:"username"`
		Ticket   string `json:"ticket"`
		CSRF     string `json:"CSRFPreventionToken"`
	}
	body := map[string]string{"state": state, "code": code, "redirect-url": redirectURL}
	var aside beside
	r := request{method: http.MethodPost, path: loginPath, body: body, aside: &aside}
	endpoint, err := c.do(ctx, r, &answer)
	if err != nil {
		return Session{}, err
	}
	for _, cookie := range aside.cookies { // of a product that hides the ticket from scripts
		if cookie.Name == c.dialect.cookie && answer.Ticket == "" {
			answer.Ticket = cookie.Value
		}
	}
	s := Session{
		Endpoint: endpoint, Username: c.cleaner.Clean(answer.Username),
		Ticket: check.NewSecret(answer.Ticket), CSRF: check.NewSecret(answer.CSRF),
	}
	c.cleaner.Hold(s.Ticket, s.CSRF)
	if s.Username == "" || !headerValue(answer.Ticket) || !headerValue(answer.CSRF) {
		return Session{}, c.unusable(r.method, r.path, endpoint, "its answer holds no ticket")
	}
	return s, nil
}
