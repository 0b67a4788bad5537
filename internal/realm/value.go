package realm

import (
	"maps"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
)

// Value is the value of one property in the form in which the API takes it. No way of printing it shows a client key.
type Value struct {
	text string
	key  check.Secret
}

// Text is the value of a text property.
func Text(s string) Value { return Value{text: s} }

// Bool is the value of a boolean property: 0 or 1.
func Bool(b bool) Value {
	if b {
		return Value{text: "1"}
	}
	return Value{text: "0"}
}

// Words is the value of a set or list property, whose words hold no separator. Proxmox accepts scopes separated by spaces, and
// other words by commas.
func Words(p Property, words ...string) Value {
	if p == Scopes {
		return Value{text: strings.Join(words, " ")}
	}
	return Value{text: strings.Join(words, ",")}
}

// Key is the value of client-key.
func Key(s check.Secret) Value { return Value{key: s} }

// String returns the value, or [check.Mask] for a client key.
func (v Value) String() string {
	if v.key.IsSet() {
		return v.key.String()
	}
	return v.text
}

// Words returns the words of a set or list property.
func (v Value) Words() []string { return Split(v.text) }

func (v Value) reveal() string {
	if v.key.IsSet() {
		return v.key.Reveal()
	}
	return v.text
}

// Values holds properties that are set. An absent property is absent here.
type Values map[Property]Value

// Properties returns the names, sorted.
func (vs Values) Properties() []Property { return slices.Sorted(maps.Keys(vs)) }

// bool returns a boolean property, absent as Proxmox's default.
func (vs Values) bool(p Property) bool { return vs.canonical(p) == "1" }

// text returns a text property, absent as Proxmox's default.
func (vs Values) text(p Property) string {
	if v, ok := vs[p]; ok {
		return v.reveal()
	}
	d, _ := p.Definition()
	return d.Default
}

// words returns the words of a set or list property, absent as Proxmox's default.
func (vs Values) words(p Property) []string { return Split(vs.text(p)) }

// canonical returns one text for all values of a property that mean the same to Proxmox.
func (vs Values) canonical(p Property) string {
	d, _ := p.Definition()
	text := vs.text(p)
	switch {
	case p == UsernameClaim:
		return canonicalClaim(text)
	case p == Scopes:
		words := slices.DeleteFunc(slices.Sorted(slices.Values(vs.words(p))), func(w string) bool { return w == "openid" }) // implied
		return strings.Join(slices.Compact(words), " ")
	case d.Form == FormSet:
		return strings.Join(slices.Compact(slices.Sorted(slices.Values(vs.words(p)))), " ")
	case d.Form == FormList:
		return strings.Join(vs.words(p), " ")
	}
	return text
}

// same reports whether a property means the same to Proxmox in both.
func same(p Property, a, b Values) bool {
	if p == ClientKey {
		return a[p].key.Equal(b[p].key)
	}
	return a.canonical(p) == b.canonical(p)
}

// canonicalClaim resolves the two names that Proxmox keeps for claims (PVE::API2::OpenId).
func canonicalClaim(claim string) string {
	switch claim {
	case "subject":
		return "sub"
	case "username":
		return "preferred_username"
	}
	return claim
}

// Split takes a list apart as Proxmox does (PVE::Tools::split_list): at commas, semicolons, NUL and white space.
func Split(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(",; \t\n\v\f\r\x00", r) })
}

// parameter returns the value in the form in which a write sends it.
func (v Value) parameter(p Property) any {
	if d, _ := p.Definition(); d.Form != FormBool {
		return v.reveal()
	}
	if Truth(v.text) {
		return 1
	}
	return 0
}
