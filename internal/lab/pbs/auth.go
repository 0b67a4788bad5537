package pbs

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"proxmox-realm/internal/lab/standin"
)

// challengeLifetime is how long the second step of a login may take.
const challengeLifetime = 10 * time.Minute

func (s *Server) signer() standin.Signer {
	return standin.Signer{Prefix: s.product.prefix, Key: s.store.View().Key, Now: s.opts.Now}
}

// active says whether a user or token exists, is enabled and has not expired.
func (s *Server) active(st *State, auth string) bool {
	user := st.Users[ownerOf(auth)]
	if user == nil || !s.inForce(user.Enable, user.Expire) {
		return false
	}
	if !isToken(auth) {
		return true
	}
	token := st.Tokens[auth]
	return token != nil && s.inForce(token.Enable, token.Expire)
}

func (s *Server) inForce(enable *bool, expire *int64) bool {
	return (enable == nil || *enable) && (expire == nil || *expire <= 0 || *expire > s.opts.Now().Unix())
}

// cookieTicket returns the ticket of the request's cookie, and whether there is such a cookie, empty or not.
func (s *Server) cookieTicket(r *http.Request) (ticket string, there bool) {
	for _, name := range []string{"__Host-" + s.product.cookie(), s.product.cookie()} {
		for _, line := range r.Header["Cookie"] {
			for part := range strings.SplitSeq(line, ";") {
				if value, ok := strings.CutPrefix(strings.TrimSpace(part), name+"="); ok {
					return decodePercent(value), true
				}
			}
		}
	}
	return "", false
}

// authenticate says who sends a request. With a cookie of the product's name, a token is not looked at. The error is for
// the journal alone.
func (s *Server) authenticate(r *http.Request) (string, error) {
	st := s.store.View()
	if ticket, there := s.cookieTicket(r); there {
		user, err := s.signer().Open(ticket, "", standin.TicketLifetime)
		switch {
		case err != nil:
			return "", err
		case !s.active(st, user):
			return "", refuse("user account disabled or expired.")
		case r.Method != http.MethodGet:
			if token := r.Header.Get("CSRFPreventionToken"); token == "" {
				return "", errors.New("missing CSRF prevention token")
			} else if !s.signer().CheckCSRF(user, token) {
				return "", refuse("invalid csrf token - invalid signature.")
			}
		}
		return user, nil
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), s.product.prefix+"APIToken")
	if !ok || token == "" || !strings.Contains("= ", token[:1]) {
		return "", refuse("no authentication credentials provided.")
	}
	id, secret, split := strings.Cut(token[1:], ":")
	switch known := st.Tokens[id]; {
	case !authID.MatchString(id):
		return "", errors.New("value does not match the regex pattern")
	case !s.active(st, id):
		return "", refuse("user account or token disabled or expired.")
	case !split:
		return "", errors.New("failed to split API token header")
	case known == nil || subtle.ConstantTimeCompare([]byte(known.Secret), []byte(decodePercent(secret))) != 1:
		return "", errors.New("invalid API token value")
	}
	return id, nil
}

var errLogin = &apiError{http.StatusUnauthorized, "permission check failed."}

// createTicket is POST /access/ticket: password, then, if the user has a second factor, a challenge and its answer.
func (c *call) createTicket() (any, error) {
	user, s := c.params.text("username"), c.s
	password, given := c.params["password"].(string)
	hidden := s.product.cookieOnly || c.params.flag("http-only")
	if !given {
		return nil, errors.New("no password provided")
	}
	challenge, err := c.checkLogin(user, password)
	if err != nil {
		s.logFailure(s.product.daemon, c, user, err)
		return nil, errLogin
	}
	if challenge {
		ticket := s.signer().Ticket(`!tfa!{"totp":true}`, user)
		return c.ticketAnswer(map[string]any{"username": user, "ticket": ticket, "CSRFPreventionToken": "invalid"})
	}
	return c.grantTicket(user, hidden)
}

// grantTicket answers with a ticket, in the body or, hidden from scripts, as a cookie.
func (c *call) grantTicket(user string, hidden bool) (any, error) {
	ticket := c.s.signer().Ticket(user, "")
	data := map[string]any{"username": user, "CSRFPreventionToken": c.s.signer().CSRF(user)}
	if hidden { // what is shown has a note in place of the signature
		plain, _, _ := strings.Cut(ticket, "::")
		data["ticket-info"] = plain + "::ticketinfo"
		c.cookie = fmt.Sprintf("__Host-%s=%s; Secure; SameSite=Lax; HttpOnly; Path=/;", c.s.product.cookie(), ticket)
	} else {
		data["ticket"] = ticket
	}
	return c.ticketAnswer(data)
}

// ticketAnswer has more beside data than other answers, and another content type.
func (c *call) ticketAnswer(data any) (any, error) {
	c.extra["status"], c.extra["success"], c.contentType = http.StatusOK, true, plainJSON
	return data, nil
}

func (s *Server) clearedCookie() string {
	return "__Host-" + s.product.cookie() + "=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Secure; SameSite=Lax; HttpOnly; Path=/;"
}

// checkLogin checks one step of a login, and says whether another one has to follow.
func (c *call) checkLogin(user, password string) (challenge bool, err error) {
	st := c.s.store.View()
	if !c.s.active(st, user) {
		return false, refuse("user account disabled or expired.")
	}
	if ticket := c.params.text("tfa-challenge"); ticket != "" {
		data, err := c.s.signer().Open(ticket, user, challengeLifetime)
		if err != nil || !strings.HasPrefix(data, "!tfa!") {
			return false, errors.New("invalid ticket")
		}
		code, ok := strings.CutPrefix(password, "totp:")
		if !ok || !c.useTOTP(user, code) {
			return false, errors.New("authentication failed")
		}
		return false, nil
	}
	if strings.HasPrefix(password, c.s.product.prefix+":") {
		if data, err := c.s.signer().Open(password, "", standin.TicketLifetime); err == nil {
			if data != user {
				return false, errors.New("ticket login failed - wrong userid")
			}
			return false, nil
		}
	}
	if !st.Users[user].accepts(password) {
		return false, errors.New("invalid credentials")
	}
	return len(st.Users[user].TOTP) > 0, nil
}

// accepts says whether a password is the user's. A user without one, such as one of an OpenID realm, accepts none.
func (u *User) accepts(password string) bool {
	return u != nil && u.Password != "" && subtle.ConstantTimeCompare([]byte(u.Password), []byte(password)) == 1
}

// useTOTP checks a one-time password and makes it useless.
func (c *call) useTOTP(user, code string) bool {
	return c.s.store.Change(func(st *State) error {
		for i := range st.Users[user].TOTP {
			entry := &st.Users[user].TOTP[i]
			if step := standin.MatchTOTP(entry.Secret, code, c.s.opts.Now()); step > entry.Used {
				entry.Used = step
				return nil
			}
		}
		return errLogin
	}) == nil
}

// addTOTP is POST /access/tfa/{userid}, for type=totp alone.
func (c *call) addTOTP() (any, error) {
	if err := c.confirm(); err != nil {
		return nil, err
	}
	address, err := url.Parse(c.params.text("totp"))
	if err != nil {
		return nil, err
	}
	entry := TOTP{ID: standin.NewUUID(), Secret: address.Query().Get("secret")}
	if standin.MatchTOTP(entry.Secret, c.params.text("value"), c.s.opts.Now()) == 0 {
		return nil, errors.New("failed to verify TOTP challenge")
	}
	return map[string]any{"id": entry.ID}, c.s.store.Change(func(st *State) error {
		user, err := c.user(st)
		if err == nil {
			user.TOTP = append(user.TOTP, entry)
		}
		return err
	})
}

func (c *call) removeTOTP() (any, error) {
	if err := c.confirm(); err != nil {
		return nil, err
	}
	id := c.params.text("id")
	return nil, c.s.store.Change(func(st *State) error {
		if user := st.Users[c.params.text("userid")]; user != nil {
			for i, entry := range user.TOTP {
				if entry.ID == id {
					user.TOTP = append(user.TOTP[:i:i], user.TOTP[i+1:]...)
					return nil
				}
			}
		}
		return &apiError{http.StatusNotFound, fmt.Sprintf("no such tfa entry: %s/%s", c.params.text("userid"), id)}
	})
}
