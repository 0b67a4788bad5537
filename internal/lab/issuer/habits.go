package issuer

import "net/http"

// Habits are ways in which other providers answer than Authelia does. The zero value is Authelia.
type Habits struct {
	CodeFirst          bool // the token endpoint looks at the code before it looks at the client
	BlindIntrospection bool // the introspection endpoint answers everyone alike
	IgnoresNone        bool // the login page is shown despite prompt=none
	JudgesLate         bool // a redirect URL is judged after the login
	ErrorPages         int  // the status of error pages without an error in their address; 0: there are none
	Off                bool // the OpenID Connect provider is switched off: only the portal answers
}

// SetHabits changes the habits.
func (s *Server) SetHabits(habits Habits) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.habits = habits
}

func (s *Server) habit() Habits {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.habits
}

// refuse shows an error that concerns no client, or a client whose redirect URI cannot be trusted.
func (s *Server) refuse(w http.ResponseWriter, root string, err error) {
	failure := fromEngine(err)
	if status := s.habit().ErrorPages; status != 0 {
		s.portal(w, status, page{Title: "Error", Error: failure.code, Description: failure.description, Hint: failure.hint})
		return
	}
	failure.toPortal(w, root)
}

// offered tells whether a path belongs to the OpenID Connect provider.
func offered(path string) bool {
	switch path {
	case pathLogin, pathConsent, pathCompletion:
		return false
	}
	return true
}
