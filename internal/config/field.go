package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// field is where the value of one key goes, in a [Config] or a [Target].
type field interface {
	// set parses a setting and keeps its value. Its error completes "must …" or is a whole sentence, and never quotes the value.
	set(setting) error
	// get returns what is kept as a file would hold it, nil if nothing is.
	get() any
}

// one keeps what parse makes of a text.
func one[T comparable](to *T, parse func(string) (T, error)) field { return single[T]{to, parse} }

type single[T comparable] struct {
	to    *T
	parse func(string) (T, error)
}

func (f single[T]) set(s setting) (err error) {
	*f.to, err = f.parse(s.text())
	return err
}

func (f single[T]) get() any {
	switch v := any(*f.to).(type) {
	case bool, int:
		return v
	case time.Duration: // 5m0s is 5m
		return noughts().ReplaceAllString(v.String(), "$1")
	case float64:
		return strconv.FormatFloat(100*v, 'g', 6, 64) + "%"
	}
	if text := fmt.Sprint(*f.to); text != "" {
		return text
	}
	return nil
}

var noughts = check.Pattern(`([a-z])(0[a-z])+$`)

// text is a parser that takes every text.
func text(s string) (string, error) { return s, nil }

// many keeps what parse makes of each word of a list.
func many[T comparable](to *[]T, parse func(string) (T, error)) field { return list[T]{to, parse} }

type list[T comparable] struct {
	to    *[]T
	parse func(string) (T, error)
}

func (f list[T]) set(s setting) error {
	var values []T
	for _, word := range s.words {
		v, err := f.parse(word)
		if err == nil && slices.Contains(values, v) && s.key.Kind != Command {
			err = errors.New("lists one value twice")
		}
		if err != nil {
			return err
		}
		values = append(values, v)
	}
	*f.to = values
	return nil
}

func (f list[T]) get() any {
	if len(*f.to) == 0 {
		return nil
	}
	return texts(*f.to)
}

// of returns a parser that knows the product of the target.
func of[T any](to result, parse func(realm.Product, string) (T, error)) func(string) (T, error) {
	return func(text string) (T, error) { return parse(to.Proxmox.Product, text) }
}

// texts returns the text of each value.
func texts[T any](values []T) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = fmt.Sprint(v)
	}
	return out
}

// alone shows a list of one word as a text.
type alone struct{ field }

func (f alone) get() any {
	if words, _ := f.field.get().([]string); len(words) == 1 {
		return words[0]
	}
	return nil
}

// grants keeps what the issuer's groups may do. [parser.access] has parsed it.
type grants struct{ to *realm.Access }

func (f grants) set(s setting) error {
	*f.to = s.access
	return nil
}

func (f grants) get() any {
	if *f.to == nil {
		return nil
	}
	return *f.to
}

// property keeps a property of the realm. Lists stay lists until they are sent to Proxmox.
type property struct {
	realm.Definition
	of *Target
}

func (f property) set(s setting) (err error) {
	v := realm.Text(s.text())
	switch f.Form {
	case realm.FormBool:
		var value bool
		value, err = parseBool(s.text())
		v = realm.Bool(value)
	case realm.FormSet, realm.FormList:
		var words []string
		err = many(&words, parseWord).set(s)
		v = realm.Words(f.Property, words...)
	case realm.FormKey:
		var key check.Secret
		key, err = parseClientKey(s.text())
		v = realm.Key(key)
	case realm.FormText:
	}
	if err == nil {
		err = f.of.Proxmox.Product.Validate(f.Property, v)
	}
	if err == nil {
		f.of.Realm.Set[f.Property] = v
	}
	return err
}

// parseWord takes one word of a property that Proxmox keeps as one text. The characters that Proxmox takes for separators cannot be
// part of a word (PVE::Tools::split_list).
func parseWord(word string) (string, error) {
	if strings.ContainsAny(word, ",; \t") {
		return "", errors.New("must be a list of single words: no word may contain a comma, a semicolon or white space")
	}
	return word, nil
}

func (f property) get() any {
	v, set := f.of.Realm.Set[f.Property]
	switch {
	case !set:
		return nil
	case f.Form == realm.FormBool:
		return v.String() == "1"
	case f.Form == realm.FormSet, f.Form == realm.FormList:
		return distinct(v.Words()) // Proxmox takes a word twice
	}
	return v.String()
}

func distinct(words []string) (out []string) {
	for _, word := range words {
		if !slices.Contains(out, word) {
			out = append(out, word)
		}
	}
	return out
}

func parseBool(text string) (bool, error) {
	value, err := strconv.ParseBool(text)
	if err != nil {
		err = errors.New("must be true or false")
	}
	return value, err
}

func parseConcurrency(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 1000 {
		return 0, mustBe(Int)
	}
	return n, nil
}

// durationUpTo returns a parser of durations from one second to the most.
func durationUpTo(most time.Duration) func(string) (time.Duration, error) {
	return func(text string) (time.Duration, error) {
		d, err := time.ParseDuration(text)
		switch {
		case err != nil:
			return 0, mustBe(Duration)
		case d < time.Second || d > most:
			return 0, fmt.Errorf("must be a duration from 1s to %s", single[time.Duration]{to: &most}.get())
		}
		return d, nil
	}
}

// parsePercent returns 0.1 for "10%".
func parsePercent(text string) (float64, error) {
	number, found := strings.CutSuffix(text, "%")
	n, err := strconv.ParseFloat(number, 64)
	if !found || err != nil || !(n >= 0 && n <= 100) || strings.Trim(number, "0123456789.") != "" {
		return 0, mustBe(Percent)
	}
	return n / 100, nil
}

// parseUnset returns the property that an element of realm.unset names, in the spelling of Proxmox or of the
// configuration.
func parseUnset(text string) (realm.Property, error) {
	d, ok := realm.ByKey(text)
	if !ok {
		d, ok = realm.Property(text).Definition()
	}
	switch {
	case !ok:
		return "", errors.New("must name a property of an OpenID Connect realm, such as prompt")
	case d.Required:
		return "", fmt.Errorf("must not name %s: a realm cannot exist without it", d.Property)
	case d.CreateOnly:
		return "", fmt.Errorf("must not name %s: without it every user would get another name", d.Property)
	}
	return d.Property, nil
}

func parseCheckID(text string) (check.ID, error) {
	if slices.ContainsFunc(check.Catalog(), func(e check.Entry) bool { return string(e.ID) == text }) {
		return check.ID(text), nil
	}
	return "", check.Errorf(check.Config, "must be the id of a check").Try("it lists the checks:\n    {help checks}")
}
