package authelia_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"proxmox-realm/internal/check"

	"proxmox-realm/internal/authelia"
)

func TestReadFile(t *testing.T) {
	folder := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	largest := strings.Repeat("#", 1<<20)
	for _, tt := range []struct{ name, path, says string }{
		{"a file", write("right.yml", "theme: light\n"), ""},
		{"an empty file", write("empty.yml", ""), ""},
		{"the largest", write("largest.yml", largest), ""},
		{"too large", write("large.yml", largest+"#"), "it is larger than 1 MiB"},
		{"not text", write("binary.yml", "\xff\xfe"), "it is not UTF-8 text"},
		{"absent", filepath.Join(folder, "absent.yml"), "cannot be read: no such file"},
		{"a folder", folder, "is a folder"},
	} {
		file, err := authelia.ReadFile(tt.path)
		if tt.says == "" {
			want, _ := os.ReadFile(tt.path)
			if err != nil || file.Name != tt.path || string(file.Data) != string(want) {
				t.Errorf("%s: %d bytes of %q, %v", tt.name, len(file.Data), file.Name, err)
			}
			continue
		}
		if check.CodeOf(err) != check.Config || !strings.Contains(err.Error(), tt.says) || check.Describe(err).Hint() == "" {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.says)
		}
	}
	broken := errors.New("the pipe broke")
	if _, err := authelia.Read("standard input", iotest.ErrReader(broken)); !errors.Is(err, broken) || check.CodeOf(err) != check.Config {
		t.Errorf("a broken pipe: %v", err)
	}
}
