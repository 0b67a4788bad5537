package config

import (
	"encoding/json"
	"strings"

	"go.yaml.in/yaml/v3"
)

// object is a JSON object.
type object = map[string]any

// Schema returns the JSON Schema (2020-12) of a configuration file, for editors and pipelines. It knows every key and the
// type of its value. [Load] checks everything else.
func Schema() ([]byte, error) {
	closed := func(properties object, nullable ...string) object {
		return object{"type": append([]string{"object"}, nullable...), "additionalProperties": false, "properties": properties}
	}
	top, sections := object{}, object{}
	keys := map[string]object{} // of each section
	overlay := object{"name": object{"type": "string", "description": "The name of the target in reports and for -t."}}
	for _, k := range table() {
		section, name, nested := strings.Cut(k.Path, ".")
		switch {
		case !nested:
			top[section] = k.schema()
		case keys[section] == nil:
			top[section] = object{"$ref": "#/$defs/" + section}
			keys[section] = object{name: k.schema()}
			sections[section] = closed(keys[section], "null")
		default:
			keys[section][name] = k.schema()
		}
		if k.Target {
			overlay[section] = top[section]
		}
	}
	target := closed(overlay)
	target["required"] = []string{"name"}
	top["targets"] = object{
		"type": "array", "minItems": 1, "items": target,
		"description": "Many clusters. The keys of each replace those above.",
	}
	schema := closed(top, "null")
	schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	schema["title"] = "proxmox-realm configuration"
	schema["$defs"] = sections
	data, err := json.MarshalIndent(schema, "", "  ")
	return append(data, '\n'), err
}

// schema returns the schema of one key's value.
func (k *Key) schema() object {
	out := object{"type": "string"}
	switch k.Kind {
	case Bool:
		out = object{"type": "boolean"}
	case Int:
		out = object{"type": "integer"}
	case Enum:
		out = object{"enum": k.Choices}
	case List, Command:
		out = object{"type": "array", "items": object{"type": "string"}}
	case Grants:
		grant := object{"path": object{"type": "string"}, "role": object{"type": "string"}, "propagate": object{"type": "boolean"}}
		out = object{"type": "object", "additionalProperties": object{"type": "array", "items": object{
			"type": "object", "additionalProperties": false, "required": []string{"path", "role"}, "properties": grant,
		}}}
	case String, Path, Duration, Percent:
	}
	out["description"] = k.Doc
	if k.Default != "" {
		var value any
		_ = yaml.Unmarshal([]byte(k.Default), &value) // a test loads every default
		out["default"] = value
	}
	return out
}
