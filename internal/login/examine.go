package login

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"proxmox-realm/internal/realm"
)

// minEntropy is the length below which a state or a nonce could be guessed; issuers refuse shorter ones.
const minEntropy = 8

// examine lists what keeps an authorization URL from being opened: a browser goes only to the authorization endpoint
// that the issuer names to this machine ("": that is not known here), with the request that the realm should make
// (OpenID Connect Core 1.0 section 3.1.2.1, RFC 7636 section 4.3).
func examine(address, endpoint string, login realm.Login, redirectURL string) []string {
	if strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return []string{"it holds characters that no URL has"}
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return []string{"it is no https URL"}
	}
	var wrong []string
	if endpoint != "" && !sameLocation(u, endpoint) {
		bare := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
		wrong = append(wrong, fmt.Sprintf("it leads to %s, and the issuer's authorization endpoint is %s", bare.String(), endpoint))
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return append(wrong, "its query cannot be read")
	}
	want := func(name, value string) {
		if list := query[name]; len(list) != 1 || list[0] != value {
			wrong = append(wrong, fmt.Sprintf("%s is %q, not %q", name, list, value))
		}
	}
	want("response_type", "code")
	want("client_id", login.ClientID)
	want("redirect_uri", redirectURL)
	want("code_challenge_method", "S256")
	for _, name := range []string{"state", "nonce", "code_challenge"} { // their values are nobody's business
		if list := query[name]; len(list) != 1 || len(list[0]) < minEntropy {
			wrong = append(wrong, name+" is missing, too short or there twice")
		}
	}
	if !slices.Contains(strings.Fields(query.Get("scope")), "openid") {
		wrong = append(wrong, "scope lacks openid")
	}
	return wrong
}

// sameLocation tells whether two URLs differ in their queries at most; Proxmox writes the port of https out or not,
// and an empty path as a slash.
func sameLocation(u *url.URL, endpoint string) bool {
	v, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	port := func(u *url.URL) string {
		if p := u.Port(); p != "" {
			return p
		}
		return "443"
	}
	path := func(u *url.URL) string { return "/" + strings.TrimPrefix(u.EscapedPath(), "/") }
	return u.Scheme == v.Scheme && strings.EqualFold(u.Hostname(), v.Hostname()) && port(u) == port(v) && path(u) == path(v)
}
