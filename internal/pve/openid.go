package pve

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"proxmox-realm/internal/check"

	"github.com/luthermonson/go-proxmox"
)

// AuthURL is the authorization URL that Proxmox made for a login (OpenID Connect Core 3.1.2.1, RFC 7636).
// All text but Raw and State, which are of use only as they came, is clean.
type AuthURL struct {
	Endpoint string // the node that made it: it alone can complete the login
	Raw      string

	Location            string // the authorization endpoint: the URL without its query
	ResponseType        string
	ClientID            string
	Scopes              []string // as sent: openid comes twice where the realm lists it
	RedirectURI         string
	State               string
	Nonce               string
	CodeChallenge       string
	CodeChallengeMethod string
	Prompt              string
	Display             string
	ACRValues           []string
}

// AuthURL makes a node discover the issuer and returns the authorization URL that it would send a browser to
// (POST /access/openid/auth-url). No credentials are sent. It leaves one of a hundred pending logins behind for 10
// minutes, and where the issuer is silent, a blocked worker on the node: an [Error] of [IssuerHung].
func (c *Client) AuthURL(ctx context.Context, realmName, redirectURL string) (AuthURL, error) {
	if _, err := domainPath(realmName); err != nil {
		return AuthURL{}, err
	}
	var raw string
	endpoint, err := c.call(ctx, once, nobody{}, realmLimit, func(ctx context.Context, api *proxmox.Client) (err error) {
		raw, err = api.OpenIDAuthURL(ctx, realmName, redirectURL)
		return err
	})
	if err != nil {
		return AuthURL{}, err
	}
	a, err := c.parseAuthURL(raw)
	if err != nil {
		return AuthURL{}, explained(&Error{
			Kind: BadAnswer, Status: http.StatusOK, Endpoint: endpoint, Method: http.MethodPost, Path: "/access/openid/auth-url",
			Reason: c.cleaner.Clean(err.Error()),
		})
	}
	a.Endpoint = endpoint
	return a, nil
}

func (c *Client) parseAuthURL(raw string) (AuthURL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return AuthURL{}, errors.New("no URL")
	}
	if u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return AuthURL{}, fmt.Errorf("no absolute http or https URL")
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return AuthURL{}, errors.New("a URL whose query cannot be read")
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
	Endpoint string // the node that completed it
	Username string // user@realm
	Ticket   check.Secret
	CSRF     check.Secret
	Cap      map[string]map[string]bool // privileges by area, as the web interface uses them
}

// Login completes a login with what the issuer sent the browser back with (POST /access/openid/login), on the node that
// made the authorization URL: use [Client.On] with [AuthURL].Endpoint. No credentials are sent. Any refusal is an [Error]
// of [LoginRefused]: the reason is in that node's syslog alone.
func (c *Client) Login(ctx context.Context, state, code, redirectURL string) (Session, error) {
	c.cleaner.Hold(check.NewSecret(code))
	var answer *proxmox.OpenIDLoginResponse
	endpoint, err := c.call(ctx, once, nobody{}, realmLimit, func(ctx context.Context, api *proxmox.Client) (err error) {
		answer, err = api.OpenIDLogin(ctx, code, state, redirectURL)
		return err
	})
	if err != nil {
		return Session{}, err
	}
	s := Session{
		Endpoint: endpoint, Username: c.cleaner.Clean(answer.Username),
		Ticket: check.NewSecret(answer.Ticket), CSRF: check.NewSecret(answer.CSRFPreventionToken), Cap: map[string]map[string]bool{},
	}
	c.cleaner.Hold(s.Ticket, s.CSRF)
	if !printable(answer.Ticket) || !printable(answer.CSRFPreventionToken) || answer.Ticket == "" || answer.Username == "" {
		return Session{}, explained(&Error{
			Kind: BadAnswer, Status: http.StatusOK, Endpoint: endpoint, Method: http.MethodPost, Path: "/access/openid/login",
			Reason: "no ticket in it",
		})
	}
	areas, _ := answer.Cap.(map[string]any)
	for area, list := range areas {
		privileges, _ := list.(map[string]any)
		held := map[string]bool{}
		for name, has := range privileges {
			held[c.cleaner.Clean(name)] = truth(has)
		}
		s.Cap[c.cleaner.Clean(area)] = held
	}
	return s, nil
}
