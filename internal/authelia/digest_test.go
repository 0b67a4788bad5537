package authelia

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"proxmox-realm/internal/check"

	"pgregory.net/rapid"
)

const guideDigest = "$pbkdf2-sha512$310000$c8p78n7pUMln0jzvd4aK4Q$JNRBzwAo0ek5qKn50cFzzvE9RXV88h1wJn5KGiHrD0YKtZaR/nCb2CJPOsKaPK0hjf.9yHxzQGZziziccp6Yng"

func TestVerify(t *testing.T) {
	for _, tt := range []struct {
		name, digest, key string
		ok                bool
		err               error
	}{
		{"the digest of Authelia's guide", guideDigest, "insecure_secret", true, nil},
		{"another key", guideDigest, "insecure_secret2", false, nil},
		{"no key", guideDigest, "", false, nil},
		{"plain text", "$plaintext$insecure_secret", "insecure_secret", true, nil},
		{"plain text of another key", "$plaintext$insecure_secret", "insecure", false, nil},
		{"plain text with dollars", "$plaintext$a$b$c", "a$b$c", true, nil},
		{"plain text without a prefix", "insecure_secret", "insecure_secret", true, nil},
		{"unknown algorithm", "$sha512$abc$def", "insecure_secret", false, ErrNotDigest},
		{"cut short", guideDigest[:40], "insecure_secret", false, ErrNotDigest},
		{"too many iterations", strings.Replace(guideDigest, "310000", "2000000000", 1), "insecure_secret", false, ErrCostly},
		{"iterations that are no number", strings.Replace(guideDigest, "310000", "9999999999999999999999", 1), "insecure_secret", false, ErrCostly},
		{"too much memory", "$argon2id$v=19$m=4194304,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI", "x", false, ErrCostly},
		{"scrypt over the limit", "$scrypt$ln=40,r=8,p=1$c29tZXNhbHRzb21lc2FsdA$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI", "x", false, ErrCostly},
		{"bcrypt over the limit", "$2b$31$c29tZXNhbHRzb21lc2FsdOabcdefghijklmnopqrstuvwxyz0123456", "x", false, ErrCostly},
		{"SHA-crypt over the limit", "$6$rounds=999999999$saltsaltsalt$abc", "x", false, ErrCostly},
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
		Bcrypt:   "$2b$12$",
		Scrypt:   "$scrypt$ln=16,r=8,p=1$",
	} {
		got, err := Digest(key, with)
		if err != nil || !strings.HasPrefix(got, prefix) {
			t.Errorf("%s: %q, %v, want %s…", with, got, err, prefix)
			continue
		}
		if ok, err := Verify(got, key); err != nil || !ok {
			t.Errorf("%s: does not verify: %v", with, err)
		}
	}
}

func TestEveryDigestVerifiesAndNoOtherKeyDoes(t *testing.T) {
	// PBKDF2 and bcrypt have no low cost in the library, so they are drawn less often.
	costs := map[Algorithm]int{PBKDF2: 100_000, Argon2id: 64, Bcrypt: 10, Scrypt: 2}
	rapid.Check(t, func(t *rapid.T) {
		with := rapid.SampledFrom(slices.Concat(Algorithms(), slices.Repeat([]Algorithm{Argon2id, Scrypt}, 8))).Draw(t, "algorithm")
		key := rapid.StringMatching(`[A-Za-z0-9._~$:+ é-]{1,60}`).Filter(func(s string) bool { return len(s) <= 72 }).Draw(t, "key")
		made, err := digest(check.NewSecret(key), with, costs[with])
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(made, key) && len(key) > 8 {
			t.Fatal("the digest holds the key")
		}
		if ok, err := Verify(made, check.NewSecret(key)); err != nil || !ok {
			t.Fatalf("%s does not verify: %v", made, err)
		}
		if with == Argon2id || with == Scrypt { // cheap enough to hash twice more
			if ok, err := Verify(made, check.NewSecret(key+"x")); err != nil || ok {
				t.Fatalf("another key verifies: %v", err)
			}
			if again, _ := digest(check.NewSecret(key), with, costs[with]); again == made {
				t.Fatal("two digests of one key have the same salt")
			}
		}
	})
}

func TestDigestRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		key  string
		with Algorithm
		code check.Code
	}{
		{"no key", "", PBKDF2, check.Config},
		{"a key that bcrypt would cut", strings.Repeat("a", 73), Bcrypt, check.Config},
		{"an unknown algorithm", "key", "md5", check.Usage},
	} {
		if got, err := Digest(check.NewSecret(tt.key), tt.with); check.CodeOf(err) != tt.code {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add(guideDigest)
	f.Add("$argon2id$v=19$m=64,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI")
	f.Add("$scrypt$ln=2,r=8,p=1$c29tZXNhbHRzb21lc2FsdA$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI")
	f.Add("$2b$04$c29tZXNhbHRzb21lc2FsdOabcdefghijklmnopqrstuvwxyz0123456")
	f.Add("$bcrypt-sha256$v=2,t=2b,r=4$c29tZXNhbHRzb21lc2FsdO$abcdefghijklmnopqrstuvwxyz01234")
	f.Add("$6$rounds=1000$salt$abc")
	f.Add("$plaintext$")
	f.Fuzz(func(t *testing.T, digest string) {
		ok, err := Verify(digest, check.NewSecret("a key that nobody has"))
		if ok && !strings.HasSuffix(digest, "a key that nobody has") {
			t.Fatalf("%q verifies: %v", digest, err)
		}
	})
}
