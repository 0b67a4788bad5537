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
	lab "proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

// asked lists the requests of a lab.
func asked(s *lab.Server) string {
	var out []string
	for _, r := range s.Requests() {
		out = append(out, r.Method+" "+strings.TrimPrefix(r.Path, "/api2/json"))
	}
	return strings.Join(out, ", ")
}

// logins counts the tickets that a lab was asked for.
func logins(s *lab.Server) int { return strings.Count(asked(s), "POST /access/ticket") }

// asAdmin makes a client log in as an administrator of the lab.
func asAdmin(s *lab.Server) func(*setup) { return asUserOf(s.User(lab.UserAdmin)) }

// The client logs in before its first request. A request without a ticket would be rejected after three seconds.
func TestTicketLogin(t *testing.T) {
	s := startLab(t, lab.Options{})
	c := toLab(t, s, lab.TokenRoot, func(o *setup) {
		asAdmin(s)(o)
		o.OTP = check.NewSecret("123456") // an unneeded code does no harm
	})
	if c.Identity() != "admin@pve" {
		t.Error(c.Identity())
	}
	if _, err := c.Realm(t.Context(), "authelia"); err != nil {
		t.Fatal(err)
	}
	if err := c.Create(t.Context(), plan(t, realm.Current{}, nil)); err != nil {
		t.Fatal(err)
	}
	if got := asked(s); got != "POST /access/ticket, GET /access/domains/authelia, POST /access/domains" {
		t.Error(got)
	}
}

func TestSecondFactor(t *testing.T) {
	for _, tt := range []struct {
		name, code, hint string
		requests         string
	}{
		{"a code", "now", "", "POST /access/ticket, POST /access/ticket, GET /version, GET /version, GET /version"},
		{"no code", "", "proxmox.otp", "POST /access/ticket"},
		{"a wrong code", "000000", "each code works once", "POST /access/ticket, POST /access/ticket"},
	} {
		s := startLab(t, lab.Options{})
		c := toLab(t, s, lab.TokenRoot, func(o *setup) {
			asUserOf(s.User(lab.UserTOTP))(o)
			switch tt.code {
			case "":
			case "now":
				code := s.TOTP(lab.UserTOTP)
				o.OTP = check.NewSecret(code[:3] + " " + code[3:])
			default:
				o.OTP = check.NewSecret(tt.code)
			}
		})
		for range 3 { // a refused password is not sent again, because nodes count failures
			_, err := c.Version(t.Context())
			if (err == nil) != (tt.hint == "") || err != nil && check.CodeOf(err) != check.BadCredentials || !strings.Contains(check.HintOf(err).For(check.Names{}), tt.hint) {
				t.Errorf("%s: %v; %s", tt.name, err, check.HintOf(err))
			}
		}
		if got := asked(s); got != tt.requests {
			t.Errorf("%s: %s", tt.name, got)
		}
	}
}

func TestRefusedPasswordIsAskedForOnce(t *testing.T) {
	s := startLab(t, lab.Options{})
	c := toLab(t, s, lab.TokenRoot, func(o *setup) {
		asAdmin(s)(o)
		o.Endpoints, o.Password = append(o.Endpoints, dead(t).URL), check.NewSecret("a-wrong-password")
	})
	for range 3 {
		if _, err := c.Realm(t.Context(), "authelia"); check.CodeOf(err) != check.BadCredentials {
			t.Errorf("%v", err)
		}
	}
	if logins(s) != 1 {
		t.Errorf("asked: %s", asked(s))
	}
}

func TestTicketsAreRenewed(t *testing.T) {
	s := startLab(t, lab.Options{})
	c := toLab(t, s, lab.TokenRoot, asAdmin(s))
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c.SetNow(func() time.Time { return now })
	step := func(forward time.Duration, tickets int) {
		t.Helper()
		now = now.Add(forward)
		if _, err := c.Realm(t.Context(), "authelia"); err != nil || logins(s) != tickets {
			t.Errorf("%v: %v, %d tickets", forward, err, logins(s))
		}
	}
	step(0, 1)
	step(118*time.Minute, 1)
	step(2*time.Minute, 2)
	step(-4*time.Hour, 3) // the age is unknown after the clock was set back

	// After a rejected ticket, the next request begins with a login.
	s.Inject(lab.Rule{Method: http.MethodGet, Status: 401, Reason: "permission denied - invalid PVE ticket", Count: 1})
	if _, err := c.Realm(t.Context(), "authelia"); check.CodeOf(err) != check.BadCredentials {
		t.Errorf("%v", err)
	}
	step(0, 4)
}

func TestOneTimeCodeServesOnce(t *testing.T) {
	s := startLab(t, lab.Options{})
	c := toLab(t, s, lab.TokenRoot, func(o *setup) {
		asUserOf(s.User(lab.UserTOTP))(o)
		o.OTP = check.NewSecret(s.TOTP(lab.UserTOTP))
	})
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c.SetNow(func() time.Time { return now })
	if _, err := c.Version(t.Context()); err != nil {
		t.Fatal(err)
	}
	now = now.Add(90 * time.Minute)
	if _, err := c.Version(t.Context()); err != nil || logins(s) != 2 {
		t.Errorf("a session outlives its code: %v, %s", err, asked(s))
	}
	now = now.Add(3 * time.Hour)
	before := len(s.Requests())
	_, err := c.Version(t.Context())
	if check.CodeOf(err) != check.BadCredentials || !strings.Contains(string(check.HintOf(err)), "token") || len(s.Requests()) != before {
		t.Errorf("%v", err)
	}
}

// A login goes to the next node like a read. A write is not lost if the login before it failed.
func TestLoginGoesToTheNextNode(t *testing.T) {
	s := startLab(t, lab.Options{})
	broken := start(t, func(*call) answer { return answer{Drop: true} })
	create := plan(t, realm.Current{}, nil)
	c := toLab(t, s, lab.TokenRoot, func(o *setup) {
		asAdmin(s)(o)
		o.Endpoints = []config.Origin{broken.URL, o.Endpoints[0]}
		o.CA.AddCert(authority().Leaf)
	})
	if err := c.Create(t.Context(), create); err != nil || len(broken.seen()) != 1 || broken.seen()[0].URL.Path != "/api2/json/access/ticket" {
		t.Errorf("%v; %d requests", err, len(broken.seen()))
	}
	alone := connect(t, asAdmin(s), broken)
	if err := alone.Create(t.Context(), create); err == nil || errors.Is(err, realm.ErrLost) {
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
		_, err := connect(t, func(o *setup) {
			o.Token, o.Username, o.Password = config.Token{}, config.UserID{Name: "admin", Realm: "pve"}, check.NewSecret("correct-horse-battery")
		}, n).Realm(t.Context(), "authelia")
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
	s := startLab(t, lab.Options{})
	user, code := s.User(lab.UserTOTP), s.TOTP(lab.UserTOTP)
	if err := s.Update(func(st *lab.State) {
		st.ACL = append(st.ACL, lab.ACL{Path: "/", Type: "user", ID: user.Username, Role: "Administrator", Propagate: true})
	}); err != nil {
		t.Fatal(err)
	}
	c := toLab(t, s, lab.TokenRoot, func(o *setup) {
		asUserOf(user)(o)
		o.OTP, o.Cleaner, o.Log = check.NewSecret(code), cleaner, slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug - 4}))
	})
	err := c.Create(t.Context(), plan(t, realm.Current{}, realm.Values{realm.ClientKey: realm.Key(check.NewSecret("the-client-key"))}))
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Realm(t.Context(), "authelia")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&log, "%v %+v %#v", got, got, c)
	for _, hidden := range []string{user.Password, code, "PVE:" + user.Username, "the-client-key"} {
		if strings.Contains(log.String(), hidden) {
			t.Errorf("shows %q: %s", hidden, log.String())
		}
	}
	if !strings.Contains(log.String(), `"path":"/access/domains/authelia","status":200`) {
		t.Errorf("says nothing: %s", log.String())
	}
	for _, held := range []string{user.Password, "the-client-key"} {
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
	err := c.Delete(t.Context(), "authelia", "d1")
	if err == nil || strings.Contains(err.Error(), "insecure_secret") || strings.Contains(err.Error(), tokenSecret) || !strings.Contains(err.Error(), check.Mask) {
		t.Errorf("%v", err)
	}
}
