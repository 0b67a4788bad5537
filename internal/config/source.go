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

// source is a file or a command outside of the configuration.
type source struct {
	file  string
	shown string   // the file in messages; "" if a secret may have been written in its place
	limit int64    // of the file, in bytes
	argv  []string // of a command, if file is ""
}

// use is a key that names a source. assign parses the text of the source.
type use struct {
	at     Place
	key    string
	assign func(text string) error
}

// noted is a source that a target names.
type noted struct {
	source
	use
}

// note notes that a key of the target names a source.
func (l *loader) note(s source, u use) { l.noted = append(l.noted, noted{s, u}) }

// readNoted reads the files that the target names, unless the configuration has a mistake: a pipe may wait for its writer. Each
// file is read once, however many targets name it. Commands run later.
func (l *loader) readNoted(ctx context.Context) {
	for _, n := range l.noted {
		switch {
		case len(l.problems.list) > l.unreadable:
		case n.file != "":
			before := len(l.problems.list)
			l.readNamed(ctx, n.source, n.use)
			l.unreadable += len(l.problems.list) - before
		default:
			l.runLater(n.argv, n.use)
		}
	}
	l.noted = l.noted[:0]
}

func (l *loader) readNamed(ctx context.Context, s source, u use) {
	id := fmt.Sprint(s.limit, s.file)
	c, known := l.files[id]
	if !known {
		c = readFile(ctx, s.file, nil, s.limit, nil)
		l.files[id] = c
		switch {
		case c.err != nil:
			l.problems.add(u.at, u.key, unreadableSource(u.key, s.shown, c.err))
		case c.everyone && s.limit == maxSecret:
			l.warn(u.at, u.key, "everyone can read the file: run chmod o-rwx")
		}
	}
	if c.err == nil {
		l.assign(u, "the content of the file", string(c.data))
	}
}

// command prints a secret. It runs once, however many targets name it.
type command struct {
	argv []string
	uses []use
	text string
	err  error
}

func (l *loader) runLater(argv []string, u use) {
	argv = append([]string{Program(argv[0], u.at.dir)}, argv[1:]...)
	id := fmt.Sprintf("%q", argv)
	i, known := l.commandAt[id]
	if !known {
		i = len(l.commands)
		l.commands, l.commandAt[id] = append(l.commands, &command{argv: argv}), i
	}
	l.commands[i].uses = append(l.commands[i].uses, u)
}

// runCommands runs the commands and hands out what they print. Its error is what the context ended with.
func (l *loader) runCommands(ctx context.Context) error {
	var wait sync.WaitGroup
	slots := make(chan struct{}, maxCommands)
	for _, c := range l.commands {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			c.text, c.err = output(ctx, c.argv, commandTimeout)
		})
	}
	wait.Wait()
	if len(l.commands) > 0 && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, c := range l.commands {
		if c.err != nil {
			l.problems.add(c.uses[0].at, c.uses[0].key, c.err)
			continue
		}
		for _, u := range c.uses {
			l.assign(u, "the output of the command", c.text)
		}
	}
	return nil
}

func (l *loader) assign(u use, what, text string) {
	if err := u.assign(text); err != nil {
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
		e = check.Errorf(check.Config, "%s: %v", shown, err).Try(check.Hint("correct the path"))
	} else {
		e = e.Try(check.Run("config show").With("it shows the whole path"))
	}
	switch {
	case !errors.Is(err, errAbsent):
	case key == "realm.client_key_file":
		e.Hint = check.Hints(e.Hint, check.Run("authelia --new-key FILE").With("it makes a client key"))
	case key == "proxmox.token_file":
		e.Hint = check.Hints(e.Hint, check.Run("bootstrap").With("it prints the lines that make a token"))
	}
	return e
}

// output returns what a command prints. It drops the standard error, which may quote the secret.
func output(ctx context.Context, argv []string, timeout time.Duration) (string, error) {
	timed, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out := &limited{left: maxSecret}
	cmd := exec.CommandContext(timed, argv[0], argv[1:]...)
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
