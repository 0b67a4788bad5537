package diagnose_test

import (
	"strings"
	"testing"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/diagnose"
	"proxmox-realm/internal/realm"
)

// texts are those of each version: with their cause, a word of the sentence, and a word of the hint.
var texts = []struct{ text, cause, summary, hint string }{
	{"Validation error: unexpected issuer URI `https://a` (expected `https://a/`)", "issuer-differs", "own name is https://a,", "set realm.issuer_url to https://a"},
	{"Request failed", "issuer-unreachable", "cannot fetch", "curl -v https://auth.example.com/.well-known/openid-configuration"},
	{`Server returned invalid response: Unexpected response Content-Type: "text/html", should be ` + "`application/json`", "issuer-document", "cannot read", "curl"},
	{"Failed to parse server response", "issuer-document", "cannot read", "proxmox-realm probe"},
	{"Server returned invalid response: HTTP status code 204 No Content at https://a", "issuer-document", "", ""},
	{"relative URL without a base", "bad-url", "", "realm.issuer_url"},
	{"authentication domain 'authelia' does not exist", "no-realm", "the realm authelia", "plan"},
	{"wrong realm type (pam != openid)", "no-realm", "", ""},
	{"got unexpected type 'pam' for openid 'pam'", "no-realm", "", ""},
	{"too many pending openid auth request for realm authelia", "too-many-pending", "hundred", "10 minutes"},
	{"Failed to contact token endpoint: Request failed", "request-failed", "refused the code", "verify"},
	{"Failed to contact token endpoint: Request failed at /usr/share/perl5/PVE/API2/OpenId.pm line 167.", "request-failed", "", ""},
	{"Failed to contact token endpoint: Server returned error response", "request-failed", "", ""},
	{"Failed to contact token endpoint: Server returned error response: invalid_client: nope", "client-refused", "", "realm.client_key_file"},
	{"Failed to contact token endpoint: Server returned error response: invalid_grant: used", "code-refused", "", "again"},
	{"Failed to contact token endpoint: Server returned error response: server_error: oops (see https://e)", "issuer-refused", "server_error: oops", ""},
	{"Failed to contact token endpoint: Failed to parse server response", "token-unreadable", "encrypted", "encrypt"},
	{"Failed to contact token endpoint: Other error: unexpected response Content-Type: \"text/html\", should be `application/json`", "token-unreadable", "", ""},
	{"Configuration error for token endpoint: No token endpoint URL specified", "no-token-endpoint", "", "token_endpoint"},
	{"Failed to verify ID token: Invalid issuer: expected `https://a` (found `https://b`)", "issuer-differs", "names the issuer https://b", "https://a"},
	{"Failed to verify ID token: Invalid audiences: must contain `proxmox` (found audiences: `x`, `y`)", "audience", "is for x, y and not", "proxmox"},
	{"Failed to verify ID token: Invalid audiences: `2846` is not a trusted audience", "audience", "also for 2846", "set realm.audiences to [2846]"},
	{"Failed to verify ID token: Expired: ID token expired at 2026-12-01 04:00:00 UTC (current time is 2026-12-01 05:00:00.1 UTC)", "clock", "2026-12-01 04:00:00 UTC", "timedatectl"},
	{"Failed to verify ID token: Invalid nonce: nonce mismatch", "nonce", "another login", "again"},
	{"Failed to verify ID token: Invalid nonce: missing nonce claim", "nonce", "lacks", "repeat"},
	{"Failed to verify ID token: Unsupported: unexpected or unsupported JWT type `at+jwt`", "token-type", "at+jwt", "typ"},
	{"Failed to verify ID token: Unsupported: JWE encryption is not currently supported (found algorithm `RSA-OAEP`)", "encrypted-token", "", "not encrypt"},
	{"Failed to verify ID token: Signature verification failed", "signature", "", "RS256"},
	{"Failed to verify ID token: Invalid subject: x", "token-refused", "Invalid subject: x", ""},
	{"Server did not return an ID token", "no-id-token", "", "openid"},
	{"No user info endpoint URL specified", "no-userinfo", "", "realm.query_userinfo"},
	{"Failed to contact userinfo endpoint: Request failed", "userinfo-refused", "", "log"},
	{"Failed to contact userinfo endpoint: Failed to parse server response", "userinfo-unreadable", "type", "email_verified"},
	{"Failed to contact userinfo endpoint: Failed to verify claims", "userinfo-unreadable", "signed", "signature"},
	{"no openid auth state found (possible timeout)", "state-lost", "10 minutes", "again"},
	{`unable to read json "/var/lib/pve-manager/proxmox-openid-auth-state-authelia" - No such file or directory (os error 2)`, "other-node", "another node", "one node"},
	{"expected value at line 1 column 1", "bad-state", "", ""},
	{"missing field `csrf_token` at line 1 column 2", "bad-state", "", ""},
	{"missing configured claim 'department' in returned info object", "claim-missing", "no claim department", "send the claim department"},
	{"missing configured claim 'department'", "claim-missing", "department", ""},
	{"missing claim 'preferred_username'", "claim-missing", "preferred_username", ""},
	{"value 'a b@authelia' does not look like a valid user name", "name-refused", "a b@authelia", "another name"},
	{"user name 'aaaa@authelia' is too long (70 > 64)", "name-refused", "64 characters", ""},
	{"user name 'a' is too short", "name-refused", "", ""},
	{"invalid user name in user id", "name-refused", "", ""},
	{`writing "/etc/proxmox-backup/user.cfg" failed: syntax error in section identifier: value may only be 64 characters long`, "name-refused", "", ""},
	{"no such user ('jane@authelia')", "user-absent", "jane@authelia", "pveum user add jane@authelia"},
	{"no such user ('it''s@authelia')", "user-absent", "", `pveum user add 'it'\'''\''s@authelia'`},
	{"user 'jane@authelia' is disabled", "user-disabled", "jane@authelia", "pveum user modify jane@authelia --enable 1"},
	{"user 'jane@authelia' access expired", "user-expired", "jane@authelia", "pveum user modify jane@authelia --expire 0"},
	{"autocreate openid user failed: cfs-lock 'file-user_cfg' error: no quorum!", "no-quorum", "quorum", "pvecm status"},
	{"autocreate openid user failed: cfs-lock 'file-user_cfg' error: got lock request timeout", "user-not-created", "got lock request timeout", ""},
	{"openid group mapping failed: cfs-lock 'file-user_cfg' error: no quorum!", "no-quorum", "", ""},
	{"openid group mapping failed: something", "groups-not-written", "something", ""},
	{"Failed to parse URL", "bad-url", "", "realm.issuer_url"},
	{"invalid IPv4 address", "bad-url", "", ""},
	{"invalid IPv6 address", "bad-url", "", ""},
	{"invalid domain character", "bad-url", "", ""},
	{"invalid port number", "bad-url", "", ""},
	{"invalid international domain name", "bad-url", "", ""},
	{"empty host", "bad-url", "", ""},
	{"relative URL with a cannot-be-a-base base", "bad-url", "", ""},
	{"Request failed: dns error", "issuer-unreachable", "", ""},
	{"Validation error: other", "issuer-document", "", ""},
	{"no such openid 'authelia'", "no-realm", "", ""},
	{"Failed to contact token endpoint: Server returned error response: unauthorized_client: no", "client-refused", "", ""},
	{"Failed to contact token endpoint: Other error: no token_url provided", "no-token-endpoint", "", ""},
	{"Failed to contact token endpoint: No token endpoint URL specified", "no-token-endpoint", "", ""},
	{"No token endpoint URL specified", "no-token-endpoint", "", ""},
	{"Failed to verify ID token: Expired: x", "clock", "", ""},
	{"Failed to verify ID token: Invalid audiences: missing audiences claim", "audience", "", ""},
	{"Failed to verify ID token: Unsupported: nested JWT's are not currently supported", "encrypted-token", "", ""},
	{"Failed to verify ID token: Unsupported: critical JWT header fields are unsupported", "token-type", "", ""},
	{"client error (Connect)", "daemon-down", "", ""},
	{"client error (SendRequest)", "no-id-token", "", ""},
	{"missing field `csrf_token`", "bad-state", "", ""},
	{"EOF while parsing a value at line 1 column 0", "bad-state", "", ""},
	{"autocreate user failed - 'jane@authelia' already exists.", "user-expired", "", ""},
	{"user account 'jane@authelia' missing, disabled or expired.", "user-absent", "", ""},
	{"a text of the future", "unknown", "", "journalctl -u pvedaemon"},
}

// TestCauses holds the table against texts.
func TestCauses(t *testing.T) {
	for _, c := range texts {
		all := read(virtualEnvironment(), vienna(t), "Dec 01 05:00:00 pve pvedaemon[1]: openid authentication failure; rhost=::ffff:192.0.2.1 msg="+c.text)
		if len(all) != 1 {
			t.Fatalf("%s: %d logins", c.text, len(all))
		}
		l, hint := all[0], all[0].Hint.For(check.Names{})
		if string(l.Cause) != c.cause || !strings.Contains(l.Summary, c.summary) || !strings.Contains(hint, c.hint) || hint == "" {
			t.Errorf("%s:\n%s\n%s\n%s", c.text, l.Cause, l.Summary, hint)
		}
		if l.Text != c.text {
			t.Errorf("text %q", l.Text)
		}
	}
}

// TestEveryRowIsUsed: a pattern that no text reaches may be wrong.
func TestEveryRowIsUsed(t *testing.T) {
	unused := diagnose.Rows()
	for _, c := range texts {
		delete(unused, diagnose.Matches(c.text))
	}
	for pattern, cause := range unused {
		t.Errorf("no text has %q (%s)", pattern, cause)
	}
}

// TestNoRealmIsNoCommand: a realm in a text that others send is shown, and never part of a command.
func TestNoRealmIsNoCommand(t *testing.T) {
	l := read(virtualEnvironment(), vienna(t), "Dec 01 05:00:00 pve pvedaemon[1]: openid authentication failure; rhost=::1 msg=no such user ('jane@x; reboot')")[0]
	if l.Realm != "" || l.User != "jane@x; reboot" || strings.Contains(string(l.Hint), "diagnose --realm") {
		t.Errorf("%q %s", l.Realm, l.Hint)
	}
}

// TestHintsProposeNothingThatIsSo holds hints against a realm that has the value already.
func TestHintsProposeNothingThatIsSo(t *testing.T) {
	line := func(text string) string {
		return "Dec 01 05:00:00 pve pvedaemon[1]: openid authentication failure; rhost=::ffff:192.0.2.1 msg=" + text
	}
	for text, is := range map[string]realm.Login{
		"Validation error: unexpected issuer URI `https://b` (expected `https://a`)":  {IssuerURL: "https://b"},
		"Failed to verify ID token: Invalid audiences: `x` is not a trusted audience": {Audiences: []string{"x"}},
		"no such user ('jane@authelia')":                                              {Autocreate: true},
	} {
		f := virtualEnvironment()
		f.Login = is
		if hint := read(f, vienna(t), line(text))[0].Hint; hint != "try again: the realm was corrected since" {
			t.Errorf("stored: %s: %s", text, hint)
		}
		f.Login, f.Declared = realm.Login{}, is
		if hint := read(f, vienna(t), line(text))[0].Hint; !strings.HasSuffix(string(hint), "{apply}") {
			t.Errorf("declared: %s: %s", text, hint)
		}
	}
}

// TestCorrectedClaims: a realm that names users by another claim by now needs no advice about the former one.
func TestCorrectedClaims(t *testing.T) {
	f := virtualEnvironment()
	f.Login.UsernameClaim, f.Login.GroupsClaim = "email", "roles"
	for _, l := range read(f, vienna(t),
		"Dec 01 05:00:00 pve pvedaemon[1]: openid authentication failure; rhost=::ffff:192.0.2.1 msg=missing configured claim 'department' in returned info object",
		"Dec 01 05:00:00 pve pvedaemon[1]: openid groups claim 'groups' is not found in claims",
		"Dec 01 05:00:00 pve pvedaemon[1]: <root@pam> successful openid auth for user 'jane@authelia'") {
		if l.Hint != "try again: the realm was corrected since" {
			t.Errorf("%s: %s", l.Summary, l.Hint)
		}
	}
}
