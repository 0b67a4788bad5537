package check

import "slices"

// Entry describes one check for `help checks`, for the README and for the validation of `verify.ignore`.
type Entry struct {
	ID    ID
	Holds string // completes "holds when …"
}

var catalog = []Entry{
	{IssuerURL, "the issuer URL is https, has no query or fragment, and nothing pasted from the well-known path"},
	{IssuerReach, "the issuer's name resolves and TCP and TLS connect"},
	{IssuerCertificate, "the issuer's certificate chain and name are valid; warns when less than a third of its lifetime, at most 14 days, is left"},
	{IssuerDiscovery, "the discovery document answers 200, is JSON by type and content, is at most 1 MiB, and has the members that Proxmox's library requires"},
	{IssuerIdentity, "the document's issuer equals issuer_url byte for byte"},
	{IssuerEndpoints, "the authorization, token, key set and (unless query_userinfo is off) userinfo endpoints are there, all https"},
	{IssuerKeys, "the key set has a signing key that this Proxmox generation can verify"},
	{IssuerCapabilities, "nothing advertised excludes the code flow, client_secret_basic or S256"},
	{IssuerScopes, "the advertised scopes include those requested; warns where a claim needs an advertised scope that is not requested"},
	{IssuerClaims, "the advertised claims include the username and groups claims; warns where userinfo is off and the ID token may lack them"},
	{IssuerClock, "the clocks of issuer and Proxmox agree"},
	{ClientCredentials, "the issuer accepts client id and key by client_secret_basic"},
	{ClientRedirect, "the issuer accepts each redirect URL and the scopes for this client"},
	{ProxmoxPermissions, "the credentials may do what the plan needs"},
	{ProxmoxRealm, "the realm is there and as desired"},
	{ProxmoxDiscovery, "Proxmox itself discovers the issuer, and its authorization URL carries client id, scopes, redirect URL, S256 and nonce as expected"},
	{ProxmoxAccess, "the declared groups and their grants exist; without declared access, warns if nobody of the realm has a role"},
	{ProxmoxUsers, "with autocreate off the realm has users, and their names fit 64 characters; warns where no user or group of the realm has a role"},
}

// Catalog returns every check of realm, issuer and client, in the order in which they are shown.
func Catalog() []Entry { return slices.Clone(catalog) }
