package authelia

import (
	"slices"
	"strings"

	"proxmox-realm/internal/check"
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
	assigns = check.Pattern(`^\$\w+(\s*,\s*\$\w+)?\s*:?=`)
	// byName matches an action that is only the name of a value, as Ansible and Helm have them. In Authelia's filter almost
	// every action calls a function with an argument.
	byName = check.Pattern(`^(\.[A-Z]|[A-Za-z_][\w.\[\]'"]*\s*(\||$))`)
	calls  = []string{"now", "uuidv4"} // functions of Authelia's filter that need no argument
)

// inQuotes matches a text in quotation marks, in one line.
const inQuotes = `"(?:\\[^\n]|[^"\\\n])*"|'(?:\\[^\n]|[^'\\\n])*'|` + "`[^`\\n]*`"

// anAction matches an action. Comments and statements of Ansible may go over several lines. An expression ends in its line, at the
// first braces that are not in quotation marks.
var anAction = check.Pattern(`(?s)\{#.*?#\}|\{%.*?%\}` +
	`|\{\{[- \t\r\n]*/\*.*?\*/.*?\}\}` + // a comment of Authelia's filter or Helm
	`|\{\{(?:[^"'` + "`" + `\n]|` + inQuotes + `)*?\}\}`)

// actions finds the template actions of a file, in their order.
func actions(text string) (found []action) {
	line, counted := 1, 0
	for _, at := range anAction().FindAllStringIndex(text, -1) {
		line += strings.Count(text[counted:at[0]], "\n")
		counted = at[0]
		inner := text[at[0]+2 : at[1]-2]
		words := strings.TrimSpace(strings.Trim(inner, "-"))
		word, _, _ := strings.Cut(strings.Trim(words, "% "), " ")
		ansible := text[at[0]+1] != '{'
		comment := text[at[0]+1] == '#' || !ansible && strings.HasPrefix(strings.TrimLeft(inner, "- \t\r\n"), "/*")
		branch := slices.Contains(branches, word) && !comment
		found = append(found, action{
			from: at[0], to: at[1], line: line,
			control: comment || ansible || branch || assigns().MatchString(words), branch: branch,
			trims:   strings.HasPrefix(inner, "-") || strings.HasSuffix(inner, "-"),
			foreign: ansible || byName().MatchString(words) && !slices.Contains(calls, word) && !branch,
		})
	}
	return found
}

// filler takes the place of each character of an action, so that lines and columns stay. YAML takes it, and no text has it:
// it is a private character of Unicode.
const filler = '\uE000'

// onlyActions matches lines that hold nothing but actions, and perhaps a comment.
var onlyActions = check.Pattern(`(?m)^([ \t]*)` + string(filler) + `((?:[ \t]*` + string(filler) + `)*[ \t\r]*(?:#.*)?)$`)

// mask replaces the actions, so that the rest can be read as YAML. An action in a line becomes a part of its value. Actions
// that fill whole lines become comments.
func mask(text string, found []action) string {
	var out strings.Builder
	from := 0
	for _, a := range found {
		out.WriteString(text[from:a.from])
		out.WriteString(strings.Map(func(r rune) rune {
			if r == '\n' || r == '\r' {
				return r
			}
			return filler
		}, text[a.from:a.to]))
		from = a.to
	}
	return onlyActions().ReplaceAllString(out.String()+text[from:], "$1#$2")
}
