package authority_test

import (
	"bytes"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"

	"proxmox-realm/internal/lab/authority"
)

func TestOpenKeepsTheAuthority(t *testing.T) {
	dir := t.TempDir()
	first, err := authority.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := authority.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.PEM(), second.PEM()) {
		t.Error("another authority the second time")
	}
	// The second knows the key too: what it issues, the first vouches for.
	issued, err := second.Issue(authority.Valid, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := issued.Leaf.Verify(x509.VerifyOptions{Roots: first.Pool(), DNSName: "127.0.0.1"}); err != nil {
		t.Error(err)
	}
	info, err := os.Stat(filepath.Join(dir, "ca-key.pem"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := authority.Open(dir); err == nil {
		t.Error("a broken authority was taken, or replaced")
	}
}
