package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"proxmox-realm/internal/check"
)

// parser turns a file into layers. It walks over the nodes of the YAML document, so that each mistake has its line. It
// checks the keys and the kinds of their values; the fields of the keys parse the texts.
type parser struct{ problems *Problems }

// parse reads a file into a layer, and returns the layers of the targets in it; nil if it names none.
func (p parser) parse(data []byte, into *layer) (targets []layer) {
	root, ok := p.root(data, into.at)
	into.broken = !ok
	switch {
	case root != nil:
		targets = p.section(root, "", *into)
		into.complete(p.problems)
	case ok && into.overlay:
		p.problems.addf(into.at, "", "is empty: a target needs the keys in which it differs")
		into.broken = true
	}
	return targets
}

// root returns the mapping of the keys, nil if the file is empty. It is not ok if the file cannot be read as a configuration.
func (p parser) root(data []byte, at Position) (root *yaml.Node, ok bool) {
	documents, err := Documents(data)
	var syntax *SyntaxError
	switch {
	case errors.As(err, &syntax):
		p.problems.add(at.line(syntax.Line), "", advised(syntax, data))
		return nil, false
	case len(documents) > 1:
		p.problems.addf(at.line(documents[1].Line), "", "must be one document: a second one begins here")
		return nil, false
	case len(documents) == 0:
		return nil, true
	}
	root = documents[0].Content[0]
	if root.ShortTag() == "!!null" {
		return nil, true
	}
	if root.Kind != yaml.MappingNode {
		p.problems.addf(at.line(root.Line), "", "must be a mapping of keys to values, such as realm: {name: authelia}")
		return nil, false
	}
	return root, true
}

// entry is one key of a mapping, with its value.
type entry struct {
	name  string
	at    Position
	value *yaml.Node
}

// entries returns the keys of a mapping. It reports keys that are doubled or that are no names. The position of the mapping
// says to which target it belongs.
func (p parser) entries(node *yaml.Node, in Position, section string) (all []entry) {
	lines := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		at := in.line(key.Line)
		switch first, doubled := lines[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			p.problems.addf(at, join(section, unprintable), "a key must be a name, not a list, a mapping or an alias")
		case key.ShortTag() == "!!merge":
			p.problems.addf(at, section, "merge keys (<<) are not supported: move what all targets share above them")
		case doubled:
			p.problems.addf(at, join(section, printable(key.Value)), "is set twice, first in line %d: keep one of them", first)
		default:
			all = append(all, entry{key.Value, at, follow(node.Content[i+1])})
		}
		lines[key.Value] = key.Line
	}
	return all
}

// join returns the path of a key in a section; section "" is the file or a target.
func join(section, name string) string { return strings.TrimPrefix(section+"."+name, ".") }

// section reads the keys of a section, or of the file or a target if section is "", and returns the targets in it.
func (p parser) section(node *yaml.Node, section string, into layer) (targets []layer) {
	for _, e := range p.entries(node, into.at, section) {
		path := join(section, e.name)
		k := index().path[path]
		switch {
		case path == "targets" && !into.overlay:
			targets = p.targets(e)
		case path == "targets":
			p.problems.addf(e.at, path, "cannot be in a target")
		case path == "name" && into.overlay && into.at.Target == "":
			p.problems.addf(e.at, path, "is the name of the file already: remove the key")
		case path == "name" && into.overlay:
			// [parser.name] has read it
		case index().section[path] && e.value.Kind == yaml.MappingNode:
			p.section(e.value, path, into)
		case index().section[path] && e.value.ShortTag() == "!!null": // all keys of the section are commented out
		case index().section[path]:
			p.problems.addf(e.at, path, "must be a section: keys, indented, each with its value")
		case k == nil:
			p.problems.add(e.at, join(section, printable(e.name)), unknown(section, e.name, into.overlay))
		case into.overlay && !k.Target:
			p.problems.addf(e.at, path, "belongs to the whole run, not to a target")
		default:
			into.settings[path] = p.setting(k, e)
		}
	}
	return targets
}

// setting reads the value of a key.
func (p parser) setting(k *Key, e entry) (s setting) {
	var err error
	s.key, s.at = k, e.at
	if k.Kind == Grants {
		s.access, err = p.access(e)
	} else {
		s.words, err = k.read(e.value)
	}
	if s.wrong = err != nil; s.wrong {
		p.problems.add(e.at, k.Path, err)
	}
	return s
}

func (p parser) targets(e entry) []layer {
	if e.value.Kind != yaml.SequenceNode || len(e.value.Content) == 0 {
		p.problems.addf(e.at, "targets", "must be a list of at least one target, each with its name")
		return nil
	}
	var layers []layer
	for i, item := range e.value.Content {
		l := newLayer(e.at.line(item.Line))
		l.overlay, l.at.Target = true, fmt.Sprintf("targets[%d]", i)
		if item = follow(item); item.Kind != yaml.MappingNode {
			p.problems.addf(l.at, "", "must be a target: a name and the keys in which it differs")
			continue
		}
		if l.target = p.name(item, l.at); l.target != "" {
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
func (p parser) name(item *yaml.Node, at Position) string {
	for i := 0; i+1 < len(item.Content); i += 2 {
		if item.Content[i].Value != "name" {
			continue
		}
		value := follow(item.Content[i+1])
		if value.Kind != yaml.ScalarNode || value.ShortTag() != "!!str" || !isTargetName(value.Value) {
			p.problems.addf(at.line(item.Content[i].Line), "name", "must be "+nameForm+"; put a number in quotation marks")
			return ""
		}
		return value.Value
	}
	p.problems.addf(at, "", "has no name: reports, -t and recovery files need one")
	return ""
}

// targetName matches names that are safe as part of a file name on every system. Their length is checked apart.
var targetName = check.Pattern(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9_-])?$`)

func isTargetName(name string) bool { return len(name) <= 64 && targetName().MatchString(name) }

const nameForm = "1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit and not ending with '.'"

// unknown says that a key does not exist.
func unknown(section, name string, inTarget bool) error {
	shown := join(section, printable(name))
	if printable(name) == unprintable { // such as root@pam!id=secret without a key before it
		return errors.New("is not a key; its name is not shown because it may be a value")
	}
	candidates := slices.Collect(maps.Keys(index().path))
	if section == "" {
		candidates = append(candidates, slices.Collect(maps.Keys(index().section))...)
		if !inTarget {
			candidates = append(candidates, "targets")
		}
	}
	slices.Sort(candidates)
	if near := Nearest(shown, candidates); near != "" {
		return check.Errorf(check.Config, "is not a key%s", didYouMean(near))
	}
	return check.Errorf(check.Config, "is not a key").Try("it lists the keys:\n    {help config}")
}

const unprintable = "?"

var printableName = check.Pattern(`^[A-Za-z_.-]*([0-9][A-Za-z_.-]*){0,3}$`)

// printable returns a name found in place of a key or variable if it looks like a name and not like a value.
func printable(name string) string {
	if name == "" || len(name) > 60 || !printableName().MatchString(name) {
		return unprintable
	}
	return name
}

// read returns the value of a key as it was written: the words of a list, or else one.
func (k *Key) read(node *yaml.Node) ([]string, error) {
	tag := node.ShortTag()
	want := map[Kind]string{Bool: "!!bool", Int: "!!int"}[k.Kind]
	switch {
	case tag == "!!null":
		return nil, k.mustNotBeEmpty()
	case k.Kind == List || k.Kind == Command:
		return readList(node, mustBe(k.Kind))
	case node.Kind == yaml.ScalarNode && tag == cmp.Or(want, "!!str"):
		return []string{node.Value}, nil
	case node.Kind == yaml.ScalarNode && (k.Kind == String || k.Kind == Path):
		return nil, fmt.Errorf("%w: put a number, a boolean or a date in quotation marks", mustBe(k.Kind))
	}
	return nil, mustBe(k.Kind)
}

// readList returns the words of a list.
func readList(node *yaml.Node, form error) ([]string, error) {
	if node.Kind != yaml.SequenceNode {
		return nil, fmt.Errorf("%w, each an element of its own", form)
	}
	var all []string
	for _, element := range node.Content {
		element = follow(element)
		if element.Kind != yaml.ScalarNode || element.ShortTag() != "!!str" {
			return nil, fmt.Errorf("%w: put a number, a boolean or null in quotation marks", form)
		}
		all = append(all, element.Value)
	}
	return all, nil
}

// follow returns the node that an alias stands for.
func follow(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode && node.Alias != nil {
		return node.Alias
	}
	return node
}
