package proxmox_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

// logins counts the tickets that a lab was asked for.
func logins(s server) int { return strings.Count(asked(s), "POST /access/ticket") }

// as makes a client log in as a user of the lab.
func as(s *pve.Server, name string) func(*setup) {
	user := s.User(name)
	return func(o *setup) {
		name, of, _ := strings.Cut(user.Username, "@")
		o.Token, o.Username, o.Password = config.Token{}, config.UserID{Name: name, Realm: of}, check.NewSecret(user.Password)
	}
}

// withCode adds a one-time code to the configuration.
func withCode(code string) func(*setup) { return func(o *setup) { o.OTP = check.NewSecret(code) } }

// The client logs in before its first request. A request without a ticket would be rejected after three seconds.
func TestTicketLogin(t *testing.T) {
	s := startVE(t, pve.Options{})
	c := connect(t, s, pve.TokenRoot, as(s, pve.UserAdmin), withCode("123456")) // an unneeded code does no harm
	if c.Identity() != "admin@pve" {
		t.Error(c.Identity())
	}
	if created(t, c, nil); asked(s) != "POST /access/ticket, POST /access/domains, GET /access/domains/authelia" {
		t.Error(asked(s))
	}
	var f *check.Error
	p := config.Proxmox{Endpoints: c.Endpoints(), Username: config.UserID{Name: "root", Realm: "pam"}}
	if c, err := proxmox.New(p, proxmox.Options{}); c != nil || !errors.As(err, &f) || f.Code != check.Config || f.Hint == "" {
		t.Errorf("without a password: %v", err)
	}
}

// A refused password is not sent again, because nodes count failures. The one-time code is asked for only when it is needed. A user
// whom only a browser can log in is told so.
func TestSecondFactor(t *testing.T) {
	challenge := func(ticket string) pve.Rule {
		half, _ := json.Marshal(ticket)
		return pve.Rule{Path: "/access/ticket", Status: 200, Body: `{"data":{"NeedTFA":1,"ticket":` + string(half) + `,"username":"admin@pve","CSRFPreventionToken":"x"}}`}
	}
	gone := errors.New("the terminal is gone")
	for name, tt := range map[string]struct {
		user, code, password string // code: "now" for the right one, "?" to be asked for it
		challenge            pve.Rule
		says                 string // in error and hint
		logins               int
	}{
		"no second factor":  {pve.UserAdmin, "?", "", pve.Rule{}, "", 1},
		"a wrong password":  {pve.UserAdmin, "", "a-wrong-password", pve.Rule{}, "set proxmox.password_file", 1},
		"a code":            {pve.UserTOTP, "now", "", pve.Rule{}, "", 2},
		"a code asked for":  {pve.UserTOTP, "?", "", pve.Rule{}, "", 2},
		"no code":           {pve.UserTOTP, "", "", pve.Rule{}, "set proxmox.otp", 1},
		"a wrong code":      {pve.UserTOTP, "000000", "", pve.Rule{}, "each code works once", 2},
		"nobody to ask":     {pve.UserTOTP, "gone", "", pve.Rule{}, gone.Error(), 3}, // the password was right
		"a browser's alone": {pve.UserAdmin, "", "", challenge(`PVE:!tfa!{"webauthn"%3A{"x"%3A1}%2C"totp"%3Afalse%2C"recovery"%3A"unavailable"}:x`), "has a second factor that only a browser can give: webauthn", 1},
		"a time-based code": {pve.UserAdmin, "", "", challenge(`PVE:!tfa!{"totp"%3Atrue}:x`), "no one-time code is given", 1},
		"no list":           {pve.UserAdmin, "", "", challenge(`PVE:!tfa!nonsense:x`), "no one-time code is given", 1},
		"two challenges":    {pve.UserAdmin, "recovery:x", "", challenge(`PVE:!tfa!{"recovery"%3Atrue}:x`), "of admin@pve", 2},
	} {
		s := startVE(t, pve.Options{})
		if tt.challenge.Status != 0 {
			s.Inject(tt.challenge)
		}
		told := 0
		c := connect(t, s, pve.TokenRoot, as(s, tt.user), func(o *setup) {
			switch tt.code {
			case "":
			case "now":
				code := s.TOTP(tt.user)
				withCode(code[:3] + " " + code[3:])(o)
			case "?", "gone":
				o.SecondFactor = func(_ context.Context, factors []string) (check.Secret, error) {
					told++
					if tt.code == "gone" || !slices.Contains(factors, "totp") {
						return check.Secret{}, gone
					}
					return check.NewSecret(s.TOTP(tt.user)), nil
				}
			default:
				withCode(tt.code)(o)
			}
			if tt.password != "" {
				o.Password = check.NewSecret(tt.password)
				o.Endpoints = append(o.Endpoints, dead(t)) // no other node is asked
			}
		})
		for range 3 {
			_, err := c.Version(t.Context())
			if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error()+hintOf(err), tt.says) {
				t.Errorf("%s: %v; %s", name, err, hintOf(err))
			}
		}
		if logins(s) != tt.logins || tt.code == "?" && told != tt.logins-1 {
			t.Errorf("%s: asked %d times, %s", name, told, asked(s))
		}
	}
}

func TestTicketsAreRenewed(t *testing.T) {
	for _, user := range []string{pve.UserAdmin, pve.UserTOTP} {
		s := startVE(t, pve.Options{})
		c := connect(t, s, pve.TokenRoot, as(s, user), withCode(s.TOTP(user)))
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		c.SetNow(func() time.Time { return now })
		step := func(forward time.Duration, tickets int) {
			t.Helper()
			now = now.Add(forward)
			if _, err := c.Version(t.Context()); err != nil || logins(s) != tickets {
				t.Errorf("%s: %v: %v, %d tickets", user, forward, err, logins(s))
			}
		}
		if user == pve.UserTOTP { // a one-time code serves for one session
			step(0, 2)
			step(118*time.Minute, 2)
			now = now.Add(2 * time.Minute)
			if _, err := c.Version(t.Context()); check.CodeOf(err) != check.BadCredentials || !strings.Contains(hintOf(err), "token") || logins(s) != 2 {
				t.Errorf("%v, %s", err, asked(s))
			}
			continue
		}
		step(0, 1)
		step(118*time.Minute, 1)
		step(2*time.Minute, 2)
		step(-4*time.Hour, 3) // the age is unknown after the clock was set back
		// After a rejected ticket, the next request begins with a login.
		s.Inject(pve.Rule{Method: http.MethodGet, Status: 401, Reason: "permission denied - invalid PVE ticket", Count: 1})
		_, err := c.Version(t.Context())
		isKind(t, "a rejected ticket", err, proxmox.BadCredentials)
		step(0, 4)
	}
}

// A login goes to the next node like a read. A write is not lost if the login before it failed.
func TestLoginGoesToTheNextNode(t *testing.T) {
	s, _ := cluster(t, 2)
	urls := s.URLs()
	s.Inject(pve.Rule{Host: config.Origin(urls[0]).Host(), Drop: true})
	with := func(endpoints ...string) *proxmox.Client {
		return connect(t, s, pve.TokenRoot, as(s, pve.UserAdmin), func(o *setup) {
			o.Endpoints = nil
			for _, url := range endpoints {
				o.Endpoints = append(o.Endpoints, config.Origin(url))
			}
		})
	}
	create := planned(realm.VE, realm.Current{}, nil)
	if err := with(urls...).Create(t.Context(), create); err != nil || asked(s) != "POST /access/ticket, POST /access/ticket, POST /access/domains" {
		t.Errorf("%v; %s", err, asked(s))
	}
	if err := with(urls[0]).Create(t.Context(), create); err == nil || errors.Is(err, realm.ErrLost) {
		t.Errorf("%v", err)
	}
}

func TestLoginAnswersThatAreOfNoUse(t *testing.T) {
	for _, data := range []string{`null`, `[]`, `{}`, `{"ticket":"","CSRFPreventionToken":"x"}`, `{"ticket":"PVE:x\r\nX-Evil: 1","CSRFPreventionToken":"x"}`} {
		s := startVE(t, pve.Options{})
		s.Inject(pve.Rule{Path: "/access/ticket", Status: 200, Body: `{"data":` + data + `}`})
		if _, err := connect(t, s, pve.TokenRoot, as(s, pve.UserAdmin)).Realm(t.Context(), "authelia"); check.CodeOf(err) != check.ProxmoxFailed || len(s.Requests()) != 1 {
			t.Errorf("%s: %v, %s", data, err, asked(s))
		}
	}
}

// Token and ticket of each product are sent in its own way, and the cleaner knows the token in both forms.
func TestCredentialsOfEachProduct(t *testing.T) {
	for p, want := range map[realm.Product][2]string{
		realm.VE:                {"PVEAPIToken=a@pve!bb=cccccccc", "PVEAuthCookie=ticket:x"},
		realm.BackupServer:      {"PBSAPIToken=a@pve!bb:cccccccc", "PBSAuthCookie=ticket:x"},
		realm.DatacenterManager: {"PDMAPIToken=a@pve!bb:cccccccc", "__Host-PDMAuthCookie=ticket:x"},
	} {
		var sent []http.Header
		cleaner := check.NewCleaner()
		c := inMemory(p, func(req *http.Request, _ string) (int, string) {
			sent = append(sent, req.Header)
			return 200, `{"data":{"version":"9.2","release":"1"}}`
		})
		session := proxmox.Session{Username: "jane@sso", Ticket: check.NewSecret("ticket:x"), CSRF: check.NewSecret("csrf")}
		for _, client := range []*proxmox.Client{c, c.As(session)} {
			if _, err := client.Version(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if h := sent[0]; h.Get("Authorization") != want[0] || h.Get("Cookie") != "" || h.Get("User-Agent") != "proxmox-realm" {
			t.Errorf("%v: %v", p, h)
		}
		if h := sent[1]; h.Get("Cookie") != want[1] || h.Get("CSRFPreventionToken") != "csrf" || h.Get("Authorization") != "" {
			t.Errorf("%v: %v", p, h)
		}
		if c.As(session).Identity() != "jane@sso" || c.Identity() != "a@pve!bb" || c.Product() != p {
			t.Errorf("%v: %s", p, c.Identity())
		}
		connect(t, start(t, p), pve.TokenRoot, withToken(t, p), func(o *setup) { o.Cleaner = cleaner })
		for _, separator := range []string{":", "="} {
			if got := cleaner.Clean("x realmadm@" + p.String() + "!agent" + separator + tokenSecret); strings.Contains(got, tokenSecret[:8]) {
				t.Errorf("%v: %s is shown", p, got)
			}
		}
	}
}

const authorization = "https://auth.example.com/api/oidc/authorization?response_type=code&client_id=proxmox&state=%7B%22csrf_token%22%3A%22abc%22%2C%22realm%22%3A%22authelia%22%7D" +
	"&code_challenge=xyz&code_challenge_method=S256&redirect_uri=https%3A%2F%2Fpve.example.com%3A8006&scope=openid+openid+profile+email&nonce=n1&display=page&acr_values=urn%3Aa+urn%3Ab&prompt=login"

// An authorization URL and a login are asked for without credentials. The ticket is in the answer, or in a cookie that scripts do
// not see.
func TestAuthURLAndLogin(t *testing.T) {
	for p, answer := range map[realm.Product]pve.Rule{
		realm.VE:           ok(`{"username":"jane@sso","ticket":"PVE:jane","CSRFPreventionToken":"x"}`),
		realm.BackupServer: ok(`{"username":"jane@sso","ticket":"PBS:jane","CSRFPreventionToken":"x"}`),
		realm.DatacenterManager: {
			Status: 200, Body: `{"data":{"username":"jane@sso","ticket-info":"PDM:jane::ticketinfo","CSRFPreventionToken":"x"},"status":200,"success":true}`,
			Header: http.Header{"Set-Cookie": {"__Host-PDMAuthCookie=PDM:jane; Secure; SameSite=Lax; HttpOnly; Path=/;"}},
		},
	} {
		s, c := failing(t, p, answer)
		raw, _ := json.Marshal(authorization)
		s.Inject(pve.Rule{Path: "/access/openid/auth-url", Status: 200, Body: `{"data":` + string(raw) + `}`})
		a, err := c.AuthURL(t.Context(), "authelia", "https://pve.example.com:8006")
		if err != nil || a.Endpoint != c.Endpoint() || a.Raw != authorization || a.Location != "https://auth.example.com/api/oidc/authorization" ||
			a.Query.Get("state") != `{"csrf_token":"abc","realm":"authelia"}` || a.Query.Get("scope") != "openid openid profile email" {
			t.Errorf("%+v, %v", a, err)
		}
		session, err := c.Login(t.Context(), "state", "code-of-a-login", "https://pve.example.com:8006")
		if err != nil || session.Username != "jane@sso" || !strings.HasSuffix(session.Ticket.Reveal(), ":jane") || session.Endpoint != c.Endpoint() {
			t.Errorf("%v: %+v, %v", p, session, err)
		}
	}
	var sent []string
	c := inMemory(realm.VE, func(req *http.Request, body string) (int, string) {
		sent = append(sent, body)
		if req.Header.Get("Authorization") != "" || req.Header.Get("Cookie") != "" {
			t.Error("credentials were sent")
		}
		return 401, ""
	})
	_, _ = c.AuthURL(t.Context(), "authelia", "https://a")
	_, _ = c.Login(t.Context(), "state", "code-of-a-login", "https://a")
	if want := `{"realm":"authelia","redirect-url":"https://a"}, {"code":"code-of-a-login","redirect-url":"https://a","state":"state"}`; strings.Join(sent, ", ") != want {
		t.Errorf("sent %s", sent)
	}
}

// What is neither an authorization URL nor a ticket is refused.
func TestAuthURLsAndTicketsThatAreNone(t *testing.T) {
	for _, data := range []string{`"/authorize"`, "null", "1", "{}", `"javascript:alert(1)"`, `"https://a.example/?x=%zz"`} {
		s, c := failing(t, realm.VE, ok(data))
		_, err := c.AuthURL(t.Context(), "authelia", "https://pve.example.com:8006")
		isKind(t, data, err, proxmox.NotProxmox)
		_, err = c.Login(t.Context(), "state", "code-1234", "https://pve.example.com:8006")
		if isKind(t, data, err, proxmox.NotProxmox); len(s.Requests()) != 2 {
			t.Error(asked(s))
		}
	}
}

// The reason of a failed login is in the answer of Backup Server; of Proxmox VE it is in the log only.
func TestReasonOfAFailedLogin(t *testing.T) {
	const text = "user account 'jane@sso' missing, disabled or expired."
	s, c := failing(t, realm.BackupServer, pve.Rule{Status: 401, Body: text, ContentType: "-"})
	_, err := c.Login(t.Context(), "state", "code-of-a-login", "https://pbs.example.com:8007")
	if e := isKind(t, text, err, proxmox.LoginRefused); e.Reason != text || len(s.Requests()) != 1 {
		t.Errorf("%v", err)
	}
	if hint := hintOf(err); !strings.Contains(hint, "journalctl -u proxmox-backup") || strings.Contains(hint, "only this log") {
		t.Error(hint)
	}
}

// A silent issuer blocks the product for good, and no status tells: the request ends by its own time limit.
func TestSilentIssuer(t *testing.T) {
	login := realm.Login{Realm: "authelia", IssuerURL: "https://auth.example.com"}
	for _, p := range realm.Products() {
		synctest.Test(t, func(t *testing.T) {
			c := proxmox.Over(p, silent)
			found, hung, err := c.CheckDiscovery(t.Context(), c.Endpoint(), login, "https://pve.example.com:8006", true)
			if err != nil || !hung || found.Status != check.Fail || !strings.Contains(found.Summary, "did not answer") ||
				!strings.Contains(string(found.Hint), "    curl -v -m 10 https://auth.example.com/.well-known/openid-configuration\n") || !strings.Contains(string(found.Hint), "    systemctl restart ") {
				t.Errorf("%v: %+v, hung %t, %v", p, found, hung, err)
			}
			c.SetTimeout(5 * time.Second) // a short limit proves nothing, but the node must rest
			found, hung, err = c.CheckDiscovery(t.Context(), c.Endpoint(), login, "https://pve.example.com:8006", true)
			if err != nil || !hung || found.Status != check.Skip {
				t.Errorf("%+v, hung %t, %v", found, hung, err)
			}
		})
	}
}

// A grant is seen after up to 5 seconds: a client waits for it once.
func TestPatience(t *testing.T) {
	for _, tt := range []struct {
		name    string
		product realm.Product
		there   bool // the grant, after the delay
		within  time.Duration
		took    time.Duration
		code    check.Code
	}{
		{"a grant just made", realm.BackupServer, true, time.Minute, 5 * time.Second, ""},
		{"no grant", realm.DatacenterManager, false, time.Minute, 5 * time.Second, check.PermissionDenied},
		{"Proxmox VE", realm.VE, false, time.Minute, 0, check.PermissionDenied},
		{"an interruption", realm.BackupServer, true, time.Second, time.Second, check.PermissionDenied},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			c := inMemory(tt.product, func(*http.Request, string) (int, string) {
				if tt.there && time.Since(began) >= 5*time.Second {
					return 200, `{"data":{"realm":"authelia","issuer-url":"https://a","client-id":"c"},"digest":"d"}`
				}
				return 403, "permission check failed"
			})
			ctx, cancel := context.WithTimeout(t.Context(), tt.within)
			defer cancel()
			if _, err := c.Realm(ctx, "authelia"); check.CodeOf(err) != tt.code || time.Since(began) != tt.took {
				t.Errorf("%s: %v after %s", tt.name, err, time.Since(began))
			}
			if _, err := c.Realm(t.Context(), "authelia"); time.Since(began) != tt.took {
				t.Errorf("%s: it waits again: %v", tt.name, err)
			}
		})
	}
}

// The log shows neither credentials nor bodies at any level.
func TestNothingSecretIsLogged(t *testing.T) {
	var log bytes.Buffer
	cleaner := check.NewCleaner()
	s := startVE(t, pve.Options{})
	user, code := s.User(pve.UserTOTP), s.TOTP(pve.UserTOTP)
	if err := s.Update(func(st *pve.State) {
		st.ACL = append(st.ACL, pve.ACL{Path: "/", Type: "user", ID: user.Username, Role: "Administrator", Propagate: true})
	}); err != nil {
		t.Fatal(err)
	}
	c := connect(t, s, pve.TokenRoot, as(s, pve.UserTOTP), withCode(code), func(o *setup) {
		o.Cleaner, o.Log = cleaner, slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug - 4}))
	})
	got := created(t, c, realm.Values{realm.ClientKey: realm.Key(check.NewSecret("the-client-key"))})
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
