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
	"time"

	"golang.org/x/sync/errgroup"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/disk"
	"proxmox-realm/internal/realm"
)

const (
	maxSecret      = 64 << 10 // bytes of a secret file or of a command's output
	maxAuthorities = 4 << 20  // bytes of a file of certificate authorities
	maxReads       = 8        // files or commands at once
	sourceTimeout  = disk.Patience
)

// source is a file or a command outside of the configuration. Many keys of targets may name it.
type source struct {
	file  string   // "" for a command
	limit int64    // of the file, in bytes
	argv  []string // of the command
	uses  []use
	disk.Content
	pool *x509.CertPool // made of the content at first use
}

// use is a setting, as it was written, that names a source for a target.
type use struct {
	setting
	in *Target
}

// note notes the file or command that a setting names, if the caller wants what is in it.
func (l *loader) note(written, s setting, t *Target) {
	k := s.key
	wanted := l.Secrets || l.ClientKey && k.group == clientKey || l.IssuerCA && k.Path == "verify.issuer_ca_file"
	if !wanted || k.pool == nil && k.content == nil {
		return
	}
	named, all := &source{file: s.text(), limit: maxSecret}, &l.files
	switch {
	case k.Kind == Command:
		named, all = &source{argv: s.words}, &l.commands
	case k.pool != nil:
		named.limit = maxAuthorities
	}
	id := fmt.Sprintf("%d %q %q", named.limit, named.file, named.argv)
	if l.sourceOf[id] == nil {
		l.sourceOf[id], *all = named, append(*all, named)
	}
	l.sourceOf[id].uses = append(l.sourceOf[id].uses, use{written, t})
}

// readSources reads the files and then runs the commands, each once, however many targets name it. No command runs after a
// mistake in a file.
func (l *loader) readSources(ctx context.Context) error {
	for _, sources := range [][]*source{l.files, l.commands} {
		var group errgroup.Group
		group.SetLimit(maxReads)
		for _, s := range sources {
			group.Go(func() error {
				s.read(ctx)
				return context.Cause(ctx)
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		for _, s := range sources {
			l.handOut(s)
		}
		if err := l.problems.err(); err != nil {
			return err
		}
	}
	return nil
}

func (s *source) read(ctx context.Context) {
	if s.file == "" {
		s.Data, s.Err = output(ctx, s.argv, sourceTimeout)
		return
	}
	timed, cancel := context.WithTimeoutCause(ctx, sourceTimeout, disk.ErrSilent)
	defer cancel()
	s.Content = disk.Open(timed, s.file, nil, s.limit)
}

// handOut gives the content of a source to the keys that name it.
func (l *loader) handOut(s *source) {
	first, what := s.uses[0], "the content of the file"
	switch {
	case s.Err != nil && s.file != "":
		l.problems.add(first.at, first.key.Path, unreadableSource(first.setting, s.file, s.Err))
		return
	case s.Err != nil:
		l.problems.add(first.at, first.key.Path, s.Err)
		return
	case s.Public() && s.limit == maxSecret:
		l.warn(first.at, first.key.Path, "everyone can read the file: run chmod o-rwx")
	case s.file == "":
		what = "the output of the command"
	}
	for _, u := range s.uses {
		var err error
		if u.key.pool != nil {
			*u.key.pool(u.in), err = s.authorities()
		} else {
			err = u.key.content.hold(result{l.config, u.in}, s.Data)
		}
		if err != nil {
			l.problems.add(u.at, u.key.Path, check.Errorf(check.Config, "%s %v", what, err).Try(check.HintOf(err)))
		}
	}
}

// hold parses the content of a file or the output of a command as the value of the key.
func (k *Key) hold(to result, data []byte) error {
	s := setting{key: k, words: []string{held(data)}}
	if err := realm.ValidateText(s.text()); err != nil {
		return err
	}
	return k.in(to).set(s)
}

// held returns what a file or the output of a command holds. Every editor and printing command ends a line, and Windows
// editors begin a file with a byte order mark.
func held(data []byte) string {
	return strings.TrimPrefix(strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r"), "\ufeff")
}

// authorities returns the certificates that a file holds. All targets that name it share the pool.
func (s *source) authorities() (*x509.CertPool, error) {
	if s.pool == nil {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(s.Data) {
			return nil, check.Errorf(check.Config, "must hold a certificate in PEM form").
				Try("put the certificate of the authority into the file; it begins with -----BEGIN CERTIFICATE-----")
		}
		s.pool = pool
	}
	return s.pool, nil
}

// shownPath returns a path for messages, "" if a secret may have been written in its place. Such are words without a slash, and
// those that look as if chance had made them.
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
func unreadableSource(s setting, path string, err error) error {
	shown := shownPath(s.text(), path)
	e := check.Errorf(check.Config, "%v", err)
	switch {
	case shown != "":
		e = check.Errorf(check.Config, "%s: %v", shown, err)
	case !strings.ContainsRune(s.text(), filepath.Separator):
		e = check.Errorf(check.Config, "%v in %s", err, s.at.dir)
	}
	if !errors.Is(err, disk.ErrAbsent) {
		return e
	}
	e = e.Try("correct the path")
	if secret := s.key.content; shown == "" && secret != nil {
		e = e.Try(check.Hintf("write the path of a file; a secret itself belongs into {%s}", secret.Path))
	}
	switch s.key.Path {
	case "realm.client_key_file":
		e.Hint = check.Hints(e.Hint, "make a key:\n    {authelia --new-key FILE}")
	case "proxmox.token_file":
		e.Hint = check.Hints(e.Hint, "print the lines that make a token:\n    {bootstrap}")
	}
	return e
}

// output returns what a command prints. It drops the standard error, which may quote the secret.
func output(ctx context.Context, argv []string, timeout time.Duration) ([]byte, error) {
	timed, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out := &Head{Limit: maxSecret}
	cmd := CommandContext(timed, argv)
	cmd.Stdout = out
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil && out.Cut:
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
	return []byte(out.String()), err
}

// CommandContext returns a command of the configuration. When ctx ends, every process of its group is killed. A process that it
// leaves behind does not hold the caller for more than a second. It gets the environment without the variables of this program,
// which may hold secrets, and without the socket of systemd's notifications.
func CommandContext(ctx context.Context, argv []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	ownGroup(cmd)
	cmd.Cancel = func() error { return killGroup(cmd) }
	cmd.WaitDelay = time.Second
	cmd.Env = slices.DeleteFunc(os.Environ(), func(entry string) bool {
		return strings.HasPrefix(entry, envPrefix) || strings.HasPrefix(entry, "NOTIFY_SOCKET=")
	})
	return cmd
}

// Head keeps the beginning of what a command prints. One that prints too much still ends by itself.
type Head struct {
	strings.Builder
	Limit int  // bytes that are kept
	Cut   bool // more was written
}

// Write never fails.
func (h *Head) Write(p []byte) (int, error) {
	kept := p[:min(len(p), h.Limit-h.Len())]
	h.Cut = h.Cut || len(kept) < len(p)
	h.Builder.Write(kept)
	return len(p), nil
}
