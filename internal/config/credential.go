package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// UserID is a Proxmox user with its realm.
type UserID struct{ Name, Realm string }

// IsZero reports whether no user is given.
func (u UserID) IsZero() bool { return u == UserID{} }

// String returns name@realm, or "" for the zero value.
func (u UserID) String() string {
	if u.IsZero() {
		return ""
	}
	return u.Name + "@" + u.Realm
}

// ParseUserID reads name@realm (PVE::Auth::Plugin, user_regex). Its error completes "must …" and never quotes the text.
func ParseUserID(text string) (UserID, error) {
	at := strings.LastIndexByte(text, '@')
	if at < 1 || realm.ValidateName(text[at+1:]) != nil || strings.ContainsFunc(text[:at], func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r) || r == ':' || r == '/'
	}) {
		return UserID{}, errors.New("must be a user with its realm, such as root@pam")
	}
	return UserID{Name: text[:at], Realm: text[at+1:]}, nil
}

// Token is an API token.
type Token struct {
	User   UserID
	ID     string       // without the user
	Secret check.Secret // the part behind the "="
}

// IsZero reports whether no token is given.
func (t Token) IsZero() bool { return t.ID == "" }

// String returns user@realm!id, which is no secret, or "" for the zero value.
func (t Token) String() string {
	if t.IsZero() {
		return ""
	}
	return t.User.String() + "!" + t.ID
}

// Full returns user@realm!id=secret, as Proxmox expects it, or a secret that is not set for the zero value.
func (t Token) Full() check.Secret {
	if t.IsZero() {
		return check.Secret{}
	}
	return check.NewSecret(t.String() + "=" + t.Secret.Reveal())
}

// ParseToken reads user@realm!id=secret (PVE::AccessControl, token_full_regex). Its error completes "must …" and never
// quotes the text.
func ParseToken(text string) (Token, error) {
	user, rest, marked := strings.Cut(text, "!")
	id, value, _ := strings.Cut(rest, "=")
	owner, err := ParseUserID(user)
	why := ""
	switch {
	case strings.ContainsFunc(value, func(r rune) bool { return r < '!' || r > '~' }):
		why = ": the secret contains white space or a character that is not ASCII, perhaps an invisible one at its end"
	case !marked && !strings.Contains(text, "@"):
		why = ": this may be the secret alone"
	case !marked:
		why = ": this one has no token id after the user"
	case strings.HasPrefix(text, "PVEAPIToken=") || strings.IndexAny(text, `"'`) == 0:
		why = ": leave out what stands before the user"
	case err != nil:
		why = ": the user needs its realm, such as automation@pve"
	case !tokenID.MatchString(id):
		why = ": the token id has two characters or more, a letter first, then letters, digits, '.', '_' or '-'"
	case value != "":
		return Token{User: owner, ID: id, Secret: check.NewSecret(value)}, nil
	}
	return Token{}, errors.New("must be a token of the form user@realm!id=secret" + why)
}

// tokenID matches the ids of tokens. Unlike a realm's name, an id has no greatest length.
var tokenID = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]+$`)

// Fingerprint is the SHA-256 digest of a certificate in DER.
type Fingerprint [sha256.Size]byte

// String returns AB:CD:…, as `pvenode cert info` prints it.
func (f Fingerprint) String() string {
	return strings.ReplaceAll(strings.ToUpper(fmt.Sprintf("% x", f[:])), " ", ":")
}

// ParseFingerprint reads hexadecimal digits, with or without colons. Its error completes "must …".
func ParseFingerprint(text string) (Fingerprint, error) {
	raw, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	switch {
	case err == nil && len(raw) == 20:
		return Fingerprint{}, errors.New("must be a SHA-256 fingerprint, as `pvenode cert info` prints it: this is one of SHA-1")
	case err != nil || len(raw) != sha256.Size:
		return Fingerprint{}, errors.New("must be a SHA-256 fingerprint, 64 hexadecimal digits, as `pvenode cert info` prints it")
	}
	return Fingerprint(raw), nil
}

var otp = regexp.MustCompile(`^[0-9]{6,8}$`)

func parseOTP(text string) (check.Secret, error) {
	if !otp.MatchString(text) {
		return check.Secret{}, errors.New("must be the 6 to 8 digits of a time-based one-time password")
	}
	return check.NewSecret(text), nil
}
