package config

import (
	"cmp"
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
	// target is the name if the layer is a target, and at is where it stands.
	target string
	at     Place
	// overlay marks a target. broken marks one that cannot be read, so that missing keys mean nothing.
	overlay, broken bool
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

// alternatives are keys of which a layer may name at most one.
var alternatives = [][]string{
	{"proxmox.endpoint", "proxmox.endpoints"},
	{"proxmox.token", "proxmox.token_file", "proxmox.token_command", "proxmox.username"},
	{"proxmox.password", "proxmox.password_file", "proxmox.password_command"},
	{"realm.client_key", "realm.client_key_file", "realm.client_key_command"},
}

// complete checks what the keys of one layer mean together, and turns endpoint into endpoints.
func (l layer) complete(problems *collector) {
	for _, keys := range append(alternatives, l.trustKeys()) {
		given := slices.DeleteFunc(slices.Clone(keys), func(path string) bool { return l.settings[path].value == nil })
		slices.SortStableFunc(given, func(a, b string) int { return l.settings[a].at.Line - l.settings[b].at.Line })
		for i, path := range given {
			if i > 0 {
				problems.addf(l.settings[path].at, path, "%s is set as well: keep one of them", given[0])
			}
		}
	}
	for _, path := range []string{"proxmox.password", "proxmox.password_file", "proxmox.password_command", "proxmox.otp"} {
		switch {
		case !l.has(path) || l.has("proxmox.username"):
		case l.has("proxmox.token") || l.has("proxmox.token_file") || l.has("proxmox.token_command"):
			problems.addf(l.settings[path].at, path, "has no effect beside a token: keep one of them")
		default:
			problems.addf(l.settings[path].at, path, "needs proxmox.username in the same place, because credentials replace those of lower places as a whole")
		}
	}
	unset := l.settings["realm.unset"]
	for _, name := range unset.words() {
		p, err := parseUnset(name)
		for _, path := range pathsOf(p) {
			if err == nil && l.has(path) {
				problems.addf(unset.at, "realm.unset", "names %s, which is set as well: keep one of them", p)
			}
		}
	}
	if one, ok := l.settings["proxmox.endpoint"]; ok {
		delete(l.settings, "proxmox.endpoint")
		if text, ok := one.value.(string); ok {
			one.value = []string{text}
		}
		if one.at.key = "proxmox.endpoint"; !l.has("proxmox.endpoints") {
			l.settings["proxmox.endpoints"] = one
		}
	}
}

// trustKeys are the keys that replace the system's certificate authorities. A false insecure is none.
func (l layer) trustKeys() []string {
	text, _ := l.settings["proxmox.insecure"].value.(string)
	if insecure, err := parseBool(text); err != nil || !insecure {
		return []string{"proxmox.ca_file", "proxmox.fingerprints"}
	}
	return []string{"proxmox.ca_file", "proxmox.fingerprints", "proxmox.insecure"}
}

// pathsOf returns the keys that set a property.
func pathsOf(p realm.Property) []string {
	d, ok := p.Definition()
	path := "realm." + d.Key
	switch {
	case !ok:
		return nil
	case d.Kind == realm.KindKey:
		return []string{path, path + "_file", path + "_command"}
	}
	return []string{path}
}

// drop returns copies of the layers, lowest first, without the settings that a higher layer replaces although it does not
// name them:
//   - the other keys of a group that it names, such as a password below a token;
//   - credentials, trust and redirect URLs, if it is a target that sets endpoints;
//   - a property that it unsets.
func drop(layers []layer) []layer {
	out := make([]layer, len(layers))
	gone := map[string]bool{} // keys
	given := map[group]bool{}
	for i, l := range slices.Backward(layers) {
		out[i] = l
		out[i].settings = make(map[string]setting, len(l.settings))
		for path, s := range l.settings {
			if !gone[path] && !given[index().path[path].group] {
				out[i].settings[path] = s
			}
		}
		for path := range out[i].settings {
			if g := index().path[path].group; g != "" {
				given[g] = true
			}
		}
		for _, name := range out[i].settings["realm.unset"].words() {
			p, _ := parseUnset(name)
			for _, path := range pathsOf(p) {
				gone[path] = true
			}
		}
		if l.target != "" && l.has("proxmox.endpoints") {
			given[credentials], given[trust], gone["verify.redirect_urls"] = true, true, true
		}
	}
	return out
}
