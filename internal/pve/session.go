package pve

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/luthermonson/go-proxmox"

	"proxmox-realm/internal/check"
)

// authenticator gives the credentials of a request.
type authenticator interface {
	identity() string
	// options returns what makes go-proxmox send the credentials. It may ask Proxmox for a ticket first.
	options(ctx context.Context, ask askTicket) ([]proxmox.Option, error)
	// refused tells that Proxmox refused them.
	refused()
}

// askTicket posts to /access/ticket.
type askTicket func(ctx context.Context, body map[string]string, answer *json.RawMessage) error

func (o Options) authenticator(c *check.Cleaner) (authenticator, error) {
	switch {
	case o.Token.IsSet() && o.Username != "":
		return nil, check.Errorf(check.Config, "an API token and a username are given: one of them is enough").Try(check.Advise("keep proxmox.token"))
	case o.Token.IsSet():
		return parseToken(o.Token, c)
	case o.Username == "":
		return nil, check.Errorf(check.Config, "no credentials for Proxmox are given").Try(check.Advise("set proxmox.token_file, or proxmox.username; `proxmox-realm bootstrap` prints the pveum lines that make a token"))
	}
	user, realmName, found := cutLast(o.Username)
	if !found || user == "" || realmName == "" || strings.Contains(o.Username, "!") || !printable(o.Username) {
		return nil, check.Errorf(check.Config, "proxmox.username is not of the form user@realm").Try(check.Advise("such as root@pam"))
	}
	if !o.Password.IsSet() || o.Password.Reveal() == "" {
		return nil, check.Errorf(check.Config, "the password of %s is not given", c.Clean(o.Username)).Try(check.Advise("set proxmox.password_file"))
	}
	c.Hold(o.Password, o.OTP)
	return &login{username: o.Username, password: o.Password, otp: o.OTP, cleaner: c, now: time.Now, turn: make(chan struct{}, 1)}, nil
}

// token is an API token.
type token struct {
	id     string
	secret check.Secret
}

// parseToken reads user@realm!id=secret (PVE::APIServer, PVEAPIToken).
func parseToken(s check.Secret, c *check.Cleaner) (token, error) {
	c.Hold(s)
	id, value, found := strings.Cut(s.Reveal(), "=")
	user, name, separated := strings.Cut(id, "!")
	at := strings.LastIndex(user, "@")
	if !found || !separated || name == "" || value == "" || at < 1 || at == len(user)-1 || !printable(id) || !printable(value) {
		return token{}, check.Errorf(check.Config, "the API token is not of the form user@realm!id=secret").
			Try(check.Advise("`pveum user token add` prints full-tokenid and value: join them with =, without a prefix or quotation marks"))
	}
	t := token{id: id, secret: check.NewSecret(value)}
	c.Hold(t.secret)
	return t, nil
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '"' || r == '\'' })
}

func cutLast(s string) (before, after string, found bool) {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

func (t token) identity() string { return t.id }
func (t token) refused()         {}

func (t token) options(context.Context, askTicket) ([]proxmox.Option, error) {
	return []proxmox.Option{proxmox.WithAPIToken(t.id, t.secret.Reveal())}, nil
}

// nobody sends no credentials.
type nobody struct{}

func (nobody) identity() string { return "" }
func (nobody) refused()         {}

func (nobody) options(context.Context, askTicket) ([]proxmox.Option, error) { return nil, nil }

// ticket is a session that somebody else began.
type ticket Session

func (t ticket) identity() string { return t.Username }
func (t ticket) refused()         {}

func (t ticket) options(context.Context, askTicket) ([]proxmox.Option, error) {
	return []proxmox.Option{proxmox.WithSession(t.Ticket.Reveal(), t.CSRF.Reveal())}, nil
}

// Tickets are valid for two hours (PVE::AccessControl, $ticket_lifetime).
const (
	renewAfter  = time.Hour
	ticketValid = 2*time.Hour - time.Minute
)

// login is a user with a password, and the ticket that it got with it.
type login struct {
	username      string
	password, otp check.Secret
	cleaner       *check.Cleaner
	now           func() time.Time

	turn    chan struct{} // holds one element while somebody uses what is below
	current *Session
	since   time.Time
	usedOTP bool
	denial  error // Proxmox refused the password: asking again would count towards a ban
}

func (l *login) identity() string { return l.username }

// refused forgets the ticket, so that the next request begins with a login.
func (l *login) refused() {
	l.turn <- struct{}{}
	l.current = nil
	<-l.turn
}

func (l *login) options(ctx context.Context, ask askTicket) ([]proxmox.Option, error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		e := &Error{who: l.username}
		e.interrupted(ctx)
		return nil, explained(e)
	}
	if err := l.ensure(ctx, ask); err != nil {
		return nil, err
	}
	return ticket(*l.current).options(ctx, ask)
}

// ensure sees to a ticket that is valid for a while.
func (l *login) ensure(ctx context.Context, ask askTicket) error {
	age := l.now().Sub(l.since)
	switch {
	case l.denial != nil:
		return l.denial
	case l.current != nil && age >= 0 && age < renewAfter:
		return nil
	case l.current != nil && age >= 0 && age < ticketValid:
		return l.renew(ctx, ask)
	case l.usedOTP:
		return check.Errorf(check.BadCredentials, "the session of %s is over, and its one-time code served already", l.username).
			Try(check.Advise("for what runs longer than two hours use an API token: proxmox.token_file"))
	}
	return l.begin(ctx, ask)
}

// renew gets a new ticket for the old one, which Proxmox takes as a password.
func (l *login) renew(ctx context.Context, ask askTicket) error {
	return l.post(ctx, ask, map[string]string{"username": l.username, "password": l.current.Ticket.Reveal()})
}

func (l *login) begin(ctx context.Context, ask askTicket) error {
	return l.post(ctx, ask, map[string]string{"username": l.username, "password": l.password.Reveal()})
}

// post logs in. Where a second factor is asked for, Proxmox answers with a challenge that the code answers, in a second
// request (PVE::API2::AccessControl, create_ticket).
func (l *login) post(ctx context.Context, ask askTicket, body map[string]string) error {
	answer, err := l.ticket(ctx, ask, body)
	if err != nil {
		return l.denied(err)
	}
	if truth(answer.NeedTFA) {
		code := strings.Join(strings.Fields(l.otp.Reveal()), "")
		switch {
		case code == "":
			return l.denied(check.Errorf(check.BadCredentials, "%s has a second factor, and no one-time code is given", l.username).
				Try(check.Advise("set proxmox.otp to a code of this moment, or use an API token, which needs none: proxmox.token_file")))
		case !totp(string(answer.Ticket)):
			return l.denied(check.Errorf(check.BadCredentials, "the second factor of %s is not a one-time code (TOTP), which is the only one that works here", l.username).
				Try(check.Advise("use an API token, which needs none: proxmox.token_file")))
		}
		answer, err = l.ticket(ctx, ask, map[string]string{
			"username": l.username, "password": "totp:" + code, "tfa-challenge": string(answer.Ticket),
		})
		var e *Error
		l.usedOTP = !errors.As(err, &e) || e.sent
		if err != nil {
			return l.denied(err)
		}
	}
	if answer.Ticket == "" || answer.CSRF == "" || truth(answer.NeedTFA) || !printable(string(answer.Ticket)) || !printable(string(answer.CSRF)) {
		return check.Errorf(check.ProxmoxFailed, "the login of %s got an answer without a ticket", l.username)
	}
	s := Session{Username: l.username, Ticket: check.NewSecret(string(answer.Ticket)), CSRF: check.NewSecret(string(answer.CSRF))}
	l.cleaner.Hold(s.Ticket, s.CSRF)
	l.current, l.since = &s, l.now()
	return nil
}

// ticketAnswer is the answer of POST /access/ticket.
type ticketAnswer struct {
	Ticket  text `json:"ticket"`
	CSRF    text `json:"CSRFPreventionToken"`
	NeedTFA any
}

func (l *login) ticket(ctx context.Context, ask askTicket, body map[string]string) (ticketAnswer, error) {
	var data json.RawMessage
	if err := ask(ctx, body, &data); err != nil {
		return ticketAnswer{}, err
	}
	var answer ticketAnswer
	if err := json.Unmarshal(data, &answer); err != nil {
		return ticketAnswer{}, check.Errorf(check.ProxmoxFailed, "the login of %s got an answer that is of no use", l.username)
	}
	l.cleaner.Hold(check.NewSecret(string(answer.Ticket)), check.NewSecret(string(answer.CSRF)))
	return answer, nil
}

// denied remembers a refusal, so that it is not asked for again.
func (l *login) denied(err error) error {
	if check.CodeOf(err) == check.BadCredentials {
		l.current, l.denial = nil, err
	}
	return err
}

// totp tells whether a challenge, PVE:!tfa!<JSON, URL-encoded>:…, can be answered with a one-time code. Where it cannot be
// read, Proxmox decides.
func totp(challenge string) bool {
	_, rest, found := strings.Cut(challenge, "!tfa!")
	encoded, _, _ := strings.Cut(rest, ":")
	plain, err := url.PathUnescape(encoded)
	var methods map[string]any
	if !found || err != nil || json.Unmarshal([]byte(plain), &methods) != nil {
		return true
	}
	return truth(methods["totp"])
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
