package config

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"path/filepath"
	"slices"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/disk"
	"proxmox-realm/internal/realm"
)

// Load finds, reads, checks and merges a configuration. Flags beat the environment, which beats a target, which beats the
// keys above the targets, which beat the defaults.
//
// Its error is all [Problems], each a *[check.Error] with [check.Config], or what the context ended with. No file of
// secrets is read and no command runs for a configuration with a mistake.
func Load(ctx context.Context, o Options) (*Config, error) {
	l := newLoader(o)
	if err := l.readLayers(ctx); err != nil {
		return nil, err
	}
	selected := l.selectTargets()
	for _, layer := range append([]layer{l.base, l.variables}, l.targets...) {
		l.config.Secrets = append(l.config.Secrets, layer.secrets()...)
	}
	l.readTargets(selected)
	if err := l.problems.err(); err != nil {
		return nil, err
	}
	if err := l.readSources(ctx); err != nil {
		return nil, err
	}
	for _, t := range l.config.Targets {
		if key := t.Realm.Login().ClientKey; key.IsSet() && len(key.Reveal()) < safeKey {
			l.warn(Position{}, t.ClientKeyFrom, fmt.Sprintf("is shorter than %d characters: texts that contain it by chance cannot be told from the key", safeKey))
		}
	}
	l.config.Digest = hex.EncodeToString(l.digest.Sum(nil))
	return l.config, nil
}

// safeKey is the length from which on a client key does not turn up by chance in the words of this program or of others.
const safeKey = 16

func newLoader(o Options) *loader {
	return &loader{Options: o, config: &Config{}, digest: sha256.New(), sourceOf: map[string]*source{}}
}

// loader carries one Load through its steps.
type loader struct {
	Options
	here     string
	config   *Config
	digest   hash.Hash // of the files that the configuration itself is in
	problems Problems

	base      layer   // the file above its targets
	targets   []layer // nil: the file itself is the one target
	variables layer   // PROXMOX_REALM_*
	flags     layer

	// What targets may share is read once. Both lists are in the order of the first use.
	files, commands []*source
	sourceOf        map[string]*source // by what it is
}

// readLayers turns file, environment and flags into layers, and reads the keys of the whole run, of which targets_from names
// more files. Its error is what the context ended with.
func (l *loader) readLayers(ctx context.Context) error {
	var err error
	if l.here, err = filepath.Abs("."); err != nil {
		l.here = "." // the working directory is gone; absolute paths still work
	}
	l.chooseShard()
	l.base = newLayer(Position{dir: l.here})
	if path, namedBy := find(l.File); path != "" {
		l.readFile(ctx, path, namedBy)
	}
	l.variables = fromEnvironment(l.here, &l.problems)
	l.flags = fromFlags(l.Flags, l.here, &l.problems)
	l.config.StateDir = StateDir()
	m := l.merge(layer{}, l.variables, l.flags)
	l.readKeys(m, nil)
	l.show(m, "", nil)
	l.readFolder(ctx, m)
	return context.Cause(ctx)
}

func (l *loader) readFile(ctx context.Context, path, namedBy string) {
	c := readTrusted(ctx, path, l.Stdin, maxFile)
	l.base.at.File = disk.Called(path)
	if c.Err != nil {
		at := l.base.at
		if namedBy == envConfig {
			c.Err, at = fmt.Errorf("%s: %w", path, c.Err), Position{Name: envConfig}
		}
		if errors.Is(c.Err, disk.ErrAbsent) {
			c.Err = check.Errorf(check.Config, "%v", c.Err).Try("correct the path, or create the file")
		}
		l.problems.add(at, "", c.Err)
		l.base.broken, l.base.at.File = true, ""
		return
	}
	if path != "-" {
		l.config.File, _ = filepath.Abs(path) // fails only if the working directory is gone
		l.base.at.dir = filepath.Dir(l.config.File)
	}
	l.see(path, c.Data)
	l.targets = parser{&l.problems}.parse(c.Data, &l.base)
	for i := range l.targets {
		l.targets[i].taken = l.takes(l.targets[i].target)
	}
	if c.Public() && slices.ContainsFunc(append([]layer{l.base}, l.targets...), layer.holdsSecret) {
		l.warn(l.base.at, "", secretReadable)
	}
}

// readTrusted reads a file that can name commands. It refuses one that another user could have written.
func readTrusted(ctx context.Context, path string, stdin io.Reader, limit int64) disk.Content {
	c := disk.Open(ctx, path, stdin, limit)
	switch {
	case c.Err != nil:
	case c.Foreign():
		c.Err = check.Errorf(check.Config, "is owned by another user, and a configuration can run commands").
			Try(check.Hintf("read it, then run chown root %s", path))
	case c.Writable():
		c.Err = check.Errorf(check.Config, "can be written by other users, and a configuration can run commands").
			Try(check.Hintf("read it, then run chmod go-w %s", path))
	}
	return c
}

// maxFile bounds a configuration file, in bytes: far more than a thousand targets need.
const maxFile = 4 << 20

// see adds a file to the digest of the configuration.
func (l *loader) see(path string, data []byte) {
	fmt.Fprintf(l.digest, "%q %d\n%s", path, len(data), data)
}

const secretReadable = "holds a secret, and everyone can read it: run chmod o-rwx"

// target reads the keys of one target, says what it lacks, and notes the files and commands that they name.
func (l *loader) target(overlay layer, t *Target) {
	t.Name = overlay.name()
	m := l.merge(overlay, l.variables, l.flags)
	l.readKeys(m, t)
	if !l.Partial && !l.base.broken && !overlay.broken {
		l.demand(overlay, m, t.Proxmox.Product)
	}
	for _, k := range table() {
		if k.group == clientKey && m.given(k.Path) {
			t.ClientKeyFrom = k.Path
		}
	}
	t.Realm.Product = t.Proxmox.Product
	t.Unnamed = !m.given("realm.name")
	t.Realm.Unset = slices.DeleteFunc(t.Realm.Unset, func(p realm.Property) bool { // a higher layer sets it
		return m.any(func(k *Key) bool { return k.property == p })
	})
	if !m.given("proxmox.product") {
		l.guessProduct(m, t)
	}
	if t.Verify.RedirectsDeclared = len(t.Verify.RedirectURLs) > 0; !t.Verify.RedirectsDeclared {
		for _, endpoint := range t.Proxmox.Endpoints {
			t.Verify.RedirectURLs = append(t.Verify.RedirectURLs, endpoint.Browser())
		}
	}
	if t.Proxmox.Insecure {
		l.warn(m.at("proxmox.insecure"), "proxmox.insecure",
			"nothing verifies Proxmox's certificate; an attacker on the network can steal the token")
	}
	if l.Strict {
		l.consistent(m, t)
	}
	l.show(m, overlay.target, t)
}

// readKeys reads the keys of a target or, without one, of the whole run.
func (l *loader) readKeys(m merged, t *Target) {
	if t != nil {
		t.Realm.Set = realm.Values{}
	}
	for _, k := range table() {
		if k.Target != (t != nil) {
			continue
		}
		if err := l.take(m, k, t); err != nil {
			l.problems.add(m.at(k.Path), k.Path, err)
		}
	}
}

// take hands the setting that counts to the field of the key's row, which parses it and keeps the value.
func (l *loader) take(m merged, k *Key, t *Target) error {
	written, set := m.get(k.Path)
	if !set || written.wrong {
		return nil
	}
	s, err := written.plain()
	if err != nil {
		return err
	}
	if err := k.in(result{l.config, t}).set(s); err != nil {
		return err
	}
	l.note(written, s, t)
	return nil
}

// demand reports the keys that a target cannot do without.
func (l *loader) demand(overlay layer, m merged, own realm.Product) {
	for _, k := range table() {
		instead := func(other *Key) bool {
			return other == k || k.group != "" && other.group == k.group || k.group == credentials && slices.Contains(ofUser, other.group)
		}
		if k.need == "" || m.any(instead) {
			continue
		}
		message, need := "is required", k.need
		if k.group == credentials && own != realm.VE {
			need = check.Hintf("print the lines that make a token:\n    {bootstrap --product %s}", own)
		}
		switch {
		case k.group != credentials:
		case overlay.has(endpoints) && l.base.has(credentials):
			message = "is required: a target that sets endpoints inherits no credentials"
		case own.TicketLogin():
			message = "is required (or proxmox.token, proxmox.token_command, or proxmox.username)"
		default:
			message = "is required (or proxmox.token, proxmox.token_command)"
		}
		at := overlay.at
		if at.File = cmp.Or(at.File, l.base.at.File); at.File == "" {
			message += fmt.Sprintf(": give --%s, %s or a configuration file", k.Flag, k.Env)
			if k.group == endpoints && !m.given("proxmox.product") {
				need = check.Hints(need, "make a configuration:\n    {init}")
			}
		}
		l.problems.add(at, k.Path, check.Errorf(check.Config, "%s", message).Try(need))
	}
}

// guessProduct refuses an endpoint whose port is that of another product than Proxmox VE where nobody said which it is.
func (l *loader) guessProduct(m merged, t *Target) {
	for _, endpoint := range t.Proxmox.Endpoints {
		other, known := realm.ProductAt(endpoint.port())
		if !known || other == t.Proxmox.Product {
			continue
		}
		for _, path := range []string{"proxmox.endpoint", "proxmox.endpoints"} {
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

func (l *loader) warn(at Position, key, message string) {
	text := Problem{Position: at, Err: check.Errorf(check.Config, "%s", message).At(key)}.Error()
	if !slices.Contains(l.config.Warnings, text) {
		l.config.Warnings = append(l.config.Warnings, text)
	}
}
