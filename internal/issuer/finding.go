package issuer

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"proxmox-realm/internal/check"
)

// answer words what the questions found.
func (a *asking) answer(credentials judgement, requests []asked) Answer {
	worst := judgement{why: "no redirect URL is known"}
	for n, q := range requests {
		if n == 0 || q.severity() > worst.severity() {
			worst = q.judgement
		}
	}
	if credentials.decision == Rejected && worst.decision == Rejected && (worst.cause == ofClient || worst.cause == ofClientOrAll) {
		credentials.cause = worst.cause // the token endpoint does not tell an unknown client from a wrong key
	}
	said := Answer{
		Checks:      []check.Check{a.checkCredentials(credentials), a.checkRedirects(worst, requests, credentials)},
		Credentials: a.verdict(credentials), Redirect: a.verdict(worst), Known: a.known,
	}
	if after, limited := a.questions.limited(); limited {
		said.limit = &Verdict{Decision: RateLimited, RetryAfter: after}
	}
	return said
}

// verdict returns a judgement as others see it.
func (a *asking) verdict(j judgement) Verdict {
	return Verdict{Decision: j.decision, Reason: a.reason(j), RetryAfter: j.by.retryAfter}
}

// reason says what the answers prove, and what the issuer said.
func (a *asking) reason(j judgement) string {
	said := a.clean(j.by.String())
	switch {
	case said == "" || j.why == "":
		return j.why + said
	case j.decision == Accepted:
		return said + "; " + j.why
	}
	return j.why + ": " + said
}

// severity orders the verdicts on redirect URLs. A rejection for another reason concerns every redirect URL.
func (j judgement) severity() int {
	switch {
	case j.decision == Rejected && !j.aboutRedirect():
		return 4
	case j.decision == Rejected:
		return 3
	case j.decision == RateLimited:
		return 2
	case j.decision == NoVerdict:
		return 1
	}
	return 0
}

func (j judgement) aboutRedirect() bool { return j.cause == ofRedirect || j.cause == ofRedirectOrOther }

// checkCredentials is client.credentials.
func (a *asking) checkCredentials(j judgement) check.Check {
	const id = check.ClientCredentials
	client, hasKey := a.clean(a.Login.ClientID), a.Login.ClientKey.IsSet()
	c := check.Skipped(id, "not checked: %s", a.reason(j))
	switch {
	case j.decision == Rejected:
		summary, hint := a.refusal(j, client)
		c = check.Failed(id, hint, "%s", summary)
	case j.decision != Accepted:
		return c.Took(j.by.took)
	case !hasKey:
		c = check.Passed(id, "the issuer accepts the public client %s, without a key", client)
	case j.warns:
		c = check.Warned(id, check.Hints("read the issuer's log about the client: the next login shows whether it is refused", ignore(id, "if logins work")),
			"the issuer accepts the client %s with its key, but answers with an error: %s", client, a.clean(j.by.String()))
	case j.cause == ofPublic:
		c = check.Passed(id, "the issuer accepts the client %s, and does not look at its key: it is a public client", client)
	case len(a.Login.ClientKey.Reveal()) < minKey:
		c = check.Warned(id, check.Hint("give the client a longer key, such as 72 characters of [A-Za-z0-9._~-]"),
			"the key of the client %s has fewer than %d characters: it can be guessed, and it is too short to be hidden in messages", client, minKey)
	default:
		c = check.Passed(id, "the issuer accepts the client %s with its key", client)
	}
	return c.Because("%s", a.reason(j)).Took(j.by.took)
}

// digestForm is how a digest of a key begins, which people paste in its place.
var digestForm = check.Pattern(`^\$(?:pbkdf2|argon2|scrypt|bcrypt|2[abxy]|5|6)[-$]`)

// refusal words a refused client.
func (a *asking) refusal(j judgement, client string) (summary string, hint check.Hint) {
	p := a.provider()
	key := check.Hint("set {realm.client_key_file} to a file with the key that the issuer holds, or give the issuer this key")
	if digestForm().MatchString(a.declared.key) {
		key = "set {realm.client_key_file} to a file with the key itself: this one holds a digest"
	}
	key = check.Hints(key, p.tell(OnKey))
	method := check.Hints("let the client use client_secret_basic in the issuer", p.tell(OnMethod))
	const (
		id     = check.Hint("register the client in the issuer, or set {realm.client_id} to the id that it has there")
		chars  = check.Hint("give the client a key of letters, digits and . _ ~ - alone: the issuer does not decode other characters")
		needed = check.Hint("set {realm.client_key_file} to a file with the key of the client, or make the client public in the issuer")
	)
	type words struct {
		says string // of the client, which stands for %s
		hint check.Hint
	}
	unclear := words{"the issuer refuses the id, the key or the authentication method of the client %s", check.Hints(key, method, id)}
	noKey := words{"the issuer refuses the client %s without a key", needed}
	if !j.clientKnown {
		unclear.says = "the issuer refuses the id, the key, the authentication method or the redirect URL of the client %s"
		noKey.hint = check.Hints(needed, id)
	}
	said, ok := map[cause]words{
		ofNoKey:         noKey,
		ofClient:        {"the issuer does not know the client %s", id},
		ofClientOrAll:   {"the issuer refuses the client %s with any key", check.Hints(id, "look in the issuer whether the client is enabled")},
		ofKey:           {"the issuer accepted the key of the client %s before, and no longer does", check.Hints(key, "or give both sides a new key:\n    {rotate}")},
		ofKeyOrMethod:   {"the issuer refuses the key or the authentication method of the client %s", check.Hints(key, method)},
		ofMethod:        {"the client %s is registered for another authentication method than client_secret_basic", method},
		ofChars:         {"the issuer does not decode special characters in the key of the client %s", check.Hints(chars, p.tell(OnKey))},
		ofMethodOrChars: {"the issuer refuses the key of the client %s by client_secret_basic, and accepts it by client_secret_post", check.Hints(method, chars)},
		ofPublic: {"the client %s is public in the issuer: it has no key there", check.Hints("make the client confidential in the issuer", p.tell(OnMethod),
			"or add client_key to {realm.unset}, and remove the key from the configuration")},
		ofNotKey: {
			"the issuer accepts the key of the client %s, but not the client: its flow, method or redirect URL",
			check.Hints("allow the client the code flow in the issuer", p.tell(OnFlow), method),
		},
	}[j.cause]
	if !ok {
		said = unclear
	}
	return fmt.Sprintf(said.says, client), said.hint
}

// checkRedirects is client.redirect.
func (a *asking) checkRedirects(worst judgement, each []asked, credentials judgement) check.Check {
	const id = check.ClientRedirect
	var evidence, unknown []string
	var took time.Duration
	for _, q := range each {
		evidence = append(evidence, fmt.Sprintf("%s: %s (%s)", a.clean(q.url), q.decision, a.reason(q.judgement)))
		if q.decision == Rejected && q.aboutRedirect() {
			unknown = append(unknown, a.clean(q.url))
		}
		took += q.took
	}
	c := check.Skipped(id, "not checked: %s", a.reason(worst))
	switch {
	case worst.decision == Accepted:
		c = check.Passed(id, "the issuer accepts %s and the scopes for this client",
			check.Count(len(each), "redirect URL", "redirect URLs"))
	case worst.decision == Rejected && worst.aboutRedirect():
		c = a.unknownRedirect(worst, strings.Join(unknown, ", "))
	case worst.decision == Rejected:
		c = a.refusedRequest(worst, credentials.decision == Accepted)
	}
	return c.Because("%s", strings.Join(evidence, "; ")).Took(took)
}

// unknownRedirect is for redirect URLs that the issuer does not know. If nobody declared them, browsers may open others.
func (a *asking) unknownRedirect(j judgement, urls string) check.Check {
	const id = check.ClientRedirect
	register := check.Hints(check.Hintf("register in the issuer, exactly so: %s", urls), a.provider().tell(OnRedirect))
	what := "the issuer does not know the redirect URL " + urls
	if j.cause == ofRedirectOrOther {
		what = "the issuer refuses the redirect URL " + urls + ", or something of the client that it looks at first"
		register = check.Hints(register, "look in the issuer whether the client is disabled, or must sign or push its requests")
	}
	if !a.RedirectsDeclared {
		return check.Warned(id, check.Hints("set {verify.redirect_urls} to what browsers open", register), "%s, taken from the endpoint", what)
	}
	return check.Failed(id, check.Hints(register, "set {verify.redirect_urls} to what browsers open, if that is another address"), "%s", what)
}

// refusedRequest is for a login request that the issuer refuses for another reason than the redirect URL.
func (a *asking) refusedRequest(j judgement, keyAccepted bool) check.Check {
	const id = check.ClientRedirect
	client, p := a.clean(a.Login.ClientID), a.provider()
	said := a.clean(j.by.String())
	register := check.Hint("register the client in the issuer, or set {realm.client_id} to the id that it has there")
	look := check.Hint("look in the issuer whether the client is there and enabled, and read the issuer's log")
	switch j.cause {
	case ofClient:
		return check.Failed(id, register, "the issuer does not know the client %s", client)
	case ofClientOrAll:
		what := "the issuer refuses the client " + client + ", or every login"
		if keyAccepted {
			what = "the issuer refuses the redirect URL or the client " + client + ", or every login"
			look = check.Hints("register in the issuer the redirect URLs, exactly so: "+check.Hint(a.clean(strings.Join(a.RedirectURLs, ", "))),
				p.tell(OnRedirect), look)
		}
		return check.Failed(id, check.Hints(look, register), "%s: %s", what, said)
	case ofNoPrompt:
		return check.Failed(id, check.Hints(look, register), "the issuer sent the browser back for the client %s before, and now shows a page of its own", client)
	}
	hint := a.codeHint(j.by.fault)
	if j.cause == ofUnknown {
		hint = check.Hints(hint, look)
	}
	return check.Failed(id, hint, "the issuer refuses the login request of the client %s: %s", client, said)
}

// codeHint says what to do about an error of the authorization endpoint (RFC 6749 section 4.1.2.1, RFC 9126).
func (a *asking) codeHint(f fault) check.Hint {
	p, text := a.provider(), strings.ToLower(f.String())
	scopes := slices.DeleteFunc(slices.Clone(a.Login.Scopes), func(s string) bool { return s == "openid" })
	switch {
	case f.code == "invalid_scope":
		drop := check.Hint("set {realm.scopes} without the scope that the issuer names")
		allow := check.Hints(check.Hintf("allow the client the scopes openid %s in the issuer", a.clean(strings.Join(scopes, " "))), p.tell(OnScope))
		if a.lacksScope() {
			return check.Hints(drop, groupsAdvice(p, scopes), allow)
		}
		return check.Hints(allow, drop)
	case f.code == "unauthorized_client", f.code == "unsupported_response_type":
		return check.Hints("allow the client the code flow, with the response type code", p.tell(OnFlow))
	case namesForm(text):
		return check.Hints("let the client send plain requests with S256: neither pushed nor signed", p.tell(OnRequest))
	case strings.Contains(text, "acr"):
		return check.Hints("set {realm.acr_values} to values that the issuer knows", "add acr_values to {realm.unset}")
	case strings.Contains(text, "prompt"):
		return check.Hints("set {realm.prompt} to a value that the issuer knows", "add prompt to {realm.unset}")
	}
	return "change in the issuer's client what the error names, and read the issuer's log"
}

// lacksScope tells whether the issuer advertises its scopes, and not all that are requested.
func (a *asking) lacksScope() bool {
	advertised := a.metadata.Scopes
	return advertised != nil && slices.ContainsFunc(a.Login.Scopes, func(s string) bool { return s != "openid" && !slices.Contains(advertised, s) })
}

// groupsAdvice is for the scope groups, which few issuers have.
func groupsAdvice(p provider, scopes []string) check.Hint {
	if slices.Contains(scopes, "groups") {
		return p.tell(OnGroups)
	}
	return ""
}
