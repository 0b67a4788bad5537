package standin

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// TicketLifetime is how long a ticket and its CSRF token are valid.
const TicketLifetime = 2 * time.Hour

// clockTolerance is how far in the future a ticket may have been made.
const clockTolerance = 5 * time.Minute

// Signer makes and checks the tickets of a product, and the CSRF tokens that go with them. A real server signs with a
// private key.
type Signer struct {
	Prefix string // such as PVE
	Key    []byte
	Now    func() time.Time
}

func (s Signer) sign(text string) string {
	mac := hmac.New(sha256.New, s.Key)
	mac.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func (s Signer) time() string { return fmt.Sprintf("%08X", s.Now().Unix()) }

// Ticket signs data, and aad, which is not in the ticket: PREFIX:data:TIME::signature.
func (s Signer) Ticket(data, aad string) string {
	plain := s.Prefix + ":" + strings.ReplaceAll(data, ":", "%3A") + ":" + s.time()
	return plain + "::" + s.sign(plain+":"+aad)
}

// Open returns the data of a ticket. The error is worded as Backup Server does.
func (s Signer) Open(ticket, aad string, lifetime time.Duration) (data string, err error) {
	plain, signature, _ := strings.Cut(ticket, "::")
	if !hmac.Equal([]byte(s.sign(plain+":"+aad)), []byte(signature)) {
		return "", errors.New("invalid ticket - signature verification failed")
	}
	parts := strings.Split(plain, ":")
	if len(parts) != 3 || !s.fresh(parts[2], lifetime) {
		return "", errors.New("invalid ticket - expired")
	}
	return Unescape(parts[1]), nil
}

// fresh says whether a hexadecimal time is not older than a lifetime.
func (s Signer) fresh(hex string, lifetime time.Duration) bool {
	seconds, err := strconv.ParseInt(hex, 16, 64)
	age := s.Now().Sub(time.Unix(seconds, 0))
	return err == nil && age > -clockTolerance && age < lifetime
}

// CSRF makes the token that goes with a ticket of a user.
func (s Signer) CSRF(user string) string {
	now := s.time()
	return now + ":" + strings.TrimRight(s.sign("csrf:"+now+":"+user), "=")
}

// CheckCSRF says whether a token is one of [Signer.CSRF].
func (s Signer) CheckCSRF(user, token string) bool {
	now, signature, _ := strings.Cut(token, ":")
	want := strings.TrimRight(s.sign("csrf:"+now+":"+user), "=")
	return hmac.Equal([]byte(want), []byte(signature)) && s.fresh(now, TicketLifetime)
}

// NewUUID is a random UUID (RFC 9562, version 4), which secrets of tokens are.
func NewUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// NewKey makes a key for a [Signer].
func NewKey() []byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return key
}

// Unescape undoes percent escapes, and keeps a percent sign that begins none.
func Unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
