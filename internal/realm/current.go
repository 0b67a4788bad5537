package realm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
)

// Type is the Proxmox realm type of OpenID Connect.
const Type = "openid"

// Current is a realm as Proxmox stores it. The zero value is a realm that does not exist.
type Current struct {
	Product Product
	Exists  bool
	Type    string // "openid", or another type
	Digest  string // of the whole file of realms: any realm's change alters it
	Values  Values // the properties of the table
	// Raw is the whole `data` object of the answer, including properties of newer versions. It holds the client key.
	Raw check.Secret
	// Structures names the stored fields that are neither text, number nor boolean, sorted. No version we know has one, and
	// a realm that is created anew could not take them over.
	Structures []string
}

// ParseCurrent reads the `data` of the answer that holds one realm. A boolean may be 1, "1" or true, and a number may be a
// string. Of some products the answer names no type, because its path holds OpenID Connect realms only.
func ParseCurrent(p Product, data []byte) (Current, error) {
	fields, err := parseObject(data)
	if err != nil {
		return Current{}, err
	}
	c := Current{Product: p, Exists: true, Type: p.row().impliedType, Values: Values{}, Raw: check.NewSecret(string(data))}
	for name, field := range fields {
		text, ok := scalar(field)
		if !ok {
			if field != nil {
				c.Structures = append(c.Structures, name)
			}
			continue
		}
		d, known := Property(name).Definition()
		switch {
		case name == "type":
			c.Type = text
		case name == "digest":
			c.Digest = text
		case !known:
		case d.Form == FormKey:
			c.Values[d.Property] = Key(check.NewSecret(text))
		case d.Form == FormBool:
			c.Values[d.Property] = Bool(Truth(text))
		default:
			c.Values[d.Property] = Text(text)
		}
	}
	slices.Sort(c.Structures)
	if c.Type == "" {
		return Current{}, errors.New("a realm without a type")
	}
	return c, nil
}

// carried returns the stored fields, including unknown ones, as parameters that create the realm again. It leaves out empty
// texts if the product drops or refuses them.
func (c Current) carried() map[string]any {
	fields, err := parseObject([]byte(c.Raw.Reveal()))
	if err != nil {
		return nil
	}
	out := map[string]any{}
	for name, field := range fields {
		text, ok := scalar(field)
		if !ok || text == "" && !c.Product.row().storesEmpty || name == "digest" || name == "type" || name == "realm" {
			continue
		}
		if v, known := c.Values[Property(name)]; known {
			field = v.parameter(Property(name))
		}
		out[name] = field
	}
	return out
}

// SameAs reports whether two stored realms are equal in every field but the digest, including unknown fields.
func (c Current) SameAs(other Current) bool {
	a, b := c.carried(), other.carried()
	if c.Exists != other.Exists || c.Type != other.Type || len(a) != len(b) {
		return false
	}
	for name, x := range a {
		y, ok := b[name]
		if !ok || fmt.Sprint(x) != fmt.Sprint(y) {
			return false
		}
	}
	return true
}

func parseObject(data []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber() // a number is carried over as it was written
	var fields map[string]any
	if err := decoder.Decode(&fields); err != nil {
		return nil, fmt.Errorf("a realm that is not a JSON object: %w", err)
	}
	if fields == nil {
		return nil, errors.New("a realm that is not a JSON object: null")
	}
	return fields, nil
}

func scalar(field any) (string, bool) {
	switch v := field.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return Bool(v).reveal(), true
	}
	return "", false
}

// Truth reads a boolean of the API: a JSON boolean, a number, or a text (PVE::JSONSchema::parse_boolean).
func Truth(v any) bool {
	switch strings.ToLower(fmt.Sprint(v)) {
	case "1", "on", "yes", "true":
		return true
	}
	return false
}
