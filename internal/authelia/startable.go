package authelia

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"proxmox-realm/internal/config"
)

// startable looks for what keeps Authelia 4.39 from starting: in the form of the files, in the OpenID part and in the other
// clients. Helm's values are not judged: its chart turns them into a configuration of another form.
func (c *comparer) startable() {
	parts := slices.DeleteFunc(slices.Clone(c.sources), func(s *source) bool { return s.root == nil || s.form == helm })
	for _, s := range parts {
		if s.form == unread {
			continue
		}
		c.doubled(s)
		if s.second > 0 && !slices.ContainsFunc(c.result.Differences, func(d Difference) bool { return d.File == s.file && d.Name == "clients" }) {
			c.warn(s.at(s.second, "(document)"), "a second document begins here, which Authelia does not read")
		}
		c.unknownAtRoot(s)
		if oidc := s.oidc(); oidc != nil && oidc.Kind == yaml.MappingNode {
			c.provider(s, oidc)
		}
	}
	if c.in.path == rightPlace && c.in.form != helm {
		c.otherClients()
		c.openID(parts)
	}
}

// doubled reports keys that a mapping has twice, except in different branches of a template.
func (c *comparer) doubled(s *source) {
	for _, key := range doubled(s.root) {
		if s.controlled(key.first.Line, key.second.Line) == 0 {
			c.differ(s.at(key.second.Line, c.clean.Clean(key.second.Value)), fmt.Sprintf("a second time, first in line %d", key.first.Line), "once")
		}
	}
}

// unknown reports keys of a mapping that Authelia does not know.
func (c *comparer) unknown(s *source, mapping *yaml.Node, prefix string, known []string) {
	for _, f := range fields(mapping) {
		whole := prefix + f.name
		if slices.Contains(known, f.name) || strings.ContainsRune(f.name, filler) ||
			c.astray == whole || strings.HasPrefix(c.astray, whole+".") {
			continue
		}
		line := f.line
		if f.key != nil {
			line = f.key.Line
		}
		wanted := config.Nearest(f.name, known)
		if get(mapping, wanted).key != nil {
			wanted = ""
		}
		c.differ(s.at(line, prefix+c.clean.Clean(f.name)), "a key that Authelia 4.39 does not know", wanted)
	}
}

// unknownAtRoot looks at the keys above the OpenID part.
func (c *comparer) unknownAtRoot(s *source) {
	providers := get(s.root, "identity_providers")
	if s.root.Kind != yaml.MappingNode || providers.value == nil && c.astray == "" {
		return // no configuration of Authelia
	}
	c.unknown(s, s.root, "", append([]string{"sops"}, rootKeys...)) // sops goes when the file is decrypted
	if providers.value != nil {
		c.unknown(s, providers.value, "identity_providers.", []string{"oidc"})
	}
}

// provider looks at the OpenID part without its clients.
func (c *comparer) provider(s *source, oidc *yaml.Node) {
	c.unknown(s, oidc, "oidc.", providerKeys)
	for _, name := range []string{"cors", "lifespans"} {
		f := get(oidc, name)
		if f.value == nil || s.filled(f) {
			continue
		}
		if len(f.value.Content) == 0 {
			c.differ(s.at(f.line, "oidc."+name), "a key without content, which Authelia refuses", "")
		}
		c.unknown(s, f.value, "oidc."+name+".", inner[name])
	}
	for _, f := range fields(get(oidc, "authorization_policies").value) {
		c.named(s, "authorization_policies", f)
		rules := get(f.value, "rules")
		if len(list(rules.value)) == 0 && (rules.value == nil || len(rules.value.Content) == 0) && !s.filled(f) {
			c.differ(s.at(f.line, "authorization_policies."+c.clean.Clean(f.name)), "no rules", "at least one rule")
		} else if rules.value != nil && rules.value.Kind == yaml.SequenceNode {
			for _, rule := range rules.value.Content {
				c.unknown(s, rule, "authorization_policies."+c.clean.Clean(f.name)+".rules.", inner["rules"])
			}
		}
	}
	for _, name := range []string{"claims_policies", "scopes"} {
		for _, f := range fields(get(oidc, name).value) {
			c.named(s, name, f)
		}
	}
	if f := get(oidc, "require_pushed_authorization_requests"); equal(strings.Join(list(f.value), ","), "true") {
		c.differ(s.at(f.line, "oidc.require_pushed_authorization_requests"), "true", "false")
	}
	if f := get(oidc, "enforce_pkce"); f.value != nil && !s.filled(f) && f.value.Value != "" && !namesVariable(f.value.Value) &&
		!slices.Contains([]string{"always", "never", "public_clients_only"}, f.value.Value) {
		c.differ(s.at(f.line, "oidc.enforce_pkce"), f.value.Value, "public_clients_only, always or never")
	}
}

// named reports a name that Authelia does not take for a policy or a scope.
func (c *comparer) named(s *source, of string, f field) {
	if !policyName().MatchString(f.name) && !strings.ContainsRune(f.name, filler) {
		c.differ(s.at(f.line, of+"."+c.clean.Clean(f.name)), "a name that Authelia refuses", "letters and digits, with /_.:~- between them")
	}
}

// otherClients looks at the clients in the same list: one that Authelia refuses keeps it from starting.
func (c *comparer) otherClients() {
	seen := map[string]int{}
	for i, client := range c.in.clients {
		id, at := "", c.in.at(client.Line, fmt.Sprintf("client #%d", i+1))
		node := clientIDOf(client)
		if node != nil && node.Kind == yaml.ScalarNode && !strings.ContainsRune(node.Value, filler) {
			id, at.Name = node.Value, "client "+c.shown(node.Value)
		}
		switch {
		case node == nil && c.in.controlled(client.Line, c.in.next[client]) == 0:
			c.differ(at, "no client_id", "client_id")
		case id == "":
		case seen[id] > 0:
			c.differ(at, fmt.Sprintf("a second time, first in line %d", seen[id]), "once")
		case !isClientID(id) && !namesVariable(id):
			c.differ(at, "an id that Authelia refuses", "at most 100 letters, digits and -._~")
		}
		seen[id] = client.Line
		if id == c.Login.ClientID {
			continue
		}
		for _, f := range fields(client) {
			if !c.in.filled(f) && !encrypted(f.value) && !namesVariable(f.value.Value) {
				property := c.in.at(f.line, at.Name+": "+c.clean.Clean(f.name))
				c.acceptable(today(f.name), property, f)
			}
		}
	}
}

// today returns the present name of a property of a client.
func today(name string) string {
	for now, former := range formerNames {
		if former == name {
			return now
		}
	}
	return name
}

// acceptable reports a property of a client that Authelia refuses, and returns whether it is none.
func (c *comparer) acceptable(name string, property Property, f field) bool {
	if c.in.form == helm || f.value == nil {
		return true
	}
	items := list(f.value)
	value := strings.Join(items, ",")
	if !slices.Contains(clientKeys, name) {
		wanted := config.Nearest(name, clientKeys)
		if _, there := c.own[wanted]; there {
			wanted = ""
		}
		if f.key != nil {
			property.Line = f.key.Line
		}
		c.differ(property, "a key that Authelia 4.39 does not know", wanted)
		return false
	}
	if value == "" {
		return true
	}
	if name == "client_secret" && f.value.Kind == yaml.ScalarNode {
		c.hold(f.value.Value)
		if secret := strings.ReplaceAll(f.value.Value, "$$", "$"); f.value.Tag != "!!str" || !readable(secret) {
			c.differ(property, errNotDigest.Error(), "a digest, in quotes")
			return false
		}
	}
	if defined, where := c.defined(name); where != "" && !slices.Contains(defined, value) {
		c.differ(property, value, oneOf(defined, where))
		return false
	}
	if values, some := accepted[name]; some {
		for _, item := range items {
			if !slices.Contains(values, item) {
				shown := values
				if slices.Equal(values, truths) {
					shown = []string{"true", "false"}
				}
				c.differ(property, value, oneOf(shown, ""))
				return false
			}
		}
	}
	return true
}

// oneOf words a choice.
func oneOf(values []string, where string) string {
	if where != "" {
		values = append(slices.Clone(values), "a name under "+where)
	}
	if len(values) == 1 {
		return values[0]
	}
	return strings.Join(values[:len(values)-1], ", ") + " or " + values[len(values)-1]
}

// defined returns the names that a property of a client may have, and where they are defined. Where a template makes
// definitions, or the files hold clients alone, nothing is known: where is "".
func (c *comparer) defined(property string) (names []string, where string) {
	path := map[string][]string{
		"authorization_policy": {"authorization_policies"}, "claims_policy": {"claims_policies"}, "lifespan": {"lifespans", "custom"},
	}[property]
	if path == nil || c.in.oidc() == nil {
		return nil, ""
	}
	if property == "authorization_policy" {
		names = []string{"one_factor", "two_factor"}
	}
	for _, s := range c.sources {
		f := field{value: s.oidc()}
		for _, name := range path {
			f = get(f.value, name)
		}
		if f.value != nil && s.filled(f) {
			return nil, ""
		}
		for _, policy := range fields(f.value) {
			names = append(names, policy.name)
		}
	}
	return names, strings.Join(path, ".")
}

// openID warns of what the OpenID part needs beside a client. It may also be given in another file or in the environment.
func (c *comparer) openID(parts []*source) {
	const needed = "is missing: Authelia needs it, unless it is given elsewhere; made by: "
	at := Property{File: c.in.file, Line: get(get(c.in.root, "identity_providers").value, "oidc").line}
	var hmac, keys, issuerKey bool
	for _, s := range parts {
		oidc := s.oidc()
		if f := get(oidc, "hmac_secret"); f.value != nil && (f.value.Value != "" || s.filled(f)) {
			hmac = true
			if f.value.Value == placeholder {
				c.warn(s.at(f.line, "oidc.hmac_secret"), "replace the text with the output of: "+commandHMAC)
			}
		}
		if f := get(oidc, "issuer_private_key"); f.value != nil {
			issuerKey = true
		}
		if f := get(oidc, "jwks"); f.value != nil && (len(f.value.Content) > 0 || s.filled(f)) {
			keys = true
			c.keys(s, f)
		}
	}
	if !hmac {
		at.Name = "oidc.hmac_secret"
		c.warn(at, needed+commandHMAC)
	}
	if !keys && !issuerKey {
		at.Name = "oidc.jwks"
		c.warn(at, needed+commandKey)
	}
}

// keys looks for a key that signs with RS256, and for keys that are none.
func (c *comparer) keys(s *source, f field) {
	property := s.at(f.line, "oidc.jwks")
	rs256, unknown := false, s.filled(f)
	var others []string
	for _, item := range f.value.Content {
		c.unknown(s, item, "oidc.jwks.", inner["jwks"])
		key, algorithm := get(item, "key"), get(item, "algorithm")
		switch name := strings.Join(list(algorithm.value), ","); {
		case name == "RS256":
			rs256 = true
		case name != "":
			others = append(others, name)
		case key.value != nil && isEllipticKey(key.value.Value):
			others = append(others, "the algorithm of an elliptic curve")
		default:
			rs256 = true // the default of an RSA key
		}
		if key.value == nil || s.filled(key) {
			continue
		}
		if at := s.at(key.line, "oidc.jwks.key"); strings.TrimSpace(key.value.Value) == placeholder {
			c.warn(at, "replace the text with the private key that this makes: "+commandKey)
		} else if !isKey(key.value.Value) && !namesVariable(key.value.Value) && !encrypted(key.value) {
			c.differ(at, "no key in PEM", "a private key, made by: "+commandKey)
		}
	}
	if !rs256 && !unknown {
		c.lacks(property, others, "a key with the algorithm RS256")
	}
}

// isKey tells whether Authelia may read a text as a key: PEM, or Base64.
func isKey(text string) bool {
	_, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	return err == nil || strings.Contains(text, "-----BEGIN ")
}

// isEllipticKey tells whether a text is a private key of an elliptic curve, which cannot sign with RS256.
func isEllipticKey(text string) bool {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return false
	}
	if block.Type == "EC PRIVATE KEY" {
		return true
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	_, elliptic := key.(*ecdsa.PrivateKey)
	return err == nil && elliptic
}
