package issuer

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/zitadel/oidc/v3/pkg/oidc"
)

// protocolError is an error as RFC 6749 (sections 4.1.2.1 and 5.2), RFC 7662
// and OpenID Connect Core 1.0 (section 3.1.2.6) name them, in Authelia's words.
type protocolError struct {
	code        string
	status      int
	description string
	hint        string
}

// The errors that Authelia answers with, worded as in its transcripts and in
// authelia.com/provider/oauth2, errors.go.
var (
	errInvalidRequest = worded("invalid_request", http.StatusBadRequest,
		"The request is missing a required parameter, includes an invalid parameter value, includes a parameter more than once, or is otherwise malformed.")
	errInvalidClient = worded("invalid_client", http.StatusUnauthorized,
		"Client authentication failed (e.g., unknown client, no client authentication included, or unsupported authentication method).")
	errInvalidGrant = worded("invalid_grant", http.StatusBadRequest,
		"The provided authorization grant (e.g., authorization code, resource owner credentials) or refresh token is invalid, expired, revoked, does not match the redirection URI used in the authorization request, or was issued to another client.")
	errUnauthorizedClient      = worded("unauthorized_client", http.StatusBadRequest, "The client is not authorized to request a token using this method.")
	errInvalidScope            = worded("invalid_scope", http.StatusBadRequest, "The requested scope is invalid, unknown, or malformed.")
	errUnsupportedResponseType = worded("unsupported_response_type", http.StatusBadRequest,
		"The authorization server does not support obtaining a token using this method.")
	errUnsupportedResponseMode = worded("unsupported_response_mode", http.StatusBadRequest,
		"The authorization server does not support obtaining a response using this response mode.")
	errInvalidState = worded("invalid_state", http.StatusBadRequest,
		"The state is missing or does not have enough characters and is therefore considered too weak.")
	errInsufficientEntropy = worded("insufficient_entropy", http.StatusBadRequest,
		"The request used a security parameter (e.g., anti-replay, anti-csrf) with insufficient entropy.")
	errLoginRequired       = worded("login_required", http.StatusBadRequest, "The Authorization Server requires End-User authentication.")
	errConsentRequired     = worded("consent_required", http.StatusBadRequest, "The Authorization Server requires End-User consent.")
	errAccessDenied        = worded("access_denied", http.StatusForbidden, "The resource owner or authorization server denied the request.")
	errRequestUnauthorized = worded("request_unauthorized", http.StatusUnauthorized,
		"The request could not be authorized. The request either did not include a known client authentication method, or contained invalid authentication details.")
	errServer = worded("server_error", http.StatusInternalServerError,
		"The authorization server encountered an unexpected condition that prevented it from fulfilling the request.")
)

func worded(code string, status int, description string) protocolError {
	return protocolError{code: code, status: status, description: description}
}

func (e protocolError) Error() string { return e.code + ": " + e.text() }

// because adds what is wrong with this very request.
func (e protocolError) because(format string, args ...any) protocolError {
	e.hint = fmt.Sprintf(format, args...)
	return e
}

// text is description and hint in one, as clients get them.
func (e protocolError) text() string {
	if e.hint == "" {
		return e.description
	}
	return e.description + " " + e.hint
}

// body is the JSON answer of RFC 6749, section 5.2.
func (e protocolError) body() map[string]string {
	return map[string]string{"error": e.code, "error_description": e.text()}
}

func (e protocolError) write(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
	writeJSON(w, e.status, e.body())
}

// toClient sends the browser back to the client with the error (RFC 6749, section 4.1.2.1; RFC 9207).
func (e protocolError) toClient(w http.ResponseWriter, issuer, redirectURI, state string) {
	parameters := url.Values{"error": {e.code}, "error_description": {e.text()}, "iss": {issuer}}
	if state != "" {
		parameters.Set("state", state)
	}
	redirect(w, http.StatusSeeOther, withQuery(redirectURI, parameters))
}

// toPortal shows the error on the issuer's own page: where it is not certain
// that the redirect URI is the client's.
func (e protocolError) toPortal(w http.ResponseWriter, root string) {
	parameters := url.Values{
		"error":             {e.code},
		"error_description": {e.description},
		"error_status_code": {strconv.Itoa(e.status)},
	}
	if e.hint != "" {
		parameters.Set("error_hint", e.hint)
	}
	redirect(w, http.StatusFound, root+pathCompletion+"?"+parameters.Encode())
}

// fromEngine puts an error of the provider library into Authelia's words.
func fromEngine(err error) protocolError {
	if own, ok := errors.AsType[protocolError](err); ok {
		return own
	}
	if theirs, ok := errors.AsType[*oidc.Error](err); ok && theirs.ErrorType == oidc.InvalidGrant {
		return errInvalidGrant
	}
	return errServer
}
