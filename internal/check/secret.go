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
// encoding/xml and YAML, also from inside unexported fields of other structs. Only [Secret.Reveal]
// gives the value. The zero value is "not set", which differs from a set but empty secret.
//
// The value sits behind a pointer, so that reflection-based printers which ignore methods
// (fmt on unexported fields) show an address and not the text.
type Secret struct{ value *string }

// NewSecret returns a set secret, even where s is empty.
func NewSecret(s string) Secret { return Secret{value: &s} }

// Reveal returns the value, or "" where none is set. Every caller is a place where a secret
// leaves the program: keep them few.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// IsSet tells whether a value was given, be it empty.
func (s Secret) IsSet() bool { return s.value != nil }

// Equal compares two secrets in time that depends on their lengths alone.
// Two secrets that are not set are equal; a set one never equals one that is not.
func (s Secret) Equal(other Secret) bool {
	if s.value == nil || other.value == nil {
		return s.value == other.value
	}
	return subtle.ConstantTimeCompare([]byte(*s.value), []byte(*other.value)) == 1
}

// String returns [Mask], or "" where no value is set.
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
