package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// maxTargets bounds the targets of one file.
const maxTargets = 10000

// parser turns a file into layers. It walks over the nodes of the YAML document, so that each mistake has its line. It
// checks the keys and the kinds of their values; [values] parses the texts.
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
	targets = p.mapping(root, "", base)
	base.complete(p.problems)
	return base, targets, true
}

// quoted is what YAML's messages quote beyond a single character: an anchor's name, which may be a secret that begins
// with an asterisk.
var quoted = regexp.MustCompile(`'[^' ]{2,}'`)

// document returns the content of the one document, nil if the file is empty.
func (p *parser) document(data []byte) (root *yaml.Node, ok bool) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, second yaml.Node
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) {
		return nil, true
	}
	if err == nil {
		if err = decoder.Decode(&second); err == nil {
			p.problems.addf(p.line(&second, ""), "", "must be one document: a second one begins here")
			return nil, false
		}
	}
	if !errors.Is(err, io.EOF) {
		e := check.Errorf(check.Config, "%s", quoted.ReplaceAllString(err.Error(), "'…'"))
		if e.Message != err.Error() {
			e = e.Try(check.Advise("put a value that begins with * in quotation marks"))
		}
		p.problems.add(p.at, "", e)
		return nil, false
	}
	root = document.Content[0]
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

// mapping reads the keys of a section, or of the file or a target if section is "", and returns the targets in it.
func (p *parser) mapping(node *yaml.Node, section string, into layer) (targets []layer) {
	seen := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		at := p.line(name, into.at.Target)
		path := strings.TrimPrefix(section+"."+name.Value, ".")
		shown := strings.TrimPrefix(section+"."+printable(name.Value), ".")
		k := index().path[path]
		switch first, doubled := seen[name.Value]; {
		case name.Kind != yaml.ScalarNode:
			p.problems.addf(at, strings.TrimPrefix(section+".?", "."), "a key must be a name, not a list, a mapping or an alias")
		case name.ShortTag() == "!!merge":
			p.problems.addf(at, strings.TrimPrefix(section+".<<", "."), "merge keys are not supported: move what all targets share above them")
		case doubled:
			p.problems.addf(at, shown, "is there twice, first in line %d: keep one of them", first)
		case path == "targets" && !into.overlay:
			targets = p.targets(at, value)
		case path == "name" && into.overlay && into.at.Target == "":
			p.problems.addf(at, path, "is the name of the file already: remove the key")
		case path == "name" && into.overlay:
			// [parser.name] has read it
		case path == "targets":
			p.problems.addf(at, path, "cannot be in a target")
		case index().section[path]:
			p.section(at, path, value, into)
		case k == nil:
			p.unknown(at, section, shown, into)
		case into.overlay && !k.Target:
			p.problems.addf(at, path, "belongs to the whole run, not to a target")
		case k.Kind == Grants:
			p.access(at, value, into)
		default:
			s := setting{at: at}
			if err := s.read(k, value); err != nil {
				if s.value = nil; len(s.lines) > 0 {
					at.Line = s.lines[len(s.lines)-1]
				}
				p.problems.add(at, path, err)
			}
			into.settings[path] = s
		}
		seen[name.Value] = name.Line
	}
	return targets
}

func (p *parser) section(at Place, name string, value *yaml.Node, into layer) {
	value = follow(value)
	switch {
	case value.Kind == yaml.MappingNode:
		p.mapping(value, name, into)
	case value.ShortTag() == "!!null": // all keys of the section are commented out
	default:
		p.problems.addf(at, name, "must be a section: keys, indented, each with its value")
	}
}

func (p *parser) targets(at Place, value *yaml.Node) []layer {
	value = follow(value)
	if value.Kind != yaml.SequenceNode || len(value.Content) == 0 {
		p.problems.addf(at, "targets", "must be a list of at least one target, each with its name")
		return nil
	}
	if len(value.Content) > maxTargets {
		p.problems.addf(at, "targets", "must be at most %d targets", maxTargets)
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
		p.mapping(item, "", l)
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
		if value.Kind != yaml.ScalarNode || value.ShortTag() != "!!str" || !targetName.MatchString(value.Value) {
			p.problems.addf(p.line(item.Content[i], at.Target), "name", "must be "+nameForm+"; put a number in quotation marks")
			return ""
		}
		return value.Value
	}
	p.problems.addf(at, "", "has no name: reports, -t and recovery files need one")
	return ""
}

// targetName matches names that are safe as part of a file name on every system.
var targetName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?$`)

const nameForm = "1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit and not ending with '.'"

// unknown reports a key that does not exist. The nearest key counts as given, though wrongly: it is not missing as well.
func (p *parser) unknown(at Place, section, shown string, into layer) {
	if strings.HasSuffix(shown, unprintable) { // such as root@pam!id=secret without a key before it
		p.problems.addf(at, shown, "is not a key; its name is not shown because it may be a value")
		return
	}
	var candidates []string
	for _, k := range table() {
		candidates = append(candidates, k.Path)
	}
	if section == "" {
		candidates = append(candidates, slices.Sorted(maps.Keys(index().section))...)
		if !into.overlay {
			candidates = append(candidates, "targets")
		}
	}
	near := nearest(shown, candidates)
	for _, k := range table() {
		if k.Path == near || strings.HasPrefix(k.Path, near+".") {
			into.markWrong(k.Path, at)
		}
	}
	p.problems.addf(at, shown, "is not a key%s", suggestion(near))
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

// read takes over the value of a key if it is of the kind that the key has. On a mistake in a list, the last of s.lines is
// that of the wrong element.
func (s *setting) read(k *key, node *yaml.Node) error {
	node = follow(node)
	tag := node.ShortTag()
	switch {
	case tag == "!!null":
		return empty(k.Path)
	case k.Kind == List || k.Kind == Command:
		if node.Kind != yaml.SequenceNode {
			return fmt.Errorf("must be %s, each an element of its own", k.form())
		}
		words := []string{}
		for _, element := range node.Content {
			s.lines = append(s.lines, element.Line)
			element = follow(element)
			if element.Kind != yaml.ScalarNode || element.ShortTag() != "!!str" {
				return fmt.Errorf("must be %s: put a number, a boolean or null in quotation marks", k.form())
			}
			words = append(words, element.Value)
		}
		s.value = words
		return nil
	case node.Kind != yaml.ScalarNode:
		return fmt.Errorf("must be %s", k.form())
	}
	s.value = node.Value
	switch {
	case k.Kind == Bool && tag != "!!bool":
		if value, ok := map[string]string{"yes": "true", "on": "true", "no": "false", "off": "false"}[strings.ToLower(node.Value)]; ok {
			return check.Errorf(check.Config, "must be true or false, without quotation marks").
				Try(check.Set(k.Path, value).With("yes, no, on and off are texts in YAML 1.2"))
		}
		return fmt.Errorf("must be %s", k.form())
	case k.Kind == Int && tag != "!!int":
		return fmt.Errorf("must be %s", k.form())
	case k.Kind != Bool && k.Kind != Int && tag != "!!str":
		if k.Kind == String || k.Kind == Path {
			return fmt.Errorf("must be %s: put a number, a boolean or a date in quotation marks", k.form())
		}
		return fmt.Errorf("must be %s", k.form())
	}
	return nil
}

// empty is the error of a key without a value.
func empty(path string) error {
	name := strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(path, "realm."), "_file"), "_command")
	if d, ok := realm.ByKey(name); ok && strings.HasPrefix(path, "realm.") && !d.Required && !d.CreateOnly {
		return check.Errorf(check.Config, "must not be empty").Try(check.Unset("realm." + name).With("it removes the property"))
	}
	return errors.New("must not be empty: leave it out instead")
}

// follow returns the node that an alias stands for.
func follow(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode && node.Alias != nil {
		return node.Alias
	}
	return node
}
