// Package deploy tests the files in its folders. Each file is loaded by the program that reads it in production, or by
// the same library. Each command in a file must be one that proxmox-realm understands.
package deploy

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/robfig/cron/v3"

	"proxmox-realm/internal/cli"
	"proxmox-realm/internal/config"
)

// looks lists the files by pattern, with the function that tests them. A file that no pattern matches fails the test.
var looks = []struct {
	pattern string
	look    func(t *testing.T, path string)
}{
	{"*/README.md", readme},
	{"systemd/*.service", unit},
	{"systemd/*.timer", unit},
	{"systemd/on-failure/*", onFailure},
	{"cron/proxmox-realm", crontab},
	{"container/Dockerfile", dockerfile},
	{"container/Dockerfile.dockerignore", dockerignore},
	{"kubernetes/kustomization.yaml", kustomization},
	{"kubernetes/*/kustomization.yaml", kustomization},
	{"kubernetes/*.yaml", manifests},
	{"kubernetes/*/*.yaml", part},
	{"monitoring/alerts*.yaml", monitored},
	{"monitoring/dashboard.json", monitored},
	{"packaging/config.yaml", sample},
	{"packaging/*.sh", script},
	{"../examples/*.yaml", example},
	{"../examples/*.sh", script},
}

// elsewhere lists the files that other tests cover.
var elsewhere = []string{"ansible/", "kubernetes/cluster/", "../examples/ansible-", "packaging/packaging.go", "packaging/build/main.go", "go.mod", "go.sum"}

func TestEveryFile(t *testing.T) {
	seen := map[string]bool{}
	for _, path := range slices.Concat(filesBelow(t, "."), filesBelow(t, "../examples")) {
		if strings.HasSuffix(path, "_test.go") || slices.ContainsFunc(elsewhere, func(prefix string) bool { return strings.HasPrefix(path, prefix) }) {
			continue
		}
		t.Run(path, func(t *testing.T) {
			for _, l := range looks {
				if matched, err := filepath.Match(l.pattern, path); err != nil {
					t.Fatal(err)
				} else if matched {
					seen[l.pattern] = true
					l.look(t, path)
					return
				}
			}
			t.Error("no test covers this file")
		})
	}
	for _, l := range looks {
		if !seen[l.pattern] {
			t.Errorf("no file matches %s", l.pattern)
		}
	}
}

func filesBelow(t *testing.T, root string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			found = append(found, filepath.ToSlash(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// understood fails unless the program knows the command and each of its options.
func understood(t *testing.T, args []string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := cli.Main(append(slices.Clone(args), "--help"), strings.NewReader(""), &stdout, &stderr)
	if code != 0 || !strings.Contains(stdout.String(), "proxmox-realm "+args[0]) {
		t.Errorf("proxmox-realm %s: exit %d: %s", strings.Join(args, " "), code, stderr.String())
	}
}

// loads fails unless the text is a configuration without a warning. With secrets, it reads the secrets too; these are in
// CREDENTIALS_DIRECTORY only. The files of targets are beside the configuration, laid out like a volume of Kubernetes.
func loads(t *testing.T, text string, secrets bool, targets map[string]string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "config.yaml")
	files := map[string]string{"config.yaml": text, "token": token, "client-key": "insecure_secret_of_an_example\n"}
	for name := range targets {
		files[strings.TrimSuffix(name, ".yaml")+".token"] = token
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	configMapVolume(t, filepath.Join(dir, "targets"), targets)
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	c, err := config.Load(t.Context(), config.Options{
		File:    path,
		Secrets: secrets,
		Partial: !secrets, // an example may leave the rest to the environment
	})
	if err != nil {
		t.Fatalf("the configuration does not load: %v", err)
	}
	for _, w := range c.Warnings {
		t.Errorf("the configuration loads with a warning: %v", w)
	}
	if targets != nil && len(c.Targets) != len(targets) {
		t.Errorf("%d targets, want %d", len(c.Targets), len(targets))
	}
}

const token = "proxmox-realm@pve!agent=00000000-0000-0000-0000-000000000000\n"

func sample(t *testing.T, path string) { loads(t, read(t, path), true, nil) }

func example(t *testing.T, path string) { loads(t, read(t, path), false, nil) }

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// readme checks the commands in fenced blocks, and that the page says how to create a least-privilege token.
func readme(t *testing.T, path string) {
	text := read(t, path)
	if path != "packaging/README.md" && !strings.Contains(text, "proxmox-realm bootstrap") {
		t.Error("does not say how to make a least-privilege token")
	}
	fenced := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
			continue
		}
		if !fenced {
			continue
		}
		line, _, _ = strings.Cut(line, " #")
		for _, call := range calls.FindAllStringSubmatch(line, -1) {
			understood(t, strings.Fields(call[1]))
		}
	}
	if fenced {
		t.Error("a fenced block does not end")
	}
}

// calls finds the program's calls in a line of shell.
var calls = regexp.MustCompile(`(?:^|[|;(] *|[A-Z]=\S+ |sudo )proxmox-realm ([^|;)>]+)`)

// unit checks the commands of a unit. In the systemd suite, systemd itself reads the unit.
func unit(t *testing.T, path string) {
	text := read(t, path)
	commands := 0
	for line := range strings.Lines(text) {
		if command, found := strings.CutPrefix(line, "ExecStart=/usr/bin/proxmox-realm "); found {
			commands++
			understood(t, strings.Fields(command))
		}
	}
	if want := strings.Count(text, "ExecStart="); commands != want || (strings.HasSuffix(path, ".service") && want != 1) {
		t.Errorf("%d of %d commands call /usr/bin/proxmox-realm", commands, want)
	}
}

// onFailure checks that unit and drop-in fit together. In the systemd suite, systemd itself reads them.
func onFailure(t *testing.T, path string) {
	text := read(t, path)
	if strings.HasSuffix(path, ".conf") && !strings.Contains(text, "\nOnFailure=proxmox-realm-failed@%n.service\n") {
		t.Error("does not start proxmox-realm-failed@.service")
	}
	if strings.HasSuffix(path, ".service") && filepath.Base(path) != "proxmox-realm-failed@.service" {
		t.Error("no drop-in starts this unit")
	}
}

// TestOneLayout checks that the units, the package and the cron job use the folders that runs by hand use as root.
func TestOneLayout(t *testing.T) {
	const etc, state = "/etc/proxmox-realm", "proxmox-realm"
	for _, path := range []string{"systemd/proxmox-realm.service", "systemd/proxmox-realm-agent.service"} {
		text := read(t, path)
		for _, line := range []string{"--config " + etc + "/config.yaml\n", "\nStateDirectory=" + state + "\n", "\nStateDirectoryMode=0700\n"} {
			if !strings.Contains(text, line) {
				t.Errorf("%s lacks %q", path, line)
			}
		}
		// Copies of files would hide a changed token from a running agent, and another user could not share the state.
		for _, key := range []string{"LoadCredential", "DynamicUser", "User=", "Environment="} {
			if strings.Contains(text, "\n"+key) {
				t.Errorf("%s has %s", path, key)
			}
		}
	}
	if text := read(t, "cron/proxmox-realm"); strings.Contains(text, "CREDENTIALS_DIRECTORY") || strings.Contains(text, "--config") {
		t.Error("the cron job does not use the default configuration")
	}
	if text := read(t, "../.goreleaser.yaml"); !strings.Contains(text, "{dst: "+etc+", type: dir, file_info: {owner: root, group: root, mode: 0700") {
		t.Errorf("the package does not create %s with mode 0700", etc)
	}
}

// TestUnitsAgree checks that both services have the same folders and hardening.
func TestUnitsAgree(t *testing.T) {
	shared := func(path string) string {
		text := read(t, path)
		_, text, found := strings.Cut(text, "# Runs by hand, timer and agent share")
		if !found {
			t.Fatalf("%s: no block of folders and hardening", path)
		}
		text, _, _ = strings.Cut(text, "\n[Install]")
		return strings.TrimSpace(text)
	}
	if diff := cmp.Diff(shared("systemd/proxmox-realm.service"), shared("systemd/proxmox-realm-agent.service")); diff != "" {
		t.Errorf("the services differ (-oneshot +agent):\n%s", diff)
	}
}

// crontab runs the jobs as cron does, on a machine with the program and on one from which it was removed.
func crontab(t *testing.T, path string) {
	settings := map[string]string{}
	var jobs []string
	for line := range strings.Lines(read(t, path)) {
		line = strings.TrimSpace(line)
		switch name, value, isSetting := strings.Cut(line, "="); {
		case line == "" || strings.HasPrefix(line, "#"):
		case isSetting && !strings.ContainsAny(name, " \t*"):
			settings[name] = value
		default:
			fields := strings.Fields(line)
			if len(fields) < 8 {
				t.Fatalf("%q is no line of a crontab", line)
			}
			if _, err := cron.ParseStandard(strings.Join(fields[:5], " ")); err != nil {
				t.Errorf("%q: %v", line, err)
			}
			if fields[5] != "root" || strings.Contains(line, "%") {
				t.Errorf("%q: not run as root, or with %%, which cron takes for a line feed", line)
			}
			jobs = append(jobs, strings.Join(fields[6:], " "))
		}
	}
	if len(jobs) != 1 || settings["MAILTO"] == "" || settings["SHELL"] != "/bin/sh" {
		t.Fatalf("%d jobs with the settings %v", len(jobs), settings)
	}
	run := func(bin string) (string, error) {
		command := exec.CommandContext(t.Context(), settings["SHELL"], "-c", jobs[0])
		command.Env = []string{"PATH=" + bin}
		output, err := command.CombinedOutput()
		return string(output), err
	}
	bin := t.TempDir()
	if output, err := run(bin); err != nil || output != "" {
		t.Errorf("without the program, cron would mail each time: %v, %q", err, output)
	}
	if err := os.WriteFile(filepath.Join(bin, "proxmox-realm"), []byte("#!/bin/sh\necho \"$*\"\nexit 11\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	output, err := run(bin)
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 11 {
		t.Errorf("the exit code of the program is lost: %v", err)
	}
	understood(t, strings.Fields(output))
}

func dockerfile(t *testing.T, path string) {
	parsed, err := parser.Parse(strings.NewReader(read(t, path)))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range parsed.Warnings {
		t.Errorf("line %v: %s", w.Location, w.Short)
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		t.Fatal(err)
	}
	var user string
	var arguments []string
	for _, command := range stages[len(stages)-1].Commands {
		switch c := command.(type) {
		case *instructions.UserCommand:
			user = c.User
		case *instructions.EntrypointCommand:
			if c.PrependShell || len(c.CmdLine) != 1 || c.CmdLine[0] != "/usr/bin/proxmox-realm" {
				t.Errorf("the image starts %q", c.CmdLine)
			}
		case *instructions.CmdCommand:
			if c.PrependShell {
				t.Error("the image has no shell for CMD")
			}
			arguments = c.CmdLine
		case *instructions.RunCommand:
			t.Error("the image has no shell to run anything with")
		}
	}
	if user != "65532:65532" {
		t.Errorf("the image runs as %q", user)
	}
	if len(arguments) == 0 {
		t.Fatal("no command")
	}
	understood(t, arguments)
	// Files that are copied from the context must exist and must not be ignored.
	ignored := ignorePatterns(t, path+".dockerignore")
	for _, stage := range stages {
		for _, command := range stage.Commands {
			from, isCopy := command.(*instructions.CopyCommand)
			if !isCopy || from.From != "" {
				continue
			}
			for _, source := range from.SourcePaths {
				if _, err := os.Stat(filepath.Join("..", source)); err != nil {
					t.Error(err)
				}
				if out, err := ignored.MatchesOrParentMatches(filepath.Clean(source)); err != nil || out {
					t.Errorf("%s is copied and ignored (%v)", source, err)
				}
			}
		}
	}
}

func dockerignore(t *testing.T, path string) {
	ignored := ignorePatterns(t, path)
	for name, want := range map[string]bool{
		".git/config": true, "bin/proxmox-realm": true, "internal/cli/cli_test.go": true, "internal/lab/lab.go": true,
		"internal/cli/cli.go": false, "cmd/proxmox-realm/main.go": false, "go.sum": false,
	} {
		if got, err := ignored.MatchesOrParentMatches(name); err != nil || got != want {
			t.Errorf("%s: ignored is %v, want %v (%v)", name, got, want, err)
		}
	}
}

func ignorePatterns(t *testing.T, path string) *patternmatcher.PatternMatcher {
	t.Helper()
	lines, err := ignorefile.ReadAll(strings.NewReader(read(t, path)))
	if err != nil {
		t.Fatal(err)
	}
	patterns, err := patternmatcher.New(lines)
	if err != nil {
		t.Fatal(err)
	}
	return patterns
}

// script lets the shell parse a script without running it. `make lint` runs shellcheck on it too.
func script(t *testing.T, path string) {
	if output, err := exec.CommandContext(t.Context(), "sh", "-n", path).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, output)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o111 == 0 {
		t.Errorf("not executable (%v)", err)
	}
}
