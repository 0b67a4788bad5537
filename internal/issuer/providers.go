package issuer

import (
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
	form string // of its issuer URLs
	is   func(d metadata) bool

	looks  func() *regexp.Regexp // matches an issuer URL that is meant for this provider
	marker string                // stands in its pages, in small letters

	varies func() *regexp.Regexp // matches its authorization endpoints, if each caller gets another one

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
	for _, p := range providers {
		if i.around.portal && p.name == "Authelia" || i.metadataErr.Status == "" && p.is(i.metadata) {
			return p
		}
	}
	return provider{}
}

// at returns a function that tells whether a document names these endpoints, in the order of its parameter list; later ones may
// be left out. ISSUER stands for the issuer's name without a slash at its end, ORIGIN for its origin, and a leading * for
// anything. An empty text fits every endpoint.
func at(authorization, token, keys string, userinfoAndDevice ...string) func(metadata) bool {
	return func(d metadata) bool {
		fill := strings.NewReplacer("ISSUER", strings.TrimSuffix(string(d.Issuer), "/"), "ORIGIN", originOf(string(d.Issuer)))
		endpoints := []address{d.AuthorizationEndpoint, d.TokenEndpoint, d.JWKSURI, d.UserinfoEndpoint, d.device()}
		for n, sign := range append([]string{authorization, token, keys}, userinfoAndDevice...) {
			ending, anywhere := strings.CutPrefix(sign, "*")
			switch endpoint := string(endpoints[n]); {
			case sign == "" || anywhere && strings.HasSuffix(endpoint, ending) || endpoint == fill.Replace(sign):
			default:
				return false
			}
		}
		return true
	}
}

var tsidpEndpoint = check.Pattern(`/authorize(/(funnel|localhost|[0-9]+))?$`)

// providers are the known ones. Each needs several signs, since paths such as /auth and /keys are nobody's own.
var providers = []provider{
	{
		name: "Authelia", form: "https://HOST, without a slash at the end",
		is:      at("ISSUER/api/oidc/authorization", "ISSUER/api/oidc/token", "ISSUER/jwks.json"),
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
		looks: check.Pattern(`/application/o\b`), marker: "authentik",
		is:      at("*/application/o/authorize/", "*/application/o/token/", "*/jwks/"),
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
		looks: check.Pattern(`/realms\b`), marker: "unable to find matching target resource method",
		is:      at("*/protocol/openid-connect/auth", "*/protocol/openid-connect/token", "*/protocol/openid-connect/certs"),
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
		is:      at("ISSUER/oauth/v2/authorize", "ISSUER/oauth/v2/token", "ISSUER/oauth/v2/keys"),
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
		looks: check.Pattern(`/oauth2/openid\b`), marker: "kanidm",
		is:      at("ORIGIN/ui/oauth2", "ORIGIN/oauth2/token", "ISSUER/public_key.jwk"),
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
		looks:   check.Pattern(`^https://login\.microsoftonline\.`),
		is:      at("*/oauth2/v2.0/authorize", "*/oauth2/v2.0/token", "*/discovery/v2.0/keys"),
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
		looks:   check.Pattern(`^https://([a-z]+\.)?google(apis)?\.com\b`),
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
		looks:   check.Pattern(`/adfs\b`),
		is:      at("ISSUER/oauth2/authorize/", "ISSUER/oauth2/token/", "ISSUER/discovery/keys"),
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
		is:      at("ISSUER/authorize", "ISSUER/api/oidc/token", "", "ISSUER/api/oidc/userinfo"),
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
		is:      at("ISSUER/auth", "ISSUER/token", "ISSUER/keys", "", "ISSUER/device/code"),
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
			endpoint := string(d.AuthorizationEndpoint)
			return tsidpEndpoint().MatchString(endpoint) && at("", "ISSUER/token", "ISSUER/.well-known/jwks.json")(d) &&
				(strings.HasSuffix(originOf(string(d.Issuer)), ".ts.net") || !strings.HasSuffix(endpoint, "/authorize"))
		},
		varies:  tsidpEndpoint,
		subject: "a number", tokenOfAll: true,
		advice: map[Topic]string{
			OnKey:      "the secret that tsidp showed when the client was added",
			OnRedirect: "Redirect URIs of the client in tsidp's own pages",
		},
	},
}
