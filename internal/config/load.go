package config

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"path/filepath"
	"slices"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// Load finds, reads, checks and merges a configuration. Flags beat the environment, which beats a target, which beats the
// keys above the targets, which beat the defaults.
//
// Its error is all [Problems], each a *[check.Error] with [check.Config], or what the context ended with. No file of
// secrets is read and no command runs for a configuration with a mistake.
func Load(ctx context.Context, o Options) (*Config, error) {
	l := newLoader(o)
	if err := l.read(ctx); err != nil {
		return nil, err
	}
	selected := l.readTargets(ctx, l.selectTargets())
	for _, layer := range append([]layer{l.base, l.variable}, l.targets...) {
		l.config.Secrets = append(l.config.Secrets, layer.secrets()...)
	}
	l.config.Targets = make([]Target, len(selected)) // its elements must not move, because sources write secrets into them later
	for i, overlay := range selected {
		l.target(overlay, &l.config.Targets[i])
	}
	l.run()
	l.together(selected)
	if err := l.problems.err(); err != nil {
		return nil, err
	}
	if err := l.readSources(ctx); err != nil {
		return nil, err
	}
	for _, t := range l.config.Targets {
		if key := t.Realm.Set.Login("").ClientKey; key.IsSet() && len(key.Reveal()) < safeKey {
			l.warn(Place{}, t.ClientKeyFrom(), fmt.Sprintf("is shorter than %d characters: texts that contain it by chance cannot be told from the key", safeKey))
		}
	}
	l.config.Digest = hex.EncodeToString(l.digest.Sum(nil))
	return l.config, nil
}

// safeKey is the length from which on a client key does not turn up by chance in the words of this program or of others.
const safeKey = 16

func newLoader(o Options) *loader {
	return &loader{
		Options: o, config: &Config{}, sourceOf: map[string]*source{}, pools: map[string]*x509.CertPool{}, digest: sha256.New(),
	}
}

// loader carries one Load through its steps.
type loader struct {
	Options
	here     string
	file     Place // "" if there is no file; its dir is that of relative programs
	broken   bool  // there is a file, but it cannot be read, so that missing keys mean nothing
	config   *Config
	digest   hash.Hash // of the files that the configuration itself is in
	problems collector

	base     layer   // the file above its targets
	targets  []layer // nil: the file itself is the one target
	variable layer   // PROXMOX_REALM_*
	flags    layer

	// What targets may share is read and made once.
	sources  []*source                 // in the order of their first use
	sourceOf map[string]*source        // by what it is
	pools    map[string]*x509.CertPool // by path
}

// read turns file, environment and flags into layers. Its error is what the context ended with.
func (l *loader) read(ctx context.Context) error {
	var err error
	if l.here, err = filepath.Abs("."); err != nil {
		l.here = "." // the working directory is gone; absolute paths still work
	}
	l.base, l.file.dir = newLayer(inFile), l.here
	if path, namedBy := find(l.File); path != "" {
		if err := l.readFile(ctx, path, namedBy); err != nil {
			return err
		}
	}
	l.variable = fromEnvironment(l.here, &l.problems)
	l.flags = fromFlags(l.Flags, l.here, &l.problems)
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
	l.see(path, c.data)
	base, targets, ok := (&parser{at: at, problems: &l.problems}).parse(c.data)
	l.base, l.targets, l.broken = base, targets, !ok
	if c.everyone && slices.ContainsFunc(append([]layer{base}, targets...), layer.holdsSecret) {
		l.warn(at, "", secretReadable)
	}
	return nil
}

// see adds a file to the digest of the configuration.
func (l *loader) see(path string, data []byte) {
	fmt.Fprintf(l.digest, "%q %d\n%s", path, len(data), data)
}

const secretReadable = "holds a secret, and everyone can read it: run chmod o-rwx"

// run reads the keys of the whole run.
func (l *loader) run() {
	l.config.StateDir = StateDir()
	m := l.merge(l.base, l.variable, l.flags)
	for i := range table() {
		if k := &table()[i]; !k.Target {
			l.take(m, k, nil)
		}
	}
	if l.Show {
		l.config.Settings = append(l.show(m, "", nil), l.config.Settings...)
	}
}

// target reads the keys of one target, says what it lacks, and notes the files and commands that they name.
func (l *loader) target(overlay layer, t *Target) {
	t.Name = overlay.name()
	m := l.merge(l.base, overlay, l.variable, l.flags)
	if !l.Partial && !l.broken && !overlay.broken {
		l.demand(overlay, m)
	}
	l.readKeys(m, t)
	for i := range table() {
		if k := &table()[i]; k.Target {
			l.note(m, k, t)
		}
	}
	if t.Proxmox.Insecure {
		l.warn(m.at("proxmox.insecure"), "proxmox.insecure",
			"nothing verifies Proxmox's certificate; an attacker on the network can steal the token")
	}
	if l.Strict {
		l.consistent(m, t)
	}
	if l.Show {
		l.config.Settings = append(l.config.Settings, l.show(m, overlay.target, t)...)
	}
}

// readKeys reads the keys of a target, and what follows from them.
func (l *loader) readKeys(m merged, t *Target) {
	t.Realm.Set = realm.Values{}
	for i := range table() {
		if k := &table()[i]; k.Target {
			l.take(m, k, t)
		}
	}
	t.Realm.Product = t.Proxmox.Product
	t.Unnamed = !m.given("realm.name")
	t.Realm.Unset = slices.DeleteFunc(t.Realm.Unset, func(p realm.Property) bool { // a higher layer sets it
		d, _ := p.Definition()
		return m.givenOf("realm." + d.Key)
	})
	if !m.given("proxmox.product") {
		l.guessProduct(m, t)
	}
	if t.Verify.RedirectsDeclared = len(t.Verify.RedirectURLs) > 0; !t.Verify.RedirectsDeclared {
		for _, endpoint := range t.Proxmox.Endpoints {
			t.Verify.RedirectURLs = append(t.Verify.RedirectURLs, endpoint.Browser())
		}
	}
}

// take parses the value of one key and puts it where it belongs.
func (l *loader) take(m merged, k *Key, t *Target) {
	s, set := m.get(k)
	if !set || s.value == nil { // a value of the wrong kind: the parser has reported it
		return
	}
	err := k.plain(s.value)
	if written, isText := s.value.(string); err == nil && k.Kind == Path && isText {
		s.value, err = expand(written, s.at.dir)
	}
	if err == nil {
		err = k.in(l.config, t).set(s.value)
	}
	if err != nil {
		l.problems.add(s.at, k.Path, err)
	}
}

// demand reports the keys that a target cannot do without.
func (l *loader) demand(overlay layer, m merged) {
	for _, k := range table() {
		if k.need == "" || m.given(k.Path) || m.given(pathsOf(k.group)...) {
			continue
		}
		message, need := "is required"+k.instead, k.need
		if p := m.product(); p != realm.VE && k.group == credentials {
			message, need = "is required (or proxmox.token, proxmox.token_command)", check.Hintf("print the lines that make a token:\n    {bootstrap --product %s}", p)
		}
		if overlay.hasEndpoints() && k.group == credentials && l.base.has(pathsOf(credentials)...) {
			message = "is required: a target that sets endpoints inherits no credentials"
		}
		at := overlay.at
		if at.File = cmp.Or(at.File, l.file.File); at.File == "" {
			message += fmt.Sprintf(": give --%s, %s or a configuration file", k.Flag, k.Env)
			if k.group == endpoints && !m.given("proxmox.product") {
				need = check.Hints(need, "make a configuration:\n    {init}")
			}
		}
		l.problems.add(at, k.Path, check.Errorf(check.Config, "%s", message).Try(need))
	}
}

func (l *loader) warn(at Place, key, message string) {
	text := Problem{Place: at, Err: check.Errorf(check.Config, "%s", message).At(key)}.Error()
	if !slices.Contains(l.config.Warnings, text) {
		l.config.Warnings = append(l.config.Warnings, text)
	}
}
