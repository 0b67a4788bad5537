package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// help returns what a command line for help prints.
func help(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := Main(args, nil, strings.NewReader(""), &stdout, &stderr); code != 0 || stderr.Len() > 0 {
		t.Fatalf("%v: exit %d: %s", args, code, stderr.String())
	}
	return stdout.String()
}

// Every help text fits a terminal of 80 columns; only what is there to be copied may be longer.
func TestHelpFitsATerminal(t *testing.T) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Name() == "completion" {
			return // cobra's own words
		}
		args := strings.Fields(cmd.CommandPath())[1:]
		text := help(t, append([]string{"help"}, args...)...)
		if cmd.Runnable() {
			if asked := help(t, append(args, "--help")...); asked != text {
				t.Errorf("%s --help differs from help %s", cmd.CommandPath(), strings.Join(args, " "))
			}
		}
		for line := range strings.Lines(text) {
			copied := strings.HasPrefix(line, "  ") && strings.Contains(line, "proxmox-realm ")
			if length := len([]rune(strings.TrimRight(line, "\n"))); length > 80 && !copied {
				t.Errorf("%s: %d characters: %s", cmd.CommandPath(), length, line)
			}
		}
		for _, c := range cmd.Commands() {
			if !c.Hidden {
				walk(c)
			}
		}
	}
	walk((&app{}).root())
}

func TestHelpOfKeyFlags(t *testing.T) {
	text := help(t, "plan", "--help")
	for _, want := range []string{
		"\n      --endpoint VALUE,...",
		"\n      --insecure[=false] ",
		" a user with its realm, such as root@pam,",
		" SHA-256 fingerprints of",
		"\n  13   held: the gate kept the change back; the realm is as before\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("plan --help lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "string") {
		t.Errorf("plan --help names a type of Go:\n%s", text)
	}
}
