package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// help returns what a command line for help prints.
func help(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := Main(args, strings.NewReader(""), &stdout, &stderr); code != 0 || stderr.Len() > 0 {
		t.Fatalf("%v: exit %d: %s", args, code, stderr.String())
	}
	return stdout.String()
}

// Help texts fit a terminal of 80 columns. Command lines to copy may be longer.
func TestHelpFitsATerminal(t *testing.T) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Name() == "completion" {
			return // its text is cobra's
		}
		args := strings.Fields(cmd.CommandPath())[1:]
		text := help(t, append([]string{"help"}, args...)...)
		if cmd.Runnable() {
			if asked := help(t, append(args, "--help")...); asked != text {
				t.Errorf("%s --help differs from help %s", cmd.CommandPath(), strings.Join(args, " "))
			}
		}
		for line := range strings.Lines(text) {
			copied := strings.HasPrefix(line, "  ") && strings.Contains(line, "proxmox-realm ") || strings.HasPrefix(line, `Use "`)
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

// The configuration keys are too many for the help of each command: "help config" explains them.
func TestKeyFlagsAreExplainedOnce(t *testing.T) {
	text := help(t, "plan", "--help")
	if strings.Contains(text, "--username-claim") || !strings.Contains(text, "help config") {
		t.Errorf("plan --help lists the configuration keys, or does not say where they are:\n%s", text)
	}
	if !strings.Contains(text, "--exit-code ") || !strings.Contains(text, "\n    13   held") {
		t.Errorf("plan --help lacks its own flag or its exit codes:\n%s", text)
	}
	if !strings.Contains(help(t, "help", "config"), "realm.username_claim (--username-claim)") {
		t.Error("help config does not name the flag of realm.username_claim")
	}
}

func TestCompletion(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	content := "targets:\n- {name: berlin, proxmox: {endpoint: b.example.com}}\n- {name: paris, proxmox: {endpoint: p.example.com}}\n"
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		want []string
	}{
		{[]string{"verify", "-c", file, "-t", ""}, []string{"berlin", "paris"}},
		{[]string{"verify", "-c", file + ".absent", "-t", ""}, nil},
		{[]string{"verify", "-o", ""}, []string{"text", "json", "jsonl"}},
		{[]string{"verify", "--fingerp"}, []string{"--fingerprint"}},
		{[]string{"help", "ap"}, []string{"apply"}},
	} {
		var stdout, stderr bytes.Buffer
		Main(append([]string{"__complete"}, test.args...), strings.NewReader(""), &stdout, &stderr)
		var got []string
		for line := range strings.Lines(stdout.String()) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			if word != "" && !strings.HasPrefix(word, ":") {
				got = append(got, word)
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%q completes to %q, want %q", test.args, got, test.want)
		}
	}
}
