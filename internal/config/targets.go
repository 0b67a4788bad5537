package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/disk"
)

// maxTargetFile bounds the file of one target, in bytes.
const maxTargetFile = 256 << 10

// readFolder reads the folder of targets_from: one target in each YAML file, in the order of the names. It reads the files of
// all targets, because two targets must not keep one realm. What is wrong with the file of a target that the run does not take
// does not concern the run.
func (l *loader) readFolder(ctx context.Context, m merged) {
	dir, at := l.config.TargetsFrom, m.at("targets_from")
	if dir == "" {
		l.base.broken = l.base.broken || m.given("targets_from") // with a mistake: the targets are not known
		return
	}
	l.targets = append([]layer{}, l.targets...) // not nil: the file itself is no target
	files, err := targetFiles(dir)
	if err != nil {
		l.problems.addf(at, "targets_from", "the folder %v", err)
		l.base.broken = true
	}
	for _, file := range files {
		t := newLayer(Position{File: filepath.Join(dir, file), dir: dir})
		t.target, t.overlay = strings.TrimSuffix(file, filepath.Ext(file)), true
		if !isTargetName(t.target) {
			t.at.File = (*check.Cleaner)(nil).Clean(t.at.File)
			l.problems.addf(t.at, "", "names a target, so its name must be %s", nameForm)
		} else if l.readTarget(ctx, &t) {
			l.targets = append(l.targets, t)
		}
	}
	if len(l.targets) == 0 && !l.base.broken {
		l.problems.addf(at, "targets_from", "the folder has no file that ends with .yaml or .yml: there is no target")
	}
}

// readTarget reads the file of a target. A file that cannot be read fails the whole load, so that no target disappears while
// somebody writes its file. A file that was removed since the folder was read is no target, unless -t names one.
func (l *loader) readTarget(ctx context.Context, t *layer) (there bool) {
	c := disk.Content{Err: errors.New("is not a regular file")}
	if info, err := os.Stat(t.at.File); err != nil || info.Mode().IsRegular() || info.IsDir() { // a pipe would wait for its writer
		c = readTrusted(ctx, t.at.File, nil, maxTargetFile)
	}
	if errors.Is(c.Err, disk.ErrAbsent) && len(l.Targets) == 0 {
		if _, err := os.Lstat(t.at.File); errors.Is(err, fs.ErrNotExist) { // else a link that leads nowhere
			return false
		}
	}
	problems := &l.problems
	if t.taken = l.takes(t.target); !t.taken {
		problems = &Problems{}
	}
	if c.Err != nil {
		problems.add(t.at, "", c.Err)
		t.broken = true
		return true
	}
	l.see(t.at.File, c.Data)
	parser{problems}.parse(c.Data, t)
	if t.taken && c.Public() && t.holdsSecret() {
		l.warn(t.at, "", secretReadable)
	}
	return true
}

// targetFiles returns the names of the YAML files in a folder, sorted. Those that begin with a dot are an editor's or
// Kubernetes' own. Its error continues "the folder …".
func targetFiles(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); !strings.HasPrefix(e.Name(), ".") && (ext == ".yaml" || ext == ".yml") {
			names = append(names, e.Name())
		}
	}
	var cause syscall.Errno
	switch {
	case errors.As(err, &cause):
		err = fmt.Errorf("cannot be read: %w", cause)
	case err != nil:
		err = errors.New("cannot be read")
	}
	return names, err
}

// takes reports whether -t or the shard selects a target.
func (l *loader) takes(name string) bool {
	if len(l.Targets) > 0 {
		return slices.Contains(l.Targets, name)
	}
	return l.config.Shard.Holds(name)
}

// selectTargets counts the targets that the run takes. If there are none, the file itself is the one target.
func (l *loader) selectTargets() (selected int) {
	alone := l.targets == nil
	if alone {
		only := newLayer(Position{})
		only.taken = l.takes(defaultTarget)
		l.targets = []layer{only}
	}
	for _, t := range l.targets {
		if t.taken {
			selected++
		}
	}
	l.checkNames()
	if !alone && (len(l.Targets) == 0 || selected != 1) {
		l.refuseForSeveral()
	}
	return selected
}

// checkNames reports doubled names, and names of -t without a target.
func (l *loader) checkNames() {
	var names []string
	known := map[string]Position{} // by name in lower case: names become file names, and some file systems ignore case
	for _, t := range l.targets {
		lower := strings.ToLower(t.name())
		if first, doubled := known[lower]; doubled && t.target != "" {
			l.problems.addf(t.at, "", "has the name of the target in %s as well", first)
		}
		known[lower], names = t.at, append(names, t.name())
	}
	unknown := check.Errorf(check.Config, "is not a target of the configuration").
		Try(check.Hintf("choose one of its targets, such as %s", strings.Join(names[:min(len(names), 10)], ", ")))
	for _, name := range l.Targets {
		if !slices.Contains(names, name) && !l.base.broken {
			l.problems.add(Position{Name: strings.TrimSpace("-t " + name)}, "", unknown)
		}
	}
}

// refuseForSeveral reports flags and variables that say how one cluster is reached. -t has to select one target for them.
func (l *loader) refuseForSeveral() {
	for _, over := range []layer{l.variables, l.flags} {
		for path, s := range over.settings {
			if strings.HasPrefix(path, "proxmox.") || path == "realm.name" {
				l.problems.add(s.at, path, errOneTarget)
				delete(over.settings, path) // or all targets would share it, which is another mistake
			}
		}
	}
}

var errOneTarget = check.Errorf(check.Config,
	"must not be given for several targets: one cluster's address or credentials would reach the others").
	Try("it selects one target:\n    {plan --target NAME}")

// readTargets reads the keys of the targets that the run takes, and checks what all targets mean together.
func (l *loader) readTargets(selected int) {
	type kept struct {
		endpoint Origin
		realm    string
	}
	seen, unread, used := map[kept]string{}, l.base.broken, false
	l.config.Targets = make([]Target, 0, selected) // its elements must not move, because sources write secrets into them later
	for _, overlay := range l.targets {
		t := &Target{}
		if overlay.taken {
			l.config.Targets = append(l.config.Targets, Target{})
			t = &l.config.Targets[len(l.config.Targets)-1]
			l.target(overlay, t)
		} else {
			l.identify(overlay, t)
		}
		unread, used = unread || overlay.broken, used || !overlay.has(endpoints)
		for _, endpoint := range t.Proxmox.Endpoints {
			id := kept{endpoint, t.Realm.Name}
			if other, known := seen[id]; known && other != overlay.name() {
				l.problems.addf(overlay.at, "", "shares an endpoint and a realm with the target %s: only one target can keep a realm", other)
				break
			}
			seen[id] = overlay.name()
		}
	}
	if !unread && !used {
		l.unused()
	}
}

// identify reads what identifies a target that the run does not take: endpoints and realm. Mistakes in them are not reported.
func (l *loader) identify(overlay layer, t *Target) {
	m := l.merge(overlay, layer{}, layer{})
	for _, k := range table() {
		if k.group == product || k.group == endpoints || k.Path == "realm.name" {
			_ = l.take(m, k, t)
		}
	}
}

// unused reports what the file says of a cluster that is that of no target.
func (l *loader) unused() {
	for path, s := range l.base.settings {
		switch {
		case s.key.group == endpoints:
			l.problems.add(s.at, path, check.Errorf(check.Config, "is used by no target, since each of them sets its own").
				Try("name this cluster as a target too, with a name alone:\n    targets:\n      - name: main",
					check.Hintf("remove {%s} from the configuration", path)))
		case slices.Contains(ofCluster, s.key.group):
			l.warn(s.at, path, "is used by no target: each of them sets its own endpoints, and these come without credentials, trust, "+
				"product and redirect URLs of another cluster")
		}
	}
}
