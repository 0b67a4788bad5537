package pve

import (
	"crypto/sha1"
	"encoding/hex"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// realmFile is /etc/pve/domains.cfg, the section configuration that holds all
// realms. Its text is the truth, as on a node: what a write stores is what the
// next read makes of it, white space stripped and unreadable sections lost.
type realmFile struct {
	raw      string // bytes
	digest   string
	order    []string
	sections map[string]*section
}

// section is one realm. Its type is empty where the section could not be read.
type section struct {
	kind  string
	props map[string]string // booleans and integers as Perl prints them
}

func newSection(kind string) *section { return &section{kind: kind, props: map[string]string{}} }

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
func (s *realmSchema) parse(raw string, v version) *realmFile {
	sum := sha1.Sum([]byte(raw))
	f := &realmFile{raw: raw, digest: hex.EncodeToString(sum[:]), sections: map[string]*section{}}
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
		if c, ok := f.sections[name].props["comment"]; ok && truthy(c) {
			f.sections[name].props["comment"] = decodeText(c)
		}
	}
	f.oneDefault()
	for _, name := range []string{"pam", "pve"} {
		sec := f.sections[name]
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

func (f *realmFile) put(name string, sec *section) {
	if f.sections[name] == nil {
		f.order = append(f.order, name)
	}
	f.sections[name] = sec
}

func (f *realmFile) remove(name string) {
	delete(f.sections, name)
	f.order = slices.DeleteFunc(f.order, func(n string) bool { return n == name })
}

// oneDefault leaves the flag with the first realm that has it.
func (f *realmFile) oneDefault() {
	found := false
	for _, name := range f.order {
		props := f.sections[name].props
		if truthy(props["default"]) && found {
			delete(props, "default")
		}
		found = found || truthy(props["default"])
	}
}

// get is the section of that name, nil where there is none that can be read.
func (f *realmFile) get(name string) *section {
	if sec := f.sections[name]; sec != nil && sec.kind != "" {
		return sec
	}
	return nil
}

func (f *realmFile) clone() *realmFile {
	c := &realmFile{raw: f.raw, digest: f.digest, order: slices.Clone(f.order), sections: map[string]*section{}}
	for name, sec := range f.sections {
		c.sections[name] = &section{kind: sec.kind, props: maps.Clone(sec.props)}
	}
	return c
}

// render writes the file as PVE::SectionConfig::write_config does.
func (s *realmSchema) render(f *realmFile) (string, error) {
	var out strings.Builder
	for _, name := range f.order {
		sec := f.sections[name]
		opts := s.types[sec.kind]
		if opts == nil {
			return "", dief("unknown section type '%s'", sec.kind)
		}
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
	}
	return fileBytes(out.String()), nil
}

// config checks what a request wants to store, as PVE::SectionConfig::check_config does.
func (s *realmSchema) config(kind string, params map[string]any, create bool) (map[string]string, error) {
	opts := s.types[kind]
	config := map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(params)) {
		v := params[k]
		o, known := opts[k]
		switch {
		case !create && o.fixed:
			return nil, dief("can't change value of fixed parameter '%s'", k)
		case v == nil:
			return nil, dief("got undefined value for option '%s'", k)
		case k == "type" && text(v) == kind:
			continue
		case !known:
			return nil, dief("unexpected property '%s'", k)
		}
		t := text(v)
		if strings.ContainsAny(t, "\r\n") {
			return nil, dief("property contains a line feed")
		}
		if p := s.all[k]; p.kind != "string" { // Perl adds 0
			n, _ := strconv.ParseFloat(t, 64)
			t = perlFloat(n)
		}
		config[k] = t
	}
	if create {
		if k := s.missing(&section{kind: kind, props: config}); k != "" {
			return nil, dief("missing value for required option '%s'", k)
		}
	}
	return config, nil
}

// value is a property as it goes into an answer: booleans and integers are numbers.
func (s *realmSchema) value(k, v string) any {
	if p := s.all[k]; p != nil && (p.kind == "boolean" || p.kind == "integer") {
		return number(v)
	}
	return v
}

func (a *api) listRealms(*call) (any, error) {
	list := []any{}
	f := a.srv.realms()
	for _, name := range f.order {
		sec := f.sections[name]
		entry := map[string]any{"realm": name, "type": sec.kind}
		if sec.kind == "" {
			entry["type"] = nil
		}
		if c := sec.props["comment"]; truthy(c) {
			entry["comment"] = c
		}
		if truthy(sec.props["default"]) {
			entry["default"] = 1
		}
		if tfa := sec.props["tfa"]; truthy(tfa) {
			if keys, err := parsePropertyString("tfa", tfaKeys, tfa); err == nil {
				entry["tfa"] = keys["type"]
			}
		}
		list = append(list, entry)
	}
	return byJSON(list), nil
}

func (a *api) readRealm(c *call) (any, error) {
	f := a.srv.realms()
	sec := f.get(c.text("realm"))
	if sec == nil {
		return nil, dief("domain '%s' does not exist", c.text("realm"))
	}
	data := map[string]any{"type": sec.kind, "digest": f.digest}
	for k, v := range sec.props {
		data[k] = a.schema.value(k, v)
	}
	if sec.kind == "pam" {
		data["plugin"] = "PVE::Auth::PAM"
	}
	if o, ok := sec.props["sync-defaults-options"]; ok {
		data["sync-defaults-options"] = syncOptions(o, false)
	}
	return data, nil
}

func (a *api) createRealm(c *call) (any, error) {
	c.take("password")
	return nil, a.srv.withRealms("add auth server failed", func(f *realmFile) error {
		name, kind := text(c.take("realm")), c.text("type")
		check := c.take("check-connection")
		switch {
		case f.get(name) != nil:
			return dief("domain '%s' already exists", name)
		case name == "pam" || name == "pve":
			return dief("unable to use reserved name '%s'", name)
		case kind == "pam" || kind == "pve":
			return dief("unable to create builtin type '%s'", kind)
		}
		if err := checkConnection(check, kind); err != nil {
			return err
		}
		convertSyncOptions(c.params, kind)
		config, err := a.schema.config(kind, c.params, true)
		if err != nil {
			return err
		}
		f.takeDefault(config)
		f.put(name, &section{kind: kind, props: config})
		return connect(check)
	})
}

func (a *api) updateRealm(c *call) (any, error) {
	password := c.take("password")
	return nil, a.srv.withRealms("update auth server failed", func(f *realmFile) error {
		if err := sameDigest(f.digest, text(c.take("digest"))); err != nil {
			return err
		}
		name := text(c.take("realm"))
		check := c.take("check-connection")
		sec := f.sections[name]
		if !a.version.has(sinceCheckConnection) && f.get(name) == nil {
			return dief("domain '%s' does not exist", name)
		}
		if sec == nil {
			sec = newSection("") // looking at its type makes a realm out of nothing
			f.put(name, sec)
		}
		if err := checkConnection(check, sec.kind); err != nil {
			return err
		}
		remove := c.take("delete")
		if !truthy(remove) && len(c.params) == 0 && password == nil {
			return dief("no options specified")
		}
		kind := sec.kind
		for _, k := range splitList(text(remove)) {
			delete(sec.props, k)
			if k == "type" {
				sec.kind = ""
			}
		}
		convertSyncOptions(c.params, kind)
		switch {
		case sec.kind != "":
		case a.version.has(sinceUndefinedType):
			return dief("cannot lookup undefined type! at PVE/API2/Domains.pm line N.")
		default:
			return dief("unknown section type ''")
		}
		config, err := a.schema.config(sec.kind, c.params, false)
		if err != nil {
			return err
		}
		f.takeDefault(config)
		maps.Copy(sec.props, config)
		return connect(check)
	})
}

func (a *api) deleteRealm(c *call) (any, error) {
	return nil, a.srv.withRealms("delete auth server failed", func(f *realmFile) error {
		name := c.text("realm")
		if f.get(name) == nil {
			return dief("authentication domain '%s' does not exist", name)
		}
		f.remove(name)
		return nil
	})
}

// syncRealm refuses what cannot be synchronised. No directory is in reach of
// this node, so the task that a node would start is not started.
func (a *api) syncRealm(c *call) (any, error) {
	sec := a.srv.realms().get(c.text("realm"))
	switch {
	case sec == nil:
		return nil, badParams(map[string]string{"realm": "Realm does not exist."})
	case sec.kind != "ldap" && sec.kind != "ad":
		return nil, dief("Cannot sync realm type '%s'! Only LDAP/AD realms can be synced.", sec.kind)
	case c.params["scope"] == nil && !strings.Contains(sec.props["sync-defaults-options"], "scope="):
		return nil, badParams(map[string]string{"scope": "Not passed as parameter and not defined in realm default sync options."})
	}
	return nil, errNoDirectory
}

// takeDefault takes the flag from every realm where config sets it.
func (f *realmFile) takeDefault(config map[string]string) {
	if truthy(config["default"]) {
		for _, sec := range f.sections {
			delete(sec.props, "default")
		}
	}
}

func sameDigest(have, want string) error {
	if truthy(want) && want != have {
		return dief("detected modified configuration - file changed by other user? Try again.")
	}
	return nil
}

func checkConnection(check any, kind string) error {
	if check != nil && kind != "ldap" && kind != "ad" {
		return dief("'check-connection' parameter can only be set for realms of type 'ldap' or 'ad'")
	}
	return nil
}

// convertSyncOptions turns the options full and purge of old into remove-vanished.
func convertSyncOptions(params map[string]any, kind string) {
	if o, ok := params["sync-defaults-options"].(string); ok && (kind == "ldap" || kind == "ad") {
		params["sync-defaults-options"] = syncOptions(o, true)
	}
}

func syncOptions(s string, dropOld bool) string {
	keys, err := parsePropertyString("", syncKeys, s)
	if err != nil {
		return s
	}
	if keys["remove-vanished"] == nil && (truthy(keys["full"]) || truthy(keys["purge"])) {
		var parts []string
		if truthy(keys["full"]) {
			parts = append(parts, "entry", "properties")
		}
		if truthy(keys["purge"]) {
			parts = append(parts, "acl")
		}
		keys["remove-vanished"] = strings.Join(parts, ";")
	}
	if dropOld {
		delete(keys, "full")
		delete(keys, "purge")
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		parts = append(parts, k+"="+text(keys[k]))
	}
	return strings.Join(parts, ",")
}
