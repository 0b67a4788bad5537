package config

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/agext/levenshtein"

	"proxmox-realm/internal/realm"
)

// Kind says how a key is written.
type Kind string

// The kinds.
const (
	String   Kind = "string"
	Path     Kind = "path"     // of a file or folder; $VARS are expanded; in a file relative to the file's own folder
	Bool     Kind = "bool"     // true or false
	Int      Kind = "int"      // a whole number
	Duration Kind = "duration" // with a unit, such as 45s or 1h30m
	Percent  Kind = "percent"  // 0% to 100%
	Enum     Kind = "enum"     // one of Key.Choices
	List     Kind = "list"     // of words; in variables and flags separated by commas or spaces
	Grants   Kind = "grants"   // groups with their grants; only in files
	Command  Kind = "command"  // a program and its arguments, run without a shell; only in files
)

// forms complete "must be …".
var forms = map[Kind]string{
	String:   "a string",
	Path:     "the path of a file",
	Bool:     "true or false, without quotation marks (yes, no, on and off are strings in YAML)",
	Int:      "a whole number from 1 to 1000",
	Duration: "a duration with its unit, such as 45s or 1h30m",
	Percent:  "a percentage from 0% to 100%",
	List:     "a list of strings, such as [a, b]",
	Command:  "a list of a program and its arguments, such as [pass, show, name]",
	Grants:   "groups, each with a list of grants, such as admins: [{path: /, role: PVEAdmin}]",
}

func mustBe(k Kind) error { return fmt.Errorf("must be %s", forms[k]) }

// Key is one row of the list of keys.
type Key struct {
	Path    string // such as realm.issuer_url
	Kind    Kind
	Choices []string // of an Enum
	Default string   // as it would be written in a file; "" if there is none
	Doc     string   // what it means, in one or two sentences
	Secret  bool     // its value is never shown
	Flag    string   // without dashes; "" if there is none
	Env     string   // "" for commands and grants, which only a file may hold
	Target  bool     // a target may overlay it
	Since   string   // first Proxmox VE version that knows the property; "" for keys that are not properties

	group group
	empty bool // an empty text or list is a value
}

// group names keys that a layer replaces together.
type group string

const (
	endpoints   group = "endpoints"
	credentials group = "credentials"
	trust       group = "trust"
	clientKey   group = "client key"
)

// Keys returns the list of keys, in the order in which they are shown.
func Keys() []Key { return slices.Clone(table()) }

// rows are the keys as [table] completes them. The property table gives kind and version of a realm's properties.
var rows = []Key{
	{Path: "proxmox.endpoint", Kind: String, group: endpoints, Doc: "A single node; same as endpoints with one entry."},
	{Path: "proxmox.endpoints", Kind: List, group: endpoints, Flag: "endpoint", Doc: "Nodes of one cluster, tried in order, always by https. The default port is 8006."},
	{Path: "proxmox.token", Kind: String, group: credentials, Secret: true, Doc: "The API token: user@realm!id=secret."},
	{Path: "proxmox.token_file", Kind: Path, group: credentials, Flag: "token-file", Doc: "A file with the API token."},
	{Path: "proxmox.token_command", Kind: Command, group: credentials, Doc: "A command that prints the API token."},
	{Path: "proxmox.username", Kind: String, group: credentials, Flag: "username", Doc: "A user for a login instead of a token, such as root@pam. A terminal is asked for a missing password."},
	{Path: "proxmox.password", Kind: String, group: credentials, Secret: true, Doc: "The password of username."},
	{Path: "proxmox.password_file", Kind: Path, group: credentials, Doc: "A file with the password."},
	{Path: "proxmox.password_command", Kind: Command, group: credentials, Doc: "A command that prints the password."},
	{Path: "proxmox.otp", Kind: String, group: credentials, Secret: true, Doc: "The time-based one-time password of username."},
	{Path: "proxmox.ca_file", Kind: Path, group: trust, Flag: "ca-file", Doc: "Certificate authorities (PEM) of Proxmox. They replace the system's."},
	{Path: "proxmox.fingerprints", Kind: List, group: trust, Flag: "fingerprint", Doc: "SHA-256 fingerprints of the nodes' certificates, as `pvenode cert info` prints them. They replace all authorities."},
	{Path: "proxmox.insecure", Kind: Bool, group: trust, Default: "false", Flag: "insecure", Doc: "Disables TLS verification of Proxmox; an attacker on the network can steal the token. Every run warns."},
	{Path: "proxmox.timeout", Kind: Duration, Default: "45s", Doc: "The time limit of one request. Proxmox itself stops after 30s."},

	{Path: "realm.name", Kind: String, Default: "authelia", Flag: "realm", Doc: "The name of the realm in Proxmox."},
	{Path: "realm.acr_values", Doc: "The authentication context classes to request, the preferred one first."},
	{Path: "realm.audiences", Doc: "Audiences that Proxmox accepts in an ID token besides the client id."},
	{Path: "realm.autocreate", Flag: "autocreate", Doc: "Whether Proxmox creates a user at the first login."},
	{Path: "realm.client_id", Flag: "client-id", Doc: "The client id at the issuer. Required."},
	{Path: "realm.client_key", group: clientKey, Secret: true, Doc: "The client key (client secret)."},
	{Path: "realm.client_key_file", Kind: Path, group: clientKey, Flag: "client-key-file", Doc: "A file with the client key."},
	{Path: "realm.client_key_command", Kind: Command, group: clientKey, Doc: "A command that prints the client key."},
	{Path: "realm.comment", Doc: "The text that the login page shows for the realm."},
	{Path: "realm.default", Doc: "Whether the login page preselects the realm. Only one realm can be the default."},
	{Path: "realm.groups_autocreate", Doc: "Whether Proxmox creates the groups in the groups claim."},
	{Path: "realm.groups_claim", Doc: "The claim with the user's groups."},
	{Path: "realm.groups_overwrite", Doc: "Whether each login replaces the user's groups."},
	{Path: "realm.issuer_url", Flag: "issuer-url", Doc: "The issuer's URL, exactly as in its discovery document. Required."},
	{Path: "realm.prompt", Doc: "The prompt parameter: none, login, consent, select_account, or an extension of the issuer."},
	{Path: "realm.query_userinfo", Doc: "Whether Proxmox also reads claims from the userinfo endpoint. Authelia 4.39 and later need it."},
	{Path: "realm.scopes", Flag: "scopes", Doc: "The scopes to request; openid is implied. A realm created without them gets openid, profile and email."},
	{Path: "realm.username_claim", Flag: "username-claim", Doc: "The claim that names users; fixed once the realm exists. A realm created without it gets preferred_username."},
	{Path: "realm.unset", Kind: List, empty: true, Default: "[]", Doc: "Properties to remove from the realm. A property that is only missing here stays as it is."},

	{Path: "verify.redirect_urls", Kind: List, Flag: "redirect-url", Doc: "The addresses that browsers open: scheme, host and port, without a slash. The default is the origin of each endpoint; client.redirect then warns instead of failing."},
	{Path: "verify.issuer_ca_file", Kind: Path, Flag: "issuer-ca-file", Doc: "Certificate authorities (PEM) of the issuer. They replace the system's."},
	{Path: "verify.issuer", Kind: Bool, Default: "true", Doc: "Set it to false if this machine cannot reach the issuer. Then only Proxmox checks the issuer, and no gate runs."},
	{Path: "verify.proxmox", Kind: Bool, Default: "true", Doc: "Set it to false to never let Proxmox discover the issuer."},
	{Path: "verify.client", Kind: Bool, Default: "true", Doc: "Set it to false to never ask the issuer about the client."},
	{Path: "verify.ignore", Kind: List, empty: true, Default: "[]", Doc: "Ids of checks that never fail or warn; `proxmox-realm help checks` lists them."},
	{Path: "verify.max_clock_skew", Kind: Duration, Default: "5m", Doc: "The greatest difference between the clocks of issuer and Proxmox."},

	{Path: "policy.gate", Kind: Bool, Default: "true", Doc: "Do not change an existing realm while issuer or client checks fail."},

	{Path: "access", Kind: Grants, Doc: "What the issuer's groups may do in Proxmox: for each group, as the issuer calls it, a list of path, role and propagate. These groups get exactly these grants; [] means none. Other groups are not touched."},

	{Path: "lock_file", Kind: Path, empty: true, Doc: `The file that keeps overlapping runs apart. The default is one for each configuration, in the runtime directory; "" means no lock.`},
	{Path: "state_dir", Kind: Path, Doc: "The directory of recovery files, copies of deleted realms, the last outcome, and answers to costly questions. The default is $STATE_DIRECTORY, else /var/lib/proxmox-realm for root, else $XDG_STATE_HOME/proxmox-realm."},
	{Path: "targets_from", Kind: Path, Doc: "A folder with one target in each file that ends with .yaml or .yml. The file's name is the target's name; relative paths in it begin in the folder. Beside or in place of targets."},
	{Path: "concurrency", Kind: Int, Default: "32", Doc: "The number of targets at once."},
	{Path: "agent.interval", Kind: Duration, Default: "15m", Doc: "The time between two runs of the agent."},
	{Path: "agent.jitter", Kind: Percent, Default: "10%", Doc: "The share of the interval by which the agent varies it."},
	{Path: "agent.listen", Kind: String, Default: "127.0.0.1:9746", Doc: "The host:port where the agent serves metrics, health and its status page."},
	{Path: "notify.command", Kind: Command, Doc: "A command that gets the JSON report on its standard input: after each write, and when the outcome changes. A quiet apply and the agent run it."},
}

// definitions are the rows of the property table, copied once for all targets.
var definitions = sync.OnceValue(realm.Definitions)

// table returns the complete list of keys.
var table = sync.OnceValue(func() []Key {
	kinds := map[realm.Kind]Kind{
		realm.KindBool: Bool, realm.KindSet: List, realm.KindList: List, realm.KindText: String, realm.KindKey: String,
	}
	keys := slices.Clone(rows)
	for i := range keys {
		k := &keys[i]
		section, name, nested := strings.Cut(k.Path, ".")
		if d, ok := realm.ByKey(name); ok && section == "realm" {
			k.Kind, k.Since = kinds[d.Kind], realm.VE.Since(d.Property).String()
		}
		k.Target = nested && section != "agent" && section != "notify" || k.Kind == Grants
		if k.Kind != Command && k.Kind != Grants {
			k.Env = EnvPrefix + strings.ToUpper(strings.ReplaceAll(k.Path, ".", "_"))
		}
	}
	return keys
})

// EnvPrefix begins the names of this program's variables.
const EnvPrefix = "PROXMOX_REALM_"

// Variables with the prefix that are not keys.
const (
	envConfig = EnvPrefix + "CONFIG" // the configuration file
	envBinary = EnvPrefix + "BINARY" // the Ansible module reads it
	envShards = EnvPrefix + "SHARDS" // the number of shards
)

// index finds rows by path and by variable, and knows the sections.
var index = sync.OnceValue(func() (x struct {
	path, env map[string]*Key
	section   map[string]bool
},
) {
	x.path, x.env, x.section = map[string]*Key{}, map[string]*Key{}, map[string]bool{}
	for i := range table() {
		k := &table()[i]
		x.path[k.Path], x.env[k.Env] = k, k
		if section, _, nested := strings.Cut(k.Path, "."); nested {
			x.section[section] = true
		}
	}
	delete(x.env, "")
	return x
})

// nearest returns the candidate that is most like what was written, or "" if none is. A missing or wrong section, and the
// missing end of a name, count as one wrong character. Case and the kind of separator do not count.
func nearest(written string, candidates []string) string {
	fold := func(name string) string {
		return strings.NewReplacer("-", "_", ".", "_").Replace(strings.ToLower(name))
	}
	last := func(name string) string { return fold(name[strings.LastIndex(name, ".")+1:]) }
	best, bestDistance := "", max(2, len(written)/4)+1
	for _, c := range candidates {
		d := min(levenshtein.Distance(fold(written), fold(c), nil), 1+levenshtein.Distance(last(written), last(c), nil))
		if strings.HasPrefix(c, written+"_") {
			d = min(d, 1)
		}
		if d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// didYouMean ends the message about an unknown name.
func didYouMean(near string) string {
	if near == "" {
		return ""
	}
	return "; did you mean " + near + "?"
}
