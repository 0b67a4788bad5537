package issuer

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
	"strconv"
)

//go:embed portal.html
var portalText string

var portalTemplate = template.Must(template.New("portal").Parse(portalText))

const sessionCookie = "authelia_session"

// page is what the portal shows: a login form, unless a client asks for
// consent or there is an error to tell.
type page struct {
	Title       string
	Alert       string
	Flow        string
	User        string
	Client      string
	Scopes      []string
	Error       string
	Description string
	Hint        string
}

// login is the page with the password, and the front page of the portal.
func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	id := r.Form.Get("flow_id")
	if r.Method != http.MethodPost {
		s.portal(w, http.StatusOK, page{Title: "Login", Flow: id})
		return
	}
	name := r.PostForm.Get("username")
	s.mu.Lock()
	user, known := s.users[name]
	s.mu.Unlock()
	if !known || !sameSecret(user.Password, r.PostForm.Get("password")) {
		s.portal(w, http.StatusUnauthorized, page{Title: "Login", Flow: id, Alert: "Incorrect username or password"})
		return
	}
	key := identifier()
	s.mu.Lock()
	s.sessions[key] = session{user: name, since: s.now()}
	pending := s.flows[id]
	s.mu.Unlock()
	http.SetCookie(w, &http.Cookie{
		Name: sessionCookie, Value: key, Path: "/", HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode,
	})
	if pending == nil {
		s.portal(w, http.StatusOK, page{Title: "Authenticated", Alert: "Logged in; there is nothing more to do here"})
		return
	}
	redirect(w, http.StatusSeeOther, pending.root+pathConsent+"?"+pending.query())
}

// consent is the page on which the user lets the client have what it asked for, or not.
func (s *Server) consent(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	pending := s.flows[r.Form.Get("flow_id")]
	s.mu.Unlock()
	if pending == nil {
		errInvalidRequest.because("The consent session is unknown or expired.").toPortal(w, s.root(r))
		return
	}
	current, loggedIn := s.session(r)
	if !loggedIn || !pending.accepts(current) {
		redirect(w, http.StatusSeeOther, pending.root+pathLogin+"?"+pending.query())
		return
	}
	if r.Method != http.MethodPost {
		client, _ := s.Client(pending.clientID)
		s.portal(w, http.StatusOK, page{
			Title: "Consent", Flow: pending.id, User: current.user, Client: client.Name, Scopes: pending.scopes,
		})
		return
	}
	switch r.PostForm.Get("decision") {
	case "accept":
		s.complete(w, r, pending, current)
	default:
		s.mu.Lock()
		delete(s.flows, pending.id)
		s.mu.Unlock()
		errAccessDenied.toClient(w, pending.issuer, pending.redirectURI, pending.state)
	}
}

// completion tells of errors that concern no client.
func (s *Server) completion(w http.ResponseWriter, r *http.Request) {
	s.portal(w, http.StatusOK, page{
		Title: "Consent", Error: r.Form.Get("error"), Description: r.Form.Get("error_description"), Hint: r.Form.Get("error_hint"),
	})
}

// session finds who is logged in with this browser.
func (s *Server) session(r *http.Request) (session, bool) {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return session{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	current, ok := s.sessions[cookie.Value]
	return current, ok
}

func (s *Server) portal(w http.ResponseWriter, status int, content page) {
	var buffer bytes.Buffer
	if err := portalTemplate.Execute(&buffer, content); err != nil {
		errServer.write(w)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Length", strconv.Itoa(buffer.Len()))
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Referrer-Policy", "strict-origin-when-cross-origin")
	w.WriteHeader(status)
	_, _ = w.Write(buffer.Bytes())
}
