package reconcile_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/diagnose"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// logs are those of one node that writes what it is told.
type logs struct {
	mu    sync.Mutex
	lines []string
	err   error // of each read
	part  bool  // each read ends too early
	since time.Time
}

func (l *logs) write(message string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, time.Now().UTC().Format(time.Stamp)+" pve1 pvedaemon[1]: "+message)
}

func (l *logs) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

func (l *logs) Nodes(context.Context) ([]proxmox.Node, error) {
	return []proxmox.Node{{Name: "pve1", Online: true}}, nil
}

func (l *logs) NodeTime(context.Context, string) (proxmox.NodeTime, error) {
	return proxmox.NodeTime{Zone: time.UTC}, nil
}

func (l *logs) ReadLog(_ context.Context, _ string, _ proxmox.NodeTime, r proxmox.LogRange, page func(proxmox.LogPage)) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since = r.Since
	page(proxmox.LogPage{Lines: l.lines, Zone: time.UTC, Now: time.Now()})
	return !l.part, l.err
}

func (l *logs) ReadJournal(context.Context, string, time.Duration, proxmox.LogRange, func(proxmox.LogPage)) (bool, error) {
	panic("the clock of the node is known")
}

func (l *logs) LogHint() check.Hint { return "" }

// told is what a diagnosis says of its logins, in short.
func causes(res reconcile.Result) string {
	var all []string
	for _, e := range res.Diagnosis.Logins {
		all = append(all, fmt.Sprintf("%d %s", e.Count, e.Cause))
	}
	return strings.Join(all, ", ")
}

const refusedCode = "Failed to contact token endpoint: Request failed"

func diagnoses(t *testing.T, target aimed, l *logs, q reconcile.DiagnoseOptions) reconcile.Result {
	t.Helper()
	target.Logs, q.Since = l, time.Hour
	return reconcile.Diagnose(t.Context(), target.Target, target.Deps, reconcile.Options{}, q)
}

// TestDiagnose: what the checks find decides why a code was refused, and what logins use is the realm as it is stored.
func TestDiagnose(t *testing.T) {
	accepts := func(keys ...string) *fakeIssuer {
		return &fakeIssuer{takes: func(k string) bool { return strings.Contains(strings.Join(keys, " "), k) }}
	}
	limits := func(string) *issuer.Verdict {
		return &issuer.Verdict{Decision: issuer.RateLimited, RetryAfter: time.Minute}
	}
	for title, c := range map[string]struct {
		issuer  *fakeIssuer
		key     string // declared
		cause   string
		hint    string
		outcome reconcile.Outcome
	}{
		"the issuer refuses the key":     {accepts(key), oldKey, "1 client-refused", "", reconcile.Unverified},
		"the declared key is not stored": {accepts(key), key, "1 client-refused", "proxmox-realm apply", reconcile.Unverified},
		"the issuer accepts the key":     {accepts(oldKey), oldKey, "1 node-to-issuer", "on pve1, see whether", reconcile.Unverified},
		"the issuer limits requests":     {&fakeIssuer{verdict: limits}, oldKey, "1 rate-limited", "who asks the issuer so often", reconcile.Unverified},
		"the issuer is not asked":        {nil, oldKey, "1 request-failed", "proxmox-realm verify", reconcile.Unverified},
	} {
		t.Run(title, func(t *testing.T) {
			l := &logs{}
			l.write(failure(refusedCode))
			target := aim(t, newCluster(t).put(name, stored()), c.issuer, spec(setKey(c.key)))
			res := diagnoses(t, target, l, reconcile.DiagnoseOptions{})
			hint := res.Diagnosis.Logins[0].Hint.For(check.Names{})
			if causes(res) != c.cause || res.Outcome != c.outcome || res.Err != nil || !strings.Contains(hint, c.hint) {
				t.Errorf("%s, %s, %v\n%s", causes(res), res.Outcome, res.Err, hint)
			}
		})
	}
}

// TestTheSoftwareBehindTheIssuer: what is known of it decides why a token cannot be read, and says what to do in its own words.
func TestTheSoftwareBehindTheIssuer(t *testing.T) {
	const unreadable = "Failed to contact token endpoint: Failed to parse server response"
	p := &fakeIssuer{encrypts: true, advice: map[issuer.Topic]check.Hint{issuer.OnEncryption: "its own words"}}
	l := &logs{}
	l.write(failure(unreadable))
	res := diagnoses(t, aim(t, newCluster(t).put(name, stored()), p, spec()), l, reconcile.DiagnoseOptions{})
	if hint := string(res.Diagnosis.Logins[0].Hint); causes(res) != "1 encrypted-token" || !strings.HasSuffix(hint, "not encrypt it\nits own words") {
		t.Errorf("%s: %s", causes(res), hint)
	}
	p.encrypts = false
	res = diagnoses(t, aim(t, newCluster(t).put(name, stored()), p, spec()), l, reconcile.DiagnoseOptions{})
	if hint := string(res.Diagnosis.Logins[0].Hint); causes(res) != "1 token-unreadable" || strings.Contains(hint, "its own words") {
		t.Errorf("%s: %s", causes(res), hint)
	}
}

// TestAbout: advice depends on where the realm's claims come from.
func TestAbout(t *testing.T) {
	p := &fakeIssuer{advice: map[issuer.Topic]check.Hint{issuer.OnNames: "names", issuer.OnClaims: "claims", issuer.OnGroups: "groups"}}
	for _, c := range []struct {
		of                    realm.Login
		refused, absent, none check.Hint
	}{
		{realm.Login{UsernameClaim: "sub", QueryUserinfo: true}, "names", "names", "groups"},
		{realm.Login{UsernameClaim: "email"}, "", "names\nclaims", "groups\nclaims"},
	} {
		got := reconcile.About(diagnose.Facts{Login: c.of}, p.Inspect(t.Context(), "", time.Time{})).Advice
		if got[diagnose.NameRefused] != c.refused || got[diagnose.ClaimMissing] != c.absent || got[diagnose.GroupsClaimAbsent] != c.none {
			t.Errorf("%+v: %v", c.of, got)
		}
	}
}

// TestAReadThatBreaks tells nothing twice and loses nothing.
func TestAReadThatBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &logs{}
		reader := reconcile.NewLoginReader(l, diagnose.Facts{Cleaner: check.NewCleaner()}, time.Hour)
		expect := func(want int) {
			t.Helper()
			n := 0
			_, _ = reader.Read(t.Context(), func(diagnose.Login) { n++ })
			if n != want {
				t.Errorf("%d logins, expected %d", n, want)
			}
		}
		l.write(failure(refusedCode))
		time.Sleep(10 * time.Minute)
		l.write(failure(refusedCode))
		l.write("systemd[1]: something else")
		l.fail(check.Errorf(check.ProxmoxFailed, "gone"))
		expect(2)
		expect(0)
		l.write(failure(refusedCode))
		l.fail(nil)
		expect(1)
		expect(0)
	})
}

// TestAReadThatEndsTooEarly goes on where it ended, and does not stay there.
func TestAReadThatEndsTooEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &logs{part: true}
		reader := reconcile.NewLoginReader(l, diagnose.Facts{Cleaner: check.NewCleaner()}, time.Hour)
		at := time.Now()
		l.write(failure(refusedCode))
		time.Sleep(time.Minute)
		for read, want := range []time.Time{at.Add(-59 * time.Minute), at, at.Add(time.Second), at.Add(2 * time.Second)} {
			_, err := reader.Read(t.Context(), func(diagnose.Login) {})
			if err != nil || !l.since.Equal(want) {
				t.Errorf("read %d begins at %s, expected %s; %v", read, l.since, want, err)
			}
		}
	})
}

// TestNothingFailed: drift and missing privileges to write are no failed login.
func TestNothingFailed(t *testing.T) {
	l := &logs{}
	l.write("<root@pam> successful openid auth for user 'jane@authelia'")
	target := aim(t, newCluster(t).put(name, stored()), &fakeIssuer{}, spec(set(realm.Comment, "another")))
	res := diagnoses(t, target, l, reconcile.DiagnoseOptions{})
	if res.Outcome != reconcile.Unchanged || res.Diagnosis.Succeeded != 1 || len(res.Diagnosis.Logins) != 0 ||
		len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], "differs from its configuration") {
		t.Errorf("%s, %+v, %q", res.Outcome, res.Diagnosis, res.Warnings)
	}
	if res := diagnoses(t, target, l, reconcile.DiagnoseOptions{All: true}); len(res.Diagnosis.Logins) != 1 {
		t.Errorf("%+v", res.Diagnosis)
	}
}

// TestLogsThatCannotBeRead: the checks are shown all the same.
func TestLogsThatCannotBeRead(t *testing.T) {
	l := &logs{err: check.Errorf(check.PermissionDenied, "no").Try("grant it")}
	res := diagnoses(t, aim(t, newCluster(t).put(name, stored()), &fakeIssuer{}, spec()), l, reconcile.DiagnoseOptions{})
	if res.Outcome != reconcile.Failed || check.CodeOf(res.Err) != check.PermissionDenied || check.HintOf(res.Err) != "grant it" || len(res.Checks) == 0 {
		t.Errorf("%s, %v, %d checks", res.Outcome, res.Err, len(res.Checks))
	}
}

// TestARealmThatCannotBeRead: the logs are shown all the same.
func TestARealmThatCannotBeRead(t *testing.T) {
	l := &logs{}
	l.write(failure("user 'jane@authelia' is disabled"))
	c := newCluster(t).put(name, stored())
	c.script[read] = trouble{err: check.Errorf(check.PermissionDenied, "no realm for you")}
	res := diagnoses(t, aim(t, c, &fakeIssuer{}, spec()), l, reconcile.DiagnoseOptions{})
	if res.Err != nil || causes(res) != "1 user-disabled" || !strings.Contains(strings.Join(res.Warnings, "\n"), "no realm for you") {
		t.Errorf("%v, %s, %q", res.Err, causes(res), res.Warnings)
	}
}

// TestFollow tells what there is, and then each login as it fails. The issuer is asked again about a later refusal.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &logs{}
		p := &fakeIssuer{takes: func(k string) bool { return k == oldKey }}
		target := aim(t, newCluster(t).put(name, stored()), p, spec(setKey(oldKey)))
		target.Logs = l
		l.write(failure("user 'jane@authelia' is disabled"))

		var seen []string
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan reconcile.Result)
		go func() {
			ended <- reconcile.Diagnose(ctx, target.Target, target.Deps, reconcile.Options{}, reconcile.DiagnoseOptions{
				Since: time.Hour,
				Follow: func(r reconcile.Result) {
					text := causes(r)
					if len(r.Warnings) > 0 || r.Err != nil {
						text += fmt.Sprintf(" %q %v", r.Warnings, r.Err)
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
		inspected := len(p.inspected)
		l.write(failure(refusedCode))
		l.write("<root@pam> successful openid auth for user 'jane@authelia'")
		expect("1 node-to-issuer")
		expect()
		if len(p.inspected) != inspected {
			t.Error("the issuer was asked again within a minute")
		}
		p.takes = func(string) bool { return false }
		time.Sleep(time.Minute)
		l.write(failure(refusedCode))
		expect("1 client-refused")
		l.fail(check.Errorf(check.ProxmoxFailed, "gone"))
		expect(` ["pve1: its log was not read: gone"] no log of a node could be read: gone`)
		expect()
		l.fail(nil)
		l.write(failure(refusedCode))
		expect("1 client-refused")
		cancel()
		res := <-ended
		if res.Outcome != reconcile.Unverified || res.Diagnosis.Failed != 4 || res.Diagnosis.Succeeded != 1 || len(res.Diagnosis.Logins) != 0 {
			t.Errorf("%s %+v", res.Outcome, res.Diagnosis)
		}
	})
}

// TestDiagnosisOfAnAbsentRealm says that it is absent.
func TestDiagnosisOfAnAbsentRealm(t *testing.T) {
	res := diagnoses(t, aim(t, newCluster(t), &fakeIssuer{}, spec()), &logs{}, reconcile.DiagnoseOptions{})
	found, _ := check.Find(res.Checks, check.ProxmoxRealm)
	if res.Outcome != reconcile.Unverified || found.Status != check.Fail {
		t.Errorf("%s %+v", res.Outcome, found)
	}
}
