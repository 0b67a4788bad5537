package config

import (
	"os"
	"slices"
	"strings"
)

// fromEnvironment notes which of the program's own variables are set. An unknown one is a mistake: somebody expects an
// effect from it.
func fromEnvironment(dir string, problems *collector) layer {
	l := newLayer(inEnvironment)
	env := os.Environ()
	slices.Sort(env)
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		at := Place{Name: name, dir: dir}
		k := index().env[name]
		switch {
		case !strings.HasPrefix(name, EnvPrefix) || name == envBinary:
		case name == envConfig:
			if value == "" {
				problems.addf(at, "", "must not be empty: unset it instead")
			}
		case name == envShards: // [loader.takeShard] reads it
		case k == nil:
			l.unknownVariable(at, problems)
		default:
			l.settings[k.Path] = setting{value: value, at: at}
		}
	}
	l.complete(problems)
	return l
}

// unknownVariable reports a variable that is not one of this program's. The nearest one counts as given, though wrongly.
func (l layer) unknownVariable(at Place, problems *collector) {
	var paths []string
	for _, k := range table() {
		if (k.Kind == Command || k.Kind == Grants) && at.Name == variableOf(k.Path) {
			problems.addf(at, k.Path, "%s works only in a file, because a variable holds one text", k.Path)
			return
		}
		if k.Kind != Command {
			paths = append(paths, k.Path)
		}
	}
	near := ""
	if path := nearest(strings.ToLower(strings.TrimPrefix(at.Name, EnvPrefix)), paths); path != "" {
		near = variableOf(path)
		l.markWrong(path, at)
	}
	at.Name = printable(at.Name)
	problems.addf(at, "", "is not a variable of this program%s", suggestion(near))
}

// fromFlags reads the keys given on the command line.
func fromFlags(flags []FlagValue, dir string, problems *collector) layer {
	l := newLayer(inFlags)
	for _, f := range flags {
		k := index().path[f.Key]
		if k == nil || k.Kind == Command || k.Kind == Grants {
			problems.addf(Place{Name: "--" + printable(f.Key)}, "", "is not a key that a flag can set")
			continue
		}
		at := Place{Name: "--" + k.Flag, dir: dir}
		if k.Flag == "" {
			at.Name = "--" + k.Path
		}
		text := f.Value
		if before, given := l.settings[f.Key]; given && k.Kind == List {
			text = before.value.(string) + "," + text //nolint:forcetypeassert // it was set here
		}
		l.settings[f.Key] = setting{value: text, at: at}
	}
	l.complete(problems)
	return l
}

// CommandEnvironment returns the environment for the commands of a configuration: env without the variables of this
// program, which may hold secrets, and without the socket of systemd's notifications.
func CommandEnvironment(env []string) []string {
	out := make([]string, 0, len(env)) // not nil, which would be the whole environment
	for _, entry := range env {
		if !strings.HasPrefix(entry, EnvPrefix) && !strings.HasPrefix(entry, "NOTIFY_SOCKET=") {
			out = append(out, entry)
		}
	}
	return out
}
