package setup

import (
	"context"
	"net/url"
	"strings"

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
	return i.inspection != nil && i.inspection.OffersScope(scope) || i.SwitchedOff() && scope == defaultGroupsClaim
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
