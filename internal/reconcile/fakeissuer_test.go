package reconcile_test

import (
	"context"
	"reflect"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/reconcile"
)

// fakeIssuer is an issuer in memory: what it says of itself and of a client's keys changes with time, and it counts
// what it is asked. Like the real inspection, each one asks each question once.
type fakeIssuer struct {
	finds     func() []check.Check             // issuer.* checks; nil: all pass
	takes     func(key string) bool            // which keys it accepts; nil: every one
	verdict   func(key string) *issuer.Verdict // overrides takes unless it returns nil
	redirect  func() bool                      // accepts the redirect URLs; nil: always
	slow      bool
	untrusted bool   // this machine does not trust its certificate
	software  string // what it was recognised as
	unclaimed string // a claim that it does not advertise
	limited   bool   // answers 429 to discovery already
	version   bool   // its verdict on keys needs the Proxmox version
	encrypts  bool
	advice    map[issuer.Topic]check.Hint

	inspected []string // issuer URLs
	began     []time.Time
	questions []issuer.Question
	views     []issuer.View
	refused   []time.Time // questions about keys that were refused: an issuer counts these against our address
	accepts   int         // questions about another key than the one before
}

type inspection struct {
	*fakeIssuer
	keys  map[string]issuer.Verdict
	asked int // how many questions there were when this inspection was last asked
}

func (p *fakeIssuer) Inspect(_ context.Context, url string, notBefore time.Time) reconcile.Inspection {
	if notBefore.After(time.Now()) {
		panic("an inspection from the future")
	}
	p.inspected = append(p.inspected, url)
	p.began = append(p.began, time.Now())
	return &inspection{fakeIssuer: p, keys: map[string]issuer.Verdict{}}
}

func (i *inspection) Wait(ctx context.Context) error { return ctx.Err() }

func (i *inspection) Checks(v issuer.View) []check.Check {
	i.views = append(i.views, v)
	if i.finds != nil {
		return i.finds()
	}
	return []check.Check{check.Passed(check.IssuerURL, "https"), check.Passed(check.IssuerIdentity, "the issuer is itself"), check.Passed(check.IssuerKeys, "2 keys")}
}

func (i *inspection) NeedsVersion() bool { return i.version }

func (i *inspection) RateLimited() (time.Duration, bool) { return time.Minute, i.limited }

func (i *inspection) Quick() bool { return !i.slow }

func (i *inspection) WhyNotQuick() string { return "the issuer took 7s to answer" }

func (i *inspection) Trusted() bool { return !i.untrusted }

func (i *inspection) LacksClaim(claim string) bool { return claim == i.unclaimed }

func (i *inspection) EncryptsTokens() bool { return i.encrypts }

func (i *inspection) Advice(about issuer.Topic) check.Hint { return i.advice[about] }

func (i *inspection) Provider() string { return i.software }

func (i *inspection) Certificate() (time.Time, bool) { return time.Time{}, false }

func (i *inspection) Client(_ context.Context, q issuer.Question) issuer.Answer {
	if i.untrusted {
		return issuer.Answer{Checks: []check.Check{check.Skipped(check.ClientCredentials, "not asked"), check.Skipped(check.ClientRedirect, "not asked")}}
	}
	if n := len(i.questions); n > 0 && i.questions[n-1].Login.ClientKey.Reveal() != q.Login.ClientKey.Reveal() &&
		(i.asked == n || len(q.RedirectURLs) == 0) {
		i.accepts++
		verdict := i.ask(q.Login.ClientKey)
		return issuer.Answer{Checks: []check.Check{credentials(verdict), check.Skipped(check.ClientRedirect, "no redirect URL")}, Credentials: verdict}
	}
	if n := len(i.questions); n == 0 || !reflect.DeepEqual(i.questions[n-1], q) || i.asked != n {
		i.questions = append(i.questions, q)
	}
	i.asked = len(i.questions)
	verdict := i.ask(q.Login.ClientKey)
	redirect := check.Passed(check.ClientRedirect, "%d redirect URLs", len(q.RedirectURLs))
	if i.redirect != nil && !i.redirect() {
		redirect = check.Failed(check.ClientRedirect, "register the redirect URL", "the issuer refuses the redirect URL")
	}
	if verdict.Decision == issuer.RateLimited || verdict.Decision == issuer.NoVerdict {
		redirect = check.Skipped(check.ClientRedirect, "no verdict")
	}
	return issuer.Answer{Checks: []check.Check{credentials(verdict), redirect}, Credentials: verdict}
}

func credentials(v issuer.Verdict) check.Check {
	switch v.Decision {
	case issuer.Accepted:
		return check.Passed(check.ClientCredentials, "accepted")
	case issuer.Rejected:
		return check.Failed(check.ClientCredentials, "write the key that the issuer knows", "the issuer refuses the key")
	case issuer.NoVerdict, issuer.RateLimited:
	}
	return check.Skipped(check.ClientCredentials, "no verdict")
}

func (i *inspection) ask(key check.Secret) issuer.Verdict {
	k := key.Reveal()
	if known, ok := i.keys[k]; ok {
		return known
	}
	verdict := issuer.Verdict{Decision: issuer.Accepted}
	if i.takes != nil && !i.takes(k) {
		verdict.Decision = issuer.Rejected
		i.refused = append(i.refused, time.Now())
	}
	if i.verdict != nil {
		if v := i.verdict(k); v != nil {
			verdict = *v
		}
	}
	i.keys[k] = verdict
	return verdict
}

// only accepts one key.
func only(key string) func(string) bool { return func(k string) bool { return k == key } }

// broken is an issuer that names itself differently.
func broken() []check.Check {
	return []check.Check{
		check.Passed(check.IssuerURL, "https"),
		check.Failed(check.IssuerIdentity, "set {realm.issuer_url} to https://auth.example.com/", "the issuer calls itself https://auth.example.com/"),
		check.Passed(check.IssuerKeys, "2 keys"),
	}
}
