package config

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"proxmox-realm/internal/check"
)

// Setting is one row of `config show`. A key without a value has no row: it is not managed.
type Setting struct {
	Target string `json:"-"`      // "" for what concerns the whole run, and if the configuration has no targets
	Key    string `json:"key"`    // its path, such as realm.issuer_url
	Value  string `json:"value"`  // as it would be written in a file; a secret as [check.Mask]
	Source string `json:"source"` // "default", "config.yaml:12", "target berlin, config.yaml:30", "environment PROXMOX_REALM_…", "flag --realm"
}

// record notes a value, a text or a list, if settings are asked for. It replaces an earlier row of the key.
func (v *values) record(path string, value any) {
	if !v.show {
		return
	}
	v.settings = slices.DeleteFunc(v.settings, func(s Setting) bool { return s.Key == path })
	s := Setting{Target: v.target, Key: path, Value: written(path, value), Source: v.at[path].source()}
	v.settings = append(v.settings, s)
}

// sorted returns the rows in the order of [Keys].
func (v *values) sorted() []Setting {
	place := func(s Setting) int { return slices.IndexFunc(table(), func(k Key) bool { return k.Path == s.Key }) }
	slices.SortStableFunc(v.settings, func(a, b Setting) int { return place(a) - place(b) })
	return v.settings
}

// written returns a value as a file would hold it.
func written(path string, value any) string {
	if index().path[path].Secret {
		return check.Mask
	}
	var node yaml.Node
	_ = node.Encode(value) // texts, numbers and booleans: never fails
	if node.Kind != yaml.ScalarNode {
		node.Style = yaml.FlowStyle
	}
	text, _ := yaml.Marshal(&node)
	return strings.TrimSuffix(string(text), "\n")
}
