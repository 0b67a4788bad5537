package pve

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

func (s *Server) realmEndpoints() []*endpoint {
	realm := schema{"realm": &realmParam}
	allocate := s.need("/access/realm", "Realm.Allocate")
	return []*endpoint{
		{method: "GET", path: "/access/domains", world: true, run: s.listRealms},
		{method: "POST", path: "/access/domains", proxied: true, allowed: allocate, params: s.schema.create, run: s.createRealm},
		{method: "GET", path: "/access/domains/{realm}", allowed: s.need("/access/realm", "Realm.Allocate", "Sys.Audit"), params: realm, run: s.readRealm},
		{method: "PUT", path: "/access/domains/{realm}", proxied: true, allowed: allocate, params: s.schema.update, run: s.updateRealm},
		{method: "DELETE", path: "/access/domains/{realm}", proxied: true, allowed: allocate, params: realm, run: s.deleteRealm},
	}
}

// config checks what a request wants to store, as PVE::SectionConfig::check_config does.
func (s *realmSchema) config(kind string, params map[string]any, create bool) (map[string]string, error) {
	opts := s.types[kind]
	config := map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(params)) {
		v := params[k]
		_, known := opts[k]
		switch {
		case v == nil:
			return nil, dief("got undefined value for option '%s'", k)
		case k == "type" && text(v) == kind:
			continue
		case !known:
			return nil, dief("unexpected property '%s'", k)
		case strings.ContainsAny(text(v), "\r\n"):
			return nil, dief("property contains a line feed")
		}
		config[k] = text(v)
	}
	if create {
		if k := s.missing(kind, config); k != "" {
			return nil, dief("missing value for required option '%s'", k)
		}
	}
	return config, nil
}

// missing is the first required property that is not there.
func (s *realmSchema) missing(kind string, props map[string]string) string {
	for _, k := range slices.Sorted(maps.Keys(s.types[kind])) {
		if _, ok := props[k]; s.types[kind][k] && !ok {
			return k
		}
	}
	return ""
}

func (s *Server) listRealms(*call) (any, error) {
	list := []any{}
	for _, r := range s.view().Realms {
		entry := map[string]any{"realm": r.Name, "type": r.Type}
		if c := r.Properties["comment"]; c != "" {
			entry["comment"] = c
		}
		if truthy(r.Properties["default"]) {
			entry["default"] = 1
		}
		list = append(list, entry)
	}
	return list, nil
}

func (s *Server) readRealm(c *call) (any, error) {
	st := s.view()
	r, ok := st.realm(c.text("realm"))
	if !ok {
		return nil, dief("domain '%s' does not exist", c.text("realm"))
	}
	data := map[string]any{"type": r.Type, "digest": st.digest()}
	for k, v := range r.Properties {
		data[k] = v
		if p := s.schema.all[k]; p != nil && p.kind != "string" {
			data[k] = number(v)
		}
	}
	if r.Type == "pam" {
		data["plugin"] = "PVE::Auth::PAM"
	}
	return data, nil
}

func (s *Server) createRealm(c *call) (any, error) {
	c.take("password")
	return nil, s.withRealms("add auth server failed", func(st *State) error {
		name, kind := text(c.take("realm")), c.text("type")
		switch {
		case st.at(name) >= 0:
			return dief("domain '%s' already exists", name)
		case kind == "pam" || kind == "pve":
			return dief("unable to create builtin type '%s'", kind)
		}
		config, err := s.schema.config(kind, c.params, true)
		if err != nil {
			return err
		}
		return st.put(s.schema, Realm{Name: name, Type: kind, Properties: config})
	})
}

func (s *Server) updateRealm(c *call) (any, error) {
	password := c.take("password")
	return nil, s.withRealms("update auth server failed", func(st *State) error {
		if want := text(c.take("digest")); truthy(want) && want != st.digest() {
			return dief("detected modified configuration - file changed by other user? Try again.")
		}
		name := text(c.take("realm"))
		r, ok := st.realm(name)
		if !ok && !s.version.has(sinceLateTypes) {
			return dief("domain '%s' does not exist", name)
		}
		remove := c.take("delete")
		if !truthy(remove) && len(c.params) == 0 && password == nil {
			return dief("no options specified")
		}
		for _, k := range splitList(text(remove)) {
			delete(r.Properties, k)
		}
		switch { // looking at its type makes a realm out of nothing
		case ok:
		case s.version.has(sinceUndefinedType):
			return dief("cannot lookup undefined type! at PVE/API2/Domains.pm line N.")
		default:
			return dief("unknown section type ''")
		}
		config, err := s.schema.config(r.Type, c.params, false)
		if err != nil {
			return err
		}
		maps.Copy(r.Properties, config)
		return st.put(s.schema, r)
	})
}

func (s *Server) deleteRealm(c *call) (any, error) {
	return nil, s.withRealms("delete auth server failed", func(st *State) error {
		name := c.text("realm")
		if st.at(name) < 0 {
			return dief("authentication domain '%s' does not exist", name)
		}
		st.remove(name)
		return nil
	})
}

// stored is what reading the file makes of the properties that are written to it.
func (s *realmSchema) stored(r Realm) map[string]string {
	properties := map[string]string{}
	for k, v := range r.Properties {
		switch {
		case k == "comment":
			v = stored(v)
			if v == "0" {
				v = ""
			}
			for _, b := range builtin {
				if b.Type == r.Type {
					v = cmp.Or(v, b.Properties[k])
				}
			}
		case s.all[k] != nil && s.all[k].kind == "boolean":
			v = map[bool]string{true: "1", false: "0"}[truthy(v)]
		default:
			v = strings.TrimSpace(v)
		}
		if v != "" {
			properties[k] = v
		}
	}
	return properties
}
