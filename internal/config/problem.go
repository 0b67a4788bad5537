package config

import "strings"

// Problem is one mistake. It never holds a value.
type Problem struct {
	File    string // "" for flags and environment
	Line    int    // 0 where the mistake has none, such as an absent key
	Key     string // path, variable or flag
	Message string
}

// String returns "file:line: key: message".
func (p Problem) String() string { return p.Message }

// Problems are all mistakes of a configuration, those of the file first, by line.
type Problems []Problem

// Error returns one problem a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}
