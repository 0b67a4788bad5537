package diagnose

import (
	"fmt"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// table holds the texts of failed logins. Proxmox VE 7 to 9 writes those of pve-access-control (API2/OpenId.pm, Auth/Plugin.pm,
// AccessControl.pm). Backup Server and Datacenter Manager write those of api2/access/openid.rs. All pass on texts of
// proxmox-openid and of the crates openidconnect 2 to 4 and oauth2. The first row that fits counts.
var table = slices.Concat(discoveryRows, tokenRows, idTokenRows, userinfoRows, userRows, stateRows)

// What several rows say.
const (
	corrected      check.Hint = "try again: the realm was corrected since" // about a value that the realm has by now
	logNamesReason check.Hint = "read the issuer's log at the time of the login: it names the reason"
	unencrypted    check.Hint = "let the issuer sign the ID token of this client, and not encrypt it"
	typedClaims    check.Hint = "let the issuer send standard claims in their types, such as email_verified as true and not as \"true\""
	clocks         check.Hint = "synchronize the clocks of $node and of the issuer by NTP; on the node:\n    timedatectl"

	encrypted = "the ID token is encrypted, which Proxmox cannot read"
)

// discoveryRows are about what precedes the issuer's login page, and is made again as the browser comes back.
var discoveryRows = []row{
	{
		cause: IssuerDiffers, texts: []pattern{"Validation error: unexpected issuer URI `%` (expected `%`)"},
		related: []check.ID{check.IssuerIdentity},
		explain: func(f Facts, _ Login, v []string) (string, check.Hint) {
			hint := check.Hintf("set {realm.issuer_url} to %s", v[0])
			switch v[0] {
			case f.Login.IssuerURL:
				hint = corrected
			case f.Declared.IssuerURL:
				hint = "the configuration has this name, and the realm another one:\n    {apply}"
			}
			return fmt.Sprintf("the issuer's own name is %s, and the realm's issuer-url is %s; Proxmox requires an exact match", v[0], v[1]), hint
		},
	},
	{
		cause: IssuerUnreachable, texts: []pattern{"Request failed", "Request failed: %"},
		related: []check.ID{check.IssuerReach, check.ProxmoxDiscovery},
		summary: "the node cannot fetch the issuer's documents: name, network, certificate, or an error of the issuer",
		more:    Facts.fromNode,
	},
	{
		cause:   IssuerDocument,
		texts:   []pattern{"Failed to parse server response", "Server returned invalid response: %", "Validation error: %"},
		related: []check.ID{check.IssuerDiscovery, check.IssuerKeys, check.ProxmoxDiscovery},
		summary: "the node cannot read the issuer's documents",
		more: func(f Facts, l Login) (hint check.Hint) {
			if document := f.discoveryURL(); document != "" {
				hint = check.Hintf("on %s, this must print JSON:\n    curl -v %s", l.Node, check.Quote(document))
			}
			return check.Hints(hint, "it shows what the issuer answers here:\n    {probe}")
		},
	},
	{
		cause: BadURL,
		texts: []pattern{
			"relative URL without a base", "Failed to parse URL", "invalid port number", "invalid international domain name", "empty host",
			"invalid IPv4 address", "invalid IPv6 address", "invalid domain character", "relative URL with a cannot-be-a-base base",
		},
		related: []check.ID{check.IssuerURL},
		summary: "the realm's issuer-url, or the address that the browser has, is not a URL",
		hint:    "set {realm.issuer_url} (the issuer's https URL)",
	},
	{
		cause: NoRealm, realm: 1,
		texts:   []pattern{"authentication domain '%' does not exist", "no such openid '%'", "got unexpected type '%' for openid '%'"},
		explain: noRealm,
	},
	{cause: NoRealm, texts: []pattern{"wrong realm type (% != openid)"}, explain: noRealm},
	{
		cause: TooManyPending, realm: 1, texts: []pattern{"too many pending openid auth request for realm %"},
		summary: "more than a hundred logins have begun on this node within ten minutes and have not ended",
		hint:    "wait 10 minutes; if it happens again, find out what keeps opening the login page",
	},
	{
		cause: DaemonDown, texts: []pattern{"client error (Connect)"},
		summary: "the privileged daemon does not answer",
		more:    func(f Facts, _ Login) check.Hint { return f.host().Run("it may tell why", f.host().Journal) },
	},
}

func noRealm(_ Facts, l Login, _ []string) (string, check.Hint) {
	name := "the realm of the login"
	if l.Realm != "" {
		name = "the realm " + l.Realm
	}
	return name + " does not exist any more, or is not an OpenID Connect realm", "it shows what is missing:\n    {plan}"
}

// tokenRows are about the token endpoint (oauth2, RequestTokenError).
var tokenRows = []row{
	{
		cause:   RequestFailed,
		texts:   []pattern{"Failed to contact token endpoint: Request failed", "Failed to contact token endpoint: Server returned error response"},
		related: []check.ID{check.ClientCredentials, check.ClientRedirect},
		summary: "the issuer refused the code at its token endpoint, and Proxmox does not tell why: client key, authentication method, redirect URL, or a code that was used before",
		hint:    "it asks the issuer about client, key and redirect URLs:\n    {verify}\n" + logNamesReason,
	},
	{
		cause: ClientRefused,
		texts: []pattern{
			"Failed to contact token endpoint: Server returned error response: invalid_client%",
			"Failed to contact token endpoint: Server returned error response: unauthorized_client%",
		},
		related: []check.ID{check.ClientCredentials},
		summary: "the issuer refuses the client, its key or its authentication method",
		hint: "set {realm.client_key_file} (the key that the issuer holds)\n" +
			"let the client use client_secret_basic and the authorization code flow at the issuer",
	},
	{
		cause: CodeRefused, texts: []pattern{"Failed to contact token endpoint: Server returned error response: invalid_grant%"},
		summary: "the issuer refuses the code of this login: it was used before, is too old, or belongs to another redirect URL",
		hint:    "try again from the login page\nread the issuer's log at the time of the login",
	},
	{
		cause: IssuerRefused, texts: []pattern{"Failed to contact token endpoint: Server returned error response: %"},
		summary: "the issuer refuses to give a token: $1", hint: "read the issuer's log at the time of the login",
	},
	{
		cause: NoTokenEndpoint,
		texts: []pattern{
			"Configuration error for token endpoint: %", "No token endpoint URL specified", "Failed to contact token endpoint: No token endpoint URL specified",
			"Failed to contact token endpoint: Other error: no token_url provided",
		},
		related: []check.ID{check.IssuerEndpoints, check.IssuerDiscovery},
		summary: "the issuer's discovery document names no token endpoint",
		hint:    "add token_endpoint to the issuer's discovery document",
	},
	{
		cause: TokenUnreadable, texts: []pattern{"Failed to contact token endpoint: %"},
		related: []check.ID{check.IssuerKeys},
		summary: "Proxmox cannot read the issuer's answer with the token: it is no JSON or an error with status 200, the ID token is encrypted, or a claim has another type than the standard says",
		hint:    unencrypted + "\n" + typedClaims + ", and sub as a text",
	},
}

// idTokenRows are about the ID token (openidconnect, ClaimsVerificationError).
var idTokenRows = []row{
	{
		cause: IssuerDiffers, texts: []pattern{"Failed to verify ID token: Invalid issuer: expected `%` (found `%`)"},
		summary: "the ID token names the issuer $2, and the issuer's discovery document $1",
		hint:    "let the issuer use one name for everybody who asks: set its external address to $1, and let a proxy before it pass on Host and X-Forwarded-Proto",
	},
	{
		cause: Audience, texts: []pattern{"Failed to verify ID token: Invalid audiences: `%` is not a trusted audience"},
		related: []check.ID{check.IssuerAudience},
		explain: foreignAudience,
	},
	{
		cause: Audience,
		texts: []pattern{"Failed to verify ID token: Invalid audiences: must contain `%` (found audiences: %)"},
		explain: func(_ Facts, _ Login, v []string) (string, check.Hint) {
			found := strings.ReplaceAll(v[1], "`", "")
			return fmt.Sprintf("the ID token is for %s and not for the client %s", found, v[0]),
				check.Hintf("let the issuer name the client %s in the claim aud of its ID tokens", v[0])
		},
	},
	{
		cause: Audience, texts: []pattern{"Failed to verify ID token: Invalid audiences: %"},
		summary: "the ID token does not say for whom it is",
		hint:    "let the issuer name the client $client in the claim aud of its ID tokens",
	},
	{
		cause: TokenExpired, fleeting: true, texts: []pattern{"Failed to verify ID token: Expired: ID token expired at % (current time is %)"},
		related: []check.ID{check.IssuerClock},
		summary: "the ID token had expired at $1 when it arrived at $2 by the clock of the node", hint: clocks,
	},
	{
		cause: TokenExpired, fleeting: true, texts: []pattern{"Failed to verify ID token: Expired: %"},
		related: []check.ID{check.IssuerClock},
		summary: "the ID token had expired when it arrived", hint: clocks,
	},
	{
		cause: Nonce, texts: []pattern{"Failed to verify ID token: Invalid nonce: missing nonce claim"},
		summary: "the ID token lacks the nonce of the login",
		hint:    "let the issuer repeat the nonce of the request in its ID tokens (OpenID Connect Core 1.0, section 2)",
	},
	{
		cause: Nonce, texts: []pattern{"Failed to verify ID token: Invalid nonce: %"},
		summary: "the ID token belongs to another login",
		hint:    "try again from the login page\nif it happens to everybody, find out whether a cache stands between Proxmox and the issuer",
	},
	{
		cause: Signature, texts: []pattern{"Failed to verify ID token: Signature verification failed"},
		related: []check.ID{check.IssuerKeys},
		summary: "Proxmox cannot verify the signature of the ID token: its key is not in the issuer's key set, or its algorithm is not advertised or not supported",
		hint: "let the issuer sign ID tokens with RS256 and an RSA key of 2048 to 4096 bits, and advertise both\n" +
			"if the issuer has just changed its keys, try again",
	},
	{
		cause: EncryptedToken,
		texts: []pattern{
			"Failed to verify ID token: Unsupported: JWE encryption is not currently supported%",
			"Failed to verify ID token: Unsupported: nested JWT's are not currently supported",
		},
		summary: encrypted, hint: unencrypted,
	},
	{
		cause:   TokenType,
		texts:   []pattern{"Failed to verify ID token: Unsupported: unexpected or unsupported JWT type `%`", "Failed to verify ID token: Unsupported: %"},
		summary: "the header of the ID token has a type or a parameter that Proxmox does not take: $1",
		hint:    "let the issuer send ID tokens with the header typ JWT or without one, and without crit",
	},
	{
		cause: TokenRefused, texts: []pattern{"Failed to verify ID token: %"},
		summary: "Proxmox refuses the ID token: $1",
		hint:    "compare the claims of the ID token with OpenID Connect Core 1.0, section 3.1.3.7",
	},
	{
		cause: NoIDToken, texts: []pattern{"%Server did not return an ID token", "client error (SendRequest)"},
		summary: "the issuer gave no ID token",
		hint:    "let the issuer give the client $client an ID token: the request asks for the scope openid",
	},
}

func foreignAudience(f Facts, _ Login, v []string) (string, check.Hint) {
	summary := fmt.Sprintf("the ID token is also for %s, which the realm does not accept", v[0])
	alone := check.Hintf("let the issuer name only the client in the claim aud of this client's ID tokens")
	switch {
	case slices.Contains(f.Login.Audiences, v[0]):
		return summary, corrected
	case slices.Contains(f.Declared.Audiences, v[0]):
		return summary, "the configuration has this audience, and the realm does not:\n    {apply}"
	}
	set := check.Hintf("set {realm.audiences} to [%s] (needs %s %s)", strings.Join(append(slices.Clone(f.Login.Audiences), v[0]), ", "), f.Product.Name(), f.Product.Since(realm.Audiences))
	return summary, check.Hints(set, alone)
}

// userinfoRows are about the userinfo endpoint (openidconnect, UserInfoError).
var userinfoRows = []row{
	{
		cause: NoUserinfo, texts: []pattern{"No user info endpoint %"},
		related: []check.ID{check.IssuerEndpoints},
		summary: "the issuer has no userinfo endpoint, but Proxmox asks it",
		more:    withoutUserinfo,
	},
	{
		cause: UserinfoRefused, texts: []pattern{"Failed to contact userinfo endpoint: Request failed"},
		related: []check.ID{check.IssuerEndpoints},
		summary: "the issuer gave a token, and its userinfo endpoint then refused it or could not be reached",
		hint:    logNamesReason, more: withoutUserinfo,
	},
	{
		cause: UserinfoUnreadable, texts: []pattern{"Failed to contact userinfo endpoint: Failed to verify claims"},
		summary: "Proxmox cannot verify the signed answer of the userinfo endpoint",
		hint:    "let the issuer answer this client's userinfo requests without a signature, or with RS256 and the claims iss and aud",
		more:    withoutUserinfo,
	},
	{
		cause: UserinfoUnreadable, texts: []pattern{"Failed to contact userinfo endpoint: %"},
		summary: "Proxmox cannot read the answer of the userinfo endpoint: it is neither JSON nor a signed token, or a claim has another type than the standard says",
		hint:    typedClaims, more: withoutUserinfo,
	},
}

// withoutUserinfo is the hint to read the ID token alone.
func withoutUserinfo(f Facts, _ Login) check.Hint { return f.Product.WithoutUserinfo() }
