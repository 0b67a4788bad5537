package issuer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
)

// unusable tells why an answer is not a JSON document of one of the media types. The check is zero if it is one.
func (a answer) unusable(what string, types ...string) check.Check {
	media, _, _ := strings.Cut(strings.ToLower(a.header.Get("Content-Type")), ";")
	media = cmp.Or(strings.TrimSpace(media), "without a content type")
	accepted := slices.ContainsFunc(types, func(accepted string) bool { return strings.HasPrefix(media, accepted) })
	if a.err == nil && a.status == http.StatusOK && accepted {
		return check.Check{}
	}
	shown, log := a.clean.Clean(a.url), check.Hint("read the log of the issuer and of the proxy in front of it")
	seen := fmt.Sprintf("%s is %s: %s", shown, a.clean.Clean(media), a.excerpt())
	switch {
	case errors.Is(a.err, context.Canceled):
		return skip("interrupted before the %s arrived", what)
	case errors.Is(a.err, context.DeadlineExceeded):
		return fail(log+": logins would wait as long", "the %s did not arrive in time", what).
			Because("%s: gave up after %s and %d bytes", shown, a.took.Round(100*time.Millisecond), len(a.body))
	case errors.Is(a.err, errRedirectAway):
		return fail("let this host serve it over https, without a redirect",
			"the request for the %s is redirected to another host or away from https", what).
			Because("%s answers %d and points to %s", shown, a.status, a.clean.Clean(a.location.String()))
	case a.err != nil:
		return fail(log, "the request for the %s failed", what).Because("%s: %s", shown, a.clean.Clean(reason(a.err)))
	case a.status == http.StatusTooManyRequests:
		return skip("the issuer limits requests").Because("%s answers 429%s", shown, again(a.retryAfter()))
	case a.status == http.StatusUnauthorized || a.status == http.StatusForbidden:
		return fail("let the proxy in front of the issuer pass the paths of OpenID Connect without a login",
			"the issuer answers %d to the request for the %s", a.status, what).Because("%s answers %d: %s", shown, a.status, a.excerpt())
	case a.status != http.StatusOK:
		return fail(log, "the issuer answers %d to the request for the %s", a.status, what).
			Because("%s answers %d: %s", shown, a.status, a.excerpt())
	case strings.Contains(media, "html"):
		return fail("correct the path in the issuer, or in the proxy in front of it: a web page answers there", "the %s is not JSON", what).
			Because("%s", seen)
	}
	return fail("serve the document as application/json", "the %s is not JSON", what).Because("%s", seen)
}

// reason strips what net/http puts in front of the cause of an error.
func reason(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Sprint(err)
}

// excerpt returns the beginning of what a reader sees of a body, cleaned.
func (a answer) excerpt() string { return cmp.Or(a.clean.Clean(visible(a.body)), "(empty)") }
