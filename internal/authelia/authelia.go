// Package authelia is Authelia's side of the setup. It prints the client that matches a realm ([Block]), makes client
// keys and their digests ([NewKey], [Digest]), and compares the client in Authelia's configuration with the printed
// one ([Compare]).
//
// Names and defaults follow Authelia's internal/configuration/schema and validator packages (v4.37.5, v4.38.0 and
// v4.39.20).
package authelia

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

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
	Version      Version  // of Authelia
}

// ClientOf returns the one client of all targets, with the redirect URIs and scopes of each. Targets that cannot share a
// client are a usage error.
func ClientOf(targets []config.Target, version Version) (Client, error) {
	shared := Client{Login: targets[0].Realm.Login(), Version: version}
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

// idTokenClaims returns the claims that a claims policy must add to the ID token. If Proxmox does not ask for userinfo,
// it reads the claims from the ID token, and Authelia 4.39 and later leaves them out by default.
func (c Client) idTokenClaims() []string {
	if c.Login.QueryUserinfo || c.Version.Less(Version{4, 39}) {
		return nil
	}
	var claims []string
	for _, claim := range []string{c.Login.UsernameClaim, c.Login.GroupsClaim} {
		if claim != "" && claim != "sub" {
			claims = append(claims, claim)
		}
	}
	return claims
}

// Version is a version of Authelia. The zero value means the newest one that this package knows.
type Version struct{ Major, Minor int }

var (
	newest = Version{4, 39}
	oldest = Version{4, 36}

	digestsSince = Version{4, 37} // client secrets may be digests
	renamedSince = Version{4, 38} // present key names, authorization policies by name
)

// ParseVersion reads "4.38", "v4.39.20" or "4.38.0-beta3"; "" means the newest version. An error is a *check.Error.
func ParseVersion(text string) (Version, error) {
	if text == "" {
		return Version{}, nil
	}
	text, _, _ = strings.Cut(strings.TrimPrefix(text, "v"), "-")
	parts := strings.Split(text, ".")
	major, err := strconv.Atoi(parts[0])
	minor := 0
	if err == nil && len(parts) > 1 {
		minor, err = strconv.Atoi(parts[1])
	}
	v := Version{Major: major, Minor: minor}
	switch {
	case err != nil || len(parts) < 2 || major < 1 || minor < 0:
		return Version{}, check.Errorf(check.Usage, "not a version of authelia").
			Try(check.Advise("give major and minor version, such as %s", newest))
	case v.Less(oldest):
		return Version{}, check.Errorf(check.Usage, "authelia %s is not supported", v).
			Try(check.Advise("upgrade authelia to %s or later", oldest))
	}
	return v, nil
}

// String returns "4.39".
func (v Version) String() string {
	v = v.orNewest()
	return fmt.Sprintf("%d.%d", v.Major, v.Minor)
}

// Less tells whether v is earlier than w.
func (v Version) Less(w Version) bool {
	v, w = v.orNewest(), w.orNewest()
	return v.Major < w.Major || v.Major == w.Major && v.Minor < w.Minor
}

// KnowsDigests tells whether this version accepts the digest of a client key in place of the key itself.
func (v Version) KnowsDigests() bool { return !v.Less(digestsSince) }

func (v Version) orNewest() Version {
	if v == (Version{}) {
		return newest
	}
	return v
}
