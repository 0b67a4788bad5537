package config

import (
	"fmt"
	"slices"
	"strings"
	"sync"

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
}

// Keys returns the list of keys, in the order in which they are shown.
func Keys() []Key {
	keys := table()
	out := make([]Key, len(keys))
	for i, k := range keys {
		out[i] = k.Key
		out[i].Choices = slices.Clone(k.Choices)
	}
	return out
}

// group names keys that a layer replaces together.
type group string

const (
	endpoints   group = "endpoints"
	credentials group = "credentials"
	trust       group = "trust"
	clientKey   group = "client key"
)

// key is a row with what only this package needs.
type key struct {
	Key
	group group
	empty bool // an empty text or list is a value
	low   int  // least value of an Int
	high  int  // greatest value of an Int
}

// fixed are the keys that are not properties of a realm. The properties follow realm.name, in the order of the property
// table.
var fixed = []key{
	{group: endpoints, Key: Key{Path: "proxmox.endpoint", Kind: String, Doc: "A single node; same as endpoints with one entry."}},
	{group: endpoints, Key: Key{Path: "proxmox.endpoints", Kind: List, Flag: "endpoint", Doc: "Nodes of one cluster, tried in order, always by https. The default port is 8006."}},
	{group: credentials, Key: Key{Path: "proxmox.token", Kind: String, Secret: true, Doc: "The API token: user@realm!id=secret."}},
	{group: credentials, Key: Key{Path: "proxmox.token_file", Kind: Path, Flag: "token-file", Doc: "A file with the API token."}},
	{group: credentials, Key: Key{Path: "proxmox.token_command", Kind: Command, Doc: "A command that prints the API token."}},
	{group: credentials, Key: Key{Path: "proxmox.username", Kind: String, Flag: "username", Doc: "A user for a login instead of a token, such as root@pam. A terminal is asked for a missing password."}},
	{group: credentials, Key: Key{Path: "proxmox.password", Kind: String, Secret: true, Doc: "The password of username."}},
	{group: credentials, Key: Key{Path: "proxmox.password_file", Kind: Path, Doc: "A file with the password."}},
	{group: credentials, Key: Key{Path: "proxmox.password_command", Kind: Command, Doc: "A command that prints the password."}},
	{group: credentials, Key: Key{Path: "proxmox.otp", Kind: String, Secret: true, Doc: "The time-based one-time password of username."}},
	{group: trust, Key: Key{Path: "proxmox.ca_file", Kind: Path, Flag: "ca-file", Doc: "Certificate authorities (PEM) of Proxmox. They replace the system's."}},
	{group: trust, Key: Key{Path: "proxmox.fingerprints", Kind: List, Flag: "fingerprint", Doc: "SHA-256 fingerprints of the nodes' certificates, as `pvenode cert info` prints them. They replace all authorities."}},
	{group: trust, Key: Key{Path: "proxmox.insecure", Kind: Bool, Default: "false", Flag: "insecure", Doc: "Disables TLS verification of Proxmox; an attacker on the network can steal the token. Every run warns."}},
	{Key: Key{Path: "proxmox.timeout", Kind: Duration, Default: "45s", Doc: "The time limit of one request. Proxmox itself stops after 30s."}},

	{Key: Key{Path: "realm.name", Kind: String, Default: "authelia", Flag: "realm", Doc: "The name of the realm in Proxmox."}},
	{empty: true, Key: Key{Path: "realm.unset", Kind: List, Default: "[]", Doc: "Properties to remove from the realm. A property that is only missing here stays as it is."}},

	{Key: Key{Path: "verify.redirect_urls", Kind: List, Flag: "redirect-url", Doc: "The addresses that browsers open: scheme, host and port, without a slash. The default is the origin of each endpoint; client.redirect then warns instead of failing."}},
	{Key: Key{Path: "verify.issuer_ca_file", Kind: Path, Flag: "issuer-ca-file", Doc: "Certificate authorities (PEM) of the issuer. They replace the system's."}},
	{Key: Key{Path: "verify.issuer", Kind: Bool, Default: "true", Doc: "Set it to false if this machine cannot reach the issuer. Then only Proxmox checks the issuer, and no gate runs."}},
	{Key: Key{Path: "verify.proxmox", Kind: Enum, Choices: modes, Default: "auto", Doc: "When to let Proxmox discover the issuer. auto: after a write and in verify; the agent also hourly."}},
	{Key: Key{Path: "verify.client", Kind: Enum, Choices: modes, Default: "auto", Doc: "When to ask the issuer about the client. auto: after a write, in the gate and in verify; the agent also daily."}},
	{empty: true, Key: Key{Path: "verify.ignore", Kind: List, Default: "[]", Doc: "Ids of checks that never fail or warn; `proxmox-realm help checks` lists them."}},
	{Key: Key{Path: "verify.max_clock_skew", Kind: Duration, Default: "5m", Doc: "The greatest difference between the clocks of issuer and Proxmox."}},

	{Key: Key{Path: "policy.gate", Kind: Bool, Default: "true", Doc: "Do not change an existing realm while issuer or client checks fail."}},

	{Key: Key{Path: "access", Kind: Grants, Doc: "What the issuer's groups may do in Proxmox: for each group, as the issuer calls it, a list of path, role and propagate. These groups get exactly these grants; [] means none. Other groups are not touched."}},

	{empty: true, Key: Key{Path: "lock_file", Kind: Path, Doc: `The file that keeps overlapping runs apart. The default is one for each configuration, in the runtime directory; "" means no lock.`}},
	{Key: Key{Path: "state_dir", Kind: Path, Doc: "The directory of recovery files and of the last outcome. The default is $STATE_DIRECTORY, else /var/lib/proxmox-realm for root, else $XDG_STATE_HOME/proxmox-realm."}},
	{Key: Key{Path: "targets_from", Kind: Path, Doc: "A folder with one target in each file that ends with .yaml or .yml. The file's name is the target's name; relative paths in it begin in the folder. Beside or in place of targets."}},
	{low: 1, high: 1000, Key: Key{Path: "concurrency", Kind: Int, Default: "8", Doc: "The number of targets at once."}},
	{Key: Key{Path: "agent.interval", Kind: Duration, Default: "15m", Doc: "The time between two runs of the agent."}},
	{Key: Key{Path: "agent.jitter", Kind: Percent, Default: "10%", Doc: "The share of the interval by which the agent varies it."}},
	{Key: Key{Path: "agent.listen", Kind: String, Default: "127.0.0.1:9746", Doc: "The host:port where the agent serves metrics, health and its status page."}},
	{Key: Key{Path: "notify.command", Kind: Command, Doc: "A command that gets the JSON report on its standard input when the outcome changes."}},
}

var modes = []string{string(Auto), string(Always), string(Never)}

// property is what this package adds to a row of the property table.
var property = map[realm.Property]struct{ flag, doc string }{
	realm.ACRValues:        {"", "The authentication context classes to request, the preferred one first."},
	realm.Audiences:        {"", "Audiences that Proxmox accepts in an ID token besides the client id."},
	realm.Autocreate:       {"autocreate", "Whether Proxmox creates a user at the first login."},
	realm.ClientID:         {"client-id", "The client id at the issuer. Required."},
	realm.ClientKey:        {"", "The client key (client secret)."},
	realm.Comment:          {"", "The text that the login page shows for the realm."},
	realm.Default:          {"", "Whether the login page preselects the realm. Only one realm can be the default."},
	realm.GroupsAutocreate: {"", "Whether Proxmox creates the groups in the groups claim."},
	realm.GroupsClaim:      {"", "The claim with the user's groups."},
	realm.GroupsOverwrite:  {"", "Whether each login replaces the user's groups."},
	realm.IssuerURL:        {"issuer-url", "The issuer's URL, exactly as in its discovery document. Required."},
	realm.Prompt:           {"", "The prompt parameter: none, login, consent, select_account, or an extension of the issuer."},
	realm.QueryUserinfo:    {"", "Whether Proxmox also reads claims from the userinfo endpoint. Authelia 4.39 and later need it."},
	realm.Scopes:           {"scopes", "The scopes to request; openid is implied. A realm created without them gets openid, profile and email."},
	realm.UsernameClaim:    {"username-claim", "The claim that names users; fixed once the realm exists. A realm created without it gets preferred_username."},
}

// table returns every row: fixed ones and properties.
var table = sync.OnceValue(func() []key {
	var keys []key
	for _, k := range fixed {
		keys = append(keys, k)
		if k.Path == "realm.name" {
			keys = append(keys, properties()...)
		}
	}
	for i, k := range keys {
		section, _, nested := strings.Cut(k.Path, ".")
		keys[i].Target = nested && section != "agent" && section != "notify" || k.Kind == Grants
		if k.Kind != Command && k.Kind != Grants {
			keys[i].Env = variableOf(k.Path)
		}
	}
	return keys
})

func properties() []key {
	kinds := map[realm.Kind]Kind{realm.KindBool: Bool, realm.KindSet: List, realm.KindList: List, realm.KindText: String, realm.KindKey: String}
	var keys []key
	for _, d := range realm.Definitions() {
		k := key{Key: Key{
			Path: "realm." + d.Key, Kind: kinds[d.Kind], Since: d.Since.String(),
			Flag: property[d.Property].flag, Doc: property[d.Property].doc,
		}}
		if d.Kind != realm.KindKey {
			keys = append(keys, k)
			continue
		}
		k.Secret, k.group = true, clientKey
		keys = append(keys, k,
			key{group: clientKey, Key: Key{Path: k.Path + "_file", Kind: Path, Flag: "client-key-file", Doc: "A file with the client key."}},
			key{group: clientKey, Key: Key{Path: k.Path + "_command", Kind: Command, Doc: "A command that prints the client key."}})
	}
	return keys
}

// form completes "must be …".
func (k *key) form() string {
	switch k.Kind {
	case Bool:
		return "true or false, without quotation marks"
	case Int:
		return fmt.Sprintf("a whole number from %d to %d", k.low, k.high)
	case Duration:
		return "a duration with its unit, such as 45s or 1h30m"
	case Percent:
		return "a percentage, such as 10%"
	case Enum:
		return "one of " + strings.Join(k.Choices, ", ")
	case List:
		return "a list of texts, such as [a, b]"
	case Command:
		return "a list of a program and its arguments, such as [pass, show, name]"
	case Path:
		return "the path of a file"
	case Grants:
		return "groups with their grants"
	case String:
	}
	return "a text"
}

// EnvPrefix begins the names of this program's variables.
const EnvPrefix = "PROXMOX_REALM_"

// Variables with the prefix that are not keys.
const (
	envConfig = EnvPrefix + "CONFIG" // the configuration file
	envBinary = EnvPrefix + "BINARY" // the Ansible module reads it
	envShards = EnvPrefix + "SHARDS" // the number of shards
)

func variableOf(path string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

// index finds rows by path and by variable, and knows the sections.
var index = sync.OnceValue(func() (x struct {
	path, env map[string]*key
	section   map[string]bool
},
) {
	x.path, x.env, x.section = map[string]*key{}, map[string]*key{}, map[string]bool{}
	keys := table()
	for i := range keys {
		k := &keys[i]
		x.path[k.Path] = k
		if k.Env != "" {
			x.env[k.Env] = k
		}
		if section, _, nested := strings.Cut(k.Path, "."); nested {
			x.section[section] = true
		}
	}
	return x
})

// nearest returns the candidate that is most like what was written, or "" if none is. What was written may lack the
// section of a key, or name a wrong one.
func nearest(written string, candidates []string) string {
	const wrongSection = 2
	best, bestDistance := "", max(2, len(written)/4)+1
	for _, c := range candidates {
		d := distance(written, c)
		if _, name, nested := strings.Cut(c, "."); nested {
			d = min(d, wrongSection+distance(written[strings.LastIndex(written, ".")+1:], name))
		}
		if strings.HasPrefix(c, written+"_") { // half of a key's name
			d = 1
		}
		if d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// suggestion names what may be meant, if anything is near.
func suggestion(near string) string {
	if near == "" {
		return ""
	}
	return "; did you mean " + near + "?"
}

var separators = strings.NewReplacer("-", "_", ".", "_")

// distance is the Levenshtein distance of two spellings of a key. Case and the kind of separator do not count.
func distance(a, b string) int {
	a, b = strings.ToLower(separators.Replace(a)), strings.ToLower(separators.Replace(b))
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
