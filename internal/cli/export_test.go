package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"proxmox-realm/internal/check"
)

func TestWriteKeyNeverOverwrites(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "client-key")
	if err := writeKey(path, check.NewSecret("first")); err != nil {
		t.Fatal(err)
	}
	err := writeKey(path, check.NewSecret("second"))
	if check.CodeOf(err) != check.Usage || strings.Contains(err.Error(), "second") {
		t.Errorf("a second time: %v", err)
	}
	holds(t, path, "first")

	link := filepath.Join(folder, "link")
	for _, to := range []string{path, filepath.Join(folder, "nowhere")} {
		_ = os.Remove(link)
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
		if err := writeKey(link, check.NewSecret("key")); check.CodeOf(err) != check.Usage {
			t.Errorf("through a link to %s: %v", to, err)
		}
	}
	holds(t, path, "first")
	err = writeKey(filepath.Join(folder, "missing", "key"), check.NewSecret("key"))
	if check.CodeOf(err) != check.Internal || check.HintOf(err).For(check.Names{}) == "" {
		t.Errorf("into a folder that does not exist: %v", err)
	}
	if entries, _ := os.ReadDir(folder); len(entries) != 2 {
		t.Errorf("the folder holds %v", entries)
	}
}

func holds(t *testing.T, path, want string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil || string(data) != want {
		t.Fatalf("%q, %v, want %q", data, err, want)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
}
