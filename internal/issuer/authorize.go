package issuer

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// waiting are the errors of an issuer that accepts the request and would now ask the user (OpenID Connect Core 1.0 section
// 3.1.2.6).
var waiting = []string{"login_required", "interaction_required", "consent_required", "account_selection_required"}

// loginReply classifies an answer to a request with this redirect URL. settle makes answers to control questions comparable.
func loginReply(a answer, redirectURL string, settle func(string) string) reply {
	r := reply{evidence: evidenceOf(a)}
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
	found := loginClass(a, r)
	text := r.fault.String()
	if end == nil {
		page := visible(a.body)
		text += " " + page
		if r.fault.code == "" {
			r.fault = fault{code: standardCodes().FindString(page), text: page}
		}
	}
	r.Mark = markOf(found, ending, a.status, words(settle(text)))
	return r
}

func loginClass(a answer, r reply) class {
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

// loginRule decides whether the authorization endpoint accepts the login request with one redirect URL. It is a function of
// the answers to these questions, asked as far as needed:
//
//	N  the login request with prompt=none
//	X  exactly the request that Proxmox will send
//	R  X with a made-up redirect URL
//	C  X with a made-up client id
type loginRule struct {
	prompt   string // the realm's own; "": none
	free     bool   // asks nothing that may be refused, if all is right
	wentBack bool   // N goes back for another redirect URL of this client, or did so before
	r, c     Mark   // what is remembered of R and C
	ask      func(question string) reply
}

// final are the errors at the redirect URL that an issuer finds before it looks at the prompt.
var final = []string{"invalid_scope", "unauthorized_client", "unsupported_response_type"}

func (q loginRule) judge() judgement {
	const (
		sendsBack = "the issuer sends the browser back"
		costly    = "only a request that may be refused tells more"
		loginPage = "the issuer shows a login page, and refuses other clients and redirect URLs"
	)
	othersRefused := q.r.Class == refuses && q.c.Class == refuses
	n := q.ask("N")
	harmless := n.Class == goes || n.Class == shows && othersRefused // X is not refused either
	switch {
	case n.limited:
		return undecided("", n)
	case q.prompt == "" && n.Class == goes:
		return accepted(sendsBack, n)
	case q.free && q.prompt != "none" && !harmless:
		return undecided(costly, n)
	}
	// A refusal of N alone is none: the request that counts is X.
	x := n
	if q.prompt != "none" {
		x = q.ask("X")
	}
	switch {
	case x.Class == goes:
		return accepted(sendsBack, x)
	case x.Class == shows && n.Class == goes:
		return accepted(sendsBack, n)
	case x.Class == breaks:
		return undecided("the issuer did not answer the login request", x)
	case x.Class == refuses && x.back:
		return rejected(ofRequest, x)
	case x.Class == shows && n.back && slices.Contains(final, n.fault.code):
		return rejected(ofRequest, n)
	case x.Class == shows && n.Class == shows && n.own && q.wentBack:
		return rejected(ofNoPrompt, x)
	case x.Class == shows && othersRefused:
		return accepted(loginPage, reply{})
	case q.free:
		return undecided(costly, n)
	}
	// A page may be for everyone, and a refusal may have several causes: what do made-up values get?
	r, c := q.ask("R"), q.ask("C")
	switch {
	case x.Class != shows:
		return judgeRefusal(x, r, c)
	case r.limited:
		return undecided("", r)
	case c.limited:
		return undecided("", c)
	case r.Class == refuses && c.Class == refuses:
		return accepted(loginPage, reply{})
	case c.Class == refuses:
		return judgement{clientKnown: true, why: "the issuer knows the client, and judges the redirect URL after the login"}
	}
	return judgement{why: "the issuer shows a page to everyone, and judges client and redirect URL after the login"}
}

// judgeRefusal words a refusal of exactly the request that Proxmox will send. It is a refusal whatever the controls say,
// unless something in front of the issuer refuses everyone.
func judgeRefusal(x, r, c reply) judgement {
	asR, asC := r.Mark == x.Mark, c.Mark == x.Mark
	unasked := r.Class == breaks || c.Class == breaks
	if x.Class == gates && (asR && asC || unasked) {
		return undecided("something in front of the issuer refuses this machine", x)
	}
	text := strings.ToLower(x.fault.String())
	switch {
	case asR && asC:
		return rejected(ofClientOrAll, x)
	case asC:
		return rejected(ofClient, x)
	case strings.Contains(text, "redirect"), strings.Contains(text, "callback"):
		return rejected(ofRedirect, x)
	case asR && !namesForm(text):
		return rejected(ofRedirectOrOther, x)
	case asR, !unasked:
		return rejected(ofRequest, x)
	}
	return rejected(ofUnknown, x)
}

// namesForm tells whether a text is about the form of a request: pushed, signed, or with another code challenge.
func namesForm(text string) bool {
	return slices.ContainsFunc([]string{"pushed", "request object", "request_object", "signed", "code_challenge", "pkce"}, func(word string) bool {
		return strings.Contains(text, word)
	})
}

// sameTarget tells whether a redirect goes to the redirect URL, whatever its parameters.
func sameTarget(location *url.URL, redirectURL string) bool {
	return normal(location.String()) == normal(redirectURL)
}

// normal returns a URL without its query, and as Proxmox's library writes it: lower case, without the scheme's port, with a
// path.
func normal(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.User != nil {
		return address
	}
	return origin(u) + "/" + strings.TrimPrefix(u.EscapedPath(), "/")
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
