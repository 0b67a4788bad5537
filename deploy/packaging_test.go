//go:build packaging

package deploy

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"proxmox-realm/deploy/packaging"
)

// built holds the packages of this tree, which nfpm builds once for all tests, by their format.
var built = sync.OnceValues(func() (map[string]string, error) {
	dir, err := os.MkdirTemp("", "proxmox-realm-packages-")
	if err != nil {
		return nil, err
	}
	scratch = append(scratch, dir)
	return build(dir)
})

func build(dir string, formats ...string) (map[string]string, error) {
	paths, err := packaging.Build(context.Background(), packaging.Options{Root: "..", Version: "0.0.1", Time: committed, Formats: formats}, dir)
	byFormat := map[string]string{}
	for _, path := range paths {
		byFormat[strings.TrimPrefix(filepath.Ext(path), ".")] = path
	}
	return byFormat, err
}

// artifact returns the package of a format.
func artifact(t *testing.T, format string) string {
	t.Helper()
	packages, err := built()
	if err != nil {
		t.Fatal(err)
	}
	if packages[format] == "" {
		t.Fatalf("no %s: %v", format, packages)
	}
	return packages[format]
}

func TestDebHoldsEverything(t *testing.T) {
	found := entries(t, strings.NewReader(must(t, ".", nil, "dpkg-deb", "--fsys-tarfile", artifact(t, "deb"))))
	for name, mode := range map[string]int64{
		"/usr/bin/proxmox-realm":                                           0o755,
		"/usr/share/doc/proxmox-realm/config.yaml":                         0o644,
		"/usr/lib/systemd/system/proxmox-realm.service":                    0o644,
		"/usr/lib/systemd/system/proxmox-realm.timer":                      0o644,
		"/usr/lib/systemd/system/proxmox-realm-agent.service":              0o644,
		"/usr/share/man/man1/proxmox-realm.1.gz":                           0o644,
		"/usr/share/man/man1/proxmox-realm-apply.1.gz":                     0o644,
		"/usr/share/bash-completion/completions/proxmox-realm":             0o644,
		"/usr/share/zsh/vendor-completions/_proxmox-realm":                 0o644,
		"/usr/share/fish/vendor_completions.d/proxmox-realm.fish":          0o644,
		"/usr/share/doc/proxmox-realm/copyright":                           0o644,
		"/usr/share/doc/proxmox-realm/monitoring/alerts.yaml":              0o644,
		"/usr/share/doc/proxmox-realm/examples/on-failure/on-failure.conf": 0o644,
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

// TestPackagesAreTheSameAgain builds again in another time zone, and compares the files.
func TestPackagesAreTheSameAgain(t *testing.T) {
	t.Setenv("TZ", "Asia/Tokyo")
	again, err := build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"deb", "rpm", "apk"} {
		if read(t, artifact(t, format)) != read(t, again[format]) {
			t.Errorf("the %s differs", format)
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

// newer returns a later version of the package.
func newer(t *testing.T, deb string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	must(t, ".", nil, "dpkg-deb", "--raw-extract", deb, dir)
	control := filepath.Join(dir, "DEBIAN/control")
	text := regexp.MustCompile(`(?m)^Version: .*$`).ReplaceAllString(read(t, control), "Version: 99.0")
	if err := os.WriteFile(control, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "newer.deb")
	must(t, ".", nil, "dpkg-deb", "--root-owner-group", "-Znone", "--build", dir, path)
	return path
}

const installedConfig = "etc/proxmox-realm/config.yaml"

func TestDebInstallsUpgradesAndGoes(t *testing.T) {
	deb := artifact(t, "deb")
	m := newMachine(t)
	m.dpkg("--install", deb)
	if info, err := os.Stat(filepath.Join(m.root, "etc/proxmox-realm")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder of the configuration: %v, %v", info, err)
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
	m.dpkg("--install", newer(t, deb))
	if got := read(t, filepath.Join(m.root, installedConfig)); got != edited {
		t.Errorf("the upgrade made of the configuration\n%s", got)
	}
	if status := read(t, filepath.Join(m.root, "var/lib/dpkg/status")); !strings.Contains(status, "Version: 99.0") {
		t.Errorf("after the upgrade:\n%s", status)
	}

	m.dpkg("--remove", "proxmox-realm")
	left := []string{
		"/etc/proxmox-realm", "/etc/proxmox-realm/config.yaml", "/etc/proxmox-realm/token",
		"/var/lib/proxmox-realm", "/var/lib/proxmox-realm/memory", "/var/lib/proxmox-realm/memory/target-1.json",
	}
	if diff := cmp.Diff(left, m.files()); diff != "" {
		t.Errorf("after the removal (-want +got):\n%s", diff)
	}

	// Purging keeps what may be the only copy of a secret, with the configuration that names it.
	output, err := run(".", []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin"}, "dpkg",
		"--root="+m.root, "--force-script-chrootless", "--force-not-root", "--log=/dev/null", "--purge", "proxmox-realm")
	if err != nil {
		t.Fatalf("%v %s", err, output)
	}
	if diff := cmp.Diff(left[:3], m.files()); diff != "" {
		t.Errorf("after the purge (-want +got):\n%s", diff)
	}
}

// TestManualPagesAreClean lets mandoc check the pages, and checks that pages and units refer only to existing pages.
func TestManualPagesAreClean(t *testing.T) {
	dir := t.TempDir()
	must(t, ".", nil, "dpkg-deb", "--extract", artifact(t, "deb"), dir)
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
