package standin

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// step is how long a one-time password is valid.
const step = 30 * time.Second

// NewTOTPSecret makes a secret for [TOTP].
func NewTOTPSecret() string {
	secret := make([]byte, 20)
	_, _ = rand.Read(secret) // never fails
	return base32.StdEncoding.EncodeToString(secret)
}

// TOTP returns the one-time password of a Base32 secret at a time (RFC 6238: SHA-1, six digits, 30 seconds), or "" if the
// secret is no Base32.
func TOTP(secret string, t time.Time) string {
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.TrimRight(strings.ToUpper(secret), "="))
	if err != nil {
		return ""
	}
	mac := hmac.New(sha1.New, key)
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(t.Unix()/int64(step/time.Second))))
	sum := mac.Sum(nil)
	offset := sum[len(sum)-1] & 0xf
	return fmt.Sprintf("%06d", (binary.BigEndian.Uint32(sum[offset:])&0x7fffffff)%1_000_000)
}

// MatchTOTP returns the number of the 30 seconds in which a code is valid, now or one off, or 0.
func MatchTOTP(secret, code string, now time.Time) int64 {
	for _, off := range []time.Duration{0, -step, step} {
		at := now.Add(off)
		if password := TOTP(secret, at); password != "" && subtle.ConstantTimeCompare([]byte(password), []byte(code)) == 1 {
			return at.Unix() / int64(step/time.Second)
		}
	}
	return 0
}
