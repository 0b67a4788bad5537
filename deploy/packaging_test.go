//go:build packaging

package deploy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// committed is the time of the commit that the tests build. Every file in a package must have this time.
var committed = time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)

// release builds this tree with goreleaser for one platform, once for all tests. It returns the folder of the work.
var release = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "proxmox-realm-packaging-")
	if err != nil {
		return "", err
	}
	scratch = dir
	work := filepath.Join(dir, "proxmox-realm")
	if err := checkout(work); err != nil {
		return dir, err
	}
	return dir, build(work)
})

// scratch is the folder of release, "" before it ran. It outlives the test that called release first.
var scratch string

func TestMain(m *testing.M) {
	m.Run() // sets the exit code
	if scratch != "" {
		_ = os.RemoveAll(scratch)
	}
}

// checkout copies the files that git tracks, changes included, into a new repository with one commit.
func checkout(dir string) error {
	list, err := run("..", nil, "git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(list, "\x00"), "\x00") {
		content, err := os.ReadFile(filepath.Join("..", name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted, not committed
		}
		if err != nil {
			return err
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
	}
	date := committed.Format(time.RFC3339)
	env := []string{"GIT_AUTHOR_DATE=" + date, "GIT_COMMITTER_DATE=" + date, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null"}
	for _, arguments := range [][]string{
		{"init", "-q", "-b", "main"},
		{"add", "-A"},
		{"-c", "user.name=packaging", "-c", "user.email=packaging@localhost", "commit", "-q", "-m", "packaging"},
		{"remote", "add", "origin", "https://git.example.com/proxmox-realm/proxmox-realm.git"},
	} {
		if _, err := run(dir, env, "git", arguments...); err != nil {
			return err
		}
	}
	return nil
}

// build runs goreleaser with the project's configuration, for this platform and deb only.
func build(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, ".goreleaser.yaml"))
	if err != nil {
		return err
	}
	var configuration map[string]any
	if err := yaml.Unmarshal(text, &configuration); err != nil {
		return err
	}
	for section, less := range map[string]map[string]any{
		"builds": {"goos": []string{"linux"}, "goarch": []string{runtime.GOARCH}},
		"nfpms":  {"formats": []string{"deb"}},
	} {
		entries, _ := configuration[section].([]any)
		if len(entries) == 0 {
			return errors.New(".goreleaser.yaml has no " + section)
		}
		for _, entry := range entries {
			settings, ok := entry.(map[string]any)
			if !ok {
				return errors.New(".goreleaser.yaml: an entry of " + section + " is no mapping")
			}
			maps.Copy(settings, less)
		}
	}
	if text, err = yaml.Marshal(configuration); err != nil {
		return err
	}
	path := filepath.Join(filepath.Dir(dir), "goreleaser.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return err
	}
	_, err = run(dir, nil, "go", "tool", "-modfile=internal/tools/go.mod", "goreleaser", "release", "--snapshot", "--clean", "--config", path)
	return err
}

func run(dir string, env []string, program string, arguments ...string) (string, error) {
	command := exec.Command(program, arguments...)
	command.Dir = dir
	command.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return "", errors.Join(err, errors.New(program+" "+strings.Join(arguments, " ")+"\n"+stdout.String()+stderr.String()))
	}
	return stdout.String(), nil
}

func must(t *testing.T, dir string, env []string, program string, arguments ...string) string {
	t.Helper()
	output, err := run(dir, env, program, arguments...)
	if err != nil {
		t.Fatal(err)
	}
	return output
}

// artifact returns the one file of the release that matches.
func artifact(t *testing.T, pattern string) string {
	t.Helper()
	dir, err := release()
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(dir, "proxmox-realm", "dist", pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %v (%v)", pattern, found, err)
	}
	return found[0]
}

// TestReleaseChecksums compares the checksums with the files.
func TestReleaseChecksums(t *testing.T) {
	sums := artifact(t, "SHA256SUMS")
	named := map[string]string{}
	for line := range strings.Lines(read(t, sums)) {
		fields := strings.Fields(line)
		named[fields[1]] = fields[0]
	}
	for _, pattern := range []string{"*.deb", "*.tar.gz", "*.cdx.json"} {
		path := artifact(t, pattern)
		sum := sha256.Sum256([]byte(read(t, path)))
		if named[filepath.Base(path)] != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: the checksum is %q", filepath.Base(path), named[filepath.Base(path)])
		}
	}
}

// TestReleaseBillOfMaterials checks that the bill names the program's libraries, and nothing that differs between builds.
func TestReleaseBillOfMaterials(t *testing.T) {
	var bill struct {
		Format       string `json:"bomFormat"`
		SerialNumber string
		Metadata     struct{ Timestamp string }
		Components   []struct{ Name, Version string }
	}
	if err := json.Unmarshal([]byte(read(t, artifact(t, "*.cdx.json"))), &bill); err != nil {
		t.Fatal(err)
	}
	if bill.Format != "CycloneDX" || bill.SerialNumber != "" || bill.Metadata.Timestamp != "" {
		t.Errorf("format %q, serial number %q, time %q", bill.Format, bill.SerialNumber, bill.Metadata.Timestamp)
	}
	for _, library := range []string{"github.com/spf13/cobra", "github.com/luthermonson/go-proxmox", "github.com/coreos/go-oidc/v3", "std"} {
		if !slices.ContainsFunc(bill.Components, func(c struct{ Name, Version string }) bool { return c.Name == library && c.Version != "" }) {
			t.Errorf("%s is missing", library)
		}
	}
}

// entries returns the headers of a tar archive by name. It checks that each file has the commit's time and belongs to root.
func entries(t *testing.T, archive io.Reader) map[string]*tar.Header {
	t.Helper()
	found := map[string]*tar.Header{}
	for reader := tar.NewReader(archive); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		if !header.ModTime.Equal(committed) {
			t.Errorf("%s is of %s, not of the commit's %s", header.Name, header.ModTime.UTC(), committed)
		}
		if header.Uname != "root" && header.Uid != 0 {
			t.Errorf("%s belongs to %q, %d", header.Name, header.Uname, header.Uid)
		}
		found[strings.TrimPrefix(header.Name, ".")] = header
	}
}

func TestArchiveHoldsEverything(t *testing.T) {
	path := artifact(t, "*.tar.gz")
	unzipped, err := gzip.NewReader(strings.NewReader(read(t, path)))
	if err != nil {
		t.Fatal(err)
	}
	found := entries(t, unzipped)
	top := strings.TrimSuffix(filepath.Base(path), ".tar.gz") + "/"
	for name, mode := range map[string]int64{
		"proxmox-realm": 0o755, "config.yaml": 0o600, "LICENSE": 0o644, "man/proxmox-realm.1": 0o644,
		"completions/proxmox-realm.bash": 0o644, "systemd/proxmox-realm.timer": 0o644, "cron/proxmox-realm": 0o644, "examples/full.yaml": 0o644,
	} {
		if header := found[top+name]; header == nil || header.Mode&0o777 != mode {
			t.Errorf("%s: %+v, not there with mode %o", name, header, mode)
		}
	}
}

func TestDebHoldsEverything(t *testing.T) {
	found := entries(t, strings.NewReader(must(t, ".", nil, "dpkg-deb", "--fsys-tarfile", artifact(t, "*.deb"))))
	for name, mode := range map[string]int64{
		"/usr/bin/proxmox-realm":                                  0o755,
		"/etc/proxmox-realm/config.yaml":                          0o600,
		"/usr/lib/systemd/system/proxmox-realm.service":           0o644,
		"/usr/lib/systemd/system/proxmox-realm.timer":             0o644,
		"/usr/lib/systemd/system/proxmox-realm-agent.service":     0o644,
		"/usr/share/man/man1/proxmox-realm.1.gz":                  0o644,
		"/usr/share/man/man1/proxmox-realm-apply.1.gz":            0o644,
		"/usr/share/bash-completion/completions/proxmox-realm":    0o644,
		"/usr/share/zsh/vendor-completions/_proxmox-realm":        0o644,
		"/usr/share/fish/vendor_completions.d/proxmox-realm.fish": 0o644,
		"/usr/share/doc/proxmox-realm/copyright":                  0o644,
	} {
		if header := found[name]; header == nil || header.Mode&0o7777 != mode || header.Uid != 0 || header.Gid != 0 {
			t.Errorf("%s: %+v, not there as root's with mode %o", name, header, mode)
		}
	}
	for name, header := range found {
		if header.Mode&0o022 != 0 {
			t.Errorf("%s can be written by others: %o", name, header.Mode)
		}
	}
}

// TestDebIsTheSameAgain builds again in another folder, time zone and umask, and compares the files.
func TestDebIsTheSameAgain(t *testing.T) {
	first := artifact(t, "*.deb")
	dir := filepath.Join(t.TempDir(), "some where", "else")
	must(t, ".", nil, "sh", "-c", `umask 077 && git -c safe.directory='*' clone -q "$0" "$1"`, filepath.Dir(filepath.Dir(first)), dir)
	must(t, dir, nil, "git", "remote", "set-url", "origin", "https://git.example.com/proxmox-realm/proxmox-realm.git")
	t.Setenv("TZ", "Asia/Tokyo")
	if err := build(dir); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"*.deb", "*.tar.gz", "*.cdx.json", "SHA256SUMS"} {
		again := filepath.Join(dir, "dist", filepath.Base(artifact(t, pattern)))
		if read(t, artifact(t, pattern)) != read(t, again) {
			t.Errorf("%s differs", filepath.Base(again))
		}
	}
}

// machine is a root folder with a dpkg database of its own.
type machine struct {
	t    *testing.T
	root string
}

func newMachine(t *testing.T) machine {
	m := machine{t: t, root: t.TempDir()}
	for _, dir := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers"} {
		if err := os.MkdirAll(filepath.Join(m.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.write("var/lib/dpkg/status", "")
	return m
}

// dpkg runs dpkg on the machine, without a terminal for questions.
func (m machine) dpkg(arguments ...string) {
	m.t.Helper()
	all := append([]string{"--root=" + m.root, "--force-script-chrootless", "--force-not-root", "--log=/dev/null"}, arguments...)
	output, err := run(".", []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "LC_ALL=C"}, "dpkg", all...)
	if err != nil {
		m.t.Fatal(err)
	}
	if strings.Contains(output, "warning") {
		m.t.Errorf("dpkg %v: %s", arguments, output)
	}
}

func (m machine) write(path, content string) {
	m.t.Helper()
	full := filepath.Join(m.root, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// files lists the files on the machine, without dpkg's database and without folders that packages share.
func (m machine) files() []string {
	m.t.Helper()
	var found []string
	err := filepath.WalkDir(m.root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, m.root)
		if name == "/var/lib/dpkg" {
			return filepath.SkipDir
		}
		if !entry.IsDir() || strings.Contains(name, "proxmox-realm") {
			found = append(found, name)
		}
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return found
}

// newer returns a later version of the package, with another sample configuration.
func newer(t *testing.T, deb string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	must(t, ".", nil, "dpkg-deb", "--raw-extract", deb, dir)
	control := filepath.Join(dir, "DEBIAN/control")
	text := regexp.MustCompile(`(?m)^Version: .*$`).ReplaceAllString(read(t, control), "Version: 99.0")
	if err := os.WriteFile(control, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	sample := filepath.Join(dir, "etc/proxmox-realm/config.yaml")
	if err := os.WriteFile(sample, []byte(read(t, sample)+"# newer\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "newer.deb")
	must(t, ".", nil, "dpkg-deb", "--root-owner-group", "-Znone", "--build", dir, path)
	return path
}

const installedConfig = "etc/proxmox-realm/config.yaml"

func TestDebInstallsUpgradesAndGoes(t *testing.T) {
	deb := artifact(t, "*.deb")
	m := newMachine(t)
	m.dpkg("--install", deb)
	if info, err := os.Stat(filepath.Join(m.root, installedConfig)); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the sample: %v, %v", info, err)
	}
	if got := must(t, ".", nil, filepath.Join(m.root, "usr/bin/proxmox-realm"), "--version"); !strings.HasPrefix(got, "proxmox-realm 0.") {
		t.Errorf("the program calls itself %q", got)
	}
	for page, says := range map[string]string{
		"proxmox-realm":       "Keep an OpenID Connect realm",
		"proxmox-realm-apply": "rate-limited by the issuer",
	} {
		shown := must(t, ".", []string{"MANWIDTH=200", "LC_ALL=C"}, "man", "-M", filepath.Join(m.root, "usr/share/man"), "1", page)
		if !strings.Contains(shown, says) {
			t.Errorf("man 1 %s lacks %q:\n%s", page, says, shown)
		}
	}

	// An upgrade keeps the files of program and administrator.
	const edited = "# edited by the administrator\n"
	m.write(installedConfig, edited)
	m.write("etc/proxmox-realm/token", "secret")
	m.write("var/lib/proxmox-realm/memory/target-1.json", "{}")
	m.write("var/lib/private/proxmox-realm-service/memory/target-1.json", "{}")
	m.write("run/proxmox-realm/lock", "")
	if err := os.Symlink("private/proxmox-realm-service", filepath.Join(m.root, "var/lib/proxmox-realm-service")); err != nil {
		t.Fatal(err)
	}
	m.dpkg("--force-confdef", "--install", newer(t, deb))
	if got := read(t, filepath.Join(m.root, installedConfig)); got != edited {
		t.Errorf("the upgrade made of the configuration\n%s", got)
	}
	if status := read(t, filepath.Join(m.root, "var/lib/dpkg/status")); !strings.Contains(status, "Version: 99.0") {
		t.Errorf("after the upgrade:\n%s", status)
	}

	m.dpkg("--remove", "proxmox-realm")
	left := []string{
		"/etc/proxmox-realm", "/etc/proxmox-realm/config.yaml", "/etc/proxmox-realm/config.yaml.dpkg-dist", "/etc/proxmox-realm/token",
		"/run/proxmox-realm", "/run/proxmox-realm/lock",
		"/var/lib/private/proxmox-realm-service", "/var/lib/private/proxmox-realm-service/memory", "/var/lib/private/proxmox-realm-service/memory/target-1.json",
		"/var/lib/proxmox-realm", "/var/lib/proxmox-realm/memory", "/var/lib/proxmox-realm/memory/target-1.json", "/var/lib/proxmox-realm-service",
	}
	if diff := cmp.Diff(left, m.files()); diff != "" {
		t.Errorf("after the removal (-want +got):\n%s", diff)
	}

	if err := os.Remove(filepath.Join(m.root, "etc/proxmox-realm/token")); err != nil {
		t.Fatal(err)
	}
	m.dpkg("--purge", "proxmox-realm")
	if found := m.files(); len(found) > 0 {
		t.Errorf("after the purge: %v", found)
	}
}

// TestDebLeavesSecretsOfOthers checks that purging keeps files that an administrator put beside the configuration.
func TestDebLeavesSecretsOfOthers(t *testing.T) {
	m := newMachine(t)
	m.dpkg("--install", artifact(t, "*.deb"))
	m.write("etc/proxmox-realm/token", "secret")
	output, err := run(".", []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin"}, "dpkg",
		"--root="+m.root, "--force-script-chrootless", "--force-not-root", "--log=/dev/null", "--purge", "proxmox-realm")
	if err != nil {
		t.Fatalf("%v %s", err, output)
	}
	if diff := cmp.Diff([]string{"/etc/proxmox-realm", "/etc/proxmox-realm/token"}, m.files()); diff != "" {
		t.Errorf("after the purge (-want +got):\n%s", diff)
	}
}

// TestDebBringsAFreshSample checks that an upgrade replaces an unchanged sample.
func TestDebBringsAFreshSample(t *testing.T) {
	deb := artifact(t, "*.deb")
	m := newMachine(t)
	m.dpkg("--install", deb)
	m.dpkg("--install", newer(t, deb))
	if got := read(t, filepath.Join(m.root, installedConfig)); !strings.HasSuffix(got, "# newer\n") {
		t.Errorf("the sample is the old one:\n%s", got)
	}
}

// TestManualPagesAreClean lets mandoc check the pages, and checks that pages and units refer only to existing pages.
func TestManualPagesAreClean(t *testing.T) {
	dir := t.TempDir()
	must(t, ".", nil, "dpkg-deb", "--extract", artifact(t, "*.deb"), dir)
	pages, err := filepath.Glob(filepath.Join(dir, "usr/share/man/man*/*.gz"))
	if err != nil || len(pages) < 10 {
		t.Fatalf("pages: %v (%v)", pages, err)
	}
	reference := regexp.MustCompile(`\\fB([a-z-]+)\((\d)\)\\fP`)
	for _, path := range pages {
		text := must(t, ".", nil, "gzip", "-dc", path)
		plain := strings.TrimSuffix(path, ".gz")
		if err := os.WriteFile(plain, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if output, err := run(".", nil, "mandoc", "-T", "lint", "-W", "error", plain); err != nil || output != "" {
			t.Errorf("mandoc: %v\n%s", err, output)
		}
		for _, r := range reference.FindAllStringSubmatch(text, -1) {
			named := filepath.Join(dir, "usr/share/man/man"+r[2], r[1]+"."+r[2]+".gz")
			if !slices.Contains(pages, named) {
				t.Errorf("%s refers to %s(%s), which is no page", filepath.Base(path), r[1], r[2])
			}
		}
	}
	units, err := filepath.Glob("systemd/proxmox-realm*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range units {
		for _, r := range regexp.MustCompile(`man:([a-z-]+)\((\d)\)`).FindAllStringSubmatch(read(t, path), -1) {
			if !slices.Contains(pages, filepath.Join(dir, "usr/share/man/man"+r[2], r[1]+"."+r[2]+".gz")) {
				t.Errorf("%s refers to %s(%s), which is no page", path, r[1], r[2])
			}
		}
	}
}
