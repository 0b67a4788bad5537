package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
)

// Position is where a setting or a mistake stands.
type Position struct {
	File   string // as the user named it; "" for variables and flags
	Line   int    // 0 if unknown, such as for a key that is missing
	Target string // comes before the keys of a target, such as "targets.berlin"
	Name   string // of the variable or flag

	dir string // relative paths begin here
}

// String returns the file with its line.
func (p Position) String() string {
	if p.Line > 0 {
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return p.File
}

// line is a position further down in the same file.
func (p Position) line(n int) Position {
	p.Line = n
	return p
}

// source says where a value came from, as `config show` prints it.
func (p Position) source() string {
	switch {
	case strings.HasPrefix(p.Name, "-"):
		return "flag " + p.Name
	case p.Name != "":
		return "environment " + p.Name
	case p.File == "":
		return "default"
	case p.Target != "":
		return fmt.Sprintf("target %s, %s", strings.TrimPrefix(p.Target, "targets."), p)
	}
	return p.String()
}

// Problem is one mistake in a configuration. It never holds a value.
type Problem struct { //nolint:errname // the word that users read
	Position
	Err *check.Error // its Key is the path of the key; "" if the mistake concerns the whole file
}

// Error returns the place, the key and the message. The name of a variable or flag stands in place of the key.
func (p Problem) Error() string {
	parts := []string{p.String(), p.Name}
	if p.Name == "" {
		parts = append(parts, strings.Trim(p.Target+"."+p.Err.Key, "."))
	}
	parts = append(parts, p.Err.Message)
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), ": ")
}

// Unwrap returns the error that the place belongs to.
func (p Problem) Unwrap() error { return p.Err }

// Problems are all mistakes of a configuration, those of the file first, by line.
type Problems []Problem //nolint:errname // the plural of what it holds says more

// maxShown bounds what the message shows, so that a file with a mistake in each of its targets stays readable.
const maxShown = 50

// Error returns one problem a line.
func (ps Problems) Error() string {
	lines := make([]string, 0, maxShown+2)
	if len(ps) > 1 {
		lines = append(lines, fmt.Sprintf("%d mistakes in the configuration", len(ps)))
	}
	for _, p := range ps[:min(len(ps), maxShown)] {
		lines = append(lines, p.Error())
	}
	if more := len(ps) - maxShown; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the problems.
func (ps Problems) Unwrap() []error {
	errs := make([]error, len(ps))
	for i, p := range ps {
		errs[i] = p
	}
	return errs
}

// add notes what is wrong with a key; a *[check.Error] brings its hint along.
func (ps *Problems) add(at Position, key string, err error) {
	e := check.Errorf(check.Config, "%s", err.Error()).At(key)
	if known, ok := errors.AsType[*check.Error](err); ok {
		e.Hint = known.Hint
	}
	*ps = append(*ps, Problem{at, e})
}

// addf is add for a message without a hint.
func (ps *Problems) addf(at Position, key, format string, args ...any) {
	ps.add(at, key, fmt.Errorf(format, args...))
}

// err returns all problems as one error, each once; nil if there are none.
func (ps *Problems) err() error {
	if len(*ps) == 0 {
		return nil
	}
	seen := map[string]bool{}
	*ps = slices.DeleteFunc(*ps, func(p Problem) bool {
		text := p.Error()
		again := seen[text]
		seen[text] = true
		return again
	})
	slices.SortStableFunc(*ps, func(a, b Problem) int { return strings.Compare(a.order(), b.order()) })
	return *ps
}

// order sorts problems by file and line. What has no file comes last, and so does what has no line in its file.
func (p Problem) order() string {
	return fmt.Sprintf("%t %s %t %9d", p.File == "", p.File, p.Line == 0, p.Line)
}
