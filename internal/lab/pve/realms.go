package pve

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

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
	f := a.srv.file.all()
	for _, name := range f.order {
		sec := f.by[name]
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
	sec, digest := a.srv.file.read(c.text("realm"))
	if sec == nil {
		return nil, dief("domain '%s' does not exist", c.text("realm"))
	}
	data := map[string]any{"type": sec.kind, "digest": digest}
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
	return nil, a.srv.withRealms("add auth server failed", func(f *edit) error {
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
	return nil, a.srv.withRealms("update auth server failed", func(f *edit) error {
		if err := sameDigest(f.file.digestLocked(), text(c.take("digest"))); err != nil {
			return err
		}
		name := text(c.take("realm"))
		check := c.take("check-connection")
		sec := f.find(name)
		if !a.version.has(sinceCheckConnection) && f.get(name) == nil {
			return dief("domain '%s' does not exist", name)
		}
		if sec == nil {
			sec = newSection("") // looking at its type makes a realm out of nothing
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
		f.put(name, sec)
		return connect(check)
	})
}

func (a *api) deleteRealm(c *call) (any, error) {
	return nil, a.srv.withRealms("delete auth server failed", func(f *edit) error {
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
	sec := a.srv.file.get(c.text("realm"))
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
