package config

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// Load finds, reads, checks and merges a configuration. Flags beat the environment, which beats a target, which beats the
// keys above the targets, which beat the defaults.
//
// Its error is all [Problems], each a *[check.Error] with [check.Config], or what the context ended with. No command runs
// for a configuration with a mistake, and no file of secrets is read after the first mistake.
func Load(ctx context.Context, o Options) (*Config, error) {
	l := &loader{
		Options: o, config: &Config{}, files: map[string]content{}, commandAt: map[string]int{},
		pools: map[string]*x509.CertPool{}, specs: map[string]realm.Spec{}, paths: map[string]string{},
	}
	if err := l.read(ctx); err != nil {
		return nil, err
	}
	selected := l.takeShard(l.selectTargets())
	l.config.Targets = make([]Target, 0, len(selected)) // its elements must not move, because commands write secrets into them later
	read := selected[:0]
	for _, t := range selected {
		overlay, there := l.readTarget(ctx, t)
		if !there {
			continue
		}
		t.settings = nil // a fleet has thousands of targets
		read = append(read, t)
		l.config.Targets = append(l.config.Targets, Target{})
		l.target(overlay, &l.config.Targets[len(read)-1])
		l.readNoted(ctx)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	l.run()
	l.distinct(read)
	if err := l.problems.err(); err != nil {
		return nil, err
	}
	if err := l.runCommands(ctx); err != nil {
		return nil, err
	}
	if err := l.problems.err(); err != nil {
		return nil, err
	}
	return l.config, nil
}

// loader carries one Load through its steps.
type loader struct {
	Options
	file     Place // "" if there is no file; its dir is that of relative programs
	broken   bool  // there is a file, but it cannot be read, so that missing keys mean nothing
	config   *Config
	problems collector

	base     layer   // the file above its targets
	targets  []layer // nil: the file has none
	variable layer   // PROXMOX_REALM_*
	flags    layer

	// What targets may share is read and made once.
	files     map[string]content        // by limit and path
	commands  []*command                // in the order of their first use
	commandAt map[string]int            // by program and arguments
	pools     map[string]*x509.CertPool // by path
	specs     map[string]realm.Spec     // see [loader.spec]
	paths     map[string]string         // see [values.path]

	noted      []noted // of the target that is being read
	unreadable int     // mistakes that are about files of secrets
}

// read turns file, environment and flags into layers. Its error is what the context ended with.
func (l *loader) read(ctx context.Context) error {
	here, err := filepath.Abs(".")
	if err != nil {
		here = "." // the working directory is gone; absolute paths still work
	}
	l.base, l.file.dir = newLayer(inFile), here
	if path, namedBy := find(l.File); path != "" {
		if err := l.readFile(ctx, path, namedBy); err != nil {
			return err
		}
	}
	l.variable = fromEnvironment(here, &l.problems)
	l.flags = fromFlags(l.Flags, here, &l.problems)
	l.readFolder()
	return nil
}

// readFile returns an error only if the context ended before the file was read.
func (l *loader) readFile(ctx context.Context, path, namedBy string) error {
	c, at := readFile(ctx, path, l.Stdin, maxFile, safe(path)), Place{File: called(path), dir: l.file.dir}
	switch {
	case c.err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case c.err == nil && path != "-":
		l.config.File, _ = filepath.Abs(path) // fails only if the working directory is gone
		at.dir = filepath.Dir(l.config.File)
	}
	if c.err != nil {
		if namedBy == envConfig {
			c.err, at = fmt.Errorf("%s: %w", path, c.err), Place{Name: envConfig}
		}
		if errors.Is(c.err, errAbsent) {
			c.err = check.Errorf(check.Config, "%v", c.err).Try(check.Hint("correct the path, or create the file"))
		}
		l.problems.add(at, "", c.err)
		l.broken = true
		return nil
	}
	l.file = at
	base, targets, ok := (&parser{at: at, problems: &l.problems}).parse(c.data)
	l.base, l.targets, l.broken = base, targets, !ok
	if c.everyone && slices.ContainsFunc(append([]layer{base}, targets...), layer.holdsSecret) {
		l.warn(at, "", secretReadable)
	}
	return nil
}

const secretReadable = "holds a secret, and everyone can read it: run chmod o-rwx"

func (l layer) holdsSecret() bool {
	for path := range l.settings {
		if index().path[path].Secret {
			return true
		}
	}
	return false
}

// distinct refuses two targets that would keep one realm.
func (l *loader) distinct(read []layer) {
	type kept struct {
		endpoint Origin
		realm    string
	}
	seen := map[kept]int{}
	for i, t := range l.config.Targets {
		for _, endpoint := range t.Proxmox.Endpoints {
			id := kept{endpoint, t.Realm.Name}
			if other, known := seen[id]; known && other != i {
				l.problems.addf(read[i].at, "", "shares an endpoint and a realm with the target %s: only one target can keep a realm",
					read[other].name())
				break
			}
			seen[id] = i
		}
	}
}

// selectTargets finds the targets of -t. Flags and variables may say how one cluster is reached only if one target is
// selected.
func (l *loader) selectTargets() []layer {
	selected := l.targets
	if l.targets == nil {
		selected = []layer{newLayer(inFile)} // the file itself is the one target
	}
	if len(l.Targets) > 0 {
		l.mustExist(selected)
		selected = slices.DeleteFunc(slices.Clone(selected), func(t layer) bool { return !slices.Contains(l.Targets, t.name()) })
	}
	if l.targets == nil || len(l.Targets) > 0 && len(selected) == 1 {
		return selected
	}
	for _, over := range []layer{l.variable, l.flags} {
		for _, k := range table() {
			if s, set := over.settings[k.Path]; set && (strings.HasPrefix(k.Path, "proxmox.") || k.Path == "realm.name") {
				l.problems.add(s.at, k.Path, errOneTarget)
				delete(over.settings, k.Path) // or all targets would share it, which is another mistake
			}
		}
	}
	return selected
}

var errOneTarget = check.Errorf(check.Config,
	"must not be given for several targets: one cluster's address or credentials would reach the others").
	Try(check.Run("plan --target NAME").With("it selects one target"))

// mustExist reports each name of -t without a target.
func (l *loader) mustExist(targets []layer) {
	var names []string
	for _, t := range targets {
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

// defaultTarget is the name of the only target if the configuration has no targets.
const defaultTarget = "default"

func (l *loader) warn(at Place, key, message string) {
	text := Problem{Place: at, Err: check.Errorf(check.Config, "%s", message).At(key)}.Error()
	if !slices.Contains(l.config.Warnings, text) {
		l.config.Warnings = append(l.config.Warnings, text)
	}
}
