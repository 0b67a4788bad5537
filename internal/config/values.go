package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/viper"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// values are the merged keys of one target, or of the run. Each key is parsed where it is read, by [one], [many] or
// [values.command].
type values struct {
	viper    *viper.Viper
	at       map[string]Place // by path; none for a default
	problems *collector
	settings []Setting // what was read, if show
	show     bool
	target   string
	paths    map[string]string // of all targets
}

// merge hands the layers, lowest first, to viper, which knows the defaults and which value beats which.
func (l *loader) merge(target string, layers ...layer) *values {
	v := &values{viper: viper.New(), at: map[string]Place{}, problems: &l.problems, show: l.Show, target: target, paths: l.paths}
	v.viper.AllowEmptyEnv(true)
	for _, k := range table() {
		switch k.Default {
		case "":
		case "[]":
			v.viper.SetDefault(k.Path, []string{})
		default:
			v.viper.SetDefault(k.Path, k.Default)
		}
	}
	file := map[string]any{}
	for _, layer := range drop(layers) {
		for path, s := range layer.settings {
			v.at[path] = s.at
			switch {
			case layer.kind == inFile:
				file[path] = s.value
			case layer.kind == inFlags:
				v.viper.Set(path, s.value)
			case s.value != nil:
				_ = v.viper.BindEnv(path, s.at.Name) // fails only without a path
			}
		}
	}
	_ = v.viper.MergeConfigMap(file) // never fails
	return v
}

// given reports whether a layer names one of the keys, also with a wrong value.
func (v *values) given(paths ...string) bool {
	return slices.ContainsFunc(paths, func(path string) bool { _, ok := v.at[path]; return ok })
}

// get returns the value of a key. viper would look through all of its layers for a key that none of them has.
func (v *values) get(path string) any {
	if !v.given(path) && index().path[path].Default == "" {
		return nil
	}
	return v.viper.Get(path)
}

// one parses the value of a key that is no list. It returns the zero value if the key is not set or wrong. Errors of parse
// complete "must …" or are whole sentences; they never quote the text.
func one[T any](v *values, path string, parse func(string) (T, error)) (value T) {
	text, ok := v.get(path).(string)
	if !ok {
		return value
	}
	err := plain(path, text)
	if err == nil {
		value, err = parse(text)
	}
	if err != nil {
		v.problems.add(v.at[path], path, err)
		return *new(T)
	}
	switch value := any(value).(type) {
	case string, bool, int, Origin:
		v.record(path, value)
	default: // a duration of 5m would be shown as 5m0s
		v.record(path, text)
	}
	return value
}

// many parses the words of a list.
func many[T comparable](v *values, path string, parse func(string) (T, error)) (out []T) {
	words := setting{value: v.get(path)}.words()
	if words != nil && len(words) == 0 && !index().path[path].empty {
		v.problems.add(v.at[path], path, empty(path))
		return nil
	}
	for _, word := range words {
		err := plain(path, word)
		var value T
		if err == nil {
			value, err = parse(word)
		}
		if err == nil && slices.Contains(out, value) {
			err = errors.New("lists one value twice")
		}
		if err != nil {
			v.problems.add(v.at[path], path, err)
			return nil
		}
		out = append(out, value)
	}
	if words != nil {
		v.record(path, texts(out))
	}
	return out
}

// command returns a program and its arguments.
func (v *values) command(path string) []string {
	argv, ok := v.get(path).([]string)
	var err error
	switch {
	case !ok:
		return nil
	case len(argv) == 0:
		err = empty(path)
	case argv[0] == "" || strings.ContainsFunc(argv[0], unicode.IsSpace):
		err = errors.New("must be a list of the program and its arguments, each an element of its own, because no shell splits it")
	}
	if err != nil {
		v.problems.add(v.at[path], path, err)
		return nil
	}
	v.record(path, argv)
	return argv
}

// path expands the $VARS of a path and makes it absolute. Thousands of targets may name one file: they share its text.
func (v *values) path(path string) string {
	text := one(v, path, func(text string) (string, error) { return expand(text, v.at[path].dir) })
	if _, known := v.paths[text]; !known {
		v.paths[text] = text
	}
	return v.paths[text]
}

// plain refuses what is wrong in every text.
func plain(path, text string) error {
	if text == "" {
		return empty(path)
	}
	return realm.ValidateText(text)
}

// variableName matches a name that is not a part of a secret with a dollar sign.
var variableName = regexp.MustCompile(`^[A-Z_]{3,}$`)

// expand replaces $NAME and ${NAME}, and resolves a relative path from a folder.
func expand(text, dir string) (string, error) {
	var err error
	expanded := os.Expand(text, func(name string) string {
		value := os.Getenv(name)
		switch {
		case value != "":
		case name == "CREDENTIALS_DIRECTORY": // the packages' sample names it
			err = errors.New("the variable $CREDENTIALS_DIRECTORY is not set: systemd sets it for services, " +
				"elsewhere set it to the directory of these files")
		case variableName.MatchString(name):
			err = fmt.Errorf("the variable $%s is not set", name)
		default:
			err = errors.New("a variable that it names is not set")
		}
		return value
	})
	switch {
	case err != nil:
		return "", err
	case strings.HasPrefix(expanded, "~"):
		return "", errors.New("must not begin with ~, which only a shell expands: write $HOME")
	case !filepath.IsAbs(expanded):
		expanded = filepath.Join(dir, expanded)
	}
	return filepath.Clean(expanded), nil
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
func durationUpTo(most string) func(string) (time.Duration, error) {
	limit, _ := time.ParseDuration(most)
	return func(text string) (time.Duration, error) {
		d, err := time.ParseDuration(text)
		switch {
		case err != nil:
			return 0, mustBe(Duration)
		case d < time.Second || d > limit:
			return 0, fmt.Errorf("must be a duration from 1s to %s", most)
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
	return "", check.Errorf(check.Config, "must be the id of a check").Try(check.Run("help checks").With("it lists the checks"))
}

// propertyWord checks one word of a property that Proxmox keeps as one text. The characters that Proxmox takes for
// separators cannot be part of a word (PVE::Tools::split_list).
func propertyWord(d realm.Definition) func(string) (string, error) {
	return func(word string) (string, error) {
		if strings.ContainsAny(word, ",; \t") {
			return "", errors.New("must be a list of single words: no word may contain a comma, a semicolon or white space")
		}
		return word, d.Validate(realm.Words(d.Property, word))
	}
}

// propertyText checks the text of a property.
func propertyText(d realm.Definition) func(string) (realm.Value, error) {
	return func(text string) (realm.Value, error) {
		value := realm.Text(text)
		return value, d.Validate(value)
	}
}
