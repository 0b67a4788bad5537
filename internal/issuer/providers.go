package issuer

import (
	"net/url"
	"regexp"
	"strings"

	"proxmox-realm/internal/check"
)

// topic is what an administrator asks about a provider.
type topic string

const (
	onKey        topic = "key"        // where the client key stands
	onMethod     topic = "method"     // how a client uses client_secret_basic
	onRedirect   topic = "redirect"   // where redirect URLs are registered
	onScope      topic = "scope"      // how a client may request a scope
	onFlow       topic = "flow"       // how a client may use the code flow
	onRequest    topic = "request"    // how a client may send requests that are neither pushed nor signed
	onSigning    topic = "signing"    // how ID tokens are signed with RS256
	onEncryption topic = "encryption" // how ID tokens stay unencrypted
	onAddress    topic = "address"    // how the issuer learns its external address
	onClaims     topic = "claims"     // how the ID token holds the user's claims
	onNames      topic = "names"      // how users get readable names
	onGroups     topic = "groups"     // how groups get into a claim
	onAudience   topic = "audience"   // whom else the ID token names
	onUserinfo   topic = "userinfo"   // what Proxmox cannot read of userinfo
)

// provider is the software behind an issuer: how it is recognised, and what its administrator must know, in the words of its
// own settings. It decides no verdict. An unknown provider is the zero value: there is no advice about it.
type provider struct {
	name string
	is   func(d document) bool
	form string // of its issuer URLs

	looks  *regexp.Regexp // matches an issuer URL that is meant for this provider
	marker string         // stands in its pages, in small letters

	subject       string // what sub holds; "": a readable name or unknown
	tokenOfSub    bool   // the ID token holds no claim of the user but sub
	tokenOfAll    bool   // the ID token holds the user's claims
	defaultScopes bool   // it gives claims whose scope is not requested
	encrypts      bool   // a key with "use": "enc" means that ID tokens are encrypted
	namesOthers   bool   // its ID tokens name more than the client in "aud"
	refusesES256  bool   // its userinfo endpoint refuses its own tokens that are signed with ES256

	advice map[topic]string
}

// known tells whether the provider was recognised.
func (p provider) known() bool { return p.name != "" }

// tell returns the advice on a topic, or "".
func (p provider) tell(t topic) check.Hint {
	if text := p.advice[t]; text != "" {
		return check.Hint(p.name + ": " + text)
	}
	return ""
}

// Provider returns the name of the software behind the issuer, such as "Authelia", or "" if it was not recognised.
func (i *Inspection) Provider() string {
	<-i.done
	return i.provider().name
}

// provider recognises the software behind the issuer by its document.
func (i *Inspection) provider() provider {
	if i.around.portal {
		return providerNamed("Authelia")
	}
	for _, p := range providers {
		if i.documentErr.Status == "" && p.is(i.document) {
			return p
		}
	}
	return provider{}
}

func providerNamed(name string) provider {
	for _, p := range providers {
		if p.name == name {
			return p
		}
	}
	return provider{}
}

// below tells whether endpoints are at these paths below the issuer's origin or path.
func (d document) below(base string, paths map[string]address) bool {
	for path, endpoint := range paths {
		if string(endpoint) != base+path {
			return false
		}
	}
	return base != ""
}

// base returns the issuer's name without a slash at its end, and origin only its scheme and host.
func (d document) base() string   { return strings.TrimSuffix(string(d.Issuer), "/") }
func (d document) origin() string { return originOf(string(d.Issuer)) }

// path returns the path of the issuer's name.
func (d document) path() string {
	u, err := url.Parse(string(d.Issuer))
	if err != nil {
		return ""
	}
	return u.Path
}

var (
	keycloakPath  = regexp.MustCompile(`/realms/[^/]+$`)
	authentikPath = regexp.MustCompile(`/application/o/[^/]+/$`)
	kanidmPath    = regexp.MustCompile(`^/oauth2/openid/[^/]+$`)
	tsidpEndpoint = regexp.MustCompile(`/authorize(/(funnel|localhost|[0-9]+))?$`)
)

// providers are the known ones. Each needs several signs, since paths such as /auth and /keys are nobody's own.
var providers = []provider{
	{
		name: "Authelia", form: "https://HOST, without a slash at the end",
		is: func(d document) bool {
			return d.below(d.base(), map[string]address{
				"/api/oidc/authorization": d.AuthorizationEndpoint, "/api/oidc/token": d.TokenEndpoint, "/jwks.json": d.JWKSURI,
			})
		},
		subject: "a UUID", tokenOfSub: true,
		advice: map[topic]string{
			onKey:      "client_secret of the client holds the digest of the key; restart Authelia after a change",
			onMethod:   "token_endpoint_auth_method: 'client_secret_basic' of the client; restart Authelia after a change",
			onRedirect: "redirect_uris of the client; restart Authelia after a change",
			onScope:    "scopes of the client; restart Authelia after a change",
			onFlow:     "grant_types: ['authorization_code'] and response_types: ['code'] of the client; restart Authelia after a change",
			onRequest:  "require_pushed_authorization_requests: false of the client; restart Authelia after a change",
			onSigning:  "identity_providers.oidc.jwks needs an RSA key with RS256, which is what id_token_signed_response_alg of the client is by default",
			onAddress:  "it answers under the host and path of the request: the proxy must pass on Host and X-Forwarded-Proto",
			onClaims:   "since 4.39 a claims_policy of the client puts claims into the ID token",
			onUserinfo: "userinfo_signed_response_alg: 'none' of the client: Proxmox cannot read Authelia's signed userinfo",
		},
	},
	{
		name: "authentik", form: "https://HOST/application/o/SLUG/, with the slash at the end",
		looks: regexp.MustCompile(`/application/o\b`), marker: "authentik",
		is: func(d document) bool {
			return strings.HasSuffix(string(d.AuthorizationEndpoint), "/application/o/authorize/") &&
				strings.HasSuffix(string(d.TokenEndpoint), "/application/o/token/") &&
				authentikPath.MatchString(strings.TrimSuffix(string(d.JWKSURI), "jwks/"))
		},
		subject: "64 hexadecimal digits by default, too long for Proxmox", tokenOfAll: true, encrypts: true,
		advice: map[topic]string{
			onKey:        "Client Secret of the provider",
			onMethod:     "Client type: Confidential of the provider",
			onRedirect:   "Redirect URIs of the provider",
			onScope:      "Advanced protocol settings, Scopes of the provider",
			onSigning:    "choose a Signing Key in the provider: without one it signs with the client key and publishes none",
			onEncryption: "leave the Encryption Key of the provider empty",
			onAddress:    "Issuer mode: 'Each provider has a different issuer, based on the application slug' of the provider; a proxy must pass on Host and X-Forwarded-Proto",
			onClaims:     "Include claims in id_token of the provider",
			onNames:      "Subject mode of the provider",
			onGroups:     "groups come with the scope profile",
		},
	},
	{
		name: "Keycloak", form: "https://HOST/realms/NAME, or https://HOST/auth/realms/NAME before version 17",
		looks: regexp.MustCompile(`/realms\b`), marker: "unable to find matching target resource method",
		is: func(d document) bool {
			return keycloakPath.MatchString(d.path()) && strings.HasSuffix(string(d.AuthorizationEndpoint), "/protocol/openid-connect/auth") &&
				strings.HasSuffix(string(d.TokenEndpoint), "/protocol/openid-connect/token")
		},
		subject: "a UUID", tokenOfAll: true, defaultScopes: true,
		advice: map[topic]string{
			onKey:      "Client Secret on the tab Credentials of the client; no restart is needed",
			onMethod:   "Client authentication: On, and Client Authenticator: Client Id and Secret of the client",
			onRedirect: "Valid redirect URIs of the client",
			onScope:    "Client scopes of the client; groups is no scope there, a mapper of the type Group Membership gives the claim",
			onFlow:     "Standard flow: On of the client",
			onRequest:  "Advanced of the client: Pushed authorization request required: Off, Request object required: Not required, PKCE method: S256 or not set",
			onSigning:  "ID token signature algorithm: RS256 of the client, and an RSA provider among the realm's keys",
			onAddress:  "hostname and proxy-headers of the server",
			onGroups:   "a mapper of the type Group Membership, with the token claim name groups and Full group path: Off",
			onUserinfo: "Always use lightweight access token: Off of the client, since userinfo refuses these tokens from 26.6.2 on",
		},
	},
	{
		name: "Zitadel", form: "https://HOST",
		is: func(d document) bool {
			return d.below(d.base(), map[string]address{
				"/oauth/v2/authorize": d.AuthorizationEndpoint, "/oauth/v2/token": d.TokenEndpoint, "/oauth/v2/keys": d.JWKSURI,
			})
		},
		subject: "a number", tokenOfSub: true, namesOthers: true,
		advice: map[topic]string{
			onKey:      "Regenerate Client Secret of the application",
			onMethod:   "Authentication Method: Basic of the application",
			onRedirect: "Redirect Settings of the application",
			onFlow:     "Response Types: Code, and Grant Types: Authorization Code of the application",
			onAddress:  "ExternalDomain, ExternalPort and ExternalSecure of the instance",
			onClaims:   "User Info inside ID Token of the application",
			onGroups:   "roles are an object under a claim with colons: an Action must make a list called groups of them",
			onAudience: "the ID token also names the project: the number is the Resource Id of the project",
		},
	},
	{
		name: "Kanidm", form: "https://HOST/oauth2/openid/NAME",
		looks: regexp.MustCompile(`/oauth2/openid\b`), marker: "kanidm",
		is: func(d document) bool {
			return kanidmPath.MatchString(d.path()) && string(d.AuthorizationEndpoint) == d.origin()+"/ui/oauth2" &&
				string(d.TokenEndpoint) == d.origin()+"/oauth2/token"
		},
		subject: "a UUID", tokenOfAll: true,
		advice: map[topic]string{
			onKey:      "`kanidm system oauth2 show-basic-secret NAME` prints the key",
			onRedirect: "`kanidm system oauth2 add-redirect-url NAME URL`",
			onScope:    "`kanidm system oauth2 update-scope-map NAME GROUP openid profile email groups`",
			onSigning:  "it signs with ES256, which Proxmox VE 9 verifies; for older ones `kanidm system oauth2 warning-enable-legacy-crypto NAME`",
			onNames:    "names are SPNs such as alice@idm.example.com, unless `kanidm system oauth2 prefer-short-username NAME`",
			onGroups:   "groups are UUIDs and SPNs, unless `kanidm system oauth2 update-claim-map NAME groups GROUP VALUE` maps them",
		},
	},
	{
		name: "Entra ID", form: "https://login.microsoftonline.com/TENANT-ID/v2.0",
		looks: regexp.MustCompile(`^https://login\.microsoftonline\.`),
		is: func(d document) bool {
			return strings.HasSuffix(string(d.AuthorizationEndpoint), "/oauth2/v2.0/authorize") &&
				strings.HasSuffix(string(d.TokenEndpoint), "/oauth2/v2.0/token") && strings.HasSuffix(string(d.JWKSURI), "/discovery/v2.0/keys")
		},
		subject: "an opaque text", tokenOfAll: true, defaultScopes: true,
		advice: map[topic]string{
			onKey:      "Certificates & secrets of the app registration: the value of the client secret, not its id; it expires",
			onMethod:   "Authentication of the app registration: the platform Web",
			onRedirect: "Authentication of the app registration, platform Web",
			onScope:    "API permissions of the app registration",
			onGroups:   "Token configuration, Add groups claim; groups are object ids, and of more than 200 none is sent",
		},
	},
	{
		name: "Google", form: "https://accounts.google.com",
		looks:   regexp.MustCompile(`^https://([a-z]+\.)?google(apis)?\.com\b`),
		is:      func(d document) bool { return d.Issuer == "https://accounts.google.com" },
		subject: "a number", tokenOfAll: true,
		advice: map[topic]string{
			onKey:      "Client secrets of the OAuth client",
			onRedirect: "Authorized redirect URIs of the OAuth client",
			onNames:    "there is no preferred_username: with email, users are called alice@example.com@REALM",
			onGroups:   "it gives no groups",
		},
	},
	{
		name: "AD FS", form: "https://HOST/adfs",
		looks: regexp.MustCompile(`/adfs\b`),
		is: func(d document) bool {
			return d.path() == "/adfs" && d.below(d.base(), map[string]address{
				"/oauth2/authorize/": d.AuthorizationEndpoint, "/oauth2/token/": d.TokenEndpoint,
			})
		},
		subject: "an opaque text", tokenOfAll: true,
		advice: map[topic]string{
			onKey:      "the shared secret of the server application in the application group",
			onRedirect: "Redirect URI of the server application in the application group",
			onScope:    "Client Permissions of the Web API in the application group",
			onClaims:   "userinfo holds only sub: Issuance Transform Rules must put the claims into the ID token",
			onNames:    "upn names users",
		},
	},
	{
		name: "Pocket ID", form: "https://HOST, without a slash at the end",
		is: func(d document) bool {
			return d.below(d.base(), map[string]address{
				"/authorize": d.AuthorizationEndpoint, "/api/oidc/token": d.TokenEndpoint, "/api/oidc/userinfo": d.UserinfoEndpoint,
			})
		},
		subject: "a UUID", tokenOfAll: true,
		advice: map[topic]string{
			onKey:      "Create new secret of the OIDC client: Pocket ID makes the key",
			onMethod:   "Public Client: off of the OIDC client",
			onRedirect: "Callback URLs of the OIDC client",
			onAddress:  "APP_URL of the server",
			onGroups:   "Allowed User Groups of the OIDC client restrict who may log in",
		},
	},
	{
		name: "Dex", form: "the value of issuer in its configuration",
		is: func(d document) bool {
			return d.below(d.base(), map[string]address{
				"/auth": d.AuthorizationEndpoint, "/token": d.TokenEndpoint, "/keys": d.JWKSURI, "/device/code": d.device(),
			})
		},
		subject: "an encoded text", tokenOfAll: true, refusesES256: true,
		advice: map[topic]string{
			onKey:      "secret of the client in staticClients; restart Dex after a change",
			onMethod:   "public: false of the client in staticClients",
			onRedirect: "redirectURIs of the client in staticClients; restart Dex after a change",
			onSigning:  "its userinfo endpoint refuses its own tokens with ES256: sign with RS256",
			onAddress:  "issuer in its configuration",
			onGroups:   "the connector must give groups",
		},
	},
	{
		name: "tsidp", form: "https://NAME.TAILNET.ts.net",
		is: func(d document) bool {
			return tsidpEndpoint.MatchString(string(d.AuthorizationEndpoint)) && strings.HasSuffix(d.origin(), ".ts.net") &&
				d.below(d.base(), map[string]address{"/token": d.TokenEndpoint, "/.well-known/jwks.json": d.JWKSURI})
		},
		subject: "a number", tokenOfAll: true,
		advice: map[topic]string{
			onKey:      "the secret that tsidp showed when the client was added",
			onRedirect: "Redirect URIs of the client in tsidp's own pages",
		},
	},
}
