package config

import (
	"crypto/x509"
	"fmt"
	"strings"
	"sync"

	"github.com/agext/levenshtein"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// Kind says how the value of a key is written.
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
	Enum:     "pve, pbs or pdm",
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
	Default string   // as it would be written in a file; "" if there is none, "[]" if an empty list is a value
	Doc     string   // what it means, in one or two sentences
	Secret  bool     // its value is never shown
	Flag    string   // without dashes; "" if there is none
	Env     string   // "" for commands and grants, which only a file may hold
	Target  bool     // a target may overlay it
	Needs   string   // which products and versions know it, if not all do

	group group
	// in returns where the value goes.
	in func(result) field
	// pool returns where the certificates go that the file holds.
	pool func(*Target) **x509.CertPool
	// content is the key of the secret that the file or the output of the command holds, nil if it holds none.
	content *Key
	// property is what the key sets in the realm, also if its value is in a file or comes from a command. "" if it sets none.
	property realm.Property
	// need says what to do where a target lacks the key and all others of its group; "" if it may lack them.
	need    check.Hint
	derived bool // its default follows from other things
}

// result is where values go. Keys of a target go into the target, others into the configuration of the run.
type result struct {
	*Config
	*Target
}

// isOf reports whether some version of a product knows the key.
func (k *Key) isOf(p realm.Product) bool {
	return (k.property == "" || p.Has(k.property)) && (k.Kind != Grants || p.HasGroups())
}

// group names keys of which a layer may name one, and which it then replaces in the layers below.
type group string

const (
	endpoints   group = "endpoints"
	credentials group = "credentials"
	password    group = "password"
	oneTime     group = "one-time password"
	trust       group = "trust"
	clientKey   group = "client key"
	product     group = "product"
	redirects   group = "redirect URLs"
)

// ofUser are the groups that belong to proxmox.username, and ofCluster those that belong to endpoints.
var (
	ofUser    = []group{password, oneTime}
	ofCluster = []group{credentials, password, oneTime, trust, product, redirects}
)

// Keys returns the list of keys, in the order in which they are shown.
func Keys() (keys []Key) {
	for _, k := range table() {
		keys = append(keys, *k)
	}
	return keys
}

// table returns the complete list of keys.
func table() []*Key { return index().keys }

// index completes the list of keys. It finds keys by path and by variable, and knows the sections.
var index = sync.OnceValue(func() (x struct {
	keys      []*Key
	path, env map[string]*Key
	section   map[string]bool
},
) {
	x.path, x.env, x.section = map[string]*Key{}, map[string]*Key{}, map[string]bool{}
	kinds := map[realm.Form]Kind{
		realm.FormBool: Bool, realm.FormSet: List, realm.FormList: List, realm.FormText: String, realm.FormKey: String,
	}
	for _, k := range rows() {
		section, name, nested := strings.Cut(k.Path, ".")
		if d, ok := realm.ByKey(name); ok && section == "realm" {
			k.Kind, k.Needs, k.property = kinds[d.Form], d.Property.Needs(), d.Property
			k.in = func(to result) field { return property{d, to.Target} }
		}
		if k.Kind == Grants {
			k.Needs = realm.VE.Name() // the only one that has groups
		}
		k.Target = nested && section != "agent" && section != "notify" || k.Kind == Grants
		if k.Kind != Command && k.Kind != Grants {
			k.Env = envPrefix + strings.ToUpper(strings.ReplaceAll(k.Path, ".", "_"))
			x.env[k.Env] = &k
		}
		base := x.path[strings.TrimSuffix(strings.TrimSuffix(k.Path, "_file"), "_command")]
		if base != nil && base.Secret {
			k.content, k.property = base, base.property
		}
		x.keys, x.path[k.Path], x.section[section] = append(x.keys, &k), &k, nested
	}
	return x
})

// envPrefix begins the names of this program's variables.
const envPrefix = "PROXMOX_REALM_"

// Variables with the prefix that are not keys.
const (
	envConfig = envPrefix + "CONFIG" // the configuration file
	envBinary = envPrefix + "BINARY" // the Ansible module reads it
	envShards = envPrefix + "SHARDS" // the number of shards
)

// Nearest returns the candidate that is most like what was written, or "" if none is. A missing or wrong section, and the
// missing end of a name, count as one wrong character. Case and the kind of separator do not count.
func Nearest(written string, candidates []string) string {
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
