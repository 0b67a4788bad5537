package authelia

import (
	"errors"
	"strings"
	"testing"

	"proxmox-realm/internal/check"
)

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
	for with, prefix := range map[Algorithm]string{
		PBKDF2:   "$pbkdf2-sha512$310000$",
		Argon2id: "$argon2id$v=19$m=65536,t=3,p=4$",
	} {
		got, err := Digest(key, with)
		if err != nil || !strings.HasPrefix(got, prefix) {
			t.Errorf("%s: %q, %v, want %s…", with, got, err, prefix)
			continue
		}
		if ok, err := Verify(got, key); err != nil || !ok {
			t.Errorf("%s: does not verify: %v", with, err)
		}
		if ok, err := Verify(got, NewKey()); err != nil || ok {
			t.Errorf("%s: another key verifies: %v", with, err)
		}
		if again, _ := Digest(key, with); again == got {
			t.Errorf("%s: two digests have the same salt", with)
		}
	}
}

func TestDigestRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		key  string
		with Algorithm
		code check.Code
	}{
		{"no key", "", PBKDF2, check.Config},
		{"an unknown algorithm", "key", "md5", check.Usage},
	} {
		if got, err := Digest(check.NewSecret(tt.key), tt.with); check.CodeOf(err) != tt.code {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
	}
}
