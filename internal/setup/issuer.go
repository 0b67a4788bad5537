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

// Issuer is what an issuer shows of itself to somebody who sets up a realm for it.
type Issuer struct {
	*issuer.Inspection
	Checks []check.Check
}

// Look inspects the issuer of a target.
func Look(ctx context.Context, c *issuer.Client, t config.Target, v realm.Version) (Issuer, error) {
	login := t.Realm.Login()
	inspection := c.Inspect(ctx, login.IssuerURL)
	if inspection.Wait(ctx) != nil {
		return Issuer{}, context.Cause(ctx)
	}
	checks := inspection.Checks(issuer.View{Login: login, Version: v, MaxSkew: t.Verify.MaxClockSkew})
	return Issuer{Inspection: inspection, Checks: check.Ignore(checks, t.Verify.Ignore)}, nil
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
	if name = i.Serves(); name == "" || name == asked {
		return "", false
	}
	a, err := url.Parse(asked)
	b, other := url.Parse(name)
	return name, err == nil && other == nil && a.Scheme == b.Scheme && a.Host == b.Host
}

// Offers tells whether the issuer has a scope for the groups claim. Authelia has it also while it is switched off.
func (i Issuer) Offers(scope string) bool {
	return i.OffersScope(scope) || i.SwitchedOff() && scope == DefaultGroupsClaim
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
		{"client key", "in " + keyFile + ", or the one that the issuer makes", i.Advice(issuer.OnKey)},
		{"authentication", "client_secret_basic", i.Advice(issuer.OnMethod)},
		{"flow", "authorization code, with PKCE S256 or without PKCE", i.Advice(issuer.OnFlow)},
		{"redirect URLs", redirects, i.Advice(issuer.OnRedirect)},
		{"scopes", login.ScopeParameter(), i.Advice(issuer.OnScope)},
		{"signature", "RS256", i.Advice(issuer.OnSigning)},
	}
	if advice := i.Advice(issuer.OnNames); advice != "" {
		entries = append(entries, Entry{"users", "by the claim " + login.UsernameClaim, advice})
	}
	if login.GroupsClaim != "" {
		entries = append(entries, Entry{"groups", "as a list in the claim " + login.GroupsClaim, i.Advice(issuer.OnGroups)})
	}
	return entries
}

// The pauses between two questions to an issuer that does not know the client yet: of those that cost a right client nothing, and of
// those that may be refused.
const (
	lookEvery = 10 * time.Second
	askEvery  = time.Minute
)

// Wait is a wait for an issuer to accept the login request of a client, with each redirect URL.
type Wait struct {
	Client *issuer.Client
	Target config.Target
	known  issuer.Known
	asked  time.Time    // in full
	found  *check.Check // then
}

// Until asks the issuer until it does not refuse the login request any more, and at most until the given time. It does not ask about
// the key: an issuer counts refused keys. told hears what is missing. It returns what was missing at the end, and nil if nothing is.
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

// ask returns what makes the issuer refuse the login request now. Only a question in full tells what it is.
func (w *Wait) ask(ctx context.Context) (*check.Check, error) {
	i, err := Look(ctx, w.Client, w.Target, realm.Version{})
	if err != nil {
		return nil, err
	}
	if failed := check.Failures(i.Checks); len(failed) > 0 {
		return &failed[0], nil
	}
	q := issuer.Question{Login: w.Target.Realm.Login(), KeyUnknown: true, RedirectsDeclared: true, Depth: issuer.Full, Known: w.known}
	if time.Since(w.asked) < askEvery {
		q.Depth = issuer.Free
	}
	for _, u := range w.Target.Verify.RedirectURLs {
		q.RedirectURLs = append(q.RedirectURLs, string(u))
	}
	answer := i.Client(ctx, q)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	w.known = answer.Known
	switch found, ok := check.Find(answer.Checks, check.ClientRedirect); {
	case answer.Redirect.Decision == issuer.Accepted:
		return nil, nil
	case q.Depth == issuer.Free:
	case ok && found.Status == check.Fail:
		w.found, w.asked = &found, time.Now()
	default:
		return nil, nil
	}
	return w.found, nil
}
