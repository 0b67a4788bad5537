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
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// MadeUp is the code, and the token, that client questions present. An administrator who finds it in the issuer's log
// knows where it came from.
const MadeUp = "proxmox-realm-verify"

// Decision is what an issuer makes of a client.
type Decision int

// The decisions.
const (
	NoVerdict   Decision = iota // the answer proves nothing, or nothing could be asked
	Accepted                    // the issuer takes it
	Rejected                    // the issuer refuses it: a login through Proxmox would fail
	RateLimited                 // the issuer limits requests (429): try again later
)

// String returns "no verdict", "accepted", "rejected" or "rate-limited".
func (d Decision) String() string {
	return [...]string{"no verdict", "accepted", "rejected", "rate-limited"}[d]
}

// Verdict is a decision with its reason, for a gate to act upon.
type Verdict struct {
	Decision   Decision
	Reason     string        // what the issuer said, cleaned
	RetryAfter time.Duration // where the decision is RateLimited; 0: the issuer did not say

	about subject // of a rejection
	took  time.Duration
}

// Question asks an issuer about a client.
type Question struct {
	Login             realm.Login // without a key: a public client
	KeyUnknown        bool        // the client may have a key that is not known here: client.credentials is skipped
	RedirectURLs      []string    // what browsers open; none: client.redirect is skipped
	RedirectsDeclared bool        // false: a refused redirect URL warns instead of failing
	Cheap             bool        // asked repeatedly: introspection in place of the token endpoint, where it proves something
}

// Answer is what an issuer said to a [Question].
type Answer struct {
	Checks      []check.Check // client.credentials, client.redirect
	Credentials Verdict
	Redirect    Verdict // the worst over all redirect URLs, rejections first
}

// RateLimited tells whether the issuer limited one of the requests, and after which time it may be asked again
// (0: it did not say).
func (a Answer) RateLimited() (retryAfter time.Duration, limited bool) {
	for _, v := range []Verdict{a.Credentials, a.Redirect} {
		if v.Decision == RateLimited {
			retryAfter, limited = max(retryAfter, v.RetryAfter), true
		}
	}
	return retryAfter, limited
}

// Client asks whether the issuer accepts client id and key, and redirect URLs and scopes. Each distinct question
// is asked once for an inspection, however many callers have it; after a first 429, nothing more is asked.
// The key is sent only to an https endpoint of an issuer whose identity and endpoints hold, never along a redirect.
func (i *Inspection) Client(ctx context.Context, q Question) Answer {
	i.client.cleaner.Hold(q.Login.ClientKey)
	redirect, verdicts := i.askRedirects(ctx, q)
	accepted := slices.IndexFunc(verdicts, func(v Verdict) bool { return v.Decision == Accepted })

	var credentials Verdict
	switch {
	case q.KeyUnknown:
		credentials.Reason = "the client key is not known here"
	case accepted >= 0:
		credentials = i.accepts(ctx, q.Login, q.RedirectURLs[accepted], true, q.Cheap)
	case len(q.RedirectURLs) > 0:
		credentials = i.accepts(ctx, q.Login, q.RedirectURLs[0], false, q.Cheap)
	default:
		credentials = i.accepts(ctx, q.Login, "", false, q.Cheap)
	}
	return Answer{
		Checks:      []check.Check{i.credentialsCheck(q, credentials), i.redirectCheck(q, redirect, verdicts)},
		Credentials: credentials,
		Redirect:    redirect,
	}
}

// Accepts asks, in the way that costs the issuer least, whether it accepts this key for the client of the login. The rules of
// [Inspection.Client] apply.
func (i *Inspection) Accepts(ctx context.Context, l realm.Login, key check.Secret) Verdict {
	i.client.cleaner.Hold(key)
	// A redirect URL that was accepted before helps with issuers that look at it first.
	q, known := i.redirects.find(func(q redirectQuestion, v Verdict) bool { return q.clientID == l.ClientID && v.Decision == Accepted })
	l.ClientKey = key
	return i.accepts(ctx, l, q.redirectURL, known, true)
}

// barred tells why nothing may be asked now.
func (i *Inspection) barred(ctx context.Context) (Verdict, bool) {
	if i.Wait(ctx) != nil {
		return Verdict{Reason: "interrupted"}, true
	}
	if after, limited := i.limit.get(); limited {
		return Verdict{Decision: RateLimited, Reason: "the issuer limits requests, so nothing more is asked", RetryAfter: after}, true
	}
	if i.docErr.Status != "" || i.address.Status == check.Fail {
		return Verdict{Reason: "the issuer's discovery document is not usable"}, true
	}
	return Verdict{}, false
}

// credentialsQuestion is one question about id and key. It holds a digest, so that no rendering shows the key.
type credentialsQuestion struct {
	clientID      string
	key           [sha256.Size]byte
	public, quiet bool
	knownRedirect bool
}

// accepts asks about id and key. redirectURL is presented with the code; known tells that the issuer takes it.
func (i *Inspection) accepts(ctx context.Context, l realm.Login, redirectURL string, known, quiet bool) Verdict {
	if v, barred := i.barred(ctx); barred {
		return v
	}
	if c := checkIdentity(i, View{}); c.Status != check.Pass {
		return Verdict{Reason: "not asked: " + string(check.IssuerIdentity) + " does not hold"}
	}
	if c := checkEndpoints(i, View{Login: l}); c.Status != check.Pass {
		return Verdict{Reason: "not asked: " + string(check.IssuerEndpoints) + " does not hold"}
	}
	quiet = quiet && l.ClientKey.IsSet() && i.introspects()
	q := credentialsQuestion{
		clientID: l.ClientID, key: sha256.Sum256([]byte(l.ClientKey.Reveal())), public: !l.ClientKey.IsSet(), quiet: quiet, knownRedirect: known,
	}
	v, err := i.credentials.ask(ctx, q, func() Verdict {
		if v, barred := i.barred(ctx); barred {
			return v
		}
		if quiet {
			return i.introspect(ctx, l)
		}
		return i.exchange(ctx, l, redirectURL, known)
	})
	if err != nil {
		return Verdict{Reason: "interrupted"}
	}
	return v
}

// introspects tells whether the issuer has an introspection endpoint whose answer depends on the key. Dex does not ask
// who asks (server/introspectionhandler.go), and authentik answers a wrong key like an unknown token (views/introspection.py).
func (i *Inspection) introspects() bool {
	p := i.product()
	return secureEndpoint(i.document.IntrospectionEndpoint) && p != dex && p != authentik
}

// exchange presents a made-up code at the token endpoint, as Proxmox would a real one (RFC 6749 section 4.1.3, RFC 7636
// section 4.5): the refusal tells whether the client was recognised.
func (i *Inspection) exchange(ctx context.Context, l realm.Login, redirectURL string, known bool) Verdict {
	form := url.Values{"grant_type": {"authorization_code"}, "code": {MadeUp}, "code_verifier": {random()}}
	if redirectURL != "" {
		form.Set("redirect_uri", redirectURL)
	}
	if !l.ClientKey.IsSet() {
		form.Set("client_id", l.ClientID)
	}
	a := i.post(ctx, i.document.TokenEndpoint, l, form)
	return i.verdict(a, tokenVerdict(a, i.product(), known))
}

// introspect asks about a made-up token (RFC 7662): an issuer answers that to clients it recognises alone.
func (i *Inspection) introspect(ctx context.Context, l realm.Login) Verdict {
	a := i.post(ctx, i.document.IntrospectionEndpoint, l, url.Values{"token": {MadeUp}})
	return i.verdict(a, introspectionVerdict(a))
}

// maxAnswer is how much of an answer to a client question is looked at.
const maxAnswer = 256 << 10

// post sends a form with the client's id and key, each form-encoded before Base64 (RFC 6749 section 2.3.1).
func (i *Inspection) post(ctx context.Context, endpoint string, l realm.Login, form url.Values) answer {
	ctx, cancel := context.WithTimeout(ctx, i.client.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return answer{url: endpoint, err: err, clean: i.client.cleaner}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	if l.ClientKey.IsSet() {
		pair := check.NewSecret(url.QueryEscape(l.ClientID) + ":" + url.QueryEscape(l.ClientKey.Reveal()))
		i.client.cleaner.Hold(pair) // in Base64 too, should the issuer echo the header
		req.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(pair.Reveal())))
	}
	a := i.client.once(req, maxAnswer)
	i.limit.note(a)
	return a
}

// verdict completes and cleans what was made of an answer.
func (i *Inspection) verdict(a answer, v Verdict) Verdict {
	v.Reason, v.took = i.client.cleaner.Clean(v.Reason), a.took
	i.client.log.Debug("issuer asked about a client", "url", i.client.cleaner.Clean(endpointOf(a.url)), "status", a.status, "verdict", v.Decision.String())
	return v
}

// endpointOf returns a URL without its query.
func endpointOf(address string) string {
	bare, _, _ := strings.Cut(address, "?")
	return bare
}

// redirectQuestion is one question about a redirect URL.
type redirectQuestion struct{ clientID, scopes, acrValues, redirectURL string }

// askRedirects asks about each redirect URL and returns the worst verdict with each.
func (i *Inspection) askRedirects(ctx context.Context, q Question) (worst Verdict, each []Verdict) {
	if len(q.RedirectURLs) == 0 {
		return Verdict{Reason: "no redirect URL is known"}, nil
	}
	for n, redirectURL := range q.RedirectURLs {
		v := i.askRedirect(ctx, q.Login, redirectURL)
		each = append(each, v)
		if n == 0 || worse(v, worst) {
			worst = v
		}
	}
	return worst, each
}

// worse orders rejected, rate-limited, no verdict, accepted.
func worse(a, b Verdict) bool {
	rank := map[Decision]int{Accepted: 0, NoVerdict: 1, RateLimited: 2, Rejected: 3}
	return rank[a.Decision] > rank[b.Decision]
}

func (i *Inspection) askRedirect(ctx context.Context, l realm.Login, redirectURL string) Verdict {
	if v, barred := i.barred(ctx); barred {
		return v
	}
	if !secureEndpoint(i.document.AuthorizationEndpoint) {
		return Verdict{Reason: "not asked: " + string(check.IssuerEndpoints) + " does not hold"}
	}
	q := redirectQuestion{l.ClientID, l.ScopeParameter(), strings.Join(l.ACRValues, " "), redirectURL}
	v, err := i.redirects.ask(ctx, q, func() Verdict {
		if v, barred := i.barred(ctx); barred {
			return v
		}
		return i.authorize(ctx, l, redirectURL)
	})
	if err != nil {
		return Verdict{Reason: "interrupted"}
	}
	return v
}

// authorize sends the authorization request that Proxmox would make, with prompt=none in place of a login (OpenID Connect
// Core 1.0 section 3.1.2.1), and follows nothing.
func (i *Inspection) authorize(ctx context.Context, l realm.Login, redirectURL string) Verdict {
	address, err := authorizationURL(i.document.AuthorizationEndpoint, l, redirectURL)
	if err != nil {
		return Verdict{Reason: "not asked: the authorization endpoint is not a URL"}
	}
	a := i.visit(ctx, address)
	if p := i.product(); p == dex && dexGoesOn(a, i.document.AuthorizationEndpoint) {
		// Dex looks at the request only at the address of its one connector.
		a = i.visit(ctx, a.location.String())
		return i.verdict(a, dexVerdict(a, redirectURL))
	}
	return i.verdict(a, authorizationVerdict(a, i.product(), redirectURL))
}

func (i *Inspection) visit(ctx context.Context, address string) answer {
	ctx, cancel := context.WithTimeout(ctx, i.client.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return answer{url: address, err: err, clean: i.client.cleaner}
	}
	req.Header.Set("Accept", "text/html, application/json;q=0.9")
	a := i.client.once(req, maxAnswer)
	if errors.Is(a.err, errTooLarge) {
		a.err = nil // the beginning of a page is enough
	}
	i.limit.note(a)
	return a
}

// authorizationURL forms the request as proxmox-openid does (src/lib.rs, authorize_url).
func authorizationURL(endpoint string, l realm.Login, redirectURL string) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "", err
	}
	state, err := json.Marshal(map[string]string{"csrf_token": random(), "realm": l.Realm})
	if err != nil {
		return "", err
	}
	challenge := sha256.Sum256([]byte(random()))
	query := u.Query() // an endpoint may bring parameters of its own (RFC 6749 section 3.1)
	for name, value := range map[string]string{
		"response_type":         "code",
		"client_id":             l.ClientID,
		"redirect_uri":          redirectURL,
		"scope":                 l.ScopeParameter(),
		"state":                 string(state),
		"nonce":                 random(),
		"code_challenge":        base64.RawURLEncoding.EncodeToString(challenge[:]),
		"code_challenge_method": "S256",
		"display":               "page",
		"prompt":                "none",
	} {
		query.Set(name, value)
	}
	if len(l.ACRValues) > 0 {
		query.Set("acr_values", strings.Join(l.ACRValues, " "))
	}
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// random returns 43 characters that a state, a nonce or a code verifier may consist of.
func random() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// credentialsCheck is client.credentials.
func (i *Inspection) credentialsCheck(q Question, v Verdict) check.Check {
	c := check.Skipped(check.ClientCredentials, "no verdict on client id and key")
	client := i.client.cleaner.Clean(q.Login.ClientID)
	switch v.Decision {
	case Accepted:
		c = check.Passed(check.ClientCredentials, "the issuer accepts the client %s with its key", client)
		if !q.Login.ClientKey.IsSet() {
			c = check.Passed(check.ClientCredentials, "the issuer accepts %s as a public client, without a key", client)
		}
	case Rejected:
		hint := credentialsHint(v)
		if !q.Login.ClientKey.IsSet() {
			hint = "set realm.client_key_file: the realm has no key, and the issuer wants one of this client"
		}
		c = check.Failed(check.ClientCredentials, check.Advice(hint), "the issuer refuses the client %s", client)
	case RateLimited:
		c = check.Skipped(check.ClientCredentials, "the issuer limits requests%s", again(v))
	case NoVerdict:
	}
	return c.Because("%s", v.Reason).Took(v.took)
}

// redirectCheck is client.redirect.
func (i *Inspection) redirectCheck(q Question, worst Verdict, each []Verdict) check.Check {
	var evidence []string
	var took time.Duration
	for n, v := range each {
		evidence = append(evidence, fmt.Sprintf("%s: %s", q.RedirectURLs[n], said(v)))
		took += v.took
	}
	if len(each) == 0 {
		evidence = []string{worst.Reason}
	}
	var c check.Check
	switch worst.Decision {
	case Accepted:
		c = check.Passed(check.ClientRedirect, "the issuer accepts %s and the scopes for this client", counted(len(each), "redirect URL"))
	case Rejected:
		c = i.refusal(q, each)
	case RateLimited:
		c = check.Skipped(check.ClientRedirect, "the issuer limits requests%s", again(worst))
	case NoVerdict:
		c = check.Skipped(check.ClientRedirect, "no verdict on redirect URLs and scopes")
	}
	return c.Because("%s", i.client.cleaner.Clean(strings.Join(evidence, "; "))).Took(took)
}

// refusal words the rejections: those of client and scopes before those of single redirect URLs.
func (i *Inspection) refusal(q Question, each []Verdict) check.Check {
	var refused []string
	for n, v := range each {
		if v.Decision != Rejected {
			continue
		}
		if v.about != ofRedirect {
			return check.Failed(check.ClientRedirect, check.Advice(requestHint(v, q.Login)), "the issuer refuses the %s", v.about)
		}
		refused = append(refused, i.client.cleaner.Clean(q.RedirectURLs[n]))
	}
	urls := strings.Join(refused, ", ")
	hint := "add to the client's redirect URIs in the issuer (Authelia: redirect_uris), exactly so: " + urls
	if q.RedirectsDeclared {
		return check.Failed(check.ClientRedirect, check.Advice(hint), "the issuer does not know the redirect URL %s", urls)
	}
	return check.Warned(check.ClientRedirect, check.Advice("name what browsers open in verify.redirect_urls; if that is it, "+hint),
		"the issuer does not know the redirect URL %s, taken from the endpoint", urls)
}

func said(v Verdict) string {
	if v.Reason == "" {
		return v.Decision.String()
	}
	return v.Decision.String() + " (" + v.Reason + ")"
}

func again(v Verdict) string {
	if v.RetryAfter > 0 {
		return fmt.Sprintf(": ask again in %s", v.RetryAfter)
	}
	return ": ask again later"
}
