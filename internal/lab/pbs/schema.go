package pbs

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"proxmox-realm/internal/lab/standin"
)

// property describes one parameter, as proxmox-schema does.
type property struct {
	name     string
	kind     kind
	required bool
	min, max int // characters of a text; 0 means no limit
	pattern  *regexp.Regexp
	item     *regexp.Regexp // of each item of a text that is a list; max then counts the characters of an item
	enum     []string
}

type kind int

const (
	text kind = iota
	boolean
	integer
	array // of texts: the parameter is repeated
)

// paramErrors are what is wrong with the parameters of a request, in order.
type paramErrors [][2]string

func (e *paramErrors) add(name, text string) { *e = append(*e, [2]string{name, text}) }

func (e paramErrors) Error() string {
	if len(e) == 1 {
		return fmt.Sprintf("parameter verification failed - '%s': %s", e[0][0], e[0][1])
	}
	out := "parameter verification failed:"
	for _, one := range e {
		out += fmt.Sprintf("\n- '%s': %s", one[0], one[1])
	}
	return out
}

var (
	errPattern = errors.New("value does not match the regex pattern")
	errString  = refuse("Expected string value.")
	errBoolean = refuse("Unable to parse boolean option.")
)

// check says whether a text fits.
func (p *property) check(value string) error {
	if p.item != nil {
		for _, item := range splitList(value) {
			one := property{max: p.max, pattern: p.item}
			if err := one.check(item); err != nil {
				return fmt.Errorf("parameter verification failed - '': schema validation failed: %w", err)
			}
		}
		return nil
	}
	switch n := utf8.RuneCountInString(value); {
	case n < p.min:
		return fmt.Errorf("value must be at least %d characters long", p.min)
	case p.max > 0 && n > p.max:
		return fmt.Errorf("value may only be %d characters long", p.max)
	case p.pattern != nil && !p.pattern.MatchString(value):
		return errPattern
	case p.enum != nil && !slices.Contains(p.enum, value):
		return refuse("value '%s' is not defined in the enumeration.", value)
	}
	return nil
}

// splitList splits a text that is a list at commas, semicolons and white space.
func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(",; \t\n\f\r", r) })
}

// parse reads a value from a form, a query or a path.
func (p *property) parse(value string) (any, error) {
	switch p.kind {
	case boolean:
		switch strings.ToLower(value) {
		case "1", "on", "yes", "true":
			return true, nil
		case "0", "off", "no", "false":
			return false, nil
		}
		return nil, errBoolean
	case integer:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return nil, errors.New("invalid digit found in string")
		}
		return n, checkInteger(n)
	}
	return value, p.check(value)
}

func checkInteger(n int64) error {
	if n < 0 {
		return fmt.Errorf("value must have a minimum value of 0 (got %d)", n)
	}
	return nil
}

// verify reads a value of a JSON body.
func (p *property) verify(value any) (any, error) {
	switch p.kind {
	case boolean:
		if b, ok := value.(bool); ok {
			return b, nil
		}
		return nil, refuse("Expected boolean value.")
	case integer:
		number, _ := value.(json.Number)
		n, err := number.Int64()
		if err != nil {
			return nil, refuse("Expected integer value.")
		}
		return n, checkInteger(n)
	case array:
		list, ok := value.([]any)
		if !ok {
			return nil, refuse("Expected array - got scalar value.")
		}
		values := []string{}
		for _, item := range list {
			one, ok := item.(string)
			if !ok {
				return nil, errString
			}
			if err := p.check(one); err != nil {
				return nil, err
			}
			values = append(values, one)
		}
		return values, nil
	}
	s, ok := value.(string)
	if !ok {
		return nil, errString
	}
	return s, p.check(s)
}

// params are the parameters of a request: string, bool, int64 or []string.
type params map[string]any

func (p params) text(name string) string { s, _ := p[name].(string); return s }
func (p params) flag(name string) bool   { b, _ := p[name].(bool); return b }
func (p params) list(name string) []string {
	l, _ := p[name].([]string)
	return l
}

// integer returns a number, or otherwise where there is none.
func (p params) integer(name string, otherwise int64) int64 {
	if n, ok := p[name].(int64); ok {
		return n
	}
	return otherwise
}

func lookup(schema []property, name string) *property {
	i := slices.IndexFunc(schema, func(p property) bool { return p.name == name })
	if i < 0 {
		return nil
	}
	return &schema[i]
}

// missing adds the required properties that are not there, by name.
func missing(schema []property, p params, errs *paramErrors, text string) {
	for _, property := range slices.SortedFunc(slices.Values(schema), func(a, b property) int { return cmp.Compare(a.name, b.name) }) {
		if _, there := p[property.name]; property.required && !there {
			errs.add(property.name, text)
		}
	}
}

// parseForm checks pairs of a form, a query and a path.
func parseForm(schema []property, pairs [][2]string) (params, error) {
	p, errs := params{}, paramErrors{}
	for _, pair := range pairs {
		name := pair[0]
		property := lookup(schema, name)
		if property == nil {
			errs.add(name, "schema does not allow additional properties.")
			continue
		}
		value, err := property.parse(pair[1])
		_, again := p[name]
		switch {
		case err != nil:
			errs.add(name, err.Error())
		case property.kind == array:
			p[name] = append(p.list(name), pair[1])
		case again:
			errs.add(name, "duplicate parameter.")
		default:
			p[name] = value
		}
	}
	if len(errs) == 0 {
		missing(schema, p, &errs, "parameter is missing and it is not optional.")
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return p, nil
}

// parseJSON checks a JSON body. What the path says overrules it.
func parseJSON(schema []property, body []byte, path [][2]string) (params, error) {
	object := map[string]any{}
	if len(body) > 0 {
		decoder := json.NewDecoder(strings.NewReader(string(body)))
		decoder.UseNumber()
		var value any
		if err := decoder.Decode(&value); err != nil {
			return nil, jsonError(body, err)
		}
		var ok bool
		if object, ok = value.(map[string]any); !ok {
			return nil, refuse("Expected object - got scalar value.")
		}
	}
	p, errs := params{}, paramErrors{}
	for _, pair := range path {
		value, err := lookup(schema, pair[0]).parse(pair[1])
		if err != nil {
			return nil, err
		}
		p[pair[0]] = value
		delete(object, pair[0])
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		property := lookup(schema, name)
		if property == nil {
			errs.add(name, "schema does not allow additional properties")
			continue
		}
		value, err := property.verify(object[name])
		if err != nil {
			errs.add(name, err.Error())
		}
		p[name] = value
	}
	missing(schema, p, &errs, "property is missing and it is not optional")
	if len(errs) > 0 {
		return nil, errs
	}
	return p, nil
}

// jsonError words a broken body as serde_json does.
func jsonError(body []byte, err error) error {
	what, at := "expected value", len(body)
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		what = "EOF while parsing a value"
	case errors.As(err, &syntax):
		at = int(syntax.Offset)
	}
	line := strings.Count(string(body[:at]), "\n") + 1
	return fmt.Errorf("%s at line %d column %d", what, line, at-strings.LastIndex(string(body[:at]), "\n")-1)
}

// decodeForm reads application/x-www-form-urlencoded as browsers do: nothing is an error.
func decodeForm(s string) [][2]string {
	var pairs [][2]string
	for part := range strings.SplitSeq(s, "&") {
		if part != "" {
			name, value, _ := strings.Cut(part, "=")
			pairs = append(pairs, [2]string{decodePercent(strings.ReplaceAll(name, "+", " ")), decodePercent(strings.ReplaceAll(value, "+", " "))})
		}
	}
	return pairs
}

// decodePercent undoes percent escapes.
func decodePercent(s string) string { return strings.ToValidUTF8(standin.Unescape(s), "\uFFFD") }
