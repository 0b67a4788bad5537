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
	maxCommands    = 8        // run at once
)

// use is a key that names a file or a command outside of the configuration. take parses the text of it.
type use struct {
	at   Place
	key  string
	take func(text string) error
}

// source is such a file or command. It is read once, however many targets share it.
type source struct {
	text string
	err  error
	argv []string // of a command
	uses []use    // of a command, which runs at the end
}

// readSource reads a file of at most limit bytes and hands out its text. shown is its path in messages; "" if a secret may
// have been written in its place.
func (l *loader) readSource(ctx context.Context, path, shown string, limit int64, u use) {
	id := fmt.Sprint(limit, path)
	s := l.sources[id]
	if s == nil {
		c := readFile(ctx, path, nil, limit, nil)
		s = &source{text: string(c.data), err: c.err}
		l.sources[id] = s
		switch {
		case s.err != nil:
			l.problems.add(u.at, u.key, unreadableSource(u.key, shown, s.err))
		case c.everyone && limit == maxSecret:
			l.warn(u.at, u.key, "everyone can read the file: run chmod o-rwx")
		}
	}
	if s.err == nil {
		l.take(u, "the content of the file", s.text)
	}
}

// runLater notes a command, which runs only if the configuration has no mistakes.
func (l *loader) runLater(argv []string, u use) {
	id := fmt.Sprintf("%q", argv)
	s := l.sources[id]
	if s == nil {
		s = &source{argv: argv}
		l.sources[id], l.commands = s, append(l.commands, s)
	}
	s.uses = append(s.uses, u)
}

// runCommands runs the commands and hands out what they print. Its error is what the context ended with.
func (l *loader) runCommands(ctx context.Context) error {
	var wait sync.WaitGroup
	slots := make(chan struct{}, maxCommands)
	for _, s := range l.commands {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			s.text, s.err = output(ctx, s.argv, l.file.dir, commandTimeout)
		})
	}
	wait.Wait()
	if len(l.commands) > 0 && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, s := range l.commands {
		if s.err != nil {
			l.problems.add(s.uses[0].at, s.uses[0].key, s.err)
			continue
		}
		for _, u := range s.uses {
			l.take(u, "the output of the command", s.text)
		}
	}
	return nil
}

func (l *loader) take(u use, what, text string) {
	if err := u.take(text); err != nil {
		l.problems.addf(u.at, u.key, "%s %w", what, err)
	}
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

// unreadableSource says why the file of a key could not be read, and what to do about it.
func unreadableSource(key, shown string, err error) error {
	e := check.Errorf(check.Config, "%v", err)
	if shown != "" {
		e = check.Errorf(check.Config, "%s: %v", shown, err).Try(check.Advise("correct the path"))
	} else {
		e = e.Try(check.Run("config show").With("it shows the whole path"))
	}
	switch {
	case !errors.Is(err, errAbsent):
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
