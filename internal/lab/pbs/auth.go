package pbs

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"proxmox-realm/internal/lab/standin"
)

const (
	ticketLifetime    = 2 * time.Hour
	challengeLifetime = 10 * time.Minute
	clockTolerance    = 5 * time.Minute
)

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
	st := s.state.Load()
	if ticket, there := s.cookieTicket(r); there {
		user, err := s.checkTicket(ticket, "", ticketLifetime)
		switch {
		case err != nil:
			return "", err
		case !s.active(st, user):
			return "", refuse("user account disabled or expired.")
		case r.Method != http.MethodGet:
			return user, s.checkCSRF(user, r.Header.Get("CSRFPreventionToken"))
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

func (s *Server) sign(text string) string {
	mac := hmac.New(sha256.New, s.state.Load().Key)
	mac.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// newTicket signs data, and aad, which is not in the ticket. A real server signs with Ed25519. info is the ticket with
// a note in place of the signature.
func (s *Server) newTicket(data, aad string) (ticket, info string) {
	plain := fmt.Sprintf("%s:%s:%08X", s.product.prefix, strings.ReplaceAll(data, ":", "%3A"), s.opts.Now().Unix())
	return plain + "::" + s.sign(plain+":"+aad), plain + "::ticketinfo"
}

func (s *Server) checkTicket(ticket, aad string, lifetime time.Duration) (data string, err error) {
	plain, signature, _ := strings.Cut(ticket, "::")
	if !hmac.Equal([]byte(s.sign(plain+":"+aad)), []byte(signature)) {
		return "", errors.New("invalid ticket - signature verification failed")
	}
	parts := strings.Split(plain, ":")
	if len(parts) != 3 || !s.fresh(parts[2], lifetime) {
		return "", errors.New("invalid ticket - expired")
	}
	return decodePercent(parts[1]), nil
}

// fresh says whether a hexadecimal time is not older than a lifetime.
func (s *Server) fresh(hex string, lifetime time.Duration) bool {
	seconds, err := strconv.ParseInt(hex, 16, 64)
	age := s.opts.Now().Sub(time.Unix(seconds, 0))
	return err == nil && age > -clockTolerance && age < lifetime
}

func (s *Server) newCSRF(user string) string {
	now := fmt.Sprintf("%08X", s.opts.Now().Unix())
	return now + ":" + strings.TrimRight(s.sign(now+":"+user+":csrf"), "=")
}

func (s *Server) checkCSRF(user, token string) error {
	now, signature, _ := strings.Cut(token, ":")
	if token == "" {
		return errors.New("missing CSRF prevention token")
	}
	if !hmac.Equal([]byte(strings.TrimRight(s.sign(now+":"+user+":csrf"), "=")), []byte(signature)) || !s.fresh(now, ticketLifetime) {
		return refuse("invalid csrf token - invalid signature.")
	}
	return nil
}

var errLogin = &apiError{http.StatusUnauthorized, "permission check failed."}

// createTicket is POST /access/ticket: password, then, if the user has a second factor, a challenge and its answer.
func (c *call) createTicket() (any, error) {
	user, s := c.params.text("username"), c.s
	password, given := c.params["password"].(string)
	hidden := s.product.cookieOnly || c.params.flag("http-only")
	if ticket, there := s.cookieTicket(c.request); hidden && there && !given {
		password, given = ticket, true
	}
	if !given {
		return nil, errors.New("no password provided")
	}
	challenge, err := c.checkLogin(user, password)
	if err != nil {
		s.logFailure(s.product.daemon, c, user, err)
		return nil, errLogin
	}
	if challenge {
		ticket, _ := s.newTicket(`!tfa!{"totp":true}`, user)
		return c.ticketAnswer(map[string]any{"username": user, "ticket": ticket, "CSRFPreventionToken": "invalid"})
	}
	return c.grantTicket(user, hidden)
}

// grantTicket answers with a ticket, in the body or, hidden from scripts, as a cookie.
func (c *call) grantTicket(user string, hidden bool) (any, error) {
	ticket, info := c.s.newTicket(user, "")
	data := map[string]any{"username": user, "CSRFPreventionToken": c.s.newCSRF(user)}
	if hidden {
		data["ticket-info"] = info
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

// logOut is DELETE /access/ticket. The ticket stays valid.
func (c *call) logOut() (any, error) {
	c.cookie = c.s.clearedCookie()
	return c.ticketAnswer(map[string]any{})
}

// checkLogin checks one step of a login, and says whether another one has to follow.
func (c *call) checkLogin(user, password string) (challenge bool, err error) {
	st := c.s.state.Load()
	if !c.s.active(st, user) {
		return false, refuse("user account disabled or expired.")
	}
	if ticket := c.params.text("tfa-challenge"); ticket != "" {
		data, err := c.s.checkTicket(ticket, user, challengeLifetime)
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
		if data, err := c.s.checkTicket(password, "", ticketLifetime); err == nil {
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
	return c.s.change(func(st *State) error {
		for i := range st.Users[user].TOTP {
			entry := &st.Users[user].TOTP[i]
			if step := c.s.matchTOTP(entry.Secret, code); step > entry.Used {
				entry.Used = step
				return nil
			}
		}
		return errLogin
	}) == nil
}

// matchTOTP returns the step of a code, now or one step off, or 0.
func (s *Server) matchTOTP(secret, code string) int64 {
	for _, at := range []time.Duration{-standin.TOTPStep, 0, standin.TOTPStep} {
		now := s.opts.Now().Add(at)
		if password := standin.TOTP(secret, now); password != "" && subtle.ConstantTimeCompare([]byte(password), []byte(code)) == 1 {
			return now.Unix() / int64(standin.TOTPStep/time.Second)
		}
	}
	return 0
}

// addTOTP is POST /access/tfa/{userid}, for type=totp alone.
func (c *call) addTOTP() (any, error) {
	if err := c.confirm("password"); err != nil {
		return nil, err
	}
	address, err := url.Parse(c.params.text("totp"))
	_, named := c.params["description"]
	switch {
	case c.params.text("type") != "totp":
		return nil, errors.New("the stand-in has no second factor but totp")
	case c.params["totp"] == nil || c.params["value"] == nil:
		return nil, errors.New("'totp' type requires both 'totp' and 'value' parameters")
	case !named:
		return nil, errors.New("'description' is required for new entries")
	case err != nil || address.Scheme != "otpauth":
		return nil, errors.New("not an otpauth uri")
	}
	entry := TOTP{ID: newUUID(), Secret: address.Query().Get("secret")}
	if c.s.matchTOTP(entry.Secret, c.params.text("value")) == 0 {
		return nil, errors.New("failed to verify TOTP challenge")
	}
	return map[string]any{"id": entry.ID}, c.s.change(func(st *State) error {
		user, err := c.user(st)
		if err == nil {
			user.TOTP = append(user.TOTP, entry)
		}
		return err
	})
}

func (c *call) removeTOTP() (any, error) {
	if err := c.confirm("password"); err != nil {
		return nil, err
	}
	id := c.params.text("id")
	return nil, c.s.change(func(st *State) error {
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
