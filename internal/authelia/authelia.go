// Package authelia is Authelia's side of the setup. [Block] prints the client that matches a realm. [NewKey] and
// [Digest] make client keys and their digests. [Compare] compares the client in Authelia's configuration with the
// printed one.
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

// Client is what a realm needs of its client in Authelia's configuration.
type Client struct {
	Login        realm.Login
	RedirectURIs []string // what browsers open: scheme, host and port, without a slash at the end
	Assumed      bool     // some RedirectURIs are only the addresses of API endpoints, because none are configured
}

// ClientOf returns the one client of all targets, with the redirect URIs and scopes of each. Targets that cannot share a
// client are a usage error.
func ClientOf(targets []config.Target) (Client, error) {
	shared := Client{Login: targets[0].Realm.Login()}
	for _, t := range targets {
		login := t.Realm.Login()
		if key := difference(shared.Login, login); key != "" {
			return Client{}, check.Errorf(check.Usage, "targets %s and %s differ in %s, so they cannot share a client",
				targets[0].Name, t.Name, key).Try(check.Run("authelia -t NAME").With("once for each client"))
		}
		shared.Login.Scopes = union(shared.Login.Scopes, login.Scopes)
		for _, url := range t.Verify.RedirectURLs {
			shared.RedirectURIs = union(shared.RedirectURIs, []string{string(url)})
		}
		shared.Assumed = shared.Assumed || !t.Verify.RedirectsDeclared
	}
	if shared.Login.ClientID == "" {
		return Client{}, check.Errorf(check.Config, "is required").At("realm.client_id").
			Try(check.Set("realm.client_id", "proxmox"))
	}
	return shared, nil
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
	case a.QueryUserinfo != b.QueryUserinfo:
		return "realm.query_userinfo"
	case !a.QueryUserinfo && a.UsernameClaim != b.UsernameClaim: // the claims policy lists the claims
		return "realm.username_claim"
	case !a.QueryUserinfo && a.GroupsClaim != b.GroupsClaim:
		return "realm.groups_claim"
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

// IDTokenClaims returns the claims that a claims policy must add to the ID token. If Proxmox does not ask for userinfo, it
// reads the claims from the ID token, and Authelia 4.39 and later leaves them out by default.
func (c Client) IDTokenClaims() []string {
	if c.Login.QueryUserinfo {
		return nil
	}
	return slices.DeleteFunc([]string{c.Login.UsernameClaim, c.Login.GroupsClaim}, func(claim string) bool {
		return claim == "" || claim == "sub"
	})
}
