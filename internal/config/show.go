package config

import (
	"fmt"
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

// show adds the rows of one target or, without one, of the whole run.
func (l *loader) show(m merged, target string, t *Target) {
	for _, k := range table() {
		if !l.Show || k.Target != (t != nil) {
			continue
		}
		s, set := m.get(k.Path)
		value := k.in(result{l.config, t}).get()
		if value == nil || !set && !k.derived {
			continue
		}
		text := inYAML(value)
		if k.Secret || k.content != nil && k.Kind == Path && shownPath(s.text(), fmt.Sprint(value)) == "" {
			text = check.Mask // a secret, or perhaps one in place of its file
		}
		l.config.Settings = append(l.config.Settings, Setting{Target: target, Key: k.Path, Value: text, Source: s.at.source()})
	}
}

// inYAML returns a value as a file would hold it.
func inYAML(value any) string {
	var node yaml.Node
	_ = node.Encode(value) // texts, numbers and booleans: never fails
	if node.Kind != yaml.ScalarNode {
		node.Style = yaml.FlowStyle
	}
	text, _ := yaml.Marshal(&node)
	return strings.TrimSuffix(string(text), "\n")
}
