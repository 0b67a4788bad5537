package check

import (
	"regexp"
	"sync"
)

// Pattern returns a regular expression that is compiled when it is first used. Each command uses few of them, and a start compiles
// none. It panics, at first use, if the text is no regular expression.
func Pattern(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}
