package pve

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/luthermonson/go-proxmox"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
)

// identity is whom a request is sent as. The zero value sends no credentials.
type identity struct {
	name    string           // user@realm!id of a token, user@realm of a ticket
	options []proxmox.Option // make go-proxmox send the credentials
	login   *login           // gets a ticket first, in place of options
}

// credentials returns the identity that a configuration describes. The cleaner learns its secrets.
func credentials(p config.Proxmox, c *check.Cleaner) identity {
	if !p.Token.IsZero() {
		c.Hold(p.Token.Full(), p.Token.Secret)
		return identity{
			name:    p.Token.String(),
			options: []proxmox.Option{proxmox.WithAPIToken(p.Token.String(), p.Token.Secret.Reveal())},
		}
	}
	c.Hold(p.Password, p.OTP)
	l := &login{username: p.Username.String(), password: p.Password, otp: p.OTP, cleaner: c, now: time.Now}
	return identity{name: l.username, login: l}
}

func (s Session) identity() identity {
	return identity{name: s.Username, options: []proxmox.Option{proxmox.WithSession(s.Ticket.Reveal(), s.CSRF.Reveal())}}
}

// Tickets are valid for two hours (PVE::AccessControl, $ticket_lifetime).
const (
	renewAfter  = time.Hour
	ticketValid = 2*time.Hour - time.Minute
)

const ticketPath = "/access/ticket"

// login is a user with a password, and the ticket that Proxmox gave for it.
type login struct {
	username      string
	password, otp check.Secret
	cleaner       *check.Cleaner
	now           func() time.Time

	mu      sync.Mutex // guards the fields below, and is held during a login
	current *Session
	since   time.Time
	usedOTP bool
	denial  error // Proxmox rejected the password: another attempt would count towards a ban
}

// askTicket posts to /access/ticket.
type askTicket func(ctx context.Context, body map[string]string, answer *ticketAnswer) error

// discard drops the ticket, so that the next request begins with a login.
func (l *login) discard() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current = nil
}

// ticket returns the credentials of a request. It logs in or renews the ticket if that is due.
func (l *login) ticket(ctx context.Context, ask askTicket) ([]proxmox.Option, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.ensure(ctx, ask); err != nil {
		return nil, err
	}
	return l.current.identity().options, nil
}

func (l *login) ensure(ctx context.Context, ask askTicket) error {
	age := l.now().Sub(l.since)
	secret := l.password
	switch {
	case l.denial != nil:
		return l.denial
	case l.current != nil && age >= 0 && age < renewAfter:
		return nil
	case l.current != nil && age >= 0 && age < ticketValid:
		secret = l.current.Ticket // Proxmox accepts a valid ticket as the password
	case l.usedOTP:
		return check.Errorf(check.BadCredentials, "the session of %s has expired, and its one-time code is used up", l.username).
			Try(check.Set("proxmox.token_file", "").With("an API token has no time limit"))
	}
	err := l.begin(ctx, ask, secret)
	if check.CodeOf(err) == check.BadCredentials {
		l.current, l.denial = nil, err
	}
	return err
}

// begin logs in. If the user has a second factor, Proxmox answers with a challenge, and a second request carries the
// one-time code (PVE::API2::AccessControl, create_ticket).
func (l *login) begin(ctx context.Context, ask askTicket, password check.Secret) error {
	answer, err := l.post(ctx, ask, map[string]string{"username": l.username, "password": password.Reveal()})
	if err == nil && truth(answer.NeedTFA) {
		code := strings.Join(strings.Fields(l.otp.Reveal()), "")
		if code == "" {
			return check.Errorf(check.BadCredentials, "%s has a second factor, and no one-time code is given", l.username).Try(
				check.Set("proxmox.otp", "").With("a current code"),
				check.Set("proxmox.token_file", "").With("an API token needs no second factor"))
		}
		answer, err = l.post(ctx, ask, map[string]string{
			"username": l.username, "password": "totp:" + code, "tfa-challenge": string(answer.Ticket),
		})
		var e *Error
		l.usedOTP = !errors.As(err, &e) || e.sent
	}
	switch {
	case err != nil:
		return err
	case truth(answer.NeedTFA), !headerValue(string(answer.Ticket)), !headerValue(string(answer.CSRF)):
		return check.Errorf(check.ProxmoxFailed, "Proxmox sent no ticket for the login of %s", l.username)
	}
	l.current = &Session{
		Username: l.username, Ticket: check.NewSecret(string(answer.Ticket)), CSRF: check.NewSecret(string(answer.CSRF)),
	}
	l.since = l.now()
	return nil
}

// ticketAnswer is the answer of POST /access/ticket.
type ticketAnswer struct {
	Ticket  text `json:"ticket"`
	CSRF    text `json:"CSRFPreventionToken"`
	NeedTFA any
}

func (l *login) post(ctx context.Context, ask askTicket, body map[string]string) (answer ticketAnswer, err error) {
	err = ask(ctx, body, &answer)
	l.cleaner.Hold(check.NewSecret(string(answer.Ticket)), check.NewSecret(string(answer.CSRF)))
	return answer, err
}

// headerValue tells whether a ticket can be sent in a header.
func headerValue(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '"' })
}

// truth reads a boolean as Perl's JSON may write it.
func truth(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case float64:
		return v != 0
	case string:
		return !slices.Contains([]string{"", "0", "false"}, v)
	}
	return false
}
