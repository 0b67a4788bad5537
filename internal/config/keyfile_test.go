package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"proxmox-realm/internal/check"
)

// A key file is read as realm.client_key_file reads it.
func TestReadClientKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for content, want := range map[string]string{
		"a-key": "a-key", "a-key\n": "a-key", "a-key\r\n": "a-key", "\ufeffa-key\n": "a-key", "": "", "two\nlines\n": "", " a-key\n": "", "$pbkdf2-sha512$1$x$y": "",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		key, err := ReadClientKey(t.Context(), path, nil)
		if key.Reveal() != want || (err == nil) != (want != "") || err != nil && check.CodeOf(err) != check.Config {
			t.Errorf("%q: %q, %v", content, key.Reveal(), err)
		}
		if err != nil && (strings.Contains(check.MessageOf(err), "lines") || !strings.Contains(check.MessageOf(err), path)) {
			t.Errorf("%q: says %v", content, err)
		}
	}
	if key, err := ReadClientKey(t.Context(), "-", strings.NewReader("a-key\n")); err != nil || key.Reveal() != "a-key" {
		t.Errorf("%q, %v", key.Reveal(), err)
	}
	if _, err := ReadClientKey(t.Context(), filepath.Join(t.TempDir(), "absent"), nil); check.CodeOf(err) != check.Config {
		t.Errorf("%v", err)
	}
}

// Only somebody else than root has a state_dir beside root's.
func TestRootState(t *testing.T) {
	ofRoot := t.TempDir()
	for _, tt := range []struct {
		uid          int
		root, of, is string
	}{
		{1000, ofRoot, "/home/jane/.local/state/proxmox-realm", ofRoot},
		{1000, ofRoot, "", ofRoot},
		{1000, ofRoot, ofRoot + "/", ""},
		{0, ofRoot, "/srv/state", ""},
		{-1, ofRoot, "/srv/state", ""},
		{1000, filepath.Join(ofRoot, "absent"), "/srv/state", ""},
	} {
		if got := rootState(tt.uid, tt.root, tt.of); got != tt.is {
			t.Errorf("%d, %s: %q", tt.uid, tt.of, got)
		}
	}
}
