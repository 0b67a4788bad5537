package authelia

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

// File is one file of Authelia's configuration. Name is used in evidence alone.
type File struct {
	Name string
	Data []byte
}

// maxFile bounds a file, in bytes; Authelia's annotated template has 80 KiB.
const maxFile = 1 << 20

// filled stands for what a template puts in place of an action: a character of the private use area, which
// YAML takes in every place where text can stand.
const filled = "\uE000"

// document is a file read leniently: what Authelia's file filters fill in stays unknown, and a file that is no
// YAML is searched for the one client alone.
type document struct {
	name       string
	root       *yaml.Node  // nil where there is none
	filters    bool        // it has templates
	templated  int         // line of the first template action that may write whole lines; 0: none
	broken     int         // line at which the file stops being YAML; 0: none
	pairs      [][2]string // keys and values by line, of a file that is no YAML
	unreadable string      // why nothing could be read; ""
}

// parse reads a file. It keeps line numbers as they are in the file.
func parse(file File, clientID string) document {
	doc := document{name: file.Name}
	if doc.name == "" {
		doc.name = "configuration.yml"
	}
	if doc.unreadable = unreadable(file.Data); doc.unreadable != "" {
		return doc
	}
	text, templated := withoutTemplates(file.Data)
	doc.templated, doc.filters = templated, action().Match(file.Data)
	root := &yaml.Node{}
	if err := yaml.Unmarshal(text, root); err != nil {
		doc.broken = lineOf(err)
		doc.pairs = pairs(text)
		root = excerpt(text, clientID)
	}
	if root != nil && root.Kind == yaml.DocumentNode && len(root.Content) == 1 {
		doc.root = root.Content[0]
	}
	return doc
}

// lineOf takes the line number, and nothing else, from a syntax error: the library has it in the text alone, and
// the rest of the text may quote the file.
func lineOf(err error) int {
	if m := errorLine().FindStringSubmatch(err.Error()); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil && n > 0 {
			return n
		}
	}
	return 1
}

// Patterns are compiled at their first use: one command of many needs them.
var (
	errorLine = lazily(`line (\d+)`)
	action    = lazily(`(?s)\{\{.*?\}\}`)
	// control matches actions that write nothing of their own.
	control = lazily(`^\{\{-?\s*(if|else|end|with|define|block|break|continue|/\*|\$\w+\s*:?=)`)
)

func lazily(pattern string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(pattern) })
}

// withoutTemplates replaces Go template actions (Authelia's `template` file filter): one that has its line to itself by an
// empty line, any other by [filled]. Lines stay where they are.
func withoutTemplates(data []byte) (text []byte, firstWriting int) {
	var out bytes.Buffer
	last, line := 0, 1
	for _, at := range action().FindAllIndex(data, -1) {
		out.Write(data[last:at[0]])
		line += bytes.Count(data[last:at[0]], []byte("\n"))
		body := data[at[0]:at[1]]
		alone := ownLine(data, at[0], at[1])
		if alone && firstWriting == 0 && !control().Match(body) {
			firstWriting = line
		}
		if !alone {
			out.WriteString(filled)
		}
		out.Write(bytes.Repeat([]byte("\n"), bytes.Count(body, []byte("\n"))))
		line += bytes.Count(body, []byte("\n"))
		last = at[1]
	}
	out.Write(data[last:])
	return out.Bytes(), firstWriting
}

// ownLine tells whether nothing but white space and other actions share the action's line. Lines of more than
// maxLine bytes are not looked at, or a file of actions alone would take hours.
func ownLine(data []byte, from, to int) bool {
	const maxLine = 4 << 10
	before, after := data[max(0, from-maxLine):from], data[to:min(len(data), to+maxLine)]
	start, end := bytes.LastIndexByte(before, '\n'), bytes.IndexByte(after, '\n')
	if start < 0 && from > maxLine || end < 0 && to+maxLine < len(data) {
		return false
	}
	if end >= 0 {
		after = after[:end]
	}
	before, after = action().ReplaceAll(before[start+1:], nil), action().ReplaceAll(after, nil)
	return len(bytes.TrimSpace(before)) == 0 && len(bytes.TrimSpace(after)) == 0
}

// excerpt finds the list item of one client by its indentation, for a file that is no YAML as a whole. The
// item comes back inside identity_providers.oidc.clients, each line where it was; nil where it is not found.
func excerpt(text []byte, clientID string) *yaml.Node {
	lines := strings.Split(string(text), "\n")
	names := regexp.MustCompile(`^\s*(-\s+)?['"]?(client_id|id)['"]?\s*:\s*['"]?` + regexp.QuoteMeta(clientID) + `['"]?\s*(#.*)?$`)
	attempts := 0
	for at, line := range lines {
		if attempts == 8 {
			break
		}
		if !names.MatchString(strings.TrimRight(line, "\r")) {
			continue
		}
		attempts++
		start := at
		for start >= 0 && (blank(lines[start]) || !strings.HasPrefix(strings.TrimLeft(lines[start], " "), "- ") || indentation(lines[start]) > indentation(line)) {
			start--
		}
		if start < 0 || start < at && indentation(lines[start]) >= indentation(line) {
			continue
		}
		end := start + 1
		for end < len(lines) && (blank(lines[end]) || indentation(lines[end]) > indentation(lines[start])) {
			end++
		}
		padded := strings.Repeat("\n", start) + strings.Join(lines[start:end], "\n")
		var item yaml.Node
		if yaml.Unmarshal([]byte(padded), &item) != nil || len(item.Content) != 1 {
			continue
		}
		return &yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{
			mapping("identity_providers", mapping("oidc", mapping("clients", item.Content[0]))),
		}}
	}
	return nil
}

var pair = lazily(`(?m)^[ \t-]*['"]?(\w+)['"]?[ \t]*:[ \t]*['"]?(.*?)['"]?[ \t]*(?:#.*)?\r?$`)

// pairs reads what looks like a key with its value on one line.
func pairs(text []byte) [][2]string {
	var out [][2]string
	for _, m := range pair().FindAllSubmatch(text, -1) {
		out = append(out, [2]string{string(m[1]), string(m[2])})
	}
	return out
}

func blank(line string) bool {
	line = strings.TrimSpace(line)
	return line == "" || strings.HasPrefix(line, "#")
}

func indentation(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }

// maxDepth bounds aliases of aliases and merges of merges, which may run in circles.
const maxDepth = 8

// resolve follows aliases.
func resolve(n *yaml.Node) *yaml.Node {
	for depth := 0; n != nil && n.Kind == yaml.AliasNode; depth++ {
		if depth == maxDepth {
			return nil
		}
		n = n.Alias
	}
	return n
}

// entry is a key of a mapping with its value, aliases resolved. The line is the key's, which for a merged key is where
// it was written.
type entry struct {
	key   string
	line  int
	value *yaml.Node
}

// entries returns the keys of a mapping in their order, keys merged by `<<` after the mapping's own.
func entries(n *yaml.Node) []entry {
	var own []entry
	budget := 1024 // merges of merges multiply
	collect(n, 0, &budget, func(e entry) { own = append(own, e) })
	return own
}

func collect(n *yaml.Node, depth int, budget *int, add func(entry)) {
	n = resolve(n)
	if n == nil || n.Kind != yaml.MappingNode || depth > maxDepth {
		return
	}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content) && *budget > 0; i += 2 {
		*budget--
		key, value := n.Content[i], resolve(n.Content[i+1])
		switch {
		case value == nil:
		case key.Tag == "!!merge" && value.Kind == yaml.SequenceNode:
			merged = append(merged, value.Content[:min(len(value.Content), 64)]...)
		case key.Tag == "!!merge":
			merged = append(merged, value)
		default:
			add(entry{key: key.Value, line: key.Line, value: value})
		}
	}
	for _, m := range merged {
		collect(m, depth+1, budget, add)
	}
}

// lookup returns the entry of a key, the first where there are several: own before merged.
func lookup(n *yaml.Node, key string) (entry, bool) {
	for _, e := range entries(n) {
		if e.key == key {
			return e, true
		}
	}
	return entry{}, false
}

// at walks down nested mappings.
func at(n *yaml.Node, path ...string) *yaml.Node {
	for _, key := range path {
		e, ok := lookup(n, key)
		if !ok {
			return nil
		}
		n = e.value
	}
	return resolve(n)
}

// scalar returns the text of a scalar; known is false where a file filter fills in a part of it.
func scalar(n *yaml.Node) (text string, known bool) {
	n = resolve(n)
	if n == nil || n.Kind != yaml.ScalarNode {
		return "", false
	}
	if n.Tag == "!!null" {
		return "", true
	}
	return n.Value, !strings.Contains(n.Value, filled) && !hasVariable(n.Value)
}

// hasVariable tells whether Authelia's `expand-env` file filter, where it is on, fills in a part of a value. A
// digest is full of dollars, with its algorithm in lower case after the first: of what begins with one, only a value that is a
// variable as a whole counts, or one whose dollars are doubled for the filter to halve.
func hasVariable(value string) bool {
	if strings.HasPrefix(value, "$") {
		return strings.HasPrefix(value, "$$") || wholeVariable().MatchString(value)
	}
	return variable().MatchString(value)
}

var (
	wholeVariable = lazily(`^\$(\{\w+\}|[A-Z_][A-Z0-9_]*)$`)
	variable      = lazily(`\$(\{\w+\}|[A-Z_][A-Z0-9_]*)`)
)

// word is one item of a list, with its line.
type word struct {
	text string
	line int
}

// words returns the items of a list; a scalar is split at commas, as Authelia does. known is false where a file filter
// fills in an item.
func words(n *yaml.Node) (items []word, known bool) {
	n = resolve(n)
	if n == nil {
		return nil, true
	}
	if n.Kind == yaml.ScalarNode {
		text, known := scalar(n)
		for part := range strings.SplitSeq(text, ",") {
			if part != "" {
				items = append(items, word{part, n.Line})
			}
		}
		return items, known
	}
	known = n.Kind == yaml.SequenceNode
	for _, item := range n.Content {
		text, ok := scalar(item)
		known = known && ok
		items = append(items, word{text, item.Line})
	}
	return items, known
}
