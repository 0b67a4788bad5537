// Package authelia is Authelia's side of the setup. [Block] prints the client that matches a realm. [NewKey] and
// [Digest] make client keys and their digests. [Compare] compares the client in Authelia's configuration with the
// printed one. [Put], [Rekey] and [Edit] put the client or another digest into the configuration.
//
// Names and defaults follow Authelia's internal/configuration/schema and validator packages (v4.38.0 and v4.39.20).
package authelia

import (
	"slices"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/realm"
)

// LoginRedirectURI is the redirect URI of the login command. Authelia compares redirect URIs byte for byte, except
// the port of a loopback address with http (RFC 8252 section 7.3). So this one registration serves every port.
const LoginRedirectURI = "http://127.0.0.1:8000/callback"

// Client is what realms need of their client in Authelia's configuration.
type Client struct {
	Login        realm.Login
	RedirectURIs []string // what browsers open: scheme, host and port, without a slash at the end
	Assumed      bool     // some RedirectURIs are only the addresses of API endpoints, because none are configured
	// IDTokenClaims are the claims that a claims policy must add to the ID token. Realms that do not ask for userinfo read
	// them there, and Authelia 4.39 and later leaves them out by default.
	IDTokenClaims []string
}

// ClientOf returns the one client of all targets, with the redirect URIs, scopes and claims of each. Targets that cannot
// share a client are a usage error.
func ClientOf(targets []config.Target) (Client, error) {
	shared := Client{Login: targets[0].Realm.Login()}
	for _, t := range targets {
		if key := difference(shared.Login, t.Realm.Login()); key != "" {
			return Client{}, check.Errorf(check.Usage, "targets %s and %s differ in %s, so they cannot share a client",
				targets[0].Name, t.Name, key).Try("name one target of the client:\n    {authelia -t NAME}")
		}
		shared.add(t)
	}
	if shared.Login.ClientID == "" {
		return Client{}, check.Errorf(check.Config, "is required").At("realm.client_id").
			Try("set {realm.client_id} to proxmox")
	}
	return shared, nil
}

// Add joins what other targets need of the same client: those with its issuer and its client id.
func (c *Client) Add(targets []config.Target) {
	for _, t := range targets {
		if login := t.Realm.Login(); login.IssuerURL == c.Login.IssuerURL && login.ClientID == c.Login.ClientID {
			c.add(t)
		}
	}
}

func (c *Client) add(t config.Target) {
	login := t.Realm.Login()
	c.Login.Scopes = union(c.Login.Scopes, login.Scopes)
	for _, url := range t.Verify.RedirectURLs {
		c.RedirectURIs = union(c.RedirectURIs, []string{string(url)})
	}
	c.Assumed = c.Assumed || !t.Verify.RedirectsDeclared
	if login.QueryUserinfo {
		return
	}
	for _, claim := range []string{login.UsernameClaim, login.GroupsClaim} {
		if claim != "" && claim != "sub" {
			c.IDTokenClaims = union(c.IDTokenClaims, []string{claim})
		}
	}
}

// difference returns the first key that keeps two logins from sharing a client, or "".
func difference(a, b realm.Login) string {
	switch {
	case a.IssuerURL != b.IssuerURL:
		return "realm.issuer_url"
	case a.ClientID != b.ClientID:
		return "realm.client_id"
	case !a.ClientKey.Equal(b.ClientKey):
		return "realm.client_key"
	}
	return ""
}

func union(words, more []string) []string {
	out := slices.Clone(words)
	for _, w := range more {
		if !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	return out
}
