package diagnose_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/diagnose"
)

// TestSummary folds logins by node, cause and user.
func TestSummary(t *testing.T) {
	var s diagnose.Summary
	failed := func(second int, address, text string) {
		line := fmt.Sprintf("Dec 01 05:00:%02d pve pvedaemon[1]: openid authentication failure; rhost=%s msg=%s", second, address, text)
		s.Add(read(virtualEnvironment(), vienna(t), line)[0])
	}
	succeeded := func(second int, user string) {
		line := fmt.Sprintf("Dec 01 05:00:%02d pve pvedaemon[1]: <root@pam> successful openid auth for user '%s'", second, user)
		s.Add(read(virtualEnvironment(), vienna(t), line)[0])
	}
	const expired = "Failed to verify ID token: Expired: ID token expired at %d (current time is 9)"
	failed(1, "192.0.2.1", fmt.Sprintf(expired, 1))
	failed(3, "192.0.2.1", fmt.Sprintf(expired, 3))
	failed(2, "192.0.2.2", fmt.Sprintf(expired, 2))
	failed(4, "192.0.2.1", "no such user ('jane@authelia')")
	succeeded(5, "joe@authelia")
	failed(5, "192.0.2.1", "no such user ('joe@authelia')")
	succeeded(10, "jane@authelia")
	succeeded(11, "jane@authelia")
	var got []string
	for _, e := range s.Entries() {
		got = append(got, fmt.Sprintf("%s %s %s %d since %s from %s works %s", e.Time.Format("05"), e.Cause, e.User, e.Count, e.Since.Format("05"),
			strings.Join(e.Addresses, "+"), e.Works.Format("05")))
	}
	want := []string{
		"05 user-absent joe@authelia 1 since 05 from 192.0.2.1 works 00",
		"04 user-absent jane@authelia 1 since 04 from 192.0.2.1 works 11",
		"03 clock  3 since 01 from 192.0.2.2+192.0.2.1 works 11",
		"11  jane@authelia 2 since 10 from  works 00",
		"05  joe@authelia 1 since 05 from  works 00",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
}

// TestSummaryStaysSmall: names are chosen by others.
func TestSummaryStaysSmall(t *testing.T) {
	var s diagnose.Summary
	const logins = 5000
	for i := range logins {
		s.Add(diagnose.Login{
			Time: time.Unix(int64(i), 0), Outcome: diagnose.Failed, Cause: diagnose.UserAbsent, User: fmt.Sprint(i), Address: fmt.Sprint(i),
		})
	}
	all := s.Entries()
	if len(all) > 2000 || len(all)+s.Dropped() != logins || all[0].User != fmt.Sprint(logins-1) {
		t.Errorf("%d entries, %d dropped, first %s", len(all), s.Dropped(), all[0].User)
	}
}

// TestDecide: what a log leaves open is decided by our own checks, and a check about the same cause words the hint.
func TestDecide(t *testing.T) {
	const refused, unreadable = "Failed to contact token endpoint: Request failed", "Failed to contact token endpoint: Failed to parse server response"
	const signature = "Failed to verify ID token: Signature verification failed"
	key, keyFine := check.Failed(check.ClientCredentials, "set the key", "the issuer rejects the key"), check.Passed(check.ClientCredentials, "fine")
	redirect, redirectFine := check.Failed(check.ClientRedirect, "register it", "the issuer does not know the redirect URL"), check.Passed(check.ClientRedirect, "fine")
	keys := check.Failed(check.IssuerKeys, "let the issuer make a key", "no key")
	for name, c := range map[string]struct {
		text          string
		checks        []check.Check
		limited       bool
		cause         diagnose.Cause
		summary, hint string
	}{
		"key":                      {refused, []check.Check{key, redirect}, false, diagnose.ClientRefused, "the issuer rejects the key (asked just now)", "set the key"},
		"redirect":                 {refused, []check.Check{keyFine, redirect}, false, diagnose.RedirectRefused, "the issuer does not know the redirect URL (asked just now)", "register it"},
		"neither":                  {refused, []check.Check{keyFine, redirectFine}, false, diagnose.NodeToIssuer, "answers this node differently", "getent hosts auth.example.com"},
		"unasked":                  {refused, nil, false, diagnose.RequestFailed, "does not tell why", "proxmox-realm verify"},
		"skipped":                  {refused, []check.Check{keyFine, check.Skipped(check.ClientRedirect, "no")}, false, diagnose.RequestFailed, "does not tell why", "issuer's log"},
		"a limit":                  {refused, nil, true, diagnose.RateLimited, "limits requests", "wait"},
		"a limit, and what it is":  {refused, []check.Check{key}, true, diagnose.ClientRefused, "rejects the key", "set the key"},
		"an error with status 200": {unreadable, []check.Check{key}, false, diagnose.ClientRefused, "rejects the key", "set the key"},
		"a token of another form":  {unreadable, []check.Check{keyFine}, false, diagnose.TokenUnreadable, "cannot read", "standard claims"},
		"the same cause":           {signature, []check.Check{keys}, false, diagnose.Signature, "cannot verify the signature", "let the issuer make a key"},
		"another cause":            {signature, []check.Check{key}, false, diagnose.Signature, "cannot verify the signature", "let the issuer sign"},
		"a warning":                {signature, []check.Check{check.Warned(check.IssuerKeys, "renew a key", "old")}, false, diagnose.Signature, "cannot verify the signature", "let the issuer sign"},
	} {
		f := virtualEnvironment()
		f.Limited = c.limited
		got := f.Explain("pve", c.text).Decide(c.checks, f)
		if got.Cause != c.cause || !strings.Contains(got.Summary, c.summary) || !strings.Contains(got.Hint.For(check.Names{}), c.hint) {
			t.Errorf("%s: %s: %s\n%s", name, got.Cause, got.Summary, got.Hint.For(check.Names{}))
		}
	}
}

// TestWorksInTheSameRealm: a login through another realm proves nothing.
func TestWorksInTheSameRealm(t *testing.T) {
	s := diagnose.Summary{Realm: "authelia"}
	for _, l := range read(virtualEnvironment(), vienna(t),
		"Dec 01 05:00:00 pve pvedaemon[1]: openid authentication failure; rhost=::1 msg=Request failed",
		"Dec 01 05:00:01 pve pvedaemon[1]: <root@pam> successful openid auth for user 'jane@other'") {
		s.Add(l)
	}
	if all := s.Entries(); !all[0].Works.IsZero() {
		t.Error(all[0].Works)
	}
}

// TestAdvice: what is known of the software behind the issuer comes last, and only where it may help.
func TestAdvice(t *testing.T) {
	const advice = "Keycloak: Full group path: Off"
	f := virtualEnvironment()
	f.Login.GroupsClaim = "groups"
	f.Advice = map[diagnose.Cause]check.Hint{diagnose.GroupsRefused: advice, diagnose.ClaimMissing: advice, diagnose.Signature: advice}
	const head = "Dec 01 05:00:00 pve pvedaemon[1]: "
	const failure = "openid authentication failure; rhost=::1 msg="
	keys := check.Failed(check.IssuerKeys, "let the issuer make a key", "no key")
	for line, want := range map[string]bool{
		"openid group '/admins' contains invalid characters":                      true,
		"openid group 'admins@idm.example.com' contains invalid characters":       true,
		"openid group 'Cloud Admins' contains invalid characters":                 false,
		failure + "missing configured claim 'department' in returned info object": true,
		failure + "Failed to verify ID token: Signature verification failed":      false, // a check says it
		failure + "Failed to verify ID token: Invalid nonce: nonce mismatch":      false,
	} {
		got := read(f, vienna(t), head+line, head+"<root@pam> successful openid auth for user 'jane@authelia'")[0].Decide([]check.Check{keys}, f)
		if strings.HasSuffix(string(got.Hint), "\n"+advice) != want {
			t.Errorf("%s: %s", line, got.Hint)
		}
	}
	f.Login.UsernameClaim = "email" // and no longer department
	l := read(f, vienna(t), head+failure+"missing configured claim 'department' in returned info object")[0]
	if got := l.Decide(nil, f); got.Hint != l.Hint {
		t.Error(got.Hint)
	}
}
