package config

import (
	"cmp"
	"maps"
	"os"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
)

// fromEnvironment notes which of the program's own variables are set. An unknown one is a
// mistake, because it has no effect.
func fromEnvironment(dir string, problems *Problems) layer {
	l := newLayer(Position{})
	env := os.Environ()
	slices.Sort(env)
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		at := Position{Name: name, dir: dir}
		k := index().env[name]
		switch {
		case !strings.HasPrefix(name, envPrefix) || name == envBinary:
		case name == envConfig:
			if value == "" {
				problems.addf(at, "", "must not be empty: unset it instead")
			}
		case name == envShards: // [loader.chooseShard] reads it
		case k == nil:
			at.Name = printable(name)
			near := Nearest(strings.TrimPrefix(name, envPrefix), slices.Sorted(maps.Keys(index().path)))
			if k := index().path[near]; k != nil {
				near = k.Env
			}
			problems.add(at, "", check.Errorf(check.Config, "is not a variable of this program%s", didYouMean(near)).
				Try("it lists the variables:\n    {help environment}"))
		default:
			l.settings[k.Path] = k.setting(value, at)
		}
	}
	l.complete(problems)
	return l
}

// fromFlags reads the keys given on the command line: keys of the list that hold one text or a list of words.
func fromFlags(flags []FlagValue, dir string, problems *Problems) layer {
	l := newLayer(Position{})
	for _, f := range flags {
		k := index().path[f.Key]
		s := k.setting(f.Value, Position{Name: "--" + cmp.Or(k.Flag, k.Path), dir: dir})
		if k.Kind == List {
			s.words = append(l.settings[f.Key].words, s.words...)
		}
		l.settings[f.Key] = s
	}
	l.complete(problems)
	return l
}
