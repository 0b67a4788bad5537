package authelia

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"proxmox-realm/internal/check"
)

// File is one file of Authelia's configuration.
type File struct {
	Name string
	Data []byte
}

// Comparison is how a client in Authelia's configuration differs from the client that [Block] prints.
type Comparison struct {
	Client      string       `json:"client"` // its id
	File        string       `json:"file"`
	Line        int          `json:"line"`
	Differences []Difference `json:"differences"`
	Kept        []Property   `json:"kept"`   // set in the file only; a login does not depend on them
	Unseen      []Property   `json:"unseen"` // not compared
}

// Difference is a property that has to change.
type Difference struct {
	Property
	Found   string   `json:"found"`             // "" if it is absent; never a secret
	Wanted  string   `json:"wanted,omitempty"`  // "" if Missing says what is wanted, or if the property must be removed
	Missing []string `json:"missing,omitempty"` // what a list lacks
}

// Property is a property of the client in a file.
type Property struct {
	Name   string `json:"property"`
	File   string `json:"file"`
	Line   int    `json:"line"`             // of the client if the property is absent
	Reason string `json:"reason,omitempty"` // why it was not compared
}

// Compare finds the client in Authelia's configuration and compares it, property by property, with what [Block] prints
// for the options. The files may hold a whole configuration, a list of clients or one client. A list differs by what it
// lacks. The digest is verified with the client key. An error is a *check.Error: a file is not YAML, or does not hold
// exactly one such client.
func Compare(o Options, files ...File) (Comparison, error) {
	c := &comparer{Options: o, clean: check.NewCleaner(o.Login.ClientKey)}
	if err := c.find(files); err != nil {
		return Comparison{}, err
	}
	wanted, err := blockNode(o)
	if err != nil {
		return Comparison{}, err
	}
	for i := 0; i+1 < len(wanted.Content); i += 2 {
		c.compare(wanted.Content[i].Value, wanted.Content[i+1])
	}
	c.compareProvider()
	c.keepRest()
	return c.result, nil
}

type comparer struct {
	Options
	clean    *check.Cleaner
	provider []provider           // of each file
	own      map[string]yaml.Node // the client's properties that are not yet compared
	result   Comparison
}

// provider is what the comparison reads of a configuration beside the client.
type provider struct {
	file              string
	IdentityProviders struct {
		OIDC struct {
			RequirePAR     yaml.Node                       `yaml:"require_pushed_authorization_requests"`
			ClaimsPolicies map[string]map[string]yaml.Node `yaml:"claims_policies"`
			Clients        yaml.Node                       `yaml:"clients"`
		} `yaml:"oidc"`
	} `yaml:"identity_providers"`
}

// blockNode returns the client that Block prints. Its digest is a placeholder.
func blockNode(o Options) (*yaml.Node, error) {
	o.Digest = "placeholder"
	text, err := Block(o)
	if err != nil {
		return nil, err
	}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, check.Errorf(check.Internal, "read the client block").Because(err)
	}
	return clients(&root)[0].node, nil
}

// formerNames maps the properties that Authelia 4.38 renamed to their former names. Later versions still read the former
// names (internal/configuration/deprecation.go).
var formerNames = map[string]string{
	"client_id":                    "id",
	"client_name":                  "description",
	"client_secret":                "secret",
	"userinfo_signed_response_alg": "userinfo_signing_algorithm",
}

// find reads the files and finds the one client.
func (c *comparer) find(files []File) error {
	var found []candidate
	var places, others []string
	for _, file := range files {
		var root yaml.Node
		if err := yaml.Unmarshal(file.Data, &root); err != nil {
			return check.Errorf(check.Config, "%s is not YAML: %s", file.Name, c.clean.Clean(err.Error())).
				Try(check.Hint("correct that line"),
					check.Hint("if the file has templates, check the output of `authelia config template`"))
		}
		p := provider{file: file.Name}
		_ = root.Decode(&p) // what has another form, such as a client alone, is absent
		c.provider = append(c.provider, p)
		for _, client := range clients(&root) {
			if client.id != c.Login.ClientID {
				others = append(others, c.clean.Clean(client.id))
				continue
			}
			found = append(found, client)
			places = append(places, fmt.Sprintf("%s:%d", file.Name, client.node.Line))
			c.result = Comparison{
				Client: client.id, File: file.Name, Line: client.node.Line,
				Differences: []Difference{}, Kept: []Property{}, Unseen: []Property{},
			}
		}
	}
	switch len(found) {
	case 0:
		has := ""
		if len(others) > 0 {
			has = ", only " + strings.Join(others[:min(len(others), 10)], ", ")
		}
		return check.Errorf(check.Config, "%s has no client %s%s", names(files), c.Login.ClientID, has).
			Try(check.Run("authelia").With("it prints the client"),
				check.Set("realm.client_id", "").With("if the client has another id"))
	case 1:
	default:
		return check.Errorf(check.Config, "client %s is defined %d times: %s",
			c.Login.ClientID, len(found), strings.Join(places, ", ")).Try(check.Hint("keep one of them"))
	}
	if err := found[0].node.Decode(&c.own); err != nil {
		return check.Errorf(check.Config, "%s: authelia cannot read this client: %s", places[0], c.clean.Clean(err.Error())).
			Try(check.Hint("correct that line"))
	}
	for now, former := range formerNames {
		if value, ok := c.own[former]; ok {
			delete(c.own, former)
			if _, both := c.own[now]; !both {
				c.own[now] = value
			}
		}
	}
	return nil
}

func names(files []File) string {
	var names []string
	for _, f := range files {
		names = append(names, f.Name)
	}
	return strings.Join(names, ", ")
}

// candidate is a client in a file.
type candidate struct {
	id   string
	node *yaml.Node
}

// clients returns every mapping in the document that looks like a client.
func clients(n *yaml.Node) []candidate {
	if n.Kind == yaml.MappingNode {
		has := map[string]string{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			has[n.Content[i].Value] = n.Content[i+1].Value
		}
		if id, ok := has["client_id"]; ok {
			return []candidate{{id, n}}
		}
		if _, ok := has["redirect_uris"]; ok {
			return []candidate{{has["id"], n}}
		}
	}
	var found []candidate
	for _, child := range n.Content {
		found = append(found, clients(child)...)
	}
	return found
}

// defaults are the values that Authelia assumes for absent properties, if Proxmox works with them.
var defaults = map[string]string{
	"public":                       "false",
	"pkce_challenge_method":        "S256", // any method
	"scopes":                       "openid,groups,profile,email",
	"response_types":               "code",
	"grant_types":                  "authorization_code",
	"userinfo_signed_response_alg": "none",
	"token_endpoint_auth_method":   "client_secret_basic",
}

// free are properties of the block that the administrator of Authelia may choose: a login through Proxmox works with any
// value.
var free = []string{"client_name", "authorization_policy", "require_pkce", "access_token_signed_response_alg"}

// demands lists properties that the block lacks and that can break every login, with the values that work. The first value
// is the one to set. A property without values must be removed.
var demands = map[string][]string{
	"require_pushed_authorization_requests": {"false"},
	"id_token_signed_response_alg": {
		"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "HS256", "HS384", "HS512", "ES256", "ES384",
	},
	"id_token_encrypted_response_alg":    {"none"},
	"id_token_encrypted_response_key_id": {},
	"userinfo_signed_response_key_id":    {},
	"userinfo_encrypted_response_alg":    {"none"},
	"userinfo_encrypted_response_key_id": {},
}

// compare compares one property of the block.
func (c *comparer) compare(name string, wanted *yaml.Node) {
	value, present := c.take(name)
	property := c.property(name, value)
	if !present {
		value = yaml.Node{Kind: yaml.ScalarNode, Value: defaults[name]}
	}
	switch {
	case filled(value):
		c.unseen(property, "the file does not hold the value itself")
	case name == "client_secret":
		c.compareSecret(property, value.Value)
	case name == "claims_policy":
		c.compareClaims(property, value.Value)
	case slices.Contains(free, name):
		if present && !strings.EqualFold(value.Value, wanted.Value) {
			c.result.Kept = append(c.result.Kept, property)
		}
	case wanted.Kind == yaml.SequenceNode:
		c.compareList(property, words(value), words(*wanted))
	case !strings.EqualFold(value.Value, wanted.Value):
		c.differ(Difference{Property: property, Found: value.Value, Wanted: wanted.Value})
	}
}

func (c *comparer) compareList(property Property, found, wanted []string) {
	missing := slices.DeleteFunc(wanted, func(w string) bool {
		return slices.ContainsFunc(found, func(f string) bool { return f == w || w == LoginRedirectURI && loopback(f) })
	})
	if len(missing) > 0 {
		c.differ(Difference{Property: property, Found: strings.Join(found, ", "), Missing: missing})
	}
}

// loopback tells whether a redirect URI differs from [LoginRedirectURI] at most in its port.
func loopback(uri string) bool {
	rest, ok := strings.CutPrefix(uri, "http://127.0.0.1")
	port, ok2 := strings.CutSuffix(rest, "/callback")
	return ok && ok2 && strings.Trim(port, ":0123456789") == ""
}

func (c *comparer) compareSecret(property Property, found string) {
	key := c.Login.ClientKey
	c.clean.Hold(check.NewSecret(found), check.NewSecret(strings.TrimPrefix(found, plaintextPrefix)))
	const wanted = "a digest of the realm's client key"
	switch {
	case found == "":
		c.differ(Difference{Property: property, Wanted: wanted})
		return
	case !key.IsSet():
		c.unseen(property, "the client key is not configured")
		return
	}
	ok, err := Verify(found, key)
	switch {
	case err != nil:
		c.differ(Difference{Property: property, Found: err.Error(), Wanted: wanted})
	case !ok:
		c.differ(Difference{Property: property, Found: "the secret of another key", Wanted: wanted})
	}
}

// compareClaims looks for the claims in the client's claims policy, whatever that policy is called.
func (c *comparer) compareClaims(property Property, policy string) {
	if policy == "" {
		c.differ(Difference{Property: property, Wanted: "proxmox"})
		policy = "proxmox"
	}
	property.Name = "claims_policies." + policy + ".id_token"
	seen := false
	for _, p := range c.provider {
		oidc := p.IdentityProviders.OIDC
		seen = seen || oidc.Clients.Kind != 0
		if defined, ok := oidc.ClaimsPolicies[policy]; ok {
			idToken := defined["id_token"]
			if idToken.Line > 0 {
				property.File, property.Line = p.file, idToken.Line
			}
			c.compareList(property, words(idToken), c.IDTokenClaims())
			return
		}
	}
	if !seen {
		c.unseen(property, "the file holds the client alone")
		return
	}
	c.compareList(property, nil, c.IDTokenClaims())
}

// compareProvider compares what applies to all clients.
func (c *comparer) compareProvider() {
	for _, p := range c.provider {
		if par := p.IdentityProviders.OIDC.RequirePAR; strings.EqualFold(par.Value, "true") {
			property := Property{Name: "oidc.require_pushed_authorization_requests", File: p.file, Line: par.Line}
			c.differ(Difference{Property: property, Found: par.Value, Wanted: "false"})
		}
	}
}

// keepRest compares the properties that the block does not set.
func (c *comparer) keepRest() {
	for name := range c.own {
		value, present := c.take(name)
		property := c.property(name, value)
		works, known := demands[name]
		if !known || !present || value.Value == "" || filled(value) ||
			slices.ContainsFunc(works, func(w string) bool { return strings.EqualFold(w, value.Value) }) {
			c.result.Kept = append(c.result.Kept, property)
			continue
		}
		c.differ(Difference{Property: property, Found: value.Value, Wanted: append(works, "")[0]})
	}
	slices.SortFunc(c.result.Kept, func(a, b Property) int { return cmp.Or(a.Line-b.Line, strings.Compare(a.Name, b.Name)) })
	slices.SortStableFunc(c.result.Differences, func(a, b Difference) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line)
	})
}

// take returns a property of the client and marks it as compared. A property without a value is absent.
func (c *comparer) take(name string) (value yaml.Node, present bool) {
	value, present = c.own[name]
	delete(c.own, name)
	if value.Kind == yaml.AliasNode {
		value = *value.Alias
	}
	return value, present && value.Tag != "!!null"
}

func (c *comparer) property(name string, value yaml.Node) Property {
	return Property{Name: name, File: c.result.File, Line: cmp.Or(value.Line, c.result.Line)}
}

func (c *comparer) differ(d Difference) {
	d.Found = c.clean.Clean(d.Found)
	c.result.Differences = append(c.result.Differences, d)
}

func (c *comparer) unseen(p Property, reason string) {
	p.Reason = reason
	c.result.Unseen = append(c.result.Unseen, p)
}

// filled tells whether Authelia's file filters (`template`, `expand-env`) produce a value or a part of it.
func filled(n yaml.Node) bool {
	return n.Kind == yaml.MappingNode || strings.Contains(n.Value, "{{") || strings.Contains(n.Value, "${") ||
		slices.ContainsFunc(n.Content, func(item *yaml.Node) bool { return filled(*item) })
}

// words returns the items of a list. Authelia splits a scalar at its commas.
func words(n yaml.Node) []string {
	if n.Kind == yaml.AliasNode {
		n = *n.Alias
	}
	if n.Kind == yaml.ScalarNode {
		return strings.FieldsFunc(n.Value, func(r rune) bool { return r == ',' })
	}
	var items []string
	for _, item := range n.Content {
		items = append(items, item.Value)
	}
	return items
}
