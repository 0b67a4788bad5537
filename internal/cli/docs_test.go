package cli

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// docs runs `proxmox-realm docs` at a fixed date and returns the files that it wrote.
func docs(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	var stdout, stderr bytes.Buffer
	if code := Main([]string{"docs", dir}, []string{"SOURCE_DATE_EPOCH=1750000000"}, strings.NewReader(""), &stdout, &stderr); code != 0 {
		t.Fatalf("docs: exit %d: %s", code, stderr.String())
	}
	if stdout.Len()+stderr.Len() > 0 {
		t.Errorf("docs says %q and %q", stdout.String(), stderr.String())
	}
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		files[filepath.ToSlash(name)] = string(content)
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
	a := &app{}
	root := a.root()
	defineAllFlags(root)
	for _, cmd := range root.Commands() {
		if cmd.Hidden || !cmd.Runnable() && !cmd.HasSubCommands() {
			continue
		}
		page, found := files["man/"+pageName(cmd)+".1"]
		if !found {
			t.Errorf("no page for %s", cmd.CommandPath())
		}
		if !strings.Contains(main, escape(pageName(cmd))+" (1)") {
			t.Errorf("proxmox-realm(1) does not name %s", pageName(cmd))
		}
		for _, option := range regexp.MustCompile(`--[a-z-]+`).FindAllString(cmd.LocalNonPersistentFlags().FlagUsages(), -1) {
			if option != "--help" && !strings.Contains(page, escape(option)) {
				t.Errorf("%s(1) does not explain %s", pageName(cmd), option)
			}
		}
	}
	for _, name := range []string{
		"man/proxmox-realm.5", "man/proxmox-realm-checks.7", "man/proxmox-realm-config-check.1",
		"completions/proxmox-realm.bash", "completions/_proxmox-realm", "completions/proxmox-realm.fish", "completions/proxmox-realm.ps1",
	} {
		if files[name] == "" {
			t.Errorf("no %s", name)
		}
	}
	for name := range files {
		if strings.Contains(name, "docs") || strings.Contains(name, "-help") {
			t.Errorf("%s: a page for a command that users do not call", name)
		}
	}
}

func TestDocsCarryTheDateGiven(t *testing.T) {
	files := docs(t)
	for name, page := range files {
		if strings.HasPrefix(name, "man/") && !strings.Contains(page, `"2025-06-15"`) {
			t.Errorf("%s: another date than that of SOURCE_DATE_EPOCH", name)
		}
	}
	again := docs(t)
	for name := range files {
		if files[name] != again[name] {
			t.Errorf("%s differs the second time", name)
		}
	}
}

func TestDocsRefuseAWrongDate(t *testing.T) {
	var stdout, stderr bytes.Buffer
	code := Main([]string{"docs", t.TempDir()}, []string{"SOURCE_DATE_EPOCH=yesterday"}, strings.NewReader(""), &stdout, &stderr)
	if code != exitUsage {
		t.Errorf("exit %d, not %d: %s", code, exitUsage, stderr.String())
	}
}

func TestEscape(t *testing.T) {
	for text, want := range map[string]string{
		`.B is a macro`:  `\&.B is a macro`,
		`'quoted'`:       `\&'quoted'`,
		`--wait-lock`:    `\-\-wait\-lock`,
		`C:\new`:         `C:\enew`,
		"`pvenode`":      `\(gapvenode\(ga`,
		`and so on …`:    `and so on \|.\|.\|.`,
		`user@realm!id=`: `user@realm!id=`,
	} {
		if got := escape(text); got != want {
			t.Errorf("escape(%q) = %q, want %q", text, got, want)
		}
	}
}
