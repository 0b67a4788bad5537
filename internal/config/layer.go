package config

import (
	"cmp"
	"maps"
	"slices"
	"strings"

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
	// overlay marks a target. unread marks one whose file is read at its turn: it has no settings yet. broken marks one that
	// cannot be read, so that missing keys mean nothing.
	overlay, unread, broken bool
}

// name is what the target of the layer is called.
func (l layer) name() string { return cmp.Or(l.target, defaultTarget) }

// setting is one value as it was written: a string, a []string or, for access, a *[realm.Access]. It is nil if it was
// wrong, so that the key is not reported as missing as well.
type setting struct {
	value any
	at    Place
}

func newLayer(k kind) layer { return layer{kind: k, settings: map[string]setting{}} }

func (l layer) has(path string) bool { _, ok := l.settings[path]; return ok }

// words returns the elements of a list.
func (s setting) words() []string {
	switch v := s.value.(type) {
	case string:
		return split(v)
	case []string:
		return v
	}
	return nil
}

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

// alternatives are keys of which a layer may name at most one. A false proxmox.insecure counts as not named.
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
			value := l.settings[path].value
			return value == nil || value == "false"
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
	for _, name := range l.settings["realm.unset"].words() {
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
//   - A layer that names one key of a group replaces the others, such as a password below a token.
//   - A target that sets endpoints replaces credentials, trust and redirect URLs.
//   - A layer that unsets a property replaces its value.
func drop(layers []layer) []layer {
	out := slices.Clone(layers)
	replaced, unset, otherCluster := map[group]bool{}, []realm.Property{}, false
	for i, l := range slices.Backward(layers) {
		dropped := func(path string, _ setting) bool {
			d, _ := propertyOf(path)
			ofCluster := path == "verify.redirect_urls" && otherCluster
			return replaced[index().path[path].group] || slices.Contains(unset, d.Property) || ofCluster
		}
		out[i].settings = maps.Clone(l.settings)
		maps.DeleteFunc(out[i].settings, dropped)
		for path := range out[i].settings {
			replaced[index().path[path].group] = true
		}
		unset = append(unset, out[i].unset()...)
		if l.overlay && (l.has("proxmox.endpoint") || l.has("proxmox.endpoints")) {
			replaced[credentials], replaced[trust], otherCluster = true, true, true
		}
		delete(replaced, "")
	}
	return out
}
