package realm

import (
	"strings"

	"proxmox-realm/internal/check"
)

// DiscoveryURL returns the address of an issuer's discovery document (OpenID Connect Discovery 1.0 section 4.1).
func DiscoveryURL(issuerURL string) string {
	return strings.TrimSuffix(issuerURL, "/") + "/.well-known/openid-configuration"
}

// ScopeOf returns the scope that carries a claim; "" if none is known to (OpenID Connect Core 1.0 section 5.4; groups by
// convention).
func ScopeOf(claim string) string {
	return map[string]string{
		"preferred_username": "profile", "name": "profile", "nickname": "profile", "given_name": "profile", "family_name": "profile",
		"email": "email", "phone_number": "phone", "groups": "groups",
	}[claim]
}

// WithoutUserinfo is the hint to read the ID token alone; "" if the product cannot.
func (p Product) WithoutUserinfo() check.Hint {
	if !p.Has(QueryUserinfo) {
		return ""
	}
	return "set {realm.query_userinfo} to false (if the ID token holds every claim that is needed)"
}
