package fault

import (
	"errors"
	"slices"
	"strings"
	"unicode"
)

// Describe returns an error as it is shown: the code of the first fault in its tree ([Internal] where there is
// none), its whole text, so that what was being done stays in front of what went wrong, and the hints of its
// faults. Errors that were joined give a line each, and so do their hints. The text holds no control
// characters besides those line feeds. It returns nil for nil.
func Describe(err error) *Error {
	if err == nil {
		return nil
	}
	return &Error{
		Code:    CodeOf(err),
		Message: printable(err.Error()),
		Hint:    printable(strings.Join(hints(err, nil), "\n")),
		Err:     err,
	}
}

// hints collects, each once, the hint of the outermost fault that has one on every branch of the tree.
func hints(err error, found []string) []string {
	if f, ok := err.(*Error); ok && f.Hint != "" { //nolint:errorlint // this walks the tree itself
		if !slices.Contains(found, f.Hint) {
			found = append(found, f.Hint)
		}
		return found
	}
	if branches, ok := err.(interface{ Unwrap() []error }); ok {
		for _, branch := range branches.Unwrap() {
			found = hints(branch, found)
		}
		return found
	}
	if cause := errors.Unwrap(err); cause != nil {
		return hints(cause, found)
	}
	return found
}

// printable keeps what a foreign error brings along from steering a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case r == '\t':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r): // Cf: direction marks and other invisible formatting
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}
