package config

import (
	"slices"

	"github.com/spf13/viper"

	"proxmox-realm/internal/realm"
)

// merged is what layers say together.
type merged struct {
	viper     *viper.Viper
	variables map[string]setting // by path
}

// merge hands what the file says above its targets, a target, variables and flags to viper, which decides which value beats
// which. The position of a value travels with it.
func (l *loader) merge(target, variables, flags layer) merged {
	v := viper.New()
	v.AllowEmptyEnv(true)
	for _, k := range table() {
		if k.Default != "" && k.Kind != List {
			v.SetDefault(k.Path, setting{key: k, words: []string{k.Default}})
		}
	}
	kept := drop(l.base, target, variables, flags)
	for _, file := range kept[:2] {
		settings := map[string]any{}
		for path, s := range file {
			settings[path] = s
		}
		_ = v.MergeConfigMap(settings) // never fails
	}
	for path, s := range kept[2] {
		_ = v.BindEnv(path, s.at.Name) // fails only without a path
	}
	for path, s := range kept[3] {
		v.Set(path, s)
	}
	return merged{v, kept[2]}
}

// get returns the setting that counts, and whether there is one.
func (m merged) get(path string) (setting, bool) {
	switch v := m.viper.Get(path).(type) {
	case setting:
		return v, true
	case string: // of the variable that is bound to the key
		return m.variables[path], true
	}
	return setting{}, false
}

// at returns where the value of a key stands; the zero Position for a default, or if there is none.
func (m merged) at(path string) Position {
	s, _ := m.get(path)
	return s.at
}

// given reports whether a layer names a key, also with a wrong value.
func (m merged) given(path string) bool { return m.at(path) != Position{} }

// any reports whether a layer names one of the keys that are meant.
func (m merged) any(meant func(*Key) bool) bool {
	return slices.ContainsFunc(table(), func(k *Key) bool { return meant(k) && m.given(k.Path) })
}

// drop returns the settings of the layers, lowest first, without what a higher layer replaces.
//
//   - A layer that names one key of a group replaces the others. A token or another user replaces the password as well. A false
//     proxmox.insecure replaces nothing.
//   - A target that sets endpoints replaces credentials, trust, product and redirect URLs: it is another cluster.
//   - A layer that unsets a property replaces its value.
//   - A target of another product than the file above it inherits only what its product has.
func drop(layers ...layer) []map[string]setting {
	out := make([]map[string]setting, len(layers))
	replaced, unset := map[group]bool{}, []realm.Property{}
	own, other := productOf(layers)
	for i, l := range slices.Backward(layers) {
		out[i] = map[string]setting{}
		for path, s := range l.settings {
			switch {
			case replaced[s.key.group], slices.Contains(unset, s.key.property), i == 0 && other && !s.key.isOf(own):
				continue
			case i == 0 && other && path == "realm.unset":
				s.words = slices.DeleteFunc(slices.Clone(s.words), func(name string) bool {
					p, err := parseUnset(name)
					return err == nil && !own.Has(p)
				})
			}
			out[i][path] = s
		}
		for _, s := range out[i] {
			if !s.isSecure() {
				replaced[s.key.group] = true
			}
		}
		unset = append(unset, l.unset()...)
		var also []group
		if replaced[credentials] {
			also = ofUser
		}
		if l.overlay && l.has(endpoints) {
			also = ofCluster
		}
		for _, g := range also {
			replaced[g] = true
		}
		delete(replaced, "")
	}
	return out
}

// productOf returns the product of a target, and whether it is another one than that of the lowest layer.
func productOf(layers []layer) (own realm.Product, other bool) {
	var above realm.Product
	isTarget := false
	for i, l := range layers {
		s, set := l.settings["proxmox.product"]
		if set || l.overlay && l.has(endpoints) {
			own, _ = realm.ParseProduct(s.text()) // reported when the key is read
		}
		if i == 0 {
			above = own
		}
		isTarget = isTarget || l.overlay
	}
	return own, isTarget && own != above
}
