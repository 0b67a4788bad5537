// Package packaging builds Linux packages as the section nfpms of .goreleaser.yaml describes them, with nfpm alone.
// goreleaser builds the same packages for a release, but takes minutes to compile.
package packaging

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/apk" // a format
	_ "github.com/goreleaser/nfpm/v2/deb" // a format
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm" // a format
	"sigs.k8s.io/yaml"
)

// Options says what to build. Everything is for this machine's architecture.
type Options struct {
	Root    string    // the folder of .goreleaser.yaml
	Version string    // a semantic version, without v before it
	Time    time.Time // when every file in the packages was changed; equal times give equal packages
	Formats []string  // deb, rpm, apk; empty: all that .goreleaser.yaml names
}

// Build compiles the program, writes packages into a folder that exists, and returns their paths.
func Build(ctx context.Context, o Options, dir string) (paths []string, err error) {
	work, err := os.MkdirTemp("", "proxmox-realm-package-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	if o.Root, err = filepath.Abs(o.Root); err != nil {
		return nil, err
	}
	config, formats, err := read(o, work)
	if err != nil {
		return nil, fmt.Errorf(".goreleaser.yaml: %w", err)
	}
	if err := compile(ctx, o, work); err != nil {
		return nil, err
	}
	if len(o.Formats) > 0 {
		formats = o.Formats
	}
	for _, format := range formats {
		path, err := write(config, format, dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", format, err)
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// section is what the first entry of nfpms says in words of goreleaser's own. The other keys are nfpm's.
type section struct {
	Name    string   `json:"package_name"`
	Formats []string `json:"formats"`
	Bindir  string   `json:"bindir"`
}

// read returns the first entry of nfpms in nfpm's words, and its formats. Generated files come from the folder work.
func read(o Options, work string) (nfpm.Config, []string, error) {
	text, err := os.ReadFile(filepath.Join(o.Root, ".goreleaser.yaml"))
	if err != nil {
		return nfpm.Config{}, nil, err
	}
	text = bytes.ReplaceAll(text, []byte("{{ .CommitDate }}"), []byte(o.Time.UTC().Format(time.RFC3339)))
	var whole struct {
		Packages []map[string]any `json:"nfpms"`
	}
	if err := yaml.Unmarshal(text, &whole); err != nil {
		return nfpm.Config{}, nil, err
	}
	if len(whole.Packages) != 1 {
		return nfpm.Config{}, nil, fmt.Errorf("%d entries in nfpms, want 1", len(whole.Packages))
	}
	entry := whole.Packages[0]
	var own section
	if text, err = yaml.Marshal(entry); err == nil {
		err = yaml.Unmarshal(text, &own)
	}
	if err != nil {
		return nfpm.Config{}, nil, err
	}
	for _, key := range []string{"package_name", "formats", "bindir"} {
		delete(entry, key)
	}
	entry["name"], entry["arch"], entry["version"] = own.Name, runtime.GOARCH, o.Version
	if text, err = yaml.Marshal(entry); err != nil {
		return nfpm.Config{}, nil, err
	}
	config, err := nfpm.ParseWithEnvMapping(bytes.NewReader(text), nil)
	if err != nil {
		return nfpm.Config{}, nil, err
	}
	place(&config, o, work)
	config.Contents = append(config.Contents, &files.Content{
		Source: filepath.Join(work, own.Name), Destination: filepath.ToSlash(filepath.Join(own.Bindir, own.Name)),
		FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: 0o755, MTime: o.Time},
	})
	return config, own.Formats, nil
}

// place makes the names of files absolute.
func place(config *nfpm.Config, o Options, work string) {
	absolute := func(name string) string {
		if generated, found := strings.CutPrefix(name, ".cache/"); found {
			return filepath.Join(work, generated)
		}
		return filepath.Join(o.Root, name)
	}
	for _, c := range config.Contents {
		if c.Source != "" { // a folder has none
			c.Source = absolute(c.Source)
		}
	}
	for _, format := range config.Overrides {
		for _, script := range []*string{&format.Scripts.PreInstall, &format.Scripts.PostInstall, &format.Scripts.PreRemove, &format.Scripts.PostRemove} {
			if *script != "" {
				*script = absolute(*script)
			}
		}
	}
}

// compile writes the program, its manual pages and its completions into the folder work.
func compile(ctx context.Context, o Options, work string) error {
	for _, command := range [][]string{
		{
			"go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -X proxmox-realm/internal/cli.version=" + o.Version,
			"-o", work + string(filepath.Separator), "./cmd/proxmox-realm",
		},
		{"sh", "deploy/packaging/docs.sh", work, o.Version, strconv.FormatInt(o.Time.Unix(), 10)},
	} {
		c := exec.CommandContext(ctx, command[0], command[1:]...)
		c.Dir = o.Root
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if output, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, output)
		}
	}
	return nil
}

// write writes one package into a folder, under the name that is usual for its format.
func write(config nfpm.Config, format, dir string) (path string, err error) {
	info, err := config.Get(format)
	if err != nil {
		return "", err
	}
	packager, err := nfpm.Get(format)
	if err != nil {
		return "", err
	}
	if err := nfpm.PrepareForPackager(info, format); err != nil {
		return "", err
	}
	path = filepath.Join(dir, packager.ConventionalFileName(info))
	file, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return path, packager.Package(info, io.Writer(file))
}
