package check

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Hint says how to repair what a finding or an error is about: one line for each thing to do, the most likely one first. A
// line that begins with [Command] is a command, ready to be copied; it belongs to the line above it.
//
// Names stand in braces, because readers know them differently. {realm.scopes} is a configuration key, {apply --no-gate}
// is a command line of this program without the program's name. [Hint.For] replaces them. A backslash before a brace makes
// it an ordinary character; [Hintf] puts it there.
type Hint string

// Command begins a line of a [Hint] that is a command to copy.
const Command = "    "

// Hintf formats a hint. Names are recognised in the format only: a brace in an argument is an ordinary character, and an
// argument stays on its line. Arguments of type [Hint] are inserted as they are.
func Hintf(format string, args ...any) Hint {
	plain := slices.Clone(args)
	for i, arg := range plain {
		switch arg := arg.(type) {
		case string:
			plain[i] = unnamed.Replace(arg)
		case error:
			plain[i] = unnamed.Replace(arg.Error())
		case fmt.Stringer:
			plain[i] = unnamed.Replace(arg.String())
		}
	}
	return Hint(fmt.Sprintf(format, plain...))
}

var unnamed = strings.NewReplacer("{", `\{`, "}", `\}`, "\n", " ")

// Hints joins hints. Each thing to do is there once.
func Hints(all ...Hint) Hint {
	var steps []string
	for _, h := range all {
		for _, step := range h.steps() {
			if !slices.Contains(steps, step) {
				steps = append(steps, step)
			}
		}
	}
	return Hint(strings.Join(steps, "\n"))
}

// steps returns the things to do: each a line and the commands below it.
func (h Hint) steps() []string {
	var steps []string
	for line := range strings.SplitSeq(string(h), "\n") {
		switch last := len(steps) - 1; {
		case line == "":
		case last >= 0 && strings.HasPrefix(line, Command):
			steps[last] += "\n" + line
		default:
			steps = append(steps, line)
		}
	}
	return steps
}

// Names tells how one kind of reader knows the names in a hint. The zero value is for readers of a configuration file.
type Names struct {
	Key     func(path string) string // how the reader sets a configuration key; "": not at all; nil: by its path
	Command func(line string) string // how the reader runs a command of this program; nil: "proxmox-realm " before it
}

var (
	braced = Pattern(`\\[{}]|\{[a-z-](?:[^{}\\\n]|\\.)*\}`)
	keyed  = Pattern(`^(((proxmox|realm|verify|policy|agent|notify)\.[a-z_]+)|access|targets|targets_from|state_dir|concurrency)$`)
	bare   = strings.NewReplacer(`\{`, "{", `\}`, "}")
)

// For returns the hint as one kind of reader reads it, without characters that could steer a terminal. A thing to do that names a key
// which the reader does not have is left out.
func (h Hint) For(names Names) string {
	var steps []string
	for _, step := range h.steps() {
		has := true
		worded := braced().ReplaceAllStringFunc(step, func(found string) string {
			text, known := names.word(found)
			has = has && known
			return text
		})
		if has {
			steps = append(steps, worded)
		}
	}
	return Printable(strings.Join(steps, "\n"))
}

// word returns how a reader knows a name in braces, or an escaped brace; false if the reader has no such key.
func (n Names) word(found string) (text string, known bool) {
	name := bare.Replace(found[1 : len(found)-1])
	switch {
	case found[0] == '\\':
		return found[1:], true
	case keyed().MatchString(name) && n.Key != nil:
		text = n.Key(name)
		return text, text != ""
	case keyed().MatchString(name):
		return name, true
	case n.Command != nil:
		return n.Command(name), true
	}
	return "proxmox-realm " + name, true
}

// HintOf returns the hints of an error: of the outermost [Error] that has one, on each branch of joined errors.
func HintOf(err error) Hint {
	if e, ok := err.(*Error); ok && e.Hint != "" { //nolint:errorlint // this walks the tree itself
		return e.Hint
	}
	if branches, ok := err.(interface{ Unwrap() []error }); ok {
		var all []Hint
		for _, branch := range branches.Unwrap() {
			all = append(all, HintOf(branch))
		}
		return Hints(all...)
	}
	if cause := errors.Unwrap(err); cause != nil {
		return HintOf(cause)
	}
	return ""
}

// MessageOf returns the text of an error as it is shown, a line for each joined error, without characters that could steer a
// terminal. It returns "" for nil.
func MessageOf(err error) string {
	if err == nil {
		return ""
	}
	return Printable(err.Error())
}

// Printable removes what could steer a terminal: control characters other than line feeds, and invisible formatting such
// as direction marks (Unicode Cf).
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case r == '\t':
			return ' '
		case Invisible(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}
