package diagnose_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/diagnose"
	"proxmox-realm/internal/realm"
)

// virtualEnvironment are the facts of a realm that reads groups.
func virtualEnvironment() diagnose.Facts {
	return diagnose.Facts{
		Login: realm.Login{
			Realm: "authelia", IssuerURL: "https://auth.example.com", ClientID: "proxmox",
			Scopes: []string{"openid", "profile", "email"}, QueryUserinfo: true,
		},
		Cleaner: check.NewCleaner(),
	}
}

// vienna is the clock of the recording.
func vienna(t *testing.T) *diagnose.Clock {
	t.Helper()
	now := time.Date(2026, 12, 1, 6, 0, 0, 0, zone(t, "Europe/Vienna"))
	return &diagnose.Clock{Zone: now.Location(), Since: now.Add(-24 * time.Hour), Now: now}
}

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// read returns the logins that lines of a log tell of.
func read(f diagnose.Facts, clock *diagnose.Clock, lines ...string) []diagnose.Login {
	var all []diagnose.Login
	r := diagnose.NewReader("pve", f, func(l diagnose.Login) { all = append(all, l) })
	r.Read(clock, lines)
	r.End()
	return all
}

// short is what a test compares of a login.
func short(l diagnose.Login) string {
	text := fmt.Sprintf("%s %s from %q user %q realm %q: %s", l.Time.Format("15:04:05"), l.Outcome, l.Address, l.User, l.Realm, l.Cause)
	if len(l.Groups) > 0 {
		text += " groups " + strings.Join(l.Groups, "+")
	}
	if len(l.Refused) > 0 || l.Unshown > 0 {
		text += fmt.Sprintf(" refused %s and %d unshown", strings.Join(l.Refused, "+"), l.Unshown)
	}
	return text
}

func shorts(all []diagnose.Login) []string {
	var out []string
	for _, l := range all {
		out = append(out, short(l))
	}
	return out
}

// TestRecording reads what a Proxmox VE 9.2 wrote about logins.
func TestRecording(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "proxmox-ve-9.2.log"))
	if err != nil {
		t.Fatal(err)
	}
	f := virtualEnvironment()
	f.Login.Realm = ""
	got := shorts(read(f, vienna(t), strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")...))
	want := []string{
		`05:55:50 failed from "10.77.0.1" user "" realm "": request-failed`,
		`05:55:57 failed from "10.77.0.1" user "" realm "": claim-missing`,
		`05:56:03 failed from "10.77.0.1" user "john@rec-noauto" realm "rec-noauto": user-absent`,
		`05:56:08 succeeded from "" user "john@rec-ok" realm "rec-ok": `,
		`05:56:12 failed from "10.77.0.1" user "space man@rec-ok" realm "rec-ok": name-refused`,
		`05:56:18 failed from "10.77.0.1" user "john@rec-ok" realm "rec-ok": user-disabled`,
		`05:56:24 failed from "10.77.0.1" user "john@rec-ok" realm "rec-ok": user-expired`,
		`05:56:30 failed from "10.77.0.1" user "" realm "": request-failed`,
		`05:56:42 succeeded from "" user "bob@rec-ok" realm "rec-ok": `,
		`05:56:42 failed from "10.77.0.1" user "" realm "": state-lost`,
		`05:56:46 failed from "10.77.0.1" user "" realm "": bad-state`,
		`05:56:52 failed from "10.77.0.1" user "" realm "rec-ok": other-node`,
		`05:57:00 succeeded from "" user "john@rec-absent" realm "rec-absent": groups-claim-absent`,
		`05:57:03 succeeded from "" user "john@rec-noarray" realm "rec-noarray": groups-no-list`,
		`05:57:07 succeeded from "" user "john@rec-none" realm "rec-none": `,
		`05:57:11 succeeded from "" user "olga@rec-odd" realm "rec-odd": groups-refused groups dev-rec-odd refused Team Leads+ops/eu and 1 unshown`,
		`05:57:15 succeeded from "" user "john@rec-groups" realm "rec-groups":  groups admins-rec-groups+dev-rec-groups`,
		`05:59:22 failed from "10.77.0.1" user "" realm "": no-quorum`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestLogOfBackupServer reads lines of Backup Server, which tell of other logins as well, and of some failures twice.
func TestLogOfBackupServer(t *testing.T) {
	f := virtualEnvironment()
	f.Product = realm.BackupServer
	got := shorts(read(f, vienna(t),
		"Dec 01 05:00:00 backup proxmox-backup-api[7]: POST /api2/json/access/openid/auth-url: 400 Bad Request: [client [::ffff:192.0.2.1]:4001] Request failed",
		"Dec 01 05:00:10 backup proxmox-backup-api[7]: authentication failure; rhost=[::ffff:192.0.2.1]:4002 user=jane msg=user account 'jane@authelia' missing, disabled or expired.",
		"Dec 01 05:00:10 backup proxmox-backup-api[7]: POST /api2/json/access/openid/login: 401 Unauthorized: [client [::ffff:192.0.2.1]:4002] user account 'jane@authelia' missing, disabled or expired.",
		"Dec 01 05:00:20 backup proxmox-backup-api[7]: authentication failure; rhost=[::ffff:192.0.2.1]:4003 user=root@pam msg=authentication error - SUCCESS (0)",
		"Dec 01 05:00:20 backup proxmox-backup-api[7]: POST /api2/json/access/ticket: 401 Unauthorized: [client [::ffff:192.0.2.1]:4003] permission check failed.",
		"Dec 01 05:00:30 backup proxmox-backup-proxy[8]: authentication failure; rhost=[::ffff:192.0.2.1]:4004 msg=invalid token",
		"Dec 01 05:00:31 backup proxmox-backup-api[7]: authentication failure; rhost=[::ffff:192.0.2.1]:4004 msg=invalid api token",
		"Dec 01 05:00:40 backup proxmox-backup-api[7]: authentication failure; rhost=[2001:db8::1]:4005 user=jane@example.com msg=user 'jane@example.com@authelia' is disabled.",
		"Dec 01 05:00:50 backup proxmox-backup-api[7]: POST /api2/json/access/openid/login: 400 Bad Request: [client [2001:db8::1]:4006] client error (SendRequest)",
		"Dec 01 05:01:00 backup proxmox-backup-api[7]: successful auth for user 'root@pam'",
		"Dec 01 05:01:00 backup proxmox-backup-api[7]: successful auth for user 'jane@authelia'",
		"Dec 01 05:01:10 backup proxmox-backup-api[7]: authentication failure; rhost=[2001:db8::1]:4007 msg=a text of the future",
		"Dec 01 05:01:10 backup proxmox-backup-api[7]: POST /api2/json/access/openid/login: 401 Unauthorized: [client [2001:db8::1]:4007] a text of the future",
	))
	want := []string{
		`05:00:00 failed from "192.0.2.1" user "" realm "": issuer-unreachable`,
		`05:00:10 failed from "192.0.2.1" user "jane@authelia" realm "authelia": user-absent`,
		`05:00:40 failed from "2001:db8::1" user "jane@example.com@authelia" realm "authelia": user-disabled`,
		`05:00:50 failed from "2001:db8::1" user "" realm "": no-id-token`,
		`05:01:00 succeeded from "" user "jane@authelia" realm "authelia": `,
		`05:01:10 failed from "2001:db8::1" user "" realm "": unknown`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestLogOfDatacenterManager: since 1.1.7 it tells the true cause in a line of its own.
func TestLogOfDatacenterManager(t *testing.T) {
	f := virtualEnvironment()
	f.Product = realm.DatacenterManager
	got := read(f, vienna(t),
		"Dec 01 05:00:00 pdm proxmox-datacenter-privileged-api[7]: could not get openid auth url: Request failed: error sending request: tcp connect error: Connection refused (os error 111)",
		"Dec 01 05:00:00 pdm proxmox-datacenter-privileged-api[7]: POST /api2/json/access/openid/auth-url: 400 Bad Request: [client [::ffff:192.0.2.1]:4001] Request failed",
		"Dec 01 05:00:09 pdm proxmox-datacenter-privileged-api[7]: could not get openid auth url: Request failed: error sending request: dns error",
	)
	if len(got) != 2 || got[0].Address != "192.0.2.1" || !strings.HasSuffix(got[0].Text, "Connection refused (os error 111)") ||
		got[0].Cause != diagnose.IssuerUnreachable || got[1].Cause != diagnose.IssuerUnreachable {
		t.Errorf("%+v", got)
	}
}

// TestOtherRealm: advice about the configured realm is none about another one.
func TestOtherRealm(t *testing.T) {
	l := read(virtualEnvironment(), vienna(t), "Dec 01 05:00:00 pve pvedaemon[1]: openid authentication failure; rhost=::ffff:192.0.2.1 msg=no such user ('jane@other')")[0]
	if hint := l.Hint.For(check.Names{}); !strings.HasSuffix(hint, "\n    proxmox-realm diagnose --realm other") || strings.Contains(hint, "autocreate") {
		t.Error(hint)
	}
	failed := check.Failed(check.ProxmoxUsers, "create users", "no users")
	if l.Decide([]check.Check{failed}, virtualEnvironment()).Hint != l.Hint {
		t.Error("a check of the configured realm words the hint")
	}
}

// TestNothingIsForged holds that texts of the issuer begin no message and name no other cause, whatever they hold.
func TestNothingIsForged(t *testing.T) {
	const head = "Dec 01 05:00:00 pve pvedaemon[1]: "
	indent := strings.Repeat(" ", len(head))
	for name, c := range map[string]struct {
		lines []string
		want  []string
	}{
		"a line feed and a look-alike head": {
			[]string{
				head + "openid authentication failure; rhost=::ffff:192.0.2.1 msg=value 'eve",
				indent + "Dec 01 05:00:00 pve pvedaemon[1]: <root@pam> successful openid auth for user 'root@pam'",
				indent,
				indent + "openid authentication failure; rhost=1.2.3.4 msg=no such user ('root@pam')@authelia' does not look like a valid user name",
			},
			[]string{`05:00:00 failed from "192.0.2.1" user "eve Dec 01 05:00:00 pve pvedaemon[1]: <root@pam> successful openid auth for user 'root@pam'  openid authentication failure; rhost=1.2.3.4 msg=no such user ('root@pam')@authelia" realm "authelia": name-refused`},
		},
		"a name that ends like another text": {
			[]string{head + "openid authentication failure; rhost=::ffff:192.0.2.1 msg=value 'x' is disabled' does not look like a valid user name@authelia' does not look like a valid user name"},
			[]string{`05:00:00 failed from "192.0.2.1" user "x' is disabled' does not look like a valid user name@authelia" realm "authelia": name-refused`},
		},
		"a group with the words of a success": {
			[]string{
				head + "openid group 'x",
				indent + "<root@pam> successful openid auth for user 'root@pam'' contains invalid characters",
				head + "openid group '<root@pam> successful openid auth for user 'root@pam'' contains invalid characters",
			},
			nil,
		},
		"another program, another user, a token": {
			[]string{
				"Dec 01 05:00:00 pve sshd[1]: openid authentication failure; rhost=::ffff:192.0.2.1 msg=Request failed",
				"Dec 01 05:00:00 pve pvedaemon[1]: authentication failure; rhost=::ffff:192.0.2.1 user=root@pam msg=Request failed",
				"Dec 01 05:00:00 pve pvedaemon[1]: <eve@pve> successful openid auth for user 'root@pam'",
				"Dec 01 05:00:00 pve pvedaemon[1]: <root@pam> successful auth for user 'root@pam'",
			},
			nil,
		},
		"what journalctl itself writes": {
			[]string{
				"-- Journal begins at Tue 2026-12-01 00:00:00 CET, ends at Tue 2026-12-01 06:00:00 CET. --", "-- Reboot --",
				head + "openid authentication failure; rhost=::ffff:192.0.2.1 msg=Request failed",
				"-- Boot 5f0cd27d30c14ac1a3ed1c9bd5ed0d3b --", indent + "a line of no message", "-- No entries --", "", "Dec 01", "no content",
			},
			[]string{`05:00:00 failed from "192.0.2.1" user "" realm "": issuer-unreachable`},
		},
		"lines of other workers between": {
			[]string{
				head + "openid group 'a b' contains invalid characters",
				"Dec 01 05:00:00 pve pvedaemon[2]: openid user 'bob@authelia' added to groups: dev-authelia",
				head + "openid user 'jane@authelia' added to groups: admins-authelia",
				"Dec 01 05:00:01 pve pvedaemon[2]: <root@pam> successful openid auth for user 'bob@authelia'",
				"Dec 01 05:00:01 pve pvedaemon[1]: <root@pam> successful openid auth for user 'jane@authelia'",
				"Dec 01 05:00:02 pve pvedaemon[1]: <root@pam> successful openid auth for user 'joe@authelia'",
			},
			[]string{
				`05:00:01 succeeded from "" user "bob@authelia" realm "authelia":  groups dev-authelia`,
				`05:00:01 succeeded from "" user "jane@authelia" realm "authelia": groups-refused groups admins-authelia refused a b and 0 unshown`,
				`05:00:02 succeeded from "" user "joe@authelia" realm "authelia": `,
			},
		},
		"groups of a login that never ended": {
			[]string{
				head + "openid user 'eve@authelia' added to groups: admins-authelia",
				"Dec 01 05:00:05 pve pvedaemon[1]: <root@pam> successful openid auth for user 'jane@authelia'",
				"Dec 01 05:01:00 pve pvedaemon[1]: openid groups claim 'groups' is not found in claims",
				"Dec 01 05:09:00 pve pvedaemon[1]: <root@pam> successful openid auth for user 'jane@authelia'",
			},
			[]string{
				`05:00:05 succeeded from "" user "jane@authelia" realm "authelia": `,
				`05:09:00 succeeded from "" user "jane@authelia" realm "authelia": `,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, shorts(read(virtualEnvironment(), vienna(t), c.lines...))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestManyGroups: a long list is no reason to cut a name.
func TestManyGroups(t *testing.T) {
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprintf("group-number-%d-authelia", i))
	}
	got := read(virtualEnvironment(), vienna(t),
		"Dec 01 05:00:00 pve pvedaemon[1]: openid user 'jane@authelia' added to groups: "+strings.Join(names, ", "),
		"Dec 01 05:00:00 pve pvedaemon[1]: <root@pam> successful openid auth for user 'jane@authelia'")
	if diff := cmp.Diff(names, got[0].Groups); diff != "" {
		t.Error(diff)
	}
}

// TestHiddenMessages: a blob may be the failure of somebody whose name is not ASCII.
func TestHiddenMessages(t *testing.T) {
	r := diagnose.NewReader("pve", virtualEnvironment(), func(diagnose.Login) {})
	r.Read(vienna(t), []string{
		"Dec 01 05:00:00 pve pvedaemon[1]: [49B blob data]", // a group of the login that follows
		"Dec 01 05:00:00 pve pvedaemon[1]: <root@pam> successful openid auth for user 'jane@authelia'",
		"Dec 01 05:10:00 pve pvedaemon[1]: [1.2K blob data]",
		"Dec 01 05:20:00 pve pvedaemon[2]: [82B blob data]",
		"Dec 01 05:20:00 pve pvedaemon[2]: openid authentication failure; rhost=::ffff:192.0.2.1 msg=Request failed",
	})
	r.End()
	if r.Hidden() != 2 {
		t.Error(r.Hidden())
	}
}

// TestPagesChangeNothing: a log may be cut between any two lines.
func TestPagesChangeNothing(t *testing.T) {
	lines := []string{
		"Dec 01 05:00:00 pve pvedaemon[1]: openid group 'a", "                                  b' contains invalid characters",
		"Dec 01 05:00:01 pve pvedaemon[1]: <root@pam> successful openid auth for user 'jane@authelia'",
		"Dec 01 05:00:02 pve pvedaemon[1]: openid authentication failure; rhost=::ffff:192.0.2.1 msg=value 'a",
		"                                  b@authelia' does not look like a valid user name",
	}
	whole := read(virtualEnvironment(), vienna(t), lines...)
	for cut := range lines {
		var got []diagnose.Login
		r := diagnose.NewReader("pve", virtualEnvironment(), func(l diagnose.Login) { got = append(got, l) })
		r.Read(vienna(t), lines[:cut])
		r.Read(vienna(t), lines[cut:])
		r.End()
		if diff := cmp.Diff(shorts(whole), shorts(got)); diff != "" {
			t.Errorf("cut at %d: %s", cut, diff)
		}
	}
}

// TestSecretsAreMasked: people paste keys into the wrong field, and issuers repeat what they were sent.
func TestSecretsAreMasked(t *testing.T) {
	f := virtualEnvironment()
	f.Cleaner = check.NewCleaner(check.NewSecret("the-client-key"))
	l := read(f, vienna(t), "Dec 01 05:00:00 pve pvedaemon[1]: openid authentication failure; rhost=::1 msg=Failed to verify ID token: Invalid audiences: `the-client-key` is not a trusted audience")[0]
	if strings.Contains(l.Text+l.Summary+string(l.Hint), "the-client-key") {
		t.Errorf("%+v", l)
	}
}

// clean fails unless nothing in a text can steer a terminal.
func cleanText(t interface{ Errorf(string, ...any) }, what, text string, lines bool) {
	for _, r := range text {
		if check.Invisible(r) && (r != '\n' || !lines) {
			t.Errorf("%s holds %q: %q", what, r, text)
			return
		}
	}
	if !utf8.ValidString(text) || !lines && utf8.RuneCountInString(text) > 3*check.MaxText {
		t.Errorf("%s: %q", what, text)
	}
}

func cleanLogin(t interface{ Errorf(string, ...any) }, l diagnose.Login) {
	for what, text := range map[string]string{
		"address": l.Address, "user": l.User, "realm": l.Realm, "text": l.Text, "summary": l.Summary, "cause": string(l.Cause),
		"groups": strings.Join(l.Groups, ","), "refused": strings.Join(l.Refused, ","),
	} {
		cleanText(t, what, text, false)
	}
	cleanText(t, "hint", l.Hint.For(check.Names{}), true)
}

// TestWhatOthersSendIsCleaned is a law over texts that an issuer or a browser may send.
func TestWhatOthersSendIsCleaned(t *testing.T) {
	hostile := rapid.StringOf(rapid.OneOf(rapid.Rune(), rapid.SampledFrom([]rune("\x1b\n\r\x00\u202e\u2028'`{}()[] :"))))
	rapid.Check(t, func(t *rapid.T) {
		value := hostile.Draw(t, "value")
		form := rapid.SampledFrom([]string{
			"openid authentication failure; rhost=%s msg=Request failed", "openid authentication failure; rhost=::1 msg=%s",
			"openid authentication failure; rhost=::1 msg=no such user ('%s@authelia')",
			"openid authentication failure; rhost=::1 msg=value '%s@authelia' does not look like a valid user name",
			"openid authentication failure; rhost=::1 msg=missing configured claim '%s' in returned info object",
			"openid authentication failure; rhost=::1 msg=Failed to verify ID token: Invalid audiences: `%s` is not a trusted audience",
			"openid authentication failure; rhost=::1 msg=Validation error: unexpected issuer URI `%s` (expected `x`)",
			"openid group '%s' contains invalid characters", "openid groups claim '%s' is not found in claims",
		}).Draw(t, "form")
		lines := []string{
			"Dec 01 05:00:00 pve pvedaemon[1]: " + fmt.Sprintf(form, value),
			"Dec 01 05:00:00 pve pvedaemon[1]: <root@pam> successful openid auth for user 'jane@authelia'",
		}
		r := diagnose.NewReader("pve", virtualEnvironment(), func(l diagnose.Login) { cleanLogin(t, l) })
		r.Read(&diagnose.Clock{Zone: time.UTC, Since: time.Unix(1796100000, 0), Now: time.Unix(1796110000, 0)}, lines)
		r.End()
	})
}

// FuzzReader: no log crashes the reader, and no text of it arrives uncleaned.
func FuzzReader(f *testing.F) {
	log, err := os.ReadFile(filepath.Join("testdata", "proxmox-ve-9.2.log"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(log), 0)
	f.Add("Dec 01 05:00:00 b proxmox-backup-api[7]: POST /api2/json/access/openid/login: 401 U: [client [::1]:2] x\n -- Boot 1 --", 1)
	f.Add("Feb 29 05:00:00 b pvedaemon[7]: openid authentication failure; rhost= msg=\n     x", 2)
	f.Fuzz(func(t *testing.T, log string, product int) {
		facts := virtualEnvironment()
		facts.Product = realm.Product(product)
		heads := 0
		var sum diagnose.Summary
		r := diagnose.NewReader("pve", facts, func(l diagnose.Login) {
			heads--
			cleanLogin(t, l)
			sum.Add(l.Decide(nil, facts))
		})
		lines := strings.Split(log, "\n")
		for _, line := range lines {
			if line != "" && line[0] != ' ' {
				heads++
			}
		}
		r.Read(&diagnose.Clock{Zone: time.UTC, Since: time.Unix(1796100000, 0), Now: time.Unix(1796110000, 0)}, lines)
		r.End()
		if heads < 0 {
			t.Errorf("more logins than lines with a head")
		}
		sum.Entries()
	})
}
