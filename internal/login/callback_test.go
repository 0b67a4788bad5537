package login

import (
	"crypto/sha256"
	"encoding/base64"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"proxmox-realm/internal/check"

	"pgregory.net/rapid"

	"proxmox-realm/internal/realm"
)

func TestListen(t *testing.T) {
	for _, tt := range []struct{ where, redirect string }{
		{"127.0.0.1:9000", "http://127.0.0.1:9000/callback"},
		{"127.3.4.5:9000", "http://127.3.4.5:9000/callback"},
		{"[::1]:9000", "http://[::1]:9000/callback"},
		{"", RedirectURL},
	} {
		if u, err := parseListen(tt.where); err != nil || u.String() != tt.redirect {
			t.Errorf("%q: %v, %v, want %s", tt.where, u, err, tt.redirect)
		}
	}
	for _, where := range []string{
		"9000", ":9000", "0.0.0.0:9000", "192.0.2.1:9000", "localhost:9000", "[::]:9000", "[::ffff:127.0.0.1]:9000", "[::1%lo]:9000", "127.0.0.1",
		"127.0.0.1:x", "127.0.0.1:70000", "http://127.0.0.1:9000", "127.0.0.1:9000/", "127.0.0.1:9000/?a", "127.0.0.1:9000#a", "me@127.0.0.1:9000",
	} {
		_, err := parseListen(where)
		if f := check.Describe(err); f.Code != check.Usage || f.Hint() == "" {
			t.Errorf("%q: %v", where, err)
		}
	}
}

// The usual port may be taken: another one serves where an issuer leaves the port free. One that was asked for is the only one.
func TestTakenPort(t *testing.T) {
	var config net.ListenConfig
	if taken, err := config.Listen(t.Context(), "tcp", loopback+":"+defaultPort); err == nil { // else somebody else has it
		defer func() { _ = taken.Close() }()
	}
	c, err := listen(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if !c.moved || c.redirect.Port() == defaultPort || c.redirect.Path != callbackPath || c.redirect.Hostname() != loopback {
		t.Errorf("moved %t to %s", c.moved, c.redirect)
	}
	if _, err := listen(t.Context(), c.redirect.Host); check.CodeOf(err) != check.Usage {
		t.Errorf("a second listener: %v", err)
	}
	c.close(t.Context())
	again, err := listen(t.Context(), c.redirect.Host)
	if err != nil {
		t.Fatalf("the port was not freed: %v", err)
	}
	again.close(t.Context())
}

func TestExamine(t *testing.T) {
	const endpoint, redirect = "https://auth.example.com/api/oidc/authorization", "http://127.0.0.1:8000/callback"
	login := realm.Login{Realm: "authelia", ClientID: "proxmox"}
	const right = "response_type=code&client_id=proxmox&state=%7B%22csrf_token%22%3A%22a%22%7D&code_challenge=0123456789&code_challenge_method=S256" +
		"&redirect_uri=http%3A%2F%2F127.0.0.1%3A8000%2Fcallback&scope=openid+openid&nonce=0123456789"
	for _, address := range []string{
		endpoint + "?" + right, "https://AUTH.example.com:443/api/oidc/authorization?" + right, endpoint + "?display=page&" + right,
	} {
		if wrong := examine(address, endpoint, login, redirect); len(wrong) > 0 {
			t.Errorf("%s: %q", address, wrong)
		}
	}
	if wrong := examine("https://auth.example.com/?"+right, "https://auth.example.com", login, redirect); len(wrong) > 0 {
		t.Errorf("an empty path and a slash: %q", wrong)
	}
	if wrong := examine("https://anything.example.com/?"+right, "", login, redirect); len(wrong) > 0 {
		t.Errorf("without a known endpoint: %q", wrong)
	}
	for _, tt := range []struct{ address, says string }{
		{"http://auth.example.com/api/oidc/authorization?" + right, "not an https URL"},
		{"javascript:alert(1)", "not an https URL"},
		{"file:///etc/passwd", "not an https URL"},
		{"--help", "not an https URL"},
		{"https:auth.example.com?" + right, "not an https URL"},
		{"https://auth.example.com@evil.example.com/?" + right, "not an https URL"},
		{endpoint + "?" + right + "#x", "not an https URL"},
		{endpoint + "?" + right + "&a=\x1b[2J", "characters"},
		{endpoint + "?" + right + " --new-window", "characters"},
		{"https://evil.example.com/api/oidc/authorization?" + right, "it leads to https://evil.example.com/api/oidc/authorization instead"},
		{"https://auth.example.com:8443/api/oidc/authorization?" + right, "it leads to"},
		{"https://auth.example.com/api/oidc/authorization/../x?" + right, "it leads to"},
		{"https://auth.example.com/api%2Foidc/authorization?" + right, "it leads to"},
		{endpoint + "?" + strings.ReplaceAll(right, "client_id=proxmox", "client_id=other"), "client_id"},
		{endpoint + "?" + right + "&client_id=proxmox", "client_id"},
		{endpoint + "?" + strings.ReplaceAll(right, "8000", "8001"), "redirect_uri"},
		{endpoint + "?" + strings.ReplaceAll(right, "=code&", "=token&"), "response_type"},
		{endpoint + "?" + strings.ReplaceAll(right, "S256", "plain"), "code_challenge_method"},
		{endpoint + "?" + strings.ReplaceAll(right, "nonce=0123456789", "nonce=0"), "nonce"},
		{endpoint + "?" + right + "&state=0123456789", "state"},
		{endpoint + "?" + strings.ReplaceAll(right, "scope=openid+openid", "scope=email"), "openid"},
		{endpoint + "?" + right + "&x=%zz", "cannot be read"},
	} {
		if wrong := strings.Join(examine(tt.address, endpoint, login, redirect), "; "); !strings.Contains(wrong, tt.says) {
			t.Errorf("%q: %q, want %q", tt.address, wrong, tt.says)
		}
	}
}

// whose returns a callback that waits for this state, without a port.
func whose(state string) *callback {
	u, _ := url.Parse(RedirectURL)
	return &callback{redirect: u, state: state}
}

// Whatever stands around an address, it is found, and its parameters come out as they went in.
func TestPasteFindsTheAddress(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := url.Values{
			"state": {rapid.StringN(1, 40, -1).Draw(t, "state")},
			"code":  {rapid.StringMatching(`[A-Za-z0-9._~!*/+=-]{1,200}`).Draw(t, "code")},
		}
		address := "127.0.0.1:8000/callback?" + values.Encode()
		if rapid.Bool().Draw(t, "scheme") {
			address = "http://" + address
		}
		before := rapid.SampledFrom([]string{"", " ", "<", "\"", "see: ", "\x1b[200~", "[", "(", "> "}).Draw(t, "before")
		after := rapid.SampledFrom([]string{"", " ", ">", "\" there", "\x1b[201~", "\r", ")", "],", "#fragment", ";"}).Draw(t, "after")
		c := whose(values.Get("state"))
		came, err := c.paste(before + address + after)
		if err != nil || came == nil || came.code.Reveal() != values.Get("code") {
			t.Fatalf("%q: %v", before+address+after, err)
		}
	})
}

func FuzzPaste(f *testing.F) {
	for _, line := range []string{"", "http://127.0.0.1:8000/callback?code=a&state=s", "127.0.0.1:8000/callback?", "127.0.0.1:8000/callback?state=s&error=e", "\x00\xff?state=s"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		came, err := whose("s").paste(line)
		if came != nil && err != nil || came != nil && !strings.Contains(line, "state") {
			t.Errorf("%q: %v, %v", line, came, err)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%q: %v", line, err)
		}
	})
}

// A page loads nothing, keeps nothing, and shows what it is given as text.
func TestPages(t *testing.T) {
	for kind, p := range map[string]page{
		"success": successPage(`<script>alert("x")</script>{{.Kind}}`), "failure": failurePage(`<b>&amp; "x"`), "refused": refusedPage("<i>"),
	} {
		w := httptest.NewRecorder()
		p.write(w, 200)
		body := w.Body.String()
		for _, never := range []string{"<script", "<b>", "<i>", "http:", "https:", "url(", "@import", "src=", "href=", "{{.Title}}", "ZgotmplZ"} {
			if strings.Contains(body, never) {
				t.Errorf("%s holds %q: %s", kind, never, body)
			}
		}
		if !strings.Contains(body, `<main class="`+kind+`">`) {
			t.Errorf("%s: %s", kind, body)
		}
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
			"Content-Type": "text/html; charset=utf-8",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", kind, name, got, want)
			}
		}
		csp := w.Header().Get("Content-Security-Policy")
		_, css, _ := strings.Cut(body, "<style>")
		css, _, _ = strings.Cut(css, "</style>")
		if sum := sha256.Sum256([]byte(css)); !strings.Contains(csp, base64.StdEncoding.EncodeToString(sum[:])) {
			t.Errorf("%s: the policy does not allow the page's own style", kind)
		}
		if !strings.HasPrefix(csp, "default-src 'none'; style-src 'sha256-") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: %s", kind, csp)
		}
	}
}

// A browser is not opened where the user sits elsewhere, or where none can be shown.
func TestBrowser(t *testing.T) {
	env := func(pairs ...string) func(string) string {
		return func(name string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1]
				}
			}
			return ""
		}
	}
	for _, display := range []string{"DISPLAY", "WAYLAND_DISPLAY"} {
		if Browser(env(display, ":0")) == nil {
			t.Errorf("no browser with %s", display)
		}
		if Browser(env(display, ":10.0", "SSH_CONNECTION", "192.0.2.1 1 192.0.2.2 22")) != nil {
			t.Errorf("a browser over ssh with %s", display)
		}
	}
}

// The end of a rehearsal is told to a browser that is still waiting.
func TestCloseAnswersTheBrowser(t *testing.T) {
	c, err := listen(t.Context(), loopback+":0")
	if err != nil {
		t.Fatal(err)
	}
	c.serve("state-of-the-login", slog.New(slog.DiscardHandler))
	body := make(chan string, 1)
	go func() {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), "GET", c.redirect.String()+"?code=c&state=state-of-the-login", nil)
		c.ServeHTTP(w, r)
		body <- w.Body.String()
	}()
	<-c.arrivals
	c.close(t.Context())
	if got := <-body; !strings.Contains(got, "the rehearsal ended before Proxmox answered") {
		t.Errorf("%s", got)
	}
}
