package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"proxmox-realm/internal/lab"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"proxmox-realm-lab": main,
		"await":             await,
	})
}

// await says ready, waits for a signal and exits with 40 and its number: a command that ends in order.
func await() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	fmt.Println("ready")
	if got, ok := (<-signals).(syscall.Signal); ok {
		os.Exit(40 + int(got))
	}
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
		},
	})
}

// exits CODE COMMAND … expects an exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND …")
	}
	got := 0
	var failed *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &failed) {
		got = failed.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// launch starts the lab as a process of its own and returns it with the lines that it prints.
func launch(t *testing.T, arguments ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "proxmox-realm-lab", arguments...)
	command.Stderr = os.Stderr
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return command, bufio.NewScanner(output)
}

func TestSignalsArePassedOn(t *testing.T) {
	for _, sent := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(sent.String(), func(t *testing.T) {
			command, lines := launch(t, "--", "await")
			if !lines.Scan() || lines.Text() != "ready" {
				t.Fatalf("printed %q", lines.Text())
			}
			if err := command.Process.Signal(sent); err != nil {
				t.Fatal(err)
			}
			_ = command.Wait()
			if got, want := command.ProcessState.ExitCode(), 40+int(sent); got != want {
				t.Errorf("exit code %d, want %d: the command's own", got, want)
			}
		})
	}
}

func TestStaysUpWithoutACommand(t *testing.T) {
	command, lines := launch(t)
	exports := map[string]bool{}
	for !exports["PROXMOX_REALM_CONFIG"] { // the last one
		if !lines.Scan() {
			t.Fatalf("only %d lines", len(exports))
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "export "), "='")
		exports[name] = true
	}
	for _, name := range []string{"PROXMOX_REALM_CONFIG", "LAB_ENDPOINT", "LAB_PASSWORD", "LAB_TOKEN_PRIVSEP_WITHOUT_ACL"} {
		if !exports[name] {
			t.Errorf("%s is not exported: %v", name, exports)
		}
	}
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := command.Wait(); err != nil {
		t.Error(err)
	}
}

// TestHelpIsComplete holds the help text to the flags, seeds and variables that there are.
func TestHelpIsComplete(t *testing.T) {
	text := help()
	var s setting
	s.flags().VisitAll(func(f *flag.Flag) {
		if !strings.Contains(text, "\n  --"+f.Name+" ") {
			t.Errorf("the help does not list --%s", f.Name)
		}
	})
	names, about := lab.Seeds()
	for _, name := range names {
		if about[name] == "" || !strings.Contains(text, "\n  "+name+" ") {
			t.Errorf("the help does not list the seed %s", name)
		}
	}
	for name := range subcommands {
		if !strings.Contains(text, "\n  proxmox-realm-lab "+name) {
			t.Errorf("the help does not list %s", name)
		}
	}
	for _, line := range strings.Split(text, "\n") {
		if len(line) > 120 {
			t.Errorf("%d characters: %s", len(line), line)
		}
	}
}
