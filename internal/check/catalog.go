package check

import "slices"

// Entry describes one check for `help checks`, for the README and for the validation of `verify.ignore`.
type Entry struct {
	ID    ID
	Holds string // completes "holds when …"
}

var catalog = []Entry{
	{IssuerURL, "the issuer URL has no query or fragment, and is not that of the discovery document; warns if it is http"},
	{IssuerReach, "this machine can resolve the issuer's name and connect by TCP and TLS"},
	{IssuerCertificate, "the issuer's certificate is valid; warns if this machine does not know its authority, and if less than a third of its lifetime, at most 14 days, is left"},
	{IssuerDiscovery, "the issuer serves its discovery document with status 200, as JSON of at most 1 MiB, and Proxmox can read it"},
	{IssuerIdentity, "the issuer's own name matches the issuer URL exactly"},
	{IssuerEndpoints, "the issuer has the authorization, token, key set and, unless query_userinfo is off, userinfo endpoints; warns if one is http"},
	{IssuerKeys, "the key set has a key with which this Proxmox version can verify ID tokens; warns if ID tokens will be encrypted, or refused by the issuer itself"},
	{IssuerCapabilities, "nothing advertised excludes the code flow, client_secret_basic or S256, unless the client was accepted with them; warns about the prompt"},
	{IssuerScopes, "the issuer advertises the requested scopes, or accepts them from the client; warns if a claim needs an advertised scope that is not requested"},
	{IssuerClaims, "the issuer advertises the username and groups claims, if it advertises any about users; warns if users get unsuitable names, or if the ID token alone may lack the claims"},
	{IssuerAudience, "the ID token names nobody whom Proxmox does not accept; warns about Zitadel without realm.audiences"},
	{IssuerClock, "the clocks of the issuer and of Proxmox agree"},
	{ClientCredentials, "the issuer accepts the client id and the client key by client_secret_basic, and refuses a made-up key"},
	{ClientRedirect, "the issuer accepts the very login request that Proxmox will send, for each redirect URL, and not one with a made-up redirect URL"},
	{ProxmoxPermissions, "the token or user has the privileges that the plan needs"},
	{ProxmoxRealm, "the realm exists and is as configured"},
	{ProxmoxDiscovery, "Proxmox itself discovers the issuer and forms the expected authorization URL"},
	{ProxmoxAccess, "the declared groups and their grants exist; without declared access, warns if nobody of the realm has a role"},
	{ProxmoxUsers, "the realm has users if autocreate is off, and their names fit 64 characters"},
}

// Catalog returns every check of realm, issuer and client, in the order in which they are shown.
func Catalog() []Entry { return slices.Clone(catalog) }
