package login

import (
	"crypto/sha256"
	"encoding/base64"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"proxmox-realm/internal/check"
	"proxmox-realm/internal/proxmox"
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
		if check.CodeOf(err) != check.Usage || check.HintOf(err) == "" {
			t.Errorf("%q: %v", where, err)
		}
	}
}

// A port in use is a usage error. Nothing listens after close.
func TestTakenPort(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	c, err := listen(t.Context(), loopback+":0", log)
	if err != nil {
		t.Fatal(err)
	}
	if c.redirect.Port() == "0" || c.redirect.Path != callbackPath || c.redirect.Hostname() != loopback {
		t.Errorf("listens on %s", c.redirect)
	}
	_, err = listen(t.Context(), c.redirect.Host, log)
	if check.CodeOf(err) != check.Usage || !strings.Contains(check.HintOf(err).For(check.Names{}), "login --listen 127.0.0.1:0") {
		t.Errorf("a second listener: %v", err)
	}
	c.close(t.Context())
	again, err := listen(t.Context(), c.redirect.Host, log)
	if err != nil {
		t.Fatalf("the port was not freed: %v", err)
	}
	again.close(t.Context())
}

// Only an https URL without odd characters is opened. [TestFailures] has one that leads elsewhere.
func TestMisdirected(t *testing.T) {
	const endpoint = "https://auth.example.com/api/oidc/authorization"
	for location, safe := range map[string]bool{
		endpoint: true, "https://anything.example.com/": true,
		"http://auth.example.com/api/oidc/authorization": false, "javascript:alert(1)": false, "--help": false,
		endpoint + "?a=\x1b[2J": false, endpoint + "?a=\u202e": false, endpoint + "? --new-window": false,
	} {
		made := proxmox.AuthURL{Location: location, Raw: location}
		if wrong := misdirected(made, nil); (len(wrong) == 0) != safe {
			t.Errorf("%q: %q", location, wrong)
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
		after := rapid.SampledFrom([]string{"", " ", ">", "\" there", "\x1b[201~", "\r", "#fragment"}).Draw(t, "after")
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
		"success": success.saying(`<script>alert("x")</script>{{.Class}}`), "failure": failure.saying(`<b>&amp; "x"`), "refused": refused.saying("<i>"),
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

// A browser is opened for a user at a display, and neither over ssh nor for root: the desktop is not root's.
func TestBrowser(t *testing.T) {
	for _, name := range []string{"DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION", "SSH_TTY", "SUDO_UID", "SUDO_USER", "DOAS_USER", "PKEXEC_UID"} {
		t.Setenv(name, "")
	}
	if runtime.GOOS == "linux" && Browser() != nil {
		t.Error("a browser without a display")
	}
	for _, display := range []string{"DISPLAY", "WAYLAND_DISPLAY"} {
		t.Setenv(display, ":0")
		if Browser() == nil {
			t.Errorf("no browser with %s", display)
		}
		for _, elsewhere := range []string{"SSH_CONNECTION", "SUDO_UID"} {
			t.Setenv(elsewhere, "1000")
			if Browser() != nil {
				t.Errorf("a browser with %s", elsewhere)
			}
			t.Setenv(elsewhere, "")
		}
		t.Setenv(display, "")
	}
}
