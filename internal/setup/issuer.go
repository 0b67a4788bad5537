package setup

import (
	"context"
	"net/url"
	"strings"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/realm"
)

// Issuer is what an issuer shows of itself to somebody who sets up a realm for it. The zero value was not looked at.
type Issuer struct {
	Checks     []check.Check
	inspection *issuer.Inspection
}

// Look inspects the issuer of a target.
func Look(ctx context.Context, c *issuer.Inspector, t config.Target, v realm.Version) (Issuer, error) {
	login := t.Realm.Login()
	inspection := c.Inspect(ctx, login.IssuerURL)
	if inspection.Wait(ctx) != nil || ctx.Err() != nil {
		return Issuer{}, context.Cause(ctx)
	}
	checks := inspection.Checks(issuer.View{Login: login, Version: v, MaxSkew: t.Verify.MaxClockSkew})
	return Issuer{inspection: inspection, Checks: check.Ignore(checks, t.Verify.Ignore)}, nil
}

// Against returns an error if logins through this issuer would fail. One that is switched off may be switched on.
func (i Issuer) Against() error {
	failed := check.Failures(i.Checks)
	if len(failed) == 0 || i.SwitchedOff() {
		return nil
	}
	var said []string
	for _, c := range failed {
		said = append(said, string(c.ID)+": "+c.Summary)
	}
	return check.Errorf(check.Held, "logins would fail, so nothing was made: %s", strings.Join(said, "; ")).Try(failed[0].Hint)
}

// OtherName returns the name of the issuer that was found, if it is not the URL of the target: Proxmox requires the exact name.
// nearby tells that both have the same origin.
func (i Issuer) OtherName(t config.Target) (name string, nearby bool) {
	asked := t.Realm.Login().IssuerURL
	if name = i.inspection.Serves(); name == "" || name == asked {
		return "", false
	}
	a, err := url.Parse(asked)
	b, other := url.Parse(name)
	return name, err == nil && other == nil && a.Scheme == b.Scheme && a.Host == b.Host
}

// Offers tells whether the issuer has a scope for the groups claim. Authelia has it also while it is switched off.
func (i Issuer) Offers(scope string) bool {
	return i.inspection != nil && i.inspection.OffersScope(scope) || i.SwitchedOff() && scope == DefaultGroupsClaim
}

// SwitchedOff tells whether Authelia answers, and its OpenID Connect part is off.
func (i Issuer) SwitchedOff() bool { return i.inspection != nil && i.inspection.SwitchedOff() }

// Trusted tells whether this machine trusts the issuer's certificate.
func (i Issuer) Trusted() bool { return i.inspection.Trusted() }

// LacksClaim tells whether the issuer advertises its claims, and not this one.
func (i Issuer) LacksClaim(claim string) bool {
	return i.inspection != nil && i.inspection.LacksClaim(claim)
}

// Provider is the software behind the issuer, such as [Authelia]; "" if it was not recognised.
func (i Issuer) Provider() string {
	if i.inspection == nil {
		return ""
	}
	return i.inspection.Provider()
}

func (i Issuer) advice(t issuer.Topic) check.Hint {
	if i.inspection == nil {
		return ""
	}
	return i.inspection.Advice(t)
}

// Authelia is the provider whose configuration can be printed and written.
const Authelia = "Authelia"

// Entry is what an administrator enters at an issuer, and where, if that is known.
type Entry struct {
	Name, Value string
	Where       check.Hint
}

// Entries lists what a client at the issuer needs. The key is in the file.
func (i Issuer) Entries(t config.Target, keyFile, callback string) []Entry {
	login := t.Realm.Login()
	redirects := callback
	for n := range t.Verify.RedirectURLs {
		redirects = string(t.Verify.RedirectURLs[len(t.Verify.RedirectURLs)-1-n]) + " " + redirects
	}
	entries := []Entry{
		{"client id", login.ClientID, ""},
		{"client key", "in " + keyFile + ", or the one that the issuer makes", i.advice(issuer.OnKey)},
		{"authentication", "client_secret_basic", i.advice(issuer.OnMethod)},
		{"flow", "authorization code, with PKCE S256 or without PKCE", i.advice(issuer.OnFlow)},
		{"redirect URLs", redirects, i.advice(issuer.OnRedirect)},
		{"scopes", login.ScopeParameter(), i.advice(issuer.OnScope)},
		{"signature", "RS256", i.advice(issuer.OnSigning)},
	}
	if advice := i.advice(issuer.OnNames); advice != "" {
		entries = append(entries, Entry{"users", "by the claim " + login.UsernameClaim, advice})
	}
	if login.GroupsClaim != "" {
		entries = append(entries, Entry{"groups", "as a list in the claim " + login.GroupsClaim, i.advice(issuer.OnGroups)})
	}
	return entries
}

// The pauses between two questions to an issuer that does not know the client yet: of those that cost a right client nothing, and of
// those that may be refused.
const (
	lookEvery = 10 * time.Second
	askEvery  = time.Minute
)

// Wait is a wait for an issuer to accept a client: its login request with each redirect URL, and its key.
type Wait struct {
	Client *issuer.Inspector
	Target config.Target
	known  issuer.Known
	asked  time.Time   // in full
	found  check.Check // then
}

// Until asks the issuer until it does not refuse the client any more, and at most until the given time. told hears what is missing. It
// returns what was missing at the end, and nil if nothing is.
func (w *Wait) Until(ctx context.Context, end time.Time, told func(why string)) (missing *check.Check, err error) {
	for {
		found, err := w.ask(ctx)
		if err != nil || found == nil {
			return found, err
		}
		told(found.Summary)
		left := time.Until(end)
		if left <= 0 {
			return found, nil
		}
		pause := time.NewTimer(min(lookEvery, left))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return found, context.Cause(ctx)
		}
	}
}

// ask returns what makes the issuer refuse the client now. Questions in full tell what it is; an issuer counts refused keys, so they
// are asked once a minute, and when the issuer begins to accept the login request.
func (w *Wait) ask(ctx context.Context) (*check.Check, error) {
	i, err := Look(ctx, w.Client, w.Target, realm.Version{})
	if err != nil {
		return nil, err
	}
	if failed := check.Failures(i.Checks); len(failed) > 0 {
		return &failed[0], nil
	}
	q := issuer.Question{Login: w.Target.Realm.Login(), RedirectsDeclared: true, Known: w.known}
	for _, u := range w.Target.Verify.RedirectURLs {
		q.RedirectURLs = append(q.RedirectURLs, string(u))
	}
	if time.Since(w.asked) < askEvery {
		q.Depth, q.KeyUnknown = issuer.Free, true
		answer := i.inspection.Client(ctx, q)
		w.known = answer.Known
		if answer.Redirect.Decision != issuer.Accepted || w.found.ID != check.ClientRedirect {
			return &w.found, context.Cause(ctx)
		}
	}
	q.Depth, q.KeyUnknown, q.Known = issuer.Full, false, w.known
	answer := i.inspection.Client(ctx, q)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	w.known, w.asked = answer.Known, time.Now()
	for _, id := range []check.ID{check.ClientRedirect, check.ClientCredentials} {
		if c, ok := check.Find(answer.Checks, id); ok && c.Status == check.Fail {
			if answer.Redirect.Unknown {
				c.Summary = "the issuer does not know the client " + q.Login.ClientID + " yet"
			}
			w.found = c
			return &c, nil
		}
	}
	return nil, nil
}
