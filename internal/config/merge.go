package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/viper"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// merged is what layers say together.
type merged struct {
	viper *viper.Viper
	here  string // relative paths of variables begin here
}

// merge hands the layers, lowest first, to viper, which decides which value beats which. The place of a value travels with it.
func (l *loader) merge(layers ...layer) merged {
	v := viper.New()
	v.AllowEmptyEnv(true)
	for i := range table() {
		if k := &table()[i]; k.Default != "" {
			v.SetDefault(k.Path, k.written(k.Default, Place{}))
		}
	}
	for _, layer := range drop(layers) {
		file := map[string]any{}
		for path, s := range layer.settings {
			switch layer.kind {
			case inFile:
				file[path] = s
			case inEnvironment:
				_ = v.BindEnv(path, s.at.Name) // fails only without a path
			case inFlags:
				v.Set(path, s)
			}
		}
		_ = v.MergeConfigMap(file) // never fails
	}
	return merged{v, l.here}
}

// written is the setting that a default, a variable or a flag gives.
func (k *Key) written(text string, at Place) setting {
	switch {
	case k.Kind == List && at == Place{}:
		return setting{value: []string{}, at: at}
	case k.Kind == List:
		return setting{value: split(text), at: at}
	}
	return setting{value: text, at: at}
}

// get returns the setting that counts, and whether there is one.
func (m merged) get(k *Key) (setting, bool) {
	switch v := m.viper.Get(k.Path).(type) {
	case setting:
		return v, true
	case string: // of the variable that is bound to the key
		return k.written(v, Place{Name: k.Env, dir: m.here}), true
	}
	return setting{}, false
}

// given reports whether a layer names one of the keys, also with a wrong value.
func (m merged) given(paths ...string) bool {
	return slices.ContainsFunc(paths, func(path string) bool { return m.at(path) != Place{} })
}

// givenOf reports whether a layer names the key, or a file or a command for its value.
func (m merged) givenOf(path string) bool {
	return slices.ContainsFunc([]string{"", "_file", "_command"}, func(end string) bool {
		return index().path[path+end] != nil && m.given(path+end)
	})
}

// product returns the product of a target, Proxmox VE if it is a wrong one.
func (m merged) product() realm.Product {
	s, _ := m.get(index().path["proxmox.product"])
	text, _ := s.value.(string)
	p, _ := realm.ParseProduct(text) // reported when the key is read
	return p
}

// at returns where the value of a key stands; the zero Place for a default, or if there is none.
func (m merged) at(path string) Place {
	s, _ := m.get(index().path[path])
	return s.at
}

// plain refuses what is wrong in every text. An empty list is a value of some keys.
func (k *Key) plain(value any) error {
	words, isList := value.([]string)
	if text, isText := value.(string); isText {
		words = []string{text}
	}
	if isList && len(words) == 0 && !k.empty {
		return k.mustNotBeEmpty()
	}
	for _, word := range words {
		switch {
		case k.Kind == Command: // arguments are what they are
			continue
		case word == "":
			return k.mustNotBeEmpty()
		}
		if err := realm.ValidateText(word); err != nil {
			return err
		}
	}
	return nil
}

// mustNotBeEmpty is the error of a key without a value.
func (k *Key) mustNotBeEmpty() error {
	if d, ok := propertyOf(k.Path); ok && !d.Required && !d.CreateOnly {
		return check.Errorf(check.Config, "must not be empty").Try(check.Hintf("add %s to {realm.unset} (it removes the property)", d.Key))
	}
	return errors.New("must not be empty: leave it out instead")
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
	case digest.MatchString(text):
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
