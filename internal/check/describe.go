package check

import (
	"errors"
	"slices"
	"strings"
)

// Description is an error as it is shown.
type Description struct {
	Code    Code     // of the first [Error] in the tree, [Internal] if there is none
	Message string   // the whole text, a line for each joined error
	Remedy  []Remedy // of the joined errors, each once
}

// Steps returns the steps of all remedies.
func (d Description) Steps() Remedy { return append(Remedy{}, slices.Concat(d.Remedy...)...) }

// Hint words the remedies for a reader of a configuration file, a line each.
func (d Description) Hint() string { return d.HintIn(Wording{}) }

// HintIn words the remedies, a line each.
func (d Description) HintIn(w Wording) string {
	lines := make([]string, 0, len(d.Remedy))
	for _, r := range d.Remedy {
		lines = append(lines, Printable(r.In(w)))
	}
	return strings.Join(lines, "\n")
}

// Describe returns how an error is shown. Its text holds no control characters besides line feeds. The description of nil
// is empty.
func Describe(err error) Description {
	if err == nil {
		return Description{}
	}
	return Description{Code: CodeOf(err), Message: Printable(err.Error()), Remedy: remedies(err, nil)}
}

// remedies collects, each once, the remedy of the outermost error that has one on every branch of the tree.
func remedies(err error, found []Remedy) []Remedy {
	if e, ok := err.(*Error); ok && len(e.Remedy) > 0 { //nolint:errorlint // this walks the tree itself
		if !slices.ContainsFunc(found, func(r Remedy) bool { return slices.Equal(r, e.Remedy) }) {
			found = append(found, e.Remedy)
		}
		return found
	}
	if branches, ok := err.(interface{ Unwrap() []error }); ok {
		for _, branch := range branches.Unwrap() {
			found = remedies(branch, found)
		}
		return found
	}
	if cause := errors.Unwrap(err); cause != nil {
		return remedies(cause, found)
	}
	return found
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
