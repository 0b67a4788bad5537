package issuer

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// questions remembers what was asked in an inspection, and what the issuer answered.
type questions struct {
	asked   sync.Map                  // question to *question
	clients sync.Map                  // client id to what is known of it, whatever its key
	limit   atomic.Pointer[time.Time] // until when, of the first 429; zero: the issuer did not say
}

// note remembers a first 429.
func (q *questions) note(a answer) {
	if a.limited() {
		var until time.Time
		if after := a.retryAfter(); after > 0 {
			until = time.Now().Add(after)
		}
		q.limit.CompareAndSwap(nil, &until)
	}
}

// limitUntil takes over a 429 of an earlier run that holds until a time.
func (q *questions) limitUntil(until time.Time) {
	if time.Now().Before(until) {
		q.limit.CompareAndSwap(nil, &until)
	}
}

// limited tells whether the issuer limits requests, and for how long (0: it did not say).
func (q *questions) limited() (retryAfter time.Duration, limited bool) {
	until := q.limit.Load()
	if until == nil {
		return 0, false
	}
	return max(time.Until(*until).Round(time.Second), 0), true
}

// question is a question that somebody asks, while others wait for the answer.
type question struct {
	mu     sync.Mutex
	answer *reply // nil: there is none yet
}

// once asks a question once for all callers. If the caller that asks is interrupted, the next one asks. It returns false if
// the issuer may not be asked: after a 429, or when ctx ends.
func (q *questions) once(ctx context.Context, what string, ask func() reply) (r reply, ok bool) {
	stored, _ := q.asked.LoadOrStore(what, &question{})
	one := stored.(*question) //nolint:forcetypeassert,errcheck // nothing else is stored
	one.mu.Lock()
	defer one.mu.Unlock()
	if one.answer != nil {
		return *one.answer, true
	}
	if _, limited := q.limited(); limited || ctx.Err() != nil {
		return r, false
	}
	if r = ask(); ctx.Err() != nil {
		return r, false
	}
	one.answer = &r
	return r, true
}

// asking is one [Question] while it is asked.
type asking struct {
	*Inspection
	Question
	ctx            context.Context
	hide           *check.Cleaner // hides the key, also as it was sent: the issuer may echo it
	known          Known
	declared, made values
	barred         *judgement // why nothing is asked; nil: it is
}

// clean returns a value of the issuer or of the question as it may be shown.
func (a *asking) clean(value string) string { return a.hide.Clean(value) }

func (i *Inspection) begin(ctx context.Context, q Question) *asking {
	a := &asking{Inspection: i, Question: q, ctx: ctx, hide: i.inspector.cleaner, known: q.Known}
	a.declared = values{client: q.Login.ClientID, key: q.Login.ClientKey.Reveal()}
	if len(q.RedirectURLs) > 0 {
		a.declared.redirectURL = q.RedirectURLs[0]
	}
	a.made = madeUp(a.declared)
	if l := q.Login; l.ClientKey.IsSet() {
		made := l
		made.ClientKey = check.NewSecret(a.made.key)
		a.hide = a.hide.With(l.ClientKey, basicPair(l), plainPair(l), basicPair(made))
	}
	if a.barred = a.bar(); a.barred == nil {
		a.known = q.Known.at(i.metadata.digest, time.Now())
		if others, ok := i.questions.clients.Load(q.Login.ClientID); ok {
			a.known = a.known.with(others.(Known)) //nolint:forcetypeassert,errcheck // see remembers
		}
	}
	return a
}

// bar returns why the issuer is asked nothing about a client, or nil.
func (a *asking) bar() *judgement {
	if a.Wait(a.ctx) != nil {
		return &judgement{why: "interrupted"}
	}
	switch after, limited := a.questions.limited(); {
	case limited:
		return &judgement{decision: RateLimited, why: "the issuer limits requests" + again(after), by: evidence{retryAfter: after}}
	case a.distrust != nil:
		return &judgement{why: "this machine does not trust the issuer's certificate"}
	case a.metadataErr.Status != "" || checkURL(a.issuer, a.hide).Status == check.Fail:
		return &judgement{why: fmt.Sprintf("needs %s", check.IssuerDiscovery)}
	case !a.metadata.AuthorizationEndpoint.usable():
		return &judgement{why: fmt.Sprintf("needs %s", check.IssuerEndpoints)}
	}
	return nil
}

// barKey returns why the key is not sent, or nil.
func (a *asking) barKey() *judgement {
	plain := judgement{why: "the key is not sent over http"}
	switch {
	case a.barred != nil:
		return a.barred
	case checkURL(a.issuer, a.hide).Status != check.Pass:
		return &plain
	case checkIdentity(a.Inspection, View{}).Status != check.Pass:
		return &judgement{why: fmt.Sprintf("needs %s", check.IssuerIdentity)}
	}
	switch checkEndpoints(a.Inspection, View{Login: a.Login}).Status {
	case check.Pass:
		return nil
	case check.Warn:
		return &plain
	}
	return &judgement{why: fmt.Sprintf("needs %s", check.IssuerEndpoints)}
}

// asked is the verdict on one redirect URL.
type asked struct {
	url  string
	took time.Duration // the requests about it
	judgement
}

// loginRequests asks about the redirect URLs. The controls R and C are asked once for all of them.
func (a *asking) loginRequests() []asked {
	all := make([]asked, len(a.RedirectURLs))
	for n, redirectURL := range a.RedirectURLs {
		all[n].url = redirectURL
		if a.barred == nil {
			a.askLogin("N", redirectURL) // what comes back for one tells about the others
		}
	}
	for n := range all {
		q := &all[n]
		if a.barred != nil {
			q.judgement = *a.barred
			continue
		}
		q.judgement = loginRule{
			prompt: a.Login.Prompt, free: a.Depth == Free, wentBack: a.known.WentBack, r: a.known.RedirectURL, c: a.known.ClientID,
			ask: func(question string) reply {
				r := a.askLogin(question, q.url)
				q.took += r.took
				return r
			},
		}.judge()
	}
	return all
}

// askLogin asks one of the questions of [loginRule], and remembers what the answer tells about others.
func (a *asking) askLogin(question, redirectURL string) reply {
	l, sent := a.Login, values{client: a.declared.client, redirectURL: redirectURL}
	switch question {
	case "N":
		l.Prompt = "none"
	case "R":
		sent.redirectURL = a.made.redirectURL
	case "C":
		sent.client, sent.redirectURL = a.made.client, a.declared.redirectURL
	}
	l.ClientID = sent.client
	as := fmt.Sprintf("%s %q %q %q %q %q", question, a.declared.client, l.ScopeParameter(), l.Prompt, l.ACRValues, sent.redirectURL)
	r := a.ask("authorization "+question, as, func() reply {
		// As a browser asks: some issuers answer an API otherwise, which no user ever sees.
		header := http.Header{
			"Accept":          {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"},
			"Accept-Language": {"en"},
		}
		address := authorizationURL(string(a.metadata.AuthorizationEndpoint), l, sent.redirectURL)
		got := a.send(a.ctx, withinIssuer(sent.redirectURL), http.MethodGet, address, header, "")
		return loginReply(got, sent.redirectURL, func(text string) string { return settle(text, sent, a.declared) })
	})
	switch question {
	case "N":
		if r.Class == goes && !a.known.WentBack {
			a.known.WentBack = true
			a.remembers()
		}
	case "R":
		a.keep(&a.known.RedirectURL, r)
	case "C":
		a.keep(&a.known.ClientID, r)
	}
	return r
}

// ask sends a request about the client, once for all callers with the same question.
func (a *asking) ask(name, question string, send func() reply) reply {
	r, ok := a.questions.once(a.ctx, question, func() reply {
		r := send()
		a.inspector.log.Debug("issuer asked about a client", "question", name, "url", a.clean(r.where), "status", r.status, "class", string(r.Class))
		return r
	})
	if !ok {
		after, limited := a.questions.limited()
		return reply{Mark: Mark{Class: breaks}, evidence: evidence{failure: "not asked", limited: limited, retryAfter: after}}
	}
	return r
}

// keep remembers the answer to a control question.
func (a *asking) keep(as *Mark, r reply) {
	if r.Class != breaks && !r.echoes {
		*as = r.Mark
		a.remembers()
	}
}

// remembers notes when the first answer came, and shares what does not depend on the key with questions about other keys.
func (a *asking) remembers() {
	if a.known.Asked.IsZero() {
		a.known.Asked = time.Now()
	}
	a.questions.clients.Store(a.Login.ClientID, a.known.WithoutKey())
}

// credentials asks about client id and key.
func (a *asking) credentials(requests []asked) judgement {
	if barred := a.barKey(); barred != nil {
		return *barred
	}
	hasKey, key := a.Login.ClientKey.IsSet(), a.declared.key
	rule := keyRule{
		hasKey: hasKey, introspects: hasKey && a.metadata.introspection().secure(), special: url.QueryEscape(key) != key,
		person: a.Depth == Person, free: a.Depth == Free, known: a.known,
	}
	redirectURL := ""
	for n, q := range requests {
		if n == 0 || q.decision == Accepted && !rule.redirectOK {
			redirectURL, rule.redirectOK = q.url, q.decision == Accepted
		}
		rule.clientKnown = rule.clientKnown || q.decision == Accepted || q.clientKnown || q.decision == Rejected && q.cause == ofRequest
	}
	answers := map[string]reply{}
	rule.ask = func(question string) reply {
		answers[question] = a.askKey(question, redirectURL, rule.redirectOK)
		return answers[question]
	}
	j := rule.judge()
	if j.proven {
		a.known.Proven = true
		a.remembers()
	}
	post, diagnosed := answers["post"]
	if _, limited := a.questions.limited(); diagnosed && post.Class != breaks && !limited && j.decision == Rejected {
		a.known.Refused, a.known.Cause = answers["D"].Mark, j.cause
	}
	return j
}

// askKey asks one of the questions of [keyRule], and remembers the answers to made-up values.
func (a *asking) askKey(question, redirectURL string, redirectOK bool) reply {
	digest := sha256.Sum256([]byte(a.declared.key))
	as := fmt.Sprintf("%s %q %x %t %t", question, a.declared.client, digest, a.Login.ClientKey.IsSet(), redirectOK)
	r := a.ask("token "+question, as, func() reply { return a.sendKey(question, redirectURL) })
	switch question {
	case "K":
		a.keep(&a.known.Key, r)
	case "C":
		a.keep(&a.known.Client, r)
	case "IK":
		a.keep(&a.known.Introspection, r)
	case "I": // a key that is refused tells as much as a made-up one
		if !r.active && !a.known.Introspection.known() {
			a.keep(&a.known.Introspection, r)
		}
	}
	return r
}

func (a *asking) sendKey(question, redirectURL string) reply {
	l, sent, endpoint := a.Login, a.declared, a.metadata.TokenEndpoint
	form := url.Values{"grant_type": {"authorization_code"}, "code": {MadeUp}, "code_verifier": {random()}}
	if redirectURL != "" {
		form.Set("redirect_uri", redirectURL)
	}
	if question == "I" || question == "IK" {
		endpoint, form = a.metadata.introspection(), url.Values{"token": {MadeUp}}
	}
	if question == "C" {
		l.ClientID, sent.client = a.made.client, a.made.client
	}
	if slices.Contains([]string{"K", "IK", "postK", "C"}, question) && l.ClientKey.IsSet() {
		l.ClientKey, sent.key = check.NewSecret(a.made.key), a.made.key
	}
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}}
	switch {
	case question == "none" || !l.ClientKey.IsSet():
		form.Set("client_id", l.ClientID)
	case question == "post" || question == "postK":
		form.Set("client_id", l.ClientID)
		form.Set("client_secret", l.ClientKey.Reveal())
	case question == "plain":
		header.Set("Authorization", basic(plainPair(l)))
	default:
		header.Set("Authorization", basic(basicPair(l)))
	}
	got := a.send(a.ctx, noRedirect, http.MethodPost, string(endpoint), header, form.Encode())
	return tokenReply(got, sent.key, func(text string) string { return settle(text, sent, a.declared) })
}

// basicPair returns client id and key as they are sent, each form-encoded before Base64 (RFC 6749 section 2.3.1).
func basicPair(l realm.Login) check.Secret {
	return check.NewSecret(url.QueryEscape(l.ClientID) + ":" + url.QueryEscape(l.ClientKey.Reveal()))
}

// plainPair returns them without the form encoding.
func plainPair(l realm.Login) check.Secret {
	return check.NewSecret(l.ClientID + ":" + l.ClientKey.Reveal())
}

func basic(pair check.Secret) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair.Reveal()))
}

// send sends one request for a client question.
func (i *Inspection) send(ctx context.Context, follow redirects, method, address string, header http.Header, body string) answer {
	r := &recorder{inspector: i.inspector, transport: i.inspector.verified, follow: follow}
	if method == http.MethodGet { // pages keep the way to a login in cookies
		r.cookies, _ = cookiejar.New(nil) // never fails
	}
	free, err := i.inspector.slots.take(ctx, address)
	if err != nil {
		return r.result(err)
	}
	defer free()
	a := i.inspector.send(ctx, r, method, address, header, body)
	if method == http.MethodGet && errors.Is(a.err, errTooLarge) {
		a.err = nil // the beginning of a page is enough
	}
	i.questions.note(a)
	return a
}

// authorizationURL forms the request as proxmox-openid does (src/lib.rs, authorize_url).
func authorizationURL(endpoint string, l realm.Login, redirectURL string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return endpoint
	}
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
	if l.Prompt != "" {
		query.Set("prompt", l.Prompt)
	}
	if len(l.ACRValues) > 0 {
		query.Set("acr_values", strings.Join(l.ACRValues, " "))
	}
	u.RawQuery = query.Encode()
	return u.String()
}
