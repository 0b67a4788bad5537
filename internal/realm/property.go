// Package realm is the pure core. A [Spec] is what an OpenID Connect realm of Proxmox VE should be, and [Current] is
// what it is. A [Plan] turns the one into the other. Only this package knows the properties of a realm, compares their
// values, and knows which Proxmox version has which.
//
// Nothing here does input or output, reads a clock or takes a context.
package realm

import (
	"errors"
	"fmt"
	"regexp"
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

// Kind says how the values of a property are written and compared.
type Kind int

// The kinds.
const (
	KindText Kind = iota // compared byte for byte
	KindBool             // 0 or 1
	KindSet              // words in any order
	KindList             // words whose order is a preference
	KindKey              // a secret
)

// Definition is one row of the property table.
type Definition struct {
	Property Property
	Key      string // the configuration key below `realm`
	Kind     Kind
	Default  string // the value that Proxmox uses if the property is absent; "" if none

	Required   bool    // a realm cannot exist without it
	CreateOnly bool    // fixed once the realm exists: a PUT refuses it
	Gated      bool    // a change may break logins that work
	Since      Version // first Proxmox VE version that knows it

	max  int // characters
	rule *rule
}

// rule is what the values of a property must not contain.
type rule struct {
	wrong *regexp.Regexp
	must  string // completes "must …"
}

var (
	oneWord   = &rule{regexp.MustCompile(`[\s\p{Z}]`), "not contain white space"}
	claimName = &rule{regexp.MustCompile(`[^A-Za-z0-9._-]`), "consist of letters, digits, '.', '_' and '-'"}
	latin1    = &rule{regexp.MustCompile(`[^\x{00}-\x{ff}]`), "hold only Latin-1 characters"}
	// Proxmox refuses a space and the delimiters of RFC 3986 appendix C in acr-values and audiences.
	uriWords = &rule{regexp.MustCompile(`[ <>#"]`), `not contain spaces or any of < > # "`}
	// RFC 6749 section 3.3, scope-token.
	scopeTokens = &rule{regexp.MustCompile(`[^\x20\x21\x23-\x5B\x5D-\x7E]`), "hold printable ASCII without quotation marks and backslashes"}
	// No issuer calls itself by a URL with a password, and every plan and report shows the URL.
	noUserinfo = &rule{userinfo, "not hold credentials: remove what stands before the @"}
)

// userinfo matches a URL up to the end of its credentials (RFC 3986 section 3.2.1); the URL may be broken.
var userinfo = regexp.MustCompile(`^(.*?://)?[^/?#]*@`)

// definitions is the one table that maps configuration keys to properties, sorted by property.
// Limits and defaults were observed on libpve-access-control 9.1.1.
var definitions = []Definition{
	{Property: ACRValues, Key: "acr_values", Kind: KindList, Gated: true, Since: Version{7, 1}, rule: uriWords},
	{Property: Audiences, Key: "audiences", Kind: KindSet, Since: Version{9, 2}, rule: uriWords},
	{Property: Autocreate, Key: "autocreate", Kind: KindBool, Default: "0", Since: Version{7, 0}},
	{Property: ClientID, Key: "client_id", Kind: KindText, Required: true, Gated: true, Since: Version{7, 0}, max: 256},
	{Property: ClientKey, Key: "client_key", Kind: KindKey, Gated: true, Since: Version{7, 0}, max: 256, rule: latin1},
	{Property: Comment, Key: "comment", Kind: KindText, Since: Version{7, 0}, max: 4096},
	{Property: Default, Key: "default", Kind: KindBool, Default: "0", Since: Version{7, 0}},
	{Property: GroupsAutocreate, Key: "groups_autocreate", Kind: KindBool, Default: "0", Since: Version{8, 4}},
	{Property: GroupsClaim, Key: "groups_claim", Kind: KindText, Since: Version{8, 4}, max: 256, rule: claimName},
	{Property: GroupsOverwrite, Key: "groups_overwrite", Kind: KindBool, Default: "0", Since: Version{8, 4}},
	{Property: IssuerURL, Key: "issuer_url", Kind: KindText, Required: true, Gated: true, Since: Version{7, 0}, max: 256, rule: noUserinfo},
	{Property: Prompt, Key: "prompt", Kind: KindText, Gated: true, Since: Version{7, 1}, rule: oneWord},
	{Property: QueryUserinfo, Key: "query_userinfo", Kind: KindBool, Default: "1", Since: Version{8, 4}},
	{Property: Scopes, Key: "scopes", Kind: KindSet, Default: "email profile", Gated: true, Since: Version{7, 1}, rule: scopeTokens},
	{Property: UsernameClaim, Key: "username_claim", Kind: KindText, Default: "sub", CreateOnly: true, Since: Version{7, 0}, rule: oneWord},
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

// Validate returns what Proxmox would refuse, rewrite or swallow about a value. Its error completes "must …" and never quotes
// the value.
func (d Definition) Validate(v Value) error {
	text := v.reveal()
	if err := ValidateText(text); err != nil {
		return err
	}
	switch {
	case d.max > 0 && utf8.RuneCountInString(text) > d.max:
		return fmt.Errorf("must be at most %d characters long", d.max)
	case d.Kind == KindBool && text != "0" && text != "1":
		return errors.New("must be true or false")
	case (d.Kind == KindSet || d.Kind == KindList) && len(Split(text)) == 0:
		return errors.New("must hold a word")
	case d.rule != nil && d.rule.wrong.MatchString(text):
		return fmt.Errorf("must %s", d.rule.must)
	}
	return nil
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

// realmName matches names of realms (PVE::Auth::Plugin, pve_verify_realm and its maxLength). Proxmox itself accepts a line
// feed at the end, which then breaks its file of realms.
var realmName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]+$`)

// ValidateName returns what is wrong with the name of a realm. Its error completes "must …".
func ValidateName(name string) error {
	if len(name) > 32 || !realmName.MatchString(name) {
		return errors.New("must be 2 to 32 characters, a letter first, then letters, digits, '.', '_' or '-'")
	}
	return nil
}

// Builtin reports whether the name is one of Proxmox's own realms, which cannot be created or removed.
func Builtin(name string) bool { return name == "pam" || name == "pve" }
