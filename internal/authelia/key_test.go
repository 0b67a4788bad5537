package authelia

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"proxmox-realm/internal/check"
)

func TestNewKey(t *testing.T) {
	unreserved := regexp.MustCompile(`^[A-Za-z0-9._~-]{72}$`)
	seen := map[rune]int{}
	for range 200 {
		key := NewKey()
		if !unreserved.MatchString(key.Reveal()) {
			t.Fatal("not 72 unreserved characters")
		}
		for _, r := range key.Reveal() {
			seen[r]++
		}
	}
	// 14,400 characters: 218 of each of the 66 on average, with a deviation of 15.
	if len(seen) != len(keyAlphabet) {
		t.Errorf("%d of %d characters occur", len(seen), len(keyAlphabet))
	}
	for r, n := range seen {
		if n < 218-8*15 || n > 218+8*15 {
			t.Errorf("%q occurs %d times of 218 expected", r, n)
		}
	}
}

func TestWriteKey(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "client-key")
	if err := WriteKey(path, check.NewSecret("first"), false); err != nil {
		t.Fatal(err)
	}
	holds(t, path, "first")

	err := WriteKey(path, check.NewSecret("second"), false)
	if check.CodeOf(err) != check.Usage || strings.Contains(err.Error(), "second") {
		t.Errorf("a second time: %v", err)
	}
	holds(t, path, "first")

	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := WriteKey(path, check.NewSecret("third"), true); err != nil {
		t.Fatal(err)
	}
	holds(t, path, "third") // and 0600 again
	only(t, folder, "client-key")
}

func TestOfManyWritersOneWins(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "client-key")
	start, won := make(chan struct{}), make(chan string, 16)
	var writers sync.WaitGroup
	for i := range cap(won) {
		writers.Go(func() {
			<-start
			if WriteKey(path, check.NewSecret(strconv.Itoa(i)), false) == nil {
				won <- strconv.Itoa(i)
			}
		})
	}
	close(start)
	writers.Wait()
	close(won)
	if len(won) != 1 {
		t.Fatalf("%d writers believe that the file is theirs", len(won))
	}
	holds(t, path, <-won)
	only(t, folder, "client-key")
}

func TestWriteKeyFollowsNoLink(t *testing.T) {
	folder := t.TempDir()
	target, link := filepath.Join(folder, "target"), filepath.Join(folder, "link")
	if err := os.WriteFile(target, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{target, filepath.Join(folder, "nowhere")} {
		_ = os.Remove(link)
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
		for _, force := range []bool{false, true} {
			if err := WriteKey(link, check.NewSecret("key"), force); check.CodeOf(err) != check.Usage {
				t.Errorf("to %s, force %v: %v", to, force, err)
			}
		}
	}
	if data, _ := os.ReadFile(target); string(data) != "mine" {
		t.Errorf("the link's target holds %q", data)
	}
	if _, err := os.Stat(filepath.Join(folder, "nowhere")); err == nil {
		t.Error("the key was written through a link")
	}
	only(t, folder, "link", "target")
}

func TestWriteKeyLeavesNothingBehind(t *testing.T) {
	folder := t.TempDir()
	err := WriteKey(filepath.Join(folder, "missing", "key"), check.NewSecret("key"), false)
	if check.CodeOf(err) != check.Internal || strings.Contains(err.Error(), ".client-key") || check.Describe(err).Hint() == "" {
		t.Errorf("a folder that is not there: %v", err)
	}
	if err := WriteKey(folder, check.NewSecret("key"), true); check.CodeOf(err) != check.Usage {
		t.Errorf("a folder in place of a file: %v", err)
	}
	only(t, folder)
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

func only(t *testing.T, folder string, want ...string) {
	t.Helper()
	var names []string
	if err := fs.WalkDir(os.DirFS(folder), ".", func(path string, _ fs.DirEntry, err error) error {
		if path != "." {
			names = append(names, path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if strings.Join(names, " ") != strings.Join(want, " ") {
		t.Errorf("the folder holds %q, want %q", names, want)
	}
}
