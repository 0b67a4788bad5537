package issuer

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// MadeUp is the code, and the token, of client questions. An administrator finds it in the issuer's log.
const MadeUp = "proxmox-realm-verify"

// maxAnswer is how much of an answer to a client question is read.
const maxAnswer = 256 << 10

// Question asks an issuer about a client.
type Question struct {
	Login             realm.Login // without a key: a public client
	KeyUnknown        bool        // the client may have a key that is unknown here: client.credentials is skipped
	RedirectURLs      []string    // what browsers open; none: client.redirect is skipped
	RedirectsDeclared bool        // false: an unknown redirect URL is a warning, not a failure
	Cheap             bool        // the question repeats: introspection replaces the token endpoint if it proves something
}

// Answer is what an issuer said to a [Question].
type Answer struct {
	Checks      []check.Check // client.credentials, client.redirect
	Credentials Verdict
	Redirect    Verdict // the worst of all redirect URLs, rejections first
}

// RateLimited tells whether the issuer limited one of the requests, and when it may be asked again (0: it did not
// say).
func (a Answer) RateLimited() (retryAfter time.Duration, limited bool) {
	for _, v := range []Verdict{a.Credentials, a.Redirect} {
		if v.Decision == RateLimited {
			retryAfter, limited = max(retryAfter, v.RetryAfter), true
		}
	}
	return retryAfter, limited
}

// Client asks whether the issuer accepts client id and key, and redirect URLs and scopes. It asks each question once
// in an inspection, however many callers there are, and nothing more after a first 429. It sends the key only to an
// https endpoint of an issuer that this machine trusts and whose identity and endpoints hold, and never along a
// redirect.
func (i *Inspection) Client(ctx context.Context, q Question) Answer {
	i.client.cleaner.Hold(q.Login.ClientKey)
	var redirects []Verdict
	for _, redirectURL := range q.RedirectURLs {
		redirects = append(redirects, i.askRedirect(ctx, q.Login, redirectURL))
	}
	worst := noVerdict("no redirect URL is known")
	if len(redirects) > 0 {
		worst = slices.MaxFunc(redirects, func(a, b Verdict) int { return severity(a) - severity(b) })
	}
	credentials := noVerdict("the client key is not known here")
	if !q.KeyUnknown {
		credentials = i.askKey(ctx, q.Login, q.RedirectURLs, q.Cheap)
	}
	return Answer{
		Checks:      []check.Check{i.checkCredentials(q, credentials), i.checkRedirects(q, worst, redirects)},
		Credentials: credentials,
		Redirect:    worst,
	}
}

// Accepts asks, in the way that costs the issuer least, whether it accepts this key for the client of the login. The
// rules of [Inspection.Client] apply.
func (i *Inspection) Accepts(ctx context.Context, l realm.Login, key check.Secret) Verdict {
	i.client.cleaner.Hold(key)
	l.ClientKey = key
	return i.askKey(ctx, l, nil, true)
}

// severity orders accepted, not checked, not checked with an error page, rate-limited, rejected.
func severity(v Verdict) int {
	rank := map[Decision]int{Accepted: 0, NoVerdict: 1, RateLimited: 3, Rejected: 4}[v.Decision]
	if v.warns {
		rank++
	}
	return rank
}

// questions remembers what was asked, and what the issuer said.
type questions struct {
	flight    singleflight.Group
	verdicts  sync.Map                      // question to Verdict
	redirects sync.Map                      // client id to a redirect URL that the issuer accepts
	limit     atomic.Pointer[time.Duration] // of the first 429: when to ask again; 0: the issuer did not say
}

// note remembers a first 429.
func (q *questions) note(a answer) {
	if after := a.retryAfter(); a.status == http.StatusTooManyRequests {
		q.limit.CompareAndSwap(nil, &after)
	}
}

// limited returns the verdict of an issuer that limits requests; false if it does not.
func (q *questions) limited() (Verdict, bool) {
	after := q.limit.Load()
	if after == nil {
		return Verdict{}, false
	}
	reason := "the issuer limits requests" + again(*after)
	return Verdict{Decision: RateLimited, Reason: reason, RetryAfter: *after}, true
}

// once asks a question once, however many callers have it. If the caller that asks is interrupted, the next one asks.
func (q *questions) once(ctx context.Context, question string, ask func() Verdict) Verdict {
	for ctx.Err() == nil {
		said, err, _ := q.flight.Do(question, func() (any, error) {
			if v, known := q.verdicts.Load(question); known {
				return v, nil
			}
			if v, limited := q.limited(); limited {
				return v, nil
			}
			v := ask()
			if ctx.Err() == nil {
				q.verdicts.Store(question, v)
			}
			return v, ctx.Err()
		})
		if v, ok := said.(Verdict); ok && err == nil {
			return v
		}
	}
	return noVerdict("interrupted")
}

// usable tells whether the inspection found what client questions need; if not, the verdict says why.
func (i *Inspection) usable(ctx context.Context) (Verdict, bool) {
	if i.Wait(ctx) != nil {
		return noVerdict("interrupted"), false
	}
	if v, limited := i.questions.limited(); limited {
		return v, false
	}
	switch {
	case i.distrust != nil:
		return noVerdict("this machine does not trust the issuer's certificate"), false
	case i.documentErr.Status != "" || checkURL(i.issuer).Status == check.Fail:
		return noVerdict("needs %s", check.IssuerDiscovery), false
	}
	return Verdict{}, true
}

// askKey asks about client id and key. A redirect URL that the issuer accepts helps with issuers that judge it first.
func (i *Inspection) askKey(ctx context.Context, l realm.Login, redirectURLs []string, cheap bool) Verdict {
	if v, ok := i.usable(ctx); !ok {
		return v
	}
	if checkIdentity(i, View{}).Status != check.Pass {
		return noVerdict("needs %s", check.IssuerIdentity)
	}
	if checkEndpoints(i, View{Login: l}).Status != check.Pass {
		return noVerdict("needs %s", check.IssuerEndpoints)
	}
	redirectURL := strings.Join(redirectURLs[:min(len(redirectURLs), 1)], "")
	accepted, known := i.questions.redirects.Load(l.ClientID)
	if known {
		redirectURL, _ = accepted.(string)
	}
	cheap = cheap && l.ClientKey.IsSet() && !i.provider().BlindIntrospection && secureEndpoint(i.document.IntrospectionEndpoint)
	digest := sha256.Sum256([]byte(l.ClientKey.Reveal()))
	question := fmt.Sprintf("key %q %x %t %t %t", l.ClientID, digest, l.ClientKey.IsSet(), cheap, known)
	return i.questions.once(ctx, question, func() Verdict {
		at, endpoint, form := "token", i.document.TokenEndpoint, exchange(l, redirectURL)
		if cheap {
			at, endpoint, form = "introspection", i.document.IntrospectionEndpoint, url.Values{"token": {MadeUp}}
		}
		a := i.post(ctx, endpoint, l, form)
		return i.finish(a, keyVerdict(at, a, i.provider(), known))
	})
}

// exchange is the request of a made-up code, as Proxmox would send a real one (RFC 6749 section 4.1.3, RFC 7636
// section 4.5). The error tells whether the issuer accepts the client. An introspection of a made-up token (RFC 7662)
// tells the same.
func exchange(l realm.Login, redirectURL string) url.Values {
	form := url.Values{"grant_type": {"authorization_code"}, "code": {MadeUp}, "code_verifier": {random()}}
	if redirectURL != "" {
		form.Set("redirect_uri", redirectURL)
	}
	if !l.ClientKey.IsSet() {
		form.Set("client_id", l.ClientID)
	}
	return form
}

// post sends a form with client id and key, each form-encoded before Base64 (RFC 6749 section 2.3.1).
func (i *Inspection) post(ctx context.Context, endpoint string, l realm.Login, form url.Values) answer {
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}}
	if l.ClientKey.IsSet() {
		pair := check.NewSecret(url.QueryEscape(l.ClientID) + ":" + url.QueryEscape(l.ClientKey.Reveal()))
		i.client.cleaner.Hold(pair) // the issuer may echo it
		header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(pair.Reveal())))
	}
	return i.send(ctx, http.MethodPost, endpoint, header, form.Encode())
}

// send sends one request for a client question. It follows no redirect.
func (i *Inspection) send(ctx context.Context, method, address string, header http.Header, body string) answer {
	r := &recorder{client: i.client, transport: i.client.verified, limit: maxAnswer, follow: noRedirect}
	a := i.client.send(ctx, r, method, address, header, body)
	if method == http.MethodGet && errors.Is(a.err, errTooLarge) {
		a.err = nil // the beginning of a page is enough
	}
	i.questions.note(a)
	return a
}

// finish cleans a verdict and adds what is known of the answer.
func (i *Inspection) finish(a answer, v Verdict) Verdict {
	clean := i.client.cleaner
	v.Reason, v.took = clean.Clean(v.Reason), a.took
	i.client.log.Debug("issuer asked about a client", "url", clean.Clean(a.endpoint()), "status", a.status, "decision", v.Decision)
	return v
}

func (i *Inspection) askRedirect(ctx context.Context, l realm.Login, redirectURL string) Verdict {
	if v, ok := i.usable(ctx); !ok {
		return v
	}
	if !secureEndpoint(i.document.AuthorizationEndpoint) {
		return noVerdict("needs %s", check.IssuerEndpoints)
	}
	question := fmt.Sprintf("redirect %q %q %q %q", l.ClientID, l.ScopeParameter(), l.ACRValues, redirectURL)
	v := i.questions.once(ctx, question, func() Verdict {
		header := http.Header{"Accept": {"text/html, application/json;q=0.9"}}
		a := i.send(ctx, http.MethodGet, authorizationURL(i.document.AuthorizationEndpoint, l, redirectURL), header, "")
		return i.finish(a, requestVerdict(a, i.provider(), redirectURL))
	})
	if v.Decision == Accepted {
		i.questions.redirects.Store(l.ClientID, redirectURL)
	}
	return v
}

// authorizationURL forms the request as proxmox-openid does (src/lib.rs, authorize_url), but with prompt=none, so
// that the issuer asks no user (OpenID Connect Core 1.0 section 3.1.2.1).
func authorizationURL(endpoint string, l realm.Login, redirectURL string) string {
	u, _ := url.Parse(endpoint) // a secure endpoint
	state, _ := json.Marshal(map[string]string{"csrf_token": random(), "realm": l.Realm})
	challenge := sha256.Sum256([]byte(random()))
	query := u.Query() // an endpoint may have parameters of its own (RFC 6749 section 3.1)
	query.Set("response_type", "code")
	query.Set("client_id", l.ClientID)
	query.Set("redirect_uri", redirectURL)
	query.Set("scope", l.ScopeParameter())
	query.Set("state", string(state))
	query.Set("nonce", random())
	query.Set("code_challenge", base64.RawURLEncoding.EncodeToString(challenge[:]))
	query.Set("code_challenge_method", "S256")
	query.Set("display", "page")
	query.Set("prompt", "none")
	if len(l.ACRValues) > 0 {
		query.Set("acr_values", strings.Join(l.ACRValues, " "))
	}
	u.RawQuery = query.Encode()
	return u.String()
}

// random returns 43 characters that a state, a nonce or a code verifier may consist of.
func random() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// checkCredentials is client.credentials.
func (i *Inspection) checkCredentials(q Question, v Verdict) check.Check {
	const id = check.ClientCredentials
	client, hasKey := i.client.cleaner.Clean(q.Login.ClientID), q.Login.ClientKey.IsSet()
	c := check.Skipped(id, "not checked: %s", v.Reason)
	switch {
	case v.Decision == Accepted && hasKey:
		c = check.Passed(id, "the issuer accepts the client %s with its key", client).Because("%s", v.Reason)
	case v.Decision == Accepted:
		c = check.Passed(id, "the issuer accepts the public client %s, without a key", client).Because("%s", v.Reason)
	case v.Decision == Rejected:
		remedy := v.about.remedy(q.Login)
		if !hasKey {
			remedy = check.Remedy{check.Set("realm.client_key_file", "").With("the issuer requires a key of this client")}
		}
		c = check.Failed(id, remedy, "the issuer rejects the %s of the client %s", v.about, client).Because("%s", v.Reason)
	}
	return c.Took(v.took)
}

// checkRedirects is client.redirect.
func (i *Inspection) checkRedirects(q Question, worst Verdict, each []Verdict) check.Check {
	const id = check.ClientRedirect
	client := i.client.cleaner.Clean(q.Login.ClientID)
	var evidence, unknown []string
	var took time.Duration
	for n, v := range each {
		evidence = append(evidence, fmt.Sprintf("%s: %s (%s)", q.RedirectURLs[n], v.Decision, v.Reason))
		if v.about == ofRedirect {
			unknown = append(unknown, i.client.cleaner.Clean(q.RedirectURLs[n]))
		}
		took += v.took
		if v.Decision == Rejected && v.about != ofRedirect {
			worst = v // it concerns every redirect URL
		}
	}
	urls := strings.Join(unknown, ", ")
	register := check.Advise("register in the issuer, exactly so: %s", urls).With("Authelia: redirect_uris of the client")
	c := check.Skipped(id, "not checked: %s", worst.Reason)
	switch {
	case worst.Decision == Accepted:
		c = check.Passed(id, "the issuer accepts %s and the scopes for this client", counted(len(each), "redirect URL"))
	case worst.Decision == Rejected && worst.about != ofRedirect:
		c = check.Failed(id, worst.about.remedy(q.Login), "the issuer rejects the %s of the client %s", worst.about, client)
	case worst.Decision == Rejected && q.RedirectsDeclared:
		c = check.Failed(id, check.Remedy{register}, "the issuer does not know the redirect URL %s", urls)
	case worst.Decision == Rejected:
		c = check.Warned(id, check.Remedy{check.Set("verify.redirect_urls", "").With("what browsers open"), register},
			"the issuer does not know the redirect URL %s, taken from the endpoint", urls)
	case worst.warns:
		c = check.Warned(id, check.Remedy{check.SeeLog("the issuer's log").With("users may see the same error")},
			"the issuer answers the login request with an error page: %s", worst.Reason)
	}
	return c.Because("%s", i.client.cleaner.Clean(strings.Join(evidence, "; "))).Took(took)
}
