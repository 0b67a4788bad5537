package issuer

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Decision is what an issuer makes of a client.
type Decision int

// The decisions.
const (
	NoVerdict   Decision = iota // the answer proves nothing, or the issuer was not asked
	Accepted                    // the issuer accepts the client
	Rejected                    // the issuer rejects the client: a login through Proxmox would fail
	RateLimited                 // the issuer limits requests (429): try again later
)

// String returns "not checked", "accepted", "rejected" or "rate-limited".
func (d Decision) String() string {
	return [...]string{"not checked", "accepted", "rejected", "rate-limited"}[d]
}

// Verdict is a decision with its reason, for a gate to act upon.
type Verdict struct {
	Decision   Decision
	Reason     string        // what the issuer said, cleaned
	RetryAfter time.Duration // if RateLimited; 0: the issuer did not say

	about subject // of a rejection
	warns bool    // with NoVerdict: the issuer shows an error page of its own
	took  time.Duration
}

// noVerdict returns a verdict that proves nothing, with its reason.
func noVerdict(format string, args ...any) Verdict {
	return Verdict{Reason: fmt.Sprintf(format, args...)}
}

// oauthError is an error answer (RFC 6749 section 5.2). The hint is Authelia's.
type oauthError struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
	Hint        string `json:"error_hint"`
}

// String returns "invalid_scope: description hint".
func (e oauthError) String() string {
	return strings.TrimSuffix(e.Code+": "+strings.TrimSpace(e.Description+" "+e.Hint), ": ")
}

func (e oauthError) verdict(at string, p provider, format string, args ...any) Verdict {
	v := find(at, p.Name, e.Code, e.Description+" "+e.Hint)
	v.Reason = fmt.Sprintf(format, args...)
	return v
}

// endpoint returns the address that answered, without its query.
func (a answer) endpoint() string {
	bare, _, _ := strings.Cut(a.url, "?")
	return bare
}

// missing returns the verdict if no answer came, or only one that limits requests.
func (a answer) missing() (Verdict, bool) {
	switch {
	case errors.Is(a.err, context.DeadlineExceeded):
		return noVerdict("%s did not answer in time", a.endpoint()), true
	case a.err != nil:
		return noVerdict("%s: %s", a.endpoint(), reason(a.err)), true
	case a.status == http.StatusTooManyRequests:
		after := a.retryAfter()
		said := fmt.Sprintf("%s answers 429%s", a.endpoint(), again(after))
		return Verdict{Decision: RateLimited, Reason: said, RetryAfter: after}, true
	}
	return Verdict{}, false
}

// oauthError reads the error in an answer's body; false if there is none.
func (a answer) oauthError() (e oauthError, ok bool) {
	err := json.Unmarshal(a.body, &e)
	return e, err == nil && e.Code != ""
}

// keyVerdict reads an answer of the token or introspection endpoint. RedirectKnown tells that the issuer accepts the
// redirect URL of the request.
func keyVerdict(at string, a answer, p provider, redirectKnown bool) Verdict {
	if v, missing := a.missing(); missing {
		return v
	}
	var found struct{ Active *bool } // RFC 7662 section 2.2
	if at == "introspection" && a.status == http.StatusOK && json.Unmarshal(a.body, &found) == nil && found.Active != nil {
		return Verdict{Decision: Accepted, Reason: fmt.Sprintf("the introspection endpoint answers: active %t", *found.Active)}
	}
	e, ok := a.oauthError()
	if !ok {
		return noVerdict("%s answers %d without an OAuth error: %s", a.endpoint(), a.status, a.excerpt())
	}
	v := e.verdict(at, p, "%d %s", a.status, e)
	refusals := map[string][]int{"token": {400, 401, 403}, "introspection": {401}}
	if !slices.Contains(refusals[at], a.status) || v.Decision == Rejected && p.ChecksRedirect && !redirectKnown {
		v.Decision = NoVerdict
	}
	return v
}

// waiting are the errors of an issuer that accepts the request and would now ask the user. See OpenID Connect Core 1.0
// section 3.1.2.6; the last one is Google's.
var waiting = []string{
	"login_required", "interaction_required", "consent_required", "account_selection_required", "immediate_failed",
}

// requestVerdict reads an answer of the authorization endpoint to a request with prompt=none.
func requestVerdict(a answer, p provider, redirectURL string) Verdict {
	if v, missing := a.missing(); missing {
		return v
	}
	e, isError := a.oauthError()
	switch {
	case a.location != nil:
		return redirectVerdict(a.location, p, redirectURL)
	case isError && a.status >= 400:
		return ownPage(e.verdict("request", p, "%d %s", a.status, e))
	case a.status >= 400 || p.PagesWith200:
		if v := find("page", p.Name, "", string(a.body)); v.Decision != NoVerdict {
			v.Reason = fmt.Sprintf("a page of status %d says: %s", a.status, v.Reason)
			return v
		}
	}
	if a.status == http.StatusOK {
		return noVerdict("the issuer shows a page despite prompt=none")
	}
	v := noVerdict("%s answers %d: %s", a.endpoint(), a.status, a.excerpt())
	v.warns = a.status == http.StatusBadRequest // another status may come from a proxy
	return v
}

// ownPage marks an error that the issuer shows on its own page: users would end there too.
func ownPage(v Verdict) Verdict {
	v.warns = v.Decision == NoVerdict
	return v
}

// redirectVerdict reads where the issuer sends the browser: back to Proxmox, to an error page of its own, or to a
// login.
func redirectVerdict(to *url.URL, p provider, redirectURL string) Verdict {
	said, back := to.Query(), sameTarget(to, redirectURL)
	e := oauthError{Code: said.Get("error"), Description: said.Get("error_description"), Hint: said.Get("error_hint")}
	v := e.verdict("request", p, "%s", e)
	switch {
	case back && (said.Has("code") || slices.Contains(waiting, e.Code)):
		return Verdict{Decision: Accepted, Reason: cmp.Or(e.Code, "the issuer gives a code")}
	case back && (v.about == ofRedirect || e.Code == "invalid_request" && v.about != ofPlain):
		return noVerdict("%s", e) // the issuer does accept the redirect URL, for it redirects there
	case back && e.Code != "":
		return v
	case back:
		return noVerdict("the issuer redirects back without an error and without a code")
	case e.Code != "":
		v.Reason = "the issuer's own page says: " + v.Reason
		v.warns = v.Decision == NoVerdict && !slices.Contains(waiting, e.Code) // Proxmox does not send prompt=none
		return v
	case said.Has("authError"): // Google: Base64 of a protocol buffer
		text, _ := base64.RawURLEncoding.DecodeString(strings.TrimRight(said.Get("authError"), "="))
		v = find("page", p.Name, "", string(text))
		v.Reason = "the issuer's own page says: " + cmp.Or(v.Reason, "error")
		return ownPage(v)
	}
	return noVerdict("the issuer redirects to %s despite prompt=none", answer{url: to.String()}.endpoint())
}

// sameTarget tells whether a redirect goes to the redirect URL, whatever its parameters.
func sameTarget(location *url.URL, redirectURL string) bool {
	want, err := url.Parse(redirectURL)
	if err != nil {
		return false
	}
	path := func(u *url.URL) string { return "/" + strings.TrimPrefix(u.EscapedPath(), "/") }
	return location.Scheme == want.Scheme && strings.EqualFold(location.Host, want.Host) && path(location) == path(want)
}
