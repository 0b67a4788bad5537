package cli

import (
	"context"
	"fmt"
	"os"

	"proxmox-realm/internal/check"

	"golang.org/x/term"
)

// readHidden asks for a secret without showing what is typed; ok is false where there is no terminal. Where the run
// ends while it waits, the terminal shows again what is typed.
func (a *app) readHidden(ctx context.Context, question string) (answer check.Secret, ok bool, err error) {
	file, isFile := a.stdin.(*os.File)
	if !isFile || !term.IsTerminal(int(file.Fd())) {
		return check.Secret{}, false, nil
	}
	fd := int(file.Fd())
	before, stateErr := term.GetState(fd)
	_, _ = fmt.Fprint(a.stderr, question)
	type line struct {
		text []byte
		err  error
	}
	typed := make(chan line, 1)
	go func() { // nothing ends a read of a terminal: on an interruption it is left behind, for the few moments to the end
		text, err := term.ReadPassword(fd)
		typed <- line{text, err}
	}()
	select {
	case got := <-typed:
		_, _ = fmt.Fprintln(a.stderr)
		if got.err != nil {
			return check.Secret{}, true, usage("no answer: nothing was done")
		}
		return check.NewSecret(string(got.text)), true, nil
	case <-ctx.Done():
		if stateErr == nil {
			_ = term.Restore(fd, before)
		}
		_, _ = fmt.Fprintln(a.stderr)
		return check.Secret{}, true, context.Cause(ctx)
	}
}
