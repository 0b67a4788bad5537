package deploy

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// need runs .ci/need without a terminal, on a machine whose only programs are the named ones, a shell's tools and apt-get.
// It returns what it printed, its exit code, and the calls of apt-get.
func need(t *testing.T, ci, argument string, programs ...string) (stdout, stderr string, code int, calls string) {
	t.Helper()
	bin := t.TempDir()
	log := filepath.Join(bin, "calls")
	for _, name := range []string{"sh", "dirname", "tr", "paste", "cat", "id", "env", "mkdir", "rm", "uname"} {
		path, err := exec.LookPath(name)
		if err == nil {
			err = os.Symlink(path, filepath.Join(bin, name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	fakes := map[string]string{"apt-get": `echo "$*" >>` + log, "sudo": `exec "$@"`}
	for _, name := range programs {
		fakes[name] = "exit 0"
	}
	for name, script := range fakes {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!"+filepath.Join(bin, "sh")+"\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// The script looks below its own folder for unpacked programs.
	root := t.TempDir()
	if err := os.CopyFS(filepath.Join(root, ".ci"), os.DirFS("../.ci")); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), filepath.Join(bin, "sh"), filepath.Join(root, ".ci/need"), argument)
	command.Env = []string{"PATH=" + bin, "CI=" + ci}
	var out, err bytes.Buffer
	command.Stdout, command.Stderr = &out, &err
	if e := command.Run(); e != nil && !errors.As(e, new(*exec.ExitError)) {
		t.Fatal(e)
	}
	asked, _ := os.ReadFile(log)
	return strings.TrimSpace(out.String()), err.String(), command.ProcessState.ExitCode(), string(asked)
}

// Looking for suites installs nothing. What is left out is named, and is an error in continuous integration.
func TestSuitesAreLookedForOnly(t *testing.T) {
	stdout, stderr, code, calls := need(t, "", "suites", "chromium", "systemd-analyze")
	if stdout != "browser,systemd" || code != 0 || calls != "" || !strings.Contains(stderr, "left out: the ansible tests, for want of ansible-playbook") {
		t.Errorf("exit %d, %q, apt-get %q: %s", code, stdout, calls, stderr)
	}
	if _, stderr, code, calls = need(t, "true", "suites", "chromium"); code != 1 || calls != "" {
		t.Errorf("exit %d, apt-get %q: %s", code, calls, stderr)
	}
}

// Without a terminal nothing is installed, except where CI says that nobody can be asked.
func TestToolsAreInstalledOnceAgreed(t *testing.T) {
	if _, stderr, code, calls := need(t, "", "tools", "git"); code != 1 || calls != "" || !strings.Contains(stderr, "missing Debian packages: ") {
		t.Errorf("exit %d, apt-get %q: %s", code, calls, stderr)
	}
	_, stderr, code, calls := need(t, "true", "tools", "git", "chromium")
	if code != 1 || !strings.Contains(stderr, "still missing: ") {
		t.Errorf("apt-get installed nothing, and the exit code is %d: %s", code, stderr)
	}
	for _, part := range []string{" update\n", " download prometheus\n", " install -y --no-install-recommends ", " ansible-core ansible-lint "} {
		if !strings.Contains(calls, part) {
			t.Errorf("apt-get was not called with %q:\n%s", part, calls)
		}
	}
	for _, part := range []string{"chromium", "install -y --no-install-recommends prometheus"} {
		if strings.Contains(calls, part) {
			t.Errorf("apt-get was called with %q:\n%s", part, calls)
		}
	}
}
