package pve

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// section is one realm. Its type is empty where the section could not be read.
type section struct {
	kind  string
	props map[string]string // booleans and integers as Perl prints them
	text  string            // what the file holds of it, in bytes; empty where the file was not written yet
}

func newSection(kind string) *section { return &section{kind: kind, props: map[string]string{}} }

func (sec *section) clone() *section { return &section{kind: sec.kind, props: maps.Clone(sec.props)} }

// realmSet is realms in the order of the file.
type realmSet struct {
	order []string
	by    map[string]*section
}

func newRealmSet() *realmSet { return &realmSet{by: map[string]*section{}} }

// text is the texts of all sections, one after the other.
func (f *realmSet) text() string {
	var b strings.Builder
	for _, name := range f.order {
		b.WriteString(f.by[name].text)
	}
	return b.String()
}

// Comments that pam and pve have unless somebody wrote one.
var builtinComments = map[string]string{
	"pam": "Linux PAM standard authentication",
	"pve": "Proxmox VE authentication server",
}

var (
	sectionHeader = regexp.MustCompile(`\A(\S+):\s*(\S+)\s*\z`)
	sectionLine   = regexp.MustCompile(`\A\s+(\S+)(?:\s+(.*\S))?\s*\z`)
	commentLine   = regexp.MustCompile(`\A\s*#`)
)

// parse reads the file as PVE::SectionConfig::parse_config and
// PVE::Auth::Plugin::parse_config do.
func (s *realmSchema) parse(raw string, v version) *realmSet {
	f := newRealmSet()
	lines := strings.Split(raw, "\n")
	next := func() string { // skips comments; empty at the end
		for len(lines) > 0 {
			line := lines[0]
			lines = lines[1:]
			if !commentLine.MatchString(line) {
				return line
			}
		}
		return ""
	}
	for len(lines) > 0 {
		m := sectionHeader.FindStringSubmatch(next())
		if m == nil {
			continue
		}
		kind, name := strings.ToLower(m[1]), m[2]
		known := s.types[kind] != nil && realmPattern.MatchString(name)
		sec := newSection(kind)
		for line := next(); line != ""; line = next() {
			if m := sectionLine.FindStringSubmatch(line); known && m != nil {
				s.parseProperty(sec, m[1], latin1(m[2]))
			}
		}
		if !known {
			continue
		}
		if s.missing(sec) != "" {
			if !v.has(sinceBrokenSections) {
				continue
			}
			sec = newSection("") // its name stays, and nothing else
		}
		f.put(name, sec)
	}
	for _, name := range f.order {
		if c, ok := f.by[name].props["comment"]; ok && truthy(c) {
			f.by[name].props["comment"] = decodeText(c)
		}
	}
	f.oneDefault()
	for _, name := range []string{"pam", "pve"} {
		sec := f.by[name]
		if sec == nil {
			sec = newSection(name)
			f.put(name, sec)
		}
		sec.kind = name
		if !truthy(sec.props["comment"]) {
			sec.props["comment"] = builtinComments[name]
		}
	}
	return f
}

// parseProperty takes one line of a section; what does not pass the schema is dropped.
func (s *realmSchema) parseProperty(sec *section, k, v string) {
	opt := s.types[sec.kind]
	p := s.all[k]
	if _, ok := opt[k]; !ok || p == nil {
		return
	}
	if _, twice := sec.props[k]; twice {
		return
	}
	if v == "" {
		if p.kind != "boolean" {
			return
		}
		v = "1"
	}
	if p.check(v) == "" {
		sec.props[k] = v
	}
}

// missing is the first required property that a section lacks.
func (s *realmSchema) missing(sec *section) string {
	for _, k := range slices.Sorted(maps.Keys(s.types[sec.kind])) {
		if _, ok := sec.props[k]; s.types[sec.kind][k].required && !ok {
			return k
		}
	}
	return ""
}

func (f *realmSet) put(name string, sec *section) {
	if f.by[name] == nil {
		f.order = append(f.order, name)
	}
	f.by[name] = sec
}

func (f *realmSet) remove(name string) {
	delete(f.by, name)
	f.order = slices.DeleteFunc(f.order, func(n string) bool { return n == name })
}

// oneDefault leaves the flag with the first realm that has it.
func (f *realmSet) oneDefault() {
	found := false
	for _, name := range f.order {
		props := f.by[name].props
		if truthy(props["default"]) && found {
			delete(props, "default")
		}
		found = found || truthy(props["default"])
	}
}

// get is the section of that name, nil where there is none that can be read.
func (f *realmSet) get(name string) *section {
	if sec := f.by[name]; sec != nil && sec.kind != "" {
		return sec
	}
	return nil
}

// render writes the file as PVE::SectionConfig::write_config does.
func (s *realmSchema) render(f *realmSet) (string, error) {
	var out strings.Builder
	for _, name := range f.order {
		text, err := s.renderSection(name, f.by[name])
		if err != nil {
			return "", err
		}
		out.WriteString(text)
	}
	return fileBytes(out.String()), nil
}

func (s *realmSchema) renderSection(name string, sec *section) (string, error) {
	opts := s.types[sec.kind]
	if opts == nil {
		return "", dief("unknown section type '%s'", sec.kind)
	}
	var out strings.Builder
	out.WriteString(sec.kind + ": " + name + "\n")
	line := func(k, v string) {
		if s.all[k].kind == "boolean" {
			v = map[bool]string{true: "1", false: "0"}[truthy(v)]
		}
		if v != "" {
			out.WriteString("\t" + k + " " + v + "\n")
		}
	}
	if c := sec.props["comment"]; truthy(c) {
		line("comment", encodeText(c))
	}
	if k := s.missing(sec); k != "" {
		return "", dief("section '%s' - missing value for required option '%s'", name, k)
	}
	keys := slices.Sorted(maps.Keys(opts))
	for _, required := range []bool{true, false} {
		for _, k := range keys {
			if v, ok := sec.props[k]; ok && k != "comment" && opts[k].required == required {
				line(k, v)
			}
		}
	}
	out.WriteByte('\n')
	return out.String(), nil
}
