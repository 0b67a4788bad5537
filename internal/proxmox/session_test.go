package proxmox_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

const (
	password  = "correct-horse-battery"
	challenge = "PVE:!tfa!%7B%22totp%22%3Atrue%2C%22recovery%22%3A%22available%22%7D:6923A0B1::c2lnbmF0dXJl"
)

// gate is the login of a node: a password, an optional second factor, and numbered tickets.
type gate struct {
	challenge string // the second factor is required unless this is empty
	code      string
	tickets   int
	refuse    bool
}

func (g *gate) handle(c *call) answer {
	if c.URL.Path != "/api2/json/access/ticket" {
		want := fmt.Sprintf("PVEAuthCookie=PVE:admin@pve:%08X::c2ln", g.tickets)
		if c.Header.Get("Cookie") != want || c.Header.Get("CSRFPreventionToken") != fmt.Sprintf("%08X:csrf", g.tickets) || c.Header.Get("Authorization") != "" {
			return fails(401, "permission denied - invalid PVE ticket")
		}
		if c.Method == "GET" {
			return answer{Status: 200, Reason: "OK", Body: `{"data":` + storedRealm + `}`, Open: true}
		}
		return answer{Status: 200, Reason: "OK", Body: `{"data":null}`}
	}
	var body map[string]string
	if json.Unmarshal(c.Body, &body) != nil || c.Header.Get("Cookie") != "" || g.refuse {
		return fails(401, "authentication failure")
	}
	current := fmt.Sprintf("PVE:admin@pve:%08X::c2ln", g.tickets)
	switch {
	case body["username"] != "admin@pve":
	case body["tfa-challenge"] != "":
		if body["tfa-challenge"] == g.challenge && body["password"] == "totp:"+g.code {
			return g.ticket()
		}
	case body["password"] == current && g.tickets > 0:
		return g.ticket()
	case body["password"] == password && g.challenge != "":
		return answer{Status: 200, Reason: "OK", Body: fmt.Sprintf(`{"data":{"NeedTFA":1,"ticket":%q,"username":"admin@pve","CSRFPreventionToken":"x"}}`, g.challenge)}
	case body["password"] == password:
		return g.ticket()
	}
	return fails(401, "authentication failure")
}

func (g *gate) ticket() answer {
	g.tickets++
	return answer{Status: 200, Reason: "OK", Body: fmt.Sprintf(
		`{"data":{"ticket":"PVE:admin@pve:%08X::c2ln","username":"admin@pve","CSRFPreventionToken":"%08X:csrf","cap":{}}}`, g.tickets, g.tickets)}
}

func asUser(otp string) func(*setup) {
	return func(o *setup) {
		o.Token, o.Username, o.Password = config.Token{}, config.UserID{Name: "admin", Realm: "pve"}, check.NewSecret(password)
		if otp != "" {
			o.OTP = check.NewSecret(otp)
		}
	}
}

func paths(n *node) string {
	var out []string
	for _, c := range n.seen() {
		out = append(out, c.Method+" "+strings.TrimPrefix(c.URL.Path, "/api2/json"))
	}
	return strings.Join(out, ", ")
}

// The client logs in before its first request. A request without a ticket would be rejected after three seconds.
func TestTicketLogin(t *testing.T) {
	g := &gate{}
	n := start(t, g.handle)
	c := connect(t, asUser("123456"), n) // an unneeded code does no harm
	if c.Identity() != "admin@pve" {
		t.Error(c.Identity())
	}
	if _, err := c.Realm(t.Context(), "authelia"); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context(), "authelia"); err != nil {
		t.Fatal(err)
	}
	if got := paths(n); got != "POST /access/ticket, GET /access/domains/authelia, DELETE /access/domains/authelia" {
		t.Error(got)
	}
}

func TestSecondFactor(t *testing.T) {
	g := &gate{challenge: challenge, code: "123456"}
	n := start(t, g.handle)
	if _, err := connect(t, asUser("123 456"), n).Realm(t.Context(), "authelia"); err != nil {
		t.Fatal(err)
	}
	if got := paths(n); got != "POST /access/ticket, POST /access/ticket, GET /access/domains/authelia" {
		t.Error(got)
	}
	for _, tt := range []struct{ name, otp, challenge, hint string }{
		{"no code", "", challenge, "proxmox.otp"},
		{"wrong code", "000000", challenge, "each code works once"},
	} {
		g := &gate{challenge: tt.challenge, code: "123456"}
		n := start(t, g.handle)
		c := connect(t, asUser(tt.otp), n)
		for range 3 { // the password is not sent again, because nodes count failures
			_, err := c.Realm(t.Context(), "authelia")
			var f *check.Error
			if !errors.As(err, &f) || f.Code != check.BadCredentials || !strings.Contains(f.Hint.For(check.Names{}), tt.hint) {
				t.Errorf("%s: %v; %+v", tt.name, err, f)
			}
		}
		if got := len(n.seen()); got > 2 {
			t.Errorf("%s: asked %d times", tt.name, got)
		}
	}
}

func TestRefusedPasswordIsAskedForOnce(t *testing.T) {
	g := &gate{refuse: true}
	n, other := start(t, g.handle), start(t, g.handle)
	c := connect(t, asUser(""), n, other)
	for range 3 {
		if _, err := c.Realm(t.Context(), "authelia"); check.CodeOf(err) != check.BadCredentials {
			t.Errorf("%v", err)
		}
	}
	if len(n.seen()) != 1 || len(other.seen()) != 0 {
		t.Errorf("asked %d times, elsewhere %d", len(n.seen()), len(other.seen()))
	}
}

func TestTicketsAreRenewed(t *testing.T) {
	g := &gate{}
	n := start(t, g.handle)
	c := connect(t, asUser(""), n)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c.SetNow(func() time.Time { return now })
	step := func(forward time.Duration, wantTickets int) {
		t.Helper()
		now = now.Add(forward)
		if _, err := c.Realm(t.Context(), "authelia"); err != nil || g.tickets != wantTickets {
			t.Errorf("%v: %v, %d tickets", forward, err, g.tickets)
		}
	}
	step(0, 1)
	step(118*time.Minute, 1)
	step(2*time.Minute, 2)
	step(-4*time.Hour, 3) // the age is unknown after the clock was set back

	// After a rejected ticket, the next request begins with a login.
	g.tickets++
	if _, err := c.Realm(t.Context(), "authelia"); check.CodeOf(err) != check.BadCredentials {
		t.Errorf("%v", err)
	}
	step(0, 5)
}

func TestOneTimeCodeServesOnce(t *testing.T) {
	g := &gate{challenge: challenge, code: "123456"}
	n := start(t, g.handle)
	c := connect(t, asUser("123456"), n)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c.SetNow(func() time.Time { return now })
	if _, err := c.Realm(t.Context(), "authelia"); err != nil {
		t.Fatal(err)
	}
	now = now.Add(90 * time.Minute)
	if _, err := c.Realm(t.Context(), "authelia"); err != nil || g.tickets != 1 {
		t.Errorf("a session outlives its code: %v", err)
	}
	now = now.Add(3 * time.Hour)
	before := len(n.seen())
	_, err := c.Realm(t.Context(), "authelia")
	var f *check.Error
	if !errors.As(err, &f) || f.Code != check.BadCredentials || !strings.Contains(f.Hint.For(check.Names{}), "token") || len(n.seen()) != before {
		t.Errorf("%v", err)
	}
}

// A login goes to the next node like a read. A write is not lost if the login before it failed.
func TestLoginGoesToTheNextNode(t *testing.T) {
	g := &gate{}
	broken, n := start(t, func(*call) answer { return answer{Drop: true} }), start(t, g.handle)
	c := connect(t, asUser(""), broken, n)
	if err := c.Delete(t.Context(), "authelia"); err != nil || paths(broken) != "POST /access/ticket" {
		t.Errorf("%v; %s", err, paths(broken))
	}
	alone := connect(t, asUser(""), broken)
	if err := alone.Delete(t.Context(), "authelia"); err == nil || errors.Is(err, realm.ErrLost) {
		t.Errorf("%v", err)
	}
}

func TestLoginAnswersThatAreOfNoUse(t *testing.T) {
	for _, data := range []string{`null`, `[]`, `{}`, `{"ticket":"","CSRFPreventionToken":"x"}`, `{"ticket":"PVE:x\r\nX-Evil: 1","CSRFPreventionToken":"x"}`, `{"ticket":{},"CSRFPreventionToken":[]}`} {
		n := start(t, func(c *call) answer {
			if c.URL.Path == "/api2/json/access/ticket" {
				return answer{Status: 200, Reason: "OK", Body: `{"data":` + data + `}`}
			}
			return ok(storedRealm)
		})
		_, err := connect(t, asUser(""), n).Realm(t.Context(), "authelia")
		if data == `{"ticket":{},"CSRFPreventionToken":[]}` {
			continue // odd, but usable as tickets
		}
		if check.CodeOf(err) != check.ProxmoxFailed {
			t.Errorf("%s: %v", data, err)
		}
	}
}

const authorization = "https://auth.example.com/api/oidc/authorization?response_type=code&client_id=proxmox&state=%7B%22csrf_token%22%3A%22abc%22%2C%22realm%22%3A%22authelia%22%7D" +
	"&code_challenge=xyz&code_challenge_method=S256&redirect_uri=https%3A%2F%2Fpve.example.com%3A8006&scope=openid+openid+profile+email&nonce=n1&display=page&acr_values=urn%3Aa+urn%3Ab&prompt=login"

func TestAuthURLAndLogin(t *testing.T) {
	first := start(t, func(*call) answer { return answer{Drop: true} })
	n := start(t, func(c *call) answer {
		if c.Header.Get("Authorization") != "" || c.Header.Get("Cookie") != "" {
			t.Error("credentials were sent")
		}
		if c.URL.Path == "/api2/json/access/openid/login" {
			return answer{Status: 200, Reason: "OK", Body: `{"data":{"username":"john@authelia","ticket":"PVE:john@authelia:65::sig","CSRFPreventionToken":"65:abc"}}`}
		}
		raw, _ := json.Marshal(authorization)
		return answer{Status: 200, Reason: "OK", Body: `{"data":` + string(raw) + `}`}
	})
	c := connect(t, nil, first, n).On(n.URL)
	a, err := c.AuthURL(t.Context(), "authelia", "https://pve.example.com:8006")
	if err != nil {
		t.Fatal(err)
	}
	if a.Endpoint != n.URL || a.Raw != authorization || a.Location != "https://auth.example.com/api/oidc/authorization" ||
		a.State != `{"csrf_token":"abc","realm":"authelia"}` || a.Query.Get("scope") != "openid openid profile email" {
		t.Errorf("%+v", a)
	}
	var body map[string]string
	if json.Unmarshal(n.seen()[0].Body, &body) != nil || body["realm"] != "authelia" || body["redirect-url"] != "https://pve.example.com:8006" || len(body) != 2 {
		t.Errorf("sent %v", body)
	}
	s, err := c.Login(t.Context(), a.State, "code-1234", "https://pve.example.com:8006")
	if err != nil || s.Username != "john@authelia" || s.Endpoint != n.URL || !s.Ticket.Equal(check.NewSecret("PVE:john@authelia:65::sig")) {
		t.Errorf("%+v, %v", s, err)
	}
	if c.As(s).Identity() != "john@authelia" || c.Identity() != tokenID {
		t.Error("As is a view of its own")
	}
	if len(first.seen()) != 0 {
		t.Error("the other node was asked")
	}

	me := start(t, func(c *call) answer {
		if c.Header.Get("Cookie") != "PVEAuthCookie=PVE:john@authelia:65::sig" || c.Header.Get("Authorization") != "" {
			return fails(401, "No ticket")
		}
		return ok(`{"/vms":{"VM.Audit":1}}`)
	})
	if all, err := connect(t, nil, me).As(s).Privileges(t.Context()); err != nil || !all["/vms"]["VM.Audit"] {
		t.Errorf("%v, %v", all, err)
	}
}

// An authorization URL is requested once, whatever the answer, because each request leaves a pending login.
func TestAuthURLIsAskedForOnce(t *testing.T) {
	for name, a := range map[string]answer{
		"silence": {Drop: true}, "596": fails(596, "Connection timed out"), "599": fails(599, "x"), "cut": {Status: 200, Body: `{"data":"x"}`, Cut: 2},
		"relative": ok(`"/authorize"`), "null": ok("null"), "number": ok("1"), "object": ok("{}"), "script": ok(`"javascript:alert(1)"`), "bad query": ok(`"https://a.example/?x=%zz"`),
	} {
		n, other := start(t, func(*call) answer { return a }), start(t, func(*call) answer { return a })
		c := connect(t, nil, n, other)
		_, err := c.AuthURL(t.Context(), "authelia", "https://pve.example.com:8006")
		var e *proxmox.Error
		if !errors.As(err, &e) || len(n.seen()) != 1 || len(other.seen()) != 0 || errors.Is(err, realm.ErrLost) {
			t.Errorf("%s: %v, %d requests, %d elsewhere", name, err, len(n.seen()), len(other.seen()))
		}
		if name == "596" && e.Kind != proxmox.IssuerHung {
			t.Errorf("%s: %s", name, e.Kind)
		}
		if _, err := c.Login(t.Context(), "state", "code-1234", "https://pve.example.com:8006"); err == nil {
			t.Errorf("%s: a login", name)
		}
	}
}

// The log shows neither credentials nor bodies at any level.
func TestNothingSecretIsLogged(t *testing.T) {
	var log bytes.Buffer
	cleaner := check.NewCleaner()
	g := &gate{challenge: challenge, code: "123456"}
	n := start(t, g.handle)
	c := connect(t, func(o *setup) {
		asUser("123456")(o)
		o.Cleaner, o.Log = cleaner, slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug - 4}))
	}, n)
	got, err := c.Realm(t.Context(), "authelia")
	if err != nil {
		t.Fatal(err)
	}
	err = c.Create(t.Context(), plan(t, realm.Current{}, realm.Values{realm.ClientKey: realm.Key(check.NewSecret("the-client-key"))}))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&log, "%v %+v %#v", got, got, c)
	for _, hidden := range []string{password, "123456", "PVE:admin", "c2ln", ":csrf", "the-client-key"} {
		if strings.Contains(log.String(), hidden) {
			t.Errorf("shows %q: %s", hidden, log.String())
		}
	}
	if !strings.Contains(log.String(), `"path":"/access/domains/authelia","status":200`) {
		t.Errorf("says nothing: %s", log.String())
	}
	for _, held := range []string{password, "the-client-key", "PVE:admin@pve:00000001::c2ln"} {
		if cleaner.Clean("x"+held+"x") != "x"+check.Mask+"x" {
			t.Errorf("the cleaner does not know %q", held)
		}
	}
}

// No error shows a stored client key or the token.
func TestEchoedSecretsAreCleaned(t *testing.T) {
	n := start(t, func(c *call) answer {
		if c.Method == http.MethodGet {
			return byID(t, "read").answer()
		}
		return fails(500, "failed with insecure_secret and "+tokenSecret+" and "+tokenID+"="+tokenSecret)
	})
	c := connect(t, nil, n)
	if _, err := c.Realm(t.Context(), "authelia"); err != nil {
		t.Fatal(err)
	}
	err := c.Delete(t.Context(), "authelia")
	if err == nil || strings.Contains(err.Error(), "insecure_secret") || strings.Contains(err.Error(), tokenSecret) || !strings.Contains(err.Error(), check.Mask) {
		t.Errorf("%v", err)
	}
}
