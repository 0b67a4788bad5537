package issuer

import (
	"net/url"
	"regexp"
	"strings"

	"proxmox-realm/internal/check"
)

// Topic is what an administrator asks about a provider.
type Topic string

// What the advice on providers is about.
const (
	OnKey        Topic = "key"        // where the client key stands
	OnMethod     Topic = "method"     // how a client uses client_secret_basic
	OnRedirect   Topic = "redirect"   // where redirect URLs are registered
	OnScope      Topic = "scope"      // how a client may request a scope
	OnFlow       Topic = "flow"       // how a client may use the code flow
	OnRequest    Topic = "request"    // how a client may send requests that are neither pushed nor signed
	OnSigning    Topic = "signing"    // how ID tokens are signed with RS256
	OnEncryption Topic = "encryption" // how ID tokens stay unencrypted
	OnAddress    Topic = "address"    // how the issuer learns its external address
	OnClaims     Topic = "claims"     // how the ID token holds the user's claims
	OnNames      Topic = "names"      // how users get readable names
	OnGroups     Topic = "groups"     // how groups get into a claim
	OnAudience   Topic = "audience"   // whom else the ID token names
	OnUserinfo   Topic = "userinfo"   // what Proxmox cannot read of userinfo
	OnPolicy     Topic = "policy"     // who may log in
)

// provider is the software behind an issuer: how it is recognised, and what its administrator must know, in the words of its
// own settings. It decides no verdict. An unknown provider is the zero value: there is no advice about it.
type provider struct {
	name string
	is   func(d metadata) bool
	form string // of its issuer URLs

	looks  *regexp.Regexp // matches an issuer URL that is meant for this provider
	marker string         // stands in its pages, in small letters

	varies *regexp.Regexp // matches its authorization endpoints, if each caller gets another one

	subject       string // what sub holds; "": a readable name or unknown
	tokenOfSub    bool   // the ID token holds no claim of the user but sub
	tokenOfAll    bool   // the ID token holds the user's claims
	defaultScopes bool   // it gives claims whose scope is not requested
	encrypts      bool   // a key with "use": "enc" means that ID tokens are encrypted
	namesOthers   bool   // its ID tokens name more than the client in "aud"
	refusesES256  bool   // its userinfo endpoint refuses its own tokens that are signed with ES256

	advice map[Topic]string
}

// known tells whether the provider was recognised.
func (p provider) known() bool { return p.name != "" }

// tell returns the advice on a topic, or "".
func (p provider) tell(t Topic) check.Hint {
	if text := p.advice[t]; text != "" {
		return check.Hint(p.name + ": " + text)
	}
	return ""
}

// Advice returns what an administrator of the software behind the issuer must know about a topic, or "".
func (i *Inspection) Advice(t Topic) check.Hint {
	<-i.done
	return i.provider().tell(t)
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
		if i.metadataErr.Status == "" && p.is(i.metadata) {
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
func (d metadata) below(base string, paths map[string]address) bool {
	for path, endpoint := range paths {
		if string(endpoint) != base+path {
			return false
		}
	}
	return base != ""
}

// base returns the issuer's name without a slash at its end, and origin only its scheme and host.
func (d metadata) base() string   { return strings.TrimSuffix(string(d.Issuer), "/") }
func (d metadata) origin() string { return originOf(string(d.Issuer)) }

// path returns the path of the issuer's name.
func (d metadata) path() string {
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
		is: func(d metadata) bool {
			return d.below(d.base(), map[string]address{
				"/api/oidc/authorization": d.AuthorizationEndpoint, "/api/oidc/token": d.TokenEndpoint, "/jwks.json": d.JWKSURI,
			})
		},
		subject: "a UUID", tokenOfSub: true,
		advice: map[Topic]string{
			OnKey:      "client_secret of the client holds the digest of the key; restart Authelia after a change",
			OnMethod:   "token_endpoint_auth_method: 'client_secret_basic' of the client; restart Authelia after a change",
			OnRedirect: "redirect_uris of the client; restart Authelia after a change",
			OnScope:    "scopes of the client; restart Authelia after a change",
			OnFlow:     "grant_types: ['authorization_code'] and response_types: ['code'] of the client; restart Authelia after a change",
			OnRequest:  "require_pushed_authorization_requests: false of the client; restart Authelia after a change",
			OnSigning:  "identity_providers.oidc.jwks needs an RSA key with RS256, which is what id_token_signed_response_alg of the client is by default",
			OnAddress:  "it answers under the host and path of the request: the proxy must pass on Host and X-Forwarded-Proto",
			OnClaims:   "since 4.39 a claims_policy of the client puts claims into the ID token",
			OnUserinfo: "userinfo_signed_response_alg: 'none' of the client: its signed userinfo names neither issuer nor audience, and Proxmox refuses that",
			OnPolicy:   "authorization_policy of the client",
		},
	},
	{
		name: "authentik", form: "https://HOST/application/o/SLUG/, with the slash at the end",
		looks: regexp.MustCompile(`/application/o\b`), marker: "authentik",
		is: func(d metadata) bool {
			return strings.HasSuffix(string(d.AuthorizationEndpoint), "/application/o/authorize/") &&
				strings.HasSuffix(string(d.TokenEndpoint), "/application/o/token/") &&
				authentikPath.MatchString(strings.TrimSuffix(string(d.JWKSURI), "jwks/"))
		},
		subject: "64 hexadecimal digits by default, too long for Proxmox", tokenOfAll: true, encrypts: true,
		advice: map[Topic]string{
			OnKey:        "Client Secret of the provider",
			OnMethod:     "Client type: Confidential of the provider",
			OnRedirect:   "Redirect URIs of the provider",
			OnScope:      "Advanced protocol settings, Scopes of the provider",
			OnSigning:    "choose a Signing Key in the provider: without one it signs with the client key and publishes none",
			OnEncryption: "leave the Encryption Key of the provider empty",
			OnAddress:    "Issuer mode: 'Each provider has a different issuer, based on the application slug' of the provider; a proxy must pass on Host and X-Forwarded-Proto",
			OnClaims:     "Include claims in id_token of the provider",
			OnNames:      "Subject mode of the provider",
			OnGroups:     "groups come with the scope profile",
		},
	},
	{
		name: "Keycloak", form: "https://HOST/realms/NAME, or https://HOST/auth/realms/NAME before version 17",
		looks: regexp.MustCompile(`/realms\b`), marker: "unable to find matching target resource method",
		is: func(d metadata) bool {
			return keycloakPath.MatchString(d.path()) && strings.HasSuffix(string(d.AuthorizationEndpoint), "/protocol/openid-connect/auth") &&
				strings.HasSuffix(string(d.TokenEndpoint), "/protocol/openid-connect/token")
		},
		subject: "a UUID", tokenOfAll: true, defaultScopes: true,
		advice: map[Topic]string{
			OnKey:      "Client Secret on the tab Credentials of the client; no restart is needed",
			OnMethod:   "Client authentication: On, and Client Authenticator: Client Id and Secret of the client",
			OnRedirect: "Valid redirect URIs of the client",
			OnScope:    "Client scopes of the client; groups is no scope there, a mapper of the type Group Membership gives the claim",
			OnFlow:     "Standard flow: On of the client",
			OnRequest:  "Advanced of the client: Pushed authorization request required: Off, Request object required: Not required, PKCE method: S256 or not set",
			OnSigning:  "ID token signature algorithm: RS256 of the client, and an RSA provider among the realm's keys",
			OnAddress:  "hostname and proxy-headers of the server",
			OnGroups:   "a mapper of the type Group Membership, with the token claim name groups and Full group path: Off",
			OnUserinfo: "Always use lightweight access token: Off of the client, since userinfo refuses these tokens from 26.6.2 on",
		},
	},
	{
		name: "Zitadel", form: "https://HOST",
		is: func(d metadata) bool {
			return d.below(d.base(), map[string]address{
				"/oauth/v2/authorize": d.AuthorizationEndpoint, "/oauth/v2/token": d.TokenEndpoint, "/oauth/v2/keys": d.JWKSURI,
			})
		},
		subject: "a number", tokenOfSub: true, namesOthers: true,
		advice: map[Topic]string{
			OnKey:      "Regenerate Client Secret of the application",
			OnMethod:   "Authentication Method: Basic of the application",
			OnRedirect: "Redirect Settings of the application",
			OnFlow:     "Response Types: Code, and Grant Types: Authorization Code of the application",
			OnAddress:  "ExternalDomain, ExternalPort and ExternalSecure of the instance",
			OnClaims:   "User Info inside ID Token of the application",
			OnGroups:   "roles are an object under a claim with colons: an Action must make a list called groups of them",
			OnAudience: "the ID token also names the project: the number is the Resource Id of the project",
		},
	},
	{
		name: "Kanidm", form: "https://HOST/oauth2/openid/NAME",
		looks: regexp.MustCompile(`/oauth2/openid\b`), marker: "kanidm",
		is: func(d metadata) bool {
			return kanidmPath.MatchString(d.path()) && string(d.AuthorizationEndpoint) == d.origin()+"/ui/oauth2" &&
				string(d.TokenEndpoint) == d.origin()+"/oauth2/token"
		},
		subject: "a UUID", tokenOfAll: true,
		advice: map[Topic]string{
			OnKey:      "`kanidm system oauth2 show-basic-secret NAME` prints the key",
			OnRedirect: "`kanidm system oauth2 add-redirect-url NAME URL`",
			OnScope:    "`kanidm system oauth2 update-scope-map NAME GROUP openid profile email groups`",
			OnSigning:  "it signs with ES256, which Proxmox VE 9 verifies; for older ones `kanidm system oauth2 warning-enable-legacy-crypto NAME`",
			OnNames:    "names are SPNs such as alice@idm.example.com, unless `kanidm system oauth2 prefer-short-username NAME`",
			OnGroups:   "groups are UUIDs and SPNs, unless `kanidm system oauth2 update-claim-map NAME groups GROUP VALUE` maps them",
		},
	},
	{
		name: "Entra ID", form: "https://login.microsoftonline.com/TENANT-ID/v2.0",
		looks: regexp.MustCompile(`^https://login\.microsoftonline\.`),
		is: func(d metadata) bool {
			return strings.HasSuffix(string(d.AuthorizationEndpoint), "/oauth2/v2.0/authorize") &&
				strings.HasSuffix(string(d.TokenEndpoint), "/oauth2/v2.0/token") && strings.HasSuffix(string(d.JWKSURI), "/discovery/v2.0/keys")
		},
		subject: "an opaque text", tokenOfAll: true, defaultScopes: true,
		advice: map[Topic]string{
			OnKey:      "Certificates & secrets of the app registration: the value of the client secret, not its id; it expires",
			OnMethod:   "Authentication of the app registration: the platform Web",
			OnRedirect: "Authentication of the app registration, platform Web",
			OnScope:    "API permissions of the app registration",
			OnGroups:   "Token configuration, Add groups claim; groups are object ids, and of more than 200 none is sent",
		},
	},
	{
		name: "Google", form: "https://accounts.google.com",
		looks:   regexp.MustCompile(`^https://([a-z]+\.)?google(apis)?\.com\b`),
		is:      func(d metadata) bool { return d.Issuer == "https://accounts.google.com" },
		subject: "a number", tokenOfAll: true,
		advice: map[Topic]string{
			OnKey:      "Client secrets of the OAuth client",
			OnRedirect: "Authorized redirect URIs of the OAuth client",
			OnNames:    "there is no preferred_username: with email, users are called alice@example.com@REALM",
			OnGroups:   "it gives no groups",
		},
	},
	{
		name: "AD FS", form: "https://HOST/adfs",
		looks: regexp.MustCompile(`/adfs\b`),
		is: func(d metadata) bool {
			return d.path() == "/adfs" && d.below(d.base(), map[string]address{
				"/oauth2/authorize/": d.AuthorizationEndpoint, "/oauth2/token/": d.TokenEndpoint,
			})
		},
		subject: "an opaque text", tokenOfAll: true,
		advice: map[Topic]string{
			OnKey:      "the shared secret of the server application in the application group",
			OnRedirect: "Redirect URI of the server application in the application group",
			OnScope:    "Client Permissions of the Web API in the application group",
			OnClaims:   "userinfo holds only sub: Issuance Transform Rules must put the claims into the ID token",
			OnNames:    "upn names users",
		},
	},
	{
		name: "Pocket ID", form: "https://HOST, without a slash at the end",
		is: func(d metadata) bool {
			return d.below(d.base(), map[string]address{
				"/authorize": d.AuthorizationEndpoint, "/api/oidc/token": d.TokenEndpoint, "/api/oidc/userinfo": d.UserinfoEndpoint,
			})
		},
		subject: "a UUID", tokenOfAll: true,
		advice: map[Topic]string{
			OnKey:      "Create new secret of the OIDC client: Pocket ID makes the key",
			OnMethod:   "Public Client: off of the OIDC client",
			OnRedirect: "Callback URLs of the OIDC client",
			OnAddress:  "APP_URL of the server",
			OnPolicy:   "Allowed User Groups of the OIDC client",
		},
	},
	{
		name: "Dex", form: "the value of issuer in its configuration",
		is: func(d metadata) bool {
			return d.below(d.base(), map[string]address{
				"/auth": d.AuthorizationEndpoint, "/token": d.TokenEndpoint, "/keys": d.JWKSURI, "/device/code": d.device(),
			})
		},
		subject: "an encoded text", tokenOfAll: true, refusesES256: true,
		advice: map[Topic]string{
			OnKey:      "secret of the client in staticClients; restart Dex after a change",
			OnMethod:   "public: false of the client in staticClients",
			OnRedirect: "redirectURIs of the client in staticClients; restart Dex after a change",
			OnSigning:  "its userinfo endpoint refuses its own tokens with ES256: sign with RS256",
			OnAddress:  "issuer in its configuration",
			OnGroups:   "the connector must give groups",
		},
	},
	{
		name: "tsidp", form: "https://NAME.TAILNET.ts.net",
		is: func(d metadata) bool {
			// A path for each caller is a sign of its own.
			return tsidpEndpoint.MatchString(string(d.AuthorizationEndpoint)) &&
				(strings.HasSuffix(d.origin(), ".ts.net") || !strings.HasSuffix(string(d.AuthorizationEndpoint), "/authorize")) &&
				d.below(d.base(), map[string]address{"/token": d.TokenEndpoint, "/.well-known/jwks.json": d.JWKSURI})
		},
		varies:  tsidpEndpoint,
		subject: "a number", tokenOfAll: true,
		advice: map[Topic]string{
			OnKey:      "the secret that tsidp showed when the client was added",
			OnRedirect: "Redirect URIs of the client in tsidp's own pages",
		},
	},
}
