package proxmox

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	goproxmox "github.com/luthermonson/go-proxmox"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/realm"
)

// identity is whom a request is sent as. The zero value sends no credentials.
type identity struct {
	name    string             // user@realm!id of a token, user@realm of a ticket
	options []goproxmox.Option // make go-proxmox send the credentials
	login   *login             // gets a ticket first, in place of options
}

// credentials returns the identity that a configuration describes. The cleaner learns its secrets, a token in both forms in which
// products join id and secret.
func (d *dialect) credentials(p config.Proxmox, secondFactor askFactor, c *check.Cleaner) identity {
	if !p.Token.IsZero() {
		secret := p.Token.Secret.Reveal()
		for _, separator := range "=:" {
			c.Hold(check.NewSecret(p.Token.String() + string(separator) + secret))
		}
		c.Hold(p.Token.Secret)
		return identity{name: p.Token.String(), options: []goproxmox.Option{headers(func(h http.Header) {
			h.Set("Authorization", d.authorization+p.Token.String()+d.product.TokenSeparators()[:1]+secret)
		})}}
	}
	c.Hold(p.Password, p.OTP)
	l := &login{username: p.Username.String(), password: p.Password, otp: p.OTP, ask: secondFactor, now: time.Now}
	return identity{name: l.username, login: l}
}

// session returns the identity of a user who has logged in.
func (d *dialect) session(s Session) identity {
	return identity{name: s.Username, options: []goproxmox.Option{headers(func(h http.Header) {
		h.Set("Cookie", d.cookie+"="+s.Ticket.Reveal())
		h.Set("CSRFPreventionToken", s.CSRF.Reveal())
	})}}
}

// headers sets the headers of credentials. The options of go-proxmox know those of Proxmox VE only.
func headers(set func(http.Header)) goproxmox.Option {
	return goproxmox.WithRequestInterceptor(func(r *http.Request) error {
		set(r.Header)
		return nil
	})
}

// ticketValid is how long a ticket is used. Proxmox accepts it for two hours (PVE::AccessControl, $ticket_lifetime).
const ticketValid = 2*time.Hour - time.Minute

const ticketPath = "/access/ticket"

// login is a user with a password, and the ticket that Proxmox gave for it.
type login struct {
	username      string
	password, otp check.Secret
	ask           askFactor // for a code, if otp is not set; may be nil
	now           func() time.Time

	mu      sync.Mutex // guards the fields below, and is held during a login
	current *Session
	since   time.Time
	usedOTP bool
	denial  error // Proxmox rejected the password: another attempt would count towards a ban
}

// askFactor is [Options.SecondFactor].
type askFactor func(ctx context.Context, factors []string) (code check.Secret, err error)

// discard drops the ticket, so that the next request begins with a login.
func (l *login) discard() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current = nil
}

// ticket returns the session of the user. It logs in at the endpoint if there is none.
func (l *login) ticket(ctx context.Context, c *Client, endpoint config.Origin) (Session, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	age := l.now().Sub(l.since)
	switch {
	case l.denial != nil:
		return Session{}, l.denial
	case l.current != nil && age >= 0 && age < ticketValid:
		return *l.current, nil
	case l.usedOTP:
		return Session{}, check.Errorf(check.BadCredentials,
			"the session of %s has expired, and its one-time code is used up", l.username).
			Try("set {proxmox.token_file}: an API token has no time limit")
	}
	session, err := l.begin(ctx, c, endpoint)
	if check.CodeOf(err) == check.BadCredentials {
		l.denial = err
	}
	if err != nil {
		return Session{}, err
	}
	l.current, l.since = &session, l.now()
	return session, nil
}

// begin logs in. If the user has a second factor, Proxmox answers with a challenge, and a second request carries the
// one-time code (PVE::API2::AccessControl, create_ticket).
func (l *login) begin(ctx context.Context, c *Client, endpoint config.Origin) (Session, error) {
	// Proxmox VE 7.1 to 7.4 make challenges only of this form if they are told to, later ones always. 7.0 does not know the parameter.
	answer, err := l.post(ctx, c, endpoint, map[string]string{"password": l.password.Reveal(), "new-format": "1"})
	if e := (*Error)(nil); errors.As(err, &e) && e.Fields["new-format"] != "" {
		answer, err = l.post(ctx, c, endpoint, map[string]string{"password": l.password.Reveal()})
	}
	if err == nil && realm.Truth(answer.NeedTFA) {
		response, factorErr := l.secondFactor(ctx, factors(answer.Ticket))
		if factorErr != nil {
			return Session{}, factorErr
		}
		answer, err = l.post(ctx, c, endpoint, map[string]string{"password": response, "tfa-challenge": answer.Ticket})
		var e *Error
		l.usedOTP = !errors.As(err, &e) || e.sent
	}
	switch {
	case err != nil:
		return Session{}, err
	case realm.Truth(answer.NeedTFA), !headerValue(answer.Ticket), !headerValue(answer.CSRF):
		return Session{}, check.Errorf(check.ProxmoxFailed, "Proxmox sent no ticket for the login of %s", l.username)
	}
	return Session{
		Username: l.username, Ticket: check.NewSecret(answer.Ticket), CSRF: check.NewSecret(answer.CSRF),
	}, nil
}

// secondFactor returns the response to a challenge: a type and a one-time code, such as totp:123456.
func (l *login) secondFactor(ctx context.Context, available []string) (response string, err error) {
	const token check.Hint = "set {proxmox.token_file}: an API token needs no second factor"
	code := l.otp
	if !code.IsSet() && l.ask != nil {
		if code, err = l.ask(ctx, available); err != nil {
			return "", err
		}
	}
	digits := strings.Join(strings.Fields(code.Reveal()), "")
	switch {
	case digits == "" && len(available) > 0 && !slices.Contains(available, "totp"):
		return "", check.Errorf(check.BadCredentials, "%s has a second factor that only a browser can give: %s", l.username, strings.Join(available, ", ")).
			Try(token)
	case digits == "":
		return "", check.Errorf(check.BadCredentials, "%s has a second factor, and no one-time code is given", l.username).
			Try("set {proxmox.otp} to a current code", token)
	case strings.HasPrefix(digits, "recovery:"):
		return digits, nil
	}
	return "totp:" + digits, nil
}

// factors returns what a user may answer a challenge with, sorted: the ticket of the first step holds it as JSON, PVE:!tfa!{…}:…
func factors(ticket string) []string {
	encoded, _, _ := strings.Cut(strings.TrimPrefix(ticket, "PVE:!tfa!"), ":")
	text, err := url.PathUnescape(encoded)
	var available map[string]any
	if err != nil || json.Unmarshal([]byte(text), &available) != nil {
		return nil
	}
	for name, value := range available {
		if text, isText := value.(string); value == nil || value == false || isText && text == "unavailable" {
			delete(available, name)
		}
	}
	return slices.Sorted(maps.Keys(available))
}

// ticketAnswer is the answer of POST /access/ticket.
type ticketAnswer struct {
	Ticket  string `json:"ticket"`
	CSRF    string `json:"CSRFPreventionToken"`
	NeedTFA any
}

func (l *login) post(
	ctx context.Context, c *Client, endpoint config.Origin, body map[string]string,
) (answer ticketAnswer, err error) {
	body["username"] = l.username
	r := request{method: http.MethodPost, path: ticketPath, body: body, as: identity{name: l.username}}
	err = c.send(ctx, r, endpoint, nil, &answer)
	c.cleaner.Hold(check.NewSecret(answer.Ticket), check.NewSecret(answer.CSRF))
	return answer, err
}

// headerValue tells whether a ticket can be sent in a header.
func headerValue(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '"' })
}
