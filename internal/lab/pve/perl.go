package pve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode"

	"proxmox-realm/internal/lab/standin"
)

// This file imitates what the answers of Proxmox owe to Perl: which values are
// true, how text is encoded, and how it is split.
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

// splitList splits a list as PVE::Tools::split_list does.
func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ';' || r == 0 || unicode.IsSpace(r) })
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

func decodeText(s string) string { return strings.ToValidUTF8(standin.Unescape(s), "\uFFFD") }

// latin1 turns bytes into the text that Perl takes them for.
func latin1(b string) string {
	r := make([]rune, len(b))
	for i := range r {
		r[i] = rune(b[i])
	}
	return string(r)
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

func fromForm(s string) string { return standin.Unescape(strings.ReplaceAll(s, "+", " ")) }

// decodeForm decodes a form or a query as pve-http-server does. What follows a second equals sign is lost.
func decodeForm(s string) map[string]any {
	params := map[string]any{}
	for _, pair := range strings.FieldsFunc(s, func(r rune) bool { return r == '&' || r == ';' }) {
		k, rest, _ := strings.Cut(pair, "=")
		v, _, _ := strings.Cut(rest, "=")
		params[fromForm(k)] = strings.ToValidUTF8(fromForm(v), "\uFFFD")
	}
	return params
}

// decodeJSON decodes a JSON body; numbers become texts. Whatever is wrong with it, the error is the one that was recorded.
func decodeJSON(body []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		rest := "(end of string)"
		offset := len(body)
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok && !errors.Is(err, io.ErrUnexpectedEOF) && int(syntax.Offset) <= len(body) {
			offset = int(syntax.Offset) - 1
			rest = string(body[offset:])
		}
		return nil, died(fmt.Sprintf("malformed JSON string, neither tag, array, object, number, string or atom, at character offset %d (before %q)", offset, rest))
	}
	return scalars(v), nil
}

// scalars replaces numbers by texts.
func scalars(v any) any {
	switch v := v.(type) {
	case json.Number:
		return v.String()
	case []any:
		for i := range v {
			v[i] = scalars(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = scalars(v[k])
		}
	}
	return v
}

// died is a message of Perl or of a library below it, as it is, with its capitals and full stops.
type died string

func (d died) Error() string { return string(d) }
