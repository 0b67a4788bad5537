package config

import (
	"strings"

	"proxmox-realm/internal/check"

	"go.yaml.in/yaml/v3"
)

// Setting is one row of `config show`.
type Setting struct {
	Target string // "" for what concerns the whole run, and where the configuration has no targets
	Key    string // its path, such as realm.issuer_url
	Value  string // as it would be written in a file; a secret as [check.Mask]
	Source string // "default", "config.yaml:12", "target berlin, config.yaml:30", "environment PROXMOX_REALM_…", "flag --realm"
}

// Show returns the effective settings: first those of the whole run, then those of each selected
// target, in the order of [Keys]. A key without a value is left out: it is not managed.
func (c *Config) Show() []Setting {
	if c.show == nil {
		return nil
	}
	return c.show()
}

// show merges again what was merged before: a configuration of many targets does not keep every step for one command.
func (l *loader) show(run []layer) []Setting {
	var out []Setting
	rows := func(target string, layers []layer, derived map[string]any, want func(*key) bool) {
		settings := flat(layers)
		keys := table()
		for i := range keys {
			k := &keys[i]
			if !want(k) {
				continue
			}
			s, set := settings[k.Path]
			if value, ok := derived[k.Path]; ok && !set {
				s, set = setting{value: value, at: place{source: "default"}}, true
			}
			if set {
				out = append(out, Setting{Target: target, Key: k.Path, Value: written(s.value), Source: s.at.source})
			}
		}
	}
	rows("", run, map[string]any{"lock_file": l.config.LockFile, "state_dir": l.config.StateDir}, func(k *key) bool { return !k.Target })
	for i, overlay := range l.selected {
		derived := map[string]any{}
		if urls := l.config.Targets[i].Verify.RedirectURLs; len(urls) > 0 {
			derived["verify.redirect_urls"] = texts(urls)
		}
		rows(overlay.target, l.layers(overlay), derived, func(k *key) bool { return k.Target })
	}
	return out
}

// written returns a value as a file would hold it.
func written(value any) string {
	switch v := value.(type) {
	case check.Secret:
		return v.String()
	case string, bool, int, []string:
		node := &yaml.Node{}
		if err := node.Encode(v); err != nil {
			return "?"
		}
		node.Style = yaml.FlowStyle
		if s, ok := v.(string); ok {
			node = textNode(s)
		}
		text, err := yaml.Marshal(node)
		if err != nil {
			return "?"
		}
		return strings.TrimSuffix(string(text), "\n")
	}
	return "?"
}

// textNode returns a text that YAML will quote where it would take it for something else.
func textNode(s string) *yaml.Node {
	node := &yaml.Node{}
	node.SetString(s)
	return node
}
