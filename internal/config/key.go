package config

import (
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
	Command  Kind = "command"  // a program and its arguments, run without a shell; only in files
)

// Key is one row of the list of keys.
type Key struct {
	Path    string // such as realm.issuer_url
	Kind    Kind
	Choices []string // of an Enum
	Default string   // as it would be written in a file; "" where there is none
	Doc     string   // what it means, in one or two lines
	Secret  bool     // its value is never shown
	Flag    string   // without dashes; "" where there is none
	Env     string   // "" for commands, which only a file may name
	Target  bool     // a target may overlay it
	Since   string   // first Proxmox VE version that knows the property; "" for keys that are none
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
	// normal turns a checked text, or one word of a list, into the form in which it is kept. Its
	// error completes "must …" or is a whole sentence; it never quotes the text.
	normal func(text string) (string, error)
	empty  bool // an empty text or list is a value
	low    int  // least value of an Int
	high   int  // greatest value of an Int
}

// fixed are the keys that are no properties of a realm. Those of `realm` follow realm.name in the order of
// the property table.
var fixed = []key{
	{Key: Key{Path: "proxmox.endpoint", Kind: String, Doc: "One endpoint, where the cluster has no more to offer; short for endpoints."}, group: endpoints, normal: normalised(ParseEndpoint)},
	{Key: Key{Path: "proxmox.endpoints", Kind: List, Flag: "endpoint", Doc: "Nodes of one cluster, tried in order: https alone. A bare host name or address gets https:// and :8006."}, group: endpoints, normal: normalised(ParseEndpoint)},
	{Key: Key{Path: "proxmox.token", Kind: String, Secret: true, Doc: "The API token, user@realm!id=secret."}, group: credentials, normal: tokenText},
	{Key: Key{Path: "proxmox.token_file", Kind: Path, Flag: "token-file", Doc: "A file that holds the API token."}, group: credentials, normal: secretPath},
	{Key: Key{Path: "proxmox.token_command", Kind: Command, Doc: "A command that prints the API token."}, group: credentials},
	{Key: Key{Path: "proxmox.username", Kind: String, Flag: "username", Doc: "A user with its realm, such as root@pam, for a login instead of a token; asks for the password where none is given."}, group: credentials, normal: normalised(ParseUserID)},
	{Key: Key{Path: "proxmox.password", Kind: String, Secret: true, Doc: "The password of username."}, group: credentials},
	{Key: Key{Path: "proxmox.password_file", Kind: Path, Doc: "A file that holds the password."}, group: credentials, normal: secretPath},
	{Key: Key{Path: "proxmox.password_command", Kind: Command, Doc: "A command that prints the password."}, group: credentials},
	{Key: Key{Path: "proxmox.otp", Kind: String, Secret: true, Doc: "The time-based one-time password of username."}, group: credentials, normal: oneTimePassword},
	{Key: Key{Path: "proxmox.ca_file", Kind: Path, Flag: "ca-file", Doc: "Certificate authorities (PEM) of Proxmox, in place of the system's."}, group: trust},
	{Key: Key{Path: "proxmox.fingerprints", Kind: List, Flag: "fingerprint", Doc: "SHA-256 fingerprints of the nodes' certificates, as `pvenode cert info` prints them, in place of any authority."}, group: trust, normal: normalised(ParseFingerprint)},
	{Key: Key{Path: "proxmox.insecure", Kind: Bool, Default: "false", Flag: "insecure", Doc: "Checks no certificate of Proxmox. Warns on every run: whoever is in between reads the token."}, group: trust},
	{Key: Key{Path: "proxmox.timeout", Kind: Duration, Default: "45s", Doc: "Time for one request; Proxmox itself gives up at 30s."}, normal: durationWithin("1s", "10m")},

	{Key: Key{Path: "realm.name", Kind: String, Default: "authelia", Flag: "realm", Doc: "The name of the realm in Proxmox."}, normal: realmName},
	{Key: Key{Path: "realm.unset", Kind: List, Default: "[]", Doc: "Properties to remove from the realm. What is merely absent here is left as it is."}, normal: unsetProperty, empty: true},

	{Key: Key{Path: "verify.redirect_urls", Kind: List, Flag: "redirect-url", Doc: "What browsers open: scheme, host and port, without a slash. Default: the origin of each endpoint, and then client.redirect only warns."}, normal: normalised(ParseOrigin)},
	{Key: Key{Path: "verify.issuer_ca_file", Kind: Path, Flag: "issuer-ca-file", Doc: "Certificate authorities (PEM) of the issuer, in place of the system's."}},
	{Key: Key{Path: "verify.issuer", Kind: Bool, Default: "true", Doc: "false: this machine cannot reach the issuer; Proxmox's view alone counts, and there is no gate."}},
	{Key: Key{Path: "verify.proxmox", Kind: Enum, Choices: modes, Default: "auto", Doc: "When Proxmox is asked to discover the issuer. auto: after a write and in verify; the agent also hourly."}},
	{Key: Key{Path: "verify.client", Kind: Enum, Choices: modes, Default: "auto", Doc: "When the issuer is asked about the client. auto: after a write, in the gate and in verify; the agent also daily."}},
	{Key: Key{Path: "verify.ignore", Kind: List, Default: "[]", Doc: "Checks that neither fail nor warn, by id (see `proxmox-realm help checks`)."}, normal: checkID, empty: true},
	{Key: Key{Path: "verify.max_clock_skew", Kind: Duration, Default: "5m", Doc: "How far the clocks of issuer and Proxmox may be apart."}, normal: durationWithin("1s", "24h")},

	{Key: Key{Path: "policy.gate", Kind: Bool, Default: "true", Doc: "Keeps back a change to an existing realm while the issuer or client checks fail."}},

	{Key: Key{Path: "lock_file", Kind: Path, Doc: `The file that keeps overlapping runs apart. Default: one for each configuration, in the runtime folder; "": no lock.`}, empty: true},
	{Key: Key{Path: "state_dir", Kind: Path, Doc: "The folder of recovery files and of the last outcome. Default: $STATE_DIRECTORY; else /var/lib/proxmox-realm for root, $XDG_STATE_HOME/proxmox-realm for others."}},
	{Key: Key{Path: "concurrency", Kind: Int, Default: "8", Doc: "Targets at once."}, low: 1, high: 1000},
	{Key: Key{Path: "agent.interval", Kind: Duration, Default: "15m", Doc: "The agent's time between two runs."}, normal: durationWithin("1s", "8760h")},
	{Key: Key{Path: "agent.jitter", Kind: Percent, Default: "10%", Doc: "The share of the interval by which the agent varies it."}, normal: percent},
	{Key: Key{Path: "agent.listen", Kind: String, Default: "127.0.0.1:9746", Doc: "Where the agent serves metrics, health and its status page: host:port."}, normal: listenAddress},
	{Key: Key{Path: "notify.command", Kind: Command, Doc: "A command that gets the JSON report on its standard input when the outcome changes."}},
}

var modes = []string{string(Auto), string(Always), string(Never)}

// property is what this package adds to a row of the property table.
var property = map[realm.Property]struct{ flag, doc string }{
	realm.ACRValues:        {"", "Authentication context classes to ask for, the preferred one first."},
	realm.Audiences:        {"", "Audiences that Proxmox accepts in an ID token besides the client id."},
	realm.Autocreate:       {"autocreate", "Whether Proxmox creates a user at the first login."},
	realm.ClientID:         {"client-id", "The client id that the issuer knows. Required."},
	realm.ClientKey:        {"", "The client key (client secret)."},
	realm.Comment:          {"", "What the login page shows for the realm."},
	realm.Default:          {"", "Whether the login page preselects the realm; takes the flag from the realm that had it."},
	realm.GroupsAutocreate: {"", "Whether Proxmox creates the groups that the claim names."},
	realm.GroupsClaim:      {"", "The claim that holds the groups."},
	realm.GroupsOverwrite:  {"", "Whether each login replaces the user's groups."},
	realm.IssuerURL:        {"issuer-url", "The issuer, byte for byte as its discovery document says. Required."},
	realm.Prompt:           {"", "none, login, consent or select_account, or an extension of the issuer."},
	realm.QueryUserinfo:    {"", "Whether Proxmox reads claims from the userinfo endpoint too. Authelia 4.39 and later need it."},
	realm.Scopes:           {"scopes", "Scopes to ask for; openid is implied. Where the realm is created without them: openid, profile, email."},
	realm.UsernameClaim:    {"username-claim", "The claim that names users; fixed once the realm exists. Where it is created without one: preferred_username."},
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
		keys[i].Target = nested && section != "agent" && section != "notify"
		if k.Kind != Command {
			keys[i].Env = EnvPrefix + strings.ToUpper(strings.ReplaceAll(k.Path, ".", "_"))
		}
	}
	return keys
})

func properties() []key {
	var keys []key
	for _, d := range realm.Definitions() {
		k := key{Key: Key{
			Path: "realm." + d.Key, Flag: property[d.Property].flag, Doc: property[d.Property].doc, Since: d.Since.String(),
		}}
		switch d.Kind {
		case realm.KindBool:
			k.Kind = Bool
		case realm.KindSet, realm.KindList:
			k.Kind, k.normal = List, propertyWord(d)
		case realm.KindText:
			k.Kind, k.normal = String, propertyText(d)
		case realm.KindKey:
			k.Kind, k.normal, k.Secret, k.group = String, clientKeyText, true, clientKey
			keys = append(keys, k,
				key{Key: Key{Path: k.Path + "_file", Kind: Path, Flag: "client-key-file", Doc: "A file that holds the client key."}, group: clientKey, normal: secretPath},
				key{Key: Key{Path: k.Path + "_command", Kind: Command, Doc: "A command that prints the client key."}, group: clientKey})
			continue
		}
		keys = append(keys, k)
	}
	return keys
}

// EnvPrefix begins the names of this program's variables.
const EnvPrefix = "PROXMOX_REALM_"

// Variables with the prefix that are no keys.
const (
	envConfig = EnvPrefix + "CONFIG" // the configuration file
	envBinary = EnvPrefix + "BINARY" // read by the Ansible module
)

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

// nearest returns the candidate that is most like what was written, or "" where none is. A candidate whose last
// part is like the last part of what was written counts as well: the key may stand in the wrong section.
func nearest(written string, candidates []string, separator string) string {
	const wrongSection = 2
	best, bestDistance := "", max(2, len(written)/4)+1
	for _, c := range candidates {
		d := Distance(written, c)
		if separator != "" {
			d = min(d, wrongSection+Distance(last(written, separator), last(c, separator)))
		}
		if separator != "" && strings.HasPrefix(c, written+"_") { // half of a key's name
			d = 1
		}
		if d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

func last(path, separator string) string { return path[strings.LastIndex(path, separator)+1:] }

// Distance is the Levenshtein distance of two spellings of a key, with - and _ alike and case ignored.
func Distance(a, b string) int {
	a, b = strings.ToLower(strings.ReplaceAll(a, "-", "_")), strings.ToLower(strings.ReplaceAll(b, "-", "_"))
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
