// Package realm is the pure core. A [Spec] is what an OpenID Connect realm of a Proxmox product should be, and [Current] is
// what it is. A [Plan] turns the one into the other. Only this package knows the properties of a realm, compares their
// values, and knows which version of which [Product] has which.
//
// Nothing here does input or output, reads a clock or takes a context.
package realm

import (
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Property is a property of a realm, spelled as the Proxmox API spells it.
type Property string

// The properties of an OpenID Connect realm (libpve-access-control, PVE/Auth/OpenId.pm and PVE/Auth/Plugin.pm).
const (
	ACRValues        Property = "acr-values"
	Audiences        Property = "audiences"
	Autocreate       Property = "autocreate"
	ClientID         Property = "client-id"
	ClientKey        Property = "client-key"
	Comment          Property = "comment"
	Default          Property = "default"
	GroupsAutocreate Property = "groups-autocreate"
	GroupsClaim      Property = "groups-claim"
	GroupsOverwrite  Property = "groups-overwrite"
	IssuerURL        Property = "issuer-url"
	Prompt           Property = "prompt"
	QueryUserinfo    Property = "query-userinfo"
	Scopes           Property = "scopes"
	UsernameClaim    Property = "username-claim"
)

// Form says how the values of a property are written and compared.
type Form int

// The forms.
const (
	FormText Form = iota // compared byte for byte
	FormBool             // 0 or 1
	FormSet              // words in any order
	FormList             // words whose order is a preference
	FormKey              // a secret
)

// Definition is one row of the property table.
type Definition struct {
	Property Property
	Key      string // the configuration key below `realm`
	Form     Form
	Default  string // the value that Proxmox uses if the property is absent; "" if none

	Required   bool // a realm cannot exist without it
	CreateOnly bool // fixed once the realm exists: a PUT refuses it
	Gated      bool // a change may break logins that work
}

// definitions is the one table that maps configuration keys to properties, sorted by property.
// What a product lacks, and which values it takes, is in the table of products.
var definitions = []Definition{
	{Property: ACRValues, Key: "acr_values", Form: FormList, Gated: true},
	{Property: Audiences, Key: "audiences", Form: FormSet},
	{Property: Autocreate, Key: "autocreate", Form: FormBool, Default: "0"},
	{Property: ClientID, Key: "client_id", Form: FormText, Required: true, Gated: true},
	{Property: ClientKey, Key: "client_key", Form: FormKey, Gated: true},
	{Property: Comment, Key: "comment", Form: FormText},
	{Property: Default, Key: "default", Form: FormBool, Default: "0"},
	{Property: GroupsAutocreate, Key: "groups_autocreate", Form: FormBool, Default: "0"},
	{Property: GroupsClaim, Key: "groups_claim", Form: FormText},
	{Property: GroupsOverwrite, Key: "groups_overwrite", Form: FormBool, Default: "0"},
	{Property: IssuerURL, Key: "issuer_url", Form: FormText, Required: true, Gated: true},
	{Property: Prompt, Key: "prompt", Form: FormText, Gated: true},
	{Property: QueryUserinfo, Key: "query_userinfo", Form: FormBool, Default: "1"},
	{Property: Scopes, Key: "scopes", Form: FormSet, Default: "email profile", Gated: true},
	{Property: UsernameClaim, Key: "username_claim", Form: FormText, Default: "sub", CreateOnly: true},
}

// Definitions returns the property table, sorted by property.
func Definitions() []Definition { return slices.Clone(definitions) }

// Definition returns the row of the table, and whether there is one.
func (p Property) Definition() (Definition, bool) {
	i, found := slices.BinarySearchFunc(definitions, p, func(d Definition, p Property) int {
		return strings.Compare(string(d.Property), string(p))
	})
	if !found {
		return Definition{}, false
	}
	return definitions[i], true
}

// ByKey returns the property that a configuration key below `realm` stands for.
func ByKey(key string) (Definition, bool) {
	if i := slices.IndexFunc(definitions, func(d Definition) bool { return d.Key == key }); i >= 0 {
		return definitions[i], true
	}
	return Definition{}, false
}

// ValidateText returns what Proxmox would refuse, rewrite or swallow about any text. Its error completes "must …".
func ValidateText(text string) error {
	switch {
	case text == "":
		return errors.New("must not be empty")
	case !utf8.ValidString(text):
		return errors.New("must be valid UTF-8")
	case strings.ContainsFunc(text, unicode.IsControl):
		return errors.New("must not contain control characters, such as line feeds")
	case strings.TrimSpace(text) != text:
		return errors.New("must not begin or end with white space")
	}
	return nil
}
