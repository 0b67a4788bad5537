package config

import (
	"slices"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// selectTargets returns the targets of -t or of the shard. Flags and variables may say how one cluster is reached only if one
// target is selected by its name.
func (l *loader) selectTargets() []layer {
	alone := l.targets == nil
	if alone {
		l.targets = []layer{newLayer(inFile)} // the file itself is the one target
	}
	selected := l.targets
	if len(l.Targets) > 0 {
		l.mustExist()
		selected = slices.DeleteFunc(slices.Clone(selected), func(t layer) bool { return !slices.Contains(l.Targets, t.name()) })
	}
	if alone || len(l.Targets) > 0 && len(selected) == 1 {
		return l.takeShard(selected)
	}
	for _, over := range []layer{l.variable, l.flags} {
		for _, k := range table() {
			if s, set := over.settings[k.Path]; set && (strings.HasPrefix(k.Path, "proxmox.") || k.Path == "realm.name") {
				l.problems.add(s.at, k.Path, errOneTarget)
				delete(over.settings, k.Path) // or all targets would share it, which is another mistake
			}
		}
	}
	return l.takeShard(selected)
}

var errOneTarget = check.Errorf(check.Config,
	"must not be given for several targets: one cluster's address or credentials would reach the others").
	Try("it selects one target:\n    {plan --target NAME}")

// mustExist reports each name of -t without a target.
func (l *loader) mustExist() {
	var names []string
	for _, t := range l.targets {
		names = append(names, t.name())
	}
	unknown := check.Errorf(check.Config, "is not a target of the configuration").
		Try(check.Hintf("choose one of its targets, such as %s", strings.Join(names[:min(len(names), 10)], ", ")))
	for _, name := range l.Targets {
		if !slices.Contains(names, name) && !l.broken {
			l.problems.add(Place{Name: strings.TrimSpace("-t " + name)}, "", unknown)
		}
	}
}

// together checks what targets mean together, also those that this run does not take.
func (l *loader) together(selected []layer) {
	type kept struct {
		endpoint Origin
		realm    string
	}
	seen, unread, used := map[kept]string{}, false, false
	for _, overlay := range l.targets {
		t := l.identity(overlay, selected)
		unread, used = unread || overlay.broken, used || !overlay.hasEndpoints()
		for _, endpoint := range t.Proxmox.Endpoints {
			id := kept{endpoint, t.Realm.Name}
			if other, known := seen[id]; known && other != overlay.name() {
				l.problems.addf(overlay.at, "", "shares an endpoint and a realm with the target %s: only one target can keep a realm", other)
				break
			}
			seen[id] = overlay.name()
		}
	}
	if unread || used || l.broken {
		return
	}
	for path, s := range l.base.settings {
		switch g := index().path[path].group; {
		case g == endpoints:
			l.problems.add(s.at, path, check.Errorf(check.Config, "is used by no target, since each of them sets its own").
				Try("name this cluster as a target too, with a name alone:\n    targets:\n      - name: main",
					check.Hintf("remove {%s} from the configuration", path)))
		case slices.Contains(ofCluster, g):
			l.warn(s.at, path, "is used by no target: each of them sets its own endpoints, and these come without credentials, trust, "+
				"product and redirect URLs of another cluster")
		}
	}
}

// identity returns what identifies a target: endpoints and realm. Mistakes in those that the run does not take are not reported.
func (l *loader) identity(overlay layer, selected []layer) (t Target) {
	for i, s := range selected {
		if s.name() == overlay.name() {
			return l.config.Targets[i]
		}
	}
	m, problems := l.merge(l.base, overlay), l.problems
	l.problems = collector{}
	for _, path := range append(pathsOf(product, endpoints), "realm.name") {
		l.take(m, index().path[path], &t)
	}
	l.problems = problems
	return t
}

// guessProduct refuses an endpoint whose port is that of another product than Proxmox VE where nobody said which it is.
func (l *loader) guessProduct(m merged, t *Target) {
	for _, endpoint := range t.Proxmox.Endpoints {
		other, known := realm.ProductAt(endpoint.port())
		if !known || other == t.Proxmox.Product {
			continue
		}
		for _, path := range pathsOf(endpoints) {
			if m.given(path) {
				l.problems.add(m.at(path), path, check.Errorf(check.Config, "names port %s, which is that of %s", endpoint.port(), other.Name()).
					Try(check.Hintf("set {proxmox.product} to %s", other.String()),
						check.Hintf("set {proxmox.product} to %s (if %s listens there)", t.Proxmox.Product.String(), t.Proxmox.Product.Name())))
			}
		}
		return
	}
}

// consistent reports what a plan would refuse, as far as the configuration alone tells.
func (l *loader) consistent(m merged, t *Target) {
	refuse := func(path, because string, hint check.Hint) {
		l.problems.add(m.at(path), path, check.Errorf(check.Config, "%s", because).Try(hint))
	}
	own := t.Proxmox.Product
	for _, prop := range t.Realm.Set.Properties() {
		if d, _ := prop.Definition(); !own.Has(prop) {
			refuse("realm."+d.Key, own.Name()+" does not have it", check.Hintf("remove {realm.%s} from the configuration", d.Key))
		}
	}
	switch {
	case len(t.Access) == 0:
	case !own.HasGroups():
		refuse("access", own.Name()+" has no groups", "remove {access} from the configuration")
	case !m.given("realm.groups_claim"):
		refuse("access", "needs realm.groups_claim, or no login joins a group",
			"set {realm.groups_claim} to the claim with the groups of a user, also if the realm in Proxmox has it already")
	}
}
