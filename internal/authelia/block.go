package authelia

import (
	"bytes"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"proxmox-realm/internal/check"

	"go.yaml.in/yaml/v3"
)

// Options say what a client block holds.
type Options struct {
	Client
	Name      string // shown to users when they consent; "": Proxmox
	Digest    string // of the client key, see [Digest]
	Policy    string // one_factor, two_factor or the name of an authorization policy; "": two_factor
	WithLogin bool   // registers [LoginRedirectURI] too
	Whole     bool   // the block inside identity_providers.oidc.clients, not the list item alone
}

// DefaultPolicy is the authorization policy of a client that names none, here and in Authelia.
const DefaultPolicy = "two_factor"

// Block returns the client as Authelia's configuration takes it: with the key names of the given version, nothing
// that this version refuses, and everything of Authelia's guide for Proxmox that it knows. The same options
// give the same bytes. A list item alone is indented as it stands below `clients:` in Authelia's documents. An error
// is a *check.Error about an option that no Authelia of this version takes.
func Block(o Options) ([]byte, error) {
	if o.Name == "" {
		o.Name = "Proxmox"
	}
	if o.Policy == "" {
		o.Policy = DefaultPolicy
	}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Digest == "" {
		return nil, noKey()
	}
	b := builder{Options: o}
	item := b.client()
	if !o.Whole {
		item.HeadComment = strings.Join(b.beside, "\n")
		text, err := encode(list(item))
		return indent(text, "      "), err
	}
	return encode(b.whole(item))
}

// Validate returns what [Block] would refuse about the options, the digest aside: making one takes a moment.
func (o Options) Validate() error {
	switch {
	case len(o.RedirectURIs) == 0 && !o.WithLogin:
		return check.Errorf(check.Config, "there is no redirect URI to register").Try(check.Advise("set verify.redirect_urls"))
	case o.Name != "" && badText(o.Name):
		return check.Errorf(check.Usage, "the client's name must be printable and not empty")
	}
	if why := badClientID(o.Login.ClientID); why != "" {
		return check.Errorf(check.Config, "authelia refuses this client id: it must %s", why).Try(check.Advise("choose another realm.client_id"))
	}
	for _, uri := range o.RedirectURIs {
		if u, err := url.Parse(uri); err != nil || !u.IsAbs() || badText(uri) {
			return check.Errorf(check.Config, "a redirect URI is not an absolute URL").
				Try(check.Advise("write verify.redirect_urls as https://pve.example.com:8006"))
		}
	}
	return o.validatePolicy()
}

func (o Options) validatePolicy() error {
	switch {
	case o.Policy == "" || o.Policy == "one_factor" || o.Policy == "two_factor":
		return nil
	case o.Policy == "deny" || !policyName().MatchString(o.Policy):
		return check.Errorf(check.Usage, "no client can have this authorization policy").
			Try(check.Advise("choose one_factor, two_factor or the name of a policy under identity_providers.oidc.authorization_policies"))
	case o.Version.Less(policiesSince):
		return check.Errorf(check.Usage, "authelia %s knows no authorization policies by name", o.Version).
			Try(check.Advise("choose one_factor or two_factor, or upgrade authelia to %s", policiesSince))
	}
	return nil
}

// policyName is what Authelia takes as the name of a policy: its pattern for keys that users choose, less the dot,
// which it takes for a step down.
var policyName = lazily(`^[a-zA-Z0-9]([a-zA-Z0-9/_:~-]*[a-zA-Z0-9])?$`)

func badText(s string) bool {
	return s == "" || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// badClientID tells what Authelia (since 4.38) refuses about a client id, completing "must …".
func badClientID(id string) string {
	switch {
	case id == "":
		return "not be empty"
	case len(id) > 100:
		return "be at most 100 characters long"
	case strings.ContainsFunc(id, func(r rune) bool { return !strings.ContainsRune(keyAlphabet, r) }):
		return "hold letters, digits, '-', '.', '_' and '~' alone"
	}
	return ""
}

// builder makes one block. What has to stand elsewhere in Authelia's configuration gathers in beside, as comments.
type builder struct {
	Options
	beside []string
}

// client returns the list item, its keys in the order of Authelia's guide.
func (b *builder) client() *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode}
	text := func(key, value string) *yaml.Node { return put(m, b.nameOf(key), quoted(value)) }
	text("client_id", b.Login.ClientID)
	text("client_name", b.Name)
	digest := text("client_secret", b.Digest)
	digest.LineComment = "# the digest of the client key"
	if !b.Version.KnowsDigests() {
		digest.LineComment = ""
		b.note("Authelia before %s compares the secret itself: replace the digest below by the client key.", digestsSince)
	}
	put(m, "public", plain("false"))
	text("authorization_policy", b.Policy)
	if b.Policy != "one_factor" && b.Policy != "two_factor" {
		b.note("The authorization policy '%s' must be defined under identity_providers.oidc.authorization_policies.", b.Policy)
	}
	if policy := b.claimsPolicy(); policy != nil && len(policy.Content) > 0 {
		text("claims_policy", claimsPolicyName)
	}
	b.known(m, "require_pkce", plain("true"))
	b.known(m, "pkce_challenge_method", quoted("S256"))
	put(m, "redirect_uris", b.redirectURIs())
	put(m, "scopes", b.scopes())
	put(m, "response_types", list(quoted("code")))
	put(m, "grant_types", list(quoted("authorization_code")))
	b.known(m, "access_token_signed_response_alg", quoted("none"))
	text("userinfo_signed_response_alg", "none")
	b.known(m, "token_endpoint_auth_method", quoted("client_secret_basic"))
	b.noteClaims()
	return m
}

// nameOf returns a key's name in this version.
func (b *builder) nameOf(key string) string {
	if old, renamed := formerNames[key]; renamed && b.Version.Less(renamedSince) {
		return old
	}
	return key
}

// known adds a key where this version knows it.
func (b *builder) known(m *yaml.Node, key string, value *yaml.Node) {
	if !b.Version.Less(clientKeys[key]) {
		put(m, key, value)
	}
}

func (b *builder) redirectURIs() *yaml.Node {
	uris := list()
	for _, uri := range b.RedirectURIs {
		if !slices.ContainsFunc(uris.Content, func(n *yaml.Node) bool { return n.Value == uri }) {
			uris.Content = append(uris.Content, quoted(uri))
		}
	}
	if b.WithLogin && !slices.Contains(b.RedirectURIs, LoginRedirectURI) {
		login := quoted(LoginRedirectURI)
		login.LineComment = "# for `proxmox-realm login`; any port"
		uris.Content = append(uris.Content, login)
	}
	return uris
}

// standardScopes are the scopes that Authelia before 4.38 knows; it refuses any other.
var standardScopes = []string{"openid", "profile", "email", "groups", "offline_access"}

func (b *builder) scopes() *yaml.Node {
	scopes := list()
	for _, scope := range b.Login.Scopes {
		if b.Version.Less(renamedSince) && !slices.Contains(standardScopes, scope) {
			b.note("The scope '%s' is left out: Authelia before %s knows no scopes but its own.", scope, renamedSince)
			continue
		}
		scopes.Content = append(scopes.Content, quoted(scope))
	}
	return scopes
}

// claimsPolicyName is the name of the claims policy that the block defines where it needs one.
const claimsPolicyName = "proxmox"

// claimsPolicy returns the claims for the ID token that a policy may name, nil where no policy is needed.
func (b *builder) claimsPolicy() *yaml.Node {
	needed := b.needsClaimsPolicy()
	if needed == nil {
		return nil
	}
	claims := list()
	for _, claim := range needed {
		if slices.Contains(standardClaims, claim) {
			claims.Content = append(claims.Content, quoted(claim))
		}
	}
	return claims
}

func (b *builder) noteClaims() {
	for _, claim := range b.needsClaimsPolicy() {
		if !slices.Contains(standardClaims, claim) {
			b.note("The claim '%s' is not one of Authelia's own: define it under custom_claims of the claims policy, and name it under id_token.", claim)
		}
	}
	policy := b.claimsPolicy()
	if b.Whole || policy == nil || len(policy.Content) == 0 {
		return
	}
	var names []string
	for _, claim := range policy.Content {
		names = append(names, "'"+claim.Value+"'")
	}
	b.note("Beside `clients`, under identity_providers.oidc, this client needs:")
	b.note("  claims_policies:")
	b.note("    %s:", claimsPolicyName)
	b.note("      id_token: [%s]", strings.Join(names, ", "))
}

func (b *builder) note(format string, args ...any) {
	b.beside = append(b.beside, "## "+fmt.Sprintf(format, args...))
}

func (b *builder) whole(item *yaml.Node) *yaml.Node {
	oidc := &yaml.Node{Kind: yaml.MappingNode}
	if policy := b.claimsPolicy(); policy != nil && len(policy.Content) > 0 {
		put(oidc, "claims_policies", mapping(claimsPolicyName, mapping("id_token", policy)))
	}
	put(oidc, "clients", list(item))
	oidc.Content[0].HeadComment = strings.Join(append([]string{
		"## The other portions of the OpenID Connect configuration, such as the issuer's keys, stay as they are.",
	}, b.beside...), "\n")
	return mapping("identity_providers", mapping("oidc", oidc))
}

func put(m *yaml.Node, key string, value *yaml.Node) *yaml.Node {
	m.Content = append(m.Content, plain(key), value)
	return value
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

// quoted is a string the way Authelia's documents write it.
func quoted(value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.SingleQuotedStyle, Value: value}
}

func encode(n *yaml.Node) ([]byte, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(n); err != nil {
		return nil, check.Errorf(check.Internal, "writing the client block").Because(err)
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
