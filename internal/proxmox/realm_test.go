package proxmox_test

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"proxmox-realm/internal/check"

	"proxmox-realm/internal/proxmox"
	"proxmox-realm/internal/realm"
)

// The first read costs one handshake and one request, the next one another request.
func TestReadingARealmIsOneHandshakeAndOneRequest(t *testing.T) {
	n := start(t, func(*call) answer { return byID(t, "read").answer() })
	c := connect(t, nil, n)
	got, err := c.Realm(t.Context(), "authelia")
	if err != nil {
		t.Fatal(err)
	}
	login := got.Values.Login("authelia")
	if !got.Exists || got.Type != "openid" || got.Digest != "<digest 1>" || login.ClientID != "proxmox" || !login.ClientKey.Equal(check.NewSecret("insecure_secret")) || !login.Autocreate {
		t.Errorf("%+v", got)
	}
	if all, _ := n.shaken(); c.Requests() != 1 || all != 1 {
		t.Errorf("cost: %d requests, %d handshakes", c.Requests(), all)
	}
	req := n.seen()[0]
	if req.Method != "GET" || req.URL.Path != "/api2/json/access/domains/authelia" || req.Header.Get("Authorization") != "PVEAPIToken="+tokenID+"="+tokenSecret {
		t.Errorf("sent %s %s", req.Method, req.URL)
	}
	if req.Header.Get("Accept-Encoding") != "gzip" || len(req.Body) != 0 || req.UserAgent() != "proxmox-realm" || req.Header.Get("Cookie") != "" {
		t.Errorf("headers: %v", req.Header)
	}
	if _, err := c.Realm(t.Context(), "authelia"); err != nil {
		t.Fatal(err)
	}
	if all, _ := n.shaken(); all != 1 || len(n.seen()) != 2 {
		t.Errorf("a second read: %d handshakes, %d requests", all, len(n.seen()))
	}
	if d, ok := c.ClockOffset(); !ok || d.Abs() > 5*time.Second {
		t.Errorf("clock: %v, %v", d, ok)
	}
}

func TestAbsentRealmIsNoError(t *testing.T) {
	n := start(t, func(*call) answer { return byID(t, "read-missing").answer() })
	got, err := connect(t, nil, n).Realm(t.Context(), "authelia")
	if err != nil || got.Exists {
		t.Errorf("%+v, %v", got, err)
	}
}

// Stored text is cleaned before it leaves the package.
func TestStoredTextIsCleaned(t *testing.T) {
	n := start(t, func(c *call) answer {
		if c.URL.Path == "/api2/json/access/domains" {
			return ok(`[{"realm":"pve","type":"pve"},{"realm":"auth\u001b[31melia","type":"openid"}]`)
		}
		return ok(`{"type":"\u001b[31mldap ` + tokenSecret + `","digest":"d1"}`)
	})
	c := connect(t, nil, n)
	current, err := c.Realm(t.Context(), "authelia")
	if err != nil || current.Type != "[31mldap "+check.Mask {
		t.Errorf("%q, %v", current.Type, err)
	}
	if names, err := c.Realms(t.Context()); err != nil || !slices.Equal(names, []string{"auth[31melia", "pve"}) {
		t.Errorf("%q, %v", names, err)
	}
}

// Checks that only a realm is accepted as one.
func TestAnswersThatAreNoRealm(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer answer
		kind   proxmox.Kind
	}{
		{"null", ok("null"), proxmox.NotProxmox},
		{"list", ok("[]"), proxmox.NotProxmox},
		{"text", ok(`"x"`), proxmox.NotProxmox},
		{"no type", ok(`{"digest":"1"}`), proxmox.NotProxmox},
		{"no data", answer{Status: 200, Body: `{"realm":{}}`}, proxmox.NotProxmox},
		{"empty", answer{Status: 200}, proxmox.NotProxmox},
		{"half", answer{Status: 200, Body: `{"data":{"type":"ope`}, proxmox.NotProxmox},
		{"trailing", answer{Status: 200, Body: `{"data":{"type":"openid"}} {}`}, proxmox.NotProxmox},
		{"html", answer{Status: 200, Type: "text/html", Body: "<html>"}, proxmox.NotProxmox},
		{"html in disguise", answer{Status: 200, Body: "\n<!DOCTYPE html>"}, proxmox.NotProxmox},
		{"html refusal", answer{Status: 403, Reason: "Forbidden", Type: "text/html; charset=utf-8", Body: "<html>"}, proxmox.NotProxmox},
		{"html failure", answer{Status: 502, Reason: "Bad Gateway", Type: "text/html", Body: "<html>"}, proxmox.NotProxmox},
		{"plain text", answer{Status: 200, Type: "text/plain", Body: `{"data":{"type":"openid"}}`}, proxmox.NotProxmox},
		{"no type of content", answer{Status: 200, Type: "-", Body: `{"data":{"type":"openid"}}`}, proxmox.NotProxmox},
		{"no content", answer{Status: 204, Type: "-"}, proxmox.NotProxmox},
		{"compressed", answer{Status: 200, Header: "Content-Encoding: br\r\n", Body: "\x1f\x8b"}, proxmox.NotProxmox},
		{"half of a gzip", answer{Status: 200, Header: "Content-Encoding: gzip\r\n", Body: "\x1f\x8b"}, proxmox.NoAnswer},
		{"a gzip that bursts", answer{Status: 200, Header: "Content-Encoding: gzip\r\n", Body: zipped(strings.Repeat(" ", 9<<20))}, proxmox.NotProxmox},
		{"huge", answer{Status: 200, Body: `{"data":{"type":"openid"}}` + strings.Repeat(" ", 9<<20)}, proxmox.NotProxmox},
		{"deep", ok(strings.Repeat("[", 100_000)), proxmox.NotProxmox},
		{"redirect", answer{Status: 302, Reason: "Found", Header: "Location: https://evil.example/\r\n"}, proxmox.NotProxmox},
		{"permanent redirect", answer{Status: 301, Reason: "Moved", Header: "Location: /\r\n", Type: "text/html", Body: "<html>"}, proxmox.NotProxmox},
		{"not found", answer{Status: 404, Reason: "Not Found"}, proxmox.NotProxmox},
		{"too many", answer{Status: 429, Reason: "Too Many Requests"}, proxmox.Failed},
		{"no HTTP", answer{Raw: "SSH-2.0-OpenSSH_9.2\r\n"}, proxmox.NoAnswer},
		{"reason that is no text", answer{Raw: "HTTP/1.1 500 \xff\xfe\x1b[31mdomain\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"}, proxmox.Failed},
		{"no reason", answer{Raw: "HTTP/1.1 500\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"}, proxmox.Failed},
		{"endless header", answer{Raw: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20)}, proxmox.NoAnswer},
		{"silence", answer{Drop: true}, proxmox.NoAnswer},
		{"cut off", answer{Status: 200, Body: `{"data":{"type":"openid"}}`, Cut: 5}, proxmox.NoAnswer},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := start(t, func(*call) answer { return tt.answer })
			got, err := connect(t, nil, n).Realm(t.Context(), "authelia")
			var e *proxmox.Error
			if got.Exists || !errors.As(err, &e) || e.Kind != tt.kind {
				t.Fatalf("%+v, %#v, want %s", got, err, tt.kind)
			}
			if strings.ContainsFunc(err.Error(), unicode.IsControl) || errors.Is(err, realm.ErrLost) {
				t.Errorf("message %q", err)
			}
			for _, c := range n.seen() {
				listed := tt.name == "no reason" && c.URL.Path == "/api2/json/access/domains" // the list was requested, and was not one
				if c.URL.Path != "/api2/json/access/domains/authelia" && !listed {
					t.Errorf("went on to %s", c.URL)
				}
			}
		})
	}
}

// If a failure has no reason, the list of all realms tells whether the realm is absent.
func TestARealmIsAbsentThoughTheNodeIsMute(t *testing.T) {
	for _, tt := range []struct {
		name, list, realm string
		absent            bool
	}{
		{"absent", `[{"realm":"pam","type":"pam"},{"realm":"Authelia","type":"openid"}]`, "authelia", true},
		{"there, and failing", `[{"realm":"pam"},{"realm":"authelia"}]`, "authelia", false},
		{"no list", `[]`, "authelia", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := start(t, func(c *call) answer {
				if c.URL.Path == "/api2/json/access/domains" {
					return ok(tt.list)
				}
				return answer{Status: 500, Reason: "Internal Server Error", Body: `{"data":null}`}
			})
			got, err := connect(t, nil, n).Realm(t.Context(), tt.realm)
			if got.Exists || (err == nil) != tt.absent {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func plan(t *testing.T, have realm.Current, set realm.Values, unset ...realm.Property) realm.Params {
	t.Helper()
	values := realm.Values{realm.IssuerURL: realm.Text("https://auth.example.com"), realm.ClientID: realm.Text("proxmox")}
	for p, v := range set {
		values[p] = v
	}
	return realm.Diff(realm.Spec{Name: "authelia", Set: values, Unset: unset}, have, realm.Facts{}).Params()
}

func stored(t *testing.T, data string) realm.Current {
	t.Helper()
	c, err := realm.ParseCurrent(realm.VE, []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const storedRealm = `{"type":"openid","digest":"d1","issuer-url":"https://auth.example.com","client-id":"proxmox","comment":"x","username-claim":"preferred_username","scopes":"openid profile email"}`

// A write is one request with the right body.
func TestWrites(t *testing.T) {
	for _, tt := range []struct {
		name   string
		run    func(*proxmox.Client) error
		method string
		path   string
		want   map[string]any
	}{
		{"create", func(c *proxmox.Client) error {
			return c.Create(t.Context(), plan(t, realm.Current{}, realm.Values{realm.Autocreate: realm.Bool(true), realm.ClientKey: realm.Key(check.NewSecret("k<&>key"))}))
		}, "POST", "/api2/json/access/domains", map[string]any{
			"realm": "authelia", "type": "openid", "issuer-url": "https://auth.example.com", "client-id": "proxmox", "client-key": "k<&>key",
			"autocreate": float64(1), "username-claim": "preferred_username", "scopes": "openid profile email",
		}},
		{"update", func(c *proxmox.Client) error {
			return c.Update(t.Context(), "authelia", plan(t, stored(t, storedRealm), realm.Values{realm.Autocreate: realm.Bool(true)}, realm.Comment))
		}, "PUT", "/api2/json/access/domains/authelia", map[string]any{"autocreate": float64(1), "delete": "comment", "digest": "d1"}},
		{"delete", func(c *proxmox.Client) error { return c.Delete(t.Context(), "authelia", "d1") }, "DELETE", "/api2/json/access/domains/authelia", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := start(t, func(*call) answer { return answer{Status: 200, Reason: "OK", Body: `{"data":null}`} })
			c := connect(t, nil, n)
			if err := tt.run(c); err != nil {
				t.Fatal(err)
			}
			if len(n.seen()) != 1 {
				t.Fatalf("%d requests", len(n.seen()))
			}
			req := n.seen()[0]
			var body map[string]any
			if len(req.Body) > 0 {
				if err := json.Unmarshal(req.Body, &body); err != nil {
					t.Fatal(err)
				}
			}
			if req.Method != tt.method || req.URL.Path != tt.path || fmt.Sprint(body) != fmt.Sprint(tt.want) || req.TransferEncoding != nil {
				t.Errorf("sent %s %s %v", req.Method, req.URL, body)
			}
		})
	}
}

// Requests that Proxmox accepts although they do harm are refused before a connection is made.
func TestWhatIsNeverSent(t *testing.T) {
	n := start(t, func(*call) answer { return answer{Status: 200, Reason: "OK", Body: `{"data":null}`} })
	c := connect(t, nil, n)
	restored := func(data string) realm.Params { return realm.RestoreParams("authelia", stored(t, data)) }
	update := func(have string, set realm.Values, unset ...realm.Property) func() error {
		return func() error { return c.Update(t.Context(), "authelia", plan(t, stored(t, have), set, unset...)) }
	}
	noDigest := strings.Replace(storedRealm, `"digest":"d1",`, "", 1)
	for _, tt := range []struct {
		name string
		run  func() error
	}{
		{"update without digest", update(noDigest, realm.Values{realm.Comment: realm.Text("y")})},
		{"update with the parameters of a create", func() error {
			return c.Update(t.Context(), "authelia", plan(t, realm.Current{}, nil))
		}},
		{"empty issuer", update(storedRealm, realm.Values{realm.IssuerURL: realm.Text("")})},
		{"blank client id", update(storedRealm, realm.Values{realm.ClientID: realm.Text("  ")})},
		{"line feed in a value", update(storedRealm, realm.Values{realm.Scopes: realm.Text("openid\n\tclient-id evil")})},
		{"line feed in the key", update(storedRealm, realm.Values{realm.ClientKey: realm.Key(check.NewSecret("abc\ndef"))})},
		{"removal of the claim", update(storedRealm, nil, realm.UsernameClaim)},
		{"removal of the issuer", func() error {
			return c.Update(t.Context(), "authelia", realm.Diff(realm.Spec{
				Name: "authelia", Set: realm.Values{realm.ClientID: realm.Text("proxmox")}, Unset: []realm.Property{realm.IssuerURL},
			}, stored(t, storedRealm), realm.Facts{}).Params())
		}},
		{"line feed in a property's name", func() error {
			return c.Create(t.Context(), restored(`{"type":"openid","client-id":"x","issuer-url":"https://a.example","new\nproperty":"1"}`))
		}},
		{"create without a name", func() error {
			return c.Create(t.Context(), realm.RestoreParams("authelia\n", stored(t, storedRealm)))
		}},
		{"nothing at all", func() error { return c.Create(t.Context(), realm.Params{}) }},
		{"line feed in the name", func() error { return c.Delete(t.Context(), "authelia\n", "d1") }},
		{"a path as the name", func() error { return c.Delete(t.Context(), "../users/root@pam", "d1") }},
		{"a name with a query", func() error { _, err := c.Realm(t.Context(), "authelia?x=1"); return err }},
	} {
		if err := tt.run(); err == nil {
			t.Errorf("%s: no error", tt.name)
		} else if code := check.CodeOf(err); code != check.Config && code != check.Internal {
			t.Errorf("%s: %v (%s)", tt.name, err, code)
		}
	}
	if all, _ := n.shaken(); c.Requests() != 0 || all != 0 {
		t.Errorf("sent: %d requests, %d handshakes", c.Requests(), all)
	}
	for _, req := range n.seen() {
		t.Errorf("%s %s %s", req.Method, req.URL, req.Body)
	}

	// A comment of two lines and unknown properties of a newer version are harmless.
	if err := c.Create(t.Context(), restored(`{"type":"openid","client-id":"x","issuer-url":"https://a.example","comment":"a\nb","new-one":"1"}`)); err != nil {
		t.Error(err)
	}
}

// A write without an answer is reported as lost and is not sent again. A rejected write is not lost.
func TestLostWrites(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer answer
		lost   bool
	}{
		{"no answer", answer{Drop: true}, true},
		{"cut off", answer{Status: 200, Reason: "OK", Body: `{"data":null}`, Cut: 3}, true},
		{"no JSON", answer{Status: 200, Reason: "OK", Body: "OK"}, true},
		{"a portal", answer{Status: 200, Reason: "OK", Type: "text/html", Body: "<html>"}, true},
		{"garbage", answer{Raw: "nonsense\r\n\r\n"}, true},
		{"595", fails(595, "Connection refused"), true},
		{"596", fails(596, "Connection timed out"), true},
		{"599", fails(599, "Broken pipe"), true},
		{"a gateway's 502", answer{Status: 502, Reason: "Bad Gateway", Type: "text/html", Body: "<html>"}, true},
		{"a gateway's 504", fails(504, "Gateway Time-out"), true},
		{"a gateway's 408", fails(408, "Request Timeout"), true},
		{"401", fails(401, "No ticket"), false},
		{"401 cut off", answer{Status: 401, Reason: "No ticket", Body: "xxxx", Cut: 2}, false},
		{"403", fails(403, "Permission check failed (/access/realm, Realm.Allocate)"), false},
		{"lock", fails(500, "update auth server failed: cfs-lock 'file-domains_cfg' error: got lock request timeout"), false},
		{"stale", fails(500, "update auth server failed: detected modified configuration - file changed by other user? Try again."), false},
		{"redirect", answer{Status: 307, Reason: "Temporary Redirect", Header: "Location: https://evil.example/\r\n"}, false},
		{"a portal's 403", answer{Status: 403, Reason: "Forbidden", Type: "text/html", Body: "<html>"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			handle := func(*call) answer { return tt.answer }
			n, other := start(t, handle), start(t, handle)
			c := connect(t, nil, n, other)
			for name, write := range map[string]func() error{
				"update": func() error {
					return c.Update(t.Context(), "authelia", plan(t, stored(t, storedRealm), realm.Values{realm.Comment: realm.Text("y")}))
				},
				"delete": func() error { return c.Delete(t.Context(), "authelia", "d1") },
				"create": func() error { return c.Create(t.Context(), plan(t, realm.Current{}, nil)) },
			} {
				before := len(n.seen())
				err := write()
				if err == nil || errors.Is(err, realm.ErrLost) != tt.lost {
					t.Errorf("%s: %v, lost %v", name, err, !tt.lost)
				}
				if got := len(n.seen()) - before; got != 1 || len(other.seen()) != 0 {
					t.Errorf("%s: %d requests, %d elsewhere", name, got, len(other.seen()))
				}
			}
		})
	}
}

func TestVersion(t *testing.T) {
	for data, want := range map[string]realm.Version{
		`{"release":"9.2","repoid":"14a22df35955d97d","version":"9.2.11"}`: {Major: 9, Minor: 2, Patch: 11},
		`{"release":"7.4","repoid":"x","version":"7.4-3"}`:                 {Major: 7, Minor: 4, Patch: 3},
		`{"release":"8.4","version":"8.4.1"}`:                              {Major: 8, Minor: 4, Patch: 1},
	} {
		n := start(t, func(*call) answer { return ok(data) })
		if got, err := connect(t, nil, n).Version(t.Context()); err != nil || got != want {
			t.Errorf("%s: %v, %v", data, got, err)
		}
	}
	n := start(t, func(*call) answer { return ok(`{"version":"new"}`) })
	if _, err := connect(t, nil, n).Version(t.Context()); check.CodeOf(err) != check.ProxmoxFailed {
		t.Errorf("%v", err)
	}
}

func TestPermissionsAndUsers(t *testing.T) {
	groups := `{"data":{"/access/groups":{"Sys.Audit":0}}}` // 0: held here, not inherited below
	n := start(t, func(c *call) answer {
		switch {
		case c.URL.Path == "/api2/json/access/permissions" && c.URL.Query().Get("path") == "/access/groups":
			return answer{Status: 200, Reason: "OK", Body: groups}
		case c.URL.Path == "/api2/json/access/permissions":
			return byID(t, "permissions").answer()
		case c.URL.Path == "/api2/json/access/users":
			return byID(t, "users-as-root").answer()
		}
		return fails(501, "no such path")
	})
	c := connect(t, nil, n)
	held, err := c.Permissions(t.Context(), "/access/realm")
	if err != nil || len(held) != 1 || !held["Realm.Allocate"] {
		t.Errorf("%v, %v", held, err)
	}
	list, visible, err := c.ListUsers(t.Context(), "authelia")
	if err != nil || !visible || len(list) != 1 || list[0].ID != "john@authelia" || !list[0].Enabled {
		t.Errorf("%+v, %v, %v", list, visible, err)
	}
	if users, err := c.CountUsers(t.Context(), "authelia"); err != nil || users != (realm.Users{Asked: true, Visible: true, Count: 1}) {
		t.Errorf("%+v, %v", users, err)
	}
	if list, _, _ := c.ListUsers(t.Context(), "pve"); len(list) != 6 || slices.IndexFunc(list, func(u proxmox.User) bool { return u.ID == "disabled@pve" && !u.Enabled }) < 0 {
		t.Errorf("%+v", list)
	}

	// An empty list without the privilege to see users does not mean that there are none.
	for _, body := range []string{`{"data":{}}`, `{"data":{"/access/groups":{}}}`, `{"data":{"/access/groups":{"Group.Allocate":1}}}`} {
		groups = body
		before := len(n.seen())
		list, visible, err := c.ListUsers(t.Context(), "authelia")
		if err != nil || visible || list != nil || len(n.seen())-before != 1 {
			t.Errorf("%s: %v, %v, %v", body, list, visible, err)
		}
	}
}

// A user can log in if it is enabled, which is the default, and has not expired.
func TestEnabledUsers(t *testing.T) {
	n := start(t, func(c *call) answer {
		if c.URL.Path == "/api2/json/access/permissions" {
			return ok(`{"/access/groups":{"Sys.Audit":1}}`)
		}
		return ok(`[{"userid":"default@a"},{"userid":"disabled@a","enable":0},{"userid":"expired@a","enable":1,"expire":1},
			{"userid":"later@a","enable":"1","expire":"4000000000"},{"userid":"never@a","enable":1,"expire":0}]`)
	})
	list, _, err := connect(t, nil, n).ListUsers(t.Context(), "a")
	var enabled []string
	for _, u := range list {
		if u.Enabled {
			enabled = append(enabled, u.ID)
		}
	}
	if err != nil || !slices.Equal(enabled, []string{"default@a", "later@a", "never@a"}) {
		t.Errorf("%v, %v", enabled, err)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"data":` + storedRealm + `}`))
	f.Add([]byte(`{"data":null}`))
	f.Add([]byte(`{"data":{"type":1,"client-key":true,"autocreate":"yes"}}`))
	f.Add([]byte(`{"data":{"/access/groups":{"Sys.Audit":1}}}`))
	f.Add([]byte(`{"data":[{"userid":"a@authelia","groups":"x,y","expire":"7"}]}`))
	f.Add([]byte(`<html>`))
	f.Fuzz(func(t *testing.T, body []byte) {
		trip := func(req *http.Request) (*http.Response, error) { return inMemory(req, body), nil }
		c := proxmox.Over(realm.VE, trip)
		ctx := t.Context()
		if r, err := c.Realm(ctx, "authelia"); err == nil && r.Exists && r.Type == "" {
			t.Fatal("a realm without a type")
		}
		_, _ = c.Version(ctx)
		_, _, _ = c.ListUsers(ctx, "authelia")
		_, _, _ = c.Self(ctx)
		_, _ = c.Privileges(ctx)
		_, _ = c.Roles(ctx)
		_, _ = c.Groups(ctx)
		_, _, _ = c.ACL(ctx)
		_, _ = c.AuthURL(ctx, "authelia", "https://pve.example.com:8006")
		_, _ = c.Login(ctx, "state", "code", "https://pve.example.com:8006")
	})
}

func zipped(text string) string {
	var b strings.Builder
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	return b.String()
}
