package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"proxmox-realm/internal/check"
)

// maxTargetFile bounds the file of one target, in bytes.
const maxTargetFile = 256 << 10

// readFolder finds the files of targets_from: one target in each YAML file, in the order of the names. [loader.readTargets]
// reads them.
func (l *loader) readFolder() {
	m, k := l.merge(l.base, l.variable, l.flags), index().path["targets_from"]
	l.take(m, k, nil)
	dir := l.config.TargetsFrom
	if dir == "" {
		l.broken = l.broken || m.given(k.Path) // with a mistake: the targets are not known
		return
	}
	l.targets = append([]layer{}, l.targets...) // not nil: the file itself is no target
	files, err := targetFiles(dir)
	var cause syscall.Errno
	switch {
	case errors.As(err, &cause):
		l.problems.addf(m.at(k.Path), k.Path, "the folder cannot be read: %v", cause)
		l.broken = true
	case err != nil:
		l.problems.addf(m.at(k.Path), k.Path, "the folder cannot be read")
		l.broken = true
	}
	known := map[string]int{} // by name in lower case: names become file names, and some file systems ignore case
	for i, t := range l.targets {
		known[strings.ToLower(t.target)] = i
	}
	for _, file := range files {
		name := strings.TrimSuffix(file, filepath.Ext(file))
		t := layer{kind: inFile, target: name, at: Place{File: filepath.Join(dir, file), dir: dir}, overlay: true, unread: true}
		first, doubled := known[strings.ToLower(name)]
		switch {
		case !isTargetName(name):
			t.at.File = (*check.Cleaner)(nil).Clean(t.at.File)
			l.problems.addf(t.at, "", "names a target, so its name must be %s", nameForm)
		case doubled:
			l.problems.addf(t.at, "", "has the name of the target in %s as well", l.targets[first].at)
		default:
			known[strings.ToLower(name)] = len(l.targets)
			l.targets = append(l.targets, t)
		}
	}
}

// readTargets reads the files of targets_from and returns the selected targets that are there. The others are read as well,
// because two targets must not keep one realm; what is wrong with their files does not concern this run.
func (l *loader) readTargets(ctx context.Context, selected []layer) (there []layer) {
	taken := map[string]bool{}
	for _, t := range selected {
		taken[t.name()] = true
	}
	var all []layer
	for _, t := range l.targets {
		problems, warnings := l.problems, l.config.Warnings
		if !taken[t.name()] {
			l.problems = collector{}
		}
		t, found := l.readTarget(ctx, t)
		if !taken[t.name()] {
			l.problems, l.config.Warnings = problems, warnings
		}
		if !found {
			continue
		}
		all = append(all, t)
		if taken[t.name()] {
			there = append(there, t)
		}
	}
	if l.targets = all; len(all) == 0 && !l.broken {
		l.problems.addf(l.merge(l.base, l.variable, l.flags).at("targets_from"), "targets_from",
			"the folder has no file that ends with .yaml or .yml: there is no target")
	}
	return there
}

// readTarget reads the file of a target that is not read yet. A file that cannot be read fails the whole load, so that no
// target disappears while somebody writes its file. A file that was removed since the folder was read is no target, unless
// -t names it.
func (l *loader) readTarget(ctx context.Context, t layer) (_ layer, there bool) {
	if !t.unread {
		return t, true
	}
	t.settings, t.unread = map[string]setting{}, false
	c := content{err: errPipe}
	if info, err := os.Stat(t.at.File); err != nil || info.Mode().IsRegular() || info.IsDir() { // a pipe would wait for its writer
		c = readFile(ctx, t.at.File, nil, maxTargetFile, safe(t.at.File))
	}
	if errors.Is(c.err, errAbsent) && len(l.Targets) == 0 {
		if _, err := os.Lstat(t.at.File); errors.Is(err, fs.ErrNotExist) { // else a link that leads nowhere
			return t, false
		}
	}
	if c.err != nil {
		l.problems.add(t.at, "", c.err)
		t.broken = true
		return t, true
	}
	l.see(t.at.File, c.data)
	(&parser{at: t.at, problems: &l.problems}).target(c.data, &t)
	if c.everyone && t.holdsSecret() {
		l.warn(t.at, "", secretReadable)
	}
	return t, true
}

var errPipe = errors.New("is not a regular file")

// targetFiles returns the names of the YAML files in a folder, sorted. Those that begin with a dot are an editor's or
// Kubernetes' own.
func targetFiles(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); !strings.HasPrefix(e.Name(), ".") && (ext == ".yaml" || ext == ".yml") {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// String returns the file with its line.
func (p Place) String() string {
	if p.Line > 0 {
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return p.File
}

// target reads a file that holds one target.
func (p *parser) target(data []byte, into *layer) {
	root, ok := p.document(data)
	into.broken = root == nil
	switch {
	case ok && root == nil:
		p.problems.addf(p.at, "", "is empty: a target needs the keys in which it differs")
	case ok:
		p.section(root, "", *into)
		into.complete(p.problems)
	}
}
