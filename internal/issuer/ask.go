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
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/realm"
)

// questions remembers what was asked in an inspection, and what the issuer answered.
type questions struct {
	flight  singleflight.Group
	answers sync.Map                   // question to *reply or *kind
	clients sync.Map                   // client id to what is known of it, whatever its key
	limit   atomic.Pointer[limitUntil] // of the first 429
}

// limitUntil is when an issuer may be asked again; zero: it did not say.
type limitUntil time.Time

// note remembers a first 429.
func (q *questions) note(a answer) {
	if a.limited() {
		var until limitUntil
		if after := a.retryAfter(); after > 0 {
			until = limitUntil(time.Now().Add(after))
		}
		q.limit.CompareAndSwap(nil, &until)
	}
}

// limitUntil takes over a 429 of an earlier run that holds until a time.
func (q *questions) limitUntil(until time.Time) {
	if time.Now().Before(until) {
		u := limitUntil(until)
		q.limit.CompareAndSwap(nil, &u)
	}
}

// limited tells whether the issuer limits requests, and for how long (0: it did not say).
func (q *questions) limited() (retryAfter time.Duration, limited bool) {
	until := q.limit.Load()
	if until == nil {
		return 0, false
	}
	return max(time.Until(time.Time(*until)).Round(time.Second), 0), true
}

// once asks a question once for all callers. If the caller that asks is interrupted, the next one asks. It returns false if
// the issuer may not be asked: after a 429, or when ctx ends.
func once[T any](ctx context.Context, q *questions, question string, ask func() T) (t T, ok bool) {
	for ctx.Err() == nil {
		said, err, _ := q.flight.Do(question, func() (any, error) {
			if known, ok := q.answers.Load(question); ok {
				return known, nil
			}
			if _, limited := q.limited(); limited {
				return nil, nil //nolint:nilnil // there is no answer, and no error
			}
			answered := ask()
			if ctx.Err() == nil {
				q.answers.Store(question, answered)
			}
			return answered, ctx.Err()
		})
		if err == nil {
			t, ok = said.(T)
			return t, ok
		}
	}
	return t, false
}

// asking is one [Question] while it is asked.
type asking struct {
	*Inspection
	Question
	ctx    context.Context
	hide   *check.Cleaner // hides the key, also as it was sent: the issuer may echo it
	known  Known
	made   madeUp
	barred *judgement // why nothing is asked; nil: it is
}

// clean returns a value of the issuer or of the question as it may be shown.
func (a *asking) clean(value string) string { return a.hide.Clean(value) }

func (i *Inspection) begin(ctx context.Context, q Question) *asking {
	a := &asking{Inspection: i, Question: q, ctx: ctx, hide: i.client.cleaner, known: q.Known}
	if l := q.Login; l.ClientKey.IsSet() {
		a.made.key = madeUpKey(l.ClientKey.Reveal())
		made := l
		made.ClientKey = check.NewSecret(a.made.key)
		a.hide = a.hide.With(l.ClientKey, basicPair(l), plainPair(l), basicPair(made))
	}
	a.made.client = madeUpClient(q.Login.ClientID)
	if len(q.RedirectURLs) > 0 {
		a.made.redirectURL = madeUpRedirect(q.RedirectURLs[0])
	}
	if a.barred = a.bar(); a.barred == nil {
		a.known = q.Known.at(i.document.digest, time.Now())
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
	case a.documentErr.Status != "" || checkURL(a.issuer, a.hide).Status == check.Fail:
		return &judgement{why: fmt.Sprintf("needs %s", check.IssuerDiscovery)}
	case !a.document.AuthorizationEndpoint.usable():
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

// asked is what is known of one redirect URL, and the verdict.
type asked struct {
	url string
	loginRequest
	judgement
}

// loginRequests asks about the redirect URLs. The controls R and C are asked once for all of them.
func (a *asking) loginRequests() []asked {
	all := make([]asked, len(a.RedirectURLs))
	var r, c *reply
	for n, redirectURL := range a.RedirectURLs {
		all[n].url = redirectURL
		all[n].loginRequest = loginRequest{prompt: a.Login.Prompt, r0: a.known.RedirectURL, c0: a.known.ClientID}
		if a.barred == nil {
			all[n].n = a.askLogin("N", redirectURL)
		}
	}
	for _, q := range all {
		if q.n != nil && q.n.class == goes && !a.known.WentBack {
			a.known.WentBack = true
			a.remembers()
		}
	}
	for n := range all {
		q := &all[n]
		if a.barred != nil {
			q.judgement = *a.barred
			continue
		}
		q.wentBack, q.r, q.c = a.known.WentBack, r, c
		var need string
		for q.judgement, need = q.judge(); need != ""; q.judgement, need = q.judge() {
			if a.Depth == Free && !q.free(need) {
				q.judgement = judgement{why: "only a request that may be refused tells more"}.quoting(q.n.evidence)
				break
			}
			answered := a.askLogin(need, q.url)
			switch need {
			case "X":
				q.x = answered
			case "R":
				q.r = answered
			case "C":
				q.c = answered
			}
		}
		r, c = q.r, q.c
	}
	a.keep(&a.known.RedirectURL, r)
	a.keep(&a.known.ClientID, c)
	return all
}

// free tells whether a question costs nothing if everything is right, and is refused at most once otherwise.
func (q loginRequest) free(need string) bool {
	refused := string(refuses)
	return need == "X" && (q.n.class == goes || q.n.class == shows && q.r0.Class == refused && q.c0.Class == refused)
}

// keep remembers a control question's answer.
func (a *asking) keep(as *Mark, r *reply) {
	if r != nil && r.class != breaks {
		a.remember(as, r.mark)
	}
}

func (a *asking) remember(as *Mark, m Mark) {
	*as = m
	a.remembers()
}

// remembers notes when the first answer came, and shares what does not depend on the key with questions about other keys.
func (a *asking) remembers() {
	if a.known.Asked.IsZero() {
		a.known.Asked = time.Now()
	}
	a.questions.clients.Store(a.Login.ClientID, a.known.WithoutKey())
}

// askLogin sends one of the questions of [loginRequest].
func (a *asking) askLogin(need, redirectURL string) *reply {
	l := a.Login
	declared := madeUp{client: l.ClientID, redirectURL: a.RedirectURLs[0]}
	made := madeUp{}
	asked := redirectURL
	switch need {
	case "N":
		l.Prompt = "none"
	case "R":
		asked = a.made.redirectURL
	case "C":
		l.ClientID, made.client = a.made.client, a.made.client
		asked = a.RedirectURLs[0]
	}
	made.redirectURL = asked
	question := fmt.Sprintf("%s %q %q %q %q %q", need, a.Login.ClientID, l.ScopeParameter(), l.Prompt, l.ACRValues, asked)
	r, ok := once(a.ctx, &a.questions, question, func() *reply {
		// As a browser asks: some issuers answer an API otherwise, which no user ever sees.
		header := http.Header{
			"Accept":          {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"},
			"Accept-Language": {"en"},
		}
		address := authorizationURL(string(a.document.AuthorizationEndpoint), l, asked)
		got := a.send(a.ctx, withinIssuer(asked), http.MethodGet, address, header, "")
		return replyOf(got, asked, func(text string) string { return settle(text, made, declared) })
	})
	if !ok {
		return &reply{class: breaks, evidence: a.silence()}
	}
	a.log("authorization "+need, r.evidence, string(r.class))
	return r
}

// silence is the evidence of a question that could not be asked.
func (a *asking) silence() evidence {
	after, limited := a.questions.limited()
	return evidence{failure: "not asked", limited: limited, retryAfter: after}
}

func (a *asking) log(question string, e evidence, class string) {
	a.client.log.Debug("issuer asked about a client", "question", question, "url", a.clean(e.where), "status", e.status, "class", class)
}

// credentials asks about client id and key.
func (a *asking) credentials(requests []asked) judgement {
	if barred := a.barKey(); barred != nil {
		return *barred
	}
	l := a.Login
	p := keyProof{
		hasKey: l.ClientKey.IsSet(), introspects: l.ClientKey.IsSet() && a.document.introspection().secure(),
		special: url.QueryEscape(l.ClientKey.Reveal()) != l.ClientKey.Reveal(), person: a.Depth == Person, free: a.Depth == Free, known: a.known,
	}
	redirectURL := ""
	for n, q := range requests {
		if n == 0 || q.decision == Accepted && !p.redirectOK {
			redirectURL, p.redirectOK = q.url, q.decision == Accepted
		}
		p.clientKnown = p.clientKnown || q.decision == Accepted || q.clientKnown || q.decision == Rejected && q.cause == ofRequest
	}
	places := map[string]**kind{
		"D": &p.d, "K": &p.k, "C": &p.c, "I": &p.i, "IK": &p.ik, "post": &p.post, "postK": &p.postK, "none": &p.none, "plain": &p.plain,
	}
	j, need := p.judge()
	for ; need != ""; j, need = p.judge() {
		*places[need] = a.askKey(need, redirectURL, p.redirectOK)
	}
	a.learn(p, j)
	return j
}

// learn adds to what is remembered.
func (a *asking) learn(p keyProof, j judgement) {
	proven := p.proven()
	if p.ik == nil && p.i != nil && !p.i.active && !a.known.Introspection.known() {
		p.ik = p.i // a key that is refused tells as much as a made-up one
	}
	for as, k := range map[*Mark]*kind{&a.known.Key: p.k, &a.known.Client: p.c, &a.known.Introspection: p.ik} {
		if k != nil && k.class() != inTrouble && !k.echoes {
			a.remember(as, k.mark)
		}
	}
	if proven {
		a.known.Proven = true
		a.remembers()
	}
	if p.person && j.decision == Rejected && p.post != nil && !p.anyLimited() {
		a.known.Refused, a.known.Cause = p.d.mark, string(j.cause)
	}
}

// askKey sends one of the questions of [keyProof].
func (a *asking) askKey(need, redirectURL string, redirectOK bool) *kind {
	digest := sha256.Sum256([]byte(a.Login.ClientKey.Reveal()))
	question := fmt.Sprintf("%s %q %x %t %t", need, a.Login.ClientID, digest, a.Login.ClientKey.IsSet(), redirectOK)
	k, ok := once(a.ctx, &a.questions, question, func() *kind {
		l, endpoint := a.Login, a.document.TokenEndpoint
		made := madeUp{}
		form := url.Values{"grant_type": {"authorization_code"}, "code": {MadeUp}, "code_verifier": {random()}}
		if redirectURL != "" {
			form.Set("redirect_uri", redirectURL)
		}
		if need == "K" || need == "IK" || need == "postK" || need == "C" && l.ClientKey.IsSet() {
			l.ClientKey, made.key = check.NewSecret(a.made.key), a.made.key
		}
		if need == "I" || need == "IK" {
			endpoint, form = a.document.introspection(), url.Values{"token": {MadeUp}}
		}
		if need == "C" {
			l.ClientID, made.client = a.made.client, a.made.client
		}
		header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}}
		switch {
		case need == "none" || !l.ClientKey.IsSet():
			form.Set("client_id", l.ClientID)
		case need == "post" || need == "postK":
			form.Set("client_id", l.ClientID)
			form.Set("client_secret", l.ClientKey.Reveal())
		case need == "plain":
			header.Set("Authorization", basic(plainPair(l)))
		default:
			header.Set("Authorization", basic(basicPair(l)))
		}
		got := a.send(a.ctx, noRedirect, http.MethodPost, string(endpoint), header, form.Encode())
		declared := madeUp{client: a.Login.ClientID, key: a.Login.ClientKey.Reveal()}
		return kindOf(got, made.key, func(text string) string { return settle(text, made, declared) })
	})
	if !ok {
		return &kind{mark: Mark{Class: inTrouble}, evidence: a.silence()}
	}
	a.log("token "+need, k.evidence, k.class())
	return k
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
	r := &recorder{client: i.client, transport: i.client.verified, follow: follow}
	if method == http.MethodGet { // pages keep the way to a login in cookies
		r.cookies, _ = cookiejar.New(nil) // never fails
	}
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
