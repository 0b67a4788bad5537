package reconcile_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/diagnose"
	"proxmox-realm/internal/issuer"
	labissuer "proxmox-realm/internal/lab/issuer"
	"proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

const refusedCode = "Failed to contact token endpoint: Request failed"

// causes is what a diagnosis says of its logins, in short.
func causes(res reconcile.Result) string {
	var all []string
	for _, e := range res.Diagnosis.Logins {
		all = append(all, fmt.Sprintf("%d %s", e.Count, e.Cause))
	}
	return strings.Join(all, ", ")
}

func (s *site) diagnoses(q reconcile.DiagnoseOptions) reconcile.Result {
	q.Since = time.Hour
	return reconcile.Diagnose(s.ctx, s.Target, s.Deps, reconcile.Options{}, q)
}

// logs writes a line of pvedaemon now.
func (s *site) logs(message string) *site {
	s.write("pve", time.Now(), 1, message)
	return s
}

// unreadable makes the node refuse to show its log, as it does until the rule is removed.
func (s *site) unreadable(rule pve.Rule) (remove func()) {
	rule.Method, rule.Path = "GET", "/nodes/pve/syslog"
	return s.pve.Inject(rule)
}

// TestDiagnose: what the checks find decides why a code was refused, and what logins use is the realm as it is stored.
func TestDiagnose(t *testing.T) {
	accepts := func(key string) func(*site) { return func(s *site) { s.accepts(key) } }
	for title, c := range map[string]struct {
		issuer func(*site)
		key    string // declared
		cause  string
		hint   string
	}{
		"the issuer refuses the key":     {accepts(key), oldKey, "1 client-refused", ""},
		"the declared key is not stored": {accepts(key), key, "1 client-refused", "proxmox-realm apply"},
		"the issuer accepts the key":     {accepts(oldKey), oldKey, "1 node-to-issuer", "on pve, see whether"},
		"the issuer limits requests":     {func(s *site) { s.limits(tokenPath, "60") }, oldKey, "1 rate-limited", "who asks the issuer so often"},
		"the issuer is not asked":        {func(s *site) { s.Inspect = nil }, oldKey, "1 request-failed", "proxmox-realm verify"},
	} {
		bubble(t, title, func(s *site) {
			s.logs(failure(refusedCode)).put(stored()).declares(setKey(c.key))
			c.issuer(s)
			res := s.diagnoses(reconcile.DiagnoseOptions{})
			hint := res.Diagnosis.Logins[0].Hint.For(check.Names{})
			if causes(res) != c.cause || res.Outcome != reconcile.Unverified || res.Err != nil || !strings.Contains(hint, c.hint) {
				s.Errorf("%s, %s, %v\n%s", causes(res), res.Outcome, res.Err, hint)
			}
		})
	}
}

// authentik makes the issuer answer as authentik does, which encrypts ID tokens if it has a key for that.
func (s *site) authentik(encrypts bool) *site {
	const at = issuerURL + "/application/o/"
	document, _ := json.Marshal(map[string]any{
		"issuer": at + "proxmox/", "authorization_endpoint": at + "authorize/", "token_endpoint": at + "token/",
		"userinfo_endpoint": at + "userinfo/", "jwks_uri": at + "proxmox/jwks/",
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256"},
	})
	all, err := labissuer.DefaultKeys()
	if err != nil {
		s.Fatal(err)
	}
	keys := []labissuer.Key{all[0].Public()}
	if encrypts {
		second := keys[0]
		second.Use, second.Algorithm = "enc", "RSA-OAEP-256"
		keys = append(keys, second)
	}
	data, _ := json.Marshal(map[string]any{"keys": keys})
	header := http.Header{"Content-Type": {"application/json"}}
	s.idp.Inject("/application/o/proxmox"+documentPath, labissuer.Fault{Header: header, Body: document})
	s.idp.Inject("/application/o/proxmox/jwks/", labissuer.Fault{Header: header, Body: data})
	s.Verify.Client = false // the lab behind it knows nothing of this
	return s.put(stored(with(realm.IssuerURL, at+"proxmox/"))).declares(set(realm.IssuerURL, at+"proxmox/"))
}

// TestTheSoftwareBehindTheIssuer: what is known of it decides why a token cannot be read, and says what to do in its own words.
func TestTheSoftwareBehindTheIssuer(t *testing.T) {
	const words = "leave the Encryption Key of the provider empty"
	for cause, encrypts := range map[string]bool{"1 encrypted-token": true, "1 token-unreadable": false} {
		bubble(t, cause, func(s *site) {
			res := s.authentik(encrypts).logs(failure("Failed to contact token endpoint: Failed to parse server response")).diagnoses(reconcile.DiagnoseOptions{})
			if hint := string(res.Diagnosis.Logins[0].Hint); causes(res) != cause || strings.Contains(hint, words) != encrypts {
				s.Errorf("%s: %s\n%v", causes(res), hint, res.Checks)
			}
		})
	}
}

// TestAbout: advice depends on where the realm's claims come from, and on the software behind the issuer.
func TestAbout(t *testing.T) {
	alone(t, func(s *site) {
		seen := s.Inspect(issuerURL, time.Time{})
		if err := seen.Wait(s.ctx); err != nil {
			t.Fatal(err)
		}
		claims := string(seen.Advice(issuer.OnClaims))
		for name, tt := range map[string]struct {
			of     realm.Login
			advice bool // on claims of the ID token
		}{
			"userinfo":           {realm.Login{UsernameClaim: "sub", QueryUserinfo: true}, false},
			"the ID token alone": {realm.Login{UsernameClaim: "email"}, true},
		} {
			got := reconcile.About(diagnose.Facts{Login: tt.of}, seen).Advice
			for _, cause := range []diagnose.Cause{diagnose.ClaimMissing, diagnose.GroupsClaimAbsent} {
				if strings.Contains(string(got[cause]), claims) != tt.advice || claims == "" {
					t.Errorf("%s, %s: %q", name, cause, got[cause])
				}
			}
			if got[diagnose.ClientRefused] != seen.Advice(issuer.OnKey) || got[diagnose.ClientRefused] == "" {
				t.Errorf("%s: %q", name, got[diagnose.ClientRefused])
			}
		}
	})
}

// TestNothingFailed: drift and missing privileges to write are no failed login.
func TestNothingFailed(t *testing.T) {
	alone(t, func(s *site) {
		s.logs("<root@pam> successful openid auth for user 'jane@authelia'").put(stored()).declares(set(realm.Comment, "another"))
		res := s.diagnoses(reconcile.DiagnoseOptions{})
		if res.Outcome != reconcile.Unchanged || res.Diagnosis.Succeeded != 1 || len(res.Diagnosis.Logins) != 0 ||
			len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], "differs from its configuration") {
			t.Errorf("%s, %+v, %q", res.Outcome, res.Diagnosis, res.Warnings)
		}
		if res := s.diagnoses(reconcile.DiagnoseOptions{All: true}); len(res.Diagnosis.Logins) != 1 {
			t.Errorf("%+v", res.Diagnosis)
		}
	})
}

// TestWhatCannotBeRead: of logs and realm, what can be read is shown all the same.
func TestWhatCannotBeRead(t *testing.T) {
	bubble(t, "the logs", func(s *site) {
		s.unreadable(pve.Rule{Status: 403, Reason: "Permission check failed (/nodes/pve, Sys.Syslog)"})
		res := s.put(stored()).diagnoses(reconcile.DiagnoseOptions{})
		s.expect(res, reconcile.Failed, "", check.PermissionDenied)
		if !strings.Contains(errorOf(res), "Sys.Syslog") || len(res.Checks) == 0 {
			t.Errorf("%s, %d checks", errorOf(res), len(res.Checks))
		}
	})
	bubble(t, "the realm", func(s *site) {
		s.logs(failure("user 'jane@authelia' is disabled")).put(stored()).on(read, refused)
		res := s.diagnoses(reconcile.DiagnoseOptions{})
		if res.Err != nil || causes(res) != "1 user-disabled" || !strings.Contains(strings.Join(res.Warnings, "\n"), "not verified in full: ") {
			t.Errorf("%v, %s, %q", res.Err, causes(res), res.Warnings)
		}
		s.declares(undeclared(realm.IssuerURL, realm.ClientID))
		res = s.diagnoses(reconcile.DiagnoseOptions{})
		if causes(res) != "1 user-disabled" || !strings.Contains(strings.Join(res.Warnings, "\n"), "issuer and client were not checked") {
			t.Errorf("%v, %s, %q", res.Err, causes(res), res.Warnings)
		}
	})
	bubble(t, "there is no realm", func(s *site) {
		res := s.diagnoses(reconcile.DiagnoseOptions{})
		if res.Outcome != reconcile.Unverified || status(res, check.ProxmoxRealm) != check.Fail {
			t.Errorf("%s %+v", res.Outcome, res.Checks)
		}
	})
}

// TestFollow tells what there is, and then each login as it fails. The issuer is asked again about a later refusal.
func TestFollow(t *testing.T) {
	alone(t, func(s *site) {
		s.accepts(oldKey)
		s.put(stored()).logs(failure("user 'jane@authelia' is disabled"))
		var seen []string
		ctx, cancel := context.WithCancel(s.ctx)
		ended := make(chan reconcile.Result)
		go func() {
			ended <- reconcile.Diagnose(ctx, s.Target, s.Deps, reconcile.Options{}, reconcile.DiagnoseOptions{
				Since: time.Hour,
				Follow: func(r reconcile.Result) {
					text := causes(r)
					if len(r.Warnings) > 0 || r.Err != nil {
						text += fmt.Sprintf(" %d warnings, %s", len(r.Warnings), check.CodeOf(r.Err))
					}
					seen = append(seen, text)
				},
			})
		}()
		expect := func(want ...string) {
			t.Helper()
			time.Sleep(6 * time.Second)
			synctest.Wait()
			if strings.Join(seen, "\n") != strings.Join(want, "\n") {
				t.Errorf("seen %q, expected %q", seen, want)
			}
			seen = nil
		}
		expect("1 user-disabled")
		inspected := s.inspections()
		s.logs(failure(refusedCode)).logs("<root@pam> successful openid auth for user 'jane@authelia'")
		expect("1 node-to-issuer")
		expect()
		if s.inspections() != inspected {
			t.Error("the issuer was asked again within a minute")
		}
		s.accepts("theirs")
		time.Sleep(time.Minute)
		s.logs(failure(refusedCode))
		expect("1 client-refused")
		readable := s.unreadable(pve.Rule{Status: 500, Reason: "gone"})
		expect(" 1 warnings, proxmox-failed")
		expect()
		readable()
		s.logs(failure(refusedCode))
		expect("1 client-refused")
		cancel()
		res := <-ended
		if res.Outcome != reconcile.Unverified || res.Diagnosis.Failed != 4 || res.Diagnosis.Succeeded != 1 || len(res.Diagnosis.Logins) != 0 {
			t.Errorf("%s %+v", res.Outcome, res.Diagnosis)
		}
	})
}
