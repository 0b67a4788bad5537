package issuer

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// class is what one answer of an endpoint is, looked at alone.
type class string

// The classes of answers of the authorization endpoint.
const (
	goes    class = "go"   // ends at the redirect URL, without an error or because the user must act
	refuses class = "no"   // an error, at the redirect URL or elsewhere
	shows   class = "page" // a page, or a redirect to another origin, without an error
	gates   class = "gate" // 403 without an error
)

// The classes of answers of the token and the introspection endpoint.
const (
	aboutCode  class = "code"    // the client is accepted, the code or token is not
	aboutOther class = "refused" // anything else below 500
)

// breaks is the class, at all endpoints, of no answer, or of one that says nothing about the request.
const breaks class = "trouble"

// passing are the errors of an issuer that has trouble of its own (RFC 6749 section 4.1.2.1).
var passing = []string{"temporarily_unavailable", "server_error"}

// Mark is what is remembered of an answer: its class, and a digest of where it ended and what it said. Two answers are the
// same if their marks are equal.
type Mark struct {
	Class  class  `json:"class,omitempty"`
	Digest string `json:"digest,omitempty"`
}

// known tells whether there was an answer.
func (m Mark) known() bool { return m.Class != "" }

// markOf returns the mark of an answer that these parts tell from others.
func markOf(of class, parts ...any) Mark {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", parts))
	return Mark{Class: of, Digest: hex.EncodeToString(sum[:8])}
}

// reply is an answer as the rules look at it.
type reply struct {
	Mark
	evidence
	back   bool // authorization: it ended at the redirect URL
	own    bool // authorization: it ended at a page of the issuer's own origin
	active bool // introspection: 200 with "active"
	echoes bool // it holds the made-up key, so it is not remembered
}

// evidence is what one answer said.
type evidence struct {
	where      string // the address that answered, without its query
	status     int
	fault      fault
	failure    string // why no answer came
	limited    bool   // 429, or not asked because of an earlier one
	retryAfter time.Duration
	took       time.Duration
}

func evidenceOf(a answer) evidence {
	e := evidence{where: a.endpoint(), status: a.status, limited: a.limited(), retryAfter: a.retryAfter(), took: a.took}
	if a.err != nil {
		e.failure = reason(a.err)
	}
	return e
}

// String returns "401 invalid_client: text", "login_required", or why there is no answer. The text is the issuer's: clean it.
func (e evidence) String() string {
	switch {
	case e.where == "":
		return e.failure
	case e.failure != "":
		return e.where + ": " + e.failure
	case e.limited:
		return e.where + " answers 429" + again(e.retryAfter)
	case e.status >= 300 && e.status < 400:
		return e.fault.String()
	}
	return fmt.Sprintf("%d %s", e.status, cmp.Or(e.fault.String(), "without a text"))
}

// cause is what a refusal is about.
type cause string

const (
	ofUnknown         cause = ""
	ofRequest         cause = "request"           // this very request: the error code says what
	ofRedirect        cause = "redirect"          // the redirect URL
	ofRedirectOrOther cause = "redirect or other" // the redirect URL, or the client for a reason that is looked at before it
	ofClient          cause = "client"
	ofClientOrAll     cause = "client or all" // the client, or every login
	ofNoPrompt        cause = "no prompt"     // prompt=none came back for this client before, and no longer does

	ofKey           cause = "key"
	ofKeyOrMethod   cause = "key or method"
	ofAny           cause = "any"     // client id, key or method
	ofNotKey        cause = "not key" // the key is right, something else of the client is not
	ofMethod        cause = "method"
	ofChars         cause = "characters" // of the key, which the issuer does not decode
	ofMethodOrChars cause = "method or characters"
	ofPublic        cause = "public" // the client has no key at the issuer
	ofNoKey         cause = "no key" // the issuer wants a key, and there is none
)

// judgement is what a rule makes of the answers.
type judgement struct {
	decision    Decision
	cause       cause    // of a rejection
	why         string   // our own words: what the answers prove, or why they prove nothing
	by          evidence // what the issuer said
	warns       bool     // of an acceptance: the issuer said something that an administrator should know
	clientKnown bool     // the issuer knows the client
	proven      bool     // introspection tells the key from a made-up one
}

func accepted(why string, by reply) judgement {
	return judgement{decision: Accepted, why: why, by: by.evidence}
}

func rejected(of cause, by reply) judgement {
	return judgement{decision: Rejected, cause: of, by: by.evidence}
}

// undecided is for an answer that proves nothing. A 429 says why by itself.
func undecided(why string, by reply) judgement {
	if by.limited {
		return judgement{decision: RateLimited, why: "the issuer limits requests", by: by.evidence}
	}
	return judgement{why: why, by: by.evidence}
}
