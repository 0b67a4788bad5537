package pve

import (
	"context"
	"errors"
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

// AuthURL is the authorization URL that Proxmox made for a login (OpenID Connect Core 3.1.2.1, RFC 7636). All its texts but
// Raw and State are clean.
type AuthURL struct {
	Endpoint config.Origin // the node that made it: only this node can complete the login
	Raw      string

	Location            string // the authorization endpoint: the URL without its query
	ResponseType        string
	ClientID            string
	Scopes              []string // as sent: openid comes twice if the realm lists it
	RedirectURI         string
	State               string
	Nonce               string
	CodeChallenge       string
	CodeChallengeMethod string
	Prompt              string
	Display             string
	ACRValues           []string
}

// AuthURL makes a node discover the issuer and returns the authorization URL for a browser (POST
// /access/openid/auth-url). It sends no credentials. Each call leaves a pending login for 10 minutes, of which a node keeps
// a hundred. A silent issuer blocks one of the node's workers: see [IssuerHung].
func (c *Client) AuthURL(ctx context.Context, realmName, redirectURL string) (AuthURL, error) {
	var raw text
	r := request{
		method: http.MethodPost, path: authURLPath, class: once,
		body: map[string]string{"realm": realmName, "redirect-url": redirectURL},
	}
	endpoint, err := c.do(ctx, r, &raw)
	if err != nil {
		return AuthURL{}, err
	}
	a, err := c.parseAuthURL(string(raw))
	if err != nil {
		return AuthURL{}, c.unusable(r, endpoint, err.Error())
	}
	a.Endpoint = endpoint
	return a, nil
}

func (c *Client) parseAuthURL(raw string) (AuthURL, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return AuthURL{}, errors.New("it is not an http or https URL")
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return AuthURL{}, errors.New("the query of its URL is malformed")
	}
	location := *u
	location.RawQuery, location.Fragment, location.RawFragment, location.ForceQuery = "", "", "", false
	get := func(name string) string { return c.cleaner.Clean(q.Get(name)) }
	return AuthURL{
		Raw: raw, Location: c.cleaner.Clean(location.String()), State: q.Get("state"),
		ResponseType: get("response_type"), ClientID: get("client_id"), Scopes: strings.Fields(get("scope")),
		RedirectURI: get("redirect_uri"), Nonce: get("nonce"),
		CodeChallenge: get("code_challenge"), CodeChallengeMethod: get("code_challenge_method"),
		Prompt: get("prompt"), Display: get("display"), ACRValues: strings.Fields(get("acr_values")),
	}, nil
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
// credentials. Every refusal is an [Error] of [LoginRefused]: only the node's syslog holds the reason.
func (c *Client) Login(ctx context.Context, state, code, redirectURL string) (Session, error) {
	c.cleaner.Hold(check.NewSecret(code))
	var answer struct {
		Username text `json:"username"`
		Ticket   text `json:"ticket"`
		CSRF     text `json:"CSRFPreventionToken"`
	}
	r := request{
		method: http.MethodPost, path: loginPath, class: once,
		body: map[string]string{"state": state, "code": code, "redirect-url": redirectURL},
	}
	endpoint, err := c.do(ctx, r, &answer)
	if err != nil {
		return Session{}, err
	}
	s := Session{
		Endpoint: endpoint, Username: c.cleaner.Clean(string(answer.Username)),
		Ticket: check.NewSecret(string(answer.Ticket)), CSRF: check.NewSecret(string(answer.CSRF)),
	}
	c.cleaner.Hold(s.Ticket, s.CSRF)
	if s.Username == "" || !headerValue(string(answer.Ticket)) || !headerValue(string(answer.CSRF)) {
		return Session{}, c.unusable(r, endpoint, "it holds no ticket")
	}
	return s, nil
}
