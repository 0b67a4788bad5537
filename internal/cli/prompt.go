package cli

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
)

// ask prints a question and reads one line of the answer. If the context ends first, the read goes on until the program
// ends, because nothing can interrupt a read from a terminal.
func (a *app) ask(ctx context.Context, question string, read func() (string, error)) (string, error) {
	type answer struct {
		text string
		err  error
	}
	_, _ = fmt.Fprint(a.stderr, question)
	answers := make(chan answer, 1)
	go func() {
		text, err := read()
		answers <- answer{text, err}
	}()
	select {
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case got := <-answers:
		if got.err != nil && got.text == "" {
			return "", usage("no answer")
		}
		return got.text, nil
	}
}

// askHidden asks for a secret at the terminal of stdin, and does not show what is typed.
func (a *app) askHidden(ctx context.Context, question string) (check.Secret, error) {
	file, isFile := a.stdin.(*os.File)
	if !isFile {
		return check.Secret{}, usage("no answer")
	}
	fd := int(file.Fd())
	before, stateErr := term.GetState(fd)
	text, err := a.ask(ctx, question, func() (string, error) {
		typed, err := term.ReadPassword(fd)
		return string(typed), err
	})
	if ctx.Err() != nil && stateErr == nil {
		_ = term.Restore(fd, before) // the read that was left behind keeps the echo off
	}
	_, _ = fmt.Fprintln(a.stderr)
	return check.NewSecret(text), err
}

// confirm asks for the realm's name before a delete.
func (a *app) confirm(ctx context.Context, realm string, where []string) error {
	from := strings.Join(where, ", ")
	if !onTerminal(a.stdin) {
		return usage("delete asks before it removes realm %s from %s, and stdin is not a terminal", realm, from).
			Try(check.Hintf("run:\n    {delete %s --yes}", realm))
	}
	typed, err := a.line(ctx, fmt.Sprintf("Realm %s will be removed from %s. Nobody can log in through it then.\nType its name to go on: ", realm, from))
	if err == nil && typed != realm {
		err = usage("not confirmed: nothing was deleted")
	}
	return err
}

// agree asks a question and returns an error unless the answer is yes; otherwise is what an empty answer means. The command does the
// same without asking.
func (a *app) agree(ctx context.Context, question string, otherwise bool, command string) error {
	if !onTerminal(a.stdin) {
		return usage("the answer to a question is needed, and stdin is not a terminal: %s", question).
			Try(check.Hintf("without the question:\n    {%s}", command))
	}
	yes, err := a.yesOrNo(ctx, question, otherwise)
	if err == nil && !yes {
		err = usage("not confirmed: nothing was done")
	}
	return err
}

// askPassword asks for the password of a ticket login, and for a one-time code.
func (a *app) askPassword(ctx context.Context, target string, p *config.Proxmox) error {
	if p.Username.IsZero() || p.Password.IsSet() {
		return nil
	}
	if !onTerminal(a.stdin) {
		return check.Errorf(check.Config, "target %s has no password for %s, and stdin is not a terminal", target, p.Username).
			At("proxmox.password").
			Try("set {proxmox.password_file}", "set {proxmox.token_file} (an API token)")
	}
	password, err := a.askHidden(ctx, fmt.Sprintf("Password for %s on %s: ", p.Username, p.Endpoints[0]))
	if err != nil {
		return err
	}
	p.Password = password
	if p.OTP.IsSet() {
		return nil
	}
	code, err := a.askHidden(ctx, "One-time code (empty if there is none): ")
	if digits := strings.TrimSpace(code.Reveal()); err == nil && digits != "" {
		p.OTP = check.NewSecret(digits)
	}
	return err
}

// line asks a question and returns the answer without white space around it.
func (a *app) line(ctx context.Context, question string) (string, error) {
	text, err := a.ask(ctx, question, func() (string, error) { return bufio.NewReader(a.stdin).ReadString('\n') })
	return strings.TrimSpace(text), err
}

// yesOrNo asks a question until the answer is yes or no; an empty one is the default.
func (a *app) yesOrNo(ctx context.Context, question string, otherwise bool) (bool, error) {
	choices := map[bool]string{true: " [Y/n] ", false: " [y/N] "}[otherwise]
	for {
		answer, err := a.line(ctx, question+choices)
		switch strings.ToLower(answer) {
		case "y", "yes":
			return true, err
		case "n", "no":
			return false, err
		case "":
			return otherwise, err
		}
		if err != nil {
			return false, err
		}
	}
}

func onTerminal(stream any) bool {
	_, ok := terminal(stream)
	return ok
}
