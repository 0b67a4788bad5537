package pve

import (
	"crypto/subtle"
	"net/http"
	"regexp"
	"strings"
	"time"

	"proxmox-realm/internal/lab/standin"
)

// refused is an error of authentication: a 401 with this reason and no body.
type refused string

func (r refused) Error() string { return string(r) }

var (
	cookieValue = regexp.MustCompile(`(?:^|\s)PVEAuthCookie(?:=| )([^;]*)`)
	tokenValue  = regexp.MustCompile(`(?:^|\s)PVEAPIToken(?:=| )([^;]*)`)
)

func authValue(re *regexp.Regexp, header string) string {
	if m := re.FindStringSubmatch(header); m != nil {
		return standin.Unescape(m[1])
	}
	return ""
}

// open says whether a path needs no credentials: those it gets are not looked at.
func open(method, path string) bool {
	switch path {
	case "/access/domains":
		return method == "GET"
	case "/access/ticket":
		return method == "GET" || method == "POST"
	case "/access/openid/login", "/access/openid/auth-url", "/access/vncticket":
		return method == "POST"
	}
	return false
}

// authenticate is PVE::HTTPServer::auth_handler: it notes who sends a request.
func (s *Server) authenticate(c *call, method, path string, header http.Header) error {
	ticket := authValue(cookieValue, strings.Join(header["Cookie"], ", "))
	if ticket == "" {
		ticket = authValue(cookieValue, header.Get("Authorization"))
	}
	token := authValue(tokenValue, header.Get("Authorization"))
	c.withToken = ticket == "" && token != ""
	if open(method, path) {
		return nil
	}
	st := s.view()
	if c.withToken {
		if err := checkToken(st, token); err != nil {
			return c.asked.refuse(err)
		}
		c.user, _, _ = cutLast(token, "=")
		return nil
	}
	if ticket == "" {
		return refused("No ticket")
	}
	user, err := s.signer().Open(ticket, "", standin.TicketLifetime) // that of half a login is signed with its user, and fails here
	if err != nil {
		return c.asked.refuse(errTicket)
	}
	if err := userEnabled(st, user); err != nil {
		return c.asked.refuse(err)
	}
	if method != http.MethodGet && !s.signer().CheckCSRF(user, header.Get("CSRFPreventionToken")) {
		return refused("Permission denied - invalid csrf token")
	}
	c.user = user
	return nil
}

func (s *Server) signer() standin.Signer {
	return standin.Signer{Prefix: "PVE", Key: s.view().Key, Now: time.Now}
}

var errTicket = dief("permission denied - invalid PVE ticket")

// refuse logs why credentials are refused. The client does not learn it.
func (n *node) refuse(err error) error {
	n.log.Add(Line{Time: n.now(), Process: "pveproxy", PID: n.proxy, Message: "authentication failure: " + err.Error()})
	return refused("Authentication failed!")
}

func cutLast(s, sep string) (before, after string, ok bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// checkToken verifies user@realm!id=secret.
func checkToken(st *State, full string) error {
	id, secret, ok := cutLast(full, "=")
	if !ok {
		return dief("no tokenid specified")
	}
	user, name, ok := splitToken(id)
	if !ok {
		return dief("'%s' is not a valid token ID - not able to split into user and token parts", id)
	}
	if err := userEnabled(st, user); err != nil {
		return err
	}
	if err := tokenExists(st, user, name); err != nil {
		return err
	}
	t := st.Users[user].Tokens[name]
	if t.Expire != 0 && t.Expire < time.Now().Unix() {
		return dief("token '%s' access expired", name)
	}
	if subtle.ConstantTimeCompare([]byte(t.Secret), []byte(secret)) != 1 {
		return dief("invalid token value!")
	}
	return nil
}

func (s *Server) ticketEndpoints() []*endpoint {
	return []*endpoint{
		{method: "POST", path: "/access/ticket", proxied: true, world: true, noToken: true, run: s.createTicket, params: schema{
			"username":      {kind: "string", max: 64},
			"realm":         realmParam.opt(),
			"password":      &anyString,
			"otp":           anyString.opt(),
			"new-format":    boolean.opt(),
			"tfa-challenge": anyString.opt(),
		}},
	}
}

// errLogin is what every failed login answers, whatever the reason.
var errLogin = &apiError{status: 401, msg: "authentication failure\n"}

func (s *Server) createTicket(c *call) (any, error) {
	user := c.text("username")
	if r := c.params["realm"]; truthy(r) {
		user += "@" + text(r)
	}
	st := s.view()
	res, err := s.logIn(st, user, c)
	if err != nil {
		s.report(c, "authentication failure; rhost="+c.rhost()+" user="+user+" msg="+err.Error())
		return nil, errLogin
	}
	s.tell(c, "root@pam", "successful auth for user '"+user+"'")
	if st.AtTicket != nil && user == "root@pam" {
		if err := s.store.Change((*State).begin); err != nil {
			return nil, err
		}
	}
	if res["NeedTFA"] == nil {
		res["cap"] = s.capabilities(st, user)
		if !s.single() && s.has(st, user, "/", "Sys.Audit") {
			res["clustername"] = s.opts.Cluster
		}
	}
	return res, nil
}

func (s *Server) logIn(st *State, user string, c *call) (map[string]any, error) {
	if err := userEnabled(st, user); err != nil {
		return nil, err
	}
	password, otp, challenge := c.text("password"), c.params["otp"], c.params["tfa-challenge"]
	signer := s.signer()
	renewed, err := signer.Open(password, "", standin.TicketLifetime)
	need := false
	switch {
	case challenge != nil:
		data, err := signer.Open(text(challenge), user, standin.TicketLifetime)
		if err != nil || !strings.HasPrefix(data, "!tfa!") {
			return nil, dief("bad ticket")
		}
		if err := checkSecondFactor(st.Users[user], password); err != nil {
			return nil, err
		}
	case err == nil && (renewed == user || renewed == "root@pam"):
		// A valid ticket renews itself, and root's is good for everybody.
	default:
		if err := s.checkPassword(st, user, password, c); err != nil {
			return nil, err
		}
		u := st.Users[user]
		need = u.TOTP != ""
		if otp != nil { // it is checked, and the second step is wanted all the same
			if err := checkSecondFactor(u, text(otp)); err != nil {
				return nil, err
			}
		}
	}
	res := map[string]any{"username": user, "CSRFPreventionToken": signer.CSRF(user)}
	if need {
		res["ticket"] = signer.Ticket(`!tfa!{"totp":true}`, user)
		res["NeedTFA"] = 1
	} else {
		res["ticket"] = signer.Ticket(user, "")
	}
	return res, nil
}

// checkPassword is the first factor, for realms that have one on the node.
func (s *Server) checkPassword(st *State, user, password string, c *call) error {
	realm := realmOf(user)
	r, ok := st.realm(realm)
	if !ok {
		return dief("auth domain '%s' does not exist", realm)
	}
	u := st.Users[user]
	right := u != nil && u.Password != "" && subtle.ConstantTimeCompare([]byte(u.Password), []byte(password)) == 1
	switch {
	case right && (r.Type == "pve" || r.Type == "pam"):
		return nil
	case r.Type == "openid":
		return dief("OpenID realm does not allow password verification.")
	case r.Type == "pam":
		name, _, _ := cutLast(user, "@")
		c.node.log.Add(Line{
			Time: c.node.now(), Process: "IPCC.xs", PID: c.worker, Unit: "pvedaemon",
			Message: "pam_unix(proxmox-ve-auth:auth): authentication failure; logname= uid=0 euid=0 tty= ruser= rhost=" + c.rhost() + "  user=" + name,
		})
		return dief("Authentication failure")
	case r.Type == "pve":
		return dief("invalid credentials")
	}
	return dief("connect: Connection refused") // no directory is in reach
}

func checkSecondFactor(u *User, response string) error {
	kind, code, ok := strings.Cut(response, ":")
	if !ok {
		return dief("bad tfa response")
	}
	if kind != "totp" || u.TOTP == "" {
		return dief("no such challenge")
	}
	if standin.MatchTOTP(u.TOTP, code, time.Now()) == 0 {
		return dief("failed 2nd factor")
	}
	return nil
}
