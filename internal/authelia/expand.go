package authelia

import (
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Authelia's filter `expand-env` replaces ${NAME} and $NAME in a file by variables of the environment, and $$ by $. A digest
// is full of $, so each must be doubled there. Nothing in a file says whether the filter is on; only its use shows it.
var (
	digests   = regexp.MustCompile(`\$(?:pbkdf2|argon2|scrypt|yescrypt|bcrypt|plaintext|base64|sha|md5|[1-9][abxy]?\$)[^\s'"]*`)
	doubling  = regexp.MustCompile(`\$\$(?:pbkdf2|argon2|scrypt|bcrypt|plaintext|[256][aby]?\$\$)`)
	variables = regexp.MustCompile(`\$\{|\$([A-Z_][A-Z0-9_]+)([a-z]?)`) // a lower case letter: a part of a password
	inBraces  = regexp.MustCompile(`\{\{.*?\}\}`)
)

// expansion returns the first line of a value that shows that the file goes through the filter, or 0.
func expansion(n *yaml.Node) int {
	return firstLine(n, func(value string) bool { return doubling.MatchString(value) || namesVariable(value) })
}

func firstLine(n *yaml.Node, shows func(value string) bool) int {
	if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "$") && shows(n.Value) {
		return n.Line
	}
	for _, child := range n.Content {
		if line := firstLine(child, shows); line > 0 {
			return line
		}
	}
	return 0
}

// namesVariable tells whether a value has a variable of the environment, outside templates and digests.
func namesVariable(value string) bool {
	value = digests.ReplaceAllString(inBraces.ReplaceAllString(value, ""), "")
	for _, m := range variables.FindAllStringSubmatch(value, -1) {
		if m[2] == "" {
			return true
		}
	}
	return false
}
