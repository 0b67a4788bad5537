package login_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"proxmox-realm/internal/authelia"
	"proxmox-realm/internal/check"
	"proxmox-realm/internal/config"
	"proxmox-realm/internal/fleet"
	"proxmox-realm/internal/lab"
	labissuer "proxmox-realm/internal/lab/issuer"
	labpve "proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/login"
	"proxmox-realm/internal/reconcile"
	"proxmox-realm/internal/report"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stage is a lab whose issuer knows the redirect URL of rehearsals, and everything that a rehearsal said.
type stage struct {
	*testing.T
	*lab.Lab
	said     syncBuffer // notes, addresses and the log at its most talkative
	decision string     // of the user at the consent page
}

func set(t *testing.T, options lab.Options) *stage {
	t.Helper()
	if options.Seed == "" {
		options.Seed = "converged"
	}
	l, err := lab.Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &stage{T: t, Lab: l, decision: "accept"}
	s.client(func(c *labissuer.Client) { c.RedirectURIs = []string{l.RedirectURL, login.RedirectURL} })
	return s
}

// client changes the client at the issuer.
func (s *stage) client(change func(*labissuer.Client)) {
	c, _ := s.Issuer.Client(s.ClientID)
	change(&c)
	s.Issuer.SetClient(c)
}

// property changes the realm behind everybody's back.
func (s *stage) property(name, value string) {
	s.Helper()
	s.must(s.PVE.SetProperty(lab.RealmName, name, value))
}

func (s *stage) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// asRoot lets the rehearsal see everything that Proxmox knows.
func (s *stage) asRoot(o *login.Options) {
	if err := os.WriteFile(s.Dir+"/token", []byte(s.PVE.Token(labpve.TokenRoot)), 0o600); err != nil {
		s.Fatal(err)
	}
	s.connect(o)
}

// connect gives the options the lab's target and a client of it.
func (s *stage) connect(o *login.Options) {
	s.Helper()
	c, err := config.Load(s.Context(), config.Options{File: s.ConfigFile, Secrets: true})
	if err != nil {
		s.Fatal(err)
	}
	f := fleet.New(c, "test", slog.New(slog.DiscardHandler))
	o.Target = c.Targets[0]
	if o.Client, err = f.Connect(o.Target); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(o.Client.Close)
}

// rehearse runs a rehearsal that sends its browser to visit, and waits until that has the last page.
func (s *stage) rehearse(visit func(address string) error, changes ...func(*login.Options)) login.Result {
	s.Helper()
	browsing := make(chan bool, 1)
	defer func() { browsing <- true; <-browsing }()
	open := func(address string) error {
		browsing <- true
		defer func() { <-browsing }()
		return visit(address)
	}
	if visit == nil {
		open = nil
	}
	o := login.Options{
		Listen: "127.0.0.1:0", Open: open, UserAgent: "test", Wait: 20 * time.Second,
		Note: func(text string) { s.said.line(text) },
		Show: func(address string) { s.said.line(address) },
		Log:  slog.New(slog.NewTextHandler(&s.said, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	s.connect(&o)
	for _, change := range changes {
		change(&o)
	}
	return login.Run(s.Context(), o)
}

// browser is a user with a browser.
type browser struct {
	*http.Client
	s       *stage
	opened  bool     // an address of the issuer
	answers []answer // to requests for other addresses
}

type answer struct {
	url    *url.URL
	status int
	header http.Header
	body   string
}

func (s *stage) browser() *browser {
	transport := &http.Transport{}
	s.Cleanup(transport.CloseIdleConnections)
	return &browser{Client: &http.Client{Transport: transport}, s: s}
}

// visit logs in, decides, and comes back to the address that the issuer sends the browser to.
func (b *browser) visit(address string) error {
	back, err := b.walk(address)
	if err != nil {
		return err
	}
	_, err = b.get(back)
	return err
}

// walk goes as far as the redirect back, and returns that address.
func (b *browser) walk(address string) (string, error) {
	b.opened = true
	back, err := b.s.Authorize(b.s.Context(), address, b.s.Username, b.s.Password, b.s.decision)
	if err != nil {
		return "", err
	}
	return back.String(), nil
}

func (b *browser) get(address string) (answer, error) {
	request, err := http.NewRequestWithContext(b.s.Context(), http.MethodGet, address, nil)
	if err != nil {
		return answer{}, err
	}
	return b.send(request)
}

func (b *browser) send(request *http.Request) (answer, error) {
	response, err := b.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{response.Request.URL, response.StatusCode, response.Header, string(body)}
	b.answers = append(b.answers, a)
	return a, nil
}

// last is the page that the user ends at.
func (b *browser) last() answer {
	b.s.Helper()
	if len(b.answers) == 0 {
		b.s.Fatal("the browser was sent nowhere")
	}
	return b.answers[len(b.answers)-1]
}

// secretsOf returns what came along in the addresses that the browser was at.
func (b *browser) secretsOf(parameter string) []string {
	var found []string
	for _, a := range b.answers {
		if value := a.url.Query().Get(parameter); value != "" && !slices.Contains(found, value) {
			found = append(found, value)
		}
	}
	return found
}

func TestRehearsal(t *testing.T) {
	s := set(t, lab.Options{})
	b := s.browser()
	r := s.rehearse(b.visit, s.asRoot)
	if r.Err != nil {
		t.Fatal(r.Err, s.said.String())
	}
	if r.User != "john@authelia" || r.Created == nil || !*r.Created || r.Groups == nil || len(r.Groups) != 0 {
		t.Errorf("user %q, created %v, groups %q", r.User, r.Created, r.Groups)
	}
	if r.Privileges == nil || len(r.Privileges) != 0 || !strings.Contains(r.Hint.For(check.Names{}), "pveum acl modify / --users john@authelia --roles PVEAuditor") {
		t.Errorf("privileges %v, hint %q", r.Privileges, r.Hint)
	}
	if r.Outcome() != reconcile.Changed || len(r.Warnings) != 0 || len(r.Checks) != 0 {
		t.Errorf("%s, warnings %q, checks %v", r.Outcome(), r.Warnings, r.Checks)
	}
	if page := b.last(); page.status != http.StatusOK || !strings.Contains(page.body, "john@authelia") || !strings.Contains(page.body, `class="success"`) {
		t.Errorf("page %d %s", page.status, page.body)
	}
	if !strings.HasPrefix(r.RedirectURL, "http://127.0.0.1:") || !strings.Contains(s.said.String(), "the issuer must know the redirect URL "+r.RedirectURL) {
		t.Errorf("redirect URL %s was not announced: %s", r.RedirectURL, s.said.String())
	}
	if requests := s.Issuer.Requests(); requests[0].Path != "/.well-known/openid-configuration" {
		t.Errorf("first question to the issuer: %s", requests[0].Path)
	}
	for _, request := range s.Issuer.Requests() {
		if request.Status >= http.StatusBadRequest {
			t.Errorf("the issuer refused %+v", request)
		}
	}

	// Again: the user exists, and has since been put into a group that may look at things.
	err := s.PVE.Update(func(st *labpve.State) {
		st.Groups["admins-authelia"] = labpve.Group{Users: map[string]bool{"john@authelia": true}}
		st.ACL = append(st.ACL, labpve.ACL{Path: "/", Type: "group", ID: "admins-authelia", Role: "PVEAuditor", Propagate: true})
	})
	if err != nil {
		t.Fatal(err)
	}
	r = s.rehearse(s.browser().visit, s.asRoot)
	if r.Err != nil || *r.Created || !slices.Equal(r.Groups, []string{"admins-authelia"}) || r.Hint != "" {
		t.Errorf("error %v, created %v, groups %q, hint %q", r.Err, *r.Created, r.Groups, r.Hint)
	}
	if !slices.Contains(r.Privileges["/"], "Sys.Audit") || !slices.Contains(r.Privileges["/vms"], "VM.Audit") || !slices.IsSorted(r.Privileges["/"]) {
		t.Errorf("privileges %v", r.Privileges)
	}
	if r.Outcome() != reconcile.Unchanged {
		t.Error(r.Outcome())
	}
}

// A token that may write realms and see nothing else still gets the user's own view.
func TestRehearsalWithTheLeastPrivilege(t *testing.T) {
	s := set(t, lab.Options{})
	r := s.rehearse(s.browser().visit)
	if r.Err != nil || r.User != "john@authelia" {
		t.Fatal(r.Err, r.User)
	}
	if r.Created != nil || r.Privileges == nil {
		t.Errorf("created %v, privileges %v: the first is not visible, the second are the user's own", r.Created, r.Privileges)
	}
	s.property("autocreate", "0")
	r = s.rehearse(s.browser().visit)
	if r.Err != nil || r.Created == nil || *r.Created {
		t.Errorf("error %v, created %v: without autocreate, Proxmox creates nobody", r.Err, r.Created)
	}
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "differs from the configuration") {
		t.Errorf("warnings %q", r.Warnings)
	}
}

// Neither code nor state nor ticket is in anything that is said, shown, logged or written. The authorization URL holds the state,
// and is not shown if a browser was opened.
func TestNoSecrets(t *testing.T) {
	for _, decision := range []string{"accept", "deny", "echo"} {
		s := set(t, lab.Options{})
		if s.decision = decision; decision == "echo" {
			s.decision = "accept"
		}
		b := s.browser()
		r := s.rehearse(func(address string) error {
			back, err := b.walk(address)
			if err != nil {
				return err
			}
			if decision == "echo" { // an issuer that repeats what it was sent
				u, err := url.Parse(back)
				if err != nil {
					return err
				}
				q := url.Values{"state": {u.Query().Get("state")}, "error": {"server_error"}, "error_description": {"what is " + u.Query().Get("state")}}
				back = strings.TrimSuffix(back, u.RawQuery) + q.Encode()
			}
			_, err = b.get(back)
			return err
		})
		var out bytes.Buffer
		if err := errors.Join(login.JSON(&out, r), login.Text(&out, r, report.Style{Verbose: true})); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%+v %v %s", r, r.Err, b.last().body)
		out.WriteString(s.said.String())
		secrets := append(b.secretsOf("code"), b.secretsOf("state")...)
		if want := map[string]int{"accept": 2, "deny": 1, "echo": 1}[decision]; len(secrets) != want {
			t.Fatalf("%s: %d secrets went through the browser, want %d", decision, len(secrets), want)
		}
		for _, secret := range append(secrets, "PVE:john", s.ClientKey, s.Password, s.PVE.Token(labpve.TokenRealmAllocate)) {
			for _, form := range []string{secret, url.QueryEscape(secret), strings.Trim(quoted(secret), `"`)} {
				if strings.Contains(out.String(), form) {
					t.Errorf("%s: a secret in %s", decision, out.String())
				}
			}
		}
	}
}

func quoted(text string) string {
	encoded, _ := json.Marshal(text)
	return string(encoded)
}

// change changes the stage before a rehearsal.
type change func(s *stage)

// registered changes the client at the issuer.
func registered(do func(*labissuer.Client)) change { return func(s *stage) { s.client(do) } }

// stored changes properties of the realm: pairs of name and value.
func stored(pairs ...string) change {
	return func(s *stage) {
		for pair := range slices.Chunk(pairs, 2) {
			s.property(pair[0], pair[1])
		}
	}
}

// answers makes Proxmox answer a request in another way.
func answers(rule labpve.Rule) change { return func(s *stage) { s.PVE.Inject(rule) } }

func redirects(urls ...string) change {
	return registered(func(c *labissuer.Client) { c.RedirectURIs = urls })
}

func TestFailures(t *testing.T) {
	const refused = "refuses the login: authentication failure"
	for _, tt := range []struct {
		name    string
		arrange change
		message string
		hint    string
		check   check.ID // among the findings
		page    string   // that the browser ends at; "": it is sent nowhere
	}{
		{"the user says no", func(s *stage) { s.decision = "deny" }, "the issuer sent the browser back with an error: access_denied", "authorization_policy", "", "access_denied"},
		{"the redirect URL is not registered", redirects("https://pve.example.test"), "the issuer does not know the redirect URL http://127.0.0.1:", "redirect_uris", "", ""},
		{"another path is registered", redirects("http://127.0.0.1:8000/"), "the issuer does not know the redirect URL http://127.0.0.1:", "/callback", "", ""},
		{"the client is not registered", func(s *stage) { s.Issuer.RemoveClient(s.ClientID) }, "the issuer refuses the client proxmox, or every login: invalid_client", "realm.client_id", "", ""},
		{"a scope is not allowed", registered(func(c *labissuer.Client) { c.Scopes = []string{"openid", "profile"} }), "the issuer refuses the login request of the client proxmox: invalid_scope", "realm.scopes", "", ""},
		{"the key was rotated", registered(func(c *labissuer.Client) { c.Secret = "another" }), refused + "; client.credentials: ", "", check.ClientCredentials, "authentication failure"},
		{"autocreate is off and the user does not exist", stored("autocreate", "0"), refused, "pveum user add NAME@authelia", "", "authentication failure"},
		{"the issuer calls itself something else", func(s *stage) { s.Issuer.SetIssuer(s.IssuerURL + "/") }, "the issuer's own name", "realm.issuer_url", "", ""},
		{"the issuer publishes no keys", func(s *stage) { s.Issuer.SetKeys() }, refused + "; issuer.keys: ", "", check.IssuerKeys, "authentication failure"},
		{"the issuer is away", func(s *stage) { _ = s.Issuer.Close() }, "issuer.reach", "", check.IssuerReach, ""},
		{"the node cannot fetch the issuer's documents", answers(labpve.Fail(http.MethodPost, "/access/openid/auth-url", 500, "Request failed")), "cannot fetch the issuer's documents", "update-ca-certificates", "", ""},
		{
			"the node sends browsers elsewhere",
			answers(labpve.Rule{Path: "/access/openid/auth-url", Status: 200, Body: `{"data":"https://evil.example.test/authorize?state=0123456789"}`}),
			"it leads to https://evil.example.test/authorize instead", "verify --all-endpoints", "", "",
		},
		{"the realm is not there", func(s *stage) { s.must(s.Seed("empty")) }, "realm authelia does not exist", "proxmox-realm apply", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := set(t, lab.Options{})
			tt.arrange(s)
			b := s.browser()
			r := s.rehearse(b.visit)
			if check.CodeOf(r.Err) != check.LoginFailed || !strings.Contains(check.MessageOf(r.Err), tt.message) || !strings.Contains(check.HintOf(r.Err).For(check.Names{}), tt.hint) {
				t.Fatalf("%+v, want %q, %q; said %s", r.Err, tt.message, tt.hint, s.said.String())
			}
			if _, found := check.Find(r.Checks, tt.check); found != (tt.check != "") && tt.check != "" {
				t.Errorf("checks %v, want %s", r.Checks, tt.check)
			}
			if tt.page == "" && b.opened {
				t.Error("the browser was sent off all the same")
			}
			if tt.page != "" && (!strings.Contains(b.last().body, tt.page) || !strings.Contains(b.last().body, `class="failure"`)) {
				t.Errorf("page %s, want %q", b.last().body, tt.page)
			}
			if r.Outcome() != reconcile.Unverified {
				t.Error(r.Outcome())
			}
			if r.User != "" {
				t.Errorf("user %s", r.User)
			}
		})
	}
}

func TestRealmOfAnotherType(t *testing.T) {
	s := set(t, lab.Options{})
	s.must(s.PVE.SetRealm(labpve.Realm{Name: lab.RealmName, Type: "ldap", Properties: map[string]string{
		"server1": "ldap.example.test", "base_dn": "dc=example,dc=test", "user_attr": "uid",
	}}))
	if r := s.rehearse(nil); check.CodeOf(r.Err) != check.WrongType || !strings.Contains(check.MessageOf(r.Err), "realm authelia has the type ldap") {
		t.Errorf("%v", r.Err)
	}
}

// Whatever else comes to the port is refused, and the wait goes on.
func TestStrangersDoNotEndTheWait(t *testing.T) {
	s := set(t, lab.Options{})
	b := s.browser()
	r := s.rehearse(func(address string) error {
		back, err := b.walk(address)
		if err != nil {
			return err
		}
		u, err := url.Parse(back)
		if err != nil {
			return err
		}
		edit := func(change func(q url.Values)) string {
			e, q := *u, u.Query()
			change(q)
			e.RawQuery = q.Encode()
			return e.String()
		}
		state := u.Query().Get("state")
		for _, tt := range []struct {
			name, address string
			status        int
		}{
			{"no state", edit(func(q url.Values) { q.Del("state") }), 400},
			{"empty state", edit(func(q url.Values) { q.Set("state", "") }), 400},
			{"another state", edit(func(q url.Values) { q.Set("state", strings.ToUpper(state)) }), 400},
			{"the beginning of the state", edit(func(q url.Values) { q.Set("state", state[:len(state)-1]) }), 400},
			{"the state twice", edit(func(q url.Values) { q.Add("state", state) }), 400},
			{"an error without the state", edit(func(q url.Values) { q.Del("state"); q.Del("code"); q.Set("error", "access_denied") }), 400},
			{"neither code nor error", edit(func(q url.Values) { q.Del("code") }), 400},
			{"code and error", edit(func(q url.Values) { q.Set("error", "access_denied") }), 400},
			{"the code twice", edit(func(q url.Values) { q.Add("code", "another") }), 400},
			{"a broken query", u.Scheme + "://" + u.Host + u.Path + "?state=%zz", 400},
			{"no query", u.Scheme + "://" + u.Host + u.Path, 400},
			{"another path", u.Scheme + "://" + u.Host + "/?" + u.RawQuery, 404},
			{"a path below", u.Scheme + "://" + u.Host + u.Path + "/?" + u.RawQuery, 404},
			{"the path, encoded", u.Scheme + "://" + u.Host + "/%63allback?" + u.RawQuery, 404},
			{"favicon", u.Scheme + "://" + u.Host + "/favicon.ico", 404},
		} {
			a, err := b.get(tt.address)
			if err != nil || a.status != tt.status || !strings.Contains(a.body, `class="refused"`) {
				t.Errorf("%s: %v, status %d, want %d: %s", tt.name, err, a.status, tt.status, a.body)
			}
		}
		for _, method := range []string{http.MethodPost, http.MethodHead, http.MethodOptions, http.MethodPut} {
			request, err := http.NewRequestWithContext(t.Context(), method, back, nil)
			if err != nil {
				return err
			}
			if a, err := b.send(request); err != nil || a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != http.MethodGet {
				t.Errorf("%s: %v %d", method, err, a.status)
			}
		}
		for _, host := range []string{"evil.example.test", "localhost:" + u.Port(), "127.0.0.1", "evil.example.test:" + u.Port()} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, back, nil)
			if err != nil {
				return err
			}
			request.Host = host
			if a, err := b.send(request); err != nil || a.status != http.StatusMisdirectedRequest {
				t.Errorf("%s: %v %d", host, err, a.status)
			}
		}
		_, err = b.get(back)
		return err
	})
	if r.Err != nil || r.User != "john@authelia" {
		t.Errorf("error %v, user %q", r.Err, r.User)
	}
}

// The answer to a login counts once, however often it comes: the second is refused while the first is still with Proxmox.
func TestAnAnswerCountsOnce(t *testing.T) {
	s := set(t, lab.Options{})
	arrived, proceed := make(chan struct{}), make(chan struct{})
	s.PVE.Inject(labpve.Rule{Path: "/access/openid/login", Before: func() { close(arrived); <-proceed }})
	b, again := s.browser(), s.browser()
	r := s.rehearse(func(address string) error {
		back, err := b.walk(address)
		if err != nil {
			return err
		}
		var second sync.WaitGroup
		second.Go(func() {
			<-arrived
			a, err := again.get(back)
			if err != nil || a.status != http.StatusBadRequest || !strings.Contains(a.body, "already has its answer") {
				t.Errorf("%v %d %s", err, a.status, a.body)
			}
			close(proceed)
		})
		_, err = b.get(back)
		second.Wait()
		return err
	})
	if r.Err != nil || b.last().status != http.StatusOK {
		t.Errorf("error %v, status %d", r.Err, b.last().status)
	}
	logins := 0
	for _, request := range s.PVE.Requests() {
		if request.Path == "/api2/json/access/openid/login" {
			logins++
		}
	}
	if logins != 1 {
		t.Errorf("Proxmox was asked %d times", logins)
	}
}

func TestNobodyLogsIn(t *testing.T) {
	s := set(t, lab.Options{})
	r := s.rehearse(func(string) error { return nil }, func(o *login.Options) { o.Wait = 1 })
	if check.CodeOf(r.Err) != check.LoginFailed || !strings.Contains(check.MessageOf(r.Err), "nobody logged in within") {
		t.Errorf("%v", r.Err)
	}
	if r.Outcome() != reconcile.Unverified {
		t.Error(r.Outcome())
	}
}

// An interruption ends the wait with its cause, and nothing listens afterwards.
func TestInterruption(t *testing.T) {
	s := set(t, lab.Options{})
	o := login.Options{Listen: "127.0.0.1:0", Note: func(string) {}, Show: func(string) {}, Log: slog.New(slog.DiscardHandler)}
	s.connect(&o)
	ctx, cancel := context.WithCancelCause(t.Context())
	o.Open = func(string) error {
		cancel(check.Errorf(check.Interrupted, "interrupted by SIGINT"))
		return nil
	}
	r := login.Run(ctx, o)
	if check.CodeOf(r.Err) != check.Interrupted {
		t.Errorf("%v", r.Err)
	}
	if a, err := s.browser().get(r.RedirectURL); err == nil {
		t.Errorf("still listening: %d", a.status)
	}
}

// Over ssh the address is shown, and the one at which the browser ended is pasted, with what sticks to it.
func TestPastedAddress(t *testing.T) {
	for _, wrap := range []string{"%s\n", "  <%s>\r\n", "paste this: \"%s\" and press return\n", "\x1b[200~%s\x1b[201~\n", "%s"} {
		s := set(t, lab.Options{})
		in, out := io.Pipe()
		b := s.browser()
		r := s.rehearse(nil, func(o *login.Options) {
			o.Paste = in
			o.Show = func(address string) {
				go func() {
					defer func() { _ = out.Close() }()
					back, err := b.walk(address)
					if err != nil {
						t.Error(err)
						return
					}
					for _, line := range []string{"\n", "yes, where?\n", "http://example.test/callback?code=1&state=2\n", strings.ReplaceAll(back, "state=", "state=0") + "\n"} {
						_, _ = io.WriteString(out, line)
					}
					_, _ = fmt.Fprintf(out, wrap, back)
				}()
			}
		})
		if r.Err != nil || r.User != "john@authelia" {
			t.Errorf("%q: error %v, user %q: %s", wrap, r.Err, r.User, s.said.String())
		}
		said := s.said.String()
		if strings.Count(said, "not the address that the browser was sent to") != 2 || strings.Count(said, "belongs to another or an earlier login") != 1 {
			t.Errorf("%q: %s", wrap, said)
		}
	}
}

// The address is shown if the browser cannot be opened. It is never opened if this machine cannot compare it with the issuer's own.
func TestAddressIsShown(t *testing.T) {
	for _, reachable := range []bool{true, false} {
		s := set(t, lab.Options{})
		b := s.browser()
		opened := false
		var elsewhere sync.WaitGroup
		r := s.rehearse(func(string) error { opened = true; return errors.New("no such program") }, func(o *login.Options) {
			o.Target.Verify.Issuer = reachable
			o.Show = func(address string) {
				elsewhere.Go(func() {
					if err := b.visit(address); err != nil {
						t.Error(err)
					}
				})
			}
		})
		elsewhere.Wait()
		if r.Err != nil || opened != reachable {
			t.Errorf("reachable %t: error %v, opened %t", reachable, r.Err, opened)
		}
	}
}

// A limit on the issuer's side is no verdict: the login is tried.
func TestIssuerThatGivesNoVerdict(t *testing.T) {
	s := set(t, lab.Options{})
	s.Issuer.Inject("/api/oidc/authorization", labissuer.Fault{Status: http.StatusTooManyRequests, Times: 1})
	r := s.rehearse(s.browser().visit)
	if r.Err != nil || !strings.Contains(s.said.String(), "not checked whether the issuer knows the redirect URL") {
		t.Errorf("error %v: %s", r.Err, s.said.String())
	}
}

func TestNode(t *testing.T) {
	s := set(t, lab.Options{})
	u, err := url.Parse(s.PVE.URL())
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range []string{s.PVE.URL(), s.PVE.URL() + "/", u.Host, u.Hostname()} {
		if r := s.rehearse(s.browser().visit, func(o *login.Options) { o.Node = node }); r.Err != nil || r.Endpoint != s.PVE.URL() {
			t.Errorf("%s: %v", node, r.Err)
		}
	}
	r := s.rehearse(nil, func(o *login.Options) { o.Node = "https://pve9.example.test:8006" })
	if check.CodeOf(r.Err) != check.Usage || !strings.Contains(check.HintOf(r.Err).For(check.Names{}), s.PVE.URL()) {
		t.Errorf("%v", r.Err)
	}
}

func TestRedirectURLIsTheOneThatAutheliaIsGiven(t *testing.T) {
	if login.RedirectURL != authelia.LoginRedirectURI {
		t.Errorf("%s is rehearsed with, and %s is registered", login.RedirectURL, authelia.LoginRedirectURI)
	}
}

// syncBuffer is written by several goroutines.
type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *syncBuffer) line(text string) { _, _ = fmt.Fprintln(b, text) }

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
