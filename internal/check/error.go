package check

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Code names a kind of failure. Codes are part of the JSON report: they are added, never renamed.
type Code string

// The codes, grouped by the exit code that the command line gives them.
const (
	// Exit code 1.
	Internal Code = "internal"  // failed, with no code of its own
	NotTaken Code = "not-taken" // Proxmox reported success, but the realm does not hold the value

	// Exit code 11: the realm is in place, but…
	LoginFailed Code = "login-failed" // …a rehearsed login failed, or nobody logged in

	// Exit code 12: refused, the plan needs a decision.
	WrongType       Code = "wrong-type"       // a realm of that name exists and is not OpenID Connect
	UsernameClaim   Code = "username-claim"   // the username claim of an existing realm cannot be changed
	UnknownProperty Code = "unknown-property" // this Proxmox version does not know a property
	BuiltinRealm    Code = "builtin-realm"    // pam and pve are Proxmox's own
	SavedRealm      Code = "saved-realm"      // an interrupted replace left a saved realm, or one cannot be restored
	UnknownRole     Code = "unknown-role"     // the configuration grants a role that Proxmox does not have
	NoGroupsClaim   Code = "no-groups-claim"  // the configuration grants roles to groups that no login has
	TokenTaken      Code = "token-taken"      // a token of that name exists, and its secret is not here
	KeyRotation     Code = "key-rotation"     // the key of a client cannot be changed before somebody decides something
	NotProven       Code = "not-proven"       // a file of Authelia is not edited, because the result could not be proven right

	// Exit code 13: held.
	Held Code = "held" // the gate kept the change back

	// Exit code 64.
	Usage Code = "usage"

	// Exit code 69: Proxmox cannot be used now.
	Unreachable        Code = "unreachable"         // no endpoint answers
	UnknownCertificate Code = "unknown-certificate" // Proxmox's certificate is not trusted
	ProxmoxFailed      Code = "proxmox-failed"      // Proxmox answers, but fails
	NoQuorum           Code = "no-quorum"           // the cluster cannot write

	// Exit code 75: try again.
	Locked         Code = "locked"          // another run holds the lock
	LockTimeout    Code = "lock-timeout"    // Proxmox's own lock timed out
	Conflict       Code = "conflict"        // the configuration kept changing underneath
	RateLimited    Code = "rate-limited"    // the issuer limits requests
	ReplacePending Code = "replace-pending" // a DELETE was sent, and the realm is not gone yet

	// Exit code 77.
	BadCredentials   Code = "bad-credentials"   // Proxmox refuses the token, ticket or password
	PermissionDenied Code = "permission-denied" // the credentials are fine, the privilege is missing

	// Exit code 78.
	Config Code = "config"

	// Exit codes 130 and 143.
	Interrupted Code = "interrupted" // SIGINT
	Terminated  Code = "terminated"  // SIGTERM
)

// MayPass reports whether a failure with this code may pass by itself, so that trying again can help. These are the codes of
// exit codes 69 and 75.
func (c Code) MayPass() bool {
	switch c {
	case Unreachable, UnknownCertificate, ProxmoxFailed, NoQuorum, Locked, LockTimeout, Conflict, RateLimited, ReplacePending:
		return true
	}
	return false
}

// Error is a failure as it is shown: a code for programs, a message for people, and a hint. The packages that know what
// went wrong build it; internal/cli alone turns it into text and an exit code.
//
// Message is lower case and has no full stop. It never holds a secret or uncleaned text of a server.
type Error struct {
	Code    Code
	Key     string // the configuration key that the message is about; "" if it is about none
	Message string
	Hint    Hint
	Err     error // the cause, for errors.Is and errors.As; its text is not shown
}

// Errorf returns an error without a hint.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Try returns a copy with a hint, a line for each thing to do.
func (e *Error) Try(lines ...Hint) *Error {
	c := *e
	c.Hint = Hints(lines...)
	return &c
}

// At returns a copy that is about a configuration key.
func (e *Error) At(key string) *Error {
	c := *e
	c.Key = key
	return &c
}

// Because returns a copy that wraps the cause.
func (e *Error) Because(err error) *Error {
	c := *e
	c.Err = err
	return &c
}

// Error returns the message, after the key that it is about.
func (e *Error) Error() string {
	if e.Key != "" {
		return e.Key + ": " + e.Message
	}
	return e.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of the first [Error] in the tree of err, [Internal] if there is none, and "" for nil.
func CodeOf(err error) Code {
	var e *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Code
	}
	return Internal
}

// JSONFault says what is wrong with a JSON document that encoding/json refused, without the names of Go types.
func JSONFault(err error) string {
	var wrong *json.UnmarshalTypeError
	switch {
	case !errors.As(err, &wrong):
		return err.Error()
	case wrong.Field == "":
		return "the document has the wrong type: " + wrong.Value
	}
	return "the member " + wrong.Field + " has the wrong type: " + wrong.Value
}
