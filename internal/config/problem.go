package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
)

// Problem is one mistake. It never holds a value.
type Problem struct {
	File    string // "" for flags and environment
	Line    int    // 0 where the mistake has none, such as an absent key without targets
	Key     string // path, variable or flag; "" where it concerns the whole file
	Message string
	Hint    string // a command that mends it; "" where the message says what to do
}

// String returns "file:line: key: message", without the parts that are absent.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		b.WriteString(": ")
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	return b.String() + p.Message
}

// Problems are all mistakes of a configuration, those of the file first, by line.
type Problems []Problem //nolint:errname // the plural of what it holds says more

// Error returns one problem a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// The bounds of what is collected and of what one message shows: a file with a mistake in
// each of its targets stays readable.
const (
	maxProblems = 1000
	maxShown    = 50
)

func (ps *Problems) add(at place, message string) {
	ps.append(Problem{File: at.file, Line: at.line, Key: at.key, Message: message})
}

func (ps *Problems) append(p Problem) {
	if len(*ps) < maxProblems && !slices.Contains(*ps, p) {
		*ps = append(*ps, p)
	}
}

// fault returns all problems as one error, nil where there are none.
func (ps Problems) fault() error {
	if len(ps) == 0 {
		return nil
	}
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(-cmp.Compare(a.File, b.File), cmp.Compare(unlined(a), unlined(b)), cmp.Compare(a.Line, b.Line))
	})
	message := ps[0].String()
	if len(ps) > 1 {
		shown := ps[:min(len(ps), maxShown)]
		message = fmt.Sprintf("%d mistakes in the configuration\n%s", len(ps), shown.Error())
		if more := len(ps) - len(shown); more > 0 {
			message += fmt.Sprintf("\nand %d more", more)
		}
	}
	hint := "`proxmox-realm help config` explains every key"
	if i := slices.IndexFunc(ps, func(p Problem) bool { return p.Hint != "" }); i >= 0 {
		hint = ps[i].Hint
	}
	return check.Errorf(check.Config, "%s", message).Try(check.Advise("%s", hint)).Because(ps)
}

// unlined puts what has no line after what has one.
func unlined(p Problem) int {
	if p.Line == 0 {
		return 1
	}
	return 0
}

// place is where a setting stands: in a file, or under the name of a variable or flag.
type place struct {
	file string
	line int
	key  string // as problems show it
	// source is what `config show` says: "flag --realm".
	source string
}
