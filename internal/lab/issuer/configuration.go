package issuer

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// ParseConfiguration reads the clients of a file of Authelia's configuration; there are none if it has no part about OpenID
// Connect. It refuses what Authelia 4.39 refuses to start with, as far as the file is about OpenID Connect: the error joins all reasons, in Authelia's words where it has some, and
// quotes no secret. Sources: internal/configuration/validator and internal/configuration/schema of Authelia.
func ParseConfiguration(data []byte) ([]Client, error) {
	var document yaml.Node
	err := yaml.NewDecoder(bytes.NewReader(data)).Decode(&document) // a second document is not read
	switch {
	case errors.Is(err, io.EOF):
		return nil, errors.New("the file is empty")
	case err != nil:
		return nil, err
	}
	c := &configuration{}
	c.uniqueKeys(&document)
	root := c.object(document.Content[0], "", topKeys)
	providers := c.object(root["identity_providers"], "identity_providers", []string{"oidc"})
	oidc := c.object(providers["oidc"], "identity_providers.oidc", providerKeys)
	if oidc == nil {
		return nil, c.err()
	}
	c.provider(oidc)
	var clients []Client
	for _, item := range c.items(oidc["clients"]) {
		if client, ok := c.client(item); ok {
			if slices.ContainsFunc(clients, func(other Client) bool { return other.ID == client.ID }) {
				c.refuse(item, "identity_providers: oidc: clients: option 'client_id' must be unique for every client but one or more clients share the following 'client_id' values '%s'", client.ID)
			}
			clients = append(clients, client)
		}
	}
	if len(clients) == 0 && len(c.refusals) == 0 {
		c.refuse(&document, "identity_providers: oidc: option 'clients' must have one or more clients configured")
	}
	return clients, c.err()
}

// configuration is a file while it is read.
type configuration struct {
	refusals   []refusal
	policies   []string // authorization policies that clients may have
	lifespans  []string
	claims     []string // claims policies
	algorithms []string // of the keys
	pushed     bool     // every client must push its authorization requests
}

func (c *configuration) refuse(at *yaml.Node, format string, args ...any) {
	line := max(at.Line, 1)
	c.refusals = append(c.refusals, refusal{line, fmt.Errorf("line %d: %w", line, fmt.Errorf(format, args...))})
}

// refusal is a reason not to start.
type refusal struct {
	line int
	err  error
}

// err joins the reasons, in the order of lines.
func (c *configuration) err() error {
	slices.SortFunc(c.refusals, func(a, b refusal) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.err.Error(), b.err.Error()))
	})
	var errs []error
	for _, r := range c.refusals {
		errs = append(errs, r.err)
	}
	return errors.Join(errs...)
}

// uniqueKeys refuses keys that are there twice in one mapping.
func (c *configuration) uniqueKeys(n *yaml.Node) {
	if n.Kind == yaml.MappingNode {
		seen := map[string]int{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if before := seen[key.Value]; before > 0 {
				c.refuse(key, "mapping key %q already defined at line %d", key.Value, before)
			}
			seen[key.Value] = key.Line
		}
	}
	if n.Kind == yaml.AliasNode {
		return
	}
	for _, child := range n.Content {
		c.uniqueKeys(child)
	}
}

// object returns the members of a mapping, and refuses those that are not known. Nil keys allow all.
func (c *configuration) object(n *yaml.Node, path string, keys []string) map[string]*yaml.Node {
	if n = resolved(n); n == nil {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		c.refuse(n, "configuration key %s: expected a map", path)
		return nil
	}
	members := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if keys != nil && !slices.Contains(keys, key.Value) {
			c.refuse(key, "configuration key not expected: %s", strings.TrimPrefix(path+"."+key.Value, "."))
			continue
		}
		members[key.Value] = n.Content[i+1]
	}
	return members
}

// resolved follows an alias. It returns nil for what is absent or null.
func resolved(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n == nil || n.Kind == 0 || n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil
	}
	return n
}

// items returns the elements of a list; a scalar is a list of one.
func (c *configuration) items(n *yaml.Node) []*yaml.Node {
	switch n = resolved(n); {
	case n == nil:
		return nil
	case n.Kind == yaml.SequenceNode:
		return n.Content
	case n.Kind == yaml.ScalarNode && n.Value == "":
		return nil
	}
	return []*yaml.Node{n}
}

func (c *configuration) strings(n *yaml.Node) (list []string) {
	for _, item := range c.items(n) {
		list = append(list, c.string(item))
	}
	return list
}

func (c *configuration) string(n *yaml.Node) string {
	if n = resolved(n); n == nil {
		return ""
	}
	if n.Kind != yaml.ScalarNode {
		c.refuse(n, "expected a text, not a list or map")
	}
	return n.Value
}

func (c *configuration) bool(n *yaml.Node) bool {
	text := c.string(n)
	if text == "" {
		return false
	}
	value, err := strconv.ParseBool(text)
	if err != nil {
		c.refuse(n, "cannot parse %q as bool", text)
	}
	return value
}

// provider checks what applies to all clients.
func (c *configuration) provider(oidc map[string]*yaml.Node) {
	at := func(k string) *yaml.Node {
		if n := oidc[k]; n != nil {
			return n
		}
		return &yaml.Node{}
	}
	if c.string(oidc["hmac_secret"]) == "" {
		c.refuse(at("hmac_secret"), "identity_providers: oidc: option 'hmac_secret' is required")
	}
	switch pkce := c.string(oidc["enforce_pkce"]); pkce {
	case "", "always", "never", "public_clients_only":
	default:
		c.refuse(at("enforce_pkce"), "identity_providers: oidc: option 'enforce_pkce' must be 'never', 'public_clients_only' or 'always', but it's configured as '%s'", pkce)
	}
	c.pushed = c.bool(oidc["require_pushed_authorization_requests"])
	c.keys(at("jwks"), at("issuer_private_key"))

	c.policies = []string{"one_factor", "two_factor"}
	for name, policy := range c.object(oidc["authorization_policies"], "identity_providers.oidc.authorization_policies", nil) {
		path := "identity_providers: oidc: authorization_policies: policy '" + name + "': "
		members := c.object(policy, "identity_providers.oidc.authorization_policies."+name, []string{"default_policy", "rules"})
		effects := []string{"one_factor", "two_factor", "deny"}
		if slices.Contains(effects, name) {
			c.refuse(policy, "%soption 'name' must not be one of %s", path, joined(effects))
			continue
		}
		c.oneOf(policy, members["default_policy"], path+"option 'default_policy'", effects...)
		if len(c.items(members["rules"])) == 0 {
			c.refuse(policy, "%soption 'rules' is required", path)
		}
		c.policies = append(c.policies, name)
	}
	lifespans := c.object(oidc["lifespans"], "identity_providers.oidc.lifespans", nil)
	for name := range c.object(lifespans["custom"], "identity_providers.oidc.lifespans.custom", nil) {
		c.lifespans = append(c.lifespans, name)
	}
	for name, policy := range c.object(oidc["claims_policies"], "identity_providers.oidc.claims_policies", nil) {
		c.object(policy, "identity_providers.oidc.claims_policies."+name, []string{"id_token", "access_token", "id_token_audience_mode", "custom_claims"})
		c.claims = append(c.claims, name)
	}
}

// keys checks the keys that sign tokens. One must be an RSA key for RS256.
func (c *configuration) keys(jwks, private *yaml.Node) {
	items := c.items(jwks)
	if len(items) == 0 && resolved(private) != nil {
		c.algorithms = []string{"RS256"}
		return
	}
	if len(items) == 0 {
		c.refuse(jwks, "identity_providers: oidc: option 'jwks' is required")
		return
	}
	for i, item := range items {
		members := c.object(item, "identity_providers.oidc.jwks[]", []string{"key_id", "use", "algorithm", "key", "certificate_chain"})
		algorithm, err := keyAlgorithm(c.string(members["key"]))
		if err != nil {
			c.refuse(item, "identity_providers: oidc: jwks: key #%d: %w", i+1, err)
			continue
		}
		if chosen := c.string(members["algorithm"]); chosen != "" {
			c.oneOf(item, members["algorithm"], fmt.Sprintf("identity_providers: oidc: jwks: key #%d: option 'algorithm'", i+1), signing...)
			algorithm = chosen
		}
		c.algorithms = append(c.algorithms, algorithm)
	}
	if len(c.algorithms) > 0 && !slices.Contains(c.algorithms, "RS256") {
		c.refuse(jwks, "identity_providers: oidc: jwks: keys: must at least have one key supporting the 'RS256' algorithm but only has %s", joined(c.algorithms))
	}
}

// signing are the algorithms of keys.
var signing = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"}

// keyAlgorithm is the default algorithm of a private key in PEM.
func keyAlgorithm(text string) (string, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return "", errors.New("option 'key' must be a private key in PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		if key, err = x509.ParsePKCS1PrivateKey(block.Bytes); err != nil {
			if key, err = x509.ParseECPrivateKey(block.Bytes); err != nil {
				return "", errors.New("option 'key' must be a valid private key")
			}
		}
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if key.N.BitLen() < 2048 {
			return "", fmt.Errorf("option 'key' is an RSA %d bit private key but it must at minimum be a RSA 2048 bit private key", key.N.BitLen())
		}
		return "RS256", nil
	case *ecdsa.PrivateKey:
		return map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[key.Params().BitSize], nil
	}
	return "", fmt.Errorf("option 'key' must be a RSA private key or ECDSA private key but it's type is %T", key)
}

var unreserved = regexp.MustCompile(`^[a-zA-Z0-9._~-]+$`)

// client checks one client. It is not ok if nothing of it can be used.
func (c *configuration) client(n *yaml.Node) (_ Client, ok bool) {
	members := c.object(n, "identity_providers.oidc.clients[]", clientKeys)
	if members == nil {
		return Client{}, false
	}
	for former, now := range formerKeys {
		if members[former] != nil && members[now] == nil {
			members[now] = members[former]
		}
	}
	client := Client{
		ID: c.string(members["client_id"]), Name: c.string(members["client_name"]), Secret: c.string(members["client_secret"]),
		AuthMethod: c.string(members["token_endpoint_auth_method"]), RedirectURIs: c.strings(members["redirect_uris"]),
		Scopes: c.strings(members["scopes"]), ResponseTypes: c.strings(members["response_types"]), GrantTypes: c.strings(members["grant_types"]),
		RequirePushed: c.bool(members["require_pushed_authorization_requests"]) || c.pushed,
		RequirePKCE:   c.bool(members["require_pkce"]), ClaimsInToken: c.string(members["claims_policy"]) != "",
	}
	path := "identity_providers: oidc: clients: client '" + client.ID + "': "
	switch {
	case client.ID == "":
		c.refuse(n, "identity_providers: oidc: clients: option 'client_id' is required but was absent on the clients in positions")
	case len(client.ID) > 100:
		c.refuse(n, "%soption 'id' must not be more than 100 characters but it has %d characters", path, len(client.ID))
	case !unreserved.MatchString(client.ID):
		c.refuse(n, "%soption 'id' must only contain RFC3986 unreserved characters", path)
	}
	c.choices(n, path, members)
	c.secret(n, path, &client, c.bool(members["public"]))
	for _, uri := range client.RedirectURIs {
		if parsed, err := url.Parse(uri); err != nil || !parsed.IsAbs() {
			c.refuse(n, "%soption 'redirect_uris' has an invalid value: redirect uri '%s' must have a scheme but it's absent", path, uri)
		}
	}
	return client, true
}

// choices checks the options that have a fixed set of values, or name something that the file defines.
func (c *configuration) choices(n *yaml.Node, path string, members map[string]*yaml.Node) {
	responses := append([]string{"none", "RS256"}, c.algorithms...)
	for option, values := range map[string][]string{
		"authorization_policy":              c.policies,
		"lifespan":                          c.lifespans,
		"claims_policy":                     c.claims,
		"pkce_challenge_method":             {"plain", "S256"},
		"requested_audience_mode":           {"explicit", "implicit"},
		"consent_mode":                      {"auto", "implicit", "explicit", "pre-configured"},
		"token_endpoint_auth_method":        {"none", methodPost, methodBasic, "private_key_jwt", "client_secret_jwt"},
		"id_token_signed_response_alg":      responses[1:],
		"access_token_signed_response_alg":  responses,
		"userinfo_signed_response_alg":      responses,
		"introspection_signed_response_alg": responses,
		"authorization_signed_response_alg": responses,
	} {
		c.oneOf(n, members[option], path+"option '"+option+"'", values...)
	}
	for option, values := range map[string][]string{
		"response_modes": {"form_post", "query", "fragment", "jwt", "form_post.jwt", "query.jwt", "fragment.jwt"},
		"grant_types": {
			"authorization_code", "implicit", "client_credentials", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code",
		},
	} {
		for _, item := range c.items(members[option]) {
			c.oneOf(item, item, path+"option '"+option+"'", values...)
		}
	}
	for option := range members {
		if strings.HasPrefix(option, "require_") || option == "allow_multiple_auth_methods" {
			c.bool(members[option])
		}
	}
}

// oneOf refuses a value that is not one of some; an empty one means the default.
func (c *configuration) oneOf(at, n *yaml.Node, what string, values ...string) {
	value := c.string(n)
	if value == "" || slices.Contains(values, value) {
		return
	}
	if resolved(n).Line > 0 {
		at = resolved(n)
	}
	c.refuse(at, "%s must be one of %s but it's configured as '%s'", what, joined(values), value)
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
func (c *configuration) secret(n *yaml.Node, path string, client *Client, public bool) {
	method := client.AuthMethod
	switch {
	case method == "" && public:
		client.AuthMethod = methodNone
	case method == "":
		client.AuthMethod = methodBasic
	case method == methodNone && !public:
		c.refuse(n, "%soption 'token_endpoint_auth_method' must be one of 'client_secret_post', 'client_secret_basic', 'private_key_jwt' or 'client_secret_jwt' when configured as the confidential client type but it's configured as 'none'", path)
	case method != methodNone && public:
		c.refuse(n, "%soption 'token_endpoint_auth_method' must be 'none' when configured as the public client type but it's configured as '%s'", path, method)
	}
	wanted := client.AuthMethod == methodBasic || client.AuthMethod == methodPost || client.AuthMethod == "client_secret_jwt"
	switch {
	case public && client.Secret != "":
		c.refuse(n, "%soption 'client_secret' is required to be empty when option 'public' is true", path)
	case !public && wanted && client.Secret == "":
		c.refuse(n, "%soption 'client_secret' is required", path)
	case !wanted && !public && client.Secret != "":
		c.refuse(n, "%soption 'client_secret' is required to be empty when option 'token_endpoint_auth_method' is configured as '%s'", path, client.AuthMethod)
	case client.Secret != "":
		if err := checkDigest(client.Secret); err != nil {
			c.refuse(n, "%scould not decode option 'client_secret': %w", path, err)
		}
	}
}

// The keys that Authelia 4.39 expects (internal/configuration/schema/keys.go).
var (
	topKeys = strings.Fields(`theme certificates_directory default_2fa_method log identity_providers authentication_backend session
		totp duo_api access_control ntp regulation storage notifier server telemetry webauthn password_policy privacy_policy
		identity_validation definitions default_redirection_url jwt_secret`)
	providerKeys = strings.Fields(`hmac_secret jwks issuer_private_key issuer_certificate_chain enable_client_debug_messages
		minimum_parameter_entropy enforce_pkce enable_pkce_plain_challenge enable_jwt_access_token_stateless_introspection
		discovery_signed_response_alg discovery_signed_response_key_id require_pushed_authorization_requests cors clients
		authorization_policies lifespans claims_policies scopes`)
	clientKeys = append(strings.Fields(`client_id client_name client_secret sector_identifier_uri public redirect_uris request_uris
		audience scopes grant_types response_types response_modes authorization_policy lifespan claims_policy requested_audience_mode
		consent_mode pre_configured_consent_duration require_pushed_authorization_requests require_pkce pkce_challenge_method
		request_object_signing_alg request_object_encryption_alg request_object_encryption_enc allow_multiple_auth_methods jwks_uri jwks
		id description secret userinfo_signing_algorithm`), prefixed()...)
)

// formerKeys are those that Authelia 4.38 renamed and still reads.
var formerKeys = map[string]string{
	"id": "client_id", "description": "client_name", "secret": "client_secret", "userinfo_signing_algorithm": "userinfo_signed_response_alg",
}

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
