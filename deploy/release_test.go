//go:build release

package deploy

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"proxmox-realm/deploy/packaging"
)

// release builds this tree with goreleaser for one platform, once for all tests. It returns the folder of the work.
var release = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "proxmox-realm-release-")
	if err != nil {
		return "", err
	}
	scratch = append(scratch, dir)
	work := filepath.Join(dir, "proxmox-realm")
	if err := checkout(work); err != nil {
		return dir, err
	}
	return dir, goreleaser(work)
})

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

// goreleaser runs goreleaser with the project's configuration, for this platform and deb only.
func goreleaser(dir string) error {
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

// released returns the one file of the release that matches.
func released(t *testing.T, pattern string) string {
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
	sums := released(t, "SHA256SUMS")
	named := map[string]string{}
	for line := range strings.Lines(read(t, sums)) {
		fields := strings.Fields(line)
		named[fields[1]] = fields[0]
	}
	for _, pattern := range []string{"*.deb", "*.tar.gz", "*.cdx.json"} {
		path := released(t, pattern)
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
	if err := json.Unmarshal([]byte(read(t, released(t, "*.cdx.json"))), &bill); err != nil {
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

func TestReleaseArchive(t *testing.T) {
	path := released(t, "*.tar.gz")
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

// TestReleaseIsTheSameAgain builds again in another folder, time zone and umask, and compares the files.
func TestReleaseIsTheSameAgain(t *testing.T) {
	first := released(t, "*.deb")
	dir := filepath.Join(t.TempDir(), "some where", "else")
	must(t, ".", nil, "sh", "-c", `umask 077 && git -c safe.directory='*' clone -q "$0" "$1"`, filepath.Dir(filepath.Dir(first)), dir)
	must(t, dir, nil, "git", "remote", "set-url", "origin", "https://git.example.com/proxmox-realm/proxmox-realm.git")
	t.Setenv("TZ", "Asia/Tokyo")
	if err := goreleaser(dir); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"*.deb", "*.tar.gz", "*.cdx.json", "SHA256SUMS"} {
		again := filepath.Join(dir, "dist", filepath.Base(released(t, pattern)))
		if read(t, released(t, pattern)) != read(t, again) {
			t.Errorf("%s differs", filepath.Base(again))
		}
	}
}

// TestReleaseDebIsThatOfPackaging compares goreleaser's package with the one that the package packaging builds.
func TestReleaseDebIsThatOfPackaging(t *testing.T) {
	names := func(deb string) map[string]int64 {
		modes := map[string]int64{}
		for name, header := range entries(t, strings.NewReader(must(t, ".", nil, "dpkg-deb", "--fsys-tarfile", deb))) {
			modes[name] = header.Mode
		}
		return modes
	}
	own, err := packaging.Build(t.Context(), packaging.Options{Root: "..", Version: "0.0.1", Time: committed, Formats: []string{"deb"}}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(names(own[0]), names(released(t, "*.deb"))); diff != "" {
		t.Errorf("the packages differ (-packaging +goreleaser):\n%s", diff)
	}
}
