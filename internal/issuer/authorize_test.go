package issuer

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

const (
	testRedirect = "https://pve.example.test:8006"
	otherURL     = "https://proxmox-realm-verify.invalid:8006"
	testEndpoint = "https://auth.example.test/authorize"
)

// to is a redirect. "/" stands for the redirect URL that was asked for.
func to(location string) answer {
	a := answer{url: testEndpoint + "?client_id=x", status: http.StatusFound, header: http.Header{}}
	u, err := url.Parse(strings.Replace(location, "back:", testRedirect, 1))
	if err != nil {
		panic(err)
	}
	a.location = u
	return a
}

// with is an answer with a body.
func with(status int, body string) answer {
	return answer{url: testEndpoint + "?client_id=x", status: status, header: http.Header{}, body: []byte(body)}
}

func noAnswer() answer {
	return answer{url: testEndpoint, header: http.Header{}, err: errors.New("connection refused")}
}

// settled is what [asking.askLogin] makes of an answer to a control question.
func settled(question string) (redirectURL string, settleText func(string) string) {
	declared := values{client: "proxmox", redirectURL: testRedirect}
	sent := declared
	switch question {
	case "R":
		sent.redirectURL = otherURL
	case "C":
		sent.client = MadeUp
	}
	return sent.redirectURL, func(text string) string { return settle(text, sent, declared) }
}

// loginReplyTo reads an answer to a question. A redirect to the redirect URL in the answer to R goes to the made-up one.
func loginReplyTo(question string, a answer) reply {
	redirectURL, fix := settled(question)
	if question == "R" && a.location != nil && strings.HasPrefix(a.location.String(), testRedirect) {
		a.location, _ = url.Parse(strings.Replace(a.location.String(), testRedirect, otherURL, 1))
	}
	return loginReply(a, redirectURL, fix)
}

// table answers a rule's questions, and nothing more after a 429, like [asking.ask].
type table struct {
	*testing.T
	answers map[string]answer
	read    func(question string, a answer) reply
	asked   []string
	limited bool
}

func (t *table) ask(question string) reply {
	t.Helper()
	if t.limited {
		return reply{Mark: Mark{Class: breaks}, evidence: evidence{limited: true}}
	}
	t.asked = append(t.asked, question)
	a, ok := t.answers[question]
	if !ok {
		t.Fatalf("the question %s is asked after %v", question, t.asked)
	}
	r := t.read(question, a)
	t.limited = r.limited
	return r
}

const (
	loginPage = `<!doctype html><html><head><title>Sign in</title><style>p{}</style></head><body><form><p>User name</p></form></body></html>`
	keycloak  = `<html><head><script>var x = "4711";</script></head><body><h1>We are sorry...</h1><p>`
	german    = `<html lang="de"><body><h1>Es tut uns leid</h1><p>`
)

// TestLoginRule holds answers of real issuers and of imitations, and what the rule makes of them.
func TestLoginRule(t *testing.T) {
	type answers = map[string]answer
	loginRequired := to("back:?error=login_required&state=x")
	authelia := func(code, hint string) answer {
		return to("https://auth.example.test/consent/completion?error=" + code + "&error_description=malformed&error_hint=" + url.QueryEscape(hint))
	}
	// alike are the answers of an issuer to which N and X are the same. Controls are the answers to R and C.
	alike := func(x answer, controls ...answer) answers {
		all := answers{"N": x, "X": x}
		for i, a := range controls {
			all[[]string{"R", "C"}[i]] = a
		}
		return all
	}
	asToR := func(x, c answer) answers { return alike(x, x, c) }
	toAll := func(x answer) answers { return alike(x, x, x) }
	known := loginRule{r: Mark{Class: refuses}, c: Mark{Class: refuses}}
	for _, tt := range []struct {
		name    string
		answers answers
		rule    loginRule
		want    Decision
		cause   cause
		asked   string
	}{
		// One question.
		{"login_required", answers{"N": loginRequired}, loginRule{}, Accepted, "", "N"},
		{"consent_required, by Entra ID with a slash", answers{"N": to("back:/?error=consent_required")}, loginRule{}, Accepted, "", "N"},
		{"a code", answers{"N": to("back:?code=abc&state=x")}, loginRule{}, Accepted, "", "N"},
		{"a limit", answers{"N": with(429, "slow down")}, loginRule{}, RateLimited, "", "N"},

		// The realm has a prompt of its own.
		{"a prompt, and both go", answers{"N": loginRequired, "X": to("back:?code=x")}, loginRule{prompt: "login"}, Accepted, "", "NX"},
		{"a prompt, and a login page", answers{"N": loginRequired, "X": with(200, loginPage)}, loginRule{prompt: "login"}, Accepted, "", "NX"},
		{"the prompt none", answers{"N": loginRequired}, loginRule{prompt: "none"}, Accepted, "", "N"},
		{"a prompt that the issuer refuses", answers{"N": loginRequired, "X": to("back:?error=invalid_request&error_description=prompt")}, loginRule{prompt: "create"}, Rejected, ofRequest, "NX"},

		// Only what a right request costs nothing.
		{"free: a page, and nothing is known", answers{"N": with(200, loginPage)}, loginRule{free: true}, NoVerdict, "", "N"},
		{"free: a page for the prompt none", answers{"N": with(200, loginPage)}, loginRule{free: true, prompt: "none"}, NoVerdict, "", "N"},
		{"free: a prompt that is refused", answers{"N": loginRequired, "X": with(400, "no")}, loginRule{free: true, prompt: "create"}, NoVerdict, "", "NX"},

		// Refusals at the redirect URL.
		{"invalid_scope for both", answers{"N": to("back:?error=invalid_scope"), "X": to("back:?error=invalid_scope&error_description=nope")}, loginRule{}, Rejected, ofRequest, "NX"},
		{"invalid_scope in the fragment", alike(to("back:#error=invalid_scope")), loginRule{}, Rejected, ofRequest, "NX"},
		{"invalid_scope with prompt=none, and a login page first", answers{"N": to("back:?error=invalid_scope"), "X": with(200, loginPage)}, loginRule{}, Rejected, ofRequest, "NX"},
		{"PKCE by plain is required", alike(to("back:?error=invalid_request&error_description=code_challenge_method")), loginRule{}, Rejected, ofRequest, "NX"},
		{"prompt=none alone is refused", answers{"N": to("back:?error=invalid_request"), "X": with(200, loginPage), "R": with(400, "bad redirect_uri"), "C": with(400, "bad client")}, loginRule{}, Accepted, "", "NXRC"},
		{"an issuer that is out of order", answers{"N": to("back:?error=temporarily_unavailable"), "X": to("back:?error=server_error")}, loginRule{}, NoVerdict, "", "NX"},

		// Pages of the issuer.
		{"Authelia, unknown redirect URL", asToR(authelia("invalid_request", "The 'redirect_uri' parameter does not match any"), authelia("invalid_client", "The requested OAuth 2.0 Client does not exist.")), loginRule{}, Rejected, ofRedirect, "NXRC"},
		{"Authelia, unknown client", toAll(authelia("invalid_client", "The requested OAuth 2.0 Client does not exist.")), loginRule{}, Rejected, ofClientOrAll, "NXRC"},
		{"Authelia, pushed requests required", asToR(authelia("invalid_request", "Pushed Authorization Requests are required"), authelia("invalid_client", "The requested OAuth 2.0 Client does not exist.")), loginRule{}, Rejected, ofRequest, "NXRC"},
		{"Keycloak, unknown redirect URL", asToR(with(400, keycloak+"Invalid parameter: redirect_uri</p>"), with(400, keycloak+"Client not found.</p>")), loginRule{}, Rejected, ofRedirect, "NXRC"},
		{"Keycloak in German", asToR(with(400, german+"Ung&uuml;ltiger Parameter: redirect_uri</p>"), with(400, german+"Client nicht gefunden.</p>")), loginRule{}, Rejected, ofRedirect, "NXRC"},
		{"Keycloak in German, a disabled client", asToR(with(400, german+"Client deaktiviert.</p>"), with(400, german+"Client nicht gefunden.</p>")), loginRule{}, Rejected, ofRedirectOrOther, "NXRC"},
		{"Keycloak, a disabled realm", toAll(with(400, german+"Realm nicht aktiviert</p>")), loginRule{}, Rejected, ofClientOrAll, "NXRC"},
		{"node-oidc-provider, with entities", asToR(with(400, "<pre><strong>error</strong>: invalid_redirect_uri</pre><pre>client&#39;s registered redirect_uris</pre>"), with(400, "<pre><strong>error</strong>: invalid_client</pre><pre>client is invalid</pre>")), loginRule{}, Rejected, ofRedirect, "NXRC"},
		{"Pocket ID 2.10, prose in the address", asToR(to("https://auth.example.test/error?error=Invalid+callback+URL"), to("https://auth.example.test/error?error=Client+not+found")), loginRule{}, Rejected, ofRedirect, "NXRC"},
		{"Google, an error of another name", asToR(to("https://accounts.example.test/signin/error?authError=ChVyZWRp"), to("https://accounts.example.test/signin/error?authError=Cg5pbnZh")), loginRule{}, Rejected, ofClientOrAll, "NXRC"}, // identifiers are no words
		{"Hydra, its own page", alike(to("https://auth.example.test/oauth2/fallbacks/error?error=invalid_client&error_description=unknown"), to("https://auth.example.test/oauth2/fallbacks/error?error=invalid_request&error_description=redirect_uri"), to("https://auth.example.test/oauth2/fallbacks/error?error=invalid_client&error_description=unknown")), loginRule{}, Rejected, ofClient, "NXRC"},
		{"a page of status 500 with an error in JSON", alike(with(500, `{"error":"invalid_client"}`), with(500, `{"error":"invalid_request"}`), with(500, `{"error":"invalid_client"}`)), loginRule{}, Rejected, ofClient, "NXRC"},
		{"Authlib, JSON with status 200", alike(with(200, `{"error":"invalid_client"}`), with(200, `{"error":"invalid_request"}`), with(200, `{"error":"invalid_client"}`)), loginRule{}, Rejected, ofClient, "NXRC"},
		{"a request that is refused unlike both", alike(with(400, "request object missing"), with(400, "unknown redirect_uri"), with(400, "unknown client")), loginRule{}, Rejected, ofRequest, "NXRC"},
		{"the controls are limited", alike(with(400, "unknown client"), with(429, "")), loginRule{}, Rejected, ofUnknown, "NXR"},

		// Login pages.
		{"Dex: a page after one hop, and refusals there", alike(with(200, loginPage), with(400, "Unregistered redirect_uri."), with(404, "Invalid client_id.")), loginRule{}, Accepted, "", "NXRC"},
		{"the same, remembered", alike(with(200, loginPage)), known, Accepted, "", "NX"},
		{"memory does not serve a refusal", asToR(with(400, "no"), with(404, "other")), known, Rejected, ofRedirectOrOther, "NXRC"},
		{"django, 500 to every right prompt=none", answers{"N": with(500, "<h1>Server Error (500)</h1>"), "X": to("https://auth.example.test/accounts/login/?next=/x"), "R": with(400, `{"error":"invalid_request"}`), "C": with(400, `{"error":"invalid_request"}`)}, loginRule{}, Accepted, "", "NXRC"},
		{"LemonLDAP, a login page for any redirect URL", asToR(with(200, loginPage), with(400, "unknown client")), loginRule{}, NoVerdict, "", "NXRC"},
		{"a login page for everyone", toAll(with(200, loginPage)), loginRule{}, NoVerdict, "", "NXRC"},
		{"Kerberos before the form", alike(with(401, "<h1>Unauthorized</h1>"), with(400, "redirect_uri"), with(400, "client")), loginRule{}, Accepted, "", "NXRC"},
		{"a login at another origin", alike(to("https://sso.example.test/login"), to("https://sso.example.test/error?error=no"), to("https://sso.example.test/error?error=no")), loginRule{}, Accepted, "", "NXRC"},
		{"django-oidc-provider, error pages of status 200", asToR(with(200, "Redirect URI Error"), with(200, "Client ID Error")), loginRule{}, NoVerdict, "", "NXRC"},
		{"the same, where another redirect URL goes back", alike(with(200, "Redirect URI Error")), loginRule{wentBack: true}, Rejected, ofNoPrompt, "NX"},
		{"a login at another origin, which went back before", toAll(to("https://sso.example.test/login")), loginRule{wentBack: true}, NoVerdict, "", "NXRC"},

		// What is in front of an issuer.
		{"403 for all", toAll(with(403, "<h1>Forbidden</h1>")), loginRule{}, NoVerdict, "", "NXRC"},
		{"403 for all, as JSON that repeats the status", toAll(with(403, `{"error":"Forbidden"}`)), loginRule{}, NoVerdict, "", "NXRC"},
		{"Auth0, 403 for the redirect URL", asToR(with(403, "Callback URL mismatch."), with(403, "Unknown client")), loginRule{}, Rejected, ofRedirect, "NXRC"},
		{"glewlwyd, 403 without a body for the client", alike(with(403, ""), with(400, "redirect"), with(403, "")), loginRule{}, Rejected, ofClient, "NXRC"},
		{"a gateway's error", answers{"N": with(502, "<h1>Bad Gateway</h1>"), "X": with(502, `{"error":"bad gateway"}`)}, loginRule{}, NoVerdict, "", "NX"},
		{"no answer", alike(noAnswer()), loginRule{}, NoVerdict, "", "NX"},
		{"a limit later", alike(with(200, loginPage), with(429, "")), loginRule{}, RateLimited, "", "NXR"},
		{"403, and the controls are limited", alike(with(403, ""), with(429, "")), loginRule{}, NoVerdict, "", "NXR"},
		{"a redirect without an end", alike(with(302, "")), loginRule{}, NoVerdict, "", "NX"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			issuer := &table{T: t, answers: tt.answers, read: loginReplyTo}
			rule := tt.rule
			rule.ask = issuer.ask
			j := rule.judge()
			if asked := strings.Join(issuer.asked, ""); j.decision != tt.want || j.cause != tt.cause || asked != tt.asked {
				t.Errorf("%s about %q after %s, want %s about %q after %s\n%+v", j.decision, j.cause, asked, tt.want, tt.cause, tt.asked, j)
			}
			if j.decision != Rejected && j.why == "" {
				t.Errorf("no reason: %+v", j)
			}
		})
	}
}

// A registered "*" makes a made-up redirect URL go too: the answer proves the client all the same.
func TestReplyEndsAtTheRedirectURLThatWasAskedFor(t *testing.T) {
	for location, want := range map[string]class{
		testRedirect + "?error=login_required":               goes,
		testRedirect + "/?error=login_required":              goes,
		"HTTPS://PVE.example.test:8006?error=login_required": goes,
		"https://pve.example.test?error=login_required":      refuses,
		"http://pve.example.test:8006?error=login_required":  refuses,
		"https://pve.example.test.evil.test:8006/?error=no":  refuses,
		testRedirect + "/callback?error=login_required":      refuses,
		"https://evil.test/?next=" + testRedirect:            shows,
		testRedirect + "?error=":                             goes,
		"https://auth.example.test/x?show_error=false":       shows,
		"https://auth.example.test/#/error?error=no_client":  refuses,
		"app:open?error=login_required":                      refuses,
	} {
		u, err := url.Parse(location)
		if err != nil {
			t.Fatal(err)
		}
		a := answer{url: testEndpoint, status: http.StatusSeeOther, location: u}
		if got := loginReply(a, testRedirect, func(s string) string { return s }).Class; got != want {
			t.Errorf("%s: %s, want %s", location, got, want)
		}
	}
	if !sameTarget(must(url.Parse("https://pve.example.test:443/x?y")), "https://PVE.example.test/x") {
		t.Error("the port of the scheme is no difference")
	}
}

func must(u *url.URL, _ error) *url.URL { return u }

func TestSameAnswers(t *testing.T) {
	mark := func(need string, a answer) Mark {
		redirectURL, fix := settled(need)
		return loginReply(a, redirectURL, fix).Mark
	}
	for name, pair := range map[string][2]answer{
		"another client":    {with(400, `Unknown client "proxmox".`), with(400, `Unknown client "proxmox-realm-verify".`)},
		"identifiers":       {with(400, "error. Trace 8f3a-11 aXbYcZ"), with(400, "error. Trace 91bc-07 qWeRtY")},
		"addresses":         {with(400, "error at https://auth.example.test/x?state=1"), with(400, "error at https://auth.example.test/y?state=2")},
		"other parameters":  {to("https://auth.example.test/error/1?error=no&id=1"), to("https://auth.example.test/error/2?id=2&error=no")},
		"invisible parts":   {with(400, "<script>a</script><!-- 1 --><p class=x>no</p>"), with(400, "<script>b</script><!-- 2 --><p class=y>no</p>")},
		"entities":          {with(400, "<p>client&#39;s</p>"), with(400, "<p>client's</p>")},
		"random long words": {with(400, "no "+strings.Repeat("a", 21)), with(400, "no "+strings.Repeat("b", 21))},
	} {
		if mark("X", pair[0]) != mark("C", pair[1]) {
			t.Errorf("%s: the answers are not the same", name)
		}
	}
	for name, pair := range map[string][2]answer{
		"another word":   {with(400, "unknown client"), with(400, "disabled client")},
		"another status": {with(400, "no"), with(404, "no")},
		"another end":    {with(200, "no"), to("https://auth.example.test/no")},
		"another code":   {to("https://auth.example.test/e?error=invalid_client"), to("https://auth.example.test/e?error=invalid_request")},
	} {
		if mark("X", pair[0]) == mark("C", pair[1]) {
			t.Errorf("%s: the answers are the same", name)
		}
	}
	// A client may be called as any other word is: made-up values are replaced, not cut out.
	declared, made := values{client: "t"}, values{client: MadeUp}
	if got := settle("the client "+MadeUp+" is not there", made, declared); got != "the client t is not there" {
		t.Errorf("%q", got)
	}
	_, fix := settled("R")
	if got := words(fix("redirect_uri " + url.QueryEscape(otherURL) + " of proxmox-realm-verify.invalid")); got != "redirect_uri https of pve.example.test" {
		t.Errorf("%q", got)
	}
}

func FuzzReply(f *testing.F) {
	f.Add(302, testRedirect+"?error=login_required", `{"error":"invalid_client"}`)
	f.Add(200, "", "<html><script>")
	f.Add(400, "", "<p>&#39;&nbsp;\xff")
	f.Fuzz(func(t *testing.T, status int, location, body string) {
		a := answer{url: testEndpoint, status: status, body: []byte(body), header: http.Header{}}
		if u, err := url.Parse(location); err == nil && location != "" {
			a.location = u
		}
		r := loginReply(a, testRedirect, func(s string) string { return s })
		if !slices.Contains([]class{goes, refuses, shows, gates, breaks}, r.Class) {
			t.Errorf("%d %q %q: %+v", status, location, body, r)
		}
		if again := loginReply(a, testRedirect, func(s string) string { return s }); again.Mark != r.Mark {
			t.Error("the same answer twice is not the same")
		}
		k := tokenReply(a, "", func(s string) string { return s })
		if !slices.Contains([]class{aboutCode, aboutOther, breaks}, k.Class) {
			t.Errorf("%d %q: %+v", status, body, k)
		}
	})
}
