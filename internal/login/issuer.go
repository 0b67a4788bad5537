package login

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

// askIssuer checks, before the user has to log in, whether the issuer works and accepts the redirect URL. If not, it returns
// the checks that say why.
func (r *rehearsal) askIssuer(ctx context.Context) ([]check.Check, error) {
	if r.inspection.Wait(ctx) != nil {
		return nil, context.Cause(ctx)
	}
	if _, ok := r.inspection.AuthorizationEndpoint(); !ok || !r.inspection.Quick() {
		checks := r.inspection.Checks(r.view(ctx))
		if failed := check.Failures(checks); len(failed) > 0 {
			return findings(checks), check.Errorf(check.LoginFailed, "the issuer cannot be used: %s: %s",
				failed[0].ID, failed[0].Summary).Try(failed[0].Hint)
		}
		return nil, check.Errorf(check.LoginFailed,
			"the issuer answers too slowly: Proxmox is not asked, because a silent issuer blocks one of the node's workers").
			Try("it shows how it answers:\n    {probe}", check.Hint("try again when it is faster"))
	}
	answer := r.inspection.Client(ctx, r.question(true))
	switch answer.Redirect.Decision {
	case issuer.Rejected:
		found, _ := check.Find(answer.Checks, check.ClientRedirect)
		said := check.Errorf(check.LoginFailed, "%s", found.Summary).Try(found.Hint, r.registration())
		if !strings.Contains(found.Summary, answer.Redirect.Reason) {
			said.Message += ": " + answer.Redirect.Reason
		}
		return nil, said
	case issuer.RateLimited, issuer.NoVerdict:
		r.Note("not checked whether the issuer knows the redirect URL: " + answer.Redirect.Reason)
	case issuer.Accepted:
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, nil
}

// registration says how the redirect URL gets into Authelia's configuration. `authelia --with-login` prints the usual
// one, which stands for any port of 127.0.0.1.
func (r *rehearsal) registration() check.Hint {
	if r.inspection.Provider() != "Authelia" || !strings.HasPrefix(r.redirectURL, "http://"+loopback+":") {
		return ""
	}
	return "it prints a client for Authelia that has it; restart Authelia afterwards:\n    {authelia --with-login}"
}

func (r *rehearsal) question(keyUnknown bool) issuer.Question {
	return issuer.Question{
		Login: r.held, KeyUnknown: keyUnknown, RedirectURLs: []string{r.redirectURL}, RedirectsDeclared: true, Depth: issuer.Person,
	}
}

func (r *rehearsal) view(ctx context.Context) issuer.View {
	offset, known := r.node.ClockOffset()
	view := issuer.View{Login: r.held, Version: realm.Version{Product: r.Target.Realm.Product}, ClockOffset: offset, ClockKnown: known, MaxSkew: r.Target.Verify.MaxClockSkew}
	if r.inspection.NeedsVersion() {
		version, err := r.node.Version(ctx)
		if err != nil {
			r.Log.Debug("asking for the version", "error", err)
			return view
		}
		view.Version = version
	}
	return view
}

// findings returns the checks that warn or fail.
func findings(checks []check.Check) []check.Check {
	return slices.DeleteFunc(slices.Clone(checks), func(c check.Check) bool {
		return c.Status != check.Fail && c.Status != check.Warn
	})
}

// misdirected says why no browser may be sent to an authorization URL. It must lead to the authorization endpoint that the
// issuer names to this machine, if the issuer was inspected.
func misdirected(made proxmox.AuthURL, seen *issuer.Inspection) []string {
	unsafe := func(r rune) bool { return r <= ' ' || r >= 0x7f }
	switch {
	case !strings.HasPrefix(made.Location, "https://") || strings.ContainsFunc(made.Raw, unsafe):
		return []string{"it is not an https URL"}
	case seen != nil && !seen.IsAuthorizationEndpoint(made.Location):
		endpoint, _ := seen.AuthorizationEndpoint()
		return []string{fmt.Sprintf("it leads to %s instead of the issuer's authorization endpoint %s", made.Location, endpoint)}
	}
	return nil
}
