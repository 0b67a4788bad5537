package issuer

import (
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
	shown := a.clean.Clean(a.url)
	switch {
	case errors.Is(a.err, errRedirectAway):
		return a.redirectedAway(what)
	case errors.Is(a.err, errRedirects):
		return fail(check.Remedy{check.Advise("remove the redirect loop in the issuer, or in the proxy in front of it")},
			"the request for the %s is redirected in a loop", what).Because("%s after %d redirects", shown, a.redirected)
	case errors.Is(a.err, context.DeadlineExceeded):
		return fail(check.Remedy{check.SeeLog("the log of the issuer and of the proxy in front of it").With("logins would wait as long")},
			"the %s did not come in time", what).
			Because("%s: gave up after %s and %d bytes", shown, a.took.Round(100*time.Millisecond), len(a.body))
	case errors.Is(a.err, context.Canceled):
		return skip("interrupted before the %s came", what)
	case errors.Is(a.err, errTooLarge):
		return fail(check.Remedy{check.Advise("let the issuer serve the document there")}, "the %s is %s", what, a.err).Because("%s", shown)
	case a.err != nil && a.stage < stageSent:
		return fail(check.Remedy{check.Advise("correct the address in the issuer's discovery document")}, "no connection to the %s", what).
			Because("%s: %s", shown, a.clean.Clean(reason(a.err)))
	case a.err != nil:
		return fail(check.Remedy{check.SeeLog("the log of the issuer and of the proxy in front of it")}, "the %s did not come whole", what).
			Because("%s: %s", shown, a.clean.Clean(reason(a.err)))
	case a.status == http.StatusTooManyRequests:
		return skip("the issuer limits requests").Because("%s answers 429%s", shown, again(a.retryAfter()))
	case a.status != http.StatusOK:
		return fail(check.Remedy{statusStep(a.status)}, "the issuer answers %d to the request for the %s", a.status, what).
			Because("%s answers %d: %s", shown, a.status, a.excerpt())
	}
	media, _, _ := strings.Cut(strings.ToLower(a.header.Get("Content-Type")), ";")
	media = strings.TrimSpace(media)
	if slices.ContainsFunc(types, func(accepted string) bool { return strings.HasPrefix(media, accepted) }) {
		return check.Check{}
	}
	step := check.Advise("serve the document as application/json")
	if strings.Contains(media, "html") {
		step = check.Set("realm.issuer_url", "").With("a web page answers there: correct its path, or the path that the proxy passes on")
	}
	if media == "" {
		media = "without a content type"
	}
	return fail(check.Remedy{step}, "the %s is not JSON", what).Because("%s is %s: %s", shown, a.clean.Clean(media), a.excerpt())
}

// redirectedAway words a redirect that the agent and Proxmox do not follow alike.
func (a answer) redirectedAway(what string) check.Check {
	to := a.clean.Clean(a.location.String())
	evidence := fmt.Sprintf("%s answers %d and points to %s", a.clean.Clean(a.url), a.status, to)
	if a.location.Scheme != "https" {
		return fail(check.Remedy{check.Advise("let the issuer serve it over https, without a redirect")},
			"the request for the %s is redirected away from https", what).Because("%s", evidence)
	}
	remedy := check.Remedy{check.Advise("let this host serve it, without a redirect")}
	if base, ok := strings.CutSuffix(a.location.String(), "/.well-known/openid-configuration"); ok && requestable(base) {
		adopt := check.Set("realm.issuer_url", a.clean.Clean(base)).With("if that is the issuer")
		remedy = append(check.Remedy{adopt}, remedy...)
	}
	return fail(remedy, "the request for the %s is redirected to another host", what).Because("%s", evidence)
}

// statusStep says what to do about an answer that is not 200.
func statusStep(status int) check.Step {
	switch {
	case status == http.StatusNotFound:
		return check.Set("realm.issuer_url", "").With("the issuer has no document there: correct the path")
	case status == http.StatusBadRequest:
		return check.Set("realm.issuer_url", "").With("correct the host: Authelia answers only at its configured addresses")
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return check.Advise("let the proxy in front of the issuer pass the paths of OpenID Connect without a login")
	case status >= 300 && status < 400:
		return check.Advise("let the issuer serve it without a redirect")
	}
	return check.SeeLog("the log of the issuer and of the proxy in front of it")
}

// reason strips what net/http puts in front of the cause of an error.
func reason(err error) string {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err
	}
	return err.Error()
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
