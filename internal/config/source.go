package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
	id     string
	path   string
	shown  string // how messages call the file
	argv   []string
	secret bool // else certificate authorities
	uses   []use

	text     string
	err      error
	everyone bool // can read the file
}

// use takes the text of a source.
type use struct {
	at     Place
	key    string
	assign func(text string) error
}

// source notes a use of a source if it is wanted.
func (l *loader) source(wanted bool, id string, s source, at Place, key string, assign func(string) error) {
	if !wanted {
		return
	}
	known := l.byID[id]
	if known == nil {
		known = &s
		if l.byID == nil {
			l.byID = map[string]*source{}
		}
		l.byID[id] = known
		l.sources = append(l.sources, known)
	}
	known.uses = append(known.uses, use{at, key, assign})
}

// pathForm matches what is written like a path and not like a secret in the wrong place.
var pathForm = regexp.MustCompile(`^(\.{0,2}/|\$\{?\w+\}?/)`)

func (l *loader) sourceFile(wanted bool, v *values, key, path string, secret bool, assign func(string) error) {
	shown := path
	if !pathForm.MatchString(v.viper.GetString(key)) {
		shown = filepath.Join(filepath.Dir(path), "…")
	}
	l.source(wanted, fmt.Sprintf("file\x00%s\x00%t", path, secret), source{path: path, shown: shown, secret: secret}, v.at[key], key, assign)
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
		if s.err != nil {
			if s.argv == nil {
				s.err = check.Errorf(check.Config, "%v", s.err).Try(check.Set(s.uses[0].key, "").With("to a file that this user can read"))
			}
			l.problems.add(s.uses[0].at, s.uses[0].key, s.err)
			continue
		}
		if s.everyone && s.secret {
			l.warn(s.uses[0].at, s.uses[0].key, "everyone can read the file: run chmod o-rwx")
		}
		what := "the content of the file "
		if s.argv != nil {
			what = "the output of the command "
		}
		for _, u := range s.uses {
			if err := u.assign(s.text); err != nil {
				l.problems.addf(u.at, u.key, "%s%w", what, err)
			}
		}
	}
	return nil
}

func (s *source) read(ctx context.Context, dir string, timeout time.Duration) {
	if s.argv != nil {
		s.text, s.err = output(ctx, s.argv, dir, timeout)
		return
	}
	limit := int64(maxAuthorities)
	if s.secret {
		limit = maxSecret
	}
	c := readFile(ctx, s.path, limit, nil)
	if s.text, s.err = string(c.data), c.err; s.err != nil {
		s.err = fmt.Errorf("%s: %w", s.shown, c.err)
		return
	}
	s.everyone = readable(c.info)
}

// output returns what a command prints. It drops the standard error, which may quote the secret.
func output(ctx context.Context, argv []string, dir string, timeout time.Duration) (string, error) {
	name := "the command " + filepath.Base(argv[0])
	if printable(filepath.Base(argv[0])) == unprintable {
		name = "the command"
	}
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
		return "", fmt.Errorf("%s prints too much for a secret", name)
	case err == nil:
		return out.String(), nil
	case timed.Err() != nil:
		return "", fmt.Errorf("%s did not end within %s", name, timeout)
	case errors.Is(err, exec.ErrWaitDelay):
		return "", fmt.Errorf("%s ended, but left a process behind that keeps its output open", name)
	case errors.As(err, &exit) && exit.Exited():
		return "", fmt.Errorf("%s ended with status %d: run it by hand to see why", name, exit.ExitCode())
	case errors.As(err, &exit):
		return "", fmt.Errorf("%s was killed by a signal", name)
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("%s was not found", name)
	case errors.Is(err, os.ErrPermission):
		return "", fmt.Errorf("%s cannot be run: permission denied", name)
	}
	return "", fmt.Errorf("%s cannot be run", name)
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
