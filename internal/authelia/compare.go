package authelia

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"proxmox-realm/internal/check"
)

// Comparison is how a client in Authelia's configuration differs from the client that [Block] prints.
type Comparison struct {
	Client      string       `json:"client"` // its id
	File        string       `json:"file"`
	Line        int          `json:"line"`
	Differences []Difference `json:"differences"`
	Kept        []Property   `json:"kept"`     // set in the file only; a login does not depend on them
	Unseen      []Property   `json:"unseen"`   // not compared
	Warnings    []Property   `json:"warnings"` // what may keep Authelia from starting, or should be changed one day
}

// Difference is what has to change: else Authelia does not start, or logins fail.
type Difference struct {
	Property
	Found   string   `json:"found"`             // "" if it is absent; never a secret
	Wanted  string   `json:"wanted,omitempty"`  // "" if Missing says what is wanted, or if the property must be removed
	Missing []string `json:"missing,omitempty"` // what a list lacks
}

// Property is a property of the client in a file, or another part of Authelia's configuration.
type Property struct {
	Name   string `json:"property"` // as the file calls it
	File   string `json:"file"`
	Line   int    `json:"line"`             // of the client if the property is absent
	Reason string `json:"reason,omitempty"` // why it was not compared, or what the warning is
	own    bool   // of the client itself
}

// Compare finds the client in Authelia's configuration and compares it, property by property, with what [Block] prints
// for the options. The files stand in the order in which Authelia reads them. They may hold a whole configuration, a list
// of clients or one client. It may be text in a manifest of Kubernetes, or stand below a key in the values of Helm. A list differs
// by what it lacks. The digest is verified with the client key. An error is a *check.Error: a file is not YAML, or does
// not hold exactly one such client.
func Compare(o Options, files ...File) (Comparison, error) {
	c := &comparer{Options: o, clean: check.NewCleaner()}
	c.hold(o.Login.ClientKey.Reveal())
	c.result = Comparison{Differences: []Difference{}, Kept: []Property{}, Unseen: []Property{}, Warnings: []Property{}}
	for _, file := range files {
		sources, err := read(file)
		if err != nil {
			return Comparison{}, err
		}
		c.sources = append(c.sources, sources...)
	}
	wanted, err := blockNode(o)
	if err != nil {
		return Comparison{}, err
	}
	client, err := c.find()
	if err != nil {
		return Comparison{}, err
	}
	c.take(client)
	for key, value := range pairs(wanted) {
		c.compare(key.Value, value)
	}
	c.keepRest()
	c.startable()
	c.sort()
	return c.result, nil
}

type comparer struct {
	Options
	clean   *check.Cleaner
	held    []string // secrets that are masked only where they are a whole value, because they are short
	sources []*source
	in      registry         // that holds the client
	astray  string           // where a list of clients stands that Authelia does not read
	own     map[string]field // the client's properties that are not yet compared, by their names of today
	result  Comparison
}

// blockNode returns the client that Block prints. Its digest is a placeholder.
func blockNode(o Options) (*yaml.Node, error) {
	o.Digest, o.Whole = "placeholder", false
	text, err := Block(o)
	if err != nil {
		return nil, err
	}
	roots, _, err := readYAML(text)
	if err != nil {
		return nil, check.Errorf(check.Internal, "read the client block").Because(err)
	}
	return roots[0].Content[0], nil
}

// take reads the properties of the client.
func (c *comparer) take(client *yaml.Node) {
	c.own = map[string]field{}
	for _, f := range fields(client) {
		c.own[f.name] = f
	}
	for now, former := range formerNames {
		if value, ok := c.own[former]; ok {
			delete(c.own, former)
			if _, both := c.own[now]; !both {
				c.own[now] = value
			}
		}
	}
	if line := c.in.controlled(1, c.in.next[client]); line > 0 {
		c.unseen(c.in.at(line, "(template)"),
			"conditions and loops of templates: compared as if all that they hold were there")
	}
}

// defaults are the values that Authelia assumes for absent and empty properties, if Proxmox works with them.
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
// value that Authelia accepts.
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
	f, present := c.own[name]
	delete(c.own, name)
	property := c.property(cmp.Or(f.name, name), f)
	items := list(f.value)
	if present && len(items) == 0 && !c.in.filled(f) { // Authelia takes the default
		present = false
	}
	if !present {
		items = list(&yaml.Node{Kind: yaml.ScalarNode, Value: defaults[name]})
	}
	value := strings.Join(items, ",")
	switch {
	case name == "client_secret":
		c.compareSecret(property, f)
	case wanted.Kind == yaml.SequenceNode:
		c.compareList(property, f, items, list(wanted))
	case present && c.hidden(property, f):
	case name == "claims_policy":
		c.compareClaims(property, value)
	case slices.Contains(free, name):
		if present && c.acceptable(name, property, f) && !equal(value, wanted.Value) {
			c.result.Kept = append(c.result.Kept, property)
		}
	case !equal(value, wanted.Value):
		c.differ(property, value, wanted.Value)
	}
}

// hidden notes a value that the file does not hold itself.
func (c *comparer) hidden(property Property, f field) bool {
	switch {
	case f.twice && c.in.controlled(c.result.Line, c.in.next[f.value]) > 0:
		c.unseen(property, "a template chooses between several values")
	case c.in.filled(f):
		c.unseen(property, c.in.templateReason(f))
	case namesVariable(f.value.Value):
		c.unseen(property, "it comes from the environment")
	case encrypted(f.value):
		c.unseen(property, "it is encrypted")
	default:
		return false
	}
	return true
}

// encrypted tells whether SOPS or Ansible has encrypted a value.
func encrypted(n *yaml.Node) bool { return strings.HasPrefix(n.Value, "ENC[") || n.Tag == "!vault" }

// templateReason says who makes a value.
func (s *source) templateReason(f field) string {
	for _, a := range s.templates {
		if a.foreign && a.line >= f.line && a.line <= s.next[f.value] {
			return "it comes from a template of Ansible, Helm or the like"
		}
	}
	return "it comes from a template"
}

// equal compares values as Authelia reads them: truth values have several forms.
func equal(found, wanted string) bool {
	if found == wanted {
		return true
	}
	a, errA := strconv.ParseBool(found)
	b, errB := strconv.ParseBool(wanted)
	return errA == nil && errB == nil && a == b
}

// compareList compares what a list must have. Items that templates make may be what is missing.
func (c *comparer) compareList(property Property, f field, found, wanted []string) {
	var missing, open []string
	for _, w := range wanted {
		switch {
		case slices.ContainsFunc(found, func(item string) bool { return item == w || w == LoginRedirectURI && loopback().MatchString(item) }):
		case f.value != nil && c.in.filled(f) && mayMake(found, w):
			open = append(open, w)
		case w == LoginRedirectURI && !c.LoginRequired:
			c.warn(property, "lacks "+w+", which only `proxmox-realm login` needs")
		default:
			missing = append(missing, w)
		}
	}
	if len(open) > 0 {
		c.unseen(property, c.in.templateReason(f)+", which may make: "+strings.Join(open, ", "))
	}
	if len(missing) > 0 {
		c.lacks(property, found, missing...)
	}
}

var fillers = check.Pattern(string(filler) + "+")

// mayMake tells whether one of the items that templates make could be a text. No item at all: lines of templates stand in
// place of the list.
func mayMake(items []string, wanted string) bool {
	made := false
	for _, item := range items {
		parts := fillers().Split(item, -1)
		if len(parts) == 1 {
			continue
		}
		made = true
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		if regexp.MustCompile("^" + strings.Join(parts, ".*") + "$").MatchString(wanted) {
			return true
		}
	}
	return !made
}

// loopback matches redirect URIs that differ from [LoginRedirectURI] at most in their port.
var loopback = check.Pattern(`^http://127\.0\.0\.1(:[0-9]*)?/callback$`)

// compareClaims looks for the claims in the client's claims policy, whatever that policy is called.
func (c *comparer) compareClaims(property Property, policy string) {
	if policy == "" {
		c.differ(property, "", claimsPolicy)
		policy = claimsPolicy
	}
	property.Name = "claims_policies." + c.clean.Clean(policy) + ".id_token"
	if c.in.oidc() == nil {
		c.unseen(property, "the file holds the client alone")
		return
	}
	for _, s := range c.sources {
		defined := get(get(s.oidc(), "claims_policies").value, policy)
		if defined.value != nil {
			idToken := get(defined.value, "id_token")
			property.File, property.Line = s.file, cmp.Or(idToken.line, defined.line, property.Line)
			c.compareList(property, idToken, list(idToken.value), c.IDTokenClaims)
			return
		}
	}
	c.compareList(property, field{}, nil, c.IDTokenClaims)
}

// keepRest compares the properties that the block does not set.
func (c *comparer) keepRest() {
	for name, f := range c.own {
		property := c.property(f.name, f)
		value := strings.Join(list(f.value), ",")
		works, known := demands[name]
		switch {
		case c.hidden(property, f):
		case !c.acceptable(name, property, f):
		case known && value != "" && !slices.ContainsFunc(works, func(w string) bool { return equal(value, w) }):
			c.differ(property, value, append(works, "")[0])
		case value != "":
			c.result.Kept = append(c.result.Kept, property)
		}
	}
}

func (c *comparer) sort() {
	byLine := func(a, b Property) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line, strings.Compare(a.Name, b.Name))
	}
	slices.SortFunc(c.result.Kept, byLine)
	slices.SortStableFunc(c.result.Unseen, byLine)
	slices.SortStableFunc(c.result.Warnings, byLine)
	slices.SortStableFunc(c.result.Differences, func(a, b Difference) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line)
	})
}

func (c *comparer) property(name string, f field) Property {
	return Property{Name: c.clean.Clean(name), File: c.in.file, Line: cmp.Or(f.line, c.result.Line), own: true}
}

// at returns a part of a source by its name.
func (s *source) at(line int, name string) Property {
	return Property{Name: name, File: s.file, Line: line}
}

// differ notes a difference. found and wanted are "" for what is absent, and for what must be removed.
func (c *comparer) differ(p Property, found, wanted string) {
	c.result.Differences = append(c.result.Differences, Difference{Property: p, Found: c.shown(found), Wanted: wanted})
}

// lacks notes a list that lacks something.
func (c *comparer) lacks(p Property, found []string, missing ...string) {
	var shown []string
	for _, item := range found {
		shown = append(shown, c.shown(item))
	}
	c.result.Differences = append(c.result.Differences, Difference{Property: p, Found: strings.Join(shown, ", "), Missing: missing})
}

func (c *comparer) unseen(p Property, reason string) {
	p.Reason = reason
	c.result.Unseen = append(c.result.Unseen, p)
}

func (c *comparer) warn(p Property, text string) {
	p.Reason = text
	c.result.Warnings = append(c.result.Warnings, p)
}

// minMasked is the least length of a secret that is masked inside other values. A shorter one is often a word, such as
// `secret`, and masking it in a host name would tell it.
const minMasked = 12

// hold masks a secret in what is shown.
func (c *comparer) hold(secret string) {
	switch {
	case len(secret) >= minMasked:
		c.clean.Hold(check.NewSecret(secret))
	case secret != "":
		c.held = append(c.held, secret)
	}
}

// shown returns a value of a file as it is shown. Words of Authelia are shown whatever the secrets are.
func (c *comparer) shown(value string) string {
	switch {
	case ownWords()[value]:
		return value
	case slices.Contains(c.held, value):
		return check.Mask
	}
	return c.clean.Clean(strings.ReplaceAll(fillers().ReplaceAllString(value, "{{…}}"), "\n", " "))
}

// list returns the items of a list. Authelia splits a text at its commas. An item that a template makes has a filler.
func list(n *yaml.Node) (items []string) {
	n = target(n)
	switch {
	case n == nil || n.Tag == "!!null":
		return nil
	case n.Kind == yaml.ScalarNode:
		return strings.FieldsFunc(n.Value, func(r rune) bool { return r == ',' })
	case n.Kind == yaml.MappingNode:
		return []string{fmt.Sprintf("(a mapping of %d keys)", len(n.Content)/2)}
	}
	for _, item := range n.Content {
		if item = target(item); item != nil && item.Kind == yaml.ScalarNode {
			items = append(items, item.Value)
		}
	}
	return items
}
