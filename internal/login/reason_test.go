package login_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/diagnose"
	"proxmox-realm/internal/lab"
	labissuer "proxmox-realm/internal/lab/issuer"
	labpve "proxmox-realm/internal/lab/pve"
)

// TestTheLogTellsWhy: with credentials that may read the log, its reason stands in place of "authentication failure".
func TestTheLogTellsWhy(t *testing.T) {
	const login = "/access/openid/login"
	for name, c := range map[string]struct {
		arrange change
		cause   diagnose.Cause
		message string
		hint    string
	}{
		"the key was rotated":     {registered(func(c *labissuer.Client) { c.Secret = "another" }), diagnose.ClientRefused, "the key or the authentication method of the client proxmox", "realm.client_key_file"},
		"the claim is missing":    {stored("username-claim", "nickname"), diagnose.ClaimMissing, "sent no claim nickname", "send the claim nickname"},
		"the user does not exist": {stored("autocreate", "0"), diagnose.UserAbsent, "the user john@authelia does not exist", "proxmox-realm apply"},
		"a balancer asked another node": {func(s *stage) {
			s.PVE.Inject(labpve.Fail(http.MethodPost, login, 401, "authentication failure"))
			s.must(s.PVE.Log("pve", labpve.Line{
				Time: time.Now().Add(time.Second), Process: "pvedaemon", PID: 7, Message: "openid authentication failure; rhost=::1 msg=user 'john@authelia' is disabled",
			}))
		}, diagnose.UserDisabled, "the user john@authelia is disabled", "pveum user modify john@authelia --enable 1"},
		"the answer itself tells, as that of Backup Server does": {answers(labpve.Fail(http.MethodPost, login, 401, "missing claim 'preferred_username'")), diagnose.ClaimMissing, "sent no claim preferred_username", "send the claim preferred_username"},
		"a text that nobody knows":                               {answers(labpve.Fail(http.MethodPost, login, 401, "something new")), diagnose.Unknown, "refuses the login (Proxmox says: something new)", "journalctl -u pvedaemon"},
	} {
		t.Run(name, func(t *testing.T) {
			s := set(t, lab.Options{})
			c.arrange(s)
			b := s.browser()
			r := s.rehearse(b.visit, s.asRoot)
			message, hint := check.MessageOf(r.Err), check.HintOf(r.Err).For(check.Names{})
			if r.Cause != c.cause || check.CodeOf(r.Err) != check.LoginFailed || !strings.Contains(message, c.message) || !strings.Contains(hint, c.hint) {
				t.Errorf("%s: %s\n%s", r.Cause, message, hint)
			}
			if !strings.Contains(b.last().body, `class="failure"`) || strings.Contains(message, "refuses the login: authentication failure") {
				t.Errorf("%s\n%s", message, b.last().body)
			}
		})
	}
}

// TestWithoutTheLog: the hint names the privilege that shows the reason.
func TestWithoutTheLog(t *testing.T) {
	s := set(t, lab.Options{})
	s.property("username-claim", "nickname")
	r := s.rehearse(s.browser().visit)
	hint := check.HintOf(r.Err).For(check.Names{})
	for _, want := range []string{"RealmLogReader", "journalctl -u pvedaemon", "userinfo_signed_response_alg"} {
		if !strings.Contains(hint, want) || r.Cause != "" || !strings.Contains(check.MessageOf(r.Err), "refuses the login: authentication failure") {
			t.Errorf("%s: %v\n%s", r.Cause, r.Err, hint)
		}
	}
}

// TestGroupsThatALoginSets: what the login did with the groups is told, and what keeps it from doing more.
func TestGroupsThatALoginSets(t *testing.T) {
	for name, c := range map[string]struct {
		arrange      change
		set, refused []string
		trouble      string
		hint         string
		never        string // in the hint
	}{
		"all is well": {
			stored("scopes", "openid profile email groups", "groups-autocreate", "1"),
			[]string{"admins-authelia", "dev-authelia"},
			[]string{},
			"",
			"give one of the groups of this user a role in access: admins, dev\nrun on a node (for everyone in the group):\n    pveum acl modify / --groups admins-authelia --roles PVEAuditor\n", "groups_autocreate",
		},
		"the claim is absent":  {stored(), []string{}, []string{}, "sent no claim groups", "set realm.scopes to [openid, profile, email, groups]", "groups_autocreate"},
		"the claim is no list": {stored("groups-claim", "email"), []string{}, []string{}, "no list", "as a list of names", "groups_autocreate"},
		"names are refused": {func(s *stage) {
			stored("scopes", "openid profile email groups", "groups-autocreate", "1")(s)
			s.Issuer.SetUser(labissuer.User{Name: s.Username, Password: s.Password, Groups: []string{"/admins", "dev"}})
		}, []string{"dev-authelia"}, []string{"/admins"}, "/admins", "letters, digits", "groups_autocreate"},
		"Proxmox has none of them": {stored("scopes", "openid profile email groups"), []string{}, []string{}, "has none of the groups", "realm.groups_autocreate", "realm.scopes"},
	} {
		t.Run(name, func(t *testing.T) {
			s := set(t, lab.Options{})
			s.property("groups-claim", "groups")
			c.arrange(s)
			r := s.rehearse(s.browser().visit, s.asRoot)
			hint := r.Hint.For(check.Names{})
			if r.Err != nil || !slices.Equal(r.Groups, c.set) || !slices.Equal(r.GroupsSet, c.set) || !slices.Equal(r.GroupsRefused, c.refused) || !strings.Contains(r.Trouble, c.trouble) ||
				(r.Trouble == "") != (c.trouble == "") {
				t.Errorf("%v: set %q, refused %q, %q", r.Err, r.GroupsSet, r.GroupsRefused, r.Trouble)
			}
			if !strings.Contains(hint, c.hint) || strings.Contains(hint, c.never) {
				t.Error(hint)
			}
		})
	}
}
