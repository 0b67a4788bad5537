package config

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"proxmox-realm/internal/check"
)

// documents reads the first two documents of a file; second is nil if there is one, and both are if there is none. The error is
// a mistake in the YAML, with its line.
func documents(data []byte) (first, second *yaml.Node, line int, err error) {
	first, second, err = decode(data)
	if err == nil {
		return first, second, 0, nil
	}
	line, err = yamlMistake(err, data)
	return nil, nil, line, err
}

func decode(data []byte) (first, second *yaml.Node, err error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for _, document := range []**yaml.Node{&first, &second} {
		var node yaml.Node
		switch err := decoder.Decode(&node); {
		case errors.Is(err, io.EOF):
			return first, second, nil
		case err != nil:
			return nil, nil, err
		}
		*document = &node
	}
	return first, second, nil
}

var (
	// yamlMessage matches a message of the YAML library: the line, if it names one, and the mistake.
	yamlMessage = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)
	// unknownAnchor matches what the library says of an alias. The name may be a secret that begins with an asterisk.
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

// yamlMistake returns the line of a mistake and what it is. The line of the library is often that of the block around the
// mistake. The right one is the last of the first lines that have the mistake by themselves.
func yamlMistake(mistake error, data []byte) (int, error) {
	number, what := yamlParts(mistake)
	lines := slices.Collect(bytes.Lines(data))
	quote := check.Hint("put a value that begins with a special character, such as *, &, @ or `, in quotation marks")
	if anchor := unknownAnchor.FindStringSubmatch(what); anchor != nil {
		names := func(line []byte) bool { return bytes.Contains(line, []byte("*"+anchor[1])) }
		return 1 + slices.IndexFunc(lines, names), check.Errorf(check.Config, "an alias names no anchor").Try(quote)
	}
	found := 1 + sort.Search(len(lines), func(n int) bool {
		_, _, err := decode(bytes.Join(lines[:n+1], nil))
		_, same := yamlParts(err)
		return same == what
	})
	open := strings.HasPrefix(what, "did not find expected ','") || what == "found unexpected end of stream"
	switch { // what is still open has the mistake from its beginning on
	case open && strings.HasPrefix(what, "did"): // this message counts lines from 0
		found = number + 1
	case open:
		found = max(number, 1)
	}
	found = min(found, max(len(lines), 1))
	switch indentation := regexp.MustCompile(`^ *\t`); {
	case len(lines) > 0 && !open && indentation.Match(lines[found-1]):
		return found, check.Errorf(check.Config, "is indented with a tab").Try("indent with spaces")
	case what == "found character that cannot start any token":
		return found, check.Errorf(check.Config, "%s", what).Try(quote)
	}
	return found, check.Errorf(check.Config, "%s", what)
}

// yamlParts returns the line and the mistake of a message.
func yamlParts(err error) (line int, what string) {
	if err == nil {
		return 0, ""
	}
	if found := yamlMessage.FindStringSubmatch(err.Error()); found != nil {
		line, _ = strconv.Atoi(found[1])
		return line, found[2]
	}
	return 0, "is not YAML"
}
