package issuer

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// ParseConfiguration reads the clients of a file of Authelia's configuration; there are none if it has no part about OpenID
// Connect. It refuses what Authelia 4.39 refuses to start with, as far as the file is about OpenID Connect. The error joins
// all reasons, in Authelia's words where it has some, and quotes no secret. Sources: internal/configuration/validator and
// internal/configuration/schema of Authelia.
func ParseConfiguration(data []byte) ([]Client, error) {
	var file struct {
		Providers struct {
			OIDC *provider `yaml:"oidc"`
			Rest rest      `yaml:",inline"`
		} `yaml:"identity_providers"`
		Rest rest `yaml:",inline"`
	}
	err := yaml.NewDecoder(bytes.NewReader(data)).Decode(&file) // a second document is not read
	switch {
	case errors.Is(err, io.EOF):
		return nil, errors.New("the file is empty")
	case err != nil:
		return nil, err
	}
	c := &configuration{}
	c.known(file.Rest, "", topKeys)
	c.known(file.Providers.Rest, "identity_providers.", nil)
	var clients []Client
	if p := file.Providers.OIDC; p != nil {
		c.provider(p)
		for _, block := range p.Clients {
			client := c.client(&block, bool(p.RequirePushed))
			if slices.ContainsFunc(clients, func(other Client) bool { return other.ID == client.ID }) {
				c.refuse(block.line, "identity_providers: oidc: clients: option 'client_id' must be unique for every client but one or more clients share the following 'client_id' values '%s'", client.ID)
			}
			clients = append(clients, client)
		}
		if len(clients) == 0 {
			c.refuse(1, "identity_providers: oidc: option 'clients' must have one or more clients configured")
		}
	}
	slices.SortStableFunc(c.refusals, func(a, b refusal) int { return cmp.Compare(a.line, b.line) })
	var errs []error
	for _, r := range c.refusals {
		errs = append(errs, fmt.Errorf("line %d: %s", r.line, r.reason))
	}
	return clients, errors.Join(errs...)
}

// rest holds the members of a mapping that have no field.
type rest map[string]yaml.Node

func (r rest) text(key string) string {
	n := r[key]
	return n.Value
}

// provider is the part about OpenID Connect.
type provider struct {
	HMACSecret    string                `yaml:"hmac_secret"`
	RequirePushed flag                  `yaml:"require_pushed_authorization_requests"`
	PrivateKey    string                `yaml:"issuer_private_key"`
	Keys          []signingBlock        `yaml:"jwks"`
	Policies      map[string]rest       `yaml:"authorization_policies"`
	Lifespans     struct{ Custom rest } `yaml:"lifespans"`
	Claims        map[string]rest       `yaml:"claims_policies"`
	Clients       []block               `yaml:"clients"`
	Rest          rest                  `yaml:",inline"`
}

type signingBlock struct {
	Algorithm string `yaml:"algorithm"`
	Rest      rest   `yaml:",inline"`
}

// block is a client, with the line on which it begins.
type block struct {
	ID            string `yaml:"client_id"`
	Name          string `yaml:"client_name"`
	Secret        string `yaml:"client_secret"`
	Public        flag   `yaml:"public"`
	RedirectURIs  texts  `yaml:"redirect_uris"`
	Scopes        texts  `yaml:"scopes"`
	ResponseTypes texts  `yaml:"response_types"`
	ResponseModes texts  `yaml:"response_modes"`
	GrantTypes    texts  `yaml:"grant_types"`
	RequirePushed flag   `yaml:"require_pushed_authorization_requests"`
	RequirePKCE   flag   `yaml:"require_pkce"`
	// The names that Authelia 4.38 gave up, and still reads.
	FormerID     string `yaml:"id"`
	FormerName   string `yaml:"description"`
	FormerSecret string `yaml:"secret"`
	Rest         rest   `yaml:",inline"`

	line int
}

// UnmarshalYAML notes the line.
func (b *block) UnmarshalYAML(n *yaml.Node) error {
	type plain block
	b.line = n.Line
	return n.Decode((*plain)(b))
}

// texts is a list; a scalar is a list of one.
type texts []string

// UnmarshalYAML reads a list or a scalar.
func (t *texts) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
		*t = texts{n.Value}
		return nil
	}
	return n.Decode((*[]string)(t))
}

// flag is true or false, with quotes too.
type flag bool

// UnmarshalYAML reads a scalar as Go does.
func (f *flag) UnmarshalYAML(n *yaml.Node) error {
	value, err := strconv.ParseBool(n.Value)
	if err != nil {
		return fmt.Errorf("line %d: cannot parse %q as bool", n.Line, n.Value)
	}
	*f = flag(value)
	return nil
}

// configuration is what the clients of a file may name, and what is wrong with the file.
type configuration struct {
	refusals   []refusal
	policies   []string // authorization policies
	lifespans  []string
	claims     []string // claims policies
	algorithms []string // of the keys
}

// refusal is a reason not to start.
type refusal struct {
	line   int
	reason string
}

func (c *configuration) refuse(line int, format string, args ...any) {
	c.refusals = append(c.refusals, refusal{line, fmt.Sprintf(format, args...)})
}

// known refuses members that Authelia does not expect.
func (c *configuration) known(r rest, path string, keys []string) {
	for key, n := range r {
		if !slices.Contains(keys, key) {
			c.refuse(n.Line, "configuration key not expected: %s", path+key)
		}
	}
}

// provider checks what applies to all clients.
func (c *configuration) provider(p *provider) {
	const path = "identity_providers: oidc: "
	c.known(p.Rest, "identity_providers.oidc.", providerKeys)
	if p.HMACSecret == "" {
		c.refuse(1, path+"option 'hmac_secret' is required")
	}
	c.oneOf(p.Rest, 1, "enforce_pkce", path, "never", "public_clients_only", "always")
	c.policies = []string{"one_factor", "two_factor"}
	for name, policy := range p.Policies {
		c.known(policy, "identity_providers.oidc.authorization_policies."+name+".", []string{"default_policy", "rules"})
		c.oneOf(policy, 1, "default_policy", path+"authorization_policies: policy '"+name+"': ", "one_factor", "two_factor", "deny")
		c.policies = append(c.policies, name)
	}
	c.lifespans = slices.Sorted(maps.Keys(p.Lifespans.Custom))
	for name, policy := range p.Claims {
		c.known(policy, "identity_providers.oidc.claims_policies."+name+".", []string{"id_token", "access_token", "id_token_audience_mode", "custom_claims"})
		c.claims = append(c.claims, name)
	}
	if len(p.Keys) == 0 && p.PrivateKey == "" {
		c.refuse(1, path+"option 'jwks' is required")
	}
	c.algorithms = []string{"RS256"} // one key must be for it
	for _, key := range p.Keys {
		c.known(key.Rest, "identity_providers.oidc.jwks[].", []string{"key_id", "use", "key", "certificate_chain"})
		c.algorithms = append(c.algorithms, key.Algorithm)
	}
}

var unreserved = regexp.MustCompile(`^[a-zA-Z0-9._~-]{1,100}$`)

// client checks one client.
func (c *configuration) client(b *block, pushed bool) Client {
	client := Client{
		ID: cmp.Or(b.ID, b.FormerID), Name: cmp.Or(b.Name, b.FormerName), Secret: cmp.Or(b.Secret, b.FormerSecret),
		AuthMethod: b.Rest.text("token_endpoint_auth_method"), RedirectURIs: b.RedirectURIs,
		Scopes: b.Scopes, ResponseTypes: b.ResponseTypes, GrantTypes: b.GrantTypes,
		RequirePushed: pushed || bool(b.RequirePushed), RequirePKCE: bool(b.RequirePKCE), ClaimsInToken: b.Rest.text("claims_policy") != "",
	}
	c.known(b.Rest, "identity_providers.oidc.clients[].", clientKeys)
	path := "identity_providers: oidc: clients: client '" + client.ID + "': "
	switch {
	case client.ID == "":
		c.refuse(b.line, "identity_providers: oidc: clients: option 'client_id' is required but was absent on the clients in positions")
	case !unreserved.MatchString(client.ID):
		c.refuse(b.line, "%soption 'id' must only contain RFC3986 unreserved characters, and no more than 100", path)
	}
	for option, values := range map[string][]string{
		"authorization_policy":              c.policies,
		"lifespan":                          c.lifespans,
		"claims_policy":                     c.claims,
		"pkce_challenge_method":             {"plain", "S256"},
		"requested_audience_mode":           {"explicit", "implicit"},
		"consent_mode":                      {"auto", "implicit", "explicit", "pre-configured"},
		"token_endpoint_auth_method":        {methodNone, methodPost, methodBasic, "private_key_jwt", "client_secret_jwt"},
		"id_token_signed_response_alg":      c.algorithms,
		"access_token_signed_response_alg":  append(c.algorithms, "none"),
		"userinfo_signed_response_alg":      append(c.algorithms, "none"),
		"introspection_signed_response_alg": append(c.algorithms, "none"),
		"authorization_signed_response_alg": append(c.algorithms, "none"),
	} {
		c.oneOf(b.Rest, b.line, option, path, values...)
	}
	c.all(b, b.ResponseModes, path+"option 'response_modes'", "form_post", "query", "fragment", "jwt", "form_post.jwt", "query.jwt", "fragment.jwt")
	c.all(b, b.GrantTypes, path+"option 'grant_types'",
		"authorization_code", "implicit", "client_credentials", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code")
	c.secret(b, path, &client)
	for _, uri := range client.RedirectURIs {
		if parsed, err := url.Parse(uri); err != nil || !parsed.IsAbs() {
			c.refuse(b.line, "%soption 'redirect_uris' has an invalid value: redirect uri '%s' must have a scheme but it's absent", path, uri)
		}
	}
	return client
}

// oneOf refuses a value that is not one of some; an empty one means the default.
func (c *configuration) oneOf(r rest, line int, option, path string, values ...string) {
	if value, there := r[option]; there {
		c.all(&block{line: cmp.Or(value.Line, line)}, []string{value.Value}, path+"option '"+option+"'", values...)
	}
}

func (c *configuration) all(b *block, given []string, what string, values ...string) {
	for _, value := range given {
		if value != "" && !slices.Contains(values, value) {
			c.refuse(b.line, "%s must be one of %s but it's configured as '%s'", what, joined(values), value)
		}
	}
}

// joined lists values as Authelia does.
func joined(values []string) string {
	if len(values) == 0 {
		return "those that are configured, of which there are none,"
	}
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = "'" + v + "'"
	}
	if last := len(quoted) - 1; last > 0 {
		return strings.Join(quoted[:last], ", ") + " or " + quoted[last]
	}
	return quoted[0]
}

// secret checks the secret and the way that the client proves it.
func (c *configuration) secret(b *block, path string, client *Client) {
	method, public := client.AuthMethod, bool(b.Public)
	switch {
	case public && method == "":
		client.AuthMethod = methodNone
	case method == "":
		client.AuthMethod = methodBasic
	case public != (method == methodNone):
		c.refuse(b.line, "%soption 'token_endpoint_auth_method' must be 'none' when configured as the public client type, and only then, but it's configured as '%s'", path, method)
	}
	wanted := strings.HasPrefix(client.AuthMethod, "client_secret_")
	switch {
	case public && client.Secret != "":
		c.refuse(b.line, "%soption 'client_secret' is required to be empty when option 'public' is true", path)
	case !public && wanted && client.Secret == "":
		c.refuse(b.line, "%soption 'client_secret' is required", path)
	case !wanted && client.Secret != "":
		c.refuse(b.line, "%soption 'client_secret' is required to be empty when option 'token_endpoint_auth_method' is configured as '%s'", path, client.AuthMethod)
	case client.Secret != "":
		if err := checkDigest(client.Secret); err != nil {
			c.refuse(b.line, "%scould not decode option 'client_secret': %s", path, err)
		}
	}
}

// The keys that Authelia 4.39 expects beside those with a field (internal/configuration/schema/keys.go).
var (
	topKeys = strings.Fields(`theme certificates_directory default_2fa_method log authentication_backend session
		totp duo_api access_control ntp regulation storage notifier server telemetry webauthn password_policy privacy_policy
		identity_validation definitions default_redirection_url jwt_secret`)
	providerKeys = strings.Fields(`issuer_certificate_chain enable_client_debug_messages minimum_parameter_entropy enforce_pkce
		enable_pkce_plain_challenge enable_jwt_access_token_stateless_introspection discovery_signed_response_alg
		discovery_signed_response_key_id cors scopes`)
	clientKeys = append(strings.Fields(`sector_identifier_uri request_uris audience authorization_policy lifespan claims_policy
		requested_audience_mode consent_mode pre_configured_consent_duration pkce_challenge_method request_object_signing_alg
		request_object_encryption_alg request_object_encryption_enc allow_multiple_auth_methods jwks_uri jwks
		userinfo_signing_algorithm`), prefixed()...)
)

// prefixed are the keys that there are for each kind of answer and for each endpoint.
func prefixed() (keys []string) {
	for _, answer := range []string{"authorization", "id_token", "access_token", "userinfo", "introspection"} {
		for _, option := range []string{"signed_response_alg", "signed_response_key_id", "encrypted_response_alg", "encrypted_response_enc", "encrypted_response_key_id"} {
			keys = append(keys, answer+"_"+option)
		}
	}
	for _, endpoint := range []string{"token", "revocation", "introspection", "pushed_authorization_request"} {
		keys = append(keys, endpoint+"_endpoint_auth_method", endpoint+"_endpoint_auth_signing_alg")
	}
	return keys
}
