package authelia

import (
	"errors"
	"regexp"
	"strings"
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

const (
	bcryptDigest = "$2b$10$4vhwYGYewUpbrl82qHGnC.MHtDvQQEZ8Ct/Fy/CojW9MaC8uJ980W"
	guideDigest  = "$pbkdf2-sha512$310000$c8p78n7pUMln0jzvd4aK4Q$JNRBzwAo0ek5qKn50cFzzvE9RXV88h1wJn5KGiHrD0YKtZaR/nCb2CJPOsKaPK0hjf.9yHxzQGZziziccp6Yng"
)

func TestVerify(t *testing.T) {
	for _, tt := range []struct {
		name, digest, key string
		ok                bool
		err               error
	}{
		{"the digest of Authelia's guide", guideDigest, "insecure_secret", true, nil},
		{"another key", guideDigest, "insecure_secret2", false, nil},
		{"no key", guideDigest, "", false, nil},
		{"bcrypt", bcryptDigest, "insecure_secret", true, nil},
		{"plain text", "$plaintext$insecure_secret", "insecure_secret", true, nil},
		{"plain text of another key", "$plaintext$insecure_secret", "insecure", false, nil},
		{"plain text with dollars", "$plaintext$a$b$c", "a$b$c", true, nil},
		{"plain text without a prefix", "insecure_secret", "insecure_secret", true, nil},
		{"unknown algorithm", "$sha512$abc$def", "insecure_secret", false, errNotDigest},
		{"cut short", guideDigest[:40], "insecure_secret", false, errNotDigest},
	} {
		ok, err := Verify(tt.digest, check.NewSecret(tt.key))
		if ok != tt.ok || !errors.Is(err, tt.err) {
			t.Errorf("%s: %v, %v, want %v, %v", tt.name, ok, err, tt.ok, tt.err)
		}
	}
}

func TestDigestHasTheCostOfAuthelia(t *testing.T) {
	key := NewKey()
	got, err := Digest(key)
	if err != nil || !strings.HasPrefix(got, "$pbkdf2-sha512$310000$") {
		t.Fatalf("%q, %v", got, err)
	}
	if ok, err := Verify(got, key); err != nil || !ok {
		t.Errorf("does not verify: %v", err)
	}
	if ok, err := Verify(got, NewKey()); err != nil || ok {
		t.Errorf("another key verifies: %v", err)
	}
	if again, _ := Digest(key); again == got {
		t.Error("two digests have the same salt")
	}
	if _, err := Digest(check.NewSecret("")); check.CodeOf(err) != check.Config {
		t.Errorf("no key: %v", err)
	}
}
