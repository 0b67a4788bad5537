package pve

import (
	"cmp"
	"crypto/sha1"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"sync"
)

// realmSet is the realm file, /etc/pve/domains.cfg. The time of a write does not grow with the number of realms.
type realmSet struct {
	schema *realmSchema

	mu    sync.RWMutex
	order []string
	by    map[string]*section // sections are replaced, never changed
	sum   [sha1.Size]byte     // of all sections

	unreadable int // sections without a type
}

// section is one realm. Its type is empty if a required property was stored empty: it cannot be read then, and no realm can
// be written until it is created again.
type section struct {
	kind  string
	props map[string]string
}

func newSection(r Realm) *section {
	sec := &section{kind: r.Type, props: map[string]string{}}
	maps.Copy(sec.props, r.Properties)
	return sec
}

func (sec *section) clone() *section { return &section{kind: sec.kind, props: maps.Clone(sec.props)} }

func (sec *section) realm(name string) Realm {
	return Realm{Name: name, Type: sec.kind, Properties: maps.Clone(sec.props)}
}

// builtin are the realms that are always there.
var builtin = []Realm{
	{Name: "pam", Type: "pam", Properties: map[string]string{"comment": "Linux PAM standard authentication"}},
	{Name: "pve", Type: "pve", Properties: map[string]string{"comment": "Proxmox VE authentication server"}},
}

// load replaces all realms.
func (f *realmSet) load(realms []Realm) error {
	fresh := &realmSet{schema: f.schema, by: map[string]*section{}}
	err := fresh.change(func(e *edit) error {
		for _, r := range slices.Concat(builtin, realms) {
			e.put(r.Name, newSection(r))
		}
		return nil
	})
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.order, f.by, f.sum, f.unreadable = fresh.order, fresh.by, fresh.sum, fresh.unreadable
	return nil
}

// get returns the realm of that name, or nil if there is none that can be read.
func (f *realmSet) get(name string) *section {
	sec, _ := f.read(name)
	return sec
}

// read returns the realm of that name like get, and the digest at the same moment.
func (f *realmSet) read(name string) (*section, string) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	sec := f.by[name]
	if sec != nil && sec.kind == "" {
		sec = nil
	}
	return sec, hex.EncodeToString(f.sum[:])
}

// all returns copies of all realms, in their order.
func (f *realmSet) all() (list []Realm) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for _, name := range f.order {
		list = append(list, f.by[name].realm(name))
	}
	return list
}

// edit collects the changes of one write.
type edit struct {
	set     *realmSet
	digest  string
	changed map[string]*section // nil where the realm is removed
	order   []string            // of changed
}

// find returns a copy of a realm, even if it cannot be read, or nil.
func (e *edit) find(name string) *section {
	sec, changed := e.changed[name]
	if !changed {
		sec = e.set.by[name]
	}
	if sec == nil {
		return nil
	}
	return sec.clone()
}

// has says whether there is a realm that can be read.
func (e *edit) has(name string) bool {
	sec := e.find(name)
	return sec != nil && sec.kind != ""
}

func (e *edit) put(name string, sec *section) {
	if _, known := e.changed[name]; !known {
		e.order = append(e.order, name)
	}
	e.changed[name] = sec
}

// change makes the changes of one write. If it returns an error, nothing is changed.
func (f *realmSet) change(change func(*edit) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := &edit{set: f, digest: hex.EncodeToString(f.sum[:]), changed: map[string]*section{}}
	if err := change(e); err != nil {
		return err
	}
	e.takeDefault()
	unreadable := f.unreadable
	for _, name := range e.order {
		if sec := f.by[name]; sec != nil && sec.kind == "" {
			unreadable--
		}
	}
	if unreadable > 0 {
		return dief("unknown section type ''")
	}
	for _, name := range e.order {
		if sec := e.changed[name]; sec != nil && sec.kind != "" {
			if k := f.schema.missing(sec.kind, sec.props); k != "" {
				return dief("section '%s' - missing value for required option '%s'", name, k)
			}
			sec.props = f.schema.stored(sec)
			if f.schema.missing(sec.kind, sec.props) != "" {
				e.changed[name] = &section{}
			}
		}
	}
	for _, name := range e.order {
		f.replace(name, e.changed[name])
	}
	for _, r := range builtin {
		if f.by[r.Name] == nil {
			f.replace(r.Name, newSection(r))
		}
	}
	return nil
}

// takeDefault takes the flag of the default realm from all others if the edit sets it.
func (e *edit) takeDefault() {
	for _, name := range slices.Backward(e.order) {
		if sec := e.changed[name]; sec == nil || !truthy(sec.props["default"]) {
			continue
		}
		for _, other := range slices.Concat(e.set.order, e.order) {
			if sec := e.find(other); other != name && sec != nil && sec.props["default"] != "" {
				delete(sec.props, "default")
				e.put(other, sec)
			}
		}
		return
	}
}

// replace stores a section, or removes the realm if it is nil.
func (f *realmSet) replace(name string, sec *section) {
	f.add(name, f.by[name], -1)
	f.add(name, sec, 1)
	switch {
	case sec == nil:
		delete(f.by, name)
		f.order = slices.DeleteFunc(f.order, func(n string) bool { return n == name })
		return
	case f.by[name] == nil:
		f.order = append(f.order, name)
	}
	f.by[name] = sec
}

// add adds a section to the digest, or takes it away, and counts it if it cannot be read.
func (f *realmSet) add(name string, sec *section, count int) {
	if sec == nil {
		return
	}
	text := sec.kind + ": " + name + "\n"
	for _, k := range slices.Sorted(maps.Keys(sec.props)) {
		text += "\t" + k + " " + sec.props[k] + "\n"
	}
	for i, b := range sha1.Sum([]byte(text)) {
		f.sum[i] ^= b
	}
	if sec.kind == "" {
		f.unreadable += count
	}
}

// stored is what reading the file makes of the properties that were written to it.
func (s *realmSchema) stored(sec *section) map[string]string {
	props := map[string]string{}
	for k, v := range sec.props {
		switch {
		case k == "comment":
			v = cmp.Or(stored(v), builtinComment(sec.kind))
			if v == "0" {
				v = ""
			}
		case s.all[k] != nil && s.all[k].kind == "boolean":
			v = map[bool]string{true: "1", false: "0"}[truthy(v)]
		default:
			v = strings.TrimSpace(v)
		}
		if v != "" {
			props[k] = v
		}
	}
	return props
}

func builtinComment(kind string) string {
	for _, r := range builtin {
		if r.Type == kind {
			return r.Properties["comment"]
		}
	}
	return ""
}
