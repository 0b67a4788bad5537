package authelia

import (
	"errors"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"proxmox-realm/internal/config"
)

// readYAML reads what the documents of a text hold, and tells where a second one begins (0: there is none). Authelia reads the
// first document alone; that of an empty text is nil. An error is a *config.SyntaxError.
func readYAML(data []byte) (roots []*yaml.Node, second int, err error) {
	if !utf8.Valid(data) {
		return nil, 0, &config.SyntaxError{Line: 1, Reason: "the text is not UTF-8"}
	}
	documents, err := config.Documents(data)
	var mistake *config.SyntaxError
	switch errors.As(err, &mistake); {
	case mistake != nil && len(documents) == 0:
		return nil, 0, mistake
	case mistake != nil && len(documents) == 1: // Authelia does not read so far
		second = mistake.Line
	case len(documents) > 1:
		second = documents[1].Line
	}
	for _, d := range documents {
		roots = append(roots, content(d))
	}
	if len(roots) == 0 {
		roots = []*yaml.Node{nil}
	}
	return roots, second, nil
}

// content returns what a document holds.
func content(document *yaml.Node) *yaml.Node {
	if document.Kind == yaml.DocumentNode && len(document.Content) == 1 {
		return document.Content[0]
	}
	return document
}

// splitLines splits a text after its line ends, as YAML counts them.
func splitLines(text string) []string {
	var lines []string
	from := 0
	for i, r := range text {
		end := i + utf8.RuneLen(r)
		switch {
		case r == '\r' && strings.HasPrefix(text[i:], "\r\n"):
			continue
		case r == '\n' || r == '\r' || r == '\u0085' || r == '\u2028' || r == '\u2029':
			lines, from = append(lines, text[from:end]), end
		}
	}
	return append(lines, text[from:])
}

// field is a key of a mapping with its value.
type field struct {
	name       string
	key, value *yaml.Node // without aliases
	line       int        // of the value, as it is written in the mapping
	twice      bool       // the mapping has the key twice
}

// fields returns the keys of a mapping in their order. Aliases are followed and merged mappings (`<<`) included, where no
// key of the mapping itself replaces theirs.
func fields(mapping *yaml.Node) (found []field) {
	seen := map[*yaml.Node]bool{} // mappings, each of which counts once
	var collect func(n *yaml.Node)
	collect = func(n *yaml.Node) {
		n = target(n)
		if n == nil || n.Kind != yaml.MappingNode || seen[n] {
			return
		}
		own := len(seen) == 0
		seen[n] = true
		var merged []*yaml.Node
		for key, value := range pairs(n) {
			name := target(key)
			if key.Tag == "!!merge" {
				merged = append(merged, value)
			} else if name != nil && name.Kind == yaml.ScalarNode {
				if i := slices.IndexFunc(found, func(f field) bool { return f.name == name.Value }); i < 0 {
					found = append(found, field{name: name.Value, key: key, value: target(value), line: value.Line})
				} else if own {
					found[i].twice = true
				}
			}
		}
		for _, m := range merged {
			if m = target(m); m != nil && m.Kind == yaml.SequenceNode {
				for _, each := range m.Content {
					collect(each)
				}
			}
			collect(m)
		}
	}
	collect(mapping)
	return found
}

// pairs returns the keys of a mapping with their values, as they are written.
func pairs(mapping *yaml.Node) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(key, value *yaml.Node) bool) {
		if mapping == nil || mapping.Kind != yaml.MappingNode {
			return
		}
		for i := 0; i+1 < len(mapping.Content); i += 2 {
			if !yield(mapping.Content[i], mapping.Content[i+1]) {
				return
			}
		}
	}
}

// pair returns the value of a mapping's own key, or nil.
func pair(mapping *yaml.Node, name string) *yaml.Node {
	for key, value := range pairs(mapping) {
		if key.Kind == yaml.ScalarNode && key.Value == name {
			return value
		}
	}
	return nil
}

// get returns a key of a mapping; its value is nil if the mapping does not have it.
func get(mapping *yaml.Node, name string) field {
	for _, f := range fields(mapping) {
		if f.name == name {
			return f
		}
	}
	return field{name: name}
}

// maxAliases bounds how many aliases are followed from one to the next.
const maxAliases = 32

// target follows an alias. An alias that leads to itself has no target.
func target(n *yaml.Node) *yaml.Node {
	for range maxAliases {
		if n == nil || n.Kind != yaml.AliasNode {
			return n
		}
		n = n.Alias
	}
	return nil
}

// nodes returns a node and all below it, in the order of the file. It follows no alias.
func nodes(n *yaml.Node) iter.Seq[*yaml.Node] {
	return func(yield func(*yaml.Node) bool) {
		var visit func(n *yaml.Node) bool
		visit = func(n *yaml.Node) bool {
			return n == nil || yield(n) && !slices.ContainsFunc(n.Content, func(child *yaml.Node) bool { return !visit(child) })
		}
		visit(n)
	}
}

// twice is a key that a mapping has two times.
type twice struct{ first, second *yaml.Node }

// doubled returns the keys that mappings at or below a node have twice.
func doubled(root *yaml.Node) (found []twice) {
	for n := range nodes(root) {
		seen := map[string]*yaml.Node{}
		for key := range pairs(n) {
			first := seen[key.Value]
			switch {
			case key.Kind != yaml.ScalarNode:
			case first != nil:
				found = append(found, twice{first, key})
			default:
				seen[key.Value] = key
			}
		}
	}
	return found
}

// lineOf returns the line of the first node at or below a node that has a property, or 0.
func lineOf(root *yaml.Node, has func(*yaml.Node) bool) int {
	for n := range nodes(root) {
		if has(n) {
			return n.Line
		}
	}
	return 0
}
