package authelia

import (
	"errors"
	"math"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
)

// File is one file of Authelia's configuration.
type File struct {
	Name string
	Data []byte
}

// source is a text that may configure Authelia: a file, or a part of one.
type source struct {
	file      string
	root      *yaml.Node // nil if it is empty
	form      form
	second    int // where a second document begins, which Authelia does not read; 0: there is none
	templates []action
	variable  int                // line of a value that shows that variables of the environment are replaced; 0: there is none
	next      map[*yaml.Node]int // where the node behind a node begins
}

type form int

const (
	plainFile form = iota // a file as Authelia reads it
	unread                // a further document of such a file
	manifest              // text in a Kubernetes manifest or the like
	helm                  // values of Helm
)

// read returns the sources of a file. An error is a *check.Error: the file is not YAML.
func read(file File) ([]*source, error) {
	text := string(file.Data)
	templates := actions(text)
	roots, second, err := readYAML([]byte(mask(text, templates)))
	var syntax *config.SyntaxError
	if errors.As(err, &syntax) {
		return nil, check.Errorf(check.Config, "%s:%d: the file is not YAML: %s", file.Name, syntax.Line, syntax.Reason).
			Try(correct(templates))
	}
	var documents, inside []*source
	for i, root := range roots {
		s := &source{file: file.Name, root: root, templates: templates}
		if s.second = second; i > 0 {
			s.form, s.second = unread, 0
		}
		s.prepare()
		documents = append(documents, s)
	}
	if roots[0] == nil || pair(roots[0], "identity_providers") != nil {
		return documents, nil
	}
	for _, s := range documents {
		found, err := s.inside(s.root)
		if err != nil {
			return nil, err
		}
		inside = append(inside, found...)
	}
	if len(inside) > 0 {
		return inside, nil
	}
	return documents, nil
}

func correct(templates []action) check.Hint {
	for _, a := range templates {
		if a.foreign {
			return "the file is a template of Ansible, Helm or the like: compare the file that it makes"
		}
	}
	if len(templates) > 0 {
		return "compare what the templates make, which Authelia shows (in Docker behind `docker compose exec authelia`):\n" +
			"    authelia config template --config FILE"
	}
	return "correct that line"
}

// prepare notes what is asked about the nodes later.
func (s *source) prepare() {
	if s.root != nil {
		s.variable, s.next = dollar(s.root, namesVariable), map[*yaml.Node]int{}
		s.ends(s.root, math.MaxInt)
	}
}

// ends notes of a node and all below it in which line the next node behind each begins.
func (s *source) ends(n *yaml.Node, next int) {
	s.next[n] = next
	for _, child := range slices.Backward(n.Content) {
		s.ends(child, next)
		next = child.Line
	}
}

// filled tells whether templates make a value or parts of it: in the value, or in lines between it and its key.
func (s *source) filled(f field) bool {
	if f.value == nil {
		return false
	}
	if holdsFiller(f.value, map[*yaml.Node]bool{}) {
		return true
	}
	if f.value.Kind == yaml.ScalarNode && f.value.Value != "" && f.value.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0 {
		return false
	}
	for _, a := range s.templates {
		if f.key != nil && a.line > f.key.Line && a.line < s.next[f.value] {
			return true
		}
	}
	return false
}

func holdsFiller(n *yaml.Node, seen map[*yaml.Node]bool) bool {
	n = target(n)
	if n == nil || seen[n] {
		return false
	}
	seen[n] = true
	return strings.ContainsRune(n.Value, filler) ||
		slices.ContainsFunc(n.Content, func(child *yaml.Node) bool { return holdsFiller(child, seen) })
}

// controlled returns the line of the first condition or loop of a template between two lines, or 0.
func (s *source) controlled(from, to int) int {
	for _, a := range s.templates {
		if a.branch && a.line >= from && a.line <= to {
			return a.line
		}
	}
	return 0
}

// inside returns the configurations that stand deeper in a document. They stand below a key, as in the values of Helm, or are
// text, as in a ConfigMap of Kubernetes.
func (s *source) inside(n *yaml.Node) (found []*source, err error) {
	switch {
	case n == nil:
		return nil, nil
	case n != s.root && pair(n, "identity_providers") != nil:
		sub := *s
		sub.root, sub.form, sub.second = n, helm, 0
		return []*source{&sub}, nil
	case n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "\n") && configures().MatchString(n.Value):
		return s.text(n)
	}
	for _, child := range n.Content {
		more, err := s.inside(child)
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return found, nil
}

var configures = check.Pattern(`(?m)^\s*(- )?(identity_providers|client_id):`)

// text reads a value that is itself a configuration.
func (s *source) text(n *yaml.Node) ([]*source, error) {
	roots, _, err := readYAML([]byte(n.Value))
	var syntax *config.SyntaxError
	if errors.As(err, &syntax) {
		return nil, check.Errorf(check.Config, "%s:%d: the text here is not YAML: %s", s.file, n.Line+syntax.Line, syntax.Reason).
			Try(correct(s.templates))
	}
	root := roots[0]
	if root == nil || root.Kind == yaml.ScalarNode {
		return nil, nil
	}
	for inner := range nodes(root) { // its lines are those of the file
		if n.Style&yaml.LiteralStyle == 0 {
			inner.Line = 0
		}
		inner.Line += n.Line
	}
	sub := &source{file: s.file, root: root, form: manifest, templates: s.templates}
	sub.prepare()
	if pair(root, "identity_providers") == nil {
		if deeper, err := sub.inside(root); err != nil || len(deeper) > 0 {
			return deeper, err
		}
	}
	return []*source{sub}, nil
}
