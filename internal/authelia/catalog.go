package authelia

import (
	"slices"

	"proxmox-realm/internal/check"
)

// The checks of Authelia's configuration, in the order in which they are shown.
const (
	CheckFile           check.ID = "authelia.file"
	CheckClient         check.ID = "authelia.client"
	CheckNames          check.ID = "authelia.names"
	CheckPublic         check.ID = "authelia.public"
	CheckSecret         check.ID = "authelia.secret"
	CheckDigest         check.ID = "authelia.digest"
	CheckRedirect       check.ID = "authelia.redirect"
	CheckScopes         check.ID = "authelia.scopes"
	CheckFlow           check.ID = "authelia.flow"
	CheckPKCE           check.ID = "authelia.pkce"
	CheckAuthentication check.ID = "authelia.authentication"
	CheckUserinfo       check.ID = "authelia.userinfo"
	CheckIDToken        check.ID = "authelia.id_token"
	CheckClaims         check.ID = "authelia.claims"
	CheckPolicy         check.ID = "authelia.policy"
	CheckConsent        check.ID = "authelia.consent"
)

var catalog = []check.Entry{
	{ID: CheckFile, Holds: "the file can be read as Authelia reads it; what templates fill in is passed over"},
	{ID: CheckClient, Holds: "exactly one client has the realm's client id, and the id is one that Authelia takes"},
	{ID: CheckNames, Holds: "every key of the client is known to this version of Authelia, and none has a name that is deprecated"},
	{ID: CheckPublic, Holds: "the client is not public, as Proxmox authenticates with a key"},
	{ID: CheckSecret, Holds: "the client's secret is of the realm's client key"},
	{ID: CheckDigest, Holds: "the client's secret is a digest, not the key in clear"},
	{ID: CheckRedirect, Holds: "each redirect URI is registered byte for byte"},
	{ID: CheckScopes, Holds: "the client may ask for each scope of the realm"},
	{ID: CheckFlow, Holds: "the client may use the code flow, with no pushed authorization request"},
	{ID: CheckPKCE, Holds: "no other PKCE method than S256 is demanded; requiring PKCE is fine"},
	{ID: CheckAuthentication, Holds: "the client authenticates by client_secret_basic"},
	{ID: CheckUserinfo, Holds: "userinfo is neither signed nor encrypted, which Proxmox could not read"},
	{ID: CheckIDToken, Holds: "the ID token is signed with an algorithm that Proxmox verifies, and not encrypted"},
	{ID: CheckClaims, Holds: "with query_userinfo off, a claims policy puts the realm's claims into the ID token (Authelia 4.39 and later)"},
	{ID: CheckPolicy, Holds: "the client's authorization policy exists"},
	{ID: CheckConsent, Holds: "the consent mode exists and fits the realm's prompt"},
}

// Catalog returns every check of Authelia's configuration, in the order in which they are shown.
func Catalog() []check.Entry { return slices.Clone(catalog) }
