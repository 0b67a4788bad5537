package config

import (
	"maps"
	"slices"
	"strings"
)

// fromEnvironment reads the program's own variables. An unknown one is a mistake: it would have been meant to do something.
func fromEnvironment(env map[string]string, at surroundings, problems *Problems) layer {
	l := newLayer()
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if !strings.HasPrefix(name, EnvPrefix) || name == envBinary {
			continue
		}
		where := place{key: name, source: "environment " + name}
		if name == envConfig {
			if env[name] == "" {
				problems.add(where, "must not be empty: unset it instead")
			}
			continue
		}
		k := index().env[name]
		if k == nil {
			where.key = printable(name)
			message, meant := unknownVariable(name)
			if k := index().env[meant]; k != nil {
				l.refused[k.Path] = true // it is not missing as well
			}
			problems.add(where, message)
			continue
		}
		l.fromText(k, env[name], where, at, problems)
	}
	l.complete(problems)
	return l
}

// unknownVariable returns what is wrong with a variable, and which one may be meant.
func unknownVariable(name string) (message, meant string) {
	for _, k := range table() {
		if k.Kind == Command && name == EnvPrefix+strings.ToUpper(strings.ReplaceAll(k.Path, ".", "_")) {
			return k.Path + " is taken from files alone: a variable cannot hold a list of arguments", ""
		}
	}
	meant = nearestVariable(name, append(slices.Sorted(maps.Keys(index().env)), envConfig, envBinary))
	return "is no variable of this program" + suggestion(meant), meant
}

// nearestVariable compares what follows the prefix, which all of them share, and sees through a forgotten section.
func nearestVariable(name string, candidates []string) string {
	rest := strings.TrimPrefix(name, EnvPrefix)
	best, bestDistance := "", max(2, len(rest)/4)+1
	for _, candidate := range candidates {
		full := strings.TrimPrefix(candidate, EnvPrefix)
		d := Distance(rest, full)
		if _, inner, nested := strings.Cut(full, "_"); nested {
			d = min(d, 1+Distance(rest, inner))
		}
		if d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// fromFlags reads the keys given on the command line.
func fromFlags(flags []FlagValue, at surroundings, problems *Problems) layer {
	l := newLayer()
	values := map[string][]string{}
	var order []string
	for _, f := range flags {
		if !slices.Contains(order, f.Key) {
			order = append(order, f.Key)
		}
		values[f.Key] = append(values[f.Key], f.Value)
	}
	for _, path := range order {
		k := index().path[path]
		if k == nil || k.Kind == Command {
			problems.add(place{key: printable(path)}, "is no key that a flag can set")
			continue
		}
		where := place{key: "--" + k.Flag, source: "flag --" + k.Flag}
		if k.Flag == "" {
			where = place{key: path, source: "flag " + path}
		}
		text := strings.Join(values[path], ",")
		if k.Kind != List {
			text = values[path][len(values[path])-1]
		}
		l.fromText(k, text, where, at, problems)
	}
	l.complete(problems)
	return l
}

// foreign are the variables of the Terraform and OpenTofu provider bpg/proxmox, in the order of their keys. They
// count as one set.
var foreign = []struct{ name, path string }{
	{"PROXMOX_VE_ENDPOINT", "proxmox.endpoint"},
	{"PROXMOX_VE_API_TOKEN", "proxmox.token"},
	{"PROXMOX_VE_USERNAME", "proxmox.username"},
	{"PROXMOX_VE_PASSWORD", "proxmox.password"},
	{"PROXMOX_VE_INSECURE", "proxmox.insecure"},
}

// fromForeign reads the PROXMOX_VE_* variables. As in the provider, an empty one is as good as none, and a token
// goes before user and password.
func fromForeign(env map[string]string, problems *Problems) layer {
	l := newLayer()
	for _, v := range foreign {
		if env[v.name] == "" || env["PROXMOX_VE_API_TOKEN"] != "" && (v.path == "proxmox.username" || v.path == "proxmox.password") {
			continue
		}
		l.fromText(index().path[v.path], env[v.name], place{key: v.name, source: "environment " + v.name}, surroundings{}, problems)
	}
	l.complete(problems)
	return l
}

// fromText adds a value that was given as text.
func (l layer) fromText(k *key, text string, where place, at surroundings, problems *Problems) {
	var v any
	var err error
	switch {
	case k.Kind == List && text == "":
		err = k.plain("")
	case k.Kind == List:
		v, _, err = k.list(words(text))
	default:
		v, err = k.scalar(text, at)
	}
	if err != nil {
		message := err.Error()
		if text == "" && !strings.Contains(message, "realm.unset") {
			message = "must not be empty: leave it out instead"
		}
		problems.add(where, message)
		l.refused[k.Path] = true
		return
	}
	l.settings[k.Path] = setting{value: v, at: where}
}
