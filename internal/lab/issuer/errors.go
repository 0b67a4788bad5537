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
	description string
	hint        string
	status      int
}

// The errors that Authelia answers with, worded as in its transcripts and in
// authelia.com/provider/oauth2, errors.go.
var (
	errInvalidRequest = protocolError{
		code:        "invalid_request",
		description: "The request is missing a required parameter, includes an invalid parameter value, includes a parameter more than once, or is otherwise malformed.",
		status:      http.StatusBadRequest,
	}
	errInvalidClient = protocolError{
		code:        "invalid_client",
		description: "Client authentication failed (e.g., unknown client, no client authentication included, or unsupported authentication method).",
		status:      http.StatusUnauthorized,
	}
	errInvalidGrant = protocolError{
		code:        "invalid_grant",
		description: "The provided authorization grant (e.g., authorization code, resource owner credentials) or refresh token is invalid, expired, revoked, does not match the redirection URI used in the authorization request, or was issued to another client.",
		status:      http.StatusBadRequest,
	}
	errUnauthorizedClient = protocolError{
		code:        "unauthorized_client",
		description: "The client is not authorized to request a token using this method.",
		status:      http.StatusBadRequest,
	}
	errInvalidScope = protocolError{
		code:        "invalid_scope",
		description: "The requested scope is invalid, unknown, or malformed.",
		status:      http.StatusBadRequest,
	}
	errUnsupportedResponseType = protocolError{
		code:        "unsupported_response_type",
		description: "The authorization server does not support obtaining a token using this method.",
		status:      http.StatusBadRequest,
	}
	errUnsupportedResponseMode = protocolError{
		code:        "unsupported_response_mode",
		description: "The authorization server does not support obtaining a response using this response mode.",
		status:      http.StatusBadRequest,
	}
	errInvalidState = protocolError{
		code:        "invalid_state",
		description: "The state is missing or does not have enough characters and is therefore considered too weak.",
		status:      http.StatusBadRequest,
	}
	errInsufficientEntropy = protocolError{
		code:        "insufficient_entropy",
		description: "The request used a security parameter (e.g., anti-replay, anti-csrf) with insufficient entropy.",
		status:      http.StatusBadRequest,
	}
	errInvalidRequestURI = protocolError{
		code:        "invalid_request_uri",
		description: "The request_uri in the authorization request returns an error or contains invalid data.",
		status:      http.StatusBadRequest,
	}
	errLoginRequired = protocolError{
		code:        "login_required",
		description: "The Authorization Server requires End-User authentication.",
		status:      http.StatusBadRequest,
	}
	errConsentRequired = protocolError{
		code:        "consent_required",
		description: "The Authorization Server requires End-User consent.",
		status:      http.StatusBadRequest,
	}
	errAccessDenied = protocolError{
		code:        "access_denied",
		description: "The resource owner or authorization server denied the request.",
		status:      http.StatusForbidden,
	}
	errRequestUnauthorized = protocolError{
		code:        "request_unauthorized",
		description: "The request could not be authorized. The request either did not include a known client authentication method, or contained invalid authentication details.",
		status:      http.StatusUnauthorized,
	}
	errServer = protocolError{
		code:        "server_error",
		description: "The authorization server encountered an unexpected condition that prevented it from fulfilling the request.",
		status:      http.StatusInternalServerError,
	}
)

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
	var own protocolError
	if errors.As(err, &own) {
		return own
	}
	var theirs *oidc.Error
	if !errors.As(err, &theirs) {
		return errServer
	}
	switch theirs.ErrorType {
	case oidc.InvalidGrant:
		return errInvalidGrant
	case oidc.InvalidClient:
		return errInvalidClient
	case oidc.InvalidRequest:
		return errInvalidRequest
	case oidc.UnauthorizedClient:
		return errUnauthorizedClient
	default:
		return errServer
	}
}
