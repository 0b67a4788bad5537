package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxTargets bounds the targets of one file.
const maxTargets = 10000

// parser turns a file into layers. It sees the nodes of the YAML document, so that each mistake has its line, and goes
// no deeper than the keys do.
type parser struct {
	file     string // as problems show it
	at       surroundings
	problems *Problems
	broken   bool // the file is no configuration at all: what it lacks cannot be told
}

// parse returns the layer above the targets and one layer for each target; nil targets where the file has none.
func (p *parser) parse(data []byte) (base layer, targets []layer) {
	base = newLayer()
	root, ok := p.document(data)
	p.broken = !ok
	if root == nil {
		return base, nil
	}
	targets = p.mapping(root, scope{}, base)
	base.complete(p.problems)
	return base, targets
}

// document returns the one document's content, nil where the file is empty; not ok where there is no reading it.
func (p *parser) document(data []byte) (root *yaml.Node, ok bool) {
	if json.Valid(data) {
		data = fromJSON(data)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, second yaml.Node
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) {
		return nil, true
	}
	if err == nil {
		if err = decoder.Decode(&second); err == nil {
			p.add(&second, "", "must be one document: a second one begins here")
			return nil, false
		}
	}
	if !errors.Is(err, io.EOF) {
		p.syntax(data, err)
		return nil, false
	}
	root = document.Content[0]
	if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		return nil, true
	}
	if root.Kind != yaml.MappingNode {
		p.add(root, "", "must be a mapping of keys to values, such as realm: {name: authelia}")
		return nil, false
	}
	return root, true
}

// fromJSON rewrites what the YAML library refuses of JSON: tabs between tokens, escaped slashes, and characters
// escaped as a surrogate pair (RFC 8259 section 7). Lines stay where they are.
func fromJSON(data []byte) []byte {
	out := make([]byte, 0, len(data))
	for i := 0; i < len(data); i++ {
		switch {
		case data[i] == '\t': // in valid JSON never inside a string
			out = append(out, ' ')
		case data[i] != '\\':
			out = append(out, data[i])
		default:
			if pair := utf16.DecodeRune(escaped(data[i:]), escaped(data[min(i+6, len(data)):])); pair != utf8.RuneError {
				out = utf8.AppendRune(out, pair)
				i += 11
				continue
			}
			i++
			if data[i] != '/' {
				out = append(out, '\\')
			}
			out = append(out, data[i])
		}
	}
	return out
}

// escaped returns the code unit of the escape \u with four digits that the text begins with, 0 where it does not.
func escaped(text []byte) rune {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0
	}
	n, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	if err != nil {
		return 0
	}
	return rune(n)
}

// syntax reports what the YAML library refuses. It says so in words alone, so its words are taken apart: the line is at
// their beginning, and an anchor's name, which may be a secret that begins with *, is kept out.
func (p *parser) syntax(data []byte, err error) {
	problem := Problem{File: p.file, Line: 1} // the library leaves line 1 out
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, found := strings.CutPrefix(message, "line "); found {
		if number, text, found := strings.Cut(rest, ": "); found {
			if n, err := strconv.Atoi(number); err == nil {
				problem.Line, message = n, text
			}
			if slices.Contains(countedFromZero, message) {
				problem.Line++
			}
		}
	}
	problem.Message = "is not valid YAML: " + message
	if name, found := strings.CutPrefix(message, "unknown anchor '"); found {
		name, _, _ = strings.Cut(name, "'")
		problem.Message = "is not valid YAML: a value that begins with * must stand in quotation marks"
		problem.Line = lineOf(data, bytes.Index(data, []byte("*"+name)))
	} else if n := lineOf(data, unreadable(data)); n > 0 {
		problem.Line, problem.Message = n, "is not valid YAML: the line holds a control character or is not UTF-8"
	} else if n := tabbed(data); n > 0 && problem.Line >= n {
		problem.Line, problem.Message = n, "is not valid YAML: the line is indented by a tab: use spaces"
	}
	p.problems.append(problem)
}

// countedFromZero are the complaints of go.yaml.in/yaml/v3 (parserc.go) whose lines it counts from zero, unlike those
// of its scanner.
var countedFromZero = []string{
	"did not find expected <document start>", "did not find expected node content", "did not find expected '-' indicator",
	"did not find expected key", "did not find expected ',' or ']'", "did not find expected ',' or '}'",
	"found undefined tag handle", "found duplicate %YAML directive", "found incompatible YAML document", "found duplicate %TAG directive",
}

// lineOf returns the line of an offset, 0 for a negative one.
func lineOf(data []byte, offset int) int {
	if offset < 0 {
		return 0
	}
	return 1 + bytes.Count(data[:offset], []byte("\n"))
}

// unreadable returns the offset of the first character that YAML does not allow, -1 where there is none. A file in
// UTF-16 begins with a byte order mark and is read as such.
func unreadable(data []byte) int {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return -1
	}
	for i, r := range string(data) {
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0x7f || r == utf8.RuneError {
			return i
		}
	}
	return -1
}

// tabbed returns the first line that is indented by a tab, 0 where none is.
func tabbed(data []byte) int {
	n := 0
	for line := range bytes.Lines(data) {
		n++
		indent := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]
		if bytes.ContainsRune(indent, '\t') && len(bytes.TrimSpace(line)) > 0 {
			return n
		}
	}
	return 0
}

// scope is where a mapping stands.
type scope struct {
	section string // "" at the top of the file or of a target
	target  string // what problems call the target: "targets.berlin"; "" above the targets
	name    string // of the target
}

func (s scope) join(name string) string {
	if s.section == "" {
		return name
	}
	return s.section + "." + name
}

// shown returns the path of a key as problems show it.
func (s scope) shown(name string) string {
	if s.target == "" {
		return s.join(name)
	}
	return s.target + "." + s.join(name)
}

// mapping reads the keys of a mapping into a layer, and returns the targets that it holds.
func (p *parser) mapping(node *yaml.Node, s scope, into layer) (targets []layer) {
	seen := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		if name.Kind != yaml.ScalarNode {
			p.add(name, s.shown("?"), "must be a name: a key cannot be a list, a mapping or an alias")
			continue
		}
		if name.ShortTag() == "!!merge" {
			p.add(name, s.shown("<<"), "merge keys are not known: what all targets share stands above them")
			continue
		}
		if first, doubled := seen[name.Value]; doubled {
			p.add(name, s.shown(printable(name.Value)), fmt.Sprintf("is there twice, first in line %d: keep one of them", first))
			continue
		}
		seen[name.Value] = name.Line
		path := s.join(name.Value)
		k := index().path[path]
		switch {
		case s.section == "" && s.target == "" && name.Value == "targets":
			targets = p.targets(name, value)
		case s.section == "" && s.target != "" && name.Value == targetName:
			// read by [parser.name], before anything that shows it
		case s.section == "" && index().section[path]:
			p.section(name, value, scope{section: path, target: s.target, name: s.name}, into)
		case k == nil:
			p.unknown(name, s, into)
		case s.target != "" && !k.Target:
			p.add(name, s.shown(name.Value), "belongs to the whole run, not to a target: move it above the targets")
		default:
			if v, ok := p.value(k, value, s.shown(name.Value)); ok {
				at := place{file: p.file, line: name.Line, key: s.shown(name.Value), source: fmt.Sprintf("%s:%d", p.file, name.Line)}
				if s.name != "" {
					at.source = "target " + s.name + ", " + at.source
				}
				into.settings[path] = setting{value: v, at: at}
			} else {
				into.refused[path] = true
			}
		}
	}
	return targets
}

func (p *parser) section(name, value *yaml.Node, s scope, into layer) {
	value = follow(value)
	switch {
	case value.Kind == yaml.MappingNode:
		p.mapping(value, s, into)
	case value.Kind == yaml.ScalarNode && value.ShortTag() == "!!null":
		// A section whose every key is commented out says nothing.
	default:
		p.add(name, scope{target: s.target}.shown(s.section), "must be a section: keys, indented, each with its value")
	}
}

func (p *parser) targets(name, value *yaml.Node) []layer {
	value = follow(value)
	if value.Kind != yaml.SequenceNode || len(value.Content) == 0 {
		p.add(name, "targets", "must be a list of at least one target, each with its name")
		return nil
	}
	if len(value.Content) > maxTargets {
		p.add(name, "targets", fmt.Sprintf("must be at most %d targets", maxTargets))
		return nil
	}
	var layers []layer
	lines := map[string]int{}
	for i, item := range value.Content {
		line := item.Line
		item = follow(item)
		shown := fmt.Sprintf("targets[%d]", i)
		if item.Kind != yaml.MappingNode {
			p.problems.add(place{file: p.file, line: line, key: shown}, "must be a target: a name and the keys in which it differs")
			continue
		}
		target := p.name(item, shown, line)
		if target != "" {
			// Names become file names, which some systems take for the same in either case.
			if first, doubled := lines[strings.ToLower(target)]; doubled {
				p.problems.add(place{file: p.file, line: line, key: shown + ".name"}, fmt.Sprintf("is the name of the target in line %d as well", first))
			}
			lines[strings.ToLower(target)] = line
			shown = "targets." + target
		}
		l := newLayer()
		l.target, l.at = target, place{file: p.file, line: line, key: shown}
		p.mapping(item, scope{target: shown, name: target}, l)
		l.complete(p.problems)
		layers = append(layers, l)
	}
	return layers
}

// targetName is the key of a target's name. It is not in the list of keys: flags and variables cannot set it.
const targetName = "name"

// name returns the name of a target, "" where it has none or a wrong one.
func (p *parser) name(item *yaml.Node, shown string, line int) string {
	for i := 0; i+1 < len(item.Content); i += 2 {
		if item.Content[i].Kind != yaml.ScalarNode || item.Content[i].Value != targetName {
			continue
		}
		value := follow(item.Content[i+1])
		if value.Kind != yaml.ScalarNode || value.ShortTag() != "!!str" || !validTarget(value.Value) {
			p.add(item.Content[i], shown+".name", "must be 1 to 64 letters, digits, '.', '_' or '-', a letter or digit first; a number stands in quotation marks")
			return ""
		}
		return value.Value
	}
	p.problems.add(place{file: p.file, line: line, key: shown}, "has no name: reports, -t and recovery files need one")
	return ""
}

// validTarget tells whether a name is safe as part of a file name on every system.
func validTarget(name string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	return len(name) >= 1 && len(name) <= 64 && strings.Trim(name, letters+"._-") == "" &&
		strings.ContainsRune(letters, rune(name[0])) && !strings.HasSuffix(name, ".")
}

// unknown reports a key that is none. The nearest key counts as given, though wrongly: it is not missing as well.
func (p *parser) unknown(name *yaml.Node, s scope, into layer) {
	var candidates []string
	for _, k := range table() {
		candidates = append(candidates, k.Path)
	}
	if s.section == "" {
		candidates = append(candidates, slices.Sorted(maps.Keys(index().section))...)
		if s.target == "" {
			candidates = append(candidates, "targets")
		}
	}
	shown := printable(name.Value)
	if shown == unprintable { // such as root@pam!id=secret without a key before it
		p.add(name, s.shown(shown), "is no key: its name is not shown, as it may be a value")
		return
	}
	near := nearest(s.join(shown), candidates, ".")
	for _, k := range table() {
		if k.Path == near || strings.HasPrefix(k.Path, near+".") {
			into.refused[k.Path] = true
		}
	}
	p.add(name, s.shown(shown), "is no key"+suggestion(near))
}

const unprintable = "?"

// printable returns a name that was found where a key or variable should be, if it looks like a name and not like a value.
func printable(name string) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-."
	digits := len(name) - len(strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, name))
	if name == "" || len(name) > 60 || digits > 3 || strings.Trim(name, letters+"0123456789") != "" {
		return unprintable
	}
	return name
}

// value reads a value of the kind that the key has.
func (p *parser) value(k *key, node *yaml.Node, shown string) (any, bool) {
	line := node.Line
	node = follow(node)
	refuse := func(message string) (any, bool) {
		p.problems.add(place{file: p.file, line: line, key: shown}, message)
		return nil, false
	}
	if node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null" {
		return refuse(k.plain("").Error())
	}
	if k.Kind == List || k.Kind == Command {
		if node.Kind != yaml.SequenceNode {
			return refuse("must be " + form(k) + ", each an element of its own")
		}
		var words []string
		var lines []int
		for _, element := range node.Content {
			lines = append(lines, element.Line)
			element = follow(element)
			if element.Kind != yaml.ScalarNode || element.ShortTag() != "!!str" {
				line = lines[len(lines)-1]
				return refuse("must be " + form(k) + ": quote what YAML takes for a number, a boolean or nothing")
			}
			words = append(words, element.Value)
		}
		v, i, err := k.list(words)
		if err != nil {
			if i >= 0 {
				line = lines[i]
			}
			return refuse(err.Error())
		}
		return v, true
	}
	if node.Kind != yaml.ScalarNode {
		return refuse("must be " + form(k))
	}
	switch tag := node.ShortTag(); {
	case tag == map[Kind]string{Bool: "!!bool", Int: "!!int"}[k.Kind]:
	case tag == "!!str" && k.Kind != Bool && k.Kind != Int:
	case (k.Kind == String || k.Kind == Path) && tag != "!!str":
		return refuse("must be " + form(k) + ": quote what YAML takes for a number, a boolean or a date")
	default:
		return refuse("must be " + form(k))
	}
	v, err := k.scalar(node.Value, p.at)
	if err != nil {
		return refuse(err.Error())
	}
	return v, true
}

// form completes "must be …".
func form(k *key) string {
	switch k.Kind {
	case Bool:
		return "true or false, without quotation marks"
	case Int:
		return fmt.Sprintf("a whole number from %d to %d", k.low, k.high)
	case Duration:
		return "a duration with its unit, such as 45s or 1h30m"
	case Percent:
		return "a percentage, such as 10%"
	case Enum:
		return "one of " + strings.Join(k.Choices, ", ")
	case List:
		return "a list of texts, such as [a, b]"
	case Command:
		return "a list of a program and its arguments, such as [pass, show, name]"
	case Path:
		return "the path of a file"
	case String:
	}
	return "a text"
}

// follow returns what an alias stands for. An anchor inside its own value goes no deeper than the keys do.
func follow(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode && node.Alias != nil {
		return node.Alias
	}
	return node
}

func (p *parser) add(node *yaml.Node, key, message string) {
	p.problems.add(place{file: p.file, line: node.Line, key: key}, message)
}
