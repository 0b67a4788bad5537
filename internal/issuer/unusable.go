package issuer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
)

// unusable tells why an answer is not a JSON document of one of the media types. The check is zero if it is one.
func (a answer) unusable(what string, types ...string) check.Check {
	shown, log := a.clean.Clean(a.url), check.Hint("read the log of the issuer and of the proxy in front of it")
	media, _, _ := strings.Cut(strings.ToLower(a.header.Get("Content-Type")), ";")
	media = cmp.Or(strings.TrimSpace(media), "without a content type")
	seen := fmt.Sprintf("%s is %s: %s", shown, a.clean.Clean(media), a.excerpt())
	switch {
	case errors.Is(a.err, context.Canceled):
		return skip("interrupted before the %s arrived", what)
	case errors.Is(a.err, context.DeadlineExceeded):
		return fail(check.Hints(log.With("logins would wait as long")), "the %s did not arrive in time", what).
			Because("%s: gave up after %s and %d bytes", shown, a.took.Round(100*time.Millisecond), len(a.body))
	case errors.Is(a.err, errRedirectAway):
		return a.redirectedAway(what)
	case a.err != nil:
		return fail(check.Hints(log), "the request for the %s failed", what).
			Because("%s: %s", shown, a.clean.Clean(reason(a.err)))
	case a.status == http.StatusTooManyRequests:
		return skip("the issuer limits requests").Because("%s answers 429%s", shown, again(a.retryAfter()))
	case a.status != http.StatusOK:
		return fail(check.Hints(statusStep(a.status)), "the issuer answers %d to the request for the %s", a.status, what).
			Because("%s answers %d: %s", shown, a.status, a.excerpt())
	case strings.Contains(media, "html"):
		page := check.Set("realm.issuer_url", "").With("a web page answers there: correct the path here or in the proxy")
		return fail(check.Hints(page), "the %s is not JSON", what).Because("%s", seen)
	case !slices.ContainsFunc(types, func(accepted string) bool { return strings.HasPrefix(media, accepted) }):
		return fail("serve the document as application/json", "the %s is not JSON", what).
			Because("%s", seen)
	}
	return check.Check{}
}

// redirectedAway is the finding for a redirect to another host or away from https, which is not followed.
func (a answer) redirectedAway(what string) check.Check {
	remedy := check.Hint("let this host serve it over https, without a redirect")
	if base, ok := strings.CutSuffix(a.location.String(), "/.well-known/openid-configuration"); ok && requestable(base) {
		adopt := check.Set("realm.issuer_url", a.clean.Clean(base)).With("if that is the issuer")
		remedy = check.Hints(adopt, remedy)
	}
	return fail(remedy, "the request for the %s is redirected to another host or away from https", what).
		Because("%s answers %d and points to %s", a.clean.Clean(a.url), a.status, a.clean.Clean(a.location.String()))
}

// statusStep says what to do about a status other than 200.
func statusStep(status int) check.Hint {
	switch status {
	case http.StatusNotFound, http.StatusBadRequest: // Authelia answers 400 at addresses that it is not configured for
		return check.Set("realm.issuer_url", "").With("correct its host or path: no discovery document is there")
	case http.StatusUnauthorized, http.StatusForbidden:
		return check.Hint("let the proxy in front of the issuer pass the paths of OpenID Connect without a login")
	}
	return check.Hint("read the log of the issuer and of the proxy in front of it")
}

// reason strips what net/http puts in front of the cause of an error.
func reason(err error) string {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Sprint(err)
}

// again returns ", again in 30s", or "" if the issuer named no time.
func again(after time.Duration) string {
	if after <= 0 {
		return ""
	}
	return fmt.Sprintf(", again in %s", after)
}

var tags = regexp.MustCompile(`(?s)<(?:script|style)\b.*?</(?:script|style)>|<[^>]*>`)

// excerpt returns the beginning of a body's text, cleaned and without markup.
func (a answer) excerpt() string {
	text := tags.ReplaceAllString(string(a.body[:min(len(a.body), 64<<10)]), " ")
	return cmp.Or(a.clean.Clean(strings.Join(strings.Fields(text), " ")), "(empty)")
}

// listed returns the words, or "none".
func listed(words []string) string { return cmp.Or(strings.Join(words, " "), "none") }
