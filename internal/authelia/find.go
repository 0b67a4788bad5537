package authelia

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"proxmox-realm/internal/check"
)

// rightPlace is where Authelia reads clients.
const rightPlace = "identity_providers.oidc.clients"

// registry is a list of clients in a source.
type registry struct {
	*source
	path    string // of the list; "" if the file holds the list or the client alone
	list    field
	clients []*yaml.Node
}

func (r registry) place() string { return fmt.Sprintf("%s:%d", r.file, r.list.line) }

// oidc returns the OpenID part of a source, or nil.
func (s *source) oidc() *yaml.Node {
	return get(get(s.root, "identity_providers").value, "oidc").value
}

// registries returns the lists of clients of a source: the one that Authelia reads, and the others.
func (s *source) registries() (right *registry, others []registry) {
	if list := get(s.oidc(), "clients"); list.value != nil {
		list.line = list.key.Line
		right = &registry{s, rightPlace, list, candidates(list.value)}
		if list.value.Kind == yaml.MappingNode {
			right = nil // Authelia reads only a list
		}
	}
	if root := s.root; isClient(root) {
		others = append(others, registry{s, "", field{value: root, line: root.Line}, []*yaml.Node{root}})
		return right, others
	}
	var visit func(n *yaml.Node, path string, line int)
	visit = func(n *yaml.Node, path string, line int) {
		switch {
		case n == nil || right != nil && n == right.list.value:
			return
		case slices.ContainsFunc(n.Content, isClient):
			others = append(others, registry{s, path, field{value: n, line: line}, candidates(n)})
			return
		case n.Kind == yaml.SequenceNode:
			for _, item := range n.Content {
				visit(item, path+"[]", item.Line)
			}
			return
		}
		for key, value := range pairs(n) {
			visit(value, strings.TrimPrefix(path+"."+key.Value, "."), key.Line)
		}
	}
	visit(s.root, "", 1)
	return right, others
}

// isClient tells whether a node looks like a client of Authelia.
func isClient(n *yaml.Node) bool {
	return pair(n, "client_id") != nil || pair(n, "redirect_uris") != nil && pair(n, "id") != nil
}

// candidates returns the clients of a list, or of a mapping that stands in its place.
func candidates(list *yaml.Node) (found []*yaml.Node) {
	if list == nil || list.Kind != yaml.SequenceNode && list.Kind != yaml.MappingNode {
		return nil
	}
	for _, item := range list.Content {
		item = target(item)
		if item != nil && item.Kind == yaml.MappingNode && (list.Kind == yaml.SequenceNode || isClient(item)) {
			found = append(found, item)
		}
	}
	return found
}

// find finds the client and the list that has it. Of several lists in their right place Authelia reads the last one alone. A client
// that stands elsewhere is a difference.
func (c *comparer) find() (*yaml.Node, error) {
	var right, others []registry
	for _, s := range c.sources {
		list, more := s.registries()
		if list != nil && s.form != unread {
			right = append(right, *list)
		} else if list != nil {
			others = append([]registry{*list}, others...)
		}
		others = append(others, more...)
	}
	all := append(slices.Clone(right), others...)
	slices.Reverse(all[:len(right)])
	for i, r := range all {
		var found []*yaml.Node
		for _, client := range r.clients {
			if id := clientIDOf(client); id != nil && id.Value == c.Login.ClientID {
				found = append(found, client)
			}
		}
		if len(found) == 0 {
			continue
		}
		if len(found) > 1 {
			return nil, c.definedTwice(r, found)
		}
		c.in, c.result.Client, c.result.File, c.result.Line = r, c.Login.ClientID, r.file, found[0].Line
		if i > 0 || len(right) == 0 {
			c.misplaced(r, right)
			right = nil
		}
		for _, other := range all[min(1, len(right)):len(right)] {
			c.warn(other.at(other.list.line, rightPlace), "is replaced by the list in "+r.place())
		}
		return found[0], nil
	}
	return nil, c.absent(all)
}

// misplaced notes why Authelia does not read the list that holds the client.
func (c *comparer) misplaced(r registry, right []registry) {
	found, wanted := "at the root of the file", "under "+rightPlace
	switch {
	case r.form == unread:
		found, wanted = "in a second document, which Authelia does not read", "in the first document"
	case r.path == rightPlace && len(right) > 0:
		found, wanted = "replaced by the list in "+right[len(right)-1].place(), "one list with all clients: Authelia reads the last list alone"
	case r.path == "" || !looksLikeAuthelia(r):
		return // the file holds clients alone
	case r.path == rightPlace:
		found, wanted = "a mapping", "a list"
	case strings.Contains(r.path, "."):
		found = "under " + r.path
	}
	c.astray = r.path
	c.differ(r.at(r.list.line, "clients"), found, wanted)
}

// looksLikeAuthelia tells whether a list stands in a file that Authelia would read, not in variables of another tool.
func looksLikeAuthelia(r registry) bool {
	first, _, _ := strings.Cut(r.path, ".")
	if first == "identity_providers" || first == "clients" || strings.HasSuffix(r.path, "oidc.clients") {
		return true
	}
	return r.isAuthelia()
}

// isAuthelia tells whether a source is empty or has a key of Authelia's configuration at its root.
func (s *source) isAuthelia() bool {
	return s.root == nil || slices.ContainsFunc(fields(s.root), func(f field) bool { return slices.Contains(rootKeys, f.name) })
}

func (c *comparer) definedTwice(r registry, found []*yaml.Node) error {
	var places []string
	for _, f := range found {
		places = append(places, fmt.Sprintf("%s:%d", r.file, f.Line))
	}
	return check.Errorf(check.Config, "client %s is defined %d times: %s",
		c.Login.ClientID, len(found), strings.Join(places, ", ")).Try("keep one of them")
}

// absent says that no list has the client, and what could hide it.
func (c *comparer) absent(all []registry) error {
	var ids, hidden []string
	var hints []check.Hint
	for _, r := range all {
		for _, client := range r.clients {
			switch id := clientIDOf(client); {
			case id == nil:
			case strings.ContainsRune(id.Value, filler) || id.Kind != yaml.ScalarNode:
				hidden = append(hidden, fmt.Sprintf("%s:%d", r.file, id.Line))
			default:
				ids = append(ids, c.clean.Clean(id.Value))
			}
		}
		if len(r.templates) > 0 && r.filled(r.list) && len(hidden) == 0 {
			hidden = append(hidden, r.place())
		}
	}
	var files []string
	for _, s := range c.sources {
		files = union(files, []string{s.file})
	}
	message := fmt.Sprintf("%s has no client %s", strings.Join(files, ", "), c.Login.ClientID)
	if len(ids) > 0 {
		message += ", only " + strings.Join(ids, ", ")
	}
	if len(hidden) > 0 {
		message += "; templates may make it: " + strings.Join(hidden, ", ")
		return check.Errorf(check.Config, "%s", message).Try(correct(c.templates()))
	}
	switch {
	case len(all) > 0 || slices.ContainsFunc(c.sources, func(s *source) bool { return s.oidc() != nil }):
		hints = append(hints, "add the client that this prints:\n    {authelia}")
	case slices.ContainsFunc(c.sources, (*source).isAuthelia):
		hints = append(hints, "Authelia's OpenID part is off there: this prints one, with the client:\n"+
			check.Command+"{authelia --whole}")
	default:
		hints = append(hints, "name the file that holds "+rightPlace)
	}
	if len(ids) > 0 {
		hints = append(hints, "if the client has another id, set {realm.client_id}")
	}
	return check.Errorf(check.Config, "%s", message).Try(hints...)
}

func (c *comparer) templates() (all []action) {
	for _, s := range c.sources {
		all = append(all, s.templates...)
	}
	return all
}
