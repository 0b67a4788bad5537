package proxmox_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/lab/pbs"
	"proxmox-realm/internal/lab/pve"
	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

// planned returns what makes the realm authelia hold values.
func planned(p realm.Product, have realm.Current, set realm.Values, unset ...realm.Property) realm.Params {
	values := realm.Values{realm.IssuerURL: realm.Text("https://auth.example.com"), realm.ClientID: realm.Text("proxmox")}
	maps.Copy(values, set)
	return realm.Diff(realm.Spec{Product: p, Name: "authelia", Set: values, Unset: unset}, have, realm.Facts{}).Params()
}

// created creates the realm authelia and returns it as it is stored.
func created(t *testing.T, c *proxmox.Client, set realm.Values) realm.Current {
	t.Helper()
	if err := c.Create(t.Context(), planned(c.Product(), realm.Current{}, set)); err != nil {
		t.Fatal(err)
	}
	return read(t, c)
}

func read(t *testing.T, c *proxmox.Client) realm.Current {
	t.Helper()
	got, err := c.Realm(t.Context(), "authelia")
	if err != nil || got.Product != c.Product() {
		t.Fatalf("%+v, %v", got, err)
	}
	return got
}

func stored(t *testing.T, p realm.Product, data string) realm.Current {
	t.Helper()
	c, err := realm.ParseCurrent(p, []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const storedRealm = `{"type":"openid","digest":"d1","issuer-url":"https://auth.example.com","client-id":"proxmox","comment":"x","username-claim":"preferred_username","scopes":"openid profile email"}`

// The first read costs one handshake and one request, the next one another request.
func TestBudget(t *testing.T) {
	s := start(t, realm.VE)
	created(t, connect(t, s, pve.TokenRoot), nil)
	s.Reset()
	c := connect(t, s, pve.TokenRealmAllocate)
	for n := range 2 {
		read(t, c)
		if h := s.Handshakes(); h.Full != 1 || h.Resumed != 0 || len(s.Requests()) != n+1 || c.Requests() != n+1 {
			t.Errorf("%+v, %s", h, asked(s))
		}
	}
	if d, ok := c.ClockOffset(); !ok || d.Abs() > 5*time.Second {
		t.Errorf("clock: %v, %v", d, ok)
	}
}

// Creates, changes and deletes a realm of each product, each twice. It stays the default realm through a change of another value.
func TestLifeOfARealm(t *testing.T) {
	for _, p := range realm.Products() {
		c := connect(t, start(t, p), pve.TokenRealmAllocate)
		if read(t, c).Exists {
			t.Fatalf("%v: there already", p)
		}
		values := realm.Values{
			realm.ClientKey: realm.Key(check.NewSecret("key-number-one")), realm.Default: realm.Bool(true), realm.Comment: realm.Text("single sign-on"),
		}
		first := created(t, c, values)
		if login := first.Values.Login("authelia"); first.Type != realm.Type || login.ClientID != "proxmox" || login.ClientKey.Reveal() != "key-number-one" {
			t.Errorf("%v: %+v", p, first)
		}
		update := planned(p, first, realm.Values{realm.Scopes: realm.Text("openid email")}, realm.Comment)
		if err := c.Update(t.Context(), "authelia", update); err != nil {
			t.Fatal(p, err)
		}
		got := read(t, c)
		if _, commented := got.Values[realm.Comment]; commented || got.Values[realm.Scopes].String() != "openid email" || got.Digest == first.Digest || got.Values[realm.Default].String() != "1" {
			t.Errorf("%v: %+v", p, got)
		}
		if names, err := c.Realms(t.Context()); err != nil || !slices.Equal(names, []string{"authelia", "pam", p.String()}) {
			t.Errorf("%v: %q, %v", p, names, err)
		}
		again := func(name string, err error) {
			t.Helper()
			if !errors.Is(err, realm.ErrConflict) || check.CodeOf(err) != check.Conflict {
				t.Errorf("%v: %s: %v", p, name, err)
			}
		}
		again("created twice", c.Create(t.Context(), planned(p, realm.Current{}, nil)))
		again("a stale digest", c.Update(t.Context(), "authelia", update))
		if err := c.Delete(t.Context(), "authelia", got.Digest); err != nil {
			t.Error(p, err)
		}
		again("deleted twice", c.Delete(t.Context(), "authelia", got.Digest))
		again("updated what is gone", c.Update(t.Context(), "authelia", update))
		if read(t, c).Exists {
			t.Errorf("%v: still there", p)
		}
		want := map[realm.Product]string{realm.VE: "9.2", realm.BackupServer: "4.2.3", realm.DatacenterManager: "1.1.7"}[p]
		if v, err := c.Version(t.Context()); err != nil || v.Named() != p.Name()+" "+want {
			t.Errorf("%s, %v", v.Named(), err)
		}
	}
}

// Older nodes reject newer properties and use older forms of /version.
func TestGenerations(t *testing.T) {
	for version, lacks := range map[string][]realm.Property{
		"9.2.11": nil,
		"9.0.3":  {realm.Audiences},
		"8.1.4":  {realm.Audiences, realm.GroupsClaim},
		"7.4-3":  {realm.Audiences, realm.GroupsClaim},
	} {
		c := connect(t, startVE(t, pve.Options{Version: version}), pve.TokenRealmAllocate)
		want, err := realm.ParseVersion(realm.VE, version)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.Version(t.Context()); err != nil || got != want {
			t.Errorf("%s: %v, %v", version, got, err)
		}
		if read(t, c).Exists {
			t.Errorf("%s: a realm that nobody made", version)
		}
		err = c.Create(t.Context(), planned(realm.VE, realm.Current{}, realm.Values{realm.Audiences: realm.Text("x"), realm.GroupsClaim: realm.Text("groups")}))
		var e *proxmox.Error
		errors.As(err, &e)
		if e == nil && lacks != nil || e != nil && !slices.Equal(e.Unknown, lacks) || lacks == nil && err != nil {
			t.Errorf("%s: %v", version, err)
		}
	}
}

// A DELETE of the API removes a realm of any type, and one that changed since it was read. This client's does not.
func TestDeleteIsGuarded(t *testing.T) {
	for _, p := range realm.Products()[1:] {
		s := startPBS(t, p)
		c := connect(t, s, pve.TokenRoot)
		for _, name := range []string{"pam", p.String()} {
			current, err := c.Realm(t.Context(), name)
			if err != nil || !current.Exists || current.Type != name || current.Digest != "" {
				t.Errorf("%s: %+v, %v", name, current, err)
			}
			s.Reset()
			if err := c.Delete(t.Context(), name, current.Digest); check.CodeOf(err) != check.Internal || len(s.Requests()) > 0 {
				t.Errorf("%s: %v, %s", name, err, asked(s))
			}
		}
		current := created(t, c, nil)
		if err := s.Update(func(st *pbs.State) { st.Realms[len(st.Realms)-1].Type = "ldap" }); err != nil {
			t.Fatal(err)
		}
		if err := c.Delete(t.Context(), "authelia", current.Digest); !errors.Is(err, realm.ErrConflict) {
			t.Errorf("%v: a realm that became another one: %v", p, err)
		}
	}
}

// A DELETE may take effect after its client timed out.
func TestLateDelete(t *testing.T) {
	s := startVE(t, pve.Options{})
	created(t, connect(t, s, pve.TokenRoot), nil)
	let, gone := make(chan struct{}), make(chan struct{})
	s.Inject(pve.Rule{Method: http.MethodDelete, Until: let, Count: 1, After: func() { close(gone) }})
	s.Reset()
	c := connect(t, s, pve.TokenRealmAllocate, func(o *setup) { o.Timeout = 200 * time.Millisecond })
	if err := c.Delete(t.Context(), "authelia", "d1"); !errors.Is(err, realm.ErrLost) || check.CodeOf(err) != check.Unreachable {
		t.Fatalf("%v", err)
	}
	if _, there := s.Realm("authelia"); !there {
		t.Fatal("gone already")
	}
	close(let)
	<-gone
	if read(t, connect(t, s, pve.TokenRealmAllocate)).Exists || strings.Count(asked(s), "DELETE") != 1 {
		t.Error(asked(s))
	}
}

// The lock, the quorum and the privileged daemon: such a write has taken no effect.
func TestWritesThatCannotBeMade(t *testing.T) {
	for _, p := range realm.Products() {
		s := start(t, p)
		c := connect(t, s, pve.TokenRealmAllocate)
		create := func() error { return c.Create(t.Context(), planned(p, realm.Current{}, nil)) }
		release := s.HoldLock()
		isKind(t, p.String(), create(), proxmox.LockTimeout)
		release()
		switch s := s.(type) {
		case *pve.Server:
			s.SetQuorum(false)
			isKind(t, "no quorum", create(), proxmox.NoQuorum)
			s.SetQuorum(true)
		case *pbs.Server:
			s.SetDaemon(false)
			err := create()
			isKind(t, "no daemon", err, proxmox.Unavailable)
			if errors.Is(err, realm.ErrLost) || !strings.Contains(hintOf(err), "systemctl status proxmox-") {
				t.Errorf("%v: %v, %s", p, err, hintOf(err))
			}
			read(t, c) // reads go on
			s.SetDaemon(true)
		}
		if err := create(); err != nil {
			t.Errorf("%v: %v", p, err)
		}
	}
}

// Only a realm is accepted as one. No message has control characters, and nothing else is asked for.
func TestAnswersThatAreNoRealm(t *testing.T) {
	data := func(body string) pve.Rule { return pve.Rule{Status: 200, Body: body} }
	encoded := func(as, body string) pve.Rule {
		return pve.Rule{Status: 200, Header: http.Header{"Content-Encoding": {as}}, Body: body}
	}
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = z.Write(bytes.Repeat([]byte(" "), 9<<20))
	_ = z.Close()
	for _, tt := range []struct {
		name string
		rule pve.Rule
		kind proxmox.Kind
	}{
		{"null", ok("null"), proxmox.NotProxmox},
		{"list", ok("[]"), proxmox.NotProxmox},
		{"text", ok(`"x"`), proxmox.NotProxmox},
		{"no type", ok(`{"digest":"1"}`), proxmox.NotProxmox},
		{"no data", data(`{"realm":{}}`), proxmox.NotProxmox},
		{"empty", pve.Rule{Status: 200}, proxmox.NotProxmox},
		{"half", data(`{"data":{"type":"ope`), proxmox.NotProxmox},
		{"trailing", data(`{"data":{"type":"openid"}} {}`), proxmox.NotProxmox},
		{"html", page(200, "<html>"), proxmox.NotProxmox},
		{"html in disguise", data("\n<!DOCTYPE html>"), proxmox.NotProxmox},
		{"html refusal", page(403, "<html>"), proxmox.NotProxmox},
		{"plain text", pve.Rule{Status: 200, ContentType: "text/plain", Body: `{"data":{"type":"openid"}}`}, proxmox.NotProxmox},
		{"no type of content", pve.Rule{Status: 200, ContentType: "-", Body: `{"data":{"type":"openid"}}`}, proxmox.NotProxmox},
		{"no content", fails(204, ""), proxmox.NotProxmox},
		{"compressed", encoded("br", "\x1f\x8b"), proxmox.NotProxmox},
		{"half of a gzip", encoded("gzip", "\x1f\x8b"), proxmox.NoAnswer},
		{"a gzip that bursts", encoded("gzip", bomb.String()), proxmox.NotProxmox},
		{"huge", pve.Rule{Status: 200, Body: `{"data":{"type":"openid"}}`, Pad: 9 << 20}, proxmox.NotProxmox},
		{"endless", pve.Rule{Status: 200, Body: `{"data":{"type":"openid"}}`, Endless: true}, proxmox.NotProxmox},
		{"deep", ok(strings.Repeat("[", 100_000)), proxmox.NotProxmox},
		{"permanent redirect", redirect(301, "/"), proxmox.NotProxmox},
		{"not found", fails(404, "Not Found"), proxmox.NotProxmox},
		{"no HTTP", pve.Rule{Garbage: "SSH-2.0-OpenSSH_9.2\r\n"}, proxmox.NoAnswer},
		{"reason that is no text", pve.Rule{Garbage: "HTTP/1.1 500 \xff\xfe\x1b[31mdomain\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"}, proxmox.Failed},
		{"endless header", pve.Rule{Garbage: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20)}, proxmox.NoAnswer},
		{"half a head", pve.Rule{TruncateHead: true}, proxmox.NoAnswer},
	} {
		s, c := failing(t, realm.VE, tt.rule)
		got, err := c.Realm(t.Context(), "authelia")
		isKind(t, tt.name, err, tt.kind)
		if got.Exists || err == nil || strings.ContainsFunc(err.Error(), unicode.IsControl) || errors.Is(err, realm.ErrLost) || asked(s) != "GET /access/domains/authelia" {
			t.Errorf("%s: %+v, %v, %s", tt.name, got, err, asked(s))
		}
	}
	_, c := failing(t, realm.VE, ok(`{"version":"new"}`))
	_, err := c.Version(t.Context())
	isKind(t, "no version", err, proxmox.NotProxmox)
}

// If a failure has no reason, the list of all realms tells whether the realm is absent.
func TestARealmIsAbsentThoughTheNodeIsMute(t *testing.T) {
	for name, tt := range map[string]struct {
		reason, listed string // listed: instead of the lab's own list
		create, absent bool
	}{
		"absent":              {"Internal Server Error", "", false, true},
		"no reason at all":    {"", "", false, true},
		"there, and failing":  {"Internal Server Error", "", true, false},
		"no list":             {"Internal Server Error", `{"data":[]}`, false, false},
		"the list fails, too": {"Internal Server Error", `{"data":null}`, false, false},
		"a reason of its own": {"something is wrong", "", false, false},
	} {
		s := start(t, realm.VE)
		c := connect(t, s, pve.TokenRoot)
		if tt.create {
			created(t, c, nil)
		}
		if tt.listed != "" {
			s.Inject(pve.Rule{Path: "/access/domains", Status: 200, Body: tt.listed})
		}
		mute := pve.Rule{Path: "/access/domains/", Status: 500, Reason: tt.reason, Body: `{"data":null}`}
		if tt.reason == "" {
			mute = pve.Rule{Path: "/access/domains/", Garbage: "HTTP/1.1 500\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"}
		}
		s.Inject(mute)
		if got, err := c.Realm(t.Context(), "authelia"); got.Exists || (err == nil) != tt.absent {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// A write is one request with the right body: Backup Server takes real booleans, a list of what to delete, and no type.
func TestWrites(t *testing.T) {
	const rust = `{"realm":"authelia","issuer-url":"https://auth.example.com","client-id":"proxmox","comment":"c","prompt":"login","autocreate":true,"default":true}`
	key := realm.Values{realm.Autocreate: realm.Bool(true), realm.ClientKey: realm.Key(check.NewSecret("k<&>key"))}
	for _, tt := range []struct {
		product realm.Product
		write   func(*proxmox.Client) error
		want    string
	}{
		{realm.VE, func(c *proxmox.Client) error { return c.Create(t.Context(), planned(realm.VE, realm.Current{}, key)) }, `POST /access/domains {"autocreate":1,"client-id":"proxmox",` +
			`"client-key":"k\u003c\u0026\u003ekey","issuer-url":"https://auth.example.com","realm":"authelia","scopes":"openid profile email","type":"openid","username-claim":"preferred_username"}`},
		{realm.VE, func(c *proxmox.Client) error {
			return c.Update(t.Context(), "authelia", planned(realm.VE, stored(t, realm.VE, storedRealm), realm.Values{realm.Autocreate: realm.Bool(true)}, realm.Comment))
		}, `PUT /access/domains/authelia {"autocreate":1,"delete":"comment","digest":"d1"}`},
		{realm.VE, func(c *proxmox.Client) error { return c.Delete(t.Context(), "authelia", "d1") }, `DELETE /access/domains/authelia `},
		{realm.VE, func(c *proxmox.Client) error {
			return c.Change(t.Context(), granted("/", "admins-authelia", "PVEAuditor", true))
		}, `PUT /access/acl {"groups":"admins-authelia","path":"/","propagate":true,"roles":"PVEAuditor"}`},
		{
			realm.VE, func(c *proxmox.Client) error {
				return c.Change(t.Context(), revoked("/", "admins-authelia", "PVEAuditor"))
			},
			`PUT /access/acl {"delete":true,"groups":"admins-authelia","path":"/","roles":"PVEAuditor"}`,
		},
		{realm.BackupServer, func(c *proxmox.Client) error {
			return c.Create(t.Context(), planned(realm.BackupServer, realm.Current{}, realm.Values{realm.Autocreate: realm.Bool(false)}))
		}, `POST /config/access/openid {"autocreate":false,"client-id":"proxmox","issuer-url":"https://auth.example.com","realm":"authelia",` +
			`"scopes":"openid profile email","username-claim":"preferred_username"}`},
		{realm.BackupServer, func(c *proxmox.Client) error {
			have := stored(t, realm.BackupServer, rust)
			have.Digest = "d1"
			return c.Update(t.Context(), "authelia", planned(realm.BackupServer, have, realm.Values{realm.Autocreate: realm.Bool(false)}, realm.Comment, realm.Prompt))
		}, `PUT /config/access/openid/authelia {"autocreate":false,"default":true,"delete":["comment","prompt"],"digest":"d1"}`},
		{realm.BackupServer, func(c *proxmox.Client) error {
			return c.Create(t.Context(), realm.RestoreParams("authelia", stored(t, realm.BackupServer, rust)))
		}, `POST /config/access/openid {"autocreate":true,"client-id":"proxmox","comment":"c","default":true,"issuer-url":"https://auth.example.com","prompt":"login","realm":"authelia"}`},
		{realm.BackupServer, func(c *proxmox.Client) error { return c.Delete(t.Context(), "authelia", "d1") }, `DELETE /config/access/openid/authelia?digest=d1 `},
	} {
		var sent []string
		c := inMemory(tt.product, func(req *http.Request, body string) (int, string) {
			sent = append(sent, req.Method+" "+strings.TrimPrefix(req.URL.RequestURI(), "/api2/json")+" "+body)
			return 200, `{"data":null}`
		})
		if err := tt.write(c); err != nil || len(sent) != 1 || sent[0] != tt.want {
			t.Errorf("%v: %v, sent %q, want %q", tt.product, err, sent, tt.want)
		}
	}
}

// Requests that Proxmox accepts although they do harm are refused before a connection is made.
func TestWhatIsNeverSent(t *testing.T) {
	s, c := failing(t, realm.VE, ok("null"))
	restore := func(name, data string) func() error {
		return func() error { return c.Create(t.Context(), realm.RestoreParams(name, stored(t, realm.VE, data))) }
	}
	update := func(have string, set realm.Values, unset ...realm.Property) func() error {
		return func() error {
			return c.Update(t.Context(), "authelia", planned(realm.VE, stored(t, realm.VE, have), set, unset...))
		}
	}
	for name, send := range map[string]func() error{
		"update without digest":                  update(strings.Replace(storedRealm, `"digest":"d1",`, "", 1), realm.Values{realm.Comment: realm.Text("y")}),
		"update with the parameters of a create": func() error { return c.Update(t.Context(), "authelia", planned(realm.VE, realm.Current{}, nil)) },
		"empty issuer":                           update(storedRealm, realm.Values{realm.IssuerURL: realm.Text("")}),
		"blank client id":                        update(storedRealm, realm.Values{realm.ClientID: realm.Text("  ")}),
		"line feed in a value":                   update(storedRealm, realm.Values{realm.Scopes: realm.Text("openid\n\tclient-id evil")}),
		"line feed in the key":                   update(storedRealm, realm.Values{realm.ClientKey: realm.Key(check.NewSecret("abc\ndef"))}),
		"removal of the claim":                   update(storedRealm, nil, realm.UsernameClaim),
		"removal of the issuer": func() error {
			return c.Update(t.Context(), "authelia", realm.Diff(realm.Spec{
				Name: "authelia", Set: realm.Values{realm.ClientID: realm.Text("proxmox")}, Unset: []realm.Property{realm.IssuerURL},
			}, stored(t, realm.VE, storedRealm), realm.Facts{}).Params())
		},
		"line feed in a property's name": restore("authelia", `{"type":"openid","client-id":"x","issuer-url":"https://a.example","new\nproperty":"1"}`),
		"line feed in a new name":        restore("authelia\n", storedRealm),
		"nothing at all":                 func() error { return c.Create(t.Context(), realm.Params{}) },
		"line feed in the name":          func() error { return c.Delete(t.Context(), "authelia\n", "d1") },
		"a path as the name":             func() error { return c.Delete(t.Context(), "../users/root@pam", "d1") },
		"a name with a query":            func() error { _, err := c.Realm(t.Context(), "authelia?x=1"); return err },
	} {
		if code := check.CodeOf(send()); code != check.Config && code != check.Internal {
			t.Errorf("%s: %s", name, code)
		}
	}
	if c.Requests() != 0 || s.Handshakes().Full != 0 {
		t.Errorf("sent: %s", asked(s))
	}
	// A comment of two lines and unknown properties of a newer version are harmless.
	if err := restore("authelia", `{"type":"openid","client-id":"x","issuer-url":"https://a.example","comment":"a\nb","new-one":"1"}`)(); err != nil {
		t.Error(err)
	}
}

// Stored text is cleaned before it leaves the package, and so is what an error quotes: of secrets, too.
func TestTextsOfProxmoxAreCleaned(t *testing.T) {
	s := start(t, realm.VE)
	c := connect(t, s, pve.TokenRealmAllocate, withToken(t, realm.VE))
	s.Inject(pve.Rule{Path: "/access/domains", Status: 200, Body: `{"data":[{"realm":"pve","type":"pve"},{"realm":"auth\u001b[31melia","type":"openid"}]}`})
	s.Inject(pve.Rule{Path: "/access/domains/", Status: 200, Body: `{"data":{"type":"\u001b[31mldap ` + tokenSecret + `","digest":"d1","client-key":"insecure_secret"}}`})
	s.Inject(pve.Rule{Method: http.MethodDelete, Status: 500, Reason: "failed with insecure_secret and " + tokenSecret + " and realmadm@pve!agent=" + tokenSecret})
	if current, err := c.Realm(t.Context(), "authelia"); err != nil || current.Type != "[31mldap "+check.Mask {
		t.Errorf("%q, %v", current.Type, err)
	}
	if names, err := c.Realms(t.Context()); err != nil || !slices.Equal(names, []string{"auth[31melia", "pve"}) {
		t.Errorf("%q, %v", names, err)
	}
	err := c.Delete(t.Context(), "authelia", "d1")
	if err == nil || strings.Contains(err.Error(), "insecure_secret") || strings.Contains(err.Error(), tokenSecret) || !strings.Contains(err.Error(), check.Mask) {
		t.Errorf("%v", err)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(`{"data":` + storedRealm + `}`)
	f.Add(`{"data":null}`)
	f.Add(`{"data":{"type":1,"client-key":true,"autocreate":"yes"}}`)
	f.Add(`{"data":{"/access/groups":{"Sys.Audit":1}}}`)
	f.Add(`{"data":[{"userid":"a@authelia","groups":"x,y","expire":"7"}]}`)
	f.Add(`<html>`)
	f.Fuzz(func(t *testing.T, answer string) {
		c := inMemory(realm.VE, func(*http.Request, string) (int, string) { return 200, answer })
		ctx := t.Context()
		if r, err := c.Realm(ctx, "authelia"); err == nil && r.Exists && r.Type == "" {
			t.Fatal("a realm without a type")
		}
		_, _ = c.Version(ctx)
		_, _, _ = c.ListUsers(ctx, "authelia")
		_, _, _ = c.Self(ctx)
		_, _ = c.Privileges(ctx)
		_, _ = c.Roles(ctx)
		_, _ = c.Access(ctx)
		_, _ = c.AuthURL(ctx, "authelia", "https://pve.example.com:8006")
		_, _ = c.Login(ctx, "state", "code", "https://pve.example.com:8006")
	})
}
