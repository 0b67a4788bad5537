package issuer

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// minEntropy is how many characters state and nonce need.
const minEntropy = 8

// authorization is the authorization endpoint (OpenID Connect Core 1.0,
// section 3.1.2), checking in the order of Authelia's authorize_request_handler.go.
func (s *Server) authorization(w http.ResponseWriter, r *http.Request) {
	root, name := s.root(r), s.name(r)
	parameters := r.Form
	if client, known := s.Client(parameters.Get("client_id")); known && client.RequirePushed {
		s.refuse(w, root, errInvalidRequest.because("Pushed Authorization Requests are required but this request was not pushed."))
		return
	}
	client, err := s.validate(parameters)
	if err != nil {
		if client == nil {
			s.refuse(w, root, err)
		} else {
			fromEngine(err).toClient(w, name, parameters.Get("redirect_uri"), parameters.Get("state"))
		}
		return
	}

	prompt := strings.Fields(parameters.Get("prompt"))
	current, loggedIn := s.session(r)
	if slices.Contains(prompt, "none") && !s.habit().IgnoresNone {
		failure := errLoginRequired
		if loggedIn {
			failure = errConsentRequired // consent is asked for each time, as Authelia does by default
		}
		failure.toClient(w, name, parameters.Get("redirect_uri"), parameters.Get("state"))
		return
	}

	began := &flow{
		id:          identifier(),
		clientID:    client.ID,
		redirectURI: parameters.Get("redirect_uri"),
		state:       parameters.Get("state"),
		nonce:       parameters.Get("nonce"),
		scopes:      slices.Compact(slices.Sorted(slices.Values(strings.Fields(parameters.Get("scope"))))),
		issuer:      name,
		root:        root,
		freshLogin:  slices.Contains(prompt, "login"),
		begun:       s.now(),
	}
	if challenge := parameters.Get("code_challenge"); challenge != "" {
		began.challenge = &oidc.CodeChallenge{Challenge: challenge, Method: oidc.CodeChallengeMethod(parameters.Get("code_challenge_method"))}
	}
	s.mu.Lock()
	s.flows[began.id] = began
	s.mu.Unlock()

	page := pathLogin
	if loggedIn && began.accepts(current) {
		page = pathConsent
	}
	redirect(w, http.StatusFound, root+page+"?"+began.query())
}

// query names the flow in URLs of the portal.
func (f *flow) query() string {
	return url.Values{"flow": {"openid_connect"}, "flow_id": {f.id}}.Encode()
}

// accepts reports whether a session will do, or a login is asked for.
func (f *flow) accepts(current session) bool {
	return !f.freshLogin || !current.since.Before(f.begun)
}

// validate checks the parameters of an authorization request. A nil client
// says that the redirect URI cannot be trusted with the error.
func (s *Server) validate(parameters url.Values) (*Client, error) {
	client, known := s.Client(parameters.Get("client_id"))
	if !known {
		return nil, errInvalidClient.because("The requested OAuth 2.0 Client does not exist.")
	}
	redirectURI, scopes := parameters.Get("redirect_uri"), strings.Fields(parameters.Get("scope"))
	switch mode := parameters.Get("response_mode"); {
	case redirectURI == "" && slices.Contains(scopes, "openid"):
		return nil, errInvalidRequest.because("The 'redirect_uri' parameter is required when using OpenID Connect 1.0.")
	case !matchesRedirect(redirectURI, client.RedirectURIs) && !s.habit().JudgesLate:
		return nil, errInvalidRequest.because("The 'redirect_uri' parameter does not match any of the OAuth 2.0 Client's pre-registered 'redirect_uris'.")
	case mode != "" && mode != "query":
		return &client, errUnsupportedResponseMode.because("Request with unsupported response_mode '%s'.", mode)
	}
	for _, scope := range scopes {
		if !slices.Contains(client.Scopes, scope) {
			return &client, errInvalidScope.because("The OAuth 2.0 Client is not allowed to request scope '%s'.", scope)
		}
	}
	switch responseType := parameters.Get("response_type"); {
	case responseType == "":
		return &client, errUnsupportedResponseType.because("The request is missing the 'response_type' parameter.")
	case !slices.Contains(client.ResponseTypes, responseType):
		return &client, errUnsupportedResponseType.because("The client is not allowed to request response_type '%s'.", responseType)
	case len(parameters.Get("state")) < minEntropy:
		return &client, errInvalidState.because("Request parameter 'state' must be at least be %d characters long to ensure sufficient entropy.", minEntropy)
	}
	if nonce := parameters.Get("nonce"); nonce != "" && len(nonce) < minEntropy {
		return &client, errInsufficientEntropy.because("Parameter 'nonce' is set but does not satisfy the minimum entropy of %d characters.", minEntropy)
	}
	return &client, nil
}

// matchesRedirect compares redirect URIs byte by byte, save that the port of a
// loopback address over http is free (RFC 8252, section 7.3).
func matchesRedirect(asked string, registered []string) bool {
	if asked == "" {
		return false
	}
	if slices.Contains(registered, asked) {
		return true
	}
	target, err := url.Parse(asked)
	if err != nil || target.Scheme != "http" || !net.ParseIP(target.Hostname()).IsLoopback() {
		return false
	}
	return slices.ContainsFunc(registered, func(text string) bool {
		known, err := url.Parse(text)
		return err == nil && known.Hostname() == target.Hostname() && known.Path == target.Path && known.RawQuery == target.RawQuery
	})
}

// complete ends a flow to which the user agreed: with a code, or with what
// Authelia only finds out now.
func (s *Server) complete(w http.ResponseWriter, r *http.Request, f *flow, current session) {
	client, known := s.Client(f.clientID)
	switch {
	case !known:
		errInvalidClient.toPortal(w, f.root)
		return
	case !matchesRedirect(f.redirectURI, client.RedirectURIs):
		errInvalidRequest.because("The 'redirect_uri' parameter does not match any of the OAuth 2.0 Client's pre-registered 'redirect_uris'.").toPortal(w, f.root)
		return
	case f.challenge == nil && client.RequirePKCE:
		errInvalidRequest.because("Clients must include a 'code_challenge' when performing the authorize code flow, but it is missing.").toClient(w, f.issuer, f.redirectURI, f.state)
		return
	case f.challenge != nil && f.challenge.Method != oidc.CodeChallengeMethodS256:
		errInvalidRequest.because("Clients must use the 'code_challenge_method' 'S256'.").toClient(w, f.issuer, f.redirectURI, f.state)
		return
	}
	s.mu.Lock()
	f.session, f.granted = current, s.now()
	s.mu.Unlock()
	code, err := op.CreateAuthRequestCode(r.Context(), f, storage{s: s}, s.crypto)
	if err != nil {
		errServer.toClient(w, f.issuer, f.redirectURI, f.state)
		return
	}
	parameters := url.Values{"code": {code}, "iss": {f.issuer}, "scope": {strings.Join(f.scopes, " ")}}
	if f.state != "" {
		parameters.Set("state", f.state)
	}
	redirect(w, http.StatusSeeOther, withQuery(f.redirectURI, parameters))
}

// pushedAuthorization takes authorization requests beforehand (RFC 9126). Nobody comes back with what it answers.
func (s *Server) pushedAuthorization(w http.ResponseWriter, r *http.Request) {
	client, err := s.authenticate(r)
	if err == nil {
		r.PostForm.Set("client_id", client.ID)
		_, err = s.validate(r.PostForm)
	}
	if err != nil {
		fromEngine(err).write(w)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
	writeJSON(w, http.StatusCreated, map[string]any{
		"request_uri": "urn:ietf:params:oauth:request_uri:" + identifier(), "expires_in": int(lifespanPushed.Seconds()),
	})
}
