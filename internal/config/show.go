package config

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
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
	place := func(s Setting) int { return slices.IndexFunc(table(), func(k key) bool { return k.Path == s.Key }) }
	slices.SortStableFunc(v.settings, func(a, b Setting) int { return place(a) - place(b) })
	return v.settings
}

// written returns a value as a file would hold it.
func written(path string, value any) string {
	k := index().path[path]
	node := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	if access, ok := value.(realm.Access); ok {
		node = accessNode(access, yaml.FlowStyle)
		value = nil
	}
	switch words, isList := value.([]string); {
	case k.Secret:
		return check.Mask
	case isList:
		for _, word := range words {
			node.Content = append(node.Content, textNode(word))
		}
	case k.Kind == Bool || k.Kind == Int:
		return fmt.Sprint(value)
	case value == nil:
	default:
		node = textNode(fmt.Sprint(value))
	}
	text, err := yaml.Marshal(node)
	if err != nil {
		return "?"
	}
	return strings.TrimSuffix(string(text), "\n")
}

// textNode returns a text that YAML quotes if it would read it as something else.
func textNode(s string) *yaml.Node {
	node := &yaml.Node{}
	node.SetString(s)
	return node
}
