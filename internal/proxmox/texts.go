package proxmox

import "strings"

// phrase is one row of a table that maps Proxmox's texts to kinds. Proxmox sends nothing but text.
type phrase struct {
	path string // prefix of the request's path; {realms} is the collection of realms
	text string // parts of the text, in this order, separated by %
	kind Kind
}

// libraryPhrases are the texts of the Rust crates openidconnect and proxmox-openid, which all products share.
var libraryPhrases = []phrase{
	{authURLPath, "unexpected issuer URI", IssuerMismatch},
	{authURLPath, "Failed to parse server response", IssuerDocument},
	{authURLPath, "Server returned invalid response", IssuerDocument},
	{authURLPath, "Validation error", IssuerDocument},
	{authURLPath, "relative URL without a base", IssuerURL},
	{authURLPath, "Failed to parse URL", IssuerURL},
	{authURLPath, "Request failed", IssuerUnreachable},
	{"/access/openid/", "too many pending openid auth request", TooManyPending},
	{"", "detected modified configuration", StaleDigest},
}

// perlPhrases are tried in order. The texts are those of libpve-access-control, pve-cluster and libpve-common of Proxmox VE 7 to 9.
var perlPhrases = append(libraryPhrases[:len(libraryPhrases):len(libraryPhrases)], []phrase{
	{"/access/openid/", "wrong realm type", WrongType},
	{"/access/openid/", "authentication failure", LoginRefused},
	{"/access/openid/", "domain '%' does not exist", NoRealm},

	{"", "got lock request timeout", LockTimeout},
	{"", "got lock timeout", LockTimeout},
	{"", "- got timeout", LockTimeout}, // the file locks of PVE::Tools
	{"", "no quorum", NoQuorum},
	{"", "unable to open file '/etc/pve/%Permission denied", NoQuorum}, // pmxcfs is read-only without quorum
	{"{realms}", "' already exists", Exists},
	{"{realms}/", "cannot lookup undefined type", Absent},
	{"{realms}", "domain '%' does not exist", Absent},
	{"{realms}", "unexpected property '", UnknownProperty}, // PVE::SectionConfig, after the schema of the API
	{"{realms}", "missing value for required option", Invalid},
	{"{realms}", "got undefined value for option", Invalid},
	{"{realms}", "type check ('", Invalid},

	{groupsPath, "group '%' already exists", Exists},
	{groupsPath, "group '%' does not exist", Absent},
	{aclPath, "group '%' does not exist", Absent},
	{aclPath, "user '%' does not exist", Absent},
	{aclPath, "no such token '", Absent},
	{aclPath, "role '%' does not exist", UnknownRole},
	{rolesPath, "role '%' already exists", Exists},
	{rolesPath, "role '%' does not exist", Absent},
	{usersPath, "user '%' already exists", Exists},
	{usersPath, "no such user ('", Absent},
	{usersPath, "no such token '", Absent},
	{usersPath, "Token already exists", Exists},
}...)

// rustPhrases are tried in order. The texts are those of Backup Server 4.2.3: proxmox-access-control, proxmox-section-config,
// proxmox-rest-server.
var rustPhrases = append(libraryPhrases[:len(libraryPhrases):len(libraryPhrases)], []phrase{
	{authURLPath, "no such openid '", NoRealm},
	{authURLPath, "got unexpected type '%' for openid", WrongType},
	{loginPath, "client error (SendRequest)", LoginRefused}, // the handler ended: the issuer sent no ID token

	{"{realms}/", "no such openid '", Absent},
	{"{realms}/", "realm '%' does not exist", Absent}, // DELETE
	{"{realms}/", "got unexpected type '%' for openid", WrongType},
	{"{realms}", "'realm': realm '%' already exists", Exists},
	{usersPath, "user '%' already exists", Exists},
	{usersPath, "no such user '", Absent},
	{usersPath, "no such token '", Absent},

	{"", "Unable to acquire lock", LockTimeout},
	{"", "client error (Connect)", Unavailable}, // the privileged daemon does not run
	{"", "client error (SendRequest)", NoAnswer},
	{"", "Path '%' not found", NotProxmox},
}...)

// contains tells whether the text contains the pattern's parts, which % separates, in their order.
func contains(text, pattern string) bool {
	for part := range strings.SplitSeq(pattern, "%") {
		_, after, found := strings.Cut(text, part)
		if !found {
			return false
		}
		text = after
	}
	return true
}
