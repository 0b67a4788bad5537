package check

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// MaxText is the length, in characters, to which foreign text is cut.
const MaxText = 512

// Cleaner cleans text of a server for a message, a report or a log. It removes control characters and invalid UTF-8,
// and cuts the text to [MaxText] characters. It replaces every held secret by [Mask], also in the encodings in which a
// server may return it. A nil Cleaner holds no secrets. A Cleaner is safe for concurrent use.
type Cleaner struct {
	mu      sync.Mutex
	held    map[string]int    // how often each secret is held
	pending []string          // held secrets whose forms are made when there is a text to clean
	forms   map[head][]string // longest first, so that a secret which contains another is replaced as a whole
	first   [256]bool         // the first bytes of forms, also of those that were released
}

// head is how a secret begins. A text is compared only with the secrets that begin as some part of it.
type head [minSecret]byte

// NewCleaner returns a Cleaner that holds the secrets.
func NewCleaner(secrets ...Secret) *Cleaner {
	c := &Cleaner{}
	c.Hold(secrets...)
	return c
}

// minSecret is the least length of a value that is replaced. To replace every "a" in a message would reveal a secret "a".
const minSecret = 4

// Hold adds secrets to those that are replaced, such as a ticket or the client key that Proxmox stores.
func (c *Cleaner) Hold(secrets ...Secret) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		c.held, c.forms = map[string]int{}, map[head][]string{}
	}
	for _, s := range secrets {
		if c.held[s.Reveal()]++; c.held[s.Reveal()] == 1 {
			c.pending = append(c.pending, s.Reveal())
		}
	}
}

// Release takes back a Hold of the secrets. A secret that is held more often than it was released is still replaced.
func (c *Cleaner) Release(secrets ...Secret) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range secrets {
		value := s.Reveal()
		switch c.held[value] {
		case 0:
		case 1:
			delete(c.held, value)
			if i := slices.Index(c.pending, value); i >= 0 {
				c.pending = slices.Delete(c.pending, i, i+1)
			} else {
				c.remove(value)
			}
		default:
			c.held[value]--
		}
	}
}

// add makes the forms of a secret. Two secrets may share a form, so each form is kept once a secret.
func (c *Cleaner) add(value string) {
	for _, form := range encodings(value) {
		h := head([]byte(form))
		c.forms[h] = append(c.forms[h], form)
		slices.SortFunc(c.forms[h], func(a, b string) int { return len(b) - len(a) })
		c.first[h[0]] = true
	}
}

func (c *Cleaner) remove(value string) {
	for _, form := range encodings(value) {
		h := head([]byte(form))
		i := slices.Index(c.forms[h], form)
		if c.forms[h] = slices.Delete(c.forms[h], i, i+1); len(c.forms[h]) == 0 {
			delete(c.forms, h)
		}
	}
}

// mask replaces what the Cleaner holds.
func (c *Cleaner) mask(text string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, value := range c.pending {
		c.add(value)
	}
	c.pending = nil
	var out strings.Builder
	from := 0
	for i := 0; i+minSecret <= len(text); i++ {
		if !c.first[text[i]] {
			continue
		}
		for _, form := range c.forms[head{text[i], text[i+1], text[i+2], text[i+3]}] {
			if strings.HasPrefix(text[i:], form) {
				out.WriteString(text[from:i] + Mask)
				from = i + len(form)
				i = from - 1
				break
			}
		}
	}
	return out.String() + text[from:]
}

// encodings returns the forms in which a server may return a secret, each once.
func encodings(value string) []string {
	if len(value) < minSecret {
		return nil
	}
	quoted, _ := json.Marshal(value) // a string always marshals
	raw := []byte(value)
	forms := []string{
		value, url.QueryEscape(value), url.PathEscape(value), strings.Trim(string(quoted), `"`), html.EscapeString(value),
		hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)),
		base64.StdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw),
	}
	// In the Base64 of a longer text, such as Basic credentials, the value begins at one of three offsets. Only the
	// characters between its first and last whole group depend on the value alone.
	if len(value) < minShifted {
		return distinct(forms)
	}
	for shift := range 3 {
		padded := append(make([]byte, shift), raw...)
		from, to := (shift*8+5)/6, len(padded)*8/6
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			forms = append(forms, encoding.EncodeToString(padded)[from:to])
		}
	}
	return distinct(forms)
}

func distinct(forms []string) []string {
	slices.Sort(forms)
	return slices.Compact(forms)
}

// minShifted is the least length of a value that is replaced inside the Base64 of a longer text. A shorter one would match
// by chance.
const minShifted = 8

// tokens matches Proxmox API tokens, user@realm!id=UUID, with a colon in Backup Server and Datacenter Manager. People paste them into other fields, also those of other clusters.
var tokens = regexp.MustCompile(`([^\s@!=]+@[^\s@!=]+![^\s@!=:]+[=:])[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`)

// Invisible reports whether a character is a control character or shows as nothing: direction marks, joiners, variation
// selectors and fillers. They steer a terminal or split a secret.
func Invisible(r rune) bool {
	if r < utf8.RuneSelf { // most texts: the tables would be searched for each character
		return r < ' ' || r == 0x7f
	}
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// Clean returns the text on one line, cleaned.
func (c *Cleaner) Clean(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r' || r == '\u2028' || r == '\u2029':
			return ' '
		case Invisible(r):
			return -1
		}
		return r
	}, text)
	// After the removal above, which joins the halves of a secret that a server has split.
	text = strings.TrimSpace(c.Hide(text))
	if utf8.RuneCountInString(text) > MaxText {
		text = string([]rune(text)[:MaxText-1]) + "…"
	}
	return text
}

// Hide replaces the held secrets and every API token, and changes nothing else.
func (c *Cleaner) Hide(text string) string {
	if c != nil {
		text = c.mask(text)
	}
	if !strings.Contains(text, "!") {
		return text
	}
	return tokens.ReplaceAllString(text, "${1}"+Mask)
}

// HideIn hides secrets in every text of a finding: people paste them into the values that it names.
func (c *Cleaner) HideIn(found Check) Check {
	found.Summary, found.Evidence, found.Hint = c.Hide(found.Summary), c.Hide(found.Evidence), Hint(c.Hide(string(found.Hint)))
	return found
}
