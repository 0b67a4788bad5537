package issuer

import (
	"crypto/rand"
	"fmt"
	"math/big"
	"net/url"
	"strings"

	"proxmox-realm/internal/check"
)

// MadeUp is the invalid code or token that client questions send, and a part of other made-up values. An administrator finds
// it in the issuer's log.
const MadeUp = "proxmox-realm-verify"

// minKey is the least length of a client key that is not a finding of its own.
const minKey = 8

// values are what a question about a client names.
type values struct{ client, redirectURL, key string }

// madeUp returns values that do not exist, of the form of declared ones.
func madeUp(declared values) values {
	return values{
		client: madeUpClient(declared.client), redirectURL: madeUpRedirect(declared.redirectURL), key: madeUpKey(declared.key),
	}
}

// random returns 52 random characters, fit for a state, a nonce and a code verifier.
func random() string { return rand.Text() + rand.Text() }

var (
	uuidForm   = check.Pattern(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	numberForm = check.Pattern(`^[0-9]{10,}(@.*)?$`)
)

// madeUpClient returns a client id that does not exist, of the form of a declared one. Some issuers look at the form first.
func madeUpClient(declared string) string {
	switch {
	case uuidForm().MatchString(declared):
		b := make([]byte, 16)
		_, _ = rand.Read(b) // never fails
		b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
		return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	case numberForm().MatchString(declared):
		number, at, project := strings.Cut(declared, "@")
		made := replaced(number)
		if project {
			made += "@" + at
		}
		return made
	case declared == MadeUp:
		return MadeUp + "-other"
	}
	return MadeUp
}

// madeUpKey returns a key of the length and the special characters of a declared one. Some issuers refuse a character before
// they look at the key.
func madeUpKey(declared string) string {
	made := replaced(declared)
	for made == declared && declared != "" { // nothing but special characters
		made = string(append([]rune{letter('a', 'z')}, []rune(declared)[1:]...))
	}
	return made
}

// madeUpRedirect returns a redirect URL that nobody registered, with the port of a declared one.
func madeUpRedirect(declared string) string {
	host := MadeUp + ".invalid"
	if u, err := url.Parse(declared); err == nil && u.Port() != "" {
		host += ":" + u.Port()
	}
	return "https://" + host
}

// replaced returns a text with another letter for each letter and another digit for each digit.
func replaced(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return letter('a', 'z')
		case r >= 'A' && r <= 'Z':
			return letter('A', 'Z')
		case r >= '0' && r <= '9':
			return letter('0', '9')
		}
		return r
	}, text)
}

// letter returns a random character between two.
func letter(first, last rune) rune {
	n, _ := rand.Int(rand.Reader, big.NewInt(int64(last-first+1))) // never fails
	return first + rune(n.Int64())
}
