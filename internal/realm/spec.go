package realm

import (
	"maps"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
)

// Spec is what one realm should be. A property in neither Set nor Unset is not managed: it stays as it is.
type Spec struct {
	Product Product
	Name    string
	Set     Values     // enforced
	Unset   []Property // removed
}

// CreationDefaults are sent when a realm is created and the Spec says nothing about them.
// They manage nothing afterwards.
func CreationDefaults() Values {
	return Values{
		UsernameClaim: Text("preferred_username"),
		Scopes:        Words(Scopes, "openid", "profile", "email"),
	}
}

// Login returns what logins use of a realm that is created as the Spec asks.
func (s Spec) Login() Login { return s.created().Login(s.Name) }

// created returns the values of a realm that is created as the Spec asks.
func (s Spec) created() Values {
	values := CreationDefaults()
	for _, p := range s.Unset {
		delete(values, p)
	}
	maps.Copy(values, s.Set)
	return values
}

// Login is what a login through a realm uses: the realm's values with Proxmox's defaults and aliases resolved.
type Login struct {
	Realm         string
	IssuerURL     string
	ClientID      string
	ClientKey     check.Secret // not set: a public client
	Scopes        []string     // as they are requested: openid first, each once
	Prompt        string
	ACRValues     []string
	Audiences     []string
	UsernameClaim string
	GroupsClaim   string // "": Proxmox does not read groups
	Autocreate    bool
	GroupsAutocreate,
	GroupsOverwrite bool
	QueryUserinfo bool
}

// Login resolves what logins through a realm of these values use.
func (vs Values) Login(realm string) Login {
	scopes := []string{"openid"}
	for _, s := range vs.words(Scopes) {
		if !slices.Contains(scopes, s) {
			scopes = append(scopes, s)
		}
	}
	return Login{
		Realm:            realm,
		IssuerURL:        vs.text(IssuerURL),
		ClientID:         vs.text(ClientID),
		ClientKey:        vs[ClientKey].key,
		Scopes:           scopes,
		Prompt:           vs.text(Prompt),
		ACRValues:        vs.words(ACRValues),
		Audiences:        vs.words(Audiences),
		UsernameClaim:    vs.canonical(UsernameClaim),
		GroupsClaim:      vs.text(GroupsClaim),
		Autocreate:       vs.bool(Autocreate),
		GroupsAutocreate: vs.bool(GroupsAutocreate),
		GroupsOverwrite:  vs.bool(GroupsOverwrite),
		QueryUserinfo:    vs.bool(QueryUserinfo),
	}
}

// ScopeParameter returns the scopes as an authorization request carries them (RFC 6749 section 3.3).
func (l Login) ScopeParameter() string { return strings.Join(l.Scopes, " ") }
