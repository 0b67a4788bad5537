package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"proxmox-realm/internal/check"
)

// SyntaxError says why a text is not YAML. It quotes nothing of the text.
type SyntaxError struct {
	Line   int
	Reason string
}

// Error implements error.
func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Reason) }

// Documents reads the documents of a text, up to the first mistake, which is a *[SyntaxError].
func Documents(text []byte) ([]*yaml.Node, error) {
	documents, err := decode(text)
	if err != nil {
		return documents, locate(err, text)
	}
	return documents, nil
}

func decode(text []byte) (documents []*yaml.Node, err error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var document yaml.Node
		switch err := decoder.Decode(&document); {
		case errors.Is(err, io.EOF):
			return documents, nil
		case err != nil:
			return documents, err
		}
		documents = append(documents, &document)
	}
}

var (
	// yamlMessage matches a message of the YAML library: the line, if it names one, and the mistake.
	yamlMessage = check.Pattern(`^yaml: (?:line (\d+): )?(.*)$`)
	// unknownAnchor matches what the library says of an alias. The name may be a secret that begins with an asterisk.
	unknownAnchor = check.Pattern(`^unknown anchor '(.*)' referenced$`)
)

const (
	noAnchor   = "an alias names no anchor"
	noToken    = "found character that cannot start any token"
	unexpected = "found unexpected end of stream"
	noComma    = "did not find expected ','"
)

// locate finds the line of a mistake. The line of the library is often that of the block around the mistake. The right one is the
// last of the first lines that have the mistake by themselves.
func locate(mistake error, text []byte) *SyntaxError {
	number, what := yamlParts(mistake)
	lines := slices.Collect(bytes.Lines(text))
	if anchor := unknownAnchor().FindStringSubmatch(what); anchor != nil {
		names := func(line []byte) bool { return bytes.Contains(line, []byte("*"+anchor[1])) }
		return &SyntaxError{1 + slices.IndexFunc(lines, names), noAnchor}
	}
	found := 1 + sort.Search(len(lines), func(n int) bool {
		_, err := decode(bytes.Join(lines[:n+1], nil))
		_, same := yamlParts(err)
		return same == what
	})
	switch { // what is still open has the mistake from its beginning on
	case strings.HasPrefix(what, noComma): // this message counts lines from 0
		found = number + 1
	case what == unexpected:
		found = max(number, 1)
	}
	return &SyntaxError{min(found, max(len(lines), 1)), what}
}

var indentedByTab = check.Pattern(`^ *\t`)

// advised returns a mistake in a configuration, with what to do about it.
func advised(e *SyntaxError, text []byte) error {
	lines := slices.Collect(bytes.Lines(text))
	open := strings.HasPrefix(e.Reason, noComma) || e.Reason == unexpected
	switch {
	case e.Reason != noAnchor && !open && len(lines) > 0 && indentedByTab().Match(lines[e.Line-1]):
		return check.Errorf(check.Config, "is indented with a tab").Try("indent with spaces")
	case e.Reason == noAnchor, e.Reason == noToken:
		return check.Errorf(check.Config, "%s", e.Reason).
			Try("put a value that begins with a special character, such as *, &, @ or `, in quotation marks")
	}
	return check.Errorf(check.Config, "%s", e.Reason)
}

// yamlParts returns the line and the mistake of a message.
func yamlParts(err error) (line int, what string) {
	if err == nil {
		return 0, ""
	}
	if found := yamlMessage().FindStringSubmatch(err.Error()); found != nil {
		line, _ = strconv.Atoi(found[1])
		return line, found[2]
	}
	return 0, "is not YAML"
}
