package config

import (
	"maps"
	"slices"
	"strings"

	"proxmox-realm/internal/realm"
)

// layer holds what one source says: the file above its targets, one target, the environment, the flags.
type layer struct {
	settings map[string]setting // by path
	refused  map[string]bool    // paths whose value is wrong: said, so not missing
	// target is its name where the layer is a target, and at is where it stands. One that sets
	// endpoints is another cluster.
	target string
	at     place
}

// setting is one value: string, bool, int, []string or secret.Secret, checked and normalised.
type setting struct {
	value any
	at    place
}

// text is the value of a key that holds one.
func (s setting) text() string {
	text, _ := s.value.(string) // the key's kind says so
	return text
}

// words are the value of a list.
func (s setting) words() []string {
	words, _ := s.value.([]string) // the key's kind says so
	return words
}

func newLayer() layer { return layer{settings: map[string]setting{}, refused: map[string]bool{}} }

func (l layer) has(path string) bool { _, ok := l.settings[path]; return ok }

// alternatives are keys of which a layer names at most one.
var alternatives = [][]string{
	{"proxmox.endpoint", "proxmox.endpoints"},
	{"proxmox.token", "proxmox.token_file", "proxmox.token_command", "proxmox.username"},
	{"proxmox.password", "proxmox.password_file", "proxmox.password_command"},
	{"realm.client_key", "realm.client_key_file", "realm.client_key_command"},
}

// complete checks what the keys of one layer mean together, and makes `endpoint` one of `endpoints`.
func (l layer) complete(problems *Problems) {
	oneOf := func(paths ...string) {
		var set []string
		for _, path := range paths {
			if l.has(path) {
				set = append(set, path)
			}
		}
		// The later ones are those too many.
		slices.SortStableFunc(set, func(a, b string) int { return l.settings[a].at.line - l.settings[b].at.line })
		for i, path := range set {
			if i > 0 {
				problems.add(l.settings[path].at, set[0]+" is set as well: keep one of them")
			}
		}
	}
	for _, keys := range alternatives {
		oneOf(keys...)
	}
	trustKeys := []string{"proxmox.ca_file", "proxmox.fingerprints"}
	if l.settings["proxmox.insecure"].value == true {
		trustKeys = append(trustKeys, "proxmox.insecure")
	}
	oneOf(trustKeys...)
	for _, path := range []string{"proxmox.password", "proxmox.password_file", "proxmox.password_command", "proxmox.otp"} {
		if !l.has(path) || l.has("proxmox.username") || l.refused["proxmox.username"] {
			continue
		}
		message := "needs proxmox.username beside it: what names credentials replaces all of those below it"
		if l.has("proxmox.token") || l.has("proxmox.token_file") || l.has("proxmox.token_command") {
			message = "is of no use beside a token: keep one of them"
		}
		problems.add(l.settings[path].at, message)
	}
	if unset, ok := l.settings["realm.unset"]; ok {
		for _, name := range unset.words() {
			for _, path := range pathsOf(realm.Property(name)) {
				if l.has(path) {
					problems.add(unset.at, "names "+name+", which "+path+" sets: keep one of them")
				}
			}
		}
	}
	if one, ok := l.settings["proxmox.endpoint"]; ok {
		delete(l.settings, "proxmox.endpoint")
		if text, isText := one.value.(string); isText && !l.has("proxmox.endpoints") {
			l.settings["proxmox.endpoints"] = setting{value: []string{text}, at: one.at}
		}
	}
}

// pathsOf returns the keys that set a property.
func pathsOf(p realm.Property) []string {
	d, _ := p.Definition()
	path := "realm." + d.Key
	if d.Kind == realm.KindKey {
		return []string{path, path + "_file", path + "_command"}
	}
	return []string{path}
}

// prune returns copies of the layers, lowest first, without what a higher layer replaces beyond the very same keys:
// the other keys of a group, what another cluster must not inherit, a property that it unsets, the
// removal of a property that it sets.
func prune(layers []layer) []layer {
	out := make([]layer, len(layers))
	gone := map[string]bool{} // keys
	given := map[group]bool{} // groups that a higher layer names
	set := map[string]bool{}  // properties that a higher layer sets
	for i := len(layers) - 1; i >= 0; i-- {
		l := layers[i]
		out[i] = layer{settings: make(map[string]setting, len(l.settings)), refused: l.refused, target: l.target, at: l.at}
		for path, s := range l.settings {
			if !gone[path] && !given[index().path[path].group] {
				out[i].settings[path] = s
			}
		}
		if unset, ok := out[i].settings["realm.unset"]; ok {
			left := slices.DeleteFunc(slices.Clone(unset.words()), func(name string) bool { return set[name] })
			out[i].settings["realm.unset"] = setting{value: left, at: unset.at}
			for _, name := range left {
				for _, path := range pathsOf(realm.Property(name)) {
					gone[path] = true
				}
			}
			gone["realm.unset"] = true
		}
		for path := range out[i].settings {
			gone[path] = true
			if g := index().path[path].group; g != "" {
				given[g] = true
			}
			if p, ok := propertyOf(path); ok {
				set[string(p)] = true
			}
		}
		if l.target != "" && l.has("proxmox.endpoints") {
			given[credentials], given[trust], gone["verify.redirect_urls"] = true, true, true
		}
	}
	return out
}

// propertyOf returns the property that a key sets.
func propertyOf(path string) (realm.Property, bool) {
	name, ok := strings.CutPrefix(path, "realm.")
	if !ok {
		return "", false
	}
	if index().path[path].group == clientKey {
		return realm.ClientKey, true
	}
	d, ok := realm.ByKey(name)
	return d.Property, ok
}

// flat returns the settings that hold: the highest of each key.
func flat(pruned []layer) map[string]setting {
	out := map[string]setting{}
	for _, l := range pruned {
		maps.Copy(out, l.settings)
	}
	return out
}

// nest returns the values as nested maps, none of which is shared with anything: viper keeps and alters the maps that it is
// given.
func (l layer) nest(want func(*key) bool) map[string]any {
	out := map[string]any{}
	for path, s := range l.settings {
		if !want(index().path[path]) {
			continue
		}
		section, name, nested := strings.Cut(path, ".")
		if !nested {
			out[path] = s.value
			continue
		}
		inner, _ := out[section].(map[string]any)
		if inner == nil {
			inner = map[string]any{}
			out[section] = inner
		}
		inner[name] = s.value
	}
	return out
}
