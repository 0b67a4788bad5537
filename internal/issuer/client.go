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
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// MadeUp is the invalid code or token that client questions send. An administrator finds it in the issuer's log.
const MadeUp = "proxmox-realm-verify"

// Question asks an issuer about a client.
type Question struct {
	Login             realm.Login // without a key: a public client
	KeyUnknown        bool        // the client may have a key that is unknown here: client.credentials is skipped
	RedirectURLs      []string    // what browsers open; none: client.redirect is skipped
	RedirectsDeclared bool        // false: an unknown redirect URL is a warning, not a failure
	Depth             Depth       // what the question may cost the issuer
	Known             Known       // what is remembered of this client; the zero value: nothing
	Limited           time.Time   // the issuer answered 429 before, and is asked nothing until then; zero: it did not
}

// Depth says what a [Question] may cost. A made-up code, key or client id leaves an error line in an issuer's log, and
// counts toward its limits.
type Depth int

// The depths.
const (
	// Free asks only what a right client costs nothing: introspection about the key, where it is advertised, and a login
	// request with prompt=none for each redirect URL. It is for questions that repeat.
	Free Depth = iota
	// Full asks token endpoint and authorization endpoint, with control questions as far as needed. It sends at most four
	// token requests.
	Full
	// Person also finds out why a client is refused, for somebody who waits for the answer. It sends at most six token requests.
	Person
)

// Known is what is remembered of an issuer's answers about one client, for 30 days and as long as the discovery document
// stays the same. It holds digests of answers, and no text of the issuer. A caller stores [Answer.Known] by issuer, client
// id, a keyed digest of the client key and redirect URLs, and passes it with the next [Question].
type Known struct {
	Document string    `json:"document,omitempty"` // digest of the discovery document
	Asked    time.Time `json:"asked,omitzero"`     // when the oldest of the answers came
}

// WithoutKey returns what does not depend on the client key, for a question about another key of the same client.
func (k Known) WithoutKey() Known { return k }

// Answer is what an issuer said to a [Question].
type Answer struct {
	Checks      []check.Check // client.credentials, client.redirect
	Credentials Verdict
	Redirect    Verdict // the worst of all redirect URLs, rejections first
	Known       Known   // to be remembered; what was passed with the question is part of it
}

// Proven returns what the answer proved about logins.
func (a Answer) Proven() Proven { return ProvenBy(a.Checks) }

// Proven is what an issuer's answers about a client proved. What the issuer advertises about the same is not judged then.
type Proven struct {
	Key     bool // the issuer accepts the client with its key by client_secret_basic
	Request bool // the issuer accepts the login request with each redirect URL: code flow, scopes, S256 and prompt
}

// ProvenBy returns what findings prove, remembered ones too.
func ProvenBy(checks []check.Check) Proven {
	credentials, _ := check.Find(checks, check.ClientCredentials)
	redirect, _ := check.Find(checks, check.ClientRedirect)
	return Proven{Key: credentials.Status == check.Pass, Request: redirect.Status == check.Pass}
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

// Client asks whether the issuer accepts client id and key, and redirect URLs and scopes. It asks each question once in
// an inspection, however many callers there are, and nothing more after a first 429. It sends the key only to an https
// endpoint of an issuer that this machine trusts, and never along a redirect. Before that, the checks of identity and
// endpoints must pass.
func (i *Inspection) Client(ctx context.Context, q Question) Answer {
	i.questions.limitedUntil(q.Limited)
	secrets := []check.Secret{q.Login.ClientKey} // the issuer may echo it, also as it was sent
	if q.Login.ClientKey.IsSet() {
		secrets = append(secrets, basicPair(q.Login))
	}
	i.client.cleaner.Hold(secrets...)
	defer i.client.cleaner.Release(secrets...)
	worst := noVerdict("no redirect URL is known")
	var redirects []Verdict
	var accepted string
	for _, redirectURL := range q.RedirectURLs {
		v := i.askRedirect(ctx, q.Login, redirectURL)
		if v.Decision == Accepted {
			accepted = redirectURL
		}
		if len(redirects) == 0 || v.severity() > worst.severity() {
			worst = v
		}
		redirects = append(redirects, v)
	}
	credentials := noVerdict("the client key is not known here")
	if !q.KeyUnknown {
		credentials = i.askKey(ctx, q, accepted)
	}
	if credentials.about == ofKey && worst.about == ofClient {
		credentials.about = ofClient // the token endpoint does not tell an unknown client from a wrong key
	}
	checks := []check.Check{i.checkCredentials(q, credentials), i.checkRedirects(q, worst, redirects)}
	for n, c := range checks {
		checks[n] = i.client.cleaner.HideIn(c)
	}
	return Answer{
		Checks:      checks,
		Credentials: credentials,
		Redirect:    worst,
		Known:       q.Known,
	}
}

// severity orders the verdicts on redirect URLs. A rejection for another reason concerns every redirect URL.
func (v Verdict) severity() int {
	switch {
	case v.Decision == Rejected && v.about != ofRedirect:
		return 5
	case v.Decision == Rejected:
		return 4
	case v.Decision == RateLimited:
		return 3
	case v.warns:
		return 2
	case v.Decision == NoVerdict:
		return 1
	}
	return 0
}

// questions remembers what was asked, and what the issuer said.
type questions struct {
	flight   singleflight.Group
	verdicts sync.Map                      // question to Verdict
	limit    atomic.Pointer[time.Duration] // of the first 429: when to ask again; 0: the issuer did not say
}

// note remembers a first 429.
func (q *questions) note(a answer) {
	if after := a.retryAfter(); a.status == http.StatusTooManyRequests {
		q.limit.CompareAndSwap(nil, &after)
	}
}

// limitedUntil takes over a 429 of an earlier run that holds until a time.
func (q *questions) limitedUntil(until time.Time) {
	if after := time.Until(until).Round(time.Second); after > 0 {
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

// once asks a question once for all callers. If the caller that asks is interrupted, the next one asks.
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

// usable tells whether client questions may be asked. If not, the verdict says why.
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

// askKey asks about client id and key. The redirect URL is one that the issuer accepts, or "": some issuers judge it before
// the key. An introspection of a made-up token (RFC 7662) tells the same as the exchange of a made-up code.
func (i *Inspection) askKey(ctx context.Context, q Question, redirectURL string) Verdict {
	if v, ok := i.usable(ctx); !ok {
		return v
	}
	l, p := q.Login, i.provider()
	if checkIdentity(i, View{}).Status != check.Pass {
		return noVerdict("needs %s", check.IssuerIdentity)
	}
	if checkEndpoints(i, View{Login: l}).Status != check.Pass {
		return noVerdict("needs %s", check.IssuerEndpoints)
	}
	known := redirectURL != ""
	if !known && len(q.RedirectURLs) > 0 {
		redirectURL = q.RedirectURLs[0]
	}
	at, endpoint, form := "token", i.document.TokenEndpoint, exchange(l, redirectURL)
	if q.Depth == Free && l.ClientKey.IsSet() && !p.BlindIntrospection && i.document.introspection().secure() {
		at, endpoint, form = "introspection", i.document.introspection(), url.Values{"token": {MadeUp}}
	}
	digest := sha256.Sum256([]byte(l.ClientKey.Reveal()))
	question := fmt.Sprintf("%s %q %x %t %t", at, l.ClientID, digest, l.ClientKey.IsSet(), known)
	return i.questions.once(ctx, question, func() Verdict {
		a := i.post(ctx, string(endpoint), l, form)
		return i.finish(a, keyVerdict(at, a, p, known))
	})
}

// exchange returns the form that exchanges a made-up code, as Proxmox would send a real one (RFC 6749 section 4.1.3, RFC 7636
// section 4.5). The error tells whether the issuer accepts the client.
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

// basicPair returns client id and key as they are sent, each form-encoded before Base64 (RFC 6749 section 2.3.1).
func basicPair(l realm.Login) check.Secret {
	return check.NewSecret(url.QueryEscape(l.ClientID) + ":" + url.QueryEscape(l.ClientKey.Reveal()))
}

// post sends a form with client id and key.
func (i *Inspection) post(ctx context.Context, endpoint string, l realm.Login, form url.Values) answer {
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}}
	if l.ClientKey.IsSet() {
		header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(basicPair(l).Reveal())))
	}
	return i.send(ctx, http.MethodPost, endpoint, header, form.Encode())
}

// send sends one request for a client question. It follows no redirect.
func (i *Inspection) send(ctx context.Context, method, address string, header http.Header, body string) answer {
	r := &recorder{client: i.client, transport: i.client.verified, follow: noRedirect}
	free, err := i.client.slots.take(ctx, address)
	if err != nil {
		return r.result(err)
	}
	defer free()
	a := i.client.send(ctx, r, method, address, header, body)
	if method == http.MethodGet && errors.Is(a.err, errTooLarge) {
		a.err = nil // the beginning of a page is enough
	}
	i.questions.note(a)
	return a
}

// finish cleans the reason of a verdict and adds how long the answer took.
func (i *Inspection) finish(a answer, v Verdict) Verdict {
	clean := i.client.cleaner
	v.Reason, v.took = clean.Clean(v.Reason), a.took
	i.client.log.Debug("issuer asked about a client", "url", clean.Clean(a.endpoint()),
		"status", a.status, "decision", v.Decision)
	return v
}

func (i *Inspection) askRedirect(ctx context.Context, l realm.Login, redirectURL string) Verdict {
	if v, ok := i.usable(ctx); !ok {
		return v
	}
	endpoint := i.document.AuthorizationEndpoint
	if !endpoint.secure() {
		return noVerdict("needs %s", check.IssuerEndpoints)
	}
	question := fmt.Sprintf("redirect %q %q %q %q", l.ClientID, l.ScopeParameter(), l.ACRValues, redirectURL)
	return i.questions.once(ctx, question, func() Verdict {
		header := http.Header{"Accept": {"text/html, application/json;q=0.9"}}
		a := i.send(ctx, http.MethodGet, authorizationURL(string(endpoint), l, redirectURL), header, "")
		return i.finish(a, requestVerdict(a, i.provider(), redirectURL))
	})
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

// random returns 52 random characters, fit for a state, a nonce and a code verifier.
func random() string { return rand.Text() + rand.Text() }

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
			remedy = check.Hints(check.Set("realm.client_key_file", "").With("the issuer requires a key of this client"))
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
	}
	urls := strings.Join(unknown, ", ")
	register := check.Hintf("register in the issuer, exactly so: %s", urls).With("Authelia: redirect_uris of the client")
	c := check.Skipped(id, "not checked: %s", worst.Reason)
	switch {
	case worst.Decision == Accepted:
		c = check.Passed(id, "the issuer accepts %s and the scopes for this client",
			check.Count(len(each), "redirect URL", "redirect URLs"))
	case worst.Decision == Rejected && worst.about != ofRedirect:
		c = check.Failed(id, worst.about.remedy(q.Login), "the issuer rejects the %s of the client %s", worst.about, client)
	case worst.Decision == Rejected && q.RedirectsDeclared:
		correct := check.Set("verify.redirect_urls", "").With("if browsers open another address, such as one with port 8006")
		c = check.Failed(id, check.Hints(register, correct), "the issuer does not know the redirect URL %s", urls)
	case worst.Decision == Rejected:
		c = check.Warned(id, check.Hints(check.Set("verify.redirect_urls", "").With("what browsers open"), register),
			"the issuer does not know the redirect URL %s, taken from the endpoint", urls)
	case worst.warns:
		c = check.Warned(id, check.Hints(check.Hint("read the issuer's log").With("users may see the same error")),
			"the issuer answers the login request with an error page: %s", worst.Reason)
	}
	return c.Because("%s", i.client.cleaner.Clean(strings.Join(evidence, "; "))).Took(took)
}
