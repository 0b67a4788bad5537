package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"proxmox-realm/internal/cli"
)

// docs returns the files that are written at a fixed date.
func docs(t *testing.T) map[string]string {
	t.Helper()
	t.Setenv("SOURCE_DATE_EPOCH", "1750000000")
	dir := t.TempDir()
	if err := write(cli.Command(), dir, "1.2.3"); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(filepath.Join(dir, path))
		files[path] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestDocsCoverEveryCommand(t *testing.T) {
	files := docs(t)
	main := files["man/proxmox-realm.1"]
	for _, cmd := range cli.Command().Commands() {
		if !cmd.IsAvailableCommand() || cmd.Name() == "completion" || cmd.Name() == "help" {
			continue
		}
		name := "proxmox-realm-" + cmd.Name()
		page, found := files["man/"+name+".1"]
		if !found {
			t.Errorf("no page for %s", cmd.CommandPath())
		}
		if !strings.Contains(main, name+"(1)") {
			t.Errorf("proxmox-realm(1) does not name %s", name)
		}
		for _, option := range regexp.MustCompile(`--[a-z-]+`).FindAllString(cmd.LocalNonPersistentFlags().FlagUsages(), -1) {
			if option != "--help" && !strings.Contains(page, option) {
				t.Errorf("%s(1) does not explain %s", name, option)
			}
		}
	}
	for _, name := range []string{
		"man/proxmox-realm-config-check.1", "completions/proxmox-realm.bash", "completions/_proxmox-realm",
		"completions/proxmox-realm.fish", "completions/proxmox-realm.ps1",
	} {
		if files[name] == "" {
			t.Errorf("no %s", name)
		}
	}
	for name, page := range files {
		for _, r := range regexp.MustCompile(`\\fB([a-z-]+)\((\d)\)`).FindAllStringSubmatch(page, -1) {
			if files["man/"+r[1]+"."+r[2]] == "" {
				t.Errorf("%s refers to %s(%s), which is no page", name, r[1], r[2])
			}
		}
	}
}

// Packages are built twice and compared.
func TestDocsAreReproducible(t *testing.T) {
	files := docs(t)
	again := docs(t)
	for name, page := range files {
		if page != again[name] {
			t.Errorf("%s differs the second time", name)
		}
		if strings.HasPrefix(name, "man/") && !strings.Contains(page, `"Jun 2025" "proxmox-realm 1.2.3"`) {
			t.Errorf("%s does not have the date of SOURCE_DATE_EPOCH and the version", name)
		}
	}
}
