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

// access reads the grants of each group. It reports each mistake with the line where it stands. Its error is that there are no groups.
func (p parser) access(e entry) (realm.Access, error) {
	if e.value.Kind != yaml.MappingNode {
		return nil, mustBe(Grants)
	}
	access := realm.Access{}
	for _, group := range p.entries(e.value, e.at, "access") {
		path := "access." + groupKey(group.name)
		access[group.name] = []realm.Grant{}
		if err := realm.ValidateGroup(group.name); err != nil {
			p.problems.add(group.at, path, err)
		}
		if group.value.Kind != yaml.SequenceNode {
			p.problems.addf(group.at, path, "must be a list of grants, such as [{path: /, role: PVEAuditor}]; [] takes all grants away")
			continue
		}
		for i, item := range group.value.Content {
			at, path := group.at.line(item.Line), fmt.Sprintf("%s[%d]", path, i)
			grant, err := p.grant(follow(item), at, path)
			same := func(g realm.Grant) bool { return g.Path == grant.Path && g.Role == grant.Role }
			if err == nil && slices.ContainsFunc(access[group.name], same) {
				err = errors.New("is set twice: keep one of them")
			}
			if err != nil {
				p.problems.add(at, path, err)
			}
			access[group.name] = append(access[group.name], grant)
		}
	}
	return access, nil
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
func (p parser) grant(node *yaml.Node, at Position, path string) (g realm.Grant, err error) {
	g.Propagate = true
	if node.Kind != yaml.MappingNode {
		return g, errors.New("must be a grant, such as {path: /, role: PVEAuditor}")
	}
	texts := map[string]*string{"path": &g.Path, "role": &g.Role}
	for _, e := range p.entries(node, at, path) {
		tag, text := e.value.ShortTag(), texts[e.name]
		switch {
		case text != nil && tag == "!!str":
			*text = e.value.Value
		case text != nil:
			return g, fmt.Errorf("%s must be a string", e.name)
		case e.name != "propagate":
			return g, fmt.Errorf("%s is not a key%s", printable(e.name), didYouMean(Nearest(e.name, []string{"path", "role", "propagate"})))
		case tag != "!!bool":
			return g, fmt.Errorf("propagate %w", mustBe(Bool))
		default:
			g.Propagate = strings.EqualFold(e.value.Value, "true")
		}
	}
	if g.Path != "" {
		g.Path = realm.NormalPath(g.Path)
	}
	return g, g.Validate()
}
