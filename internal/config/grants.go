package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// access reads the grants of each group. Each mistake has the line where it stands. It returns a [realm.Access], or nil if
// there are no groups.
func (p *parser) access(at Place, node *yaml.Node) any {
	if node.Kind != yaml.MappingNode {
		p.problems.add(at, "access", mustBe(Grants))
		return nil
	}
	access := realm.Access{}
	p.entries(node, at, "access", func(at Place, group string, node *yaml.Node) {
		path := "access." + groupKey(group)
		access[group] = []realm.Grant{}
		if err := realm.ValidateGroup(group); err != nil {
			p.problems.add(at, path, err)
		}
		if node.Kind != yaml.SequenceNode {
			p.problems.addf(at, path, "must be a list of grants, such as [{path: /, role: PVEAuditor}]; [] takes all grants away")
			return
		}
		for i, item := range node.Content {
			at, path := p.line(item, at.Target), fmt.Sprintf("%s[%d]", path, i)
			grant, err := p.grant(at, path, follow(item))
			same := func(g realm.Grant) bool { return g.Path == grant.Path && g.Role == grant.Role }
			if err == nil && slices.ContainsFunc(access[group], same) {
				err = errors.New("is set twice: keep one of them")
			}
			if err != nil {
				p.problems.add(at, path, err)
			}
			access[group] = append(access[group], grant)
		}
	})
	return access
}

// groupKey returns how a message names a group. Unlike other keys, a group with a wrong name is shown: it comes from the issuer.
func groupKey(group string) string {
	const most = 64
	if realm.ValidateGroup(group) == nil {
		return group
	}
	name := []rune(check.Printable(group))
	return strconv.Quote(string(name[:min(len(name), most)]))
}

// grant reads one grant: path, role, and propagate, which is true by default. It returns the first mistake in the grant.
func (p *parser) grant(at Place, path string, node *yaml.Node) (g realm.Grant, err error) {
	g.Propagate = true
	if node.Kind != yaml.MappingNode {
		return g, errors.New("must be a grant, such as {path: /, role: PVEAuditor}")
	}
	texts := map[string]*string{"path": &g.Path, "role": &g.Role}
	p.entries(node, at, path, func(_ Place, name string, value *yaml.Node) {
		tag, text := value.ShortTag(), texts[name]
		switch {
		case err != nil:
		case text != nil && tag == "!!str":
			*text = value.Value
		case text != nil:
			err = fmt.Errorf("%s must be a string", name)
		case name != "propagate":
			err = fmt.Errorf("%s is not a key%s", printable(name), didYouMean(Nearest(name, []string{"path", "role", "propagate"})))
		case tag != "!!bool":
			err = fmt.Errorf("propagate %w", mustBe(Bool))
		default:
			g.Propagate = strings.EqualFold(value.Value, "true")
		}
	})
	if g.Path != "" {
		g.Path = realm.NormalPath(g.Path)
	}
	if err == nil {
		err = g.Validate()
	}
	return g, err
}
