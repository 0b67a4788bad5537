package authelia

import (
	"bytes"
	"cmp"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"proxmox-realm/internal/check"
)

// Options say what a client block holds.
type Options struct {
	Client
	Digest    string // of the client key, see [Digest]
	Policy    string // one_factor, two_factor or the name of an authorization policy; "": [DefaultPolicy]
	WithLogin bool   // registers [LoginRedirectURI] as well
	Whole     bool   // Block prints everything from identity_providers down, not the list item alone
}

// DefaultPolicy is Authelia's default authorization policy for a client.
const DefaultPolicy = "two_factor"

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
	b := builder{Options: o}
	item := b.client()
	if !o.Whole {
		item.HeadComment = strings.Join(b.notes, "\n")
		text, err := encode(list(item))
		return indent(text, "      "), err
	}
	return encode(b.whole(item))
}

// SecretLine returns the line of the block that holds the digest. During a rotation it replaces the old line, and
// everything else that the client has stays.
func SecretLine(o Options) ([]byte, error) {
	b := builder{Options: o}
	line := &yaml.Node{Kind: yaml.MappingNode}
	b.putDigest(line)
	text, err := encode(line)
	return indent(text, "        "), err
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
		if u, err := url.Parse(uri); err != nil || !u.IsAbs() || !printable(uri) {
			return check.Errorf(check.Config, "a redirect URI is not an absolute URL").
				Try(check.Set("verify.redirect_urls", "https://pve.example.com:8006"))
		}
	}
	return o.validatePolicy()
}

func (o Options) validatePolicy() error {
	switch {
	case o.Policy == "" || o.Policy == "one_factor" || o.Policy == "two_factor":
		return nil
	case o.Policy == "deny" || !policyName.MatchString(o.Policy):
		return check.Errorf(check.Usage, "authelia does not accept this authorization policy for a client").
			Try(check.Advise("choose one_factor, two_factor or the name of a policy in Authelia's authorization_policies"))
	case o.Version.Less(renamedSince):
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

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// builder makes one block. Its notes become comments: they name what belongs elsewhere in Authelia's configuration.
type builder struct {
	Options
	notes []string
}

// client returns the list item, its keys in the order of Authelia's guide for Proxmox.
func (b *builder) client() *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode}
	put(m, b.nameOf("client_id"), quoted(b.Login.ClientID))
	put(m, b.nameOf("client_name"), quoted("Proxmox"))
	b.putDigest(m)
	put(m, "public", plain("false"))
	policy := cmp.Or(b.Policy, DefaultPolicy)
	put(m, "authorization_policy", quoted(policy))
	if policy != "one_factor" && policy != "two_factor" {
		b.note("Define the authorization policy '%s' under identity_providers.oidc.authorization_policies.", policy)
	}
	if len(b.idTokenClaims()) > 0 {
		put(m, "claims_policy", quoted(claimsPolicyName))
	}
	modern := !b.Version.Less(renamedSince)
	if modern {
		put(m, "require_pkce", plain("true"))
		put(m, "pkce_challenge_method", quoted("S256"))
	}
	put(m, "redirect_uris", b.redirectURIs())
	put(m, "scopes", b.scopes())
	put(m, "response_types", list(quoted("code")))
	put(m, "grant_types", list(quoted("authorization_code")))
	if modern {
		put(m, "access_token_signed_response_alg", quoted("none"))
	}
	put(m, b.nameOf("userinfo_signed_response_alg"), quoted("none"))
	if modern {
		put(m, "token_endpoint_auth_method", quoted("client_secret_basic"))
	}
	b.noteClaims()
	return m
}

func (b *builder) putDigest(m *yaml.Node) {
	digest := quoted(b.Digest)
	put(m, b.nameOf("client_secret"), digest)
	if b.Version.KnowsDigests() {
		digest.LineComment = "# the digest of the client key"
	} else {
		b.note("Authelia before %s compares the secret itself: replace the digest below by the client key.", digestsSince)
	}
}

// formerNames maps the keys that Authelia 4.38 renamed to their former names. Later versions still read the former
// names (internal/configuration/deprecation.go).
var formerNames = map[string]string{
	"client_id":                    "id",
	"client_name":                  "description",
	"client_secret":                "secret",
	"userinfo_signed_response_alg": "userinfo_signing_algorithm",
}

// nameOf returns a key's name in this version.
func (b *builder) nameOf(key string) string {
	if former, renamed := formerNames[key]; renamed && b.Version.Less(renamedSince) {
		return former
	}
	return key
}

func (b *builder) redirectURIs() *yaml.Node {
	uris := list()
	for _, uri := range union(nil, b.RedirectURIs) {
		uris.Content = append(uris.Content, quoted(uri))
	}
	if b.WithLogin && !slices.Contains(b.RedirectURIs, LoginRedirectURI) {
		login := quoted(LoginRedirectURI)
		login.LineComment = "# for `proxmox-realm login`; any port"
		uris.Content = append(uris.Content, login)
	}
	return uris
}

// standardScopes are the scopes that Authelia before 4.38 knows. It does not start with any other.
var standardScopes = []string{"openid", "profile", "email", "groups", "offline_access"}

func (b *builder) scopes() *yaml.Node {
	scopes := list()
	for _, scope := range b.Login.Scopes {
		if b.Version.Less(renamedSince) && !slices.Contains(standardScopes, scope) {
			b.note("The scope '%s' is left out: Authelia before %s does not know it.", scope, renamedSince)
			continue
		}
		scopes.Content = append(scopes.Content, quoted(scope))
	}
	return scopes
}

// claimsPolicyName is the name of the claims policy that the block defines if it needs one.
const claimsPolicyName = "proxmox"

// standardClaims are the claims that a claims policy may name without defining them (validOIDCClientClaims).
var standardClaims = []string{
	"address", "alt_emails", "birthdate", "email", "email_verified", "family_name", "gender", "given_name",
	"groups", "locale", "middle_name", "name", "nickname", "phone_number", "phone_number_verified", "picture",
	"preferred_username", "profile", "rat", "updated_at", "website", "zoneinfo",
}

// idTokenClaims returns the claims that the block's claims policy adds to the ID token.
func (b *builder) idTokenClaims() []string {
	return slices.DeleteFunc(b.policyClaims(), func(claim string) bool { return !slices.Contains(standardClaims, claim) })
}

func (b *builder) noteClaims() {
	for _, claim := range b.policyClaims() {
		if !slices.Contains(standardClaims, claim) {
			b.note("Authelia does not know the claim '%s': define it under custom_claims of a claims policy, and add it to id_token.", claim)
		}
	}
	claims := b.idTokenClaims()
	if b.Whole || len(claims) == 0 {
		return
	}
	b.note("This client also needs, under identity_providers.oidc, beside `clients`:")
	b.note("  claims_policies:")
	b.note("    %s:", claimsPolicyName)
	b.note("      id_token: ['%s']", strings.Join(claims, "', '"))
}

func (b *builder) note(format string, args ...any) {
	b.notes = append(b.notes, "## "+fmt.Sprintf(format, args...))
}

func (b *builder) whole(item *yaml.Node) *yaml.Node {
	oidc := &yaml.Node{Kind: yaml.MappingNode}
	if claims := b.idTokenClaims(); len(claims) > 0 {
		idToken := list()
		for _, claim := range claims {
			idToken.Content = append(idToken.Content, quoted(claim))
		}
		put(oidc, "claims_policies", mapping(claimsPolicyName, mapping("id_token", idToken)))
	}
	put(oidc, "clients", list(item))
	oidc.Content[0].HeadComment = strings.Join(append([]string{
		"## Keep the other parts of the OpenID Connect configuration, such as the issuer's keys.",
	}, b.notes...), "\n")
	return mapping("identity_providers", mapping("oidc", oidc))
}

func put(m *yaml.Node, key string, value *yaml.Node) {
	m.Content = append(m.Content, plain(key), value)
}

func mapping(key string, value *yaml.Node) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode}
	put(m, key, value)
	return m
}

func list(items ...*yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.SequenceNode, Content: items}
}

func plain(value string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: value} }

// quoted returns a string in the style of Authelia's documentation.
func quoted(value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.SingleQuotedStyle, Value: value}
}

func encode(n *yaml.Node) ([]byte, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(n); err != nil {
		return nil, check.Errorf(check.Internal, "write the client block").Because(err)
	}
	return out.Bytes(), nil
}

func indent(text []byte, by string) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(text) {
		out.WriteString(by)
		out.Write(line)
	}
	return out.Bytes()
}
