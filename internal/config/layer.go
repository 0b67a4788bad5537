package config

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// kind says where the settings of a layer come from.
type kind int

const (
	inFile kind = iota
	inEnvironment
	inFlags
)

// layer holds what one source says: the file above its targets, one target, the environment, the flags.
type layer struct {
	kind     kind
	settings map[string]setting // by path
	// target is the name of the target, and at is its place.
	target string
	at     Place
	// overlay marks a target. unread marks one whose file is not read yet: it has no settings. broken marks one that cannot be
	// read, so that missing keys mean nothing.
	overlay, unread, broken bool
}

// name is what the target of the layer is called.
func (l layer) name() string { return cmp.Or(l.target, defaultTarget) }

// defaultTarget is the name of the only target if the configuration has no targets.
const defaultTarget = "default"

// setting is one value as it was written: a string, a []string or, for access, a [realm.Access]. It is nil if it was
// wrong, so that the key is not reported as missing as well.
type setting struct {
	value any
	at    Place
}

func newLayer(k kind) layer { return layer{kind: k, settings: map[string]setting{}} }

func (l layer) has(paths ...string) bool {
	return slices.ContainsFunc(paths, func(path string) bool { _, ok := l.settings[path]; return ok })
}

// hasEndpoints reports whether the layer says which cluster is meant.
func (l layer) hasEndpoints() bool { return l.has(pathsOf(endpoints)...) }

// secrets returns the secrets that stand in the layer itself, of a token also the part after its id.
func (l layer) secrets() (found []check.Secret) {
	for path, s := range l.settings {
		if text, ok := s.value.(string); ok && index().path[path].Secret {
			found = append(found, check.NewSecret(text))
			if _, rest, token := strings.Cut(text, "!"); token {
				found = append(found, check.NewSecret(rest[strings.IndexAny(rest, ":=")+1:]))
			}
		}
	}
	return found
}

func (l layer) holdsSecret() bool { return len(l.secrets()) > 0 }

// split takes a list apart that a variable or flag gives: commas and spaces separate its words.
func split(text string) []string {
	var out []string
	for part := range strings.SplitSeq(text, ",") {
		fields := strings.Fields(part)
		if len(fields) == 0 {
			fields = []string{""} // refused like any other empty value
		}
		out = append(out, fields...)
	}
	return out
}

// isSecure reports whether a setting is a false proxmox.insecure, which names no trust.
func (s setting) isSecure(path string) bool {
	text, _ := s.value.(string)
	value, err := strconv.ParseBool(text)
	return path == "proxmox.insecure" && err == nil && !value
}

// alternatives are keys of which a layer may name at most one.
var alternatives = [][]string{
	{"proxmox.endpoint", "proxmox.endpoints"},
	{"proxmox.token", "proxmox.token_file", "proxmox.token_command", "proxmox.username"},
	{"proxmox.password", "proxmox.password_file", "proxmox.password_command"},
	{"proxmox.ca_file", "proxmox.fingerprints", "proxmox.insecure"},
	{"realm.client_key", "realm.client_key_file", "realm.client_key_command"},
}

// complete checks what the keys of one layer mean together.
func (l layer) complete(problems *collector) {
	for _, keys := range alternatives {
		given := slices.DeleteFunc(slices.Clone(keys), func(path string) bool {
			s := l.settings[path]
			return s.value == nil || s.isSecure(path)
		})
		slices.SortStableFunc(given, func(a, b string) int { return l.settings[a].at.Line - l.settings[b].at.Line })
		for i, path := range given {
			if i > 0 {
				problems.addf(l.settings[path].at, path, "%s is set as well: keep one of them", given[0])
			}
		}
	}
	for _, path := range []string{"proxmox.password", "proxmox.password_file", "proxmox.password_command", "proxmox.otp"} {
		if l.has(path) && !l.has("proxmox.username") {
			problems.addf(l.settings[path].at, path, "works only beside proxmox.username in the same place, and without a token")
		}
	}
	unset := l.unset()
	for _, path := range slices.Sorted(maps.Keys(l.settings)) {
		if d, ok := propertyOf(path); ok && slices.Contains(unset, d.Property) {
			problems.addf(l.settings["realm.unset"].at, "realm.unset", "names %s, which is set as well: keep one of them", d.Property)
		}
	}
}

// unset returns the properties that the layer removes. [parseUnset] reports wrong names when the key is read.
func (l layer) unset() (properties []realm.Property) {
	words, _ := l.settings["realm.unset"].value.([]string)
	for _, name := range words {
		if p, err := parseUnset(name); err == nil {
			properties = append(properties, p)
		}
	}
	return properties
}

// propertyOf returns the property that a key sets, if it sets one.
func propertyOf(path string) (realm.Definition, bool) {
	section, name, _ := strings.Cut(path, ".")
	d, ok := realm.ByKey(strings.TrimSuffix(strings.TrimSuffix(name, "_file"), "_command"))
	return d, ok && section == "realm"
}

// drop returns copies of the layers, lowest first, without what a higher layer replaces.
//
//   - A layer that names one key of a group replaces the others, such as a password below a token. A false proxmox.insecure
//     replaces nothing.
//   - A target that sets endpoints replaces credentials, trust, product and redirect URLs: it is another cluster.
//   - A layer that unsets a property replaces its value.
//   - A target of another product than the file above it inherits only what its product has.
func drop(layers []layer) []layer {
	out := slices.Clone(layers)
	replaced, unset, lacks := map[group]bool{}, []realm.Property{}, lackedBy(layers)
	for i, l := range slices.Backward(layers) {
		out[i].settings = map[string]setting{}
		for path, s := range l.settings {
			d, _ := propertyOf(path)
			switch {
			case replaced[index().path[path].group], slices.Contains(unset, d.Property):
				continue
			case i == 0 && lacks(path, d.Property):
				continue
			case i == 0 && path == "realm.unset":
				words, _ := s.value.([]string)
				s.value = slices.DeleteFunc(slices.Clone(words), func(name string) bool {
					p, err := parseUnset(name)
					return err == nil && lacks("", p)
				})
			}
			out[i].settings[path] = s
		}
		for path, s := range out[i].settings {
			if !s.isSecure(path) {
				replaced[index().path[path].group] = true
			}
		}
		unset = append(unset, l.unset()...)
		if l.overlay && l.hasEndpoints() {
			for _, g := range ofCluster {
				replaced[g] = true
			}
		}
		delete(replaced, "")
	}
	return out
}

// ofCluster are the groups that belong to one cluster: endpoints of another one replace them.
var ofCluster = []group{credentials, trust, product, redirects}

// lackedBy returns what the product of a target lacks, if it is another one than that of the lowest layer. Without a target, it
// lacks nothing.
func lackedBy(layers []layer) func(path string, p realm.Property) bool {
	productOf := func(l layer) (p realm.Product, set bool) {
		text, set := l.settings["proxmox.product"].value.(string)
		p, _ = realm.ParseProduct(text) // reported when the key is read
		return p, set
	}
	above, _ := productOf(layers[0])
	own, isTarget := above, false
	for _, l := range layers[1:] {
		p, set := productOf(l)
		if isTarget = isTarget || l.overlay; set || l.overlay && l.hasEndpoints() {
			own = p
		}
	}
	return func(path string, p realm.Property) bool {
		_, isProperty := p.Definition()
		return isTarget && own != above && (isProperty && !own.Has(p) || path == "access" && !own.HasGroups())
	}
}
