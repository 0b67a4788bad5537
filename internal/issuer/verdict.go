package issuer

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"proxmox-realm/internal/realm"
)

// subject is what a rejection is about.
type subject string

const (
	ofKey      subject = "client key"
	ofClient   subject = "client id"
	ofMethod   subject = "client authentication method"
	ofGrant    subject = "authorization code grant"
	ofRedirect subject = "redirect URL"
	ofScope    subject = "scopes"
	ofResponse subject = "response type code"
)

// oauthError is an error answer (RFC 6749 section 5.2), with Authelia's addition of a hint.
type oauthError struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
	Hint        string `json:"error_hint"`
}

// String returns "invalid_scope: description hint".
func (e oauthError) String() string {
	text := strings.TrimSpace(e.Description + " " + e.Hint)
	if text == "" {
		return e.Code
	}
	return e.Code + ": " + text
}

func (e oauthError) mentions(words ...string) bool {
	text := strings.ToLower(e.Description + " " + e.Hint)
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, strings.ToLower(w)) })
}

// tokenAnswers says what an error of the token endpoint means after a made-up code. The first row that fits counts;
// an error without a row is no verdict.
var tokenAnswers = []struct {
	product product // "": any
	code    string
	text    string // that the description contains; "": any
	outcome Decision
	about   subject
}{
	// These look at the code's form before the key, so their invalid_grant says nothing about the key.
	{entra, "invalid_grant", "AADSTS9002313", NoVerdict, ""},
	{entra, "invalid_grant", "AADSTS9002312", NoVerdict, ""},
	{google, "invalid_grant", "Malformed auth code", NoVerdict, ""},

	{"", "invalid_grant", "", Accepted, ""}, // RFC 6749 section 5.2: the client was recognised, the code was not

	{"", "invalid_client", "token_endpoint_auth_method", Rejected, ofMethod}, // Authelia: … does not allow this method
	{entra, "invalid_client", "AADSTS700016", Rejected, ofClient},
	{google, "invalid_client", "not found", Rejected, ofClient},
	{zitadel, "invalid_client", "not found", Rejected, ofClient},
	{"", "invalid_client", "", Rejected, ofKey},

	{entra, "unauthorized_client", "AADSTS700016", Rejected, ofClient},
	{keycloak, "unauthorized_client", "not allowed", Rejected, ofGrant}, // the standard flow is off
	{keycloak, "unauthorized_client", "", Rejected, ofKey},              // 401, "Invalid client or Invalid client credentials"
	{"", "unauthorized_client", "", Rejected, ofGrant},                  // RFC 6749 section 5.2
}

// tokenVerdict reads an answer of the token endpoint. knownRedirect tells that the presented redirect URL is registered.
func tokenVerdict(a answer, p product, knownRedirect bool) Verdict {
	e, v, final := errorAnswer(a)
	if final {
		return v
	}
	if a.status != http.StatusBadRequest && a.status != http.StatusUnauthorized && a.status != http.StatusForbidden {
		return v
	}
	for _, row := range tokenAnswers {
		if row.code != e.Code || row.product != "" && row.product != p || !e.mentions(row.text) {
			continue
		}
		v.Decision, v.about = row.outcome, row.about
		break
	}
	if v.Decision == Rejected && p == authentik && !knownRedirect {
		// authentik refuses an unknown redirect URL in the same words as a wrong key (views/token.py).
		v.Decision = NoVerdict
	}
	return v
}

// introspectionVerdict reads an answer of the introspection endpoint (RFC 7662 sections 2.2 and 2.3).
func introspectionVerdict(a answer) Verdict {
	var active struct{ Active *bool }
	if a.err == nil && a.status == http.StatusOK && json.Unmarshal(a.body, &active) == nil && active.Active != nil {
		return Verdict{Decision: Accepted, Reason: fmt.Sprintf("the introspection endpoint answers: active %t", *active.Active)}
	}
	e, v, final := errorAnswer(a)
	if final {
		return v
	}
	if a.status == http.StatusUnauthorized && e.Code != "" {
		v.Decision, v.about = Rejected, ofKey
		if e.mentions("token_endpoint_auth_method", "introspection_endpoint_auth_method") {
			v.about = ofMethod
		}
	}
	return v
}

// errorAnswer reads an error answer. The verdict is final where there is nothing to interpret; otherwise it holds the reason.
func errorAnswer(a answer) (e oauthError, v Verdict, final bool) {
	if v, final := unanswered(a); final {
		return e, v, true
	}
	if json.Unmarshal(a.body, &e) != nil || e.Code == "" {
		return e, Verdict{Reason: fmt.Sprintf("%s answers %d without an OAuth error: %s", endpointOf(a.url), a.status, a.excerpt())}, true
	}
	return e, Verdict{Reason: fmt.Sprintf("%d %s", a.status, e)}, false
}

// unanswered is the verdict on what is no answer at all.
func unanswered(a answer) (Verdict, bool) {
	switch {
	case errors.Is(a.err, context.DeadlineExceeded):
		return Verdict{Reason: endpointOf(a.url) + " did not answer in time"}, true
	case a.err != nil:
		return Verdict{Reason: endpointOf(a.url) + ": " + reason(a.err)}, true
	case a.status == http.StatusTooManyRequests:
		return Verdict{Decision: RateLimited, Reason: endpointOf(a.url) + " answers 429" + a.againIn(), RetryAfter: a.retryAfter()}, true
	}
	return Verdict{}, false
}

// waiting are the errors with which an issuer says that a user would now be asked: everything before that is in order
// (OpenID Connect Core 1.0 section 3.1.2.6; the last is Google's).
var waiting = []string{"login_required", "interaction_required", "consent_required", "account_selection_required", "immediate_failed"}

// pages are error pages that issuers show in place of a redirect. All need a status from 400 up, but Entra ID's. Pages are
// matched by what they say in English; a translated page is no verdict.
var pages = []struct {
	product product // "": any
	text    string
	about   subject
}{
	{dex, "Unregistered redirect_uri", ofRedirect},
	{dex, "Invalid client_id", ofClient},
	{keycloak, "Invalid parameter: redirect_uri", ofRedirect},
	{keycloak, "Client not found", ofClient},
	{keycloak, "Client disabled", ofClient},
	{authentik, "Redirect URI Error", ofRedirect},
	{authentik, "mismatching redirection URI", ofRedirect},
	{authentik, "client identifier (client_id) is missing or invalid", ofClient},
	{entra, "AADSTS50011", ofRedirect},
	{entra, "AADSTS700016", ofClient},
	{entra, "AADSTS70011", ofScope},
	{entra, "AADSTS650053", ofScope},
	{"", "redirect_uri_mismatch", ofRedirect},
	{"", "The redirect URI included is not valid", ofRedirect},                                  // GitLab, Doorkeeper
	{"", "'redirect_uri' parameter must be a Login redirect URI in the client app", ofRedirect}, // Okta
	{"", "Callback URL mismatch", ofRedirect},                                                   // Auth0
}

// authorizationVerdict reads an answer of the authorization endpoint to a request with prompt=none.
func authorizationVerdict(a answer, p product, redirectURL string) Verdict {
	if v, final := unanswered(a); final {
		return v
	}
	if a.location != nil {
		return redirectVerdict(a, redirectURL)
	}
	var e oauthError
	if a.status >= 400 && json.Unmarshal(a.body, &e) == nil && e.Code != "" {
		return classify(e, fmt.Sprintf("%d %s", a.status, e))
	}
	for _, page := range pages {
		if (a.status >= 400 || page.product == entra) && (page.product == "" || page.product == p) && strings.Contains(string(a.body), page.text) {
			return Verdict{Decision: Rejected, about: page.about, Reason: fmt.Sprintf("a page of status %d says: %s", a.status, around(a.body, page.text))}
		}
	}
	if a.status == http.StatusOK {
		return Verdict{Reason: "the issuer shows a page in spite of prompt=none"}
	}
	return Verdict{Reason: fmt.Sprintf("%s answers %d: %s", endpointOf(a.url), a.status, a.excerpt())}
}

// redirectVerdict reads where the issuer sends the browser: back to Proxmox, to a page of its own with an error, or on to a login.
func redirectVerdict(a answer, redirectURL string) Verdict {
	said := parameters(a.location)
	e := oauthError{Code: said.Get("error"), Description: said.Get("error_description"), Hint: said.Get("error_hint")}
	back := sameTarget(a.location, redirectURL)
	switch {
	case back && said.Has("code"):
		return Verdict{Decision: Accepted, Reason: "the issuer gives a code"}
	case back && slices.Contains(waiting, e.Code):
		return Verdict{Decision: Accepted, Reason: e.Code}
	case back && e.Code != "":
		v := classify(e, e.String())
		if v.about == ofRedirect || e.Code == "invalid_request" {
			return Verdict{Reason: e.String()} // it was taken: the issuer redirected there
		}
		return v
	case e.Code != "":
		return classify(e, "the issuer's own page says: "+e.String())
	case said.Get("authError") != "":
		return googleVerdict(said.Get("authError"))
	case back:
		return Verdict{Reason: "the issuer redirects back without an error and without a code"}
	}
	return Verdict{Reason: "the issuer goes on to " + endpointOf(a.location.String()) + " in spite of prompt=none"}
}

// classify tells what an error other than those of waiting means for an authorization request.
func classify(e oauthError, reason string) Verdict {
	v := Verdict{Decision: Rejected, Reason: reason}
	switch {
	case e.Code == "redirect_uri_mismatch" || e.Code == "invalid_redirect_uri",
		e.mentions("redirect_uri", "redirect uri", "redirection uri", "redirect url"):
		v.about = ofRedirect
	case e.Code == "invalid_client" || e.Code == "invalid_request" && e.mentions("App.NotFound", "client not found", "unknown client", "client does not exist"):
		v.about = ofClient
	case e.Code == "unauthorized_client":
		v.about = ofGrant
	case e.Code == "invalid_scope":
		v.about = ofScope
	case e.Code == "unsupported_response_type":
		v.about = ofResponse
	default:
		return Verdict{Reason: reason}
	}
	return v
}

// googleVerdict reads the error that Google puts, Base64 of a protocol buffer with plain text in it, into the address
// of its error page.
func googleVerdict(encoded string) Verdict {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(encoded), "="))
	if err != nil {
		return Verdict{Reason: "the issuer goes on to an error page"}
	}
	for code, about := range map[string]subject{
		"redirect_uri_mismatch": ofRedirect, "invalid_client": ofClient, "deleted_client": ofClient, "invalid_scope": ofScope,
	} {
		if strings.Contains(string(raw), code) {
			return Verdict{Decision: Rejected, about: about, Reason: "the issuer's own page says: " + code}
		}
	}
	return Verdict{Reason: "the issuer goes on to an error page"}
}

// dexGoesOn tells whether Dex, with one connector, sends the whole request on to that connector's address.
func dexGoesOn(a answer, endpoint string) bool {
	u, err := url.Parse(endpoint)
	return a.err == nil && a.location != nil && err == nil && a.location.Scheme == "https" && a.location.Host == u.Host &&
		strings.HasPrefix(a.location.Path, u.Path+"/") && a.location.Query().Has("client_id")
}

// dexVerdict reads the answer at a connector's address: Dex goes on to the login only with a request that is in order.
func dexVerdict(a answer, redirectURL string) Verdict {
	if a.err == nil && a.location != nil && parameters(a.location).Get("error") == "" && !sameTarget(a.location, redirectURL) {
		return Verdict{Decision: Accepted, Reason: "Dex goes on to its login"}
	}
	return authorizationVerdict(a, dex, redirectURL)
}

// parameters returns what a redirect carries in its query and in its fragment.
func parameters(u *url.URL) url.Values {
	values := u.Query()
	if fragment, err := url.ParseQuery(u.Fragment); err == nil {
		for name, list := range fragment {
			if !values.Has(name) {
				values[name] = list
			}
		}
	}
	return values
}

// sameTarget tells whether a redirect goes to the redirect URL, parameters aside.
func sameTarget(location *url.URL, redirectURL string) bool {
	want, err := url.Parse(redirectURL)
	if err != nil {
		return false
	}
	path := func(u *url.URL) string { return "/" + strings.TrimPrefix(u.EscapedPath(), "/") }
	return location.Scheme == want.Scheme && strings.EqualFold(location.Host, want.Host) && path(location) == path(want)
}

// around returns the text of a page from a phrase on.
func around(body []byte, phrase string) string {
	text := plainText(body)
	if at := strings.Index(text, phrase); at >= 0 {
		return text[at:]
	}
	return phrase // it stood in a script
}

// credentialsHint says what mends a refused client.
func credentialsHint(v Verdict) string {
	reason := strings.ToLower(v.Reason)
	switch {
	case v.about == ofMethod:
		return "let the client authenticate by client_secret_basic, as Proxmox does (Authelia: token_endpoint_auth_method: 'client_secret_basic')"
	case v.about == ofGrant:
		return "allow the client the authorization code grant in the issuer (Authelia: grant_types; Keycloak: standard flow)"
	case v.about == ofClient:
		return "correct realm.client_id: the issuer does not know it"
	case strings.Contains(reason, "aadsts7000222"):
		return "make a new client secret in Entra ID: the one in realm.client_key has expired"
	case strings.Contains(reason, "aadsts7000215"):
		return "put the client secret's value, not its id, into realm.client_key"
	}
	return "make realm.client_id and realm.client_key what the issuer holds (Authelia: client_id and the digest client_secret; restart Authelia after a change), and let the client use client_secret_basic"
}

// requestHint says what mends a refused authorization request.
func requestHint(v Verdict, l realm.Login) string {
	switch v.about {
	case ofScope:
		return "allow the client the scopes " + l.ScopeParameter() + " in the issuer (Authelia: scopes), or take the refused one out of realm.scopes"
	case ofResponse:
		return "allow the client the response type code in the issuer (Authelia: response_types)"
	case ofClient:
		return "correct realm.client_id, or register the client in the issuer: it does not know " + l.ClientID
	}
	return "allow the client the authorization code flow in the issuer (Authelia: grant_types, response_types; Keycloak: standard flow)"
}
