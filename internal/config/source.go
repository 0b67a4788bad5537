package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"proxmox-realm/internal/check"
)

const (
	commandTimeout = 30 * time.Second
	maxSecret      = 64 << 10 // bytes of a secret file or of a command's output
	maxAuthorities = 4 << 20  // bytes of a file of certificate authorities
	maxReaders     = 8        // sources read at once
)

// source is a file or a command outside of the configuration. It is read once, however many targets share it.
type source struct {
	path     string   // of a file
	shown    string   // the path in messages; "" if a secret may have been written in its place
	argv     []string // of a command, if path is ""
	secret   bool     // else certificate authorities
	uses     []use
	text     string
	err      error
	everyone bool // can read the file
}

// use is a key that names a source. take parses the text.
type use struct {
	at   Place
	key  string
	take func(text string) error
}

// source notes that a key names a source.
func (l *loader) source(s source, u use) {
	id := fmt.Sprintf("%q %q %t", s.path, s.argv, s.secret)
	known := l.byID[id]
	if known == nil {
		known = &s
		l.byID[id] = known
		l.sources = append(l.sources, known)
	}
	known.uses = append(known.uses, u)
}

// resolve reads every source and hands out the texts. Its error is what the context ended with.
func (l *loader) resolve(ctx context.Context) error {
	var wait sync.WaitGroup
	slots := make(chan struct{}, maxReaders)
	for _, s := range l.sources {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			s.read(ctx, l.file.dir, commandTimeout)
		})
	}
	wait.Wait()
	if len(l.sources) > 0 && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, s := range l.sources {
		first := s.uses[0]
		switch {
		case s.err != nil:
			l.problems.add(first.at, first.key, s.mistake(first.key))
			continue
		case s.everyone && s.secret:
			l.warn(first.at, first.key, "everyone can read the file: run chmod o-rwx")
		}
		what := "the content of the file "
		if s.path == "" {
			what = "the output of the command "
		}
		for _, u := range s.uses {
			if err := u.take(s.text); err != nil {
				l.problems.addf(u.at, u.key, "%s%w", what, err)
			}
		}
	}
	return nil
}

// shownPath returns a path for messages if it was written like one. A bare word may be a secret in the wrong key.
func shownPath(written, path string) string {
	for _, start := range []string{"/", "./", "../", "$", "~"} {
		if strings.HasPrefix(written, start) {
			return path
		}
	}
	return ""
}

func (s *source) read(ctx context.Context, dir string, timeout time.Duration) {
	if s.path == "" {
		s.text, s.err = output(ctx, s.argv, dir, timeout)
		return
	}
	limit := int64(maxAuthorities)
	if s.secret {
		limit = maxSecret
	}
	c := readFile(ctx, s.path, nil, limit, nil)
	s.text, s.err, s.everyone = string(c.data), c.err, c.everyone
}

// mistake says why the source of a key could not be read, and what to do about it.
func (s *source) mistake(key string) error {
	e := check.Errorf(check.Config, "%v", s.err)
	switch {
	case s.path == "":
		return e
	case s.shown != "":
		e = check.Errorf(check.Config, "%s: %v", s.shown, s.err).Try(check.Advise("correct the path"))
	default:
		e = e.Try(check.Run("config show").With("it shows the whole path"))
	}
	switch {
	case !errors.Is(s.err, errAbsent):
	case key == "realm.client_key_file":
		e.Remedy = append(e.Remedy, check.Run("authelia --new-key FILE").With("it makes a client key"))
	case key == "proxmox.token_file":
		e.Remedy = append(e.Remedy, check.Run("bootstrap").With("it prints the lines that make a token"))
	}
	return e
}

// output returns what a command prints. It drops the standard error, which may quote the secret.
func output(ctx context.Context, argv []string, dir string, timeout time.Duration) (string, error) {
	timed, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out := &limited{left: maxSecret}
	cmd := exec.CommandContext(timed, Program(argv[0], dir), argv[1:]...)
	cmd.Env = CommandEnvironment(os.Environ())
	cmd.Stdout = out
	cmd.WaitDelay = time.Second // a child that keeps the output open does not hold us
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil && out.left < 0:
		return "", errors.New("the command prints too much for a secret")
	case err == nil:
		return out.String(), nil
	case timed.Err() != nil:
		return "", fmt.Errorf("the command did not end within %s", timeout)
	case errors.Is(err, exec.ErrWaitDelay):
		return "", errors.New("the command ended, but left a process behind that keeps its output open")
	case errors.As(err, &exit): // its text is "exit status 1" or "signal: killed"
		return "", fmt.Errorf("the command failed (%w): run it by hand to see why", exit)
	}
	return "", fmt.Errorf("the command cannot be run: %w", errors.Unwrap(err)) // without the program's name
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
