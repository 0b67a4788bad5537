package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// setting is what a layer says of one key.
type setting struct {
	key    *Key
	words  []string     // as they were written; one, unless the key holds a list
	access realm.Access // of the key access
	wrong  bool         // the mistake is reported, so that the key is not reported as missing as well
	at     Position
}

// setting is the key with the text of a variable or flag.
func (k *Key) setting(text string, at Position) setting {
	s := setting{key: k, words: []string{text}, at: at}
	if k.Kind == List {
		s.words = split(text)
	}
	return s
}

// split takes a list apart that a variable or flag gives: commas and spaces separate its words.
func split(text string) (words []string) {
	for part := range strings.SplitSeq(text, ",") {
		fields := strings.Fields(part)
		if len(fields) == 0 {
			fields = []string{""} // refused like any other empty value
		}
		words = append(words, fields...)
	}
	return words
}

// text returns the value of a key that holds no list.
func (s setting) text() string {
	if len(s.words) == 0 {
		return ""
	}
	return s.words[0]
}

// plain refuses what is wrong in every text, and makes the path of a file or of a program an absolute one.
func (s setting) plain() (setting, error) {
	if len(s.words) == 0 && s.key.Default != "[]" && s.key.Kind != Grants {
		return s, s.key.mustNotBeEmpty()
	}
	if program := s.text(); s.key.Kind == Command { // arguments are what they are
		switch {
		case program == "" || strings.ContainsFunc(program, unicode.IsSpace):
			return s, errors.New("must be a list of the program and its arguments, each an element of its own, because no shell splits it")
		case strings.ContainsRune(program, filepath.Separator) && !filepath.IsAbs(program):
			s.words = append([]string{filepath.Join(s.at.dir, program)}, s.words[1:]...)
		}
		return s, nil
	}
	for _, word := range s.words {
		if word == "" {
			return s, s.key.mustNotBeEmpty()
		}
		if err := realm.ValidateText(word); err != nil {
			return s, err
		}
	}
	if s.key.Kind == Path {
		path, err := expand(s.text(), s.at.dir)
		s.words = []string{path}
		return s, err
	}
	return s, nil
}

// mustNotBeEmpty is the error of a key without a value.
func (k *Key) mustNotBeEmpty() error {
	if d, ok := k.property.Definition(); ok && !d.Required && !d.CreateOnly {
		return check.Errorf(check.Config, "must not be empty").Try(check.Hintf("add %s to {realm.unset} (it removes the property)", d.Key))
	}
	return errors.New("must not be empty: leave it out instead")
}

// variableName matches a name that is not a part of a secret with a dollar sign.
var variableName = check.Pattern(`^[A-Z_]{3,}$`)

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
		case variableName().MatchString(name):
			err = fmt.Errorf("the variable $%s is not set", name)
		default:
			err = errors.New("a variable that it names is not set")
		}
		return value
	})
	switch {
	case digest().MatchString(text):
		return "", errDigest
	case err != nil:
		return "", err
	case strings.HasPrefix(expanded, "~"):
		return "", errors.New("must not begin with ~, which only a shell expands: write $HOME")
	case !filepath.IsAbs(expanded):
		expanded = filepath.Join(dir, expanded)
	}
	return filepath.Clean(expanded), nil
}

// layer holds what one source says: the file above its targets, one target, the environment, the flags.
type layer struct {
	settings map[string]setting // by path
	// target is the name of the target, and at is its position.
	target string
	at     Position
	// overlay marks a target, and taken one that the run takes. broken marks one whose file cannot be read, so that missing
	// keys mean nothing.
	overlay, taken, broken bool
}

// name is what the target of the layer is called.
func (l layer) name() string { return cmp.Or(l.target, defaultTarget) }

// defaultTarget is the name of the only target if the configuration has no targets.
const defaultTarget = "default"

func newLayer(at Position) layer { return layer{settings: map[string]setting{}, at: at} }

// has reports whether the layer names a key of the group.
func (l layer) has(g group) bool {
	for _, s := range l.settings {
		if s.key.group == g {
			return true
		}
	}
	return false
}

// secrets returns the secrets that stand in the layer itself, of a token also the part after its id.
func (l layer) secrets() (found []check.Secret) {
	for _, s := range l.settings {
		if s.key.Secret && !s.wrong {
			found = append(found, check.NewSecret(s.text()))
			if _, rest, token := strings.Cut(s.text(), "!"); token {
				found = append(found, check.NewSecret(rest[strings.IndexAny(rest, ":=")+1:]))
			}
		}
	}
	return found
}

func (l layer) holdsSecret() bool { return len(l.secrets()) > 0 }

// isSecure reports whether a setting is a false proxmox.insecure, which names no trust.
func (s setting) isSecure() bool {
	value, err := strconv.ParseBool(s.text())
	return s.key.Path == "proxmox.insecure" && err == nil && !value
}

// complete checks what the keys of one layer mean together.
func (l layer) complete(problems *Problems) {
	var given []setting
	for _, k := range table() {
		if s, set := l.settings[k.Path]; set && k.group != "" {
			given = append(given, s)
		}
	}
	slices.SortStableFunc(given, func(a, b setting) int { return a.at.Line - b.at.Line })
	first := map[group]setting{}
	_, user := l.settings["proxmox.username"]
	for _, s := range given {
		if slices.Contains(ofUser, s.key.group) && !user {
			problems.addf(s.at, s.key.Path, "works only beside proxmox.username in the same place, and without a token")
		}
		switch other, set := first[s.key.group]; {
		case s.wrong || s.isSecure():
		case set:
			problems.addf(s.at, s.key.Path, "%s is set as well: keep one of them", other.key.Path)
		default:
			first[s.key.group] = s
		}
	}
	unset := l.unset()
	for _, path := range slices.Sorted(maps.Keys(l.settings)) {
		if p := l.settings[path].key.property; slices.Contains(unset, p) {
			problems.addf(l.settings["realm.unset"].at, "realm.unset", "names %s, which is set as well: keep one of them", p)
		}
	}
}

// unset returns the properties that the layer removes. [parseUnset] reports wrong names when the key is read.
func (l layer) unset() (properties []realm.Property) {
	for _, name := range l.settings["realm.unset"].words {
		if p, err := parseUnset(name); err == nil {
			properties = append(properties, p)
		}
	}
	return properties
}
