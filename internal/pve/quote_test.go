package pve_test

import (
	"testing"

	"proxmox-realm/internal/pve"
)

func TestQuote(t *testing.T) {
	for word, want := range map[string]string{
		"john@authelia": "john@authelia", "o'neil@authelia": `'o'\''neil@authelia'`, "$(reboot)@x": "'$(reboot)@x'", "a;b@x": "'a;b@x'", "": "''", "jürgen@x": "'jürgen@x'",
	} {
		if got := pve.Quote(word); got != want {
			t.Errorf("%q: %s, want %s", word, got, want)
		}
	}
}
