package ansible

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"proxmox-realm/internal/check"
)

// maxRequest bounds a request, in bytes.
const maxRequest = 1 << 20

// request is what the module sends.
type request struct {
	check     bool // foresee, and change nothing
	arguments arguments
}

// arguments holds what a task says, by name: string, bool, int or []string, as the table of arguments has it. What a
// task does not say is not there.
type arguments map[string]any

func (a arguments) has(name string) bool { _, ok := a[name]; return ok }

func (a arguments) text(name string) string { s, _ := a[name].(string); return s }

// is returns a boolean, absent as given.
func (a arguments) is(name string, absent bool) bool {
	if b, ok := a[name].(bool); ok {
		return b
	}
	return absent
}

// parse reads a request. Nothing is overlooked: an unknown or doubled key, a value of another type and anything behind
// the object are mistakes. Values are never quoted, since each may be a secret.
func parse(data []byte) (request, error) {
	if !utf8.Valid(data) {
		return request{}, malformed("it is not UTF-8")
	}
	fields, err := object(data)
	if err != nil {
		return request{}, malformed("%v", err)
	}
	var protocol int
	if err := json.Unmarshal(fields["protocol"], &protocol); err != nil {
		return request{}, malformed("protocol is not a number")
	}
	if protocol != Protocol {
		return request{}, check.Errorf(check.Usage, "the collection speaks version %d of the protocol, and this proxmox-realm version %d", protocol, Protocol).
			Try(check.Advise("install a collection and a proxmox-realm of the same release"))
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !slices.Contains([]string{"protocol", "check_mode", "arguments"}, name) {
			return request{}, malformed("it has an unknown key, %s", shown(name))
		}
	}
	var r request
	if raw, said := fields["check_mode"]; said {
		if r.check, err = boolean(raw); err != nil {
			return request{}, malformed("check_mode %v", err)
		}
	}
	given, err := object(fields["arguments"])
	if err != nil {
		return request{}, malformed("arguments: %v", err)
	}
	r.arguments = arguments{}
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(given)) {
		argument, known := table()[name]
		if !known {
			wrong = append(wrong, shown(name)+": is no argument of the module")
			continue
		}
		if string(given[name]) == "null" {
			continue
		}
		value, err := argument.kind.decode(given[name])
		if err != nil {
			wrong = append(wrong, name+": "+err.Error())
			continue
		}
		r.arguments[name] = value
	}
	if len(wrong) > 0 {
		return request{}, mistakes(wrong)
	}
	return r, nil
}

// object takes one JSON object apart.
func object(data []byte) (map[string]json.RawMessage, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	begin, err := decoder.Token()
	if err != nil || begin != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	fields := map[string]json.RawMessage{}
	for decoder.More() {
		token, err := decoder.Token()
		name, isText := token.(string)
		if err != nil || !isText {
			return nil, errors.New("not a JSON object")
		}
		if _, twice := fields[name]; twice {
			return nil, fmt.Errorf("%s comes twice", shown(name))
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, errors.New("not a JSON object")
		}
		fields[name] = value
	}
	if _, err := decoder.Token(); err != nil {
		return nil, errors.New("not a JSON object")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	return fields, nil
}

// shown returns a name fit for a message: what stands in place of one may be anything.
func shown(name string) string {
	if len(name) <= 64 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") == "" {
		return name
	}
	return "a name"
}

func malformed(format string, args ...any) error {
	return check.Errorf(check.Usage, "not a request that the collection's module sends: %s", fmt.Sprintf(format, args...)).
		Try(check.Advise("install a collection and a proxmox-realm of the same release"))
}

// mistakes is the fault of wrong arguments, all of them at once.
func mistakes(wrong []string) *check.Error {
	return check.Errorf(check.Config, "%s", strings.Join(wrong, "; ")).Try(check.Advise("`ansible-doc proxmox_realm.sso.proxmox_openid_realm` explains every argument"))
}

// kind is the type of an argument.
type kind int

const (
	text kind = iota
	truth
	number
	list
)

func (k kind) decode(raw json.RawMessage) (any, error) {
	switch k {
	case truth:
		return boolean(raw)
	case number:
		var n int
		if json.Unmarshal(raw, &n) != nil {
			return nil, errors.New("must be a whole number")
		}
		return n, nil
	case list:
		var words []*string
		if json.Unmarshal(raw, &words) != nil || slices.Contains(words, nil) {
			return nil, errors.New("must be a list of texts")
		}
		out := make([]string, len(words))
		for i, word := range words {
			out[i] = *word
		}
		return out, nil
	case text:
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return nil, errors.New("must be a text")
	}
	return s, nil
}

func boolean(raw json.RawMessage) (bool, error) {
	switch string(raw) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, errors.New("must be true or false")
}
