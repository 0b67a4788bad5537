// Package authelia is the other half of the set-up: the client of Proxmox in Authelia's configuration. It prints
// the client block that matches a realm ([Block]), makes keys and their digests ([NewKey], [Digest]), and tells
// in what an existing configuration differs from what the realm needs ([Check]).
//
// Names, limits and defaults follow Authelia's own internal/configuration/schema and validator packages, as of
// v4.37.5, v4.38.0 and v4.39.20.
package authelia

import (
	"fmt"
	"strconv"
	"strings"

	"proxmox-realm/internal/check"

	"proxmox-realm/internal/realm"
)

// LoginRedirectURI is the redirect URI of a rehearsed login. Authelia compares redirect URIs byte for byte; of a
// loopback address with plain http alone it leaves the port free (RFC 8252 section 7.3), so this one registration
// serves whichever port is free, and path and host are fixed.
const LoginRedirectURI = "http://127.0.0.1:8000/callback"

// Client is what a realm needs of its client in Authelia's configuration.
type Client struct {
	Login        realm.Login
	RedirectURIs []string // what browsers open: scheme, host and port, no slash
	Assumed      bool     // nobody wrote the redirect URIs down: they are the origins of the API endpoints
	Version      Version  // of Authelia
}

// needsClaimsPolicy returns the claims that this client's ID tokens must carry beyond what every ID token does.
// Proxmox that asks for no userinfo reads them there, and Authelia leaves them out since 4.39 unless a
// claims policy adds them.
func (c Client) needsClaimsPolicy() []string {
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
	// Newest is the newest version whose configuration this package knows.
	Newest = Version{4, 39}
	// Oldest is the first version that Authelia's guide for Proxmox was tested with.
	Oldest = Version{4, 35}

	digestsSince  = Version{4, 37} // client secrets may be digests
	renamedSince  = Version{4, 38} // client_id, client_secret and so on
	policiesSince = Version{4, 38} // authorization policies by name
)

// ParseVersion reads "4.38", "v4.39.20" or "4.38.0-beta3"; "" and "latest" are the newest. An error is a
// *check.Error.
func ParseVersion(text string) (Version, error) {
	if text == "" || text == "latest" {
		return Version{}, nil
	}
	bad := check.Errorf(check.Usage, "not a version of authelia").Try(check.Advise("give major and minor version, such as %s", Newest))
	majorText, rest, _ := strings.Cut(strings.TrimPrefix(text, "v"), ".")
	minorText := rest
	if end := strings.IndexAny(rest, ".-+"); end >= 0 {
		minorText = rest[:end]
	}
	major, err1 := strconv.ParseUint(majorText, 10, 8)
	minor, err2 := strconv.ParseUint(minorText, 10, 16)
	if err1 != nil || err2 != nil || major == 0 {
		return Version{}, bad
	}
	v := Version{Major: int(major), Minor: int(minor)}
	if v.Less(Oldest) {
		return Version{}, check.Errorf(check.Usage, "authelia %s is older than any whose client configuration is known", v).
			Try(check.Advise("upgrade authelia: %s and later keep digests of client secrets", digestsSince))
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

// KnowsDigests tells whether this version may hold the digest of a client's key in place of the key itself.
func (v Version) KnowsDigests() bool { return !v.Less(digestsSince) }

func (v Version) orNewest() Version {
	if v == (Version{}) {
		return Newest
	}
	return v
}
