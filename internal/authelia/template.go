package authelia

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// action is a part of a file that a template engine replaces before anybody reads the file as YAML: Authelia's filter
// `template`, Helm or Ansible.
type action struct {
	from, to int  // in bytes
	line     int  // of its first character, from 1
	control  bool // decides about other parts of the file, or prints nothing
	branch   bool // begins or ends a condition or a loop
	trims    bool // removes white space beside it
	foreign  bool // of Helm or Ansible; Authelia's filter does not know it
}

// branches are the first words of actions that decide about other parts of the file, in the templates of Authelia, Helm and
// Ansible.
var branches = strings.Fields("if else end range with define block template break continue for endfor endif elif macro raw")

var (
	assigns = pattern(`^\$\w+(\s*,\s*\$\w+)?\s*:?=`)
	// byName matches an action that is only the name of a value, as Ansible and Helm have them. In Authelia's filter almost
	// every action calls a function with an argument.
	byName = pattern(`^(\.[A-Z]|[A-Za-z_][\w.\[\]'"]*\s*(\||$))`)
	calls  = []string{"now", "uuidv4"} // functions of Authelia's filter that need no argument
)

// actions finds the template actions of a file, in their order.
func actions(text string) []action {
	var found []action
	line, counted := 1, 0
	for at := 0; at < len(text); at++ {
		if text[at] != '{' {
			continue
		}
		end, comment := closing(text, at)
		if end < 0 {
			continue
		}
		line += strings.Count(text[counted:at], "\n")
		counted = at
		inner := text[at+2 : end-2]
		words := strings.TrimSpace(strings.Trim(inner, "-"))
		word, _, _ := strings.Cut(strings.Trim(words, "% "), " ")
		ansible, branch := text[at+1] != '{', slices.Contains(branches, word) && !comment
		found = append(found, action{
			from: at, to: end, line: line,
			control: comment || ansible || branch || assigns().MatchString(words), branch: branch,
			trims:   strings.HasPrefix(inner, "-") || strings.HasSuffix(inner, "-"),
			foreign: ansible || byName().MatchString(words) && !slices.Contains(calls, word) && !branch,
		})
		at = end - 1
	}
	return found
}

// closing returns where the action ends that begins at an offset, or -1 if none begins there, and whether it is a comment.
func closing(text string, at int) (end int, comment bool) {
	rest := text[at:]
	switch {
	case strings.HasPrefix(rest, "{#"), strings.HasPrefix(rest, "{%"):
		if i := strings.Index(rest[2:], rest[1:2]+"}") + 2; i >= 2 {
			return at + i + 2, rest[1] == '#'
		}
		return -1, false
	case !strings.HasPrefix(rest, "{{"):
		return -1, false
	case strings.HasPrefix(strings.TrimLeft(rest[2:], "- \t\r\n"), "/*"):
		if i := strings.Index(rest, "*/"); i > 0 {
			if j := strings.Index(rest[i:], "}}"); j > 0 {
				return at + i + j + 2, true
			}
		}
		return -1, false
	}
	for i := 2; i < len(rest); i++ {
		switch c := rest[i]; c {
		case '"', '`', '\'':
			j := i + 1
			for j < len(rest) && rest[j] != c && rest[j] != '\n' {
				if rest[j] == '\\' && c != '`' {
					j++
				}
				j++
			}
			if j >= len(rest) || rest[j] == '\n' {
				return -1, false
			}
			i = j
		case '\n': // only comments go over several lines in practice
			return -1, false
		case '}':
			if strings.HasPrefix(rest[i:], "}}") {
				return at + i + 2, false
			}
		}
	}
	return -1, false
}

// filler takes the place of each character of an action, so that lines and columns stay. YAML takes it, and no text has it:
// it is a private character of Unicode.
const filler = '\uE000'

// mask replaces the actions, so that the rest can be read as YAML. An action in a line becomes a part of its value. Actions
// that fill whole lines become comments.
func mask(text string, found []action) string {
	var out strings.Builder
	from := 0
	for i, a := range found {
		before := text[from:a.from]
		out.WriteString(before)
		filled := strings.Map(func(r rune) rune {
			if r == '\n' || r == '\r' {
				return r
			}
			return filler
		}, text[a.from:a.to])
		if begins(text, a.from) && fillsLine(text, found[i:]) {
			filled = "#" + filled[utf8.RuneLen(filler):]
			filled = strings.ReplaceAll(filled, "\n"+string(filler), "\n#")
		}
		out.WriteString(filled)
		from = a.to
	}
	return out.String() + text[from:]
}

// begins tells whether only white space stands before an offset in its line.
func begins(text string, at int) bool {
	line := text[strings.LastIndexByte(text[:at], '\n')+1 : at]
	return strings.TrimSpace(line) == ""
}

// fillsLine tells whether actions, beginning with the first one, are all that follows in the line.
func fillsLine(text string, found []action) bool {
	for i, a := range found {
		rest, _, _ := strings.Cut(text[a.to:], "\n")
		if i+1 < len(found) && found[i+1].from < a.to+len(rest) {
			rest = text[a.to:found[i+1].from]
			if strings.TrimSpace(rest) != "" {
				return false
			}
			continue
		}
		rest = strings.TrimSpace(rest)
		return rest == "" || rest[0] == '#'
	}
	return true
}
