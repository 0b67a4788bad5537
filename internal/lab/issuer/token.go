package issuer

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// The client authentication methods that clients can be registered for.
const (
	methodBasic = "client_secret_basic"
	methodPost  = "client_secret_post"
	methodNone  = "none"
)

// token is the token endpoint (RFC 6749, section 3.2), for authorization codes alone.
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	if _, ok := s.flowByCode(r.PostForm.Get("code")); !ok && s.habit().CodeFirst {
		errInvalidGrant.write(w)
		return
	}
	client, err := s.authenticate(r)
	if err != nil {
		fromEngine(err).write(w)
		return
	}
	if grant := r.PostForm.Get("grant_type"); !slices.Contains(client.GrantTypes, grant) || grant != string(oidc.GrantTypeCode) {
		errUnauthorizedClient.because("The OAuth 2.0 Client is not allowed to use authorization grant '%s'.", grant).write(w)
		return
	}

	request := &oidc.AccessTokenRequest{
		Code:         r.PostForm.Get("code"),
		RedirectURI:  r.PostForm.Get("redirect_uri"),
		CodeVerifier: r.PostForm.Get("code_verifier"),
	}
	// The library looks at the verifier of a confidential client only where there is one.
	if flow, ok := s.flowByCode(request.Code); ok && flow.challenge != nil && request.CodeVerifier == "" {
		errInvalidGrant.because("The PKCE code verifier must be at least 43 characters.").write(w)
		return
	}
	response, err := s.engine.CodeExchange(r.Context(), &op.ClientRequest[oidc.AccessTokenRequest]{
		Request: &op.Request[oidc.AccessTokenRequest]{Method: r.Method, URL: r.URL, Header: r.Header, Form: r.Form, PostForm: r.PostForm, Data: request},
		Client:  registered{client: client},
	})
	if err != nil {
		fromEngine(err).write(w)
		return
	}
	w.Header().Set("Cache-Control", "no-store") // RFC 6749, section 5.1
	w.Header().Set("Pragma", "no-cache")
	writeJSON(w, http.StatusOK, response.Data)
}

// introspection answers about tokens (RFC 7662). Whoever cannot authenticate
// gets request_unauthorized; v4.39.20 takes Basic here from every client with a secret.
func (s *Server) introspection(w http.ResponseWriter, r *http.Request) {
	id, secret, _, err := credentials(r)
	client, known := s.Client(id)
	switch blind := s.habit().BlindIntrospection; {
	case blind:
	case err != nil || !known || secret == "" || !client.has(secret):
		errRequestUnauthorized.write(w)
		return
	}
	writeJSON(w, http.StatusOK, map[string]bool{"active": false}) // agents ask with tokens that they made up
}

// userinfo answers with the claims of an access token (OpenID Connect Core 1.0, section 5.3).
func (s *Server) userinfo(w http.ResponseWriter, r *http.Request) {
	scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || text == "" {
		s.unauthorized(w)
		return
	}
	response, err := s.engine.UserInfo(r.Context(), &op.Request[oidc.UserInfoRequest]{
		Method: r.Method, URL: r.URL, Header: r.Header, Data: &oidc.UserInfoRequest{AccessToken: text},
	})
	if err != nil {
		s.unauthorized(w)
		return
	}
	writeJSON(w, http.StatusOK, response.Data)
}

func (s *Server) unauthorized(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", `Bearer error="`+errRequestUnauthorized.code+`",error_description="`+errRequestUnauthorized.description+`"`)
	errRequestUnauthorized.write(w)
}

// authenticate finds the client that a request comes from (RFC 6749, section 2.3),
// by the one method that it is registered for.
func (s *Server) authenticate(r *http.Request) (Client, error) {
	id, secret, method, err := credentials(r)
	if err != nil {
		return Client{}, err
	}
	client, known := s.Client(id)
	switch {
	case !known:
		return Client{}, errInvalidClient
	case client.AuthMethod != method:
		return Client{}, errInvalidClient.because("The request was determined to be using 'token_endpoint_auth_method' method '%s', however the OAuth 2.0 client registration does not allow this method.", method)
	case method != methodNone && !client.has(secret):
		return Client{}, errInvalidClient
	}
	return client, nil
}

// credentials reads id and secret from header or body, and says by which method they came.
func credentials(r *http.Request) (id, secret, method string, err error) {
	basicID, basicSecret, _ := r.BasicAuth() // form-encoded before they are Base64 (RFC 6749, section 2.3.1)
	basicID, errID := url.QueryUnescape(basicID)
	basicSecret, errSecret := url.QueryUnescape(basicSecret)
	if errID != nil || errSecret != nil {
		return "", "", "", errInvalidRequest.because("The client credentials in the HTTP authorization header could not be parsed. Either the scheme was missing, the scheme was invalid, or the value had malformed data.")
	}
	id, secret = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	posted := id != "" && secret != ""
	if id == "" {
		id = basicID
	}
	switch {
	case id == "":
		return "", "", "", errInvalidRequest.because("Client Credentials missing or malformed.")
	case posted && basicSecret != "":
		return "", "", "", errInvalidRequest.because("Client Authentication failed with more than one known authentication method included in the request which is not permitted.")
	case posted:
		return id, secret, methodPost, nil
	case basicSecret != "":
		return id, basicSecret, methodBasic, nil
	}
	return id, "", methodNone, nil
}
