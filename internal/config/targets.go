package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Bounds of the folder of targets_from, in bytes.
const (
	maxTargetFile = 256 << 10
	maxFolder     = 64 << 20
)

// readFolder reads the folder of targets_from: one target in each YAML file, in the order of the names. A file that cannot
// be read fails the whole load, so that no target disappears while somebody writes its file. It returns an error only if the
// context ended.
func (l *loader) readFolder(ctx context.Context) error {
	v := l.merge("", l.base, l.variable, l.flags)
	dir := v.path("targets_from")
	if dir == "" {
		return nil
	}
	l.targets = append([]layer{}, l.targets...) // not nil: the file itself is no target
	refuse := func(format string, args ...any) {
		l.problems.addf(v.at["targets_from"], "targets_from", format, args...)
		l.broken = true
	}
	files, err := targetFiles(dir)
	var cause syscall.Errno
	switch {
	case errors.As(err, &cause):
		refuse("the folder cannot be read: %v", cause)
	case err != nil:
		refuse("the folder cannot be read")
	case len(l.targets)+len(files) == 0:
		refuse("the folder has no file that ends with .yaml or .yml: there is no target")
	}
	places := map[string]Place{} // by name in lower case: names become file names, and some file systems ignore case
	for _, t := range l.targets {
		places[strings.ToLower(t.target)] = t.at
	}
	size := 0
	for _, file := range files {
		path := filepath.Join(dir, file)
		at := Place{File: path, dir: dir}
		name := strings.TrimSuffix(file, filepath.Ext(file))
		first, doubled := places[strings.ToLower(name)]
		places[strings.ToLower(name)] = at
		c := readFile(ctx, path, nil, maxTargetFile, safe(path))
		size += len(c.data)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case size > maxFolder:
			refuse("the files of the folder are larger than %d MiB", maxFolder>>20)
			return nil
		case !isTargetName(name):
			l.problems.addf(at, "", "names a target, so its name must be %s", nameForm)
			continue
		case doubled:
			l.problems.addf(at, "", "has the name of the target in %s as well", first)
			continue
		case c.err != nil:
			l.problems.add(at, "", c.err)
		}
		t := (&parser{at: at, problems: &l.problems}).target(c.data, name, c.err != nil)
		if c.everyone && t.holdsSecret() {
			l.warn(at, "", secretReadable)
		}
		l.targets = append(l.targets, t)
	}
	return nil
}

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

// target reads a file that holds one target. unread says that its content is not known.
func (p *parser) target(data []byte, name string, unread bool) layer {
	l := newLayer(inFile)
	l.overlay, l.target, l.at, l.broken = true, name, p.at, true
	if unread {
		return l
	}
	root, ok := p.document(data)
	switch {
	case ok && root == nil:
		p.problems.addf(p.at, "", "is empty: a target needs the keys in which it differs")
	case ok:
		l.broken = false
		p.section(root, "", l)
		l.complete(p.problems)
	}
	return l
}
