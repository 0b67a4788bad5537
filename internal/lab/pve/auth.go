package pve

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"proxmox-realm/internal/lab/standin"
)

// How long a ticket and a CSRF token are valid, and how far in the future they
// may have been made.
const (
	ticketLifetime = 2 * time.Hour
	clockTolerance = 5 * time.Minute
)

// refused is an error of authentication: a 401 with this reason and no body.
type refused string

func (r refused) Error() string { return string(r) }

var (
	cookieValue = regexp.MustCompile(`(?:^|\s)PVEAuthCookie(?:=| )([^;]*)`)
	tokenValue  = regexp.MustCompile(`(?:^|\s)PVEAPIToken(?:=| )([^;]*)`)
	ticketForm  = regexp.MustCompile(`\A(PVE:\S+)::([^:\s]+)\z`)
	ticketPlain = regexp.MustCompile(`\APVE:(?:(\S+):)?([A-Z0-9]{8})\z`)
)

func authValue(re *regexp.Regexp, header string) string {
	if m := re.FindStringSubmatch(header); m != nil {
		return unescape(m[1])
	}
	return ""
}

// credentials are what a request carries.
type credentials struct {
	ticket, csrf, token string
}

func (r *request) credentials() credentials {
	c := credentials{csrf: r.Header.Get("CSRFPreventionToken")}
	c.ticket = authValue(cookieValue, strings.Join(r.Header["Cookie"], ", "))
	if c.ticket == "" {
		c.ticket = authValue(cookieValue, r.Header.Get("Authorization"))
	}
	if c.ticket == "" {
		c.token = authValue(tokenValue, r.Header.Get("Authorization"))
	}
	return c
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

// authenticate is PVE::HTTPServer::auth_handler: who sends a request.
func (s *Server) authenticate(n *node, method, path string, c credentials) (user string, err error) {
	if open(method, path) {
		return "", nil
	}
	st := s.view()
	if c.token != "" {
		if err := checkToken(st, c.token); err != nil {
			return "", n.refuse(err)
		}
		id, _, _ := cutLast(c.token, "=")
		return id, nil
	}
	if c.ticket == "" {
		return "", refused("No ticket")
	}
	data, ok := s.checkTicket(c.ticket, "") // that of half a login is signed with its user, and fails here
	if !ok {
		return "", n.refuse(errTicket)
	}
	if err := userEnabled(st, data); err != nil {
		return "", n.refuse(err)
	}
	if method != "GET" && !s.checkCSRF(data, c.csrf) {
		return "", refused("Permission denied - invalid csrf token")
	}
	return data, nil
}

var errTicket = dief("permission denied - invalid PVE ticket")

// refuse logs why credentials are refused. The client does not learn it.
func (n *node) refuse(err error) error {
	n.log.add(Line{Time: n.now(), Process: "pveproxy", PID: n.proxy, Message: "authentication failure: " + err.Error()})
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

func (s *Server) sign(text string) string {
	mac := hmac.New(sha256.New, s.view().Key)
	mac.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// newTicket signs data; aad is signed with it and not in the ticket. The form
// is that of PVE::Ticket; a node signs with RSA.
func (s *Server) newTicket(data, aad string) string {
	plain := fmt.Sprintf("PVE:%s:%08X", strings.ReplaceAll(data, ":", "%3A"), time.Now().Unix())
	return plain + "::" + s.sign(ticketText(plain, aad))
}

func ticketText(plain, aad string) string {
	if aad != "" {
		return plain + ":" + aad
	}
	return plain
}

func (s *Server) checkTicket(ticket, aad string) (data string, ok bool) {
	m := ticketForm.FindStringSubmatch(ticket)
	if len(m) != 3 || !hmac.Equal([]byte(s.sign(ticketText(m[1], aad))), []byte(m[2])) {
		return "", false
	}
	p := ticketPlain.FindStringSubmatch(m[1])
	if len(p) != 3 || !fresh(p[2]) {
		return "", false
	}
	return unescape(p[1]), true
}

// fresh says whether a hexadecimal time is within the lifetime of a ticket.
func fresh(hexTime string) bool {
	sec, err := strconv.ParseInt(hexTime, 16, 64)
	age := time.Since(time.Unix(sec, 0))
	return err == nil && age > -clockTolerance && age < ticketLifetime
}

func (s *Server) newCSRF(user string) string {
	now := fmt.Sprintf("%08X", time.Now().Unix())
	return now + ":" + strings.TrimRight(s.sign("csrf:"+now+":"+user), "=")
}

func (s *Server) checkCSRF(user, token string) bool {
	now, sig, ok := strings.Cut(token, ":")
	want := strings.TrimRight(s.sign("csrf:"+now+":"+user), "=")
	return ok && len(now) == 8 && fresh(now) && hmac.Equal([]byte(want), []byte(sig))
}

func (a *api) ticketEndpoints() []*endpoint {
	return []*endpoint{
		{method: "POST", path: "/access/ticket", proxied: true, world: true, noToken: true, run: a.createTicket, params: schema{
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

func (a *api) createTicket(c *call) (any, error) {
	user := c.text("username")
	if r := c.params["realm"]; truthy(r) {
		user += "@" + text(r)
	}
	st := a.srv.view()
	res, err := a.logIn(st, user, c)
	if err != nil {
		a.report(c, "authentication failure; rhost="+c.rhost()+" user="+user+" msg="+err.Error())
		return nil, errLogin
	}
	a.tell(c, "root@pam", "successful auth for user '"+user+"'")
	if st.AtTicket != nil && user == "root@pam" {
		if err := a.srv.change((*State).begin); err != nil {
			return nil, err
		}
	}
	if res["NeedTFA"] == nil {
		res["cap"] = a.capabilities(st, user)
		if !a.single() && a.has(st, user, "/", "Sys.Audit") {
			res["clustername"] = a.srv.opts.Cluster
		}
	}
	return res, nil
}

func (a *api) logIn(st *State, user string, c *call) (map[string]any, error) {
	if err := userEnabled(st, user); err != nil {
		return nil, err
	}
	password, otp, challenge := c.text("password"), c.params["otp"], c.params["tfa-challenge"]
	ticketUser, valid := a.srv.checkTicket(password, "")
	if otp != nil && challenge != nil {
		return nil, dief("TFA response should be in 'password', not 'otp' when 'tfa-challenge' is set")
	}
	need := false
	switch {
	case challenge != nil:
		data, ok := a.srv.checkTicket(text(challenge), user)
		if !ok || !strings.HasPrefix(data, "!tfa!") {
			return nil, dief("bad ticket")
		}
		if err := checkSecondFactor(st.Users[user], password); err != nil {
			return nil, err
		}
	case valid && (ticketUser == user || ticketUser == "root@pam"):
		// A valid ticket renews itself, and root's is good for everybody.
	default:
		if err := a.checkPassword(st, user, password, c); err != nil {
			return nil, err
		}
		u := st.Users[user]
		need = u.TOTP != "" || u.WebAuthn
		if otp != nil { // it is checked, and the second step is wanted all the same
			if err := checkSecondFactor(u, text(otp)); err != nil {
				return nil, err
			}
		}
	}
	res := map[string]any{"username": user, "CSRFPreventionToken": a.srv.newCSRF(user)}
	if need {
		res["ticket"] = a.srv.newTicket("!tfa!"+string(marshal(st.Users[user].factors())), user)
		res["NeedTFA"] = 1
	} else {
		res["ticket"] = a.srv.newTicket(user, "")
	}
	return res, nil
}

// factors is what the ticket of half a login says of the second factors.
func (u *User) factors() map[string]any {
	factors := map[string]any{}
	if u.TOTP != "" {
		factors["totp"] = true
	}
	if u.WebAuthn {
		factors["webauthn"] = map[string]any{"publicKey": map[string]any{}}
	}
	return factors
}

// checkPassword is the first factor, for realms that have one on the node.
func (a *api) checkPassword(st *State, user, password string, c *call) error {
	realm := realmOf(user)
	sec := a.srv.realms.get(realm)
	if sec == nil {
		return dief("auth domain '%s' does not exist", realm)
	}
	u := st.Users[user]
	right := u != nil && u.Password != "" && subtle.ConstantTimeCompare([]byte(u.Password), []byte(password)) == 1
	switch {
	case right && (sec.kind == "pve" || sec.kind == "pam"):
		return nil
	case sec.kind == "openid":
		return dief("OpenID realm does not allow password verification.")
	case !truthy(password):
		return dief("no password")
	case sec.kind == "pam":
		name, _, _ := cutLast(user, "@")
		c.node.log.add(Line{
			Time: c.node.now(), Process: "IPCC.xs", PID: c.worker, Unit: "pvedaemon",
			Message: "pam_unix(proxmox-ve-auth:auth): authentication failure; logname= uid=0 euid=0 tty= ruser= rhost=" + c.rhost() + "  user=" + name,
		})
		return dief("Authentication failure")
	case sec.kind == "pve":
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
	now := time.Now()
	for _, t := range []time.Time{now, now.Add(-standin.TOTPStep), now.Add(standin.TOTPStep)} {
		if subtle.ConstantTimeCompare([]byte(standin.TOTP(u.TOTP, t)), []byte(code)) == 1 {
			return nil
		}
	}
	return dief("failed 2nd factor")
}
