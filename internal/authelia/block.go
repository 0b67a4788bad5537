package authelia

import (
	"bytes"
	"cmp"
	_ "embed" // the template
	"net/url"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"unicode"

	"proxmox-realm/internal/check"
)

// Options say what a client block holds.
type Options struct {
	Client
	Digest    string // of the client key, see [Digest]
	Policy    string // one_factor, two_factor or the name of an authorization policy; "": two_factor
	WithLogin bool   // registers [LoginRedirectURI] as well
	Whole     bool   // Block prints everything from identity_providers down, not the list item alone
}

// Block returns the client for Authelia's configuration, with the key names of the given version. The same options give the
// same bytes. A list item alone is indented as it stands below `clients:` in Authelia's documentation. An error is
// a *check.Error.
func Block(o Options) ([]byte, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Digest == "" {
		return nil, noKey()
	}
	o.Policy = cmp.Or(o.Policy, "two_factor") // Authelia's own default
	o.RedirectURIs = union(nil, o.RedirectURIs)
	o.WithLogin = o.WithLogin && !slices.Contains(o.RedirectURIs, LoginRedirectURI)
	return o.execute("client", "")
}

// SecretLine returns the line of the block that holds the digest. During a rotation it replaces the old line, and
// everything else that the client has stays.
func SecretLine(o Options) ([]byte, error) { return o.execute("secret", "        ") }

var (
	//go:embed client.tmpl
	source string

	blocks = template.Must(template.New("client").Funcs(template.FuncMap{
		"quote":            func(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" },
		"loginRedirectURI": func() string { return LoginRedirectURI },
	}).Parse(source))
)

func (o Options) execute(name, indent string) ([]byte, error) {
	out := bytes.NewBufferString(indent)
	if err := blocks.ExecuteTemplate(out, name, o); err != nil {
		return nil, check.Errorf(check.Internal, "write the client block").Because(err)
	}
	return out.Bytes(), nil
}

// Validate checks the options without the digest: making one takes a moment.
func (o Options) Validate() error {
	if len(o.RedirectURIs) == 0 && !o.WithLogin {
		return check.Errorf(check.Config, "the client has no redirect URI").Try(check.Set("verify.redirect_urls", ""))
	}
	if id := o.Login.ClientID; len(id) > 100 || !unreserved.MatchString(id) {
		return check.Errorf(check.Config, "authelia accepts at most 100 letters, digits and -._~ in a client id").
			Try(check.Set("realm.client_id", ""))
	}
	for _, uri := range o.RedirectURIs {
		u, err := url.Parse(uri)
		if err != nil || !u.IsAbs() || strings.ContainsFunc(uri, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return check.Errorf(check.Config, "a redirect URI is not an absolute URL").
				Try(check.Set("verify.redirect_urls", "https://pve.example.com:8006"))
		}
	}
	switch {
	case o.Policy == "" || o.Policy == "one_factor" || o.Policy == "two_factor":
		return nil
	case o.Policy == "deny" || !policyName.MatchString(o.Policy):
		return check.Errorf(check.Usage, "authelia does not accept this authorization policy for a client").
			Try(check.Advise("choose one_factor, two_factor or the name of a policy in Authelia's authorization_policies"))
	case o.Former():
		return check.Errorf(check.Usage, "authelia %s does not know authorization policies by name", o.Version).
			Try(check.Advise("choose one_factor or two_factor"), check.Advise("upgrade authelia to %s", renamedSince))
	}
	return nil
}

var (
	unreserved = regexp.MustCompile(`^[A-Za-z0-9._~-]+$`)
	// policyName is Authelia's pattern for keys that users choose, without the dot, which separates levels.
	policyName = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9/_:~-]*[a-zA-Z0-9])?$`)
)

// Former tells whether the version has the property names from before 4.38.
func (o Options) Former() bool { return o.Version.Less(renamedSince) }

// NamedPolicy returns the authorization policy if Authelia's configuration has to define it.
func (o Options) NamedPolicy() string {
	if o.Policy == "one_factor" || o.Policy == "two_factor" {
		return ""
	}
	return o.Policy
}

// standardScopes are the scopes that Authelia before 4.38 knows. It does not start with any other.
var standardScopes = []string{"openid", "profile", "email", "groups", "offline_access"}

// KnownScopes returns the scopes that a client of this version may have.
func (o Options) KnownScopes() []string {
	if !o.Former() {
		return o.Login.Scopes
	}
	return only(o.Login.Scopes, standardScopes, true)
}

// UnknownScopes returns the other scopes.
func (o Options) UnknownScopes() []string { return only(o.Login.Scopes, o.KnownScopes(), false) }

// standardClaims are the claims that a claims policy may name without defining them (validOIDCClientClaims).
var standardClaims = []string{
	"address", "alt_emails", "birthdate", "email", "email_verified", "family_name", "gender", "given_name",
	"groups", "locale", "middle_name", "name", "nickname", "phone_number", "phone_number_verified", "picture",
	"preferred_username", "profile", "rat", "updated_at", "website", "zoneinfo",
}

// PolicyClaims returns the claims that the block's claims policy adds to the ID token.
func (o Options) PolicyClaims() []string { return only(o.idTokenClaims(), standardClaims, true) }

// CustomClaims returns the other claims that the ID token needs.
func (o Options) CustomClaims() []string { return only(o.idTokenClaims(), standardClaims, false) }

// only returns the words that are in the other list, or those that are not.
func only(words, others []string, in bool) []string {
	return slices.DeleteFunc(slices.Clone(words), func(w string) bool { return slices.Contains(others, w) != in })
}
