package reconcile_test

import (
	"context"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
	"proxmox-realm/internal/reconcile"
)

// provider is an issuer in memory: what it says of itself and of a client's keys changes with time, and it counts
// what it is asked. Like the real inspection, each one asks each question once.
type provider struct {
	finds    func() []check.Check                // issuer.* checks; nil: all pass
	takes    func(key string) bool               // which keys it accepts; nil: every one
	verdict  func(key string) *reconcile.Verdict // overrides takes where it is not nil
	redirect func() bool                         // accepts the redirect URLs; nil: always
	slow     bool
	limited  bool // answers 429 to discovery already
	version  bool // its verdict on keys needs the Proxmox version

	inspected []string // issuer URLs
	began     []time.Time
	questions []reconcile.Question
	refused   []time.Time // questions about keys that were refused: an issuer counts these against our address
	accepts   int         // questions about a key alone
}

type inspection struct {
	*provider
	keys map[string]reconcile.Verdict
}

func (p *provider) Inspect(_ context.Context, url string, notBefore time.Time) reconcile.Inspection {
	if notBefore.After(time.Now()) {
		panic("an inspection from the future")
	}
	p.inspected = append(p.inspected, url)
	p.began = append(p.began, time.Now())
	return &inspection{provider: p, keys: map[string]reconcile.Verdict{}}
}

func (i *inspection) Checks(_ context.Context, _ realm.Login, node reconcile.Node) []check.Check {
	if i.version {
		node.Version()
	}
	if i.finds != nil {
		return i.finds()
	}
	return []check.Check{check.Passed(check.IssuerIdentity, "the issuer is itself"), check.Passed(check.IssuerKeys, "2 keys")}
}

func (i *inspection) Limited(context.Context) (time.Duration, bool) { return time.Minute, i.limited }

func (i *inspection) Quick(context.Context) bool { return !i.slow }

func (i *inspection) Client(_ context.Context, q reconcile.Question) ([]check.Check, reconcile.Verdict) {
	i.questions = append(i.questions, q)
	verdict := i.ask(q.Login.ClientKey)
	credentials := check.Skipped(check.ClientCredentials, "no verdict")
	switch verdict.Answer {
	case reconcile.Accepted:
		credentials = check.Passed(check.ClientCredentials, "accepted")
	case reconcile.Rejected:
		credentials = check.Failed(check.ClientCredentials, check.Remedy{check.Advise("write the key that the issuer knows")}, "the issuer refuses the key")
	case reconcile.NoAnswer, reconcile.Limited:
	}
	redirect := check.Passed(check.ClientRedirect, "%d redirect URLs", len(q.Redirects))
	if i.redirect != nil && !i.redirect() {
		redirect = check.Failed(check.ClientRedirect, check.Remedy{check.Advise("register the redirect URL")}, "the issuer refuses the redirect URL")
	}
	return []check.Check{credentials, redirect}, verdict
}

func (i *inspection) Accepts(_ context.Context, _ realm.Login, key check.Secret) reconcile.Verdict {
	i.accepts++
	return i.ask(key)
}

func (i *inspection) ask(key check.Secret) reconcile.Verdict {
	k := key.Reveal()
	if known, ok := i.keys[k]; ok {
		return known
	}
	verdict := reconcile.Verdict{Answer: reconcile.Accepted}
	if i.takes != nil && !i.takes(k) {
		verdict.Answer = reconcile.Rejected
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
		check.Failed(check.IssuerIdentity, check.Remedy{check.Advise("set realm.issuer_url to https://auth.example.com/")}, "the issuer calls itself https://auth.example.com/"),
		check.Passed(check.IssuerKeys, "2 keys"),
	}
}
