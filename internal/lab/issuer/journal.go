package issuer

import (
	"net/http"
	"net/url"
	"slices"
	"time"
)

// Request is one request as it came in. It holds no secrets: no client
// secret, password, token, cookie, verifier, or code that this issuer gave.
type Request struct {
	Time      time.Time
	Method    string
	Path      string
	Host      string
	UserAgent string
	ClientID  string
	GrantType string
	// Parameters are those of query and form that say what was asked:
	// response_type, redirect_uri, scope, prompt, acr_values, display and
	// code_challenge_method. A code is kept only if it is made up.
	Parameters url.Values
	Status     int // what it was answered; 0 while it is not
}

// record notes a request and returns its place in the list, with which its status is added later.
func (s *Server) record(r *http.Request, path string) *Request {
	entry := Request{Time: s.now(), Method: r.Method, Path: path, Host: r.Host, UserAgent: r.UserAgent(), Parameters: url.Values{}}
	// A form that cannot be parsed is refused where it is needed.
	_ = r.ParseForm()
	entry.ClientID = r.Form.Get("client_id")
	if id, _, ok := r.BasicAuth(); ok {
		if decoded, err := url.QueryUnescape(id); err == nil {
			entry.ClientID = decoded
		}
	}
	entry.GrantType = r.Form.Get("grant_type")
	for _, name := range []string{"response_type", "redirect_uri", "scope", "prompt", "acr_values", "display", "code_challenge_method"} {
		if values := r.Form[name]; len(values) > 0 {
			entry.Parameters[name] = slices.Clone(values)
		}
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if code := r.Form.Get("code"); code != "" {
		if _, given := s.codes[code]; !given && path == pathToken {
			entry.Parameters.Set("code", code)
		}
	}
	s.requests = append(s.requests, &entry)
	return &entry
}

func (s *Server) recordStatus(entry *Request, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	entry.Status = status
	s.log.Info("issuer", "method", entry.Method, "path", entry.Path, "status", status,
		"client", entry.ClientID, "parameters", entry.Parameters.Encode(), "agent", entry.UserAgent)
}
