package authelia

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"proxmox-realm/internal/check"
)

// behind returns the line of the first node behind the list of clients, or 0.
func (l *layout) behind() int {
	inside := map[*yaml.Node]bool{}
	for n := range nodes(l.clients) {
		inside[n] = true
	}
	passed := false
	return lineOf(l.root, func(n *yaml.Node) bool {
		passed = passed || inside[n]
		return passed && !inside[n]
	})
}

// depthOfComment returns the column of a line that is a comment, from 0; otherwise -1.
func depthOfComment(line string) int {
	if rest := strings.TrimLeft(line, " "); strings.HasPrefix(rest, "#") {
		return len(line) - len(rest)
	}
	return -1
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
	singleQuoted = check.Pattern(`^'(?:[^']|'')*'`)
	doubleQuoted = check.Pattern(`^"(?:\\.|[^"\\])*"`)
)

// proves parses the result of a change. undo takes the change out again, and tells whether it was the one that is wanted; then the
// result must equal the former configuration.
func (l *layout) proves(after []byte, line int, what string, undo func(now *layout) bool) error {
	now, err := editable(after)
	switch {
	case err != nil:
		return refuse(line, "the file would not hold exactly the former configuration and %s: %v", what, err)
	case !undo(now) || !same(l.root, now.root):
		return refuse(line, "the file would not hold exactly the former configuration and %s", what)
	}
	return nil
}

// provesAdded parses the result of an addition. Without its last client it must equal the configuration before, and that client the
// printed one.
func (l *layout) provesAdded(after []byte, printed *yaml.Node) error {
	return l.proves(after, l.clients.Line, "the client", func(now *layout) bool {
		end := len(now.clients.Content) - 1
		added := now.clients.Content[end]
		now.clients.Content = now.clients.Content[:end]
		return same(printed, added) && adds(l.text, string(after))
	})
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
