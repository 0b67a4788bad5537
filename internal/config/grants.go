package config

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"proxmox-realm/internal/realm"
)

// access reads the grants of each group. Each mistake has the line where it stands.
func (p *parser) access(at Place, node *yaml.Node, into layer) {
	node = follow(node)
	into.settings["access"] = setting{at: at}
	if node.Kind != yaml.MappingNode {
		p.problems.addf(at, "access", "must be groups, each with a list of grants, such as admins: [{path: /, role: PVEAdmin}]")
		return
	}
	access := realm.Access{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, grants := node.Content[i], node.Content[i+1]
		at := p.line(name, into.at.Target)
		path := "access." + printable(name.Value)
		if name.Kind != yaml.ScalarNode || name.ShortTag() == "!!merge" {
			p.problems.addf(at, "access.?", "must be the name of a group, as the issuer calls it")
			continue
		}
		if err := realm.ValidateGroup(name.Value); err != nil {
			p.problems.add(at, "access.?", err)
			continue
		}
		if _, doubled := access[name.Value]; doubled {
			p.problems.addf(at, path, "is there twice: keep one of them")
		}
		access[name.Value] = p.grants(at, path, grants)
	}
	// Behind a pointer, because viper changes the case of keys in maps.
	into.settings["access"] = setting{at: at, value: &access}
}

func (p *parser) grants(at Place, path string, node *yaml.Node) []realm.Grant {
	node = follow(node)
	grants := []realm.Grant{}
	if node.Kind != yaml.SequenceNode {
		p.problems.addf(at, path, "must be a list of grants, such as [{path: /, role: PVEAuditor}]; [] takes all grants away")
		return grants
	}
	lines := map[realm.Grant]int{}
	for i, item := range node.Content {
		at, path := p.line(item, at.Target), fmt.Sprintf("%s[%d]", path, i)
		grant, ok := p.grant(at, path, follow(item))
		if !ok {
			continue
		}
		key := realm.Grant{Path: grant.Path, Role: grant.Role}
		if first, doubled := lines[key]; doubled {
			p.problems.addf(at, path, "is the grant of line %d as well: keep one of them", first)
		}
		lines[key] = at.Line
		grants = append(grants, grant)
	}
	return grants
}

// grant reads one grant: path, role, and propagate, which is true by default.
func (p *parser) grant(at Place, path string, node *yaml.Node) (realm.Grant, bool) {
	if node.Kind != yaml.MappingNode {
		p.problems.addf(at, path, "must be a grant, such as {path: /, role: PVEAuditor}")
		return realm.Grant{}, false
	}
	g, seen, ok := realm.Grant{Propagate: true}, map[string]bool{}, true
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], follow(node.Content[i+1])
		at, shown := p.line(name, at.Target), path+"."+printable(name.Value)
		problem := ""
		switch tag := value.ShortTag(); {
		case seen[name.Value]:
			problem = "is there twice: keep one of them"
		case name.Value == "propagate" && tag == "!!bool":
			g.Propagate = strings.EqualFold(value.Value, "true")
		case name.Value == "propagate":
			problem = "must be true or false, without quotation marks"
		case name.Value != "path" && name.Value != "role":
			near := nearest(name.Value, []string{"path", "role", "propagate"})
			problem, seen[near] = "is not a key"+suggestion(near), true // it is not missing as well
		case tag != "!!str" || value.Value == "":
			problem = "must be a text"
		case name.Value == "path":
			g.Path = realm.NormalPath(value.Value)
		default:
			g.Role = value.Value
		}
		if problem != "" {
			p.problems.addf(at, shown, "%s", problem)
			ok = false
		}
		seen[name.Value] = true
	}
	for _, name := range []string{"path", "role"} {
		if !seen[name] {
			p.problems.addf(at, path, "has no %s", name)
			ok = false
		}
	}
	if !ok {
		return g, false
	}
	if err := g.Validate(); err != nil {
		p.problems.add(at, path, err)
		return g, false
	}
	return g, true
}

// access returns what the issuer's groups may do, nil if that is not managed.
func (v *values) access() realm.Access {
	access, ok := v.viper.Get("access").(*realm.Access)
	if !ok {
		return nil
	}
	v.record("access", *access)
	return *access
}

// accessNode returns access as a file would hold it.
func accessNode(access realm.Access, style yaml.Style) *yaml.Node {
	top := &yaml.Node{Kind: yaml.MappingNode, Style: style}
	for _, name := range access.Groups() {
		list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, g := range access[name] {
			item := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{textNode("path"), textNode(g.Path), textNode("role"), textNode(g.Role)}}
			if !g.Propagate {
				item.Content = append(item.Content, textNode("propagate"), &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "false"})
			}
			list.Content = append(list.Content, item)
		}
		top.Content = append(top.Content, textNode(name), list)
	}
	return top
}

// accessSchema is the JSON Schema of access.
func accessSchema() map[string]any {
	return map[string]any{
		"type": "object", "propertyNames": map[string]any{"pattern": `^[A-Za-z0-9._-]+$`},
		"additionalProperties": map[string]any{"type": "array", "items": map[string]any{
			"type": "object", "additionalProperties": false, "required": []string{"path", "role"},
			"properties": map[string]any{
				"path":      map[string]any{"type": "string", "minLength": 1, "description": "A path of Proxmox's access control list."},
				"role":      map[string]any{"type": "string", "pattern": `^[A-Za-z0-9._-]+$`, "description": "The name of a role in Proxmox."},
				"propagate": map[string]any{"type": "boolean", "default": true, "description": "Whether the role also holds below the path."},
			},
		}},
	}
}
