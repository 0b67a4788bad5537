package issuer

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// rule is one check of an issuer: what must hold before it can be asked, and the asking.
type rule struct {
	id    check.ID
	needs []check.ID
	check func(*Inspection, View) check.Check
}

// rules are in the order of the catalog.
var rules = []rule{
	{check.IssuerURL, nil, func(i *Inspection, _ View) check.Check { return i.address }},
	{check.IssuerReach, nil, checkReach},
	{check.IssuerCertificate, []check.ID{check.IssuerReach}, checkCertificate},
	{check.IssuerDiscovery, []check.ID{check.IssuerReach, check.IssuerCertificate}, checkDiscovery},
	{check.IssuerIdentity, []check.ID{check.IssuerDiscovery}, checkIdentity},
	{check.IssuerEndpoints, []check.ID{check.IssuerDiscovery}, checkEndpoints},
	{check.IssuerKeys, []check.ID{check.IssuerDiscovery}, checkKeysEndpoint},
	{check.IssuerCapabilities, []check.ID{check.IssuerDiscovery}, checkCapabilities},
	{check.IssuerScopes, []check.ID{check.IssuerDiscovery}, checkScopes},
	{check.IssuerClaims, []check.ID{check.IssuerDiscovery}, checkClaims},
	{check.IssuerClock, []check.ID{check.IssuerReach, check.IssuerCertificate}, checkClock},
}

// pass, warn, fail and skip are findings whose id is still to come.
func pass(format string, args ...any) check.Check { return check.Passed("", format, args...) }

func warn(hint, format string, args ...any) check.Check {
	return check.Warned("", check.Advice(hint), format, args...)
}

func fail(hint, format string, args ...any) check.Check {
	return check.Failed("", check.Advice(hint), format, args...)
}
func skip(format string, args ...any) check.Check { return check.Skipped("", format, args...) }

// examineURL is issuer.url. Proxmox compares the URL byte by byte with what the issuer calls itself, and appends
// the well-known path to it.
func examineURL(issuerURL string) check.Check {
	const bare = "set realm.issuer_url to the bare issuer, such as https://auth.example.com: Proxmox appends /.well-known/openid-configuration itself"
	shown := (*check.Cleaner)(nil).Clean(issuerURL)
	if issuerURL == "" {
		return fail(bare, "there is no issuer URL")
	}
	if strings.TrimSpace(issuerURL) != issuerURL || strings.ContainsFunc(issuerURL, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return fail("remove the white space from realm.issuer_url", "the issuer URL contains white space").Because("%q", shown)
	}
	u, err := url.Parse(issuerURL)
	switch {
	case err != nil:
		return fail(bare, "the issuer URL is not a URL").Because("%s", shown)
	case u.User != nil:
		return fail("remove what stands before the @ in realm.issuer_url", "the issuer URL holds credentials").Because("host %s", u.Host)
	case u.Scheme == "" || u.Scheme != "http" && u.Scheme != "https":
		return fail("write https:// before the host in realm.issuer_url", "the issuer URL has no scheme https").Because("%s", shown)
	case u.Hostname() == "":
		return fail(bare, "the issuer URL names no host").Because("%s", shown)
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(issuerURL, "#"):
		return fail("remove everything from ? or # on in realm.issuer_url", "the issuer URL has a query or a fragment").Because("%s", shown)
	}
	if path, pasted := pastedPath(u.Path); pasted {
		base := strings.TrimSuffix(issuerURL, path)
		return fail("set realm.issuer_url to "+shownOr(base, bare)+" (with a slash at the end where the issuer calls itself so)",
			"the issuer URL is one of the issuer's endpoints, not the issuer").Because("%s ends in %s", shown, path)
	}
	if u.Scheme != "https" {
		return fail("set realm.issuer_url to https://"+u.Host+u.EscapedPath(), "the issuer URL is not https").Because("%s", shown)
	}
	return pass("%s", shown)
}

func shownOr(base, otherwise string) string {
	if requestable(base) {
		return base
	}
	return otherwise
}

// pastedPath finds what people copy together with the issuer.
func pastedPath(path string) (suffix string, pasted bool) {
	trimmed := strings.TrimSuffix(path, "/")
	if at := strings.Index(path, "/.well-known"); at >= 0 {
		return path[at:], true
	}
	for _, endpoint := range []string{
		"/api/oidc/authorization", "/api/oidc/token", "/api/oidc/userinfo", // Authelia
		"/protocol/openid-connect/auth", "/protocol/openid-connect/token", // Keycloak
		"/oauth2/v2.0/authorize", "/oauth2/v2.0/token", // Entra ID
		"/authorize", "/jwks.json",
	} {
		if strings.HasSuffix(trimmed, endpoint) {
			return path[strings.LastIndex(path, endpoint):], true
		}
	}
	return "", false
}

// checkDiscovery is issuer.discovery.
func checkDiscovery(i *Inspection, _ View) check.Check {
	if i.docErr.Status != "" {
		return i.docErr.Took(i.discovery.took)
	}
	c := pass("the discovery document is there and complete").Because("%s, %d bytes", i.client.cleaner.Clean(i.discovery.url), len(i.discovery.body))
	if i.discovery.redirected > 0 {
		c.Evidence += fmt.Sprintf(", after %s", counted(i.discovery.redirected, "redirect"))
	}
	return c.Took(i.discovery.took)
}

// checkIdentity is issuer.identity.
func checkIdentity(i *Inspection, _ View) check.Check {
	named, clean := i.document.Issuer, i.client.cleaner
	if named == i.issuer {
		return pass("the issuer calls itself %s, as configured", clean.Clean(named))
	}
	evidence := fmt.Sprintf("configured %s, the issuer calls itself %s", clean.Clean(i.issuer), clean.Clean(named))
	summary := "the issuer calls itself otherwise, and Proxmox compares byte by byte"
	return fail(identityHint(i.issuer, named, clean), "%s", summary).Because("%s", evidence)
}

func identityHint(configured, named string, clean *check.Cleaner) string {
	shown := clean.Clean(named)
	adopt := "set realm.issuer_url to " + shown
	want, err1 := url.Parse(configured)
	have, err2 := url.Parse(named)
	const headers = "let the proxy before it pass on Host, X-Forwarded-Proto and X-Forwarded-Host, or set the issuer's own external address (Authelia: the address it is reached at; Keycloak: hostname; Dex and Zitadel: issuer and external domain)"
	switch {
	case err1 != nil || err2 != nil || have.Hostname() == "" || shown != named:
		return "correct the address that the issuer gives itself: " + headers
	case strings.Contains(named, "{tenantid}"):
		return "name your tenant in realm.issuer_url: https://" + want.Host + "/TENANT-ID/v2.0"
	case have.Hostname() == "sts.windows.net":
		return "append /v2.0 to realm.issuer_url: Entra ID calls itself by that address only at its endpoint of version 2.0"
	case have.Scheme != "https":
		return "the issuer does not know that it is reached over https: " + headers
	case !strings.EqualFold(have.Host, want.Host):
		return adopt + " if that is where users reach it; otherwise " + headers
	}
	return adopt
}

// checkEndpoints is issuer.endpoints.
func checkEndpoints(i *Inspection, v View) check.Check {
	var missing, insecure []string
	d := i.document
	for _, e := range []struct {
		name, endpoint string
		needed         bool
	}{
		{"authorization_endpoint", d.AuthorizationEndpoint, true},
		{"token_endpoint", d.TokenEndpoint, true},
		{"jwks_uri", d.JWKSURI, true},
		{"userinfo_endpoint", d.UserinfoEndpoint, v.Login.QueryUserinfo},
	} {
		switch {
		case !e.needed:
		case e.endpoint == "":
			missing = append(missing, e.name)
		case !secureEndpoint(e.endpoint):
			insecure = append(insecure, e.name+" "+i.client.cleaner.Clean(e.endpoint))
		}
	}
	switch {
	case len(missing) == 1 && missing[0] == "userinfo_endpoint":
		return fail("set realm.query_userinfo to false if the ID token holds every claim that is needed",
			"the issuer has no userinfo endpoint, which Proxmox asks").Because("userinfo_endpoint is missing")
	case len(missing) > 0:
		return fail("correct the discovery document of the issuer", "endpoints are missing").Because("%s", strings.Join(missing, ", "))
	case len(insecure) > 0:
		return fail("let the issuer name https addresses: the proxy before it must pass on X-Forwarded-Proto and Host", "endpoints are not https").
			Because("%s", strings.Join(insecure, ", "))
	}
	return pass("every endpoint is there, over https").Because("authorization %s", i.client.cleaner.Clean(d.AuthorizationEndpoint))
}

// checkKeysEndpoint is issuer.keys, where the key set has an address that was asked.
func checkKeysEndpoint(i *Inspection, v View) check.Check {
	if !secureEndpoint(i.document.JWKSURI) {
		return skip("needs %s", check.IssuerEndpoints)
	}
	return checkKeys(i, v)
}

// checkCapabilities is issuer.capabilities: what Proxmox always does must not be excluded. A list that is
// absent excludes nothing.
func checkCapabilities(i *Inspection, v View) check.Check {
	d := i.document
	excludes := func(list []string, value string) bool { return len(list) > 0 && !slices.Contains(list, value) }
	var found []string
	no := func(excluded bool, member string, list []string) {
		if excluded {
			found = append(found, member+": "+i.client.cleaner.Clean(listed(list)))
		}
	}
	no(excludes(d.ResponseTypes, "code"), "response_types_supported", d.ResponseTypes)
	no(excludes(d.ResponseModes, "query"), "response_modes_supported", d.ResponseModes)
	no(excludes(d.GrantTypes, "authorization_code"), "grant_types_supported", d.GrantTypes)
	no(excludes(d.AuthMethods, "client_secret_basic") && v.Login.ClientKey.IsSet(), "token_endpoint_auth_methods_supported", d.AuthMethods)
	no(excludes(d.ChallengeMethods, "S256"), "code_challenge_methods_supported", d.ChallengeMethods)
	no(d.RequirePushedRequests, "require_pushed_authorization_requests", []string{"true"})
	no(d.RequireSignedRequests, "require_signed_request_object", []string{"true"})
	if len(found) > 0 {
		return fail("enable in the issuer what Proxmox always uses: the code flow, client_secret_basic and PKCE with S256, in plain requests",
			"the issuer excludes what Proxmox uses").Because("%s", strings.Join(found, "; "))
	}
	return pass("code flow, client_secret_basic and S256 are not excluded")
}

// scopeOf names the scope that carries a claim (OpenID Connect Core 1.0 section 5.4; groups by custom).
var scopeOf = map[string]string{
	"name": "profile", "family_name": "profile", "given_name": "profile", "middle_name": "profile", "nickname": "profile",
	"preferred_username": "profile", "profile": "profile", "picture": "profile", "website": "profile", "gender": "profile",
	"birthdate": "profile", "zoneinfo": "profile", "locale": "profile", "updated_at": "profile",
	"email": "email", "email_verified": "email", "phone_number": "phone", "phone_number_verified": "phone",
	"address": "address", "groups": "groups",
}

// checkScopes is issuer.scopes.
func checkScopes(i *Inspection, v View) check.Check {
	advertised, requested, clean := i.document.Scopes, v.Login.Scopes, i.client.cleaner
	if advertised == nil {
		return skip("the issuer does not say which scopes it has").Because("requested: %s", listed(requested))
	}
	evidence := clean.Clean("requested: " + listed(requested) + "; advertised: " + listed(advertised))

	unknown := slices.DeleteFunc(slices.Clone(requested), func(s string) bool { return s == "openid" || slices.Contains(advertised, s) })
	if len(unknown) > 0 {
		return warn("remove it from realm.scopes, unless the issuer knows it without saying so", "not advertised: the scope %s", strings.Join(unknown, ", ")).
			Because("%s", evidence)
	}
	// Keycloak gives what its default client scopes carry without being asked.
	if i.product() != keycloak {
		for _, claim := range []string{v.Login.UsernameClaim, v.Login.GroupsClaim} {
			scope := scopeOf[claim]
			if scope != "" && slices.Contains(advertised, scope) && !slices.Contains(requested, scope) {
				return warn("add "+scope+" to realm.scopes (and to the client in the issuer)", "the claim %s needs the scope %s, which is not requested", claim, scope).
					Because("%s", evidence)
			}
		}
	}
	return pass("the issuer has every requested scope").Because("%s", evidence)
}

// checkClaims is issuer.claims.
func checkClaims(i *Inspection, v View) check.Check {
	advertised, clean := i.document.Claims, i.client.cleaner
	wanted := slices.DeleteFunc([]string{v.Login.UsernameClaim, v.Login.GroupsClaim}, func(c string) bool { return c == "" })
	beyond := slices.DeleteFunc(slices.Clone(wanted), func(c string) bool { return c == "sub" })
	if p := i.product(); !v.Login.QueryUserinfo && len(beyond) > 0 && (p == authelia || p == zitadel) {
		return warn("unset realm.query_userinfo, or give the client a claims policy that puts "+strings.Join(beyond, ", ")+" into the ID token",
			"%s may be missing: with query_userinfo off Proxmox reads the ID token alone, and %s puts only sub there", strings.Join(beyond, ", "), p).
			Because("wanted: %s; Authelia since 4.39 needs a claims_policy of the client for more", listed(wanted))
	}
	if c, found := i.checkNames(v.Login); found {
		return c
	}
	if advertised == nil {
		return skip("the issuer does not say which claims it has").Because("wanted: %s", listed(wanted))
	}
	evidence := clean.Clean("wanted: " + listed(wanted) + "; advertised: " + listed(advertised))
	var missing []string
	for _, claim := range beyond {
		if slices.Contains(advertised, claim) {
			continue
		}
		// A standard claim that is not advertised is most likely not there; any other may come from a mapping of the issuer's.
		if claim == v.Login.UsernameClaim && scopeOf[claim] != "" && claim != "groups" {
			return warn("choose a claim that the issuer has as realm.username_claim before anyone logs in: it cannot be changed later",
				"the issuer does not advertise the username claim %s", claim).Because("%s", evidence)
		}
		missing = append(missing, claim)
	}
	if len(missing) > 0 {
		return skip("the issuer does not advertise %s, which proves nothing: it may be mapped", strings.Join(missing, ", ")).Because("%s", evidence)
	}
	return pass("the issuer has every claim that is needed").Because("%s", evidence)
}

// unnameable tells why the value of a claim makes no Proxmox user id: those hold no white space, no ":" and no "/"
// (PVE::Auth::Plugin::verify_username). By the meaning that OpenID Connect Core 1.0 section 5.1 gives the claim.
var unnameable = map[string]string{
	"name": "holds white space", "profile": "is a URL", "picture": "is a URL", "website": "is a URL", "zoneinfo": "holds a slash",
	"address": "is no text", "groups": "is no text", "roles": "is no text", "email_verified": "is no text", "phone_number_verified": "is no text", "updated_at": "is no text",
}

// subjects tells what issuers put into sub, where they do not let anyone choose, or by default.
var subjects = map[product]string{
	authelia: "a UUID", keycloak: "a UUID", authentik: "64 hexadecimal digits by default, which is too long for Proxmox",
	dex: "an encoded text", entra: "an opaque text", google: "a number", zitadel: "a number",
}

// checkNames finds a username claim that names users as nobody wants, or as Proxmox refuses: it is fixed once the realm exists.
func (i *Inspection) checkNames(l realm.Login) (check.Check, bool) {
	claim := l.UsernameClaim
	better := "preferred_username"
	if has := i.document.Claims; has != nil && !slices.Contains(has, better) && slices.Contains(has, "email") {
		better = "email"
	}
	hint := "set realm.username_claim to " + better + " before anyone logs in: it cannot be changed later"
	if why, bad := unnameable[claim]; bad {
		return warn(hint, "the username claim %s %s, and Proxmox refuses such names", claim, why).Because("username_claim %s", claim), true
	}
	if what, known := subjects[i.product()]; claim == "sub" && known && l.QueryUserinfo { // without userinfo, sub may be all that there is
		return warn(hint+"; where users go by it already, name "+string(check.IssuerClaims)+" in verify.ignore", "users are called by the subject, which at %s is %s", i.product(), what).
			Because("username_claim sub (Proxmox's default)"), true
	}
	return check.Check{}, false
}

// tokenLifetime is how long ID tokens live at most by default in the issuers that are common (Authelia, Entra ID,
// Google: 1 h; Keycloak: 5 min). Proxmox checks nothing but their end, without leeway.
const tokenLifetime = time.Hour

// checkClock is issuer.clock. Proxmox's clock matters only where it is ahead: it then takes ID tokens for expired.
func checkClock(i *Inspection, v View) check.Check {
	theirs, ok := i.discovery.clock()
	if !ok {
		return skip("the issuer's answer has no usable Date")
	}
	ours := v.ClockOffset
	if !v.ClockKnown {
		return skip("Proxmox's clock is not known here").Because("issuer: %s against this machine", signed(theirs))
	}
	allowed := v.MaxSkew
	if allowed <= 0 {
		allowed = defaultMaxSkew
	}
	ahead := (ours - theirs).Round(time.Second) // of the issuer
	evidence := fmt.Sprintf("against this machine: issuer %s, Proxmox %s; allowed %s", signed(theirs), signed(ours), allowed)
	const hint = "set the clocks by NTP: `timedatectl` and `chronyc tracking` on the Proxmox node and on the issuer's host"
	switch {
	case ahead > allowed && ahead >= tokenLifetime:
		return fail(hint, "Proxmox's clock is %s ahead of the issuer's: ID tokens are expired when they arrive", ahead).Because("%s", evidence)
	case ahead > allowed:
		return warn(hint, "Proxmox's clock is %s ahead of the issuer's: ID tokens that live shorter are expired when they arrive", ahead).Because("%s", evidence)
	case -ahead > allowed:
		return warn(hint, "Proxmox's clock is %s behind the issuer's", -ahead).Because("%s", evidence)
	}
	return pass("the clocks of issuer and Proxmox agree").Because("%s", evidence)
}

// clock returns the issuer's clock minus the local one: its Date (whole seconds, so half a second is added) against the
// middle of the request. An answer from a cache carries its Age (RFC 9111 section 5.1).
func (a answer) clock() (offset time.Duration, ok bool) {
	date, err := http.ParseTime(a.header.Get("Date"))
	if err != nil || a.sent.IsZero() || a.first.Before(a.sent) {
		return 0, false
	}
	if age := a.header.Get("Age"); age != "" {
		seconds, err := time.ParseDuration(age + "s")
		if err != nil || seconds < 0 {
			return 0, false
		}
		date = date.Add(seconds)
	}
	middle := a.sent.Add(a.first.Sub(a.sent) / 2)
	return date.Add(500 * time.Millisecond).Sub(middle), true
}

// signed returns "+3s", "-2m0s", "+0s".
func signed(d time.Duration) string {
	d = d.Round(time.Second)
	if d < 0 {
		return d.String()
	}
	return "+" + d.String()
}

// product is the software behind an issuer, as far as its endpoints betray it. It only ever softens a verdict or words a hint.
type product string

const (
	unknownProduct product = "the issuer"
	authelia       product = "Authelia"
	authentik      product = "authentik"
	dex            product = "Dex"
	entra          product = "Entra ID"
	google         product = "Google"
	keycloak       product = "Keycloak"
	zitadel        product = "Zitadel"
)

func (i *Inspection) product() product {
	u, err := url.Parse(i.document.AuthorizationEndpoint)
	if err != nil {
		return unknownProduct
	}
	switch path := u.Path; {
	case strings.HasSuffix(path, "/api/oidc/authorization"):
		return authelia
	case strings.HasSuffix(path, "/application/o/authorize/"):
		return authentik
	case strings.HasSuffix(path, "/protocol/openid-connect/auth"):
		return keycloak
	case strings.HasSuffix(path, "/oauth2/v2.0/authorize"):
		return entra
	case strings.HasSuffix(path, "/oauth/v2/authorize"):
		return zitadel
	case u.Host == "accounts.google.com":
		return google
	case strings.HasSuffix(path, "/auth") && strings.HasSuffix(i.document.JWKSURI, "/keys") && strings.HasSuffix(i.document.TokenEndpoint, "/token"):
		return dex
	}
	return unknownProduct
}

// listed returns the words, or "none".
func listed(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, " ")
}

// counted returns "1 key", "2 keys".
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
