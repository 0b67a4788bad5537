package config

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// Load finds, reads, checks and merges a configuration. Flags beat the environment, which beats a target, which
// beats the keys above the targets, which beat the defaults.
//
// Its error is a *[check.Error] with the code [check.Config] that wraps [Problems], all of them; or what the
// context ended with. No command is run for a configuration with a mistake in it.
func Load(ctx context.Context, o Options) (*Config, error) {
	l := &loader{Options: o, env: environment(o.Env), config: &Config{}}
	if err := l.read(ctx); err != nil {
		return nil, err
	}
	l.selectTargets()
	l.run()
	for _, target := range l.selected {
		l.target(target)
	}
	if err := l.problems.fault(); err != nil {
		return nil, err
	}
	if l.failure != nil {
		return nil, check.Errorf(check.Internal, "%s", l.failure.Error())
	}
	if o.Secrets || o.ClientKey {
		l.sources.env, l.sources.dir, l.sources.timeout = o.Env, filepath.Dir(l.config.File), commandTimeout
		if err := l.sources.resolve(ctx, &l.problems, l.warn); err != nil {
			return nil, err
		}
		if err := l.problems.fault(); err != nil {
			return nil, err
		}
	}
	l.finish()
	return l.config, nil
}

// loader carries one Load through its steps.
type loader struct {
	Options
	env      map[string]string
	path     string // of the file, as problems show it; "" where there is none
	broken   bool   // there is a file, but no reading it
	config   *Config
	problems Problems
	failure  error // of this program, not of the configuration
	sources  sources

	base     layer   // the file above its targets
	targets  []layer // nil: the file has none
	variable layer   // PROXMOX_REALM_*
	flags    layer
	foreign  layer // PROXMOX_VE_*

	foreignProblems Problems // count only where the set does
	selected        []layer
}

func environment(list []string) map[string]string {
	env := make(map[string]string, len(list))
	for _, entry := range list {
		if name, value, found := strings.Cut(entry, "="); found && name != "" {
			env[name] = value
		}
	}
	return env
}

// read turns file, environment and flags into layers.
func (l *loader) read(ctx context.Context) error {
	l.base = newLayer()
	if path, named := find(l.Options, l.env); path != "" {
		if err := l.readFile(ctx, path, named); err != nil {
			return err
		}
	}
	here, err := filepath.Abs(".")
	if err != nil {
		here = "." // the working folder is gone; absolute paths still work
	}
	at := surroundings{env: l.env, dir: here}
	l.variable = fromEnvironment(l.env, at, &l.problems)
	l.flags = fromFlags(l.Flags, at, &l.problems)
	l.foreign = fromForeign(l.env, &l.foreignProblems)
	return nil
}

// readFile returns an error only where the context ended before the file was read.
func (l *loader) readFile(ctx context.Context, path string, named bool) error {
	var data []byte
	var everyone bool
	var problem *Problem
	done := make(chan struct{})
	go func() { // see [sources.resolve]
		defer close(done)
		if path == stdin {
			data, problem = readStdin(l.Stdin)
		} else {
			data, everyone, problem = read(path)
		}
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if problem != nil {
		if l.Partial && !named {
			l.warn(place{key: path}, problem.Message+": going on without it")
			return nil
		}
		if named && l.File == "" {
			problem.Key, problem.File, problem.Message = envConfig, "", path+": "+problem.Message
		}
		l.problems.append(*problem)
		l.broken = true
		return nil
	}
	l.path = path
	here, err := filepath.Abs(path)
	if err != nil {
		here = path
	}
	if path != stdin {
		l.config.File = here
	}
	p := &parser{file: path, at: surroundings{env: l.env, dir: filepath.Dir(here)}, problems: &l.problems}
	l.base, l.targets = p.parse(data)
	l.broken = p.broken
	if everyone && slices.ContainsFunc(append([]layer{l.base}, l.targets...), layer.holdsSecret) {
		l.warn(place{key: path}, "holds a secret, and everyone can read it: `chmod o-rwx` it")
	}
	l.distinct()
	return nil
}

func (l layer) holdsSecret() bool {
	for _, s := range l.settings {
		if _, ok := s.value.(check.Secret); ok {
			return true
		}
	}
	return false
}

// distinct refuses two targets that would keep one realm.
func (l *loader) distinct() {
	seen := map[string]layer{}
	for _, target := range l.targets {
		name := index().path["realm.name"].Default
		var urls []string
		for _, m := range []layer{l.base, target} {
			if s, ok := m.settings["realm.name"]; ok {
				name = s.text()
			}
			if s, ok := m.settings["proxmox.endpoints"]; ok {
				urls = s.words()
			}
		}
		for _, url := range urls {
			id := url + " " + name
			if other, taken := seen[id]; taken {
				l.problems.add(target.at, fmt.Sprintf("has an endpoint and a realm in common with the target in line %d: two targets cannot keep one realm", other.at.line))
				break
			}
			seen[id] = target
		}
	}
}

// selectTargets finds the targets of -t and guards them against what flags and variables say for one cluster.
func (l *loader) selectTargets() {
	l.selected = l.targets
	if l.targets == nil {
		whole := newLayer() // the file itself is the one target
		l.selected = []layer{whole}
	}
	if len(l.Targets) > 0 {
		l.selected = nil
		for _, name := range l.Targets {
			l.selectTarget(name)
		}
		slices.SortStableFunc(l.selected, func(a, b layer) int { return cmp.Compare(a.at.line, b.at.line) })
	}
	if l.targets == nil || len(l.Targets) > 0 && len(l.selected) == 1 {
		return
	}
	for _, over := range []layer{l.variable, l.flags} {
		for _, k := range table() {
			if s, set := over.settings[k.Path]; set && (strings.HasPrefix(k.Path, "proxmox.") || k.Path == "realm.name") {
				l.problems.append(Problem{
					Key: s.at.key, Message: "must not be given for several targets: one cluster's address or credentials would reach the others",
					Hint: "name one target with -t",
				})
			}
		}
	}
}

func (l *loader) selectTarget(name string) {
	var names []string
	for _, target := range l.targets {
		if target.target == name && name != "" {
			if !slices.ContainsFunc(l.selected, func(s layer) bool { return s.target == name }) {
				l.selected = append(l.selected, target)
			}
			return
		}
		names = append(names, target.target)
	}
	if l.targets == nil && name == defaultTarget {
		l.selected = []layer{newLayer()}
		return
	}
	problem := Problem{Key: "-t", Message: "is no target of the configuration" + suggest(name, names, "")}
	if validTarget(name) {
		problem.Key = "-t " + name
	}
	if l.targets == nil {
		problem.Message = "the configuration has no targets"
	} else {
		problem.Hint = "the targets are " + strings.Join(names[:min(len(names), 10)], ", ")
		if len(names) > 10 {
			problem.Hint += fmt.Sprintf(" and %d more", len(names)-10)
		}
	}
	l.problems.append(problem)
}

// defaultTarget is the name of the only target where the configuration has no targets.
const defaultTarget = "default"

// layers returns those of a target, lowest first, each without what a higher one replaces.
func (l *loader) layers(target layer) []layer {
	layers := []layer{defaults(), l.base, target, l.variable, l.flags}
	if !slices.ContainsFunc(layers[1:], layer.saysProxmox) && (l.targets == nil || len(l.Targets) > 0 && len(l.selected) == 1) {
		for _, p := range l.foreignProblems {
			l.problems.append(p)
		}
		layers = slices.Insert(layers, 1, l.foreign)
	}
	return prune(layers)
}

// saysProxmox tells whether a layer says anything about Proxmox, trust aside.
func (l layer) saysProxmox() bool {
	says := func(path string) bool {
		return strings.HasPrefix(path, "proxmox.") && index().path[path].group != trust
	}
	for path := range l.settings {
		if says(path) {
			return true
		}
	}
	for path := range l.refused {
		if says(path) {
			return true
		}
	}
	return false
}

// defaults returns the lowest layer.
func defaults() layer {
	l := newLayer()
	for _, k := range table() {
		if k.Default == "" {
			continue
		}
		var value any = []string{}
		if k.Kind != List {
			value, _ = k.scalar(k.Default, surroundings{}) // a test holds every default against its key
		}
		l.settings[k.Path] = setting{value: value, at: place{source: "default"}}
	}
	return l
}

// run decodes the keys of the whole run.
func (l *loader) run() {
	var keys runKeys
	layers := prune([]layer{defaults(), l.base, l.variable, l.flags})
	if err := merge(layers, func(k *key) bool { return !k.Target }, &keys); err != nil {
		l.failure = err
		return
	}
	c := l.config
	c.StateDir = cmp.Or(keys.StateDir, stateDir(l.env))
	c.Concurrency = keys.Concurrency
	c.Agent = Agent{Interval: keys.Agent.Interval, Jitter: float64(keys.Agent.Jitter), Listen: keys.Agent.Listen}
	c.Notify = Notify{Command: keys.Notify.Command}
	if keys.LockFile != nil {
		c.LockFile = *keys.LockFile
	}
}

// target decodes one target, says what it lacks, and notes the sources of its secrets.
func (l *loader) target(overlay layer) {
	pruned := l.layers(overlay)
	settings := flat(pruned)
	var keys targetKeys
	if err := merge(pruned, func(k *key) bool { return k.Target }, &keys); err != nil {
		l.failure = err
		return
	}
	spec, err := keys.spec()
	if err != nil {
		l.failure = err
		return
	}
	if !l.Partial && !l.broken {
		l.demand(overlay, pruned)
	}
	p, v := keys.Proxmox, keys.Verify
	t := Target{
		Name: cmp.Or(overlay.target, defaultTarget),
		Proxmox: Proxmox{
			TokenFile: p.TokenFile, Password: p.Password, OTP: p.OTP, CAFile: p.CAFile, Insecure: p.Insecure, Timeout: p.Timeout,
		},
		Realm: spec, ClientKeyFile: keys.Realm.ClientKeyFile,
		Verify: Verify{
			RedirectsDeclared: len(v.RedirectURLs) > 0, IssuerCAFile: v.IssuerCAFile,
			Issuer: v.Issuer, Proxmox: v.Proxmox, Client: v.Client, MaxClockSkew: v.MaxClockSkew,
		},
		Gate: keys.Policy.Gate,
	}
	t.Proxmox.Token, _ = ParseToken(p.Token.Reveal()) // the texts were parsed before
	t.Proxmox.Username, _ = ParseUserID(p.Username)
	for _, text := range p.Fingerprints {
		f, _ := ParseFingerprint(text)
		t.Proxmox.Fingerprints = append(t.Proxmox.Fingerprints, f)
	}
	for _, text := range p.Endpoints {
		t.Proxmox.Endpoints = append(t.Proxmox.Endpoints, Origin(text))
	}
	for _, text := range v.RedirectURLs {
		t.Verify.RedirectURLs = append(t.Verify.RedirectURLs, Origin(text))
	}
	for _, key := range []string{"realm.client_key", "realm.client_key_file", "realm.client_key_command"} {
		if _, set := settings[key]; set {
			t.ClientKeyFrom = key
		}
	}
	for _, id := range v.Ignore {
		t.Verify.Ignore = append(t.Verify.Ignore, check.ID(id))
	}
	if !t.Verify.RedirectsDeclared {
		for _, endpoint := range t.Proxmox.Endpoints {
			t.Verify.RedirectURLs = append(t.Verify.RedirectURLs, browserOrigin(endpoint))
		}
	}
	if p.Insecure {
		l.warn(settings["proxmox.insecure"].at, "nothing checks Proxmox's certificate: whoever is in between can read the token and become any user")
	}
	l.config.Targets = append(l.config.Targets, t)
	if l.Secrets || l.ClientKey {
		l.external(len(l.config.Targets)-1, &keys, settings)
	}
}

// demand reports the keys that a target cannot do without.
func (l *loader) demand(overlay layer, pruned []layer) {
	said := func(paths ...string) bool {
		return slices.ContainsFunc(pruned, func(l layer) bool {
			return slices.ContainsFunc(paths, func(path string) bool { return l.has(path) || l.refused[path] })
		})
	}
	lacks := func(path string, instead string) {
		at := overlay.at
		if at.key != "" {
			at.key += "."
		}
		at.key += path
		if at.file == "" {
			at.file = l.path
		}
		message := "is required" + instead
		if at.file == "" {
			k := index().path[path]
			var ways []string
			if k.Flag != "" {
				ways = append(ways, "--"+k.Flag)
			}
			if k.Env != "" {
				ways = append(ways, k.Env)
			}
			message += ": there is no configuration file, and neither a flag nor a variable sets it (" + strings.Join(ways, ", ") + ")"
		}
		l.problems.add(at, message)
	}
	if !said("proxmox.endpoint", "proxmox.endpoints") {
		lacks("proxmox.endpoints", "")
	}
	if !said("proxmox.token", "proxmox.token_file", "proxmox.token_command", "proxmox.username",
		"proxmox.password", "proxmox.password_file", "proxmox.password_command") { // a password alone is a mistake of its own
		lacks("proxmox.token_file", ", or another source of a token (proxmox.token, proxmox.token_command), or proxmox.username")
	}
	for _, d := range realm.Definitions() {
		if d.Required && !said("realm."+d.Key) {
			lacks("realm."+d.Key, "")
		}
	}
}

// external notes what has to be read for the target with that index. Targets are still being added, so
// their addresses are not kept.
func (l *loader) external(i int, keys *targetKeys, settings map[string]setting) {
	targets := func() *Target { return &l.config.Targets[i] }
	note := func(key, path string, argv []string, assign func(check.Secret)) {
		if path != "" {
			l.sources.addFile(path, use{at: settings[key+"_file"].at, key: key, assign: assign})
		}
		if len(argv) > 0 {
			l.sources.addCommand(argv, use{at: settings[key+"_command"].at, key: key, assign: assign})
		}
	}
	p, r := keys.Proxmox, keys.Realm
	note("realm.client_key", r.ClientKeyFile, r.ClientKeyCommand, func(s check.Secret) { targets().Realm.Set[realm.ClientKey] = realm.Key(s) })
	if !l.Secrets {
		return
	}
	note("proxmox.token", p.TokenFile, p.TokenCommand, func(s check.Secret) { targets().Proxmox.Token, _ = ParseToken(s.Reveal()) })
	note("proxmox.password", p.PasswordFile, p.PasswordCommand, func(s check.Secret) { targets().Proxmox.Password = s })
	if p.CAFile != "" {
		l.sources.addAuthorities(p.CAFile, settings["proxmox.ca_file"].at, func(pool *x509.CertPool) { targets().Proxmox.CA = pool })
	}
	if keys.Verify.IssuerCAFile != "" {
		l.sources.addAuthorities(keys.Verify.IssuerCAFile, settings["verify.issuer_ca_file"].at, func(pool *x509.CertPool) { targets().Verify.IssuerCA = pool })
	}
}

// finish fills in what needs the whole configuration.
func (l *loader) finish() {
	c := l.config
	runLayers := prune([]layer{defaults(), l.base, l.variable, l.flags})
	if _, given := flat(runLayers)["lock_file"]; !given {
		c.LockFile = filepath.Join(runtimeDir(l.env), lockName(c))
	}
	c.show = func() []Setting { return l.show(runLayers) }
}

func (l *loader) warn(at place, message string) {
	text := Problem{File: at.file, Line: at.line, Key: at.key, Message: message}.String()
	if !slices.Contains(l.config.Warnings, text) {
		l.config.Warnings = append(l.config.Warnings, text)
	}
}
