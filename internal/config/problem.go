package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
)

// Place is where a setting or a mistake stands.
type Place struct {
	File   string // as the user named it; "" for variables and flags
	Line   int    // 0 if unknown, such as for a key that is missing
	Target string // comes before the keys of a target, such as "targets.berlin"
	Name   string // of the variable or flag

	dir string // relative paths begin here
}

// source says where a value came from, as `config show` prints it.
func (p Place) source() string {
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
	Place
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

// collector gathers problems, each once.
type collector struct {
	list Problems
	seen map[string]bool
}

// add notes what is wrong with a key; a *[check.Error] brings its hint along.
func (c *collector) add(at Place, key string, err error) {
	e := check.Errorf(check.Config, "%s", err.Error()).At(key)
	if known, ok := errors.AsType[*check.Error](err); ok {
		e.Hint = known.Hint
	}
	p := Problem{Place: at, Err: e}
	if text := p.Error(); !c.seen[text] {
		if c.seen == nil {
			c.seen = map[string]bool{}
		}
		c.seen[text] = true
		c.list = append(c.list, p)
	}
}

// addf is add for a message without a hint.
func (c *collector) addf(at Place, key, format string, args ...any) {
	c.add(at, key, fmt.Errorf(format, args...))
}

// err returns all problems as one error, nil if there are none.
func (c *collector) err() error {
	if len(c.list) == 0 {
		return nil
	}
	slices.SortStableFunc(c.list, func(a, b Problem) int {
		lineless := func(p Problem) int { return map[bool]int{true: 1}[p.Line == 0] }
		fileless := func(p Problem) int { return map[bool]int{true: 1}[p.File == ""] }
		return cmp.Or(fileless(a)-fileless(b), cmp.Compare(a.File, b.File), lineless(a)-lineless(b), a.Line-b.Line)
	})
	return c.list
}
