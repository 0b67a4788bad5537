package config

import (
	"encoding/json"
	"strings"

	"proxmox-realm/internal/check"
)

// Schema returns the JSON Schema (2020-12) of a configuration file, for editors and pipelines. A schema cannot express what
// several keys mean together or what the environment adds; [Load] checks that.
func Schema() ([]byte, error) {
	sections := map[string]map[string]any{}
	top := map[string]any{}
	overlay := map[string]any{"name": map[string]any{
		"type": "string", "pattern": targetName.String(),
		"description": "The name of the target in reports and for -t.",
	}}
	for _, k := range table() {
		section, name, nested := strings.Cut(k.Path, ".")
		if !nested {
			top[k.Path] = k.schema()
			if k.Target {
				overlay[k.Path] = top[k.Path]
			}
			continue
		}
		if sections[section] == nil {
			sections[section] = map[string]any{}
			top[section] = map[string]any{"$ref": "#/$defs/" + section}
			if k.Target {
				overlay[section] = top[section]
			}
		}
		sections[section][name] = k.schema()
	}
	definitions := map[string]any{}
	for name, keys := range sections {
		object := map[string]any{"type": []string{"object", "null"}, "additionalProperties": false, "properties": keys}
		if not := exclusive(name); len(not) > 0 {
			object["allOf"] = not
		}
		definitions[name] = object
	}
	top["targets"] = map[string]any{
		"type": "array", "minItems": 1, "maxItems": maxTargets,
		"description": "Many clusters. The keys of each replace those above.",
		"items":       map[string]any{"type": "object", "additionalProperties": false, "required": []string{"name"}, "properties": overlay},
	}
	data, err := json.MarshalIndent(map[string]any{
		"$schema":              "https://json-schema.org/draft/2020-12/schema",
		"title":                "proxmox-realm configuration",
		"type":                 []string{"object", "null"},
		"additionalProperties": false,
		"properties":           top,
		"$defs":                definitions,
	}, "", "  ")
	return append(data, '\n'), err
}

// exclusive returns a schema for each pair of keys of a section that exclude each other.
func exclusive(section string) []any {
	var out []any
	for _, set := range alternatives {
		for i, a := range set {
			for _, b := range set[i+1:] {
				if name, ok := strings.CutPrefix(a, section+"."); ok {
					out = append(out, map[string]any{"not": map[string]any{"required": []string{name, strings.TrimPrefix(b, section+".")}}})
				}
			}
		}
	}
	return out
}

// schema returns the schema of one key's value.
func (k *key) schema() map[string]any {
	text := map[string]any{"type": "string", "minLength": 1, "pattern": `^\S(.*\S)?$`}
	out := text
	switch k.Kind {
	case String:
	case Path:
		if k.empty {
			out = map[string]any{"type": "string", "pattern": `^(\S(.*\S)?)?$`}
		}
	case Bool:
		out = map[string]any{"type": "boolean"}
	case Int:
		out = map[string]any{"type": "integer", "minimum": k.low, "maximum": k.high}
	case Duration:
		out = map[string]any{"type": "string", "pattern": `^([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+$`}
	case Percent:
		out = map[string]any{"type": "string", "pattern": `^(100(\.0*)?|[0-9]{1,2}(\.[0-9]*)?)%$`}
	case Enum:
		out = map[string]any{"enum": k.Choices}
	case Grants:
		out = accessSchema()
	case Command:
		out = map[string]any{"type": "array", "minItems": 1, "items": map[string]any{"type": "string"}}
	case List:
		out = map[string]any{"type": "array", "uniqueItems": true, "items": k.word(text)}
		if !k.empty {
			out["minItems"] = 1
		}
	}
	out["description"] = k.Doc
	if k.Default != "" {
		out["default"] = k.defaultValue()
	}
	return out
}

// word returns the schema of one element of a list.
func (k *key) word(text map[string]any) map[string]any {
	switch k.Path {
	case "realm.unset":
		var names []string
		for _, d := range removable() {
			names = append(names, string(d.Property))
			if d.Key != string(d.Property) {
				names = append(names, d.Key)
			}
		}
		return map[string]any{"enum": names}
	case "verify.ignore":
		var ids []string
		for _, e := range check.Catalog() {
			ids = append(ids, string(e.ID))
		}
		return map[string]any{"enum": ids}
	}
	return text
}

func (k *key) defaultValue() any {
	switch k.Kind {
	case List:
		return []string{}
	case Bool:
		return k.Default == "true"
	case Int:
		n, _ := k.parseInt(k.Default) // a test loads every default
		return n
	}
	return k.Default
}
