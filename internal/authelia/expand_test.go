package authelia

import (
	"testing"

	"go.yaml.in/yaml/v3"
)

// What shows that a file goes through `expand-env`: for a verdict it must be certain, for an edit possible is enough.
func TestVariables(t *testing.T) {
	for value, want := range map[string]struct{ certain, possible bool }{
		"https://auth.${DOMAIN}":               {true, true},
		"${SECRET}":                            {true, true},
		"${SECRET:-default}":                   {true, true},
		"$SECRET":                              {true, true},
		"https://auth.$DOMAIN/x":               {true, true},
		"$$pbkdf2-sha512$$310000$$abc$$def":    {false, true},
		"$pbkdf2-sha512$310000$ABC$DEF":        {},
		"$argon2id$v=19$m=64,t=3,p=4$4/rg$EAK": {},
		"$2b$10$4vhwYGYewUpbrl82qHGnC.MHtDvQQ": {},
		"$plaintext$ABC$DEF":                   {},
		"aB3$QX7cde":                           {},
		"aB3$QX7":                              {false, true},
		"pa$word":                              {},
		"pa$$word":                             {},
		"^/api/(a|b)$":                         {},
		"costs 5$":                             {},
		`{{ env "X" | replace "$DOMAIN" "${DOMAIN}" }}`: {},
		"{{ $x }}$DOMAIN": {true, true},
	} {
		n := &yaml.Node{Kind: yaml.ScalarNode, Value: value, Line: 1}
		if got := namesVariable(value); got != want.certain {
			t.Errorf("%s: certain %v", value, got)
		}
		if got := expansion(n) > 0; got != want.possible {
			t.Errorf("%s: possible %v", value, got)
		}
	}
}
