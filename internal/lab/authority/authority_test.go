package authority_test

import (
	"bytes"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

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

func TestLifetimes(t *testing.T) {
	ca, err := authority.New()
	if err != nil {
		t.Fatal(err)
	}
	const day = 24 * time.Hour
	for kind, want := range map[authority.Kind]struct{ lifetime, left time.Duration }{
		authority.Valid:       {90 * day, 60 * day},
		authority.ShortLived:  {6 * day, 5 * day},
		authority.Expiring:    {90 * day, 2 * day},
		authority.Expired:     {89 * day, -day},
		authority.NotYetValid: {89 * day, 90 * day},
	} {
		issued, err := ca.Issue(kind, "localhost")
		if err != nil {
			t.Fatal(err)
		}
		if got := issued.Leaf.NotAfter.Sub(issued.Leaf.NotBefore); got != want.lifetime {
			t.Errorf("%s: lifetime %v, want %v", kind, got, want.lifetime)
		}
		if got := time.Until(issued.Leaf.NotAfter).Round(day); got != want.left {
			t.Errorf("%s: %v left, want %v", kind, got, want.left)
		}
	}
	if _, err := ca.Issue("nonsense", "localhost"); err == nil {
		t.Error("an unknown kind was issued")
	}
}
