package config

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
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
	maxReaders     = 8        // sources read at once
)

// sources reads what stands outside of the configuration: secret files, the output of commands, certificate
// authorities. Each distinct one is read once, however many targets share it.
type sources struct {
	env     []string
	dir     string // programs with a relative path are found from here
	timeout time.Duration
	byID    map[string]*source
	order   []*source
}

// source is a file or a command with one answer.
type source struct {
	at   place // of its first use
	path string
	argv []string
	uses []use

	text     string
	problem  string
	everyone bool // can read the file
}

// use takes the answer of a source.
type use struct {
	at     place
	key    string // that says what the text must be, such as proxmox.token
	assign func(check.Secret)
	trust  func(*x509.CertPool) // of certificate authorities, in place of assign
}

func (s *sources) add(id string, src source, u use) {
	if s.byID == nil {
		s.byID = map[string]*source{}
	}
	known := s.byID[id]
	if known == nil {
		known = &src
		s.byID[id] = known
		s.order = append(s.order, known)
	}
	known.uses = append(known.uses, u)
}

func (s *sources) addFile(path string, u use) {
	s.add("file\x00"+path, source{at: u.at, path: path}, u)
}

func (s *sources) addCommand(argv []string, u use) {
	s.add("command\x00"+strings.Join(argv, "\x00"), source{at: u.at, argv: argv}, u)
}

// addAuthorities has a file of certificate authorities read. All targets that name it share the pool.
func (s *sources) addAuthorities(path string, at place, assign func(*x509.CertPool)) {
	s.add("authorities\x00"+path, source{at: at, path: path}, use{at: at, trust: assign})
}

// resolve reads every source and hands out the answers.
func (s *sources) resolve(ctx context.Context, problems *Problems, warn func(place, string)) error {
	read := make(chan struct{})
	go func() { // which an interruption leaves behind: nothing ends the opening of a pipe that nobody writes to
		defer close(read)
		var wait sync.WaitGroup
		slots := make(chan struct{}, maxReaders)
		for _, src := range s.order {
			slots <- struct{}{}
			wait.Go(func() {
				defer func() { <-slots }()
				if src.argv != nil {
					src.text, src.problem = s.run(ctx, src.argv)
				} else {
					src.text, src.everyone, src.problem = readSecret(src.path)
				}
			})
		}
		wait.Wait()
	}()
	select {
	case <-read:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, src := range s.order {
		src.deliver(problems, warn)
	}
	return nil
}

func (src *source) deliver(problems *Problems, warn func(place, string)) {
	if src.problem != "" {
		problems.add(src.at, src.problem)
		return
	}
	if src.uses[0].assign == nil {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM([]byte(src.text)) {
			problems.add(src.at, "the file holds no certificate in PEM form")
			return
		}
		for _, u := range src.uses {
			u.trust(pool)
		}
		return
	}
	if src.everyone {
		warn(src.at, "everyone can read the file: `chmod o-rwx` it")
	}
	what := "what the file holds "
	if src.argv != nil {
		what = "what the command prints "
	}
	text := oneLine(src.text)
	for _, u := range src.uses {
		if message := wrong(text, u.key); message != "" {
			problems.add(u.at, what+message)
			continue
		}
		u.assign(check.NewSecret(text))
	}
}

// oneLine takes one line feed off the end, as every editor and printing command puts it there.
func oneLine(text string) string {
	if line, cut := strings.CutSuffix(text, "\r\n"); cut {
		return line
	}
	return strings.TrimSuffix(text, "\n")
}

// wrong completes "what the file holds …", "" where the text is as the key wants it.
func wrong(text, path string) string {
	switch {
	case text == "":
		return "is empty"
	case strings.Contains(text, "\n"):
		return "must be one line: it has more"
	case strings.HasPrefix(text, "\ufeff"): // which Proxmox would take for a part of the user, and count a failed login
		return "begins with a byte order mark: save it as UTF-8 without one"
	}
	k := index().path[path]
	err := k.plain(text)
	if err == nil && k.normal != nil {
		_, err = k.normal(text)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func readSecret(path string) (text string, everyone bool, problem string) {
	f, err := os.Open(path)
	if err != nil {
		return "", false, reason(err)
	}
	defer func() { _ = f.Close() }() // opened for reading: nothing can be lost
	info, err := f.Stat()
	if err != nil {
		return "", false, reason(err)
	}
	if info.IsDir() {
		return "", false, "is a folder, not a file"
	}
	limit := int64(maxSecret)
	if info.Mode().IsRegular() {
		limit = maxFile // a bundle of authorities
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return "", false, reason(err)
	case int64(len(data)) > limit:
		return "", false, "the file is too large"
	}
	return string(data), readable(info), ""
}

// run returns what a command prints. What it says on its standard error is dropped: it may quote the secret.
func (s *sources) run(ctx context.Context, argv []string) (text, problem string) {
	program := argv[0]
	name := "the command " + filepath.Base(program)
	if printable(filepath.Base(program)) == unprintable {
		name = "the command"
	}
	if strings.ContainsRune(program, filepath.Separator) && !filepath.IsAbs(program) {
		program = filepath.Join(s.dir, program)
	}
	timed, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	out := &bounded{left: maxSecret}
	cmd := exec.CommandContext(timed, program, argv[1:]...)
	cmd.Env = append([]string{}, s.env...)
	cmd.Stdout = out
	cmd.WaitDelay = time.Second // children that keep the output open do not hold us
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil && out.left < 0:
		return "", name + " prints too much for a secret"
	case err == nil:
		return out.String(), ""
	case timed.Err() != nil:
		return "", fmt.Sprintf("%s did not end within %s", name, s.timeout)
	case errors.As(err, &exit) && exit.Exited():
		return "", fmt.Sprintf("%s ended with status %d: run it by hand to see why", name, exit.ExitCode())
	case errors.As(err, &exit):
		return "", name + " was killed by a signal"
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return "", name + " was not found"
	case errors.Is(err, os.ErrPermission):
		return "", name + " cannot be run: permission denied"
	}
	return "", name + " cannot be run"
}

// bounded keeps what is written to it up to a bound.
type bounded struct {
	strings.Builder
	left int
}

// Write never fails, so that a command which prints too much still ends by itself.
func (b *bounded) Write(p []byte) (int, error) {
	if b.left >= len(p) {
		b.Builder.Write(p)
	}
	b.left -= len(p)
	return len(p), nil
}
