package check

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// MaxText is the length, in characters, to which foreign text is cut.
const MaxText = 512

// Cleaner cleans values of servers and files before they are put into a message, a report or a log. It removes control
// characters and invalid UTF-8, and cuts the value to [MaxText] characters. It replaces every held secret by [Mask], also in
// the encodings in which a server may return it. Our own words are not cleaned: a key that is one of them would show there.
// A nil Cleaner holds no secrets. A Cleaner is safe for concurrent use.
type Cleaner struct {
	parent *Cleaner // hides its secrets too

	mu      sync.Mutex
	secrets map[string]bool
	long    *strings.Replacer // of all forms of the secrets; nil: to be made
	short   *regexp.Regexp    // of the secrets that are hidden only where they are a whole value; nil: there are none
}

// NewCleaner returns a Cleaner that holds the secrets.
func NewCleaner(secrets ...Secret) *Cleaner {
	c := &Cleaner{}
	c.Hold(secrets...)
	return c
}

// With returns a Cleaner that hides these secrets and those of c, also the ones that c learns later.
func (c *Cleaner) With(secrets ...Secret) *Cleaner {
	child := NewCleaner(secrets...)
	child.parent = c
	return child
}

// Hold adds secrets to those that are replaced, such as a ticket or the client key that Proxmox stores.
func (c *Cleaner) Hold(secrets ...Secret) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range secrets {
		if value := s.Reveal(); value != "" && !c.secrets[value] {
			if c.secrets == nil {
				c.secrets = map[string]bool{}
			}
			c.secrets[value], c.long = true, nil
		}
	}
}

// minSecret is the least length of a secret that is hidden wherever it stands. A shorter one, such as "secret" or "openid",
// stands in other texts by chance, and a mask there would tell it. It is hidden only where it is a whole value: a text of its
// own, between quotes, or after an equals sign or a colon.
const minSecret = 8

// mask replaces what the Cleaner holds.
func (c *Cleaner) mask(text string) string {
	if c == nil {
		return text
	}
	c.mu.Lock()
	if c.long == nil {
		c.build()
	}
	long, short := c.long, c.short
	c.mu.Unlock()
	replace := func(text string) string {
		text = long.Replace(text)
		if short != nil {
			text = short.ReplaceAllString(text, "${1}${3}${5}${7}"+Mask+"${2}${4}${6}${8}")
		}
		return text
	}
	text = replace(text)
	for _, decode := range decodings {
		if plain := decode(text); plain != text && replace(plain) != plain {
			text = replace(plain)
		}
	}
	return c.parent.mask(text)
}

// decodings undo what a server may do to single characters of a secret: in URLs, forms, HTML and JSON. Each has several ways to write
// a character.
var decodings = []func(text string) string{
	percentDecoded,
	func(text string) string { return percentDecoded(strings.ReplaceAll(text, "+", " ")) },
	html.UnescapeString,
	func(text string) string {
		return jsonEscape().ReplaceAllStringFunc(text, func(escape string) string {
			var plain string
			if json.Unmarshal([]byte(`"`+escape+`"`), &plain) != nil {
				return escape
			}
			return plain
		})
	},
}

var (
	percentEscape = Pattern(`%[0-9a-fA-F]{2}`)
	jsonEscape    = Pattern(`(?:\\u[0-9a-fA-F]{4})+|\\.`)
)

func percentDecoded(text string) string {
	return percentEscape().ReplaceAllStringFunc(text, func(escape string) string {
		char, _ := hex.DecodeString(escape[1:]) // the expression matches nothing else
		return string(char)
	})
}

// build makes what replaces the secrets.
func (c *Cleaner) build() {
	var forms, whole []string
	for value := range c.secrets {
		if utf8.RuneCountInString(value) >= minSecret {
			forms = append(forms, encodings(value)...)
			continue
		}
		whole = append(whole, regexp.QuoteMeta(value))
	}
	// The longest first, so that a secret which contains another is replaced as a whole.
	slices.SortFunc(forms, func(a, b string) int { return len(b) - len(a) })
	pairs := make([]string, 0, 2*len(forms))
	for _, form := range forms {
		pairs = append(pairs, form, Mask)
	}
	c.long, c.short = strings.NewReplacer(pairs...), nil
	if len(whole) > 0 {
		slices.SortFunc(whole, func(a, b string) int { return len(b) - len(a) })
		c.short = regexp.MustCompile(strings.ReplaceAll(wholeValue, "X", "(?:"+strings.Join(whole, "|")+")"))
	}
}

// wholeValue matches X where it is a text of its own, between quotes, or a value after an equals sign or a colon.
const wholeValue = "^(\\s*)X(\\s*)$|([\"'`])X([\"'`])|(=)X($|[&;,\\s\"'`])|(: ?)X($|[&;,\"'`])"

// encodings returns the forms in which a server may return a secret as a whole.
func encodings(value string) []string {
	raw := []byte(value)
	forms := []string{
		value,
		hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)),
		base64.StdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw),
	}
	// In the Base64 of a longer text, such as Basic credentials, the value begins at one of three offsets. Only the
	// characters between its first and last whole group depend on the value alone.
	for shift := range 3 {
		padded := append(make([]byte, shift), raw...)
		from, to := (shift*8+5)/6, len(padded)*8/6
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			forms = append(forms, encoding.EncodeToString(padded)[from:to])
		}
	}
	return forms
}

// tokens matches Proxmox API tokens, user@realm!id=UUID, with a colon in Backup Server and Datacenter Manager. People paste
// them into other fields, also those of other clusters.
var tokens = Pattern(`([^\s@!=]+@[^\s@!=]+![^\s@!=:]+[=:])[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`)

// Invisible reports whether a character is a control character or shows as nothing: direction marks, joiners, variation
// selectors and fillers. They steer a terminal or split a secret.
func Invisible(r rune) bool {
	if r < utf8.RuneSelf { // most texts: the tables would be searched for each character
		return r < ' ' || r == 0x7f
	}
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// Clean returns the value on one line, cleaned.
func (c *Cleaner) Clean(text string) string {
	// Hide comes after a removal, which joins the halves of a secret that a server has split. It may decode other characters.
	text = strings.TrimSpace(oneLine(c.Hide(oneLine(text))))
	if utf8.RuneCountInString(text) > MaxText {
		text = string([]rune(text)[:MaxText-1]) + "…"
	}
	return text
}

// oneLine removes control characters and what is invisible, and makes line ends spaces.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r' || r == '\u2028' || r == '\u2029':
			return ' '
		case Invisible(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}

// Hide replaces the held secrets and every API token in a value. It changes nothing else, unless the value
// holds a secret in an encoding: then it decodes the value.
func (c *Cleaner) Hide(text string) string {
	text = c.mask(text)
	if !strings.Contains(text, "!") {
		return text
	}
	return tokens().ReplaceAllString(text, "${1}"+Mask)
}
