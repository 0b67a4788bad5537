package config

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"proxmox-realm/internal/check"
)

// parser turns a file into layers. It walks over the nodes of the YAML document, so that each mistake has its line. It
// checks the keys and the kinds of their values; the fields of the keys parse the texts.
type parser struct {
	at       Place // the file
	problems *collector
}

// parse returns the layer above the targets and one layer for each target; nil targets if the file has none. It is not ok
// if the file cannot be read as a configuration, so that missing keys mean nothing.
func (p *parser) parse(data []byte) (base layer, targets []layer, ok bool) {
	base = newLayer(inFile)
	root, ok := p.document(data)
	if root == nil {
		return base, nil, ok
	}
	targets = p.section(root, "", base)
	base.complete(p.problems)
	return base, targets, true
}

// document returns the content of the one document, nil if the file is empty.
func (p *parser) document(data []byte) (root *yaml.Node, ok bool) {
	documents, err := Documents(data)
	var syntax *SyntaxError
	switch {
	case errors.As(err, &syntax):
		at := p.at
		at.Line = syntax.Line
		p.problems.add(at, "", advised(syntax, data))
		return nil, false
	case len(documents) > 1:
		p.problems.addf(p.line(documents[1], ""), "", "must be one document: a second one begins here")
		return nil, false
	case len(documents) == 0:
		return nil, true
	}
	root = documents[0].Content[0]
	if root.ShortTag() == "!!null" {
		return nil, true
	}
	if root.Kind != yaml.MappingNode {
		p.problems.addf(p.line(root, ""), "", "must be a mapping of keys to values, such as realm: {name: authelia}")
		return nil, false
	}
	return root, true
}

func (p *parser) line(node *yaml.Node, target string) Place {
	at := p.at
	at.Line, at.Target = node.Line, target
	return at
}

// entries calls do for each key of a mapping. It reports keys that are doubled or that are no names. The place of the
// mapping says to which target it belongs.
func (p *parser) entries(node *yaml.Node, in Place, section string, do func(at Place, name string, value *yaml.Node)) {
	lines := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], follow(node.Content[i+1])
		at := p.line(key, in.Target)
		switch first, doubled := lines[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			p.problems.addf(at, join(section, unprintable), "a key must be a name, not a list, a mapping or an alias")
		case key.ShortTag() == "!!merge":
			p.problems.addf(at, section, "merge keys (<<) are not supported: move what all targets share above them")
		case doubled:
			p.problems.addf(at, join(section, printable(key.Value)), "is set twice, first in line %d: keep one of them", first)
		default:
			do(at, key.Value, value)
		}
		lines[key.Value] = key.Line
	}
}

// join returns the path of a key in a section; section "" is the file or a target.
func join(section, name string) string { return strings.TrimPrefix(section+"."+name, ".") }

// section reads the keys of a section, or of the file or a target if section is "", and returns the targets in it.
func (p *parser) section(node *yaml.Node, section string, into layer) (targets []layer) {
	p.entries(node, into.at, section, func(at Place, name string, value *yaml.Node) {
		path := join(section, name)
		k := index().path[path]
		switch {
		case path == "targets" && !into.overlay:
			targets = p.targets(at, value)
		case path == "targets":
			p.problems.addf(at, path, "cannot be in a target")
		case path == "name" && into.overlay && into.at.Target == "":
			p.problems.addf(at, path, "is the name of the file already: remove the key")
		case path == "name" && into.overlay:
			// [parser.name] has read it
		case index().section[path] && value.Kind == yaml.MappingNode:
			p.section(value, path, into)
		case index().section[path] && value.ShortTag() == "!!null": // all keys of the section are commented out
		case index().section[path]:
			p.problems.addf(at, path, "must be a section: keys, indented, each with its value")
		case k == nil:
			p.unknown(at, section, name, into)
		case into.overlay && !k.Target:
			p.problems.addf(at, path, "belongs to the whole run, not to a target")
		case k.Kind == Grants:
			into.settings[path] = setting{p.access(at, value), at}
		default:
			written, err := k.read(value)
			if err != nil {
				p.problems.add(at, path, err)
			}
			into.settings[path] = setting{written, at}
		}
	})
	return targets
}

func (p *parser) targets(at Place, value *yaml.Node) []layer {
	if value.Kind != yaml.SequenceNode || len(value.Content) == 0 {
		p.problems.addf(at, "targets", "must be a list of at least one target, each with its name")
		return nil
	}
	var layers []layer
	lines := map[string]int{}
	for i, item := range value.Content {
		l := newLayer(inFile)
		l.overlay, l.at = true, p.line(item, fmt.Sprintf("targets[%d]", i))
		item = follow(item)
		if item.Kind != yaml.MappingNode {
			p.problems.addf(l.at, "", "must be a target: a name and the keys in which it differs")
			continue
		}
		if l.target = p.name(item, l.at); l.target != "" {
			// Names become file names, and some file systems ignore case.
			if first, doubled := lines[strings.ToLower(l.target)]; doubled {
				p.problems.addf(l.at, "name", "is the name of the target in line %d as well", first)
			}
			lines[strings.ToLower(l.target)] = l.at.Line
			l.at.Target = "targets." + l.target
		}
		p.section(item, "", l)
		l.complete(p.problems)
		layers = append(layers, l)
	}
	return layers
}

// name returns the name of a target, "" if it has none or a wrong one. The name is no key of the list: flags and
// variables cannot set it.
func (p *parser) name(item *yaml.Node, at Place) string {
	for i := 0; i+1 < len(item.Content); i += 2 {
		if item.Content[i].Value != "name" {
			continue
		}
		value := follow(item.Content[i+1])
		if value.Kind != yaml.ScalarNode || value.ShortTag() != "!!str" || !isTargetName(value.Value) {
			p.problems.addf(p.line(item.Content[i], at.Target), "name", "must be "+nameForm+"; put a number in quotation marks")
			return ""
		}
		return value.Value
	}
	p.problems.addf(at, "", "has no name: reports, -t and recovery files need one")
	return ""
}

// targetName matches names that are safe as part of a file name on every system. Their length is checked apart: a repetition
// of 64 makes a large pattern, which every start would compile.
var targetName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9_-])?$`)

func isTargetName(name string) bool { return len(name) <= 64 && targetName.MatchString(name) }

const nameForm = "1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit and not ending with '.'"

// unknown reports a key that does not exist.
func (p *parser) unknown(at Place, section, name string, into layer) {
	shown := join(section, printable(name))
	if printable(name) == unprintable { // such as root@pam!id=secret without a key before it
		p.problems.addf(at, shown, "is not a key; its name is not shown because it may be a value")
		return
	}
	candidates := slices.Collect(maps.Keys(index().path))
	if section == "" {
		candidates = append(candidates, slices.Collect(maps.Keys(index().section))...)
		if !into.overlay {
			candidates = append(candidates, "targets")
		}
	}
	slices.Sort(candidates)
	unknown := check.Errorf(check.Config, "is not a key")
	if near := Nearest(shown, candidates); near != "" {
		unknown.Message += didYouMean(near)
	} else {
		unknown = unknown.Try("it lists the keys:\n    {help config}")
	}
	p.problems.add(at, shown, unknown)
}

const unprintable = "?"

var printableName = regexp.MustCompile(`^[A-Za-z_.-]*([0-9][A-Za-z_.-]*){0,3}$`)

// printable returns a name found in place of a key or variable if it looks like a name and not like a value.
func printable(name string) string {
	if name == "" || len(name) > 60 || !printableName.MatchString(name) {
		return unprintable
	}
	return name
}

// read returns the value of a key as it was written, a string or a []string, or nil if it is of another kind.
func (k *Key) read(node *yaml.Node) (any, error) {
	tag := node.ShortTag()
	isList := k.Kind == List || k.Kind == Command
	want := "!!str"
	switch k.Kind {
	case Bool:
		want = "!!bool"
	case Int:
		want = "!!int"
	default:
	}
	switch {
	case tag == "!!null":
		return nil, k.mustNotBeEmpty()
	case isList && node.Kind != yaml.SequenceNode:
		return nil, fmt.Errorf("%w, each an element of its own", mustBe(k.Kind))
	case isList:
		words := []string{}
		for _, element := range node.Content {
			element = follow(element)
			if element.Kind != yaml.ScalarNode || element.ShortTag() != want {
				return nil, fmt.Errorf("%w: put a number, a boolean or null in quotation marks", mustBe(k.Kind))
			}
			words = append(words, element.Value)
		}
		return words, nil
	case node.Kind == yaml.ScalarNode && tag != want && (k.Kind == String || k.Kind == Path):
		return nil, fmt.Errorf("%w: put a number, a boolean or a date in quotation marks", mustBe(k.Kind))
	case node.Kind != yaml.ScalarNode || tag != want:
		return nil, mustBe(k.Kind)
	}
	return node.Value, nil
}

// follow returns the node that an alias stands for.
func follow(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode && node.Alias != nil {
		return node.Alias
	}
	return node
}
