package config

import (
	"bytes"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"proxmox-realm/internal/realm"
)

// Document returns a commented configuration for a realm that exists: every property of the Spec, and how
// Proxmox is reached. The client key itself is never written; clientKeyFile names the file that holds it, "" leaves
// the key unmanaged; of the target, how Proxmox is reached and what is verified are taken over. Loading the document gives the Spec again. A property that Proxmox holds and a
// configuration refuses, such as a comment of two lines, is left out, and a comment says so.
func Document(spec realm.Spec, from Target, clientKeyFile string) ([]byte, error) {
	root := section{&yaml.Node{Kind: yaml.MappingNode}}

	proxmox := root.section("proxmox", "How the cluster is reached.")
	if len(from.Proxmox.Endpoints) > 0 {
		proxmox.set("proxmox.endpoints", texts(from.Proxmox.Endpoints))
	}
	switch {
	case from.Proxmox.TokenFile != "":
		proxmox.set("proxmox.token_file", from.Proxmox.TokenFile)
	case len(from.Proxmox.Endpoints) > 0:
		proxmox.remark("token_file: /etc/proxmox-realm/token  # a file that holds user@realm!id=secret")
	}
	if from.Proxmox.CAFile != "" {
		proxmox.set("proxmox.ca_file", from.Proxmox.CAFile)
	}
	if len(from.Proxmox.Fingerprints) > 0 {
		proxmox.set("proxmox.fingerprints", texts(from.Proxmox.Fingerprints))
	}
	if from.Proxmox.Insecure {
		proxmox.set("proxmox.insecure", true)
	}

	if len(proxmox.node.Content) == 0 {
		root.node.Content = nil // how Proxmox is reached stands elsewhere
	}

	r := root.section("realm", "A property that is not here is left as it is.")
	r.set("realm.name", spec.Name)
	for _, d := range realm.Definitions() {
		value, set := spec.Set[d.Property]
		switch {
		case d.Kind == realm.KindKey && clientKeyFile != "":
			r.set("realm.client_key_file", clientKeyFile)
		case d.Kind == realm.KindKey && set:
			r.remark("client_key_file: /etc/proxmox-realm/client-key  # the realm has a key; without this it stays as it is")
		case set && d.Kind != realm.KindKey:
			r.property(d, value.String())
		}
	}
	if len(spec.Unset) > 0 {
		var names []string
		for _, p := range spec.Unset {
			names = append(names, string(p))
		}
		r.set("realm.unset", names)
	}

	if from.Verify.RedirectsDeclared || from.Verify.IssuerCAFile != "" {
		v := root.section("verify", "What is checked before anyone logs in.")
		if from.Verify.RedirectsDeclared {
			v.set("verify.redirect_urls", texts(from.Verify.RedirectURLs))
		}
		if from.Verify.IssuerCAFile != "" {
			v.set("verify.issuer_ca_file", from.Verify.IssuerCAFile)
		}
	}
	return root.encode()
}

// texts returns the text of each value.
func texts[T any](values []T) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = fmt.Sprint(v)
	}
	return out
}

// encode writes the sections, with an empty line between them.
func (s section) encode() ([]byte, error) {
	var out bytes.Buffer
	for i := 0; i < len(s.node.Content); i += 2 {
		if i > 0 {
			out.WriteByte('\n')
		}
		encoder := yaml.NewEncoder(&out)
		encoder.SetIndent(2)
		if err := encoder.Encode(&yaml.Node{Kind: yaml.MappingNode, Content: s.node.Content[i : i+2]}); err != nil {
			return nil, fmt.Errorf("writing the configuration: %w", err)
		}
		if err := encoder.Close(); err != nil {
			return nil, fmt.Errorf("writing the configuration: %w", err)
		}
	}
	return out.Bytes(), nil
}

// section is a mapping that is being written.
type section struct{ node *yaml.Node }

func (s section) section(name, comment string) section {
	key, value := textNode(name), &yaml.Node{Kind: yaml.MappingNode}
	key.HeadComment = comment
	s.node.Content = append(s.node.Content, key, value)
	return section{value}
}

// set adds a key with its documentation above it.
func (s section) set(path string, value any) {
	var node *yaml.Node
	switch v := value.(type) {
	case bool:
		node = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: map[bool]string{true: "true", false: "false"}[v]}
	case string:
		node = textNode(v)
	case []string:
		node = &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, word := range v {
			node.Content = append(node.Content, textNode(word))
		}
	}
	key := textNode(last(path, "."))
	key.HeadComment = index().path[path].Doc
	s.node.Content = append(s.node.Content, key, node)
}

// remark adds a comment where a key would be.
func (s section) remark(text string) {
	if n := len(s.node.Content); n > 0 {
		key := s.node.Content[n-2]
		key.FootComment = strings.TrimPrefix(key.FootComment+"\n"+text, "\n")
		return
	}
	s.node.HeadComment = text
}

// property adds a property as Proxmox stores it.
func (s section) property(d realm.Definition, stored string) {
	k := index().path["realm."+d.Key]
	var value any
	var err error
	switch k.Kind {
	case Bool:
		value, err = k.scalar(stored, surroundings{})
	case List:
		// Proxmox separates lists by any of these (PVE::Tools::split_list).
		value, _, err = k.list(strings.FieldsFunc(stored, func(r rune) bool { return strings.ContainsRune(",; \t\n\v\f\r\x00", r) }))
	default:
		value, err = k.scalar(stored, surroundings{})
	}
	if err != nil {
		s.remark(d.Key + " is left as it is: a configuration's value " + err.Error())
		return
	}
	s.set(k.Path, value)
}
