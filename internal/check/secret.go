package check

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// Mask is what every rendering of a set [Secret] shows in place of its value.
const Mask = "(sensitive)"

// Secret is a value that renders as [Mask] through fmt (every verb), log/slog, encoding/json,
// encoding/xml and YAML. Only [Secret.Reveal] returns the value. The zero value is "not set", which differs from an empty
// secret.
//
// The value is behind a pointer, because fmt ignores the methods of unexported fields: it shows an address there.
type Secret struct{ value *string }

// NewSecret returns a set secret, also if s is empty.
func NewSecret(s string) Secret { return Secret{value: &s} }

// Reveal returns the value, or "" if none is set. Each call is a place where a secret can leave the program.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// IsSet reports whether there is a value, also an empty one.
func (s Secret) IsSet() bool { return s.value != nil }

// Equal compares two secrets in time that depends on their lengths alone.
// Two secrets that are not set are equal; a set one never equals one that is not.
func (s Secret) Equal(other Secret) bool {
	if s.value == nil || other.value == nil {
		return s.value == other.value
	}
	return subtle.ConstantTimeCompare([]byte(*s.value), []byte(*other.value)) == 1
}

// String returns [Mask], or "" if no value is set.
func (s Secret) String() string {
	if s.value == nil {
		return ""
	}
	return Mask
}

// Format implements [fmt.Formatter], so that no verb or flag reaches the value.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements [encoding.TextMarshaler], which JSON, XML and YAML encoders honour.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
