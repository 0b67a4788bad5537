package login

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/issuer"
	"proxmox-realm/internal/realm"
)

// askIssuer finds out whether the issuer can be used and would send a browser back here. If not, it returns the checks that
// say why. It runs before the user has to log in.
func (r *rehearsal) askIssuer(ctx context.Context) ([]check.Check, error) {
	if r.inspection.Wait(ctx) != nil {
		return nil, context.Cause(ctx)
	}
	if _, ok := r.inspection.AuthorizationEndpoint(); !ok || !r.inspection.Quick() {
		checks := r.inspection.Checks(r.view(ctx))
		if failed := check.Failures(checks); len(failed) > 0 {
			return findings(checks), check.Errorf(check.LoginFailed, "the issuer cannot be used: %s: %s",
				failed[0].ID, failed[0].Summary).Try(failed[0].Remedy...)
		}
		return nil, check.Errorf(check.LoginFailed,
			"the issuer answers too slowly: Proxmox is not asked, because a silent issuer blocks one of the node's workers").
			Try(check.Run("probe").With("shows how it answers"), check.Advise("try again when it is faster"))
	}
	answer := r.inspection.Client(ctx, r.question(true))
	switch answer.Redirect.Decision {
	case issuer.Rejected:
		found, _ := check.Find(answer.Checks, check.ClientRedirect)
		return nil, check.Errorf(check.LoginFailed, "%s: %s", found.Summary, answer.Redirect.Reason).
			Try(append(slices.Clone(found.Remedy), r.registration()...)...)
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
func (r *rehearsal) registration() []check.Step {
	if !strings.HasPrefix(r.redirectURL, "http://"+loopback+":") {
		return nil
	}
	return []check.Step{
		check.Run("authelia --with-login").With("prints a client for Authelia that has it; restart Authelia afterwards"),
	}
}

func (r *rehearsal) question(keyUnknown bool) issuer.Question {
	return issuer.Question{
		Login: r.held, KeyUnknown: keyUnknown, RedirectURLs: []string{r.redirectURL}, RedirectsDeclared: true,
	}
}

func (r *rehearsal) view(ctx context.Context) issuer.View {
	offset, known := r.node.ClockOffset()
	view := issuer.View{Login: r.held, ClockOffset: offset, ClockKnown: known, MaxSkew: r.Target.Verify.MaxClockSkew}
	if r.inspection.NeedsVersion() {
		var err error
		if view.Version, err = r.node.Version(ctx); err != nil {
			r.Log.Debug("asking for the version", "error", err)
		}
	}
	return view
}

// findings returns the checks that warn or fail.
func findings(checks []check.Check) []check.Check {
	return slices.DeleteFunc(slices.Clone(checks), func(c check.Check) bool {
		return c.Status != check.Fail && c.Status != check.Warn
	})
}

// minEntropy is the least length of a state or a nonce: shorter ones could be guessed, and issuers refuse them.
const minEntropy = 8

// examine lists what is wrong with an authorization URL. It must lead to the authorization endpoint that the issuer names
// to this machine ("": not known here) and hold the request that the realm should make (OpenID Connect Core 1.0
// section 3.1.2.1, RFC 7636 section 4.3).
func examine(address, endpoint string, login realm.Login, redirectURL string) []string {
	if strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return []string{"it holds characters that a URL cannot have"}
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return []string{"it is not an https URL"}
	}
	var wrong []string
	if endpoint != "" && !sameLocation(u, endpoint) {
		bare := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
		wrong = append(wrong, fmt.Sprintf("it leads to %s instead of the issuer's authorization endpoint %s",
			bare.String(), endpoint))
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return append(wrong, "its query cannot be read")
	}
	want := func(name, value string) {
		if list := query[name]; len(list) != 1 || list[0] != value {
			wrong = append(wrong, fmt.Sprintf("%s is %q, not %q", name, list, value))
		}
	}
	want("response_type", "code")
	want("client_id", login.ClientID)
	want("redirect_uri", redirectURL)
	want("code_challenge_method", "S256")
	for _, name := range []string{"state", "nonce", "code_challenge"} { // their values are not shown
		if list := query[name]; len(list) != 1 || len(list[0]) < minEntropy {
			wrong = append(wrong, name+" is absent, too short or repeated")
		}
	}
	if !slices.Contains(strings.Fields(query.Get("scope")), "openid") {
		wrong = append(wrong, "scope lacks openid")
	}
	return wrong
}

// sameLocation tells whether two URLs are equal without their queries. The port 443 and an empty path may be written or
// left out.
func sameLocation(u *url.URL, endpoint string) bool {
	v, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	port := func(u *url.URL) string {
		if p := u.Port(); p != "" {
			return p
		}
		return "443"
	}
	path := func(u *url.URL) string { return "/" + strings.TrimPrefix(u.EscapedPath(), "/") }
	return u.Scheme == v.Scheme && strings.EqualFold(u.Hostname(), v.Hostname()) && port(u) == port(v) && path(u) == path(v)
}
