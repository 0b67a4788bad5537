package cli

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"

	"proxmox-realm/internal/fault"
	"proxmox-realm/internal/secret"
)

// readHidden asks for a secret without showing what is typed; ok is false where there is no terminal.
func (a *app) readHidden(question string) (answer secret.Secret, ok bool, err error) {
	file, isFile := a.stdin.(*os.File)
	if !isFile || !term.IsTerminal(int(file.Fd())) {
		return secret.Secret{}, false, nil
	}
	fd := int(file.Fd())
	// An interruption must not leave the terminal without echo: the state is restored by whoever ends the program.
	before, err := term.GetState(fd)
	if err == nil {
		defer func() { _ = term.Restore(fd, before) }()
	}
	_, _ = fmt.Fprint(a.stderr, question)
	typed, err := term.ReadPassword(fd)
	_, _ = fmt.Fprintln(a.stderr)
	if err != nil {
		return secret.Secret{}, true, fault.New(fault.Interrupted, "no answer").Because(err)
	}
	return secret.New(strings.TrimSpace(string(typed))), true, nil
}
