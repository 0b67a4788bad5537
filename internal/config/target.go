package config

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// run reads the keys of the whole run. The default of lock_file depends on the targets.
func (l *loader) run() {
	v, c := l.merge("", l.base, l.variable, l.flags), l.config
	switch {
	case !v.given("lock_file"):
		c.LockFile = filepath.Join(runtimeDir(), lockName(c))
	case v.viper.GetString("lock_file") != "":
		c.LockFile = v.path("lock_file")
	}
	c.StateDir = cmp.Or(v.path("state_dir"), StateDir())
	c.Concurrency = one(v, "concurrency", parseConcurrency)
	c.Agent.Interval = one(v, "agent.interval", durationUpTo("8760h"))
	c.Agent.Jitter = one(v, "agent.jitter", parsePercent)
	c.Agent.Listen = one(v, "agent.listen", parseListen)
	c.Notify.Command = v.command("notify.command")
	v.path("targets_from") // [loader.readFolder] has read it; here it is shown
	v.record("lock_file", c.LockFile)
	v.record("state_dir", c.StateDir)
	c.Settings = append(v.sorted(), c.Settings...)
}

// target reads the keys of one target, says what it lacks, and notes the files and commands that they name.
func (l *loader) target(overlay layer, t *Target) {
	v := l.merge(overlay.target, l.base, overlay, l.variable, l.flags)
	if !l.Partial && !l.broken && !overlay.broken {
		l.demand(overlay, v)
	}
	t.Name = overlay.name()
	l.proxmox(v, &t.Proxmox)
	t.Realm = l.spec(overlay, v)
	t.ClientKeyFrom, t.ClientKeyFile = l.secret(v, "realm.client_key", l.Secrets || l.ClientKey, func(text string) error {
		d, _ := realm.ClientKey.Definition()
		key := realm.Key(check.NewSecret(text))
		t.Realm.Set[realm.ClientKey] = key
		return d.Validate(key)
	})
	t.Verify = Verify{
		RedirectURLs: many(v, "verify.redirect_urls", ParseOrigin),
		Issuer:       one(v, "verify.issuer", parseBool),
		Proxmox:      one(v, "verify.proxmox", parseBool),
		Client:       one(v, "verify.client", parseBool),
		Ignore:       many(v, "verify.ignore", parseCheckID),
		MaxClockSkew: one(v, "verify.max_clock_skew", durationUpTo("24h")),
	}
	t.Verify.IssuerCAFile = l.authorities(v, "verify.issuer_ca_file", l.Secrets || l.IssuerCA, &t.Verify.IssuerCA)
	if t.Verify.RedirectsDeclared = len(t.Verify.RedirectURLs) > 0; !t.Verify.RedirectsDeclared {
		for _, endpoint := range t.Proxmox.Endpoints {
			t.Verify.RedirectURLs = append(t.Verify.RedirectURLs, endpoint.Browser())
		}
		if len(t.Verify.RedirectURLs) > 0 {
			v.record("verify.redirect_urls", texts(t.Verify.RedirectURLs))
		}
	}
	t.Gate = one(v, "policy.gate", parseBool)
	t.Access = v.access()
	l.config.Settings = append(l.config.Settings, v.sorted()...)
}

func (l *loader) proxmox(v *values, p *Proxmox) {
	p.Endpoints = many(v, "proxmox.endpoints", ParseEndpoint)
	if only := one(v, "proxmox.endpoint", ParseEndpoint); only != "" {
		p.Endpoints = []Origin{only}
	}
	_, p.TokenFile = l.secret(v, "proxmox.token", l.Secrets, func(text string) (err error) {
		p.Token, err = ParseToken(text)
		return err
	})
	p.Username = one(v, "proxmox.username", ParseUserID)
	l.secret(v, "proxmox.password", l.Secrets, func(text string) error {
		p.Password = check.NewSecret(text)
		return nil
	})
	p.OTP = one(v, "proxmox.otp", parseOTP)
	p.CAFile = l.authorities(v, "proxmox.ca_file", l.Secrets, &p.CA)
	p.Fingerprints = many(v, "proxmox.fingerprints", ParseFingerprint)
	if p.Insecure = one(v, "proxmox.insecure", parseBool); p.Insecure {
		l.warn(v.at["proxmox.insecure"], "proxmox.insecure", "nothing verifies Proxmox's certificate; an attacker on the network can steal the token")
	}
	p.Timeout = one(v, "proxmox.timeout", durationUpTo("10m"))
}

// spec returns what the realm of a target should be, without a client key. Targets whose realm settings differ only in the
// name share one map of values, which saves most of the memory of a fleet.
func (l *loader) spec(overlay layer, v *values) realm.Spec {
	said := overlay.at.dir
	for _, path := range slices.Sorted(maps.Keys(overlay.settings)) {
		if strings.HasPrefix(path, "realm.") && path != "realm.name" {
			said += fmt.Sprintf(" %s=%q", path, overlay.settings[path].value)
		}
	}
	spec, known := l.specs[said]
	if known && !l.Show { // each target has rows of its own
		spec.Name = v.realmName()
		return spec
	}
	mistakes := len(l.problems.list)
	spec = v.realm()
	if len(l.problems.list) == mistakes { // else each target reports its own
		l.specs[said] = spec
	}
	return spec
}

func (v *values) realmName() string {
	return one(v, "realm.name", func(text string) (string, error) { return text, realm.ValidateName(text) })
}

// realm returns what the realm should be, without a client key.
func (v *values) realm() realm.Spec {
	s := realm.Spec{Name: v.realmName(), Set: realm.Values{}}
	for _, d := range definitions() {
		path := "realm." + d.Key
		if d.Kind == realm.KindKey || !v.given(path) {
			continue
		}
		switch d.Kind {
		case realm.KindBool:
			s.Set[d.Property] = realm.Bool(one(v, path, parseBool))
		case realm.KindSet, realm.KindList:
			s.Set[d.Property] = realm.Words(d.Property, many(v, path, propertyWord(d))...)
		default:
			s.Set[d.Property] = one(v, path, propertyText(d))
		}
	}
	for _, p := range many(v, "realm.unset", parseUnset) {
		if d, _ := p.Definition(); !v.given("realm."+d.Key, "realm."+d.Key+"_file", "realm."+d.Key+"_command") { // by a higher layer
			s.Unset = append(s.Unset, p)
		}
	}
	return s
}

// demand reports the keys that a target cannot do without.
func (l *loader) demand(overlay layer, v *values) {
	lacks := func(path, otherwise string) {
		at := overlay.at
		if at.File = cmp.Or(at.File, l.file.File); at.File != "" {
			l.problems.addf(at, path, "is required%s", otherwise)
			return
		}
		k := index().path[path]
		l.problems.addf(at, path, "is required%s: give --%s, %s or a configuration file", otherwise, k.Flag, k.Env)
	}
	if !v.given("proxmox.endpoint", "proxmox.endpoints") {
		lacks("proxmox.endpoints", "")
	}
	if !v.given("proxmox.token", "proxmox.token_file", "proxmox.token_command", "proxmox.username",
		"proxmox.password", "proxmox.password_file", "proxmox.password_command") { // a password alone is a mistake of its own
		lacks("proxmox.token_file", " (or proxmox.token, proxmox.token_command, or proxmox.username)")
	}
	for _, d := range definitions() {
		if d.Required && !v.given("realm."+d.Key) {
			lacks("realm."+d.Key, "")
		}
	}
}

// secret reads a secret that stands in the configuration. If it is wanted, it notes the file or command that gives the secret.
// It returns the key that gives the secret, and the file.
func (l *loader) secret(v *values, path string, wanted bool, assign func(text string) error) (key, file string) {
	one(v, path, func(text string) (check.Secret, error) { return check.NewSecret(text), assign(text) })
	file = v.path(path + "_file")
	argv := v.command(path + "_command")
	line := func(text string) error {
		text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r") // every editor and printing command ends a line
		text = strings.TrimPrefix(text, "\ufeff")                       // Windows editors begin a file with a byte order mark
		if err := realm.ValidateText(text); err != nil {
			return err
		}
		return assign(text)
	}
	switch {
	case file != "":
		key = path + "_file"
	case argv != nil:
		key = path + "_command"
	case v.given(path):
		return path, ""
	default:
		return "", ""
	}
	if wanted {
		l.note(source{file: file, shown: shownPath(v.viper.GetString(key), file), argv: argv, limit: maxSecret}, use{v.at[key], key, line})
	}
	return key, file
}

// authorities notes a file of certificate authorities if it is wanted. All targets that name it share the pool.
func (l *loader) authorities(v *values, path string, wanted bool, pool **x509.CertPool) string {
	file := v.path(path)
	if file == "" || !wanted {
		return file
	}
	shown := shownPath(v.viper.GetString(path), file)
	l.note(source{file: file, shown: shown, limit: maxAuthorities}, use{v.at[path], path, func(text string) error {
		if l.pools[file] == nil {
			made := x509.NewCertPool()
			if !made.AppendCertsFromPEM([]byte(text)) {
				return errors.New("must hold a certificate in PEM form")
			}
			l.pools[file] = made
		}
		*pool = l.pools[file]
		return nil
	}})
	return file
}
