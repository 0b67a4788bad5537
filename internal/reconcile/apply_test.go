package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/history"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

const name = "authelia"

// spec declares what stored() holds, with the declared key in place of the former one where it is asked for.
func spec(changes ...func(*realm.Spec)) realm.Spec {
	s := realm.Spec{Name: name, Set: realm.Values{
		realm.IssuerURL: realm.Text(issuerURL), realm.ClientID: realm.Text(clientID),
	}}
	for _, change := range changes {
		change(&s)
	}
	return s
}

func set(p realm.Property, v string) func(*realm.Spec) {
	return func(s *realm.Spec) { s.Set[p] = realm.Text(v) }
}

func setKey(v string) func(*realm.Spec) {
	return func(s *realm.Spec) { s.Set[realm.ClientKey] = realm.Key(check.NewSecret(v)) }
}

func unset(ps ...realm.Property) func(*realm.Spec) {
	return func(s *realm.Spec) { s.Unset = append(s.Unset, ps...) }
}

// aimed is a target with what a run needs to reconcile it.
type aimed struct {
	config.Target
	reconcile.Deps
}

// aim makes a target as a configuration with every default does.
func aim(tb testing.TB, c *cluster, p *fakeIssuer, s realm.Spec) aimed {
	endpoints := []config.Origin{"https://pve1.example.com:8006"}
	t := aimed{
		config.Target{
			Name: "default", Realm: s, Gate: true, Proxmox: config.Proxmox{Endpoints: endpoints},
			Verify: config.Verify{
				Issuer: p != nil, RedirectURLs: []config.Origin{"https://pve.example.com:8006"},
				Proxmox: true, Client: true, MaxClockSkew: 5 * time.Minute,
			},
		},
		reconcile.Deps{
			Cluster: c, Cleaner: check.NewCleaner(), History: history.Open(filepath.Join(tb.TempDir(), "state")),
		},
	}
	if p != nil {
		t.Issuer = p
	}
	return t
}

func redirects(t aimed) []string {
	var urls []string
	for _, u := range t.Verify.RedirectURLs {
		urls = append(urls, string(u))
	}
	return urls
}

// The ways to run, as the tests call them.

func apply(ctx context.Context, t aimed, o reconcile.Options) reconcile.Result {
	return reconcile.Apply(ctx, t.Target, t.Deps, o)
}

func plan(ctx context.Context, t aimed, o reconcile.Options) reconcile.Result {
	return reconcile.Plan(ctx, t.Target, t.Deps, o)
}

func verify(ctx context.Context, t aimed) reconcile.Result {
	return reconcile.Verify(ctx, t.Target, t.Deps, reconcile.Options{})
}

// restores brings the newest saved realm back, as the command restore does.
func restores(ctx context.Context, tb testing.TB, t aimed) reconcile.Result {
	tb.Helper()
	saved, problems := reconcile.ListSaved(t.History.Dir())
	switch {
	case len(saved) == 0 && len(problems) == 0:
		tb.Fatal("nothing is saved")
	case len(saved) == 0:
		return reconcile.Result{Outcome: reconcile.Refused, Action: realm.Refuse, Err: problems[0]}
	}
	return reconcile.Restore(ctx, t.Target, t.Deps, reconcile.Options{}, saved[0], true)
}

// waits looks at the gate again and again, as a run with --wait does.
func waits(ctx context.Context, t aimed, atMost time.Duration) (got reconcile.Result) {
	o := reconcile.Options{Began: time.Now(), Waits: true}
	for deadline := o.Began.Add(atMost); ; {
		got = apply(ctx, t, o)
		left := time.Until(deadline)
		if got.Outcome != reconcile.Held || left <= 0 || ctx.Err() != nil {
			return got
		}
		select {
		case <-time.After(min(10*time.Second, left)):
		case <-ctx.Done():
		}
		o.Look, o.Last = time.Now(), !time.Now().Before(deadline)
	}
}

func deletes(ctx context.Context, t aimed) reconcile.Result {
	return reconcile.Delete(ctx, t.Target, t.Deps, reconcile.Options{})
}

func planDelete(ctx context.Context, t aimed) reconcile.Result {
	return reconcile.PlanDelete(ctx, t.Target, t.Deps, reconcile.Options{})
}

// expect compares the outcome, the action and the error's code ("" for no error).
func expect(tb testing.TB, got reconcile.Result, outcome reconcile.Outcome, action realm.Action, code check.Code) {
	tb.Helper()
	var found check.Code
	if got.Err != nil {
		found = check.CodeOf(got.Err)
	}
	if got.Outcome != outcome || got.Action != action || found != code {
		tb.Errorf("%s, %s, code %q (%v); want %s, %s, %q", got.Outcome, got.Action, found, got.Err, outcome, action, code)
	}
}

func files(tb testing.TB, t aimed) []string {
	tb.Helper()
	found, err := filepath.Glob(filepath.Join(t.History.Dir(), "saved-*"))
	if err != nil {
		tb.Fatal(err)
	}
	return found
}

func status(r reconcile.Result, id check.ID) check.Status {
	c, _ := check.Find(r.Checks, id)
	return c.Status
}

func TestApplyCreatesReadsBackAndVerifies(t *testing.T) {
	c, p := newCluster(t), &fakeIssuer{}
	target := aim(t, c, p, spec(setKey(key)))
	got := apply(t.Context(), target, reconcile.Options{})
	expect(t, got, reconcile.Changed, realm.Create, "")
	if want := []string{read, create, read, discovery, usersCheck}; !slices.Equal(c.calls, want) {
		t.Errorf("calls %v, want %v", c.calls, want)
	}
	if !slices.Equal(p.inspected, []string{issuerURL}) || len(p.questions) != 1 {
		t.Errorf("inspected %v, %d questions about the client", p.inspected, len(p.questions))
	}
	if q := p.questions[0]; q.Depth != issuer.Full || q.RedirectsDeclared || !slices.Equal(q.RedirectURLs, redirects(target)) || q.Login.ClientKey.Reveal() != key || q.Login.Realm != name {
		t.Errorf("asked %+v", q)
	}
	for _, id := range []check.ID{check.IssuerIdentity, check.ClientCredentials, check.ClientRedirect, check.ProxmoxRealm, check.ProxmoxDiscovery} {
		if status(got, id) != check.Pass {
			t.Errorf("%s: %q", id, status(got, id))
		}
	}
	if len(got.Changes) != 5 || len(got.Warnings) != 0 || len(files(t, target)) != 0 {
		t.Errorf("%d changes, warnings %q, files %v", len(got.Changes), got.Warnings, files(t, target))
	}

	c.calls, p.questions = nil, nil
	again := apply(t.Context(), target, reconcile.Options{})
	expect(t, again, reconcile.Unchanged, realm.None, "")
	if !slices.Equal(c.calls, []string{read}) || len(p.inspected) != 2 || len(p.questions) != 0 || len(again.Changes) != 0 {
		t.Errorf("nothing to do costs %v and %d questions", c.calls, len(p.questions))
	}
}

// The issuer is inspected while the realm is read: the inspection begins first and is not waited for.
func TestObservesBothSidesAtOnce(t *testing.T) {
	c, p := newCluster(t).put(name, stored()), &fakeIssuer{}
	c.script[read] = trouble{before: func() {
		if len(p.inspected) != 1 {
			t.Error("the realm is read before the inspection begins")
		}
	}}
	apply(t.Context(), aim(t, c, p, spec()), reconcile.Options{})
}

func TestApplyUpdatesEveryProperty(t *testing.T) {
	for _, d := range realm.Definitions() {
		if d.CreateOnly {
			continue
		}
		c, p := newCluster(t).put(name, stored()), &fakeIssuer{}
		change, value := set(d.Property, "other"), any("other")
		switch d.Form {
		case realm.FormBool:
			change, value = set(d.Property, "1"), 1
			if d.Property == realm.QueryUserinfo || d.Property == realm.Autocreate {
				change, value = set(d.Property, "0"), 0
			}
		case realm.FormKey:
			change, value = setKey(key), key
		case realm.FormText, realm.FormSet, realm.FormList:
		}
		got := apply(t.Context(), aim(t, c, p, spec(change)), reconcile.Options{})
		expect(t, got, reconcile.Changed, realm.Update, "")
		if len(got.Changes) != 1 || got.Changes[0].Property != d.Property {
			t.Errorf("%s: changes %v", d.Property, got.Changes)
		}
		want := stored(with(d.Property, value))
		if fmt.Sprint(c.realms[name]) != fmt.Sprint(want) {
			t.Errorf("%s: stored is %v, want %v", d.Property, c.realms[name], want)
		}
		if len(c.puts) != 1 || len(c.puts[0]) != 2 || c.puts[0]["digest"] == nil {
			t.Errorf("%s: PUTs %v", d.Property, c.puts)
		}
		// The digest that the plan was made from guards the write.
		if c.writes() != 1 {
			t.Errorf("%s: %d writes", d.Property, c.writes())
		}
	}
}

func TestApplyUnsetsAndMovesTheDefaultFlag(t *testing.T) {
	c := newCluster(t).put("other", fields{"type": "openid", "default": 1}).put(name, stored())
	got := apply(t.Context(), aim(t, c, &fakeIssuer{}, spec(set(realm.Default, "1"), unset(realm.Comment, realm.Prompt))), reconcile.Options{})
	expect(t, got, reconcile.Changed, realm.Update, "")
	if c.realms["other"]["default"] != nil || c.realms[name]["default"] != 1 || c.realms[name]["comment"] != nil {
		t.Errorf("%v", c.realms)
	}
	if c.puts[0]["delete"] != "comment" {
		t.Errorf("PUT %v", c.puts[0])
	}
}

// What a write meets, and what comes of it: at most three writes, each after a look, none repeated blindly.
func TestWritesThatMeetTrouble(t *testing.T) {
	changed := spec(set(realm.Comment, "declared"))
	declared := stored(with(realm.Comment, "declared"))
	for _, tt := range []struct {
		name    string
		spec    realm.Spec
		begin   fields // nil: absent
		script  func(*cluster) map[string]trouble
		outcome reconcile.Outcome
		action  realm.Action
		code    check.Code
		writes  int
		reads   int
		holds   bool // in the end the realm is as declared
	}{
		{
			name: "another realm changes between observation and write", spec: changed, begin: stored(),
			script:  func(c *cluster) map[string]trouble { return map[string]trouble{"update#1": {before: c.touch}} },
			outcome: reconcile.Changed, action: realm.Update, writes: 2, reads: 3, holds: true,
		},
		{
			name: "realms keep changing", spec: changed, begin: stored(),
			script:  func(c *cluster) map[string]trouble { return map[string]trouble{update: {before: c.touch}} },
			outcome: reconcile.Failed, action: realm.Update, code: check.Conflict, writes: 3, reads: 4,
		},
		{
			name: "somebody makes our change first", spec: changed, begin: stored(),
			script: func(c *cluster) map[string]trouble {
				return map[string]trouble{update: {before: func() { c.put(name, declared) }}}
			},
			outcome: reconcile.Unchanged, action: realm.None, writes: 1, reads: 2, holds: true,
		},
		{
			name: "somebody creates the same realm first", spec: changed,
			script: func(c *cluster) map[string]trouble {
				return map[string]trouble{create: {before: func() { c.put(name, declared) }}}
			},
			outcome: reconcile.Unchanged, action: realm.None, writes: 1, reads: 2, holds: true,
		},
		{
			name: "somebody creates another realm of that name first", spec: changed,
			script: func(c *cluster) map[string]trouble {
				return map[string]trouble{create: {before: func() { c.put(name, stored()) }}}
			},
			outcome: reconcile.Changed, action: realm.Update, writes: 2, reads: 3, holds: true,
		},
		{
			name: "somebody takes the name for another type", spec: changed,
			script: func(c *cluster) map[string]trouble {
				return map[string]trouble{create: {before: func() { c.put(name, fields{"type": "ldap"}) }}}
			},
			outcome: reconcile.Refused, action: realm.Refuse, code: check.WrongType, writes: 1, reads: 2,
		},
		{
			name: "somebody deletes the realm first", spec: changed, begin: stored(),
			script: func(c *cluster) map[string]trouble {
				return map[string]trouble{update: {before: func() { c.put(name, nil) }}}
			},
			outcome: reconcile.Changed, action: realm.Create, writes: 2, reads: 3, holds: true,
		},
		{
			name: "the answer is lost, the write took effect", spec: changed, begin: stored(),
			script:  func(*cluster) map[string]trouble { return map[string]trouble{update: {lost: true}} },
			outcome: reconcile.Changed, action: realm.Update, writes: 1, reads: 2, holds: true,
		},
		{
			name: "the answer to a creation is lost, it took effect", spec: changed,
			script:  func(*cluster) map[string]trouble { return map[string]trouble{create: {lost: true}} },
			outcome: reconcile.Changed, action: realm.Create, writes: 1, reads: 2, holds: true,
		},
		{
			name: "the answer is lost, the write took no effect", spec: changed, begin: stored(),
			script:  func(*cluster) map[string]trouble { return map[string]trouble{"update#1": {lost: true, never: true}} },
			outcome: reconcile.Changed, action: realm.Update, writes: 2, reads: 3, holds: true,
		},
		{
			name: "the answer is lost, the write takes effect just before the second", spec: changed, begin: stored(),
			script: func(c *cluster) map[string]trouble {
				return map[string]trouble{"update#1": {lost: true, never: true}, "update#2": {before: func() { c.put(name, declared) }}}
			},
			outcome: reconcile.Changed, action: realm.Update, writes: 2, reads: 3, holds: true,
		},
		{
			name: "every answer is lost and nothing takes effect", spec: changed, begin: stored(),
			script:  func(*cluster) map[string]trouble { return map[string]trouble{update: {lost: true, never: true}} },
			outcome: reconcile.Failed, action: realm.Update, code: check.Unreachable, writes: 3, reads: 4,
		},
		{
			name: "every answer is lost, the last write takes effect", spec: changed, begin: stored(),
			script: func(*cluster) map[string]trouble {
				return map[string]trouble{update: {lost: true, never: true}, "update#3": {lost: true}}
			},
			outcome: reconcile.Changed, action: realm.Update, writes: 3, reads: 4, holds: true,
		},
		{
			name: "Proxmox cannot be read after a lost answer", spec: changed, begin: stored(),
			script: func(*cluster) map[string]trouble {
				return map[string]trouble{update: {lost: true}, "read#2": {err: errDown}}
			},
			outcome: reconcile.Failed, action: realm.Update, code: check.Unreachable, writes: 1, reads: 2, holds: true,
		},
		{
			name: "Proxmox's lock", spec: changed, begin: stored(),
			script:  func(*cluster) map[string]trouble { return map[string]trouble{update: {err: errLock}} },
			outcome: reconcile.Failed, action: realm.Update, code: check.LockTimeout, writes: 1, reads: 1,
		},
		{
			name: "no privilege", spec: changed, begin: stored(),
			script:  func(*cluster) map[string]trouble { return map[string]trouble{update: {err: errPermission}} },
			outcome: reconcile.Failed, action: realm.Update, code: check.PermissionDenied, writes: 1, reads: 1,
		},
		{
			name: "a success that did not take", spec: changed, begin: stored(),
			script:  func(*cluster) map[string]trouble { return map[string]trouble{update: {never: true}} },
			outcome: reconcile.Failed, action: realm.Update, code: check.NotTaken, writes: 1, reads: 2,
		},
		{
			name: "a value that Proxmox rewrites", spec: spec(set(realm.Comment, " surrounded ")), begin: stored(),
			script:  func(*cluster) map[string]trouble { return nil },
			outcome: reconcile.Failed, action: realm.Update, code: check.NotTaken, writes: 1, reads: 2,
		},
		{
			name: "somebody changes the realm between write and read-back", spec: changed, begin: stored(),
			script: func(c *cluster) map[string]trouble {
				return map[string]trouble{update: {after: func() { c.put(name, stored(with(realm.Comment, "theirs"))) }}}
			},
			outcome: reconcile.Failed, action: realm.Update, code: check.NotTaken, writes: 1, reads: 2,
		},
		{
			name: "somebody turns the realm into another type after the write", spec: changed, begin: stored(),
			script: func(c *cluster) map[string]trouble {
				return map[string]trouble{update: {after: func() { c.put(name, fields{"type": "ldap"}) }}}
			},
			outcome: reconcile.Failed, action: realm.Update, code: check.NotTaken, writes: 1, reads: 2,
		},
		{
			name: "another realm changes between write and read-back", spec: changed, begin: stored(),
			script:  func(c *cluster) map[string]trouble { return map[string]trouble{update: {after: c.touch}} },
			outcome: reconcile.Changed, action: realm.Update, writes: 1, reads: 2, holds: true,
		},
		{
			name: "the read-back fails", spec: changed, begin: stored(),
			script:  func(*cluster) map[string]trouble { return map[string]trouble{"read#2": {err: errDown}} },
			outcome: reconcile.Failed, action: realm.Update, code: check.Unreachable, writes: 1, reads: 2, holds: true,
		},
		{
			name: "Proxmox cannot be read", spec: changed, begin: stored(),
			script:  func(*cluster) map[string]trouble { return map[string]trouble{read: {err: errDown}} },
			outcome: reconcile.Failed, code: check.Unreachable, reads: 1,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, p := newCluster(t), &fakeIssuer{}
			if tt.begin != nil {
				c.put(name, tt.begin)
			}
			c.script = tt.script(c)
			if c.script == nil {
				c.script = map[string]trouble{}
			}
			got := apply(t.Context(), aim(t, c, p, tt.spec), reconcile.Options{})
			expect(t, got, tt.outcome, tt.action, tt.code)
			if c.writes() != tt.writes || c.count(read) != tt.reads {
				t.Errorf("calls %v: %d writes, %d reads; want %d, %d", c.calls, c.writes(), c.count(read), tt.writes, tt.reads)
			}
			if len(p.inspected) != 1 {
				t.Errorf("inspected %d times", len(p.inspected))
			}
			if tt.outcome == reconcile.Unchanged && len(got.Changes) != 0 || tt.outcome == reconcile.Changed && len(got.Changes) == 0 {
				t.Errorf("changes %v", got.Changes)
			}
			c.script = map[string]trouble{}
			now, err := c.Realm(t.Context(), name)
			if err != nil || realm.Diff(tt.spec, now, realm.Facts{}).Empty() != tt.holds {
				t.Errorf("in the end: %v, %v", c.realms[name], err)
			}
		})
	}
}

// A PUT that takes effect while the run is already at its next step cannot hit what it was not made for: its digest is stale.
func TestALatePutIsGuardedByItsDigest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t).put(name, stored())
		c.script["update#1"] = trouble{late: 20 * time.Second}
		target := aim(t, c, &fakeIssuer{}, spec(set(realm.Comment, "declared")))
		expect(t, apply(t.Context(), target, reconcile.Options{}), reconcile.Changed, realm.Update, "")
		c.put(name, stored(with(realm.Comment, "theirs, later")))
		time.Sleep(time.Minute)
		synctest.Wait()
		if c.realms[name]["comment"] != "theirs, later" || c.puts[0]["digest"] == c.puts[1]["digest"] && c.serial == 2 {
			t.Errorf("%v", c.realms[name])
		}
	})
}

func TestApplyRefuses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spec  realm.Spec
		begin fields
		code  check.Code
		calls []string
	}{
		{"another type", spec(), fields{"type": "ldap"}, check.WrongType, []string{read}},
		{"pam", spec(func(s *realm.Spec) { s.Name = "pam" }), nil, check.BuiltinRealm, []string{read}},
		{"another claim", spec(set(realm.UsernameClaim, "email")), stored(), check.UsernameClaim, []string{read, users}},
		{"a property of a later generation", spec(set(realm.Audiences, "x")), stored(), check.UnknownProperty, []string{read, version}},
	} {
		for _, run := range []func(context.Context, aimed, reconcile.Options) reconcile.Result{apply, plan} {
			c, p := newCluster(t), &fakeIssuer{}
			c.version, c.users = realm.Version{Major: 8, Minor: 4}, realm.Users{Visible: true, Count: 42}
			if tt.begin != nil {
				c.put(name, tt.begin)
			}
			got := run(t.Context(), aim(t, c, p, tt.spec), reconcile.Options{})
			expect(t, got, reconcile.Refused, realm.Refuse, tt.code)
			if !slices.Equal(c.calls, tt.calls) {
				t.Errorf("%s: calls %v, want %v", tt.name, c.calls, tt.calls)
			}
			if check.HintOf(got.Err).For(check.Names{}) == "" {
				t.Errorf("%s: no hint", tt.name)
			}
			if tt.code == check.UsernameClaim && !strings.Contains(got.Err.Error(), "42 users") {
				t.Errorf("%v", got.Err)
			}
		}
	}
}

func TestRefusalWithoutCountableUsers(t *testing.T) {
	c := newCluster(t).put(name, stored())
	c.script[users] = trouble{err: errPermission}
	got := apply(t.Context(), aim(t, c, &fakeIssuer{}, spec(set(realm.UsernameClaim, "email"))), reconcile.Options{})
	expect(t, got, reconcile.Refused, realm.Refuse, check.UsernameClaim)
	if !strings.Contains(got.Err.Error(), "not visible") || c.count(users) != 1 {
		t.Errorf("%v after %v", got.Err, c.calls)
	}
}

// The node's own answer is the proof that it does not know a property; its version words the hint.
func TestANodeThatDoesNotKnowAProperty(t *testing.T) {
	c := newCluster(t).put(name, stored())
	c.version, c.lacks = realm.Version{Major: 8, Minor: 1}, []realm.Property{realm.GroupsClaim}
	got := apply(t.Context(), aim(t, c, &fakeIssuer{}, spec(set(realm.GroupsClaim, "groups"))), reconcile.Options{})
	expect(t, got, reconcile.Refused, realm.Refuse, check.UnknownProperty)
	if want := []string{read, version, update}; !slices.Equal(c.calls, want) {
		t.Errorf("calls %v, want %v", c.calls, want)
	}
	var unknown *realm.UnknownPropertyError
	if !errors.As(got.Err, &unknown) || !strings.Contains(got.Err.Error(), "8.1") || !strings.Contains(check.HintOf(got.Err).For(check.Names{}), "realm.groups_claim") {
		t.Errorf("%v", got.Err)
	}
}

// A node that does not tell its version is asked once.
func TestTheVersionIsAskedOnce(t *testing.T) {
	c, p := newCluster(t), &fakeIssuer{version: true}
	c.script[version] = trouble{err: errPermission}
	got := apply(t.Context(), aim(t, c, p, spec(set(realm.Audiences, "x"))), reconcile.Options{})
	expect(t, got, reconcile.Changed, realm.Create, "")
	if c.count(version) != 1 {
		t.Errorf("calls %v", c.calls)
	}
}

func TestAFailedCheckAfterTheWriteIsUnverified(t *testing.T) {
	c := newCluster(t)
	c.script[discovery] = trouble{never: true}
	got := apply(t.Context(), aim(t, c, &fakeIssuer{}, spec()), reconcile.Options{})
	expect(t, got, reconcile.Unverified, realm.Create, "")

	c, p := newCluster(t).put(name, stored()), &fakeIssuer{finds: broken}
	expect(t, apply(t.Context(), aim(t, c, p, spec()), reconcile.Options{}), reconcile.Unverified, realm.None, "")
	ignoring := aim(t, c, p, spec())
	ignoring.Verify.Ignore = []check.ID{check.IssuerIdentity}
	got = apply(t.Context(), ignoring, reconcile.Options{})
	expect(t, got, reconcile.Unchanged, realm.None, "")
	if found, _ := check.Find(got.Checks, check.IssuerIdentity); found.Status != check.Skip || !strings.Contains(found.Summary, "calls itself") {
		t.Errorf("%+v", found)
	}
}

// When verification asks what costs something.
func TestModes(t *testing.T) {
	for _, tt := range []struct {
		mode  bool
		write bool
		asked bool
	}{
		{true, true, true},
		{true, false, false},
		{false, true, false},
		{false, false, false},
	} {
		c, p := newCluster(t), &fakeIssuer{}
		if !tt.write {
			c.put(name, stored())
		}
		target := aim(t, c, p, spec())
		target.Verify.Proxmox, target.Verify.Client = tt.mode, tt.mode
		got := apply(t.Context(), target, reconcile.Options{})
		// Without a write, and with nothing to remember, the client is asked about for free.
		if (c.count(discovery) == 1) != tt.asked || (len(p.questions) == 1) != tt.mode || tt.mode && (p.questions[0].Depth == issuer.Free) == tt.write {
			t.Errorf("%t, a write: %t: discovery asked %d times, client %d times", tt.mode, tt.write, c.count(discovery), len(p.questions))
		}
		if (status(got, check.ProxmoxDiscovery) != "") != tt.asked {
			t.Errorf("%t: proxmox.discovery is %q", tt.mode, status(got, check.ProxmoxDiscovery))
		}
	}
}

// Proxmox is not asked to discover an issuer that could block a worker of the node, nor about another realm than ours.
func TestProxmoxIsNotAskedAtTheNodesExpense(t *testing.T) {
	c := newCluster(t)
	got := apply(t.Context(), aim(t, c, &fakeIssuer{slow: true}, spec()), reconcile.Options{})
	if c.count(discovery) != 0 || status(got, check.ProxmoxDiscovery) != check.Skip {
		t.Errorf("a slow issuer: calls %v, %q", c.calls, status(got, check.ProxmoxDiscovery))
	}
	c = newCluster(t).put(name, stored(with(realm.IssuerURL, "https://elsewhere.example.com")))
	got = verify(t.Context(), aim(t, c, &fakeIssuer{}, spec()))
	if c.count(discovery) != 0 || status(got, check.ProxmoxDiscovery) != check.Skip {
		t.Errorf("another issuer is stored: calls %v", c.calls)
	}
	c = newCluster(t)
	got = verify(t.Context(), aim(t, c, &fakeIssuer{}, spec()))
	if c.count(discovery) != 0 || status(got, check.ProxmoxDiscovery) != check.Skip {
		t.Errorf("no realm: calls %v", c.calls)
	}
	for _, begin := range []fields{nil, {"type": "ldap"}} {
		c = newCluster(t).put(name, begin)
		got = verify(t.Context(), aim(t, c, nil, spec()))
		if c.count(discovery) != 0 || status(got, check.ProxmoxDiscovery) != check.Skip {
			t.Errorf("no OpenID realm and no issuer here: calls %v", c.calls)
		}
	}
	// Where this machine cannot see the issuer, Proxmox's view alone counts.
	c = newCluster(t)
	got = apply(t.Context(), aim(t, c, nil, spec()), reconcile.Options{})
	expect(t, got, reconcile.Changed, realm.Create, "")
	if c.count(discovery) != 1 || status(got, check.ProxmoxDiscovery) != check.Pass {
		t.Errorf("no issuer here: calls %v", c.calls)
	}
}

func TestVerify(t *testing.T) {
	for _, tt := range []struct {
		name    string
		begin   fields
		spec    realm.Spec
		outcome reconcile.Outcome
		realm   check.Status
		says    string
	}{
		{"as declared", stored(), spec(), reconcile.Unchanged, check.Pass, "as declared"},
		{"absent", nil, spec(), reconcile.Unverified, check.Fail, "does not exist"},
		{"drifted", stored(), spec(set(realm.Comment, "x"), setKey(key)), reconcile.Unverified, check.Fail, "differs"},
		{"another type", fields{"type": "ldap"}, spec(), reconcile.Unverified, check.Fail, "ldap"},
		{"another claim", stored(), spec(set(realm.UsernameClaim, "email")), reconcile.Unverified, check.Fail, "email"},
	} {
		c, p := newCluster(t), &fakeIssuer{}
		if tt.begin != nil {
			c.put(name, tt.begin)
		}
		got := verify(t.Context(), aim(t, c, p, tt.spec))
		expect(t, got, tt.outcome, realm.None, "")
		found, _ := check.Find(got.Checks, check.ProxmoxRealm)
		if found.Status != tt.realm || !strings.Contains(found.Summary, tt.says) || found.Status == check.Fail && found.Hint.For(check.Names{}) == "" {
			t.Errorf("%s: %+v", tt.name, found)
		}
		if tt.name == "drifted" && found.Evidence != "client-key, comment" {
			t.Errorf("evidence %q", found.Evidence)
		}
		if c.writes() != 0 || c.count(permissions) != 1 || c.count(usersCheck) != 1 || len(p.questions) != 1 || len(got.Changes) != 0 {
			t.Errorf("%s: calls %v, %d questions, changes %v", tt.name, c.calls, len(p.questions), got.Changes)
		}
		if perm, _ := check.Find(got.Checks, check.ProxmoxPermissions); perm.Summary != fmt.Sprintf("may write: %t", tt.name != "as declared") {
			t.Errorf("%s: asked whether it %s", tt.name, perm.Summary)
		}
	}
}

func TestVerifyAsksNothingCostlyWhereItMustNot(t *testing.T) {
	c, p := newCluster(t).put(name, stored()), &fakeIssuer{}
	target := aim(t, c, p, spec())
	target.Verify.Proxmox, target.Verify.Client = false, false
	expect(t, verify(t.Context(), target), reconcile.Unchanged, realm.None, "")
	if c.count(discovery) != 0 || len(p.questions) != 0 {
		t.Errorf("calls %v, %d questions", c.calls, len(p.questions))
	}
}

// Where Proxmox cannot be read the issuer is examined all the same.
func TestVerifyWithoutProxmox(t *testing.T) {
	c, p := newCluster(t).put(name, stored()), &fakeIssuer{}
	c.script[read] = trouble{err: errDown}
	got := verify(t.Context(), aim(t, c, p, spec(setKey(key))))
	expect(t, got, reconcile.Failed, "", check.Unreachable)
	if status(got, check.IssuerIdentity) != check.Pass || status(got, check.ClientCredentials) != check.Pass || len(p.questions) != 1 {
		t.Errorf("%+v", got.Checks)
	}
	for _, id := range []check.ID{check.ProxmoxRealm, check.ProxmoxPermissions, check.ProxmoxDiscovery, check.ProxmoxUsers} {
		if status(got, id) != check.Skip {
			t.Errorf("%s is %q", id, status(got, id))
		}
	}
	if !slices.Equal(c.calls, []string{read}) {
		t.Errorf("calls %v", c.calls)
	}
}

func TestPlanForeseesAndNeverWrites(t *testing.T) {
	for _, tt := range []struct {
		name    string
		begin   fields
		spec    realm.Spec
		issuer  func() []check.Check
		options reconcile.Options
		outcome reconcile.Outcome
		action  realm.Action
		code    check.Code
	}{
		{"absent", nil, spec(), nil, reconcile.Options{}, reconcile.Drift, realm.Create, ""},
		{"as declared", stored(), spec(), nil, reconcile.Options{}, reconcile.Unchanged, realm.None, ""},
		{"as declared, the issuer is broken", stored(), spec(), broken, reconcile.Options{}, reconcile.Unverified, realm.None, ""},
		{"drifted", stored(), spec(set(realm.Comment, "x")), nil, reconcile.Options{}, reconcile.Drift, realm.Update, ""},
		{"drifted harmlessly, the issuer is broken", stored(), spec(set(realm.Comment, "x")), broken, reconcile.Options{}, reconcile.Drift, realm.Update, ""},
		{"held", stored(), spec(setKey(key)), broken, reconcile.Options{Waits: true}, reconcile.Held, realm.Update, check.Held},
		{"drifted, no gate", stored(), spec(setKey(key)), broken, reconcile.Options{NoGate: true}, reconcile.Drift, realm.Update, ""},
		{"replace", stored(), spec(set(realm.UsernameClaim, "email")), nil, reconcile.Options{Replace: true}, reconcile.Drift, realm.Replace, ""},
		{"refused", stored(), spec(set(realm.UsernameClaim, "email")), nil, reconcile.Options{}, reconcile.Refused, realm.Refuse, check.UsernameClaim},
	} {
		c, p := newCluster(t), &fakeIssuer{finds: tt.issuer}
		if tt.begin != nil {
			c.put(name, tt.begin)
		}
		target := aim(t, c, p, tt.spec)
		var got reconcile.Result
		synctest.Test(t, func(t *testing.T) { // plan waits for nothing
			began := time.Now()
			got = plan(t.Context(), target, tt.options)
			if time.Since(began) != 0 {
				t.Errorf("%s: waited %s", tt.name, time.Since(began))
			}
		})
		expect(t, got, tt.outcome, tt.action, tt.code)
		if c.writes() != 0 || c.count(discovery) != 0 || len(files(t, target)) != 0 {
			t.Errorf("%s: calls %v, files %v", tt.name, c.calls, files(t, target))
		}
		if tt.outcome == reconcile.Drift && (c.count(permissions) != 1 || status(got, check.IssuerIdentity) == "" || len(got.Changes) == 0) {
			t.Errorf("%s: calls %v, checks %v, changes %v", tt.name, c.calls, got.Checks, got.Changes)
		}
		if tt.outcome == reconcile.Held && len(got.Changes) != 1 {
			t.Errorf("%s: changes %v", tt.name, got.Changes)
		}
	}
}

// Plan says that a gated change passes, with the client's checks.
func TestPlanShowsTheGatesConsent(t *testing.T) {
	c, p := newCluster(t).put(name, stored()), &fakeIssuer{takes: only(key)}
	got := plan(t.Context(), aim(t, c, p, spec(setKey(key))), reconcile.Options{})
	expect(t, got, reconcile.Drift, realm.Update, "")
	if status(got, check.ClientCredentials) != check.Pass || len(p.questions) != 1 {
		t.Errorf("%+v", got.Checks)
	}
}

// An interruption at any call ends the run: what is under way is finished, nothing else is begun.
func TestInterruptionAtEveryCall(t *testing.T) {
	for _, cause := range []check.Code{check.Interrupted, check.Terminated} {
		for n := 1; n <= 4; n++ {
			c, p := newCluster(t).put(name, stored()), &fakeIssuer{}
			ctx, stop := context.WithCancelCause(t.Context())
			c.atCall = func(i int, _ string) {
				if i == n {
					stop(check.Errorf(cause, "stopped"))
				}
			}
			got := apply(ctx, aim(t, c, p, spec(set(realm.Comment, "declared"))), reconcile.Options{})
			if got.Err == nil || check.CodeOf(got.Err) != cause || got.Outcome != reconcile.Failed {
				t.Errorf("call %d: %s, %v", n, got.Outcome, got.Err)
			}
			written := c.realms[name]["comment"] == "declared"
			if written != (n > 1) || c.count(update) != min(n-1, 1) {
				t.Errorf("call %d: written is %t after %v", n, written, c.calls)
			}
			if n == 2 && !slices.Equal(c.calls, []string{read, update, read}) {
				t.Errorf("an update under way is read back: %v", c.calls)
			}
			if said := len(got.Warnings) == 1 && strings.Contains(got.Warnings[0], "not verified"); said != (n >= 2) {
				t.Errorf("call %d: warnings %q", n, got.Warnings)
			}
			stop(nil)
		}
	}
}

// What went wrong with a write under way is not hidden by an interruption.
func TestAnInterruptionHidesNoVerdict(t *testing.T) {
	c := newCluster(t).put(name, stored())
	c.script[update] = trouble{never: true}
	ctx, stop := context.WithCancelCause(t.Context())
	defer stop(nil)
	c.atCall = func(_ int, call string) {
		if call == update {
			stop(check.Errorf(check.Terminated, "stopped"))
		}
	}
	got := apply(ctx, aim(t, c, &fakeIssuer{}, spec(set(realm.Comment, "declared"))), reconcile.Options{})
	expect(t, got, reconcile.Failed, realm.Update, check.NotTaken)
	// After a lost answer the interruption ends the run, instead of another look.
	c.script[update] = trouble{lost: true, never: true}
	ctx, again := context.WithCancelCause(t.Context())
	defer again(nil)
	c.atCall = func(_ int, call string) {
		if call == update {
			again(check.Errorf(check.Terminated, "stopped"))
		}
	}
	got = apply(ctx, aim(t, c, &fakeIssuer{}, spec(set(realm.Comment, "declared"))), reconcile.Options{})
	expect(t, got, reconcile.Failed, realm.Update, check.Terminated)
}

func TestOutcomesAreOrdered(t *testing.T) {
	want := []reconcile.Outcome{"failed", "refused", "held", "unverified", "drift", "changed", "unchanged"}
	if got := reconcile.Outcomes(); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

func TestChecksAreSortedAndTimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t).put(name, stored())
		c.script[read] = trouble{before: func() { time.Sleep(3 * time.Second) }}
		got := verify(t.Context(), aim(t, c, &fakeIssuer{}, spec()))
		sorted := slices.Clone(got.Checks)
		check.Sort(sorted)
		if !reflect.DeepEqual(sorted, got.Checks) || len(got.Checks) != 10 || got.Duration != 3*time.Second {
			t.Errorf("%v in %s", got.Checks, got.Duration)
		}
	})
}

// A key that somebody pasted into another property is not shown.
func TestSecretsInOtherPropertiesAreMasked(t *testing.T) {
	c := newCluster(t).put(name, stored(with(realm.Comment, "the key is "+oldKey), with(realm.ClientID, oldKey)))
	target := aim(t, c, &fakeIssuer{}, spec(set(realm.Comment, "see "+key)))
	target.Cleaner.Hold(check.NewSecret(oldKey), check.NewSecret(key))
	for _, got := range []reconcile.Result{plan(t.Context(), target, reconcile.Options{}), planDelete(t.Context(), target)} {
		for _, change := range got.Changes {
			for _, text := range []*string{change.Before, change.After} {
				if text != nil && (strings.Contains(*text, oldKey) || strings.Contains(*text, key)) {
					t.Errorf("%s: %s", change.Property, *text)
				}
			}
		}
	}
}

// A verify that could not reach Proxmox to its end is no success.
func TestVerifyThatLosesProxmox(t *testing.T) {
	for _, call := range []string{permissions, discovery, usersCheck} {
		c := newCluster(t).put(name, stored())
		c.script[call] = trouble{err: errDown}
		expect(t, verify(t.Context(), aim(t, c, &fakeIssuer{}, spec())), reconcile.Failed, realm.None, check.Unreachable)
	}
}

// An apply that wrote, and could not verify it, says both.
func TestApplyThatLosesProxmoxAfterItsWrite(t *testing.T) {
	c := newCluster(t).put(name, stored())
	c.script[discovery] = trouble{err: errDown}
	got := apply(t.Context(), aim(t, c, &fakeIssuer{}, spec(set(realm.Prompt, "login"))), reconcile.Options{})
	expect(t, got, reconcile.Failed, realm.Update, check.Unreachable)
	if !got.Wrote() || len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "was written and read back, but not verified") {
		t.Errorf("wrote: %t; warnings %q", got.Wrote(), got.Warnings)
	}
	// A write that took no effect was none.
	c.script[update] = trouble{err: errDown}
	if got := apply(t.Context(), aim(t, c, &fakeIssuer{}, spec(set(realm.Comment, "another"))), reconcile.Options{}); got.Wrote() {
		t.Error("a write that failed counts")
	}
}
