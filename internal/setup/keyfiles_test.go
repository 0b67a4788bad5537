package setup_test

import (
	"cmp"
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/setup"
)

// files are the contents of files by name.
type files map[string]string

func (f files) write(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, content := range f {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func readAll(t *testing.T, dir string) files {
	t.Helper()
	out := files{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(content)
	}
	return out
}

func begin(ctx context.Context, keys setup.KeyFiles) error {
	return setup.Make(ctx, "", keys.Begin(), func(setup.Step) {})
}

// A rotation goes on, and goes back, from wherever it was interrupted.
func TestRotationsGoOnAndBack(t *testing.T) {
	ctx := context.Background()
	for title, tt := range map[string]struct {
		before        files
		onward, back  files
		refusesToBack bool
	}{
		"begun":                     {before: files{"a": "old", "a.new": "new"}},
		"begun, one file":           {before: files{"a": "old", "a.new": "new", "b": "old"}},
		"begun, an empty file":      {before: files{"a": "old", "a.new": "new", "b": "old", "b.new": ""}},
		"begun, line ends":          {before: files{"a": "old\n", "a.new": "new\r\n"}, onward: files{"a": "new\r\n"}, back: files{"a": "old\n"}},
		"former kept":               {before: files{"a": "old", "a.new": "new", "a.former": "old"}},
		"swapped":                   {before: files{"a": "new", "a.former": "old"}},
		"swapped, one file":         {before: files{"a": "new", "a.former": "old", "b": "old", "b.new": "new"}},
		"swapped, one without new":  {before: files{"a": "new", "a.former": "old", "b": "old"}},
		"by hand":                   {before: files{"a": "new", "a.new": "new"}, refusesToBack: true},
		"half ended":                {before: files{"a": "new", "a.former": "old", "b": "new"}},
		"going back, new kept":      {before: files{"a": "new", "a.new": "new", "a.former": "old"}},
		"files with different keys": {before: files{"a": "old", "a.new": "new", "b": "stale", "b.new": "new"}, back: files{"a": "old", "b": "stale"}},
	} {
		t.Run(title, func(t *testing.T) {
			for _, back := range []bool{false, true} {
				dir := tt.before.write(t)
				want := files{"a": "new"}
				if back {
					want["a"] = "old"
				}
				var paths []string
				for name := range tt.before {
					if !strings.Contains(name, ".") {
						paths = append(paths, filepath.Join(dir, name))
						want[name] = want["a"]
					}
				}
				if tt.onward != nil && !back {
					want = tt.onward
				}
				if tt.back != nil && back {
					want = tt.back
				}
				slices.Sort(paths)
				keys, err := setup.LookAtKeys(ctx, paths, check.Secret{})
				if err != nil || !keys.Begun {
					t.Fatalf("%v, begun: %v", err, keys.Begun)
				}
				if back {
					if keys, err = keys.Back(); tt.refusesToBack {
						if check.CodeOf(err) != check.KeyRotation {
							t.Errorf("went back: %v", err)
						}
						continue
					}
				}
				err = cmp.Or(begin(ctx, keys), keys.Swap(ctx), keys.End())
				if got := readAll(t, dir); err != nil || !maps.Equal(got, want) {
					t.Errorf("back: %v: %v, %v, want %v", back, got, err, want)
				}
			}
		})
	}
}

// However far a swap comes, each key is in a file.
func TestNoKeyIsLostInASwap(t *testing.T) {
	ctx := context.Background()
	dir := files{"a": "old", "b": "old"}.write(t)
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	keys, err := setup.LookAtKeys(ctx, []string{a, b}, check.NewSecret("new"))
	if err != nil || keys.Begun {
		t.Fatal(err, keys.Begun)
	}
	if err := begin(ctx, keys); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, dir); !maps.Equal(got, files{"a": "old", "a.new": "new", "b": "old", "b.new": "new"}) {
		t.Fatal(got)
	}
	// The file of b cannot be made: a is swapped, b is as it was, and the former key stays.
	if err := os.Mkdir(b+".former", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := keys.Swap(ctx); err == nil {
		t.Error("swapped")
	}
	if err := os.Remove(b + ".former"); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, dir); !maps.Equal(got, files{"a": "new", "a.former": "old", "b": "old", "b.new": "new"}) {
		t.Fatal(got)
	}
	if err := keys.Swap(ctx); err != nil {
		t.Error(err)
	}
	if got := readAll(t, dir); !maps.Equal(got, files{"a": "new", "a.former": "old", "b": "new", "b.former": "old"}) {
		t.Error(got)
	}
}

// A swapped file has the owner's mode of the former one; a link stays a link.
func TestASwapKeepsModeAndLink(t *testing.T) {
	ctx := context.Background()
	dir := files{"real": "old"}.write(t)
	link, target := filepath.Join(dir, "link"), filepath.Join(dir, "real")
	if err := os.Symlink("real", link); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(target, 0o640); err != nil {
		t.Fatal(err)
	}
	keys, err := setup.LookAtKeys(ctx, []string{link, target}, check.Secret{})
	if err == nil {
		err = begin(ctx, keys)
	}
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(target + ".new"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := keys.Swap(ctx); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(target)
	if target, linkErr := os.Readlink(link); err != nil || info.Mode().Perm() != 0o640 || linkErr != nil || target != "real" {
		t.Errorf("%v, %v, %s, %v", info, err, target, linkErr)
	}
	if got := readAll(t, dir)["link"]; got != keys.KeyOf(link).Reveal() || got == "old" || len(got) != 72 {
		t.Errorf("the key has %d characters", len(got))
	}
}

func TestKeyFilesThatAreRefused(t *testing.T) {
	for title, tt := range map[string]struct {
		before files
		given  string
		code   check.Code
		says   string
	}{
		"no file":             {files{}, "", check.Config, "a"},
		"an empty file":       {files{"a": ""}, "", check.Config, "must not be empty"},
		"two new keys":        {files{"a": "old", "a.new": "one", "b": "old", "b.new": "another"}, "", check.KeyRotation, "hold different keys"},
		"one is swapped":      {files{"a": "one", "a.former": "old", "b": "old", "b.new": "another"}, "", check.KeyRotation, "hold different keys"},
		"another one begun":   {files{"a": "old", "a.new": "one"}, "another", check.KeyRotation, "a rotation to another key has begun"},
		"a digest":            {files{"a": "old", "a.new": "$pbkdf2-sha512$310000$x$y"}, "", check.Config, "in the form of Authelia's configuration"},
		"an unknown file":     {files{"a": "old", "a.new": "new", "a.former": "theirs"}, "", check.KeyRotation, "holds an unexpected key"},
		"two lines of a file": {files{"a": "old\nold\n"}, "", check.Config, "control characters"},
	} {
		dir := tt.before.write(t)
		var paths []string
		for name := range tt.before {
			if !strings.Contains(name, ".") {
				paths = append(paths, filepath.Join(dir, name))
			}
		}
		if len(paths) == 0 {
			paths = []string{filepath.Join(dir, "a")}
		}
		slices.Sort(paths)
		given := check.Secret{}
		if tt.given != "" {
			given = check.NewSecret(tt.given)
		}
		keys, err := setup.LookAtKeys(t.Context(), paths, given)
		if err == nil {
			err = keys.Swap(t.Context())
		}
		if check.CodeOf(err) != tt.code || !strings.Contains(check.MessageOf(err), tt.says) {
			t.Errorf("%s: %v", title, err)
		}
		if got := readAll(t, dir); !maps.Equal(got, tt.before) {
			t.Errorf("%s: left %v", title, got)
		}
	}
}
