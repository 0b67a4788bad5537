package config

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"proxmox-realm/internal/check"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Every file of testdata/mistakes holds one kind of mistake; the golden file beside it, the exact words.
func TestMistakes(t *testing.T) {
	files, err := filepath.Glob("testdata/mistakes/*.yaml")
	if err != nil || len(files) < 100 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		golden, err := filepath.Abs(strings.TrimSuffix(file, ".yaml") + ".golden")
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			folder := t.TempDir()
			t.Chdir(folder)
			write(t, "config.yaml", string(data))
			setenv(t)
			_, err := Load(context.Background(), Options{File: "config.yaml", Secrets: true})
			var problems Problems
			if check.CodeOf(err) != check.Config || !errors.As(err, &problems) {
				t.Fatalf("Load: %v, want problems", err)
			}
			got := problems.Error() + "\n"
			if hint := check.HintOf(err).For(check.Names{}); hint != "" {
				got += "hint: " + hint + "\n"
			}
			got = strings.ReplaceAll(got, folder, "FOLDER")
			if strings.Contains(got+err.Error(), "hunter") {
				t.Errorf("quotes a value: %s", got)
			}
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("says\n%swant\n%s", got, want)
			}
		})
	}
}

// write writes a file that only its owner can read and write.
func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
