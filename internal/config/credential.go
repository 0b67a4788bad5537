package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
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

// ParseUserID reads name@realm (PVE::Auth::Plugin, user_regex; proxmox-auth-api, PROXMOX_USER_ID). Its error completes "must …"
// and never quotes the text.
func ParseUserID(p realm.Product, text string) (UserID, error) {
	at := strings.LastIndexByte(text, '@')
	if at < 1 || p.ValidateName(text[at+1:]) != nil || strings.ContainsFunc(text[:at], func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r) || r == ':' || r == '/'
	}) {
		return UserID{}, errors.New("must be a user with its realm, such as root@pam")
	}
	return UserID{Name: text[:at], Realm: text[at+1:]}, nil
}

func parseUsername(p realm.Product, text string) (UserID, error) {
	if !p.TicketLogin() {
		return UserID{}, check.Errorf(check.Config, "must not be set: this program logs in to %s with an API token only", p.Name()).
			Try("set {proxmox.token_file}", "remove {proxmox.username} from the configuration")
	}
	return ParseUserID(p, text)
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

// ParseToken reads user@realm!id=secret (PVE::AccessControl, token_full_regex). Backup Server and Datacenter Manager also print a
// colon before the secret. Its error completes "must …" and never quotes the text.
func ParseToken(p realm.Product, text string) (Token, error) {
	user, rest, marked := strings.Cut(text, "!")
	id, value := rest, ""
	if i := strings.IndexAny(rest, p.TokenSeparators()); i >= 0 {
		id, value = rest[:i], rest[i+1:]
	}
	owner, err := ParseUserID(p, user)
	wrong := p.ValidateTokenID(id)
	why := ""
	switch {
	case strings.ContainsFunc(value, func(r rune) bool { return r < '!' || r > '~' }):
		why = ": the secret contains white space or a character that is not ASCII, perhaps an invisible one at its end"
	case !marked && !strings.Contains(text, "@"):
		why = ": this may be the secret alone"
	case !marked:
		why = ": this one has no token id after the user"
	case header().MatchString(text) || strings.IndexAny(text, `"'`) == 0:
		why = ": leave out what stands before the user"
	case err != nil:
		why = ": the user needs its realm, such as automation@" + p.String()
	case wrong != nil && strings.Contains(id, ":"):
		why = ": a colon before the secret is the form of Proxmox Backup Server and Proxmox Datacenter Manager, see proxmox.product"
	case wrong != nil:
		why = ": the token id " + wrong.Error()
	case value != "":
		return Token{User: owner, ID: id, Secret: check.NewSecret(value)}, nil
	}
	return Token{}, fmt.Errorf("must be a token of the form user@realm!id%.1ssecret%s", p.TokenSeparators(), why)
}

// header matches what stands before a token in a request.
var header = check.Pattern(`^P(VE|BS|DM)APIToken=`)

func secret(text string) (check.Secret, error) { return check.NewSecret(text), nil }

// digest matches how Authelia's configuration holds a client secret (its digest, or the secret after $plaintext$).
var (
	digest    = check.Pattern(`^\$(pbkdf2|argon2|scrypt|bcrypt|5\$|6\$|2[abxy]\$|plaintext\$)`)
	errDigest = check.Errorf(check.Config, "is in the form of Authelia's configuration: Proxmox needs the client key itself").
			Try("if nobody has the key any more, it makes a new one, and its digest for Authelia:\n    {authelia --new-key FILE}")
)

func parseClientKey(text string) (check.Secret, error) {
	if digest().MatchString(text) {
		return check.Secret{}, errDigest
	}
	return check.NewSecret(text), nil
}

func parseRealmName(p realm.Product, text string) (string, error) { return text, p.ValidateName(text) }

// Fingerprint is the SHA-256 digest of a certificate in DER.
type Fingerprint [sha256.Size]byte

// String returns AB:CD:…, as `pvenode cert info` prints it.
func (f Fingerprint) String() string {
	return strings.ReplaceAll(strings.ToUpper(fmt.Sprintf("% x", f[:])), " ", ":")
}

// ParseFingerprint reads hexadecimal digits, with or without colons. Its error completes "must …".
func ParseFingerprint(p realm.Product, text string) (Fingerprint, error) {
	raw, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	switch {
	case err == nil && len(raw) == 20:
		return Fingerprint{}, fmt.Errorf("must be a SHA-256 fingerprint, as `%s` prints it: this is one of SHA-1", p.Host().Certificate)
	case err != nil || len(raw) != sha256.Size:
		return Fingerprint{}, fmt.Errorf("must be a SHA-256 fingerprint, 64 hexadecimal digits, as `%s` prints it", p.Host().Certificate)
	}
	return Fingerprint(raw), nil
}

var otp = check.Pattern(`^[0-9]{6,8}$`)

func parseOTP(text string) (check.Secret, error) {
	if !otp().MatchString(text) {
		return check.Secret{}, errors.New("must be the 6 to 8 digits of a time-based one-time password")
	}
	return check.NewSecret(text), nil
}
