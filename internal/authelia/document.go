package authelia

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// syntaxError is why a text is not YAML.
type syntaxError struct {
	line   int // where the YAML reader stopped
	reason string
}

func (e *syntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.reason) }

// readYAML reads the first document of a text, and tells where a second one begins (0: there is none). Authelia reads the
// first document alone. An empty text gives nil. An error is a *syntaxError.
func readYAML(data []byte) (root *yaml.Node, second int, err error) {
	if !utf8.Valid(data) {
		return nil, 0, &syntaxError{1, "the text is not UTF-8"}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var first, next yaml.Node
	switch err := decoder.Decode(&first); {
	case errors.Is(err, io.EOF):
		return nil, 0, nil
	case err != nil:
		return nil, 0, locate(data, err)
	}
	switch err := decoder.Decode(&next); {
	case errors.Is(err, io.EOF):
	case err != nil: // Authelia does not read so far
		second = locate(data, err).line
	default:
		second = next.Line
	}
	return content(&first), second, nil
}

// content returns what a document holds.
func content(document *yaml.Node) *yaml.Node {
	if document.Kind == yaml.DocumentNode && len(document.Content) == 1 {
		return document.Content[0]
	}
	return document
}

var place = regexp.MustCompile(`^yaml: (line \d+: )?`)

// locate finds the line of a syntax error. The library names the line before or after it, or the one where a construct
// began. The first lines of the text give the same error from that line on that is wrong.
func locate(data []byte, err error) *syntaxError {
	lines := bytes.SplitAfter(data, []byte("\n"))
	wrong := sort.Search(len(lines), func(n int) bool {
		var node yaml.Node
		decoder := yaml.NewDecoder(bytes.NewReader(bytes.Join(lines[:n+1], nil)))
		for {
			if found := decoder.Decode(&node); found != nil {
				return found.Error() == err.Error()
			}
		}
	})
	return &syntaxError{min(wrong+1, len(lines)), place.ReplaceAllString(err.Error(), "")}
}

// lines splits a text after its line ends, as YAML counts them.
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
func fields(mapping *yaml.Node) []field {
	c := collector{seen: map[*yaml.Node]bool{}}
	c.collect(mapping)
	return c.fields
}

type collector struct {
	fields []field
	seen   map[*yaml.Node]bool // mappings, each of which counts once
}

func (c *collector) collect(mapping *yaml.Node) {
	mapping = target(mapping)
	if mapping == nil || mapping.Kind != yaml.MappingNode || c.seen[mapping] {
		return
	}
	first := len(c.seen) == 0
	c.seen[mapping] = true
	var merged []*yaml.Node
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		name := target(key)
		switch {
		case key.Tag == "!!merge":
			merged = append(merged, value)
		case name == nil || name.Kind != yaml.ScalarNode:
		case !has(c.fields, name.Value):
			c.fields = append(c.fields, field{name: name.Value, key: key, value: target(value), line: value.Line})
		case first:
			c.fields[slices.IndexFunc(c.fields, func(f field) bool { return f.name == name.Value })].twice = true
		}
	}
	for _, m := range merged {
		if m = target(m); m != nil && m.Kind == yaml.SequenceNode {
			for _, each := range m.Content {
				c.collect(each)
			}
			continue
		}
		c.collect(m)
	}
}

func has(have []field, name string) bool {
	return slices.ContainsFunc(have, func(f field) bool { return f.name == name })
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

// doubled calls report for each key that a mapping has twice, anywhere below a node.
func doubled(n *yaml.Node, report func(first, second *yaml.Node)) {
	if n.Kind == yaml.MappingNode {
		seen := map[string]*yaml.Node{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode {
				continue
			}
			if first, ok := seen[key.Value]; ok {
				report(first, key)
				continue
			}
			seen[key.Value] = key
		}
	}
	for _, child := range n.Content {
		doubled(child, report)
	}
}

// documents returns what the documents of a text hold, up to the first one that is not YAML.
func documents(data []byte) (roots []*yaml.Node) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var document yaml.Node
		if decoder.Decode(&document) != nil {
			return roots
		}
		roots = append(roots, content(&document))
	}
}
