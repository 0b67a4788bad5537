package pve

import (
	"crypto/sha1"
	"encoding/hex"
	"hash"
	"maps"
	"slices"
	"strings"
	"sync"
	"unicode"
)

// realmFile is /etc/pve/domains.cfg, the section configuration that holds all
// realms. As on a node, only its text is stored. The next read parses it again,
// strips white space and loses unreadable sections.
//
// A node writes the whole file each time. A realmFile replaces only the
// sections that change, if the result is the same. The time of a write then
// does not grow with the number of realms.
type realmFile struct {
	schema  *realmSchema
	version version

	mu    sync.RWMutex
	set   *realmSet     // its sections are never changed, only replaced
	whole *string       // the text; nil if it is the texts of the sections one after the other
	sums  []hash.Cloner // sums[i] is the SHA-1 of the text up to the end of section i; made when a digest is read
}

func newRealmFile(schema *realmSchema, v version) *realmFile {
	f := &realmFile{schema: schema, version: v}
	f.load("")
	return f
}

// load replaces the text of the file, in bytes.
func (f *realmFile) load(raw string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.set, f.whole, f.sums = f.schema.parse(raw, f.version), &raw, nil
}

// text is the whole text, in bytes.
func (f *realmFile) text() string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.whole != nil {
		return *f.whole
	}
	return f.set.text()
}

// get returns the realm of that name, or nil if there is none or it cannot be parsed.
func (f *realmFile) get(name string) *section {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.set.get(name)
}

// find returns the realm of that name, even if it cannot be parsed, or nil.
func (f *realmFile) find(name string) *section {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.set.by[name]
}

// read returns the realm of that name like get, and the digest of the file at the same moment.
func (f *realmFile) read(name string) (*section, string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.set.get(name), f.digestLocked()
}

// all returns all realms.
func (f *realmFile) all() *realmSet {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return &realmSet{order: slices.Clone(f.set.order), by: maps.Clone(f.set.by)}
}

// digest is the digest of the text.
func (f *realmFile) digest() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.digestLocked()
}

func (f *realmFile) digestLocked() string {
	if f.whole != nil {
		sum := sha1.Sum([]byte(*f.whole))
		return hex.EncodeToString(sum[:])
	}
	for i := len(f.sums); i < len(f.set.order); i++ {
		sum, _ := sha1.New().(hash.Cloner) // as every hash of the standard library
		if i > 0 {
			sum, _ = f.sums[i-1].Clone() // fails for no hash of the standard library
		}
		_, _ = sum.Write([]byte(f.set.by[f.set.order[i]].text)) // never fails
		f.sums = append(f.sums, sum)
	}
	return hex.EncodeToString(f.sums[len(f.sums)-1].Sum(nil))
}

// change edits the file. If change fails, or the result cannot be stored, the file stays as it is.
func (f *realmFile) change(change func(*edit) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := &edit{file: f, changed: map[string]*section{}}
	if err := change(e); err != nil {
		return err
	}
	if f.splice(e) {
		return nil
	}
	return f.rewrite(e)
}

// splice stores an edit by replacing only the sections that it changes. It returns false, and changes nothing, if that
// could differ from rewrite.
func (f *realmFile) splice(e *edit) bool {
	if f.whole != nil {
		return false
	}
	fresh := map[string]*section{}
	for name, sec := range e.changed {
		if sec == nil {
			if builtinComments[name] != "" {
				return false // it comes back
			}
			continue
		}
		text, err := f.schema.renderSection(name, sec)
		if err != nil || truthy(sec.props["default"]) || wide(text) {
			return false
		}
		text = fileBytes(text)
		set := f.schema.parse(text, f.version)
		if set.order[0] != name || len(set.order) > 1+len(builtinComments) || set.get(name) == nil {
			return false // it reads as something else
		}
		if again, err := f.schema.renderSection(name, set.by[name]); err != nil || fileBytes(again) != text {
			return false // the next write changes it once more
		}
		fresh[name] = set.by[name]
		fresh[name].text = text
	}
	first := len(f.set.order)
	for name := range e.changed {
		if i := slices.Index(f.set.order, name); i >= 0 {
			first = min(first, i)
		}
	}
	f.sums = f.sums[:min(first, len(f.sums))]
	for _, name := range e.order {
		if sec := fresh[name]; sec != nil {
			f.set.put(name, sec)
		} else {
			f.set.remove(name)
		}
	}
	return true
}

// rewrite stores an edit like a node: it writes the whole file and reads it again.
func (f *realmFile) rewrite(e *edit) error {
	set := &realmSet{order: slices.Clone(f.set.order), by: maps.Clone(f.set.by)}
	for _, name := range e.order {
		if sec := e.changed[name]; sec != nil {
			set.put(name, sec)
		} else {
			set.remove(name)
		}
	}
	raw, err := f.schema.render(set)
	if err != nil {
		return err
	}
	read := f.schema.parse(raw, f.version)
	f.set, f.whole, f.sums = read, &raw, nil
	if wide(raw) || !slices.Equal(read.order, set.order) {
		return nil
	}
	for _, name := range read.order {
		text, err := f.schema.renderSection(name, read.by[name])
		if err != nil {
			return nil //nolint:nilerr // it is stored; the next write fails
		}
		read.by[name].text = fileBytes(text)
	}
	if read.text() == raw {
		f.whole = nil
	}
	return nil
}

// wide says whether a text has characters outside Latin-1. One of them changes how Perl encodes the whole file.
func wide(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxLatin1 })
}

// edit collects the changes of one write.
type edit struct {
	file    *realmFile
	changed map[string]*section // nil where the realm is removed
	order   []string            // of changed
}

// find returns a copy of a realm, even if it cannot be parsed, or nil.
func (e *edit) find(name string) *section {
	sec, changed := e.changed[name]
	if !changed {
		sec = e.file.set.by[name]
	}
	if sec == nil {
		return nil
	}
	return sec.clone()
}

// get returns a copy of a realm, or nil if there is none or it cannot be parsed.
func (e *edit) get(name string) *section {
	if sec := e.find(name); sec != nil && sec.kind != "" {
		return sec
	}
	return nil
}

func (e *edit) put(name string, sec *section) {
	if _, known := e.changed[name]; !known {
		e.order = append(e.order, name)
	}
	e.changed[name] = sec
}

func (e *edit) remove(name string) { e.put(name, nil) }

// takeDefault takes the flag from every realm where config sets it.
func (e *edit) takeDefault(config map[string]string) {
	if !truthy(config["default"]) {
		return
	}
	for _, name := range e.file.set.order {
		if sec := e.find(name); sec != nil && sec.props["default"] != "" {
			delete(sec.props, "default")
			e.put(name, sec)
		}
	}
}
