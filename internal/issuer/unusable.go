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

// unusable tells why an answer is no JSON document of one of the media types. The check is zero if it is one.
func (a answer) unusable(what string, types ...string) check.Check {
	seeLog := check.SeeLog("the log of the issuer and of the proxy in front of it")
	because, shown := a.clean.Clean(reason(a.err)), a.clean.Clean(a.url)
	switch {
	case a.err == nil:
		return a.unusableContent(what, types)
	case errors.Is(a.err, errRedirectAway):
		return a.redirectedAway(what)
	case errors.Is(a.err, context.Canceled):
		return skip("interrupted before the %s came", what)
	case errors.Is(a.err, context.DeadlineExceeded):
		because = fmt.Sprintf("gave up after %s and %d bytes", a.took.Round(100*time.Millisecond), len(a.body))
		return fail(check.Remedy{seeLog.With("logins would wait as long")}, "the %s did not come in time", what).
			Because("%s: %s", shown, because)
	case errors.Is(a.err, errRedirects):
		return fail(check.Remedy{seeLog}, "the request for the %s is redirected in a loop", what).Because("%s: %s", shown, because)
	case a.stage < stageSent:
		return fail(check.Remedy{check.Advise("correct the address in the issuer's discovery document")},
			"no connection to the %s", what).Because("%s: %s", shown, because)
	}
	return fail(check.Remedy{seeLog}, "the %s did not come whole", what).Because("%s: %s", shown, because)
}

// unusableContent judges a whole answer.
func (a answer) unusableContent(what string, types []string) check.Check {
	media, _, _ := strings.Cut(strings.ToLower(a.header.Get("Content-Type")), ";")
	media = cmp.Or(strings.TrimSpace(media), "without a content type")
	step := check.Advise("serve the document as application/json")
	switch {
	case a.status == http.StatusTooManyRequests:
		return skip("the issuer limits requests").Because("%s answers 429%s", a.clean.Clean(a.url), again(a.retryAfter()))
	case a.status != http.StatusOK:
		return fail(check.Remedy{statusStep(a.status)}, "the issuer answers %d to the request for the %s", a.status, what).
			Because("%s answers %d: %s", a.clean.Clean(a.url), a.status, a.excerpt())
	case slices.ContainsFunc(types, func(accepted string) bool { return strings.HasPrefix(media, accepted) }):
		return check.Check{}
	case strings.Contains(media, "html"):
		step = check.Set("realm.issuer_url", "").With("a web page answers there: correct the path here or in the proxy")
	}
	return fail(check.Remedy{step}, "the %s is not JSON", what).
		Because("%s is %s: %s", a.clean.Clean(a.url), a.clean.Clean(media), a.excerpt())
}

// redirectedAway words a redirect to another host or away from https. The agent does not follow it.
func (a answer) redirectedAway(what string) check.Check {
	remedy := check.Remedy{check.Advise("let this host serve it over https, without a redirect")}
	if base, ok := strings.CutSuffix(a.location.String(), "/.well-known/openid-configuration"); ok && requestable(base) {
		adopt := check.Set("realm.issuer_url", a.clean.Clean(base)).With("if that is the issuer")
		remedy = append(check.Remedy{adopt}, remedy...)
	}
	return fail(remedy, "the request for the %s is redirected to another host or away from https", what).
		Because("%s answers %d and points to %s", a.clean.Clean(a.url), a.status, a.clean.Clean(a.location.String()))
}

// statusStep says what to do about an answer that is not 200.
func statusStep(status int) check.Step {
	switch status {
	case http.StatusNotFound:
		return check.Set("realm.issuer_url", "").With("the issuer has no document there: correct the path")
	case http.StatusBadRequest:
		return check.Set("realm.issuer_url", "").With("correct the host: Authelia answers only at its configured addresses")
	case http.StatusUnauthorized, http.StatusForbidden:
		return check.Advise("let the proxy in front of the issuer pass the paths of OpenID Connect without a login")
	}
	return check.SeeLog("the log of the issuer and of the proxy in front of it")
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

var (
	tags  = regexp.MustCompile(`(?s)<(?:script|style)\b.*?</(?:script|style)>|<[^>]*>`)
	space = regexp.MustCompile(`\s+`)
)

// maxExcerpt is the length of an excerpt, in characters.
const maxExcerpt = 200

// excerpt returns the beginning of a body's text, cleaned and without markup.
func (a answer) excerpt() string {
	text := a.clean.Clean(plainText(a.body))
	if runes := []rune(text); len(runes) > maxExcerpt {
		text = string(runes[:maxExcerpt-1]) + "…"
	}
	if text == "" {
		return "(empty)"
	}
	return text
}

// plainText removes the markup from the first 64 KiB of a page.
func plainText(body []byte) string {
	text := tags.ReplaceAllString(string(body[:min(len(body), 64<<10)]), " ")
	return strings.TrimSpace(space.ReplaceAllString(text, " "))
}

// listed returns the words, or "none".
func listed(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, " ")
}

// counted returns "1 key", "2 keys".
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
