package issuer

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// This file holds the rule for answers of the authorization endpoint, as pure functions over answers. Four questions are
// asked, as far as needed:
//
//	N  the login request with prompt=none
//	X  exactly the request that Proxmox will send
//	R  X with a made-up redirect URL
//	C  X with a made-up client id

// class is what one answer of the authorization endpoint is, looked at alone.
type class string

const (
	goes    class = "go"      // ends at the redirect URL, without an error or because the user must act
	refuses class = "no"      // an error, at the redirect URL or elsewhere
	shows   class = "page"    // a page, or a redirect to another origin, without an error
	gates   class = "gate"    // 403 without an error
	breaks  class = "trouble" // no answer, or one that says nothing about the request
)

// waiting are the errors of an issuer that accepts the request and would now ask the user (OpenID Connect Core 1.0 section
// 3.1.2.6).
var waiting = []string{"login_required", "interaction_required", "consent_required", "account_selection_required"}

// passing are the errors of an issuer that has trouble of its own (RFC 6749 section 4.1.2.1).
var passing = []string{"temporarily_unavailable", "server_error"}

// Mark is what is remembered of an answer: its class, and a digest of where it ended and what it said.
type Mark struct {
	Class  string `json:"class,omitempty"`
	Digest string `json:"digest,omitempty"`
}

// known tells whether there was an answer.
func (m Mark) known() bool { return m.Class != "" }

// markOf returns the mark of an answer. Two answers are the same if their marks are equal.
func markOf(class string, parts ...any) Mark {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", parts))
	return Mark{Class: class, Digest: hex.EncodeToString(sum[:8])}
}

// reply is an answer of the authorization endpoint as the rule looks at it.
type reply struct {
	evidence
	class class
	back  bool // it ended at the redirect URL
	own   bool // it ended at a page of the issuer's own origin
	mark  Mark
}

// replyOf classifies an answer to a request with this redirect URL. settle makes answers to control questions comparable.
func replyOf(a answer, redirectURL string, settle func(string) string) *reply {
	r := &reply{evidence: evidenceOf(a)}
	end, ending := a.location, "a page"
	switch {
	case end == nil:
		r.own, r.fault = true, faultInJSON(a.body)
	case sameTarget(end, redirectURL):
		r.back, ending, r.fault = true, "the redirect URL", faultInAddress(end)
	default:
		ending, r.fault = origin(end), faultInAddress(end)
		r.own = ending == originOf(a.url)
	}
	if strings.EqualFold(r.fault.code, http.StatusText(a.status)) { // as proxies say it: no more than the status
		r.fault = fault{}
	}
	r.class = classOf(a, r)
	text := r.fault.String()
	if end == nil {
		page := visible(a.body)
		text += " " + page
		if r.fault.code == "" {
			r.fault = fault{code: standardCodes.FindString(page), text: page}
		}
	}
	r.mark = markOf(string(r.class), ending, a.status, words(settle(text)))
	return r
}

func classOf(a answer, r *reply) class {
	code, status := r.fault.code, a.status
	switch {
	case a.troubled(), slices.Contains(passing, code):
		return breaks
	case r.back && (code == "" || slices.Contains(waiting, code)):
		return goes
	case code != "":
		return refuses
	case status == http.StatusForbidden:
		return gates
	case a.location != nil, status == http.StatusUnauthorized, status >= 200 && status < 300:
		return shows
	case status >= 400 && status < 500:
		return refuses
	}
	return breaks
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

// evidence is what one answer said.
type evidence struct {
	where      string // the address that answered, without its query
	status     int
	fault      fault
	failure    string // why no answer came
	limited    bool   // 429
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

// judgement is what the rule makes of the answers.
type judgement struct {
	decision    Decision
	cause       cause    // of a rejection
	why         string   // our own words: what the answers prove, or why they prove nothing
	by          evidence // what the issuer said
	warns       bool     // of an acceptance: the issuer said something that an administrator should know
	clientKnown bool     // the issuer knows the client
}

// quoting adds what an answer says to a judgement.
func (j judgement) quoting(e evidence) judgement {
	j.by = e
	return j
}

// loginRequest holds the answers so far about one redirect URL.
type loginRequest struct {
	prompt   string // the realm's own; "": none
	wentBack bool   // N goes back for another redirect URL of this client, or did so before
	n, x     *reply // nil: not asked
	r, c     *reply
	r0, c0   Mark // what is remembered of R and C
}

// judge returns a verdict, or the question that it needs: "N", "X", "R" or "C".
func (q loginRequest) judge() (j judgement, need string) {
	if q.n == nil {
		return j, "N"
	}
	if q.n.limited {
		return q.limited(q.n), ""
	}
	if q.prompt == "" && q.n.class == goes {
		return accepted(q.n), ""
	}
	x := q.x
	if q.prompt == "none" {
		x = q.n
	}
	switch {
	case x == nil:
		return j, "X"
	case x.limited:
		return q.limited(x), ""
	case x.class == goes:
		return accepted(x), ""
	case x.class == shows && q.n.class == goes:
		return accepted(q.n), ""
	case x.class == breaks:
		return judgement{why: "the issuer did not answer the login request"}.quoting(x.evidence), ""
	case x.class == refuses && x.back:
		return judgement{decision: Rejected, cause: ofRequest}.quoting(x.evidence), ""
	case x.class == shows && q.n.back && slices.Contains(final, q.n.fault.code):
		return judgement{decision: Rejected, cause: ofRequest}.quoting(q.n.evidence), ""
	case x.class == shows && q.n.class == shows && q.n.own && q.wentBack:
		return judgement{decision: Rejected, cause: ofNoPrompt}.quoting(x.evidence), ""
	case x.class == shows:
		return q.judgePage()
	}
	switch {
	case q.r == nil:
		return j, "R"
	case q.c == nil && !q.r.limited:
		return j, "C"
	}
	return q.judgeRefusal(x), ""
}

// final are the errors at the redirect URL that an issuer finds before it looks at the prompt.
var final = []string{"invalid_scope", "unauthorized_client", "unsupported_response_type"}

// accepted is for an answer that sends the browser back.
func accepted(r *reply) judgement {
	return judgement{decision: Accepted, why: "the issuer sends the browser back"}.quoting(r.evidence)
}

func (q loginRequest) limited(by *reply) judgement {
	return judgement{decision: RateLimited, why: "the issuer limits requests"}.quoting(by.evidence)
}

// judgePage decides whether a page is a login page, which a made-up redirect URL and a made-up client do not get.
func (q loginRequest) judgePage() (j judgement, need string) {
	const refused = string(refuses)
	if q.r == nil && q.c == nil && q.r0.Class == refused && q.c0.Class == refused {
		return judgement{decision: Accepted, why: "the issuer shows a login page, and refuses other clients and redirect URLs"}, ""
	}
	switch {
	case q.r == nil:
		return j, "R"
	case q.r.limited:
		return q.limited(q.r), ""
	case q.c == nil:
		return j, "C"
	case q.c.limited:
		return q.limited(q.c), ""
	case q.r.class == refuses && q.c.class == refuses:
		return judgement{decision: Accepted, why: "the issuer shows a login page, and refuses other clients and redirect URLs"}, ""
	case q.c.class == refuses:
		return judgement{clientKnown: true, why: "the issuer knows the client, and judges the redirect URL after the login"}, ""
	}
	return judgement{why: "the issuer shows a page to everyone, and judges client and redirect URL after the login"}, ""
}

// judgeRefusal words a refusal of exactly the request that Proxmox will send. It is a refusal whatever the controls say,
// unless something in front of the issuer refuses everyone.
func (q loginRequest) judgeRefusal(x *reply) judgement {
	asR := q.r != nil && q.r.mark == x.mark
	asC := q.c != nil && q.c.mark == x.mark
	unasked := q.r == nil || q.c == nil || q.r.class == breaks || q.c.class == breaks
	if x.class == gates && (asR && asC || unasked) {
		return judgement{why: "something in front of the issuer refuses this machine"}.quoting(x.evidence)
	}
	j := judgement{decision: Rejected}.quoting(x.evidence)
	text := strings.ToLower(x.fault.String())
	switch {
	case asR && asC:
		j.cause = ofClientOrAll
	case asC:
		j.cause = ofClient
	case strings.Contains(text, "redirect"), strings.Contains(text, "callback"):
		j.cause = ofRedirect
	case asR && namesForm(text):
		j.cause = ofRequest
	case asR:
		j.cause = ofRedirectOrOther
	case !unasked:
		j.cause = ofRequest
	}
	return j
}

// namesForm tells whether a text is about the form of a request: pushed, signed, or with another code challenge.
func namesForm(text string) bool {
	return slices.ContainsFunc([]string{"pushed", "request object", "request_object", "signed", "code_challenge", "pkce"}, func(word string) bool {
		return strings.Contains(text, word)
	})
}

// sameTarget tells whether a redirect goes to the redirect URL, whatever its parameters.
func sameTarget(location *url.URL, redirectURL string) bool {
	want, err := url.Parse(redirectURL)
	if err != nil {
		return false
	}
	path := func(u *url.URL) string { return "/" + strings.TrimPrefix(u.EscapedPath(), "/") }
	return strings.EqualFold(origin(location), origin(want)) && path(location) == path(want)
}

// origin returns scheme, host and port, without a port that the scheme implies.
func origin(u *url.URL) string {
	host := strings.ToLower(u.Host)
	switch u.Scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	}
	return u.Scheme + "://" + host
}

func originOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return origin(u)
}
