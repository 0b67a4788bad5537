package authelia

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"proxmox-realm/internal/check"
)

// Authelia's filter `expand-env` replaces ${NAME} and $NAME in a file by variables of the environment, and $$ by $. A digest
// is full of $, so each must be doubled there. Nothing in a file says whether the filter is on; only its use shows it.
var (
	digests  = check.Pattern(`\$(?:pbkdf2|argon2|scrypt|yescrypt|bcrypt|plaintext|base64|sha|md5|[1-9][abxy]?\$)[^\s'"]*`)
	doubling = check.Pattern(`\$\$(?:pbkdf2|argon2|scrypt|bcrypt|plaintext|[256][aby]?\$\$)`)
	inBraces = check.Pattern(`\{\{.*?\}\}`)

	// certain matches a variable that is no part of a password. possible matches whatever could be one.
	certain  = check.Pattern(`\$\{[A-Za-z_]\w*[^{}]*\}|(?:^|[\s/:@=.,"'(-])\$[A-Z_][A-Z0-9_]{2,}(?:$|[\s/:@.,"')?-])`)
	possible = check.Pattern(`\$\{|\$[A-Z_][A-Z0-9_]+\b`)
)

// expansion returns the first line of a value that could show that the file goes through the filter, or 0.
func expansion(n *yaml.Node) int {
	return dollar(n, func(value string) bool {
		return doubling().MatchString(value) || possible().MatchString(literal(value))
	})
}

// namesVariable tells whether a value has a variable of the environment.
func namesVariable(value string) bool { return certain().MatchString(literal(value)) }

// literal returns a value without templates and digests.
func literal(value string) string {
	return digests().ReplaceAllString(inBraces().ReplaceAllString(value, ""), "")
}

// dollar returns the line of the first value with a $ that shows something, or 0.
func dollar(root *yaml.Node, shows func(value string) bool) int {
	return lineOf(root, func(n *yaml.Node) bool {
		return n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "$") && shows(n.Value)
	})
}
