package issuer

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/zitadel/oidc/v3/pkg/op"
)

// table maps the paths of Authelia 4.39 to what answers there.
func (s *Server) table() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		pathDiscovery:     s.discovery,
		pathKeys:          s.jwks,
		pathAuthorization: s.authorization,
		pathToken:         s.token,
		pathIntrospection: s.introspection,
		pathUserinfo:      s.userinfo,
		pathPushed:        s.pushedAuthorization,
		pathLogin:         s.login,
		pathConsent:       s.consent,
		pathCompletion:    s.completion,
	}
}

const (
	pathDiscovery     = "/.well-known/openid-configuration"
	pathKeys          = "/jwks.json"
	pathAuthorization = "/api/oidc/authorization"
	pathToken         = "/api/oidc/token"
	pathIntrospection = "/api/oidc/introspection"
	pathUserinfo      = "/api/oidc/userinfo"
	pathPushed        = "/api/oidc/pushed-authorization-request"
	pathLogin         = "/"
	pathConsent       = "/consent/openid/decision"
	pathCompletion    = "/consent/completion"
)

// serve handles every request: journal, host, faults, limits, route.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	s.travel(1)
	answer := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	path, below := strings.CutPrefix(r.URL.Path, s.path)
	entry := s.record(r, path)
	defer func() { s.recordStatus(entry, answer.status) }()

	s.mu.Lock()
	skew, fault := s.skew, s.takeFault(path)
	s.mu.Unlock()
	if skew != 0 {
		w.Header().Set("Date", s.now().Add(skew).UTC().Format(http.TimeFormat))
	}

	switch {
	case !slices.Contains(s.hosts, r.Host):
		plain(answer, http.StatusBadRequest)
		return
	case fault != nil && fault.answer(answer, r, s.closing):
		return
	}

	handler, known := s.routes[path]
	switch {
	case !below || !known && !isProgramPath(path):
		s.portal(answer, http.StatusOK, page{Title: "Login"})
		return
	case !known, offered(path) && s.habit().Off:
		plain(answer, http.StatusNotFound)
		return
	}
	if wait := s.limited(path, r); wait > 0 {
		s.tooMany(answer, wait)
		return
	}
	ctx := op.ContextWithIssuer(r.Context(), s.name(r))
	handler(answer, r.WithContext(ctx))
	if answer.status >= http.StatusBadRequest {
		s.countFailure(path, r)
	}
}

// isProgramPath reports whether Authelia answers 404 at an unknown path. At
// other paths its portal answers.
func isProgramPath(path string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(strings.ToLower(path), "/"), "/")
	return slices.Contains([]string{"api", ".well-known", "static", "locales"}, first)
}

// plain answers with the status in words.
func plain(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "%d %s", status, http.StatusText(status))
}

// name is what the issuer calls itself towards this request: it follows the
// Host header, as Authelia does.
func (s *Server) name(r *http.Request) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.issuer != "" {
		return s.issuer
	}
	return s.root(r)
}

// root is the URL below which the endpoints are.
func (s *Server) root(r *http.Request) string {
	return "https://" + r.Host + s.path
}

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// redirect answers without a body: http.Redirect would write a page.
func redirect(w http.ResponseWriter, status int, location string) {
	header := w.Header()
	header.Set("Location", location)
	header.Set("Cache-Control", "no-store")
	header.Set("Pragma", "no-cache")
	w.WriteHeader(status)
}

// withQuery adds parameters to a URL that may have some already.
func withQuery(target string, parameters url.Values) string {
	parsed, err := url.Parse(target)
	if err != nil {
		return target
	}
	query := parsed.Query()
	maps.Copy(query, parameters)
	parsed.RawQuery = query.Encode()
	return parsed.String()
}
