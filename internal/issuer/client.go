package issuer

import (
	"cmp"
	"context"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

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
	// Free asks only what a right client costs nothing. That is a login request with prompt=none for each redirect URL, and
	// introspection about the key, where it is advertised. It is for questions that repeat, and may tell less than the others.
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

	WentBack    bool `json:"went_back,omitempty"`   // a login request with prompt=none ended at the redirect URL
	RedirectURL Mark `json:"redirect_url,omitzero"` // the answer of the authorization endpoint to a made-up redirect URL
	ClientID    Mark `json:"client_id,omitzero"`    // and to a made-up client id

	Client        Mark `json:"client,omitzero"`        // the answer of the token endpoint to a made-up client id
	Introspection Mark `json:"introspection,omitzero"` // the answer of the introspection endpoint to a made-up key

	// What follows is about this very key.
	Key     Mark  `json:"key,omitzero"`     // the answer of the token endpoint to a made-up key of the same characters
	Proven  bool  `json:"proven,omitempty"` // introspection told the key from a made-up one
	Refused Mark  `json:"refused,omitzero"` // the answer to the key for which a person was told the cause
	Cause   cause `json:"cause,omitempty"`  // that cause
}

// knownFor is how long answers to made-up values are remembered.
const knownFor = 30 * 24 * time.Hour

// at returns what is still known of an issuer with this discovery document.
func (k Known) at(document string, now time.Time) Known {
	if age := now.Sub(k.Asked); k.Document != document || age < 0 || age > knownFor {
		return Known{Document: document}
	}
	return k
}

// WithoutKey returns what does not depend on the client key, for a question about another key of the same client.
func (k Known) WithoutKey() Known {
	k.Key, k.Proven, k.Refused, k.Cause = Mark{}, false, Mark{}, ""
	return k
}

// with returns what is known by k or by other, without what other knows of a key.
func (k Known) with(other Known) Known {
	k.WentBack = k.WentBack || other.WentBack
	k.RedirectURL, k.ClientID = cmp.Or(k.RedirectURL, other.RedirectURL), cmp.Or(k.ClientID, other.ClientID)
	k.Client, k.Introspection = cmp.Or(k.Client, other.Client), cmp.Or(k.Introspection, other.Introspection)
	if k.Asked.IsZero() || !other.Asked.IsZero() && other.Asked.Before(k.Asked) {
		k.Asked = other.Asked
	}
	return k
}

// Answer is what an issuer said to a [Question].
type Answer struct {
	Checks      []check.Check // client.credentials, client.redirect
	Credentials Verdict
	Redirect    Verdict // the worst of all redirect URLs, rejections first
	Known       Known   // to be remembered; what was passed with the question is part of it

	limit *Verdict // a 429, whatever was decided; nil: there was none
}

// Decision is what an issuer makes of a client.
type Decision int

// The decisions.
const (
	NoVerdict   Decision = iota // the answers prove nothing, or the issuer was not asked
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
}

// RateLimited tells whether the issuer limited one of the requests, control questions included. It returns when the issuer may
// be asked again (0: it did not say).
func (a Answer) RateLimited() (retryAfter time.Duration, limited bool) {
	if a.limit != nil {
		return a.limit.RetryAfter, true
	}
	for _, v := range []Verdict{a.Credentials, a.Redirect} {
		if v.Decision == RateLimited {
			retryAfter, limited = max(retryAfter, v.RetryAfter), true
		}
	}
	return retryAfter, limited
}

// Client asks whether the issuer accepts client id and key, and redirect URLs and scopes. It asks each question once in
// an inspection, however many callers there are, and nothing more after a first 429. It sends the key only to an https
// endpoint of an issuer that this machine trusts, and never along a redirect. Before that, the checks of URL, identity and
// endpoints must pass.
func (i *Inspection) Client(ctx context.Context, q Question) Answer {
	i.questions.limitUntil(q.Limited)
	a := i.begin(ctx, q)
	requests := a.loginRequests()
	credentials := judgement{why: "the client key is not known here"}
	if !q.KeyUnknown {
		credentials = a.credentials(requests)
	}
	return a.answer(credentials, requests)
}
