package pve

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// This file imitates what the answers of Proxmox owe to Perl: which values are
// true, how text is split, and how JSON::XS words an error.
//
// A parameter is nil (undef), string (any scalar: numbers are kept as Perl
// prints them), bool (a JSON boolean object), []any or map[string]any.

// truthy says whether Perl takes a parameter for true.
func truthy(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case string:
		return v != "" && v != "0"
	case bool:
		return v
	}
	return true
}

// text is a parameter as Perl puts it into a string.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case bool:
		if v {
			return "1"
		}
		return "0"
	case []any:
		return "ARRAY(0x55d0c0de0000)"
	case map[string]any:
		return "HASH(0x55d0c0de0000)"
	}
	return ""
}

// refName is what Perl's ref() says of a parameter, empty for scalars.
func refName(v any) string {
	switch v.(type) {
	case bool:
		return "JSON::PP::Boolean"
	case []any:
		return "ARRAY"
	case map[string]any:
		return "HASH"
	}
	return ""
}

// pattern compiles an expression that must match a whole value, where, as in
// Perl, the end is also before a last line feed.
func pattern(expr string) *regexp.Regexp {
	return regexp.MustCompile(`\A(?:` + expr + `)\n?\z`)
}

// splitList splits a list as PVE::Tools::split_list does: at NUL where there is one, else at commas,
// semicolons and white space.
func splitList(s string) []string {
	if strings.ContainsRune(s, 0) {
		parts := strings.Split(s, "\x00")
		for len(parts) > 0 && parts[len(parts)-1] == "" {
			parts = parts[:len(parts)-1]
		}
		return parts
	}
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ';' || unicode.IsSpace(r) })
}

// encodeText is PVE::Tools::encode_text: UTF-8, with all but printable ASCII and the colon escaped.
// The percent sign is not escaped, so a comment of "%41" reads back as "A".
func encodeText(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c >= 0x20 && c <= 0x7e && c != ':' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func decodeText(s string) string { return strings.ToValidUTF8(unescape(s), "\uFFFD") }

// unescape undoes percent escapes and leaves alone what is none, as URI::Escape does.
func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]) {
			n, _ := strconv.ParseUint(s[i+1:i+3], 16, 8)
			b = append(b, byte(n))
			i += 2
			continue
		}
		b = append(b, s[i])
	}
	return string(b)
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// latin1 turns bytes of a file into the text that Perl takes them for.
func latin1(b string) string {
	for i := range len(b) {
		if b[i] >= 0x80 {
			r := make([]rune, len(b))
			for i := range r {
				r[i] = rune(b[i])
			}
			return string(r)
		}
	}
	return b
}

// fileBytes is what Perl writes for a text: Latin-1 where all of it fits, else all of it in UTF-8.
func fileBytes(s string) string {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		if r > 0xff {
			return s
		}
		b = append(b, byte(r))
	}
	return string(b)
}

// decodeForm decodes a form or a query as pve-http-server does. A key without an
// equals sign is undef, a key with nothing behind it is the empty string. What
// follows a second equals sign is lost, and repeated values are joined with NUL.
func decodeForm(s string) map[string]any {
	params := map[string]any{}
	for _, pair := range strings.FieldsFunc(s, func(r rune) bool { return r == '&' || r == ';' }) {
		k, rest, defined := strings.Cut(pair, "=")
		v, _, _ := strings.Cut(rest, "=")
		k = unescape(strings.ReplaceAll(k, "+", " "))
		if !defined {
			params[k] = nil
			continue
		}
		v = strings.ToValidUTF8(unescape(strings.ReplaceAll(v, "+", " ")), "\uFFFD")
		if old, ok := params[k].(string); ok {
			v = old + "\x00" + v
		}
		params[k] = v
	}
	return params
}

// decodeJSON decodes as JSON::XS does, with its texts for what is malformed.
func decodeJSON(s string) (v any, err error) {
	d := jsonDecoder{s: s}
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(jsonError); !ok {
				panic(r)
			}
			v, err = nil, died(fmt.Sprint(r, ", at character offset ", d.i, ` (before "`, d.before(), `")`))
		}
	}()
	d.space()
	v = d.value()
	d.space()
	if d.i != len(s) {
		panic(jsonError("garbage after JSON object"))
	}
	return v, nil
}

// died is a message of Perl or of a library below it, as it is, with its capitals and full stops.
type died string

func (d died) Error() string { return string(d) }

// jsonError is what a jsonDecoder unwinds with.
type jsonError string

type jsonDecoder struct {
	s     string
	i     int
	depth int
}

// before shows the next 20 characters as Perl displays them.
func (d *jsonDecoder) before() string {
	if d.i >= len(d.s) {
		return "(end of string)"
	}
	var b strings.Builder
	for rest := d.s[d.i:]; rest != ""; {
		if b.Len() >= 20 {
			return b.String() + "..."
		}
		r, n := utf8.DecodeRuneInString(rest)
		if r == utf8.RuneError && n == 1 {
			r = rune(rest[0])
		}
		rest = rest[n:]
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\f':
			b.WriteString(`\f`)
		case r == '\a':
			b.WriteString(`\a`)
		case r == '\\':
			b.WriteString(`\\`)
		case r >= 0x20 && r < 0x7f:
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\x{%x}`, r)
		}
	}
	return b.String()
}

// peek is the next byte, 0 at the end.
func (d *jsonDecoder) peek() byte {
	if d.i < len(d.s) {
		return d.s[d.i]
	}
	return 0
}

func (d *jsonDecoder) space() {
	for d.i < len(d.s) && strings.IndexByte(" \t\r\n", d.s[d.i]) >= 0 {
		d.i++
	}
}

func (d *jsonDecoder) expect(c byte) {
	if d.peek() != c {
		panic(jsonError("'" + string(c) + "' expected"))
	}
	d.i++
}

func (d *jsonDecoder) word(w string, v any) any {
	if !strings.HasPrefix(d.s[d.i:], w) {
		panic(jsonError("'" + w + "' expected"))
	}
	d.i += len(w)
	return v
}

func (d *jsonDecoder) value() any {
	switch c := d.peek(); {
	case c == '"':
		d.i++
		return d.str()
	case c == '[':
		return d.array()
	case c == '{':
		return d.object()
	case c == '-' || c >= '0' && c <= '9':
		return d.number()
	case c == 't':
		return d.word("true", true)
	case c == 'f':
		return d.word("false", false)
	case c == 'n':
		return d.word("null", nil)
	}
	panic(jsonError("malformed JSON string, neither tag, array, object, number, string or atom"))
}

func (d *jsonDecoder) enter() {
	d.i++
	if d.depth++; d.depth > 512 {
		panic(jsonError("json text or perl structure exceeds maximum nesting level (max_depth set too low?)"))
	}
	d.space()
}

func (d *jsonDecoder) array() any {
	d.enter()
	list := []any{}
	if d.peek() == ']' {
		d.i++
		d.depth--
		return list
	}
	for {
		list = append(list, d.value())
		d.space()
		if d.peek() == ']' {
			d.i++
			d.depth--
			return list
		}
		if d.peek() != ',' {
			panic(jsonError(", or ] expected while parsing array"))
		}
		d.i++
		d.space()
	}
}

func (d *jsonDecoder) object() any {
	d.enter()
	m := map[string]any{}
	if d.peek() == '}' {
		d.i++
		d.depth--
		return m
	}
	for {
		d.expect('"')
		k := d.str()
		d.space()
		d.expect(':')
		d.space()
		m[k] = d.value()
		d.space()
		if d.peek() == '}' {
			d.i++
			d.depth--
			return m
		}
		if d.peek() != ',' {
			panic(jsonError(", or } expected while parsing object/hash"))
		}
		d.i++
		d.space()
	}
}

func (d *jsonDecoder) str() string {
	var b strings.Builder
	for {
		if d.i >= len(d.s) {
			panic(jsonError("unexpected end of string while parsing JSON string"))
		}
		c := d.s[d.i]
		switch {
		case c == '"':
			d.i++
			return b.String()
		case c == '\\':
			d.i++
			d.escape(&b)
		case c >= 0x80:
			r, n := utf8.DecodeRuneInString(d.s[d.i:])
			if r == utf8.RuneError && n == 1 {
				panic(jsonError("malformed UTF-8 character in JSON string"))
			}
			b.WriteString(d.s[d.i : d.i+n])
			d.i += n
		case c == 0:
			panic(jsonError("unexpected end of string while parsing JSON string"))
		case c < 0x20:
			panic(jsonError("invalid character encountered while parsing JSON string"))
		default:
			b.WriteByte(c)
			d.i++
		}
	}
}

func (d *jsonDecoder) escape(b *strings.Builder) {
	c := d.peek()
	switch c {
	case '\\', '/', '"':
		b.WriteByte(c)
	case 'b':
		b.WriteByte('\b')
	case 't':
		b.WriteByte('\t')
	case 'n':
		b.WriteByte('\n')
	case 'f':
		b.WriteByte('\f')
	case 'r':
		b.WriteByte('\r')
	case 'u':
		d.i++
		r := d.hex4()
		if utf16.IsSurrogate(r) {
			if r >= 0xdc00 {
				panic(jsonError("missing high surrogate character in surrogate pair"))
			}
			if !strings.HasPrefix(d.s[d.i:], `\u`) {
				panic(jsonError("missing low surrogate character in surrogate pair"))
			}
			d.i += 2
			low := d.hex4()
			if low < 0xdc00 || low > 0xdfff {
				panic(jsonError("surrogate pair expected"))
			}
			r = utf16.DecodeRune(r, low)
		}
		b.WriteRune(r)
		return
	default:
		d.i-- // shown from the backslash on
		panic(jsonError("illegal backslash escape sequence in string"))
	}
	d.i++
}

func (d *jsonDecoder) hex4() rune {
	if d.i+4 <= len(d.s) {
		if n, err := strconv.ParseUint(d.s[d.i:d.i+4], 16, 16); err == nil {
			d.i += 4
			return rune(n)
		}
	}
	panic(jsonError("exactly four hexadecimal digits expected"))
}

// digits skips digits and says whether there were some.
func (d *jsonDecoder) digits() bool {
	start := d.i
	for d.peek() >= '0' && d.peek() <= '9' {
		d.i++
	}
	return d.i > start
}

func (d *jsonDecoder) number() any {
	start := d.i
	if d.peek() == '-' {
		d.i++
	}
	if d.peek() == '0' {
		d.i++
		if c := d.peek(); c >= '0' && c <= '9' {
			panic(jsonError("malformed number (leading zero must not be followed by another digit)"))
		}
	} else if !d.digits() {
		panic(jsonError("malformed number (no digits after initial minus)"))
	}
	float := false
	if d.peek() == '.' {
		d.i++
		if !d.digits() {
			panic(jsonError("malformed number (no digits after decimal point)"))
		}
		float = true
	}
	if c := d.peek(); c == 'e' || c == 'E' {
		d.i++
		if c := d.peek(); c == '-' || c == '+' {
			d.i++
		}
		if !d.digits() {
			panic(jsonError("malformed number (no digits after exp sign)"))
		}
		float = true
	}
	n := d.s[start:d.i]
	if !float {
		if n == "-0" {
			return "0"
		}
		return n
	}
	f, _ := strconv.ParseFloat(n, 64)
	return perlFloat(f)
}

// perlFloat prints a number as Perl does: %.15g.
func perlFloat(f float64) string {
	if math.IsInf(f, 0) {
		return strings.TrimPrefix(fmt.Sprintf("%+v", f), "+")
	}
	s := strconv.FormatFloat(f, 'g', 15, 64)
	mantissa, exp, ok := strings.Cut(s, "e")
	if !ok {
		if strings.Contains(s, ".") {
			s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
		}
		return s
	}
	if strings.Contains(mantissa, ".") {
		mantissa = strings.TrimRight(strings.TrimRight(mantissa, "0"), ".")
	}
	return mantissa + "e" + exp
}
