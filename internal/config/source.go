package config

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

const (
	maxSecret      = 64 << 10 // bytes of a secret file or of a command's output
	maxAuthorities = 4 << 20  // bytes of a file of certificate authorities
	maxCommands    = 8        // run at once
)

// source is a file or a command outside of the configuration. Many keys of targets may name it.
type source struct {
	file  string   // "" for a command
	limit int64    // of the file, in bytes
	argv  []string // of the command
	uses  []use
	content
}

// use is a key that names a source, and what becomes of its content.
type use struct {
	at     Place
	key    string
	shown  string // the file in messages; "" if a secret may have been written in its place
	in     string // the folder in which such a word was looked for
	assign func(content string) error
}

// note notes the file or command that a key of a target names, if the caller wants what is in it.
func (l *loader) note(m merged, k *Key, t *Target) {
	secret := k.holds()
	wanted := l.Secrets || l.ClientKey && k.group == clientKey || l.IssuerCA && k.Path == "verify.issuer_ca_file"
	if !wanted || k.pool == nil && secret == nil {
		return
	}
	s, _ := m.get(k)
	named, by := source{limit: maxSecret}, use{at: s.at, key: k.Path}
	switch where := k.in(l.config, t).get().(type) {
	case string:
		written, _ := s.value.(string)
		named.file, by.shown = where, shownPath(written, where)
		if !strings.ContainsRune(written, filepath.Separator) {
			by.in = s.at.dir
		}
	case []string:
		named.argv = append([]string{Program(where[0], s.at.dir)}, where[1:]...)
	default: // not set, or wrong
		return
	}
	by.assign = func(content string) error { return secret.assign(l.config, t, content) }
	if k.pool != nil {
		named.limit, by.assign = maxAuthorities, func(content string) error { return l.authorities(named.file, content, k.pool(t)) }
	}
	id := fmt.Sprintf("%d %q %q", named.limit, named.file, named.argv)
	if l.sourceOf[id] == nil {
		l.sourceOf[id] = &named
		l.sources = append(l.sources, &named)
	}
	l.sourceOf[id].uses = append(l.sourceOf[id].uses, by)
}

// held returns what a file or the output of a command holds. Every editor and printing command ends a line, and Windows
// editors begin a file with a byte order mark.
func held(content string) string {
	return strings.TrimPrefix(strings.TrimSuffix(strings.TrimSuffix(content, "\n"), "\r"), "\ufeff")
}

// assign parses the content of a file or the output of a command as the value of the key.
func (k *Key) assign(c *Config, t *Target, content string) error {
	text := held(content)
	if err := realm.ValidateText(text); err != nil {
		return err
	}
	return k.in(c, t).set(text)
}

// authorities reads certificate authorities. All targets that name a file share the pool.
func (l *loader) authorities(file, content string, pool **x509.CertPool) error {
	if l.pools[file] == nil {
		made := x509.NewCertPool()
		if !made.AppendCertsFromPEM([]byte(content)) {
			return check.Errorf(check.Config, "must hold a certificate in PEM form").
				Try("put the certificate of the authority into the file; it begins with -----BEGIN CERTIFICATE-----")
		}
		l.pools[file] = made
	}
	*pool = l.pools[file]
	return nil
}

// readSources reads the files and then runs the commands, each once, however many targets name it. No command runs after a
// mistake in a file.
func (l *loader) readSources(ctx context.Context) error {
	for _, s := range l.sources {
		if s.file == "" {
			continue
		}
		timed, cancel := context.WithTimeoutCause(ctx, sourceTimeout, errSilent)
		s.content = readFile(timed, s.file, nil, s.limit, nil)
		cancel()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		l.handOut(s)
	}
	if err := l.problems.err(); err != nil {
		return err
	}
	var wait sync.WaitGroup
	slots := make(chan struct{}, maxCommands)
	for _, s := range l.sources {
		if s.file != "" {
			continue
		}
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			s.content = output(ctx, s.argv, sourceTimeout)
		})
	}
	wait.Wait()
	for _, s := range l.sources {
		if s.file == "" && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if s.file == "" {
			l.handOut(s)
		}
	}
	return l.problems.err()
}

// handOut gives the content of a source to the keys that name it.
func (l *loader) handOut(s *source) {
	first, what := s.uses[0], "the content of the file"
	switch {
	case s.err != nil && s.file != "":
		l.problems.add(first.at, first.key, unreadableSource(first, s.err))
		return
	case s.err != nil:
		l.problems.add(first.at, first.key, s.err)
		return
	case s.everyone && s.limit == maxSecret:
		l.warn(first.at, first.key, "everyone can read the file: run chmod o-rwx")
	case s.file == "":
		what = "the output of the command"
	}
	for _, u := range s.uses {
		if err := u.assign(string(s.data)); err != nil {
			l.problems.add(u.at, u.key, check.Errorf(check.Config, "%s %v", what, err).Try(check.HintOf(err)))
		}
	}
}

// shownPath returns a path for messages, "" if a secret may have been written in its place: a word without a slash, or one
// that looks as if chance had made it.
func shownPath(written, path string) string {
	if _, err := os.Lstat(path); err == nil {
		return path
	}
	_, err := os.Stat(filepath.Dir(path))
	begins := func(start string) bool { return strings.HasPrefix(written, start) }
	if !slices.ContainsFunc([]string{"/", "./", "../", "$", "~"}, begins) || err != nil || random(filepath.Base(path)) {
		return ""
	}
	return path
}

// random reports whether a word looks like a secret: 16 characters or more, with digits and both cases of letters.
func random(word string) bool {
	has := func(set string) bool { return strings.ContainsAny(word, set) }
	return len(word) >= 16 && has("0123456789") && has("abcdefghijklmnopqrstuvwxyz") && has("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
}

// unreadableSource says why the file of a key could not be read, and what to do about it.
func unreadableSource(s use, err error) error {
	e := check.Errorf(check.Config, "%v", err)
	switch {
	case s.shown != "":
		e = check.Errorf(check.Config, "%s: %v", s.shown, err)
	case s.in != "":
		e = check.Errorf(check.Config, "%v in %s", err, s.in)
	}
	if !errors.Is(err, errAbsent) {
		return e
	}
	e = e.Try("correct the path")
	if secret := index().path[s.key].holds(); s.shown == "" && secret != nil {
		e = e.Try(check.Hintf("write the path of a file; a secret itself belongs into {%s}", secret.Path))
	}
	switch s.key {
	case "realm.client_key_file":
		e.Hint = check.Hints(e.Hint, "make a key:\n    {authelia --new-key FILE}")
	case "proxmox.token_file":
		e.Hint = check.Hints(e.Hint, "print the lines that make a token:\n    {bootstrap}")
	}
	return e
}

// output returns what a command prints. It drops the standard error, which may quote the secret.
func output(ctx context.Context, argv []string, timeout time.Duration) content {
	timed, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out := &limited{left: maxSecret}
	cmd := CommandContext(timed, argv[0], argv[1:]...)
	cmd.Env = CommandEnvironment(os.Environ())
	cmd.Stdout = out
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil && out.left < 0:
		err = errors.New("the command prints too much for a secret")
	case err == nil:
	case timed.Err() != nil:
		err = fmt.Errorf("the command did not end within %s", timeout)
	case errors.Is(err, exec.ErrWaitDelay):
		_ = cmd.Cancel() // all of its group may be gone by now
		err = errors.New("the command ended, but left a process behind that keeps its output open")
	case errors.As(err, &exit): // its text is "exit status 1" or "signal: killed"
		err = fmt.Errorf("the command failed (%w): run it by hand to see why", exit)
	default:
		err = fmt.Errorf("the command cannot be run: %w", errors.Unwrap(err)) // without the program's name
	}
	return content{data: []byte(out.String()), err: err}
}

// CommandContext is [exec.CommandContext] for the commands of a configuration: when ctx ends, every process of the command's group
// is killed. A process that it leaves behind does not hold its caller for more than a second.
func CommandContext(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	ownGroup(cmd)
	cmd.Cancel = func() error { return killGroup(cmd) }
	cmd.WaitDelay = time.Second
	return cmd
}

// Program returns the path of a program in a configuration: a relative path begins in the folder of the file.
func Program(name, dir string) string {
	if strings.ContainsRune(name, filepath.Separator) && !filepath.IsAbs(name) {
		return filepath.Join(dir, name)
	}
	return name
}

// limited keeps what is written to it up to a limit.
type limited struct {
	strings.Builder
	left int
}

// Write never fails, so that a command which prints too much still ends by itself.
func (l *limited) Write(p []byte) (int, error) {
	if l.left >= len(p) {
		l.Builder.Write(p)
	}
	l.left -= len(p)
	return len(p), nil
}
