package config

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// Whatever a file holds, it is a configuration or a fault with problems that have a line within the file.
func FuzzLoad(f *testing.F) {
	seeds, err := filepath.Glob("testdata/mistakes/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	examples, err := filepath.Glob("../../examples/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(seeds, examples...) {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("a: &a\n  <<: *a\n"))
	f.Add([]byte("\xff\xfer\x00:\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := write(t, filepath.Join(t.TempDir(), "config.yaml"), string(data))
		c, err := Load(context.Background(), Options{File: path, Show: true})
		if err == nil {
			for _, target := range c.Targets {
				if err := wrong(target.Realm); err != nil {
					t.Errorf("takes what the realm refuses: %v", err)
				}
			}
			if len(c.Settings) == 0 {
				t.Error("nothing to show")
			}
			return
		}
		var problems Problems
		if check.CodeOf(err) != check.Config || !errors.As(err, &problems) || len(problems) == 0 {
			t.Fatalf("%v", err)
		}
		for _, p := range problems {
			if p.Err.Message == "" || p.Line < 0 || p.Line > len(data)+1 {
				t.Errorf("%+v", p)
			}
		}
	})
}

// Endpoints and origins in any spelling come out in one that stays as it is.
func FuzzAddresses(f *testing.F) {
	for _, seed := range []string{"pve1", "pve1:8006", "https://pve1/", "fd00::1", "[fd00::1]:1", "https://[fe80::1%25eth0]:8006", "http://a:80", "https://a:443"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		endpoint := func(text string) (Origin, error) { return ParseEndpoint(realm.BackupServer, text) }
		for name, parse := range map[string]func(string) (Origin, error){"endpoint": endpoint, "origin": parseOrigin} {
			once, err := parse(text)
			if err != nil {
				continue
			}
			if twice, err := parse(string(once)); err != nil || twice != once {
				t.Errorf("%s %q: %q, and then %q, %v", name, text, once, twice, err)
			}
		}
	})
}
