package cli

import (
	"context"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"proxmox-realm/internal/check"
)

// terminals stay open until the end: a read that was left behind still uses a file descriptor, which must not be reused.
var terminals []*os.File

// pseudoTerminal returns both ends of a terminal: the person's and the program's.
func pseudoTerminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	terminals = append(terminals, person, program)
	return person, program
}

func echoes(t *testing.T, terminal *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// Ctrl-C ends the question for a password, and the terminal then echoes again.
func TestAnInterruptionEndsTheQuestionForAPassword(t *testing.T) {
	_, program := pseudoTerminal(t)
	a := &app{stdin: program, stderr: io.Discard}
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := a.askHidden(ctx, "Password: ")
		ended <- err
	}()
	for echoes(t, program) { // until the question is asked
		runtime.Gosched()
	}
	cancel(check.Errorf(check.Interrupted, "interrupted by SIGINT"))
	if err := <-ended; check.CodeOf(err) != check.Interrupted {
		t.Errorf("the question ended with %v", err)
	}
	if !echoes(t, program) {
		t.Error("the terminal was left silent")
	}
}

func TestAPasswordIsTakenAsItIsTyped(t *testing.T) {
	person, program := pseudoTerminal(t)
	a := &app{stdin: program, stderr: io.Discard}
	go func() {
		for echoes(t, program) {
			runtime.Gosched()
		}
		_, _ = person.WriteString(" with spaces \n")
	}()
	got, err := a.askHidden(t.Context(), "Password: ")
	if err != nil || got.Reveal() != " with spaces " {
		t.Errorf("%d characters, %v", len(got.Reveal()), err)
	}
}

// Only y and yes are a yes; the question names the command that does not ask.
func TestAQuestionNeedsAYes(t *testing.T) {
	for typed, want := range map[string]bool{"y\n": true, " Yes \n": true, "\n": false, "n\n": false, "yep\nn\n": false} {
		person, program := pseudoTerminal(t)
		if _, err := person.WriteString(typed); err != nil {
			t.Fatal(err)
		}
		a := &app{stdin: program, stderr: io.Discard}
		if err := a.agree(t.Context(), "Go on?", false, "authelia --yes"); (err == nil) != want || err != nil && check.CodeOf(err) != check.Usage {
			t.Errorf("%q: %v", typed, err)
		}
	}
	a := &app{stdin: strings.NewReader("y\n"), stderr: io.Discard}
	err := a.agree(t.Context(), "Go on?", false, "authelia --yes")
	if hint := check.HintOf(err).For(check.Names{}); check.CodeOf(err) != check.Usage || !strings.HasSuffix(hint, "\n    proxmox-realm authelia --yes") {
		t.Errorf("%v, %s", err, hint)
	}
}
