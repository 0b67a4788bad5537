package authelia

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// end returns how many lines of the file come before the end of the last client. To the list belong, from its first dash
// on, the lines that are deeper than the dash and the dashes in its column. There must be as many dashes as clients.
func (l *layout) end() (int, error) {
	column := l.clients.Column - 1
	end, dashes, blank := 0, 0, false
	for i := l.clients.Line - 1; i < len(l.lines); i++ {
		line := strings.TrimRight(l.lines[i], "\r\n\u0085\u2028\u2029 \t")
		depth := len(line) - len(strings.TrimLeft(line, " "))
		rest := line[min(depth, len(line)):]
		switch {
		case rest == "":
			blank = true
			continue
		case rest[0] == '#' && (blank || depth <= column): // a comment may belong to what follows
			continue
		case depth == column && (rest == "-" || strings.HasPrefix(rest, "- ") || strings.HasPrefix(rest, "-\t")):
			dashes++
		case depth <= column:
			return end, l.count(dashes)
		}
		end, blank = i+1, false
	}
	return end, l.count(dashes)
}

func (l *layout) count(dashes int) error {
	if dashes != len(l.clients.Content) {
		return refuse(l.clients.Line, "the list has %d clients, but %d dashes in the column of the first",
			len(l.clients.Content), dashes)
	}
	return nil
}

// insert returns the text with lines behind the first n lines, with the line ends of the file.
func (l *layout) insert(n int, added string) string {
	before := strings.Join(l.lines[:n], "")
	ending := "\n"
	for _, e := range []string{"\r\n", "\n", "\r"} {
		if strings.HasSuffix(l.lines[0], e) {
			ending = e
			break
		}
	}
	added = strings.ReplaceAll(added, "\n", ending)
	if !strings.HasSuffix(before, "\n") && !strings.HasSuffix(before, "\r") {
		before += ending
	}
	return before + added + strings.Join(l.lines[n:], "")
}

// indent moves a printed client. Its dash stands in a column (from 0), and its keys so many columns behind it. Comments
// before the dash are left out.
func indent(block string, dash, keys int) string {
	var out strings.Builder
	item := false
	for line := range strings.Lines(block) {
		switch rest, first := strings.CutPrefix(line, "      - "); {
		case first:
			item = true
			out.WriteString(strings.Repeat(" ", dash) + "-" + strings.Repeat(" ", keys-1) + rest)
		case item:
			out.WriteString(strings.Repeat(" ", dash+keys) + strings.TrimPrefix(line, "        "))
		}
	}
	return out.String()
}

// token returns where a scalar begins and ends in the text. It must stand in one line.
func (l *layout) token(scalar *yaml.Node) (from, to int, err error) {
	for _, line := range l.lines[:scalar.Line-1] {
		from += len(line)
	}
	line := l.lines[scalar.Line-1]
	if scalar.Line == 1 && strings.HasPrefix(line, "\uFEFF") { // YAML counts no byte order mark
		from, line = from+3, line[3:]
	}
	for range scalar.Column - 1 {
		_, size := utf8.DecodeRuneInString(line)
		from, line = from+size, line[size:]
	}
	n := 0
	switch scalar.Style {
	case yaml.SingleQuotedStyle:
		n = len(singleQuoted().FindString(line))
	case yaml.DoubleQuotedStyle:
		n = len(doubleQuoted().FindString(line))
	case 0:
		if strings.HasPrefix(line, scalar.Value) {
			n = len(scalar.Value)
		}
	}
	if n < 1 {
		return 0, 0, refuse(scalar.Line, "the secret is not written in one line")
	}
	return from, from + n, nil
}

// Quoted scalars at the beginning of a line.
var (
	singleQuoted = pattern(`^'(?:[^']|'')*'`)
	doubleQuoted = pattern(`^"(?:\\.|[^"\\])*"`)
)

// proveAppended parses the result. Without its last client it must equal the configuration before, and that client the
// printed one.
func (l *layout) proveAppended(after, block []byte) error {
	const reason = "the file would not hold exactly the former configuration and the client"
	now, err := editable(after)
	if err != nil {
		return refuse(l.clients.Line, "%s: %v", reason, err)
	}
	printed, _, err := readYAML(block)
	if err != nil || printed[0] == nil || len(printed[0].Content) != 1 {
		return refuse(0, "the printed client is not YAML")
	}
	last := len(now.clients.Content) - 1
	added := now.clients.Content[last]
	now.clients.Content = now.clients.Content[:last]
	if !same(l.root, now.root) || !same(printed[0].Content[0], added) || !adds(l.text, string(after)) {
		return refuse(l.clients.Line, reason)
	}
	return nil
}

// proveReplaced parses the result. It must equal the configuration before, except the one secret.
func (l *layout) proveReplaced(after []byte, client *yaml.Node, key, digest string) error {
	const reason = "the file would not hold exactly the former configuration and the digest"
	former := pair(client, key)
	now, err := editable(after)
	if err != nil {
		return refuse(former.Line, "%s: %v", reason, err)
	}
	i := slices.Index(l.clients.Content, client)
	if i < 0 || i >= len(now.clients.Content) {
		return refuse(former.Line, reason)
	}
	secret := pair(now.clients.Content[i], key)
	if secret == nil || !same(secret, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: digest, Style: yaml.SingleQuotedStyle}) {
		return refuse(former.Line, reason)
	}
	*secret = *former
	if !same(l.root, now.root) {
		return refuse(former.Line, reason)
	}
	return nil
}

// same tells whether two nodes hold the same in the same form: kind, tag, value, style and anchor.
func same(a, b *yaml.Node) bool {
	if a.Kind != b.Kind || a.Tag != b.Tag || a.Value != b.Value || a.Style != b.Style || a.Anchor != b.Anchor ||
		len(a.Content) != len(b.Content) {
		return false
	}
	for i := range a.Content {
		if !same(a.Content[i], b.Content[i]) {
			return false
		}
	}
	return true
}

// adds tells whether a text is another one with something inserted in one place.
func adds(before, after string) bool {
	a, b := []byte(before), []byte(after)
	return len(b) >= len(a) && bytes.HasSuffix(b, a[common(a, b):])
}
