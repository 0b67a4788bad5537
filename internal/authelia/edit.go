package authelia

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
)

// RefusedError says why a configuration is not edited: nobody could prove that the result holds what is wanted and nothing else.
type RefusedError struct {
	Line     int // 0: it concerns the whole file
	Reason   string
	NoOpenID bool // the file has no OpenID part at all
}

// Error implements error. The text holds no value of the file.
func (r *RefusedError) Error() string {
	if r.Line > 0 {
		return fmt.Sprintf("line %d: %s", r.Line, r.Reason)
	}
	return r.Reason
}

func refuse(line int, format string, args ...any) error {
	return &RefusedError{Line: line, Reason: fmt.Sprintf(format, args...)}
}

// Put returns Authelia's configuration with the client of the options. It adds the client behind the others, or gives a client that
// is there the digest, as [Rekey] does. Other differences of such a client stay. No other byte changes: the result is parsed again
// and must equal the former configuration otherwise. Every other case is a *[RefusedError]; options that make no client are a
// *check.Error.
func Put(file []byte, o Options) ([]byte, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	l, client, err := open(file, o.Login.ClientID)
	switch {
	case err != nil:
		return nil, err
	case client == nil:
		return l.add(o)
	}
	return l.rekey(client, o)
}

// Rekey returns Authelia's configuration with the digest for a client that is there, if its secret is not that of the client
// key. The errors are those of [Put].
func Rekey(file []byte, o Options) ([]byte, error) {
	l, client, err := open(file, o.Login.ClientID)
	switch {
	case err != nil:
		return nil, err
	case client == nil:
		return nil, refuse(l.clients.Line, "the list has no client %s", o.Login.ClientID)
	}
	return l.rekey(client, o)
}

// open reads a configuration that can be edited, and finds a client in it; nil if it has none of that id.
func open(file []byte, clientID string) (*layout, *yaml.Node, error) {
	l, err := editable(file)
	if err != nil {
		return nil, nil, err
	}
	client, err := l.client(clientID)
	return l, client, err
}

// add puts the printed client behind the others. The proof finds the place: the first line behind the clients where it holds.
// Comments that follow the last client at once, and deeper than its dash, are still about that client.
func (l *layout) add(o Options) ([]byte, error) {
	o.Whole = false
	block, err := Block(o)
	if err != nil {
		return nil, err
	}
	if err := l.definesClaims(o); err != nil {
		return nil, err
	}
	printed, _, err := readYAML(block)
	if err != nil {
		return nil, check.Errorf(check.Internal, "read the client block").Because(err)
	}
	dash := l.clients.Column - 1
	item := indent(string(block), dash, max(l.clients.Content[0].Column-l.clients.Column, 2))
	last, next := l.clients.Line, len(l.lines)
	for n := range nodes(l.clients) {
		last = max(last, n.Line)
	}
	if behind := l.behind(); behind > 0 {
		next = behind - 1
	}
	for ; last <= next; last++ {
		if last < next && depthOfComment(l.lines[last]) > dash {
			continue
		}
		after := []byte(l.insert(last, item))
		if err = l.provesAdded(after, printed[0].Content[0]); err == nil {
			return after, nil
		}
	}
	return nil, err
}

// rekey gives a client the digest, unless its secret is that of the client key.
func (l *layout) rekey(client *yaml.Node, o Options) ([]byte, error) {
	held := get(client, "client_secret")
	if held.value == nil {
		held = get(client, formerNames["client_secret"])
	}
	if held.value != nil && !plain(held.value.Value) {
		if ok, err := Verify(held.value.Value, o.Login.ClientKey); err == nil && ok {
			return []byte(l.text), nil
		}
	}
	key, secret, err := secretOf(client)
	switch {
	case err != nil:
		return nil, err
	case secret.Value == o.Digest:
		return []byte(l.text), nil
	}
	from, to, err := l.token(secret)
	if err != nil {
		return nil, err
	}
	after := []byte(l.text[:from] + "'" + o.Digest + "'" + l.text[to:])
	at := slices.Index(l.clients.Content, client)
	return after, l.proves(after, secret.Line, "the digest", func(now *layout) bool {
		if at < 0 || at >= len(now.clients.Content) {
			return false
		}
		digest := pair(now.clients.Content[at], key)
		if digest == nil || !same(digest, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: o.Digest, Style: yaml.SingleQuotedStyle}) {
			return false
		}
		*digest = *secret
		return true
	})
}

// layout is a configuration that can be edited: its text, its YAML and its list of clients.
type layout struct {
	text    string
	lines   []string // with their line ends
	root    *yaml.Node
	clients *yaml.Node // a block sequence that is not empty
}

// editable reads a configuration. It refuses what makes the YAML mean something else than it shows.
func editable(file []byte) (*layout, error) {
	text := string(file)
	if bytes.ContainsRune(file, 0) || !utf8.Valid(file) {
		return nil, refuse(0, "the file is not UTF-8")
	}
	for _, a := range actions(text) {
		switch {
		case a.control:
			return nil, refuse(a.line, "a template decides here which parts of the file count")
		case a.trims:
			return nil, refuse(a.line, "a template removes line feeds here")
		}
	}
	roots, second, err := readYAML(file)
	var syntax *config.SyntaxError
	if errors.As(err, &syntax) {
		return nil, refuse(syntax.Line, "the file is not YAML: %s", syntax.Reason)
	}
	root := roots[0]
	inside := lineOf(root, func(n *yaml.Node) bool {
		return n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "identity_providers:") || pair(n, "identity_providers") != nil
	})
	switch {
	case root == nil:
		return nil, &RefusedError{Reason: "the file is empty", NoOpenID: true}
	case pair(root, "identity_providers") == nil && inside > 0:
		return nil, refuse(inside, "the configuration is a part of another file here")
	case second > 0:
		return nil, refuse(second, "a second document begins here")
	}
	if pair(root, "sops") != nil {
		return nil, refuse(pair(root, "sops").Line, "the file is encrypted by SOPS: edit it with sops")
	}
	if line := expansion(root); line > 0 {
		return nil, refuse(line, "the file goes through the filter expand-env: every $ of a digest would have to be doubled")
	}
	if twice := doubled(root); len(twice) > 0 {
		return nil, refuse(twice[0].second.Line, "a key is here a second time, first in line %d", twice[0].first.Line)
	}
	clients, err := clientsOf(root)
	return &layout{text: text, lines: splitLines(text), root: root, clients: clients}, err
}

// clientsOf walks to the list of clients. It follows no alias, and passes no anchor: what is below could be used elsewhere as
// well.
func clientsOf(node *yaml.Node) (*yaml.Node, error) {
	for _, name := range []string{"identity_providers", "oidc", "clients"} {
		next := pair(node, name)
		switch {
		case next == nil && name != "clients":
			return nil, &RefusedError{Reason: "the file has no identity_providers.oidc", NoOpenID: true}
		case next == nil:
			return nil, refuse(node.Line, "no %s here", name)
		case next.Anchor != "" || next.Kind == yaml.AliasNode:
			return nil, refuse(next.Line, "%s has an anchor or is an alias", name)
		case name != "clients" && next.Kind != yaml.MappingNode:
			return nil, refuse(next.Line, "%s is no mapping", name)
		}
		node = next
	}
	switch {
	case node.Kind != yaml.SequenceNode:
		return nil, refuse(node.Line, "clients is no list")
	case len(node.Content) == 0:
		return nil, refuse(node.Line, "the list of clients is empty")
	case node.Style&yaml.FlowStyle != 0:
		return nil, refuse(node.Line, "the list of clients is written in brackets")
	case node.Style&yaml.TaggedStyle != 0:
		return nil, refuse(node.Line, "the list of clients has a tag")
	}
	return node, nil
}

// client returns the client of an id, or nil. An id that a template makes could be any.
func (l *layout) client(id string) (found *yaml.Node, err error) {
	for _, item := range l.clients.Content {
		client := target(item)
		name := clientIDOf(client)
		switch {
		case name != nil && templated(name):
			err = refuse(name.Line, "the id of this client comes from a template: it may be %s", id)
		case name == nil || name.Value != id:
		case found != nil:
			return nil, refuse(name.Line, "client %s is here a second time, first in line %d", id, found.Line)
		case item.Kind == yaml.AliasNode || client.Anchor != "":
			return nil, refuse(item.Line, "client %s has an anchor or is an alias", id)
		default:
			found = client
		}
	}
	if found != nil {
		return found, nil
	}
	return nil, err
}

// clientIDOf returns the node of a client's id, or nil.
func clientIDOf(client *yaml.Node) *yaml.Node {
	if id := get(client, "client_id").value; id != nil {
		return id
	}
	return get(client, "id").value
}

// templated tells whether a template or the environment makes a value or a part of it. An action without quotes is a
// mapping in YAML.
func templated(n *yaml.Node) bool {
	return n.Kind == yaml.MappingNode || strings.Contains(n.Value, "{{") || strings.ContainsRune(n.Value, filler)
}

// definesClaims refuses a configuration that lacks the claims policy of the new client.
func (l *layout) definesClaims(o Options) error {
	if len(o.IDTokenClaims) == 0 {
		return nil
	}
	oidc := pair(pair(l.root, "identity_providers"), "oidc")
	defined := list(get(get(get(oidc, "claims_policies").value, claimsPolicy).value, "id_token").value)
	for _, claim := range o.IDTokenClaims {
		if !slices.Contains(defined, claim) {
			return refuse(oidc.Line, "the client needs a claims policy %s that puts %s into the ID token",
				claimsPolicy, strings.Join(o.IDTokenClaims, " and "))
		}
	}
	return nil
}

// secretOf returns the one key of a client that holds its secret, and the value.
func secretOf(client *yaml.Node) (key string, value *yaml.Node, err error) {
	for _, name := range []string{"client_secret", "secret"} {
		switch v := pair(client, name); {
		case v == nil:
		case value != nil:
			return "", nil, refuse(v.Line, "the client has client_secret and secret")
		default:
			key, value = name, v
		}
	}
	switch {
	case value == nil:
		return "", nil, refuse(client.Line, "the client has no client_secret of its own")
	case value.Kind == yaml.AliasNode || value.Anchor != "":
		return "", nil, refuse(value.Line, "%s has an anchor or is an alias", key)
	case templated(value):
		return "", nil, refuse(value.Line, "%s comes from a template: replace the digest where the template reads it", key)
	case value.Kind != yaml.ScalarNode || value.Style&yaml.TaggedStyle != 0 || value.Tag == "!!null":
		return "", nil, refuse(value.Line, "%s is no text", key)
	}
	return key, value, nil
}
